//! Anything as a plugin: random bytes, and good components with some bytes changed, through the
//! door of `--plugin`, asked by each strategy.
//!
//! Nothing may panic, whatever the bytes; errors have known codes and texts that can be shown; an
//! answer can be checked.

#![no_main]

use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use careen::clock::Timestamp;
use careen::kopia::policy::RetentionPolicy;
use careen::kopia::snapshot_manifest::SnapshotSource;
use careen::maintenance::cycle_plan::Verdict;
use careen::maintenance::cycle_task::Cycle;
use careen::maintenance::retention::{Retention, RetentionGuard, RetentionQuestion, Zone};
use careen::maintenance::scheduling::{Costs, CycleRow, Scheduling, SchedulingQuestion, TaskRow};
use careen::maintenance::strategy::{
    EpochRow, PackRow, RepackQuestion, Splitting, SplittingQuestion, StrategyError,
};
use careen::plugin::{
    PluginLimits, PluginOptions, PluginSource, load, load_retention, load_scheduling,
};
use careen::repository::snapshot_history::HistoryRow;
use guests::answers::{DECISION, TASKS, YES, decides, repacks, runs, says, splits, waits};
use guests::splitting::{Guest, SPLIT};
use guests::worlds::{retaining, scheduling};
use libfuzzer_sys::fuzz_target;

const NOW: i64 = 1_800_000_000;

/// Good components, three strategies after each other.
fn components() -> &'static [Vec<u8>] {
    static COMPONENTS: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    COMPONENTS.get_or_init(|| {
        let texts =
            r#"(data (i32.const 64) "\00\00\00\00\03\00\00\00") (data (i32.const 96) "why")"#;
        let split = splits(100_000, (64, 1), (96, 3));
        let core = format!("{texts} {SPLIT} {split})");
        let repack = repacks(16 << 20, (1_024, 2));
        let mut guest = Guest::new(&core);
        guest.repack = &repack;
        vec![
            guest.wasm(),
            retaining(DECISION, YES, &decides(2_048, 1)),
            scheduling(TASKS, &runs((2_048, 2), (3_072, 11))),
            Guest::new(&core).wasm(),
            retaining(DECISION, &says(3), &decides(2_048, 1)),
            scheduling(TASKS, &waits(NOW + 60, (3_072, 11))),
        ]
    })
}

/// Changes, removes and inserts bytes of a component: four bytes of input each.
fn mutate(wasm: &mut Vec<u8>, changes: &[u8]) {
    for change in changes.chunks_exact(4) {
        let at = usize::from(u16::from_le_bytes([change[0], change[1]]));
        let at = at.min(wasm.len().saturating_sub(1));
        match change[2] % 4 {
            0 if !wasm.is_empty() => wasm[at] = change[3],
            1 if !wasm.is_empty() => wasm[at] ^= 1 << (change[3] % 8),
            2 if !wasm.is_empty() => drop(wasm.remove(at)),
            _ => wasm.insert(at, change[3]),
        }
    }
}

fn options(plugin: PluginOptions, wasm: &[u8]) -> PluginOptions {
    static FILE: OnceLock<PathBuf> = OnceLock::new();
    let path = FILE.get_or_init(|| {
        let name = format!("careen-fuzz-{}.wasm", std::process::id());
        std::env::temp_dir().join(name)
    });
    std::fs::write(path, wasm).expect("a temporary file");
    PluginOptions {
        source: PluginSource::File {
            path: path.clone(),
            blake3: None,
        },
        limits: PluginLimits {
            memory_bytes: 4 << 20,
            fuel: 1_000_000,
            deadline: Duration::from_secs(1),
        },
        cache_directory: None,
        ..plugin
    }
}

/// What an error says can be shown, and has a known code.
fn shown(error: &StrategyError) {
    let codes = [
        "plugin-compile",
        "plugin-import",
        "plugin-world",
        "plugin-description",
        "plugin-schema",
        "plugin-configuration",
        "plugin-trap",
        "plugin-fuel",
        "plugin-deadline",
        "plugin-memory",
        "plugin-data",
        "plugin-error",
    ];
    let text = error.to_string();
    assert!(codes.contains(&error.code()), "{text}");
    assert!(
        text.len() < 8_000 && !text.contains(char::is_control),
        "{text}"
    );
}

