//! What `careen velero …` can be asked, with the help that people read.
//!
//! No memory cost.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::{CycleMode, JitterArgument, StrategiesArgument, parse_duration};
use crate::velero::Patience;
use crate::velero::lease::LEASE_TIME;

/// Children at once, at most: each has a share of the memory, and 64 shares are small enough.
const PARALLEL_MAX: u64 = 64;

/// Waits for an answer of the API server: to ten minutes.
const API_SECONDS: RangeInclusive<u64> = 1..=600;

/// Times of a Lease: from one with room for a few renewals to an hour.
const LEASE_SECONDS: RangeInclusive<u64> = 12..=3600;

/// `careen velero …`
#[derive(Debug, Subcommand)]
pub(in crate::cli) enum VeleroCommand {
    /// List Velero's repositories: where each is, what Velero thinks of it, and what is true
    #[command(after_help = LIST_HELP)]
    List(VeleroListArguments),
    /// Maintain repositories of Velero, each in a process of its own
    #[command(after_help = VELERO_RUN_HELP)]
    Run(VeleroRunArguments),
    /// Take the maintenance of repositories from Velero; shows what it would do, unless --apply
    #[command(after_help = TAKEOVER_HELP)]
    Takeover(ChangeHandsArguments),
    /// Give the maintenance back to Velero, as it was; shows what it would do, unless --apply
    #[command(after_help = TAKEOVER_HELP)]
    Giveback(ChangeHandsArguments),
    /// Say why maintenance of a repository failed, why space is not free yet, and when it will be
    #[command(after_help = EXPLAIN_HELP)]
    Explain(ExplainArguments),
}

/// Which cluster, and where in it.
#[derive(Clone, Debug, Args)]
pub(in crate::cli) struct ClusterArguments {
    /// Velero's namespace
    #[arg(long, value_name = "NAME", default_value = "velero")]
    pub(in crate::cli) namespace: String,
    /// kubectl's config file [default: KUBECONFIG, ~/.kube/config, or the pod's service account]
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) kubeconfig: Option<PathBuf>,
    /// Context in it [default: the current one]
    #[arg(long, value_name = "NAME")]
    pub(in crate::cli) context: Option<String>,
    /// How long an answer of the API server is waited for
    ///
    /// Where it says at once that it cannot, it is asked again for half of that time.
    #[arg(long, value_name = "N", default_value_t = Patience::PATIENT.one.as_secs(),
          value_parser = clap::value_parser!(u64).range(API_SECONDS))]
    api_seconds: u64,
}

impl ClusterArguments {
    /// Returns how long an answer of the API server is waited for.
    pub(in crate::cli) fn api_time(&self) -> Duration {
        Duration::from_secs(self.api_seconds)
    }
}

/// Options of `velero list`.
#[derive(Debug, Args)]
pub(in crate::cli) struct VeleroListArguments {
    /// Only these: names of BackupRepositories, or of namespaces that have one
    #[arg(value_name = "NAME")]
    pub(in crate::cli) names: Vec<String>,
    /// Which cluster.
    #[command(flatten)]
    pub(in crate::cli) cluster: ClusterArguments,
    /// Ask Kubernetes only: read no secrets and open no repository
    #[arg(long)]
    pub(in crate::cli) no_look: bool,
}

