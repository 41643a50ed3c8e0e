//! What a reader of a repository sees, by rules written down once more: slow, obvious, other code.
//!
//! Names are taken apart here, not by Careen's format floor, so that a slip there shows. Blobs are
//! opened by it: its bytes are judged by vectors, real Kopia and the independent reader. Memory:
//! all entries.

use std::collections::{BTreeMap, BTreeSet};

use careen::blob::Storage;
use careen::kopia::content_id::ContentId;
use careen::kopia::index_blob::IndexBlob;
use careen::kopia::sealed_blob::BlobCrypto;
use serde_json::Value;

use super::Entry;

/// The winner of every content.
pub type View = BTreeMap<Vec<u8>, Entry>;

/// Which of several complete sets a reader takes: Kopia takes what its listing completes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// Names in ascending order: object stores.
    First,
    /// Names in descending order: a folder may be listed in any order.
    Last,
}

/// Adds an entry by Kopia's rule; of equal ones the smaller offset and lengths, as Careen does.
pub fn add(view: &mut View, entry: Entry) {
    let order = |e: &Entry| {
        let place = (e.offset, e.packed_length, e.original_length);
        (
            e.timestamp_seconds,
            !e.deleted,
            e.pack.clone(),
            std::cmp::Reverse(place),
        )
    };
    match view.get(&entry.key) {
        Some(present) if order(present) >= order(&entry) => {}
        _ => {
            view.insert(entry.key.clone(), entry);
        }
    }
}

/// Returns the winners of `entries`.
pub fn winners(entries: impl IntoIterator<Item = Entry>) -> View {
    let mut view = View::new();
    for entry in entries {
        add(&mut view, entry);
    }
    view
}

/// Opens and decodes an index blob.
pub fn entries_of(crypto: &BlobCrypto, name: &str, sealed: &[u8]) -> Result<Vec<Entry>, String> {
    entries_of_plain(&plaintext(crypto, name, sealed)?, name)
}

/// Decodes the plaintext of an index blob, or of the local index of a pack; `name` for messages.
pub fn entries_of_plain(plain: &[u8], name: &str) -> Result<Vec<Entry>, String> {
    let blob = IndexBlob::parse(plain, name).map_err(|error| error.to_string())?;
    let row = |row| -> Result<Entry, careen::kopia::FormatError> {
        let entry = blob.entry(row, 28)?;
        let format = blob.format(&entry)?;
        Ok(Entry {
            key: blob.key(row).to_vec(),
            timestamp_seconds: entry.timestamp_seconds,
            deleted: entry.deleted,
            pack: String::from_utf8_lossy(blob.pack_name(entry.pack)?).into_owned(),
            offset: entry.pack_offset,
            packed_length: entry.packed_length,
            original_length: entry.original_length,
            compression: format.compression_header_id,
            format_version: format.format_version,
        })
    };
    let rows: Result<Vec<Entry>, _> = (0..blob.len()).map(row).collect();
    rows.map_err(|error| error.to_string())
}

/// Opens a sealed blob; its name must be the hash of what is inside.
pub fn plaintext(crypto: &BlobCrypto, name: &str, sealed: &[u8]) -> Result<Vec<u8>, String> {
    let (mut bytes, mut scratch) = (sealed.to_vec(), Vec::new());
    let range = crypto.open(name, &mut bytes, &mut scratch);
    let plain = bytes[range.map_err(|error| error.to_string())?].to_vec();
    let hash = crypto.hash.hash(&plain).to_hex();
    if name
        .split('-')
        .next()
        .is_some_and(|head| head.ends_with(&hash))
    {
        Ok(plain)
    } else {
        Err(format!("{name} is not named after its contents"))
    }
}

