//! Encryption of contents and blobs, and the envelope of the format blobs.
//!
//! Both of Kopia's algorithms are AEADs with a key per item, made from the master key and the
//! item's IV; the IV is also the associated data. An item opens under its own name only. Small
//! items are opened in one go and in place; index blobs of hundreds of MB go through [`Opener`] and
//! [`Sealer`] piece by piece.
//!
//! Memory: under 2 KiB of state for each item, nothing that grows. Invariant: plaintext is never
//! handed out by the one-shot functions unless the tag fits; users of [`Opener`] must not use its
//! output before [`Opener::finish`]. Mirrors Kopia's `repo/encryption` and
//! `internal/crypto/aesgcm.go`.

mod stream;

use std::fmt;

use hkdf::Hkdf;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

use self::stream::Aead;
use super::FormatError;

/// What encryption adds to every item, in bytes: nonce and tag.
pub const OVERHEAD_BYTES: usize = NONCE_BYTES + TAG_BYTES;

/// Length of the nonce in front of the ciphertext.
pub const NONCE_BYTES: usize = 12;

/// Length of the authentication tag behind the ciphertext.
pub const TAG_BYTES: usize = 16;

/// HKDF salt of the secret that item keys are made from; Kopia puts the purpose there.
const ENCRYPTION_PURPOSE: &[u8] = b"encryption";

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Algorithm {
    AesGcm,
    ChaChaPoly,
}

/// One of Kopia's encryption algorithms with the repository's master key.
#[derive(Clone)]
pub struct Encryption {
    algorithm: Algorithm,
    /// HMAC keyed with the derived secret; gives each item's key.
    item_keys: Hmac<Sha256>,
}

impl Encryption {
    /// Makes the algorithm of the format blob's `encryption` with its `masterKey`.
    ///
    /// Fails for a name that current Kopia does not know.
    pub fn new(algorithm: &str, master_key: &[u8]) -> Result<Self, FormatError> {
        let algorithm = match algorithm {
            "AES256-GCM-HMAC-SHA256" => Algorithm::AesGcm,
            "CHACHA20-POLY1305-HMAC-SHA256" => Algorithm::ChaChaPoly,
            _ => {
                return Err(FormatError::Algorithm {
                    kind: "encryption",
                    name: algorithm.to_owned(),
                });
            }
        };
        let secret = Zeroizing::new(hkdf_sha256(master_key, ENCRYPTION_PURPOSE, b""));
        let item_keys = Hmac::new_from_slice(&*secret).expect("HMAC takes a key of any length");
        Ok(Self {
            algorithm,
            item_keys,
        })
    }

    /// Opens `sealed` (nonce, ciphertext, tag) in place and returns the plaintext inside it.
    ///
    /// Fails when `sealed` is shorter than [`OVERHEAD_BYTES`] and when the tag does not fit; then
    /// no plaintext is left in `sealed`. The error's `what` is the IV in hex: callers put the
    /// item's name there.
    pub fn open<'a>(&self, iv: &[u8], sealed: &'a mut [u8]) -> Result<&'a mut [u8], FormatError> {
        open_in_place(sealed, |nonce| self.aead(iv, nonce)).ok_or_else(|| tag_error(iv))
    }

    /// Checks the tag of `sealed` (nonce, ciphertext, tag) and leaves the bytes as they are: for
    /// those who copy an item without reading it. Half the cost of [`Encryption::open`].
    ///
    /// # Errors
    /// As [`Encryption::open`].
    pub fn verify(&self, iv: &[u8], sealed: &[u8]) -> Result<(), FormatError> {
        let fits = || {
            let (nonce, rest) = sealed.split_first_chunk::<NONCE_BYTES>()?;
            let (text, tag) = rest.split_last_chunk::<TAG_BYTES>()?;
            let mut aead = self.aead(iv, nonce);
            aead.authenticate(text);
            aead.verify(tag).then_some(())
        };
        fits().ok_or_else(|| tag_error(iv))
    }

    /// Appends nonce, ciphertext and tag of `plaintext` to `out`. The nonce must be random.
    ///
    /// Memory: `out` grows by `plaintext` and [`OVERHEAD_BYTES`].
    pub fn seal(&self, iv: &[u8], nonce: [u8; NONCE_BYTES], plaintext: &[u8], out: &mut Vec<u8>) {
        seal_into(self.aead(iv, &nonce), nonce, plaintext, out);
    }

    /// Starts to open an item that comes in pieces; its nonce has been read.
    pub fn opener(&self, iv: &[u8], nonce: &[u8; NONCE_BYTES]) -> Opener {
        Opener {
            aead: self.aead(iv, nonce),
            iv: iv.to_vec(),
        }
    }

    /// Starts to seal an item that comes in pieces; the caller writes the nonce first. It must be
    /// random.
    pub fn sealer(&self, iv: &[u8], nonce: &[u8; NONCE_BYTES]) -> Sealer {
        Sealer {
            aead: self.aead(iv, nonce),
        }
    }

    fn aead(&self, iv: &[u8], nonce: &[u8; NONCE_BYTES]) -> Aead {
        let mut item_key = self.item_keys.clone();
        item_key.update(iv);
        let key: Zeroizing<[u8; 32]> = Zeroizing::new(item_key.finalize().into_bytes().into());
        match self.algorithm {
            Algorithm::AesGcm => Aead::aes_gcm(&key, nonce, iv),
            Algorithm::ChaChaPoly => Aead::chacha_poly(&key, nonce, iv),
        }
    }
}

