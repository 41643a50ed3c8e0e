//! Blobs that are sealed whole: index blobs, session markers, logs, compaction logs.
//!
//! Such a blob is named after the hash of its plaintext, and the name alone gives the IV to open
//! it. Kopia calls this blobcrypto. Contents inside packs use the same hash, encryption and error
//! correction, with IVs of their own.
//!
//! Memory: opening works in place; with error correction a second buffer of the blob's size.
//! Invariant: nothing is handed out before its tag fits. Mirrors Kopia's `internal/blobcrypto`.

use std::ops::Range;

use super::FormatError;
use super::ecc::Ecc;
use super::encryption::{Encryption, NONCE_BYTES, OVERHEAD_BYTES, TAG_BYTES};
use super::hashing::HashFunction;

/// Length of the IV of a sealed blob.
pub const IV_BYTES: usize = 16;

/// What is needed to seal and open blobs and contents of a repository.
#[derive(Clone, Debug)]
pub struct BlobCrypto {
    /// Makes content IDs and blob names.
    pub hash: HashFunction,
    /// Seals contents and blobs.
    pub encryption: Encryption,
    /// Wrapped around sealed bytes, if the repository has it.
    pub ecc: Option<Ecc>,
}

/// Returns the IV of a sealed blob: the 32 hex digits before the first dash of its name, or at its
/// end.
///
/// Fails when there are no such digits.
pub fn iv_of_name(name: &str) -> Result<[u8; IV_BYTES], FormatError> {
    let hash = name.split('-').next().unwrap_or(name).as_bytes();
    let mut iv = [0; IV_BYTES];
    hash.last_chunk::<{ 2 * IV_BYTES }>()
        .and_then(|digits| hex::decode_to_slice(digits, &mut iv).ok())
        .ok_or_else(|| FormatError::malformed(name, "the blob name ends in no hash"))?;
    Ok(iv)
}

impl BlobCrypto {
    /// Opens the blob in place and returns where in `blob` its plaintext lies.
    ///
    /// With error correction on, the decoded bytes go to `scratch` and the two change places; else
    /// `scratch` stays as it is. Errors name the blob.
    pub fn open(
        &self,
        name: &str,
        blob: &mut Vec<u8>,
        scratch: &mut Vec<u8>,
    ) -> Result<Range<usize>, FormatError> {
        let iv = iv_of_name(name)?;
        if let Some(ecc) = &self.ecc {
            scratch.clear();
            ecc.decode(blob, scratch)
                .map_err(|error| renamed(error, name))?;
            std::mem::swap(blob, scratch);
        }
        let plaintext = self.encryption.open(&iv, blob);
        let plain_bytes = plaintext.map_err(|error| renamed(error, name))?.len();
        debug_assert_eq!(blob.len(), NONCE_BYTES + plain_bytes + TAG_BYTES);
        Ok(NONCE_BYTES..NONCE_BYTES + plain_bytes)
    }

    /// Opens the blob in place and returns its plaintext. Fails when error correction is on.
    pub fn open_slice<'a>(
        &self,
        name: &str,
        sealed: &'a mut [u8],
    ) -> Result<&'a mut [u8], FormatError> {
        if self.ecc.is_some() {
            let reason = "error correction must be decoded first";
            return Err(FormatError::malformed(name, reason));
        }
        let iv = iv_of_name(name)?;
        let opened = self.encryption.open(&iv, sealed);
        opened.map_err(|error| renamed(error, name))
    }

    /// Appends the sealed blob to `out` and returns its name: prefix, hash of the plaintext, `-`
    /// and suffix.
    ///
    /// The nonce must be random. Memory: with error correction one more buffer of the blob's size.
    pub fn seal(
        &self,
        prefix: &str,
        suffix: Option<&str>,
        plaintext: &[u8],
        nonce: [u8; NONCE_BYTES],
        out: &mut Vec<u8>,
    ) -> String {
        let mut name = format!("{prefix}{}", self.hash.hash(plaintext).to_hex());
        let iv = iv_of_name(&name).expect("every hash has at least 16 bytes");
        if let Some(suffix) = suffix {
            name.push('-');
            name.push_str(suffix);
        }
        match &self.ecc {
            None => self.encryption.seal(&iv, nonce, plaintext, out),
            Some(ecc) => {
                let mut sealed = Vec::new();
                self.encryption.seal(&iv, nonce, plaintext, &mut sealed);
                ecc.encode(&sealed, out);
            }
        }
        name
    }

    /// Returns the length of the sealed form of `plain_bytes`, of a blob or a content.
    pub fn sealed_len(&self, plain_bytes: u64) -> u64 {
        let sealed = plain_bytes.saturating_add(OVERHEAD_BYTES as u64);
        match &self.ecc {
            None => sealed,
            Some(ecc) => ecc.encoded_bytes(sealed),
        }
    }
}

