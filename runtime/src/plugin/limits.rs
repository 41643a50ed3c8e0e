//! What a plugin may take of the host: one budget for all its memories and tables together.
//!
//! wasmtime's own `StoreLimits` looks at each memory alone, so 60 memories of 8 MiB would pass.
//! This limiter sums them. A wish above the budget traps with our own words; -1 to the plugin would
//! end as `unreachable` without a reason. Invariant: `held_bytes <= memory_bytes`.

use std::fmt;

use wasmtime::ResourceLimiter;

/// Bytes that a table element costs in wasmtime.
const TABLE_ELEMENT_BYTES: usize = size_of::<usize>();

/// Core instances of one component: CPython's needs more than 16.
const INSTANCES_MAX: usize = 100;

/// Memories of one component. Honest ones have one or two.
const MEMORIES_MAX: usize = 8;

/// Tables of one component: one for each core instance at most.
const TABLES_MAX: usize = 100;

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
}
