//! The guard against silent loss: says of every pack that is to be deleted why nothing of it is
//! lost.
//!
//! When an index blob is lost, Kopia sees packs that nobody names and deletes them, a whole session
//! at a time. But a pack carries an index of its own. A pack is explained when every content that
//! was ever in it is in the index all the same (its entry names another pack, since none names this
//! one) or was dropped (its tombstone is at or below the watermark), or when its session has died
//! before it wrote an index. What rewriting has orphaned is explained by the first rule. Without
//! epochs dropped entries leave no trace, so there a content that is in no index explains nothing
//! and proves nothing: it is counted apart.
//!
//! Memory: a local index and a sort buffer for each of [`READERS`], then one merge; a number for
//! each pack in mapped scratch. Kopia has nothing like it.

use std::cmp::Ordering;
use std::sync::{Mutex, MutexGuard};

use crate::kopia::content_id::ContentId;
use crate::repository::content_table::{ContentStream, ContentTable};
use crate::repository::pack_local_index::{LocalIndexFound, LocalIndexReader};
use crate::repository::{Repository, RepositoryError, Workspace};
use crate::spill::{MappedU32, Merge, SortBuffer, SortMemory, SortShape, Sorter};

use super::orphan_packs::{Orphan, OrphanStream, Orphans};

/// Threads that read local indexes: mostly they wait for the store.
const READERS: usize = 4;

/// Unexplained packs that are told by name.
pub const NAMED_MAX: usize = 20;

/// What is known of a pack; in the table of verdicts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing is lost with it.
    Explained,
    /// Its local index cannot be read.
    NoLocalIndex,
    /// It holds contents that no index knows.
    UnknownContents,
}

impl Verdict {
    fn number(self) -> u32 {
        match self {
            Self::Explained => 0,
            Self::NoLocalIndex => 1,
            Self::UnknownContents => 2,
        }
    }

    fn of(number: u32) -> Self {
        match number {
            0 => Self::Explained,
            1 => Self::NoLocalIndex,
            _ => Self::UnknownContents,
        }
    }
}

/// A pack that is not explained.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct UnexplainedPack {
    /// The pack blob.
    pub pack: String,
    /// Why.
    pub reason: String,
}

/// The verdicts on all orphans.
pub struct Explanation {
    /// Packs whose local index cannot be read.
    pub no_local_index: u64,
    /// Packs with contents that no index knows.
    pub unknown_contents: u64,
    /// The first [`NAMED_MAX`] of both.
    pub named: Vec<UnexplainedPack>,
    verdicts: MappedU32,
}

impl Explanation {
    /// Looks at every orphan that is a pack.
    pub fn find(
        repository: &Repository,
        workspace: &Workspace,
        table: &ContentTable,
        orphans: &Orphans,
    ) -> Result<Self, RepositoryError> {
        let count = orphans.unreferenced.count;
        let verdicts = MappedU32::create(&workspace.scratch, count, Verdict::Explained.number())?;
        workspace
            .progress
            .begin("explain unused packs", "packs", Some(count));
        let entries = read_local_indexes(repository, workspace, table, orphans, &verdicts)?;
        workspace.progress.end();
        let mut found = Self {
            no_local_index: 0,
            unknown_contents: 0,
            named: Vec::new(),
            verdicts,
        };
        let examples = found.join(table, entries)?;
        found.count(orphans, &examples)?;
        Ok(found)
    }

    /// Returns the verdict on orphan `number`, in the order of their stream.
    pub fn verdict(&self, number: u64) -> Verdict {
        Verdict::of(self.verdicts.get(number))
    }

    /// Returns how many packs are not explained.
    pub fn unexplained(&self) -> u64 {
        self.no_local_index + self.unknown_contents
    }

    /// Looks every content of the local indexes up in the table. Returns the first unknown content
    /// of some packs.
    fn join(
        &self,
        table: &ContentTable,
        mut entries: Merge,
    ) -> Result<Vec<(u32, String)>, RepositoryError> {
        let mut examples: Vec<(u32, String)> = Vec::new();
        if !entries.advance()? {
            return Ok(examples);
        }
        let key_bytes = table.layout.key_bytes;
        let mut contents = KeyCursor::new(table.stream()?, 1, key_bytes);
        let mut dropped = KeyCursor::new(table.dropped_keys(), 0, key_bytes);
        while let Some(entry) = entries.current() {
            let (key, number) = entry.split_at(key_bytes);
            let is_known = contents.finds(key)? || dropped.finds(key)?;
            let number = number.first_chunk().copied().map_or(0, u32::from_be_bytes);
            if !is_known && self.verdict(u64::from(number)) == Verdict::Explained {
                let unknown = Verdict::UnknownContents.number();
                self.verdicts.set(u64::from(number), unknown);
                if examples.len() < NAMED_MAX {
                    examples.push((number, ContentId::from_key(key)?.to_string()));
                }
            }
            entries.advance()?;
        }
        Ok(examples)
    }

