//! How long things may be, and how a file begins.
//!
//! The limits are those of the house: 500 lines a file, 70 lines a function, 100 columns a line.
//! Every file begins with a head that says what it is and why it exists. Tests are code and keep
//! the same limits.

use super::source::Source;

/// Most lines of a file.
const FILE_LINES_MAX: usize = 500;
/// Most lines of a function, from `fn` to its closing bracket.
const FUNCTION_LINES_MAX: usize = 70;
/// Most characters of a line.
const COLUMNS_MAX: usize = 100;
/// Fewest lines of a file's head.
const HEAD_LINES_MIN: usize = 2;

/// Files that a program writes, with the one that does: their lines are as wide as it makes them.
const GENERATED: [(&str, &str); 4] = [
    ("guest-sdk/src/bindings.rs", ".ci/generate-bindings.sh"),
    (
        "guest-sdk/src/retention_bindings.rs",
        ".ci/generate-bindings.sh",
    ),
    (
        "guest-sdk/src/scheduling_bindings.rs",
        ".ci/generate-bindings.sh",
    ),
    (
        "guest-sdk/src/tenants_bindings.rs",
        ".ci/generate-bindings.sh",
    ),
];

/// Returns the file when it is too long.
pub(super) fn file_lines(source: &Source) -> Vec<String> {
    if GENERATED.iter().any(|(path, _)| source.path == *path) {
        return Vec::new();
    }
    let lines = source.text.lines().count();
    let long = lines > FILE_LINES_MAX;
    let what = || format!("{}: {lines} lines, at most {FILE_LINES_MAX}", source.path);
    long.then(what).into_iter().collect()
}

/// Returns the functions that are too long.
pub(super) fn function_lines(source: &Source) -> Vec<String> {
    let mut violations = Vec::new();
    if GENERATED.iter().any(|(path, _)| source.path == *path) {
        return violations;
    }
    for at in source.find(&["fn"]) {
        let name = source.at(at + 1);
        if !name.starts_with(|char: char| char.is_alphabetic() || char == '_') {
            continue; // the type of a function
        }
        let end = source.item_end(at + 2);
        let line = |at: usize| source.tokens.get(at).map_or(0, |token| token.line);
        let lines = line(end - 1) - line(at) + 1;
        if lines > FUNCTION_LINES_MAX {
            let what = format!("fn {name}: {lines} lines, at most {FUNCTION_LINES_MAX}");
            violations.push(source.violation(at, &what));
        }
    }
    violations
}

/// Returns the lines that are too wide.
pub(super) fn columns(source: &Source) -> Vec<String> {
    if GENERATED.iter().any(|(path, _)| source.path == *path) {
        return Vec::new();
    }
    let lines = source.text.lines().enumerate();
    let wide = lines.filter(|(_, line)| line.chars().count() > COLUMNS_MAX);
    wide.map(|(number, line)| {
        let columns = line.chars().count();
        format!(
            "{}:{}: {columns} columns, at most {COLUMNS_MAX}",
            source.path,
            number + 1
        )
    })
    .collect()
}

/// Returns the file when it does not begin with a head.
pub(super) fn head(source: &Source) -> Vec<String> {
    let lines = source
        .text
        .lines()
        .take_while(|line| line.starts_with("//!"));
    let said = lines.filter(|line| line.len() > "//! ".len()).count();
    let what = || {
        let path = &source.path;
        format!("{path}: a head of {said} lines (`//!`), at least {HEAD_LINES_MIN}")
    };
    (said < HEAD_LINES_MIN).then(what).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Source {
        Source::new("a.rs", text)
    }

    #[test]
    fn a_long_file_is_caught() {
        assert_eq!(file_lines(&source(&"\n".repeat(500))), [""; 0]);
        let found = file_lines(&source(&"\n".repeat(501)));
        assert_eq!(found, ["a.rs: 501 lines, at most 500"]);
    }

    #[test]
    fn a_long_function_is_caught() {
        let function = |lines: usize| format!("fn a(b: [u8; 2]) {{{}}}", "\n".repeat(lines - 1));
        assert_eq!(function_lines(&source(&function(70))), [""; 0]);
        let text = format!("// head\nimpl A {{\n{}\nfn b();\n}}", function(71));
        let found = function_lines(&source(&text));
        assert_eq!(found, ["a.rs:3: fn a: 71 lines, at most 70"]);
        let kind = format!("type A = fn(u8);{}", "\n".repeat(90));
        assert_eq!(function_lines(&source(&kind)), [""; 0]);
    }

    #[test]
    fn a_wide_line_is_caught_by_characters() {
        assert_eq!(columns(&source(&"ü".repeat(100))), [""; 0]);
        let found = columns(&source(&format!("\n{}", "x".repeat(101))));
        assert_eq!(found, ["a.rs:2: 101 columns, at most 100"]);
        let generated = Source::new(GENERATED[0].0, &"x".repeat(101));
        assert_eq!(columns(&generated), [""; 0]);
    }

    #[test]
    fn a_file_without_a_head_is_caught() {
        assert_eq!(head(&source("//! What.\n//!\n//! Why.\n")), [""; 0]);
        assert_eq!(head(&source("//! What.\n//!\n")).len(), 1);
        assert_eq!(head(&source("use a;\n//! What.\n//! Why.\n")).len(), 1);
        assert_eq!(head(&source("")).len(), 1);
    }
}
