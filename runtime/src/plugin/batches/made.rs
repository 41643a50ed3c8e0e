//! Batches that no repository wrote: what `careen plugin test` asks when it is given nothing else.
//!
//! Two years of snapshots of eight sources, three thousand packs, index sets from empty to jammed,
//! cycles that are due. Always the same, so that fuel can be compared between two builds of a
//! plugin. Memory: one batch of at most 1,000 rows.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::clock::Timestamp;
use crate::kopia::policy::RetentionPolicy;
use crate::kopia::snapshot_manifest::SnapshotSource;
use crate::maintenance::cycle_plan::Verdict;
use crate::maintenance::cycle_task::{Cycle, CycleTask};
use crate::maintenance::retention::{BATCH_ROWS_MAX, VELERO_PIN, Zone};
use crate::maintenance::scheduling::{Costs, CycleRow, LastRun, SchedulingQuestion, TaskRow};
use crate::maintenance::strategy::{
    EPOCH_ROWS_MAX, EpochRow, Owner, PACK_ROWS_MAX, PackRow, RepackQuestion, SHARD_ENTRIES_MAX,
    SplittingQuestion, TaggedSource,
};
use crate::maintenance::task_costs::TaskCost;

use super::{Batch, SnapshotLine, SourceLine, Strategy, TenantsLine};

/// The moment of all questions: 2026-09-01, 03:20 in the zone below.
const NOW: Timestamp = Timestamp::from_seconds(1_788_225_600);

const HOUR: u64 = 3_600;
const DAY: u64 = 24 * HOUR;

/// Tenants whose snapshots and packs there are.
const TENANTS: u8 = 12;

/// Questions about packs without owners; each has as many as the host asks about at once. One with
/// owners follows.
const PACK_QUESTIONS: usize = 3;

/// Kopia's default size of a pack.
const PACK_BYTES_MAX: u64 = 20 << 20;

/// Calls `each` for every batch of a strategy, in the order of a recording.
///
/// # Errors
/// What `each` says; it ends the calls.
pub fn each<E>(strategy: Strategy, each: &mut dyn FnMut(Batch) -> Result<(), E>) -> Result<(), E> {
    match strategy {
        Strategy::Retention => snapshots(each),
        Strategy::Splitting => packs(each),
        Strategy::Scheduling => cycles(each),
    }
}

/// Central Europe: two changes a year.
fn zone() -> Zone {
    let spring = [1_711_846_800, 1_743_296_400, 1_774_746_000];
    let autumn = [1_729_990_800, 1_761_440_400, 1_792_890_000];
    let years = spring.into_iter().zip(autumn);
    Zone {
        offset_seconds: 3_600,
        changes: years
            .flat_map(|(spring, autumn)| [(spring, 7_200), (autumn, 3_600)])
            .collect(),
    }
}

/// Numbers without a pattern, always the same (SplitMix64).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

