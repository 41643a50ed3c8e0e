//! Object IDs: what directories, snapshots and indirect objects name.
//!
//! `"I"* ["Z"] ["D"] contentID`. Each `I` is one level of indirection: the object without it is an
//! index object ([`super::indirect_object`]) that lists the parts. `Z` says that the object itself
//! is compressed, `D` is left from old days and says nothing. Memory: 36 bytes, no heap. Mirrors
//! Kopia's `repo/object/objectid.go`.

use std::fmt;

use super::FormatError;
use super::content_id::ContentId;

/// Most levels of indirection. Kopia's smallest parts have some KB and an index entry some 80
/// bytes, so three levels are more than any object needs.
pub const INDIRECTIONS_MAX: u8 = 8;

/// Bytes shown of a text that is no object ID.
const SHOWN_BYTES_MAX: usize = 80;

/// An object ID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ObjectId {
    /// Levels of indirection, at most [`INDIRECTIONS_MAX`].
    pub indirections: u8,
    /// Whether the object is compressed as a whole; never with an indirection.
    pub compressed: bool,
    /// The content: of the object itself, or of the innermost index object.
    pub content: ContentId,
}

impl ObjectId {
    /// Makes the ID of an object that is one content as it is.
    pub fn direct(content: ContentId) -> Self {
        Self {
            indirections: 0,
            compressed: false,
            content,
        }
    }

    /// Parses the text form.
    ///
    /// # Errors
    /// Text of another form, both `I` and `Z`, and more than [`INDIRECTIONS_MAX`] levels.
    pub fn parse(text: &[u8]) -> Result<Self, FormatError> {
        let levels = text.iter().take_while(|byte| **byte == b'I').count();
        let rest = text.get(levels..).unwrap_or_default();
        let (compressed, rest) = match rest {
            [b'Z', rest @ ..] => (true, rest),
            _ => (false, rest),
        };
        let rest = match rest {
            [b'D', rest @ ..] => rest,
            _ => rest,
        };
        if levels > usize::from(INDIRECTIONS_MAX) || (levels > 0 && compressed) {
            return Err(bad(text));
        }
        Ok(Self {
            indirections: levels as u8,
            compressed,
            content: ContentId::parse_bytes(rest).ok_or_else(|| bad(text))?,
        })
    }

    /// Returns the index object of an indirect object, `None` for any other.
    pub fn index_object(&self) -> Option<Self> {
        let indirections = self.indirections.checked_sub(1)?;
        Some(Self {
            indirections,
            ..*self
        })
    }
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for _ in 0..self.indirections {
            f.write_str("I")?;
        }
        if self.compressed {
            f.write_str("Z")?;
        }
        self.content.fmt(f)
    }
}

#[cold]
fn bad(text: &[u8]) -> FormatError {
    let shown = text.get(..SHOWN_BYTES_MAX).unwrap_or(text);
    let shown = String::from_utf8_lossy(shown);
    FormatError::malformed(format!("object ID {shown:?}"), "not an object ID")
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "0f0e0d0c0b0a09080706050403020100";

    fn parse(text: &str) -> Result<ObjectId, FormatError> {
        ObjectId::parse(text.as_bytes())
    }

    #[test]
    fn every_form() {
        for (prefix, indirections, compressed, letter) in [
            ("", 0, false, None),
            ("k", 0, false, Some(b'k')),
            ("D", 0, false, None),
            ("Ix", 1, false, Some(b'x')),
            ("IDx", 1, false, Some(b'x')),
            ("IIx", 2, false, Some(b'x')),
            ("Ik", 1, false, Some(b'k')),
            ("I", 1, false, None),
            ("Z", 0, true, None),
            ("Zk", 0, true, Some(b'k')),
            ("ZD", 0, true, None),
        ] {
            let id = parse(&format!("{prefix}{HASH}")).unwrap();
            assert_eq!(id.indirections, indirections, "{prefix}");
            assert_eq!(id.compressed, compressed, "{prefix}");
            assert_eq!(id.content.prefix(), letter, "{prefix}");
            let shown = format!("{}{HASH}", prefix.replace('D', ""));
            assert_eq!(id.to_string(), shown);
        }
        let levels = "I".repeat(INDIRECTIONS_MAX.into());
        assert!(parse(&format!("{levels}x{HASH}")).is_ok());
    }

    #[test]
    fn what_is_no_object_id() {
        let deep = format!("{}x{HASH}", "I".repeat(9));
        for text in [
            "", "I", "Z", "D", "DD00", "ZZ00", "IZ00", "ZI00", "K00", "kk00", &deep,
        ] {
            let error = parse(text).unwrap_err();
            assert_eq!(error.code(), "malformed", "{text}");
        }
        assert!(ObjectId::parse(&[0xff; 300]).unwrap_err().to_string().len() < 500);
    }

    #[test]
    fn index_objects_have_one_level_less() {
        let id = parse(&format!("IIx{HASH}")).unwrap();
        let index = id.index_object().unwrap();
        assert_eq!(index.to_string(), format!("Ix{HASH}"));
        assert_eq!(index.index_object().unwrap(), ObjectId::direct(id.content));
        assert_eq!(ObjectId::direct(id.content).index_object(), None);
    }
}
