//! What this machine can do, for each thing that a compaction does to every byte: the next factor
//! is where a step is far from its limit.
//!
//! Single-threaded rates in MB/s (10^6 bytes). Memory: [`BYTES`], four times.

use std::fs::{File, OpenOptions};
use std::hint::black_box;
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Instant;

use careen::kopia::encryption::Encryption;
use careen::kopia::hashing::HashFunction;
use careen::progress::Part;
use careen::spill::{Scratch, ScratchOptions, SortMemory, SortShape, Sorter, SpillError};
use rustix::fs::OFlags;

/// Bytes that each step is measured with: more than any cache.
const BYTES: usize = 64 << 20;

/// Bytes of one copy in memory: a batch of the work.
const COPY_BYTES: usize = 256 << 10;

/// Bytes of one direct read or write.
const DIRECT_BYTES: usize = 1 << 20;

/// Alignment that direct reads and writes need at most.
const PAGE_BYTES: usize = 4096;

/// Bytes of a record of a repository with hashes of 16 bytes.
pub(crate) const RECORD_BYTES: usize = 42;

/// The rates in MB/s; `None` where this machine refuses.
pub(crate) struct Limits {
    copy: f64,
    hash: f64,
    encrypt: f64,
    decrypt: f64,
    cache_read: f64,
    disk_read: Option<f64>,
    disk_write: Option<f64>,
    sort: Option<f64>,
    merge: Option<f64>,
}

impl Limits {
    /// Measures all of them, in some seconds.
    pub(crate) fn measure() -> Self {
        let mut data: Vec<u8> = (0..BYTES).map(|at| ((at * 31) >> 3) as u8).collect();
        let mut other = vec![1u8; BYTES]; // touched, so that no page fault is counted
        let copy = rate(|| {
            let pieces = other.chunks_mut(COPY_BYTES).zip(data.chunks(COPY_BYTES));
            pieces.for_each(|(to, from)| to.copy_from_slice(black_box(from)));
        });
        let hash = HashFunction::new("BLAKE2B-256-128", &[7; 32]).expect("a known hash");
        let hash = rate(|| {
            black_box(hash.hash(&data));
        });
        let cipher = Encryption::new("AES256-GCM-HMAC-SHA256", &[7; 32]).expect("a known cipher");
        let mut sealer = cipher.sealer(&[1; 16], &[2; 12]);
        let encrypt = rate(|| sealer.encrypt(&mut data));
        let mut opener = cipher.opener(&[1; 16], &[2; 12]);
        let decrypt = rate(|| opener.decrypt(&mut data));
        let folder = tempfile::tempdir().expect("a temporary directory");
        let path = folder.path().join("file");
        std::fs::write(&path, &data).expect("room on the disk");
        let cache_read = rate(|| {
            let mut file = File::open(&path).expect("the file");
            file.read_exact(&mut other).expect("its bytes");
        });
        let direct = direct(&folder.path().join("direct"), &mut data).ok();
        let sorted = sorted(folder.path()).ok();
        Self {
            copy,
            hash,
            encrypt,
            decrypt,
            cache_read,
            disk_read: direct.map(|(_, read)| read),
            disk_write: direct.map(|(write, _)| write),
            sort: sorted.map(|(sort, _)| sort),
            merge: sorted.map(|(_, merge)| merge),
        }
    }

    /// Returns what bounds `part`, and its rate; `cold`: nothing is in the page cache.
    pub(crate) fn of(&self, part: Part, cold: bool) -> Option<(&'static str, f64)> {
        let (what, rate) = match part {
            Part::List => return None,
            Part::Read if cold => ("read the disk", self.disk_read),
            Part::Read | Part::Reread => ("read the cache", Some(self.cache_read)),
            Part::Decrypt => ("decrypt", Some(self.decrypt)),
            Part::Decode => ("sort records", self.sort),
            Part::Merge => ("merge records", self.merge),
            Part::Encode => ("copy memory", Some(self.copy)),
            Part::Hash => ("hash", Some(self.hash)),
            Part::Encrypt => ("encrypt", Some(self.encrypt)),
            Part::Write => ("write the disk", self.disk_write),
        };
        rate.map(|rate| (what, rate))
    }

