//! The `careen` program: hands the arguments to the command line floor and returns its exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    careen::cli::main(std::env::args_os())
}