/// Puts the blob's name into an error that knows the IV only.
pub(crate) fn renamed(error: FormatError, name: &str) -> FormatError {
    match error {
        FormatError::Tag { .. } => FormatError::Tag {
            what: name.to_owned(),
        },
        FormatError::Malformed { what, reason } => {
            FormatError::malformed(name, format!("{what}: {reason}"))
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn crypto(hash: &str, encryption: &str, overhead_percent: i64) -> BlobCrypto {
        BlobCrypto {
            hash: HashFunction::new(hash, &[0x22; 32]).unwrap(),
            encryption: Encryption::new(encryption, &[0x11; 32]).unwrap(),
            ecc: Ecc::new("REED-SOLOMON-CRC32", overhead_percent).unwrap(),
        }
    }

    fn default() -> BlobCrypto {
        crypto("BLAKE2B-256-128", "AES256-GCM-HMAC-SHA256", 0)
    }

    #[test]
    fn iv_is_the_end_of_the_hash() {
        let digits = "00112233445566778899aabbccddeeff";
        let want = hex::decode(digits).unwrap();
        for name in [
            digits.to_owned(),
            format!("n{digits}"),
            format!("xn12_{digits}-s0-c1"),
            format!("qabcdef0123{digits}-s1f2e"),
        ] {
            assert_eq!(iv_of_name(&name).unwrap()[..], want, "{name}");
        }
        for name in [
            "",
            "-",
            "n0011",
            "xn0_0011-00112233445566778899aabbccddeeff",
            "xw",
        ] {
            assert!(iv_of_name(name).is_err(), "{name}");
        }
        assert!(iv_of_name("nz00112233445566778899aabbccddeeff").is_ok());
        assert!(iv_of_name("n0z112233445566778899aabbccddeeff").is_err());
        assert!(iv_of_name("ééééééééééééééééé").is_err());
    }

    #[test]
    fn seal_then_open() {
        for crypto in [
            default(),
            crypto("HMAC-SHA224", "CHACHA20-POLY1305-HMAC-SHA256", 0),
            crypto("BLAKE3-256", "CHACHA20-POLY1305-HMAC-SHA256", 10),
        ] {
            for plain in [&b""[..], b"hello", &[7; 20_000]] {
                let mut blob = Vec::new();
                let name = crypto.seal("_log_", Some("x"), plain, [1; 12], &mut blob);
                assert!(name.starts_with("_log_") && name.ends_with("-x"), "{name}");
                assert_eq!(blob.len() as u64, crypto.sealed_len(plain.len() as u64));
                let mut whole = blob.clone();
                let range = crypto.open(&name, &mut whole, &mut Vec::new()).unwrap();
                assert_eq!(&whole[range], plain);
                match crypto.open_slice(&name, &mut blob) {
                    Ok(opened) => assert_eq!(opened, plain),
                    Err(error) => assert!(crypto.ecc.is_some(), "{error}"),
                }
            }
        }
    }

    #[test]
    fn names_are_kopias() {
        let mut out = Vec::new();
        let name = default().seal("n", None, b"hello", [0; 12], &mut out);
        assert_eq!(name, "n183bd5a0d452ccfe8d57d9c6cdc5db5d");
        let name = default().seal("xn3_", Some("s0-c1"), b"hello", [0; 12], &mut out);
        assert_eq!(name, "xn3_183bd5a0d452ccfe8d57d9c6cdc5db5d-s0-c1");
    }

    // With error correction a damaged blob opens; without, the error names it.
    #[test]
    fn damage() {
        let corrected = crypto("BLAKE3-256", "AES256-GCM-HMAC-SHA256", 10);
        let mut blob = Vec::new();
        let name = corrected.seal("xn0_", None, &[5; 3000], [1; 12], &mut blob);
        blob[700] ^= 1;
        let range = corrected.open(&name, &mut blob, &mut Vec::new()).unwrap();
        assert_eq!(blob[range], [5; 3000]);

        let mut blob = Vec::new();
        let name = default().seal("xn0_", None, &[5; 3000], [1; 12], &mut blob);
        blob[700] ^= 1;
        let error = default()
            .open(&name, &mut blob, &mut Vec::new())
            .unwrap_err();
        assert_eq!(error.code(), "tag-mismatch");
        assert!(error.to_string().contains(&name), "{error}");
        let error = corrected
            .open(&name, &mut blob, &mut Vec::new())
            .unwrap_err();
        assert!(error.to_string().contains(&name), "{error}");
    }
}
