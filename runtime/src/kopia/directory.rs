//! Directory objects: `{"stream":"kopia:directory","entries":[…],"summary":{…}}`.
//!
//! Of an entry only name, type and object ID are read: what the mark of snapshot GC asks for. It
//! comes piece by piece and is handed on entry by entry, so a directory of millions of entries is
//! like any other. An entry without an object ID is an error: Kopia's own GC ends there too.
//!
//! Memory: [`super::json_stream`]'s. Mirrors Kopia's `snapshot/manifest.go` and `dir_reader.go`.

use std::fmt;

use super::FormatError;
use super::json_stream::{Cursor, Entries, JsonStream, Stop, Text, read_fields, shown};
use super::object_id::ObjectId;

/// Prefix of the contents of directories.
pub const CONTENT_PREFIX: u8 = b'k';

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// `d`: its object is a directory.
    Directory,
    /// `f`: its object is the file's data.
    File,
    /// `s`: its object is the target.
    Symlink,
    /// No type, or one that is not known. Its object counts as data.
    Unknown,
}

impl EntryKind {
    /// Makes the kind of a `type`.
    #[inline]
    pub fn of(name: &[u8]) -> Self {
        match name {
            b"d" => Self::Directory,
            b"f" => Self::File,
            b"s" => Self::Symlink,
            _ => Self::Unknown,
        }
    }
}

/// The name of an entry, for messages.
#[derive(Clone, Copy, Debug)]
pub struct EntryName<'a>(Option<Text<'a>>);

impl fmt::Display for EntryName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(name) => write!(f, "{:?}", shown(name)),
            None => f.write_str("without a name"),
        }
    }
}

/// One entry of a directory.
#[derive(Clone, Copy, Debug)]
pub struct DirectoryEntry<'a> {
    /// Its name.
    pub name: EntryName<'a>,
    /// What it is.
    pub kind: EntryKind,
    /// Its object.
    pub object: ObjectId,
    /// What lies below it, if it is a directory whose summary says so.
    pub below: Below,
}

/// What lies below a directory, itself included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Below {
    /// Directories.
    pub directories: u64,
    /// Files.
    pub files: u64,
}

/// Reads directories, one after the other. Memory: what one incomplete entry takes.
#[derive(Debug)]
pub struct DirectoryReader {
    stream: JsonStream,
}

impl DirectoryReader {
    /// Makes a reader that stands before a directory.
    pub fn new() -> Self {
        Self {
            stream: JsonStream::new(),
        }
    }

    /// Takes in the next piece of the directory and hands every complete entry to `each`; `what`
    /// names the directory in errors.
    ///
    /// # Errors
    /// JSON of another form or another stream, an entry without an object ID, an entry above 1 MiB;
    /// what `each` gives.
    pub fn push<E: From<FormatError>>(
        &mut self,
        piece: &[u8],
        what: &dyn fmt::Display,
        mut each: impl FnMut(DirectoryEntry<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut check = |entry: ParsedEntry<'_>| match entry.object {
            Ok(object) => each(DirectoryEntry {
                name: entry.name,
                kind: entry.kind,
                object,
                below: entry.below,
            }),
            Err(reason) => {
                let what = format!("{what}: entry {}", entry.name);
                Err(FormatError::malformed(what, reason).into())
            }
        };
        self.stream.push::<Listing, E>(piece, what, &mut check)
    }

    /// Ends the directory, which must be complete, and stands before the next one.
    ///
    /// # Errors
    /// JSON that is cut short or has another stream.
    pub fn finish(&mut self, what: &dyn fmt::Display) -> Result<(), FormatError> {
        let finished = self.stream.finish::<Listing>(what);
        self.stream.restart();
        finished
    }
}

impl Default for DirectoryReader {
    fn default() -> Self {
        Self::new()
    }
}

/// An entry as it was read; its object ID may be wrong.
struct ParsedEntry<'a> {
    name: EntryName<'a>,
    kind: EntryKind,
    object: Result<ObjectId, String>,
    below: Below,
}

/// The entries of a directory.
struct Listing;

impl Entries for Listing {
    const STREAM: &'static str = "kopia:directory";
    type Entry<'a> = ParsedEntry<'a>;

