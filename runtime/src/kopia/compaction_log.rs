//! The V0 index manager's notes: which index blobs replace which (`m`), and which notes are to go
//! (`l`).
//!
//! Without epochs a compaction writes new `n` blobs and then a log with its inputs and outputs. A
//! log counts only when all its outputs are listed; then its inputs are no longer part of the
//! index. A log names as many blobs as there were, so it is read and written blob by blob. Memory:
//! one name at a time; a cleanup entry has at most [`IDS_MAX`]. Mirrors Kopia's
//! `index_blob_manager_v0.go`.

use std::fmt;
use std::io::Read;
use std::marker::PhantomData;

use serde::de::{DeserializeOwned, DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::clock::Timestamp;
use crate::kopia::FormatError;
use crate::kopia::blob_id::BlobId;

/// Most compaction logs in one cleanup entry. Kopia writes an entry for every compaction.
pub const IDS_MAX: usize = 100_000;

/// A blob as Kopia's JSON describes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BlobMetadata {
    /// Its name.
    pub id: BlobId,
    /// Its bytes in storage.
    pub length: u64,
    /// Its storage timestamp.
    pub timestamp: Timestamp,
}

/// What a blob is to a compaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// It was merged.
    Input,
    /// It replaces the inputs. A log without outputs: everything was dropped.
    Output,
}

/// Takes the blobs of a log; returns whether it wants more.
pub type EachBlob<'a> = &'a mut dyn FnMut(Side, &str) -> bool;

/// Reads the decrypted `m` blob named `what`, and shows its blobs to `each`.
///
/// Returns whether all of them were wanted.
///
/// # Errors
/// JSON of another form, a reader's error; blobs before it were shown.
pub fn read_log(json: impl Read, what: &str, each: EachBlob<'_>) -> Result<bool, FormatError> {
    let mut all = true;
    let mut deserializer = serde_json::Deserializer::from_reader(std::io::BufReader::new(json));
    let outcome = LogSeed(&mut |side, name| {
        all = all && each(side, name);
        all
    })
    .deserialize(&mut deserializer);
    match outcome {
        Err(error) if all => Err(FormatError::malformed(what, error.to_string())),
        _ => Ok(all),
    }
}

/// Writes the JSON of an `m` blob: all inputs, then all outputs, then [`LogWriter::finish`].
pub struct LogWriter<W> {
    write: W,
    outputs: bool,
    is_first: bool,
}

impl<E, W: FnMut(&[u8]) -> Result<(), E>> LogWriter<W> {
    /// Begins a log; `write` takes its bytes, piece after piece.
    pub fn new(mut write: W) -> Result<Self, E> {
        write(br#"{"inputMetadata":["#)?;
        Ok(Self {
            write,
            outputs: false,
            is_first: true,
        })
    }

    /// Adds a blob. Panics when an input comes behind an output.
    pub fn add(&mut self, side: Side, blob: &BlobMetadata) -> Result<(), E> {
        if side == Side::Output {
            self.begin_outputs()?;
        }
        assert!(side == Side::Output || !self.outputs, "inputs come first");
        if !self.is_first {
            (self.write)(b",")?;
        }
        self.is_first = false;
        let json = serde_json::to_vec(blob);
        (self.write)(&json.expect("names, numbers and times always serialise"))
    }

    /// Ends the log.
    pub fn finish(mut self) -> Result<(), E> {
        self.begin_outputs()?;
        (self.write)(b"]}")
    }

    fn begin_outputs(&mut self) -> Result<(), E> {
        if self.outputs {
            return Ok(());
        }
        self.outputs = true;
        self.is_first = true;
        (self.write)(br#"],"outputMetadata":["#)
    }
}

/// The content of an `l` blob: compaction logs that may go when it is old enough.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CleanupEntry {
    /// The compaction logs.
    pub blob_ids: Vec<BlobId>,
    /// When the cleanup was decided, in storage time.
    pub cleanup_schedule_time: Timestamp,
}

impl CleanupEntry {
    /// Reads the decrypted `l` blob named `what`.
    ///
    /// # Errors
    /// JSON of another form, a reader's error, more than [`IDS_MAX`] IDs. A missing time is an
    /// error too: Kopia would take it for age-old and delete the logs at once.
    pub fn parse(json: impl Read, what: &str) -> Result<Self, FormatError> {
        #[derive(Deserialize)]
        struct Entry {
            #[serde(default, rename = "blobIDs", deserialize_with = "bounded")]
            blob_ids: Vec<BlobId>,
            #[serde(rename = "cleanupScheduleTime")]
            cleanup_schedule_time: Timestamp,
        }
        let entry: Entry = read(json, what)?;
        Ok(Self {
            blob_ids: entry.blob_ids,
            cleanup_schedule_time: entry.cleanup_schedule_time,
        })
    }

