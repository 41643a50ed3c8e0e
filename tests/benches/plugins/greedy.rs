//! The host's memory while a guest takes all that it may and is ended for wanting more, and what is
//! left of it afterwards.
//!
//! Method: a guest that grows its memory page by page, and writes to each. Memory: the guest's
//! limit.

use careen::maintenance::strategy::Splitting;
use careen::plugin::{PluginOptions, PluginSource, load};

use guests::splitting::splitting;

use crate::starts::about_the_index;
use crate::{Home, resident, row};

/// What the host may take besides the guest's own memory: the guest's tables and stack, an error.
const BESIDES_KIB: u64 = 512;

/// Grows by a page of 64 KiB, and writes to each of its 16 pages of the machine; for ever.
fn greedy() -> Vec<u8> {
    let stores: String = (0..16)
        .map(|page| {
            format!(
                "(i32.store offset={} (local.get $at) (i32.const 1))",
                page << 12
            )
        })
        .collect();
    splitting(&format!(
        "(local $at i32) (loop (local.set $at (i32.shl (memory.grow (i32.const 1)) \
         (i32.const 16))) {stores} (br 0)) unreachable"
    ))
}

pub(crate) fn measure(home: &Home) {
    let file = tempfile::Builder::new().suffix(".wasm").tempfile();
    let file = file.expect("a temporary file");
    std::fs::write(file.path(), greedy()).expect("it is ours");
    let options = home.options(PluginOptions {
        source: PluginSource::File {
            path: file.path().to_owned(),
            blake3: None,
        },
        ..PluginOptions::default()
    });
    let limit_kib = (options.limits.memory_bytes >> 10) as u64;
    let mut plugin = load(options).expect("it loads");
    let mut is_ended = || {
        let error = plugin
            .split(&about_the_index())
            .expect_err("it takes too much");
        assert_eq!(error.code(), "plugin-memory");
    };
    // The first one makes what is kept: threads, the allocator's own.
    is_ended();
    let before = resident::begin();
    is_ended();
    let (peak, now) = (resident::peak(), resident::now());
    let (moved, left) = (peak.saturating_sub(before), now.saturating_sub(before));
    let most = limit_kib + BESIDES_KIB;
    let name = format!("memory of the host, a guest taking all of its {limit_kib} KiB");
    let target = format!("{most} KiB");
    row(&name, format!("+{moved} KiB"), &target, moved <= most);
    let target = format!("{BESIDES_KIB} KiB");
    row(
        "  and after it was ended",
        format!("+{left} KiB"),
        &target,
        left <= BESIDES_KIB,
    );
}
