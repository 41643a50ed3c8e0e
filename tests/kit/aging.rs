//! Makes a whole repository older, as if nobody had used it for a while.
//!
//! Moving the times of files is not enough where real Kopia goes on with a repository: its clock
//! cannot be moved, and contents, sessions, runs of maintenance and the deletion watermark have
//! times of their own inside of sealed blobs. These are opened, moved and sealed again under the
//! names that their new bytes ask for. Clients with a cache must connect again. Times of snapshots
//! and of manifests stay. Memory: one index blob.

use std::time::Duration;

use careen::clock::Timestamp;
use careen::kopia::index_builder::IndexBuilder;
use careen::maintenance::lease::Lease;
use careen::repository::Repository;
use careen::repository::schedule_store::{read_schedule, write_schedule};
use careen::repository::sessions::SessionInfo;

use crate::data_dir::{BlobFile, DataDir};
use crate::world::model;

/// A repository while it ages.
struct Aging<'a> {
    repository: &'a Repository,
    data: &'a DataDir,
    by: Duration,
    /// Old and new names of index blobs: the logs of repositories without epochs have them.
    names: Vec<(String, String)>,
}

/// Makes the schedule `by` older: what was run, what is due, and the lease of a run that died.
pub fn age_schedule(repository: &Repository, by: Duration) -> Result<(), String> {
    let told = |error: &dyn std::fmt::Display| error.to_string();
    let (mut schedule, _) = read_schedule(repository).map_err(|error| told(&error))?;
    for run in schedule.runs.values_mut().flatten() {
        (run.start, run.end) = (run.start.minus(by), run.end.minus(by));
    }
    schedule.next_full = schedule.next_full.minus(by);
    schedule.next_quick = schedule.next_quick.minus(by);
    if let Some(mut lease) = Lease::of(&schedule) {
        lease.until = lease.until.minus(by);
        let value = serde_json::to_value(lease).map_err(|error| told(&error))?;
        schedule.unknown.insert("careenLease".to_owned(), value);
    }
    write_schedule(repository, &schedule).map_err(|error| told(&error))?;
    Ok(())
}

/// Makes everything in the repository `by` older, in whole seconds. Nobody may be at work.
pub fn age(repository: &Repository, data: &DataDir, by: Duration) -> Result<(), String> {
    age_schedule(repository, by)?;
    let blobs = data.list().map_err(|error| error.to_string())?;
    let names = Vec::new();
    let mut aging = Aging {
        repository,
        data,
        by,
        names,
    };
    // Logs name index blobs, and clean-ups name logs.
    for kind in ["x", "n", "m", "l", "s", "p", "q", "k", "_"] {
        for blob in blobs.iter().filter(|blob| blob.id.starts_with(kind)) {
            aging
                .blob(blob)
                .map_err(|error| format!("{}: {error}", blob.id))?;
        }
    }
    Ok(())
}

