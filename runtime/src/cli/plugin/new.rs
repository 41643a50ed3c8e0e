//! `careen plugin new`: writes a project that builds with its language's ordinary tools.
//!
//! Everything that it writes is part of the program: the templates and the SDK's own source, from
//! the same files that the house itself is built from. It works from the bare binary, asks no
//! network, and writes only into a directory that is new or empty. Memory: the templates, 200 KB of
//! the program's file.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::project::{MANIFEST, Project};
use super::templates::{self, Template};
use crate::cli::Console;
use crate::cli::arguments::NewArguments;
use crate::cli::error::{CliError, Exit};
use crate::cli::output::Kind;

/// What was made.
#[derive(Serialize)]
struct Made {
    directory: PathBuf,
    files: usize,
    #[serde(flatten)]
    project: Project,
}

impl fmt::Display for Made {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let directory = self.directory.display();
        let (strategy, source) = (&self.project.strategy, templates::source(&self.project));
        writeln!(
            f,
            "made {directory}: a {strategy} strategy, {} files",
            self.files
        )?;
        writeln!(f, "edit   {directory}/{source}")?;
        writeln!(f, "read   {directory}/README.md   (test, build, use)")?;
        write!(f, "build  careen plugin build {directory}")
    }
}

/// Runs the command.
pub(super) fn run(console: &Console, arguments: &NewArguments) -> Result<Exit, CliError> {
    let directory = match &arguments.directory {
        Some(directory) => directory.clone(),
        None => PathBuf::from(&arguments.name),
    };
    console.started("plugin new", &directory.display().to_string());
    let project = Project {
        careen: env!("CARGO_PKG_VERSION").to_owned(),
        name: arguments.name.clone(),
        strategy: arguments.strategy.name().to_owned(),
        language: arguments.language.name().to_owned(),
        world: None,
    };
    let files = write(&directory, &project)?;
    let made = Made {
        directory,
        files,
        project,
    };
    console.output.both(Kind::Report, "project", &made);
    Ok(Exit::Done)
}

/// Writes the project into `directory`; returns the number of files.
fn write(directory: &Path, project: &Project) -> Result<usize, CliError> {
    let refuse = |path: &Path, reason: String| CliError::PluginProject {
        path: path.to_owned(),
        reason,
    };
    let cannot = |path: &Path, error: std::io::Error| refuse(path, error.to_string());
    fs::create_dir_all(directory).map_err(|error| cannot(directory, error))?;
    let mut entries = fs::read_dir(directory).map_err(|error| cannot(directory, error))?;
    if entries.next().is_some() {
        return Err(refuse(directory, "is not empty".into()));
    }
    let manifest = Template {
        path: MANIFEST,
        text: &project.to_json(),
    };
    let mut count = 0;
    for template in templates::of(project).into_iter().chain([manifest]) {
        let path = directory.join(template.path);
        let parent = path.parent().unwrap_or(directory);
        fs::create_dir_all(parent).map_err(|error| cannot(parent, error))?;
        let text = templates::filled(template.text, project);
        fs::write(&path, text).map_err(|error| cannot(&path, error))?;
        count += 1;
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum as _;

    use super::*;
    use crate::cli::arguments::{Language, ProjectStrategy};

    fn project(language: Language, strategy: ProjectStrategy) -> Project {
        Project {
            careen: "1".into(),
            name: "night-shift".into(),
            strategy: strategy.name().into(),
            language: language.name().into(),
            world: None,
        }
    }

    /// Goal: a project is whole; method: every one is written, read back, and searched for marks.
    #[test]
    fn every_language_and_strategy_is_written_whole() {
        for language in Language::value_variants() {
            for strategy in ProjectStrategy::value_variants() {
                let directory = tempfile::tempdir().unwrap();
                let root = directory.path().join("in/here");
                let project = project(*language, *strategy);
                let count = write(&root, &project).unwrap();
                assert!(count > 6, "{count}");
                assert_eq!(Project::read(&root).unwrap(), project);
                for template in templates::of(&project) {
                    let text = fs::read_to_string(root.join(template.path)).unwrap();
                    for mark in [
                        "@NAME@",
                        "@STRATEGY@",
                        "@MEMORY@",
                        "@CONFIGURATION@",
                        "@VERSION@",
                    ] {
                        assert!(!text.contains(mark), "{}: {mark}", template.path);
                    }
                }
                assert!(root.join(templates::source(&project)).is_file());
            }
        }
    }

    #[test]
    fn nothing_is_written_over() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("mine"), "x").unwrap();
        let project = project(Language::Rust, ProjectStrategy::Retention);
        let error = write(directory.path(), &project).unwrap_err();
        assert_eq!(error.code(), "plugin-project");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }
}
