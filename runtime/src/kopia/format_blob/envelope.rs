//! The envelope around the inner format and `kopia.blobcfg`: AES-256-GCM with keys from the
//! password key.
//!
//! Memory: a copy of the content, wiped when it is the inner format. Invariant: what opens was
//! sealed with this password for this repository. Mirrors Kopia's `internal/crypto/aesgcm.go`.

use zeroize::Zeroizing;

use crate::kopia::FormatError;
use crate::kopia::encryption::{aes_gcm_open, aes_gcm_seal, hkdf_sha256};

/// The only envelope that Kopia writes.
pub(super) const AES256_GCM: &str = "AES256_GCM";

/// Refuses envelopes that we cannot open.
pub(super) fn check_algorithm(name: &str) -> Result<(), FormatError> {
    if name == AES256_GCM {
        return Ok(());
    }
    Err(FormatError::Algorithm {
        kind: "format encryption",
        name: name.to_owned(),
    })
}

/// Opens the envelope; `None` for a wrong key or changed bytes.
pub(super) fn open(
    format_encryption_key: &[u8; 32],
    unique_id: &[u8],
    sealed: &[u8],
) -> Option<Vec<u8>> {
    let (key, aad) = keys(format_encryption_key, unique_id);
    let mut content = sealed.to_vec();
    aes_gcm_open(&key, &aad, &mut content).ok()?;
    Some(content)
}

/// Seals `content`. The nonce must be random.
pub(super) fn seal(
    format_encryption_key: &[u8; 32],
    unique_id: &[u8],
    nonce: [u8; 12],
    content: &[u8],
) -> Vec<u8> {
    let (key, aad) = keys(format_encryption_key, unique_id);
    let mut sealed = Vec::new();
    aes_gcm_seal(&key, &aad, nonce, content, &mut sealed);
    sealed
}

/// Returns the key, and the associated data that ties the envelope to the repository.
fn keys(format_encryption_key: &[u8; 32], unique_id: &[u8]) -> (Zeroizing<[u8; 32]>, [u8; 32]) {
    let key = hkdf_sha256(format_encryption_key, unique_id, b"AES");
    let aad = hkdf_sha256(format_encryption_key, unique_id, b"CHECKSUM");
    (Zeroizing::new(key), aad)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reference_keys() {
        let key = "ffe609844d93eddf89ad495da77bd83e8cec100e27b03a6257d505de6e36094d";
        let key: [u8; 32] = hex::decode(key).unwrap().try_into().unwrap();
        let unique_id: [u8; 32] = std::array::from_fn(|i| i as u8);
        let (aes_key, aad) = keys(&key, &unique_id);
        assert_eq!(
            hex::encode(*aes_key),
            "40b4dbe53119dcba4a63bfdcda08da6f0c89041d64355962e8a2076796626bc2"
        );
        assert_eq!(
            hex::encode(aad),
            "d0d652b890ca4d62b340f8466bb95997f7a4a61a1c005a5c7153601dea229045"
        );
    }

    #[test]
    fn opens_what_it_seals() {
        let sealed = seal(&[1; 32], b"id", [2; 12], b"content");
        assert_eq!(open(&[1; 32], b"id", &sealed).unwrap(), b"content");
        assert!(open(&[1; 32], b"di", &sealed).is_none());
        assert!(open(&[2; 32], b"id", &sealed).is_none());
        assert!(open(&[1; 32], b"id", &sealed[1..]).is_none());
        assert!(open(&[1; 32], b"id", b"").is_none());
    }
}
