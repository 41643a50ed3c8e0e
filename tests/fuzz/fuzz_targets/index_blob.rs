//! Index blobs of both versions: every table, row, pack name and format, and headers of large
//! blobs.
//!
//! Whatever an entry says, its pack name lies in the blob, or reading it is an error.

#![no_main]

use careen::kopia::index_blob::{HEADER_BYTES_MAX, IndexBlob, IndexLayout};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u64, u8, &[u8])| {
    let (total_bytes, overhead, bytes) = input;
    let header = &bytes[..bytes.len().min(HEADER_BYTES_MAX)];
    if let Ok(layout) = IndexLayout::parse(header, total_bytes, "fuzz") {
        assert!(layout.names_at <= total_bytes);
    }
    let Ok(blob) = IndexBlob::parse(bytes, "fuzz") else {
        return;
    };
    let ordered = blob.keys_ascending().is_ok();
    let mut previous: &[u8] = &[];
    for row in 0..blob.len() {
        let key = blob.key(row);
        assert!(!ordered || key > previous);
        previous = key;
        let Ok(entry) = blob.entry(row, u32::from(overhead)) else {
            continue;
        };
        let name = blob.pack_name(entry.pack).expect("decoding has checked it");
        assert!(name.len() <= bytes.len() && entry.pack_offset < 1 << 31);
        blob.format(&entry).expect("decoding has checked it");
    }
    assert!(blob.row(blob.len()).is_empty());
});
