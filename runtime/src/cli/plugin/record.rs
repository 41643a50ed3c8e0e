//! `careen plugin record`: writes down what a repository asks a strategy.
//!
//! The code of a plan asks, and a recorder answers. The file gets its name when it is whole.
//! Memory: that of a plan, and one line.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::BufWriter;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

use crate::cli::arguments::{CycleMode, RecordArguments, StrategyName};
use crate::cli::error::{CliError, Exit};
use crate::cli::output::Kind;
use crate::cli::target::Target;
use crate::cli::wording::{bytes, count};
use crate::cli::workspace::workspace;
use crate::cli::{Console, time_zone};
use crate::kopia::source_filter::SourceFilter;
use crate::maintenance::cycle_plan::{Mode, Wanted};
use crate::maintenance::expire_snapshots::{EXPIRE_PERCENT, ExpireOptions, ExpirePlan};
use crate::maintenance::run::{RunOptions, Strategies};
use crate::maintenance::safety::Safety;
use crate::maintenance::watch::StopFlag;
use crate::maintenance::{index_maintenance, index_plan, pack_survey, run_plan};
use crate::plugin::CONTRACT_VERSION;
use crate::plugin::batches::names::Names;
use crate::plugin::batches::{FORMAT, Head, Strategy};
use crate::plugin::record::{Recorded, Recorder};
use crate::repository::{Repository, Workspace};

/// What was recorded.
#[derive(Serialize)]
struct Report {
    file: String,
    strategy: Strategy,
    hashed_names: bool,
    #[serde(flatten)]
    recorded: Recorded,
    /// What else is to be known.
    note: Option<&'static str>,
}

/// Records.
pub(super) fn run(console: &Console, arguments: &RecordArguments) -> Result<Exit, CliError> {
    let target = console.target("plugin record", &arguments.repository)?;
    let path = &arguments.output_file;
    refuse_inside(path, &target)?;
    let workspace = workspace(console, &target)?;
    let repository = target.open(&workspace.memory, &console.surroundings)?;
    let file = Unfinished::create(path)?;
    let head = Head {
        careen_batches: FORMAT,
        contract: CONTRACT_VERSION.to_owned(),
        strategy: match arguments.strategy {
            StrategyName::Retention => Strategy::Retention,
            StrategyName::Splitting => Strategy::Splitting,
            StrategyName::Scheduling => Strategy::Scheduling,
        },
        careen: env!("CARGO_PKG_VERSION").to_owned(),
        time: repository.clock.now(),
        hashed_names: arguments.hash_names,
    };
    let mut key = [0; 32];
    console.surroundings.randomness.fill(&mut key);
    let names = arguments.hash_names.then(|| Names::new(key));
    let writer = Box::new(BufWriter::new(file.open.try_clone().map_err(failed(path))?));
    let mut recorder = Recorder::new(writer, &head, names).map_err(failed(path))?;
    if arguments.tenants {
        recorder = recorder.with_tenants();
    }
    let asking = Asking {
        console,
        target: &target,
        repository: &repository,
        workspace: &workspace,
        recorder: &recorder,
    };
    let note = match head.strategy {
        Strategy::Retention => asking.retention(arguments)?,
        Strategy::Splitting => asking.splitting()?,
        Strategy::Scheduling => asking.scheduling(arguments)?,
    };
    console.progress.clear();
    let recorded = recorder.flush().map_err(failed(path))?;
    file.finish(path)?;
    let report = Report {
        file: path.display().to_string(),
        strategy: head.strategy,
        hashed_names: head.hashed_names,
        recorded,
        note,
    };
    console.output.both(Kind::Report, "report", &report);
    Ok(Exit::Done)
}

/// Lets the code of a plan ask the recorder.
struct Asking<'a> {
    console: &'a Console,
    target: &'a Target,
    repository: &'a Repository,
    workspace: &'a Workspace,
    recorder: &'a Recorder,
}

