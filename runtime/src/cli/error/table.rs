//! The table: what each error code means for the caller and for the person.
//!
//! One row a code, of all floors. A test reads the floors' sources and fails when a code has no
//! row, or a row no code. No memory cost.

mod plugins;
mod velero;

use super::Exit;

/// What an error code means.
#[derive(Clone, Copy, Debug)]
pub(in crate::cli) struct Row {
    /// The floor's stable code.
    pub(in crate::cli) code: &'static str,
    /// What the process exits with.
    pub(in crate::cli) exit: Exit,
    /// What to do next.
    pub(in crate::cli) hint: &'static str,
}

const fn row(code: &'static str, exit: Exit, hint: &'static str) -> Row {
    Row { code, exit, hint }
}

/// For a code that is not in the table, which a test excludes.
const UNKNOWN: Row = row("unknown", Exit::SafetyStop, REPORT);

fn rows() -> impl Iterator<Item = &'static Row> {
    TABLE.iter().chain(plugins::ROWS).chain(velero::ROWS)
}

/// Returns the row of `code`.
pub(in crate::cli) fn row_of(code: &str) -> Row {
    let found = rows().find(|row| row.code == code);
    found.copied().unwrap_or(UNKNOWN)
}

const REPORT: &str = "\
    This is a defect of careen, and nothing was deleted; please report it with the message \
     above.";
const RETRY: &str = "\
    The storage did not answer as it should; run again, nothing is lost.";
const DAMAGED: &str = "\
    Nothing was changed. `careen verify --index` shows all that is damaged, `kopia index \
     inspect --all` Kopia's view; restore the blob from a copy of the storage if there is one.";
const LOST_PACK: &str = "\
    Nothing was deleted. `careen verify --index` names every content that is lost with it; restore \
     the pack blob from a copy of the storage, or back the files up again.";
const NEWER: &str = "\
    The repository is from a newer Kopia; use a newer careen.";
const MORE_MEMORY: &str =
    "Give --memory at least what the message asks for, and the container the same limit.";
const SCRATCH: &str = "\
    Give --scratch a directory on a disk with that much free space (in Kubernetes: a volume, \
     or an emptyDir without `medium: Memory`).";
