//! The key that the password gives: the outermost key of a repository.
//!
//! Runs once per process, before any buffer exists; scrypt's memory is the largest single piece
//! that opening a repository needs, and it is free again afterwards.
//!
//! Memory: scrypt at most `memory_bytes`, never below 4 MiB; PBKDF2 next to nothing. Invariant: the
//! key does not depend on the memory given. Mirrors Kopia's `internal/crypto` (`scrypt.go`,
//! `pbkdf2.go`).

use pbkdf2::pbkdf2_hmac;
use sha2::Sha256;

use super::FormatError;
use super::scrypt::{scrypt, table_bytes};

/// Kopia's default key derivation.
pub const SCRYPT: &str = "scrypt-65536-8-1";

/// The other one that Kopia knows.
pub const PBKDF2: &str = "pbkdf2-sha256-600000";

/// The least memory with which a scrypt key can be derived, in bytes.
pub const MEMORY_BYTES_MIN: usize = ((128 * SCRYPT_R) << SCRYPT_LOG_N) / SPARSITY_MAX;

const SCRYPT_LOG_N: u8 = 16;
const SCRYPT_R: usize = 8;

/// One block in so many is kept at the sparsest: 4 MiB, at about three times the time.
const SPARSITY_MAX: usize = 16;

const PBKDF2_ROUNDS: u32 = 600_000;

/// Kopia refuses shorter salts.
const SALT_BYTES_MIN: usize = 16;

/// Derives the format encryption key: from the password, salted with the repository's unique ID.
///
/// Memory: at most `memory_bytes` and a few KiB; as much of it as helps. Takes 0.2 s with 16 MiB,
/// 0.4 s with 4 MiB. Fails with [`FormatError::Memory`] under [`MEMORY_BYTES_MIN`], with
/// [`FormatError::Algorithm`] for another key algorithm.
pub fn derive_password_key(
    key_algorithm: &str,
    password: &[u8],
    unique_id: &[u8],
    memory_bytes: usize,
) -> Result<[u8; 32], FormatError> {
    if key_algorithm != SCRYPT && key_algorithm != PBKDF2 {
        return Err(FormatError::Algorithm {
            kind: "key derivation",
            name: key_algorithm.to_owned(),
        });
    }
    if unique_id.len() < SALT_BYTES_MIN {
        let reason = format!(
            "{} bytes, at least {SALT_BYTES_MIN} are needed",
            unique_id.len()
        );
        return Err(FormatError::malformed("uniqueID", reason));
    }
    let mut key = [0; 32];
    if key_algorithm == PBKDF2 {
        pbkdf2_hmac::<Sha256>(password, unique_id, PBKDF2_ROUNDS, &mut key);
    } else {
        let sparsity = sparsity_for(memory_bytes)?;
        scrypt(
            password,
            unique_id,
            SCRYPT_LOG_N,
            SCRYPT_R,
            sparsity,
            &mut key,
        );
    }
    Ok(key)
}

/// Returns the smallest number of blocks of which one is kept, so that the table fits.
fn sparsity_for(memory_bytes: usize) -> Result<usize, FormatError> {
    let mut sparsity = 1;
    while table_bytes(SCRYPT_LOG_N, SCRYPT_R, sparsity) > memory_bytes {
        sparsity *= 2;
        if sparsity > SPARSITY_MAX {
            return Err(FormatError::Memory {
                needed_bytes: MEMORY_BYTES_MIN,
                given_bytes: memory_bytes,
            });
        }
    }
    Ok(sparsity)
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNIQUE_ID: [u8; 32] = {
        let mut id = [0; 32];
        let mut i = 0;
        while i < 32 {
            id[i] = i as u8;
            i += 1;
        }
        id
    };

    #[test]
    fn sparsity_follows_memory() {
        for (memory_mib, want) in [
            (1000, 1),
            (64, 1),
            (63, 2),
            (32, 2),
            (16, 4),
            (8, 8),
            (4, 16),
        ] {
            assert_eq!(sparsity_for(memory_mib << 20).unwrap(), want);
        }
        assert_eq!(MEMORY_BYTES_MIN, 4 << 20);
        let error = derive_password_key(SCRYPT, b"x", &UNIQUE_ID, (4 << 20) - 1).unwrap_err();
        assert_eq!(error.code(), "memory-too-small");
        assert!(error.to_string().contains("4194304"), "{error}");
    }

    #[test]
    fn pbkdf2_reference_key() {
        let key = derive_password_key(PBKDF2, b"static-passw0rd", &UNIQUE_ID, 0).unwrap();
        let want = "518d6d7b82de0409ec8e6ac75d7c8bbffc679b706969d9122bf26bfdccaa034b";
        assert_eq!(hex::encode(key), want);
    }

    #[test]
    fn refuses_others() {
        for name in ["", "scrypt-1024-8-1", "pbkdf2"] {
            let error = derive_password_key(name, b"x", &UNIQUE_ID, 64 << 20).unwrap_err();
            assert_eq!(error.code(), "unsupported-algorithm");
        }
        let error = derive_password_key(PBKDF2, b"x", &UNIQUE_ID[..15], 0).unwrap_err();
        assert_eq!(error.code(), "malformed");
    }
}
