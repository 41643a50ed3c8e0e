//! Compaction logs and cleanup entries of the V0 index manager.
//!
//! The index blobs in use are always among those listed, in their order.

#![no_main]

use careen::kopia::blob_id::BlobId;
use careen::kopia::compaction_log::{CleanupEntry, CompactionLog, active_index_blobs};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|json: &[u8]| {
    if let Ok(log) = CompactionLog::parse(json, "fuzz") {
        let mut listed: Vec<BlobId> = log.inputs.iter().chain(&log.outputs).cloned().collect();
        listed.truncate(1_000);
        let active = active_index_blobs(&listed, std::slice::from_ref(&log));
        let mut rest = listed.iter();
        assert!(active.iter().all(|blob| rest.any(|name| name == blob)));
    }
    if let Ok(entry) = CleanupEntry::parse(json, "fuzz") {
        let again = CleanupEntry::parse(&entry.to_json()[..], "fuzz").expect("what we write");
        assert_eq!(again.blob_ids, entry.blob_ids);
    }
});
