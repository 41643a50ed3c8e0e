//! `careen doctor` as its users call it: wrong set-ups, each with its own answer.
//!
//! The store is a small S3 of the tests' own, so that all of this runs everywhere. Secrets are
//! looked for in everything that is said.

use std::path::Path;
use std::process::Output;
use std::sync::OnceLock;

use serde_json::Value;

use super::{careen, lines, text};

mod s3;

use s3::{KEY, Wrong};

const SECRET: &str = "hunter2hunter2";

/// Returns a whole repository with two small backups.
fn repository() -> &'static Path {
    static MADE: OnceLock<tempfile::TempDir> = OnceLock::new();
    let directory = MADE.get_or_init(|| {
        let directory = tempfile::tempdir().unwrap();
        let shape = [
            "--snapshots=2",
            "--directories=2",
            "--files=5",
            "--sessions=2",
        ];
        let run = [
            "demo",
            "--no-run",
            "--keep",
            directory.path().to_str().unwrap(),
        ];
        let made = careen(&[&run[..], &shape].concat()).output().unwrap();
        assert!(made.status.success(), "{made:?}");
        directory
    });
    directory.path()
}

/// What is asked, besides the URL.
struct Ask {
    url: &'static str,
    key: &'static str,
    password: &'static str,
    options: Vec<String>,
}

impl Ask {
    fn new(port: u16) -> Self {
        Self {
            url: "s3://b/x/kopia/ns/",
            key: KEY,
            password: "static-passw0rd",
            options: vec![
                "--insecure-plain-http".into(),
                format!("--endpoint=127.0.0.1:{port}"),
            ],
        }
    }

    fn url(self, url: &'static str) -> Self {
        Self { url, ..self }
    }

    fn with(mut self, options: &[&str]) -> Self {
        self.options
            .extend(options.iter().map(|&option| option.to_owned()));
        self
    }

    fn run(&self, form: &str) -> Output {
        let mut command = careen(&["doctor", self.url, form]);
        command
            .env_clear()
            .env("HOME", "/nonexistent")
            .env("CAREEN_LOG", "trace");
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("KOPIA_PASSWORD", self.password);
        command.env("AWS_EC2_METADATA_DISABLED", "true");
        if !self.key.is_empty() {
            command.env("AWS_ACCESS_KEY_ID", self.key);
            command.env("AWS_SECRET_ACCESS_KEY", SECRET);
            command.env("AWS_SESSION_TOKEN", "hunter3hunter3");
        }
        let told = command.args(&self.options).output().unwrap();
        let all = text(&told.stdout) + &text(&told.stderr);
        assert!(!all.contains("hunter"), "{all}");
        told
    }

    /// Returns the findings, all of which have the same form.
    fn findings(&self) -> (Vec<Value>, Option<i32>) {
        let told = self.run("--json");
        let rows = lines(&told)
            .into_iter()
            .filter(|line| line["kind"] == "row");
        let rows: Vec<Value> = rows.collect();
        for row in &rows {
            let wrong = row["state"] == "warning" || row["state"] == "error";
            assert!(row["check"].is_string() && row["what"].is_string(), "{row}");
            assert_eq!(
                row["code"].is_string() && row["next"].is_string(),
                wrong,
                "{row}"
            );
        }
        (rows, told.status.code())
    }

    /// Checks that there is one error, the last finding, and returns its code.
    fn error(&self) -> (String, Option<i32>) {
        let (rows, exit) = self.findings();
        let errors = rows.iter().filter(|row| row["state"] == "error");
        let codes: Vec<&str> = errors.map(|row| row["code"].as_str().unwrap()).collect();
        assert_eq!(codes.len(), 1, "{rows:#?}");
        (codes[0].to_owned(), exit)
    }
}

fn codes(rows: &[Value]) -> Vec<&str> {
    rows.iter().filter_map(|row| row["code"].as_str()).collect()
}