impl Asking<'_> {
    fn retention(&self, arguments: &RecordArguments) -> Result<Option<&'static str>, CliError> {
        let source = arguments.source.as_deref();
        let options = ExpireOptions {
            source: source.map(SourceFilter::parse).unwrap_or_default(),
            zone: time_zone::local(self.console.surroundings.time_zone.as_deref()),
            percent_max: EXPIRE_PERCENT,
        };
        let mut recorder = self.recorder.clone();
        ExpirePlan::make(self.repository, self.workspace, &mut recorder, &options)?;
        Ok(None)
    }

    fn splitting(&self) -> Result<Option<&'static str>, CliError> {
        let mut recorder = self.recorder.clone();
        let mut note = None;
        if self.repository.format.epochs.enabled {
            let options = index_plan::Options {
                tasks: Vec::new(),
                unsettled: false,
                owner: self.target.identity(),
            };
            index_maintenance::plan(self.repository, self.workspace, &mut recorder, &options)?;
        } else {
            note = Some("the repository has no epochs: nobody is asked about its index");
        }
        pack_survey::survey_packs(self.repository, self.workspace, &mut recorder)?;
        Ok(note)
    }

    fn scheduling(&self, arguments: &RecordArguments) -> Result<Option<&'static str>, CliError> {
        let mode = match arguments.mode {
            CycleMode::Auto => Mode::Auto,
            CycleMode::Quick => Mode::Quick,
            CycleMode::Full => Mode::Full,
        };
        self.ask_as(mode)?;
        if self.recorder.recorded().batches > 0 {
            return Ok(None);
        }
        self.ask_as(Mode::Full)?;
        Ok(Some(
            "nothing is due: this is the question when a full cycle is asked for",
        ))
    }

    fn ask_as(&self, mode: Mode) -> Result<(), CliError> {
        let options = RunOptions {
            wanted: Wanted {
                mode,
                tasks: Vec::new(),
                safety: Safety::full(),
            },
            owner: self.target.identity(),
            config: self.target.config_file(),
            accept_unexplained: false,
            expire: None,
            zone: time_zone::local(self.console.surroundings.time_zone.as_deref()),
            holder: None,
            retry_lock: Duration::ZERO,
            stop: StopFlag::default(),
        };
        let strategies = Strategies {
            scheduling: Box::new(self.recorder.clone()),
            splitting: Box::new(self.recorder.clone()),
            retention: None,
        };
        run_plan::plan(self.repository, self.workspace, strategies, &options)?;
        Ok(())
    }
}

/// A file that has its name only when it is whole.
struct Unfinished {
    open: File,
    path: PathBuf,
    kept: bool,
}

impl Unfinished {
    fn create(path: &Path) -> Result<Self, CliError> {
        let mut unfinished = path.as_os_str().to_owned();
        unfinished.push(".unfinished");
        let unfinished = PathBuf::from(unfinished);
        // For this user alone: it has names.
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        let open = options.open(&unfinished).map_err(failed(path))?;
        Ok(Self {
            open,
            path: unfinished,
            kept: false,
        })
    }

    fn finish(mut self, path: &Path) -> Result<(), CliError> {
        std::fs::rename(&self.path, path).map_err(failed(path))?;
        self.kept = true;
        Ok(())
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.kept {
            // If this fails, its name says what it is.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn failed<E: fmt::Display>(path: &Path) -> impl FnOnce(E) -> CliError {
    move |error| CliError::RecordFile {
        path: path.to_owned(),
        reason: error.to_string(),
    }
}

/// Refuses a file inside the repository, where nothing is written.
fn refuse_inside(path: &Path, target: &Target) -> Result<(), CliError> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let Some(root) = target.folder() else {
        return Ok(());
    };
    let resolved = (folder.canonicalize(), root.canonicalize());
    match resolved {
        (Ok(folder), Ok(root)) if folder.starts_with(&root) => Err(CliError::Usage(format!(
            "{} is inside the repository, where nothing is written",
            path.display()
        ))),
        _ => Ok(()),
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Recorded {
            batches,
            rows,
            bytes: size,
        } = self.recorded;
        write!(
            f,
            "{}: {} batches of {}, {} rows, {}",
            self.file,
            count(batches),
            self.strategy,
            count(rows),
            bytes(size)
        )?;
        match self.note {
            Some(note) => write!(f, "\n{note}"),
            None => Ok(()),
        }
    }
}