fn tried<R>(answer: Result<R, StrategyError>) -> Option<R> {
    answer.inspect_err(shown).ok()
}

fn ask_about_the_index(wasm: &[u8]) {
    let loaded = load(options(PluginOptions::default(), wasm));
    let Some(mut plugin) = tried(loaded.map_err(StrategyError::from)) else {
        return;
    };
    let row = |epoch| EpochRow {
        epoch,
        blobs: 1,
        bytes: 1,
        compacted: true,
    };
    let question = SplittingQuestion {
        write_epoch: 6,
        chain_end: 0,
        last_settled: Some(4),
        full_checkpoint_frequency: 7,
        shard_entries_max: 16_000_000,
        epochs: (0..5).map(row).collect(),
    };
    if let Some(answer) = tried(plugin.split(&question)) {
        assert!(!answer.reason.contains(char::is_control));
        let _ = answer.check(&question);
    }
    let pack = |used_bytes| PackRow {
        metadata: false,
        used_bytes,
        owner: None,
    };
    let question = RepackQuestion {
        pack_bytes_max: 20 << 20,
        packs: vec![pack(1), pack(2)],
    };
    if let Some(answer) = tried(plugin.repack(&question)) {
        let _ = answer.check(&question);
    }
}

fn ask_about_snapshots(wasm: &[u8]) {
    let loaded = load_retention(options(PluginOptions::retention(), wasm));
    let Some(mut plugin) = tried(loaded.map_err(StrategyError::from)) else {
        return;
    };
    let source = SnapshotSource::default();
    let rows = [HistoryRow {
        id: "id".to_owned(),
        source: source.clone(),
        start: Timestamp::from_seconds(NOW - 60),
        end: Timestamp::from_seconds(NOW),
        modified: Timestamp::from_seconds(NOW),
        incomplete_reason: String::new(),
        pins: vec!["pin".to_owned()],
        tags: [("key".to_owned(), "value".to_owned())].into(),
        size_bytes: None,
    }];
    let begun = plugin.begin(&RetentionQuestion {
        source,
        policy: RetentionPolicy::DEFAULT,
        now: Timestamp::from_seconds(NOW),
        zone: Zone::default(),
    });
    if tried(begun).is_some()
        && let Some(decisions) = tried(plugin.decide(&rows))
    {
        assert!(
            !decisions
                .iter()
                .any(|one| one.reason.contains(char::is_control))
        );
        let _ = RetentionGuard::check_batch(&rows, &decisions);
    }
}

fn ask_about_tasks(wasm: &[u8]) {
    let loaded = load_scheduling(options(PluginOptions::scheduling(), wasm));
    let Some(mut plugin) = tried(loaded.map_err(StrategyError::from)) else {
        return;
    };
    let row = |task| TaskRow {
        task,
        verdict: Verdict::Runs,
        because: String::new(),
        until: None,
        last: None,
        cost: None,
    };
    let question = SchedulingQuestion {
        now: Timestamp::from_seconds(NOW),
        zone: Zone::default(),
        asked_for: true,
        cycles: vec![CycleRow {
            cycle: Cycle::Full,
            because: String::new(),
            tasks: Cycle::Full.tasks(true).iter().copied().map(row).collect(),
        }],
        writers: 0,
        newest_writer: None,
        index_blobs: 1,
        index_bytes: 1,
        memory_bytes: 1,
        scratch_bytes: 1,
        costs: Costs::NotCounted,
    };
    if let Some(answer) = tried(plugin.schedule(&question)) {
        assert!(!answer.reason().contains(char::is_control));
        let _ = answer.check(&question);
    }
}

fuzz_target!(|bytes: &[u8]| {
    let Some((first, rest)) = bytes.split_first() else {
        return;
    };
    let first = usize::from(*first);
    let good = components();
    let mut wasm = rest.to_vec();
    if let Some(component) = good.get(first % (good.len() + 1)) {
        wasm.clone_from(component);
        mutate(&mut wasm, rest);
    }
    match first % (good.len() + 1) % 3 {
        0 => ask_about_the_index(&wasm),
        1 => ask_about_snapshots(&wasm),
        _ => ask_about_tasks(&wasm),
    }
});
