//! The repository itself: password, format, owner, schedule, index, what maintenance would need.
//!
//! Memory: that of `careen status`.

use super::{Ended, Walk, locks};
use crate::blob::Storage;
use crate::cli::error::CliError;
use crate::cli::workspace::workspace;
use crate::kopia::blob_id::BlobId;
use crate::kopia::maintenance_params::MaintenanceParams;
use crate::maintenance::diagnosis::{self, Finding, State};
use crate::maintenance::index_repair;
use crate::maintenance::lease::current_schedule;
use crate::maintenance::maintenance_status::maintenance_status;
use crate::maintenance::outlook::Outlook;
use crate::maintenance::safety::Safety;
use crate::maintenance::status::{Known, status_and_params};
use crate::repository::{Repository, Workspace};

/// Velero's password where nobody set another.
const VELERO_PASSWORD: &[u8] = b"static-passw0rd";

/// Velero's own blob beside Kopia's, since 1.18.
const VELERO_BLOB: &str = "udmrepo.Repository";

/// Looks at the repository.
///
/// With `write_probe` a lock is tried too, where the storage may have them.
pub(super) fn look(walk: &mut Walk<'_>, storage: Storage, write_probe: bool) -> Result<(), Ended> {
    let password = walk
        .target
        .password()
        .map_err(|error| walk.failed("password", &error))?;
    let space =
        workspace(walk.console, walk.target).map_err(|error| walk.failed("workspace", &error))?;
    let opened = walk
        .target
        .open_in(storage, &space.memory, &walk.console.surroundings);
    let repository = opened.map_err(|error| walk.failed("format", &error))?;
    format(walk, &repository, &password);
    locks::look(walk, &repository, write_probe);
    space.scratch.open_shelf();
    let known = status_and_params(&repository, &space);
    let known = known.map_err(|error| walk.failed("index", &error.into()))?;
    let mut found = diagnosis::index(&known.status);
    let epochs = known.status.epochs.as_ref();
    if epochs.is_some_and(|epochs| epochs.duplicate.total > 0) {
        let plan = index_repair::plan(&repository, &space);
        let plan = plan.map_err(|error| walk.failed("index", &error.into()))?;
        if let Some(differ) = diagnosis::sets(plan.hidden_entries) {
            found.retain(|finding| finding.state != State::Ok);
            found.push(differ);
        }
    }
    tell_all(walk, &found);
    if known.status.owner_problem.is_some() {
        return Ok(());
    }
    owner(walk, &known);
    schedule(walk, &repository, known.params.as_ref())?;
    if found.iter().any(|finding| finding.state == State::Error) {
        let what = "maintenance stops at the index";
        walk.tell(&Finding::skipped("needs", what));
        return Ok(());
    }
    needs(walk, &repository, &space, &known)
}

fn tell_all(walk: &mut Walk<'_>, found: &[Finding]) {
    found.iter().for_each(|finding| walk.tell(finding));
}

fn format(walk: &mut Walk<'_>, repository: &Repository, password: &[u8]) {
    let format = &repository.format;
    let epochs = if format.epochs.enabled {
        "with epochs"
    } else {
        "from before epochs"
    };
    let what = format!(
        "version {}, {epochs}, {}",
        format.version, format.encryption
    );
    walk.tell(&Finding::ok("format", what));
    let is_velero = repository
        .storage
        .metadata(&BlobId::new(VELERO_BLOB))
        .is_ok();
    if is_velero {
        walk.tell(&Finding::ok(
            "velero",
            "a repository of Velero 1.18 or later",
        ));
    }
    if password == VELERO_PASSWORD {
        let what = "the password is Velero's default, which everybody knows";
        let next = "whoever reads the bucket reads the backups: protect the bucket; a new password \
                    is set in the secret velero-repo-credentials before the first backup";
        walk.tell(&Finding::warning(
            "password",
            "default-password",
            what,
            next,
        ));
    }
    match walk.target.refuse_read_only() {
        Ok(()) => {}
        Err(error) => walk.tell(&Finding::warning(
            "config",
            error.code(),
            error.to_string(),
            error.hint(),
        )),
    }
}

fn owner(walk: &mut Walk<'_>, known: &Known) {
    let (identity, params) = (walk.target.identity(), known.params.as_ref());
    tell_all(
        walk,
        &diagnosis::ownership(&identity, params, known.params_copies),
    );
    if let Some(params) = params {
        walk.tell(&diagnosis::cycles(params));
    }
}

fn schedule(
    walk: &mut Walk<'_>,
    repository: &Repository,
    params: Option<&MaintenanceParams>,
) -> Result<(), Ended> {
    let defaults = MaintenanceParams::default();
    let read = current_schedule(repository);
    let schedule = read.map_err(|error| walk.failed("schedule", &error.into()))?;
    let now = repository.clock.now();
    tell_all(
        walk,
        &diagnosis::schedule(&schedule, params.unwrap_or(&defaults), now),
    );
    Ok(())
}

fn needs(
    walk: &mut Walk<'_>,
    repository: &Repository,
    space: &Workspace,
    known: &Known,
) -> Result<(), Ended> {
    let maintenance = maintenance_status(repository, known.params.as_ref());
    let maintenance = maintenance.map_err(|error| walk.failed("schedule", &error.into()))?;
    let tasks = [maintenance.full_cycle, maintenance.quick_only].concat();
    let replaced = known.status.replaced_index();
    let outlook = Outlook::make(repository, space, &Safety::full(), &tasks, replaced);
    let outlook = outlook.map_err(|error| walk.failed("needs", &CliError::from(error)))?;
    let free = space.scratch.free_bytes();
    tell_all(
        walk,
        &diagnosis::needs(&outlook, space.memory.limit_bytes, free),
    );
    walk.tell(&Finding::ok("due", maintenance.due));
    Ok(())
}
