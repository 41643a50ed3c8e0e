//! What `careen plugin new` and `careen plugin build` can be asked, with the help that people read.
//!
//! No memory cost.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// Options of `plugin new`.
#[derive(Debug, Args)]
pub(in crate::cli) struct NewArguments {
    /// Name of the plugin: small letters, digits and hyphens
    #[arg(value_name = "NAME", value_parser = parse_name)]
    pub(in crate::cli) name: String,
    /// What it decides
    #[arg(long, value_enum)]
    pub(in crate::cli) strategy: ProjectStrategy,
    /// What it is written in
    #[arg(long, value_enum)]
    pub(in crate::cli) language: Language,
    /// Where to make it; must not exist yet, or be empty [default: NAME]
    #[arg(long, value_name = "DIR")]
    pub(in crate::cli) directory: Option<PathBuf>,
}

/// Options of `plugin build`.
#[derive(Debug, Args)]
pub(in crate::cli) struct BuildArguments {
    /// The plugin's directory, as `careen plugin new` made it
    #[arg(value_name = "DIR", default_value = ".")]
    pub(in crate::cli) directory: PathBuf,
}

/// What a plugin decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum ProjectStrategy {
    /// Which snapshots of a source are kept
    Retention,
    /// The shape of index sets, and which packs are rewritten
    Splitting,
    /// Which due tasks run now, and how much they may use
    Scheduling,
}

/// What a plugin is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum Language {
    /// Rust, built by cargo; the smallest and fastest components
    Rust,
    /// Python, built by componentize-py
    Python,
    /// JavaScript, built by componentize-qjs
    Javascript,
}

pub(in crate::cli) const NEW_HELP: &str = "\
Writes a small working strategy with a test, the contract, and a README with the commands. It
builds with that language's ordinary tools; nothing is downloaded here.

Examples:
  careen plugin new nights --strategy scheduling --language rust
  careen plugin new tenants --strategy retention --language python --directory plugins/tenants";

pub(in crate::cli) const BUILD_HELP: &str = "\
Runs the language's own tools (cargo, componentize-py, componentize-qjs) in the directory, and
writes NAME.wasm there. A tool that is missing is named, with the command that installs it; none
is installed here.

Examples:
  careen plugin build nights
  cd nights && careen plugin build";

impl ProjectStrategy {
    /// The name in the contract and after `--plugin`.
    pub(in crate::cli) fn name(self) -> &'static str {
        match self {
            Self::Retention => "retention",
            Self::Splitting => "splitting",
            Self::Scheduling => "scheduling",
        }
    }
}

impl Language {
    /// The name as it is written after `--language`.
    pub(in crate::cli) fn name(self) -> &'static str {
        match self {
            Self::Rust => "rust",
            Self::Python => "python",
            Self::Javascript => "javascript",
        }
    }
}

/// Longest name of a plugin: it becomes a package's name and a file's.
const NAME_BYTES_MAX: usize = 40;

/// Accepts what cargo, npm and a file system all take as a name.
pub(in crate::cli) fn parse_name(text: &str) -> Result<String, String> {
    let first = text.starts_with(|char: char| char.is_ascii_lowercase());
    let last = !text.ends_with('-');
    let all = |char: char| char.is_ascii_lowercase() || char.is_ascii_digit() || char == '-';
    match first && last && text.chars().all(all) && text.len() <= NAME_BYTES_MAX {
        true => Ok(text.to_owned()),
        false => Err(format!(
            "expected a small letter, then small letters, digits and hyphens, {NAME_BYTES_MAX} at \
             most"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_packages() {
        for name in ["a", "night-shift", "tenants2"] {
            assert_eq!(parse_name(name).as_deref(), Ok(name));
        }
        let long = "a".repeat(NAME_BYTES_MAX + 1);
        for name in ["", "-a", "a-", "A", "a_b", "2a", "a/b", "..", "a b", &long] {
            assert!(parse_name(name).is_err(), "{name}");
        }
    }
}
