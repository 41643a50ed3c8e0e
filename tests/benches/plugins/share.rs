//! The share of the default plugins in a full run: time in their loading and their answers.
//!
//! The run is in process, in 64 MiB of buffers, on backups as `careen demo` makes them, without
//! safety margins. Memory: that of a run.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use careen::kopia::source_filter::SourceFilter;
use careen::maintenance::cycle_plan::Mode;
use careen::maintenance::expire_snapshots::ExpireOptions;
use careen::maintenance::retention::{Decision, Retention, RetentionQuestion, Zone};
use careen::maintenance::run::Strategies;
use careen::maintenance::safety::Safety;
use careen::maintenance::scheduling::{Scheduling, SchedulingAnswer, SchedulingQuestion};
use careen::maintenance::strategy::{
    RepackAnswer, RepackQuestion, Splitting, SplittingAnswer, SplittingQuestion, StrategyError,
};
use careen::memory::{MIB, MemoryPlan};
use careen::plugin::{PluginError, PluginOptions, load, load_retention, load_scheduling};
use careen::repository::snapshot_history::HistoryRow;
use kit::cycle::cycle;
use kit::index_work::{Bench, open_live};
use kit::programs::Programs;

use crate::{Home, note, row};

const PASSWORD: &str = "static-passw0rd";
const OWNER: &str = "default@default";

/// Backups that are maintained, a tenth of those that the promise is about: options of `careen
/// demo`.
const BACKUPS: [&str; 4] = ["--directories", "100", "--sessions", "100"];

/// A strategy whose time is counted; loaded when it is asked for the first time.
struct Timed<T> {
    load: Box<dyn Fn() -> Result<T, PluginError> + Send>,
    plugin: Option<T>,
    nanoseconds: Arc<AtomicU64>,
}

impl<T> Timed<T> {
    fn ask<R>(
        &mut self,
        ask: impl FnOnce(&mut T) -> Result<R, StrategyError>,
    ) -> Result<R, StrategyError> {
        let started = Instant::now();
        let plugin = match self.plugin.take() {
            Some(plugin) => plugin,
            None => (self.load)()?,
        };
        let answer = ask(self.plugin.insert(plugin));
        let taken = started.elapsed().as_nanos() as u64;
        self.nanoseconds.fetch_add(taken, Ordering::Relaxed);
        answer
    }
}

impl<T: Scheduling> Scheduling for Timed<T> {
    fn schedule(
        &mut self,
        question: &SchedulingQuestion,
    ) -> Result<SchedulingAnswer, StrategyError> {
        self.ask(|plugin| plugin.schedule(question))
    }

    fn describe(&self) -> String {
        "timed".to_owned()
    }
}

impl<T: Splitting> Splitting for Timed<T> {
    fn split(&mut self, question: &SplittingQuestion) -> Result<SplittingAnswer, StrategyError> {
        self.ask(|plugin| plugin.split(question))
    }

    fn repack(&mut self, question: &RepackQuestion) -> Result<RepackAnswer, StrategyError> {
        self.ask(|plugin| plugin.repack(question))
    }

    fn end_repack(&mut self) {
        if let Some(plugin) = &mut self.plugin {
            plugin.end_repack();
        }
    }

    fn describe(&self) -> String {
        "timed".to_owned()
    }
}

impl<T: Retention> Retention for Timed<T> {
    fn begin(&mut self, question: &RetentionQuestion) -> Result<(), StrategyError> {
        self.ask(|plugin| plugin.begin(question))
    }

    fn decide(&mut self, rows: &[HistoryRow]) -> Result<Vec<Decision>, StrategyError> {
        self.ask(|plugin| plugin.decide(rows))
    }

    fn describe(&self) -> String {
        "timed".to_owned()
    }
}

/// Measures a run.
pub(crate) fn measure(home: &Home, work: &Path) {
    let programs = Programs::new(home.careen(), work);
    programs.make(&BACKUPS);
    let opened = open_live(programs.source(), PASSWORD);
    let repository = opened.expect("the repository opens");
    let mut bench = Bench::new_in(work);
    bench.memory = MemoryPlan::new(64 * MIB).expect("64 MiB are enough");
    let spent = [(); 3].map(|()| Arc::new(AtomicU64::new(0)));
    let mut options = cycle(Mode::Full, Safety::none(), OWNER);
    options.expire = Some(ExpireOptions {
        source: SourceFilter::default(),
        zone: Zone::default(),
        percent_max: 100,
    });
    let strategies = strategies(home, &spent);
    let started = Instant::now();
    let ran = bench.cycle_by(&repository, &options, strategies, &mut |_| {});
    let seconds = started.elapsed().as_secs_f64();
    ran.expect("the run succeeds");
    let spent = spent.map(|one| one.load(Ordering::Relaxed) as f64 / 1e9);
    let share = spent.iter().sum::<f64>() / seconds * 100.0;
    let title = format!("share of the plugins in a full run, 220,000 contents, {seconds:.2} s");
    row(&title, format!("{share:.2} %"), "1 %", share < 1.0);
    for (name, seconds) in ["scheduling", "splitting", "retention"].iter().zip(spent) {
        note(
            &format!("  {name}, loading included"),
            format!("{:.2} ms", seconds * 1e3),
        );
    }
}

fn strategies(home: &Home, spent: &[Arc<AtomicU64>; 3]) -> Strategies<'static> {
    let options = |plugin: PluginOptions| home.options(plugin);
    let scheduling = options(PluginOptions::scheduling());
    let splitting = options(PluginOptions::default());
    let retention = options(PluginOptions::retention());
    Strategies {
        scheduling: Box::new(Timed {
            load: Box::new(move || load_scheduling(scheduling.clone())),
            plugin: None,
            nanoseconds: Arc::clone(&spent[0]),
        }),
        splitting: Box::new(Timed {
            load: Box::new(move || load(splitting.clone())),
            plugin: None,
            nanoseconds: Arc::clone(&spent[1]),
        }),
        retention: Some(Box::new(Timed {
            load: Box::new(move || load_retention(retention.clone())),
            plugin: None,
            nanoseconds: Arc::clone(&spent[2]),
        })),
    }
}
