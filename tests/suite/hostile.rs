//! Plugins that want to do harm, one component each, run through the real program in a memory
//! cgroup of 64 MiB, the same in which honest work is done.
//!
//! After each: the repository is byte for byte as before, the exit code and the error are right and
//! name the plugin with its digest and limits, and the kernel has killed nobody, the compiler's
//! process included. In the end the built-in strategies do their work on the same repository.
//! A run that is asked about packs or snapshots after it has begun has written its lease and what
//! became of the task into `kopia.maintenance`; that blob alone is left out there, and said.
//!
//! The worlds have no floats, so no answer can be NaN: a component that answers with floats is
//! refused before it runs (`components`). Tests of the plugin floor (`runtime/tests/plugin`) do
//! the same in process, where they can look closer; what random answers lead to is
//! `model_repository::strategies`. Without a cgroup everything runs without the limit, and the kit
//! says so. Without a built program nothing is tested, and the kit says that.

use guests::answers::{self, AT, DECISION, TASKS, YES};
use guests::splitting::{Guest, SPLIT};
use guests::tenants::{gives, tenants_with};
use guests::{TENANTS_VERSION, worlds};

use self::attacks::{Attack, HANDLES, HANDLES_WITH, common};
use self::ship::{Ship, Strategy};

mod attacks;
mod cached;
mod components;
mod lies;
mod ship;

/// A splitting guest out of an attack on `split`.
fn split_guest(attack: &Attack) -> Vec<u8> {
    let core = format!("{} {SPLIT} {})", attack.fields, attack.body);
    let mut guest = Guest::new(&core);
    (guest.component, guest.with) = (HANDLES, HANDLES_WITH);
    guest.wasm()
}

/// A splitting guest out of an attack on `repack`.
fn repack_guest(attack: &Attack) -> Vec<u8> {
    let core = format!("{} {SPLIT} unreachable)", attack.fields);
    let mut guest = Guest::new(&core);
    (guest.component, guest.with) = (HANDLES, HANDLES_WITH);
    guest.repack = &attack.body;
    guest.wasm()
}

/// A splitting guest that says whose the snapshots are, and is attacked there.
fn tenants_guest(fields: &str, assign: &str, repack: &str) -> Vec<u8> {
    let core = format!("{SPLIT} unreachable)");
    let component = tenants_with(TENANTS_VERSION, fields, assign, repack);
    let mut guest = Guest::new(&core);
    guest.component = &component;
    guest.wasm()
}

/// Completes a guest of one of the other worlds.
fn made(mut guest: worlds::Guest<'_>) -> Vec<u8> {
    (guest.component, guest.with) = (HANDLES, HANDLES_WITH);
    guest.wasm()
}

/// Goal: whatever `split` does, index maintenance ends before its first write.
#[test]
fn splitting_is_ended_and_nothing_is_written() {
    let Some(ship) = Ship::launch() else {
        return;
    };
    for attack in common().into_iter().chain(lies::about_splits()) {
        ship.attacked(Strategy::Split, &attack, &split_guest(&attack));
    }
    ship.sails_on();
}

/// Goal: whatever `repack` does, no pack is written and none is deleted.
#[test]
fn repacking_is_ended_and_no_pack_is_written() {
    let Some(ship) = Ship::launch() else {
        return;
    };
    for attack in common().into_iter().chain(lies::about_packs()) {
        ship.attacked(Strategy::Repack, &attack, &repack_guest(&attack));
    }
    ship.sails_on();
}

/// Goal: whatever is answered about snapshots and their tenants, or about packs with their owners,
/// no pack is written and none is deleted. Its module has no log and no handles: those attacks are
/// made above.
#[test]
fn telling_tenants_apart_is_ended_and_no_pack_is_written() {
    let Some(ship) = Ship::launch() else {
        return;
    };
    let alone = || common().into_iter().filter(|attack| !attack.has_imports());
    for attack in alone().chain(lies::about_tenants()) {
        let wasm = tenants_guest(&attack.fields, &attack.body, "unreachable");
        ship.attacked(Strategy::Repack, &attack, &wasm);
    }
    let honest = gives("(i32.const 2048)", "(local.get 1)");
    for attack in alone().chain(lies::about_packs()) {
        let wasm = tenants_guest(&attack.fields, &honest, &attack.body);
        ship.attacked(Strategy::Repack, &attack, &wasm);
    }
    ship.sails_on();
}

