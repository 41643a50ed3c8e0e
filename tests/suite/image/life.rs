//! What a Job meets: no memory, no scratch, wrong secrets, stores that may not be written,
//! evictions. Exit codes and termination messages are right, nothing is lost, and the next Job goes
//! on.

use std::thread;
use std::time::Duration;

use kit::image::{Ended, Image, Pod};
use rustix::process::Signal;

use super::{BACKUPS, LIMIT_BYTES, MIB, PASSWORD, Place, REPOSITORY, USER};

/// Checks exit code, code of the error, and the form of the message.
fn refused(ended: &Ended, exit: i32, code: &str) {
    ended.expect(exit);
    let (message, result) = (&ended.message, ended.result());
    assert!(message.starts_with("Repo maintenance error: "), "{message}");
    assert!(message.len() <= 4096, "{}", message.len());
    assert_eq!(result["code"], code, "{message}");
    assert_eq!(result["exit"], exit, "{message}");
    let said = [ended.run.stdout_text(), ended.run.stderr_text()].concat();
    // The hint about a password tells Velero's default, which this one is.
    let hinted = ["wrong-password", "no-password"].contains(&code);
    for secret in [PASSWORD, "another-secret"] {
        let found = message.contains(secret) || said.contains(secret);
        assert!(!found || (hinted && secret == PASSWORD), "{message}{said}");
    }
}

/// Goal: every refusal has its code and its last word, and changes nothing.
#[test]
fn refusals_say_why() {
    let Some(image) = Image::find() else { return };
    let Some(place) = Place::made(&image, USER, &BACKUPS) else {
        return;
    };
    let pod = || place.pod(&image, USER, true).unwrap();
    let full = ["run", REPOSITORY, "--mode", "full"];

    let mut wrong = pod();
    wrong
        .env
        .insert("KOPIA_PASSWORD".into(), "another-secret".into());
    refused(&wrong.run(&full), 50, "wrong-password");
    let mut none = pod();
    none.env.remove("KOPIA_PASSWORD");
    refused(&none.run(&full), 50, "no-password");
    refused(&pod().run(&["run", "/place/nowhere"]), 50, "no-folder");
    refused(&pod().run(&["run", REPOSITORY, "--fast"]), 50, "usage");
    refused(
        &pod().run(&[&full[..], &["--owner=a@b"]].concat()),
        40,
        "not-owner",
    );

    let mut small = pod();
    small
        .env
        .insert("CAREEN_MEMORY".into(), (16 * MIB).to_string());
    refused(&small.run(&full), 20, "memory-too-small");
    small.env.insert("CAREEN_MEMORY".into(), "plenty".into());
    refused(&small.run(&full), 50, "usage");

    let quota = pod().run(&[&full[..], &["--scratch-quota=4KiB"]].concat());
    quota.expect(20);
    assert!(
        quota.message.starts_with("Repo maintenance error: "),
        "{}",
        quota.message
    );

    // The cgroup's own limit, without any variable.
    let mut tiny = Pod::new(&image, USER, 24 * MIB).unwrap();
    tiny.mount(place.folder.path(), "/place", true);
    tiny.env.insert("KOPIA_PASSWORD".into(), PASSWORD.into());
    refused(&tiny.run(&full), 20, "memory-too-small");

    let read_only = place.pod(&image, USER, false).unwrap();
    let ended = read_only.run(&full);
    assert!([30, 50].contains(&ended.exit().unwrap()), "{ended:?}");
    assert!(
        ended.message.starts_with("Repo maintenance error: "),
        "{}",
        ended.message
    );

    // Nothing of all this was in the way of the next run.
    assert_eq!(pod().run(&full).expect(0).result()["result"], "done");
}

/// Lets a run begin and sends it `signal` after a while; tells how it ended.
fn interrupted(pod: &Pod, arguments: &[&str], signal: Signal, after: Duration) -> Ended {
    thread::scope(|scope| {
        let run = scope.spawn(|| pod.run(arguments));
        // Until the program is there: a shell makes the mounts first.
        while !run.is_finished() && !pod.is_running() {
            thread::sleep(Duration::from_millis(2));
        }
        thread::sleep(after);
        let _gone = !pod.signal(signal);
        run.join().unwrap()
    })
}

/// Moments after the start of a run at which it is disturbed.
fn moments() -> impl Iterator<Item = Duration> {
    (0..12).map(|step| Duration::from_millis(20 + 45 * step))
}

/// Goal: SIGTERM ends a run at a safe point, within the grace period, with exit code 10; the next
/// one goes on; method: many moments of a full cycle and of an index compaction.
#[test]
fn sigterm_ends_at_a_safe_point() {
    let Some(image) = Image::find() else { return };
    let index = ["--entries=600000", "--index-blobs=600"];
    let backups = [
        "--snapshots=6",
        "--directories=300",
        "--files=100",
        "--sessions=6",
    ];
    let full = ["run", REPOSITORY, "--mode", "full", "--safety", "none"];
    let compact = ["index", "compact", REPOSITORY];
    for (shape, work) in [(&backups[..], &full[..]), (&index, &compact)] {
        let Some(place) = Place::made(&image, USER, shape) else {
            return;
        };
        let pod = place.pod(&image, USER, true).unwrap();
        let mut stopped = 0;
        for after in moments() {
            let ended = interrupted(&pod, work, Signal::TERM, after);
            let result = ended.result();
            match ended.exit() {
                Some(0) => break, // it was faster: all is done
                Some(10) => {
                    stopped += 1;
                    assert_eq!(result["result"], "part-done", "{result}");
                    assert_eq!(result["code"], "stopped", "{result}");
                    let wall = ended.run.wall;
                    assert!(wall < after + Duration::from_secs(15), "{wall:?}");
                }
                other => panic!("{other:?}: {} {}", ended.message, ended.run),
            }
        }
        assert!(stopped > 0, "{work:?} was never stopped");
        pod.run(work).expect(0);
        pod.run(&["verify", REPOSITORY, "--index"]).expect(0);
    }
}

/// Goal: a kill without any warning is told by the message of the start, and the run after the
/// lease goes on.
#[test]
fn a_kill_is_told_and_loses_nothing() {
    let Some(image) = Image::find() else { return };
    let index = ["--entries=600000", "--index-blobs=600"];
    let Some(place) = Place::made(&image, USER, &index) else {
        return;
    };
    let pod = place.pod(&image, USER, true).unwrap();
    let compact = ["index", "compact", REPOSITORY];
    let ended = interrupted(&pod, &compact, Signal::KILL, Duration::from_millis(150));
    assert_ne!(ended.exit(), Some(0), "{}", ended.run);
    let (message, result) = (&ended.message, ended.result());
    assert!(
        message.starts_with("Repo maintenance error: careen was killed"),
        "{message}"
    );
    assert_eq!(
        (&result["result"], &result["code"]),
        (&"killed".into(), &"killed".into())
    );
    assert_eq!(result["repository"], REPOSITORY, "{message}");
    assert_eq!(result["exit"], serde_json::Value::Null, "{message}");
    let again = pod.run(&compact);
    assert_eq!(again.expect(0).result()["memory_bytes"], LIMIT_BYTES);
    pod.run(&["verify", REPOSITORY, "--index"]).expect(0);
}
