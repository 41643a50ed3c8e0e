//! The table's part about plugins: what keeps a strategy from being asked, or its answer from being
//! taken.
//!
//! No memory cost.

use super::{Exit, Row, row};

const STRATEGY: &str = "\
    The task that asked it has changed nothing. Fix the plugin, or leave it out to use the \
     built-in one.";

const LIMIT: &str = "\
    The task that asked it has changed nothing. Fix the plugin, or give it more: `memory`, `fuel` \
     and `deadline` of the strategies file, --plugin-memory and --plugin-fuel of `careen plugin` \
     commands.";

/// Error codes of plugins.
pub(super) const ROWS: &[Row] = &[
    row("plugin-answer-refused", Exit::SafetyStop, STRATEGY),
    row(
        "plugin-argument",
        Exit::Configuration,
        "Write --plugin STRATEGY=FILE or STRATEGY=FILE@blake3:HEX, for `careen plugin compile` \
         FILE or FILE@blake3:HEX; the command's help names the strategy.",
    ),
    row(
        "plugin-io",
        Exit::Configuration,
        "Check the plugin's path, and that this user may read it and write to the plugin cache.",
    ),
    row("plugin-too-large", Exit::Configuration, STRATEGY),
    row(
        "plugin-digest-mismatch",
        Exit::Configuration,
        "The file is not the one that was pinned: get the right one, or pin the new one after \
         you have checked it.",
    ),
    row("plugin-compile", Exit::Configuration, STRATEGY),
    row(
        "plugin-compile-limit",
        Exit::Configuration,
        "Nothing was changed. Compile it where there is more memory: `careen plugin compile \
         --compile-memory SIZE`, with the --plugin-cache of the run; or give more --memory.",
    ),
    row("plugin-import", Exit::Configuration, STRATEGY),
    row("plugin-world", Exit::Configuration, STRATEGY),
    row("plugin-description", Exit::Configuration, STRATEGY),
    row(
        "plugin-schema",
        Exit::Configuration,
        "Nothing was changed. Its author must mend the schema: `EVOLUTION.md` of the SDK names \
         the keywords.",
    ),
    row(
        "plugin-configuration",
        Exit::Configuration,
        "Nothing was changed. Mend the table [STRATEGY.configuration] of the strategies file; the \
         plugin's schema says what it may hold.",
    ),
    row("plugin-trap", Exit::SafetyStop, STRATEGY),
    row("plugin-fuel", Exit::SafetyStop, LIMIT),
    row("plugin-deadline", Exit::SafetyStop, LIMIT),
    row("plugin-memory", Exit::SafetyStop, LIMIT),
    row("plugin-data", Exit::SafetyStop, STRATEGY),
    row("plugin-error", Exit::SafetyStop, STRATEGY),
];
