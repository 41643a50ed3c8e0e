//! What a plugin's project says of itself: a small JSON file that `careen plugin new` writes and
//! `careen plugin build` reads.
//!
//! Memory: the file, at most 64 KiB.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::cli::arguments::{Language, ProjectStrategy, parse_name};
use crate::cli::error::CliError;

/// The file's name.
pub(super) const MANIFEST: &str = "careen-plugin.json";

/// The other worlds, each with its strategy.
const OTHER_WORLDS: [(&str, &str); 1] = [("splitting-by-tenant", "splitting")];

/// Largest file: it has five short fields.
const MANIFEST_BYTES_MAX: u64 = 64 << 10;

/// A plugin's project.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Project {
    /// Version of the program that made it.
    pub(super) careen: String,
    /// The plugin's name.
    pub(super) name: String,
    /// What it decides.
    pub(super) strategy: String,
    /// What it is written in.
    pub(super) language: String,
    /// The world that it is built for, in Python and JavaScript, unless it is the strategy's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) world: Option<String>,
}

impl Project {
    /// Reads the project in `directory`.
    pub(super) fn read(directory: &Path) -> Result<Self, CliError> {
        let path = directory.join(MANIFEST);
        let refuse = |reason: String| CliError::PluginProject {
            path: path.clone(),
            reason,
        };
        let mut text = String::new();
        let file = File::open(&path).map_err(|error| refuse(error.to_string()))?;
        file.take(MANIFEST_BYTES_MAX)
            .read_to_string(&mut text)
            .map_err(|error| refuse(error.to_string()))?;
        let project: Self =
            serde_json::from_str(&text).map_err(|error| refuse(error.to_string()))?;
        // The name becomes a path.
        parse_name(&project.name).map_err(|reason| refuse(format!("name: {reason}")))?;
        project.known().map_err(refuse)?;
        Ok(project)
    }

    /// Returns the file's text.
    pub(super) fn to_json(&self) -> String {
        let text = serde_json::to_string_pretty(self);
        format!("{}\n", text.expect("strings are JSON"))
    }

    /// Returns the strategy and the language, or says that one is not known.
    pub(super) fn known(&self) -> Result<(ProjectStrategy, Language), String> {
        use clap::ValueEnum as _;
        let strategies = ProjectStrategy::value_variants().iter();
        let strategy = strategies.copied().find(|one| one.name() == self.strategy);
        let languages = Language::value_variants().iter();
        let language = languages.copied().find(|one| one.name() == self.language);
        match (strategy, language) {
            (None, _) => Err(format!("strategy {:?} is not known", self.strategy)),
            (_, None) => Err(format!("language {:?} is not known", self.language)),
            (Some(strategy), Some(language)) => match self.world() {
                world if world == self.strategy => Ok((strategy, language)),
                world if OTHER_WORLDS.contains(&(world, &self.strategy)) => {
                    Ok((strategy, language))
                }
                world => Err(format!("{:?} has no world {world:?}", self.strategy)),
            },
        }
    }

    /// Returns the world that it is built for.
    pub(super) fn world(&self) -> &str {
        self.world.as_deref().unwrap_or(&self.strategy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let read = |text: &str| {
            std::fs::write(directory.path().join(MANIFEST), text).unwrap();
            Project::read(directory.path()).map_err(|error| error.code())
        };
        let line = |name: &str, strategy: &str, language: &str| {
            let value = serde_json::json!({
                "careen": "0",
                "name": name,
                "strategy": strategy,
                "language": language,
            });
            value.to_string()
        };
        assert!(read(&line("a", "retention", "rust")).is_ok());
        let with_world = |strategy: &str| {
            let line = line("a", strategy, "python");
            line.replace('}', r#","world":"splitting-by-tenant"}"#)
        };
        assert!(read(&with_world("splitting")).is_ok());
        assert_eq!(read(&with_world("retention")), Err("plugin-project"));
        for text in [
            line("../a", "retention", "rust"),
            line("a", "sailing", "rust"),
            line("a", "retention", "cobol"),
            "{}".into(),
            String::new(),
        ] {
            assert_eq!(read(&text), Err("plugin-project"), "{text}");
        }
    }
}
