//! Replicas of the format blob inside packs, in repositories born before Kopia 0.9.
//!
//! Where `enablePasswordChange` is false, each new pack begins with one, and recovery tools rely on
//! it. The HMAC's key is public: it tells a replica from other bytes, it proves nothing.
//!
//! Memory: a copy of the format blob, at most 65 kB. Mirrors `addFormatBlobChecksumAndLength` and
//! `RecoverFormatBlob` of Kopia's `repo/format/format_blob.go`.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::FORMAT_BLOB_BYTES_MAX;
use crate::kopia::FormatError;

const CHECKSUM_KEY: &[u8] = b"kopia-repository";
const CHECKSUM_BYTES: usize = 32;
const LENGTH_BYTES: usize = 2;

/// How many bytes at the start or end of a pack can hold a replica.
pub const REPLICA_WINDOW_BYTES: usize = 65_536;

/// Returns what a pack begins with, from the bytes of `kopia.repository` as they are stored.
///
/// Fails when they are too long for it; Kopia then fails to open the repository.
pub fn replica_of(format_blob: &[u8]) -> Result<Vec<u8>, FormatError> {
    if format_blob.len() > FORMAT_BLOB_BYTES_MAX {
        let reason = format!("{} bytes do not fit a replica", format_blob.len());
        return Err(FormatError::malformed("kopia.repository", reason));
    }
    let length = ((format_blob.len() + CHECKSUM_BYTES) as u16).to_le_bytes();
    let mut replica = Vec::with_capacity(format_blob.len() + CHECKSUM_BYTES + 2 * LENGTH_BYTES);
    replica.extend_from_slice(&length);
    replica.extend_from_slice(format_blob);
    replica.extend_from_slice(&checksum(format_blob).finalize().into_bytes());
    replica.extend_from_slice(&length);
    Ok(replica)
}

/// Finds a replica at the start of `window`, else at its end; returns the format blob in it.
///
/// `window` is the first or the last [`REPLICA_WINDOW_BYTES`] of a pack, or all of it.
pub fn find_replica(window: &[u8]) -> Option<&[u8]> {
    at_start(window).or_else(|| at_end(window))
}

fn at_start(window: &[u8]) -> Option<&[u8]> {
    let (length, rest) = window.split_first_chunk::<LENGTH_BYTES>()?;
    verified(rest.get(..usize::from(u16::from_le_bytes(*length)))?)
}

fn at_end(window: &[u8]) -> Option<&[u8]> {
    let (rest, length) = window.split_last_chunk::<LENGTH_BYTES>()?;
    let start = rest.len().checked_sub(u16::from_le_bytes(*length).into())?;
    verified(rest.get(start..)?)
}

fn verified(checksummed: &[u8]) -> Option<&[u8]> {
    let (format_blob, sum) = checksummed.split_last_chunk::<CHECKSUM_BYTES>()?;
    checksum(format_blob).verify_slice(sum).ok()?;
    Some(format_blob)
}

fn checksum(format_blob: &[u8]) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(CHECKSUM_KEY).expect("HMAC takes any key");
    mac.update(format_blob);
    mac
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn found_at_both_ends() {
        let replica = replica_of(b"{format}").unwrap();
        assert_eq!(replica.len(), 8 + 32 + 4);
        assert_eq!(replica[..2], [40, 0]);
        let front = [&replica[..], &[7; 100]].concat();
        assert_eq!(find_replica(&front).unwrap(), b"{format}");
        let back = [&[7; 100], &replica[..]].concat();
        assert_eq!(find_replica(&back).unwrap(), b"{format}");
        let mut changed = front.clone();
        changed[5] ^= 1;
        assert!(find_replica(&changed).is_none());
        for bytes in [&[][..], &[0], &[0, 0], &[0xFF; 50], &[0; 64]] {
            assert!(find_replica(bytes).is_none());
        }
    }

    #[test]
    fn longest() {
        let longest = vec![1; FORMAT_BLOB_BYTES_MAX];
        let replica = replica_of(&longest).unwrap();
        assert!(replica.len() <= REPLICA_WINDOW_BYTES);
        assert_eq!(find_replica(&replica).unwrap(), longest);
        assert!(replica_of(&vec![1; FORMAT_BLOB_BYTES_MAX + 1]).is_err());
    }
}
