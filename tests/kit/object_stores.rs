//! Places in the object stores of the package `servers`, and repositories carried there and back.
//!
//! Every place is a fresh prefix. What is not installed is said and left out.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::process::Command;
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
use servers::tls::TlsProxy;
use servers::{azurite, seaweedfs};
use tempfile::NamedTempFile;

use crate::data_dir::DataDir;
use crate::kopia::Remote;

/// Most bytes of a blob that is carried.
const BLOB_BYTES_MAX: usize = 64 << 20;

/// Puts at the same time when a folder is carried.
const CARRIERS: usize = 8;

/// The bucket of all places.
const BUCKET: &str = "suites";

/// A fresh place in a running server.
#[derive(Clone, Debug)]
pub struct Place {
    /// Where.
    pub location: Location,
    /// With which keys.
    pub credentials: Credentials,
    /// The port of its server.
    pub port: u16,
    _google: Option<Arc<Google>>,
    /// Google's credentials, as programs find them.
    credentials_file: Option<Arc<NamedTempFile>>,
    tls: Option<Arc<TlsProxy>>,
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
    s3_in(BUCKET, false)
}

/// Returns a place in a bucket of SeaweedFS with object locks.
pub fn s3_with_locks() -> Option<Place> {
    s3_in("locked-suites", true)
}

fn s3_in(bucket: &str, locks: bool) -> Option<Place> {
    let server = seaweedfs::shared()?;
    server.bucket(bucket, locks);
    let credential = AwsCredential {
        key_id: seaweedfs::ACCESS_KEY.to_owned(),
        secret_key: seaweedfs::SECRET_KEY.to_owned(),
        token: None,
    };
    Some(Place {
        location: Location::S3(S3Location {
            bucket: bucket.to_owned(),
            prefix: fresh_prefix(),
            endpoint: Some(format!("127.0.0.1:{}", server.port)),
            transport: plain(),
            ..S3Location::default()
        }),
        credentials: Credentials::Aws(Arc::new(StaticCredentialProvider::new(credential))),
        port: server.port,
        _google: None,
        credentials_file: None,
        tls: None,
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
        credentials_file: None,
        tls: None,
    })
}

/// Returns a place in an emulation of Google's store.
pub fn google() -> Place {
    let server = Arc::new(Google::start());
    let credentials_file = NamedTempFile::new().expect("a file can be made");
    std::fs::write(&credentials_file, server.credentials_file()).expect("it can be written");
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
        credentials_file: Some(Arc::new(credentials_file)),
        _google: Some(server),
        tls: None,
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

    /// The same place behind TLS with a certificate of a CA that no system knows; through another
    /// port, if one is given.
    #[must_use]
    pub fn secure(self, port: Option<u16>) -> Self {
        let tls = Arc::new(TlsProxy::before(port.unwrap_or(self.port)));
        let mut place = self.through(tls.port());
        let transport = Transport {
            ca_pem: Some(servers::tls::CA.to_vec()),
            ..Transport::default()
        };
        match &mut place.location {
            Location::S3(place) => place.transport = transport,
            Location::Gcs(place) => place.transport = transport,
            Location::Azure(place) => place.transport = transport,
        }
        place.tls = Some(tls);
        place
    }

    /// Makes `command` a call of the program on this place, as a user makes it: the URL, options,
    /// and keys in the environment, which has nothing else of this process.
    pub fn tell(&self, command: &mut Command) {
        command.arg(self.location.to_string()).env_clear();
        let (endpoint, keys) = match &self.location {
            Location::S3(place) => {
                let keys = vec![
                    ("AWS_ACCESS_KEY_ID", seaweedfs::ACCESS_KEY.to_owned()),
                    ("AWS_SECRET_ACCESS_KEY", seaweedfs::SECRET_KEY.to_owned()),
                ];
                (&place.endpoint, keys)
            }
            Location::Azure(place) => {
                let keys = vec![
                    ("AZURE_STORAGE_ACCOUNT", azurite::ACCOUNT.to_owned()),
                    ("AZURE_STORAGE_KEY", azurite::KEY.to_owned()),
                ];
                (&place.endpoint, keys)
            }
            Location::Gcs(place) => {
                let file = self.credentials_file.as_ref().map(|file| file.path());
                let file = file.unwrap_or(Path::new("")).display().to_string();
                (
                    &place.endpoint,
                    vec![("GOOGLE_APPLICATION_CREDENTIALS", file)],
                )
            }
        };
        command.envs(keys).env("HOME", "/nonexistent");
        command.args(["--endpoint", endpoint.as_deref().unwrap_or_default()]);
        if self.location.transport().plain_http {
            command.arg("--insecure-plain-http");
        } else {
            command.arg("--ca-file").arg(servers::tls::ca_file());
        }
    }

    /// Returns words that no program may say: its keys.
    pub fn secrets(&self) -> Vec<&'static str> {
        match &self.location {
            // The emulations' keys are public; S3's is a part of many words.
            Location::S3(_) => vec![seaweedfs::SECRET_KEY],
            Location::Azure(_) => vec![azurite::KEY],
            Location::Gcs(_) => vec![google::TOKEN, "hunter"],
        }
    }

    /// Returns the place as real Kopia is told it, where it can reach it: not Google's emulation,
    /// whose interface is another one. Azure's only behind TLS, as Kopia makes its name itself.
    pub fn for_kopia(&self) -> Option<Remote> {
        match &self.location {
            Location::S3(place) => {
                let endpoint = place.endpoint.as_deref().unwrap_or_default();
                let mut flags = vec![
                    format!("--bucket={}", place.bucket),
                    format!("--prefix={}", place.prefix),
                    format!("--endpoint={endpoint}"),
                    format!("--access-key={}", seaweedfs::ACCESS_KEY),
                    format!("--secret-access-key={}", seaweedfs::SECRET_KEY),
                ];
                flags.push(match place.transport.plain_http {
                    true => "--disable-tls".to_owned(),
                    false => format!("--root-ca-pem-path={}", servers::tls::ca_file().display()),
                });
                Some(Remote {
                    kind: "s3",
                    flags,
                    environment: Vec::new(),
                })
            }
            Location::Azure(place) => {
                let proxy = format!("http://127.0.0.1:{}", self.tls.as_ref()?.port());
                let ca = servers::tls::ca_file().display().to_string();
                Some(Remote {
                    kind: "azure",
                    flags: vec![
                        format!("--container={}", place.container),
                        format!("--prefix={}", place.prefix),
                        format!("--storage-account={}", azurite::ACCOUNT),
                        format!("--storage-key={}", azurite::KEY),
                        format!("--storage-domain={}", servers::tls::AZURE_DOMAIN),
                    ],
                    environment: vec![("HTTPS_PROXY", proxy), ("SSL_CERT_FILE", ca)],
                })
            }
            Location::Gcs(_) => None,
        }
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