#[test]
fn a_clock_that_the_store_does_not_believe_is_named() {
    // Goal: whether the store says what time it is or only refuses; with the first, both are told.
    for (date, count) in [(None, 1), (Some("Thu, 26 Nov 2020 08:00:00 GMT"), 2)] {
        let wrong = Wrong {
            refuses: Some((403, "RequestTimeTooSkewed")),
            date,
            ..Wrong::default()
        };
        let (rows, exit) = Ask::new(s3::start(repository(), wrong)).findings();
        let skews = codes(&rows)
            .iter()
            .filter(|code| **code == "clock-skew")
            .count();
        assert_eq!((skews, exit), (count, Some(50)), "{rows:#?}");
    }
}

#[test]
fn a_right_set_up_has_no_error() {
    let port = s3::start(repository(), Wrong::default());
    let ask = Ask::new(port).with(&["--write-probe"]);
    let (rows, exit) = ask.findings();
    assert_eq!(exit, Some(0), "{rows:#?}");
    let ok: Vec<&str> = rows
        .iter()
        .filter(|row| row["state"] == "ok")
        .map(|row| row["check"].as_str().unwrap())
        .collect();
    for check in [
        "place",
        "name",
        "connection",
        "tls",
        "clock",
        "credentials",
        "list",
        "get",
        "put",
        "race",
        "delete",
        "lock",
        "format",
        "index",
        "owner",
        "cycles",
        "needs",
    ] {
        assert!(ok.contains(&check), "{check}: {rows:#?}");
    }
    let codes = codes(&rows);
    assert!(
        codes.contains(&"plain-http") && codes.contains(&"default-password"),
        "{codes:?}"
    );

    let told = ask.run("--no-json");
    let words = text(&told.stdout);
    assert!(
        words.starts_with("ok       place        s3://b/x/kopia/ns/: S3"),
        "{words}"
    );
    assert!(
        words.contains("next: use TLS") && words.contains(", 0 errors, "),
        "{words}"
    );
}

/// Asks a store that lets nobody do this.
fn denied(what: &'static str) -> Ask {
    let wrong = Wrong {
        denied: Some(what),
        ..Wrong::default()
    };
    Ask::new(s3::start(repository(), wrong)).with(&["--write-probe"])
}

/// Asks stores that refuse everything, or are none; with the code and the exit code of each.
fn refusing_stores() -> Vec<(Ask, &'static str, i32)> {
    let wrong = |wrong: Wrong| Ask::new(s3::start(repository(), wrong));
    let refuses = |status, code| {
        wrong(Wrong {
            refuses: Some((status, code)),
            ..Wrong::default()
        })
    };
    let console = wrong(Wrong {
        is_console: true,
        ..Wrong::default()
    });
    let elsewhere = || {
        wrong(Wrong {
            region: Some("eu-west-3"),
            ..Wrong::default()
        })
    };
    let (found, exit) = elsewhere().with(&["--region=eu-west-3"]).findings();
    assert_eq!(exit, Some(0), "{found:#?}");
    vec![
        (console, "no-object-store", 50),
        (elsewhere(), "wrong-region", 50),
        (refuses(400, "ExpiredToken"), "keys-ended", 50),
        (refuses(403, "SignatureDoesNotMatch"), "secret-wrong", 50),
        (refuses(403, "AllAccessDisabled"), "storage-refused", 50),
        (refuses(403, "AuthenticationFailed"), "keys-refused", 50),
    ]
}

