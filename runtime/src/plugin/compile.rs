//! Compiles a plugin in a child process: the same program, with its own limits.
//!
//! Compiling hostile WebAssembly takes any amount of memory and time (550 MiB and 23 s were seen),
//! and some inputs make the compiler panic. In a child that ends the child. The child limits itself
//! before it reads a byte, makes itself the first victim of the kernel's OOM killer, and dies with
//! its parent. It gets the component on standard input, writes machine code to the file that is its
//! standard output, and a reason to standard error. It has no environment and touches no other
//! file.
//!
//! Memory: 64 KiB here; 12 to 20 MiB in the child for an honest plugin in Rust or C, and never more
//! than it is given: the caller says what is left of its own limit.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Resource, Rlimit, Signal, getrlimit, setrlimit};

use crate::clock::Stopwatch;

use super::engine;
use super::error::{Failure, GUEST_TEXT_BYTES_MAX, harmless};
use super::limits::WASM_BYTES_MAX;
use super::wasm_file::PluginSource;

/// Hidden subcommand of the program that [`compile_child_main`] implements.
pub const COMPILE_SUBCOMMAND: &str = "plugin-compile";

/// The child's exit code for a component that the compiler refuses, as `EX_DATAERR`.
const EXIT_REFUSED: u8 = 65;

/// Shortest and longest pause between two looks at the child.
const PAUSE: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(10));

/// Limits of a compilation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompileLimits {
    /// The program that is run with [`COMPILE_SUBCOMMAND`]; `None` is this very program.
    pub program: Option<PathBuf>,
    /// Address space, in bytes. The program itself takes a part of it.
    pub address_space_bytes: u64,
    /// Memory of its own (heap, and whatever else it may write to), in bytes: below what is left
    /// of the memory limit, so that the kernel has nobody to kill. On cgroup v2 it may take the
    /// whole container.
    pub data_bytes: u64,
    /// Processor time, in seconds.
    pub cpu_seconds: u64,
    /// Size of the machine code, in bytes.
    pub code_bytes: u64,
    /// Wall time, after which the child is killed.
    pub deadline: Duration,
}

impl Default for CompileLimits {
    /// Enough for CPython as a component: 300 MiB, 12 s, 34 MB of code.
    fn default() -> Self {
        Self {
            program: None,
            address_space_bytes: 512 << 20,
            data_bytes: 512 << 20,
            cpu_seconds: 60,
            code_bytes: 64 << 20,
            deadline: Duration::from_secs(120),
        }
    }
}

/// Compiles `source` into `code`; fails unless the bytes that were compiled have `digest`.
pub(super) fn compile(
    source: &PluginSource,
    digest: &[u8; 32],
    code: &File,
    limits: &CompileLimits,
) -> Result<(), Failure> {
    if cfg!(feature = "compile-in-process") {
        return compile_here(source, digest, code);
    }
    let started = Stopwatch::start();
    let mut child = spawn(code, limits)?;
    let stdin = child.stdin.take();
    let stderr = child.stderr.take();
    let (compiled, status, words) = std::thread::scope(|scope| {
        let writer = scope.spawn(move || {
            let mut stdin = stdin.expect("was piped");
            source.copy_to(&mut stdin)
        });
        let reader = scope.spawn(move || first_words(stderr.expect("was piped")));
        let status = wait(&mut child, started, limits.deadline);
        // Both threads end with the child: its ends of the pipes are closed.
        let compiled = writer.join().expect("copying does not panic");
        (compiled, status, reader.join().unwrap_or_default())
    });
    judge(status?, &words, limits)?;
    same_file(compiled?, digest)
}

fn same_file(compiled: blake3::Hash, digest: &[u8; 32]) -> Result<(), Failure> {
    if compiled == *digest {
        return Ok(());
    }
    let error = io::Error::other("the file changed while it was compiled");
    Err(Failure::io("read the file")(error))
}

