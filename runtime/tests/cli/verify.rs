//! `careen verify` and `careen snapshot list` as their users call them.
//!
//! What they find is tested by the suites; here it is what is said, and with which exit code. The
//! demo's repository has an index without data, so each content is missing.

use super::{assert_fails, lines, repository, text, with_password};

#[test]
fn verifications_go_on_one_after_the_other_and_end_with_60() {
    let path = repository().to_str().unwrap();
    let parts = ["--snapshots", "--contents", "--percent", "50"];
    let mut told = with_password(&[&["verify", path, "--json"], &parts[..]].concat());
    let told = told.output().unwrap();
    assert_eq!(told.status.code(), Some(60), "{told:?}");
    let told = lines(&told);
    assert_eq!(told[0]["command"], "verify --snapshots --contents");
    let reports: Vec<_> = told
        .iter()
        .filter(|line| line["kind"] == "report")
        .collect();
    let [snapshots, contents] = &reports[..] else {
        panic!("{reports:?}");
    };
    assert_eq!(snapshots["report"]["snapshots"], 0);
    let read = &contents["report"];
    assert_eq!(read["percent"], 50.0);
    let (all, chosen) = (read["contents"].as_u64(), read["chosen"].as_u64());
    assert!(chosen > Some(300) && chosen < all, "{read}");
    assert!(
        read["findings_total"].as_u64() >= chosen.map(|chosen| chosen - 1),
        "{read}"
    );
    assert_eq!(read["findings"][0]["code"], "missing-pack");

    let sample = [
        "verify",
        path,
        "--contents",
        "--percent",
        "1",
        "--output",
        "text",
    ];
    let told = with_password(&sample).output().unwrap();
    let words = text(&told.stdout);
    assert!(words.contains("a sample of 1 %, by content ID"), "{words}");
    assert!(words.contains("things are wrong"), "{words}");
}

#[test]
fn a_repository_without_snapshots_lists_none() {
    let path = repository().to_str().unwrap();
    let mut told = with_password(&["snapshot", "list", path, "--output", "text"]);
    let told = told.output().unwrap();
    assert_eq!(told.status.code(), Some(0), "{told:?}");
    assert_eq!(text(&told.stdout), "0 snapshots of 0 sources\n");
    let nowhere = ["snapshot", "list", "/nowhere"];
    assert_fails(with_password, &nowhere, 50, "no-folder");
}

/// Goal: who writes a listing to a full disk hears of it, who reads only its beginning does not.
#[test]
fn an_output_that_is_lost_is_an_error_unless_nobody_reads_it() {
    let root = repository().to_str().unwrap();
    for form in ["--json", "--no-json"] {
        let mut command = with_password(&["index", "inspect", root, form]);
        if let Ok(full) = std::fs::File::create("/dev/full") {
            let told = command.stdout(full).output().unwrap();
            assert_eq!(told.status.code(), Some(30), "{told:?}");
            assert!(text(&told.stderr).contains("error [output]"), "{told:?}");
        }
        let mut child = command
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        assert_eq!(child.wait().unwrap().code(), Some(0));
    }
}
