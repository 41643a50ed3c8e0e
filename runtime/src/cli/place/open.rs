//! Opens the store of a place: keys, region, limits, retries.
//!
//! The region of a bucket at Amazon is asked for if nobody names it. Memory: the store's own.

use std::sync::Arc;
use std::time::Duration;

use super::folder::within;
use super::object::ObjectPlace;
use crate::blob::object::credentials::{Found, find};
use crate::blob::object::location::{Location, S3Location};
use crate::blob::object::region::bucket_region;
use crate::blob::object::{self, ObjectStore, Wire, WireLimits};
use crate::blob::{BlobError, BlobStore, RetryPolicy, Storage};
use crate::cli::arguments::StorageOptions;
use crate::cli::error::CliError;
use crate::cli::surroundings::Surroundings;
use crate::kopia::blob_id::{BlobId, REPOSITORY};

/// Namespaces that are named where a repository is not.
const NAMESPACES_MAX: usize = 20;

/// How long a look waits for a store that says nothing; a run waits longer.
const LOOK_STALL: Duration = Duration::from_secs(15);

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

    /// Returns how much the store is asked at most, and how patiently: what options say.
    pub(in crate::cli) fn wire_limits(&self, options: &StorageOptions) -> WireLimits {
        let limits = WireLimits {
            max_requests_per_second: options.max_requests_per_second,
            max_download_bytes: options.max_download.map(|bytes| bytes as u64),
            max_upload_bytes: options.max_upload.map(|bytes| bytes as u64),
            ..WireLimits::default()
        };
        match options.for_a_look {
            true => WireLimits {
                stall: LOOK_STALL,
                retries: RetryPolicy::for_a_look(),
                ..limits
            },
            false => limits,
        }
    }

    /// Opens the store.
    pub(in crate::cli) fn open(
        &self,
        options: &StorageOptions,
        surroundings: &Surroundings,
    ) -> Result<Arc<dyn BlobStore>, CliError> {
        let (location, found) = self.ready(options, surroundings)?;
        let store = object::open(&location, &found.credentials, &self.wire_limits(options))?;
        Ok(within(store, &self.limits))
    }

    fn ready(
        &self,
        options: &StorageOptions,
        surroundings: &Surroundings,
    ) -> Result<(Location, Found), BlobError> {
        let found = self.keys(options, surroundings)?;
        tracing::debug!(origin = found.origin, "credentials");
        Ok((self.located()?, found))
    }

    /// Returns the names of folders below the prefix.
    fn folders(
        &self,
        options: &StorageOptions,
        surroundings: &Surroundings,
    ) -> Result<Vec<String>, BlobError> {
        let (location, found) = self.ready(options, surroundings)?;
        let (limits, keys) = (self.wire_limits(options), &found.credentials);
        let wire = Wire::new(location.transport(), &limits, keys)?;
        let store = ObjectStore::new(&location, keys, Arc::new(wire))?;
        store.folders_now(NAMESPACES_MAX)
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
        let place = self.with_prefix(other);
        place
            .has_repository(options, surroundings)
            .then(|| place.location.to_string())
    }

    /// Returns the places of Velero's repositories below this one: `kopia/NAMESPACE/`, with and
    /// without `kopia/` in the prefix. At most [`NAMESPACES_MAX`].
    pub(in crate::cli) fn namespaces_below(
        &self,
        options: &StorageOptions,
        surroundings: &Surroundings,
    ) -> Vec<String> {
        let prefix = self.location.prefix();
        let slash = if prefix.is_empty() || prefix.ends_with('/') {
            ""
        } else {
            "/"
        };
        let folders = [format!("{prefix}{slash}kopia/"), format!("{prefix}{slash}")];
        for folder in folders {
            let place = self.with_prefix(folder.clone());
            let names = place.folders(options, surroundings).unwrap_or_default();
            let places = names
                .iter()
                .map(|name| self.with_prefix(format!("{folder}{name}/")));
            let places = places.filter(|place| place.has_repository(options, surroundings));
            let found: Vec<String> = places.map(|place| place.location.to_string()).collect();
            if !found.is_empty() {
                return found;
            }
        }
        Vec::new()
    }

    /// Returns the folders below this place, as places. At most [`NAMESPACES_MAX`].
    pub(in crate::cli) fn folders_below(
        &self,
        options: &StorageOptions,
        surroundings: &Surroundings,
    ) -> Vec<String> {
        let prefix = self.location.prefix();
        let names = self.folders(options, surroundings).unwrap_or_default();
        let places = names
            .iter()
            .map(|name| self.with_prefix(format!("{prefix}{name}/")));
        places.map(|place| place.location.to_string()).collect()
    }

    fn has_repository(&self, options: &StorageOptions, surroundings: &Surroundings) -> bool {
        self.open(options, surroundings).is_ok_and(|store| {
            let storage = Storage::new(store);
            storage.metadata(&BlobId::new(REPOSITORY)).is_ok()
        })
    }

    fn with_prefix(&self, prefix: String) -> Self {
        let mut place = self.clone();
        match &mut place.location {
            Location::S3(place) => place.prefix = prefix,
            Location::Gcs(place) => place.prefix = prefix,
            Location::Azure(place) => place.prefix = prefix,
        }
        place
    }
}
