//! Asks a splitting strategy about every pack, as the rewrite of contents does, and does nothing
//! with the answers.
//!
//! Writes nothing. Memory: a load, a merge, a number a pack in mapped scratch; scratch: the table
//! of contents. Mirrors the choice in Kopia's `repo/maintenance/content_rewrite.go`.

use crate::repository::active_index::load_active;
use crate::repository::content_table::ContentTable;
use crate::repository::index_load::Strictness;
use crate::repository::{Repository, Workspace};

use super::MaintenanceError;
use super::budget::Budget;
use super::pack_choice::ByStrategy;
use super::pack_sums::PackSums;
use super::rewrite_choice::ask_about_packs;
use super::strategy::Splitting;
use super::tenants::find_tenants;

/// Asks about every pack that contents lie in. Returns how many the answers choose.
///
/// # Errors
/// An index that cannot be read, scratch that is full, a strategy that fails or is refused.
pub fn survey_packs(
    repository: &Repository,
    workspace: &Workspace,
    splitting: &mut dyn Splitting,
) -> Result<u64, MaintenanceError> {
    let (active, loaded) = load_active(repository, workspace, Some(0), Strictness::ForReading)?;
    let table = ContentTable::of_loaded(workspace, loaded, active.watermark_seconds())?;
    let tenants = find_tenants(repository, workspace, &table, splitting)?;
    let sums = PackSums::of(workspace, &table, tenants.as_ref())?;
    let mut packs = ByStrategy {
        splitting,
        budget: Budget::default(),
    };
    let most = repository.format.max_pack_size;
    Ok(ask_about_packs(&table, &sums, &mut packs, None, most)?.packs)
}