/// Compiles in this process, where a fuzz target sees what its input reaches.
fn compile_here(source: &PluginSource, digest: &[u8; 32], mut code: &File) -> Result<(), Failure> {
    let refused = |error: wasmtime::Error| Failure::Compile(harmless(&format!("{error:#}")));
    let mut wasm = Vec::new();
    same_file(source.copy_to(&mut wasm)?, digest)?;
    let engine = engine::new_engine().map_err(refused)?;
    let compiled = engine::compile(&engine, &wasm).map_err(refused)?;
    code.write_all(&compiled)
        .map_err(Failure::io("write the code"))
}

fn spawn(code: &File, limits: &CompileLimits) -> Result<Child, Failure> {
    let program = match &limits.program {
        Some(program) => program.clone(),
        // Not by its name: another version may have taken its place since this one was started.
        None => PathBuf::from("/proc/self/exe"),
    };
    let code = code.try_clone().map_err(Failure::io("share a file"))?;
    Command::new(program)
        .arg(COMPILE_SUBCOMMAND)
        .arg(limits.address_space_bytes.to_string())
        .arg(limits.data_bytes.to_string())
        .arg(limits.cpu_seconds.to_string())
        .arg(limits.code_bytes.to_string())
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(code)
        .stderr(Stdio::piped())
        .spawn()
        .map_err(Failure::io("start the compiler"))
}

/// Waits for the child; `None` after it was killed at the deadline.
fn wait(
    child: &mut Child,
    started: Stopwatch,
    deadline: Duration,
) -> Result<Option<ExitStatus>, Failure> {
    let mut pause = PAUSE.0;
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Ok(Some(status)),
            Ok(None) if started.elapsed() < deadline => std::thread::sleep(pause),
            Ok(None) => {
                // It may have ended just now; waiting collects it in both cases.
                let _ = child.kill();
                return child
                    .wait()
                    .map(|_| None)
                    .map_err(Failure::io("stop the compiler"));
            }
            Err(error) => {
                let _ = child.kill();
                return Err(Failure::io("wait for the compiler")(error));
            }
        }
        pause = (pause * 2).min(PAUSE.1);
    }
}

/// Reads the first words and throws the rest away, so that the child never waits.
fn first_words(mut stderr: impl Read) -> String {
    let mut words = Vec::new();
    // What was read until an error is still worth showing.
    let _ = stderr
        .by_ref()
        .take(GUEST_TEXT_BYTES_MAX as u64)
        .read_to_end(&mut words);
    let _ = io::copy(&mut stderr, &mut io::sink());
    harmless(&String::from_utf8_lossy(&words)).trim().into()
}

fn judge(status: Option<ExitStatus>, words: &str, limits: &CompileLimits) -> Result<(), Failure> {
    let end = match status {
        Some(status) if status.success() => return Ok(()),
        Some(status) if status.code() == Some(i32::from(EXIT_REFUSED)) => {
            return Err(Failure::Compile(words.into()));
        }
        Some(status) => match (status.signal(), status.code()) {
            (Some(signal), _) => {
                format!("the compiler was ended by signal {signal}{}", why(signal))
            }
            (None, code) => format!("the compiler ended with code {}", code.unwrap_or(-1)),
        },
        None => "the compiler was killed at its deadline".into(),
    };
    let colon = if words.is_empty() { "" } else { ": " };
    Err(Failure::CompileLimit(format!(
        "{end}{colon}{words} (limits: {} MiB of memory, {} MiB of address space, {} s of \
         processor time, {} MiB of code, {} s in all)",
        limits.data_bytes >> 20,
        limits.address_space_bytes >> 20,
        limits.cpu_seconds,
        limits.code_bytes >> 20,
        limits.deadline.as_secs_f64()
    )))
}

/// Says what a signal means here.
fn why(signal: i32) -> &'static str {
    match Signal::from_named_raw(signal) {
        Some(Signal::XCPU) => " (processor time)",
        Some(Signal::XFSZ) => " (size of the code)",
        Some(Signal::KILL) => " (killed, perhaps for the system's lack of memory)",
        Some(Signal::ABORT) => " (gave up, mostly for lack of memory)",
        _ => "",
    }
}

