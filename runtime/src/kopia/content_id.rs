//! Content IDs in the form in which index blobs store them: one prefix byte and the hash.
//!
//! Kopia shows an ID as text: an optional letter `g`..`z` and the hash in hex. Inside an index the
//! prefix byte is always there, zero when the ID has none, so keys of one repository have one
//! length and sort bytewise; the text sorts alike. Everything that sorts or joins uses the key
//! form. Memory: 34 bytes per ID, no heap. Mirrors Kopia's `id.go` and `content_id_to_bytes.go`.

use std::cmp::Ordering;
use std::fmt;

use crate::kopia::FormatError;
use crate::kopia::blob_id::{PACK_DATA_PREFIX, PACK_METADATA_PREFIX};

/// Longest key: the prefix byte and the longest hash, 32 bytes.
pub const KEY_BYTES_MAX: usize = 33;
/// Longest text: the prefix letter and 64 hex digits.
pub const TEXT_BYTES_MAX: usize = 2 * KEY_BYTES_MAX - 1;
/// Bytes of the hash that serve as IV of the content's encryption.
const IV_BYTES: usize = 16;
/// In [`HEX`]: not a digit.
const NO_DIGIT: u8 = 0xF0;
/// Values of hex digits. Directories name millions of contents, so this is a table.
const HEX: [u8; 256] = hex_digits();

const fn hex_digits() -> [u8; 256] {
    let mut values = [NO_DIGIT; 256];
    let mut digit = 0;
    while digit < 16 {
        values[b"0123456789abcdef"[digit] as usize] = digit as u8;
        values[b"0123456789ABCDEF"[digit] as usize] = digit as u8;
        digit += 1;
    }
    values
}

/// A content ID.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ContentId {
    /// The key; zero behind its end, so that equality may look at all of it.
    key: [u8; KEY_BYTES_MAX],
    key_bytes: u8,
}

impl ContentId {
    /// Makes an ID of an index key: the prefix byte (zero for none) and the hash of 1 to 32 bytes.
    ///
    /// # Errors
    /// A key that is too short or too long, or a prefix that is neither zero nor a letter from `g`
    /// to `z`.
    #[inline]
    pub fn from_key(key: &[u8]) -> Result<Self, FormatError> {
        let Some((&prefix, hash)) = key.split_first() else {
            return Err(bad_key(key));
        };
        if hash.is_empty() || key.len() > KEY_BYTES_MAX || !is_prefix_byte(prefix) {
            return Err(bad_key(key));
        }
        let mut id = Self {
            key: [0; KEY_BYTES_MAX],
            key_bytes: key.len() as u8,
        };
        id.key[..key.len()].copy_from_slice(key);
        Ok(id)
    }

    /// Makes an ID of a prefix and a hash.
    ///
    /// # Errors
    /// As [`ContentId::from_key`].
    pub fn from_hash(prefix: Option<u8>, hash: &[u8]) -> Result<Self, FormatError> {
        if hash.len() >= KEY_BYTES_MAX {
            return Err(bad_key(hash));
        }
        let mut key = [0; KEY_BYTES_MAX];
        key[0] = prefix.unwrap_or(0);
        key[1..=hash.len()].copy_from_slice(hash);
        Self::from_key(&key[..=hash.len()])
    }

    /// Parses the text form: a letter from `g` to `z` when the length is odd, then hex digits.
    ///
    /// # Errors
    /// Text of any other form, and the empty text.
    pub fn parse(text: &str) -> Result<Self, FormatError> {
        Self::parse_bytes(text.as_bytes()).ok_or_else(|| bad_text(text))
    }

    /// Parses the text form; `None` for text of any other form.
    pub fn parse_bytes(text: &[u8]) -> Option<Self> {
        let (prefix, digits) = match text {
            [prefix, digits @ ..] if text.len() % 2 == 1 => (*prefix, digits),
            _ => (0, text),
        };
        let unprefixed = text.len().is_multiple_of(2);
        let key_bytes = 1 + digits.len() / 2;
        if !(2..=KEY_BYTES_MAX).contains(&key_bytes)
            || !(unprefixed || (b'g'..=b'z').contains(&prefix))
        {
            return None;
        }
        let mut key = [0; KEY_BYTES_MAX];
        key[0] = prefix;
        let mut wrong = 0;
        for (byte, pair) in key[1..].iter_mut().zip(digits.chunks_exact(2)) {
            let (high, low) = (HEX[usize::from(pair[0])], HEX[usize::from(pair[1])]);
            wrong |= high | low;
            *byte = (high << 4) | (low & 0xF);
        }
        (wrong & NO_DIGIT == 0).then_some(Self {
            key,
            key_bytes: key_bytes as u8,
        })
    }

    /// Returns the key form: the prefix byte and the hash.
    #[inline]
    pub fn key(&self) -> &[u8] {
        &self.key[..usize::from(self.key_bytes)]
    }

    /// Returns the hash.
    #[inline]
    pub fn hash(&self) -> &[u8] {
        &self.key[1..usize::from(self.key_bytes)]
    }

