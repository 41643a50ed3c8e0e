//! Keys that are renewed in time, whoever issues them.
//!
//! One caller renews, the others wait for it. Keys that are about to expire are renewed before; if
//! that does not work, those at hand are used as long as they are valid. Memory: one set of keys.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use object_store::CredentialProvider;
use tokio::sync::Mutex;

use crate::blob::BlobError;
use crate::blob::object::connect::Keys;
use crate::clock::{SharedClock, Timestamp};

/// How long before their end keys are renewed, if they live long enough.
const AHEAD: Duration = Duration::from_secs(300);

/// How often a file with keys is looked at again: keys that ended are tried for some seconds only.
pub(super) const FILE_AGE_MAX: Duration = Duration::from_secs(5);

/// How long after a failed renewal the next is tried, while the old keys are still valid.
const PAUSE: Duration = Duration::from_secs(10);

/// Keys and their time.
#[derive(Clone, Copy, Debug)]
pub struct Issued<C> {
    /// The keys.
    pub credential: C,
    /// When they end, `None` for never or not known.
    pub until: Option<Timestamp>,
    /// When they should be renewed, `None` for never.
    pub renew: Option<Timestamp>,
}

impl<C> Issued<C> {
    /// Keys that stay as they are.
    pub(super) fn lasting(credential: C) -> Self {
        Self {
            credential,
            until: None,
            renew: None,
        }
    }

    /// Keys that end at `until`: renewed [`AHEAD`] of it, but not before half of their time.
    pub(super) fn expiring(credential: C, now: Timestamp, until: Timestamp) -> Self {
        let ahead = AHEAD.min(until.since(now) / 2);
        Self {
            credential,
            until: Some(until),
            renew: Some(until.minus(ahead)),
        }
    }

    /// Keys of a file that may change.
    pub(super) fn of_file(credential: C, now: Timestamp) -> Self {
        Self {
            credential,
            until: None,
            renew: Some(now.plus(FILE_AGE_MAX)),
        }
    }

    /// The same time, other keys.
    pub(super) fn map<D>(self, other: impl FnOnce(C) -> D) -> Issued<D> {
        Issued {
            credential: other(self.credential),
            until: self.until,
            renew: self.renew,
        }
    }
}

/// Somebody who gives keys.
#[async_trait]
pub trait Issuer: Send + Sync {
    /// The kind of keys.
    type Credential: Send + Sync;

    /// Gives keys; the reason of an error has no secrets in it.
    async fn issue(&self) -> Result<Issued<Self::Credential>, String>;
}

/// Keys that a refusal brought are not looked at again so soon: others were refused with them.
const NEW_FOR: Duration = Duration::from_millis(500);

struct Held<C> {
    credential: Arc<C>,
    /// When they came in the place of refused ones.
    since: Option<Timestamp>,
    until: Option<Timestamp>,
    renew: Option<Timestamp>,
}

/// Gives an issuer's keys, renewed in time.
pub struct Refreshing<I: Issuer> {
    issuer: I,
    origin: String,
    clock: SharedClock,
    held: Mutex<Option<Held<I::Credential>>>,
}

impl<I: Issuer> Refreshing<I> {
    /// Asks `issuer` at the first use; `origin` is for messages.
    pub fn new(issuer: I, origin: impl Into<String>, clock: SharedClock) -> Self {
        Self {
            issuer,
            origin: origin.into(),
            clock,
            held: Mutex::new(None),
        }
    }

    /// Returns keys that are valid now.
    pub async fn current(&self) -> Result<Arc<I::Credential>, BlobError> {
        let mut held = self.held.lock().await;
        let now = self.clock.now();
        if let Some(held) = &*held
            && held.renew.is_none_or(|renew| now < renew)
        {
            return Ok(Arc::clone(&held.credential));
        }
        match self.issuer.issue().await {
            Ok(issued) => {
                let credential = Arc::new(issued.credential);
                *held = Some(Held {
                    credential: Arc::clone(&credential),
                    since: None,
                    until: issued.until,
                    renew: issued.renew,
                });
                Ok(credential)
            }
            Err(reason) => match &mut *held {
                Some(held) if held.until.is_none_or(|until| now < until) => {
                    tracing::warn!(origin = self.origin, reason, "keys are not renewed yet");
                    held.renew = Some(now.plus(PAUSE));
                    Ok(Arc::clone(&held.credential))
                }
                _ => Err(BlobError::Credentials {
                    location: self.origin.clone(),
                    reason,
                }),
            },
        }
    }
}

impl<I: Issuer> fmt::Debug for Refreshing<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Refreshing({})", self.origin)
    }
}

#[async_trait]
impl<I: Issuer> CredentialProvider for Refreshing<I> {
    type Credential = I::Credential;

    async fn get_credential(&self) -> object_store::Result<Arc<Self::Credential>> {
        self.current()
            .await
            .map_err(|error| object_store::Error::Generic {
                store: "credentials",
                source: Box::new(error),
            })
    }
}

