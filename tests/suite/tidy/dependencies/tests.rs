//! Each rule about dependencies on text that breaks it.
//!
//! The texts are cut from the files that the rules read, so that a change of their form is noticed
//! here.

use super::*;

const LOCK: &str = "version = 4\n\n[[package]]\nname = \"aes\"\nversion = \"0.9.1\"\n\
    source = \"registry+the-index\"\n\n\
    [[package]]\nname = \"careen\"\nversion = \"0.1.0\"\n";

fn package(name: &str, version: &str) -> Package {
    Package {
        name: name.to_owned(),
        version: version.to_owned(),
        source: Some(format!("{REGISTRY}the-index")),
    }
}

#[test]
fn a_dependency_from_git_is_caught() {
    let mut all = packages(LOCK);
    assert_eq!(all[0], package("aes", "0.9.1"));
    assert_eq!(sources(&all), [""; 0]);
    all[0].source = Some("git+https://github.com/a/b".to_owned());
    assert_eq!(
        sources(&all),
        ["aes 0.9.1: from git+https://github.com/a/b"]
    );
}

#[test]
fn a_doubled_dependency_is_caught_unless_it_is_named() {
    let all = [
        package("a", "1.2.3"),
        package("a", "1.3.0"),
        package("b", "0.10.7"),
        package("b", "0.11.3"),
    ];
    assert_eq!(doubled(&all, &[]), ["b: versions 0.10, 0.11"]);
    assert_eq!(doubled(&all, &["b".to_owned()]), [""; 0]);
    let unneeded = doubled(&all, &["a".to_owned(), "b".to_owned()]);
    assert_eq!(unneeded, ["a: deny.toml skips it for nothing"]);
    assert_eq!(compatible("0.0.3"), "0.0.3");
}

#[test]
fn a_dependency_without_a_reason_is_caught() {
    let good = "[workspace.dependencies]\n# group\na = \"1\" # for b\n\n[profile]\nc = 1\n";
    assert_eq!(explained(good), [""; 0]);
    assert_eq!(explained(&good.replace(" # for b", "")).len(), 1);
    assert_eq!(explained(&good.replace("# for b", "# ")).len(), 1);
}

#[test]
fn a_wasmtime_that_moves_is_caught() {
    let manifest = "wasmtime = { version = \"48\" } # sandbox";
    let locked = [package("wasmtime", "48.0.8")];
    assert_eq!(wasmtime(manifest, &locked), [""; 0]);
    assert_eq!(wasmtime(&manifest.replace("48", "*"), &locked).len(), 1);
    assert_eq!(
        wasmtime(manifest, &[package("wasmtime", "49.0.0")]).len(),
        1
    );
}

#[test]
fn licences_are_read_as_expressions() {
    let allowed = ["MIT", "Apache-2.0", "Apache-2.0 WITH LLVM-exception"].map(str::to_owned);
    let covered = |expression: &str| covers(expression, &allowed);
    assert!(covered("MIT") && covered("MIT/Apache-2.0") && covered("GPL-3.0 OR MIT"));
    assert!(covered("Apache-2.0 WITH LLVM-exception OR GPL-2.0"));
    assert!(covered("(MIT OR GPL-2.0) AND Apache-2.0"));
    assert!(!covered("GPL-3.0") && !covered("") && !covered("MIT AND GPL-3.0"));
    assert!(!covered("MIT WITH Odd-exception") && !covered("(MIT") && !covered("MIT MIT"));
    let packages = [("a".to_owned(), "GPL-3.0".to_owned())];
    assert_eq!(licensed(&packages, &allowed), ["a: licence \"GPL-3.0\""]);
}

#[test]
fn lists_are_read_out_of_toml() {
    let toml = "allow = [\n  \"MIT\", # plain\n  # \"GPL\",\n  \"ISC\",\n]\nskip = [\n  \
        { crate = \"a@1\", reason = \"b\" },\n]\n";
    assert_eq!(strings_of(toml, "allow"), ["MIT", "ISC"]);
    assert_eq!(strings_of(toml, "skip"), ["a@1"]);
    assert_eq!(strings_of("allow = [\"MIT\"]\n", "allow"), ["MIT"]);
    assert_eq!(strings_of(toml, "other"), [""; 0]);
}