    /// Returns the JSON of an `l` blob.
    pub fn to_json(&self) -> Vec<u8> {
        #[derive(Serialize)]
        struct Entry<'a> {
            #[serde(rename = "blobIDs")]
            blob_ids: &'a [BlobId],
            #[serde(rename = "cleanupScheduleTime")]
            cleanup_schedule_time: Timestamp,
        }
        let entry = Entry {
            blob_ids: &self.blob_ids,
            cleanup_schedule_time: self.cleanup_schedule_time,
        };
        serde_json::to_vec(&entry).expect("names and times always serialise")
    }
}

/// Blob metadata of which only the ID is kept.
#[derive(Deserialize)]
struct IdOnly {
    id: String,
}

/// Reads a log; a reader that wants no more ends it with an error that nobody sees.
struct LogSeed<'a>(EachBlob<'a>);

impl<'de> DeserializeSeed<'de> for LogSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for LogSeed<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a compaction log")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(field) = map.next_key::<String>()? {
            let side = match field.as_str() {
                "inputMetadata" => Side::Input,
                "outputMetadata" => Side::Output,
                _ => {
                    map.next_value::<IgnoredAny>()?;
                    continue;
                }
            };
            map.next_value_seed(BlobsSeed(side, &mut *self.0))?;
        }
        Ok(())
    }
}

/// Reads a list of blobs, or `null`, which Go writes for an empty one.
struct BlobsSeed<'a>(Side, EachBlob<'a>);

impl<'de> DeserializeSeed<'de> for BlobsSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for BlobsSeed<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of blobs, or null")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let Self(side, each) = self;
        while let Some(blob) = list.next_element::<IdOnly>()? {
            if !each(side, &blob.id) {
                return Err(serde::de::Error::custom("enough"));
            }
        }
        Ok(())
    }
}

fn read<T: DeserializeOwned>(json: impl Read, what: &str) -> Result<T, FormatError> {
    let mut deserializer = serde_json::Deserializer::from_reader(std::io::BufReader::new(json));
    T::deserialize(&mut deserializer).map_err(|e| FormatError::malformed(what, e.to_string()))
}