/// Every error code of every floor but those of [`plugins`] and [`velero`].
const TABLE: &[Row] = &[
    // cli
    row(
        "usage",
        Exit::Configuration,
        "`careen --help` shows the commands, `careen COMMAND --help` their options.",
    ),
    row(
        "config-file",
        Exit::Configuration,
        "Give --config the file that `kopia repository connect` wrote, usually \
         ~/.config/kopia/repository.config.",
    ),
    row(
        "strategies-file",
        Exit::Configuration,
        "Nothing was changed. Mend the file that --strategies or CAREEN_STRATEGIES names; the \
         README has an example.",
    ),
    row(
        "config-server",
        Exit::Configuration,
        "Maintenance needs the storage itself: connect Kopia to the repository directly, not \
         through a server.",
    ),
    row(
        "config-read-only",
        Exit::Configuration,
        "Connect Kopia without --readonly, or give the repository's directory instead of \
         --config.",
    ),
    row(
        "unsupported-storage",
        Exit::Configuration,
        "Repositories may be in a directory, in S3 (s3://BUCKET/PREFIX), in Google Cloud Storage \
         (gs://BUCKET/PREFIX) or in Azure (az://CONTAINER/PREFIX).",
    ),
    row(
        "other-prefix",
        Exit::Configuration,
        "A prefix is a raw string in front of every blob's name, as in Kopia: give the one that \
         the message names, with or without its slash.",
    ),
    row(
        "no-password",
        Exit::Configuration,
        "Set KOPIA_PASSWORD, or give --password-file FILE. Velero's default password is \
         static-passw0rd.",
    ),
    row(
        "password-file",
        Exit::Configuration,
        "Check the path, and that this user may read the file.",
    ),
    row(
        "plugins-missing",
        Exit::Configuration,
        "Index compaction asks a strategy how to cut the index; use a careen that was built \
         with the feature `plugins`.",
    ),
    row(
        "clock-setting",
        Exit::Configuration,
        "CAREEN_NOW must be an RFC 3339 time, such as 2026-01-02T03:04:05Z.",
    ),
    row("signals", Exit::SafetyStop, REPORT),
    row(
        "output",
        Exit::Storage,
        "What was told is not complete, the work itself is: let standard output go where it can \
         be written.",
    ),
    row(
        "demo-directory",
        Exit::Configuration,
        "Give --keep a directory that is empty or not there yet; for the temporary files, \
         --scratch a directory that this user may write to.",
    ),
    row(
        "demo-run",
        Exit::SafetyStop,
        "Run the command that is shown by hand; with --keep DIR the repository is left for it.",
    ),
    row(
        "plugin-project",
        Exit::Configuration,
        "`careen plugin new` makes a project in a directory that is empty or not there yet; \
         `careen plugin build` builds such a one.",
    ),
    row(
        "plugin-tool",
        Exit::Configuration,
        "Run the command that is shown, then build again. careen installs nothing by itself.",
    ),
    row(
        "plugin-build",
        Exit::Configuration,
        "The tool said above why it stopped; the project's README.md has its commands.",
    ),
    row(
        "plugin-configuration-file",
        Exit::Configuration,
        "Give --configuration a file with JSON, at most 64 KiB; `careen plugin check` shows the \
         plugin's schema.",
    ),
    row(
        "plugin-recording",
        Exit::Configuration,
        "Give -o a file in a directory that this user may write to, with room for it.",
    ),
    row(
        "plugin-batches",
        Exit::Configuration,
        "Give what `careen plugin record` wrote, whole and unchanged; record again if in doubt.",
    ),
    row(
        "plugin-test",
        Exit::SafetyStop,
        "The rows above say what is wrong. An answer that differs follows from something besides \
         the question: the order of a hash map, an address, or what an instance remembers.",
    ),
    // memory, kopia
    row("memory-too-small", Exit::Budget, MORE_MEMORY),
    row("malformed", Exit::SafetyStop, DAMAGED),
    row(
        "corrupt-format",
        Exit::SafetyStop,
        "Nothing was changed. Without kopia.repository and kopia.blobcfg nobody can read the \
         repository: restore the one that the message names from a copy of the storage. For a \
         repository from before Kopia 0.9, `kopia repository repair` finds a copy in its packs.",
    ),
    row("tag-mismatch", Exit::SafetyStop, DAMAGED),
    row(
        "wrong-password",
        Exit::Configuration,
        "Check KOPIA_PASSWORD or --password-file: `kopia repository connect` must work with \
         the same password. Velero's default is static-passw0rd.",
    ),
    row(
        "unsupported-algorithm",
        Exit::Configuration,
        "Current Kopia versions do not have the algorithm either; migrate the repository with \
         the Kopia that wrote it.",
    ),
    row("newer-format", Exit::Configuration, NEWER),
    row("unknown-required-feature", Exit::Configuration, NEWER),
    // blob
    row("blob-not-found", Exit::Storage, RETRY),
    row(
        "blob-already-exists",
        Exit::Configuration,
        "There is a repository already; nothing was replaced. Choose another place.",
    ),
    row(
        "storage-permission",
        Exit::Configuration,
        "Run as the user who owns the repository's files, or let this user, or these credentials, \
         list, read, write and delete: `careen doctor --write-probe` says what is missing.",
    ),
    row(
        "storage-io",
        Exit::Storage,
        "The disk or its mount answered with an error: check it (dmesg, free space, mount), \
         then run again; nothing is lost.",
    ),
    row(
        "missing-shards",
        Exit::Configuration,
        "The folder layout is unknown, and never guessed: restore the .shards file from a copy. \
         Only a repository from before Kopia 0.9 never had one: there a newer `kopia repository \
         connect` writes it.",
    ),
    row(
        "corrupt-shards",
        Exit::Configuration,
        "Restore the file .shards from a copy of the repository; without it no blob can be found.",
    ),
    row(
        "no-folder",
        Exit::Configuration,
        "Check the path and that the disk is mounted.",
    ),
    row(
        "not-a-folder",
        Exit::Configuration,
        "Give the directory of the repository, not a file in it; Kopia's config file goes to \
         --config.",
    ),
    row("invalid-blob-name", Exit::SafetyStop, REPORT),
    row(
        "storage-unsupported",
        Exit::Configuration,
        "This storage lacks what the repository asks for: object locks need a bucket that was made \
         with them. `careen doctor --write-probe` says what to do.",
    ),
    row(
        "storage-setup",
        Exit::Configuration,
        "Check the repository's URL and the options of its storage; `careen doctor` looks at them \
         one by one.",
    ),
    row(
        "storage-credentials",
        Exit::Configuration,
        "Give them where the message looked for them; `careen doctor` shows which are taken.",
    ),
    row(
        "keys-ended",
        Exit::Configuration,
        "Get new keys and run again; nothing is lost. A session token in the environment stays as \
         it is: keys of a file, a role or a profile are renewed in the middle of a run.",
    ),
    row(
        "storage-refused",
        Exit::Configuration,
        "The storage answered that it will not do this; `careen doctor` shows what it lets us do.",
    ),
    row(
        "transfer-budget",
        Exit::Budget,
        "Nothing is lost; run again with a larger budget of bytes, or without one.",
    ),
    row("storage-transient", Exit::Storage, RETRY),
    row("storage-crashed", Exit::Storage, RETRY),
    row("blob-too-large", Exit::SafetyStop, DAMAGED),
    // spill
    row("scratch-full", Exit::Budget, SCRATCH),
    row(
        "scratch-io",
        Exit::Budget,
        "Give --scratch a directory on a healthy disk that this user may write to.",
    ),
    row("scratch-tmpfs", Exit::Budget, SCRATCH),
    row(
        "scratch-locked",
        Exit::Budget,
        "Another run uses the directory; run again, or give --scratch another one.",
    ),
    row("run-unsorted", Exit::SafetyStop, REPORT),
    row("sort-unfinished", Exit::SafetyStop, REPORT),
    row(
        "sort-runs",
        Exit::Budget,
        "Give more --memory: larger buffers make fewer runs.",
    ),
    row("sort-plan", Exit::Budget, "Give more --memory."),
    // repository
    row(
        "no-repository",
        Exit::Configuration,
        "Give the root of the repository, where kopia.repository.f is; a Velero repository is \
         one directory for each namespace.",
    ),
    row(
        "upgrade-lock",
        Exit::OtherMaintainer,
        "Somebody upgrades the repository: wait until it is done, or end the upgrade with \
         `kopia repository upgrade rollback`.",
    ),
    row(
        "too-many",
        Exit::Budget,
        "The repository is larger than this version was made for; please report the message.",
    ),
    row(
        "refused-entry",
        Exit::SafetyStop,
        "Kopia's clients would refuse this entry, so it is not copied. Please report it; \
         `kopia index inspect` with the blob's ID shows it.",
    ),
    row(
        "incomplete-index",
        Exit::SafetyStop,
        "Index blobs are missing: compacting now would lose entries for good. Run `careen \
         verify --index`; restore the missing blobs, or wait if a writer or a copy of the \
         storage is still at work.",
    ),
    row(
        "lost-compaction",
        Exit::SafetyStop,
        "Index blobs are missing: compacting now would lose entries for good. Restore the output \
         or the inputs from a copy of the storage; `kopia index recover` finds entries in packs.",
    ),
    row(
        "index-blob-vanished",
        Exit::Storage,
        "Another maintainer deletes index blobs at the same time: stop it, then run again. If \
         there is none, the .shards file is not this repository's.",
    ),
    row("content-not-found", Exit::SafetyStop, DAMAGED),
    row("missing-pack", Exit::SafetyStop, LOST_PACK),
    row("short-pack", Exit::SafetyStop, LOST_PACK),
    row("interrupted", Exit::SafetyStop, REPORT),
    // maintenance, strategies
    row(
        "not-owner",
        Exit::OtherMaintainer,
        "If nobody else maintains this repository, act as its owner with --owner and the \
         recorded name, or take it over with `kopia maintenance set --owner me`.",
    ),
    row(
        "empty-owner",
        Exit::OtherMaintainer,
        "Set one with `kopia maintenance set --owner default@default` (Velero) or `--owner \
         me`, then run again.",
    ),
    row(
        "index-manager-v0",
        Exit::Configuration,
        "The repository is from before epochs, where no two index sets can differ: there is \
         nothing to repair. `careen verify --index` shows what is wrong.",
    ),
    row(
        "unequal-index-sets",
        Exit::SafetyStop,
        "Readers may miss entries, so nothing was replaced or deleted. See them with `careen \
         index repair --dry-run`, repair with `careen index repair`.",
    ),
    row(
        "epochs-changed",
        Exit::PartDone,
        "Another maintainer is at work on the same repository: stop it, then run again; \
         nothing is lost.",
    ),
    row(
        "clock-skew",
        Exit::SafetyStop,
        "Correct the clock of this machine, or of the storage; ages of blobs cannot be trusted.",
    ),
    row(
        "index-write-too-slow",
        Exit::PartDone,
        "The storage is very slow; what was written was taken back. Run again.",
    ),
    row("halted", Exit::SafetyStop, REPORT),
    row("scratch-halted", Exit::SafetyStop, REPORT),
    row(
        "format-changed",
        Exit::PartDone,
        "Somebody changed the repository's parameters or its password: run again.",
    ),
    row(
        "stopped",
        Exit::PartDone,
        "Run again: the next run goes on where this one was.",
    ),
    row(
        "taken-over",
        Exit::OtherMaintainer,
        "Only one maintainer at a time: find the other one (`kopia maintenance info` shows its \
         runs), and stop one of the two. Nothing is lost.",
    ),
    row(
        "leased",
        Exit::OtherMaintainer,
        "Wait until that run has ended. If it has crashed, run again after the time that is shown, \
         or let --retry-lock=20m wait for it.",
    ),
    row(
        "locked",
        Exit::OtherMaintainer,
        "Wait until the other process has ended; it holds the lock file beside Kopia's config.",
    ),
    row(
        "lock-file",
        Exit::Configuration,
        "Kopia locks this file beside its config during maintenance, and so do we: make its \
         directory writable, or give the repository's directory instead of --config.",
    ),
    row(
        "not-in-cycle",
        Exit::Configuration,
        "Choose another --mode, or leave --task out.",
    ),
    row("retention-not-extended", Exit::Storage, RETRY),
    row(
        "unexplained-packs",
        Exit::SafetyStop,
        "Nothing was deleted. An index blob may be lost: restore it from a copy of the storage, or \
         look with `kopia index recover`. If these packs may go, run with --accept-unexplained.",
    ),
    row(
        "watermark-backwards",
        Exit::SafetyStop,
        "The clock of this machine, or of the one that wrote the watermark, is wrong: correct it.",
    ),
    row(
        "too-many-expired",
        Exit::SafetyStop,
        "Nothing was deleted. If `careen snapshot expire` without --delete shows what you mean, \
         allow it with --max-expire-percent.",
    ),
];

#[cfg(test)]
mod tests;
