//! The sort as a whole against a naive model: whatever the memory, the threads and the runs, a
//! merge gives what sorting everything at once and applying the rules of groups would give.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::join::{Joined, join};
use super::scratch::{Scratch, test_scratch};
use super::{Group, Merge, MergeOptions, Runs, SortMemory, SortShape, Sorter, SpillError};

const ROOMY: SortMemory = SortMemory {
    buffer_bytes: 1 << 20,
    buffers: 2,
    run_read_bytes: 64 << 10,
    runs_max: 16,
};

/// The model: sorted, unique, and of each group only the records with its smallest rank.
fn model(shape: &SortShape, rows: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let rows: BTreeSet<Vec<u8>> = rows.iter().cloned().collect();
    let Some(Group {
        group_bytes,
        rank_end,
    }) = shape.group
    else {
        return rows.into_iter().collect();
    };
    let best = |row: &Vec<u8>| {
        let first = rows.range(row[..group_bytes].to_vec()..).next().unwrap();
        first[..rank_end] == row[..rank_end]
    };
    rows.iter().filter(|row| best(row)).cloned().collect()
}

fn read(mut merge: Merge) -> Vec<Vec<u8>> {
    let mut rows = Vec::new();
    while let Some(row) = merge.next().unwrap() {
        rows.push(row.to_vec());
    }
    assert!(merge.next().unwrap().is_none() && merge.current().is_none());
    rows
}

/// Pushes `rows` through `buffers` buffers in turn, every third one in place.
fn sort(scratch: &Scratch, shape: SortShape, memory: SortMemory, rows: &[Vec<u8>]) -> Runs {
    let sorter = Sorter::new(scratch.clone(), shape, memory);
    let mut buffers: Vec<_> = (0..memory.buffers).map(|_| sorter.buffer()).collect();
    for (n, row) in rows.iter().enumerate() {
        let buffer = &mut buffers[n % memory.buffers];
        match n % 3 {
            0 => buffer.push_with(|room| room.copy_from_slice(row)).unwrap(),
            _ => buffer.push(row).unwrap(),
        }
    }
    buffers
        .into_iter()
        .for_each(|buffer| buffer.finish().unwrap());
    sorter.finish().unwrap()
}

