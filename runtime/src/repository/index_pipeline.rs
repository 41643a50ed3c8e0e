//! The threads on both sides of the encoder: one feeds it with merged records, one takes its rows.
//!
//! Batches of half a level 2 cache go from thread to thread; those of rows come back. A thread
//! whose neighbour is gone ends quietly: the neighbour tells why. Memory: see `index_writer.rs`.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender};

use crate::kopia::hashing::Hasher;
use crate::spill::{ScratchFile, SequentialWriter};

use super::RepositoryError;
use super::pack_names::PackTable;
use super::record::RecordLayout;
use super::winners::Records;

/// Bytes of a batch between two threads: half a level 2 cache.
pub(super) const BATCH_BYTES: usize = 64 * 1024;

/// Sends the merged records on in batches.
pub(super) fn feed_records(
    mut records: impl Records,
    layout: RecordLayout,
    out: &SyncSender<Vec<u8>>,
) -> Result<(), RepositoryError> {
    let batch_bytes = BATCH_BYTES / layout.record_bytes() * layout.record_bytes();
    let mut batch = Vec::with_capacity(batch_bytes);
    while let Some(record) = records.next()? {
        batch.extend_from_slice(record);
        if batch.len() == batch_bytes {
            let full = std::mem::replace(&mut batch, Vec::with_capacity(batch_bytes));
            if out.send(full).is_err() {
                return Ok(()); // the encoder has stopped and tells why
            }
        }
    }
    let _ = out.send(batch);
    Ok(())
}

/// Records as they come in batches from another thread.
pub(super) struct Batches<'a> {
    incoming: Receiver<Vec<u8>>,
    layout: RecordLayout,
    packs: &'a PackTable,
    batch: Vec<u8>,
    at: usize,
}

impl<'a> Batches<'a> {
    pub(super) fn new(
        incoming: Receiver<Vec<u8>>,
        layout: RecordLayout,
        packs: &'a PackTable,
    ) -> Self {
        Self {
            incoming,
            layout,
            packs,
            batch: Vec::new(),
            at: 0,
        }
    }
}

impl Records for Batches<'_> {
    fn next(&mut self) -> Result<Option<&[u8]>, RepositoryError> {
        let bytes = self.layout.record_bytes();
        if self.at + bytes > self.batch.len() {
            match self.incoming.recv() {
                Ok(batch) => {
                    // Numbers of packs are as good as random: without this, half the time is
                    // waiting for them.
                    for record in batch.chunks_exact(bytes) {
                        self.packs.prefetch(self.layout.pack(record));
                    }
                    (self.batch, self.at) = (batch, 0);
                }
                Err(_) => return Ok(None),
            }
            if self.batch.len() < bytes {
                return Ok(None);
            }
        }
        self.at += bytes;
        Ok(self.batch.get(self.at - bytes..self.at))
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
