//! Many things looked at, several at once, told one after the other in their order.
//!
//! A slow one holds back the telling, and after [`AHEAD_MAX`] of them the looking. Memory: so many
//! answers, and a thread for each that is looked at.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Answers that may wait to be told: rows of a few KiB.
const AHEAD_MAX: usize = 256;

struct State<T> {
    next: usize,
    told: usize,
    /// At most [`AHEAD_MAX`].
    ready: BTreeMap<usize, T>,
    closed: bool,
}

/// Calls `look` for every item, in at most `workers` threads, and `tell` with each answer in the
/// order of the items, until it says `false` or fails; then no more are looked at.
pub(super) fn in_order<I: Sync, T: Send, E>(
    items: &[I],
    workers: usize,
    look: impl Fn(&I) -> T + Sync,
    mut tell: impl FnMut(&I, T) -> Result<bool, E>,
) -> Result<(), E> {
    let state = Mutex::new(State {
        next: 0,
        told: 0,
        ready: BTreeMap::new(),
        closed: false,
    });
    let changed = Condvar::new();
    let lock = || -> MutexGuard<'_, State<T>> { unpoisoned(state.lock()) };
    let work = || {
        loop {
            let waits = |state: &mut State<T>| {
                !state.closed && state.next < items.len() && state.next >= state.told + AHEAD_MAX
            };
            let mut now = unpoisoned(changed.wait_while(lock(), waits));
            let index = now.next;
            let Some(item) = items.get(index).filter(|_| !now.closed) else {
                return;
            };
            now.next += 1;
            drop(now);
            let answer = look(item);
            lock().ready.insert(index, answer);
            changed.notify_all();
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..workers.clamp(1, items.len().max(1)) {
            scope.spawn(work);
        }
        for (index, item) in items.iter().enumerate() {
            let waits = |state: &mut State<T>| !state.ready.contains_key(&index);
            let mut now = unpoisoned(changed.wait_while(lock(), waits));
            let answer = now.ready.remove(&index).expect("it was waited for");
            now.told = index + 1;
            drop(now);
            let goes_on = tell(item, answer);
            if !matches!(goes_on, Ok(true)) {
                lock().closed = true;
                changed.notify_all();
                return goes_on.map(drop);
            }
            changed.notify_all();
        }
        Ok(())
    })
}

fn unpoisoned<G>(locked: Result<G, PoisonError<G>>) -> G {
    locked.unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// Goal: as many at once as there are workers, told in order; method: three that wait for each
    /// other, which fewer would do for ever.
    #[test]
    fn several_at_once_are_told_in_order() {
        let items: Vec<usize> = (0..300).collect();
        let barrier = Barrier::new(3);
        let mut told = Vec::new();
        let look = |item: &usize| {
            barrier.wait();
            item * 2
        };
        let all: Result<(), ()> = in_order(&items, 3, look, |item, answer| {
            assert_eq!(answer, item * 2);
            told.push(*item);
            Ok(true)
        });
        all.unwrap();
        assert_eq!(told, items);
    }

    /// Goal: a slow one holds back the others before they fill the memory; method: the first waits
    /// until the other worker has gone as far as it may.
    #[test]
    fn answers_that_wait_are_bounded() {
        let items: Vec<usize> = (0..1000).collect();
        let looked = AtomicUsize::new(0);
        let look = |item: &usize| {
            while *item == 0 && looked.load(Ordering::SeqCst) < AHEAD_MAX - 1 {
                std::thread::yield_now();
            }
            looked.fetch_add(1, Ordering::SeqCst)
        };
        let mut most = 0;
        let all: Result<(), ()> = in_order(&items, 2, look, |item, _| {
            most = most.max(looked.load(Ordering::SeqCst) - item);
            Ok(true)
        });
        all.unwrap();
        assert!(most <= AHEAD_MAX + 2, "{most}");
    }

    #[test]
    fn an_error_ends_it() {
        let items: Vec<usize> = (0..10_000).collect();
        let looked = AtomicUsize::new(0);
        let look = |_: &usize| looked.fetch_add(1, Ordering::SeqCst);
        let ended = in_order(&items, 2, look, |item, _| match item {
            3 => Err("no"),
            _ => Ok(true),
        });
        assert_eq!(ended, Err("no"));
        assert!(looked.load(Ordering::SeqCst) <= AHEAD_MAX + 6);
    }
}
