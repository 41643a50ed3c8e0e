//! Features without which a repository must not be used.
//!
//! A newer Kopia lists them in the format blob. An unknown one stops us, unless it says that a
//! warning will do.
//!
//! Memory: the list, inside the format blob's limit. Mirrors Kopia's `internal/feature` and
//! `handleMissingRequiredFeatures` of `repo/open.go`.

use serde::{Deserialize, Serialize};

use crate::kopia::FormatError;

/// The features that current Kopia knows, and we.
const KNOWN: [&str; 2] = ["index-v1", "index-v2"];

/// A feature that a client must understand.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RequiredFeature {
    /// Its name.
    pub feature: String,
    /// What a client does that does not know it.
    #[serde(default)]
    pub if_not_understood: IfNotUnderstood,
}

/// What a client does that does not know a feature.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct IfNotUnderstood {
    /// Go on after a warning.
    pub warn: bool,
    /// What to tell the user.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Where to read more.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub url: String,
    /// The Kopia that knows the feature.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub upgrade_to_version: String,
}

impl RequiredFeature {
    /// Returns whether we know the feature.
    pub fn is_known(&self) -> bool {
        KNOWN.contains(&self.feature.as_str())
    }

    /// Fails when the feature is unknown and a warning will not do.
    pub fn check(&self) -> Result<(), FormatError> {
        if self.is_known() || self.if_not_understood.warn {
            return Ok(());
        }
        Err(FormatError::Feature {
            feature: self.feature.clone(),
            message: self.advice(),
        })
    }

    /// Returns what the repository tells those who do not know the feature.
    pub fn advice(&self) -> String {
        let IfNotUnderstood {
            message,
            url,
            upgrade_to_version,
            ..
        } = &self.if_not_understood;
        let mut parts = Vec::new();
        if !message.is_empty() {
            parts.push(message.clone());
        }
        if !url.is_empty() {
            parts.push(format!("see {url}"));
        }
        if !upgrade_to_version.is_empty() {
            parts.push(format!("known from Kopia {upgrade_to_version} on"));
        }
        parts.join("; ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_unknown_and_warned() {
        let feature = |json: &str| serde_json::from_str::<RequiredFeature>(json).unwrap();
        assert!(feature(r#"{"feature":"index-v2"}"#).check().is_ok());
        let error = feature(concat!(
            r#"{"feature":"shiny","ifNotUnderstood":{"warn":false,"message":"it shines","#,
            r#""url":"http://u","upgradeToVersion":"9.9"}}"#
        ))
        .check()
        .unwrap_err();
        assert_eq!(error.code(), "unknown-required-feature");
        let text = error.to_string();
        assert!(
            text.contains("shiny") && text.contains("it shines; see http://u"),
            "{text}"
        );
        let warned = feature(r#"{"feature":"shiny","ifNotUnderstood":{"warn":true}}"#);
        assert!(warned.check().is_ok() && !warned.is_known());
    }
}
