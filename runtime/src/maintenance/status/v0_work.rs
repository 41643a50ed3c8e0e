//! What index work is due without epochs, and why or why not.
//!
//! One task of Kopia's: it compacts, and deletes what earlier compactions have replaced. Memory:
//! one line, and what the walks of the set need.

use crate::repository::index_set_v0::{CompactionRule, IndexSetV0, SETTLE_TIME};
use crate::repository::{Repository, RepositoryError, Workspace};

use super::WorkStatus;

/// Returns the task.
pub(super) fn v0_work(
    repository: &Repository,
    workspace: &Workspace,
    set: &IndexSetV0,
) -> Result<Vec<WorkStatus>, RepositoryError> {
    let rule = CompactionRule::quick(repository.format.max_pack_size);
    let candidates = rule.choose(set)?;
    let mut due = candidates.chosen.blobs > 1;
    let mut because = candidates.because;
    if let Some(newest) = set.newest_log() {
        let replaced = set.replaced(workspace, newest.minus(SETTLE_TIME))?.blobs;
        if replaced > 0 {
            due = true;
            because.push_str(&format!("; {replaced} replaced ones can be deleted"));
        }
        let waiting = set.superseded.blobs.saturating_sub(replaced);
        if waiting > 0 {
            because.push_str(&format!(
                "; {waiting} replaced ones wait for the next compaction, an hour at least"
            ));
        }
    }
    Ok(vec![WorkStatus {
        task: "index-compaction",
        due,
        because,
    }])
}
