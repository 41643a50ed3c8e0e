//! What Kopia prints, as sorted values that can be compared for equality.
//!
//! Mirrors the output of Kopia's cli/command_content_list.go, command_index_list.go,
//! command_index_inspect.go, command_index_epoch_list.go and command_content_verify.go. A line that
//! is not understood makes the whole answer `None`: a list that lost a row in silence would judge
//! wrongly.

use careen::clock::Timestamp;
use serde_json::Value;

use crate::contents::ContentRow;

/// An index blob of `index list`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct IndexBlob {
    /// Blob ID.
    pub id: String,
    /// Length in bytes.
    pub length: u64,
    /// Storage time.
    pub time: Timestamp,
}

/// An entry of `index inspect`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct IndexEntry {
    /// Content ID.
    pub content: String,
    /// Whether it is a tombstone.
    pub deleted: bool,
    /// Time of the entry as Kopia prints it, in UTC.
    pub time: String,
    /// Pack blob ID.
    pub pack: String,
    /// Offset in the pack in bytes.
    pub offset: u64,
    /// Length in the pack in bytes.
    pub packed_length: u64,
    /// Index blob that holds it.
    pub index_blob: String,
}

/// What `index epoch list` says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EpochList {
    /// The write epoch.
    pub write_epoch: u32,
    /// Unsettled epochs with index blobs and how many, newest first; settled ones Kopia leaves out.
    pub uncompacted: Vec<(u32, u64)>,
    /// Epochs with a single-epoch compaction and its blobs, newest first.
    pub single: Vec<(u32, u64)>,
    /// The range chain: first epoch, last epoch, blobs.
    pub ranges: Vec<(u32, u32, u64)>,
}

pub(super) fn contents(text: &str) -> Option<Vec<ContentRow>> {
    let list: Value = serde_json::from_str(text).ok()?;
    let rows = list.as_array()?.iter().map(|row| {
        Some(ContentRow {
            id: row["contentID"].as_str()?.to_owned(),
            deleted: row["deleted"].as_bool()?,
            time_seconds: row["time"].as_i64()?,
            length: row["originalLength"].as_u64()?,
            packed_length: row["length"].as_u64()?,
            pack: row["packFile"].as_str()?.to_owned(),
            offset: row["packOffset"].as_u64().unwrap_or(0), // left out when zero
            compression: row["compression"].as_u64().unwrap_or(0), // the same
        })
    });
    sorted(rows.collect::<Option<_>>()?)
}

pub(super) fn index_blobs(text: &str) -> Option<Vec<IndexBlob>> {
    let list: Value = serde_json::from_str(text).ok()?;
    let blobs = list.as_array()?.iter().map(|blob| {
        Some(IndexBlob {
            id: blob["id"].as_str()?.to_owned(),
            length: blob["length"].as_u64()?,
            time: Timestamp::parse(blob["timestamp"].as_str()?)?,
        })
    });
    sorted(blobs.collect::<Option<_>>()?)
}

pub(super) fn index_entries(text: &str) -> Option<Vec<IndexEntry>> {
    let entries = text.lines().map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        // date clock zone blob content state date clock zone pack offset length
        let [
            _,
            _,
            _,
            blob,
            content,
            state,
            date,
            clock,
            zone,
            pack,
            offset,
            length,
        ] = words[..]
        else {
            return None;
        };
        Some(IndexEntry {
            content: content.to_owned(),
            deleted: match state {
                "created" => false,
                "deleted" => true,
                _ => return None,
            },
            time: format!("{date} {clock} {zone}"),
            pack: pack.to_owned(),
            offset: offset.parse().ok()?,
            packed_length: length.parse().ok()?,
            index_blob: blob.to_owned(),
        })
    });
    sorted(entries.collect::<Option<_>>()?)
}

