//! Every damaged golden repository has its answer, written down in a table.
//!
//! What a reader finds is what Kopia's reader finds; wherever Kopia goes on with fewer entries in
//! silence, verification speaks.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use careen::blob::{LocalOptions, LocalStore, Storage};
use careen::clock::{ManualClock, Timestamp};
use careen::kopia::blob_id::{BlobId, REPOSITORY};
use careen::kopia::format_blob::FormatBlob;
use careen::maintenance::status::status;
use careen::memory::MIB;
use careen::repository::Repository;
use careen::repository::verify::verify_index;
use kit::contents::{ContentRow, digest};
use kit::golden::{DAMAGED, Golden, Variant};

use super::{Desk, contents, open};

/// Opens another state of a repository that was opened before; deriving its key again takes
/// seconds.
fn reopen(path: &Path, known: &Repository, now: Timestamp) -> Repository {
    let store = LocalStore::open(path, LocalOptions::default()).unwrap();
    let storage = Storage::new(Arc::new(store));
    let blob = storage.get_all(&BlobId::new(REPOSITORY), MIB).unwrap();
    let format = FormatBlob::parse(&blob).unwrap();
    let format = format
        .unlock_with_key(&known.format.format_encryption_key)
        .unwrap();
    Repository {
        storage,
        crypto: format.blob_crypto().unwrap(),
        format: Arc::new(format),
        clock: Arc::new(ManualClock::new(now)),
        ..known.clone()
    }
}

/// What we say of a damaged repository.
struct Says {
    /// Name of the variant.
    name: &'static str,
    /// Code of the error when contents are listed; else what they are is what Kopia's reader finds.
    contents: Option<&'static str>,
    /// Whether the owner can be read.
    owner: bool,
    /// Codes of what verification finds.
    findings: &'static [&'static str],
}

const fn says(
    name: &'static str,
    contents: Option<&'static str>,
    owner: bool,
    findings: &'static [&'static str],
) -> Says {
    Says {
        name,
        contents,
        owner,
        findings,
    }
}

/// Damages of packs, snapshots, schedule and sessions are not the index's, nor is an index blob
/// that is gone without a trace: that only the snapshots tell.
const DAMAGES: [Says; 22] = [
    says("intact", None, true, &[]),
    says("missing-p-pack", None, true, &["missing-pack"]),
    says("missing-q-pack", None, false, &["missing-pack"]),
    says(
        "truncated-index",
        Some("tag-mismatch"),
        false,
        &["tag-mismatch"],
    ),
    says(
        "empty-index",
        Some("tag-mismatch"),
        false,
        &["tag-mismatch"],
    ),
    says(
        "flipped-index-byte",
        Some("tag-mismatch"),
        false,
        &["tag-mismatch"],
    ),
    says("missing-index", None, true, &[]),
    says("flipped-file-byte", None, true, &[]),
    says("flipped-directory-byte", None, true, &[]),
    says("flipped-manifest-byte", None, false, &[]),
    says("missing-index-whole-session", None, true, &[]),
    says("half-written-compaction", None, true, &[]),
    says(
        "xs-shard-missing-xn-gone",
        None,
        false,
        &["incomplete-index"],
    ),
    says("xn-shard-missing", None, true, &["incomplete-index"]),
    says("two-xs-sets-unequal", None, true, &["hidden-entry"]),
    says("schedule-truncated", None, true, &[]),
    says("session-marker-garbage", None, true, &[]),
    says("foreign-files", None, true, &[]),
    says("v0-intact", None, true, &[]),
    says("v0-compaction-output-missing", None, true, &[]),
    says("v0-half-written-compaction", None, true, &[]),
    says(
        "v0-output-and-inputs-missing",
        None,
        false,
        &["lost-compaction"],
    ),
];

#[test]
fn every_damage_has_its_answer() {
    let damaged = Golden::open(DAMAGED);
    let open_base = |name: &str| {
        let variant = damaged.variant(name);
        open(variant.path(), damaged.password(), variant.now()).unwrap()
    };
    let (base, base_v0) = (open_base("intact"), open_base("v0-intact"));
    for says in DAMAGES {
        let name = says.name;
        let variant = damaged.variant(name);
        let known = if variant.is_v0() { &base_v0 } else { &base };
        let repository = reopen(variant.path(), known, variant.now());
        let desk = Desk::new();
        match contents(&repository, &desk) {
            Err(error) => assert_eq!(says.contents, Some(error.code()), "{name}"),
            Ok(rows) => {
                assert_eq!(says.contents, None, "{name}");
                assert_as_reader(&rows, &variant, name);
            }
        }
        let status = status(&repository, &desk.workspace).unwrap();
        assert_eq!(status.owner.is_some(), says.owner, "{name}: {status}");
        assert_eq!(
            status.owner_problem.is_none(),
            says.owner,
            "{name}: {status}"
        );
        let report = verify_index(&repository, &desk.workspace).unwrap();
        let codes: BTreeSet<&str> = report
            .found
            .findings
            .iter()
            .map(|finding| finding.code)
            .collect();
        let expected: BTreeSet<&str> = says.findings.iter().copied().collect();
        assert_eq!(codes, expected, "{name}: {report}");
        assert_eq!(report.ok(), expected.is_empty(), "{name}: {report}");
    }
    let told: BTreeSet<&str> = damaged.variant_names().into_iter().collect();
    let mut seen: BTreeSet<&str> = DAMAGES.iter().map(|says| says.name).collect();
    seen.extend(["upgrade-lock", "format-truncated"]);
    assert_eq!(told, seen, "every variant is looked at");
}

/// Contents are what Kopia's reader finds, where it finds any: with a manifest damaged it finds
/// all, too.
fn assert_as_reader(rows: &[ContentRow], variant: &Variant<'_>, name: &str) {
    let reader = &variant.description()["readerSays"];
    let listed = &variant.description()["commands"]["content list"]["contents"];
    assert_eq!(listed, rows.len(), "{name}");
    if reader["opens"] != false {
        assert_eq!(reader["contentsSha256"], digest(rows), "{name}");
    }
}

#[test]
fn what_cannot_be_opened_says_why() {
    let damaged = Golden::open(DAMAGED);
    for (name, code) in [
        ("upgrade-lock", "upgrade-lock"),
        ("format-truncated", "corrupt-format"),
    ] {
        let variant = damaged.variant(name);
        let refused = open(variant.path(), damaged.password(), variant.now());
        assert_eq!(refused.map(|_| ()).unwrap_err().code(), code, "{name}");
    }
    let intact = damaged.variant("intact");
    let refused = open(intact.path(), "another", intact.now());
    assert_eq!(refused.map(|_| ()).unwrap_err().code(), "wrong-password");
}
