//! Object IDs and the manifests that have one as their root.
//!
//! What parses is shown and parses again to the same.

#![no_main]

use careen::kopia::object_id::ObjectId;
use careen::kopia::snapshot_manifest::SnapshotManifest;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(id) = ObjectId::parse(bytes) {
        let again = ObjectId::parse(id.to_string().as_bytes());
        assert_eq!(again.expect("what we show"), id);
        let index = id.index_object();
        assert_eq!(index.is_some(), id.indirections > 0);
    }
    drop(SnapshotManifest::parse("fuzz", bytes));
});
