//! Rewriting and deleting on the damaged golden repositories: what stops them, and that nothing is
//! deleted where they stop.
//!
//! Without margins, so that everything that could go would go: Kopia itself deletes a whole
//! session's packs in some of these. The table says what is expected of each.

use std::collections::BTreeSet;

use careen::maintenance::MaintenanceError;
use careen::maintenance::orphan_packs::Scope;
use careen::maintenance::safety::Safety;
use kit::golden::{DAMAGED, Golden};
use kit::index_work::{Bench, open};

use super::{contents, delete, rewrite};

/// What stops a rewrite, and what stops a deletion; `-` where nothing does.
const EXPECTED: [(&str, &str, &str); 22] = [
    ("intact", "-", "-"),
    ("missing-p-pack", "missing-pack", "missing-pack"),
    ("missing-q-pack", "missing-pack", "missing-pack"),
    ("truncated-index", "tag-mismatch", "tag-mismatch"),
    ("empty-index", "tag-mismatch", "tag-mismatch"),
    ("flipped-index-byte", "tag-mismatch", "tag-mismatch"),
    ("missing-index", "-", "unexplained-packs"),
    ("flipped-file-byte", "tag-mismatch", "-"),
    ("flipped-directory-byte", "tag-mismatch", "-"),
    ("flipped-manifest-byte", "tag-mismatch", "-"),
    ("missing-index-whole-session", "-", "unexplained-packs"),
    ("half-written-compaction", "-", "-"),
    ("xs-shard-missing-xn-gone", "-", "incomplete-index"),
    ("xn-shard-missing", "-", "incomplete-index"),
    ("two-xs-sets-unequal", "-", "unequal-index-sets"),
    ("schedule-truncated", "-", "-"),
    ("session-marker-garbage", "-", "tag-mismatch"),
    ("foreign-files", "-", "-"),
    ("v0-intact", "-", "-"),
    ("v0-compaction-output-missing", "-", "-"),
    ("v0-half-written-compaction", "-", "-"),
    ("v0-output-and-inputs-missing", "-", "lost-compaction"),
];

fn code<T>(outcome: &Result<T, MaintenanceError>) -> &'static str {
    outcome.as_ref().err().map_or("-", MaintenanceError::code)
}

#[test]
fn what_stops_and_what_is_kept() {
    let damaged = Golden::open(DAMAGED);
    let password = damaged.description()["password"].as_str().unwrap();
    let bench = Bench::new();
    let mut wrong = Vec::new();
    for (name, rewriting, deleting) in EXPECTED {
        let variant = damaged.variant(name);
        let names = || -> BTreeSet<String> {
            let listed = variant.data().list().unwrap().into_iter();
            listed
                .map(|blob| blob.id)
                .filter(|id| id.starts_with(['p', 'q']))
                .collect()
        };
        let before = names();
        let repository = open(variant.path(), password, variant.now()).unwrap();
        let workspace = bench.workspace();
        let deleted = delete(&repository, &workspace, &Safety::none(), Scope::Full);
        if deleted.is_err() {
            assert_eq!(names(), before, "{name}: nothing is deleted");
        }
        let rewritten = rewrite(&repository, &workspace, &Safety::none(), "root@suite");
        if code(&rewritten) == "-" {
            for row in contents(&repository, &workspace).values() {
                assert!(
                    names().contains(&row.pack) || name.starts_with("missing"),
                    "{name}"
                );
            }
        }
        let found = (code(&rewritten), code(&deleted));
        if found != (rewriting, deleting) {
            wrong.push(format!("(\"{name}\", \"{}\", \"{}\"),", found.0, found.1));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}
