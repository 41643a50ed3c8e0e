//! Velero in a Kubernetes cluster: which repositories it has, who maintains them, and taking over.
//!
//! Velero records each Kopia repository as a `BackupRepository` and says in a
//! `BackupStorageLocation` where the store is. This floor reads both with their secrets, takes the
//! maintenance from Velero and gives it back, and keeps two runs apart by a Lease. What it writes:
//! `BackupRepository` (one field and one annotation), its own Leases, and Events; nothing else.
//! Memory: a page of a listing, and one row a repository, at most
//! [`discovery::REPOSITORIES_MAX`].
//!
//! Mirrors Velero's `pkg/repository` of 1.14 to 1.18.

pub mod activity;
mod asking;
pub mod cluster;
pub mod credentials;
pub mod discovery;
mod error;
pub mod events;
mod go_duration;
pub mod history;
pub mod kinds;
pub mod lease;
pub mod location;
pub mod takeover;

pub use asking::Patience;
pub use error::VeleroError;
