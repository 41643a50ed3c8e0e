//! The rows of `careen velero …`: its own errors and those of the Kubernetes API.
//!
//! They are there in every build, so that a code means the same everywhere. No memory cost.

use super::super::Exit;
use super::{Row, row};

/// Error codes of Velero's floor, and of its commands.
pub(super) const ROWS: &[Row] = &[
    row(
        "child-process",
        Exit::Budget,
        "The machine or its cgroup allows no more processes or open files: give it more.",
    ),
    row(
        "no-cluster",
        Exit::Configuration,
        "Give --kubeconfig, or run in a pod with a service account. Without access to the API use \
         `careen run` with the repository's URL.",
    ),
    row(
        "no-velero",
        Exit::Configuration,
        "Check --context: Velero is not installed in this cluster, or is older than 1.10.",
    ),
    row(
        "kubernetes-forbidden",
        Exit::Configuration,
        "Give this user, or the pod's service account, the Role that the manifests in \
         runtime/deploy have.",
    ),
    row(
        "kubernetes-conflict",
        Exit::PartDone,
        "Somebody changes the object again and again: run again.",
    ),
    row(
        "kubernetes-api",
        Exit::Storage,
        "The API server did not answer as it should; run again, nothing is lost.",
    ),
    row(
        "kubernetes-not-found",
        Exit::Configuration,
        "Somebody deleted it, or its namespace, just now: look with `careen velero list`, and at \
         --namespace.",
    ),
    row(
        "kubernetes-refused",
        Exit::Configuration,
        "Nothing was changed. The message says who refused it, as a rule a policy of the cluster: \
         let it allow what the README says that careen writes.",
    ),
    row(
        "kubernetes-too-many",
        Exit::Configuration,
        "Name the repositories that are meant, or clean up in Velero's namespace.",
    ),
    row(
        "unknown-velero-repository",
        Exit::Configuration,
        "Give a name that `careen velero list --no-look` shows, or another --namespace.",
    ),
    row(
        "no-secret",
        Exit::Configuration,
        "Velero makes its secrets in its own namespace when it is installed: check --namespace, \
         and the storage location's `credential`.",
    ),
    row(
        "lease-held",
        Exit::OtherMaintainer,
        "Wait until that run has ended. If it has crashed, run again after the time that is shown.",
    ),
];
