//! What URLs, options and environment make of a place.
//!
//! Nothing is asked of the network.

use super::*;
use crate::cli::place::Place;

fn surroundings(pairs: &[(&str, &str)]) -> Surroundings {
    Surroundings {
        variables: Variables::of(pairs.iter().copied()),
        ..Surroundings::read().unwrap()
    }
}

fn place(
    url: &str,
    options: StorageOptions,
    pairs: &[(&str, &str)],
) -> Result<ObjectPlace, CliError> {
    match Place::of_argument(url, &options, &surroundings(pairs))? {
        Place::Object(place) => Ok(*place),
        Place::Folder(folder) => panic!("{} is a folder", folder.path.display()),
    }
}

fn s3(url: &str, options: StorageOptions, pairs: &[(&str, &str)]) -> S3Location {
    match place(url, options, pairs).unwrap().location {
        Location::S3(place) => place,
        other => panic!("{other}"),
    }
}

fn refused(url: &str, options: StorageOptions, pairs: &[(&str, &str)]) -> String {
    let error = place(url, options, pairs).unwrap_err();
    assert_eq!(error.code(), "usage");
    error.to_string()
}

#[test]
fn a_prefix_is_a_raw_string() {
    for (url, prefix) in [
        ("s3://b/x/kopia/ns/", "x/kopia/ns/"),
        ("s3://b/x/kopia/ns", "x/kopia/ns"),
        ("s3://b/", ""),
        ("s3://b", ""),
        ("s3://b//a%20b?c", "/a%20b?c"),
    ] {
        let place = s3(url, StorageOptions::default(), &[]);
        assert_eq!(
            (place.bucket.as_str(), place.prefix.as_str()),
            ("b", prefix),
            "{url}"
        );
    }
    assert!(refused("s3:///x", StorageOptions::default(), &[]).contains("s3://BUCKET/PREFIX"));
    assert!(refused("s3://h:9000/b", StorageOptions::default(), &[]).contains("--endpoint"));
    assert!(refused("s3://id:key@b/", StorageOptions::default(), &[]).contains("no user"));
}

#[test]
fn options_come_before_the_environment() {
    let environment = [
        ("AWS_ENDPOINT_URL", "https://general:1"),
        ("AWS_ENDPOINT_URL_S3", "https://special:2/"),
        ("AWS_REGION", "env-1"),
    ];
    let found = s3("s3://b/", StorageOptions::default(), &environment);
    assert_eq!(found.server_url(), "https://special:2");
    assert_eq!(found.region.as_deref(), Some("env-1"));
    let options = StorageOptions {
        endpoint: Some("given:3".into()),
        region: Some("opt-1".into()),
        no_path_style: true,
        storage_class: Some("STANDARD_IA".into()),
        ..StorageOptions::default()
    };
    let found = s3("s3://b/", options, &environment);
    assert_eq!(found.server_url(), "https://b.given:3");
    assert_eq!(found.region.as_deref(), Some("opt-1"));
    assert_eq!(found.storage_class.as_deref(), Some("STANDARD_IA"));
}

#[test]
fn a_region_is_in_amazons_host_names_and_in_profiles() {
    for (host, region) in [
        ("s3.eu-west-1.amazonaws.com", Some("eu-west-1")),
        ("s3-eu-west-1.amazonaws.com:443", Some("eu-west-1")),
        ("s3.dualstack.eu-west-1.amazonaws.com", Some("eu-west-1")),
        ("s3.cn-north-1.amazonaws.com.cn", Some("cn-north-1")),
        ("s3.amazonaws.com", None),
        ("minio:9000", None),
    ] {
        assert_eq!(region_of_host(host).as_deref(), region, "{host}");
    }
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("cloud");
    std::fs::write(&file, "[default]\nregion = eu-central-1\n").unwrap();
    let options = StorageOptions {
        credentials_file: Some(file),
        ..StorageOptions::default()
    };
    let found = s3("s3://b/", options, &[]);
    assert_eq!(found.region.as_deref(), Some("eu-central-1"));
}

#[test]
fn what_is_not_safe_is_spelled_out() {
    let endpoint = |text: &str| StorageOptions {
        endpoint: Some(text.into()),
        ..StorageOptions::default()
    };
    let told = refused("s3://b/", endpoint("http://minio:9000"), &[]);
    assert!(told.contains("--insecure-plain-http"), "{told}");
    let told = refused(
        "s3://b/",
        StorageOptions::default(),
        &[("AWS_ENDPOINT_URL", "http://m")],
    );
    assert!(told.contains("--insecure-plain-http"), "{told}");
    let plain = StorageOptions {
        insecure_plain_http: true,
        ..endpoint("http://minio:9000/")
    };
    assert_eq!(s3("s3://b/", plain, &[]).server_url(), "http://minio:9000");
    for wrong in ["ftp://minio", "https://", "minio/path", "user@minio", ""] {
        refused("s3://b/", endpoint(wrong), &[]);
    }
    let ca = StorageOptions {
        ca_file: Some("/nonexistent.pem".into()),
        ..StorageOptions::default()
    };
    assert!(refused("gs://b/", ca, &[]).contains("CA file /nonexistent.pem"));
}

#[test]
fn an_azure_place_needs_its_account() {
    let told = refused("az://c/p/", StorageOptions::default(), &[]);
    assert!(told.contains("--storage-account"), "{told}");
    let url = |options, pairs: &[(&str, &str)]| {
        place("az://c/p/", options, pairs)
            .unwrap()
            .location
            .server_url()
    };
    let china = [
        ("AZURE_STORAGE_ACCOUNT", "a"),
        ("AZURE_CLOUD_NAME", "AzureChinaCloud"),
    ];
    assert_eq!(
        url(StorageOptions::default(), &china),
        "https://a.blob.core.chinacloudapi.cn"
    );
    let named = StorageOptions {
        storage_account: Some("b".into()),
        ..StorageOptions::default()
    };
    assert_eq!(url(named, &[]), "https://b.blob.core.windows.net");
    let text = "AccountName=x;AccountKey=a2V5;BlobEndpoint=http://127.0.0.1:10000/x;";
    let emulator = [("AZURE_STORAGE_CONNECTION_STRING", text)];
    let plain = StorageOptions {
        insecure_plain_http: true,
        ..StorageOptions::default()
    };
    assert_eq!(url(plain, &emulator), "http://127.0.0.1:10000/x");
}

#[test]
fn googles_emulator_is_asked_without_keys() {
    let pairs = [("STORAGE_EMULATOR_HOST", "127.0.0.1:4443")];
    let found = place("gs://b/p/", StorageOptions::default(), &pairs).unwrap();
    assert_eq!(found.location.server_url(), "http://127.0.0.1:4443");
    assert_eq!(found.given, Given::Anonymous);
}
