//! Makes the C library give freed buffers back to the kernel, so that phases do not add up.
//!
//! glibc keeps what a thread has freed in an arena of that thread, and once a large buffer was
//! freed it no longer maps those of that size but takes them from there. What one phase has freed
//! stays, and the next phase comes on top: 2.2 million contents were rewritten in 45 MiB, then
//! reading the index took 20 more and the kernel ended the run in its 64 MiB. With these settings
//! it peaks at 29 to 33. glibc reads them when a program starts, so the program starts itself
//! again, once; that takes a millisecond. Other C libraries pass them over.

use std::ffi::OsStr;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Buffers from this size on are mapped, and unmapped when they are freed. Setting it at all keeps
/// glibc from raising it.
const MAPPED_FROM: (&str, &str) = ("MALLOC_MMAP_THRESHOLD_", "131072");

/// Arenas of all threads together.
const ARENAS: (&str, &str) = ("MALLOC_ARENA_MAX", "2");

/// Starts the program again with the settings, unless they are there, its own or others. Returns
/// where it goes on as it is: with the settings, or where it cannot be started again.
pub fn restart_with_returning_heap() {
    if !cfg!(target_env = "gnu") || std::env::var_os(MAPPED_FROM.0).is_some() {
        return;
    }
    let Ok(program) = std::env::current_exe() else {
        return;
    };
    let mut arguments = std::env::args_os();
    let own_name = arguments.next();
    let mut command = Command::new(&program);
    if let Some(name) = own_name.as_deref() {
        command.arg0::<&OsStr>(name);
    }
    // Returns only where it fails; then the heap stays as it is.
    let _failed = command.args(arguments).envs([MAPPED_FROM, ARENAS]).exec();
}
