//! The `careen` program.
//!
//! It hands the arguments to the command line floor and returns its exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    #[cfg(feature = "plugins")]
    {
        use careen::plugin::{COMPILE_SUBCOMMAND, compile_child_main};
        // Before anything else: this child of the program itself must not grow before it limits
        // itself.
        if std::env::args_os()
            .nth(1)
            .is_some_and(|argument| argument == COMPILE_SUBCOMMAND)
        {
            return compile_child_main(std::env::args_os().skip(2));
        }
    }
    careen::cli::restart_with_returning_heap();
    careen::cli::main(std::env::args_os())
}
