//! The books of one sort, shared by its threads: which runs exist, which buffers are open, which
//! files are free.
//!
//! Taken under a mutex only when a run is finished, so once in 100,000 records. A file belongs to
//! one writer at a time and is handed on, so descriptors are as many as threads, not as runs.
//! Memory: 48 bytes a run up to `RUNS_MAX`, and the samples.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::SpillError;
use super::run::{Run, RunOutput};
use super::samples::{RunSamples, Samples};
use super::scratch::Scratch;
use super::scratch_file::ScratchFile;
use super::shape::{SortMemory, SortShape};

/// Runs that a sort keeps books for: 3 MiB of books, 400 GB of records with buffers of 6 MiB.
const RUNS_MAX: usize = 1 << 16;

#[derive(Debug)]
pub(super) struct Books {
    scratch: Scratch,
    pub(super) shape: SortShape,
    pub(super) memory: SortMemory,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    runs: Vec<Run>,
    /// Runs in memory. They take the place of buffers that are finished.
    kept: Vec<Run>,
    samples: Samples,
    idle_files: Vec<Arc<ScratchFile>>,
    open_buffers: usize,
    open_writers: usize,
}

impl State {
    /// Returns whether one merge has memory for all kept runs and `runs` more with `bytes`.
    fn fits_a_merge(&self, memory: &SortMemory, runs: usize, bytes: usize) -> bool {
        let runs = self.runs.len() + self.kept.len() + runs;
        let kept: usize = self.kept.iter().map(Run::memory_bytes).sum();
        let windows = memory.run_read_bytes.saturating_mul(runs);
        runs <= memory.runs_max && kept + bytes + windows <= memory.merge_bytes()
    }
}

/// Everything that a finished sort leaves.
pub(super) struct Closed {
    pub(super) runs: Vec<Run>,
    pub(super) kept: Vec<Run>,
    pub(super) samples: Samples,
}

impl Books {
    pub(super) fn new(scratch: Scratch, shape: SortShape, memory: SortMemory) -> Self {
        let state = State {
            runs: Vec::new(),
            kept: Vec::new(),
            samples: Samples::new(&shape),
            idle_files: Vec::new(),
            open_buffers: 0,
            open_writers: 0,
        };
        Self {
            scratch,
            shape,
            memory,
            state: Mutex::new(state),
        }
    }

    /// Counts a sort buffer that is opened; panics when the plan has no memory for it.
    pub(super) fn open_buffer(&self) {
        let mut state = self.state();
        state.open_buffers += 1;
        assert!(
            state.open_buffers <= self.memory.buffers,
            "more sort buffers than planned"
        );
    }

    pub(super) fn close_buffer(&self) {
        self.state().open_buffers -= 1;
    }

    pub(super) fn open_writer(&self) {
        self.state().open_writers += 1;
    }

    pub(super) fn close_writer(&self) {
        self.state().open_writers -= 1;
    }

    /// Makes sure that the plan has memory for the buffer that is about to be allocated.
    pub(super) fn make_room(&self) -> Result<(), SpillError> {
        let kept = {
            let mut state = self.state();
            if state.open_buffers + state.kept.len() <= self.memory.buffers {
                return Ok(());
            }
            std::mem::take(&mut state.kept)
        };
        self.write_kept(kept)
    }

    /// Tells whether a sorted buffer of `bytes` may stay in memory: whether a merge would have
    /// memory for it, for all that is kept already, and for the windows of all runs so far.
    pub(super) fn may_keep(&self, bytes: usize) -> bool {
        self.state().fits_a_merge(&self.memory, 1, bytes)
    }

    /// Takes a run that stays in memory. Its samples were taken before, so that it may be written
    /// later.
    pub(super) fn add_kept(&self, run: Run, samples: &mut RunSamples) {
        let mut state = self.state();
        samples.end_run(&mut state.samples);
        state.kept.push(run);
    }

    /// Returns a writer of runs. Memory: `RUN_WRITE_BYTES`.
    pub(super) fn output(&self) -> Result<RunOutput, SpillError> {
        let idle = self.state().idle_files.pop();
        let file = match idle {
            Some(file) => file,
            None if self.memory.makes_large_runs() => {
                Arc::new(self.scratch.create_large_file("sorted runs")?)
            }
            None => Arc::new(self.scratch.create_file("sorted runs")?),
        };
        Ok(RunOutput::new(file, &self.shape))
    }

    /// Ends the run of `output` and enters it.
    pub(super) fn end_run(&self, output: &mut RunOutput) -> Result<(), SpillError> {
        let Some(run) = output.end_run() else {
            return Ok(());
        };
        let mut state = self.state();
        output.samples().end_run(&mut state.samples);
        if state.runs.len() >= RUNS_MAX {
            return Err(SpillError::Runs { maximum: RUNS_MAX });
        }
        state.runs.push(run);
        Ok(())
    }

    /// Takes a file back, for the next writer.
    pub(super) fn hand_back(&self, file: Arc<ScratchFile>) {
        self.state().idle_files.push(file);
    }

    /// Ends the sort. Errors: `Unfinished` when a buffer or writer still has, or had, records.
    pub(super) fn close(&self) -> Result<Closed, SpillError> {
        let mut state = self.state();
        let buffers = state.open_buffers + state.open_writers;
        if buffers > 0 {
            return Err(SpillError::Unfinished { buffers });
        }
        // Two threads that kept their buffers at the same time may have kept too much; so may one,
        // if others wrote more runs after it.
        let fits = state.fits_a_merge(&self.memory, 0, 0);
        if !fits && !state.kept.is_empty() {
            let kept = std::mem::take(&mut state.kept);
            drop(state);
            self.write_kept(kept)?;
            state = self.state();
        }
        let samples = std::mem::replace(&mut state.samples, Samples::new(&self.shape));
        state.idle_files.clear();
        Ok(Closed {
            runs: std::mem::take(&mut state.runs),
            kept: std::mem::take(&mut state.kept),
            samples,
        })
    }

    /// Writes runs that were kept in memory, through a buffer of one record.
    fn write_kept(&self, kept: Vec<Run>) -> Result<(), SpillError> {
        let mut output = self.output()?;
        let mut record = vec![0; self.shape.record_bytes];
        for run in kept {
            for number in 0..run.records() {
                run.read(number, &mut record)?;
                output.push(&record)?;
            }
            let Some(run) = output.end_run() else {
                continue;
            };
            output.samples().forget();
            self.state().runs.push(run);
        }
        self.hand_back(output.into_file()?);
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere leaves complete entries: each is made by one push.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
