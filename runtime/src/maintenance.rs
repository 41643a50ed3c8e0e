//! Kopia's maintenance tasks, one file each; their order, their safety, and what strategies are
//! asked.
//!
//! Decisions are values: options, then a plan, then its execution, then a report. `--dry-run` stops
//! after the plan. Blobs are deleted by one function only ([`delete`]), whose argument can only be
//! made by the check just before it. This floor knows no wasmtime and no terminal.

pub mod advance_deletion_watermark;
pub mod advance_epoch;
pub mod budget;
pub mod cleanup_epoch_markers;
pub mod cleanup_indexes_v0;
pub mod cleanup_logs;
pub mod compact_epochs;
pub mod compact_indexes_v0;
pub mod compact_manifests;
mod cycle_choice;
pub mod cycle_plan;
pub mod cycle_task;
pub mod delete;
pub mod delete_superseded_epoch_indexes;
pub mod delete_unreferenced_packs;
pub mod diagnosis;
mod error;
pub mod expire_snapshots;
pub mod explain_packs;
pub mod extend_blob_retention;
mod halt;
pub mod holder;
pub mod holdings;
mod index_due;
pub mod index_maintenance;
pub mod index_plan;
pub mod index_plan_v0;
pub mod index_repair;
mod index_survey;
mod index_tasks;
pub mod interlocks;
pub mod lease;
pub mod local_lock;
pub mod maintenance_status;
pub mod orphan_packs;
pub mod outlook;
pub mod owner;
pub mod pack_choice;
mod pack_sums;
pub mod pack_survey;
mod pack_tasks;
#[cfg(test)]
mod pack_tests;
pub mod rescue_unsettled;
pub mod retention;
mod rewrite_choice;
pub mod rewrite_contents;
pub mod run;
pub mod run_plan;
pub mod run_report;
pub mod safety;
pub mod scheduling;
pub mod snapshot_gc;
pub mod status;
pub mod strategy;
pub mod task_costs;
mod task_stats;
mod tenants;
pub mod watch;

pub use error::MaintenanceError;
