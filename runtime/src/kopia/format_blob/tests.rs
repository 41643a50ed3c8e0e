//! Tests of the format blob as a whole: made, opened, refused, rewritten.
//! `samples.rs` does the same with blobs that real Kopia made.

use std::time::Duration;

use serde_json::json;

use super::*;
use crate::kopia::key_derivation::PBKDF2;

const KEY: [u8; 32] = [0x42; 32];

fn new_repository() -> NewRepository {
    NewRepository::new(&std::array::from_fn(|i| i as u8))
}

fn outer() -> FormatBlob {
    let bytes = new_repository().format_blob_with_key(&KEY).unwrap();
    FormatBlob::parse(&bytes).unwrap()
}

/// Seals any inner document.
fn with_inside(document: &Value) -> FormatBlob {
    let mut blob = outer();
    let json = serde_json::to_vec(document).unwrap();
    blob.encrypted_format = envelope::seal(&KEY, &blob.unique_id, [3; 12], &json);
    blob
}

fn unlock_inside(format: Value) -> Result<RepositoryFormat, FormatError> {
    with_inside(&json!({ "format": format })).unlock_with_key(&KEY)
}

#[test]
fn a_new_repository_opens() {
    let new = new_repository();
    let format = outer().unlock_with_key(&KEY).unwrap();
    assert_eq!(format.hash, "BLAKE2B-256-128");
    assert_eq!(format.secret, new.secret);
    assert_eq!(format.master_key, new.master_key);
    assert_eq!((format.version, format.index_version), (3, 2));
    assert_eq!(format.max_pack_size, 20 << 20);
    assert_eq!(format.epochs, EpochParameters::default());
    assert!(format.enable_password_change && format.upgrade_lock.is_none());
    assert!(format.blob_crypto().unwrap().ecc.is_none());
    assert_eq!(format.unique_id, new.unique_id);
}

#[test]
fn the_password_opens_it() {
    let mut new = new_repository();
    new.key_algorithm = PBKDF2.into();
    let bytes = new.format_blob(b"secret", 0).unwrap();
    let outer = FormatBlob::parse(&bytes).unwrap();
    assert!(outer.unlock(b"secret", 0).is_ok());
    let error = outer.unlock(b"Secret", 0).unwrap_err();
    assert_eq!(error.code(), "wrong-password");
}

#[test]
fn version_1_is_plain() {
    let new = new_repository().with_version(1);
    let bytes = new.format_blob_with_key(&KEY).unwrap();
    let format = FormatBlob::parse(&bytes)
        .unwrap()
        .unlock_with_key(&KEY)
        .unwrap();
    assert_eq!((format.version, format.index_version), (1, 1));
    assert!(!format.epochs.enabled && !format.enable_password_change);
}

#[test]
fn refuses_to_make_what_kopia_refuses() {
    let bad: [fn(&mut NewRepository); 5] = [
        |new| new.hash = "MD5".into(),
        |new| new.version = 4,
        |new| new.index_version = 3,
        |new| new.epochs.advance_on_count = 1,
        |new| (new.ecc, new.ecc_overhead_percent) = ("X".into(), 3),
    ];
    for change in bad {
        let mut new = new_repository();
        change(&mut new);
        assert!(new.format_blob_with_key(&KEY).is_err());
    }
}

// The reference's schedule key: master key 32 times 0x11, unique ID 00 to 1f.
#[test]
fn schedule_key_has_two_roots() {
    let mut new = new_repository();
    new.master_key = [0x11; 32];
    let bytes = new.format_blob_with_key(&KEY).unwrap();
    let mut format = FormatBlob::parse(&bytes)
        .unwrap()
        .unlock_with_key(&KEY)
        .unwrap();
    assert_eq!(
        hex::encode(format.schedule_key()),
        "565c43705fbc163b4e44a8764a89143e1fcf765d3acde43c5c79c13c4c181b81"
    );
    format.enable_password_change = false;
    let from_password =
        crate::kopia::encryption::hkdf_sha256(&KEY, &new.unique_id, b"maintenance schedule");
    assert_eq!(format.schedule_key(), from_password);
}

#[test]
fn old_fields_have_defaults() {
    let format = unlock_inside(json!({
        "hash": "HMAC-SHA256-128", "encryption": "AES256-GCM-HMAC-SHA256", "version": 1,
        "masterKey": "AAAA",
    }))
    .unwrap();
    assert_eq!(format.max_pack_size, 20 << 20);
    assert_eq!(format.index_version, 1);
    assert_eq!(format.epochs, EpochParameters::disabled());
    assert!(format.secret.is_empty());
    assert!(format.blob_crypto().is_ok());
}

