//! `careen verify --index`: reads the whole index and proves that it is whole. Writes nothing.
//!
//! What is wrong is data, not an error: one finding for each, counted all, the first
//! [`FINDINGS_MAX`] kept. The usual case reads every index blob once; only where something is
//! damaged are the blobs read one by one to find which. Memory: that of a load and then a merge;
//! tables of packs are in scratch.
//!
//! What is checked: tags, form and order of every index blob that readers use, entries that a
//! client would refuse, gaps in sets, equality of all sets for the same epochs, superseded blobs
//! against their sets, and that every content lies inside a pack blob that is there (as Kopia's
//! `content verify`).

mod blobs;
mod contents;
mod packs;
mod report;
mod sets;
mod snapshots;

use crate::spill::Runs;

use super::active_index::{ActiveIndex, IndexSource, with_fresh_listings};
use super::contents::is_dropped;
use super::index_gaps::index_gaps;
use super::index_load::{Input, InputBlobs, Loaded, Strictness, load};
use super::set_comparison::compare_sets;
use super::{Repository, RepositoryError, Workspace};

pub use contents::{ContentOptions, ContentsReport, verify_contents};
pub use report::{FINDINGS_MAX, Finding, Findings, VerifyReport};
pub use snapshots::{SnapshotsReport, verify_snapshots};

use blobs::{DamagedBlobs, is_damage};
use packs::PackUse;
use sets::{Claims, Contested};

/// Source of what every reader uses.
const CERTAIN: u8 = 0;

/// Source of sets of which a reader may take another one.
const CHOSEN: u8 = 1;

/// What is verified besides the index itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VerifyOptions {
    /// Whether contents are checked against the pack blobs that are there; lists all packs.
    pub packs: bool,
    /// Whether deleted contents are checked as well; Kopia may need to undelete them.
    pub deleted: bool,
}

impl Default for VerifyOptions {
    /// Returns what Kopia's `content verify` checks: the packs of live contents.
    fn default() -> Self {
        Self {
            packs: true,
            deleted: false,
        }
    }
}

/// Verifies index and packs, as the default options say.
pub fn verify_index(
    repository: &Repository,
    workspace: &Workspace,
) -> Result<VerifyReport, RepositoryError> {
    verify_index_with(repository, workspace, &VerifyOptions::default())
}

/// Verifies the index, and what `options` want.
///
/// Errors: what keeps us from looking, such as the store or the scratch disk; never what is found.
pub fn verify_index_with(
    repository: &Repository,
    workspace: &Workspace,
    options: &VerifyOptions,
) -> Result<VerifyReport, RepositoryError> {
    with_fresh_listings(|| {
        let active = ActiveIndex::find_damaged(repository, workspace)?;
        let contested = Contested::find(&active);
        let verification = Verification {
            repository,
            workspace,
            options,
            active: &active,
            contested: &contested,
        };
        verification.run()
    })
}

/// One verification.
struct Verification<'a> {
    repository: &'a Repository,
    workspace: &'a Workspace,
    options: &'a VerifyOptions,
    active: &'a ActiveIndex,
    contested: &'a Contested<'a>,
}

