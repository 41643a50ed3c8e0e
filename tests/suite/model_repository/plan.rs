//! Random repositories as plain values, so that proptest can make them smaller.
//!
//! Ages are taken around Kopia's margins, a second before and after each as often as anything else:
//! that is where rules go wrong. No memory to speak of.

use careen::maintenance::cycle_task::CycleTask;
use proptest::collection::vec;
use proptest::prelude::*;

const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;

/// Seconds before the first run.
pub(super) type Age = i64;

/// A repository and what is done to it.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) seed: u64,
    pub(super) shape: Shape,
    /// Whether the margins are off.
    pub(super) unsafe_runs: bool,
    pub(super) flushes: Vec<Flush>,
    pub(super) snapshots: Vec<Snapshot>,
    pub(super) tombstones: Vec<Tombstone>,
    pub(super) dead_sessions: Vec<DeadSession>,
    /// Runs that succeeded before.
    pub(super) past: Vec<(CycleTask, Age)>,
    pub(super) watermark: Option<Age>,
    /// The flush whose index blob is lost.
    pub(super) lost: Option<usize>,
    /// Whether the first run comes without a wait: then ages are what they are meant to be.
    pub(super) at_once: bool,
    pub(super) rounds: Vec<Round>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub(super) epochs: bool,
    pub(super) write_epoch: u64,
    pub(super) index_version: u8,
    pub(super) ecc: bool,
}

/// What a client's session wrote.
#[derive(Clone, Debug)]
pub(super) struct Flush {
    pub(super) age: Age,
    pub(super) epoch: u64,
    /// Numbers of contents.
    pub(super) data: Vec<u16>,
    /// The same of contents that look like metadata and belong to nothing.
    pub(super) metadata: Vec<u16>,
    /// After so many bytes a pack ends.
    pub(super) pack_bytes: usize,
    /// The marker is still there, with this age of its checkpoint.
    pub(super) marker: Option<Age>,
}

#[derive(Clone, Debug)]
pub(super) struct Snapshot {
    /// In which flush its directories are, modulo their number.
    pub(super) flush: usize,
    /// Directories with the numbers of their files.
    pub(super) directories: Vec<Vec<u16>>,
    /// The first file of each directory is an indirect object of all of them.
    pub(super) indirect: bool,
    /// Whether it was interrupted; it counts all the same.
    pub(super) incomplete: bool,
    /// Whether its manifest is gone.
    pub(super) forgotten: bool,
    /// Whether the user keeps it, whatever a policy says.
    pub(super) pinned: bool,
}

/// A content that somebody has deleted.
#[derive(Clone, Debug)]
pub(super) struct Tombstone {
    /// Number of the content, modulo how many there are.
    pub(super) content: usize,
    pub(super) age: Age,
}

/// A session that died before its index.
#[derive(Clone, Debug)]
pub(super) struct DeadSession {
    pub(super) age: Age,
    pub(super) checkpoint: Age,
    pub(super) data: Vec<u16>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Round {
    /// Seconds since the round before.
    pub(super) wait: i64,
    pub(super) quick: bool,
}

/// Ages: near a margin of Kopia's, or any.
fn age() -> impl Strategy<Value = Age> {
    let margins = [1, 2, 4, 24, 25, 96, 120].map(|hours| hours * HOUR);
    let near = (prop::sample::select(margins.to_vec()), -2..3_i64).prop_map(|(at, by)| at + by);
    prop_oneof![2 => near, 2 => 0..200 * HOUR, 1 => 200 * HOUR..400 * HOUR]
}

fn numbers(most: usize) -> impl Strategy<Value = Vec<u16>> {
    vec(0..60_u16, 0..most)
}

fn flush() -> impl Strategy<Value = Flush> {
    let marker = prop_oneof![6 => Just(None), 1 => age().prop_map(Some)];
    let contents = (numbers(8), numbers(3), 1_500..14_000_usize);
    (age(), 0..4_u64, contents, marker).prop_map(|(age, epoch, contents, marker)| Flush {
        age,
        epoch,
        data: contents.0,
        metadata: contents.1,
        pack_bytes: contents.2,
        marker,
    })
}

fn snapshot() -> impl Strategy<Value = Snapshot> {
    let kinds = (any::<bool>(), any::<bool>(), prop::bool::weighted(0.3));
    (0..8_usize, vec(numbers(5), 1..4), kinds).prop_map(|(flush, directories, kinds)| Snapshot {
        flush,
        directories,
        indirect: kinds.0,
        incomplete: kinds.1,
        forgotten: kinds.2,
        pinned: flush == 7,
    })
}

fn dead_session() -> impl Strategy<Value = DeadSession> {
    (age(), age(), vec(0..60_u16, 1..4)).prop_map(|(age, checkpoint, data)| DeadSession {
        age,
        checkpoint: checkpoint.max(age),
        data,
    })
}

fn past() -> impl Strategy<Value = Vec<(CycleTask, Age)>> {
    let tasks = [
        CycleTask::SnapshotGc,
        CycleTask::SnapshotGc,
        CycleTask::FullRewriteContents,
        CycleTask::QuickRewriteContents,
        CycleTask::FullDeleteBlobs,
        CycleTask::QuickDeleteBlobs,
    ];
    vec((prop::sample::select(tasks.to_vec()), age()), 0..5)
}

fn rounds() -> impl Strategy<Value = Vec<Round>> {
    let waits = [HOUR - 1, HOUR, 4 * HOUR, 4 * HOUR + 1, 24 * HOUR, 25 * HOUR];
    let round = (
        prop::sample::select(waits.to_vec()),
        prop::bool::weighted(0.2),
    );
    vec(round.prop_map(|(wait, quick)| Round { wait, quick }), 1..5)
}

fn shape(epochs: bool) -> impl Strategy<Value = Shape> {
    (0..4_u64, 1..3_u8, prop::bool::weighted(0.2)).prop_map(move |(epoch, version, ecc)| Shape {
        epochs,
        write_epoch: epoch,
        index_version: version,
        ecc: ecc && version == 2,
    })
}

/// Returns random plans, of repositories with or without epochs.
pub(super) fn plan(epochs: bool) -> impl Strategy<Value = Plan> {
    let tombstone = (0..1_000_usize, age());
    let tombstone = tombstone.prop_map(|(content, age)| Tombstone { content, age });
    let written = (
        vec(flush(), 1..7),
        vec(snapshot(), 0..5),
        vec(tombstone, 0..10),
        vec(dead_session(), 0..3),
    );
    let watermark = match epochs {
        true => prop_oneof![4 => Just(None), 1 => age().prop_map(Some)].boxed(),
        false => Just(None).boxed(),
    };
    let lost = prop_oneof![8 => Just(None), 1 => (0..7_usize).prop_map(Some)];
    let done = (past(), watermark, lost, (any::<bool>(), rounds()));
    let shape = (any::<u64>(), shape(epochs), prop::bool::weighted(0.4));
    (shape, written, done).prop_map(|((seed, shape, unsafe_runs), written, done)| Plan {
        seed,
        shape,
        unsafe_runs,
        flushes: written.0,
        snapshots: written.1,
        tombstones: written.2,
        dead_sessions: written.3,
        past: done.0,
        watermark: done.1,
        lost: done.2,
        at_once: done.3.0,
        rounds: done.3.1,
    })
}
