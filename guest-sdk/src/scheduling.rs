//! The scheduling strategy: trait and macro.
//!
//! One question a run: which due tasks, in what order, how much each may use; or nothing before a
//! moment. A strategy that wants to know what tasks cost says so, and is asked once more. Natively
//! a test calls the trait. Memory: one question and one answer.

pub use crate::scheduling_bindings::exports::careen::strategy::schedule::{
    Budget, CostKnowledge, Cycle, CycleRow, Decision, PastRun, Pause, Question, RunPlan,
    TaskChoice, TaskCost, TaskRow, Verdict, ZoneChange,
};

/// Decides which due tasks of maintenance run now, and in what order.
///
/// Nothing is remembered between questions: each meets a fresh value.
pub trait Scheduling {
    /// Answers one question. An error ends the run before anything is written; its text is shown to
    /// people.
    ///
    /// What the answer may hold is written at [`RunPlan`] and [`Pause`]; the host refuses
    /// everything else, and asks each task's safety gate again just before the task. Costs are
    /// counted only for a strategy that answers [`Decision::CountCosts`] while
    /// [`Question::costs`] is [`CostKnowledge::NotCounted`]: that reads the whole index.
    fn schedule(&self, question: &Question) -> Result<Decision, String>;
}

impl Budget {
    /// No limit.
    pub const NONE: Self = Self {
        bytes: None,
        requests: None,
    };
}

impl TaskRow {
    /// Chooses the task, without a budget.
    pub fn choose(&self) -> TaskChoice {
        self.choose_within(Budget::NONE)
    }

    /// Chooses the task, with a budget. The host refuses one for a task that does not keep it.
    pub fn choose_within(&self, budget: Budget) -> TaskChoice {
        TaskChoice {
            name: self.name.clone(),
            budget,
        }
    }
}

/// Exports a type that implements [`Scheduling`] as the plugin's strategy. Use it once in a plugin.
///
/// `register_scheduling!(Mine)` for a type that is [`Default`], `register_scheduling!(Mine,
/// configured)` for one that is [`Configured`](crate::Configured). Natively it expands to a check
/// that the type is that, nothing else.
///
/// ```
/// use careen_guest_sdk::register_scheduling;
/// use careen_guest_sdk::scheduling::{Decision, Pause, Question, RunPlan, Scheduling, TaskRow};
///
/// /// Kopia's choice, but nothing between 08:00 and 20:00 local time.
/// #[derive(Default)]
/// struct AtNight;
///
/// impl Scheduling for AtNight {
///     fn schedule(&self, question: &Question) -> Result<Decision, String> {
///         let (begin, end) = (8 * 3_600, 20 * 3_600);
///         let time = question.seconds_of_day();
///         if (begin..end).contains(&time) && !question.asked_for {
///             return Ok(Decision::Wait(Pause {
///                 not_before_seconds: question.now_seconds + end - time,
///                 reason: "people are at work".into(),
///             }));
///         }
///         let cycle = question.cycles.first().ok_or("nothing to choose from")?;
///         Ok(Decision::Run(RunPlan {
///             cycle: cycle.cycle,
///             tasks: cycle.tasks.iter().map(TaskRow::choose).collect(),
///             reason: "it is night".into(),
///         }))
///     }
/// }
///
/// register_scheduling!(AtNight);
///
/// // In a test: a question with a full cycle, and the host's rules about the answer.
/// use careen_guest_sdk::kit;
/// let mut question = kit::cycles();
/// question.now_seconds = kit::at(2026, 11, 24, 21, 0);
/// let answer = kit::schedule(&AtNight, &question).unwrap();
/// assert!(matches!(answer, Decision::Run(_)));
/// ```
///
/// What a task costs is told on demand:
///
/// ```
/// use careen_guest_sdk::register_scheduling;
/// use careen_guest_sdk::scheduling::{
///     CostKnowledge, Decision, Question, RunPlan, Scheduling, TaskRow,
/// };
///
/// /// Nothing that reads more than a gigabyte, unless nobody knows what it reads.
/// #[derive(Default)]
/// struct Thrifty;
///
/// impl Scheduling for Thrifty {
///     fn schedule(&self, question: &Question) -> Result<Decision, String> {
///         if question.costs == CostKnowledge::NotCounted {
///             return Ok(Decision::CountCosts);
///         }
///         let cycle = question.cycles.first().ok_or("nothing to choose from")?;
///         let dear = |row: &TaskRow| row.cost.is_some_and(|cost| cost.read_bytes > 1 << 30);
///         let cheap = cycle.tasks.iter().filter(|row| !dear(row));
///         Ok(Decision::Run(RunPlan {
///             cycle: cycle.cycle,
///             tasks: cheap.map(TaskRow::choose).collect(),
///             reason: "what reads little".into(),
///         }))
///     }
/// }
///
/// register_scheduling!(Thrifty);
/// ```
#[macro_export]
macro_rules! register_scheduling {
    ($strategy:ty) => {
        $crate::register_scheduling!(@made $strategy, $crate::ByDefault);
    };
    ($strategy:ty, configured) => {
        $crate::register_scheduling!(@made $strategy, $crate::ByConfiguration);
    };
    (@made $strategy:ty, $way:ty) => {
        #[cfg(target_arch = "wasm32")]
        const _: () = {
            $crate::__export_about!($strategy, $strategy, $way, scheduling_bindings);

            impl $crate::scheduling_bindings::exports::careen::strategy::schedule::Guest
                for Exported
            {
                fn schedule(
                    question: $crate::scheduling::Question,
                ) -> Result<$crate::scheduling::Decision, String> {
                    ask(|strategy| $crate::scheduling::Scheduling::schedule(strategy, &question))
                }
            }

            $crate::scheduling_bindings::export_scheduling!(
                Exported with_types_in $crate::scheduling_bindings
            );
        };

        #[cfg(not(target_arch = "wasm32"))]
        const _: fn() = || {
            fn is_one<S: $crate::scheduling::Scheduling, W: $crate::Made<S>>() {}
            is_one::<$strategy, $way>();
        };
    };
}