/// How the snapshots of a source are, the newest first.
struct Shape {
    name: (&'static str, &'static str, &'static str),
    policy: RetentionPolicy,
    /// Steps back in time: so many snapshots, so far apart in seconds.
    steps: &'static [(u64, u64)],
    /// Changes the snapshot with this number.
    dress: fn(u64, &mut SnapshotLine),
}

/// Sources as there are many.
fn usual() -> [Shape; 4] {
    [
        Shape {
            // What Kopia's defaults have left of two years of hourly snapshots.
            name: ("laptop", "alice", "/home/alice"),
            policy: RetentionPolicy::DEFAULT,
            steps: &[(48, HOUR), (7, DAY), (4, 7 * DAY), (23, 30 * DAY)],
            dress: |_, _| {},
        },
        Shape {
            name: ("db1", "root", "/var/lib/postgresql"),
            policy: RetentionPolicy {
                keep_daily: Some(800),
                ..RetentionPolicy::default()
            },
            steps: &[(730, DAY)],
            dress: |number, row| {
                if number.is_multiple_of(7) {
                    row.tags.insert("tag:audit".into(), "yes".into());
                }
            },
        },
        Shape {
            name: ("default", "default", "/host_pods/3f1c/volumes/data"),
            policy: RetentionPolicy::DEFAULT,
            steps: &[(120, 6 * HOUR)],
            dress: |number, row| {
                let requester = ("tag:snapshot-requester", "pod-volume-backup-restore");
                let tags = [requester, ("tag:snapshot-uploader", "kopia")];
                row.tags = owned(&tags);
                row.tags
                    .insert("tag:backup".into(), format!("daily-{number}"));
                row.pins.push(VELERO_PIN.into());
            },
        },
        Shape {
            // Two years of hourly snapshots, all kept: what costs fuel.
            name: ("mail", "vmail", "/var/mail"),
            policy: RetentionPolicy {
                keep_hourly: Some(20_000),
                ..RetentionPolicy::default()
            },
            steps: &[(2 * 365 * 24, HOUR)],
            dress: |_, _| {},
        },
    ]
}

/// Sources that a strategy may stumble over.
fn odd() -> [Shape; 4] {
    [
        Shape {
            // Half of what was begun was never finished.
            name: ("office", "bob", r"C:\Users\bob"),
            policy: RetentionPolicy::DEFAULT,
            steps: &[(60, HOUR / 2), (14, DAY)],
            dress: |number, row| {
                if number % 2 == 0 {
                    row.incomplete_reason = "checkpoint".into();
                }
            },
        },
        Shape {
            name: ("tape", "root", "/never/finished"),
            policy: RetentionPolicy::DEFAULT,
            steps: &[(5, DAY)],
            dress: |_, row| row.incomplete_reason = "canceled".into(),
        },
        Shape {
            name: ("new", "carol", "/srv/ä ö/日本"),
            policy: RetentionPolicy::default(),
            steps: &[(1, DAY)],
            dress: |_, row| row.size_bytes = None,
        },
        Shape {
            // A clock that was wrong: from the future, and ended before it began.
            name: ("pi", "dave", "/"),
            policy: RetentionPolicy::DEFAULT,
            steps: &[(30, DAY)],
            dress: |number, row| match number {
                0 => row.start = NOW.plus(Duration::from_secs(40 * DAY)),
                1 => row.end = row.start.minus(Duration::from_secs(HOUR)),
                2 => row.pins.push("before the upgrade".into()),
                _ => {}
            },
        },
    ]
}

fn owned(tags: &[(&str, &str)]) -> BTreeMap<String, String> {
    let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    tags.iter().map(owned).collect()
}

fn snapshots<E>(each: &mut dyn FnMut(Batch) -> Result<(), E>) -> Result<(), E> {
    each(Batch::Zone(zone()))?;
    let mut numbers = Numbers(1);
    for shape in usual().into_iter().chain(odd()) {
        let (host, user, path) = shape.name;
        each(Batch::Source(SourceLine {
            source: SnapshotSource {
                host: host.into(),
                user: user.into(),
                path: path.into(),
            },
            policy: shape.policy,
            now: NOW,
        }))?;
        let mut rows = Vec::new();
        let (mut number, mut start) = (0, NOW);
        for (count, seconds) in shape.steps {
            for _ in 0..*count {
                start = start.minus(Duration::from_secs(*seconds));
                // Not on the second: a job begins when it gets its turn.
                let late = Duration::from_nanos(numbers.below(120_000_000_000));
                let mut row = SnapshotLine {
                    id: format!("{:016x}{:016x}", numbers.next(), numbers.next()),
                    start: start.plus(late),
                    end: start.plus(late + Duration::from_secs(numbers.below(HOUR / 2))),
                    size_bytes: Some(numbers.below(1 << 40)),
                    ..SnapshotLine::default()
                };
                (shape.dress)(number, &mut row);
                number += 1;
                rows.push(row);
                if rows.len() == BATCH_ROWS_MAX {
                    each(Batch::Snapshots(std::mem::take(&mut rows)))?;
                }
            }
        }
        if !rows.is_empty() {
            each(Batch::Snapshots(rows))?;
        }
    }
    Ok(())
}

fn packs<E>(each: &mut dyn FnMut(Batch) -> Result<(), E>) -> Result<(), E> {
    let mut numbers = Numbers(2);
    for (rows, compacted) in [
        (0, true),
        (1, true),
        (6, true),
        (7, true),
        (8, false),
        (40, true),
        (EPOCH_ROWS_MAX as u32, true),
        (EPOCH_ROWS_MAX as u32, false),
    ] {
        each(Batch::Split(split(&mut numbers, rows, compacted)))?;
    }
    for number in 0..=PACK_QUESTIONS {
        let with_owners = number == PACK_QUESTIONS;
        if with_owners {
            each(Batch::Tenants(tenants(&mut numbers)))?;
        }
        let pack = |_| {
            let used_bytes = match numbers.below(10) {
                0..=5 => PACK_BYTES_MAX - numbers.below(PACK_BYTES_MAX / 10),
                6..=8 => 1 + numbers.below(PACK_BYTES_MAX * 6 / 10),
                _ => 1 + numbers.below(4_096),
            };
            PackRow {
                metadata: numbers.below(10) == 0,
                used_bytes,
                owner: with_owners.then(|| match numbers.below(8) {
                    0 => Owner::Nobody,
                    1 => Owner::Shared,
                    2 => Owner::Mixed,
                    _ => Owner::One(1 + numbers.below(u64::from(TENANTS)) as u8),
                }),
            }
        };
        each(Batch::Repack(RepackQuestion {
            pack_bytes_max: PACK_BYTES_MAX,
            packs: (0..PACK_ROWS_MAX).map(pack).collect(),
        }))?;
    }
    Ok(())
}

/// Snapshots of some tenants, each with a machine of its own.
fn tenants(numbers: &mut Numbers) -> TenantsLine {
    let tenants: Vec<u8> = (0..BATCH_ROWS_MAX)
        .map(|_| 1 + numbers.below(u64::from(TENANTS)) as u8)
        .collect();
    let snapshot = |tenant: &u8| TaggedSource {
        source: SnapshotSource {
            host: format!("db{tenant}.example.org"),
            user: "root".into(),
            path: "/var/lib/postgresql".into(),
        },
        tags: owned(&[("tag:ns", ["shop", "mail"][usize::from(tenant % 2)])]),
    };
    TenantsLine {
        snapshots: tenants.iter().map(snapshot).collect(),
        tenants,
    }
}

/// A question with so many settled epochs, the newest of which may not be compacted.
fn split(numbers: &mut Numbers, rows: u32, compacted: bool) -> SplittingQuestion {
    let chain_end = 12;
    let last_settled = (chain_end + rows).checked_sub(1).filter(|_| rows > 0);
    let epoch = |row| EpochRow {
        epoch: chain_end + row,
        blobs: 1 + numbers.below(30) as u32,
        bytes: numbers.below(1 << 32),
        compacted: compacted || row + 3 < rows,
    };
    SplittingQuestion {
        write_epoch: chain_end + rows + 1,
        chain_end,
        last_settled,
        full_checkpoint_frequency: 7,
        shard_entries_max: SHARD_ENTRIES_MAX,
        epochs: (0..rows).map(epoch).collect(),
    }
}

fn cycles<E>(each: &mut dyn FnMut(Batch) -> Result<(), E>) -> Result<(), E> {
    let mut numbers = Numbers(3);
    let unknown = Costs::Unknown("pack p0123 is in use and not in the storage".into());
    for has_epochs in [true, false] {
        for due in [
            &[Cycle::Full, Cycle::Quick][..],
            &[Cycle::Full],
            &[Cycle::Quick],
        ] {
            for costs in [Costs::NotCounted, Costs::Counted, unknown.clone()] {
                // By night with nobody there, by day with three writers.
                for (hours, writers) in [(0, 0), (11, 3)] {
                    let now = NOW.plus(Duration::from_secs(hours * HOUR));
                    let rows = due
                        .iter()
                        .map(|cycle| cycle_row(*cycle, has_epochs, &costs, &mut numbers));
                    each(Batch::Schedule(SchedulingQuestion {
                        now,
                        zone: zone(),
                        asked_for: due.len() == 1 && writers == 0,
                        cycles: rows.collect(),
                        writers,
                        newest_writer: (writers > 0).then(|| now.minus(Duration::from_secs(600))),
                        index_blobs: 1_200,
                        index_bytes: 900 << 20,
                        memory_bytes: 128 << 20,
                        scratch_bytes: 20 << 30,
                        costs: costs.clone(),
                    }))?;
                }
            }
        }
    }
    Ok(())
}

fn cycle_row(cycle: Cycle, has_epochs: bool, costs: &Costs, numbers: &mut Numbers) -> CycleRow {
    let task = |task: &CycleTask| {
        let verdict = match (*task, numbers.below(4)) {
            (CycleTask::ExtendBlobRetentionTime, _) => Verdict::Off,
            (CycleTask::FullDeleteBlobs | CycleTask::FullDropDeletedContent, 0..=1) => {
                Verdict::Waits
            }
            _ => Verdict::Runs,
        };
        let end = NOW.minus(Duration::from_secs(DAY + numbers.below(HOUR)));
        TaskRow {
            task: *task,
            verdict,
            because: "a batch that was made".into(),
            until: (verdict == Verdict::Waits).then(|| NOW.plus(Duration::from_secs(4 * HOUR))),
            last: Some(LastRun {
                start: end.minus(Duration::from_secs(300)),
                end,
                success: numbers.below(8) > 0,
            }),
            cost: (*costs == Costs::Counted && verdict != Verdict::Off).then(|| TaskCost {
                task: *task,
                read_bytes: numbers.below(40 << 30),
                written_bytes: numbers.below(20 << 30),
                requests: numbers.below(100_000),
                scratch_bytes: numbers.below(8 << 30),
                memory_bytes: 64 << 20,
            }),
        }
    };
    CycleRow {
        cycle,
        because: "its time has come".into(),
        tasks: cycle.tasks(has_epochs).iter().map(task).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(strategy: Strategy) -> Vec<Batch> {
        let mut found = Vec::new();
        let taken: Result<(), ()> = each(strategy, &mut |batch| {
            found.push(batch);
            Ok(())
        });
        taken.unwrap();
        found
    }

    #[test]
    fn made_batches_are_such_as_the_host_asks_and_always_the_same() {
        for (strategy, rows) in [
            (Strategy::Retention, 18_500..19_500),
            (Strategy::Splitting, 7_000..7_100),
            (Strategy::Scheduling, 200..300),
        ] {
            let made = all(strategy);
            for batch in &made {
                batch.check().unwrap();
                assert_eq!(batch.strategy(), strategy);
                let json = serde_json::to_string(batch).unwrap();
                assert_eq!(*batch, serde_json::from_str(&json).unwrap());
            }
            let sum: usize = made.iter().map(Batch::rows).sum();
            assert!(rows.contains(&sum), "{strategy}: {sum}");
            assert_eq!(made, all(strategy));
        }
    }
}