    /// Prints one line for each rate.
    pub(crate) fn print(&self) {
        println!("this machine, one thread, MB/s:");
        for (what, rate) in [
            ("copy memory", Some(self.copy)),
            ("hash (BLAKE2b)", Some(self.hash)),
            ("encrypt (AES-256-GCM)", Some(self.encrypt)),
            ("decrypt (AES-256-GCM)", Some(self.decrypt)),
            ("read a file in the cache", Some(self.cache_read)),
            ("read the disk, direct", self.disk_read),
            ("write the disk, direct", self.disk_write),
            ("sort records in memory", self.sort),
            ("merge records in memory", self.merge),
        ] {
            match rate {
                Some(rate) => println!("  {what:<26} {rate:>8.0}"),
                None => println!("  {what:<26} not here"),
            }
        }
    }
}

/// Returns the rate of a step that takes [`BYTES`].
fn rate(step: impl FnOnce()) -> f64 {
    let start = Instant::now();
    step();
    per_second(BYTES, start)
}

fn per_second(bytes: usize, start: Instant) -> f64 {
    bytes as f64 / 1e6 / start.elapsed().as_secs_f64()
}

/// Returns the rates of writing and reading a file past the page cache.
fn direct(path: &Path, data: &mut [u8]) -> io::Result<(f64, f64)> {
    let data = &mut data[..BYTES];
    let skip = data.as_ptr().align_offset(PAGE_BYTES);
    let bytes = (BYTES - skip) / DIRECT_BYTES * DIRECT_BYTES;
    let data = &mut data[skip..skip + bytes];
    let flags = OFlags::DIRECT.bits() as i32;
    let mut options = OpenOptions::new();
    let options = options.custom_flags(flags).read(true).write(true);
    let mut file = options.create(true).truncate(true).open(path)?;
    let start = Instant::now();
    for piece in data.chunks(DIRECT_BYTES) {
        file.write_all(piece)?;
    }
    file.sync_all()?;
    let write = per_second(bytes, start);
    let mut file = OpenOptions::new()
        .custom_flags(flags)
        .read(true)
        .open(path)?;
    let start = Instant::now();
    for piece in data.chunks_mut(DIRECT_BYTES) {
        file.read_exact(piece)?;
    }
    Ok((write, per_second(bytes, start)))
}

/// Returns the rates of sorting records in memory, and of merging two sorted halves.
fn sorted(folder: &Path) -> Result<(f64, f64), SpillError> {
    let options = ScratchOptions {
        parent: folder.join("scratch"),
        quota_bytes: None,
        tmpfs_allowed: true,
        direct: false,
    };
    let scratch = Scratch::create(&options, [7; 8])?;
    let shape = SortShape {
        record_bytes: RECORD_BYTES,
        group: None,
    };
    let memory = SortMemory {
        buffer_bytes: BYTES,
        buffers: 2,
        run_read_bytes: 1 << 20,
        runs_max: 8,
    };
    let sorter = Sorter::new(scratch, shape, memory);
    let records = BYTES / 2 / RECORD_BYTES;
    let bytes = 2 * records * RECORD_BYTES;
    let start = Instant::now();
    let mut state = 7u64;
    for _ in 0..2 {
        let mut buffer = sorter.buffer();
        for _ in 0..records {
            state = state.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(1);
            let key = (state ^ (state >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            buffer.push_with(|record| record[..8].copy_from_slice(&key.to_be_bytes()))?;
        }
        buffer.finish()?;
    }
    let runs = sorter.finish()?;
    let sort = per_second(bytes, start);
    let mut merge = runs.merge()?;
    let start = Instant::now();
    while let Some(record) = merge.next()? {
        black_box(record);
    }
    Ok((sort, per_second(bytes, start)))
}
