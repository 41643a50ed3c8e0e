//! Why a plugin could not be loaded or did not answer.
//!
//! Every error names the plugin with its digest and limits; the failure says what ended it and how
//! much it had used. Text that comes from a plugin is made harmless first: it ends up on terminals
//! and in logs. Memory: texts of at most [`GUEST_TEXT_BYTES_MAX`] bytes.

use std::io;

use crate::maintenance::strategy::StrategyError;

use super::limits::LimitExceeded;

/// Longest text of a plugin that is passed on: a screen full.
pub(super) const GUEST_TEXT_BYTES_MAX: usize = 1_000;

/// A plugin and its failure.
#[derive(Debug, thiserror::Error)]
#[error("plugin {plugin}: {failure}")]
pub struct PluginError {
    /// Name, digest, limits; only the name while the file has not been read.
    pub plugin: String,
    /// What happened.
    pub failure: Failure,
}

/// What ended a plugin.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// `--plugin` is not written as it should be.
    #[error("bad argument: {0}; expected STRATEGY=FILE or STRATEGY=FILE@blake3:HEX")]
    Argument(String),
    /// The file cannot be read.
    #[error("{operation}: {source}")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The file is larger than any plugin may be.
    #[error("the file is larger than {bytes_max} bytes")]
    TooLarge {
        /// The limit.
        bytes_max: u64,
    },
    /// The file is not the pinned one.
    #[error("pinned to blake3 {wanted}, but the file has {found}")]
    DigestMismatch {
        /// The pin.
        wanted: String,
        /// The file's digest.
        found: String,
    },
    /// The compiler refused it: not a component, invalid, or a proposal that is switched off.
    #[error("cannot be compiled: {0}")]
    Compile(String),
    /// Compiling hit a limit.
    #[error("compiling was stopped: {0}")]
    CompileLimit(String),
    /// It wants something from the host that no plugin gets.
    #[error("imports {0}, but a plugin gets careen:strategy/host-log and nothing else")]
    Import(String),
    /// It is a component, but not one for this strategy or this version.
    #[error("is not written for this host: {0}")]
    World(String),
    /// What it says about itself cannot be used.
    #[error("describes itself with {0}")]
    Description(String),
    /// The schema of its configuration cannot be used.
    #[error("exports a configuration schema that cannot be used: {0}")]
    Schema(String),
    /// Its configuration does not fit, or it takes none.
    #[error("is not configured as it must be: {0}")]
    Configuration(String),
    /// It trapped.
    #[error("{reason} (used: {usage})")]
    Trap {
        /// The trap, and the plugin's last words.
        reason: String,
        /// Memory, fuel and time used.
        usage: String,
    },
    /// It used up its fuel.
    #[error("ran out of fuel (used: {usage})")]
    Fuel {
        /// Memory, fuel and time used.
        usage: String,
    },
    /// It used up its time.
    #[error("reached its deadline (used: {usage})")]
    Deadline {
        /// Memory and time used.
        usage: String,
    },
    /// It wanted more memory than it may have.
    #[error("{limit} (used: {usage})")]
    Memory {
        /// The limit and the wish.
        limit: LimitExceeded,
        /// Memory, fuel and time used.
        usage: String,
    },
    /// It handed over something that the component ABI refuses, or more of something than the host
    /// takes.
    #[error("refused by the host: {reason} (used: {usage})")]
    Data {
        /// What is wrong with it.
        reason: String,
        /// Memory, fuel and time used.
        usage: String,
    },
    /// It answered with an error of its own.
    #[error("says: {reason} (used: {usage})")]
    Answered {
        /// Its words.
        reason: String,
        /// Memory, fuel and time used, of the largest call.
        usage: String,
    },
}

impl Failure {
    /// Returns the stable code of this failure.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Argument(_) => "plugin-argument",
            Self::Io { .. } => "plugin-io",
            Self::TooLarge { .. } => "plugin-too-large",
            Self::DigestMismatch { .. } => "plugin-digest-mismatch",
            Self::Compile(_) => "plugin-compile",
            Self::CompileLimit(_) => "plugin-compile-limit",
            Self::Import(_) => "plugin-import",
            Self::World(_) => "plugin-world",
            Self::Description(_) => "plugin-description",
            Self::Schema(_) => "plugin-schema",
            Self::Configuration(_) => "plugin-configuration",
            Self::Trap { .. } => "plugin-trap",
            Self::Fuel { .. } => "plugin-fuel",
            Self::Deadline { .. } => "plugin-deadline",
            Self::Memory { .. } => "plugin-memory",
            Self::Data { .. } => "plugin-data",
            Self::Answered { .. } => "plugin-error",
        }
    }

    /// Returns a function that turns an I/O error of `operation` into a failure.
    pub(super) fn io(operation: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { operation, source }
    }
}

impl PluginError {
    /// Returns the stable code of this error.
    pub fn code(&self) -> &'static str {
        self.failure.code()
    }
}

impl From<PluginError> for StrategyError {
    fn from(error: PluginError) -> Self {
        Self::Failed {
            code: error.failure.code(),
            reason: error.failure.to_string(),
            strategy: error.plugin,
        }
    }
}

/// Makes a plugin's text harmless: cuts it, and replaces characters that steer a terminal.
pub(super) fn harmless(text: &str) -> String {
    let mut end = text.len().min(GUEST_TEXT_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    without_controls(&text[..end])
}

/// Replaces characters that steer a terminal by spaces.
pub(super) fn without_controls(text: &str) -> String {
    let steers = |character: char| {
        character.is_control()
            || matches!(character, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.replace(steers, " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_a_plugin_cannot_steer_a_terminal_and_is_cut_between_characters() {
        assert_eq!(harmless("a\u{1b}[2Jb\nc\u{202e}d"), "a [2Jb c d");
        let long = harmless(&"ä".repeat(GUEST_TEXT_BYTES_MAX));
        assert_eq!(long.len(), GUEST_TEXT_BYTES_MAX);
        assert_eq!(harmless(&"€".repeat(400)).len(), 999);
    }

    #[test]
    fn a_strategy_error_keeps_code_name_and_reason() {
        let error = PluginError {
            plugin: "mine (blake3 00)".into(),
            failure: Failure::Fuel {
                usage: "fuel 10 of 10".into(),
            },
        };
        assert_eq!(error.code(), "plugin-fuel");
        let error = StrategyError::from(error);
        assert_eq!(error.code(), "plugin-fuel");
        assert_eq!(
            error.to_string(),
            "strategy mine (blake3 00): ran out of fuel (used: fuel 10 of 10)"
        );
    }
}