/// Goal: whatever `begin` and `decide` do, no snapshot is deleted.
#[test]
fn retention_is_ended_and_no_snapshot_is_deleted() {
    let Some(ship) = Ship::launch() else {
        return;
    };
    for attack in common() {
        let fields = format!("{DECISION} {}", attack.fields);
        let decide = answers::decides(2_048, 1);
        let wasm = made(worlds::Guest::retaining(&fields, &attack.body, &decide));
        ship.attacked(Strategy::Retention, &attack, &wasm);
    }
    for attack in common().into_iter().chain(lies::about_snapshots()) {
        let fields = format!("{DECISION} {}", attack.fields);
        let wasm = made(worlds::Guest::retaining(&fields, YES, &attack.body));
        ship.attacked(Strategy::Retention, &attack, &wasm);
    }
    // The same within a run, after its lease.
    for attack in lies::about_snapshots().into_iter().take(3) {
        let fields = format!("{DECISION} {}", attack.fields);
        let wasm = made(worlds::Guest::retaining(&fields, YES, &attack.body));
        ship.attacked(Strategy::RetentionOfRun, &attack, &wasm);
    }
    ship.sails_on();
}

/// Goal: whatever `schedule` does, a run ends before its first write.
#[test]
fn scheduling_is_ended_and_nothing_is_written() {
    let Some(ship) = Ship::launch() else {
        return;
    };
    for attack in common().into_iter().chain(lies::about_schedules()) {
        let fields = format!("{TASKS} {}", attack.fields);
        let wasm = made(worlds::Guest::scheduling(&fields, &attack.body));
        ship.attacked(Strategy::Scheduling, &attack, &wasm);
    }
    ship.sails_on();
}

/// Goal: who has fuel for minutes is ended by the clock all the same, whoever asks.
#[test]
fn who_has_fuel_is_ended_by_the_deadline() {
    let Some(ship) = Ship::launch() else {
        return;
    };
    let endless = &attacks::endless();
    let begins = worlds::Guest::retaining(DECISION, &endless.body, "unreachable");
    for (strategy, wasm) in [
        (Strategy::Split, split_guest(endless)),
        (Strategy::Retention, made(begins)),
        (
            Strategy::Scheduling,
            made(worlds::Guest::scheduling(TASKS, &endless.body)),
        ),
        // Last: a run has written its schedule by then.
        (Strategy::Repack, repack_guest(endless)),
    ] {
        ship.runs_into_the_deadline(strategy, &wasm);
    }
    ship.sails_on();
}

/// Goal: a guest that attacks when it is asked what it is, or given its configuration, is ended
/// before the repository's schedule is looked at.
#[test]
fn talking_about_itself_is_ended_and_nothing_is_written() {
    let Some(ship) = Ship::launch() else {
        return;
    };
    let soon = answers::waits_until("(i64.add (i64.load (local.get 0)) (i64.const 60))", (0, 0));
    let describes = lies::describes();
    let keeps = "(i32.store (i32.const 600) (i32.const 0)) (i32.const 600)";
    let describing = common().into_iter().filter(lies::is_of_a_record);
    for attack in describing.chain(lies::about_itself()) {
        let fields = format!("{} {}", lies::NAMED, attack.fields);
        let guest = worlds::Guest::scheduling(&fields, &soon).about(&attack.body, keeps);
        ship.attacked(Strategy::Scheduling, &attack, &made(guest));
    }
    for attack in common().into_iter().chain(lies::about_configurations()) {
        let fields = format!("{} {}", lies::NAMED, attack.fields);
        let guest = worlds::Guest::scheduling(&fields, &soon).about(&describes, &attack.body);
        ship.attacked(Strategy::Scheduling, &attack, &made(guest));
    }
    ship.sails_on();
}
