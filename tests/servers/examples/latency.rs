//! A proxy that makes a server slower, and counts: for measuring by hand.
//!
//! `cargo run -p servers --example latency -- PORT MILLISECONDS` prints its own port; a line on
//! standard input makes it print what was asked since the last one, its end ends it.

use std::io::Write;
use std::time::Duration;

use servers::fault_proxy::{Fault, FaultProxy, Kind};

fn main() {
    let mut arguments = std::env::args()
        .skip(1)
        .filter_map(|text| text.parse().ok());
    let port: u64 = arguments.next().unwrap_or(8333);
    let delay = Duration::from_millis(arguments.next().unwrap_or(0));
    let proxy = FaultProxy::before(port as u16);
    let slow = move |proxy: &FaultProxy| proxy.rule(move |_| Fault::Delay(delay));
    slow(&proxy);
    let mut out = std::io::stdout().lock();
    // Nobody is there to hear of a closed standard output.
    let _ = writeln!(out, "{}", proxy.port());
    for _ in std::io::stdin().lines() {
        let kinds = [
            Kind::Get,
            Kind::Head,
            Kind::List,
            Kind::Put,
            Kind::Delete,
            Kind::Other,
        ];
        let counts = kinds.map(|kind| format!("{kind:?} {}", proxy.count(kind)));
        let _ = writeln!(out, "{}", counts.join(", "));
        slow(&proxy);
    }
}
