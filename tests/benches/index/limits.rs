//! What this machine can do, for each thing that a compaction does to every byte: the next factor
//! is where a step is far from its limit.
//!
//! Single-threaded rates in MB/s (10^6 bytes). Memory: [`BYTES`], twice.

use std::hint::black_box;
use std::io::{Read, Write};
use std::time::Instant;

use careen::kopia::encryption::Encryption;
use careen::kopia::hashing::HashFunction;

/// Bytes that each step is measured with: more than any cache.
const BYTES: usize = 64 << 20;

/// Prints one line for each step.
pub(crate) fn print() {
    println!("this machine, one thread, MB/s:");
    let mut data: Vec<u8> = (0..BYTES).map(|at| ((at * 31) >> 3) as u8).collect();
    let mut other = vec![0u8; BYTES];
    rate("copy memory", || other.copy_from_slice(black_box(&data)));
    let hash = HashFunction::new("BLAKE2B-256-128", &[7; 32]).expect("a known hash");
    rate("hash (BLAKE2b)", || {
        black_box(hash.hash(&data));
    });
    let encryption = Encryption::new("AES256-GCM-HMAC-SHA256", &[7; 32]).expect("a known cipher");
    let mut sealer = encryption.sealer(&[1; 16], &[2; 12]);
    rate("encrypt (AES-256-GCM)", || sealer.encrypt(&mut data));
    let mut opener = encryption.opener(&[1; 16], &[2; 12]);
    rate("decrypt (AES-256-GCM)", || opener.decrypt(&mut data));
    let folder = tempfile::tempdir().expect("a temporary directory");
    let path = folder.path().join("file");
    rate("write a file, with sync", || {
        let mut file = std::fs::File::create(&path).expect("a file");
        file.write_all(&data)
            .and_then(|()| file.sync_all())
            .expect("room on the disk");
    });
    rate("read it from the cache", || {
        let mut file = std::fs::File::open(&path).expect("the file");
        file.read_exact(&mut other).expect("its bytes");
    });
    let mut keys: Vec<u64> = data
        .chunks_exact(8)
        .map(|word| u64::from_le_bytes(word.try_into().expect("8 bytes")))
        .collect();
    rate("sort 64-bit keys", || keys.sort_unstable());
}

fn rate(what: &str, step: impl FnOnce()) {
    let start = Instant::now();
    step();
    let seconds = start.elapsed().as_secs_f64();
    println!("  {what:<26} {:>8.0}", BYTES as f64 / 1e6 / seconds);
}
