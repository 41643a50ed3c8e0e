//! Calls into a plugin: a store with its limits, the log, and what came of it.
//!
//! A session lives for one phase of a run: its instance is configured, answers the questions of the
//! phase, and is gone. Whatever state an error leaves behind is gone too. Fuel ends loops the same
//! way on every machine; the deadline is the net below it.
//! Memory: the plugin's budget, and [`ANSWER_BYTES_MAX`] for what it hands over.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, SyncSender};
use std::thread::JoinHandle;
use std::time::Duration;

use wasmtime::{Engine, Store, Trap};

use crate::clock::Stopwatch;

use super::error::{Failure, harmless};
use super::limits::{
    ANSWER_BYTES_MAX, HANDLES_MAX, LOG_CALLS_MAX, LOG_LINES_MAX, LimitExceeded, Limiter,
    PluginLimits,
};
use super::usage::Tally;

/// Stack of the thread that watches the deadline: it sleeps and adds one.
const WATCH_STACK_BYTES: usize = 64 << 10;

/// What a store knows about its plugin.
pub(super) struct Guest {
    name: String,
    limiter: Limiter,
    log_lines: u32,
    last_words: String,
}

/// How much a log line matters.
#[derive(Clone, Copy, Debug)]
pub(super) enum LogLevel {
    Debug,
    Info,
    Warn,
    Error,
}

/// A store that several calls share: what a plugin keeps of one is there in the next. Each call has
/// the whole fuel, time and log of a call; memory is the plugin's all the time.
pub(super) struct Session {
    store: Store<Guest>,
    limits: PluginLimits,
    tally: Tally,
}

impl Session {
    /// Makes a store with its limits. Nothing runs yet. What calls use is added to `tally`.
    pub(super) fn new(engine: &Engine, name: &str, limits: PluginLimits, tally: &Tally) -> Self {
        let guest = Guest {
            name: name.to_owned(),
            limiter: Limiter::new(limits.memory_bytes),
            log_lines: 0,
            last_words: String::new(),
        };
        let mut store = Store::new(engine, guest);
        store.limiter(|guest| &mut guest.limiter);
        store.set_hostcall_fuel(ANSWER_BYTES_MAX);
        store.set_max_component_handles(HANDLES_MAX);
        Self {
            store,
            limits,
            tally: tally.clone(),
        }
    }

    /// Lets `call` use the store, and says what ended it. After an error the session is of no use.
    ///
    /// # Errors
    /// A failure for every trap, limit and unusable value.
    pub(super) fn call<R>(
        &mut self,
        engine: &Engine,
        call: impl FnOnce(&mut Store<Guest>) -> wasmtime::Result<R>,
    ) -> Result<R, Failure> {
        let (store, limits) = (&mut self.store, self.limits);
        store.data_mut().log_lines = 0;
        store
            .set_fuel(limits.fuel)
            .expect("the engine counts fuel, see engine.rs");
        store.set_epoch_deadline(1);
        let started = Stopwatch::start();
        let watch = Watch::start(engine, limits.deadline)?;
        let result = call(store);
        drop(watch);
        let (store, elapsed) = (&*store, started.elapsed());
        let guest = store.data();
        let held_bytes = guest.limiter.held_bytes();
        let fuel = used_fuel(result.as_ref().err(), store, limits).unwrap_or(0);
        self.tally
            .add_call(fuel, held_bytes, elapsed, guest.log_lines);
        result.map_err(|error| explain(&error, store, limits, elapsed))
    }
}

/// Returns the fuel that a call took; not known where the deadline ended it, since fuel is in a
/// register then and reads wrong.
fn used_fuel(
    error: Option<&wasmtime::Error>,
    store: &Store<Guest>,
    limits: PluginLimits,
) -> Option<u64> {
    let trap = error.and_then(|error| error.downcast_ref::<Trap>());
    let left = store.get_fuel().unwrap_or(0);
    (trap != Some(&Trap::Interrupt)).then(|| limits.fuel.saturating_sub(left))
}

