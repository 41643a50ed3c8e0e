//! `careen run` keeps Kopia's protocol: what it records is what Kopia records, a kill or a signal is
//! never a success, and nobody maintains beside anybody.
//!
//! The golden repositories tell what Kopia 0.23.1 recorded at the same moment. Worlds in memory are
//! for kills after every storage operation, for foreign writers in the middle, and for clocks.

mod golden;
