//! Manifest contents, with and without gzip around them.
//!
//! What is read is written and read again with the same IDs.

#![no_main]

use careen::kopia::FormatError;
use careen::kopia::manifest::{ManifestEntry, read_entries, read_gzip_entries, to_gzip_json};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let ended = read_gzip_entries(bytes, "fuzz", |_| Ok::<(), FormatError>(()));
    drop(ended);
    let mut entries: Vec<ManifestEntry> = Vec::new();
    let read = read_entries(bytes, "fuzz", |entry| {
        entries.push(entry);
        Ok::<(), FormatError>(())
    });
    if read.is_err() {
        return;
    }
    let mut ids = Vec::new();
    let written = to_gzip_json(&entries);
    let again = read_gzip_entries(&written[..], "fuzz", |entry| {
        ids.push(entry.id);
        Ok::<(), FormatError>(())
    });
    again.expect("what we write");
    assert!(ids.iter().eq(entries.iter().map(|entry| &entry.id)));
});
