//! Recordings of `careen plugin record`, as `plugin test` and `plugin replay` read them: any bytes,
//! a file at a time; what can be read is asked of a built-in plugin, as a replay does.
//!
//! Nothing may panic. What is read is what the host might have asked: it has no more rows, comes
//! back when it is written again, and its names can be hidden. What is told can be shown.

#![no_main]

use std::path::PathBuf;
use std::sync::OnceLock;

use careen::plugin::batches::names::Names;
use careen::plugin::batches::{Batch, BatchReader, Strategy, write_line};
use careen::plugin::replay::{Finding, Replay};
use careen::plugin::{PluginOptions, PluginSource};
use libfuzzer_sys::fuzz_target;

/// Most rows of any batch: those of packs, epochs and snapshots.
const ROWS_MAX: usize = 1_000;

/// Compiled once, by whichever input comes first.
fn cache() -> PathBuf {
    static CACHE: OnceLock<PathBuf> = OnceLock::new();
    let path = CACHE.get_or_init(|| {
        let name = format!("careen-fuzz-batches-{}", std::process::id());
        std::env::temp_dir().join(name)
    });
    path.clone()
}

fn builtin(strategy: Strategy) -> PluginOptions {
    let source = match strategy {
        Strategy::Retention => PluginSource::BuiltinRetention,
        Strategy::Splitting => PluginSource::Builtin,
        Strategy::Scheduling => PluginSource::BuiltinScheduling,
    };
    PluginOptions {
        source,
        cache_directory: Some(cache()),
        ..PluginOptions::default()
    }
}

/// What is told can be shown, line by line.
fn shown(text: &str) {
    let steers = |character: char| character.is_control() && character != '\n';
    assert!(!text.contains(steers), "{text:?}");
}

/// Reads all that can be read.
fn read(bytes: &[u8]) -> Option<(Strategy, Vec<(u64, Batch)>)> {
    let reader = BatchReader::new(bytes, "fuzz".into());
    let mut reader = reader.inspect_err(|error| shown(&error.to_string())).ok()?;
    let strategy = reader.head().strategy;
    let mut batches = Vec::new();
    loop {
        match reader.next_batch() {
            Ok(Some(batch)) => batches.push(batch),
            Ok(None) => break,
            Err(error) => {
                shown(&error.to_string());
                break;
            }
        }
    }
    Some((strategy, batches))
}

/// Writes a batch and reads it again.
fn comes_back(head: &[u8], batch: &Batch) {
    assert!(batch.rows() <= ROWS_MAX);
    let mut again = [head, b"\n"].concat();
    write_line(&mut again, batch).expect("it was read");
    let mut reader = BatchReader::new(&*again, "again".into()).expect("the head was read");
    let back = reader.next_batch().expect("it was written");
    assert_eq!(back.as_ref().map(|(_, back)| back), Some(batch));
    Names::new([7; 32]).hide(&mut batch.clone());
}

fuzz_target!(|bytes: &[u8]| {
    let Some((strategy, batches)) = read(bytes) else {
        return;
    };
    let head = bytes
        .split(|byte| *byte == b'\n')
        .next()
        .unwrap_or_default();
    for (_, batch) in &batches {
        comes_back(head, batch);
    }
    if batches.is_empty() {
        return;
    }
    let mut find = |finding: &Finding| shown(&finding.to_string());
    let plugins = [builtin(strategy), builtin(strategy)];
    let mut replay = Replay::new(strategy, plugins, true, &mut find).expect("it is our own");
    let mut last = 0;
    for (line, batch) in batches {
        // A plugin may fail at what no repository asks.
        if let Err(error) = replay.ask(line, batch) {
            shown(&error.to_string());
            return;
        }
        last = line;
    }
    let report = replay.end(last);
    assert_eq!(report.differences, 0, "the same plugin, asked twice");
    shown(&report.to_string());
});
