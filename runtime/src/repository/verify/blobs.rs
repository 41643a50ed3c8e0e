//! Finds the damaged ones among the index blobs that readers use, and entries that a client would
//! refuse.
//!
//! A load stops at the first of them; here every blob is read by itself. Only done after a load
//! has failed. Memory: one blob, and the names of damaged ones, at most [`DAMAGED_MAX`].

use std::collections::BTreeSet;

use crate::kopia::FormatError;
use crate::kopia::blob_id::BlobId;
use crate::kopia::content_id::ContentId;
use crate::kopia::index_blob::refusal;
use crate::repository::index_blob_reader::{IndexBlobReader, RawEntry};
use crate::repository::index_load::{Input, InputBlobs};
use crate::repository::index_names::UncompactedNames;
use crate::repository::pack_names::NAME_BYTES_MAX;
use crate::repository::{Repository, RepositoryError, Workspace};

use super::VerifyReport;

/// Damaged blobs that are left out of what follows; with more the store is at fault as a whole.
const DAMAGED_MAX: usize = 1_000;

/// Returns whether an error tells of the repository's bytes, and not of what keeps us from reading
/// them.
pub(super) fn is_damage(error: &RepositoryError) -> bool {
    matches!(
        error,
        RepositoryError::Format(_) | RepositoryError::RefusedEntry { .. }
    )
}

/// Names of blobs that cannot be used.
#[derive(Debug, Default)]
pub(super) struct DamagedBlobs(BTreeSet<String>);

impl DamagedBlobs {
    /// Reads all blobs of `inputs`. None when more than [`DAMAGED_MAX`] are damaged.
    pub(super) fn find(
        repository: &Repository,
        workspace: &Workspace,
        uncompacted: &UncompactedNames,
        inputs: &[Input<'_>],
        report: &mut VerifyReport,
    ) -> Result<Option<Self>, RepositoryError> {
        let progress = &workspace.progress;
        progress.begin("look for damaged index blobs", "index blobs", None);
        let mut reader = IndexBlobReader::new(repository, workspace);
        let version = repository.format.index_version;
        let mut damaged = Self::default();
        let mut read = |blob: &BlobId| {
            progress.advance(1);
            damaged.read(&mut reader, version, blob, report)
        };
        let mut enough = false;
        for input in inputs {
            match input.blobs {
                InputBlobs::Uncompacted(epoch) | InputBlobs::UncompactedBut(epoch, _) => {
                    let mut names = uncompacted.of_epoch(epoch)?;
                    while !enough && let Some(blob) = names.next()? {
                        enough = read(&blob)?;
                    }
                }
                InputBlobs::Set(set) => {
                    for blob in &set.blobs {
                        enough = enough || read(&blob.id)?;
                    }
                }
                InputBlobs::Named(names) => {
                    for blob in names {
                        enough = enough || read(blob)?;
                    }
                }
            }
        }
        progress.end();
        if enough {
            let text = format!(
                "more than {DAMAGED_MAX} index blobs are damaged: contents were not checked"
            );
            report.note(text);
        }
        Ok((!enough).then_some(damaged))
    }

    /// Returns whether the blob is damaged.
    pub(super) fn contains(&self, name: &str) -> bool {
        self.0.contains(name)
    }

    /// Returns for each input the names of its blobs that are sound; nothing for uncompacted ones.
    pub(super) fn lists_without(&self, inputs: &[Input<'_>]) -> Vec<Vec<BlobId>> {
        let sound = |blob: &&BlobId| !self.contains(blob.as_str());
        let list = |input: &Input<'_>| -> Vec<BlobId> {
            match input.blobs {
                InputBlobs::Set(set) => {
                    let names = set.blobs.iter().map(|blob| &blob.id);
                    names.filter(sound).cloned().collect()
                }
                InputBlobs::Named(names) => names.iter().filter(sound).cloned().collect(),
                InputBlobs::Uncompacted(_) | InputBlobs::UncompactedBut(..) => Vec::new(),
            }
        };
        inputs.iter().map(list).collect()
    }

    /// Reads one blob; returns whether there are too many damaged ones.
    fn read(
        &mut self,
        reader: &mut IndexBlobReader<'_>,
        index_version: u8,
        blob: &BlobId,
        report: &mut VerifyReport,
    ) -> Result<bool, RepositoryError> {
        let outcome = reader.each_entry(blob, &mut |entry| {
            look_at_entry(entry, blob, index_version, report)?;
            Ok(true)
        });
        match outcome {
            Ok(()) => Ok(false),
            Err(RepositoryError::Format(error)) => {
                let name = blob.to_string();
                report.add(
                    error.code(),
                    Some(name.clone()),
                    None,
                    without_name(&error, &name),
                );
                self.0.insert(name);
                Ok(self.0.len() > DAMAGED_MAX)
            }
            Err(RepositoryError::Blob(error)) if error.is_not_found() => {
                Err(RepositoryError::Vanished {
                    blob: blob.to_string(),
                    attempts: 1,
                })
            }
            Err(error) => Err(error),
        }
    }
}

/// Reports an entry that a client would refuse; a name that nobody could use makes the whole blob
/// unusable.
fn look_at_entry(
    raw: &RawEntry<'_>,
    blob: &BlobId,
    index_version: u8,
    report: &mut VerifyReport,
) -> Result<(), RepositoryError> {
    let name_bytes = raw.pack.len();
    if name_bytes == 0 || name_bytes > NAME_BYTES_MAX {
        let reason = format!("a pack blob ID of {name_bytes} bytes");
        return Err(FormatError::malformed(blob.as_str(), reason).into());
    }
    if let Some(reason) = refusal(&raw.entry, raw.format, name_bytes, index_version) {
        let content = ContentId::from_key(raw.key)?;
        let text = format!("clients refuse to open a repository with such an entry: {reason}");
        report.add("refused-entry", Some(blob.to_string()), Some(content), text);
    }
    Ok(())
}

/// Returns the message without the blob's name, which the finding has already.
fn without_name(error: &FormatError, name: &str) -> String {
    let text = error.to_string();
    let rest = text
        .strip_prefix(name)
        .and_then(|rest| rest.strip_prefix(": "));
    rest.unwrap_or(&text).to_owned()
}