/// Finds out what ended the plugin.
fn explain(
    error: &wasmtime::Error,
    store: &Store<Guest>,
    limits: PluginLimits,
    elapsed: Duration,
) -> Failure {
    let guest = store.data();
    let memory = format!(
        "memory {} of {} KiB",
        guest.limiter.held_bytes() / 1024,
        limits.memory_bytes / 1024
    );
    let time = format!(
        "{:.1} of {} ms",
        elapsed.as_secs_f64() * 1e3,
        limits.deadline.as_millis()
    );
    let trap = error.downcast_ref::<Trap>();
    let Some(fuel) = used_fuel(Some(error), store, limits) else {
        return Failure::Deadline {
            usage: format!("{memory}, {time}"),
        };
    };
    let usage = format!("{memory}, fuel {fuel} of {}, {time}", limits.fuel);
    if let Some(limit) = error.downcast_ref::<LimitExceeded>() {
        let limit = *limit;
        return Failure::Memory { limit, usage };
    }
    match trap {
        Some(Trap::OutOfFuel) => Failure::Fuel { usage },
        Some(trap) if !is_about_data(*trap) => {
            let mut reason = trap.to_string();
            if !guest.last_words.is_empty() {
                reason = format!("{reason}, after it logged: {}", guest.last_words);
            }
            Failure::Trap { reason, usage }
        }
        _ => Failure::Data {
            reason: harmless(&error.root_cause().to_string()),
            usage,
        },
    }
}

/// Tells whether the trap is about a value that crosses the border, not about the plugin's own
/// code.
fn is_about_data(trap: Trap) -> bool {
    matches!(
        trap,
        Trap::InvalidChar
            | Trap::StringOutOfBounds
            | Trap::ListOutOfBounds
            | Trap::InvalidDiscriminant
            | Trap::UnalignedPointer
    )
}

impl Guest {
    /// Passes a log line on, as long as there are not too many. Errors are kept for the failure's
    /// text.
    ///
    /// # Errors
    /// After [`LOG_CALLS_MAX`] lines, which ends the plugin.
    pub(super) fn log(&mut self, level: LogLevel, message: &str) -> wasmtime::Result<()> {
        self.log_lines += 1;
        if self.log_lines > LOG_CALLS_MAX {
            let words = format!("more than {LOG_CALLS_MAX} log lines");
            return Err(wasmtime::Error::msg(words));
        }
        if self.log_lines > LOG_LINES_MAX {
            return Ok(());
        }
        let message = harmless(message);
        let plugin = self.name.as_str();
        match level {
            LogLevel::Debug => tracing::debug!(plugin, "{message}"),
            LogLevel::Info => tracing::info!(plugin, "{message}"),
            LogLevel::Warn => tracing::warn!(plugin, "{message}"),
            // A person must look at an error of ours; a plugin's word alone is a warning.
            LogLevel::Error => tracing::warn!(plugin, "{message}"),
        }
        if self.log_lines == LOG_LINES_MAX {
            tracing::warn!(
                plugin,
                "more log lines than {LOG_LINES_MAX}: the rest is dropped"
            );
        }
        if matches!(level, LogLevel::Error) {
            self.last_words = message;
        }
        Ok(())
    }
}

/// Advances the engine's epoch when the deadline passes; stops when dropped.
///
/// An engine has one plugin and one call at a time, so no other call is hit.
///
/// A call that ends in time does not wait for the thread to end: on a busy machine that takes
/// longer than the call. Whichever of both comes first takes `armed`; the thread advances the epoch
/// only if it did.
struct Watch {
    armed: Arc<AtomicBool>,
    done: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    fn start(engine: &Engine, deadline: Duration) -> Result<Self, Failure> {
        let (done, finished) = mpsc::sync_channel::<()>(0);
        let engine = engine.clone();
        let armed = Arc::new(AtomicBool::new(true));
        let taken = Arc::clone(&armed);
        let thread = std::thread::Builder::new()
            .name("plugin-deadline".into())
            .stack_size(WATCH_STACK_BYTES)
            .spawn(move || {
                let waited = finished.recv_timeout(deadline);
                if waited == Err(RecvTimeoutError::Timeout) && taken.swap(false, Ordering::SeqCst) {
                    engine.increment_epoch();
                }
            })
            .map_err(Failure::io("start a thread"))?;
        Ok(Self {
            armed,
            done: Some(done),
            thread: Some(thread),
        })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        drop(self.done.take());
        let in_time = self.armed.swap(false, Ordering::SeqCst);
        // Once it has begun to advance the epoch, the next call must not begin before it has.
        if let Some(thread) = self.thread.take().filter(|_| !in_time) {
            // It cannot panic: it waits and adds one.
            let _ = thread.join();
        }
    }
}
