//! Rows: flat ones (packs), those with one string (snapshots), and a million of these; each in
//! batches of 1,000, as maintenance asks.
//!
//! Times are of the whole call: rows into the plugin, its work, the answer back. Memory: a batch.

use std::collections::BTreeMap;
use std::time::Instant;

use careen::clock::Timestamp;
use careen::kopia::snapshot_manifest::SnapshotSource;
use careen::maintenance::pack_choice::{ChoosePacks, ShortPacks};
use careen::maintenance::retention::Retention;
use careen::maintenance::strategy::{PACK_ROWS_MAX, PackRow, RepackQuestion, Splitting};
use careen::plugin::{PluginOptions, PluginSource, RetentionPlugin, load, load_retention};
use careen::repository::snapshot_history::HistoryRow;

use guests::answers::{EMPTY, YES, decides_as};
use guests::worlds::retaining;

use crate::starts::about_a_source;
use crate::{Home, middle, note, resident, row};

/// Snapshots of one source that retention has to bear within its default limits.
const MILLION: usize = 1_000_000;

/// Rows of a batch.
const BATCH: usize = 1_000;

/// Batches that are measured; the one in the middle counts.
const BATCHES: usize = 501;

pub(crate) fn measure(home: &Home) {
    flat(home);
    with_strings(home);
    million(home);
}

/// Returns nanoseconds for each row of a batch.
fn nanoseconds(each: impl FnMut()) -> f64 {
    middle(BATCHES, each).as_secs_f64() * 1e9 / BATCH as f64
}

fn flat(home: &Home) {
    let pack = |number: usize| PackRow {
        metadata: number.is_multiple_of(5),
        used_bytes: number as u64 * 20_000,
        owner: None,
    };
    let question = RepackQuestion {
        pack_bytes_max: 20 << 20,
        packs: (0..PACK_ROWS_MAX).map(pack).collect(),
    };
    let mut plugin = load(home.options(PluginOptions::default())).expect("it loads");
    let taken = nanoseconds(|| {
        plugin.repack(&question).expect("it answers");
    });
    let name = "a flat row (repack), in a batch of 1,000";
    row(name, format!("{taken:.0} ns"), "100 ns", taken < 100.0);
    let native = nanoseconds(|| {
        std::hint::black_box(ShortPacks.choose(&question)).expect("it answers");
    });
    note(
        "  the same rule without a plugin",
        format!("{native:.1} ns"),
    );
    let empty = RepackQuestion {
        packs: Vec::new(),
        ..question
    };
    let call = middle(BATCHES, || {
        plugin.repack(&empty).expect("it answers");
    });
    let micros = call.as_secs_f64() * 1e6;
    note(
        "  a call without rows, with its instance",
        format!("{micros:.0} us"),
    );
}

/// A plugin that keeps every snapshot, and says no more: what a row costs is its way there and
/// back.
fn keeps_all(home: &Home) -> RetentionPlugin {
    let decide = decides_as(EMPTY, "(local.get 1)");
    let file = tempfile::Builder::new().suffix(".wasm").tempfile();
    let file = file.expect("a temporary file");
    std::fs::write(file.path(), retaining("", YES, &decide)).expect("it is ours");
    let options = home.options(PluginOptions {
        source: PluginSource::File {
            path: file.path().to_owned(),
            blake3: None,
        },
        ..PluginOptions::retention()
    });
    load_retention(options).expect("it loads")
}

fn with_strings(home: &Home) {
    let mut plugin = keeps_all(home);
    let rows = snapshots(BATCH);
    let taken = nanoseconds(|| {
        // Its allocator never frees.
        plugin.begin(&about_a_source()).expect("it begins");
        plugin.decide(&rows).expect("it decides");
    });
    let name = "a row with one string (snapshot), in a batch of 1,000";
    row(name, format!("{taken:.0} ns"), "500 ns", taken < 500.0);
    let mut plugin = retention(home);
    let taken = nanoseconds(|| {
        plugin.decide(&rows).expect("it decides");
    });
    let name = "  with Kopia's policy: calendar, and a reason for each";
    note(name, format!("{taken:.0} ns"));
    let mut plugin = retention(home);
    let mut rows = snapshots(BATCH);
    for row in &mut rows {
        row.tags = BTreeMap::from([("tag:tenant".to_owned(), "blue".to_owned())]);
        row.pins = vec!["audit".to_owned()];
    }
    let taken = nanoseconds(|| {
        plugin.decide(&rows).expect("it decides");
    });
    note("  with a pin and a tag besides", format!("{taken:.0} ns"));
}

fn million(home: &Home) {
    let options = PluginOptions::retention();
    let (fuel, kib) = (options.limits.fuel, options.limits.memory_bytes >> 10);
    let mut plugin = retention(home);
    let rows = snapshots(BATCH);
    let before = resident::begin();
    let started = Instant::now();
    let mut expired = 0;
    for _ in 0..MILLION / BATCH {
        let decided = plugin.decide(&rows).expect("it stays within its limits");
        expired += decided.iter().filter(|decision| decision.expire).count();
    }
    let seconds = started.elapsed().as_secs_f64();
    let moved = resident::peak().saturating_sub(before);
    let name = format!("1,000,000 snapshots of a source, in {kib} KiB, fuel {fuel} a call");
    row(&name, format!("{seconds:.2} s"), "its limits", expired > 0);
    // The guest's memory, and a batch of rows and answers.
    let name = "  memory of the host meanwhile, at most";
    row(name, format!("+{moved} KiB"), "8192 KiB", moved < 8_192);
}

fn retention(home: &Home) -> RetentionPlugin {
    let options = home.options(PluginOptions::retention());
    let mut plugin = load_retention(options).expect("it loads");
    plugin.begin(&about_a_source()).expect("it begins");
    plugin
}

/// Returns snapshots of a source, the newest first.
pub(crate) fn snapshots(count: usize) -> Vec<HistoryRow> {
    let row = |number: i64| HistoryRow {
        id: format!("{number:032x}"),
        source: SnapshotSource::default(),
        start: Timestamp::from_seconds(1_790_000_000 - number * 3_600),
        end: Timestamp::from_seconds(1_790_000_060 - number * 3_600),
        modified: Timestamp::from_seconds(1_790_000_060),
        incomplete_reason: String::new(),
        pins: Vec::new(),
        tags: BTreeMap::new(),
        size_bytes: Some(1 << 40),
    };
    (0..count as i64).map(row).collect()
}
