//! Names of blobs: what each prefix means, and how the names of index blobs and sessions are read
//! and made.
//!
//! A repository is a flat set of named blobs, and much of its state is in the names alone: epochs,
//! ranges, the deletion watermark, complete sets. The readers here accept and refuse exactly what
//! Kopia's do, because a name that one side counts and the other ignores would give two views of
//! one repository. Memory: one small string per ID. Mirrors Kopia's `epoch_utils.go`,
//! `complete_set.go` and `sessions.go`.

use std::borrow::Borrow;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;

/// The format blob.
pub const REPOSITORY: &str = "kopia.repository";
/// The retention configuration of new blobs.
pub const BLOB_CONFIG: &str = "kopia.blobcfg";
/// The maintenance schedule.
pub const MAINTENANCE: &str = "kopia.maintenance";
/// Copies of the format blob that an upgrade leaves.
pub const REPOSITORY_BACKUP_PREFIX: &str = "kopia.repository.backup.";
/// Pack blobs of data contents (content IDs without a prefix).
pub const PACK_DATA_PREFIX: &str = "p";
/// Pack blobs of metadata contents (content IDs with a prefix).
pub const PACK_METADATA_PREFIX: &str = "q";
/// V0 index blobs.
pub const INDEX_V0_PREFIX: &str = "n";
/// V0 compaction logs.
pub const COMPACTION_LOG_V0_PREFIX: &str = "m";
/// V0 delayed cleanup entries.
pub const CLEANUP_V0_PREFIX: &str = "l";
/// The plain-text V0 index blob by which an upgrade stops old clients; never an index.
pub const INDEX_V0_POISON: &str = concat!(
    "n00000000000000000000000000000000",
    "-repository_unreadable_by_this_kopia_version_upgrade_required"
);
/// Everything that belongs to the epoch manager.
pub const EPOCH_MANAGER_PREFIX: &str = "x";
/// Index blobs as writers left them.
pub const UNCOMPACTED_PREFIX: &str = "xn";
/// Single-epoch compactions.
pub const COMPACTED_EPOCH_PREFIX: &str = "xs";
/// Range checkpoints.
pub const RANGE_PREFIX: &str = "xr";
/// Epoch markers.
pub const EPOCH_MARKER_PREFIX: &str = "xe";
/// Deletion watermarks.
pub const WATERMARK_PREFIX: &str = "xw";
/// Markers of active sessions. Kopia parses every name that begins so: never make another one.
pub const SESSION_PREFIX: &str = "s";
/// Diagnostic log segments.
pub const LOG_PREFIX: &str = "_log_";

/// Seconds from 1970 to 2000-01-01T00:00:00Z, where session IDs begin to count.
const SESSION_EPOCH_SECONDS: i64 = 946_684_800;
/// The "month" of session IDs: 30 days.
const SESSION_MONTH_SECONDS: i64 = 30 * 24 * 60 * 60;

/// The name of a blob.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BlobId(String);

impl BlobId {
    /// Makes an ID of any name.
    pub fn new(name: impl Into<String>) -> Self {
        Self(name.into())
    }

    /// Returns the name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for BlobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl Borrow<str> for BlobId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for BlobId {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl From<&str> for BlobId {
    fn from(name: &str) -> Self {
        Self(name.to_owned())
    }
}

impl From<String> for BlobId {
    fn from(name: String) -> Self {
        Self(name)
    }
}

/// Parses a number as Go's `strconv.Atoi`: a sign is allowed, 64 bits; a negative one is no epoch.
fn decimal(text: &str) -> Option<u64> {
    u64::try_from(text.parse::<i64>().ok()?).ok()
}

/// Drops everything before the first digit.
fn from_first_digit(text: &str) -> &str {
    text.trim_start_matches(|c: char| !c.is_ascii_digit())
}

/// Reads the epoch of `name`: the digits before the first underscore.
fn epoch_number(name: &str) -> Option<u64> {
    decimal(from_first_digit(name.split('_').next()?))
}

/// Returns the epoch of an uncompacted index blob (`xn`); `None` for names that Kopia ignores.
pub fn uncompacted_epoch(name: &str) -> Option<u64> {
    name.starts_with(UNCOMPACTED_PREFIX)
        .then(|| epoch_number(name))?
}

/// Returns the epoch of a single-epoch compaction (`xs`).
pub fn compacted_epoch(name: &str) -> Option<u64> {
    name.starts_with(COMPACTED_EPOCH_PREFIX)
        .then(|| epoch_number(name))?
}

