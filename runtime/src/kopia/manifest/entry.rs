//! One manifest, as it stands in a manifest content.
//!
//! Field names match without regard to case; a field that is there twice counts as Go's decoder
//! counts it: the last wins, `null` changes nothing (but empties the labels and is data). Memory:
//! the labels and the raw data.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::TYPE_LABEL;
use crate::clock::Timestamp;
use crate::kopia::schedule::{UNSET, go_time};

/// Longest text of a field name or ID in an error message.
const SHOWN_CHARS_MAX: usize = 64;

/// One manifest: a live one, or the tombstone of an earlier one with the same ID.
#[derive(Clone, Debug, Serialize)]
pub struct ManifestEntry {
    /// Its ID, 32 hex digits; never empty.
    pub id: String,
    /// Its labels; empty in a tombstone.
    #[serde(serialize_with = "null_when_empty")]
    pub labels: BTreeMap<String, String>,
    /// When it was written. Of several entries with one ID the later one counts.
    #[serde(with = "go_time")]
    pub modified: Timestamp,
    /// Whether the manifest with this ID is deleted.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub deleted: bool,
    /// The payload, JSON as it is; `null` in a tombstone.
    pub data: Box<RawValue>,
}

impl ManifestEntry {
    /// Makes a live manifest.
    pub fn new(
        id: impl Into<String>,
        labels: BTreeMap<String, String>,
        modified: Timestamp,
        data: Box<RawValue>,
    ) -> Self {
        Self {
            id: id.into(),
            labels,
            modified,
            deleted: false,
            data,
        }
    }

    /// Makes the tombstone of manifest `id`.
    pub fn tombstone(id: impl Into<String>, modified: Timestamp) -> Self {
        Self {
            deleted: true,
            ..Self::new(id, BTreeMap::new(), modified, RawValue::NULL.to_owned())
        }
    }

    /// Returns the type, for example `snapshot`; `None` in a tombstone.
    pub fn kind(&self) -> Option<&str> {
        self.labels.get(TYPE_LABEL).map(String::as_str)
    }
}

/// Cuts a text for an error message.
pub(super) fn shortened(text: &str) -> String {
    text.chars().take(SHOWN_CHARS_MAX).collect()
}

fn null_when_empty<S: serde::Serializer>(
    labels: &BTreeMap<String, String>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    if labels.is_empty() {
        serializer.serialize_none()
    } else {
        labels.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for ManifestEntry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Fields)
    }
}

struct Fields;

impl<'de> Visitor<'de> for Fields {
    type Value = ManifestEntry;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a manifest")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<ManifestEntry, A::Error> {
        let nothing = RawValue::NULL.to_owned();
        let mut entry = ManifestEntry::new("", BTreeMap::new(), UNSET, nothing);
        while let Some(field) = fields.next_key::<String>()? {
            match field.to_ascii_lowercase().as_str() {
                "id" => replace(&mut entry.id, fields.next_value()?),
                "labels" => match fields.next_value()? {
                    Some(labels) => entry.labels.extend(labels_of(labels)),
                    None => entry.labels.clear(),
                },
                "modified" => replace(&mut entry.modified, fields.next_value()?),
                "deleted" => replace(&mut entry.deleted, fields.next_value()?),
                "data" => entry.data = fields.next_value()?,
                _ => drop(fields.next_value::<IgnoredAny>()?),
            }
        }
        if entry.id.is_empty() {
            return Err(A::Error::custom("a manifest without an ID"));
        }
        if !entry.deleted && entry.kind().is_none() {
            let id = shortened(&entry.id);
            return Err(A::Error::custom(format!("manifest {id} has no type")));
        }
        Ok(entry)
    }
}

/// Go sets a string to empty when its JSON is `null` in a map.
fn labels_of(labels: BTreeMap<String, Option<String>>) -> impl Iterator<Item = (String, String)> {
    labels
        .into_iter()
        .map(|(label, value)| (label, value.unwrap_or_default()))
}

fn replace<T>(field: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *field = value;
    }
}
