//! What was released never changes: every interface and every world of a released contract is in
//! the contract of today, to the letter, its documentation and what `@since` adds left out.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::Path;

/// The blocks of a contract by their first line, such as `interface split {`.
fn blocks(text: &str) -> BTreeMap<String, Vec<String>> {
    let mut blocks = BTreeMap::new();
    let mut block: Option<(String, Vec<String>)> = None;
    let mut newer = false;
    for line in text.lines().map(str::trim_end) {
        let code = line.trim_start();
        if code.is_empty() || code.starts_with("//") {
            continue;
        }
        if code.starts_with("@since") {
            newer = block.is_some();
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
    let today = blocks(&std::fs::read_to_string(root.join("wit/strategy.wit")).unwrap());
    let mut compared = 0;
    for file in std::fs::read_dir(root.join("released")).unwrap() {
        let file = file.unwrap().path();
        for (name, lines) in blocks(&std::fs::read_to_string(&file).unwrap()) {
            assert_eq!(
                today.get(&name),
                Some(&lines),
                "{name} of {}",
                file.display()
            );
            compared += 1;
        }
    }
    assert!(compared >= 8, "only {compared} were compared");
}

#[test]
fn a_changed_field_would_be_seen() {
    let one = "@since(version = 1.0.0)\ninterface a {\n    /// Doc.\n    x: u32,\n}\n";
    assert_eq!(blocks(one), blocks("interface a {\n    x: u32,\n}\n"));
    assert_ne!(blocks(one), blocks("interface a {\n    x: u64,\n}\n"));
    let world = "world w {\n    export a;\n    @since(version = 1.1.0)\n    export b;\n}\n";
    assert_eq!(blocks(world), blocks("world w {\n    export a;\n}\n"));
}
