//! Replaces names in batches by keyed hashes, so that a recording can be handed on.
//!
//! The same name has the same hash in one file, another one in each other file: the key is random
//! and nobody keeps it. Paths keep their depth, each part is a hash of its own, so that rules about
//! parts still work. What stays: IDs, times, sizes, keys of tags, and Velero's own pin, which says
//! nothing of anybody. No memory cost.

use std::collections::BTreeMap;

use crate::kopia::snapshot_manifest::SnapshotSource;
use crate::maintenance::retention::VELERO_PIN;

use super::{Batch, SnapshotLine};

/// Bytes of a hash that are kept: 48 bits, so that a million names do not meet.
const HASH_BYTES: usize = 6;

/// Hashes names with a key.
pub struct Names {
    key: [u8; 32],
}

impl Names {
    /// Makes hashes with `key`, 32 random bytes.
    pub fn new(key: [u8; 32]) -> Self {
        Self { key }
    }

    /// Replaces the names in a batch.
    pub fn hide(&self, batch: &mut Batch) {
        match batch {
            Batch::Source(line) => self.hide_source(&mut line.source),
            Batch::Snapshots(rows) => rows.iter_mut().for_each(|row| self.hide_snapshot(row)),
            Batch::Tenants(line) => line.snapshots.iter_mut().for_each(|row| {
                self.hide_source(&mut row.source);
                self.hide_values(&mut row.tags);
            }),
            // They have none.
            Batch::Zone(_) | Batch::Split(_) | Batch::Repack(_) | Batch::Schedule(_) => {}
        }
    }

    fn hide_source(&self, source: &mut SnapshotSource) {
        source.host = self.hash(&source.host);
        source.user = self.hash(&source.user);
        source.path = self.hash_path(&source.path);
    }

    fn hide_snapshot(&self, row: &mut SnapshotLine) {
        for pin in row.pins.iter_mut().filter(|pin| *pin != VELERO_PIN) {
            *pin = self.hash(pin);
        }
        self.hide_values(&mut row.tags);
    }

    fn hide_values(&self, tags: &mut BTreeMap<String, String>) {
        for value in tags.values_mut() {
            *value = self.hash(value);
        }
    }

    fn hash(&self, name: &str) -> String {
        if name.is_empty() {
            return String::new();
        }
        let digest = blake3::keyed_hash(&self.key, name.as_bytes());
        hex::encode(&digest.as_bytes()[..HASH_BYTES])
    }

    fn hash_path(&self, path: &str) -> String {
        let separators = ['/', '\\'];
        let parts = path.split_inclusive(separators);
        let hidden = parts.map(|part| {
            let name = part.trim_end_matches(separators);
            let separator = &part[name.len()..];
            format!("{}{separator}", self.hash(name))
        });
        hidden.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::maintenance::retention::is_veleros;

    #[test]
    fn the_same_name_has_the_same_hash_and_a_path_its_parts() {
        let names = Names::new([7; 32]);
        let path = names.hash_path("/home/alice/a");
        let parts: Vec<&str> = path.split('/').collect();
        assert_eq!(parts.len(), 4, "{path}");
        assert_eq!((parts[0], parts[1]), ("", &*names.hash("home")));
        assert_eq!(parts[2], names.hash("alice"));
        assert_ne!(parts[2], Names::new([8; 32]).hash("alice"));
        assert_eq!(names.hash_path(r"C:\data\").matches('\\').count(), 2);
        assert_eq!(names.hash(""), "");
    }

    #[test]
    fn no_name_stays_but_velero_is_still_velero() {
        let names = Names::new([7; 32]);
        let mut row = SnapshotLine {
            id: "0123".into(),
            pins: vec!["secret-pin".into(), VELERO_PIN.into()],
            tags: [("tag:team".to_owned(), "secret-team".to_owned())].into(),
            ..SnapshotLine::default()
        };
        names.hide_snapshot(&mut row);
        let source = SnapshotSource {
            host: "secret-host".into(),
            user: "secret-user".into(),
            path: "/secret/path".into(),
        };
        let mut hidden = source.clone();
        names.hide_source(&mut hidden);
        let told = format!("{row:?} {hidden:?}");
        assert!(!told.contains("secret"), "{told}");
        assert!(is_veleros(&row.row(&source)));
    }
}