/// Returns what a reader of `storage` sees, tombstones below a watermark too.
pub fn view(storage: &Storage, crypto: &BlobCrypto, choice: Choice) -> Result<View, String> {
    let mut names = listed(storage, "x")?;
    if choice == Choice::Last {
        names.reverse();
    }
    let mut view = View::new();
    for name in active(&names) {
        for entry in entries_of(crypto, &name, &read(storage, &name)?)? {
            add(&mut view, entry);
        }
    }
    Ok(view)
}

/// Returns the index blobs that a reader uses, of all blobs in the order of their listing.
pub fn active(names: &[String]) -> Vec<String> {
    let write_epoch = names
        .iter()
        .filter_map(|name| number_after(name, "xe"))
        .max();
    let write_epoch = write_epoch.unwrap_or(0);
    let mut ranges: BTreeMap<(u64, u64), Vec<String>> = BTreeMap::new();
    for name in names.iter().filter(|name| name.starts_with("xr")) {
        let mut parts = name[2..].split('_');
        if let (Some(Ok(min)), Some(Ok(max))) =
            (parts.next().map(str::parse), parts.next().map(str::parse))
        {
            ranges.entry((min, max)).or_default().push(name.clone());
        }
    }
    let ranges = ranges
        .into_iter()
        .filter_map(|(range, names)| Some((range, first_complete(&names)?)))
        .collect();
    let (mut used, mut start) = (Vec::new(), 0);
    for range in longest_chain(&ranges, 0) {
        if range.1 > start {
            used.extend(ranges[&range].clone());
            start = range.1 + 1;
        }
    }
    for epoch in start..=write_epoch + 1 {
        let of = |kind: &str| -> Vec<String> {
            let prefix = format!("{kind}{epoch}_");
            let own = names.iter().filter(|name| name.starts_with(&prefix));
            own.cloned().collect()
        };
        match first_complete(&of("xs")) {
            Some(set) if epoch + 2 <= write_epoch => used.extend(set),
            _ => used.extend(of("xn")),
        }
    }
    used
}

/// Returns the chain of ranges from `start` that ends highest, with the fewest ranges.
fn longest_chain(ranges: &BTreeMap<(u64, u64), Vec<String>>, start: u64) -> Vec<(u64, u64)> {
    let mut best: Vec<(u64, u64)> = Vec::new();
    for &(min, max) in ranges
        .keys()
        .filter(|(min, max)| *min == start && max >= min)
    {
        let mut chain = vec![(min, max)];
        chain.extend(longest_chain(ranges, max + 1));
        let ends = |chain: &[(u64, u64)]| chain.last().map_or(0, |range| range.1);
        let better =
            ends(&chain) > ends(&best) || (ends(&chain) == ends(&best) && chain.len() < best.len());
        if better {
            best = chain;
        }
    }
    best
}

/// Returns the members of the set that is complete first.
fn first_complete(names: &[String]) -> Option<Vec<String>> {
    let mut open: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for name in names {
        let parts: Vec<&str> = name.split('-').collect();
        let count = match parts[..] {
            [_, set, count, ..] if set.starts_with('s') => count
                .strip_prefix('c')
                .and_then(|c| c.parse::<usize>().ok()),
            _ => None,
        };
        let Some(count) = count else {
            return Some(vec![name.clone()]);
        };
        let members = open.entry(parts[1]).or_default();
        members.push(name.clone());
        if members.len() == count {
            return Some(members.clone());
        }
    }
    None
}

/// Returns the number of a name that is `prefix` and digits.
fn number_after(name: &str, prefix: &str) -> Option<u64> {
    name.strip_prefix(prefix)?.parse().ok()
}

/// Returns what a reader of `storage` sees without epochs.
pub fn view_v0(storage: &Storage, crypto: &BlobCrypto) -> Result<View, String> {
    let mut view = View::new();
    for name in active_v0(storage, crypto)? {
        for entry in entries_of(crypto, &name, &read(storage, &name)?)? {
            add(&mut view, entry);
        }
    }
    Ok(view)
}

