//! Content hashing: the eleven keyed hash functions of Kopia.
//!
//! The hash of a plaintext is its content ID, or the name of an index blob; the key is the
//! repository's `secret`. Some functions are cut (`BLAKE2B-256-128` is BLAKE2b-256 without its
//! second half), some are not (`BLAKE2S-128` is BLAKE2s with a digest length of 16, other bytes
//! than a cut BLAKE2s-256).
//!
//! Memory: a keyed state of at most 2 KiB in each function and hasher. Invariant: a digest has as
//! many bytes as [`HashFunction::digest_bytes`] says. Mirrors Kopia's `repo/hashing`.

use std::fmt;
use std::ops::Deref;

use hmac::{Hmac, KeyInit, Mac, SimpleHmac};
use sha2::{Sha224, Sha256};
use sha3::{Sha3_224, Sha3_256};

use super::FormatError;

/// The longest digest, in bytes.
pub const HASH_BYTES_MAX: usize = 32;

/// Key stretching of BLAKE3 for secrets under 32 bytes, in Kopia's words.
const BLAKE3_CONTEXT: &str = "kopia blake3 derived key v1";

/// A digest of 1 to 32 bytes; derefs to them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Digest {
    /// Bytes after `len` are zero, so that derived equality holds.
    bytes: [u8; HASH_BYTES_MAX],
    len: u8,
}

impl Digest {
    /// Takes the first `len` bytes of `full`; `len` is at most 32 and at most its length.
    fn cut(full: &[u8], len: usize) -> Self {
        let mut bytes = [0; HASH_BYTES_MAX];
        bytes[..len].copy_from_slice(&full[..len]);
        Self {
            bytes,
            len: len as u8,
        }
    }

    /// Returns the digest in lowercase hex, as in content IDs and blob names.
    pub fn to_hex(&self) -> String {
        hex::encode(&**self)
    }
}

impl Deref for Digest {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

impl AsRef<[u8]> for Digest {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

/// A hash algorithm in progress, keyed.
#[derive(Clone)]
enum State {
    Blake2b(blake2b_simd::State),
    Blake2s(blake2s_simd::State),
    Blake3(Box<blake3::Hasher>),
    HmacSha256(Hmac<Sha256>),
    HmacSha224(Hmac<Sha224>),
    HmacSha3x224(SimpleHmac<Sha3_224>),
    HmacSha3x256(SimpleHmac<Sha3_256>),
}

impl State {
    fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Blake2b(state) => {
                state.update(bytes);
            }
            Self::Blake2s(state) => {
                state.update(bytes);
            }
            Self::Blake3(state) => {
                state.update(bytes);
            }
            Self::HmacSha256(state) => state.update(bytes),
            Self::HmacSha224(state) => state.update(bytes),
            Self::HmacSha3x224(state) => state.update(bytes),
            Self::HmacSha3x256(state) => state.update(bytes),
        }
    }

    fn finish(self, digest_bytes: usize) -> Digest {
        match self {
            Self::Blake2b(state) => Digest::cut(state.finalize().as_bytes(), digest_bytes),
            Self::Blake2s(state) => Digest::cut(state.finalize().as_bytes(), digest_bytes),
            Self::Blake3(state) => Digest::cut(state.finalize().as_bytes(), digest_bytes),
            Self::HmacSha256(state) => Digest::cut(&state.finalize().into_bytes(), digest_bytes),
            Self::HmacSha224(state) => Digest::cut(&state.finalize().into_bytes(), digest_bytes),
            Self::HmacSha3x224(state) => Digest::cut(&state.finalize().into_bytes(), digest_bytes),
            Self::HmacSha3x256(state) => Digest::cut(&state.finalize().into_bytes(), digest_bytes),
        }
    }
}

/// One of Kopia's hash functions with its secret.
#[derive(Clone)]
pub struct HashFunction {
    /// Keyed, nothing hashed yet; cloned for each message.
    keyed: State,
    digest_bytes: usize,
}

