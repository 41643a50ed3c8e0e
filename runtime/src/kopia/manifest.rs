//! Manifest contents: many small JSON documents (snapshots, policies, parameters) in one gzip file.
//!
//! A manifest content is read entry by entry, however many it has. Snapshot GC takes its roots from
//! here, so anything odd is an error: an entry that is skipped in silence would make its snapshot
//! collectable. Field names match without regard to case, as in Kopia. Memory: one entry, at most
//! [`ENTRY_BYTES_MAX`], and its parsed labels; not the content. Mirrors Kopia's `serialized.go` and
//! `committed_manifest_manager.go`.

mod entry;

use std::cell::Cell;
use std::fmt;
use std::io::{self, BufReader, Read, Write};
use std::rc::Rc;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

use crate::kopia::FormatError;

pub use entry::ManifestEntry;

/// Prefix of the contents that hold manifests.
pub const CONTENT_PREFIX: u8 = b'm';
/// The label that every live manifest has.
pub const TYPE_LABEL: &str = "type";
/// Longest entry, from its brace to its brace. A snapshot manifest has about 1 KB; storage
/// statistics, tags and recorded errors make larger ones, never near this.
pub const ENTRY_BYTES_MAX: u64 = 16 << 20;
/// The only field of a content.
const ENTRIES: &str = "entries";

/// Reads the manifests of one content, given as JSON (after gzip), and hands each to `each`; `what`
/// names the content. An error of `each` ends the reading and comes back as it is.
///
/// # Errors
/// JSON of another form, another field than `entries`, an entry above [`ENTRY_BYTES_MAX`] or
/// without an ID, a reader's error.
pub fn read_entries<R, F, E>(json: R, what: &str, each: F) -> Result<(), E>
where
    R: Read,
    F: FnMut(ManifestEntry) -> Result<(), E>,
    E: From<FormatError>,
{
    read_bounded(json, what, ENTRY_BYTES_MAX, each)
}

/// Reads as [`read_entries`], with entries of at most `entry_bytes_max`.
fn read_bounded<R, F, E>(json: R, what: &str, entry_bytes_max: u64, each: F) -> Result<(), E>
where
    R: Read,
    F: FnMut(ManifestEntry) -> Result<(), E>,
    E: From<FormatError>,
{
    let budget = Rc::new(Cell::new(entry_bytes_max));
    let reader = Budgeted {
        inner: BufReader::new(json),
        budget: Rc::clone(&budget),
        entry_bytes_max,
    };
    let mut refused = None;
    let content = Content {
        budget,
        entry_bytes_max,
        each,
        refused: &mut refused,
    };
    let read = serde_json::Deserializer::from_reader(reader).deserialize_map(content);
    match (refused, read) {
        (Some(error), _) => Err(error),
        (None, Ok(())) => Ok(()),
        (None, Err(error)) => Err(FormatError::malformed(what, error.to_string()).into()),
    }
}

/// Reads the manifests of one content as it is stored, gzip and all.
///
/// # Errors
/// As [`read_entries`].
pub fn read_gzip_entries<R, F, E>(gzip: R, what: &str, each: F) -> Result<(), E>
where
    R: Read,
    F: FnMut(ManifestEntry) -> Result<(), E>,
    E: From<FormatError>,
{
    read_entries(flate2::read::MultiGzDecoder::new(gzip), what, each)
}

/// Returns the plaintext of a manifest content with these entries. Memory: the result.
pub fn to_gzip_json(entries: &[ManifestEntry]) -> Vec<u8> {
    #[derive(serde::Serialize)]
    struct Content<'a> {
        entries: &'a [ManifestEntry],
    }
    const WHY: &str = "writing to memory, of values that always serialise";
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    serde_json::to_writer(&mut gzip, &Content { entries }).expect(WHY);
    gzip.write_all(b"\n").expect(WHY);
    gzip.finish().expect(WHY)
}

/// A reader that stops when the entry being read is too long.
struct Budgeted<R> {
    inner: R,
    budget: Rc<Cell<u64>>,
    entry_bytes_max: u64,
}

impl<R: Read> Read for Budgeted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.budget.get();
        if left == 0 {
            let reason = format!("an entry has more than {} bytes", self.entry_bytes_max);
            return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
        }
        let most = buffer
            .len()
            .min(usize::try_from(left).unwrap_or(usize::MAX));
        let bytes = self.inner.read(&mut buffer[..most])?;
        self.budget.set(left - bytes as u64);
        Ok(bytes)
    }
}

/// The object `{"entries":[…]}`.
struct Content<'a, F, E> {
    budget: Rc<Cell<u64>>,
    entry_bytes_max: u64,
    each: F,
    refused: &'a mut Option<E>,
}

impl<'de, F, E> Visitor<'de> for Content<'_, F, E>
where
    F: FnMut(ManifestEntry) -> Result<(), E>,
{
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with the field entries")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut fields: A) -> Result<(), A::Error> {
        let mut seen = false;
        while let Some(field) = fields.next_key::<String>()? {
            if !field.eq_ignore_ascii_case(ENTRIES) {
                let reason = format!("field {:?} is not known", entry::shortened(&field));
                return Err(A::Error::custom(reason));
            }
            if seen {
                return Err(A::Error::custom("the field entries is there twice"));
            }
            seen = true;
            fields.next_value_seed(Entries(&mut self))?;
            self.budget.set(self.entry_bytes_max);
        }
        Ok(())
    }
}

/// The list of entries.
struct Entries<'a, 'b, F, E>(&'a mut Content<'b, F, E>);

impl<'de, F, E> DeserializeSeed<'de> for Entries<'_, '_, F, E>
where
    F: FnMut(ManifestEntry) -> Result<(), E>,
{
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de, F, E> Visitor<'de> for Entries<'_, '_, F, E>
where
    F: FnMut(ManifestEntry) -> Result<(), E>,
{
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of manifests")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let content = self.0;
        content.budget.set(content.entry_bytes_max);
        while let Some(entry) = list.next_element::<ManifestEntry>()? {
            if let Err(error) = (content.each)(entry) {
                *content.refused = Some(error);
                return Err(A::Error::custom("ended by the receiver"));
            }
            content.budget.set(content.entry_bytes_max);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
