//! Where real Kopia's maintenance is recorded, ours records the same: tasks, outcomes, statistics.
//!
//! The golden descriptions hold what Kopia 0.23.1 wrote into the schedule at `now`; ours runs at
//! the same moment.

use careen::maintenance::cycle_plan::Mode;
use careen::maintenance::safety::Safety;
use kit::cycle::{cycle, new_runs, schedule};
use kit::golden::{Golden, NAMES};
use kit::index_work::{Bench, open};

#[test]
fn quick_cycles_are_recorded_as_kopias() {
    let mut compared = 0;
    for name in NAMES {
        let golden = Golden::open(name);
        let repository = open(golden.path(), golden.password(), golden.now()).unwrap();
        let before = schedule(&repository);
        let options = cycle(Mode::Quick, Safety::full(), golden.maintenance_owner());
        let report = Bench::new()
            .cycle(&repository, &options)
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        let after = schedule(&repository);
        let told = &golden.what_kopia_does("quick")["tasks"];
        assert_eq!(&new_runs(&before, &after), told, "{name}");
        let tasks = told.as_object().unwrap().len();
        assert_eq!(report.tasks.len(), tasks, "{name}");
        assert_eq!(after.next_full, before.next_full, "{name}");
        let hour = golden.now().plus(std::time::Duration::from_secs(3_600));
        assert_eq!(
            after.next_quick, hour,
            "{name}: an interval after the start"
        );
        assert!(after.unknown.is_empty(), "{name}: the lease is given back");
        compared += 1;
    }
    assert_eq!(compared, NAMES.len());
}