impl HashFunction {
    /// Makes the function of the format blob's `hash` with its `secret`, which may be empty.
    ///
    /// Fails for a name that Kopia does not know, and for a secret longer than BLAKE2 takes.
    pub fn new(name: &str, secret: &[u8]) -> Result<Self, FormatError> {
        let (keyed, digest_bytes) = match name {
            "BLAKE2B-256-128" => (blake2b(secret)?, 16),
            "BLAKE2B-256" => (blake2b(secret)?, 32),
            "BLAKE2S-128" => (blake2s(secret, 16)?, 16),
            "BLAKE2S-256" => (blake2s(secret, 32)?, 32),
            "BLAKE3-256" => (blake3(secret), 32),
            "BLAKE3-256-128" => (blake3(secret), 16),
            "HMAC-SHA256" => (State::HmacSha256(keyed_hmac(secret)), 32),
            "HMAC-SHA256-128" => (State::HmacSha256(keyed_hmac(secret)), 16),
            "HMAC-SHA224" => (State::HmacSha224(keyed_hmac(secret)), 28),
            "HMAC-SHA3-224" => (State::HmacSha3x224(keyed_hmac(secret)), 28),
            "HMAC-SHA3-256" => (State::HmacSha3x256(keyed_hmac(secret)), 32),
            _ => {
                return Err(FormatError::Algorithm {
                    kind: "hash",
                    name: name.to_owned(),
                });
            }
        };
        Ok(Self {
            keyed,
            digest_bytes,
        })
    }

    /// Returns the length of every digest, in bytes.
    pub fn digest_bytes(&self) -> usize {
        self.digest_bytes
    }

    /// Returns the hash of `bytes`.
    pub fn hash(&self, bytes: &[u8]) -> Digest {
        let mut hasher = self.hasher();
        hasher.update(bytes);
        hasher.finish()
    }

    /// Starts to hash a message that comes in pieces.
    pub fn hasher(&self) -> Hasher {
        Hasher {
            state: self.keyed.clone(),
            digest_bytes: self.digest_bytes,
        }
    }
}

impl fmt::Debug for HashFunction {
    /// Shows the digest length only; the state holds the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HashFunction")
            .field("digest_bytes", &self.digest_bytes)
            .finish_non_exhaustive()
    }
}

/// The hash of a message that comes in pieces.
#[derive(Clone)]
pub struct Hasher {
    state: State,
    digest_bytes: usize,
}

impl Hasher {
    /// Takes the next piece, of any length.
    pub fn update(&mut self, bytes: &[u8]) {
        self.state.update(bytes);
    }

    /// Returns the hash of all pieces.
    pub fn finish(self) -> Digest {
        self.state.finish(self.digest_bytes)
    }
}

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hasher").finish_non_exhaustive()
    }
}

fn blake2b(secret: &[u8]) -> Result<State, FormatError> {
    check_secret(secret, blake2b_simd::KEYBYTES)?;
    let state = blake2b_simd::Params::new()
        .hash_length(32)
        .key(secret)
        .to_state();
    Ok(State::Blake2b(state))
}

fn blake2s(secret: &[u8], digest_bytes: usize) -> Result<State, FormatError> {
    check_secret(secret, blake2s_simd::KEYBYTES)?;
    let state = blake2s_simd::Params::new()
        .hash_length(digest_bytes)
        .key(secret)
        .to_state();
    Ok(State::Blake2s(state))
}

fn blake3(secret: &[u8]) -> State {
    let key = match secret.first_chunk::<32>() {
        Some(key) => *key,
        None => blake3::derive_key(BLAKE3_CONTEXT, secret),
    };
    State::Blake3(Box::new(blake3::Hasher::new_keyed(&key)))
}

fn keyed_hmac<M: KeyInit>(secret: &[u8]) -> M {
    M::new_from_slice(secret).expect("HMAC takes a key of any length")
}

