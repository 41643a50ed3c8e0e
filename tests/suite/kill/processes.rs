//! A real process, killed by the kernel at sampled moments.
//!
//! (written once the command line has landed)
