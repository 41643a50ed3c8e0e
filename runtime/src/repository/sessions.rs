//! Sessions: a writer at work leaves a marker from before its first pack until its index is
//! written.
//!
//! The packs of a session are in no index yet, so nobody may delete them while the session may be
//! alive. Markers are not refreshed: a session counts as alive for 96 hours after its checkpoint,
//! by Kopia's rule. A marker that cannot be read stops whoever wants to delete packs. A session may
//! end between the reading of the index and that of the markers: its packs are named in neither, so
//! who reads an index lists the sessions first.
//!
//! Memory: a name of 24 bytes and a time for each session, at most [`SESSIONS_MAX`]: some 5 MB, and
//! the same once more for the earlier listing.
//! Mirrors Kopia's `repo/content/sessions.go`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize};

use crate::blob::BlobMetadata;
use crate::clock::Timestamp;
use crate::kopia::FormatError;
use crate::kopia::blob_id::{BlobId, SESSION_PREFIX, session_id, session_of};

use super::sealing::put_options;
use super::{Repository, RepositoryError};

/// Most sessions with a marker; each is a writer that is at work or has crashed.
pub const SESSIONS_MAX: usize = 50_000;

/// Largest marker, in bytes as stored; Kopia's have some 250.
const MARKER_BYTES_MAX: usize = 64 * 1024;

/// Go's zero time.
const ZERO_TIME: &str = "0001-01-01T00:00:00Z";

/// What a marker says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionInfo {
    /// The session's ID.
    #[serde(default)]
    pub id: String,
    /// When it began, by the writer's clock.
    #[serde(deserialize_with = "time")]
    pub start_time: Timestamp,
    /// When it was last known to be alive, by the writer's clock.
    #[serde(deserialize_with = "time")]
    pub checkpoint_time: Timestamp,
    /// Who writes.
    #[serde(default)]
    pub username: String,
    /// On which host.
    #[serde(default)]
    pub hostname: String,
}

/// A session of our own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Its ID, part of the names of all its blobs.
    pub id: String,
    /// When it began.
    pub started: Timestamp,
    marker: BlobId,
}

impl Session {
    /// Starts a session of `owner` (`user@host`): puts its marker.
    pub fn start(repository: &Repository, owner: &str) -> Result<Self, RepositoryError> {
        let now = repository.clock.now();
        let id = session_id(repository.random(), now);
        let (username, hostname) = owner.split_once('@').unwrap_or((owner, ""));
        let info = SessionInfo {
            id: id.clone(),
            start_time: now,
            checkpoint_time: now,
            username: username.to_owned(),
            hostname: hostname.to_owned(),
        };
        let json = serde_json::to_vec(&info).expect("text and times are JSON");
        let (nonce, mut sealed) = (repository.random(), Vec::new());
        let crypto = &repository.crypto;
        let name = crypto.seal(SESSION_PREFIX, Some(&id), &json, nonce, &mut sealed);
        let marker = BlobId::new(name);
        let options = put_options(repository, &marker);
        repository.storage.put_bytes(&marker, &sealed, &options)?;
        Ok(Self {
            id,
            started: now,
            marker,
        })
    }

    /// Ends the session: its index is written, so its marker goes.
    pub fn commit(self, repository: &Repository) -> Result<(), RepositoryError> {
        Ok(repository.storage.delete(&self.marker)?)
    }
}

/// The IDs of the sessions that had a marker at some moment.
#[derive(Clone, Debug, Default)]
pub struct SessionIds(BTreeSet<Box<str>>);

impl SessionIds {
    /// Lists the markers, and reads none.
    pub fn list(repository: &Repository) -> Result<Self, RepositoryError> {
        let mut ids = BTreeSet::new();
        repository.storage.for_each(SESSION_PREFIX, |blob| {
            let Some(id) = session_of(blob.id.as_str()) else {
                return Ok(()); // an error for who reads it
            };
            if ids.len() == SESSIONS_MAX && !ids.contains(id) {
                return Err(too_many());
            }
            ids.insert(id.into());
            Ok(())
        })?;
        Ok(Self(ids))
    }
}

/// The sessions that have a marker.
#[derive(Clone, Debug, Default)]
pub struct Sessions {
    /// By ID: the newest checkpoint.
    checkpoints: BTreeMap<Box<str>, Timestamp>,
    /// Those that had one when the index was listed, and have none any more.
    ended: BTreeSet<Box<str>>,
}

impl Sessions {
    /// Lists and reads all markers, and shows each to `see`. One that is gone when it is read was
    /// just committed.
    ///
    /// # Errors
    /// A marker that is unreadable, or whose name has no session: Kopia stops there as well. What
    /// `see` gives.
    pub fn load(
        repository: &Repository,
        mut see: impl FnMut(&BlobMetadata) -> Result<(), RepositoryError>,
    ) -> Result<Self, RepositoryError> {
        let mut sessions = Self::default();
        each_marker(repository, |marker, id, info| {
            sessions.note(id, info.checkpoint_time)?;
            see(marker)
        })?;
        Ok(sessions)
    }

