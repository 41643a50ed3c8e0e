//! Local time, as Go's programs find it: `TZ`, else `/etc/localtime`, else UTC.
//!
//! `TZ` is a name below one of the system's directories of zones, or a file; empty means UTC. A
//! zone that cannot be read is UTC, as in Go, and that is said. Memory: one zone file, at most
//! [`FILE_BYTES_MAX`], and its changes.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use jiff::tz::TimeZone;

use super::kopia_config::read_bounded;
use crate::maintenance::retention::{ZONE_CHANGES_MAX, Zone};

/// Largest zone file; those of the system have some 4 KB.
const FILE_BYTES_MAX: u64 = 256 * 1024;

/// Where Go looks for names.
const DIRECTORIES: [&str; 4] = [
    "/usr/share/zoneinfo",
    "/usr/share/lib/zoneinfo",
    "/usr/lib/locale/TZ",
    "/etc/zoneinfo",
];

/// The zone of a host that says nothing.
const LOCAL: &str = "/etc/localtime";

/// Returns local time; `named` is `TZ`.
pub(super) fn local(named: Option<&OsStr>) -> Zone {
    let files: Vec<PathBuf> = match named.map(|name| name.to_string_lossy().into_owned()) {
        None => vec![LOCAL.into()],
        Some(name) => {
            let name = name.strip_prefix(':').unwrap_or(&name);
            match name {
                "" | "UTC" => return Zone::default(),
                // Joined to an absolute path, the directory does not matter.
                _ => DIRECTORIES.map(|place| Path::new(place).join(name)).into(),
            }
        }
    };
    let zone = files.iter().find_map(|file| {
        let bytes = read_bounded(file, FILE_BYTES_MAX).ok()?;
        zone_of(&bytes)
    });
    zone.unwrap_or_else(|| {
        if named.is_some() {
            tracing::warn!(?named, "time zone cannot be read: local time is UTC");
        }
        Zone::default()
    })
}

/// Reads a zone file.
fn zone_of(bytes: &[u8]) -> Option<Zone> {
    let zone = TimeZone::tzif("", bytes).ok()?;
    let first = jiff::Timestamp::MIN;
    // No snapshot is from later; a rule has changes for ever.
    let last = jiff::Timestamp::from_second(7_258_118_400).ok()?;
    let mut offset_seconds = zone.to_offset(first).seconds();
    let before = offset_seconds;
    let mut changes = Vec::new();
    let all = zone.following(first);
    for change in all.take_while(|change| change.timestamp() < last) {
        let offset = change.offset().seconds();
        if offset != offset_seconds && changes.len() < ZONE_CHANGES_MAX {
            changes.push((change.timestamp().as_second(), offset));
            offset_seconds = offset;
        }
    }
    Some(Zone {
        offset_seconds: before,
        changes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_and_nonsense_are_utc() {
        for name in ["", "UTC", "No/Such_Zone", "/etc/passwd"] {
            assert_eq!(local(Some(OsStr::new(name))), Zone::default(), "{name}");
        }
    }

    #[test]
    fn a_zone_with_summer_time() {
        if !Path::new("/usr/share/zoneinfo/Europe/Berlin").exists() {
            return; // a machine without zones has UTC alone
        }
        let zone = local(Some(OsStr::new("Europe/Berlin")));
        assert!(zone.changes.contains(&(1_774_746_000, 7_200)), "2026-03-29");
        assert!(zone.changes.contains(&(1_792_890_000, 3_600)), "2026-10-25");
        assert!(zone.changes.len() < ZONE_CHANGES_MAX);
        assert_eq!(local(Some(OsStr::new(":Europe/Berlin"))), zone);
    }
}
