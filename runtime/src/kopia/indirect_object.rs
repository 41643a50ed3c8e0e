//! Index objects: `{"stream":"kopia:indirect","entries":[{"s":0,"l":4096,"o":"…"},…]}`, the parts
//! of an object that is too large for one content.
//!
//! Kopia leaves out `s` and `l` where they are 0. Parts follow each other without gaps; the reader
//! checks it, since a gap would be bytes that nobody can restore. The list comes piece by piece and
//! is handed on part by part: a file of terabytes has millions of parts.
//!
//! Memory: [`super::json_stream`]'s. Mirrors Kopia's `repo/object/indirect.go`.

use std::fmt;

use super::FormatError;
use super::json_stream::{Cursor, Entries, JsonStream, Stop, Text, read_fields};
use super::object_id::ObjectId;

/// One part of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ObjectPart {
    /// Where it begins in the object, in bytes.
    pub start: u64,
    /// How long it is, in bytes.
    pub length: u64,
    /// The object that holds it.
    pub object: ObjectId,
}

/// Reads index objects, one after the other. Memory: what one incomplete entry takes.
#[derive(Debug)]
pub struct IndirectReader {
    stream: JsonStream,
    end: u64,
}

impl IndirectReader {
    /// Makes a reader that stands before an index object.
    pub fn new() -> Self {
        Self {
            stream: JsonStream::new(),
            end: 0,
        }
    }

    /// Takes in the next piece of the index object and hands every complete part to `each`; `what`
    /// names the object in errors.
    ///
    /// # Errors
    /// JSON of another form or another stream, a part without an object ID, parts with a gap
    /// between them; what `each` gives.
    pub fn push<E: From<FormatError>>(
        &mut self,
        piece: &[u8],
        what: &dyn fmt::Display,
        mut each: impl FnMut(ObjectPart) -> Result<(), E>,
    ) -> Result<(), E> {
        let end = &mut self.end;
        let mut check = |parsed: ParsedPart| {
            let part = parsed.object.map(|object| ObjectPart {
                start: parsed.start,
                length: parsed.length,
                object,
            });
            let part = part.map_err(|reason| wrong(what, parsed.start, &reason))?;
            let next = part.start.checked_add(part.length);
            match next.filter(|_| part.start == *end) {
                Some(next) => *end = next,
                None => {
                    return Err(wrong(what, part.start, "it does not follow the one before").into());
                }
            }
            each(part)
        };
        self.stream.push::<Parts, E>(piece, what, &mut check)
    }

    /// Ends the index object, which must be complete, and stands before the next one. Returns the
    /// bytes of the object that it describes.
    ///
    /// # Errors
    /// JSON that is cut short or has another stream.
    pub fn finish(&mut self, what: &dyn fmt::Display) -> Result<u64, FormatError> {
        let finished = self.stream.finish::<Parts>(what);
        self.stream.restart();
        let bytes = std::mem::take(&mut self.end);
        finished.map(|()| bytes)
    }
}

impl Default for IndirectReader {
    fn default() -> Self {
        Self::new()
    }
}

#[cold]
fn wrong(what: &dyn fmt::Display, start: u64, reason: &str) -> FormatError {
    FormatError::malformed(format!("{what}: part at {start}"), reason)
}

/// A part as it was read; its object ID may be wrong.
struct ParsedPart {
    start: u64,
    length: u64,
    object: Result<ObjectId, String>,
}

/// The entries of an index object.
struct Parts;

impl Entries for Parts {
    const STREAM: &'static str = "kopia:indirect";
    type Entry<'a> = ParsedPart;

    fn entry<'a>(cursor: &mut Cursor<'a>) -> Result<ParsedPart, Stop> {
        let mut object: Option<Text<'a>> = None;
        let (mut start, mut length) = (None, None);
        read_fields(cursor, |field, cursor| {
            if field.is(b"o") {
                if object.replace(cursor.text()?).is_some() {
                    return Err(Stop::Bad("a field is there twice"));
                }
                return Ok(true);
            }
            let number = match field {
                field if field.is(b"s") => &mut start,
                field if field.is(b"l") => &mut length,
                _ => return Ok(false),
            };
            if number.replace(cursor.unsigned()?).is_some() {
                return Err(Stop::Bad("a field is there twice"));
            }
            Ok(true)
        })?;
        let object = match object {
            None => Err("no object ID".to_owned()),
            Some(text) => ObjectId::parse(&text.unescaped()?).map_err(|error| error.to_string()),
        };
        Ok(ParsedPart {
            start: start.unwrap_or(0),
            length: length.unwrap_or(0),
            object,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0f0e0d0c0b0a09080706050403020100";

    fn read(json: &str, piece_bytes: usize) -> Result<(Vec<ObjectPart>, u64), FormatError> {
        let (mut parts, mut reader) = (Vec::new(), IndirectReader::new());
        for piece in json.as_bytes().chunks(piece_bytes) {
            reader.push(piece, &"object Ix1", |part| {
                parts.push(part);
                Ok::<(), FormatError>(())
            })?;
        }
        let bytes = reader.finish(&"object Ix1")?;
        Ok((parts, bytes))
    }

    #[test]
    fn kopias_index_objects_cut_anywhere() {
        let json = format!(
            "{{\"stream\":\"kopia:indirect\",\"entries\":[\n\
             {{\"l\":1698099,\"o\":\"D{ID}\"}},\n{{\"s\":1698099,\"l\":1302081,\"o\":\"Z{ID}\"}},\n\
             {{\"s\":3000180,\"o\":\"Ix{ID}\"}}]}}\n"
        );
        for piece_bytes in 1..json.len() + 1 {
            let (parts, bytes) = read(&json, piece_bytes).unwrap();
            assert_eq!(bytes, 3_000_180);
            let shown: Vec<String> = parts
                .iter()
                .map(|part| format!("{}+{} {}", part.start, part.length, part.object))
                .collect();
            let expected = [
                format!("0+1698099 {ID}"),
                format!("1698099+1302081 Z{ID}"),
                format!("3000180+0 Ix{ID}"),
            ];
            assert_eq!(shown, expected);
        }
    }

    #[test]
    fn what_is_no_index_object() {
        let list =
            |entries: &str| format!(r#"{{"stream":"kopia:indirect","entries":[{entries}]}}"#);
        for (json, reason) in [
            (list(r#"{"s":0,"l":1}"#), "no object ID"),
            (list(r#"{"s":1,"l":1,"o":"00"}"#), "does not follow"),
            (
                list(r#"{"l":5,"o":"00"},{"s":4,"l":1,"o":"00"}"#),
                "does not follow",
            ),
            (list(r#"{"l":-5,"o":"00"}"#), "no length"),
            (list(r#"{"l":1.5,"o":"00"}"#), "no length"),
            (list(r#"{"l":"1","o":"00"}"#), "no length"),
            (list(r#"{"l":18446744073709551616,"o":"00"}"#), "no length"),
            (
                list(
                    &[
                        r#"{"l":18446744073709551615,"o":"00"}"#,
                        r#"{"s":18446744073709551615,"l":2,"o":"00"}"#,
                    ]
                    .join(","),
                ),
                "does not follow",
            ),
            (list(r#"{"l":1,"l":1,"o":"00"}"#), "twice"),
            (
                r#"{"stream":"kopia:directory","entries":[]}"#.to_owned(),
                "another stream",
            ),
        ] {
            let error = read(&json, 1 << 20).unwrap_err().to_string();
            assert!(error.contains(reason), "{json}: {error}");
        }
    }
}
