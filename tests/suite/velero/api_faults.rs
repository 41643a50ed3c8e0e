//! The API server fails in the ways that servers and what is before them fail; nothing is left half
//! done, and what passes is waited for.
//!
//! A proxy before the real API server answers in its place, breaks connections, or keeps silent.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use servers::fault_proxy::{Fault, FaultProxy, Seen};
use servers::gate::Gate;

use super::installation::{Installation, installation};

const TAKEN: &str = "87600h0m0s";

/// Every command, and what a test gives it.
const COMMANDS: [&[&str]; 5] = [
    &["list"],
    &["run", "--all"],
    &["takeover", "--apply"],
    &["giveback", "--apply"],
    &["explain", "shop"],
];

fn proxied() -> Option<(Installation<'static>, FaultProxy)> {
    let mut velero = installation()?;
    let (proxy, kubeconfig) = velero.server.behind_proxy(velero.path());
    velero.kubeconfig = kubeconfig;
    Some((velero, proxy))
}

/// What the API server says with a status.
fn status(code: u16, reason: &str, message: &str) -> Fault {
    let body = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "code": code, "reason": reason, "message": message,
    });
    Fault::Say(code, body.to_string())
}

/// Fails the first `times` requests that match.
fn first(
    proxy: &FaultProxy,
    times: usize,
    matches: impl Fn(Seen<'_>) -> bool + Send + 'static,
    fault: Fault,
) -> Arc<AtomicUsize> {
    let count = Arc::new(AtomicUsize::new(0));
    let own = Arc::clone(&count);
    proxy.rule(move |seen| match matches(seen) {
        true if own.fetch_add(1, Ordering::SeqCst) < times => fault.clone(),
        _ => Fault::Pass,
    });
    count
}

fn is_patch(seen: Seen<'_>) -> bool {
    seen.method == "PATCH"
}

fn frequency(velero: &Installation<'_>, name: &str) -> Value {
    velero.get(name)["spec"]["maintenanceFrequency"].clone()
}

/// Goal: what passes is waited for, by every command; method: each kind of failure, twice, at the
/// first reads.
#[test]
fn reads_are_made_again() {
    let Some((velero, proxy)) = proxied() else {
        return;
    };
    let name = velero.record("shop", "default");
    let faults = [
        Fault::RefuseUntil(429, "TooManyRequests", "1".to_owned()),
        status(500, "InternalError", "etcdserver: leader changed"),
        Fault::Refuse(503, "ServiceUnavailable"),
        Fault::Drop,
        Fault::DropAnswer,
        Fault::Truncate(60),
        // Whole for HTTP, and cut off all the same.
        Fault::Say(
            200,
            r#"{"kind":"List","metadata":{},"items":[{"meta"#.to_owned(),
        ),
    ];
    for fault in faults {
        let said = format!("{fault:?}");
        let count = first(&proxy, 2, |seen| seen.method == "GET", fault);
        let answer = velero.careen(&["list", "--no-look"]);
        assert_eq!(answer.exit, 0, "{said}: {}", answer.text);
        assert_eq!(answer.all("row").len(), 1, "{said}");
        assert_eq!(answer.row(&name)["velero"]["phase"], "Ready");
        assert!(count.load(Ordering::SeqCst) > 3, "{said}");
    }
    // A server that is to be asked in an hour is not waited for.
    let hour = Fault::RefuseUntil(503, "ServiceUnavailable", "3600".to_owned());
    first(&proxy, usize::MAX, |_| true, hour);
    for words in COMMANDS {
        let answer = velero.careen(words);
        assert_eq!(answer.exit, 30, "{words:?}: {}", answer.text);
        let error = answer.error();
        assert_eq!(error["code"], "kubernetes-api");
        let message = error["message"].as_str().unwrap();
        assert!(message.contains("come again in 3600 s"), "{message}");
    }
}

/// Goal: a listing whose beginning the server has forgotten (410) goes on and misses nobody, and is
/// not shown twice; method: more objects than a page, and that answer with its token.
#[test]
fn an_expired_listing_goes_on() {
    const OBJECTS: usize = 260;
    let Some((velero, proxy)) = proxied() else {
        return;
    };
    for number in 0..OBJECTS {
        velero.record(&format!("n{number}"), "default");
    }
    let count = Arc::new(AtomicUsize::new(0));
    let own = Arc::clone(&count);
    proxy.rule(move |seen| {
        let is_page = seen.target.contains("backuprepositories");
        let words = seen.target.split('&');
        let token = words
            .filter_map(|word| word.strip_prefix("continue="))
            .next();
        match token {
            Some(token) if is_page && own.fetch_add(1, Ordering::SeqCst) == 0 => {
                let body = json!({
                    "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 410,
                    "metadata": { "continue": in_the_present(token) },
                    "reason": "Expired", "message": "The provided continue parameter is too old",
                });
                Fault::Say(410, body.to_string())
            }
            _ => Fault::Pass,
        }
    });
    let answer = velero.careen(&["list", "--no-look"]);
    assert_eq!(answer.exit, 0, "{:?}", answer.all("error"));
    let mut names: Vec<String> = answer
        .all("row")
        .iter()
        .map(|row| row["name"].to_string())
        .collect();
    names.dedup();
    assert_eq!(names.len(), OBJECTS);
    assert_eq!(count.load(Ordering::SeqCst), 2);
}

/// Goal: objects that are so large that a page of them is refused come in smaller pages; method: 30
/// of 200 KiB, of which 4 MiB are taken at once.
#[test]
fn large_objects_come_in_small_pages() {
    let Some((velero, proxy)) = proxied() else {
        return;
    };
    let large = json!({ "metadata": { "annotations": { "team/notes": "x".repeat(200 << 10) } } });
    for number in 0..30 {
        let name = velero.record(&format!("n{number}"), "default");
        velero.change("backuprepositories", &name, &large);
    }
    let is_list = |seen: Seen<'_>| seen.target.contains("backuprepositories");
    let count = first(&proxy, 0, is_list, Fault::Drop);
    let answer = velero.careen(&["list", "--no-look"]);
    assert_eq!(answer.exit, 0, "{:?}", answer.all("error"));
    assert_eq!(answer.all("row").len(), 30);
    assert!(count.load(Ordering::SeqCst) > 4);
}

/// Returns the token that the API server gives with a 410: from the same object on, at no version.
fn in_the_present(token: &str) -> String {
    use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(token).unwrap();
    let mut token: Value = serde_json::from_slice(&bytes).unwrap();
    token["rv"] = json!(-1);
    BASE64_URL_SAFE_NO_PAD.encode(token.to_string())
}

/// Goal: a patch is whole or not there, is made again where that can help, and told rightly;
/// method: each failure at the first patch.
#[test]
fn patches_are_whole_or_not_there() {
    let Some((velero, proxy)) = proxied() else {
        return;
    };
    let shop = velero.record("shop", "default");
    for fault in [
        status(409, "Conflict", "the object has been modified"),
        Fault::RefuseUntil(429, "TooManyRequests", "1".to_owned()),
        Fault::Refuse(503, "ServiceUnavailable"),
        Fault::Drop,
        Fault::DropAnswer,
        Fault::Truncate(10),
    ] {
        for (words, after) in [("takeover", TAKEN), ("giveback", "1h0m0s")] {
            first(&proxy, 2, is_patch, fault.clone());
            let answer = velero.careen(&[words, "--apply"]);
            assert_eq!(answer.exit, 0, "{fault:?}: {}", answer.text);
            assert_eq!(
                answer.row(&shop)["done"],
                true,
                "{fault:?}: {}",
                answer.text
            );
            assert_eq!(frequency(&velero, &shop), after, "{fault:?}");
        }
    }
    let bank = velero.record("bank", "default");
    let before = velero.get(&bank);
    for (fault, exit, code) in [
        (
            status(409, "Conflict", "modified"),
            10,
            "changed since it was read",
        ),
        (
            status(422, "Invalid", "a policy forbids it"),
            50,
            "a policy forbids it",
        ),
        (status(403, "Forbidden", "no"), 50, "no"),
        (
            Fault::RefuseUntil(429, "Slow", "3600".to_owned()),
            30,
            "3600",
        ),
    ] {
        first(
            &proxy,
            usize::MAX,
            |seen| is_patch(seen) && seen.target.contains("bank"),
            fault,
        );
        let answer = velero.careen(&["takeover", "--apply"]);
        assert_eq!(answer.exit, exit, "{code}: {}", answer.text);
        let error = answer.row(&bank)["error"].to_string();
        assert!(error.contains(code), "{error}");
        assert_eq!(answer.row(&bank)["done"], false);
        assert_eq!(velero.get(&bank), before, "{code}: untouched");
        assert_eq!(frequency(&velero, &shop), TAKEN, "the others are done");
        proxy.rule(|_| Fault::Pass);
        assert_eq!(velero.careen(&["giveback", "--apply"]).exit, 0);
    }
}

/// Goal: killed between two patches, a takeover leaves each object whole, and is ended, or undone,
/// by saying it again; method: kill -9 at the second patch, before and after it was made.
#[test]
fn a_takeover_that_is_killed_can_be_ended_and_undone() {
    let Some((velero, proxy)) = proxied() else {
        return;
    };
    let names = ["a", "b", "c"].map(|namespace| velero.record(namespace, "default"));
    let bare = |name: &str| {
        let mut object = velero.get(name);
        for field in ["resourceVersion", "generation", "managedFields"] {
            object["metadata"].as_object_mut().unwrap().remove(field);
        }
        object
    };
    let before: Vec<Value> = names.iter().map(|name| bare(name)).collect();
    for (words, undo) in [("takeover", false), ("giveback", true), ("takeover", true)] {
        let gate = Gate::default();
        let own = gate.clone();
        let mut patches = 0;
        proxy.rule(move |seen| {
            patches += usize::from(is_patch(seen));
            match is_patch(seen) && patches == 2 {
                true => Fault::Wait(own.clone()),
                false => Fault::Pass,
            }
        });
        let mut running = velero.start(&[words, "--apply"]);
        gate.reached();
        let id = Pid::from_raw(i32::try_from(running.child.id()).unwrap()).unwrap();
        kill_process(id, Signal::KILL).unwrap();
        running.child.wait().unwrap();
        gate.open();
        proxy.rule(|_| Fault::Pass);
        let taken = names
            .iter()
            .filter(|name| frequency(&velero, name) == TAKEN)
            .count();
        assert!(matches!(taken, 1 | 2), "{words}: {taken} are taken over");
        if undo {
            assert_eq!(velero.careen(&["giveback", "--apply"]).exit, 0);
            let after: Vec<Value> = names.iter().map(|name| bare(name)).collect();
            assert_eq!(after, before, "{words}");
        } else {
            assert_eq!(velero.careen(&["takeover", "--apply"]).exit, 0);
            assert!(names.iter().all(|name| frequency(&velero, name) == TAKEN));
        }
    }
}

/// Goal: a Lease is taken once and given back, whatever becomes of the answers; method: each
/// failure at the writes of a Lease.
#[test]
fn leases_survive_lost_answers() {
    let Some((velero, proxy)) = proxied() else {
        return;
    };
    let shop = velero.repository("shop");
    let is_lease = |seen: Seen<'_>| seen.target.contains("/leases") && seen.method != "GET";
    for fault in [
        Fault::DropAnswer,
        Fault::Drop,
        status(500, "InternalError", "etcdserver: request timed out"),
        status(409, "Conflict", "the object has been modified"),
    ] {
        let said = format!("{fault:?}");
        let count = first(&proxy, 2, is_lease, fault);
        let answer = velero.careen(&["run", "shop"]);
        assert_eq!(answer.exit, 0, "{said}: {}", answer.text);
        assert!(count.load(Ordering::SeqCst) >= 3, "{said}");
        assert_eq!(velero.holder(&shop).as_deref(), Some(""), "{said}");
        let lease = velero.collection("leases");
        velero
            .server
            .delete(&lease, &format!("careen-{shop}"))
            .unwrap();
    }
}

/// Goal: a server that takes what is asked and never answers is given up after the time that was
/// asked for, by every command, which says so; method: requests that a gate keeps, and a listener
/// that does not even begin with TLS.
#[test]
fn a_server_that_never_answers_is_given_up() {
    let Some((mut velero, proxy)) = proxied() else {
        return;
    };
    let shop = velero.record("shop", "default");
    let before = velero.get(&shop);
    let never = Gate::default();
    let own = never.clone();
    proxy.rule(move |_| Fault::Wait(own.clone()));
    let is_given_up = |velero: &Installation<'_>, words: &[&str]| {
        let answer = velero.careen(&[words, &["--api-seconds", "1"]].concat());
        assert_eq!(answer.exit, 30, "{words:?}: {}", answer.text);
        let error = answer.error();
        assert_eq!(error["code"], "kubernetes-api");
        let message = error["message"].as_str().unwrap();
        assert!(message.contains("no answer within 1 s"), "{message}");
    };
    for words in COMMANDS {
        is_given_up(&velero, words);
    }
    // Only what writes gets no answer.
    let own = never.clone();
    proxy.rule(move |seen| match is_patch(seen) {
        true => Fault::Wait(own.clone()),
        false => Fault::Pass,
    });
    let answer = velero.careen(&["takeover", "--apply", "--api-seconds", "1"]);
    assert_eq!(answer.exit, 30, "{}", answer.text);
    let row = answer.row(&shop);
    assert_eq!(row["done"], false, "{row}");
    let error = row["error"].to_string();
    assert!(error.contains("no answer within 1 s"), "{error}");
    assert_eq!(velero.get(&shop), before);

    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let text = std::fs::read_to_string(velero.server.kubeconfig()).unwrap();
    let port = |port: u16| format!("https://127.0.0.1:{port}\"");
    let own = silent.local_addr().unwrap().port();
    velero.kubeconfig = velero.path().join("silent.kubeconfig");
    let text = text.replace(&port(velero.server.port()), &port(own));
    std::fs::write(&velero.kubeconfig, text).unwrap();
    for words in COMMANDS {
        is_given_up(&velero, words);
    }
    never.open();
}

