//! The status as people read it: a label, then what there is to say; lists are indented below.
//!
//! No memory cost.

use std::fmt;

use bytesize::ByteSize;

use super::{EpochRow, EpochsStatus, FormatStatus, SetList, Status, Totals, V0Status, WorkStatus};

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "repository   {}", self.location)?;
        writeln!(f, "id           {}", self.unique_id)?;
        self.format.fmt(f)?;
        match (&self.owner, &self.owner_problem) {
            (Some(owner), _) => writeln!(f, "owner        {owner}")?,
            (None, None) => writeln!(f, "owner        nobody: no client maintains it")?,
            (None, Some(problem)) => writeln!(f, "owner        not known: {problem}")?,
        }
        if let Some(lock) = &self.upgrade_lock {
            writeln!(
                f,
                "upgrade      announced by {} at {}",
                lock.owner, lock.since
            )?;
            if !lock.message.is_empty() {
                writeln!(f, "             {}", lock.message)?;
            }
        }
        if !self.ignored_features.is_empty() {
            let features = self.ignored_features.join(", ");
            writeln!(f, "features     not known and not needed: {features}")?;
        }
        if let Some(v0) = &self.v0 {
            v0.fmt(f)?;
        }
        match &self.epochs {
            Some(epochs) => epochs.fmt(f),
            None => Ok(()),
        }
    }
}

impl fmt::Display for FormatStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "format       version {}, index version {}, packs of {}",
            self.version,
            self.index_version,
            ByteSize(self.max_pack_size_bytes)
        )?;
        writeln!(
            f,
            "algorithms   {}, {}, {}",
            self.hash, self.encryption, self.splitter
        )?;
        if !self.ecc.is_empty() && self.ecc_overhead_percent > 0 {
            let percent = self.ecc_overhead_percent;
            writeln!(f, "correction   {}, {percent} %", self.ecc)?;
        }
        Ok(())
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.blobs == 1 { "" } else { "s" };
        write!(
            f,
            "{} index blob{plural}, {}",
            self.blobs,
            ByteSize(self.bytes)
        )
    }
}

impl fmt::Display for V0Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "index        V0, without epochs: {} in use", self.active)?;
        writeln!(
            f,
            "superseded   {}, {} compaction logs",
            self.superseded, self.logs
        )?;
        if self.lost_compactions > 0 {
            let lost = self.lost_compactions;
            writeln!(f, "lost         the entries of {lost} compactions")?;
        }
        list(f, "DAMAGED", &self.damaged_notes)?;
        work(f, &self.work)
    }
}

impl fmt::Display for EpochsStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let settled = self.last_settled;
        let settled = settled.map_or("none".to_owned(), |last| format!("up to {last}"));
        let write = self.write_epoch;
        writeln!(
            f,
            "index        epochs: write epoch {write}, settled {settled}"
        )?;
        match self.chain.last() {
            None => writeln!(f, "ranges       none")?,
            Some(_) => {
                let range = |(first, last): &(u64, u64)| format!("{first} to {last}");
                let chain: Vec<String> = self.chain.iter().map(range).collect();
                let size = ByteSize(self.ranges.bytes);
                writeln!(f, "ranges       epochs {}; {size}", chain.join(", "))?;
            }
        }
        let singles = self.singles;
        writeln!(
            f,
            "compacted    {} sets of single epochs, {} index blobs, {}",
            singles.sets,
            singles.blobs,
            ByteSize(singles.bytes)
        )?;
        list(f, "MISSING", &self.gaps)?;
        list(f, "several sets", &self.duplicate)?;
        list(f, "incomplete", &self.incomplete)?;
        writeln!(
            f,
            "uncompacted  {} in {} epochs; in use: {}",
            self.uncompacted, self.uncompacted_epochs, self.uncompacted_active
        )?;
        for row in &self.newest_epochs {
            writeln!(f, "             {row}")?;
        }
        let more = self.uncompacted_epochs - self.newest_epochs.len();
        if more > 0 {
            writeln!(f, "             and {more} older epochs")?;
        }
        match self.watermark {
            Some(time) => writeln!(f, "watermark    what was deleted up to {time} is dropped")?,
            None => writeln!(
                f,
                "watermark    none: deleted contents are kept in the index"
            )?,
        }
        work(f, &self.work)
    }
}

fn work(f: &mut fmt::Formatter<'_>, all: &[WorkStatus]) -> fmt::Result {
    let mut label = "work";
    for (number, work) in all.iter().enumerate() {
        let due = if work.due { "due    " } else { "not due" };
        write!(f, "{label:<12} {due} {}: {}", work.task, work.because)?;
        if number + 1 < all.len() {
            writeln!(f)?;
        }
        label = "";
    }
    Ok(())
}

fn list(f: &mut fmt::Formatter<'_>, label: &str, list: &SetList) -> fmt::Result {
    let mut label = label;
    for what in &list.newest {
        writeln!(f, "{label:<12} {what}")?;
        label = "";
    }
    let more = list.total - list.newest.len() as u64;
    if more > 0 {
        writeln!(f, "             and {more} older ones")?;
    }
    Ok(())
}

impl fmt::Display for EpochRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match (self.open, self.active) {
            (true, _) => "open",
            (false, true) => "settled",
            (false, false) => "replaced",
        };
        let totals = Totals {
            blobs: self.blobs.count,
            bytes: self.blobs.bytes,
        };
        let (oldest, newest) = (self.blobs.oldest, self.blobs.newest);
        write!(
            f,
            "epoch {}: {state}, {totals}, {oldest} to {newest}",
            self.epoch
        )
    }
}
