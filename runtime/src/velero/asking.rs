//! One request to the API server, and how long it is made again.
//!
//! The server and what stands before it fail for moments: an upgrade, a full queue, a connection
//! that breaks. What only reads is made again, with growing pauses or after the time that the
//! server asks for, until [`Patience`] ends. What writes is made once, since a lost answer leaves
//! open whether it was done: those who write look again first ([`Asker::persist`]). Invariant:
//! nothing here waits longer than its patience and one more try; and once patience has ended in
//! vain, nobody has any until the server answers again. Memory: one answer, at most
//! [`ANSWER_BYTES_MAX`].

use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::{Request, Response};
use http_body::Body as _;
use kube::Client;
use kube::client::Body;
use serde::de::DeserializeOwned;
use tokio::runtime::Runtime;

use super::error::{Operation, VeleroError};
use crate::clock::Stopwatch;
use crate::maintenance::watch::StopFlag;

/// Longest answer that is taken: hundreds of Velero's objects, each of 1 to 10 KiB.
pub(super) const ANSWER_BYTES_MAX: usize = 4 << 20;

/// The first pause before another try; each one is twice the last.
const PAUSE: Duration = Duration::from_millis(200);

/// The longest pause that we choose ourselves.
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// How often a wait looks whether the run was stopped.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// How long an answer is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// For one try; a page of a busy API server takes seconds.
    pub one: Duration,
    /// For all of them: no other try begins later than this.
    pub all: Duration,
    /// Whether a run that was stopped waits no more.
    pub heeds_stop: bool,
}

impl Default for Patience {
    fn default() -> Self {
        Self::PATIENT
    }
}

impl Patience {
    /// Returns the patience of a command that waits for an answer no longer than `one`.
    pub fn of(one: Duration) -> Self {
        Self {
            one,
            all: one / 2,
            ..Self::PATIENT
        }
    }

    /// Returns this patience with no more time for a try than `other` has.
    pub(super) fn within(self, other: Self) -> Self {
        Self {
            one: self.one.min(other.one),
            ..self
        }
    }

    /// For what a command needs to go on.
    pub const PATIENT: Self = Self {
        one: Duration::from_secs(60),
        all: Duration::from_secs(30),
        heeds_stop: true,
    };
    /// For what is done again soon in any case.
    pub const BRIEF: Self = Self {
        one: Duration::from_secs(10),
        all: Duration::ZERO,
        heeds_stop: false,
    };
    /// For what is said in the end, also of a run that was stopped.
    pub const LAST: Self = Self {
        one: Duration::from_secs(4),
        all: Duration::from_secs(4),
        heeds_stop: false,
    };
}

/// What asks.
pub(super) struct Asker {
    pub(super) runtime: Runtime,
    pub(super) client: Client,
    /// Set when the run is to end.
    pub(super) stop: StopFlag,
    /// Whether somebody has waited in vain, and nobody had an answer since: a thousand repositories
    /// do not wait one after the other.
    pub(super) is_away: AtomicBool,
}

/// What the server said: its status, and the body.
struct Answer {
    status: u16,
    again_after: Option<Duration>,
    body: Vec<u8>,
}

impl Asker {
    /// Asks once.
    ///
    /// # Errors
    /// What the server says no with; [`VeleroError::Api`] where another try may help.
    pub(super) fn ask<T: DeserializeOwned>(
        &self,
        patience: Patience,
        operation: &Operation,
        request: Request<Vec<u8>>,
    ) -> Result<T, VeleroError> {
        let passing = |message: String| VeleroError::Api {
            operation: operation.clone(),
            message,
            again: Some(Duration::ZERO),
        };
        let sent = async {
            let response = self.client.send(request.map(Body::from)).await;
            read(response.map_err(|error| chain(&error))?).await
        };
        let answer = match self.runtime.block_on(self.within(patience, sent)) {
            Waited::Answer(answer) => answer.map_err(passing)?,
            Waited::Stopped => return Err(VeleroError::Stopped(operation.clone())),
            Waited::Late => {
                let seconds = patience.one.as_secs();
                return Err(passing(format!("no answer within {seconds} s")));
            }
        };
        let understood = answer.understood(operation);
        let is_answer = understood
            .as_ref()
            .err()
            .is_none_or(|error| error.again().is_none());
        if is_answer {
            self.is_away.store(false, Ordering::Relaxed);
        }
        understood
    }

