//! SIGTERM and SIGINT: end soon, at the next safe point; a second one ends at once.
//!
//! Kubernetes sends the first and waits half a minute before it kills. Ending at once is safe too,
//! as a kill is; it only leaves a lease. No memory cost.

use std::sync::Arc;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use super::error::CliError;
use crate::maintenance::watch::StopFlag;

/// Returns a flag that the first signal sets; from then on a second one ends the process.
pub(super) fn stop_flag() -> Result<StopFlag, CliError> {
    let stop = StopFlag::default();
    for signal in [SIGTERM, SIGINT] {
        // In this order: the first signal must not find its own mark.
        let exit = 128 + signal;
        flag::register_conditional_shutdown(signal, exit, Arc::clone(&stop))
            .and_then(|_| flag::register(signal, Arc::clone(&stop)))
            .map_err(|error| CliError::Signals(error.to_string()))?;
    }
    Ok(stop)
}
