//! The threads on both sides of the encoder: one feeds it with merged records, one takes its rows.
//!
//! Batches go from thread to thread, and come back to be filled again. A thread whose neighbour is
//! gone ends quietly: the neighbour tells why. Memory: see `index_writer.rs`.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender};

use crate::kopia::hashing::Hasher;
use crate::spill::{Merge, ScratchFile, SequentialWriter};

use super::RepositoryError;
use super::record::RecordLayout;

/// Bytes of a batch between two threads: few enough changes of threads, and still in the caches.
pub(super) const BATCH_BYTES: usize = 256 * 1024;

/// Sends the merged records on in batches, which come back by `spare`.
pub(super) fn feed_records(
    mut merge: Merge,
    layout: RecordLayout,
    out: &SyncSender<Vec<u8>>,
    spare: &Receiver<Vec<u8>>,
) -> Result<(), RepositoryError> {
    let batch_bytes = BATCH_BYTES / layout.record_bytes() * layout.record_bytes();
    let mut batch = Vec::with_capacity(batch_bytes);
    while let Some(record) = merge.next()? {
        batch.extend_from_slice(record);
        if batch.len() == batch_bytes {
            let empty = spare.try_recv();
            let empty = empty.unwrap_or_else(|_| Vec::with_capacity(batch_bytes));
            if out.send(std::mem::replace(&mut batch, empty)).is_err() {
                return Ok(()); // the encoder has stopped and tells why
            }
        }
    }
    let _ = out.send(batch);
    Ok(())
}

/// What the encoding thread tells the writing thread.
pub(super) enum Piece {
    /// A new file begins; the hash has taken in a header.
    Begin(Arc<ScratchFile>, Box<Hasher>),
    /// Rows of the current file.
    Rows(Vec<u8>),
    /// The current file ends; its hash is wanted back.
    End(SyncSender<Box<Hasher>>),
}

/// Hashes and writes rows.
pub(super) fn write_rows(
    incoming: &Receiver<Piece>,
    spare: &SyncSender<Vec<u8>>,
) -> Result<(), RepositoryError> {
    let mut current: Option<(SequentialWriter, Box<Hasher>)> = None;
    while let Ok(piece) = incoming.recv() {
        match (piece, &mut current) {
            (Piece::Begin(file, hasher), _) => {
                current = Some((SequentialWriter::new(file, BATCH_BYTES), hasher));
            }
            (Piece::Rows(mut rows), Some((writer, hasher))) => {
                hasher.update(&rows);
                writer.write(&rows)?;
                rows.clear();
                let _ = spare.try_send(rows);
            }
            (Piece::End(back), _) => {
                if let Some((writer, hasher)) = current.take() {
                    writer.finish()?;
                    let _ = back.send(hasher);
                }
            }
            (Piece::Rows(_), None) => return Err(RepositoryError::Interrupted),
        }
    }
    Ok(())
}
