//! Where real Kopia's quick maintenance is recorded, ours has the same effect on the index.
//!
//! The golden descriptions hold what Kopia 0.23.1 did at `now`: write epoch, markers, compacted
//! epochs, index blobs in use by epoch. Ours runs the same two tasks at the same moment. It may
//! compact more settled epochs than Kopia's one a run; none of these repositories has more.

use std::collections::BTreeMap;

use careen::maintenance::index_plan::Task;
use careen::maintenance::owner::Identity;
use kit::checker::Checker;
use kit::contents::{difference, digest};
use kit::golden::{Golden, NAMES};
use kit::index_work::{Bench, open, options};
use kit::world::{everything, model};
use serde_json::Value;

use super::contents;

/// Returns the number of active and of superseded index blobs by epoch: `xn9`, `xr0_3`, `xs8`.
fn by_epoch(names: &[String]) -> [BTreeMap<String, u64>; 2] {
    let active = model::active(names);
    let mut counts = [BTreeMap::new(), BTreeMap::new()];
    for name in names {
        let kind = name.get(..2).unwrap_or_default();
        if ["xn", "xs", "xr"].contains(&kind) {
            let (epoch, _) = name.rsplit_once('_').unwrap();
            let at = usize::from(!active.contains(name));
            *counts[at].entry(epoch.to_owned()).or_insert(0) += 1;
        }
    }
    counts
}

fn told(counts: &Value) -> BTreeMap<String, u64> {
    let counts = counts.as_object().into_iter().flatten();
    // The blobs of an index manager from before an upgrade are nobody's any more.
    let epochs = counts.filter(|(name, _)| *name != "n");
    epochs
        .map(|(name, count)| (name.clone(), count.as_u64().unwrap()))
        .collect()
}

#[test]
fn quick_maintenance_has_kopias_effect() {
    let mut compared = 0;
    for name in NAMES {
        let golden = Golden::open(name);
        let quick = golden.what_kopia_does("quick");
        if quick["epochsAfter"].is_null() {
            continue; // the V0 index manager
        }
        let repository = open(golden.path(), golden.password(), golden.now()).unwrap();
        let mut wanted = options(&[Task::CompactSingleEpoch, Task::AdvanceEpoch], false);
        wanted.owner = Identity::Explicit(golden.maintenance_owner().to_owned());
        let before = everything(&repository.storage);
        Bench::new()
            .run(&repository, &wanted)
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        let after = everything(&repository.storage);
        let names: Vec<String> = after.keys().cloned().collect();
        let [active, superseded] = by_epoch(&names);
        let blobs = &quick["indexBlobsAfter"];
        assert_eq!(active, told(&blobs["active"]), "{name}: active");
        assert_eq!(superseded, told(&blobs["inactive"]), "{name}: superseded");
        let with = |prefix: &str| -> Vec<String> {
            names
                .iter()
                .filter(|name| name.starts_with(prefix))
                .cloned()
                .collect()
        };
        let epochs = &quick["epochsAfter"];
        let markers = serde_json::json!({ "markers": with("xe"), "watermarks": with("xw") });
        assert_eq!(markers["markers"], epochs["markers"], "{name}");
        assert_eq!(markers["watermarks"], epochs["watermarkBlobs"], "{name}");
        let told = golden.contents().unwrap();
        let rows = contents(&repository);
        assert_eq!(difference(&told, &rows), None, "{name}");
        let sha256 = golden.state()["contents"]["sha256"].as_str();
        assert_eq!(sha256, Some(digest(&rows).as_str()), "{name}");
        let others = |all: &super::Folder| -> super::Folder {
            let mut others = all.clone();
            others.retain(|name, _| !name.starts_with('x'));
            others
        };
        assert!(
            others(&before) == others(&after),
            "{name}: nothing but index blobs"
        );
        // The independent reader knows nothing of our code.
        if let Some(checker) = Checker::find() {
            let read = checker.contents(golden.path(), golden.password()).unwrap();
            assert_eq!(
                difference(&told, &read),
                None,
                "{name}: the independent reader"
            );
            checker
                .verify(golden.path(), golden.password())
                .unwrap_or_else(|error| panic!("{name}: the independent reader: {error}"));
        }
        compared += 1;
    }
    assert_eq!(compared, 11);
}
