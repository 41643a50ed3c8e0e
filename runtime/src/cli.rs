//! cli
/// Runs the program.
pub fn main(_: std::env::ArgsOs) -> std::process::ExitCode {
    std::process::ExitCode::SUCCESS
}
