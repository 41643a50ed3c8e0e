//! Words that may stand only in some places, or nowhere.
//!
//! The clock is read in one file, so that suites can move it; only the command line prints;
//! `unsafe` lives in named files; nothing is left for later; and no module is called by a name that
//! says nothing.

use super::source::Source;

/// The file that reads the system's clock.
const CLOCK: &str = "runtime/src/clock.rs";

/// The floor that prints, as a file and as a folder.
const PRINTERS: [&str; 2] = ["runtime/src/cli.rs", "runtime/src/cli/"];

/// Files with `unsafe`, each with the reason.
const UNSAFE: [(&str, &str); 6] = [
    ("runtime/src/spill/mapped.rs", "maps scratch files"),
    (
        "runtime/src/plugin/engine.rs",
        "loads native code that we compiled",
    ),
    ("guest-sdk/src/bindings.rs", "generated: the component ABI"),
    (
        "guest-sdk/src/retention_bindings.rs",
        "generated: the component ABI",
    ),
    (
        "guest-sdk/src/scheduling_bindings.rs",
        "generated: the component ABI",
    ),
    (
        "guest-sdk/src/tenants_bindings.rs",
        "generated: the component ABI",
    ),
];

/// Names that attract everything and say nothing.
const NAMES: [&str; 8] = [
    "util", "utils", "common", "helper", "helpers", "manager", "managers", "misc",
];

fn product(source: &Source) -> bool {
    ["runtime/src/", "guest-sdk/src/", "plugins/"]
        .iter()
        .any(|at| source.path.starts_with(at))
}

fn outside_tests(source: &Source, texts: &[&str]) -> Vec<usize> {
    let tests = source.test_ranges();
    let places = source.find(texts).into_iter();
    places
        .filter(|at| !tests.iter().any(|range| range.contains(at)))
        .collect()
}

/// Returns readings of the clock outside of `clock.rs`; tests of the product may not read it
/// either.
pub(super) fn clock(source: &Source) -> Vec<String> {
    if !product(source) || source.path == CLOCK {
        return Vec::new();
    }
    let reads = ["Instant", "SystemTime"].into_iter().flat_map(|kind| {
        let places = source.find(&[kind, ":", ":", "now"]).into_iter();
        places.map(move |at| source.violation(at, &format!("{kind}::now outside of clock.rs")))
    });
    reads.collect()
}

/// Returns printing outside of the command line; tests may print.
pub(super) fn printing(source: &Source) -> Vec<String> {
    if !product(source) || PRINTERS.iter().any(|path| source.path.starts_with(path)) {
        return Vec::new();
    }
    let prints = ["println", "eprintln", "print", "eprint", "dbg"]
        .into_iter()
        .flat_map(|name| {
            let places = outside_tests(source, &[name, "!"]).into_iter();
            places.map(move |at| {
                source.violation(at, &format!("{name}! outside of the command line"))
            })
        });
    prints.collect()
}

/// Returns `unsafe` outside of the named files.
pub(super) fn unsafe_code(source: &Source) -> Vec<String> {
    if UNSAFE.iter().any(|(path, _)| source.path == *path) {
        return Vec::new();
    }
    let places = source.find(&["unsafe"]).into_iter();
    places
        .map(|at| source.violation(at, "unsafe outside of the files that may"))
        .collect()
}

/// Returns what was left for later.
pub(super) fn unfinished(source: &Source) -> Vec<String> {
    let left = ["todo", "unimplemented"].into_iter().flat_map(|name| {
        let places = source.find(&[name, "!"]).into_iter();
        places.map(move |at| source.violation(at, &format!("{name}!")))
    });
    left.collect()
}

/// Returns files, modules and types with names that say nothing.
pub(super) fn names(source: &Source) -> Vec<String> {
    let mut violations = Vec::new();
    let stem = source.path.strip_suffix(".rs").unwrap_or(&source.path);
    for part in stem.split('/').filter(|part| says_nothing(part)) {
        violations.push(format!("{}: the name {part} says nothing", source.path));
    }
    for keyword in ["mod", "struct", "enum", "trait", "type"] {
        for at in source.find(&[keyword]) {
            let name = source.at(at + 1);
            if says_nothing(name) {
                violations.push(source.violation(at, &format!("the name {name} says nothing")));
            }
        }
    }
    violations
}

/// Splits `snake_case`, `kebab-case` and `CamelCase` into words and looks for one that says
/// nothing.
fn says_nothing(name: &str) -> bool {
    let mut words = String::new();
    for char in name.chars() {
        if char.is_uppercase() {
            words.push('_');
        }
        words.extend(char.to_lowercase());
    }
    words.split(['_', '-']).any(|word| NAMES.contains(&word))
}

#[cfg(test)]
mod tests {
    use super::*;

    type Rule = fn(&Source) -> Vec<String>;

    fn found(rule: Rule, path: &str, text: &str) -> usize {
        rule(&Source::new(path, text)).len()
    }

    #[test]
    fn readings_of_the_clock_are_caught() {
        let text = "fn a() { std::time::Instant::now(); SystemTime::now() } // Instant::now()";
        assert_eq!(found(clock, "runtime/src/blob/s3.rs", text), 2);
        assert_eq!(found(clock, "plugins/a/src/lib.rs", text), 2);
        assert_eq!(found(clock, CLOCK, text), 0);
        assert_eq!(found(clock, "tests/kit/cgroup.rs", text), 0);
    }

    #[test]
    fn printing_is_caught_but_not_in_tests() {
        let text = "fn a() { println!(\"\"); eprint!(\"\") }\n#[cfg(test)]\nmod t { dbg!(1) }";
        assert_eq!(found(printing, "runtime/src/memory.rs", text), 2);
        assert_eq!(found(printing, "runtime/src/cli.rs", text), 0);
        assert_eq!(found(printing, "runtime/src/cli/report.rs", text), 0);
        assert_eq!(found(printing, "runtime/src/client.rs", text), 2);
    }

    #[test]
    fn unsafe_is_caught() {
        let text = "#![deny(unsafe_code)]\nfn a() { unsafe { b() } }";
        assert_eq!(found(unsafe_code, "runtime/src/kopia/ecc.rs", text), 1);
        assert_eq!(found(unsafe_code, UNSAFE[0].0, text), 0);
    }

    #[test]
    fn unfinished_work_is_caught() {
        let text = "fn a() { todo!() }\nfn b() { unimplemented!(\"c\") }";
        assert_eq!(found(unfinished, "tests/suite/a.rs", text), 2);
    }

    #[test]
    fn empty_names_are_caught() {
        assert_eq!(found(names, "runtime/src/utils.rs", ""), 1);
        assert_eq!(found(names, "runtime/src/common/a.rs", ""), 1);
        assert_eq!(
            found(names, "a.rs", "struct EpochManager; mod test_helpers;"),
            2
        );
        assert_eq!(found(names, "a.rs", "struct Commonality; mod utility;"), 0);
    }
}