/// Records of any width over few or many byte values, with and without groups; memory from tiny to
/// roomy.
fn cases() -> impl Strategy<Value = (SortShape, SortMemory, Vec<Vec<u8>>)> {
    let memory = (2_usize..40, 1_usize..4, 1_usize..5, 2_usize..6);
    let form = (1_usize..50, 1_usize..50, 0_usize..20, any::<bool>());
    let values = prop_oneof![Just(1_u8), Just(3), Just(255)];
    (form, memory, values).prop_flat_map(|((width, group_bytes, rank, grouped), memory, values)| {
        let group_bytes = group_bytes.min(width);
        let rank_end = (group_bytes + rank).min(width);
        let group = grouped.then_some(Group {
            group_bytes,
            rank_end,
        });
        let (records, buffers, window, runs_max) = memory;
        let memory = SortMemory {
            buffer_bytes: records * (width + 8) + 16,
            buffers,
            run_read_bytes: window * width,
            runs_max,
        };
        let row = prop::collection::vec(0..=values, width);
        let shape = SortShape {
            record_bytes: width,
            group,
        };
        (
            Just(shape),
            Just(memory),
            prop::collection::vec(row, 0..600),
        )
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// Merge, second merge, range merges and consuming merges all give the model's records.
    #[test]
    fn a_sort_gives_the_model((shape, memory, rows) in cases(), parts in 1_usize..5) {
        let (_parent, scratch) = test_scratch(None);
        let expected = model(&shape, &rows);
        let runs = sort(&scratch, shape, memory, &rows);
        prop_assert!(runs.records() >= expected.len() as u64);
        prop_assert!(runs.records() <= rows.len() as u64);
        prop_assert_eq!(&read(runs.merge().unwrap()), &expected);
        let dropping = MergeOptions { drop_behind: true, ..MergeOptions::default() };
        prop_assert_eq!(&read(runs.merge_with(&dropping).unwrap()), &expected);
        let mut joined = Vec::new();
        for part in 0..parts {
            let lower = runs.split_key(parts, part).unwrap();
            let upper = runs.split_key(parts, part + 1).unwrap();
            joined.extend(read(runs.merge_range(lower.as_deref(), upper.as_deref()).unwrap()));
        }
        prop_assert_eq!(&joined, &expected);
        let merges = runs.into_merges(parts, parts % 2 == 0).unwrap();
        let last: Vec<_> = merges.into_iter().flat_map(read).collect();
        prop_assert_eq!(&last, &expected);
        prop_assert_eq!(scratch.used_bytes(), 0);
    }

    /// Any bounds, also those that are no key of any record.
    #[test]
    fn ranges_are_half_open(
        (shape, memory, rows) in cases(),
        a in prop::collection::vec(any::<u8>(), 0..6),
        b in prop::collection::vec(0_u8..3, 0..6),
    ) {
        let (_parent, scratch) = test_scratch(None);
        let longest = shape.group.map_or(shape.record_bytes, |group| group.group_bytes);
        let (a, b) = (&a[..a.len().min(longest)], &b[..b.len().min(longest)]);
        let expected: Vec<_> = model(&shape, &rows)
            .into_iter()
            .filter(|row| row.as_slice() >= a && row.as_slice() < b)
            .collect();
        let runs = sort(&scratch, shape, memory, &rows);
        prop_assert_eq!(read(runs.merge_range(Some(a), Some(b)).unwrap()), expected);
    }

    /// Sorted runs and buffers mix; an unsorted push is refused and the run can be thrown away.
    #[test]
    fn sorted_runs_join_in((shape, memory, rows) in cases(), cut in 0_usize..600) {
        let (_parent, scratch) = test_scratch(None);
        let sorter = Sorter::new(scratch, shape, memory);
        let (loose, sorted) = rows.split_at(cut.min(rows.len()));
        let mut buffer = sorter.buffer();
        loose.iter().for_each(|row| buffer.push(row).unwrap());
        buffer.finish().unwrap();
        for piece in sorted.chunks(100) {
            let mut piece = piece.to_vec();
            piece.sort();
            let mut bad = sorter.sorted_run();
            piece.iter().for_each(|row| bad.push(row).unwrap());
            let below = vec![0; shape.record_bytes];
            if piece[0] > below {
                prop_assert_eq!(bad.push(&below).unwrap_err().code(), "run-unsorted");
            }
            bad.abandon().unwrap();
            let mut writer = sorter.sorted_run();
            piece.iter().for_each(|row| writer.push(row).unwrap());
            writer.finish().unwrap();
        }
        let runs = sorter.finish().unwrap();
        prop_assert_eq!(read(runs.into_merge(true).unwrap()), model(&shape, &rows));
    }
}

/// Numbered rows in a scattered order.
fn scattered(count: u64) -> Vec<Vec<u8>> {
    let spread = |n: u64| n.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes();
    (0..count)
        .map(|n| [&spread(n)[..], &n.to_be_bytes()].concat())
        .collect()
}

/// A small sort makes no file, however many buffers; what does not fit a merge goes to the disk.
#[test]
fn small_sorts_stay_in_memory() {
    let (_parent, scratch) = test_scratch(Some(0));
    let shape = SortShape {
        record_bytes: 16,
        group: None,
    };
    let rows = scattered(1_000);
    let runs = sort(&scratch, shape, ROOMY, &rows);
    assert!(runs.is_in_memory() && runs.records() == 1_000);
    assert_eq!(read(runs.merge().unwrap()), model(&shape, &rows));
    let empty = sort(&scratch, shape, ROOMY, &[]);
    assert!(read(empty.merge().unwrap()).is_empty() && empty.split_key(2, 1).unwrap().is_some());
    let (_parent, scratch) = test_scratch(None);
    let tight = SortMemory {
        run_read_bytes: 1 << 10,
        runs_max: 2,
        ..ROOMY
    };
    let rows = scattered(60_000);
    let runs = sort(&scratch, shape, tight, &rows);
    assert!(!runs.is_in_memory() && scratch.used_bytes() == 960_000);
    assert_eq!(read(runs.merge().unwrap()), model(&shape, &rows));
}

/// More buffers one after the other than the plan has at a time: kept ones make room for the next.
#[test]
fn buffers_in_sequence() {
    let (_parent, scratch) = test_scratch(None);
    let shape = SortShape {
        record_bytes: 16,
        group: None,
    };
    let sorter = Sorter::new(scratch.clone(), shape, ROOMY);
    let rows = scattered(900);
    for (number, piece) in rows.chunks(100).enumerate() {
        let mut buffer = sorter.buffer();
        piece.iter().for_each(|row| buffer.push(row).unwrap());
        buffer.finish().unwrap();
        assert_eq!(scratch.used_bytes() > 0, number >= 2, "buffer {number}");
    }
    let runs = sorter.finish().unwrap();
    assert_eq!(runs.records(), 900);
    assert_eq!(read(runs.merge().unwrap()), model(&shape, &rows));
}

/// Cascades of several levels: with 2 open runs, 125 runs take many merges; their scratch is given
/// back.
#[test]
fn cascades_of_several_levels() {
    let shape = SortShape {
        record_bytes: 16,
        group: None,
    };
    let rows = scattered(20_000);
    for runs_max in [2, 3, 7, 124, 125] {
        let (_parent, scratch) = test_scratch(None);
        let buffer_bytes = 160 * 24 + 16;
        let memory = SortMemory {
            buffer_bytes,
            buffers: 1,
            run_read_bytes: 999,
            runs_max,
        };
        let runs = sort(&scratch, shape, memory, &rows);
        assert_eq!(read(runs.merge().unwrap()), model(&shape, &rows));
        drop(runs);
        assert_eq!(scratch.used_bytes(), 0);
    }
}

/// Disk space of a consuming merge shrinks while it is read.
#[test]
fn consuming_gives_scratch_back() {
    let (_parent, scratch) = test_scratch(None);
    let shape = SortShape {
        record_bytes: 64,
        group: None,
    };
    let memory = SortMemory {
        buffer_bytes: 1 << 20,
        ..ROOMY
    };
    let sorter = Sorter::new(scratch.clone(), shape, memory);
    let mut writer = sorter.sorted_run();
    let count = 100_000_u64;
    for n in 0..count {
        let mut row = [0; 64];
        row[..8].copy_from_slice(&n.to_be_bytes());
        writer.push(&row).unwrap();
    }
    writer.finish().unwrap();
    let mut merge = sorter.finish().unwrap().into_merge(true).unwrap();
    let mut least = scratch.used_bytes();
    assert_eq!(least, count * 64);
    for n in 0..count {
        assert_eq!(&merge.next().unwrap().unwrap()[..8], &n.to_be_bytes());
        least = least.min(scratch.used_bytes());
    }
    assert!(merge.next().unwrap().is_none());
    // A file system that cannot punch keeps everything until the end.
    assert!(least < 2 << 20 || least == count * 64, "{least} bytes");
    drop(merge);
    assert_eq!(scratch.used_bytes(), 0);
}

/// Forgetting a buffer or a writer is an error, not a smaller result.
#[test]
fn unfinished_sorts_fail() {
    let (_parent, scratch) = test_scratch(None);
    let shape = SortShape {
        record_bytes: 16,
        group: None,
    };
    let sorter = Sorter::new(scratch.clone(), shape, ROOMY);
    sorter.buffer().push(&[0; 16]).unwrap();
    assert!(matches!(
        sorter.finish(),
        Err(SpillError::Unfinished { buffers: 1 })
    ));
    let sorter = Sorter::new(scratch, shape, ROOMY);
    let writer = sorter.sorted_run();
    assert!(matches!(
        sorter.finish(),
        Err(SpillError::Unfinished { buffers: 1 })
    ));
    drop(writer);
}

/// A quota that ends in the middle of a run is a `Full` error of the push that met it.
#[test]
fn the_quota_ends_a_sort() {
    let (_parent, scratch) = test_scratch(Some(100_000));
    let shape = SortShape {
        record_bytes: 16,
        group: None,
    };
    let memory = SortMemory {
        buffer_bytes: 24_016,
        ..ROOMY
    };
    let sorter = Sorter::new(scratch.clone(), shape, memory);
    let mut buffer = sorter.buffer();
    let failed = scattered(50_000)
        .iter()
        .find_map(|row| buffer.push(row).err());
    let Some(SpillError::Full {
        quota: Some(100_000),
        needed,
        free,
        ..
    }) = failed
    else {
        panic!("{failed:?}")
    };
    assert!(free < needed);
    drop((buffer, sorter));
    assert_eq!(scratch.used_bytes(), 0);
}

/// A scratch file that is too short fails the merge, and the merge stays failed.
#[test]
fn a_failed_merge_stays_failed() {
    let (_parent, scratch) = test_scratch(None);
    let shape = SortShape {
        record_bytes: 16,
        group: None,
    };
    let tight = SortMemory {
        buffer_bytes: 24_016,
        run_read_bytes: 1_600,
        runs_max: 100,
        buffers: 1,
    };
    let runs = sort(&scratch, shape, tight, &scattered(10_000));
    let mut merge = runs.merge().unwrap();
    runs.runs[3].cut_file(80_000);
    let error = loop {
        match merge.next() {
            Ok(Some(_)) => {}
            Ok(None) => panic!("a part passed for the whole"),
            Err(error) => break error,
        }
    };
    assert_eq!(error.code(), "scratch-io");
    assert!(merge.next().is_err() && merge.next().is_err());
}

/// Two threads push at the same time, then two threads merge one range each.
#[test]
fn threads_push_and_merge() {
    let (_parent, scratch) = test_scratch(None);
    let shape = SortShape {
        record_bytes: 16,
        group: None,
    };
    let memory = SortMemory {
        buffer_bytes: 100_000,
        run_read_bytes: 4_096,
        ..ROOMY
    };
    let sorter = Sorter::new(scratch, shape, memory);
    let rows = scattered(40_000);
    std::thread::scope(|scope| {
        for piece in rows.chunks(20_000) {
            let mut buffer = sorter.buffer();
            scope.spawn(move || {
                piece.iter().for_each(|row| buffer.push(row).unwrap());
                buffer.finish().unwrap();
            });
        }
    });
    let merges = sorter.finish().unwrap().into_merges(2, true).unwrap();
    let parts: Vec<Vec<_>> = std::thread::scope(|scope| {
        let threads: Vec<_> = merges
            .into_iter()
            .map(|merge| scope.spawn(move || read(merge)))
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    assert!(
        parts[0].len().abs_diff(parts[1].len()) < 4_000,
        "parts are about equal"
    );
    assert_eq!(parts.concat(), model(&shape, &rows));
}

/// Every key of both sides comes once, in order, with everything that has it.
#[test]
fn joins_are_complete() {
    let (_parent, scratch) = test_scratch(None);
    let shape = SortShape {
        record_bytes: 2,
        group: None,
    };
    let stream = |rows: &[&[u8; 2]]| {
        let rows: Vec<_> = rows.iter().map(|row| row.to_vec()).collect();
        sort(&scratch, shape, ROOMY, &rows)
            .into_merge(true)
            .unwrap()
    };
    let mut left = stream(&[b"a1", b"b1", b"b2", b"d1", b"e1", b"e2"]);
    let mut right = stream(&[b"0x", b"bx", b"cx", b"dx", b"fx"]);
    let mut steps = Vec::new();
    join(&mut left, &mut right, 1, |step| {
        steps.push(match step {
            Joined::Left(l) => String::from_utf8(l.to_vec()).unwrap() + "-",
            Joined::Right(r) => "-".to_owned() + std::str::from_utf8(r).unwrap(),
            Joined::Both(l, r) => String::from_utf8([l, r].concat()).unwrap(),
        });
        Ok::<_, SpillError>(())
    })
    .unwrap();
    let expected = [
        "-0x", "a1-", "b1bx", "b2bx", "-cx", "d1dx", "e1-", "e2-", "-fx",
    ];
    assert_eq!(steps, expected);
}
