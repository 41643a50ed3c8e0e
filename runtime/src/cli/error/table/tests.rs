//! Every code of every floor has one row, and rows are as they must be: hints are sentences, codes
//! kebab-case, exit codes those that are documented.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::*;

fn sources(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push(path);
        }
    }
}

/// Finds the codes in a source: the texts inside `fn code`, without its comments.
fn codes(source: &str, into: &mut BTreeSet<String>) {
    for (start, _) in source.match_indices("fn code(&self) -> &'static str {") {
        let body = &source[start..];
        let body = &body[..body.find("\n    }\n").unwrap_or(body.len())];
        for line in body.lines().map(str::trim_start) {
            if !line.starts_with("//") && !line.starts_with("#[") {
                into.extend(line.split('"').skip(1).step_by(2).map(str::to_owned));
            }
        }
    }
}

/// Goal: no error without an exit code and a hint, no row without an error; method: read the
/// sources.
#[test]
fn every_code_of_every_floor_has_one_row() {
    let mut files = Vec::new();
    sources(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("src"),
        &mut files,
    );
    let mut found = BTreeSet::new();
    for file in files
        .iter()
        .filter(|file| !file.ends_with("error/table/tests.rs"))
    {
        codes(&std::fs::read_to_string(file).unwrap(), &mut found);
    }
    assert!(found.len() > 20, "the codes were found: {found:?}");
    let rows: BTreeSet<String> = super::rows().map(|row| row.code.to_owned()).collect();
    assert_eq!(rows.len(), super::rows().count(), "a code has two rows");
    let missing: Vec<_> = found.difference(&rows).collect();
    assert!(missing.is_empty(), "without a row: {missing:?}");
    let unused: Vec<_> = rows.difference(&found).collect();
    assert!(unused.is_empty(), "rows without an error: {unused:?}");
}

#[test]
fn hints_are_sentences_and_codes_are_kebab_case() {
    for row in rows() {
        assert!(row.hint.ends_with('.'), "{}: {}", row.code, row.hint);
        assert!(
            row.code
                .bytes()
                .all(|b| b == b'-' || b.is_ascii_lowercase() || b.is_ascii_digit())
        );
        assert_ne!(row.exit, Exit::Done, "{}", row.code);
    }
    assert_eq!(row_of("no-such-code").exit, Exit::SafetyStop);
}

/// Goal: the exit codes that are documented; method: one error of each kind.
#[test]
fn exit_codes_are_the_documented_ones() {
    for (code, exit) in [
        ("epochs-changed", 10),
        ("memory-too-small", 20),
        ("scratch-full", 20),
        ("scratch-tmpfs", 20),
        ("storage-io", 30),
        ("not-owner", 40),
        ("empty-owner", 40),
        ("wrong-password", 50),
        ("storage-permission", 50),
        ("keys-ended", 50),
        ("usage", 50),
        ("tag-mismatch", 60),
    ] {
        assert_eq!(row_of(code).exit as u8, exit, "{code}");
    }
}
