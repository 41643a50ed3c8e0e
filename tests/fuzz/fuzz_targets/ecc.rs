//! Error correction: any bytes as stored form, and what is encoded survives one damaged byte.
//!
//! One byte lies in one shard, and every code has at least one shard of parity.

#![no_main]

use careen::kopia::ecc::Ecc;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u8, u32, u8, Vec<u8>)| {
    let (percent, place, damage, bytes) = input;
    let percent = i64::from(percent % 100) + 1;
    let Ok(Some(ecc)) = Ecc::new("REED-SOLOMON-CRC32", percent) else {
        panic!("an overhead of {percent} % is refused");
    };
    let _ = ecc.decode(&bytes, &mut Vec::new());

    let mut stored = Vec::new();
    ecc.encode(&bytes, &mut stored);
    assert_eq!(stored.len(), ecc.encoded_len(bytes.len()));
    let at = place as usize % stored.len();
    stored[at] ^= damage;
    let mut plain = Vec::new();
    let damaged = ecc
        .decode(&stored, &mut plain)
        .expect("one byte is repaired");
    assert_eq!((plain, damaged), (bytes, damage != 0));
});