    /// Counts the sessions that have ended since an earlier listing as alive: what they wrote may
    /// be in an index that is younger than the one that was read.
    #[must_use]
    pub fn since(mut self, earlier: &SessionIds) -> Self {
        let ended = earlier
            .0
            .iter()
            .filter(|id| !self.checkpoints.contains_key(*id));
        self.ended = ended.cloned().collect();
        self
    }

    fn note(&mut self, id: &str, checkpoint: Timestamp) -> Result<(), RepositoryError> {
        if let Some(known) = self.checkpoints.get_mut(id) {
            *known = checkpoint.max(*known);
            return Ok(());
        }
        if self.checkpoints.len() == SESSIONS_MAX {
            return Err(too_many());
        }
        self.checkpoints.insert(id.into(), checkpoint);
        Ok(())
    }

    /// Returns what is known of the session that a pack or marker belongs to.
    pub fn state(&self, blob: &str, at: Timestamp, expiration_age: Duration) -> SessionState {
        let id = session_of(blob);
        match id.and_then(|id| self.checkpoints.get(id)) {
            None if id.is_some_and(|id| self.ended.contains(id)) => SessionState::Active,
            None => SessionState::NoMarker,
            // A checkpoint in the future is younger than any age.
            Some(checkpoint) if at.since(*checkpoint) < expiration_age => SessionState::Active,
            Some(_) => SessionState::Expired,
        }
    }

    /// Returns the number of sessions.
    pub fn len(&self) -> usize {
        self.checkpoints.len()
    }

    /// Tells whether there are none.
    pub fn is_empty(&self) -> bool {
        self.checkpoints.is_empty()
    }
}

fn too_many() -> RepositoryError {
    RepositoryError::TooMany {
        what: "sessions",
        maximum: SESSIONS_MAX,
    }
}

/// What a marker says of the session of a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionState {
    /// It has no marker: committed, or the blob is older than sessions.
    NoMarker,
    /// It may be alive, or was when the index was read.
    Active,
    /// It has died before it wrote its index.
    Expired,
}

/// Calls `each` for every marker, as it was listed and with the session that its name has, in the
/// order of names. One that is gone when it is read was just committed.
///
/// # Errors
/// A marker that is unreadable, or whose name has no session; what `each` gives.
pub fn each_marker(
    repository: &Repository,
    mut each: impl FnMut(&BlobMetadata, &str, SessionInfo) -> Result<(), RepositoryError>,
) -> Result<(), RepositoryError> {
    repository.storage.for_each(SESSION_PREFIX, |blob| {
        let Some(id) = session_of(blob.id.as_str()) else {
            let reason = "a session marker without a session in its name";
            return Err(FormatError::malformed(blob.id.as_str(), reason).into());
        };
        match read_marker(repository, &blob.id)? {
            Some(info) => each(&blob, id, info),
            None => Ok(()),
        }
    })
}

/// Clients that may be writing, by the times of their markers alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Writers {
    /// How many markers are young enough.
    pub count: u32,
    /// The storage's time of the newest.
    pub newest: Option<Timestamp>,
}

/// Counts the markers that are younger than `age`; reads none of them. For those who only want to
/// know whether backups are running: who deletes packs asks [`Sessions`].
pub fn count_writers(
    repository: &Repository,
    now: Timestamp,
    age: Duration,
) -> Result<Writers, RepositoryError> {
    let mut writers = Writers::default();
    repository.storage.for_each(SESSION_PREFIX, |blob| {
        if now.since(blob.timestamp) < age {
            writers.count = writers.count.saturating_add(1);
            writers.newest = writers.newest.max(Some(blob.timestamp));
        }
        Ok::<(), RepositoryError>(())
    })?;
    Ok(writers)
}

/// Reads a marker; `None` when it is gone.
fn read_marker(
    repository: &Repository,
    blob: &BlobId,
) -> Result<Option<SessionInfo>, RepositoryError> {
    let mut sealed = match repository.storage.get_all(blob, MARKER_BYTES_MAX) {
        Ok(bytes) => bytes,
        Err(error) if error.is_not_found() => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let name = blob.as_str();
    let range = repository.crypto.open(name, &mut sealed, &mut Vec::new())?;
    let json = sealed.get(range).unwrap_or_default();
    let info = serde_json::from_slice(json);
    let info = info.map_err(|error| FormatError::malformed(name, error.to_string()))?;
    Ok(Some(info))
}

fn time<'de, D: Deserializer<'de>>(from: D) -> Result<Timestamp, D::Error> {
    let text = String::deserialize(from)?;
    if text == ZERO_TIME {
        return Ok(Timestamp::from_nanos(i64::MIN));
    }
    Timestamp::parse(&text).ok_or_else(|| serde::de::Error::custom("not a time"))
}
