//! One row of a content list, whoever made it: Kopia, the independent reader, or a golden
//! description.
//!
//! The three are compared for equality in every field, so all lists are sorted by content ID. The
//! digest is the one that the golden descriptions carry (fixtures/golden/README.md). Memory: the
//! list itself, which is why suites that need millions of entries do not use it.

use sha2::{Digest, Sha256};

/// What an index says of one content: the winning entry.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ContentRow {
    /// Content ID as text.
    pub id: String,
    /// Whether the entry is a tombstone.
    pub deleted: bool,
    /// Time of the entry in whole seconds since 1970.
    pub time_seconds: i64,
    /// Length of the plain content in bytes.
    pub length: u64,
    /// Length in the pack in bytes: compressed, encrypted, with ECC.
    pub packed_length: u64,
    /// Pack blob ID.
    pub pack: String,
    /// Offset in the pack in bytes.
    pub offset: u64,
    /// Header ID of the compressor, 0 for none.
    pub compression: u64,
}

/// Returns the SHA-256 of `rows` as the golden descriptions define it; sorts by ID first.
pub fn digest(rows: &[ContentRow]) -> String {
    let mut sorted: Vec<&ContentRow> = rows.iter().collect();
    sorted.sort();
    let mut hash = Sha256::new();
    for row in sorted {
        let deleted = u8::from(row.deleted);
        hash.update(format!(
            "{} {deleted} {} {} {} {}\n",
            row.id, row.time_seconds, row.length, row.packed_length, row.pack
        ));
    }
    hex::encode(hash.finalize())
}

/// Describes how two sorted lists differ: at most ten rows of each side, or `None` when they are
/// equal.
pub fn difference(left: &[ContentRow], right: &[ContentRow]) -> Option<String> {
    const ROWS_MAX: usize = 10;
    if left == right {
        return None;
    }
    let only = |here: &[ContentRow], there: &[ContentRow]| -> Vec<String> {
        let there: std::collections::BTreeSet<_> = there.iter().collect();
        let missing = here.iter().filter(|row| !there.contains(row));
        missing.map(|row| format!("{row:?}")).collect()
    };
    let (lost, new) = (only(left, right), only(right, left));
    Some(format!(
        "{} rows only on the left, {} only on the right\nleft:\n{}\nright:\n{}",
        lost.len(),
        new.len(),
        lost[..lost.len().min(ROWS_MAX)].join("\n"),
        new[..new.len().min(ROWS_MAX)].join("\n"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(id: &str) -> ContentRow {
        ContentRow {
            id: id.to_owned(),
            deleted: false,
            time_seconds: 1,
            length: 2,
            packed_length: 3,
            pack: "p1".to_owned(),
            offset: 4,
            compression: 0,
        }
    }

    #[test]
    fn the_digest_does_not_depend_on_order() {
        let (a, b) = (row("a"), row("b"));
        let forward = digest(&[a.clone(), b.clone()]);
        assert_eq!(forward, digest(&[b, a]));
        let expected = Sha256::digest("a 0 1 2 3 p1\nb 0 1 2 3 p1\n");
        assert_eq!(forward, hex::encode(expected));
    }

    #[test]
    fn a_difference_names_the_rows_of_both_sides() {
        let (a, b) = (row("a"), row("b"));
        assert_eq!(
            difference(std::slice::from_ref(&a), std::slice::from_ref(&a)),
            None
        );
        let text = difference(&[a], &[b]).expect("they differ");
        assert!(text.contains("1 rows only on the left, 1 only on the right"));
        assert!(text.contains("\"a\"") && text.contains("\"b\""), "{text}");
    }
}
