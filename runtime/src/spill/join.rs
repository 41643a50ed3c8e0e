//! Joining two sorted streams by key: the third verb after sort and merge.
//!
//! Both streams are read once, in step. Memory: none of its own.

use std::cmp::Ordering;

use super::SpillError;
use super::merge::Merge;

/// One step of a join: the records of one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Joined<'a> {
    /// A record of the left stream whose key the right one does not have.
    Left(&'a [u8]),
    /// A record of the right stream whose key the left one does not have.
    Right(&'a [u8]),
    /// Records of both streams with the same key.
    Both(&'a [u8], &'a [u8]),
}

/// Calls `each` for every record of both streams, in the order of their first `key_bytes`.
///
/// The left stream may have several records of a key, each comes with the right one; the right
/// stream must have one at most, further ones come as `Right`. The first error ends the join.
pub fn join<E: From<SpillError>>(
    left: &mut Merge,
    right: &mut Merge,
    key_bytes: usize,
    mut each: impl FnMut(Joined<'_>) -> Result<(), E>,
) -> Result<(), E> {
    left.advance()?;
    right.advance()?;
    let mut right_used = false;
    loop {
        let order = match (left.current(), right.current()) {
            (None, None) => return Ok(()),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(l), Some(r)) => l[..key_bytes].cmp(&r[..key_bytes]),
        };
        match (order, left.current(), right.current()) {
            (Ordering::Less, Some(l), _) => each(Joined::Left(l))?,
            (Ordering::Equal, Some(l), Some(r)) => each(Joined::Both(l, r))?,
            (Ordering::Greater, _, Some(r)) if !right_used => each(Joined::Right(r))?,
            _ => {}
        }
        right_used = order == Ordering::Equal;
        match order {
            Ordering::Greater => right.advance()?,
            _ => left.advance()?,
        };
    }
}
