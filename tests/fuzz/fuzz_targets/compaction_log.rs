//! Compaction logs and cleanup entries of the V0 index manager.
//!
//! A reader sees the same blobs however early it stops; what we write comes back.

#![no_main]

use careen::kopia::compaction_log::{CleanupEntry, read_log};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|json: &[u8]| {
    let mut blobs = Vec::new();
    let read = read_log(json, "fuzz", &mut |side, name| {
        blobs.push((side, name.to_owned()));
        true
    });
    if read.is_ok() {
        let wanted = blobs.len() / 2;
        let mut seen = Vec::new();
        let all = read_log(json, "fuzz", &mut |side, name| {
            seen.push((side, name.to_owned()));
            seen.len() < wanted
        });
        assert_eq!(all.expect("as before"), blobs.is_empty());
        assert!(blobs.starts_with(&seen));
    }
    if let Ok(entry) = CleanupEntry::parse(json, "fuzz") {
        let again = CleanupEntry::parse(&entry.to_json()[..], "fuzz").expect("what we write");
        assert_eq!(again.blob_ids, entry.blob_ids);
    }
});
