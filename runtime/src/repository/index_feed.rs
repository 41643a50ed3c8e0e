//! Which index blobs a load reads, and what for; given out to the workers in batches.
//!
//! Memory: a batch of names for each worker, and those that come next; lists of names are borrowed
//! or streamed from scratch. Invariant: every blob of every input is given out once.

use std::collections::VecDeque;

use crate::kopia::blob_id::BlobId;

use super::RepositoryError;
use super::epochs::IndexSet;
use super::index_names::{Names, UncompactedNames};

/// Names that a worker takes at a time.
pub(super) const FEED_BATCH: usize = 8;

/// Names that are known before a worker takes them, so that the store may be asked ahead without a
/// pause between batches.
const UPCOMING_MAX: usize = 48;

/// Blobs to load and what for.
pub struct Input<'a> {
    /// Which set under construction their entries go to; `None`: only system entries are wanted.
    pub target: Option<u8>,
    /// Which of the compared sets they belong to.
    pub source: u8,
    /// The blobs.
    pub blobs: InputBlobs<'a>,
}

/// Which blobs.
pub enum InputBlobs<'a> {
    /// All uncompacted blobs of an epoch.
    Uncompacted(u64),
    /// All uncompacted blobs of an epoch but those that the function picks.
    UncompactedBut(u64, &'a (dyn Fn(&str) -> bool + Send + Sync)),
    /// A compacted set.
    Set(&'a IndexSet),
    /// These.
    Named(&'a [BlobId]),
}

impl Input<'_> {
    fn leaves_out(&self, name: &str) -> bool {
        matches!(self.blobs, InputBlobs::UncompactedBut(_, leave_out) if leave_out(name))
    }
}

/// Gives out names, input after input.
pub(super) struct Feed<'a> {
    inputs: &'a [Input<'a>],
    uncompacted: &'a UncompactedNames,
    at: usize,
    open: Option<Open<'a>>,
    upcoming: VecDeque<Task>,
}

enum Open<'a> {
    Stream(Names),
    List(Box<dyn Iterator<Item = &'a BlobId> + Send + 'a>),
}

/// A blob to read.
pub(super) struct Task {
    pub(super) blob: BlobId,
    pub(super) target: Option<u8>,
    pub(super) source: u8,
}

impl<'a> Feed<'a> {
    pub(super) fn new(inputs: &'a [Input<'a>], uncompacted: &'a UncompactedNames) -> Self {
        Self {
            inputs,
            uncompacted,
            at: 0,
            open: None,
            upcoming: VecDeque::with_capacity(UPCOMING_MAX),
        }
    }

    /// Fills `tasks` up to a batch, and leaves it empty at the end; `soon`, up to
    /// [`UPCOMING_MAX`], with the names that became known just now.
    pub(super) fn take(
        &mut self,
        tasks: &mut Vec<Task>,
        soon: &mut Vec<BlobId>,
    ) -> Result<(), RepositoryError> {
        if self.upcoming.len() <= UPCOMING_MAX - FEED_BATCH {
            let known = self.upcoming.len();
            self.look_ahead()?;
            soon.extend(
                self.upcoming
                    .iter()
                    .skip(known)
                    .map(|task| task.blob.clone()),
            );
        }
        let batch = FEED_BATCH.min(self.upcoming.len());
        tasks.extend(self.upcoming.drain(..batch));
        Ok(())
    }

    fn look_ahead(&mut self) -> Result<(), RepositoryError> {
        while self.upcoming.len() < UPCOMING_MAX {
            let Some(input) = self.inputs.get(self.at) else {
                return Ok(());
            };
            let open = match &mut self.open {
                Some(open) => open,
                empty => empty.insert(match input.blobs {
                    InputBlobs::Uncompacted(epoch) | InputBlobs::UncompactedBut(epoch, _) => {
                        Open::Stream(self.uncompacted.of_epoch(epoch)?)
                    }
                    InputBlobs::Set(set) => Open::List(Box::new(set.blobs.iter().map(|b| &b.id))),
                    InputBlobs::Named(names) => Open::List(Box::new(names.iter())),
                }),
            };
            let next = match open {
                Open::Stream(names) => names.next_name()?,
                Open::List(list) => list.next().cloned(),
            };
            match next {
                Some(blob) if input.leaves_out(blob.as_str()) => {}
                Some(blob) => {
                    self.upcoming.push_back(Task {
                        blob,
                        target: input.target,
                        source: input.source,
                    });
                }
                None => {
                    self.open = None;
                    self.at += 1;
                }
            }
        }
        Ok(())
    }
}
