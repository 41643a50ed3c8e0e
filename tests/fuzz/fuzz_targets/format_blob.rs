//! The format blob: its outside as JSON, and its envelope with a key that does not fit.
//!
//! What is read is written and read again. The inside cannot be reached without the password.

#![no_main]

use careen::kopia::format_blob::FormatBlob;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|json: &[u8]| {
    let Ok(blob) = FormatBlob::parse(json) else {
        return;
    };
    assert!(blob.unlock_with_key(&[7; 32]).is_err());
    let again = FormatBlob::parse(&blob.to_json()).expect("what we write");
    assert_eq!(again.to_json(), blob.to_json());
});
