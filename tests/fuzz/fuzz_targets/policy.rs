//! Policies: the tree of those that apply to a source, merged.
//!
//! Policies come from a manifest content. Whatever their targets and payloads: merging ends, the
//! defaults fill what is open unless a policy takes none, and the order in which policies are found
//! does not matter.

#![no_main]

use std::collections::BTreeSet;

use careen::kopia::FormatError;
use careen::kopia::manifest::{ManifestEntry, read_entries, read_gzip_entries};
use careen::kopia::policy::PolicyTree;
use careen::kopia::snapshot_manifest::SnapshotSource;
use libfuzzer_sys::fuzz_target;

fn tree<'a>(entries: impl Iterator<Item = &'a ManifestEntry>) -> PolicyTree {
    let mut tree = PolicyTree::default();
    for entry in entries {
        // One that is no policy is an error of its own, and leaves the tree as it was.
        let before = tree.bytes();
        if tree.add(entry).is_err() {
            assert_eq!(tree.bytes(), before);
        }
    }
    tree
}

/// The source that a policy is for, and one below it.
fn sources(entry: &ManifestEntry) -> [SnapshotSource; 2] {
    let label = |name: &str| entry.labels.get(name).cloned().unwrap_or_default();
    let own = SnapshotSource {
        host: label("hostname"),
        user: label("username"),
        path: label("path"),
    };
    let below = SnapshotSource {
        path: format!("{}/below/it", own.path),
        ..own.clone()
    };
    [own, below]
}

fuzz_target!(|bytes: &[u8]| {
    let mut entries: Vec<ManifestEntry> = Vec::new();
    let mut keep = |entry| {
        entries.push(entry);
        Ok::<(), FormatError>(())
    };
    let read = match bytes.starts_with(&[0x1f, 0x8b]) {
        true => read_gzip_entries(bytes, "fuzz", &mut keep),
        false => read_entries(bytes, "fuzz", &mut keep),
    };
    if read.is_err() {
        return;
    }
    let names: BTreeSet<_> = entries
        .iter()
        .map(|entry| (entry.modified, &entry.id))
        .collect();
    let unique = names.len() == entries.len();
    let takes_none = |entry: &ManifestEntry| entry.data.get().contains("noParent");
    let defaults = !entries.iter().any(takes_none);
    let (forward, backward) = (tree(entries.iter()), tree(entries.iter().rev()));
    for source in entries.iter().flat_map(sources) {
        let merged = forward.effective(&source);
        if unique {
            assert_eq!(merged, backward.effective(&source));
        }
        if defaults {
            assert!(merged.keep_latest.is_some() && merged.keep_annual.is_some());
        }
    }
});
