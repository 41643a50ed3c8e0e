//! What a task tells while it works. The floors below `cli` call these; only `cli` shows them.
//!
//! A task has one current step with a unit and, where known, a total. No memory cost.

/// Listens to the progress of tasks. Calls come from several threads, some thousand a second at
/// most.
pub trait Progress: Send + Sync {
    /// A step begins; `total` is in `unit`s, where it is known.
    fn begin(&self, step: &str, unit: &str, total: Option<u64>);
    /// The current step has come `amount` units further.
    fn advance(&self, amount: u64);
    /// The current step has ended.
    fn end(&self);
}

/// Listens to nothing.
#[derive(Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn begin(&self, _: &str, _: &str, _: Option<u64>) {}
    fn advance(&self, _: u64) {}
    fn end(&self) {}
}
