//! What is read piece by piece is one request, as long as nothing breaks off.
//!
//! Behind a proxy, before each server that is here.

use servers::fault_proxy::{Fault, Kind};

use super::faults::{bytes, limits, places, quick};
use crate::blob::{PutOptions, Storage};
use crate::kopia::blob_id::BlobId;

const BYTES: usize = 3_000_000;

fn put(storage: &Storage, content: &[u8]) -> BlobId {
    let id = BlobId::new("xs1_large");
    let put = storage.put_bytes(&id, content, &PutOptions::default());
    put.unwrap();
    id
}

/// Reads from `from` to the end.
fn read(storage: &Storage, id: &BlobId, from: usize) -> Vec<u8> {
    let (mut read, mut piece) = (Vec::new(), vec![0; 700_001]);
    loop {
        let at = (from + read.len()) as u64;
        let count = storage.get(id, at, &mut piece).unwrap();
        read.extend_from_slice(&piece[..count]);
        if count < piece.len() {
            return read;
        }
    }
}

fn requests(storage: &Storage) -> (u64, u64) {
    let traffic = storage.traffic().unwrap();
    (traffic.get, traffic.head)
}

/// Goal: a large blob that was announced is one request, piece by piece, and its length costs no
/// other; where it breaks off it goes on, and what changes meanwhile is asked for anew.
#[test]
fn a_large_blob_is_one_request_however_many_pieces_are_read() {
    for (proxy, place, credentials, _server) in places() {
        let storage = quick(&place, &credentials, &limits());
        let content = bytes(BYTES);
        let id = put(&storage, &content);
        let before = requests(&storage);
        storage.will_need(&[&id, &id]);
        storage.will_read(&id, 0..u64::MAX);
        let mut start = vec![0; 700_001];
        assert_eq!(storage.get(&id, 0, &mut start).unwrap(), start.len());
        assert_eq!(storage.metadata(&id).unwrap().length, BYTES as u64);
        let rest = read(&storage, &id, start.len());
        assert!([start, rest].concat() == content, "{place}");
        let after = requests(&storage);
        assert_eq!((after.0 - before.0, after.1 - before.1), (1, 0), "{place}");

        proxy.rule(|seen| match seen.kind {
            Kind::Get => Fault::Truncate(1_000_000),
            _ => Fault::Pass,
        });
        storage.will_read(&id, 0..u64::MAX);
        assert!(read(&storage, &id, 0) == content, "{place}");
        proxy.rule(|_| Fault::Pass);

        storage.will_read(&id, 0..u64::MAX);
        let mut piece = vec![0; 500_000];
        assert_eq!(storage.get(&id, 0, &mut piece).unwrap(), piece.len());
        let changed: Vec<u8> = content.iter().map(|byte| byte ^ 1).collect();
        put(&storage, &changed);
        let rest = read(&storage, &id, piece.len());
        assert!(rest == changed[piece.len()..], "{place}: not what it was");
    }
}

/// Goal: a range that was announced is one request for it and no byte more, wherever it lies; the
/// length of its blob is not taken for that of the range; who reads elsewhere asks anew.
#[test]
fn a_planned_range_is_one_request_however_many_pieces_are_read() {
    for (_proxy, place, credentials, _server) in places() {
        let storage = quick(&place, &credentials, &limits());
        let content = bytes(BYTES);
        let id = put(&storage, &content);
        let traffic = || storage.traffic().unwrap();
        let before = traffic();
        let range = 100_000..1_100_000;
        storage.will_read(&id, range.start as u64..range.end as u64);
        let mut at = range.start;
        for bytes in [12, 600_000, 1, 399_971, 16] {
            // Parts of what was announced, once more.
            storage.will_read(&id, at as u64..(at + bytes) as u64);
            let mut piece = vec![0; bytes];
            assert_eq!(storage.get(&id, at as u64, &mut piece).unwrap(), bytes);
            assert!(piece == content[at..at + bytes], "{place}: piece at {at}");
            at += bytes;
        }
        assert_eq!(at, range.end);
        let after = traffic();
        assert_eq!(after.get - before.get, 1, "{place}");
        let came = after.downloaded_bytes - before.downloaded_bytes;
        assert_eq!(came, range.len() as u64, "{place}");

        storage.will_read(&id, 0..BYTES as u64 / 2);
        let mut piece = vec![0; 1000];
        storage.get(&id, 0, &mut piece).unwrap();
        assert_eq!(storage.metadata(&id).unwrap().length, BYTES as u64);
        assert_eq!(storage.get(&id, 2_999_500, &mut piece).unwrap(), 500);
        assert!(piece[..500] == content[2_999_500..], "{place}");
        assert_eq!(storage.get(&id, 1000, &mut piece).unwrap(), 1000);
        assert!(piece == content[1000..2000], "{place}");
    }
}