    /// Does `what` again while it fails with what may pass, and patience lasts.
    ///
    /// # Errors
    /// Those of `what`; [`VeleroError::Stopped`] where the run was stopped meanwhile.
    pub(super) fn persist<T>(
        &self,
        patience: Patience,
        mut what: impl FnMut() -> Result<T, VeleroError>,
    ) -> Result<T, VeleroError> {
        let since = Stopwatch::start();
        let mut pause = PAUSE;
        loop {
            let error = match what() {
                Err(error) => error,
                done => return done,
            };
            let Some(asked_for) = error.again() else {
                return Err(error);
            };
            let wait = pause.max(asked_for);
            let all = match self.is_away.load(Ordering::Relaxed) {
                true => Duration::ZERO,
                false => patience.all,
            };
            if since.elapsed().saturating_add(wait) > all {
                // Those who only look in between say nothing of the server.
                self.is_away.fetch_or(!all.is_zero(), Ordering::Relaxed);
                return Err(error);
            }
            if pause == PAUSE {
                tracing::warn!(%error, "the API server is asked again");
            }
            let slept = async { tokio::time::sleep(wait).await };
            let longer = Patience {
                one: wait.saturating_add(LOOK_INTERVAL),
                ..patience
            };
            let waited = self.runtime.block_on(self.within(longer, slept));
            if matches!(waited, Waited::Stopped) {
                return Err(error.stopped());
            }
            pause = pause.saturating_mul(2).min(PAUSE_MAX);
        }
    }

    /// Waits for `what`, for one try's time, and no longer than the run is to go on.
    async fn within<T>(&self, patience: Patience, what: impl Future<Output = T>) -> Waited<T> {
        let since = Stopwatch::start();
        let mut what = pin!(what);
        loop {
            match tokio::time::timeout(LOOK_INTERVAL, &mut what).await {
                Ok(answer) => return Waited::Answer(answer),
                Err(_) if patience.heeds_stop && self.stop.load(Ordering::Relaxed) => {
                    return Waited::Stopped;
                }
                Err(_) if since.elapsed() >= patience.one => return Waited::Late,
                Err(_) => {}
            }
        }
    }
}

enum Waited<T> {
    Answer(T),
    Late,
    Stopped,
}

async fn read(response: Response<Body>) -> Result<Answer, String> {
    let header = response.headers().get("retry-after");
    let seconds = header.and_then(|value| value.to_str().ok()?.trim().parse().ok());
    let mut answer = Answer {
        status: response.status().as_u16(),
        again_after: seconds.map(Duration::from_secs),
        body: Vec::new(),
    };
    let mut body = response.into_body();
    while let Some(frame) = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        let frame = frame.map_err(|error| chain(&error))?;
        let Ok(bytes) = frame.into_data() else {
            continue;
        };
        if answer.body.len() + bytes.len() > ANSWER_BYTES_MAX {
            answer.status = 413;
            answer.body.clear();
            return Ok(answer);
        }
        answer.body.extend_from_slice(&bytes);
    }
    Ok(answer)
}

impl Answer {
    fn understood<T: DeserializeOwned>(self, operation: &Operation) -> Result<T, VeleroError> {
        let operation = operation.clone();
        if (200..300).contains(&self.status) {
            return serde_json::from_slice(&self.body).map_err(|error| VeleroError::Api {
                operation,
                message: format!("the answer cannot be read: {error}"),
                // What was cut off comes whole another time; an object of another form does not.
                again: (!error.is_data()).then_some(Duration::ZERO),
            });
        }
        let said: serde_json::Value = serde_json::from_slice(&self.body).unwrap_or_default();
        let message = match said["message"].as_str() {
            Some(message) if !message.is_empty() => message.to_owned(),
            _ => format!("HTTP status {}", self.status),
        };
        Err(match self.status {
            401 | 403 => VeleroError::Forbidden { operation, message },
            404 => VeleroError::NotFound { operation, message },
            409 => VeleroError::Conflict { operation },
            410 => VeleroError::Expired {
                operation,
                message,
                token: said["metadata"]["continue"].as_str().map(str::to_owned),
            },
            413 => VeleroError::TooLarge { operation },
            408 | 429 | 500..=599 => {
                let after = self.again_after.unwrap_or_default();
                let mut message = format!("{message} ({})", self.status);
                if !after.is_zero() {
                    let seconds = after.as_secs();
                    message = format!("{message}; it asks to come again in {seconds} s");
                }
                VeleroError::Api {
                    operation,
                    message,
                    again: Some(after),
                }
            }
            _ => VeleroError::Refused { operation, message },
        })
    }
}

/// Returns the texts of an error and of those below it that it does not already tell.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        let below = error.to_string();
        if !text.contains(&below) {
            text = format!("{text}: {below}");
        }
        next = error.source();
    }
    text
}