/// Returns the first and the last epoch of a range checkpoint (`xr`), both inclusive.
pub fn range_epochs(name: &str) -> Option<(u64, u64)> {
    if !name.starts_with(RANGE_PREFIX) {
        return None;
    }
    let mut parts = name.split('_');
    let (first, second) = (parts.next()?, parts.next()?);
    parts.next()?;
    Some((decimal(from_first_digit(first))?, decimal(second)?))
}

/// Returns the epoch of a marker (`xe`): the write epoch is at least this.
pub fn epoch_marker(name: &str) -> Option<u64> {
    name.starts_with(EPOCH_MARKER_PREFIX)
        .then(|| epoch_number(name))?
}

/// Returns the Unix seconds of a deletion watermark (`xw`).
pub fn watermark_seconds(name: &str) -> Option<i64> {
    name.strip_prefix(WATERMARK_PREFIX)?.parse().ok()
}

/// A blob's membership in a set that is complete when `count` members are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SetMember<'a> {
    /// The name that all members share (`s…`).
    pub set: &'a str,
    /// Members of the whole set. A count that no listing can reach is cut to `u32::MAX`; zero never
    /// completes.
    pub count: u32,
}

/// Returns the set that `name` belongs to; `None` when the blob is a complete set of its own.
pub fn set_member(name: &str) -> Option<SetMember<'_>> {
    let mut parts = name.split('-');
    parts.next()?;
    let set = parts.next().filter(|part| part.starts_with('s'))?;
    let count: i64 = parts.next()?.strip_prefix('c')?.parse().ok()?;
    Some(SetMember {
        set,
        count: u32::try_from(count.max(0)).unwrap_or(u32::MAX),
    })
}

/// Returns the session of a pack, session marker or index blob: its first part after a dash that
/// begins with `s`.
pub fn session_of(name: &str) -> Option<&str> {
    name.split('-')
        .skip(1)
        .find(|part| part.starts_with(SESSION_PREFIX))
}

/// Returns the prefix of the uncompacted index blobs of `epoch`: `xn<epoch>_`.
pub fn xn_prefix(epoch: u64) -> String {
    format!("{UNCOMPACTED_PREFIX}{epoch}_")
}

/// Returns the prefix of the compactions of `epoch`: `xs<epoch>_`.
pub fn xs_prefix(epoch: u64) -> String {
    format!("{COMPACTED_EPOCH_PREFIX}{epoch}_")
}

/// Returns the prefix of the range checkpoints from `first` to `last`, inclusive:
/// `xr<first>_<last>_`.
pub fn xr_prefix(first: u64, last: u64) -> String {
    format!("{RANGE_PREFIX}{first}_{last}_")
}

/// Returns the name of the marker of `epoch`: `xe<epoch>`.
pub fn epoch_marker_name(epoch: u64) -> BlobId {
    BlobId(format!("{EPOCH_MARKER_PREFIX}{epoch}"))
}

/// Returns the name of a deletion watermark: `xw<seconds>`.
pub fn watermark_name(seconds: i64) -> BlobId {
    BlobId(format!("{WATERMARK_PREFIX}{seconds}"))
}

/// Returns the suffix that all blobs of one compaction share, without the dash before it:
/// `s<hex>-c<count>`.
///
/// `random` must be fresh for every attempt, or the blobs of two attempts would mix in one set.
pub fn compaction_suffix(random: [u8; 8], count: u32) -> String {
    format!("s{:016x}-c{count}", u64::from_be_bytes(random))
}

/// Returns a session ID: `s`, 16 random hex digits, and the months (of 30 days) since 2000 in hex.
pub fn session_id(random: [u8; 8], now: Timestamp) -> String {
    let months = now.seconds().saturating_sub(SESSION_EPOCH_SECONDS) / SESSION_MONTH_SECONDS;
    format!("s{:016x}{:x}", u64::from_be_bytes(random), months.max(0))
}

