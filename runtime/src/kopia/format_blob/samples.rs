//! Blobs that real Kopia 0.23.1 wrote, opened from the outermost to the innermost.
//!
//! All have the password `static-passw0rd`; the password keys here are those that scrypt gives, to
//! keep the tests quick.

use serde_json::Value;

use super::*;
use crate::kopia::encryption::aes_gcm_open;

const DEFAULT: &[u8] = include_bytes!("../testdata/default.repository");
const DEFAULT_SCHEDULE: &[u8] = include_bytes!("../testdata/default.maintenance");
const DEFAULT_KEY: &str = "c18237231799ac012b60c552b1d248d2f10ba0a9ad9a3f27ffdb823b9b25f621";

const V1: &[u8] = include_bytes!("../testdata/v1.repository");
const V1_SCHEDULE: &[u8] = include_bytes!("../testdata/v1.maintenance");
const V1_CLEANUP: &[u8] = include_bytes!("../testdata/v1.cleanup");
const V1_CLEANUP_NAME: &str = "l24db7e21d9a276ebcf5e96b2403e6c8f";
const V1_KEY: &str = "72537c5380dcc98b21299cc1c6182d84669eb566fd87e17678ba33adf99fb2b5";

const ECC: &[u8] = include_bytes!("../testdata/chacha-blake3-ecc.repository");
const ECC_CONFIG: &[u8] = include_bytes!("../testdata/chacha-blake3-ecc.blobcfg");
const ECC_INDEX: &[u8] = include_bytes!("../testdata/chacha-blake3-ecc.index");
const ECC_INDEX_NAME: &str = concat!(
    "xn0_2e842aeb295f6bc92f05642554d05d29dbe9c7f343e807fb7ebb9fbaf8a26af8",
    "-s487855e89906a812143-c1"
);
const ECC_KEY: &str = "caba7e6b13b46cbcfc8c44c7b779c66fc96a916f82900069dc2ce364ba04135b";

fn key(hex_digits: &str) -> [u8; 32] {
    hex::decode(hex_digits).unwrap().try_into().unwrap()
}

fn unlocked(bytes: &[u8], key_digits: &str) -> RepositoryFormat {
    let outer = FormatBlob::parse(bytes).unwrap();
    // What Kopia wrote, we write the same way.
    assert_eq!(outer.to_json(), bytes);
    outer.unlock_with_key(&key(key_digits)).unwrap()
}

fn check_schedule(format: &RepositoryFormat, sealed: &[u8]) {
    let mut schedule = sealed.to_vec();
    aes_gcm_open(&format.schedule_key(), b"maintenance", &mut schedule).unwrap();
    let schedule: Value = serde_json::from_slice(&schedule).unwrap();
    assert!(schedule["runs"]["snapshot-gc"].is_array());
}

#[test]
fn default_format() {
    let format = unlocked(DEFAULT, DEFAULT_KEY);
    assert_eq!((format.version, format.index_version), (3, 2));
    assert_eq!(format.epochs, EpochParameters::default());
    assert_eq!(format.encryption, "AES256-GCM-HMAC-SHA256");
    check_schedule(&format, DEFAULT_SCHEDULE);
}

// A repository of format version 1: no epochs, the schedule key comes from the password.
#[test]
fn version_1() {
    let format = unlocked(V1, V1_KEY);
    assert_eq!((format.version, format.index_version), (1, 1));
    assert_eq!(format.epochs, EpochParameters::disabled());
    assert!(!format.enable_password_change);
    check_schedule(&format, V1_SCHEDULE);
    let crypto = format.blob_crypto().unwrap();
    let mut sealed = V1_CLEANUP.to_vec();
    let cleanup = crypto.open_slice(V1_CLEANUP_NAME, &mut sealed).unwrap();
    assert!(serde_json::from_slice::<Value>(cleanup).is_ok());
    assert_eq!(
        format!("l{}", crypto.hash.hash(cleanup).to_hex()),
        V1_CLEANUP_NAME
    );
}

// ChaCha20-Poly1305, BLAKE3-256 and error correction: opens, also damaged; sealed again it is the
// same.
#[test]
fn error_correction() {
    let format = unlocked(ECC, ECC_KEY);
    let outer = FormatBlob::parse(ECC).unwrap();
    let config = BlobConfig::parse(ECC_CONFIG, &outer, &key(ECC_KEY)).unwrap();
    assert!(!config.retention_on());
    assert_eq!(format.ecc_overhead_percent, 10);
    let crypto = format.blob_crypto().unwrap();
    let mut blob = ECC_INDEX.to_vec();
    blob[500] ^= 0xFF;
    let range = crypto
        .open(ECC_INDEX_NAME, &mut blob, &mut Vec::new())
        .unwrap();
    let nonce = *blob.first_chunk().unwrap();
    let mut again = Vec::new();
    let suffix = Some("s487855e89906a812143-c1");
    let name = crypto.seal("xn0_", suffix, &blob[range], nonce, &mut again);
    assert_eq!(name, ECC_INDEX_NAME);
    assert_eq!(again, ECC_INDEX);
}
