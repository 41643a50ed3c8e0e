//! Options of what is left behind for others to read: termination message and metrics.
//!
//! No memory cost.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;

/// Where the end of a run is told besides the output.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Options of jobs")]
pub(in crate::cli) struct ReportingOptions {
    /// File for the result in one line of JSON, at most 4096 bytes [env: CAREEN_TERMINATION_LOG;
    /// default: /dev/termination-log, where it is]
    ///
    /// Kubernetes shows it as the container's last message. A failure begins with `Repo maintenance
    /// error: ` and the reason, as Velero expects.
    #[arg(long, global = true, value_name = "FILE")]
    pub(in crate::cli) termination_log: Option<PathBuf>,
    /// File for metrics in Prometheus' text form, for node_exporter: /metrics/careen.prom
    ///
    /// Written at the end, replaced whole. Times of earlier successes are taken over.
    #[arg(long, global = true, value_name = "FILE")]
    pub(in crate::cli) metrics_textfile: Option<PathBuf>,
    /// Address at which a long run tells its metrics while it is at work: 0.0.0.0:9090
    #[arg(long, global = true, value_name = "ADDRESS")]
    pub(in crate::cli) metrics_listen: Option<SocketAddr>,
    /// Pushgateway that gets the metrics at the end: http://pushgateway:9091
    ///
    /// Without a path the group is job `careen` and the repository. A push that fails is a warning.
    #[cfg(feature = "object-stores")]
    #[arg(long, global = true, value_name = "URL")]
    pub(in crate::cli) metrics_push: Option<String>,
}
