//! The maintenance schedule and the maintenance parameters.
//!
//! What is read is written, and what is written is read again with the same times.

#![no_main]

use careen::kopia::maintenance_params::MaintenanceParams;
use careen::kopia::schedule::Schedule;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|json: &[u8]| {
    if let Ok(schedule) = Schedule::parse(json) {
        let again = Schedule::parse(&schedule.to_json()).expect("what we write");
        assert_eq!(again.next_full, schedule.next_full);
        assert_eq!(again.next_quick, schedule.next_quick);
        assert!(again.runs.keys().eq(schedule.runs.keys()));
    }
    if let Ok(params) = MaintenanceParams::parse(json) {
        MaintenanceParams::parse(&params.to_json()).expect("what we write");
    }
});
