//! Kopia's maintenance tasks, one file each; their order, their safety, and what strategies are
//! asked.
//!
//! Decisions are values: options, then a plan, then its execution, then a report. `--dry-run` stops
//! after the plan. Blobs are deleted by one function only ([`delete`]), whose argument can only be
//! made by the check just before it. This floor knows no wasmtime and no terminal.

pub mod advance_deletion_watermark;
pub mod advance_epoch;
pub mod cleanup_epoch_markers;
pub mod cleanup_indexes_v0;
pub mod compact_epochs;
pub mod compact_indexes_v0;
pub mod delete;
pub mod delete_superseded_epoch_indexes;
mod error;
pub mod index_maintenance;
pub mod index_plan;
pub mod index_plan_v0;
pub mod index_repair;
mod index_survey;
pub mod owner;
pub mod rescue_unsettled;
pub mod strategy;

pub use error::MaintenanceError;