/// Options of `velero run`.
#[derive(Debug, Args)]
pub(in crate::cli) struct VeleroRunArguments {
    /// Only these: names of BackupRepositories, or of namespaces that have one
    #[arg(
        value_name = "NAME",
        required_unless_present = "all",
        conflicts_with = "all"
    )]
    pub(in crate::cli) names: Vec<String>,
    /// All of them
    #[arg(long)]
    pub(in crate::cli) all: bool,
    /// Which cluster.
    #[command(flatten)]
    pub(in crate::cli) cluster: ClusterArguments,
    /// Repositories at once; each has an equal share of --memory
    #[arg(long, value_name = "N", default_value_t = 1,
          value_parser = clap::value_parser!(u64).range(1..=PARALLEL_MAX))]
    pub(in crate::cli) parallel: u64,
    /// Which cycle
    #[arg(long, value_name = "MODE", value_enum, default_value_t)]
    pub(in crate::cli) mode: CycleMode,
    /// Run also while a backup of the namespace, or Velero's own maintenance, is at work
    ///
    /// That is safe. Without it such a repository is skipped, and a run during which one begins
    /// ends at its next safe point.
    #[arg(long)]
    pub(in crate::cli) beside_backups: bool,
    /// How long a Lease holds that is not renewed
    ///
    /// A run goes on for two thirds of that while the API server cannot be reached, and one that
    /// has died keeps others away for all of it.
    #[arg(long, value_name = "N", default_value_t = LEASE_TIME.as_secs(),
          value_parser = clap::value_parser!(u64).range(LEASE_SECONDS))]
    lease_seconds: u64,
    /// Wait for the lease that an earlier run has left in a repository, for so long at most: 90s,
    /// 20m, 1h [default: what CAREEN_RETRY_LOCK says, else 0s]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub(in crate::cli) retry_lock: Option<Duration>,
    /// How long it may wait first, by the URL of the first repository.
    #[command(flatten)]
    pub(in crate::cli) jitter: JitterArgument,
    /// Which strategies file.
    #[command(flatten)]
    pub(in crate::cli) strategies: StrategiesArgument,
}

impl VeleroRunArguments {
    /// Returns how long a Lease holds that is not renewed.
    pub(in crate::cli) fn lease_time(&self) -> Duration {
        Duration::from_secs(self.lease_seconds)
    }
}

/// Options of `velero takeover` and `velero giveback`.
#[derive(Debug, Args)]
pub(in crate::cli) struct ChangeHandsArguments {
    /// Only these: names of BackupRepositories, or of namespaces that have one [default: all]
    #[arg(value_name = "NAME")]
    pub(in crate::cli) names: Vec<String>,
    /// Which cluster.
    #[command(flatten)]
    pub(in crate::cli) cluster: ClusterArguments,
    /// Do it
    #[arg(long)]
    pub(in crate::cli) apply: bool,
}

/// Options of `velero explain`.
#[derive(Debug, Args)]
pub(in crate::cli) struct ExplainArguments {
    /// The BackupRepository, or a namespace that has one
    #[arg(value_name = "NAME")]
    pub(in crate::cli) name: String,
    /// Which cluster.
    #[command(flatten)]
    pub(in crate::cli) cluster: ClusterArguments,
}

const LIST_HELP: &str = "\
Each repository is opened with Velero's own password and keys, and its schedule and index are read;
nothing is changed. One that cannot be reached says why.

Without access to the Kubernetes API use `careen status`, `plan` and `run` with the URL of the
repository, s3://BUCKET/PREFIX/kopia/NAMESPACE/, the password of the secret velero-repo-credentials
in KOPIA_PASSWORD, and --credentials-file with the file of the secret cloud-credentials.

Examples:
  careen velero list
  careen velero list shop --namespace velero --json
  careen velero list --no-look";

const VELERO_RUN_HELP: &str = "\
Each repository is maintained by a process of its own, `careen run` with Velero's password, keys and
owner; one that fails does not touch the others. A Lease keeps two runs in a cluster from the same
repository; a run goes on while the API server is away and the Lease holds. SIGTERM ends all of them
at their next safe points. `kubectl describe backuprepository` shows what was done, as Events.

Exit code: 0 if all went well, else the gravest one, in this order: 60, 50, 20, 30, 10, 40. A
repository that is skipped, because another run has it or a backup is at work, counts as 40.

Examples:
  careen velero run --all --memory 256MiB --parallel 2
  careen velero run shop --mode full --memory 128MiB";

const TAKEOVER_HELP: &str = "\
Velero maintains a repository whenever its maintenanceFrequency has passed. A takeover sets that to
ten years and keeps the old value in an annotation, careen/maintenance-frequency-before; giving back
restores it exactly and removes the annotation. Nothing else is changed, both can be repeated.
Repositories that Velero makes later are not taken over: run it again, or give Velero's server
--default-repo-maintain-frequency=87600h.

Examples:
  careen velero takeover
  careen velero takeover --apply
  careen velero giveback shop --apply";

const EXPLAIN_HELP: &str = "\
Looks at Velero's record, at its maintenance Jobs and how their pods ended, and at the repository's
own schedule and index. Changes nothing.

Example:
  careen velero explain shop";
