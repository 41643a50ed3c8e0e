//! The end of a pack blob: the postamble that says where its local index lies.
//!
//! A local index that is found lies inside the pack.

#![no_main]

use careen::kopia::pack::Postamble;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u64, &[u8])| {
    let (pack_bytes, tail) = input;
    let Some(postamble) = Postamble::find(tail) else {
        return;
    };
    if let Some(range) = postamble.local_index(pack_bytes) {
        assert!(range.start <= range.end && range.end < pack_bytes);
    }
    if let Ok(written) = postamble.encode() {
        assert_eq!(Postamble::find(&written).as_ref(), Some(&postamble));
    }
});