#[test]
fn refuses_what_we_must_not_touch() {
    for (format, code) in [
        (
            json!({"version": 4, "epochParameters": "changed"}),
            "newer-format",
        ),
        (json!({"version": 0}), "malformed"),
        (json!({}), "malformed"),
        (json!({"version": 3, "indexVersion": 3}), "newer-format"),
        (json!({"version": 3, "indexVersion": -1}), "malformed"),
        (json!({"version": 3, "maxPackSize": -1}), "malformed"),
        (json!({"version": 3, "masterKey": "%%"}), "malformed"),
        (
            json!({"version": 3, "requiredFeatures": [{"feature": "x"}]}),
            "unknown-required-feature",
        ),
    ] {
        let error = unlock_inside(format.clone()).unwrap_err();
        assert_eq!(error.code(), code, "{format}: {error}");
    }
    let warned = unlock_inside(json!({"version": 3, "requiredFeatures": [
        {"feature": "index-v2"},
        {"feature": "x", "ifNotUnderstood": {"warn": true}},
    ]}));
    let warned = warned.unwrap();
    assert_eq!(warned.ignored_features().count(), 1);
}

#[test]
fn refuses_other_envelopes() {
    let mut blob = outer();
    blob.encryption = "NONE".into();
    let error = blob.unlock(b"x", 64 << 20).unwrap_err();
    assert_eq!(error.code(), "unsupported-algorithm");
    blob.encryption = "AES256_GCM".into();
    blob.key_algorithm = String::new();
    let error = blob.unlock(b"x", 64 << 20).unwrap_err();
    assert_eq!(error.code(), "unsupported-algorithm");
}

#[test]
fn hostile_outsides() {
    for bytes in [
        &b""[..],
        b"{",
        b"{}",
        b"[]",
        br#"{"uniqueID":"***"}"#,
        b"\xFF\xFE",
    ] {
        assert_eq!(FormatBlob::parse(bytes).unwrap_err().code(), "malformed");
    }
    let long = vec![b' '; FORMAT_BLOB_BYTES_MAX + 1];
    assert!(FormatBlob::parse(&long).is_err());
}

// Unknown fields at every level survive, known ones change, an ended upgrade lock disappears.
#[test]
fn a_rewrite_keeps_unknown_fields() {
    let text = String::from_utf8(outer().to_json()).unwrap();
    let text = text.replacen('{', r#"{"future": {"a": [1]},"#, 1);
    let mut blob = FormatBlob::parse(text.as_bytes()).unwrap();
    let inside = json!({
        "format": {
            "version": 3, "indexVersion": 2, "new": true, "maxPackSize": 11,
            "epochParameters": {"Enabled": true, "FullCheckpointFrequency": 7, "New": "x"},
            "upgradeLock": {"creationTime": "2024-01-01T00:00:00Z"},
            "requiredFeatures": [{"feature": "index-v2", "later": 1}],
        },
        "beside": 2,
    });
    blob.encrypted_format = with_inside(&inside).encrypted_format;
    let mut format = blob.unlock_with_key(&KEY).unwrap();
    format.epochs.min_epoch_duration = Duration::from_nanos(5);
    format.upgrade_lock = None;
    let rewritten = blob.with_format(&format, [9; 12]).to_json();

    let blob = FormatBlob::parse(&rewritten).unwrap();
    assert_eq!(blob.other["future"], json!({"a": [1]}));
    let again = blob.unlock_with_key(&KEY).unwrap();
    assert_eq!(again.epochs.min_epoch_duration, Duration::from_nanos(5));
    let document = Value::Object(again.document.0.clone());
    assert_eq!(document["beside"], 2);
    assert_eq!(document["format"]["new"], true);
    assert_eq!(document["format"]["maxPackSize"], 11);
    assert_eq!(document["format"]["epochParameters"]["New"], "x");
    assert_eq!(document["format"]["requiredFeatures"][0]["later"], 1);
    assert!(document["format"].get("upgradeLock").is_none());
}

// Neither Debug nor an error shows a key.
#[test]
fn secrets_stay_inside() {
    let mut new = new_repository();
    new.master_key = *b"MASTER-KEY-THAT-MUST-NOT-BE-SEEN";
    let bytes = new.format_blob_with_key(&KEY).unwrap();
    let format = FormatBlob::parse(&bytes)
        .unwrap()
        .unlock_with_key(&KEY)
        .unwrap();
    let shown = format!("{format:?} {new:?} {:?}", format.blob_crypto().unwrap());
    for secret in ["MASTER", "TUFTVEVS", "77, 65, 83, 84"] {
        assert!(!shown.contains(secret), "{shown}");
    }
    let error = unlock_inside(json!({"version": 3, "masterKey": {"TUFTVEVS": 1}})).unwrap_err();
    assert!(!error.to_string().contains("TUFT"), "{error}");
    let error = unlock_inside(json!({"version": 3, "splitter": 12345})).unwrap_err();
    assert!(!error.to_string().contains("12345"), "{error}");
}