impl Verification<'_> {
    fn run(&self) -> Result<VerifyReport, RepositoryError> {
        let mut report = VerifyReport::default();
        self.look_at_names(&mut report);
        // Before the load: two loads at once would hold twice the buffers.
        let claims = self.contested.compare(
            self.repository,
            self.workspace,
            &self.active.uncompacted,
            &mut report,
        )?;
        if let Some(loaded) = self.load(&mut report)? {
            self.look_at_contents(&loaded, &claims, &mut report)?;
        }
        Ok(report)
    }

    /// Finds what the names alone tell.
    fn look_at_names(&self, report: &mut VerifyReport) {
        match &self.active.source {
            IndexSource::V0(set) => {
                report.index_manager = "V0";
                for note in &set.damaged {
                    let blob = note.blob.to_string();
                    report.add(note.code, Some(blob), None, note.reason.clone());
                }
                for log in set.logs.iter().filter(|log| !log.valid && log.readable) {
                    if let Some(output) = log.missing_output.as_ref().filter(|_| !log.whole) {
                        let log = &log.id;
                        report.note(format!("compaction log {log}: its output {output} is gone"));
                    }
                }
                for lost in set.lost() {
                    let text = format!(
                        "its output {} is gone and so are {} of its inputs: entries are lost",
                        lost.output, lost.inputs
                    );
                    report.add("lost-compaction", Some(lost.log.to_string()), None, text);
                }
            }
            IndexSource::Epochs(state) => {
                report.index_manager = "epochs";
                for gap in index_gaps(state, &self.active.uncompacted) {
                    let text = format!("epoch {}: {}", gap.epoch, gap.reason);
                    report.add("incomplete-index", None, None, text);
                }
            }
        }
    }

    /// Loads what readers use. Damaged blobs are found one by one and left out; nothing when there
    /// are too many of them.
    fn load(&self, report: &mut VerifyReport) -> Result<Option<Loaded>, RepositoryError> {
        match self.load_inputs(&self.inputs(), Strictness::ForWriting) {
            Ok(loaded) => return Ok(Some(loaded)),
            Err(error) if is_damage(&error) => {}
            Err(error) => return Err(error),
        }
        let inputs = self.inputs();
        let names = &self.active.uncompacted;
        let damaged = DamagedBlobs::find(self.repository, self.workspace, names, &inputs, report)?;
        let Some(damaged) = damaged else {
            return Ok(None);
        };
        let lists = damaged.lists_without(&inputs);
        let leaves_out = |name: &str| damaged.contains(name);
        let mut sound = self.inputs();
        for (input, list) in sound.iter_mut().zip(&lists) {
            input.blobs = match input.blobs {
                InputBlobs::Uncompacted(epoch) => InputBlobs::UncompactedBut(epoch, &leaves_out),
                _ => InputBlobs::Named(list),
            };
        }
        Ok(Some(self.load_inputs(&sound, Strictness::ForReading)?))
    }

    fn load_inputs(
        &self,
        inputs: &[Input<'_>],
        strictness: Strictness,
    ) -> Result<Loaded, RepositoryError> {
        let (workspace, names) = (self.workspace, &self.active.uncompacted);
        workspace.step("read the index", "index blobs", None, || {
            load(self.repository, workspace, names, inputs, strictness)
        })
    }

    fn inputs(&self) -> Vec<Input<'_>> {
        let mut inputs = self.active.inputs(Some(0));
        for input in &mut inputs {
            let has_choice = match input.blobs {
                InputBlobs::Set(set) => self.contested.has_choice(set),
                _ => false,
            };
            input.source = if has_choice { CHOSEN } else { CERTAIN };
        }
        inputs
    }

    /// Goes through all contents once: counts, hidden entries, packs.
    fn look_at_contents(
        &self,
        loaded: &Loaded,
        claims: &Runs,
        report: &mut VerifyReport,
    ) -> Result<(), RepositoryError> {
        report.index_blobs = loaded.stats.blobs;
        report.index_bytes = loaded.stats.stored_bytes;
        report.entries = loaded.stats.entries;
        let mut claims = Claims::open(claims, loaded.layout.key_bytes)?;
        let mut packs = match self.options.packs {
            true => Some(PackUse::new(self.workspace, &loaded.packs)?),
            false => None,
        };
        let watermark = self.active.watermark_seconds();
        compare_sets(loaded, &mut |group| {
            claims.settle(loaded, Some(group), self.contested, report)?;
            let fields = loaded.layout.fields(group.best()?);
            if is_dropped(&fields, watermark) {
                return Ok(());
            }
            if fields.deleted {
                report.deleted_contents += 1;
            } else {
                report.live_contents += 1;
            }
            if let Some(packs) = packs.as_mut().filter(|_| self.checks(fields.deleted)) {
                packs.note(&fields);
            }
            Ok(())
        })?;
        claims.settle(loaded, None, self.contested, report)?;
        claims.note_harmless(report);
        let Some(packs) = packs else { return Ok(()) };
        let compared = packs.compare(self.repository, self.workspace)?;
        report.packs = Some(compared.packs);
        if let Some(limits) = compared.limits {
            compare_sets(loaded, &mut |group| {
                let fields = loaded.layout.fields(group.best()?);
                if !is_dropped(&fields, watermark) && self.checks(fields.deleted) {
                    limits.check(&loaded.packs, group.key(), &fields, &mut report.found)?;
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    fn checks(&self, deleted: bool) -> bool {
        !deleted || self.options.deleted
    }
}
