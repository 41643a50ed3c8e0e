//! What index work is due, and why or why not, in words.
//!
//! The tasks have Kopia's names and order. Says what was decided ([`IndexDue`]); only the ranges
//! follow Kopia's own rule here, in a run the strategy decides them. Memory: one line a task.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::kopia::format_blob::EpochParameters;
use crate::maintenance::index_due::IndexDue;
use crate::maintenance::index_plan::Task;
use crate::repository::epoch_blobs::in_words;
use crate::repository::epochs::EpochState;
use crate::repository::index_names::UncompactedRow;

type Rows = BTreeMap<u64, UncompactedRow>;

/// A task of index work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WorkStatus {
    /// Kopia's name of the task.
    pub task: &'static str,
    /// Whether it would do something now.
    pub due: bool,
    /// What it would do, or why nothing.
    pub because: String,
}

/// Returns every task in Kopia's order.
pub(super) fn index_work(
    state: &EpochState,
    rows: &Rows,
    due: &IndexDue,
    parameters: &EpochParameters,
) -> Vec<WorkStatus> {
    let status = |task: Task| {
        let outcome = match task {
            Task::CompactSingleEpoch => compact(state, rows, due),
            Task::AdvanceEpoch => advance(state, due),
            Task::GenerateEpochRangeIndex => range(state, parameters),
            Task::CleanupEpochMarkers => markers(due),
            Task::DeleteSupersededEpochIndexes => superseded(rows, due, parameters),
            Task::IndexCompaction => Err("the repository has epochs".to_owned()),
        };
        WorkStatus {
            task: task.name(),
            due: outcome.is_ok(),
            because: outcome.unwrap_or_else(|because| because),
        }
    };
    Task::ALL.into_iter().map(status).collect()
}

/// Counts the uncompacted blobs of `epochs`.
fn blobs(rows: &Rows, epochs: &[u64]) -> u64 {
    let row = |epoch: &u64| rows.get(epoch).map_or(0, |row| row.blobs);
    epochs.iter().map(row).sum()
}

fn compact(state: &EpochState, rows: &Rows, due: &IndexDue) -> Result<String, String> {
    let Some(last) = state.last_settled() else {
        let write = state.write_epoch;
        return Err(format!(
            "no epoch is settled before writers reach epoch 2; they are at {write}"
        ));
    };
    let total = blobs(rows, &due.compact);
    match (due.compact.as_slice(), due.jam) {
        ([], Some(jam)) => Err(format!(
            "epoch {jam} is empty: nothing above it is compacted until a range covers it"
        )),
        ([], None) => Err(format!("every epoch up to {last} is compacted")),
        ([epoch], _) => Ok(format!("epoch {epoch}, {total} index blobs")),
        ([first, .., last], _) => Ok(format!(
            "{} epochs from {first} to {last}, {total} index blobs",
            due.compact.len()
        )),
    }
}

fn advance(state: &EpochState, due: &IndexDue) -> Result<String, String> {
    let (write, because) = (state.write_epoch, &due.advance.because);
    match due.advance.advance {
        true => Ok(format!("to epoch {}: {because}", write + 1)),
        false => Err(format!("epoch {write} stays: {because}")),
    }
}

fn range(state: &EpochState, parameters: &EpochParameters) -> Result<String, String> {
    let first = state.chain_end();
    let needed = u64::from(parameters.full_checkpoint_frequency) + 1;
    let settled = state
        .last_settled()
        .map_or(0, |last| (last + 1).saturating_sub(first));
    if settled >= needed && parameters.full_checkpoint_frequency > 0 {
        return Ok(format!("epochs {first} to {}", first + settled - 1));
    }
    Err(format!(
        "{settled} settled epochs after the last range, Kopia joins {needed}"
    ))
}

fn markers(due: &IndexDue) -> Result<String, String> {
    match (due.cut, due.markers.len(), due.watermarks.len()) {
        (None, ..) => Err(NO_TIME.to_owned()),
        (Some(_), 0, 0) => Err("there are no old markers or watermarks".to_owned()),
        (Some(_), markers, watermarks) => Ok(format!(
            "{markers} old markers, {watermarks} old watermarks"
        )),
    }
}

fn superseded(rows: &Rows, due: &IndexDue, parameters: &EpochParameters) -> Result<String, String> {
    let (old, young) = (blobs(rows, &due.superseded), blobs(rows, &due.waiting));
    match (old, young, due.cut) {
        (1.., _, _) => Ok(format!("{old} replaced index blobs")),
        (_, 0, _) => Err("there are no replaced index blobs".to_owned()),
        (_, _, None) => Err(NO_TIME.to_owned()),
        (_, _, Some(_)) => Err(format!(
            "{young} replaced index blobs wait until their sets are {} old",
            in_words(parameters.cleanup_safety_margin)
        )),
    }
}