#[async_trait]
impl<I: Issuer> Keys<I::Credential> for Refreshing<I>
where
    I::Credential: fmt::Debug + PartialEq,
{
    async fn renew(&self) -> bool {
        let mut held = self.held.lock().await;
        let now = self.clock.now();
        let Some(old) = &*held else {
            return true;
        };
        if old.renew.is_none() {
            return false;
        }
        if old.since.is_some_and(|since| now.since(since) < NEW_FOR) {
            return true;
        }
        let Ok(issued) = self.issuer.issue().await else {
            // Keys of a service, which may be well again soon.
            return old.until.is_some();
        };
        let is_new = *old.credential != issued.credential;
        if is_new {
            tracing::debug!(origin = self.origin, "keys were refused; there are others");
            *held = Some(Held {
                credential: Arc::new(issued.credential),
                since: Some(now),
                until: issued.until,
                renew: issued.renew,
            });
        }
        is_new
    }
}

/// Gives the same keys for ever.
pub(super) struct Fixed<C>(pub(super) C);

#[async_trait]
impl<C: Clone + Send + Sync> Issuer for Fixed<C> {
    type Credential = C;

    async fn issue(&self) -> Result<Issued<C>, String> {
        Ok(Issued::lasting(self.0.clone()))
    }
}

/// Asks again at each use what a function gives: a file with keys.
pub(super) struct Asked<F>(pub(super) F);

#[async_trait]
impl<C: Send + Sync, F> Issuer for Asked<F>
where
    F: Fn() -> Result<Issued<C>, String> + Send + Sync,
{
    type Credential = C;

    async fn issue(&self) -> Result<Issued<C>, String> {
        self.0()
    }
}

#[async_trait]
impl<C: Send + Sync> Issuer for Box<dyn Issuer<Credential = C>> {
    type Credential = C;

    async fn issue(&self) -> Result<Issued<C>, String> {
        (**self).issue().await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::clock::ManualClock;

    /// Goal: keys are renewed before they end, the old ones bridge a failure, and an end is an end;
    /// method: a clock that is set, an issuer that fails when told.
    #[tokio::test]
    async fn keys_are_renewed_in_time() {
        let clock = Arc::new(ManualClock::new(Timestamp::from_seconds(0)));
        let calls = Arc::new(AtomicU32::new(0));
        let (time, count) = (Arc::clone(&clock), Arc::clone(&calls));
        let issuer = Asked(move || {
            use crate::clock::Clock as _;
            let number = count.fetch_add(1, Ordering::Relaxed);
            if number > 0 && number % 2 == 1 {
                return Err("no answer".to_owned());
            }
            let now = time.now();
            Ok(Issued::expiring(
                number,
                now,
                now.plus(Duration::from_secs(3600)),
            ))
        });
        let keys = Refreshing::new(issuer, "test", clock.clone());
        for (second, number, asked) in [
            (0, 0, 1),
            (3299, 0, 1),
            (3300, 0, 2),
            (3305, 0, 2),
            (3310, 2, 3),
        ] {
            clock.set(Timestamp::from_seconds(second));
            assert_eq!(*keys.current().await.unwrap(), number, "at {second}");
            assert_eq!(calls.load(Ordering::Relaxed), asked, "at {second}");
        }
        clock.set(Timestamp::from_seconds(10_000));
        let error = keys.current().await.unwrap_err();
        assert_eq!(error.code(), "storage-credentials");
    }

    /// Goal: refused keys are replaced if there are others, once for all who were refused with
    /// them, and keys that cannot change are not asked for again; method: an issuer of numbers.
    #[tokio::test]
    async fn refused_keys_are_replaced_by_others() {
        let clock = Arc::new(ManualClock::new(Timestamp::from_seconds(0)));
        let calls = Arc::new(AtomicU32::new(0));
        let (time, count) = (Arc::clone(&clock), Arc::clone(&calls));
        let issuer = Asked(move || {
            use crate::clock::Clock as _;
            // The second is the first again.
            let number = count.fetch_add(1, Ordering::Relaxed).saturating_sub(1);
            Ok(Issued::of_file(number, time.now()))
        });
        let keys = Refreshing::new(issuer, "test", clock.clone());
        assert_eq!(*keys.current().await.unwrap(), 0);
        assert!(!keys.renew().await, "the same again");
        assert!(keys.renew().await && keys.renew().await);
        assert_eq!(calls.load(Ordering::Relaxed), 3);
        assert_eq!(*keys.current().await.unwrap(), 1);
        clock.set(Timestamp::from_seconds(3));
        assert!(keys.renew().await);
        assert_eq!(*keys.current().await.unwrap(), 2);
        let fixed = Refreshing::new(Fixed(7), "test", clock);
        assert_eq!(*fixed.current().await.unwrap(), 7);
        assert!(!fixed.renew().await);
    }

    #[test]
    fn keys_of_a_short_life_are_renewed_after_half_of_it() {
        let at = Timestamp::from_seconds;
        assert_eq!(Issued::expiring((), at(0), at(60)).renew, Some(at(30)));
        assert_eq!(Issued::expiring((), at(0), at(3600)).renew, Some(at(3300)));
        assert_eq!(Issued::expiring((), at(90), at(60)).renew, Some(at(60)));
    }
}
