//! What we depend on: sources, doubled versions, licences, and why each is there.
//!
//! Works offline, on `Cargo.toml`, `Cargo.lock` and the manifests that Cargo has unpacked anyway.
//! Allowed licences and doubled packages stand in `deny.toml`, which `cargo deny` reads too: one
//! list for both.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use serde_json::Value;

/// How the source of a package from a registry begins; our manifests name no other registry than
/// Cargo's own.
const REGISTRY: &str = "registry+";

/// The release of wasmtime with long-term support that we stay on.
const WASMTIME: &str = "48";

/// Packages that stand in `Cargo.lock` but are never built: we do not run on Windows.
const UNBUILT: &str = "windows";

/// A package of `Cargo.lock`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Package {
    name: String,
    version: String,
    source: Option<String>,
}

fn read(name: &str) -> String {
    fs::read_to_string(kit::workspace_root().join(name)).expect("the workspace has this file")
}

/// Reads `Cargo.lock`.
pub(super) fn lock() -> Vec<Package> {
    packages(&read("Cargo.lock"))
}

/// Reads the workspace's `Cargo.toml`.
pub(super) fn manifest() -> String {
    read("Cargo.toml")
}

/// Returns the licences that `deny.toml` allows.
pub(super) fn allowed() -> Vec<String> {
    strings_of(&read("deny.toml"), "allow")
}

/// Returns the packages that `deny.toml` lets come in more than one version.
pub(super) fn skipped() -> Vec<String> {
    let text = read("deny.toml");
    let listed = ["skip", "skip-tree"]
        .map(|list| strings_of(&text, list))
        .concat();
    listed
        .into_iter()
        .map(|one| one.split('@').next().unwrap_or_default().to_owned())
        .collect()
}

/// Asks Cargo, offline, for name and licence of every package that this machine builds.
pub(super) fn licences() -> Vec<(String, String)> {
    let about = cargo(&["-vV"]);
    let host = about.lines().find_map(|line| line.strip_prefix("host: "));
    let platform = format!(
        "--filter-platform={}",
        host.expect("cargo -vV names the host")
    );
    let asked = cargo(&[
        "metadata",
        "--offline",
        "--locked",
        "--format-version=1",
        &platform,
    ]);
    let metadata: Value = serde_json::from_str(&asked).expect("cargo writes JSON");
    let packages = metadata["packages"]
        .as_array()
        .expect("cargo lists packages");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    packages
        .iter()
        .map(|package| (text(&package["name"]), text(&package["license"])))
        .collect()
}

fn cargo(arguments: &[&str]) -> String {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments).current_dir(kit::workspace_root());
    let ended = command.output().expect("cargo runs where cargo test runs");
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(
        ended.status.success(),
        "cargo {}: {said}",
        arguments.join(" ")
    );
    String::from_utf8_lossy(&ended.stdout).into_owned()
}

fn packages(lock: &str) -> Vec<Package> {
    let value = |block: &str, key: &str| {
        let line = block
            .lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix(" = "));
        line.map(|value| value.trim_matches('"').to_owned())
    };
    let blocks = lock.split("[[package]]").skip(1);
    blocks
        .map(|block| Package {
            name: value(block, "name").unwrap_or_default(),
            version: value(block, "version").unwrap_or_default(),
            source: value(block, "source"),
        })
        .collect()
}

/// Returns packages from anywhere but the public registry.
pub(super) fn sources(packages: &[Package]) -> Vec<String> {
    let foreign = packages.iter().filter_map(|package| {
        let source = package
            .source
            .as_ref()
            .filter(|source| !source.starts_with(REGISTRY))?;
        Some(format!(
            "{} {}: from {source}",
            package.name, package.version
        ))
    });
    foreign.collect()
}

/// Returns packages with more than one incompatible version, unless they are named in `skipped`.
pub(super) fn doubled(packages: &[Package], skipped: &[String]) -> Vec<String> {
    let mut kinds: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for package in packages
        .iter()
        .filter(|package| !package.name.starts_with(UNBUILT))
    {
        let versions = kinds.entry(&package.name).or_default();
        let major = compatible(&package.version);
        if !versions.contains(&major) {
            versions.push(major);
        }
    }
    let named = |name: &str| skipped.iter().any(|one| one == name);
    let mut violations = Vec::new();
    for (name, versions) in &kinds {
        match (versions.len() > 1, named(name)) {
            (true, false) => violations.push(format!("{name}: versions {}", versions.join(", "))),
            (false, true) => violations.push(format!("{name}: deny.toml skips it for nothing")),
            _ => {}
        }
    }
    violations
}

