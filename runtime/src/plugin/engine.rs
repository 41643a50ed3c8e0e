//! The wasmtime engine: which WebAssembly a plugin may use and how its code is compiled and loaded.
//!
//! The only file of this floor with `unsafe`. A `.cwasm` is machine code: loading a foreign one is
//! running it. Only code that this very program has compiled, from a file whose digest was checked,
//! gets here.
//!
//! The proposals `gc` and `threads` are compiled in, because builds without them abort on some
//! inputs (RUSTSEC-2026-0570, GHSA-2674-w29h-wqvj), and are switched off here. `multi-memory` stays
//! on: without it wasmtime 48.0.8 panics on components with adapters between two instances; the
//! limiter counts memories instead. Memory: 2 to 3 MiB for the engine; address space is 32 MiB for
//! each memory of a plugin.
#![allow(unsafe_code)]

use std::fs::File;
use std::hash::{Hash, Hasher};
use std::io::{self, Read, Seek};
use std::os::fd::AsRawFd;

use wasmtime::component::Component;
use wasmtime::{Config, Engine, Strategy};

use super::limits::WASM_STACK_BYTES;

/// Address space of one linear memory. More than the default limit of a plugin, so that its memory
/// does not move, and little enough to work under `ulimit -v`.
const MEMORY_RESERVATION_BYTES: u64 = 32 << 20;

/// For whom code is compiled: this system, and any processor that it may meet. Named, so that
/// wasmtime does not take what the processor at hand can do: code of an image must run on every
/// node, and its name in the cache must be the same there.
const TARGET: Option<&str> = match (
    cfg!(target_arch = "x86_64"),
    cfg!(target_arch = "aarch64"),
    cfg!(target_env = "gnu"),
) {
    (true, _, true) => Some("x86_64-unknown-linux-gnu"),
    (true, _, false) => Some("x86_64-unknown-linux-musl"),
    (_, true, true) => Some("aarch64-unknown-linux-gnu"),
    (_, true, false) => Some("aarch64-unknown-linux-musl"),
    _ => None,
};

/// What every x86-64 processor since 2009 can do, as current distributions demand.
const X86_LEVEL: &str = "x86-64-v2";

/// Unmapped bytes after a linear memory.
const MEMORY_GUARD_BYTES: u64 = 64 << 10;

/// Returns the engine that every plugin is compiled for and runs in.
pub(super) fn new_engine() -> wasmtime::Result<Engine> {
    let mut config = Config::new();
    config
        .strategy(Strategy::Cranelift)
        .consume_fuel(true)
        .epoch_interruption(true)
        .max_wasm_stack(WASM_STACK_BYTES)
        .memory_reservation(MEMORY_RESERVATION_BYTES)
        .memory_reservation_for_growth(0)
        .memory_guard_size(MEMORY_GUARD_BYTES)
        .memory_init_cow(false)
        .cranelift_nan_canonicalization(true)
        .generate_address_map(false)
        .wasm_backtrace_max_frames(None)
        .wasm_component_model(true)
        .wasm_multi_memory(true)
        .wasm_gc(false)
        .wasm_function_references(false)
        .wasm_exceptions(false)
        .wasm_threads(false)
        .wasm_shared_everything_threads(false)
        .wasm_stack_switching(false)
        .wasm_memory64(false)
        .wasm_relaxed_simd(false)
        .wasm_tail_call(false);
    if let Some(target) = TARGET {
        config.target(target)?;
        if cfg!(target_arch = "x86_64") {
            // SAFETY: says which instructions the code may have; wasmtime compares them with what
            // the processor can do before it loads any code, and refuses to where one is missing.
            unsafe { config.cranelift_flag_enable(X86_LEVEL) };
        }
    }
    Engine::new(&config)
}

/// Compiles a component to machine code. For the child process only: hostile input makes it large
/// and slow.
pub(super) fn compile(engine: &Engine, wasm: &[u8]) -> wasmtime::Result<Vec<u8>> {
    engine.precompile_component(wasm)
}

/// Feeds everything that decides whether compiled code fits `engine` into `hasher`.
pub(super) fn hash_compatibility(engine: &Engine, hasher: &mut impl Hasher) {
    engine.precompile_compatibility_hash().hash(hasher);
}

/// Loads compiled code. `code` must be what [`compile`] made, unchanged: the caller has checked its
/// digest.
///
/// The file is mapped, so its pages can be given back under pressure. Where mapping as code is
/// forbidden (a file system mounted `noexec`), it is copied into memory.
pub(super) fn load(engine: &Engine, code: &mut File) -> wasmtime::Result<Component> {
    // The same open file that was checked, whatever its name means by now.
    let same_file = format!("/proc/self/fd/{}", code.as_raw_fd());
    // SAFETY: the code was written by `compile` in a process of this program, into a file that only
    // this user can write, and its digest was checked after it was opened. `cache.rs` keeps that
    // promise. Files in the cache are never written in place, only renamed, so the mapping does not
    // change either.
    match unsafe { Component::deserialize_file(engine, same_file) } {
        Ok(component) => Ok(component),
        Err(error) => {
            tracing::debug!(%error, "compiled plugin cannot be mapped, reading it");
            let bytes = read_all(code)?;
            // SAFETY: as above; the same bytes.
            unsafe { Component::deserialize(engine, bytes) }
        }
    }
}

/// Reads the whole file; its size is bounded by the compiler's limit on code.
fn read_all(code: &mut File) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    code.rewind()?;
    code.read_to_end(&mut bytes)?;
    Ok(bytes)
}
