//! Directories as Kopia writes them: `{"stream":"kopia:directory","entries":[…],"summary":{…}}`.
//!
//! Entries are appended as they come, in the order of their names. Memory: the JSON, some 130 bytes
//! an entry. Mirrors Kopia's `snapshot/manifest.go`, `dir_manifest_builder.go` and `fs/entry.go`.

use serde::Serialize;

use crate::clock::Timestamp;
use crate::kopia::content_id::ContentId;

const WHY: &str = "writing to memory, of values that always serialise";

/// One entry of a directory; the root of a snapshot has the same form.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Entry<'a> {
    pub(super) name: &'a str,
    #[serde(rename = "type")]
    pub(super) kind: &'static str,
    pub(super) mode: &'static str,
    pub(super) size: u64,
    pub(super) mtime: Timestamp,
    pub(super) obj: ContentId,
    #[serde(rename = "summ", skip_serializing_if = "Option::is_none")]
    pub(super) summary: Option<Summary>,
}

impl<'a> Entry<'a> {
    /// Makes the entry of a file.
    pub(super) fn file(name: &'a str, size: u64, mtime: Timestamp, obj: ContentId) -> Self {
        Self {
            name,
            kind: "f",
            mode: "0644",
            size,
            mtime,
            obj,
            summary: None,
        }
    }

    /// Makes the entry of a directory.
    pub(super) fn directory(name: &'a str, obj: ContentId, summary: Summary) -> Self {
        Self {
            name,
            kind: "d",
            mode: "0755",
            size: 4096,
            mtime: summary.max_time,
            obj,
            summary: Some(summary),
        }
    }
}

/// What lies below a directory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Summary {
    pub(super) size: u64,
    pub(super) files: u64,
    pub(super) symlinks: u64,
    pub(super) dirs: u64,
    #[serde(rename = "maxTime")]
    pub(super) max_time: Timestamp,
    #[serde(rename = "numFailed")]
    pub(super) failed: u64,
}

/// A directory that takes entries.
#[derive(Debug, Default)]
pub(super) struct DirectoryJson {
    json: Vec<u8>,
    summary: Summary,
}

impl DirectoryJson {
    /// Adds an entry behind those that are there.
    pub(super) fn push(&mut self, entry: &Entry<'_>) {
        let start: &[u8] = match self.json.is_empty() {
            true => br#"{"stream":"kopia:directory","entries":["#,
            false => b",",
        };
        self.json.extend_from_slice(start);
        serde_json::to_writer(&mut self.json, entry).expect(WHY);
        let below = &mut self.summary;
        below.max_time = below.max_time.max(entry.mtime);
        match &entry.summary {
            None => {
                below.files += 1;
                below.size += entry.size;
            }
            Some(summary) => {
                below.files += summary.files;
                below.size += summary.size;
                below.dirs += summary.dirs;
            }
        }
    }

    /// Ends the directory, which has an entry; returns its plaintext and what lies below it, and
    /// stands before the next one.
    pub(super) fn finish(&mut self) -> (Vec<u8>, Summary) {
        let (mut json, mut summary) = (std::mem::take(&mut self.json), self.summary);
        self.summary = Summary::default();
        summary.dirs += 1;
        json.extend_from_slice(br#"],"summary":"#);
        serde_json::to_writer(&mut json, &summary).expect(WHY);
        json.extend_from_slice(b"}\n");
        (json, summary)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kopia::FormatError;
    use crate::kopia::directory::{DirectoryReader, EntryKind};

    /// Goal: a directory has Kopia's form; method: its text, and our own reader.
    #[test]
    fn a_directory_as_kopia_writes_it() {
        let time = Timestamp::parse("2026-01-02T03:04:05Z").unwrap();
        let id = |prefix| ContentId::from_hash(prefix, &[0xAB; 16]).unwrap();
        let mut directory = DirectoryJson::default();
        directory.push(&Entry::file("a", 12, time, id(None)));
        let (json, summary) = directory.finish();
        let expected = concat!(
            r#"{"stream":"kopia:directory","entries":[{"name":"a","type":"f","mode":"0644","#,
            r#""size":12,"mtime":"2026-01-02T03:04:05Z","obj":"abababababababababababababababab"}"#,
            r#"],"summary":{"size":12,"files":1,"symlinks":0,"dirs":1,"#,
            r#""maxTime":"2026-01-02T03:04:05Z","numFailed":0}}"#,
            "\n"
        );
        assert_eq!(String::from_utf8(json).unwrap(), expected);
        directory.push(&Entry::directory("b", id(Some(b'k')), summary));
        directory.push(&Entry::file("c", 30, time, id(None)));
        let (json, summary) = directory.finish();
        assert_eq!((summary.files, summary.dirs, summary.size), (2, 2, 42));
        let (mut reader, mut kinds) = (DirectoryReader::new(), Vec::new());
        let each = |entry: crate::kopia::directory::DirectoryEntry<'_>| {
            kinds.push(entry.kind);
            Ok::<(), FormatError>(())
        };
        reader.push(&json, &"k1", each).unwrap();
        reader.finish(&"k1").unwrap();
        assert_eq!(kinds, [EntryKind::Directory, EntryKind::File]);
    }
}
