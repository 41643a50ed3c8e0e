//! What index work is due by Kopia's rules, and why or why not.
//!
//! The tasks have Kopia's names and order. Storage times only: whatever a client's clock says, the
//! newest index blob of the open epochs tells the time. Mirrors Kopia's
//! `internal/epoch/epoch_manager.go`. Memory: one line a task.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::clock::Timestamp;
use crate::kopia::blob_id::{epoch_marker, watermark_seconds};
use crate::kopia::format_blob::EpochParameters;
use crate::repository::epoch_blobs::{EpochBlobs, in_words};
use crate::repository::epochs::EpochState;

type Rows = BTreeMap<u64, EpochBlobs>;

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
    parameters: &EpochParameters,
) -> Vec<WorkStatus> {
    let cut = cut(state, rows, parameters);
    let current = rows.get(&state.write_epoch).copied().unwrap_or_default();
    let next = state.write_epoch + 1;
    let advance = match current.should_advance(parameters) {
        (true, because) => Ok(format!("to epoch {next}: {because}")),
        (false, because) => Err(format!("epoch {} stays: {because}", state.write_epoch)),
    };
    let work = [
        ("compact-single-epoch", compact(state, rows)),
        ("advance-epoch", advance),
        ("generate-epoch-range-index", range(state, parameters)),
        ("cleanup-epoch-markers", markers(state, cut)),
        (
            "delete-superseded-epoch-indexes",
            superseded(state, rows, cut, parameters),
        ),
    ];
    let status = |(task, outcome): (_, Result<String, String>)| WorkStatus {
        task,
        due: outcome.is_ok(),
        because: outcome.unwrap_or_else(|because| because),
    };
    work.into_iter().map(status).collect()
}

/// Returns the newest storage time of the open epochs less the safety margin.
fn cut(state: &EpochState, rows: &Rows, parameters: &EpochParameters) -> Option<Timestamp> {
    let open = state.write_epoch.saturating_sub(1)..=state.write_epoch + 1;
    let newest = rows.range(open).map(|(_, blobs)| blobs.newest).max();
    newest.map(|newest| newest.minus(parameters.cleanup_safety_margin))
}

fn compact(state: &EpochState, rows: &Rows) -> Result<String, String> {
    let write = state.write_epoch;
    let Some(last) = state.last_settled() else {
        return Err(format!(
            "no epoch is settled before writers reach epoch 2; they are at {write}"
        ));
    };
    let mut wanted: Vec<u64> = Vec::new();
    let mut jam = None;
    for epoch in state.chain_end()..=last {
        if state.single(epoch).is_some() {
            continue;
        }
        if rows.get(&epoch).is_none() {
            jam = Some(epoch);
            break;
        }
        wanted.push(epoch);
    }
    let blobs = |epoch: &u64| rows.get(epoch).map_or(0, |blobs| blobs.count);
    let total: u64 = wanted.iter().map(blobs).sum();
    match (wanted.as_slice(), jam) {
        ([], Some(jam)) => Err(format!(
            "epoch {jam} is empty: nothing above it is compacted until a range covers it"
        )),
        ([], None) => Err(format!("every epoch up to {last} is compacted")),
        ([epoch], _) => Ok(format!("epoch {epoch}, {total} index blobs")),
        ([first, .., last], _) => Ok(format!(
            "{} epochs from {first} to {last}, {total} index blobs",
            wanted.len()
        )),
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

fn markers(state: &EpochState, cut: Option<Timestamp>) -> Result<String, String> {
    let Some(cut) = cut else {
        return Err(NO_TIME.to_owned());
    };
    let is_old = |name: &str| epoch_marker(name).is_some_and(|at| at + 1 < state.write_epoch);
    let markers = state.markers.iter().map(|blob| blob.id.as_str());
    let markers = markers.filter(|name| is_old(name)).count();
    let replaced = |name: &str| {
        watermark_seconds(name).is_some_and(|seconds| Some(seconds) != state.watermark_seconds)
    };
    let watermarks = state.watermarks.iter();
    let watermarks = watermarks
        .filter(|blob| replaced(blob.id.as_str()) && blob.timestamp < cut)
        .count();
    if markers + watermarks == 0 {
        return Err("there are no old markers or watermarks".to_owned());
    }
    Ok(format!(
        "{markers} old markers, {watermarks} old watermarks"
    ))
}

fn superseded(
    state: &EpochState,
    rows: &Rows,
    cut: Option<Timestamp>,
    parameters: &EpochParameters,
) -> Result<String, String> {
    let (mut due, mut young) = (0, 0);
    for (epoch, blobs) in rows {
        let set = state.single(*epoch).filter(|_| state.is_settled(*epoch));
        match set {
            Some(set) if cut.is_some_and(|cut| set.newest() < cut) => due += blobs.count,
            Some(_) => young += blobs.count,
            None => {}
        }
    }
    match (due, young, cut) {
        (1.., _, _) => Ok(format!("{due} replaced index blobs")),
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

    fn rows(epochs: &[(u64, u64, i64)]) -> Rows {
        let row = |(epoch, count, newest): &(u64, u64, i64)| {
            let mut blobs = EpochBlobs::default();
            for _ in 0..*count {
                blobs.add(&blob("xn", *newest));
            }
            (*epoch, blobs)
        };
        epochs.iter().map(row).collect()
    }

    fn work(state: &EpochState, rows: &Rows) -> Vec<(bool, String)> {
        let work = index_work(state, rows, &EpochParameters::default());
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