#[test]
fn each_wrong_set_up_has_an_answer_of_its_own() {
    let port = s3::start(repository(), Wrong::default());
    let early = Wrong {
        date: Some("Thu, 26 Nov 2020 08:00:00 GMT"),
        ..Wrong::default()
    };
    let ask = || Ask::new(port);
    let mut without_tls = ask();
    without_tls.options.remove(0);
    let mut nobody = ask();
    nobody.key = "";
    let mut stranger = ask();
    stranger.key = "AKOTHER";
    let mut password = ask();
    password.password = "another";
    let endpoint = |endpoint: &str| {
        let mut ask = Ask::new(port);
        ask.options[1] = format!("--endpoint={endpoint}");
        ask
    };
    let cases = [
        (endpoint("no-such-host.invalid"), "name-unknown", 50),
        (endpoint("127.0.0.1:1"), "no-connection", 30),
        (without_tls, "no-tls", 50),
        (Ask::new(s3::start(repository(), early)), "clock-skew", 50),
        (nobody, "storage-credentials", 50),
        (stranger, "key-unknown", 50),
        (ask().url("s3://bad/x/kopia/ns/"), "no-bucket", 50),
        (denied("LIST"), "storage-permission", 50),
        (ask().url("s3://b/x/kopia/ns"), "other-prefix", 50),
        (ask().url("s3://b/x/"), "velero-prefix", 50),
        (ask().url("s3://b/y/"), "no-repository", 50),
        (password, "wrong-password", 50),
        (ask().with(&["--owner", "someone@else"]), "not-owner", 40),
    ];
    let cases: Vec<_> = cases.into_iter().chain(refusing_stores()).collect();
    let mut seen = std::collections::BTreeSet::new();
    for (ask, code, exit) in &cases {
        if *code == "clock-skew" {
            // The walk goes on: the store may not mind.
            assert!(codes(&ask.findings().0).contains(code));
            continue;
        }
        let (found, found_exit) = ask.error();
        assert_eq!(
            (found.as_str(), found_exit),
            (*code, Some(*exit)),
            "{}",
            ask.url
        );
        seen.insert(found);
    }
    assert_eq!(seen.len(), cases.len() - 1, "no two answers are the same");
}

#[test]
fn each_right_that_is_missing_is_named() {
    for what in ["GET", "PUT", "DELETE"] {
        let (rows, _) = denied(what).findings();
        let last = rows.last().unwrap();
        assert_eq!(last["code"], "storage-permission", "{last}");
        assert_eq!(last["check"], what.to_lowercase().as_str(), "{last}");
        let right = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject"];
        let right = right
            .iter()
            .find(|right| right.to_uppercase().contains(what))
            .unwrap();
        assert!(last["next"].as_str().unwrap().contains(right), "{last}");
    }
}

#[test]
fn a_store_that_overwrites_is_named() {
    let wrong = Wrong {
        overwrites: true,
        ..Wrong::default()
    };
    let port = s3::start(repository(), wrong);
    let (rows, exit) = Ask::new(port).with(&["--write-probe"]).findings();
    assert_eq!(exit, Some(0));
    assert!(codes(&rows).contains(&"no-conditional-put"), "{rows:#?}");
}

/// Returns what is said of locks.
fn locks(rows: &[Value]) -> Vec<(&str, &str)> {
    let rows = rows.iter().filter(|row| row["check"] == "lock");
    rows.map(|row| {
        (
            row["state"].as_str().unwrap(),
            row["what"].as_str().unwrap(),
        )
    })
    .collect()
}

#[test]
fn locks_are_tried_where_they_may_be() {
    // Goal: nobody is told of an error about locks that the repository does not want.
    let lockless = Wrong {
        lockless: true,
        ..Wrong::default()
    };
    let lockless = Ask::new(s3::start(repository(), lockless)).with(&["--write-probe"]);
    for (ask, state, part) in [
        (lockless, "skipped", "no object locks"),
        (denied("LOCK"), "skipped", "permission denied"),
        (
            Ask::new(s3::start(repository(), Wrong::default())),
            "skipped",
            "--write-probe",
        ),
    ] {
        let (rows, exit) = ask.findings();
        assert_eq!(exit, Some(0), "{rows:#?}");
        let told = locks(&rows);
        assert_eq!((told.len(), told[0].0), (1, state), "{told:?}");
        assert!(told[0].1.contains(part), "{told:?}");
    }
}

#[test]
fn a_folder_is_looked_at_too() {
    let looked = |path: &str| {
        let mut command = careen(&["doctor", path, "--json"]);
        command
            .env("KOPIA_PASSWORD", "static-passw0rd")
            .output()
            .unwrap()
    };
    let told = looked(repository().to_str().unwrap());
    assert_eq!(told.status.code(), Some(0), "{told:?}");
    let told = looked("/nowhere");
    assert_eq!(told.status.code(), Some(50));
    assert!(
        text(&told.stdout).contains("\"code\":\"no-folder\""),
        "{told:?}"
    );
}
