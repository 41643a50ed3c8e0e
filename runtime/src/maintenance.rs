//! Kopia's maintenance tasks.

pub mod strategy;
