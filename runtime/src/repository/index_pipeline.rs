//! The threads on both sides of the encoder: one feeds it with merged records, one takes its rows.
//!
//! Batches go from thread to thread, and come back to be filled again. A thread whose neighbour is
//! gone ends quietly: the neighbour tells why. Memory: see `index_writer.rs`.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender};

use crate::kopia::hashing::Hasher;
use crate::progress::{Part, Progress};
use crate::spill::{ScratchFile, SequentialWriter};

use super::RepositoryError;
use super::pack_names::PackTable;
use super::record::RecordLayout;
use super::winners::{BatchWinners, Records};
use super::working_time::WorkingTime;

/// Bytes of a batch between two threads: few enough changes of threads, and still in the caches.
pub(super) const BATCH_BYTES: usize = 256 * 1024;

/// Sends the merged records on in batches, which come back by `spare`. Tells `progress` how long
/// it merged.
pub(super) fn feed_records(
    mut records: impl Records,
    layout: RecordLayout,
    out: &SyncSender<Vec<u8>>,
    spare: &Receiver<Vec<u8>>,
    progress: &dyn Progress,
) -> Result<(), RepositoryError> {
    let time = WorkingTime::start(progress);
    let batch_bytes = BATCH_BYTES / layout.record_bytes() * layout.record_bytes();
    loop {
        let mut batch = spare.try_recv().unwrap_or_default();
        batch.resize(batch_bytes, 0); // a batch that comes back has this length already
        let filled = records.fill(&mut batch)?;
        time.lap(Part::Merge);
        batch.truncate(filled);
        if out.send(batch).is_err() || filled < batch_bytes {
            return Ok(()); // the end, or the encoder has stopped and tells why
        }
        time.skip();
    }
}

/// Calls `take` with the winners of all batches, in order, and gives the batches back. The time
/// that goes into a batch is encoding; `take` skips its own waits.
pub(super) fn take_winners(
    incoming: &Receiver<Vec<u8>>,
    used: &SyncSender<Vec<u8>>,
    layout: RecordLayout,
    packs: &PackTable,
    time: &WorkingTime<'_>,
    mut take: impl FnMut(&[u8]) -> Result<(), RepositoryError>,
) -> Result<(), RepositoryError> {
    let mut winners = BatchWinners::new(layout);
    while let Ok(batch) = incoming.recv() {
        time.skip();
        // Numbers of packs are as good as random: without this, half the time is waiting for them.
        for record in batch.chunks_exact(layout.record_bytes()) {
            packs.prefetch(layout.pack(record));
        }
        winners.of_batch(&batch, packs, &mut take)?;
        time.lap(Part::Encode);
        let _ = used.try_send(batch);
    }
    match winners.last() {
        Some(record) => take(&record),
        None => Ok(()),
    }
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

/// Hashes and writes rows. Tells `progress` how long it did either.
pub(super) fn write_rows(
    incoming: &Receiver<Piece>,
    spare: &SyncSender<Vec<u8>>,
    progress: &dyn Progress,
) -> Result<(), RepositoryError> {
    let time = WorkingTime::start(progress);
    let mut current: Option<(SequentialWriter, Box<Hasher>)> = None;
    while let Ok(piece) = incoming.recv() {
        time.skip();
        match (piece, &mut current) {
            (Piece::Begin(file, hasher), _) => {
                current = Some((SequentialWriter::new(file, BATCH_BYTES), hasher));
            }
            (Piece::Rows(rows), Some((writer, hasher))) => {
                hasher.update(&rows);
                time.lap(Part::Hash);
                writer.write(&rows)?;
                time.lap(Part::Write);
                let _ = spare.try_send(rows);
            }
            (Piece::End(back), _) => {
                if let Some((writer, hasher)) = current.take() {
                    writer.finish()?;
                    time.lap(Part::Write);
                    let _ = back.send(hasher);
                }
            }
            (Piece::Rows(_), None) => return Err(RepositoryError::Interrupted),
        }
    }
    Ok(())
}
