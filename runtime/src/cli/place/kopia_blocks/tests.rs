//! Blocks as Kopia 0.23.1 writes them, and blocks that are refused.
//!
//! The word `hunter` stands for secrets: no message may have it.

use serde_json::json;

use super::*;
use crate::blob::StorageLimits;

#[test]
fn an_s3_block_is_understood_to_the_last_option() {
    let place = read(
        "s3",
        &json!({
            "bucket": "b", "prefix": "x/kopia/ns/", "endpoint": "minio:9000", "doNotUseTLS": true,
            "doNotVerifyTLS": true, "rootCA": "UEVN", "accessKeyID": "AK",
            "secretAccessKey": "hunter2", "sessionToken": "hunter3", "roleARN": "arn:r",
            "sessionName": "s", "duration": "1h30m0s", "roleEndpoint": "https://sts",
            "roleRegion": "r-1", "region": "eu-1", "readsPerSecond": 12.5, "writesPerSecond": 50,
            "concurrentReads": 4, "maxUploadSpeedBytesPerSecond": 1e6
        }),
    )
    .unwrap();
    let shown = format!("{place:?}");
    assert!(!shown.contains("hunter"), "{shown}");
    let expected = StorageLimits {
        reads_per_second: 12.5,
        writes_per_second: 50.0,
        concurrent_reads: 4,
        upload_bytes_per_second: 1e6,
        ..StorageLimits::default()
    };
    assert_eq!(place.limits, expected);
    let Location::S3(s3) = place.location else {
        panic!("another kind");
    };
    assert_eq!(s3.server_url(), "http://minio:9000");
    assert_eq!(s3.prefix, "x/kopia/ns/");
    assert_eq!(s3.region.as_deref(), Some("eu-1"));
    assert_eq!(s3.transport.ca_pem.as_deref(), Some(&b"PEM"[..]));
    let Given::S3(keys) = place.given else {
        panic!("other keys");
    };
    assert_eq!(keys.secret_access_key.reveal(), "hunter2");
    let role = keys.role.unwrap();
    assert_eq!(role.seconds, Some(5400));
    assert_eq!(role.endpoint.as_deref(), Some("https://sts"));
}

#[test]
fn kopias_default_endpoint_is_the_region_of_the_bucket() {
    let block = json!({"bucket": "b", "endpoint": "s3.amazonaws.com", "duration": "0s",
                       "accessKeyID": "", "secretAccessKey": "", "sessionToken": ""});
    let Location::S3(mut s3) = read("s3", &block).unwrap().location else {
        panic!("another kind");
    };
    s3.region = Some("eu-west-1".into());
    assert_eq!(s3.server_url(), "https://b.s3.eu-west-1.amazonaws.com");
}

#[test]
fn azure_and_google_blocks_are_understood() {
    let block = json!({"container": "c", "prefix": "p", "storageAccount": "a",
                       "storageKey": "a2V5", "storageDomain": "blob.core.usgovcloudapi.net",
                       "TenantID": "t", "ClientID": "i", "ClientSecret": "s"});
    let place = read("azureBlob", &block).unwrap();
    assert_eq!(
        place.location.server_url(),
        "https://a.blob.core.usgovcloudapi.net"
    );
    let Given::Azure(keys) = place.given else {
        panic!("other keys");
    };
    assert_eq!(
        (keys.account_key.reveal(), keys.client_secret.reveal()),
        ("a2V5", "s")
    );
    let block = json!({"bucket": "b", "credentials": {"type": "service_account"},
                       "readOnly": true});
    let place = read("gcs", &block).unwrap();
    assert!(place.read_only);
    assert_eq!(
        place.given,
        Given::Google(Secret::from(r#"{"type":"service_account"}"#))
    );
    let block = json!({"bucket": "b", "credentialsFile": "/sa.json"});
    assert_eq!(
        read("gcs", &block).unwrap().given,
        Given::GoogleFile("/sa.json".into())
    );
}

#[test]
fn what_cannot_be_maintained_is_refused_without_a_secret() {
    for (kind, block, part) in [
        (
            "s3",
            json!({"bucket": "b", "pointInTime": "2026-01-01T00:00:00Z"}),
            "point in time",
        ),
        ("s3", json!({"endpoint": "e"}), "no bucket"),
        ("azureBlob", json!({}), "no container"),
        ("gcs", json!({}), "no bucket"),
        ("s3", json!({"bucket": "b", "rootCA": "%"}), "rootCA"),
        ("s3", json!({"bucket": "b", "duration": "soon"}), "duration"),
        ("s3", json!({"bucket": ["hunter2"]}), "wrong type"),
        (
            "s3",
            json!({"bucket": "b", "doNotUseTLS": "hunter2"}),
            "wrong type",
        ),
    ] {
        let reason = read(kind, &block).unwrap_err();
        assert!(
            reason.contains(part) && !reason.contains("hunter"),
            "{block}: {reason}"
        );
    }
}
