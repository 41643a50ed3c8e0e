//! The V0 index manager's notes: which index blobs replace which (`m`), and which notes are to go
//! (`l`).
//!
//! Without epochs a compaction writes new `n` blobs and then a log with its inputs and outputs. A
//! log counts only when all its outputs are listed; then its inputs are no longer part of the
//! index. Decoders keep only the IDs. Memory: at most [`IDS_MAX`] IDs per list of a log. Mirrors
//! Kopia's `index_blob_manager_v0.go`.

use std::collections::HashSet;
use std::fmt;
use std::io::Read;
use std::marker::PhantomData;

use serde::de::{DeserializeOwned, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::clock::Timestamp;
use crate::kopia::FormatError;
use crate::kopia::blob_id::{BlobId, INDEX_V0_POISON};

/// Most IDs in one list. Kopia compacts from 8 small blobs on; 100,000 IDs are 8 MB.
pub const IDS_MAX: usize = 100_000;

/// A blob as Kopia's JSON describes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BlobMetadata {
    /// Its name.
    pub id: BlobId,
    /// Its bytes in storage.
    pub length: i64,
    /// Its storage timestamp.
    pub timestamp: Timestamp,
}

/// The content of an `m` blob: which index blobs went in and came out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CompactionLog {
    /// Index blobs that were merged.
    pub inputs: Vec<BlobId>,
    /// Index blobs that replace them. None: everything was dropped.
    pub outputs: Vec<BlobId>,
}

/// The content of an `l` blob: compaction logs that may go when it is old enough.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CleanupEntry {
    /// The compaction logs.
    pub blob_ids: Vec<BlobId>,
    /// When the cleanup was decided, in storage time.
    pub cleanup_schedule_time: Timestamp,
}

impl CompactionLog {
    /// Reads the decrypted `m` blob named `what`.
    ///
    /// # Errors
    /// JSON of another form, a reader's error, more than [`IDS_MAX`] IDs in a list.
    pub fn parse(json: impl Read, what: &str) -> Result<Self, FormatError> {
        #[derive(Deserialize)]
        struct Log {
            #[serde(default, rename = "inputMetadata", deserialize_with = "bounded")]
            inputs: Vec<IdOnly>,
            #[serde(default, rename = "outputMetadata", deserialize_with = "bounded")]
            outputs: Vec<IdOnly>,
        }
        let log: Log = read(json, what)?;
        Ok(Self {
            inputs: log.inputs.into_iter().map(|blob| blob.id).collect(),
            outputs: log.outputs.into_iter().map(|blob| blob.id).collect(),
        })
    }

    /// Returns the JSON of an `m` blob.
    pub fn to_json(inputs: &[BlobMetadata], outputs: &[BlobMetadata]) -> Vec<u8> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Log<'a> {
            input_metadata: &'a [BlobMetadata],
            output_metadata: &'a [BlobMetadata],
        }
        let log = Log {
            input_metadata: inputs,
            output_metadata: outputs,
        };
        serde_json::to_vec(&log).expect("names, numbers and times always serialise")
    }
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

/// Returns the index blobs that are in use, in the order of `names`: all listed `n` blobs without
/// the inputs of the logs whose outputs are all listed, and without the blob by which an upgrade
/// stops old clients.
///
/// Memory: a reference per name and per superseded ID.
pub fn active_index_blobs(names: &[BlobId], logs: &[CompactionLog]) -> Vec<BlobId> {
    let listed: HashSet<&BlobId> = names.iter().collect();
    let superseded: HashSet<&BlobId> = logs
        .iter()
        .filter(|log| log.outputs.iter().all(|output| listed.contains(output)))
        .flat_map(|log| &log.inputs)
        .collect();
    names
        .iter()
        .filter(|name| name.as_str() != INDEX_V0_POISON && !superseded.contains(name))
        .cloned()
        .collect()
}

/// Blob metadata of which only the ID is kept.
#[derive(Deserialize)]
struct IdOnly {
    id: BlobId,
}

fn read<T: DeserializeOwned>(json: impl Read, what: &str) -> Result<T, FormatError> {
    let mut deserializer = serde_json::Deserializer::from_reader(std::io::BufReader::new(json));
    T::deserialize(&mut deserializer).map_err(|e| FormatError::malformed(what, e.to_string()))
}

/// Reads a list of at most [`IDS_MAX`] items, or `null`, which Go writes for an empty one.
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

    fn ids(names: &[&str]) -> Vec<BlobId> {
        names.iter().copied().map(BlobId::from).collect()
    }

    fn log(inputs: &[&str], outputs: &[&str]) -> CompactionLog {
        CompactionLog {
            inputs: ids(inputs),
            outputs: ids(outputs),
        }
    }

    #[test]
    fn kopias_log_is_read() {
        let json = test_file("compaction-log");
        let log = CompactionLog::parse(&json[..], "m1").unwrap();
        assert_eq!((log.inputs.len(), log.outputs.len()), (7, 1));
        assert_eq!(log.inputs[0].as_str(), "nec63b37af214f314cc469a0f1d2ee58c");
        let cut = CompactionLog::parse(&json[..500], "m1").unwrap_err();
        assert!(cut.to_string().starts_with("m1: EOF"), "{cut}");
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
        let blob = BlobMetadata {
            id: "n1".into(),
            length: 127,
            timestamp: Timestamp::parse("2026-07-13T22:00:00.355512643Z").unwrap(),
        };
        let json = CompactionLog::to_json(&[blob], &[]);
        assert_eq!(
            String::from_utf8(json.clone()).unwrap(),
            concat!(
                r#"{"inputMetadata":[{"id":"n1","length":127,"#,
                r#""timestamp":"2026-07-13T22:00:00.355512643Z"}],"outputMetadata":[]}"#
            )
        );
        assert_eq!(
            CompactionLog::parse(&json[..], "m").unwrap(),
            log(&["n1"], &[])
        );
        let null = br#"{"inputMetadata":[{"id":"n1"}],"outputMetadata":null,"more":1}"#;
        assert_eq!(
            CompactionLog::parse(&null[..], "m").unwrap(),
            log(&["n1"], &[])
        );
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

    #[test]
    fn a_log_counts_when_all_its_outputs_are_listed() {
        let names = ids(&["n1", "n2", "n3", "n4", INDEX_V0_POISON]);
        let active = |logs: &[CompactionLog]| active_index_blobs(&names, logs);
        assert_eq!(active(&[]), ids(&["n1", "n2", "n3", "n4"]));
        assert_eq!(active(&[log(&["n1", "n2"], &["n3"])]), ids(&["n3", "n4"]));
        assert_eq!(
            active(&[log(&["n1", "n2"], &["n3", "n9"])]),
            ids(&["n1", "n2", "n3", "n4"])
        );
        // Without outputs everything was dropped; a chain removes its middle.
        assert_eq!(active(&[log(&["n1"], &[])]), ids(&["n2", "n3", "n4"]));
        let chain = [log(&["n1", "n2"], &["n3"]), log(&["n3", "n7"], &["n4"])];
        assert_eq!(active(&chain), ids(&["n4"]));
    }
}