/// Reads a list of at most [`IDS_MAX`] items, or `null`.
fn bounded<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    struct Bounded<T>(PhantomData<T>);

    impl<'de, T: Deserialize<'de>> Visitor<'de> for Bounded<T> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "a list of at most {IDS_MAX} blobs, or null")
        }

        fn visit_unit<E>(self) -> Result<Vec<T>, E> {
            Ok(Vec::new())
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<T>, A::Error> {
            let mut items = Vec::new();
            while let Some(item) = list.next_element()? {
                if items.len() == IDS_MAX {
                    return Err(serde::de::Error::invalid_length(IDS_MAX + 1, &self));
                }
                items.push(item);
            }
            Ok(items)
        }
    }

    deserializer.deserialize_any(Bounded(PhantomData))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn test_file(name: &str) -> Vec<u8> {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/kopia/testdata");
        std::fs::read(format!("{folder}/{name}.json")).unwrap()
    }

    fn log(json: &[u8]) -> Result<(Vec<String>, Vec<String>), FormatError> {
        let (mut inputs, mut outputs) = (Vec::new(), Vec::new());
        read_log(json, "m1", &mut |side, name| {
            match side {
                Side::Input => inputs.push(name.to_owned()),
                Side::Output => outputs.push(name.to_owned()),
            }
            true
        })?;
        Ok((inputs, outputs))
    }

    fn written(inputs: &[BlobMetadata], outputs: &[BlobMetadata]) -> String {
        let mut json = Vec::new();
        let write = |bytes: &[u8]| {
            json.extend_from_slice(bytes);
            Ok::<(), ()>(())
        };
        let mut writer = LogWriter::new(write).unwrap();
        for blob in inputs {
            writer.add(Side::Input, blob).unwrap();
        }
        for blob in outputs {
            writer.add(Side::Output, blob).unwrap();
        }
        writer.finish().unwrap();
        String::from_utf8(json).unwrap()
    }

    fn blob(name: &str) -> BlobMetadata {
        BlobMetadata {
            id: name.into(),
            length: 127,
            timestamp: Timestamp::parse("2026-07-13T22:00:00.355512643Z").unwrap(),
        }
    }

    #[test]
    fn kopias_log_is_read() {
        let json = test_file("compaction-log");
        let (inputs, outputs) = log(&json).unwrap();
        assert_eq!((inputs.len(), outputs.len()), (7, 1));
        assert_eq!(inputs[0], "nec63b37af214f314cc469a0f1d2ee58c");
        let cut = log(&json[..500]).unwrap_err();
        assert!(cut.to_string().starts_with("m1: EOF"), "{cut}");
        assert!(log(b"[]").is_err() && log(br#"{"inputMetadata":[{"i":1}]}"#).is_err());
    }

    #[test]
    fn a_reader_may_have_enough() {
        let json = test_file("compaction-log");
        let mut seen = 0;
        let all = read_log(&json[..], "m1", &mut |_, _| {
            seen += 1;
            seen < 3
        });
        assert_eq!((all.unwrap(), seen), (false, 3));
    }

    #[test]
    fn kopias_cleanup_entry_comes_out_the_same() {
        let json = test_file("cleanup-entry");
        let entry = CleanupEntry::parse(&json[..], "l1").unwrap();
        assert_eq!(entry.blob_ids.len(), 2);
        assert_eq!(entry.to_json(), json);
        assert!(CleanupEntry::parse(&br#"{"blobIDs":["m1"]}"#[..], "l1").is_err());
    }

    #[test]
    fn a_written_log_has_kopias_form() {
        let json = written(&[blob("n1")], &[]);
        assert_eq!(
            json,
            concat!(
                r#"{"inputMetadata":[{"id":"n1","length":127,"#,
                r#""timestamp":"2026-07-13T22:00:00.355512643Z"}],"outputMetadata":[]}"#
            )
        );
        let names = |list: &[&str]| list.iter().map(|name| (*name).to_owned()).collect();
        assert_eq!(log(json.as_bytes()).unwrap(), (names(&["n1"]), names(&[])));
        let json = written(&[blob("n1"), blob("n2")], &[blob("n3"), blob("n4")]);
        let both = (names(&["n1", "n2"]), names(&["n3", "n4"]));
        assert_eq!(log(json.as_bytes()).unwrap(), both);
        assert_eq!(
            written(&[], &[]),
            r#"{"inputMetadata":[],"outputMetadata":[]}"#
        );
        let null = br#"{"inputMetadata":[{"id":"n1"}],"outputMetadata":null,"more":[1,{}]}"#;
        assert_eq!(log(null).unwrap(), (names(&["n1"]), names(&[])));
    }

    #[test]
    fn kopias_log_comes_out_the_same() {
        let json = test_file("compaction-log");
        let parsed: serde_json::Value = serde_json::from_slice(&json).unwrap();
        let blobs = |side: &str| -> Vec<BlobMetadata> {
            let blob = |blob: &serde_json::Value| BlobMetadata {
                id: blob["id"].as_str().unwrap().into(),
                length: blob["length"].as_u64().unwrap(),
                timestamp: Timestamp::parse(blob["timestamp"].as_str().unwrap()).unwrap(),
            };
            parsed[side].as_array().unwrap().iter().map(blob).collect()
        };
        let again = written(&blobs("inputMetadata"), &blobs("outputMetadata"));
        assert_eq!(again.as_bytes(), json);
    }

    #[test]
    fn too_many_ids_are_an_error() {
        let json = format!(r#"{{"blobIDs":["m1"{}"#, r#","m1""#.repeat(IDS_MAX - 1));
        let time = r#""cleanupScheduleTime":"2026-07-13T22:00:00Z"}"#;
        let most = format!("{json}],{time}");
        assert!(CleanupEntry::parse(most.as_bytes(), "l").is_ok());
        let more = format!(r#"{json},"m1"],{time}"#);
        let error = CleanupEntry::parse(more.as_bytes(), "l").unwrap_err();
        assert!(error.to_string().contains("at most 100000"), "{error}");
    }
}
