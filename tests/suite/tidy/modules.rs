//! Forgotten files: a source that no module declares is never compiled, a suite in it never runs.
//!
//! Starts at the root of each crate and follows `mod name;`. A file lies beside its parent's folder
//! (`name.rs` next to `name/`); `mod.rs` and `#[path]` are refused, so that one look finds a
//! module.

use std::collections::BTreeSet;

use super::source::Source;

/// Returns the roots of the crates among `sources`: libraries, programs, the suite, fuzz targets.
fn roots(sources: &[Source]) -> Vec<&str> {
    let paths = sources.iter().map(|source| source.path.as_str());
    let root = |path: &&str| {
        let parts: Vec<&str> = path.rsplit('/').collect();
        match parts[..] {
            ["lib.rs" | "main.rs", "src", ..] | ["build.rs", ..] => true,
            ["lib.rs", "kit", "tests"] | ["main.rs", "suite", "tests"] => true,
            ["main.rs", _, "benches", ..] => true,
            // Suites of a package itself: a file, or a folder with its main.rs.
            [_, "tests", _, ..] | ["main.rs", _, "tests", _, ..] => !path.contains("/src/"),
            [_, "fuzz_targets" | "bin" | "examples" | "benches", ..] => true,
            _ => false,
        }
    };
    paths.filter(root).collect()
}

/// Returns the files that no crate reaches, and modules in places where nobody looks.
pub(super) fn forgotten(sources: &[Source]) -> Vec<String> {
    let mut reached = BTreeSet::new();
    let mut open = roots(sources);
    let roots: BTreeSet<_> = open.iter().copied().collect();
    while let Some(path) = open.pop() {
        let Some(source) = sources.iter().find(|source| source.path == path) else {
            continue;
        };
        if reached.insert(path) {
            for child in children(source, roots.contains(path)) {
                open.extend(
                    sources
                        .iter()
                        .map(|other| &*other.path)
                        .filter(|path| *path == child),
                );
            }
        }
    }
    let mut violations = Vec::new();
    for source in sources {
        let path = source.path.as_str();
        if path.ends_with("/mod.rs") {
            violations.push(format!("{path}: write it as name.rs beside name/"));
        } else if !reached.contains(path) {
            violations.push(format!("{path}: no module declares this file"));
        }
        for at in source.find(&["#", "[", "path"]) {
            violations.push(source.violation(at, "a module in a place where nobody looks"));
        }
    }
    violations
}

/// Returns the files that the declarations `mod name;` of `source` mean.
fn children(source: &Source, root: bool) -> Vec<String> {
    let folder = match source.path.rsplit_once('/') {
        Some((folder, _)) if root => folder.to_owned(),
        _ => source.path.trim_end_matches(".rs").to_owned(),
    };
    let places = source.find(&["mod"]).into_iter();
    let declared = places.filter(|at| source.at(at + 2) == ";");
    declared
        .map(|at| format!("{folder}/{}.rs", source.at(at + 1)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(files: &[(&str, &str)]) -> Vec<String> {
        let sources: Vec<_> = files
            .iter()
            .map(|(path, text)| Source::new(path, text))
            .collect();
        forgotten(&sources)
    }

    #[test]
    fn declared_files_are_reached_through_their_parents() {
        let files = [
            ("tests/suite/main.rs", "mod a;\nmod inline { }"),
            ("tests/suite/a.rs", "mod b;"),
            ("tests/suite/a/b.rs", ""),
            ("tests/fuzz/fuzz_targets/c.rs", ""),
            ("runtime/tests/d.rs", ""),
            ("runtime/tests/e/main.rs", "mod f;"),
            ("runtime/tests/e/f.rs", ""),
        ];
        assert_eq!(found(&files), [""; 0]);
    }

    #[test]
    fn a_forgotten_file_is_caught() {
        let files = [
            ("tests/suite/main.rs", "// mod a;"),
            ("tests/suite/a.rs", "mod b;"),
            ("tests/suite/a/b.rs", ""),
            ("runtime/tests/e/f.rs", ""),
        ];
        let expected = [
            "tests/suite/a.rs: no module declares this file",
            "tests/suite/a/b.rs: no module declares this file",
            "runtime/tests/e/f.rs: no module declares this file",
        ];
        assert_eq!(found(&files), expected);
    }

    #[test]
    fn modules_in_odd_places_are_caught() {
        let files = [
            ("runtime/src/lib.rs", "#[path = \"x.rs\"] mod a;"),
            ("runtime/src/b/mod.rs", ""),
        ];
        assert_eq!(found(&files).len(), 2);
    }
}
