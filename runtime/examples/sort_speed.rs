//! How fast the sorter is: 5 and 20 million index-like records of 43 bytes, buffers of 6 MiB, two
//! threads.
//!
//! ```text
//! cargo run --release --example sort_speed [scratch directory [millions of records]]
//! ```
//!
//! Wall time for each record of three phases: pushing (sorting and writing runs included), one
//! merge of everything in one thread, and two last merges by key range in two threads.
//! "generate" is what making the records costs by itself; it is part of "sort".

#![allow(clippy::print_stdout)]

use std::path::PathBuf;

use careen::clock::Stopwatch;
use careen::spill::{
    Group, Merge, Scratch, ScratchOptions, SortMemory, SortShape, Sorter, SpillError,
};

const RECORD_BYTES: usize = 43;
const THREADS: u64 = 2;
const SHAPE: SortShape = SortShape {
    record_bytes: RECORD_BYTES,
    group: Some(Group {
        group_bytes: 18,
        rank_end: 27,
    }),
};
const MEMORY: SortMemory = SortMemory {
    buffer_bytes: 6 << 20,
    buffers: 2,
    run_read_bytes: 64 << 10,
    runs_max: 256,
};

fn main() -> Result<(), SpillError> {
    let mut arguments = std::env::args_os().skip(1);
    let parent = arguments
        .next()
        .map_or_else(std::env::temp_dir, PathBuf::from);
    let millions = arguments
        .next()
        .and_then(|text| text.to_str()?.parse().ok());
    let options = ScratchOptions {
        parent,
        quota_bytes: None,
        tmpfs_allowed: true,
        direct: false,
    };
    let scratch = Scratch::create(&options, u64::from(std::process::id()).to_be_bytes())?;
    for count in millions.map_or(vec![5, 20], |n| vec![n]) {
        measure(&scratch, count * 1_000_000)?;
    }
    Ok(())
}

fn measure(scratch: &Scratch, count: u64) -> Result<(), SpillError> {
    let report = |phase: &str, watch: Stopwatch| {
        let nanos = watch.elapsed().as_nanos() as f64;
        println!(
            "{count:>9} records  {phase:<22} {:>6.1} ns/record  {:>6.2} s",
            nanos / count as f64,
            nanos / 1e9
        );
    };
    let watch = Stopwatch::start();
    threads(|thread| {
        let mut record = [0; RECORD_BYTES];
        let mut sum = 0_u64;
        for number in (thread..count).step_by(THREADS as usize) {
            fill(number, &mut record);
            sum = sum.wrapping_add(u64::from(std::hint::black_box(&record)[5]));
        }
        std::hint::black_box(sum);
        Ok(())
    })?;
    report("generate, 2 threads", watch);

    let watch = Stopwatch::start();
    let sorter = Sorter::new(scratch.clone(), SHAPE, MEMORY);
    threads(|thread| {
        let mut buffer = sorter.buffer();
        for number in (thread..count).step_by(THREADS as usize) {
            buffer.push_with(|record| fill(number, record))?;
        }
        buffer.finish()
    })?;
    let runs = sorter.finish()?;
    report("sort, 2 threads", watch);
    let watch = Stopwatch::start();
    let read = count_ascending(runs.merge()?)?;
    report("merge, 1 thread", watch);
    let watch = Stopwatch::start();
    let mut parts = runs.into_merges(THREADS as usize, false)?;
    let halves = std::thread::scope(|scope| {
        let running: Vec<_> = parts
            .drain(..)
            .map(|part| scope.spawn(|| count_ascending(part)))
            .collect();
        running
            .into_iter()
            .map(|thread| thread.join().expect("no panic"))
            .collect::<Vec<_>>()
    });
    let halves = halves.into_iter().collect::<Result<Vec<_>, _>>()?;
    report("merge, 2 threads", watch);
    assert_eq!((read, halves.iter().sum::<u64>()), (count, count));
    println!(
        "{count:>9} records  halves {halves:?}, scratch {} MB",
        scratch.peak_bytes() / 1_000_000
    );
    Ok(())
}

/// Runs `work` in all threads and returns the first error.
fn threads(work: impl Fn(u64) -> Result<(), SpillError> + Sync) -> Result<(), SpillError> {
    std::thread::scope(|scope| {
        let running: Vec<_> = (0..THREADS)
            .map(|thread| {
                scope.spawn({
                    let work = &work;
                    move || work(thread)
                })
            })
            .collect();
        running
            .into_iter()
            .try_for_each(|thread| thread.join().expect("no panic"))
    })
}

/// Makes an index-like record: target, prefix, 16 hash bytes, rank, value. All different.
fn fill(number: u64, record: &mut [u8]) {
    let first = mix(number);
    record[0] = 1;
    record[2..10].copy_from_slice(&first.to_be_bytes());
    record[10..18].copy_from_slice(&(first ^ number).to_be_bytes());
    record[18..27].copy_from_slice(&[7; 9]);
    record[27..35].copy_from_slice(&number.to_be_bytes());
    record[35..43].copy_from_slice(&number.to_le_bytes());
}

/// A mixer of 64 bits (SplitMix64), one to one.
fn mix(number: u64) -> u64 {
    let mixed = (number ^ (number >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

fn count_ascending(mut merge: Merge) -> Result<u64, SpillError> {
    let (mut count, mut last) = (0, 0);
    while let Some(record) = merge.next()? {
        let key = u64::from_be_bytes(record[2..10].try_into().expect("8 bytes"));
        assert!(key >= last, "ascending");
        last = key;
        count += 1;
    }
    Ok(count)
}
