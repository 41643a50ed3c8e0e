//! The demo as a newcomer runs it: it ends, and its table says what was seen.
//! A repository of some thousand entries keeps it quick in a build for tests.

use super::*;

/// Goal: the whole demo works from making to the table, and leaves nothing behind; method: a small
/// one.
#[cfg(feature = "plugins")]
#[test]
fn the_demo_ends_with_a_table() {
    let directory = tempfile::tempdir().unwrap();
    let scratch = directory.path().to_str().unwrap();
    let shape = [
        "demo",
        "--entries",
        "5000",
        "--index-blobs",
        "50",
        "--no-kopia",
    ];
    let place = ["--scratch", scratch, "--no-json"];
    let told = careen(&[&shape[..], &place].concat()).output().unwrap();
    assert_eq!(told.status.code(), Some(0), "{told:?}");
    let words = text(&told.stdout);
    for part in [
        "before",
        "after",
        "5,001",
        "peak memory",
        "limit 64 MiB",
        "careen verify",
    ] {
        assert!(words.contains(part), "{part}: {words}");
    }
    let left: Vec<_> = std::fs::read_dir(scratch)
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    let left: Vec<_> = left.iter().filter(|path| path.is_dir()).collect();
    assert!(left.is_empty(), "{left:?}");
}