impl Aging<'_> {
    fn blob(&mut self, blob: &BlobFile) -> Result<(), String> {
        let id = blob.id.as_str();
        if let Some(seconds) = id
            .strip_prefix("xw")
            .and_then(|seconds| seconds.parse().ok())
        {
            let seconds = Timestamp::from_seconds(seconds).minus(self.by).seconds();
            let bytes = self.data.read(id).map_err(|error| error.to_string())?;
            return self.replace(blob, format!("xw{seconds}"), &bytes);
        }
        match id.as_bytes()[0] {
            b'x' if id.contains('_') => self.index(blob),
            b'n' => self.index(blob),
            b'm' | b'l' => self.log(blob),
            b's' => self.session(blob),
            _ => {
                let time = blob.time.minus(self.by);
                self.data
                    .set_time(id, time)
                    .map_err(|error| error.to_string())
            }
        }
    }

    fn index(&mut self, blob: &BlobFile) -> Result<(), String> {
        let sealed = self
            .data
            .read(&blob.id)
            .map_err(|error| error.to_string())?;
        let crypto = &self.repository.crypto;
        let seconds = self.by.as_secs() as i64;
        let version = self.repository.format.index_version;
        let mut builder = IndexBuilder::new(version, crypto.hash.digest_bytes() + 1);
        for mut entry in model::entries_of(crypto, &blob.id, &sealed)? {
            entry.timestamp_seconds -= seconds;
            let added = builder.add(&entry.key, entry.as_new());
            added.map_err(|error| error.to_string())?;
        }
        // As Kopia: without epochs one blob must never have the name of another with the same
        // entries, of which a log says that it is replaced.
        let tail = self.repository.random();
        let plain = builder
            .build(Some(tail))
            .map_err(|error| error.to_string())?;
        self.seal(blob, &plain)
    }

    fn log(&mut self, blob: &BlobFile) -> Result<(), String> {
        let sealed = self
            .data
            .read(&blob.id)
            .map_err(|error| error.to_string())?;
        let plain = model::plaintext(&self.repository.crypto, &blob.id, &sealed)?;
        let mut text = String::from_utf8(plain).map_err(|error| error.to_string())?;
        for (old, new) in &self.names {
            text = text.replace(old, new);
        }
        self.seal(blob, text.as_bytes())
    }

    fn session(&mut self, blob: &BlobFile) -> Result<(), String> {
        let sealed = self
            .data
            .read(&blob.id)
            .map_err(|error| error.to_string())?;
        let plain = model::plaintext(&self.repository.crypto, &blob.id, &sealed)?;
        let told = |error: serde_json::Error| error.to_string();
        let mut info: SessionInfo = serde_json::from_slice(&plain).map_err(told)?;
        info.start_time = info.start_time.minus(self.by);
        info.checkpoint_time = info.checkpoint_time.minus(self.by);
        let json = serde_json::to_vec(&info).map_err(told)?;
        self.seal(blob, &json)
    }

    /// Seals other bytes under the same prefix and suffix, in place of `blob`.
    fn seal(&mut self, blob: &BlobFile, plain: &[u8]) -> Result<(), String> {
        let head = blob.id.split('-').next().unwrap_or_default();
        let suffix = blob.id.get(head.len() + 1..);
        let prefix = head.rfind('_').map_or(&head[..1], |at| &head[..=at]);
        let (nonce, mut sealed) = (self.repository.random(), Vec::new());
        let name = self
            .repository
            .crypto
            .seal(prefix, suffix, plain, nonce, &mut sealed);
        self.names.push((blob.id.clone(), name.clone()));
        self.replace(blob, name, &sealed)
    }

    fn replace(&self, blob: &BlobFile, name: String, bytes: &[u8]) -> Result<(), String> {
        let told = |error: std::io::Error| error.to_string();
        self.data.remove(&blob.id).map_err(told)?;
        self.data
            .write(&name, bytes, blob.time.minus(self.by))
            .map_err(told)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cycle::schedule;
    use crate::golden::Golden;
    use crate::index_work::open;

    /// The goal: every time goes back, and nothing else changes. Two index managers, sessions, a
    /// watermark; the logs of the one without epochs still hide what they hid.
    #[test]
    fn everything_is_older_and_nothing_else_is_changed() {
        let by = Duration::from_secs(36_000);
        for name in ["old-epochs", "v1-v0index", "sessions-foreign-owner"] {
            let golden = Golden::open(name);
            let repository = open(golden.path(), golden.password(), golden.now()).unwrap();
            let seen = |watermarks: bool| {
                let view = match repository.format.epochs.enabled {
                    true => {
                        let choice = model::Choice::First;
                        model::view(&repository.storage, &repository.crypto, choice)
                    }
                    false => model::view_v0(&repository.storage, &repository.crypto),
                };
                let listed = golden.data().list().unwrap();
                let marks = listed.into_iter().filter(|blob| blob.id.starts_with("xw"));
                let marks: Vec<_> = marks.map(|blob| blob.id).collect();
                assert!(!watermarks || !marks.is_empty(), "{name}");
                (view.unwrap(), marks)
            };
            let (before, marks) = seen(name == "old-epochs");
            let runs = schedule(&repository).runs;
            let blobs = || {
                let listed = golden.data().list().unwrap().into_iter();
                listed.filter(|blob| blob.id != "kopia.maintenance").count()
            };
            let count = blobs();
            age(&repository, &golden.data(), by).unwrap();
            let (after, moved) = seen(name == "old-epochs");
            assert_eq!(before.len(), after.len(), "{name}");
            for (key, mut entry) in before {
                entry.timestamp_seconds -= by.as_secs() as i64;
                assert_eq!(after.get(&key), Some(&entry), "{name}");
            }
            assert!(marks.is_empty() || marks != moved, "{name}");
            assert_eq!(blobs(), count, "{name}");
            let later = schedule(&repository).runs;
            for (task, runs) in runs {
                let starts = runs.iter().map(|run| run.start.minus(by));
                let found = later[&task].iter().map(|run| run.start);
                assert!(starts.eq(found), "{name}: {task}");
            }
        }
    }
}
