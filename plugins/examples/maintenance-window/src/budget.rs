//! Divides what a run may use among its tasks.
//!
//! Tasks come in their order; each may use what is left, and what it will probably use is then
//! taken off. Tasks that cannot keep a budget (they work on the index, and are small) run without
//! one, and are taken off too. Memory: one answer.

use careen_guest_sdk::scheduling::{Budget, TaskChoice, TaskCost, TaskRow, Verdict};

/// What is left of a budget; none is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Left {
    /// Bytes read and written.
    pub(crate) bytes: Option<u64>,
    /// Requests.
    pub(crate) requests: Option<u64>,
}

impl Left {
    /// Whether there is a limit at all; without one nobody has to count costs.
    pub(crate) fn is_limited(&self) -> bool {
        self.bytes.is_some() || self.requests.is_some()
    }

    /// Takes off what a task will use.
    fn take(&mut self, cost: &TaskCost) {
        let less = |left: &mut Option<u64>, used: u64| {
            *left = left.map(|left| left.saturating_sub(used));
        };
        less(
            &mut self.bytes,
            cost.read_bytes.saturating_add(cost.written_bytes),
        );
        less(&mut self.requests, cost.requests);
    }

    /// Chooses all tasks, each with what is left when its turn comes.
    pub(crate) fn divide(mut self, tasks: &[TaskRow]) -> Vec<TaskChoice> {
        let mut choices = Vec::with_capacity(tasks.len());
        for task in tasks {
            choices.push(match task.keeps_budget && self.is_limited() {
                true => task.choose_within(Budget {
                    bytes: self.bytes,
                    requests: self.requests,
                }),
                false => task.choose(),
            });
            if let (Verdict::Runs, Some(cost)) = (task.verdict, &task.cost) {
                self.take(cost);
            }
        }
        choices
    }
}
