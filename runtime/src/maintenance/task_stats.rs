//! The statistics that a task leaves in the schedule: Kopia's kinds and fields.
//!
//! A task that had nothing to do leaves JSON `null`, as Kopia does; and so that old clients and new
//! ones show what we did, nothing else is recorded. Memory: one small JSON value. Mirrors Kopia's
//! `repo/maintenancestats`.

use serde_json::{Value, json};

use crate::clock::Timestamp;
use crate::kopia::schedule::Extra;

use super::cleanup_logs::LogsCleaned;
use super::delete_unreferenced_packs::DeleteUnreferencedPacksStats;
use super::extend_blob_retention::ExtendBlobRetentionStats;
use super::rewrite_contents::RewriteContentsStats;
use super::snapshot_gc::SnapshotGcStats;

/// `compactSingleEpochStats`: the blobs of all epochs that were compacted, and the last of them.
pub(super) fn compact_single_epoch(done: Option<(u64, u64, u64)>) -> Extra {
    let data = done.map(|(blobs, bytes, epoch)| {
        json!({
            "supersededIndexBlobCount": blobs,
            "supersededIndexTotalSize": bytes,
            "epoch": epoch,
        })
    });
    extra("compactSingleEpochStats", data)
}

/// `advanceEpochStats`.
pub(super) fn advance_epoch(current: u64, advanced: bool) -> Extra {
    let data = json!({"currentEpoch": current, "wasAdvanced": advanced});
    extra("advanceEpochStats", Some(data))
}

/// `generateRangeCheckpointStats`: first and last epoch that were joined.
pub(super) fn generate_range(range: Option<(u64, u64)>) -> Extra {
    let data = range.map(|(min, max)| json!({"rangeMinEpoch": min, "rangeMaxEpoch": max}));
    extra("generateRangeCheckpointStats", data)
}

/// `cleanupMarkersStats`: markers and watermarks.
pub(super) fn cleanup_markers(deleted: Option<(usize, usize)>) -> Extra {
    let data = deleted.map(|(markers, watermarks)| {
        json!({
            "deletedEpochMarkerBlobCount": markers,
            "deletedWatermarkBlobCount": watermarks,
        })
    });
    extra("cleanupMarkersStats", data)
}

/// `cleanupSupersededIndexesStats`: the newest time of a set that counts, blobs, bytes.
pub(super) fn cleanup_superseded(done: Option<(Timestamp, u64, u64)>) -> Extra {
    let data = done.map(|(cut, blobs, bytes)| {
        json!({
            "maxReplacementTime": cut,
            "deletedBlobCount": blobs,
            "deletedTotalSize": bytes,
        })
    });
    extra("cleanupSupersededIndexesStats", data)
}

/// `compactIndexesStats`.
pub(super) fn compact_indexes(dropped_before: Option<Timestamp>) -> Extra {
    let data = dropped_before.map(|time| json!({"droppedContentsDeletedBefore": time}));
    extra("compactIndexesStats", data)
}

/// `cleanupLogsStats`.
pub(super) fn cleanup_logs(cleaned: &LogsCleaned) -> Extra {
    let data = json!({
        "toDeleteBlobCount": cleaned.deleted,
        "toDeleteBlobSize": cleaned.deleted_bytes,
        "deletedBlobCount": cleaned.deleted,
        "deletedBlobSize": cleaned.deleted_bytes,
        "retainedBlobCount": cleaned.retained,
        "retainedBlobSize": cleaned.retained_bytes,
    });
    extra("cleanupLogsStats", Some(data))
}

/// `snapshotGCStats`.
pub(super) fn snapshot_gc(stats: &SnapshotGcStats) -> Extra {
    extra("snapshotGCStats", Some(value(stats)))
}

/// `rewriteContentsStats`.
pub(super) fn rewrite_contents(stats: &RewriteContentsStats) -> Extra {
    extra("rewriteContentsStats", Some(value(stats)))
}

/// `deleteUnreferencedPacksStats`.
pub(super) fn delete_unreferenced_packs(stats: &DeleteUnreferencedPacksStats) -> Extra {
    extra("deleteUnreferencedPacksStats", Some(value(stats)))
}

/// `extendBlobRetentionStats`.
pub(super) fn extend_blob_retention(stats: Option<&ExtendBlobRetentionStats>) -> Extra {
    extra("extendBlobRetentionStats", stats.map(value))
}

/// Returns the bytes of blobs that were deleted, where statistics have them.
pub(super) fn deleted_bytes(stats: &Extra) -> u64 {
    // Of superseded index blobs and unused packs; of logs.
    let fields = ["deletedTotalSize", "deletedBlobSize"];
    let data = stats.data.as_ref();
    let found = fields.iter().find_map(|field| data?.get(field)?.as_u64());
    found.unwrap_or(0)
}

fn value<T: serde::Serialize>(stats: T) -> Value {
    serde_json::to_value(stats).expect("numbers and texts are JSON")
}

fn extra(kind: &str, data: Option<Value>) -> Extra {
    Extra::new(kind, data.unwrap_or(Value::Null))
}
