//! The tools of each language: which program, with which arguments, and where to get it.
//!
//! Programs are looked for in the project first (`.venv`, `node_modules`), then on `PATH`. Memory:
//! a list of at most 1 MiB that cargo writes.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::project::Project;
use super::templates::{COMPONENTIZE_PY, COMPONENTIZE_QJS};
use crate::cli::error::CliError;

/// The target that Rust plugins are compiled for.
const TARGET: &str = "wasm32-unknown-unknown";

/// Flags of the compiler for that target; they replace those of the project's configuration.
const TARGET_FLAGS: &str = "CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUSTFLAGS";

/// Keeps the first memory at 128 KiB instead of 1 MiB; the project's configuration has it too.
const SMALL_STACK: &str = "-Clink-arg=-zstack-size=65536";

/// Most of cargo's metadata that is read.
const METADATA_BYTES_MAX: u64 = 1 << 20;

const GET_RUST: &str = "Rust is installed by rustup; see https://rust-lang.org/tools/install";
const GET_TARGET: &str = "rustup target add wasm32-unknown-unknown";

/// Builds a Rust plugin.
pub(super) fn cargo(directory: &Path, project: &Project, component: &Path) -> Result<(), CliError> {
    let flags = std::env::var(TARGET_FLAGS).unwrap_or_default();
    if !has_target(directory, &flags) {
        return Err(missing(
            &format!("the standard library for {TARGET}"),
            GET_TARGET,
        ));
    }
    let mut build = Command::new("cargo");
    build.args(["build", "--release", "--target", TARGET]);
    if !flags.is_empty() && !flags.contains("stack-size") {
        build.env(TARGET_FLAGS, format!("{flags} {SMALL_STACK}"));
    }
    run(build.current_dir(directory), "cargo", GET_RUST)?;
    let built = target_directory(directory)?.join(TARGET).join("release");
    let built = built.join(format!("{}.wasm", project.name.replace('-', "_")));
    let copied = std::fs::copy(&built, component);
    copied.map(drop).map_err(|error| CliError::PluginProject {
        path: built,
        reason: error.to_string(),
    })
}

/// Builds a Python plugin.
pub(super) fn componentize_py(
    directory: &Path,
    project: &Project,
    component: &Path,
) -> Result<(), CliError> {
    let get = format!(
        "python3 -m venv .venv && .venv/bin/pip install componentize-py=={COMPONENTIZE_PY}   (in \
         the plugin's directory)"
    );
    let program = local(directory, ".venv/bin/componentize-py", "componentize-py");
    let mut build = Command::new(program);
    build.args(["--wit-path", "wit", "--world", project.world()]);
    build.args(["componentize", "--stub-wasi", "strategy", "--output"]);
    build.arg(file_name(component));
    run(build.current_dir(directory), "componentize-py", &get)
}

/// Builds a JavaScript plugin.
pub(super) fn componentize_qjs(
    directory: &Path,
    project: &Project,
    component: &Path,
) -> Result<(), CliError> {
    let get = format!(
        "npm install   (in the plugin's directory; it gets componentize-qjs {COMPONENTIZE_QJS})"
    );
    let program = local(
        directory,
        "node_modules/.bin/componentize-qjs",
        "componentize-qjs",
    );
    let mut build = Command::new(program);
    build.args(["--wit", "wit", "--world", project.world()]);
    build.args(["--js", "strategy.js", "--stub-wasi", "--sync", "--output"]);
    build.arg(file_name(component));
    run(build.current_dir(directory), "componentize-qjs", &get)
}

fn file_name(path: &Path) -> &Path {
    path.file_name().map_or(path, Path::new)
}

/// The program in the project, else by its name.
fn local(directory: &Path, inside: &str, name: &str) -> PathBuf {
    let path = directory.join(inside);
    match std::path::absolute(&path) {
        Ok(path) if path.is_file() => path,
        _ => name.into(),
    }
}

fn missing(tool: &str, get: &str) -> CliError {
    CliError::PluginTool {
        tool: tool.to_owned(),
        get: get.to_owned(),
    }
}

/// Runs a tool; what it prints goes to standard error.
fn run(command: &mut Command, name: &str, get: &str) -> Result<(), CliError> {
    command.stdin(Stdio::null()).stdout(io::stderr());
    let failed = |reason: String| CliError::PluginBuild {
        command: name.to_owned(),
        reason,
    };
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(failed(status.to_string())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(missing(name, get)),
        Err(error) => Err(failed(error.to_string())),
    }
}

/// Whether the compiler finds a standard library for the target; true where it cannot be asked,
/// since the build then says why.
fn has_target(directory: &Path, flags: &str) -> bool {
    let mut ask = Command::new("rustc");
    ask.args(["--print", "target-libdir", "--target", TARGET]);
    ask.args(flags.split_whitespace());
    ask.current_dir(directory).stdin(Stdio::null());
    let Ok(said) = ask.output() else {
        return true;
    };
    let said = String::from_utf8_lossy(&said.stdout).trim().to_owned();
    let Ok(entries) = std::fs::read_dir(said) else {
        return false;
    };
    let mut names = entries.flatten().map(|entry| entry.file_name());
    names.any(|name| name.to_string_lossy().starts_with("libstd-"))
}

/// Where cargo puts what it builds.
fn target_directory(directory: &Path) -> Result<PathBuf, CliError> {
    let failed = |reason: String| CliError::PluginBuild {
        command: "cargo metadata".to_owned(),
        reason,
    };
    let cannot = |error: io::Error| failed(error.to_string());
    let mut child = Command::new("cargo")
        .args([
            "metadata",
            "--no-deps",
            "--offline",
            "--format-version",
            "1",
        ])
        .current_dir(directory)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(cannot)?;
    let mut text = String::new();
    if let Some(stdout) = child.stdout.take() {
        let mut bounded = stdout.take(METADATA_BYTES_MAX);
        bounded.read_to_string(&mut text).map_err(cannot)?;
    }
    child.wait().map_err(cannot)?;
    let metadata: serde_json::Value =
        serde_json::from_str(&text).map_err(|error| failed(error.to_string()))?;
    let found = metadata
        .get("target_directory")
        .and_then(|path| path.as_str());
    found
        .map(PathBuf::from)
        .ok_or_else(|| failed("names no target directory".into()))
}