pub(super) fn epochs(text: &str) -> Option<EpochList> {
    let mut list = EpochList::default();
    let mut lines = text.lines();
    list.write_epoch = lines
        .next()?
        .strip_prefix("Current Epoch: ")?
        .parse()
        .ok()?;
    for line in lines.filter(|line| !line.starts_with("Epoch Started")) {
        let blobs = |text: &str| -> Option<u64> {
            let words: Vec<&str> = text.split_whitespace().collect();
            let at = words.iter().position(|word| word.starts_with("blobs"))?;
            words.get(at.checked_sub(1)?)?.parse().ok()
        };
        if let Some((range, rest)) = line.split_once(": range, ") {
            let (min, max) = range.split_once('-')?;
            list.ranges
                .push((min.parse().ok()?, max.parse().ok()?, blobs(rest)?));
        } else if let Some((epoch, rest)) = line.split_once(": ").filter(|_| single(line)) {
            list.single.push((epoch.parse().ok()?, blobs(rest)?));
        } else {
            let (epoch, rest) = line.split_once(' ')?;
            list.uncompacted.push((epoch.parse().ok()?, blobs(rest)?));
        }
    }
    Some(list)
}

fn single(line: &str) -> bool {
    line.contains(" single-epoch ")
}

/// Reads how many contents `content verify` has verified: counters from 0.22, a sentence before.
pub(super) fn verified(text: &str) -> Option<u64> {
    if let Some((_, counters)) = text.split_once("verifyCounters:") {
        let counters: Value = serde_json::from_str(counters.trim().lines().next()?).ok()?;
        return counters["verifiedContents"].as_u64();
    }
    let (_, count) = text.split_once("Finished verifying ")?;
    count.split_whitespace().next()?.parse().ok()
}

pub(super) fn sorted_lines(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

fn sorted<T: Ord>(mut list: Vec<T>) -> Option<Vec<T>> {
    list.sort();
    Some(list)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epochs_of_all_three_kinds_are_read() {
        let text = "Current Epoch: 10\nEpoch Started  2026-08-10 23:00:00 UTC\n\
            10 2026-08-11 00:30:00 UTC ... 2026-08-11 00:30:00 UTC, 1 blobs, 143 B, span 0s\n\
            9 2026-08-10 01:00:00 UTC ... 2026-08-10 23:00:00 UTC, 15 blobs, 3.4 KB, span 22h0m0s\n\
            8: 2026-08-10 23:00:00 UTC single-epoch 2 blobs, 4 KB\n\
            0-3: range, 1 blobs, 4.5 KB\n4-7: range, 1 blobs, 7.3 KB\n";
        let expected = EpochList {
            write_epoch: 10,
            uncompacted: vec![(10, 1), (9, 15)],
            single: vec![(8, 2)],
            ranges: vec![(0, 3, 1), (4, 7, 1)],
        };
        assert_eq!(epochs(text), Some(expected));
        assert_eq!(epochs("Current Epoch: 1\nwhat is this\n"), None);
    }

    #[test]
    fn a_line_that_is_not_understood_spoils_the_list() {
        let good = "2026-11-25 13:35:52.154 UTC xn0_38-s15-c1 1d0b created \
            2026-11-25 13:35:52.000 UTC pf53-s15 6088 3028\n";
        let read = index_entries(good).unwrap();
        assert_eq!(read[0].pack, "pf53-s15");
        assert_eq!((read[0].offset, read[0].packed_length), (6088, 3028));
        assert_eq!(index_entries(&good.replace("created", "lost")), None);
        assert_eq!(index_entries(&format!("{good}odd\n")), None);
        assert_eq!(contents("[{\"contentID\":\"ab\"}]"), None);
    }

    #[test]
    fn both_ways_to_report_a_verification_are_read() {
        let old = "Finished verifying 6 contents, found 0 errors.";
        let new = "Finished verifying contents\nverifyCounters:\t{\"verifiedContents\":7}\n";
        assert_eq!((verified(old), verified(new)), (Some(6), Some(7)));
        assert_eq!(verified("Finished verifying contents"), None);
    }
}