/// Returns the index blobs that a reader uses without epochs: all but the inputs of every log whose
/// outputs are all there.
pub fn active_v0(storage: &Storage, crypto: &BlobCrypto) -> Result<BTreeSet<String>, String> {
    let mut active: BTreeSet<String> = listed(storage, "n")?.into_iter().collect();
    let there = active.clone();
    for log in listed(storage, "m")? {
        let plain = plaintext(crypto, &log, &read(storage, &log)?)?;
        let parsed: Value = serde_json::from_slice(&plain).map_err(|error| error.to_string())?;
        let names = |side: &str| -> Vec<String> {
            let blobs = parsed[side].as_array().into_iter().flatten();
            blobs
                .map(|blob| blob["id"].as_str().unwrap_or_default().to_owned())
                .collect()
        };
        if names("outputMetadata")
            .iter()
            .all(|name| there.contains(name))
        {
            for input in names("inputMetadata") {
                active.remove(&input);
            }
        }
    }
    Ok(active)
}

fn listed(storage: &Storage, prefix: &str) -> Result<Vec<String>, String> {
    let mut names = Vec::new();
    storage
        .for_each(prefix, |blob| {
            names.push(blob.id.to_string());
            Ok::<(), careen::blob::BlobError>(())
        })
        .map_err(|error| error.to_string())?;
    Ok(names)
}

fn read(storage: &Storage, name: &str) -> Result<Vec<u8>, String> {
    let id = careen::kopia::blob_id::BlobId::new(name);
    let sealed = storage.get_all(&id, usize::MAX - 1);
    sealed.map_err(|error| error.to_string())
}

/// Describes how two views differ: at most ten contents, `None` when they are equal.
pub fn difference(expected: &View, found: &View) -> Option<String> {
    const CONTENTS_MAX: usize = 10;
    let keys = expected.keys().chain(found.keys());
    let different: BTreeSet<_> = keys
        .filter(|key| expected.get(*key) != found.get(*key))
        .collect();
    if different.is_empty() {
        return None;
    }
    let mut text = format!("{} contents differ\n", different.len());
    for key in different.into_iter().take(CONTENTS_MAX) {
        let id = ContentId::from_key(key).map_or_else(|_| hex::encode(key), |id| id.to_string());
        let (left, right) = (expected.get(key), found.get(key));
        text.push_str(&format!(
            "{id}:\n  expected {left:?}\n  found    {right:?}\n"
        ));
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(list: &[&str]) -> Vec<String> {
        list.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn readers_take_chain_singles_and_uncompacted() {
        let listed = names(&[
            "xe1",
            "xe6",
            "xn3_a",
            "xn4_a",
            "xn5_a",
            "xn6_a",
            "xn7_a",
            "xn8_a",
            "xr0_2_a-s1-c1",
            "xs2_a-s1-c1",
            "xs3_a-s1-c2",
            "xs3_b-s2-c1",
            "xs5_a-s1-c1",
        ]);
        let expected = names(&[
            "xr0_2_a-s1-c1",
            "xs3_b-s2-c1",
            "xn4_a",
            "xn5_a",
            "xn6_a",
            "xn7_a",
        ]);
        assert_eq!(active(&listed), expected);
    }

    #[test]
    fn ranges_of_one_epoch_and_behind_gaps_are_not_used() {
        let listed = names(&["xe6", "xn0_a", "xr0_0_a-s1-c1", "xr2_3_a-s1-c1"]);
        assert_eq!(active(&listed), names(&["xn0_a"]));
    }

    #[test]
    fn winners_are_kopias() {
        let a = Entry::data(1, 1, 5);
        let b = Entry::data(1, 2, 5);
        let gone = b.tombstone(5);
        let view = winners([gone.clone(), a.clone(), b.clone()]);
        assert_eq!(view.into_values().collect::<Vec<_>>(), [b]);
        let view = winners([a, gone.tombstone(6)]);
        assert!(view.values().all(|entry| entry.deleted));
    }
}
