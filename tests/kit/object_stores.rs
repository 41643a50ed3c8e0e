//! Places in the object stores of the package `servers`, and repositories carried there and back.
//!
//! Every place is a fresh prefix. What is not installed is said and left out.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use careen::blob::object::connect::Credentials;
use careen::blob::object::location::{AzureLocation, GcsLocation, Location, S3Location, Transport};
use careen::blob::object::{WireLimits, open};
use careen::blob::{BlobStore, PutOptions, Storage};
use careen::clock::{Clock, SystemClock, Timestamp};
use careen::kopia::blob_id::BlobId;
use object_store::StaticCredentialProvider;
use object_store::aws::AwsCredential;
use object_store::azure::{AzureAccessKey, AzureCredential};
use object_store::gcp::GcpCredential;
use servers::google::{self, Google};
use servers::{azurite, seaweedfs};

use crate::data_dir::DataDir;
use crate::kopia::Remote;

/// Most bytes of a blob that is carried.
const BLOB_BYTES_MAX: usize = 64 << 20;

/// Puts at the same time when a folder is carried.
const CARRIERS: usize = 8;

/// The bucket of all places.
const BUCKET: &str = "suites";

/// A fresh place in a running server.
#[derive(Debug)]
pub struct Place {
    /// Where.
    pub location: Location,
    /// With which keys.
    pub credentials: Credentials,
    /// The port of its server.
    pub port: u16,
    _google: Option<Arc<Google>>,
}

fn fresh_prefix() -> String {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    format!("velero/kopia/ns-{}-{number}/", std::process::id())
}

fn plain() -> Transport {
    Transport {
        plain_http: true,
        ..Transport::default()
    }
}

/// Returns a place in SeaweedFS; `None` where it is not installed.
pub fn s3() -> Option<Place> {
    let server = seaweedfs::shared()?;
    server.bucket(BUCKET, false);
    let credential = AwsCredential {
        key_id: seaweedfs::ACCESS_KEY.to_owned(),
        secret_key: seaweedfs::SECRET_KEY.to_owned(),
        token: None,
    };
    Some(Place {
        location: Location::S3(S3Location {
            bucket: BUCKET.to_owned(),
            prefix: fresh_prefix(),
            endpoint: Some(format!("127.0.0.1:{}", server.port)),
            transport: plain(),
            ..S3Location::default()
        }),
        credentials: Credentials::Aws(Arc::new(StaticCredentialProvider::new(credential))),
        port: server.port,
        _google: None,
    })
}

/// Returns a place in Azurite; `None` where it is not installed.
pub fn azure() -> Option<Place> {
    let server = azurite::shared()?;
    server.container(BUCKET);
    let key = AzureAccessKey::try_new(azurite::KEY).expect("the key is base64");
    let credential = StaticCredentialProvider::new(AzureCredential::AccessKey(key));
    Some(Place {
        location: Location::Azure(AzureLocation {
            container: BUCKET.to_owned(),
            prefix: fresh_prefix(),
            account: azurite::ACCOUNT.to_owned(),
            endpoint: Some(format!("127.0.0.1:{}/{}", server.port, azurite::ACCOUNT)),
            transport: plain(),
            ..AzureLocation::default()
        }),
        credentials: Credentials::Azure(Arc::new(credential)),
        port: server.port,
        _google: None,
    })
}

/// Returns a place in an emulation of Google's store.
pub fn google() -> Place {
    let server = Arc::new(Google::start());
    let credential = GcpCredential {
        bearer: google::TOKEN.to_owned(),
    };
    Place {
        location: Location::Gcs(GcsLocation {
            bucket: BUCKET.to_owned(),
            prefix: fresh_prefix(),
            endpoint: Some(format!("127.0.0.1:{}", server.port())),
            transport: plain(),
            ..GcsLocation::default()
        }),
        credentials: Credentials::Google(Arc::new(StaticCredentialProvider::new(credential))),
        port: server.port(),
        _google: Some(server),
    }
}

/// Returns a place in every store that is here.
pub fn all() -> Vec<Place> {
    s3().into_iter().chain(azure()).chain([google()]).collect()
}

impl Place {
    /// Opens the store.
    ///
    /// # Panics
    ///
    /// When the place cannot be used.
    pub fn store(&self, limits: &WireLimits) -> Arc<dyn BlobStore> {
        open(&self.location, &self.credentials, limits).expect("the place is a good one")
    }

    /// The same place, reached through another port.
    #[must_use]
    pub fn through(mut self, port: u16) -> Self {
        let change = |endpoint: &mut Option<String>| {
            let path = endpoint.as_deref().and_then(|endpoint| {
                let (_, path) = endpoint.split_once('/')?;
                Some(format!("/{path}"))
            });
            *endpoint = Some(format!("127.0.0.1:{port}{}", path.unwrap_or_default()));
        };
        match &mut self.location {
            Location::S3(place) => change(&mut place.endpoint),
            Location::Gcs(place) => change(&mut place.endpoint),
            Location::Azure(place) => change(&mut place.endpoint),
        }
        self
    }

    /// Returns the place as real Kopia is told it, where it can reach it: S3 only.
    pub fn for_kopia(&self) -> Option<Remote> {
        let Location::S3(place) = &self.location else {
            return None;
        };
        let endpoint = place.endpoint.as_deref().unwrap_or_default();
        Some(Remote {
            kind: "s3",
            flags: vec![
                format!("--bucket={}", place.bucket),
                format!("--prefix={}", place.prefix),
                format!("--endpoint={endpoint}"),
                "--disable-tls".to_owned(),
                format!("--access-key={}", seaweedfs::ACCESS_KEY),
                format!("--secret-access-key={}", seaweedfs::SECRET_KEY),
            ],
        })
    }
}

/// Carries all blobs of a folder into a store; returns their times.
///
/// # Panics
///
/// When a blob cannot be read or put.
pub fn carry_there(from: &DataDir, to: &Storage) -> BTreeMap<BlobId, Timestamp> {
    let blobs = from.list().expect("the folder is a repository");
    let next = AtomicUsize::new(0);
    let carry = || {
        while let Some(blob) = blobs.get(next.fetch_add(1, Ordering::Relaxed)) {
            let bytes = from.read(&blob.id).expect("a blob can be read");
            to.put_bytes(&BlobId::new(&*blob.id), &bytes, &PutOptions::default())
                .expect("a blob can be put");
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..CARRIERS {
            scope.spawn(carry);
        }
    });
    let times = blobs.into_iter();
    times
        .map(|blob| (BlobId::new(blob.id), blob.time))
        .collect()
}

/// Carries all blobs of a store into an empty folder, laid out as `.shards` in `layout` says.
pub fn carry_back(from: &Storage, layout: &Path, to: &Path) -> io::Result<DataDir> {
    std::fs::copy(layout.join(".shards"), to.join(".shards"))?;
    let folder = DataDir::open(to)?;
    let all: Result<(), careen::blob::BlobError> = from.for_each("", |blob| {
        let bytes = from.get_all(&blob.id, BLOB_BYTES_MAX)?;
        let written = folder.write(blob.id.as_str(), &bytes, SystemClock.now());
        written.expect("a blob can be written");
        Ok(())
    });
    all.map_err(io::Error::other)?;
    Ok(folder)
}