impl fmt::Debug for Encryption {
    /// Shows the algorithm only.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Encryption")
            .field("algorithm", &self.algorithm)
            .finish_non_exhaustive()
    }
}

/// Opens one item that comes in pieces. Its output counts only after [`Opener::finish`].
pub struct Opener {
    aead: Aead,
    iv: Vec<u8>,
}

impl Opener {
    /// Decrypts the next piece of ciphertext, of any length, in place.
    pub fn decrypt(&mut self, piece: &mut [u8]) {
        self.aead.decrypt(piece);
    }

    /// Takes in the next piece of ciphertext and leaves it as it is; instead of
    /// [`Opener::decrypt`] for all of an item.
    pub fn authenticate(&mut self, piece: &[u8]) {
        self.aead.authenticate(piece);
    }

    /// Checks the tag, in constant time. On failure everything decrypted must be thrown away.
    pub fn finish(self, tag: &[u8; TAG_BYTES]) -> Result<(), FormatError> {
        if self.aead.verify(tag) {
            Ok(())
        } else {
            Err(tag_error(&self.iv))
        }
    }
}

impl fmt::Debug for Opener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opener").finish_non_exhaustive()
    }
}

/// Seals one item that comes in pieces, at most 64 GiB.
pub struct Sealer {
    aead: Aead,
}

impl Sealer {
    /// Encrypts the next piece, of any length, in place.
    pub fn encrypt(&mut self, piece: &mut [u8]) {
        self.aead.encrypt(piece);
    }

    /// Returns the tag, which is written behind the ciphertext.
    pub fn finish(self) -> [u8; TAG_BYTES] {
        self.aead.tag()
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealer").finish_non_exhaustive()
    }
}

/// Opens nonce, ciphertext and tag with AES-256-GCM under an explicit key; leaves the plaintext.
///
/// On failure `sealed` is emptied. The error's `what` is the associated data in hex.
pub fn aes_gcm_open(key: &[u8; 32], aad: &[u8], sealed: &mut Vec<u8>) -> Result<(), FormatError> {
    match open_in_place(sealed, |nonce| Aead::aes_gcm(key, nonce, aad)) {
        Some(plaintext) => {
            let plain_bytes = plaintext.len();
            sealed.copy_within(NONCE_BYTES..NONCE_BYTES + plain_bytes, 0);
            sealed.truncate(plain_bytes);
            Ok(())
        }
        None => {
            sealed.clear();
            Err(tag_error(aad))
        }
    }
}

/// Appends nonce, ciphertext and tag of `plaintext` to `out`: AES-256-GCM under an explicit key.
pub fn aes_gcm_seal(
    key: &[u8; 32],
    aad: &[u8],
    nonce: [u8; NONCE_BYTES],
    plaintext: &[u8],
    out: &mut Vec<u8>,
) {
    seal_into(Aead::aes_gcm(key, &nonce, aad), nonce, plaintext, out);
}

/// Derives 32 bytes with HKDF-SHA256.
pub fn hkdf_sha256(ikm: &[u8], salt: &[u8], info: &[u8]) -> [u8; 32] {
    let mut key = [0; 32];
    Hkdf::<Sha256>::new(Some(salt), ikm)
        .expand(info, &mut key)
        .expect("32 bytes are one block of HKDF");
    key
}

