//! Times as Kopia's JSON has them: whatever the text, no panic; what is read is written and read
//! again.
//!
//! Kopia writes Go's RFC 3339 with any offset and up to nine fractional digits, and the zero time.

#![no_main]

use careen::clock::Timestamp;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Some(time) = Timestamp::parse(text) {
        let _ = (time.seconds(), time.since(Timestamp::default()));
        let again = Timestamp::parse(&time.to_string());
        assert!(again.is_none() || again == Some(time), "{text}: {time}");
    }
});