/// Runs the child: `plugin-compile ADDRESS_SPACE_BYTES DATA_BYTES CPU_SECONDS CODE_BYTES`, without
/// the program's name.
///
/// Reads a component from standard input and writes machine code to standard output. Exit code 65
/// and a reason on standard error when the component is refused, 1 for everything else. Every
/// plugin host calls it before anything else when its first argument is [`COMPILE_SUBCOMMAND`].
pub fn compile_child_main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let (code, reason) = match compile_child(arguments) {
        Ok(()) => return ExitCode::SUCCESS,
        Err((code, reason)) => (code, reason),
    };
    // The parent reads it; without a parent there is nobody to tell.
    let _ = writeln!(io::stderr(), "{reason}");
    ExitCode::from(code)
}

fn compile_child(arguments: impl IntoIterator<Item = OsString>) -> Result<(), (u8, String)> {
    let other = |error: &dyn std::fmt::Display| (1, error.to_string());
    let numbers: Vec<u64> = arguments
        .into_iter()
        .take(5)
        .filter_map(|argument| argument.to_str()?.parse().ok())
        .collect();
    let limits: Result<[u64; 4], _> = numbers.try_into();
    let Ok(limits) = limits else {
        return Err(other(&"not for people: started by this program itself"));
    };
    confine(limits).map_err(|error| other(&error))?;
    let mut wasm = Vec::new();
    io::stdin()
        .take(WASM_BYTES_MAX)
        .read_to_end(&mut wasm)
        .map_err(|error| other(&error))?;
    let engine = engine::new_engine().map_err(|error| other(&error))?;
    let code =
        engine::compile(&engine, &wasm).map_err(|error| (EXIT_REFUSED, format!("{error:#}")))?;
    let mut stdout = io::stdout();
    stdout
        .write_all(&code)
        .and_then(|()| stdout.flush())
        .map_err(|error| other(&error))
}

/// Limits this process for good.
fn confine([address_space, data, cpu_seconds, code]: [u64; 4]) -> io::Result<()> {
    let lower = |resource, value: u64| {
        let most = getrlimit(resource).maximum.unwrap_or(u64::MAX);
        let limit = Rlimit {
            current: Some(value.min(most)),
            // One more, so that the kernel says what was exceeded before it kills.
            maximum: Some(value.saturating_add(1).min(most)),
        };
        setrlimit(resource, limit)
    };
    lower(Resource::As, address_space)?;
    lower(Resource::Data, data)?;
    lower(Resource::Cpu, cpu_seconds)?;
    lower(Resource::Fsize, code)?;
    lower(Resource::Core, 0)?;
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    // Not every kernel and container has the file. The limits above hold without it.
    let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn judges_how_the_child_ended() {
        let limits = CompileLimits::default();
        let judge = |raw| judge(Some(ExitStatus::from_raw(raw)), "words", &limits);
        assert!(judge(0).is_ok());
        let refused = judge(i32::from(EXIT_REFUSED) << 8).unwrap_err();
        assert_eq!(refused.to_string(), "cannot be compiled: words");
        let aborted = judge(6).unwrap_err();
        assert_eq!(aborted.code(), "plugin-compile-limit");
        assert!(
            aborted
                .to_string()
                .contains("signal 6 (gave up, mostly for lack of memory): words"),
            "{aborted}"
        );
        assert_eq!(judge(101 << 8).unwrap_err().code(), "plugin-compile-limit");
    }

    #[test]
    fn a_child_without_its_numbers_does_nothing() {
        let run = |arguments: &[&str]| compile_child(arguments.iter().map(OsString::from));
        assert_eq!(run(&[]).unwrap_err().0, 1);
        assert_eq!(run(&["1", "2"]).unwrap_err().0, 1);
        assert_eq!(run(&["1", "2", "3", "x"]).unwrap_err().0, 1);
        assert_eq!(run(&["1", "2", "3", "4", "5"]).unwrap_err().0, 1);
    }

    #[test]
    fn only_the_first_words_of_a_child_are_kept() {
        let flood = io::repeat(b'a').take(1 << 20);
        assert_eq!(first_words(flood).len(), GUEST_TEXT_BYTES_MAX);
        assert_eq!(first_words(&b"\x1b[31mred\n"[..]), "[31mred");
    }
}