/// Opens in place; `None` when too short or the tag does not fit, then the plaintext is
/// overwritten.
fn open_in_place(
    sealed: &mut [u8],
    start: impl FnOnce(&[u8; NONCE_BYTES]) -> Aead,
) -> Option<&mut [u8]> {
    let (nonce, rest) = sealed.split_first_chunk_mut::<NONCE_BYTES>()?;
    let (text, tag) = rest.split_last_chunk_mut::<TAG_BYTES>()?;
    let mut aead = start(nonce);
    aead.decrypt(text);
    if aead.verify(tag) {
        Some(text)
    } else {
        text.fill(0);
        None
    }
}

fn seal_into(mut aead: Aead, nonce: [u8; NONCE_BYTES], plaintext: &[u8], out: &mut Vec<u8>) {
    out.reserve_exact(plaintext.len() + OVERHEAD_BYTES);
    out.extend_from_slice(&nonce);
    let text_start = out.len();
    out.extend_from_slice(plaintext);
    aead.encrypt(&mut out[text_start..]);
    out.extend_from_slice(&aead.tag());
}

fn tag_error(iv: &[u8]) -> FormatError {
    FormatError::Tag {
        what: hex::encode(iv),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const AES: &str = "AES256-GCM-HMAC-SHA256";
    const CHACHA: &str = "CHACHA20-POLY1305-HMAC-SHA256";
    const MASTER_KEY: &[u8] = b"01234567890123456789012345678901";
    const IV: &[u8] = b"aabbccddeeffgghhiijjkkllmmnnoopp";

    fn both() -> [Encryption; 2] {
        [AES, CHACHA].map(|name| Encryption::new(name, MASTER_KEY).unwrap())
    }

    fn message(len: usize) -> Vec<u8> {
        (0..len).map(|i| (i * 7 + i / 251) as u8).collect()
    }

    // Kopia's own test vectors: both ciphertexts open to "foo", and seal to the same bytes.
    #[test]
    fn kopia_vectors() {
        for (name, sealed) in [
            (
                AES,
                "e43ba07f85a6d70c5f1102ca06cf19c597e5f91e527b21f00fb76e8bec3fd1",
            ),
            (
                CHACHA,
                "118359f3d4d589d939efbbc3168ae4c77c51bcebce6845fe6ef5d11342faa6",
            ),
        ] {
            let encryption = Encryption::new(name, MASTER_KEY).unwrap();
            let sealed = hex::decode(sealed).unwrap();
            let mut opened = sealed.clone();
            assert_eq!(encryption.open(IV, &mut opened).unwrap(), b"foo", "{name}");
            let mut out = vec![9];
            encryption.seal(IV, *sealed.first_chunk().unwrap(), b"foo", &mut out);
            assert_eq!(out[1..], sealed, "{name}");
        }
    }

    #[test]
    fn derived_keys() {
        let secret = hkdf_sha256(MASTER_KEY, b"encryption", b"");
        let want = "88aac0fcc646ffc04813cc17f4c7a17f8a73b53e4add438898256a7c87ad45d2";
        assert_eq!(hex::encode(secret), want);
        let key = hkdf_sha256(
            b"ABCDEFGHIJKLMNOP",
            b"0123456789012345",
            b"the-test-purpose",
        );
        let want = "828769ee8969bc37f11dbaa32838f8db6c19daa6e3ae5f5eed2da2d94d8faddb";
        assert_eq!(hex::encode(key), want);
    }

    // Test case 16 of the GCM specification: 60 bytes, 20 bytes of associated data.
    #[test]
    fn gcm_specification_vector() {
        let key = hex::decode("feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308");
        let nonce = hex::decode("cafebabefacedbaddecaf888").unwrap();
        let aad = hex::decode("feedfacedeadbeeffeedfacedeadbeefabaddad2").unwrap();
        let plain = hex::decode(concat!(
            "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72",
            "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39"
        ))
        .unwrap();
        let want = hex::decode(concat!(
            "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa",
            "8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662",
            "76fc6ece0f4e1768cddf8853bb2d551b"
        ))
        .unwrap();
        let key: [u8; 32] = key.unwrap().try_into().unwrap();
        let mut sealed = Vec::new();
        aes_gcm_seal(
            &key,
            &aad,
            nonce.clone().try_into().unwrap(),
            &plain,
            &mut sealed,
        );
        assert_eq!(sealed[..12], nonce);
        assert_eq!(sealed[12..], want);
        aes_gcm_open(&key, &aad, &mut sealed).unwrap();
        assert_eq!(sealed, plain);
    }

    // Section 2.8.2 of RFC 8439 checked through the core, as its key is not derived.
    #[test]
    fn chacha_specification_vector() {
        let key: [u8; 32] = std::array::from_fn(|i| 0x80 + i as u8);
        let nonce = hex::decode("070000004041424344454647").unwrap();
        let aad = hex::decode("50515253c0c1c2c3c4c5c6c7").unwrap();
        let mut text = b"Ladies and Gentlemen of the class of '99: If I could offer you \
            only one tip for the future, sunscreen would be it."
            .to_vec();
        let mut aead = Aead::chacha_poly(&key, &nonce.try_into().unwrap(), &aad);
        aead.encrypt(&mut text);
        assert_eq!(hex::encode(&text[..16]), "d31a8d34648e60db7b86afbc53ef7ec2");
        assert_eq!(hex::encode(aead.tag()), "1ae10b594f09e26a7e902ecbd0600691");
    }

    // Every changed bit fails the tag, and nothing of the plaintext stays behind.
    #[test]
    fn changed_bytes_fail() {
        for encryption in both() {
            let plain = message(100);
            let mut sealed = Vec::new();
            encryption.seal(IV, [3; 12], &plain, &mut sealed);
            for at in 0..sealed.len() {
                let mut changed = sealed.clone();
                changed[at] ^= 1 << (at % 8);
                assert!(encryption.verify(IV, &changed).is_err());
                let error = encryption.open(IV, &mut changed).unwrap_err();
                assert_eq!(error.code(), "tag-mismatch");
                assert!(changed[12..112].iter().all(|byte| *byte == 0));
            }
            assert!(encryption.open(b"another iv", &mut sealed.clone()).is_err());
            for len in 0..sealed.len() {
                assert!(encryption.open(IV, &mut sealed[..len].to_vec()).is_err());
                assert!(encryption.verify(IV, &sealed[..len]).is_err());
            }
        }
        let mut short = vec![0; 27];
        assert!(aes_gcm_open(&[0; 32], b"", &mut short).is_err());
        assert!(short.is_empty());
    }

    // Pieces may be worked on in other threads.
    #[test]
    fn streams_can_be_sent() {
        fn check<T: Send>() {}
        check::<Opener>();
        check::<Sealer>();
        check::<Encryption>();
        check::<crate::kopia::hashing::Hasher>();
    }

    #[test]
    fn refuses_unknown_algorithms() {
        for name in ["", "NONE", "SALSA20-HMAC", "AES256_GCM"] {
            let error = Encryption::new(name, MASTER_KEY).unwrap_err();
            assert_eq!(error.code(), "unsupported-algorithm");
        }
    }

    fn streamed(encryption: &Encryption, plain: &[u8], cuts: &[usize]) -> (Vec<u8>, [u8; 16]) {
        let mut sealer = encryption.sealer(IV, &[5; 12]);
        let mut text = plain.to_vec();
        let mut rest = text.as_mut_slice();
        for cut in cuts {
            let (piece, after) = rest.split_at_mut((*cut).min(rest.len()));
            sealer.encrypt(piece);
            rest = after;
        }
        sealer.encrypt(rest);
        (text, sealer.finish())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]

        // Pieces of any length give the same bytes and tag as one go.
        #[test]
        fn streaming_equals_one_shot(
            len in prop_oneof![0..70_usize, 8100..8300_usize, 0..40_000_usize],
            cuts in proptest::collection::vec(prop_oneof![0..40_usize, 0..9000_usize], 0..8),
        ) {
            for encryption in both() {
                let plain = message(len);
                let mut sealed = Vec::new();
                encryption.seal(IV, [5; 12], &plain, &mut sealed);
                let (text, tag) = streamed(&encryption, &plain, &cuts);
                prop_assert_eq!(&sealed[12..12 + len], &text[..]);
                prop_assert_eq!(&sealed[12 + len..], &tag[..]);

                let mut opener = encryption.opener(IV, &[5; 12]);
                let mut opened = text.clone();
                for piece in opened.chunks_mut(cuts.first().copied().unwrap_or(0) + 1) {
                    opener.decrypt(piece);
                }
                prop_assert_eq!(&opened, &plain);
                prop_assert!(opener.finish(&tag).is_ok());
                prop_assert!(encryption.verify(IV, &sealed).is_ok());
                prop_assert_eq!(&*encryption.open(IV, &mut sealed).unwrap(), &plain[..]);
            }
        }
    }
}
