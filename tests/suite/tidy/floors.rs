//! The floors of the house: imports go down only, siblings do not import each other.
//!
//! [`FLOORS`] is the one table. `crate::…` paths are followed wherever they stand, `super::…` paths
//! as far as they reach the root. A module that is in no floor is a violation too: a new one has to
//! choose its place.

use super::source::Source;

/// Every top module of `runtime/src` and its floor.
const FLOORS: [(&str, u8); 11] = [
    ("memory", 0),
    ("clock", 0),
    ("progress", 0),
    ("kopia", 1),
    ("spill", 1),
    ("blob", 2),
    ("repository", 3),
    ("maintenance", 4),
    ("plugin", 5),
    ("velero", 5),
    ("cli", 6),
];

/// Floors without network, async, clock, randomness, environment: times and random bytes are
/// arguments.
const PURE: [&str; 2] = ["kopia", "spill"];

/// Floors that `main.rs` may name.
const PROGRAM_USES: [&str; 2] = ["cli", "plugin"];

const SOURCES: &str = "runtime/src/";

fn floor(module: &str) -> Option<u8> {
    FLOORS
        .iter()
        .find(|(name, _)| *name == module)
        .map(|(_, floor)| *floor)
}

/// Returns the module path of a source of the runtime: `runtime/src/kopia/ecc.rs` is `[kopia,
/// ecc]`.
fn module_path(source: &Source) -> Option<Vec<&str>> {
    let inside = source.path.strip_prefix(SOURCES)?.strip_suffix(".rs")?;
    Some(inside.split('/').collect())
}

/// Returns the imports that go up, sideways or nowhere.
pub(super) fn imports(source: &Source) -> Vec<String> {
    let Some(path) = module_path(source) else {
        return Vec::new();
    };
    match path[..] {
        ["lib"] => return Vec::new(),
        ["main"] => return program(source),
        _ => {}
    }
    let Some(own) = floor(path[0]) else {
        return vec![format!(
            "{}: module {} is in no floor",
            source.path, path[0]
        )];
    };
    let mut violations = Vec::new();
    for (at, module) in uses(source, path.len()) {
        let what = match floor(&module) {
            _ if module == path[0] => continue,
            Some(theirs) if theirs < own => continue,
            Some(theirs) if theirs == own => format!("{} imports its sibling {module}", path[0]),
            Some(_) => format!("{} imports {module}, which lies above", path[0]),
            None => format!("{} imports crate::{module}, which is in no floor", path[0]),
        };
        violations.push(source.violation(at, &what));
    }
    violations
}

/// The program uses the command line, and the plugin floor to become the child that compiles.
fn program(source: &Source) -> Vec<String> {
    let paths = source.find(&["careen", ":", ":"]).into_iter();
    let wrong = paths.filter(|at| !PROGRAM_USES.contains(&source.at(at + 3)));
    let what = format!("the program uses more than {}", PROGRAM_USES.join(" and "));
    wrong.map(|at| source.violation(at, &what)).collect()
}

/// Returns the modules of the crate's root that are named, each with its place.
fn uses(source: &Source, depth: usize) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut open: Vec<bool> = Vec::new(); // brackets, true for those of a module
    let mut at = 0;
    while at < source.tokens.len() {
        match source.at(at) {
            "{" => open.push(at >= 2 && source.at(at - 2) == "mod"),
            "}" => drop(open.pop()),
            "crate" if source.matches(at + 1, &[":", ":"]) => {
                first_names(source, at + 3, &mut found);
            }
            "super" => {
                let start = at;
                let nested = open.iter().filter(|module| **module).count();
                let mut steps = 0;
                while source.matches(at, &["super", ":", ":"]) {
                    steps += 1;
                    at += 3;
                }
                if steps >= depth + nested {
                    first_names(source, at, &mut found);
                }
                at = at.max(start + 1);
                continue;
            }
            _ => {}
        }
        at += 1;
    }
    found
}

/// Reads the first name of a path, or of each path of a group.
fn first_names(source: &Source, at: usize, found: &mut Vec<(usize, String)>) {
    if source.at(at) != "{" {
        found.push((at, source.at(at).to_owned()));
        return;
    }
    let end = source.after_bracket(at) - 1;
    let (mut depth, mut first) = (0usize, true);
    for inside in at + 1..end {
        match source.at(inside) {
            "{" => depth += 1,
            "}" => depth = depth.saturating_sub(1),
            "," if depth == 0 => first = true,
            name if depth == 0 && first => {
                found.push((inside, name.to_owned()));
                first = false;
            }
            _ => {}
        }
    }
}

/// Compares the table with the modules that `lib.rs` has.
pub(super) fn table(sources: &[Source]) -> Vec<String> {
    let Some(library) = sources
        .iter()
        .find(|source| source.path == "runtime/src/lib.rs")
    else {
        return vec!["runtime/src/lib.rs was not found".to_owned()];
    };
    let places = library.find(&["mod"]).into_iter();
    let modules: Vec<&str> = places.map(|at| library.at(at + 1)).collect();
    let missing = FLOORS.iter().filter(|(name, _)| !modules.contains(name));
    let unknown = modules.iter().filter(|name| floor(name).is_none());
    let missing = missing.map(|(name, _)| format!("lib.rs has no module {name} of the table"));
    let unknown = unknown.map(|name| format!("lib.rs: module {name} is in no floor"));
    missing.chain(unknown).collect()
}

