//! What was released never changes: every interface and every world of a released contract is in
//! the contract of today, to the letter, its documentation and what `@since` adds left out.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::Path;

/// A version as numbers that compare.
fn version(text: &str) -> Vec<u32> {
    let digits = |c: char| c.is_ascii_digit() || c == '.';
    let start = text.find(|c: char| c.is_ascii_digit()).unwrap();
    let end = text[start..]
        .find(|c| !digits(c))
        .unwrap_or(text.len() - start);
    let numbers = text[start..start + end].split('.');
    numbers.map(|number| number.parse().unwrap()).collect()
}

/// The blocks of a contract by their first line, such as `interface split {`, as those who know it
/// up to version `until` see them.
fn blocks(text: &str, until: &str) -> BTreeMap<String, Vec<String>> {
    let mut blocks = BTreeMap::new();
    let mut block: Option<(String, Vec<String>)> = None;
    let mut newer = false;
    for line in text.lines().map(str::trim_end) {
        let code = line.trim_start();
        if code.is_empty() || code.starts_with("//") {
            continue;
        }
        if code.starts_with("@since") {
            newer = block.is_some() && version(code) > version(until);
            continue;
        }
        match &mut block {
            None if line.ends_with('{') => block = Some((line.to_owned(), Vec::new())),
            None => {}
            Some(_) if line == "}" => {
                let (name, lines) = block.take().unwrap();
                blocks.insert(name, lines);
            }
            // What a world of a later version has more.
            Some(_) if newer => newer = false,
            Some((_, lines)) => lines.push(line.to_owned()),
        }
    }
    blocks
}

#[test]
fn what_was_released_is_still_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let today = std::fs::read_to_string(root.join("wit/strategy.wit")).unwrap();
    let mut compared = 0;
    for file in std::fs::read_dir(root.join("released")).unwrap() {
        let file = file.unwrap().path();
        let text = std::fs::read_to_string(&file).unwrap();
        let package = text.lines().find(|line| line.starts_with("package"));
        let until = package.unwrap().to_owned();
        let today = blocks(&today, &until);
        for (name, lines) in blocks(&text, &until) {
            assert_eq!(
                today.get(&name),
                Some(&lines),
                "{name} of {}",
                file.display()
            );
            compared += 1;
        }
    }
    assert!(compared >= 17, "only {compared} were compared");
}

/// Returns the lines that name something, a field, a case, a function, a type, without a word about
/// it.
fn undocumented(text: &str) -> Vec<&str> {
    let mut told = false;
    let mut found = Vec::new();
    for line in text.lines() {
        let code = line.trim();
        if code.starts_with("///") {
            told = true;
            continue;
        }
        if code.starts_with('@') {
            continue;
        }
        let uses = [
            "import ", "export ", "include ", "use ", "package ", "//", "}",
        ];
        let names = !code.is_empty() && !uses.iter().any(|word| code.starts_with(word));
        if names && !told {
            found.push(line);
        }
        told = false;
    }
    found
}

/// Goal: whoever reads the contract is told what each name in it means.
#[test]
fn everything_is_documented() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let today = std::fs::read_to_string(root.join("wit/strategy.wit")).unwrap();
    assert_eq!(undocumented(&today), Vec::<&str>::new());
    let bare = "/// A row.\n@since(version = 1.0.0)\nrecord row {\n    bytes: u64,\n}\n";
    assert_eq!(undocumented(bare), ["    bytes: u64,"]);
}

#[test]
fn a_changed_field_would_be_seen() {
    let one = "@since(version = 1.0.0)\ninterface a {\n    /// Doc.\n    x: u32,\n}\n";
    let same = blocks("interface a {\n    x: u32,\n}\n", "1.0.0");
    assert_eq!(blocks(one, "1.0.0"), same);
    assert_ne!(
        blocks(one, "1.0.0"),
        blocks("interface a {\n    x: u64,\n}\n", "1.0.0")
    );
    let world = "world w {\n    export a;\n    @since(version = 1.1.0)\n    export b;\n}\n";
    assert_eq!(
        blocks(world, "1.0.9"),
        blocks("world w {\n    export a;\n}\n", "1.0.9")
    );
    assert_eq!(blocks(world, "1.1.0")["world w {"].len(), 2, "b is known");
}
