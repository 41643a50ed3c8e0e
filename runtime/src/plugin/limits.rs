//! What a plugin may take of the host: all limits of all plugins in one place.
//!
//! Memory, fuel and time can be set for each strategy, within what is written here and what the
//! memory plan leaves; everything else is the same for all. Memory is one budget for all memories
//! and tables together: wasmtime's own `StoreLimits` looks at each memory alone, so 60 memories of
//! 8 MiB would pass. A wish above the budget traps with our own words; -1 to the plugin would end
//! as `unreachable` without a reason. Invariant: `held_bytes <= memory_bytes`.

use std::fmt;
use std::time::Duration;

use wasmtime::ResourceLimiter;

/// Largest component. CPython as a component has 18 MB.
pub const WASM_BYTES_MAX: u64 = 32 << 20;

/// Stack of a plugin's code, as wasmtime has it by default. Threads that call plugins have 2 MiB at
/// least.
pub(super) const WASM_STACK_BYTES: usize = 512 << 10;

/// Host memory for one answer or one log line: strings that share their bytes count each time.
pub(super) const ANSWER_BYTES_MAX: usize = 4 << 20;

/// Handles to resources. The worlds have none; components may have their own.
pub(super) const HANDLES_MAX: usize = 1_000;

/// Log lines of one call that are passed on.
pub(super) const LOG_LINES_MAX: u32 = 100;

/// Log lines of one call after which the plugin is ended: a call of the host costs more time than
/// its fuel.
pub(super) const LOG_CALLS_MAX: u32 = 10_000;

/// Bytes that a table element costs in wasmtime.
const TABLE_ELEMENT_BYTES: usize = size_of::<usize>();

/// Core instances of one component: CPython's needs more than 16.
const INSTANCES_MAX: usize = 100;

/// Memories of one component. Honest ones have one or two.
const MEMORIES_MAX: usize = 8;

/// Tables of one component: one for each core instance at most.
const TABLES_MAX: usize = 100;

/// What one plugin may take, where it can be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PluginLimits {
    /// Bytes of all its memories and tables together, as long as an instance lives.
    pub memory_bytes: usize,
    /// Fuel of one call: about 6 to 20 units a nanosecond.
    pub fuel: u64,
    /// Wall time of one call.
    pub deadline: Duration,
}

impl Default for PluginLimits {
    /// 8 MiB, a billion units of fuel (50 to 160 ms), 5 s: a hundred times what the built-in
    /// strategies need for the largest question, and a thousand rows in JavaScript.
    fn default() -> Self {
        Self {
            memory_bytes: 8 << 20,
            fuel: 1_000_000_000,
            deadline: Duration::from_secs(5),
        }
    }
}

impl PluginLimits {
    /// The most that can be set. Memory: what a plugin's reserved address space holds, so that its
    /// memory never moves. Fuel and time: so that a run does not stand still.
    pub const MOST: Self = Self {
        memory_bytes: 32 << 20,
        fuel: 100_000_000_000,
        deadline: Duration::from_secs(60),
    };

    /// The least that can be set: with less, no plugin answers.
    pub const LEAST: Self = Self {
        memory_bytes: 64 << 10,
        fuel: 100_000,
        deadline: Duration::from_millis(10),
    };

    /// Checks them against what can be set and what the memory plan leaves.
    ///
    /// # Errors
    /// Which limit is wrong, and what it may be.
    pub fn check(&self, left_bytes: usize) -> Result<(), String> {
        let most_bytes = Self::MOST.memory_bytes.min(left_bytes);
        let (least, most) = (Self::LEAST, Self::MOST);
        if !(least.memory_bytes..=most_bytes).contains(&self.memory_bytes) {
            return Err(format!(
                "a memory of {} bytes; the memory limit of this run leaves {} to {most_bytes}",
                self.memory_bytes, least.memory_bytes
            ));
        }
        if !(least.fuel..=most.fuel).contains(&self.fuel) {
            return Err(format!(
                "a fuel of {}; allowed are {} to {}",
                self.fuel, least.fuel, most.fuel
            ));
        }
        if !(least.deadline..=most.deadline).contains(&self.deadline) {
            return Err(format!(
                "a deadline of {} ms; allowed are {} to {}",
                self.deadline.as_millis(),
                least.deadline.as_millis(),
                most.deadline.as_millis()
            ));
        }
        Ok(())
    }
}

impl fmt::Display for PluginLimits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "memory {} KiB, fuel {}, deadline {} ms",
            self.memory_bytes / 1024,
            self.fuel,
            self.deadline.as_millis()
        )
    }
}

/// A plugin wants more memory than it may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitExceeded {
    /// What was to grow: `memory` or `table`.
    pub what: &'static str,
    /// What all memories and tables together would have.
    pub wanted_bytes: usize,
    /// What they may have.
    pub allowed_bytes: usize,
}

