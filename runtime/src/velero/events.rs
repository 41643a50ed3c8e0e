//! What was done to a repository, told where people look: `kubectl describe backuprepository`.
//!
//! An Event of its `BackupRepository`; Kubernetes forgets it after an hour. It is a courtesy: what
//! goes wrong with it is not told twice and changes nothing. Memory: one object.
//!
//! Mirrors client-go's `tools/record`.

use std::sync::atomic::{AtomicBool, Ordering};

use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use k8s_openapi::jiff;

use super::asking::Patience;
use super::cluster::Cluster;
use super::error::VeleroError;
use super::kinds::{BackupRepositorySpec, Kind};
use crate::clock::Timestamp;

/// Who tells.
const COMPONENT: &str = "careen";

/// Longest message, which is Kubernetes' own limit.
const MESSAGE_BYTES_MAX: usize = 1024;

/// Whether something is as it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// It is.
    Normal,
    /// It is not.
    Warning,
}

/// What happened to which repository.
#[derive(Clone, Copy, Debug)]
pub struct Happened<'a> {
    /// The `BackupRepository`.
    pub repository: &'a str,
    /// Its identity, which a new one of the same name does not have.
    pub uid: Option<&'a str>,
    /// Good or bad.
    pub tone: Tone,
    /// What, in one word.
    pub reason: &'a str,
    /// What, in a sentence.
    pub message: &'a str,
}

/// Tells it.
pub fn tell(cluster: &Cluster, happened: Happened<'_>, now: Timestamp) {
    static IS_TOLD: AtomicBool = AtomicBool::new(false);
    let name = format!("{}.{:x}", happened.repository, now.nanos());
    let event = event(cluster, happened, &name, now);
    match cluster.with(Patience::LAST).create(&name, &event) {
        // Nobody gave us the right: then nobody wants them.
        Ok(_) | Err(VeleroError::Forbidden { .. }) => {}
        Err(error) if !IS_TOLD.swap(true, Ordering::Relaxed) => {
            tracing::warn!(%error, "what was done is not told in an Event");
        }
        Err(_) => {}
    }
}

fn event(cluster: &Cluster, happened: Happened<'_>, name: &str, now: Timestamp) -> Event {
    let time = jiff::Timestamp::from_second(now.seconds()).unwrap_or_default();
    let mut message = happened.message.to_owned();
    message.truncate(message.floor_char_boundary(MESSAGE_BYTES_MAX));
    let tone = match happened.tone {
        Tone::Normal => "Normal",
        Tone::Warning => "Warning",
    };
    Event {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(cluster.namespace().to_owned()),
            ..ObjectMeta::default()
        },
        involved_object: ObjectReference {
            api_version: Some("velero.io/v1".to_owned()),
            kind: Some(BackupRepositorySpec::KIND.to_owned()),
            name: Some(happened.repository.to_owned()),
            namespace: Some(cluster.namespace().to_owned()),
            uid: happened.uid.map(str::to_owned),
            ..ObjectReference::default()
        },
        type_: Some(tone.to_owned()),
        reason: Some(happened.reason.to_owned()),
        message: Some(message),
        count: Some(1),
        first_timestamp: Some(Time(time)),
        last_timestamp: Some(Time(time)),
        source: Some(EventSource {
            component: Some(COMPONENT.to_owned()),
            ..EventSource::default()
        }),
        reporting_component: Some(COMPONENT.to_owned()),
        ..Event::default()
    }
}
