//! Traces of a machine or of a merge: absolute paths, hosts of private registries, conflict
//! markers.
//!
//! Looks into every text file, documents and fixtures too. A fresh clone must build anywhere from
//! the public registries that the tools use by default.

/// Folders of somebody's machine. Put together here, so that this file does not name them.
const FOLDERS: [&str; 3] = [
    concat!("/wo", "rk/"),
    concat!("/opt/", "kopia"),
    concat!("/ro", "ot/"),
];

/// Parts of host names of private registries and mirrors.
const HOSTS: [&str; 6] = [
    "artifactory",
    "jfrog",
    "nexus",
    "codeartifact",
    "pkg.dev",
    "mirror",
];

/// Settings that send a package client elsewhere: the file, the setting.
const REDIRECTS: [(&str, &str); 5] = [
    (".cargo/config.toml", "replace-with"),
    (".cargo/config.toml", "[source"),
    (".cargo/config.toml", "[registries"),
    ("requirements.txt", "-url"),
    (".npmrc", "registry"),
];

/// Returns every line that names a machine.
pub(super) fn machine_traces(texts: &[(String, String)]) -> Vec<String> {
    let mut violations = Vec::new();
    for (path, text) in texts {
        for (number, line) in text.lines().enumerate() {
            let mut add = |what: &str| {
                violations.push(format!("{path}:{}: {what}", number + 1));
            };
            for folder in FOLDERS.iter().filter(|folder| line.contains(**folder)) {
                add(&format!("names the folder {folder}"));
            }
            for host in hosts(line).filter(|host| HOSTS.iter().any(|part| host.contains(part))) {
                add(&format!("names the host {host}"));
            }
            let redirect =
                |(file, setting): &&(&str, &str)| path.ends_with(file) && line.contains(setting);
            for (_, setting) in REDIRECTS.iter().filter(redirect) {
                add(&format!("{setting} sends the client elsewhere"));
            }
        }
    }
    violations
}

/// Returns every line that an unfinished merge left.
pub(super) fn conflicts(texts: &[(String, String)]) -> Vec<String> {
    // Put together here, so that this file has none.
    let markers = ["<", ">"].map(|sign| sign.repeat(7) + " ");
    let mut violations = Vec::new();
    for (path, text) in texts {
        let lines = text.lines().enumerate();
        for (number, line) in lines.filter(|(_, line)| markers.iter().any(|m| line.starts_with(m)))
        {
            violations.push(format!(
                "{path}:{}: a merge was left here: {line}",
                number + 1
            ));
        }
    }
    violations
}

/// Returns the hosts of the URLs in a line.
fn hosts(line: &str) -> impl Iterator<Item = &str> {
    line.split("://").skip(1).map(|rest| {
        let end = rest.find(|char: char| !(char.is_alphanumeric() || "-.@:".contains(char)));
        &rest[..end.unwrap_or(rest.len())]
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, text: &str) -> Vec<String> {
        machine_traces(&[(path.to_owned(), text.to_owned())])
    }

    #[test]
    fn folders_are_caught() {
        let text = format!("fine\ncd {}x", FOLDERS[0]);
        let expected = format!("README.md:2: names the folder {}", FOLDERS[0]);
        assert_eq!(found("README.md", &text), [expected]);
    }

    #[test]
    fn conflict_markers_are_caught() {
        let text = format!("a\n{} HEAD\nb\n{} other\n", "<".repeat(7), ">".repeat(7));
        let found = conflicts(&[("a.rs".to_owned(), text)]);
        assert_eq!(found.len(), 2, "{found:?}");
    }

    #[test]
    fn private_registries_are_caught() {
        let text = ["https", "a.jfrog.io/x"].join("://");
        assert_eq!(
            found("Cargo.lock", &text),
            ["Cargo.lock:1: names the host a.jfrog.io"]
        );
        assert_eq!(found("Cargo.lock", "https://github.com/mirror"), [""; 0]);
        let text = ["--index", "url=x"].join("-");
        assert_eq!(found("tests/checker/requirements.txt", &text).len(), 1);
        assert_eq!(found(".cargo/config.toml", "[source.crates-io]").len(), 1);
    }
}
