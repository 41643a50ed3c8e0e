//! What follows from all that is known of a repository's maintenance, for who is on call.
//!
//! A sentence for each thing that is not as it should be: what, why, and what to do. Who is at work
//! and what waits is told beside them. No memory cost.

use super::children::OWNER;
use super::explain::Explanation;
use super::look::{Health, Truth};
use crate::clock::Timestamp;
use crate::velero::discovery::RepositoryKind;
use crate::velero::takeover::Held;

/// A maintenance that Velero counts, but that is so much newer than the last full cycle, was none.
const FALSE_SUCCESS_SECONDS: i64 = 2 * 24 * 60 * 60;

/// Index blobs that make every opening slow.
const INDEX_BLOBS_MANY: u64 = 1000;

impl Explanation<'_> {
    /// Returns the sentences, those that stop maintenance first.
    pub(super) fn conclude(&self, now: Timestamp) -> Vec<String> {
        if self.kind != RepositoryKind::Kopia {
            return vec!["It is restic's: Velero maintains it, careen never does.".to_owned()];
        }
        let mut all = Vec::new();
        self.of_the_location(&mut all);
        self.of_the_jobs(&mut all);
        if let Some(truth) = &self.truth {
            self.of_the_owner(truth, &mut all);
            self.of_the_schedule(truth, now, &mut all);
        }
        self.of_the_hands(&mut all);
        if let Some(truth) = &self.truth {
            of_the_space(truth, &mut all);
        }
        all
    }

    fn of_the_location(&self, all: &mut Vec<String>) {
        if self.read_only {
            all.push(
                "Its storage location is ReadOnly: neither Velero (from 1.16 on) nor careen \
                 maintains it until its accessMode is ReadWrite."
                    .to_owned(),
            );
        }
        if let Some(message) = self.unavailable {
            all.push(format!(
                "Velero cannot use its storage location either: {}.",
                message.trim().trim_end_matches('.')
            ));
        }
    }

    fn of_the_jobs(&self, all: &mut Vec<String>) {
        let killed = self.jobs.iter().rev().find(|job| job.out_of_memory);
        if let Some(job) = killed {
            let limit = match &job.memory_limit {
                Some(limit) => format!("its limit of {limit}"),
                None => "the node's memory".to_owned(),
            };
            all.push(format!(
                "Velero's maintenance does not fit into {limit}: the kernel killed {}. Velero's \
                 own record cannot say so, since the process printed nothing. careen needs no more \
                 than it is given: `careen velero run {}`.",
                job.name, self.name
            ));
        }
    }

    fn of_the_owner(&self, truth: &Truth, all: &mut Vec<String>) {
        let cure = format!("set it with `kopia maintenance set --owner={OWNER}`");
        match truth.owner.as_deref() {
            Some(OWNER) => {}
            None | Some("") => all.push(format!(
                "It has no owner, so every maintenance is refused, Velero's too: {cure}."
            )),
            Some(other) => all.push(format!(
                "Its owner is {other}, not {OWNER}: Velero's Jobs fail and careen is refused. If \
                 nobody maintains it as {other}, {cure}."
            )),
        }
    }

    fn of_the_schedule(&self, truth: &Truth, now: Timestamp, all: &mut Vec<String>) {
        let last = match truth.last_full {
            Some(time) => format!("the last full cycle that ended well was {time}"),
            None => "no full cycle has ever ended well".to_owned(),
        };
        if let Some(counted) = self.velero.last_maintenance
            && is_false_success(counted, truth.last_full)
        {
            all.push(format!(
                "Velero counts a maintenance as done at {counted}, but by the repository's own \
                 schedule {last}. After a crash Kopia waits for its next time, and a Job that \
                 finds nothing due succeeds."
            ));
        }
        if truth.health(now) == Health::Late {
            let who = match self.maintained_by {
                Held::Careen { .. } => "careen has not run: look at its CronJob and its last Job",
                _ if self.velero.is_left_to_others() => "nobody maintains it",
                _ => {
                    "Velero has not maintained it: look at its server and its Jobs, or let \
                      `careen velero run` do it"
                }
            };
            all.push(format!("It is late: {last}; {who}."));
        }
        if let Some(blobs) = truth.index_blobs.filter(|blobs| *blobs > INDEX_BLOBS_MANY) {
            all.push(format!(
                "It has {blobs} index blobs, which every backup and every maintenance must read \
                 first: `careen velero run {} --mode full` compacts all that may be.",
                self.name
            ));
        }
    }

    fn of_the_hands(&self, all: &mut Vec<String>) {
        match self.maintained_by {
            Held::Careen { .. } => all.push(
                "Velero leaves it to careen: `careen velero run` must be scheduled.".to_owned(),
            ),
            Held::Changed { now, .. } if !self.velero.is_left_to_others() => all.push(format!(
                "It was taken over, but Velero maintains it again every {now}: `careen velero \
                 takeover --apply` takes it over once more."
            )),
            Held::LeftToOthers { .. } | Held::Changed { .. } => all.push(format!(
                "Velero is told to maintain it every {} only, which is to leave it to others: \
                 `careen velero run` must be scheduled.",
                self.velero.frequency
            )),
            Held::Velero => {}
        }
    }
}

fn of_the_space(truth: &Truth, all: &mut Vec<String>) {
    if truth.waiting_bytes == Some(0) {
        all.push(
            "No bytes wait to become free. What deleted backups leave is found by the next full \
             cycle, and becomes free in the cycles after it."
                .to_owned(),
        );
    }
}

fn is_false_success(counted: Timestamp, last_full: Option<Timestamp>) -> bool {
    last_full.is_none_or(|last| counted.seconds() - last.seconds() > FALSE_SUCCESS_SECONDS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_success_long_after_the_last_full_cycle_is_none() {
        let day = |day: i64| Timestamp::from_seconds(day * 86_400);
        assert!(is_false_success(day(10), None));
        assert!(is_false_success(day(10), Some(day(7))));
        assert!(!is_false_success(day(10), Some(day(9))));
        assert!(!is_false_success(day(10), Some(day(11))));
    }
}
