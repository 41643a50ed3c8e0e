//! What can go wrong between us and the Kubernetes API.
//!
//! Every variant names the operation and the object. Never carries secrets: an answer of the API
//! server names fields, not values of Secrets.

use std::fmt;
use std::time::Duration;

use crate::clock::Timestamp;

/// Why something in the cluster did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum VeleroError {
    /// There is no cluster to talk to.
    #[error("no Kubernetes cluster: {0}")]
    NoCluster(String),
    /// The namespace has no Velero.
    #[error("list {plural} in namespace {namespace}: this cluster has no such kind")]
    NoVelero {
        /// The kind, in the plural.
        plural: &'static str,
        /// The namespace.
        namespace: String,
    },
    /// The API server does not let us.
    #[error("{operation}: {message}")]
    Forbidden {
        /// What was tried, with the object.
        operation: Operation,
        /// What the API server says.
        message: String,
    },
    /// The object was changed since it was read.
    #[error("{operation}: it was changed since it was read")]
    Conflict {
        /// What was tried, with the object.
        operation: Operation,
    },
    /// The API server does not answer as it should.
    #[error("{operation}: {message}")]
    Api {
        /// What was tried, with the object.
        operation: Operation,
        /// What it says, or why it cannot be reached.
        message: String,
        /// When another try may help, after how long at least.
        again: Option<Duration>,
    },
    /// The object is not there, or its namespace.
    #[error("{operation}: {message}")]
    NotFound {
        /// What was tried, with the object.
        operation: Operation,
        /// What the API server says.
        message: String,
    },
    /// The API server will not do this, whoever asks.
    #[error("{operation}: {message}")]
    Refused {
        /// What was tried, with the object.
        operation: Operation,
        /// What the API server says.
        message: String,
    },
    /// The API server has forgotten the beginning of a listing.
    #[error("{operation}: {message}")]
    Expired {
        /// What was tried.
        operation: Operation,
        /// What the API server says.
        message: String,
        /// With which the listing goes on in the present.
        token: Option<String>,
    },
    /// One answer is more than we take.
    #[error("{operation}: the answer is too large")]
    TooLarge {
        /// What was tried, with the object.
        operation: Operation,
    },
    /// The run was stopped while the API server was waited for.
    #[error("{0}: stopped before the API server answered")]
    Stopped(Operation),
    /// More objects than we take.
    #[error("list {plural}: more than {max}")]
    TooMany {
        /// The kind, in the plural.
        plural: &'static str,
        /// Most that are taken.
        max: usize,
    },
    /// No repository has this name.
    #[error("there is no repository {name:?} in namespace {namespace}; there are: {known}")]
    UnknownRepository {
        /// What was asked for.
        name: String,
        /// Velero's namespace.
        namespace: String,
        /// Those that there are.
        known: String,
    },
    /// A secret that is needed is not there, or has no such key.
    #[error("secret {name} has no key {key}")]
    NoSecret {
        /// The Secret.
        name: String,
        /// The key in it.
        key: String,
    },
    /// Another process maintains the repository.
    #[error("lease {lease} is held by {holder} until {until} at least")]
    LeaseHeld {
        /// The Lease.
        lease: String,
        /// Who holds it.
        holder: String,
        /// When it ends unless it is renewed.
        until: Timestamp,
    },
}

/// What was tried on which object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// The verb, as in a Role: get, list, patch, …
    pub verb: &'static str,
    /// The kind, in the plural.
    pub plural: String,
    /// The object's name; empty for a list.
    pub name: String,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.verb, self.plural)?;
        if self.name.is_empty() {
            return Ok(());
        }
        write!(f, " {}", self.name)
    }
}

impl VeleroError {
    /// Returns, for what may pass, after how long at least another try may help.
    pub(super) fn again(&self) -> Option<Duration> {
        match self {
            Self::Api { again, .. } => *again,
            _ => None,
        }
    }

    /// Returns a conflict as what another look may mend.
    pub(super) fn passing(self) -> Self {
        match self {
            Self::Conflict { operation } => Self::Api {
                operation,
                message: "it was changed since it was read".to_owned(),
                again: Some(Duration::ZERO),
            },
            other => other,
        }
    }

    /// Returns what is said when the run was stopped before another try.
    pub(super) fn stopped(self) -> Self {
        match self {
            Self::Api { operation, .. } => Self::Stopped(operation),
            other => other,
        }
    }

    /// Returns the stable code of this error.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoCluster(_) => "no-cluster",
            Self::NoVelero { .. } => "no-velero",
            Self::Forbidden { .. } => "kubernetes-forbidden",
            Self::Conflict { .. } => "kubernetes-conflict",
            Self::Api { .. } | Self::Expired { .. } => "kubernetes-api",
            Self::NotFound { .. } => "kubernetes-not-found",
            Self::Refused { .. } => "kubernetes-refused",
            Self::TooMany { .. } | Self::TooLarge { .. } => "kubernetes-too-many",
            Self::Stopped(_) => "stopped",
            Self::UnknownRepository { .. } => "unknown-velero-repository",
            Self::NoSecret { .. } => "no-secret",
            Self::LeaseHeld { .. } => "lease-held",
        }
    }
}
