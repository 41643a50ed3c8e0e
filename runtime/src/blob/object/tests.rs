//! The contract of stores, kept by real servers.
//!
//! A server that is not here is said and skipped; see the package `servers`.

mod faults;
mod pieces;
mod refusals;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use object_store::StaticCredentialProvider;
use object_store::aws::AwsCredential;
use object_store::azure::{AzureAccessKey, AzureCredential};
use object_store::gcp::GcpCredential;
use servers::google::{self, Google};
use servers::{azurite, seaweedfs};

use super::connect::Credentials;
use super::location::{AzureLocation, GcsLocation, Location, S3Location, Transport};
use super::{ObjectStore, Wire, WireLimits, open};
use crate::blob::BlobStore;
use crate::blob::contract::contract_of_a_server;

fn plain() -> Transport {
    Transport {
        plain_http: true,
        ..Transport::default()
    }
}

/// Returns a prefix that no other test has. Not a folder, every second time.
fn fresh_prefix() -> String {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let end = if number.is_multiple_of(2) { "/" } else { "-" };
    format!("unit/{}-{number}{end}", std::process::id())
}

fn aws_keys() -> Credentials {
    Credentials::Aws(Arc::new(StaticCredentialProvider::new(AwsCredential {
        key_id: seaweedfs::ACCESS_KEY.to_owned(),
        secret_key: seaweedfs::SECRET_KEY.to_owned(),
        token: None,
    })))
}

fn seaweedfs_place(port: u16, bucket: &str) -> Location {
    Location::S3(S3Location {
        bucket: bucket.to_owned(),
        prefix: fresh_prefix(),
        endpoint: Some(format!("127.0.0.1:{port}")),
        transport: plain(),
        ..S3Location::default()
    })
}

fn azurite_place(port: u16, container: &str) -> Location {
    Location::Azure(AzureLocation {
        container: container.to_owned(),
        prefix: fresh_prefix(),
        account: azurite::ACCOUNT.to_owned(),
        endpoint: Some(format!("127.0.0.1:{port}/{}", azurite::ACCOUNT)),
        transport: plain(),
        ..AzureLocation::default()
    })
}

fn azure_keys() -> Credentials {
    let key = AzureAccessKey::try_new(azurite::KEY).unwrap();
    let credential = AzureCredential::AccessKey(key);
    Credentials::Azure(Arc::new(StaticCredentialProvider::new(credential)))
}

fn store(place: &Location, credentials: &Credentials, limits: &WireLimits) -> ObjectStore {
    let wire = Arc::new(Wire::new(place.transport(), limits, credentials).unwrap());
    ObjectStore::new(place, credentials, wire).unwrap()
}

fn retrying(place: &Location, credentials: &Credentials) -> Arc<dyn BlobStore> {
    open(place, credentials, &WireLimits::default()).unwrap()
}

#[test]
fn seaweedfs_keeps_the_contract() {
    let Some(server) = seaweedfs::shared() else {
        return;
    };
    server.bucket("contract", false);
    contract_of_a_server(|| retrying(&seaweedfs_place(server.port, "contract"), &aws_keys()));
}

#[test]
fn azurite_keeps_the_contract() {
    let Some(server) = azurite::shared() else {
        return;
    };
    server.container("contract");
    contract_of_a_server(|| retrying(&azurite_place(server.port, "contract"), &azure_keys()));
}

fn google_place(port: u16) -> Location {
    Location::Gcs(GcsLocation {
        bucket: "bucket".to_owned(),
        prefix: fresh_prefix(),
        endpoint: Some(format!("127.0.0.1:{port}")),
        storage_class: None,
        transport: plain(),
    })
}

fn google_keys() -> Credentials {
    let bearer = google::TOKEN.to_owned();
    let credential = GcpCredential { bearer };
    Credentials::Google(Arc::new(StaticCredentialProvider::new(credential)))
}

#[test]
fn the_emulation_of_google_keeps_the_contract() {
    let server = Google::start();
    contract_of_a_server(|| retrying(&google_place(server.port()), &google_keys()));
}