    /// Counts and names what is not explained.
    fn count(
        &mut self,
        orphans: &Orphans,
        examples: &[(u32, String)],
    ) -> Result<(), RepositoryError> {
        let (mut rows, mut number) = (orphans.stream(), 0);
        while let Some(orphan) = rows.next()? {
            let reason = match self.verdict(number) {
                Verdict::Explained => None,
                Verdict::NoLocalIndex => {
                    self.no_local_index += 1;
                    Some("its local index cannot be read".to_owned())
                }
                Verdict::UnknownContents => {
                    self.unknown_contents += 1;
                    let own = |(of, _): &&(u32, String)| u64::from(*of) == number;
                    Some(match examples.iter().find(own) {
                        Some((_, content)) => format!("no index knows its content {content}"),
                        None => "no index knows all its contents".to_owned(),
                    })
                }
            };
            if let Some(reason) = reason {
                tracing::warn!(pack = %orphan.blob, reason, "not explained");
                if self.named.len() < NAMED_MAX {
                    let pack = orphan.blob.to_string();
                    self.named.push(UnexplainedPack { pack, reason });
                }
            }
            number += 1;
        }
        Ok(())
    }
}

/// Keys of a stream, looked up in ascending order.
struct KeyCursor {
    stream: ContentStream,
    /// Where the key begins in a record.
    at: usize,
    key: Vec<u8>,
    ended: bool,
    key_bytes: usize,
}

impl KeyCursor {
    fn new(stream: ContentStream, at: usize, key_bytes: usize) -> Self {
        Self {
            stream,
            at,
            key: Vec::new(),
            ended: false,
            key_bytes,
        }
    }

    /// Returns whether the stream has `key`, which is not smaller than the one before.
    fn finds(&mut self, key: &[u8]) -> Result<bool, RepositoryError> {
        loop {
            match self.key.as_slice().cmp(key) {
                Ordering::Equal => return Ok(true),
                Ordering::Greater => return Ok(false),
                Ordering::Less if self.ended => return Ok(false),
                Ordering::Less => {}
            }
            match self.stream.next()? {
                None => self.ended = true,
                Some(record) => {
                    self.key.clear();
                    let own = record.get(self.at..self.at + self.key_bytes);
                    self.key.extend_from_slice(own.unwrap_or_default());
                }
            }
        }
    }
}

/// The orphans, given out to the readers one by one.
struct Feed {
    rows: OrphanStream,
    next: u32,
}

/// Reads the local indexes of all packs; returns their contents, sorted by key, each with the
/// number of its pack.
fn read_local_indexes(
    repository: &Repository,
    workspace: &Workspace,
    table: &ContentTable,
    orphans: &Orphans,
    verdicts: &MappedU32,
) -> Result<Merge, RepositoryError> {
    let shape = SortShape {
        record_bytes: table.layout.key_bytes + 4,
        group: None,
    };
    let memory = workspace.sort_memory(READERS);
    let memory = SortMemory {
        buffer_bytes: memory.buffer_bytes / READERS,
        ..memory
    };
    let sorter = Sorter::new(workspace.scratch.clone(), shape, memory);
    // Several at once: each has half of what one alone would have.
    let mut half = workspace.clone();
    half.memory.blob_bytes /= 2;
    let half = &half;
    let feed = Mutex::new(Feed {
        rows: orphans.stream(),
        next: 0,
    });
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..READERS)
            .map(|_| {
                let mut reader = Reader {
                    workspace,
                    feed: &feed,
                    indexes: LocalIndexReader::new(repository, half),
                    verdicts,
                    entries: sorter.buffer(),
                    key_bytes: table.layout.key_bytes,
                };
                scope.spawn(move || {
                    reader.run()?;
                    Ok(reader.entries.finish()?)
                })
            })
            .collect();
        let mut outcome = Ok(());
        for reader in readers {
            outcome = outcome.and(reader.join().unwrap_or(Err(RepositoryError::Interrupted)));
        }
        outcome
    })?;
    Ok(sorter.finish()?.into_merge(false)?)
}

/// One thread that reads local indexes.
struct Reader<'a> {
    workspace: &'a Workspace,
    feed: &'a Mutex<Feed>,
    indexes: LocalIndexReader<'a>,
    verdicts: &'a MappedU32,
    entries: SortBuffer,
    key_bytes: usize,
}

impl Reader<'_> {
    fn run(&mut self) -> Result<(), RepositoryError> {
        while let Some((number, orphan)) = self.take()? {
            // A session that died before its index has nothing that could be lost.
            if !orphan.is_marker() && !orphan.session_expired {
                self.pack(number, &orphan)?;
            }
            self.workspace.progress.advance(1);
        }
        Ok(())
    }

    fn take(&self) -> Result<Option<(u32, Orphan)>, RepositoryError> {
        let mut feed: MutexGuard<'_, Feed> =
            self.feed.lock().map_err(|_| RepositoryError::Interrupted)?;
        let number = feed.next;
        feed.next += 1;
        Ok(feed.rows.next()?.map(|orphan| (number, orphan)))
    }

    fn pack(&mut self, number: u32, orphan: &Orphan) -> Result<(), RepositoryError> {
        let (entries, key_bytes, mut count) = (&mut self.entries, self.key_bytes, 0);
        let found = self
            .indexes
            .each_key(&orphan.blob, orphan.length, &mut |key| {
                count += 1;
                entries.push_with(|out| {
                    out[..key_bytes].copy_from_slice(key);
                    out[key_bytes..].copy_from_slice(&number.to_be_bytes());
                })?;
                Ok(())
            })?;
        let unreadable = match found {
            LocalIndexFound::Gone => false,
            LocalIndexFound::Read => count == 0,
            LocalIndexFound::Unreadable(reason) => {
                tracing::debug!(pack = %orphan.blob, reason, "local index");
                true
            }
        };
        if unreadable {
            let verdict = Verdict::NoLocalIndex.number();
            self.verdicts.set(u64::from(number), verdict);
        }
        Ok(())
    }
}
