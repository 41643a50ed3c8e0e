//! Opens the store of a place: keys, region, limits, retries.
//!
//! The region of a bucket at Amazon is asked for if nobody names it. Memory: the store's own.

use std::sync::Arc;

use super::object::ObjectPlace;
use crate::blob::object::credentials::{Found, find};
use crate::blob::object::location::{Location, S3Location};
use crate::blob::object::region::bucket_region;
use crate::blob::object::{ObjectStore, Wire, WireLimits};
use crate::blob::{BlobError, BlobStore, RetryingStore};
use crate::cli::arguments::StorageOptions;
use crate::cli::error::CliError;
use crate::cli::surroundings::Surroundings;
use crate::kopia::blob_id::{BlobId, REPOSITORY};

impl ObjectPlace {
    /// Finds its keys; nothing is asked of the network.
    pub(in crate::cli) fn keys(
        &self,
        options: &StorageOptions,
        surroundings: &Surroundings,
    ) -> Result<Found, BlobError> {
        find(&self.location, &self.sources(options, surroundings))
    }

    /// Returns the location with its region, which may have to be asked for.
    pub(in crate::cli) fn located(&self) -> Result<Location, BlobError> {
        match &self.location {
            Location::S3(place) if place.region.is_none() && place.endpoint.is_none() => {
                let region = bucket_region(place)?;
                Ok(Location::S3(S3Location {
                    region: Some(region),
                    ..place.clone()
                }))
            }
            known => Ok(known.clone()),
        }
    }

    /// Returns how much the store is asked: what the config file and options say.
    pub(in crate::cli) fn limits(&self, options: &StorageOptions) -> WireLimits {
        let default = WireLimits::default();
        WireLimits {
            max_requests_per_second: options.max_requests_per_second.or(self.requests_per_second),
            max_download_bytes: options.max_download.map(|bytes| bytes as u64),
            max_upload_bytes: options.max_upload.map(|bytes| bytes as u64),
            in_flight_max: self.in_flight_max.map_or(default.in_flight_max, |count| {
                count.min(default.in_flight_max)
            }),
            ..default
        }
    }

    /// Opens the store.
    pub(in crate::cli) fn open(
        &self,
        options: &StorageOptions,
        surroundings: &Surroundings,
    ) -> Result<Arc<dyn BlobStore>, CliError> {
        let found = self.keys(options, surroundings)?;
        tracing::debug!(origin = found.origin, "credentials");
        let location = self.located()?;
        let wire = Wire::new(location.transport(), &self.limits(options))?;
        let store = ObjectStore::new(&location, &found.credentials, Arc::new(wire))?;
        Ok(Arc::new(RetryingStore::new(store)))
    }

    /// Looks whether the repository is there with a slash more, or less, behind the prefix; returns
    /// that place.
    pub(in crate::cli) fn other_slash(
        &self,
        options: &StorageOptions,
        surroundings: &Surroundings,
    ) -> Option<String> {
        let prefix = self.location.prefix();
        let other = match prefix.strip_suffix('/') {
            Some(shorter) => shorter.to_owned(),
            None if prefix.is_empty() => return None,
            None => format!("{prefix}/"),
        };
        let mut place = self.clone();
        match &mut place.location {
            Location::S3(place) => place.prefix = other,
            Location::Gcs(place) => place.prefix = other,
            Location::Azure(place) => place.prefix = other,
        }
        let store = place.open(options, surroundings).ok()?;
        let storage = crate::blob::Storage::new(store);
        storage.metadata(&BlobId::new(REPOSITORY)).ok()?;
        Some(place.location.to_string())
    }
}