fn check_secret(secret: &[u8], bytes_max: usize) -> Result<(), FormatError> {
    if secret.len() > bytes_max {
        let reason = format!("{} bytes, at most {bytes_max} are allowed", secret.len());
        return Err(FormatError::malformed("secret", reason));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [(&str, usize); 11] = [
        ("BLAKE2B-256-128", 16),
        ("BLAKE2B-256", 32),
        ("BLAKE2S-128", 16),
        ("BLAKE2S-256", 32),
        ("BLAKE3-256", 32),
        ("BLAKE3-256-128", 16),
        ("HMAC-SHA256", 32),
        ("HMAC-SHA256-128", 16),
        ("HMAC-SHA224", 28),
        ("HMAC-SHA3-224", 28),
        ("HMAC-SHA3-256", 32),
    ];

    fn hex_of(name: &str, secret: &[u8], data: &[u8]) -> String {
        let function = HashFunction::new(name, secret).unwrap();
        function.hash(data).to_hex()
    }

    // The reference's vectors: secret 32 times 0x22, data "hello".
    #[test]
    fn reference_vectors() {
        for (name, want) in [
            ("BLAKE2B-256-128", "183bd5a0d452ccfe8d57d9c6cdc5db5d"),
            ("BLAKE2S-128", "bd02758e6980b596e4af42a335804b59"),
            ("HMAC-SHA256-128", "d06d9f0133fdbee3bc91978452327f25"),
        ] {
            assert_eq!(hex_of(name, &[0x22; 32], b"hello"), want, "{name}");
        }
    }

    // Made with python's hashlib and hmac, and with the blake3 package: secret 32 times 0x22, data
    // "hello".
    #[test]
    fn independent_vectors() {
        for (name, want) in INDEPENDENT {
            assert_eq!(hex_of(name, &[0x22; 32], b"hello"), want, "{name}");
        }
        assert_eq!(
            hex_of("BLAKE3-256", b"short key", b"hello"),
            BLAKE3_SHORT_KEY
        );
        assert_eq!(hex_of("BLAKE2B-256", b"", b"hello"), BLAKE2B_NO_KEY);
    }

    #[test]
    fn lengths_and_pieces() {
        let message: Vec<u8> = (0..5000_u32).map(|i| (i * 7 + 3) as u8).collect();
        for (name, digest_bytes) in ALL {
            let function = HashFunction::new(name, &[7; 32]).unwrap();
            assert_eq!(function.digest_bytes(), digest_bytes, "{name}");
            let whole = function.hash(&message);
            assert_eq!(whole.len(), digest_bytes, "{name}");
            let mut hasher = function.hasher();
            for piece in message.chunks(77) {
                hasher.update(piece);
            }
            let fork = hasher.clone();
            assert_eq!(hasher.finish(), whole, "{name}");
            assert_eq!(fork.finish(), whole, "{name}");
            let other = HashFunction::new(name, &[8; 32]).unwrap();
            assert_ne!(other.hash(&message), whole, "{name}: the secret counts");
        }
    }

    #[test]
    fn blake3_cuts_long_secrets() {
        let long = [9_u8; 40];
        assert_eq!(
            hex_of("BLAKE3-256", &long, b"x"),
            hex_of("BLAKE3-256", &long[..32], b"x")
        );
    }

    #[test]
    fn refuses_unknown_names_and_long_secrets() {
        for name in ["", "MD5", "blake2b-256", "HMAC-SHA512"] {
            let error = HashFunction::new(name, b"").unwrap_err();
            assert_eq!(error.code(), "unsupported-algorithm");
        }
        assert!(HashFunction::new("BLAKE2S-256", &[0; 33]).is_err());
        assert!(HashFunction::new("BLAKE2B-256", &[0; 64]).is_ok());
        assert!(HashFunction::new("BLAKE2B-256", &[0; 65]).is_err());
    }

    const INDEPENDENT: [(&str, &str); 7] = [
        (
            "BLAKE2B-256",
            "183bd5a0d452ccfe8d57d9c6cdc5db5d48a39637716247e3c6dacf695d62eb42",
        ),
        (
            "BLAKE2S-256",
            "3ad21e891466f41c48e8c64d98a7410ec0d711caef01f33a99817d150997002a",
        ),
        (
            "HMAC-SHA256",
            "d06d9f0133fdbee3bc91978452327f25c689d29717baa7e1df99c7108f61e145",
        ),
        (
            "HMAC-SHA224",
            "0654c6518ee3d06a29062dcee6a9c9646ae26db821277bba0e142536",
        ),
        (
            "HMAC-SHA3-224",
            "876f315eb297df26c817d550610f8400a836d59c9c9f44029b83bd70",
        ),
        (
            "HMAC-SHA3-256",
            "9159c17bfdf487d9e8ddf264cdaf0453deb594482aec120148510eedd6719cec",
        ),
        (
            "BLAKE3-256",
            "c0d957efc7ff46eb586344bbabbd842e93109c86e3cbbc6dda1ca76523598f24",
        ),
    ];
    const BLAKE3_SHORT_KEY: &str =
        "a641943cbe52b9239d1b8ccf96fc5b448a8909c7d957a7ea2a250045c27d8e8c";
    const BLAKE2B_NO_KEY: &str = "324dcf027dd4a30a932c441f365a25e86b173defa4b8e58948253471b81b72cf";
}