/// Returns what a pure floor must not use; its tests may.
pub(super) fn purity(source: &Source) -> Vec<String> {
    const FORBIDDEN: [&[&str]; 8] = [
        &["async"],
        &["await"],
        &["tokio"],
        &["getrandom"],
        &["std", ":", ":", "env"],
        &["std", ":", ":", "net"],
        &["Instant"],
        &["SystemTime"],
    ];
    let path = module_path(source).unwrap_or_default();
    if !path.first().is_some_and(|module| PURE.contains(module)) {
        return Vec::new();
    }
    // The format works on bytes only; the sorter has its scratch files.
    let files: &[&str] = &["std", ":", ":", "fs"];
    let forbidden = FORBIDDEN
        .into_iter()
        .chain((path[0] == "kopia").then_some(files));
    let tests = source.test_ranges();
    let mut violations = Vec::new();
    for texts in forbidden {
        let places = source.find(texts).into_iter();
        for at in places.filter(|at| !tests.iter().any(|range| range.contains(at))) {
            let what = format!("{} is pure, but uses {}", path[0], texts.concat());
            violations.push(source.violation(at, &what));
        }
    }
    violations
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broken(path: &str, text: &str) -> Vec<String> {
        imports(&Source::new(path, text))
    }

    #[test]
    fn going_down_is_fine() {
        let text = "use crate::{blob::Storage, kopia::{self, ecc}};\npub(crate) fn a() {}\n\
            fn b() { crate::memory::plan(); super::index::c() }\n// use crate::cli;\n\
            mod tests { use super::super::index; use crate::clock; }";
        assert_eq!(broken("runtime/src/repository/epochs.rs", text), [""; 0]);
        assert_eq!(broken("runtime/src/lib.rs", "pub mod cli;"), [""; 0]);
        assert_eq!(broken("tests/suite/a.rs", "use crate::cli;"), [""; 0]);
    }

    #[test]
    fn going_up_is_caught_in_every_form() {
        let cases = [
            "use crate::repository::Index;",
            "use crate::{clock::Clock, repository};",
            "pub use crate::repository::*;",
            "fn a() { crate::repository::open() }",
            "use super::super::repository;",
            "mod tests { use super::super::super::repository; }",
            "macro_rules! a { () => { $crate::repository::open() } }",
        ];
        for text in cases {
            let found = broken("runtime/src/kopia/ecc.rs", text);
            let expected = "runtime/src/kopia/ecc.rs:1: kopia imports repository, which lies above";
            assert_eq!(found, [expected], "{text}");
        }
    }

    #[test]
    fn siblings_and_strangers_are_caught() {
        let sibling = broken("runtime/src/spill.rs", "use crate::kopia;");
        assert_eq!(
            sibling,
            ["runtime/src/spill.rs:1: spill imports its sibling kopia"]
        );
        let sibling = broken("runtime/src/memory.rs", "\nuse super::clock;");
        assert_eq!(
            sibling,
            ["runtime/src/memory.rs:2: memory imports its sibling clock"]
        );
        assert_eq!(broken("runtime/src/cli.rs", "use crate::other;").len(), 1);
        assert_eq!(broken("runtime/src/cli.rs", "use crate::*;").len(), 1);
        assert_eq!(broken("runtime/src/other.rs", "").len(), 1);
    }

    #[test]
    fn the_program_uses_little() {
        let text = "fn main() { careen::cli::main(); careen::plugin::a(); careen::blob::open() }";
        assert_eq!(broken("runtime/src/main.rs", text).len(), 1);
    }

    #[test]
    fn the_table_and_the_library_are_compared() {
        let modules: Vec<_> = FLOORS
            .iter()
            .map(|(name, _)| format!("pub mod {name};"))
            .collect();
        let library = |text: &str| vec![Source::new("runtime/src/lib.rs", text)];
        assert_eq!(table(&library(&modules.concat())), [""; 0]);
        assert_eq!(table(&library(&modules[1..].concat())).len(), 1);
        assert_eq!(table(&library(&(modules.concat() + "mod extra;"))).len(), 1);
        assert_eq!(table(&[]).len(), 1);
    }

    #[test]
    fn a_pure_floor_stays_pure_outside_its_tests() {
        let text = "use std::fs;\nasync fn a() {}\n#[cfg(test)]\nmod tests { use std::env; }";
        let found = purity(&Source::new("runtime/src/kopia/pack.rs", text));
        assert_eq!(found.len(), 2, "{found:?}");
        let found = purity(&Source::new("runtime/src/spill/run.rs", text));
        assert_eq!(
            found,
            ["runtime/src/spill/run.rs:2: spill is pure, but uses async"]
        );
        assert_eq!(
            purity(&Source::new("runtime/src/blob/s3.rs", text)),
            [""; 0]
        );
    }
}