    #[inline]
    fn entry<'a>(cursor: &mut Cursor<'a>) -> Result<ParsedEntry<'a>, Stop> {
        let (mut name, mut kind, mut object) = (None, None, None);
        let mut below = Below::default();
        read_fields(cursor, |field, cursor| {
            // In the order of lengths: most fields fail on the first comparison.
            if field.is(b"obj") {
                once(&mut object, cursor.text()?)?;
            } else if field.is(b"type") {
                once(&mut kind, cursor.text()?)?;
            } else if field.is(b"name") {
                once(&mut name, cursor.text()?)?;
            } else if field.is(b"summ") && cursor.peek()? == b'{' {
                below = read_summary(cursor)?;
            } else {
                return Ok(false);
            }
            Ok(true)
        })?;
        let object = match object {
            None => Err("no object ID".to_owned()),
            Some(text) => ObjectId::parse(&text.unescaped()?).map_err(|error| error.to_string()),
        };
        let kind = kind.map(|text| text.unescaped()).transpose()?;
        let kind = EntryKind::of(kind.as_deref().unwrap_or_default());
        Ok(ParsedEntry {
            name: EntryName(name),
            kind,
            object,
            below,
        })
    }
}

/// Reads the counts of a summary.
#[cold]
fn read_summary(cursor: &mut Cursor<'_>) -> Result<Below, Stop> {
    let mut below = Below::default();
    read_fields(cursor, |field, cursor| {
        let count = match field {
            field if field.is(b"dirs") => &mut below.directories,
            field if field.is(b"files") => &mut below.files,
            _ => return Ok(false),
        };
        let counts = cursor.peek()?.is_ascii_digit();
        if counts {
            *count = cursor.unsigned()?;
        }
        Ok(counts)
    })?;
    Ok(below)
}