impl fmt::Display for LimitExceeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "memory limit: with this {} it would hold {} KiB, allowed are {} KiB",
            self.what,
            self.wanted_bytes.div_ceil(1024),
            self.allowed_bytes / 1024
        )
    }
}

impl std::error::Error for LimitExceeded {}

/// Counts the bytes of a store's memories and tables.
pub(super) struct Limiter {
    memory_bytes: usize,
    held_bytes: usize,
    /// What the last granted growth added, to take it back when it fails.
    granted_bytes: usize,
}

impl Limiter {
    /// Allows `memory_bytes` in all.
    pub(super) fn new(memory_bytes: usize) -> Self {
        Self {
            memory_bytes,
            held_bytes: 0,
            granted_bytes: 0,
        }
    }

    /// Returns what the memories and tables hold.
    pub(super) fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    fn grow(&mut self, what: &'static str, from: usize, to: usize) -> wasmtime::Result<bool> {
        let added = to.saturating_sub(from);
        let wanted_bytes = self.held_bytes.saturating_add(added);
        if wanted_bytes > self.memory_bytes {
            return Err(wasmtime::Error::new(LimitExceeded {
                what,
                wanted_bytes,
                allowed_bytes: self.memory_bytes,
            }));
        }
        self.held_bytes = wanted_bytes;
        self.granted_bytes = added;
        Ok(true)
    }

    fn take_back(&mut self) {
        self.held_bytes -= std::mem::take(&mut self.granted_bytes);
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        self.grow("memory", current, desired)
    }

    fn memory_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        self.take_back();
        Ok(())
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let bytes = |elements: usize| elements.saturating_mul(TABLE_ELEMENT_BYTES);
        self.grow("table", bytes(current), bytes(desired))
    }

    fn table_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        self.take_back();
        Ok(())
    }

    fn instances(&self) -> usize {
        INSTANCES_MAX
    }

    fn tables(&self) -> usize {
        TABLES_MAX
    }

    fn memories(&self) -> usize {
        MEMORIES_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memories_and_tables_share_one_budget() {
        let mut limiter = Limiter::new(3 << 20);
        assert!(limiter.memory_growing(0, 1 << 20, None).unwrap());
        assert!(limiter.memory_growing(0, 1 << 20, None).unwrap());
        assert!(limiter.table_growing(0, 1 << 17, None).unwrap());
        assert_eq!(limiter.held_bytes(), 3 << 20);
        let error = limiter.memory_growing(1 << 20, (1 << 20) + 1, None);
        let limit = *error.unwrap_err().downcast_ref::<LimitExceeded>().unwrap();
        assert_eq!(limit.wanted_bytes, (3 << 20) + 1);
        assert_eq!(
            limit.to_string(),
            "memory limit: with this memory it would hold 3073 KiB, allowed are 3072 KiB"
        );
    }

    #[test]
    fn a_failed_growth_is_taken_back_and_huge_wishes_do_not_overflow() {
        let mut limiter = Limiter::new(1 << 20);
        assert!(limiter.memory_growing(0, 1 << 16, None).unwrap());
        assert!(limiter.memory_growing(1 << 16, 1 << 20, None).unwrap());
        limiter
            .memory_grow_failed(wasmtime::Error::msg("no memory"))
            .unwrap();
        assert_eq!(limiter.held_bytes(), 1 << 16);
        assert!(limiter.table_growing(0, usize::MAX, None).is_err());
        assert!(limiter.memory_growing(0, usize::MAX, None).is_err());
        assert_eq!(limiter.held_bytes(), 1 << 16);
    }

    #[test]
    fn what_can_be_set_has_an_end() {
        let plan_bytes = 16 << 20;
        let good = PluginLimits::default();
        assert_eq!(good.check(plan_bytes), Ok(()));
        assert_eq!(PluginLimits::MOST.check(usize::MAX), Ok(()));
        assert_eq!(PluginLimits::LEAST.check(plan_bytes), Ok(()));
        let memory = |memory_bytes| PluginLimits {
            memory_bytes,
            ..good
        };
        let fuel = |fuel| PluginLimits { fuel, ..good };
        let deadline = |millis| PluginLimits {
            deadline: Duration::from_millis(millis),
            ..good
        };
        for (bad, words) in [
            (memory(plan_bytes + 1), "a memory of 16777217 bytes"),
            (memory(0), "65536 to 16777216"),
            (fuel(100_000_000_001), "a fuel of 100000000001"),
            (fuel(0), "100000 to 100000000000"),
            (deadline(60_001), "a deadline of 60001 ms"),
            (deadline(0), "10 to 60000"),
        ] {
            let told = bad.check(plan_bytes).unwrap_err();
            assert!(told.contains(words), "{told}");
        }
        let told = memory((32 << 20) + 1).check(usize::MAX).unwrap_err();
        assert!(told.contains("to 33554432"), "{told}");
    }
}
