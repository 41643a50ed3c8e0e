//! The files of a new plugin's project: templates, the contract, the SDK's own source.
//!
//! All are part of the program, from the files that the house itself uses, so there is one source
//! of each. Marks such as `@NAME@` are filled in. Memory: pages of the program's file.

use super::project::Project;
use crate::cli::arguments::{Language, ProjectStrategy};
use crate::plugin::CONTRACT_VERSION;

/// The version of componentize-py that projects ask for; CI builds with the same.
pub(super) const COMPONENTIZE_PY: &str = "0.25.1";

/// The version of componentize-qjs that projects ask for; CI builds with the same.
pub(super) const COMPONENTIZE_QJS: &str = "0.4.5";

/// The version of wit-bindgen that the SDK is generated for, as in the workspace.
const WIT_BINDGEN: &str = "0.61";

/// A file of a project.
#[derive(Clone, Copy)]
pub(super) struct Template<'a> {
    /// Where it goes, below the project's directory.
    pub(super) path: &'a str,
    /// Its text, with marks.
    pub(super) text: &'a str,
}

/// Templates, each as `place <- file below guest-sdk`.
macro_rules! files {
    ($($path:literal <- $file:literal,)*) => {
        &[$(Template {
            path: $path,
            text: include_str!(concat!("../../../../guest-sdk/", $file)),
        }),*]
    };
}

const RUST: &[Template<'_>] = files! {
    "Cargo.toml" <- "templates/rust/Cargo.toml.in",
    "README.md" <- "templates/rust/README.md.in",
    ".gitignore" <- "templates/rust/gitignore.in",
    ".cargo/config.toml" <- "templates/rust/cargo-config.toml.in",
    "careen-guest-sdk/Cargo.toml" <- "templates/rust/sdk-Cargo.toml.in",
    "careen-guest-sdk/README.md" <- "README.md",
    "careen-guest-sdk/EVOLUTION.md" <- "EVOLUTION.md",
    "careen-guest-sdk/wit/strategy.wit" <- "wit/strategy.wit",
    "careen-guest-sdk/src/bindings.rs" <- "src/bindings.rs",
    "careen-guest-sdk/src/calendar.rs" <- "src/calendar.rs",
    "careen-guest-sdk/src/configured.rs" <- "src/configured.rs",
    "careen-guest-sdk/src/kit.rs" <- "src/kit.rs",
    "careen-guest-sdk/src/kit/packs.rs" <- "src/kit/packs.rs",
    "careen-guest-sdk/src/kit/scheduling.rs" <- "src/kit/scheduling.rs",
    "careen-guest-sdk/src/kit/sources.rs" <- "src/kit/sources.rs",
    "careen-guest-sdk/src/kit/splitting.rs" <- "src/kit/splitting.rs",
    "careen-guest-sdk/src/kit/tenants.rs" <- "src/kit/tenants.rs",
    "careen-guest-sdk/src/lib.rs" <- "src/lib.rs",
    "careen-guest-sdk/src/retention.rs" <- "src/retention.rs",
    "careen-guest-sdk/src/retention_bindings.rs" <- "src/retention_bindings.rs",
    "careen-guest-sdk/src/scheduling.rs" <- "src/scheduling.rs",
    "careen-guest-sdk/src/scheduling_bindings.rs" <- "src/scheduling_bindings.rs",
    "careen-guest-sdk/src/splitting.rs" <- "src/splitting.rs",
    "careen-guest-sdk/src/tenants.rs" <- "src/tenants.rs",
    "careen-guest-sdk/src/tenants_bindings.rs" <- "src/tenants_bindings.rs",
};

const PYTHON: &[Template<'_>] = files! {
    "README.md" <- "templates/python/README.md.in",
    "requirements.txt" <- "templates/python/requirements.txt.in",
    "bindings/componentize_py_types.py" <- "templates/python/bindings/componentize_py_types.py",
    "bindings/wit_world/__init__.py" <- "templates/python/bindings/wit_world/__init__.py",
    "bindings/wit_world/exports/__init__.py"
        <- "templates/python/bindings/wit_world/exports/__init__.py",
    "bindings/wit_world/exports/about.py" <- "templates/python/bindings/wit_world/exports/about.py",
    "bindings/wit_world/exports/repack.py"
        <- "templates/python/bindings/wit_world/exports/repack.py",
    "bindings/wit_world/exports/retain.py"
        <- "templates/python/bindings/wit_world/exports/retain.py",
    "bindings/wit_world/exports/schedule.py"
        <- "templates/python/bindings/wit_world/exports/schedule.py",
    "bindings/wit_world/exports/split.py" <- "templates/python/bindings/wit_world/exports/split.py",
    "bindings/wit_world/exports/tenants.py"
        <- "templates/python/bindings/wit_world/exports/tenants.py",
    "bindings/wit_world/imports/__init__.py"
        <- "templates/python/bindings/wit_world/imports/__init__.py",
    "bindings/wit_world/imports/host_log.py"
        <- "templates/python/bindings/wit_world/imports/host_log.py",
    ".gitignore" <- "templates/python/gitignore.in",
    "wit/strategy.wit" <- "wit/strategy.wit",
};

const JAVASCRIPT: &[Template<'_>] = files! {
    "README.md" <- "templates/javascript/README.md.in",
    "package.json" <- "templates/javascript/package.json.in",
    ".gitignore" <- "templates/javascript/gitignore.in",
    "wit/strategy.wit" <- "wit/strategy.wit",
};

const STRATEGIES: &[Template<'_>] = files! {
    "strategies.toml" <- "templates/strategies.toml.in",
};

