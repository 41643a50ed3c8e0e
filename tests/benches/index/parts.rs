//! Where the time of a compaction goes: for each part of the work its thread time, its bytes, its
//! rate, and what this machine could do.
//!
//! Seconds are careen's own (the last JSON line); threads work at the same time, so they add up to
//! more than the wall time. Bytes are those that a part must pass at least once.

use careen::progress::Part;
use kit::cgroup::Run;
use kit::data_dir::DataDir;
use kit::programs::{Programs, event};

use crate::limits::{Limits, RECORD_BYTES};

/// Bytes of one compaction.
#[derive(Clone, Copy, Default)]
pub(crate) struct Sizes {
    /// Index blobs read, as stored.
    stored_in: u64,
    /// Their entries as records.
    records: u64,
    /// Index blobs written, as stored; less than 0.1 % more than their plaintext.
    stored_out: u64,
}

impl Sizes {
    /// Looks at the index blobs of the source, and at what the run has written to the copy.
    pub(crate) fn of(programs: &Programs<'_>, run: &Run) -> Option<Self> {
        let inputs = DataDir::open(programs.source())
            .ok()?
            .list_prefix("xn")
            .ok()?;
        let repository = DataDir::open(programs.copy()).ok()?;
        let report = event(run, "report")?;
        let tasks = report["report"]["tasks"].as_array()?;
        let mut sizes = Self {
            stored_in: inputs.iter().map(|blob| blob.length).sum(),
            ..Self::default()
        };
        for task in tasks {
            sizes.records += task["entries_read"].as_u64().unwrap_or(0) * RECORD_BYTES as u64;
            for blob in task["written"].as_array().into_iter().flatten() {
                let path = repository.path_of(blob.as_str()?);
                sizes.stored_out += path.metadata().ok()?.len();
            }
        }
        Some(sizes)
    }

    /// Returns the bytes of a part, `None` where they say nothing.
    fn of_part(&self, part: Part) -> Option<u64> {
        match part {
            Part::List => None,
            Part::Read | Part::Decrypt => Some(self.stored_in),
            Part::Decode | Part::Merge => Some(self.records),
            Part::Encode | Part::Hash | Part::Reread | Part::Encrypt => Some(self.stored_out),
            // Rows to scratch, and the sealed blob.
            Part::Write => Some(2 * self.stored_out),
        }
    }
}

/// Prints the parts of a run; nothing where it told none.
pub(crate) fn print(name: &str, run: &Run, sizes: &Sizes, limits: &Limits, cold: bool) {
    let Some(event) = event(run, "finished").filter(|event| event["busy"].is_object()) else {
        return;
    };
    println!(
        "  {name:<22} {:>9} {:>9} {:>9} {:>9}",
        "thread s", "MB", "MB/s", "limit"
    );
    for part in Part::ALL {
        let Some(seconds) = event["busy"][part.name()].as_f64() else {
            continue;
        };
        let Some(bytes) = sizes.of_part(part) else {
            println!("    {:<20} {seconds:>9.3}", part.name());
            continue;
        };
        let megabytes = bytes as f64 / 1e6;
        let limit = limits
            .of(part, cold)
            .map_or(String::new(), |(what, rate)| format!("{rate:>9.0}  {what}"));
        println!(
            "    {:<20} {seconds:>9.3} {megabytes:>9.1} {:>9.0} {limit}",
            part.name(),
            megabytes / seconds.max(1e-6)
        );
    }
}
