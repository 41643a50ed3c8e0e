//! Options of `careen doctor`.
//!
//! No memory cost.

use clap::Args;

use super::RepositoryArgument;

/// Options of `doctor`.
#[derive(Debug, Args)]
pub(in crate::cli) struct DoctorArguments {
    /// Which repository.
    #[command(flatten)]
    pub(in crate::cli) repository: RepositoryArgument,
    /// Also try to write: put a small blob named _careen_probe_…, put it again, delete it; in object
    /// stores put another that is locked for two minutes, and delete it
    ///
    /// Kopia takes no notice of such a blob. In a bucket with versions a deleted one of it stays.
    #[arg(long)]
    pub(in crate::cli) write_probe: bool,
}

/// Shown behind the options.
pub(super) const DOCTOR_HELP: &str = "\
Looks from the outside in: the server's name, its port, its certificate, its clock; the
credentials, the bucket, the prefix and what may be done there; then the repository's format, owner,
schedule and index, and what maintenance would need. Each line is ok, warning, error or skipped,
with what to do next. Nothing is changed.

The exit code is 0 if there is no error, else that of the first one.

Examples:
  careen doctor /backup
  careen doctor s3://BUCKET/PREFIX/kopia/NAMESPACE/ --credentials-file cloud
  careen doctor --config ~/.config/kopia/repository.config --write-probe --json";
