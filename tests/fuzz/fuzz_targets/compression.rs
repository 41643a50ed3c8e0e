//! Every decompressor, on streams that end anywhere and claim anything.
//!
//! The first two bytes choose the header ID; output is read up to a bound, as callers do.

#![no_main]

use std::io::{Cursor, Read};

use careen::kopia::compression::{decompress, decompress_object};
use libfuzzer_sys::fuzz_target;

/// Most bytes that are read: more than any content of the fuzzer's inputs needs to show a fault.
const OUTPUT_BYTES_MAX: u64 = 1 << 20;

fuzz_target!(|input: (u16, Vec<u8>)| {
    let (header_id, body) = input;
    if let Ok(plain) = decompress(u32::from(header_id), Cursor::new(body.clone()), "fuzz") {
        let _ = plain.take(OUTPUT_BYTES_MAX).read_to_end(&mut Vec::new());
    }
    if let Ok(plain) = decompress_object(Cursor::new(body), "fuzz") {
        let _ = plain.take(OUTPUT_BYTES_MAX).read_to_end(&mut Vec::new());
    }
});
