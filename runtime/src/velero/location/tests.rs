//! Places of the repositories of storage locations, as Velero's documentation has the locations.
//!
//! What is expected was read in Velero's source, release 1.18.1.

use super::super::kinds::ObjectStorage;
use super::*;

fn repository() -> BackupRepositorySpec {
    BackupRepositorySpec {
        volume_namespace: "shop".to_owned(),
        ..BackupRepositorySpec::default()
    }
}

fn location(provider: &str, prefix: &str, config: &[(&str, &str)]) -> BackupStorageLocationSpec {
    let pairs = config.iter();
    let config = pairs.map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    BackupStorageLocationSpec {
        provider: provider.to_owned(),
        config: Some(config.collect()),
        object_storage: Some(ObjectStorage {
            bucket: "backups".to_owned(),
            prefix: prefix.to_owned(),
            ..ObjectStorage::default()
        }),
        ..BackupStorageLocationSpec::default()
    }
}

fn place(provider: &str, prefix: &str, config: &[(&str, &str)]) -> Result<Place, String> {
    place_of(&repository(), &location(provider, prefix, config))
}

#[test]
fn urls_are_where_veleros_kopia_looks() {
    for (provider, prefix, url) in [
        ("aws", "", "s3://backups/kopia/shop/"),
        (
            "velero.io/aws",
            "cluster-1",
            "s3://backups/cluster-1/kopia/shop/",
        ),
        ("aws", "/a//b/", "s3://backups/a/b/kopia/shop/"),
        ("aws", "a/../b", "s3://backups/b/kopia/shop/"),
        ("gcp", "x", "gs://backups/x/kopia/shop/"),
    ] {
        assert_eq!(place(provider, prefix, &[]).unwrap().url, url);
    }
    let azure = place("azure", "x", &[("storageAccount", "acc")]).unwrap();
    assert_eq!(azure.url, "az://backups/x/kopia/shop/");
    assert_eq!(azure.options, ["--storage-account", "acc"]);
}

#[test]
fn a_folder_has_the_prefix_too() {
    let place = place("fs", "p", &[("fspath", "/mnt/backup/")]).unwrap();
    assert_eq!(place.url, "/mnt/backup/p/kopia/shop");
    assert_eq!(place.keys, None);
    let mut bare = location("velero.io/fs", "", &[("fspath", "/mnt"), ("prefix", "q")]);
    bare.object_storage = None;
    assert_eq!(
        place_of(&repository(), &bare).unwrap().url,
        "/mnt/q/kopia/shop"
    );
}

/// Goal: only what reaches Velero's Kopia reaches us; method: a location with every key.
#[test]
fn options_of_s3_are_those_that_kopia_gets() {
    let config = [
        ("s3Url", "http://minio.minio:9000/"),
        ("region", "minio"),
        ("profile", "backup"),
        ("insecureSkipTLSVerify", "true"),
        ("s3ForcePathStyle", "true"),
        ("kmsKeyId", "k"),
        ("publicUrl", "https://elsewhere"),
        ("checksumAlgorithm", ""),
    ];
    let place = place("aws", "", &config).unwrap();
    assert_eq!(
        place.options,
        [
            "--endpoint",
            "minio.minio:9000",
            "--region",
            "minio",
            "--profile",
            "backup",
            "--insecure-plain-http",
            "--insecure-skip-tls-verify"
        ]
    );
}

#[test]
fn an_unknown_provider_with_an_s3_url_is_s3() {
    let known = place(
        "example.com/store",
        "",
        &[("s3Url", "https://s3.example.com")],
    )
    .unwrap();
    assert_eq!(known.provider, Provider::Aws);
    assert_eq!(known.options, ["--endpoint", "s3.example.com"]);
}

#[test]
fn what_cannot_be_reached_says_why() {
    let mut no_bucket = location("aws", "", &[]);
    no_bucket.object_storage = None;
    for (location, why) in [
        (location("alibabacloud", "", &[]), "alibabacloud"),
        (no_bucket, "no bucket"),
        (location("azure", "", &[]), "storageAccount"),
        (location("fs", "", &[("fspath", "relative")]), "fspath"),
        (location("aws", "", &[("s3Url", "minio:9000")]), "no scheme"),
        (
            location("aws", "", &[("s3Url", "https://h/path")]),
            "more than scheme and host",
        ),
    ] {
        let reason = place_of(&repository(), &location).unwrap_err();
        assert!(reason.contains(why), "{reason}");
    }
}

#[test]
fn keys_are_the_locations_own_or_the_installations() {
    let mut own = location("aws", "", &[]);
    let keys = place_of(&repository(), &own).unwrap().keys.unwrap();
    assert_eq!(keys.secret.name, "cloud-credentials");
    assert!(!keys.required);
    own.credential = Some(SecretKey {
        name: "bsl".to_owned(),
        key: "creds".to_owned(),
    });
    let keys = place_of(&repository(), &own).unwrap().keys.unwrap();
    assert_eq!((keys.secret.name.as_str(), keys.required), ("bsl", true));
}
