//! Directories and index objects, in one piece and in small ones: both must read the same.
//!
//! Neither may panic, whatever the bytes.

#![no_main]

use careen::kopia::FormatError;
use careen::kopia::directory::DirectoryReader;
use careen::kopia::indirect_object::IndirectReader;
use libfuzzer_sys::fuzz_target;

fn directory(bytes: &[u8], piece_bytes: usize) -> (Vec<String>, bool) {
    let (mut rows, mut reader) = (Vec::new(), DirectoryReader::new());
    let mut fine = true;
    for piece in bytes.chunks(piece_bytes) {
        let pushed = reader.push(piece, &"fuzz", |entry| {
            rows.push(format!("{} {:?} {}", entry.name, entry.kind, entry.object));
            Ok::<(), FormatError>(())
        });
        if pushed.is_err() {
            fine = false;
            break;
        }
    }
    let finished = reader.finish(&"fuzz").is_ok();
    (rows, fine && finished)
}

fn parts(bytes: &[u8], piece_bytes: usize) -> (Vec<String>, bool) {
    let (mut rows, mut reader) = (Vec::new(), IndirectReader::new());
    let mut fine = true;
    for piece in bytes.chunks(piece_bytes) {
        let pushed = reader.push(piece, &"fuzz", |part| {
            rows.push(format!("{part:?}"));
            Ok::<(), FormatError>(())
        });
        if pushed.is_err() {
            fine = false;
            break;
        }
    }
    let finished = reader.finish(&"fuzz").is_ok();
    (rows, fine && finished)
}

fuzz_target!(|bytes: &[u8]| {
    let Some((first, bytes)) = bytes.split_first() else {
        return;
    };
    let piece_bytes = usize::from(*first).max(1);
    let whole = bytes.len().max(1);
    assert_eq!(directory(bytes, piece_bytes), directory(bytes, whole));
    assert_eq!(parts(bytes, piece_bytes), parts(bytes, whole));
});