    /// Returns the prefix letter.
    #[inline]
    pub fn prefix(&self) -> Option<u8> {
        (self.key[0] != 0).then_some(self.key[0])
    }

    /// Returns what the content is encrypted with: the last 16 bytes of the hash.
    pub fn iv(&self) -> &[u8] {
        let hash = self.hash();
        &hash[hash.len().saturating_sub(IV_BYTES)..]
    }

    /// Returns the prefix of the packs that hold such contents: `q` for metadata, `p` for data.
    pub fn pack_prefix(&self) -> &'static str {
        match self.prefix() {
            Some(_) => PACK_METADATA_PREFIX,
            None => PACK_DATA_PREFIX,
        }
    }

    /// Writes the text form into `buffer` and returns the part that it fills; no heap.
    pub fn text<'a>(&self, buffer: &'a mut [u8; TEXT_BYTES_MAX]) -> &'a str {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut end = 0;
        if let Some(prefix) = self.prefix() {
            buffer[0] = prefix;
            end = 1;
        }
        for byte in self.hash() {
            buffer[end] = DIGITS[usize::from(byte >> 4)];
            buffer[end + 1] = DIGITS[usize::from(byte & 15)];
            end += 2;
        }
        std::str::from_utf8(&buffer[..end]).expect("a letter and hex digits are UTF-8")
    }
}

/// Returns whether `byte` may begin a key: zero or a letter from `g` to `z`.
#[inline]
pub(crate) fn is_prefix_byte(byte: u8) -> bool {
    byte == 0 || byte.is_ascii_lowercase() && byte >= b'g'
}

#[cold]
fn bad_key(key: &[u8]) -> FormatError {
    let shown = &key[..key.len().min(KEY_BYTES_MAX)];
    FormatError::malformed("content ID", format!("{} is no key", hex::encode(shown)))
}

#[cold]
fn bad_text(text: &str) -> FormatError {
    let shown: String = text.chars().take(TEXT_BYTES_MAX).collect();
    FormatError::malformed("content ID", format!("{shown:?} is no content ID"))
}

impl PartialOrd for ContentId {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ContentId {
    #[inline]
    fn cmp(&self, other: &Self) -> Ordering {
        self.key().cmp(other.key())
    }
}

impl fmt::Display for ContentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.text(&mut [0; TEXT_BYTES_MAX]))
    }
}

impl fmt::Debug for ContentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ContentId({self})")
    }
}

impl std::str::FromStr for ContentId {
    type Err = FormatError;

    fn from_str(text: &str) -> Result<Self, FormatError> {
        Self::parse(text)
    }
}

impl serde::Serialize for ContentId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for ContentId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_two_forms_of_an_id() {
        let id = ContentId::parse("k0f0e0d0c0b0a09080706050403020100").unwrap();
        assert_eq!(id.prefix(), Some(b'k'));
        assert_eq!(id.key().len(), 17);
        assert_eq!(id.key()[0], 0x6b);
        assert_eq!(id.iv(), id.hash());
        assert_eq!(id.pack_prefix(), "q");
        assert_eq!(id.to_string(), "k0f0e0d0c0b0a09080706050403020100");
        let plain = ContentId::parse("00112233445566778899aabbccddeeff").unwrap();
        assert_eq!(plain.prefix(), None);
        assert_eq!(plain.key()[0], 0);
        assert_eq!(plain.pack_prefix(), "p");
        assert!(plain < id);
        let long = ContentId::parse(&"ab".repeat(32)).unwrap();
        assert_eq!(long.iv(), [0xab; 16]);
        assert_eq!(serde_json::to_string(&plain).unwrap().len(), 34);
    }

    #[test]
    fn what_is_no_id() {
        for text in [
            "",
            "k",
            "a00",
            "{00",
            "K00",
            "0g",
            "kzz",
            "\0ab",
            "é",
            &"ab".repeat(33),
        ] {
            assert!(ContentId::parse(text).is_err(), "{text:?}");
        }
        for key in [&[][..], &[0], &[b'f', 1], &[b'{', 1], &[1; 34], &[0; 34]] {
            assert!(ContentId::from_key(key).is_err(), "{key:?}");
        }
        assert!(ContentId::from_hash(None, &[0; 33]).is_err());
        assert!(ContentId::from_hash(Some(b'k'), &[]).is_err());
    }

    proptest! {
        /// Text and key come back, and both forms sort alike.
        #[test]
        fn forms_round_and_order_agree(
            a in "[g-z]?([0-9a-f]{2}){16}", b in "[g-z]?([0-9a-f]{2}){16}",
        ) {
            let (x, y) = (ContentId::parse(&a).unwrap(), ContentId::parse(&b).unwrap());
            prop_assert_eq!(x.to_string(), a.clone());
            prop_assert_eq!(ContentId::from_key(x.key()).unwrap(), x);
            prop_assert_eq!(x.cmp(&y), a.cmp(&b));
        }
    }
}