/// The files of a language and a strategy alone.
fn own(language: Language, strategy: ProjectStrategy) -> &'static [Template<'static>] {
    use Language::{Javascript, Python, Rust};
    use ProjectStrategy::{Retention, Scheduling, Splitting};
    match (language, strategy) {
        (Rust, Retention) => files! { "src/lib.rs" <- "templates/rust/retention.rs.in", },
        (Rust, Scheduling) => files! { "src/lib.rs" <- "templates/rust/scheduling.rs.in", },
        (Rust, Splitting) => files! { "src/lib.rs" <- "templates/rust/splitting.rs.in", },
        (Python, Retention) => files! {
            "strategy.py" <- "templates/python/retention.py",
            "test_strategy.py" <- "templates/python/test_retention.py",
        },
        (Python, Scheduling) => files! {
            "strategy.py" <- "templates/python/scheduling.py",
            "test_strategy.py" <- "templates/python/test_scheduling.py",
        },
        (Python, Splitting) => files! {
            "strategy.py" <- "templates/python/splitting.py",
            "test_strategy.py" <- "templates/python/test_splitting.py",
        },
        (Javascript, Retention) => files! {
            "strategy.js" <- "templates/javascript/retention.js",
            "strategy.test.js" <- "templates/javascript/retention.test.js",
        },
        (Javascript, Scheduling) => files! {
            "strategy.js" <- "templates/javascript/scheduling.js",
            "strategy.test.js" <- "templates/javascript/scheduling.test.js",
        },
        (Javascript, Splitting) => files! {
            "strategy.js" <- "templates/javascript/splitting.js",
            "strategy.test.js" <- "templates/javascript/splitting.test.js",
        },
    }
}

/// Returns all files of a project; none where its language or strategy is not known.
pub(super) fn of<'a>(project: &Project) -> Vec<Template<'a>> {
    let Ok((strategy, language)) = project.known() else {
        return Vec::new();
    };
    let shared = match language {
        Language::Rust => RUST,
        Language::Python => PYTHON,
        Language::Javascript => JAVASCRIPT,
    };
    [shared, STRATEGIES, own(language, strategy)].concat()
}

/// The file that its author changes first.
pub(super) fn source(project: &Project) -> &'static str {
    match project.known() {
        Ok((_, Language::Python)) => "strategy.py",
        Ok((_, Language::Javascript)) => "strategy.js",
        _ => "src/lib.rs",
    }
}

/// Fills in the marks of a template.
pub(super) fn filled(text: &str, project: &Project) -> String {
    let Ok((strategy, language)) = project.known() else {
        return text.to_owned();
    };
    // What a runtime takes before it has answered anything, and some more.
    let memory = match language {
        Language::Rust | Language::Javascript => "8MiB",
        Language::Python => "16MiB",
    };
    let configuration = match strategy {
        ProjectStrategy::Retention => "keep-days = 30\nkeep-weeks = 52",
        ProjectStrategy::Scheduling => "closed-from-hour = 8\nclosed-to-hour = 20",
        ProjectStrategy::Splitting => "short-percent = 40",
    };
    let shown = shown_by(strategy, "strategies.toml");
    [
        ("@USE@", &*shown),
        ("@NAME@", &project.name),
        ("@STRATEGY@", &project.strategy),
        ("@MEMORY@", memory),
        ("@CONFIGURATION@", configuration),
        ("@CONTRACT@", CONTRACT_VERSION),
        ("@VERSION@", env!("CARGO_PKG_VERSION")),
        ("@RUST_VERSION@", env!("CARGO_PKG_RUST_VERSION")),
        ("@WIT_BINDGEN@", WIT_BINDGEN),
        ("@COMPONENTIZE_PY@", COMPONENTIZE_PY),
        ("@COMPONENTIZE_QJS@", COMPONENTIZE_QJS),
    ]
    .iter()
    .fold(text.to_owned(), |text, (mark, value)| {
        text.replace(mark, value)
    })
}

/// The command that shows what a plugin decides; it changes nothing.
pub(super) fn shown_by(strategy: ProjectStrategy, file: &str) -> String {
    let command = match strategy {
        ProjectStrategy::Retention => "snapshot expire",
        ProjectStrategy::Scheduling | ProjectStrategy::Splitting => "plan",
    };
    format!("careen {command} REPOSITORY --strategies {file}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text_of(path: &str) -> String {
        let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
        std::fs::read_to_string(format!("{root}/{path}")).unwrap()
    }

    /// Goal: no file of the SDK is forgotten; method: its directories against the list.
    #[test]
    fn the_whole_sdk_is_part_of_a_project() {
        let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../guest-sdk");
        for folder in ["src", "src/kit", "wit"] {
            let entries = std::fs::read_dir(format!("{root}/{folder}")).unwrap();
            for entry in entries {
                let entry = entry.unwrap();
                if entry.path().is_dir() {
                    continue;
                }
                let name = entry.file_name().into_string().unwrap();
                let path = format!("careen-guest-sdk/{folder}/{name}");
                assert!(RUST.iter().any(|file| file.path == path), "{path}");
            }
        }
    }

    #[test]
    fn versions_are_those_of_the_workspace() {
        let workspace = text_of("Cargo.toml");
        let wanted = format!("wit-bindgen = {{ version = \"{WIT_BINDGEN}\"");
        assert!(workspace.contains(&wanted), "{wanted}");
        let tools = text_of(".ci/guest-tools.sh");
        for wanted in [
            format!("componentize_py={COMPONENTIZE_PY}\n"),
            format!("componentize_qjs={COMPONENTIZE_QJS}\n"),
        ] {
            assert!(tools.contains(&wanted), "{wanted}");
        }
    }
}