/// Cuts a version to the part that Cargo holds incompatible.
fn compatible(version: &str) -> String {
    let parts: Vec<&str> = version.split('.').collect();
    let zeros = parts.iter().take_while(|part| **part == "0").count();
    parts[..parts.len().min(zeros + 1)].join(".")
}

/// Returns dependencies of the workspace without a comment that says what they are for.
pub(super) fn explained(manifest: &str) -> Vec<String> {
    let lines = manifest
        .lines()
        .skip_while(|line| line.trim() != "[workspace.dependencies]");
    let listed = lines.skip(1).take_while(|line| !line.starts_with('['));
    let mute = listed.filter(|line| line.contains(" = ") && !line.starts_with('#'));
    let mute = mute.filter(|line| line.split_once(" # ").is_none_or(|(_, why)| why.len() < 4));
    mute.map(|line| format!("Cargo.toml: nothing says what this is for: {line}"))
        .collect()
}

/// Returns what is wrong with the pin of wasmtime.
pub(super) fn wasmtime(manifest: &str, packages: &[Package]) -> Vec<String> {
    let mut violations = Vec::new();
    let line = manifest
        .lines()
        .find(|line| line.starts_with("wasmtime "))
        .unwrap_or_default();
    if !line.contains(&format!("version = \"{WASMTIME}\"")) {
        violations.push(format!(
            "Cargo.toml: wasmtime is not pinned to {WASMTIME}: {line}"
        ));
    }
    for package in packages.iter().filter(|package| package.name == "wasmtime") {
        if compatible(&package.version) != WASMTIME {
            violations.push(format!("Cargo.lock: wasmtime {}", package.version));
        }
    }
    violations
}

/// Returns packages whose licence is not covered by `allowed`.
pub(super) fn licensed(packages: &[(String, String)], allowed: &[String]) -> Vec<String> {
    let bad = packages
        .iter()
        .filter(|(_, licence)| !covers(licence, allowed));
    bad.map(|(name, licence)| format!("{name}: licence {licence:?}"))
        .collect()
}

/// Evaluates an SPDX expression; `/` is the old way to write OR.
fn covers(expression: &str, allowed: &[String]) -> bool {
    let spaced = expression
        .replace('/', " OR ")
        .replace('(', " ( ")
        .replace(')', " ) ");
    let mut words: Vec<&str> = spaced.split_whitespace().rev().collect();
    let all = any_of(&mut words, allowed);
    all == Some(true) && words.is_empty()
}

fn any_of(words: &mut Vec<&str>, allowed: &[String]) -> Option<bool> {
    let mut result = all_of(words, allowed)?;
    while words.last() == Some(&"OR") {
        words.pop();
        result |= all_of(words, allowed)?;
    }
    Some(result)
}

fn all_of(words: &mut Vec<&str>, allowed: &[String]) -> Option<bool> {
    let mut result = one_of(words, allowed)?;
    while words.last() == Some(&"AND") {
        words.pop();
        result &= one_of(words, allowed)?;
    }
    Some(result)
}

fn one_of(words: &mut Vec<&str>, allowed: &[String]) -> Option<bool> {
    let mut name = words.pop()?.to_owned();
    if name == "(" {
        let inside = any_of(words, allowed)?;
        return (words.pop()? == ")").then_some(inside);
    }
    if words.last() == Some(&"WITH") {
        words.pop();
        name = format!("{name} WITH {}", words.pop()?);
    }
    Some(allowed.contains(&name))
}

/// Reads a list of strings out of TOML: `key = [ "a", { crate = "b", … }, ]`, comments allowed.
fn strings_of(toml: &str, key: &str) -> Vec<String> {
    let start = format!("{key} = [");
    let mut lines = toml.lines().skip_while(|line| !line.starts_with(&start));
    let Some(first) = lines.next() else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for line in std::iter::once(&first[start.len()..]).chain(lines) {
        let code = line.split('#').next().unwrap_or_default();
        let entry = code.split_once("crate = ").map_or(code, |(_, rest)| rest);
        let first_only = entry.len() != code.len();
        let strings = entry.split('"').skip(1).step_by(2);
        let taken = if first_only { 1 } else { usize::MAX };
        found.extend(strings.take(taken).map(str::to_owned));
        if code.trim_end().ends_with(']') {
            break;
        }
    }
    found
}

#[cfg(test)]
mod tests;