/// Goal: whoever waits for a server that keeps silent hears a signal; method: SIGTERM at the first
/// request, which nobody answers.
#[test]
fn a_signal_ends_a_wait_for_an_answer() {
    let Some((velero, proxy)) = proxied() else {
        return;
    };
    velero.record("shop", "default");
    let never = Gate::default();
    let own = never.clone();
    proxy.rule(move |_| Fault::Wait(own.clone()));
    let running = velero.start(&["run", "--all", "--api-seconds", "600"]);
    never.reached();
    let id = Pid::from_raw(i32::try_from(running.child.id()).unwrap()).unwrap();
    kill_process(id, Signal::TERM).unwrap();
    let answer = running.ended();
    never.open();
    assert_eq!(answer.exit, 10, "{}", answer.text);
    assert_eq!(answer.error()["code"], "stopped");
}

/// Goal: a server that falls silent in the middle does not keep a run beyond its Lease's time, and
/// the child ends at a safe point; method: a run that is held, and renewals that nobody answers.
#[test]
fn a_server_that_falls_silent_ends_a_run_before_its_lease() {
    let Some((velero, proxy)) = proxied() else {
        return;
    };
    let Some(bucket) = super::bucket::Bucket::fresh(&velero) else {
        return;
    };
    let shop = bucket.repository(&velero, "shop");
    let [held] = bucket.hold(["shop"]);
    let words = ["run", "shop", "--mode", "full", "--lease-seconds", "12"];
    let mut running = velero.start(&[&words[..], &["--api-seconds", "2"]].concat());
    held.reached();
    let never = Gate::default();
    let own = never.clone();
    proxy.rule(move |_| Fault::Wait(own.clone()));
    running.until(&["ends early", &shop, "no answer within 2 s"]);
    held.open();
    let answer = running.ended();
    never.open();
    assert_eq!(answer.exit, 10, "{}", answer.text);
    let because = answer.row(&shop)["because"].to_string();
    assert!(because.contains("its lease was not renewed"), "{because}");
}