/// Notes a field that may be there once.
#[inline]
fn once<'a>(field: &mut Option<Text<'a>>, value: Text<'a>) -> Result<(), Stop> {
    match field.replace(value) {
        None => Ok(()),
        Some(_) => Err(Stop::Bad("a field is there twice")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0f0e0d0c0b0a09080706050403020100";

    type Rows = Vec<(String, EntryKind, String)>;

    fn read(pieces: &[&[u8]]) -> Result<Rows, FormatError> {
        let mut rows = Vec::new();
        let mut reader = DirectoryReader::new();
        let small = !pieces.concat().windows(6).any(|bytes| bytes == b"\"summ\"");
        for piece in pieces {
            reader.push(piece, &"directory k1", |entry| {
                let below = (entry.below.directories, entry.below.files);
                assert_eq!(
                    below == (1, 1),
                    entry.kind == EntryKind::Directory && !small
                );
                let row = (entry.name.to_string(), entry.kind, entry.object.to_string());
                rows.push(row);
                Ok::<(), FormatError>(())
            })?;
        }
        reader.finish(&"directory k1")?;
        Ok(rows)
    }

    fn refused(json: &str) -> String {
        read(&[json.as_bytes()]).unwrap_err().to_string()
    }

    /// What Kopia 0.23.1 writes: a file, a symbolic link, a directory with its summary.
    fn kopias() -> String {
        let summary = concat!(
            r#"{"size":5,"files":1,"symlinks":0,"dirs":1,"maxTime":"2026-09-01T00:00:00Z","#,
            r#""numFailed":0,"errors":[{"path":"a/b","error":"x \"y\""}]}"#
        );
        format!(
            "{{\"stream\":\"kopia:directory\",\"entries\":[{{\"name\":\"a\\u0026\\\"b\",\
             \"type\":\"f\",\"mode\":\"0644\",\"size\":5,\
             \"mtime\":\"2026-09-01T00:00:00.123Z\",\"uid\":1,\
             \"gid\":1,\"obj\":\"{ID}\"}},{{\"name\":\"l\",\"type\":\"s\",\"obj\":\"Z{ID}\"}},\
             {{\"name\":\"d\",\"type\":\"d\",\"mode\":\"0755\",\"obj\":\"k{ID}\",\
             \"summ\":{summary}}}],\"summary\":{summary}}}\n"
        )
    }

    fn expected() -> Rows {
        vec![
            ("\"a&\\\"b\"".to_owned(), EntryKind::File, ID.to_owned()),
            ("\"l\"".to_owned(), EntryKind::Symlink, format!("Z{ID}")),
            ("\"d\"".to_owned(), EntryKind::Directory, format!("k{ID}")),
        ]
    }

    #[test]
    fn kopias_directories_cut_anywhere() {
        let json = kopias();
        let bytes = json.as_bytes();
        assert_eq!(read(&[bytes]).unwrap(), expected());
        for cut in 0..bytes.len() {
            let (front, back) = bytes.split_at(cut);
            assert_eq!(read(&[front, back]).unwrap(), expected(), "cut at {cut}");
            if cut < bytes.len() - 1 {
                let error = read(&[front]).unwrap_err().to_string();
                assert!(error.contains("cut short"), "{cut}: {error}");
            }
        }
        for size in 1..9 {
            let pieces: Vec<&[u8]> = bytes.chunks(size).collect();
            assert_eq!(read(&pieces).unwrap(), expected(), "pieces of {size}");
        }
    }

    #[test]
    fn other_orders_and_cases() {
        let json = format!(
            " {{ \"summary\" : null , \"Entries\" : [ {{ \"OBJ\" : \"Ix{ID}\" , \
             \"x\" : [1,{{}}] }} ] , \"stream\" : \"kopia:directory\" }} "
        );
        let row = (
            "without a name".to_owned(),
            EntryKind::Unknown,
            format!("Ix{ID}"),
        );
        assert_eq!(read(&[json.as_bytes()]).unwrap(), [row]);
        let escaped = format!(
            "{{\"str\\u0065am\":\"kopia:directory\",\"entries\":\
             [{{\"\\u006fbj\":\"\\u006b{ID}\",\"type\":\"\\u0064\"}}]}}"
        );
        let rows = read(&[escaped.as_bytes()]).unwrap();
        assert_eq!(
            (rows[0].1, rows[0].2.as_str()),
            (EntryKind::Directory, &*format!("k{ID}"))
        );
        for empty in [
            r#"{"stream":"kopia:directory","entries":null,"summary":{}}"#,
            r#"{"stream":"kopia:directory","entries":[]}"#,
            r#"{"stream":"kopia:directory","v":-1.5e3}"#,
        ] {
            assert_eq!(read(&[empty.as_bytes()]).unwrap(), [], "{empty}");
        }
    }

    #[test]
    fn what_is_no_directory() {
        for (json, reason) in [
            (
                r#"{"stream":"kopia:indirect","entries":[]}"#,
                "another stream",
            ),
            (r#"{"entries":[]}"#, "not a stream \"kopia:directory\""),
            (
                r#"{"stream":"kopia:directory","entries":[{"name":"a"}]}"#,
                "\"a\": no object ID",
            ),
            (
                r#"{"stream":"kopia:directory","entries":[{"obj":""}]}"#,
                "not an object ID",
            ),
            (
                r#"{"stream":"kopia:directory","entries":[{"obj":null}]}"#,
                "no string",
            ),
            (
                r#"{"stream":"kopia:directory","entries":[null]}"#,
                "no object",
            ),
            (
                r#"{"stream":"kopia:directory","entries":[{"obj":"00","obj":"00"}]}"#,
                "twice",
            ),
            (
                r#"{"stream":"kopia:directory","entries":[],"entries":[]}"#,
                "twice",
            ),
            (
                r#"{"stream":"kopia:directory","stream":"kopia:directory"}"#,
                "twice",
            ),
            (
                r#"{"stream":"kopia:directory","entries":[]} {}"#,
                "bytes follow",
            ),
            (
                r#"{"stream":"kopia:directory","entries":[{"obj":"00"} {"obj":"00"}]}"#,
                "no comma",
            ),
            (
                r#"{"stream":"kopia:directory","entries":[{"obj":"00"},]}"#,
                "no object",
            ),
            (r#"{"stream":"kopia:directory","entries":{}}"#, "no list"),
            (r#"{"stream":"kopia:directory" "entries":[]}"#, "no comma"),
            ("[]", "no object"),
            ("", "cut short"),
        ] {
            let error = refused(json);
            assert!(error.contains(reason), "{json}: {error}");
        }
        let long = format!(
            r#"{{"stream":"kopia:directory","a":"{}"}}"#,
            "a".repeat(2 << 20)
        );
        let pieces: Vec<&[u8]> = long.as_bytes().chunks(1000).collect();
        assert!(read(&pieces).unwrap_err().to_string().contains("mebibyte"));
    }

    /// After an end, also a wrong one, the reader stands before the next directory.
    #[test]
    fn one_reader_reads_many() {
        let json = kopias();
        let mut reader = DirectoryReader::new();
        let mut entries = 0;
        for round in 0..3 {
            let bytes = &json.as_bytes()[..json.len() - if round == 1 { 20 } else { 0 }];
            let pushed = reader.push(bytes, &"k", |_| {
                entries += 1;
                Ok::<(), FormatError>(())
            });
            pushed.unwrap();
            assert_eq!(reader.finish(&"k").is_ok(), round != 1);
        }
        assert_eq!(entries, 9);
    }
}
