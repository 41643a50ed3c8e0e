//! Whole runs of the program through everything that networks and stores do: nothing is lost, the
//! exit code is right, and the next run goes on.
//!
//! Faults that end are survived: each at every kind of request, the first and then every fifth.
//! Faults that do not end stop the run with the code that the README promises.

use std::time::Duration;

use kit::golden::Golden;
use kit::object_stores::{Place, all};
use servers::fault_proxy::{Fault, FaultProxy, Kind, Seen};

use super::commands::{FULL, User};

const GOLDEN: &str = "small-packs";

const KINDS: [Kind; 5] = [Kind::Get, Kind::List, Kind::Head, Kind::Put, Kind::Delete];

/// Lets the fault come at the first request of each kind, and at every fifth of it.
fn now_and_then(fault: Fault) -> impl FnMut(Seen<'_>) -> Fault + Send {
    let mut counts = [0_u64; KINDS.len()];
    move |seen| {
        let Some(kind) = KINDS.iter().position(|kind| *kind == seen.kind) else {
            return Fault::Pass;
        };
        counts[kind] += 1;
        if counts[kind] % 5 == 1 {
            fault.clone()
        } else {
            Fault::Pass
        }
    }
}

/// Runs with each fault in a store of its own, and then without.
fn survive(faults: &[Fault], place: impl Fn() -> Option<Place>) {
    let golden = Golden::open(GOLDEN);
    for fault in faults {
        let Some(place) = place() else {
            return;
        };
        let Some(user) = User::carried(&golden, &place) else {
            return;
        };
        let proxy = FaultProxy::before(place.port);
        let through = place.clone().through(proxy.port());
        proxy.rule(now_and_then(fault.clone()));
        let told = user.call_through(&FULL, &through);
        let what = format!("{fault:?} at {}", place.location);
        assert_eq!(told.exit, Some(0), "{what}: {}", told.all);
        for kind in [Kind::Get, Kind::List, Kind::Put, Kind::Delete] {
            assert!(proxy.count(kind) > 0, "{what}: no {kind:?}");
        }
        user.call(&FULL);
        user.call(&["verify", "--contents"]);
        user.judge(&what);
    }
}

fn faults() -> Vec<Fault> {
    vec![
        Fault::Drop,
        Fault::DropAnswer,
        Fault::Delay(Duration::from_millis(300)),
        Fault::Refuse(500, "InternalError"),
        Fault::Refuse(503, "SlowDown"),
        Fault::RefuseUntil(429, "TooManyRequests", "1".to_owned()),
        Fault::Refuse(403, "ExpiredToken"),
        Fault::Truncate(0),
        Fault::Truncate(100),
        Fault::Stale,
    ]
}

#[test]
fn every_fault_at_every_operation_is_survived_in_seaweedfs() {
    survive(&faults(), kit::object_stores::s3);
}

#[test]
fn every_fault_at_every_operation_is_survived_in_azurite() {
    survive(&faults(), kit::object_stores::azure);
}

#[test]
fn every_fault_at_every_operation_is_survived_in_the_emulation_of_google() {
    survive(&faults(), || Some(kit::object_stores::google()));
}

#[test]
fn what_does_not_end_stops_the_run_and_the_next_one_goes_on() {
    // Goal: from some request on nothing of one kind works any more; the code says why.
    let golden = Golden::open(GOLDEN);
    let cases = [
        (Fault::Refuse(403, "AccessDenied"), Kind::Put, 50),
        (Fault::Refuse(403, "AccessDenied"), Kind::Get, 50),
        (Fault::Refuse(403, "AccessDenied"), Kind::Delete, 50),
        (Fault::Refuse(403, "AccessDenied"), Kind::List, 50),
        (Fault::Refuse(403, "InvalidAccessKeyId"), Kind::Put, 50),
        (Fault::Refuse(400, "InvalidArgument"), Kind::Put, 50),
    ];
    for (fault, kind, exit) in cases {
        for place in all() {
            let Some(user) = User::carried(&golden, &place) else {
                return;
            };
            let proxy = FaultProxy::before(place.port);
            let through = place.clone().through(proxy.port());
            let (lasting, mut count) = (fault.clone(), 0);
            proxy.rule(move |seen| {
                count += u32::from(seen.kind == kind);
                match count > 6 && seen.kind == kind {
                    true => lasting.clone(),
                    false => Fault::Pass,
                }
            });
            let what = format!("{fault:?} at {kind:?} of {}", place.location);
            let told = user.call_through(&FULL, &through);
            assert_eq!(told.exit, Some(exit), "{what}: {}", told.all);
            go_on(&user, &what);
        }
    }
}

/// Runs again without faults. The lease that a run could not give back holds nobody up: its process
/// is gone.
fn go_on(user: &User<'_>, what: &str) {
    let told = user.call_through(&FULL, user.place);
    assert_eq!(told.exit, Some(0), "{what}: {}", told.all);
    user.call(&["verify", "--contents"]);
    user.judge(what);
}

#[test]
fn an_outage_and_a_request_that_hangs_are_given_up_in_time() {
    // Goal: these wait for a minute each, so all of them at once.
    let golden = Golden::open(GOLDEN);
    let outages = [
        (Fault::Drop, None, 30),
        (Fault::Refuse(503, "SlowDown"), Some(Kind::Put), 30),
        (Fault::Hang(Duration::from_secs(70)), Some(Kind::Delete), 0),
    ];
    std::thread::scope(|scope| {
        for (fault, only, exit) in outages {
            for place in all() {
                let golden = &golden;
                let fault = fault.clone();
                scope.spawn(move || {
                    let Some(user) = User::carried(golden, &place) else {
                        return;
                    };
                    let proxy = FaultProxy::before(place.port);
                    let through = place.clone().through(proxy.port());
                    let (rule, mut count) = (fault.clone(), 0);
                    proxy.rule(move |seen| {
                        let is_of_kind = only.is_none_or(|kind| kind == seen.kind);
                        count += u32::from(is_of_kind);
                        // What hangs hangs once.
                        let ends = exit == 0 && count > 3;
                        match is_of_kind && count > 2 && !ends {
                            true => rule.clone(),
                            false => Fault::Pass,
                        }
                    });
                    let what = format!("{fault:?} at {}", place.location);
                    let told = user.call_through(&FULL, &through);
                    assert_eq!(told.exit, Some(exit), "{what}: {}", told.all);
                    go_on(&user, &what);
                });
            }
        }
    });
}
