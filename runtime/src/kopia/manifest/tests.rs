//! Tests of manifest contents: real ones, odd ones, and those that must be refused.
//! An entry that is skipped in silence would make its snapshot collectable.

use super::*;
use crate::clock::Timestamp;

fn read(json: impl Read) -> Result<Vec<ManifestEntry>, FormatError> {
    let mut entries = Vec::new();
    read_entries(json, "content m1", |entry| {
        entries.push(entry);
        Ok::<_, FormatError>(())
    })?;
    Ok(entries)
}

fn error_of(json: &str) -> String {
    read(json.as_bytes()).unwrap_err().to_string()
}

fn real() -> Vec<u8> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/kopia/testdata");
    std::fs::read(format!("{folder}/manifests.gz")).unwrap()
}

/// A content that Kopia wrote: a snapshot, a tombstone, a policy; and what we write of it is the
/// same JSON.
#[test]
fn kopias_content() {
    let gzip = real();
    let mut entries = Vec::new();
    read_gzip_entries(&gzip[..], "m", |entry| {
        entries.push(entry);
        Ok::<_, FormatError>(())
    })
    .unwrap();
    let kinds: Vec<_> = entries.iter().map(|e| (e.kind(), e.deleted)).collect();
    assert_eq!(
        kinds,
        [
            (Some("snapshot"), false),
            (None, true),
            (Some("policy"), false)
        ]
    );
    assert_eq!(entries[0].id, "bf218ffebf234c257eb4d5185d00c5a3");
    assert_eq!(
        Some(entries[0].modified),
        Timestamp::parse("2026-09-03T08:00:00.771723067Z")
    );
    assert!(entries[0].data.get().starts_with(r#"{"id":"","source":"#));
    assert_eq!(entries[1].data.get(), "null");
    let unzipped = |gzip: &[u8]| {
        let mut text = String::new();
        flate2::read::GzDecoder::new(gzip)
            .read_to_string(&mut text)
            .unwrap();
        text
    };
    assert_eq!(unzipped(&to_gzip_json(&entries)), unzipped(&gzip));
}

#[test]
fn a_cut_content_is_an_error() {
    let gzip = real();
    for cut in [0, 10, 100, gzip.len() - 30] {
        let result = read_gzip_entries(&gzip[..cut], "m", |_| Ok::<_, FormatError>(()));
        assert!(result.is_err(), "cut at {cut}");
    }
}

#[test]
fn names_match_without_case_and_unknown_fields_of_entries_are_skipped() {
    let json = r#"{"Entries":[{"ID":"a","Labels":{"type":"x","n":null},
        "MODIFIED":"2026-01-01T01:00:00+01:00","new":[1,{"a":2}],
        "Data":{"k":1},"deleted":false,"id":null}]} trailing"#;
    let entries = read(json.as_bytes()).unwrap();
    assert_eq!(entries[0].id, "a");
    assert_eq!(entries[0].labels["n"], "");
    assert_eq!(
        Some(entries[0].modified),
        Timestamp::parse("2026-01-01T00:00:00Z")
    );
    assert_eq!(entries[0].data.get(), r#"{"k":1}"#);
    assert!(read(&b"{}"[..]).unwrap().is_empty());
    assert!(read(&br#"{"entries":[]}"#[..]).unwrap().is_empty());
}

#[test]
fn what_is_odd_is_an_error() {
    assert!(error_of(r#"{"entries":[],"more":1}"#).contains("field \"more\" is not known"));
    assert!(error_of(r#"{"entries":[],"ENTRIES":[]}"#).contains("twice"));
    assert!(error_of(r#"{"entries":[null]}"#).contains("a manifest"));
    assert!(error_of(r#"{"entries":null}"#).contains("a list of manifests"));
    assert!(error_of(r#"{"entries":[{"labels":{"type":"x"}}]}"#).contains("without an ID"));
    assert!(error_of(r#"{"entries":[{"id":"a","labels":{}}]}"#).contains("manifest a has no type"));
    assert!(error_of(r#"{"entries":[{"id":"a","modified":"soon"}]}"#).contains("RFC 3339"));
    assert!(error_of("[]").starts_with("content m1: invalid type"));
    assert!(error_of("").starts_with("content m1: EOF"));
}

#[test]
fn the_receiver_can_stop() {
    #[derive(Debug)]
    enum Stop {
        Enough(String),
        Format,
    }
    impl From<FormatError> for Stop {
        fn from(_: FormatError) -> Self {
            Self::Format
        }
    }
    let gzip = real();
    let stopped = read_gzip_entries(&gzip[..], "m", |entry| Err(Stop::Enough(entry.id)));
    assert!(matches!(stopped, Err(Stop::Enough(id)) if id.starts_with("bf218")));
    let broken = read_entries(&b"["[..], "m", |_| Err(Stop::Enough(String::new())));
    assert!(matches!(broken, Err(Stop::Format)));
}

/// An entry of endless length is refused at the limit, wherever its bytes are; many long entries
/// are not.
#[test]
fn one_entry_is_bounded() {
    const MAX: u64 = 10_000;
    let take = |_| Ok::<_, FormatError>(());
    for start in [
        r#"{"entries":[{"id":"a","data":""#,
        r#"{"entries":[{"id":"a","labels":{"type":""#,
        r#"{"entries":[{"x":""#,
        r#"{""#,
    ] {
        let endless = start.as_bytes().chain(io::repeat(b'a'));
        let error = read_bounded(endless, "m", MAX, take)
            .unwrap_err()
            .to_string();
        assert!(error.contains("more than 10000 bytes"), "{error}");
    }
    let long = "b".repeat(6000);
    let entry = format!(r#"{{"id":"a","labels":{{"type":"x"}},"data":"{long}"}}"#);
    let json = format!(r#"{{"entries":[{entry},{entry},{entry}]}}"#);
    let mut bytes = 0;
    read_bounded(json.as_bytes(), "m", MAX, |entry| {
        bytes += entry.data.get().len();
        Ok::<_, FormatError>(())
    })
    .unwrap();
    assert_eq!(bytes, 3 * (long.len() + 2));
}