/// Returns a pack blob name: `prefix` (`p` or `q`), 32 random hex digits and the session.
pub fn pack_name(prefix: &str, random: [u8; 16], session: &str) -> BlobId {
    BlobId(format!(
        "{prefix}{:032x}-{session}",
        u128::from_be_bytes(random)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epochs_are_read_as_kopia_reads_them() {
        assert_eq!(uncompacted_epoch("xn12_ab-s1-c1"), Some(12));
        assert_eq!(uncompacted_epoch("xn0"), Some(0));
        assert_eq!(uncompacted_epoch("xnfoo007_ab"), Some(7));
        assert_eq!(uncompacted_epoch("xn_5_ab"), None);
        assert_eq!(uncompacted_epoch("xn5a_ab"), None);
        assert_eq!(uncompacted_epoch("xn-5_ab"), Some(5));
        assert_eq!(uncompacted_epoch("xn9223372036854775808_ab"), None);
        assert_eq!(uncompacted_epoch("xs1_ab"), None);
        assert_eq!(compacted_epoch("xs3_ab-s1-c1"), Some(3));
        assert_eq!(compacted_epoch("xn3_ab-s1-c1"), None);
        assert_eq!(epoch_marker("xe7"), Some(7));
        assert_eq!(epoch_marker("xe"), None);
        assert_eq!(epoch_marker("xe٣"), None);
    }

    #[test]
    fn ranges_need_three_parts() {
        assert_eq!(range_epochs("xr0_7_ab-s1-c1"), Some((0, 7)));
        assert_eq!(range_epochs("xr0_7"), None);
        assert_eq!(range_epochs("xr0_+7_"), Some((0, 7)));
        assert_eq!(range_epochs("xr0_-7_"), None);
        assert_eq!(range_epochs("xr0_7x_ab"), None);
        assert_eq!(range_epochs("xs0_7_ab"), None);
    }

    #[test]
    fn watermarks_are_seconds() {
        assert_eq!(watermark_seconds("xw1700000000"), Some(1_700_000_000));
        assert_eq!(watermark_seconds("xw-5"), Some(-5));
        assert_eq!(watermark_seconds("xw17_"), None);
        assert_eq!(watermark_seconds("xe17"), None);
        assert_eq!(watermark_name(17).as_str(), "xw17");
    }

    #[test]
    fn set_members_follow_the_grammar() {
        let member = |set, count| Some(SetMember { set, count });
        assert_eq!(set_member("xs1_ab-s0f-c2"), member("s0f", 2));
        assert_eq!(set_member("xs1_ab-s-c+2-rest"), member("s", 2));
        assert_eq!(
            set_member("xs1_ab-s1-c9223372036854775807"),
            member("s1", u32::MAX)
        );
        assert_eq!(set_member("xs1_ab-s1-c99999999999999999999"), None);
        assert_eq!(set_member("xs1_ab-s1-c"), None);
        assert_eq!(set_member("xs1_ab-s1-c-2"), None);
        assert_eq!(set_member("xs1_ab-s1"), None);
        assert_eq!(set_member("xs1_ab-t1-c2"), None);
        assert_eq!(set_member("xs1_ab-s1-2"), None);
        assert_eq!(set_member("xs1_ab-s1-c0"), member("s1", 0));
    }

    #[test]
    fn names_are_built_as_kopia_builds_them() {
        assert_eq!(xn_prefix(3), "xn3_");
        assert_eq!(xs_prefix(3), "xs3_");
        assert_eq!(xr_prefix(0, 7), "xr0_7_");
        assert_eq!(
            compaction_suffix([0, 1, 2, 3, 4, 5, 6, 0xab], 3),
            "s00010203040506ab-c3"
        );
        // 2023-11-14: 290 months of 30 days, 0x122.
        let session = session_id([0; 8], Timestamp::from_seconds(1_700_000_000));
        assert_eq!(session, "s0000000000000000122");
        assert_eq!(
            session_id([0; 8], Timestamp::from_seconds(0)),
            "s00000000000000000"
        );
        let pack = pack_name(PACK_DATA_PREFIX, [0x11; 16], &session);
        assert_eq!(
            pack.as_str(),
            "p11111111111111111111111111111111-s0000000000000000122"
        );
        assert_eq!(session_of(pack.as_str()), Some(session.as_str()));
        assert_eq!(session_of("pab-x-s1"), Some("s1"));
        assert_eq!(session_of("sab"), None);
    }

    #[test]
    fn an_id_is_a_json_string_and_hashes_as_str() {
        let id = BlobId::new("xn1_ab");
        assert_eq!(serde_json::to_string(&id).unwrap(), "\"xn1_ab\"");
        assert_eq!(serde_json::from_str::<BlobId>("\"xn1_ab\"").unwrap(), id);
        let set = std::collections::HashSet::from([id]);
        assert!(set.contains("xn1_ab"));
    }
}