const NO_TIME: &str = "there is no index blob in the open epochs that tells the storage's time";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blob::BlobMetadata;
    use crate::clock::Timestamp;
    use crate::repository::epoch_blobs::EpochBlobs;
    use crate::repository::epochs::{IndexSet, IndexSets};

    const HOUR: i64 = 3_600;

    fn blob(name: &str, seconds: i64) -> BlobMetadata {
        BlobMetadata {
            id: name.into(),
            length: 100,
            timestamp: Timestamp::from_seconds(seconds),
        }
    }

    fn state(write_epoch: u64, singles: &[(u64, i64)]) -> EpochState {
        let set = |(epoch, seconds): &(u64, i64)| {
            let blobs = vec![blob(&format!("xs{epoch}_a"), *seconds)];
            let complete = vec![IndexSet { blobs, count: 1 }];
            let incomplete = vec![];
            (
                *epoch,
                IndexSets {
                    complete,
                    incomplete,
                },
            )
        };
        EpochState {
            write_epoch,
            markers: (1..=write_epoch)
                .map(|epoch| blob(&format!("xe{epoch}"), 0))
                .collect(),
            watermark_seconds: Some(7),
            watermarks: vec![blob("xw5", HOUR), blob("xw7", HOUR)],
            singles: singles.iter().map(set).collect(),
            ranges: BTreeMap::new(),
            chain: vec![],
        }
    }

    fn rows(epochs: &[(u64, u64, i64)]) -> BTreeMap<u64, EpochBlobs> {
        let row = |(epoch, count, newest): &(u64, u64, i64)| {
            let mut blobs = EpochBlobs::default();
            for _ in 0..*count {
                let blob = blob("xn", *newest);
                blobs.add(blob.length, blob.timestamp);
            }
            (*epoch, blobs)
        };
        epochs.iter().map(row).collect()
    }

    fn work(state: &EpochState, blobs: &BTreeMap<u64, EpochBlobs>) -> Vec<(bool, String)> {
        let row = |(epoch, blobs): (&u64, &EpochBlobs)| {
            let row = UncompactedRow {
                blobs: blobs.count,
                ..UncompactedRow::default()
            };
            (*epoch, row)
        };
        let rows: Rows = blobs.iter().map(row).collect();
        let parameters = EpochParameters::default();
        let due = IndexDue::find(state, &rows, blobs, &parameters);
        let work = index_work(state, &rows, &due, &parameters);
        let row = |work: WorkStatus| (work.due, work.because);
        work.into_iter().map(row).collect()
    }

    #[test]
    fn a_young_repository_has_nothing_to_do() {
        let work = work(&state(0, &[]), &rows(&[(0, 5, HOUR)]));
        assert!(work[..3].iter().all(|(due, _)| !due), "{work:?}");
        assert!(!work[4].0, "{work:?}");
        let text = "no epoch is settled before writers reach epoch 2; they are at 0";
        assert_eq!(work[0].1, text);
    }

    #[test]
    fn an_empty_epoch_jams_what_is_above_it() {
        let work = work(&state(5, &[(0, HOUR)]), &rows(&[(2, 3, 0), (5, 1, 0)]));
        assert!(!work[0].0);
        assert!(work[0].1.starts_with("epoch 1 is empty"), "{work:?}");
    }

    #[test]
    fn settled_epochs_are_due_and_joined_when_there_are_eight() {
        let some = work(
            &state(4, &[(1, 0)]),
            &rows(&[(0, 3, 0), (2, 4, 0), (4, 1, 0)]),
        );
        let text = "2 epochs from 0 to 2, 7 index blobs";
        assert_eq!(some[0], (true, text.to_owned()));
        assert!(!some[2].0, "{some:?}");
        let singles: Vec<(u64, i64)> = (0..8).map(|epoch| (epoch, 0)).collect();
        let all = work(&state(9, &singles), &rows(&[(9, 1, 0)]));
        assert_eq!(
            all[0],
            (false, "every epoch up to 7 is compacted".to_owned())
        );
        assert_eq!(all[2], (true, "epochs 0 to 7".to_owned()));
    }

    #[test]
    fn replaced_blobs_wait_for_the_margin_by_the_storages_time() {
        let now = 10 * HOUR;
        let margin = 4 * HOUR;
        let names = rows(&[(0, 6, 0), (3, 1, now)]);
        let young = work(&state(3, &[(0, now - margin)]), &names);
        let text = "6 replaced index blobs wait until their sets are 4 h old";
        assert_eq!(young[4], (false, text.to_owned()));
        let old = work(&state(3, &[(0, now - margin - 1)]), &names);
        assert_eq!(old[4], (true, "6 replaced index blobs".to_owned()));
        assert_eq!(old[3], (true, "1 old markers, 1 old watermarks".to_owned()));
        let no_time = work(&state(3, &[(0, 0)]), &rows(&[(0, 6, 0)]));
        assert_eq!(no_time[3], (false, NO_TIME.to_owned()));
        assert_eq!(no_time[4], (false, NO_TIME.to_owned()));
    }
}
