//! Velero's repositories in a cluster are found, maintained, taken over and given back.
//!
//! Against a real Kubernetes API server with Velero's kinds, repositories that Kopia made in
//! Velero's way, and the program itself. Every test has a namespace of its own. Without Go, or
//! without the program, one line says so.

mod api_faults;
pub(crate) mod bucket;
mod explaining;
mod explaining_states;
mod hands;
pub(crate) mod installation;
mod listing;
mod middle;
mod rights;
mod runs;
mod story;
