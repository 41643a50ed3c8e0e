//! Kopia's own config file: where the repository is, and who its user is.
//!
//! Mirrors Kopia's `repo/local_config.go` as far as maintenance needs it; unknown fields are
//! ignored, as Kopia ignores them. The file is ours to read, never to write. Memory: the file, at
//! most [`CONFIG_BYTES_MAX`].

use std::io::Read;
use std::path::Path;

use serde::Deserialize;

use super::error::CliError;
use super::place::{BlockError, Place, unsupported};

/// Largest config file; Kopia's are below 4 KiB.
pub(super) const CONFIG_BYTES_MAX: u64 = 1024 * 1024;

/// What maintenance needs of a config file.
#[derive(Clone, Debug)]
pub(super) struct KopiaConfig {
    /// Where the repository is.
    pub(super) place: Place,
    /// Kopia's user, `None` where the file leaves it to the default.
    pub(super) username: Option<String>,
    /// Kopia's host, `None` where the file leaves it to the default.
    pub(super) hostname: Option<String>,
    /// Whether changes are forbidden.
    pub(super) read_only: bool,
}

#[derive(Deserialize)]
struct LocalConfig {
    #[serde(rename = "apiServer")]
    api_server: Option<ApiServer>,
    storage: Option<StorageInfo>,
    #[serde(default)]
    hostname: String,
    #[serde(default)]
    username: String,
    #[serde(default)]
    readonly: bool,
    /// What `kopia repository throttle set` wrote; it goes before the limits of the storage.
    #[serde(rename = "throttlingLimits")]
    throttling: Option<serde_json::Value>,
}

#[derive(Deserialize)]
struct ApiServer {
    #[serde(default)]
    url: String,
}

#[derive(Deserialize)]
struct StorageInfo {
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    config: serde_json::Value,
}

impl KopiaConfig {
    /// Reads the config file at `path`.
    pub(super) fn read(path: &Path) -> Result<Self, CliError> {
        let bytes = read_bounded(path, CONFIG_BYTES_MAX).map_err(|error| CliError::ConfigFile {
            path: path.into(),
            reason: error.to_string(),
        })?;
        Self::parse(path, &bytes)
    }

    /// Parses a config file; `path` is for messages only.
    pub(super) fn parse(path: &Path, bytes: &[u8]) -> Result<Self, CliError> {
        let wrong = |reason: String| CliError::ConfigFile {
            path: path.into(),
            reason,
        };
        let config: LocalConfig =
            serde_json::from_slice(bytes).map_err(|error| wrong(error.to_string()))?;
        if let Some(server) = config.api_server {
            return Err(CliError::ConfigServer {
                path: path.into(),
                url: server.url,
            });
        }
        let storage = config
            .storage
            .ok_or_else(|| wrong("names no storage".into()))?;
        let place = match Place::of_block(&storage.kind, &storage.config) {
            Ok(place) => place,
            Err(BlockError::Wrong(reason)) => return Err(wrong(reason)),
            Err(BlockError::Unsupported) => return Err(unsupported(&storage.kind)),
        };
        let place = match &config.throttling {
            Some(limits) => place.within(limits).map_err(wrong)?,
            None => place,
        };
        let named = |text: String| Some(text).filter(|text| !text.is_empty());
        Ok(Self {
            read_only: config.readonly || place.is_read_only(),
            place,
            username: named(config.username),
            hostname: named(config.hostname),
        })
    }
}

/// Reads a file of at most `bytes_max` bytes.
pub(super) fn read_bounded(path: &Path, bytes_max: u64) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)?
        .take(bytes_max + 1)
        .read_to_end(&mut bytes)?;
    if bytes.len() as u64 > bytes_max {
        let message = format!("larger than {bytes_max} bytes");
        return Err(std::io::Error::new(
            std::io::ErrorKind::InvalidData,
            message,
        ));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Result<KopiaConfig, CliError> {
        KopiaConfig::parse(Path::new("repository.config"), json.as_bytes())
    }

    /// Goal: what Kopia 0.23.1 writes is understood; method: a file as `kopia repository connect`
    /// wrote it.
    #[test]
    fn kopias_file_is_understood() {
        let config = parse(
            r#"{"storage": {"type": "filesystem", "config": {"path": "/backup", "dirShards": null}},
              "caching": {"cacheDirectory": "../cache", "maxCacheSize": 5242880000},
              "hostname": "default", "username": "velero", "description": "x",
              "enableActions": false, "formatBlobCacheDuration": 900000000000}"#,
        )
        .unwrap();
        assert_eq!(config.place.shown(), "/backup");
        assert_eq!(config.username.as_deref(), Some("velero"));
        assert_eq!(config.hostname.as_deref(), Some("default"));
        assert!(!config.read_only);
    }

    #[test]
    fn what_cannot_be_maintained_is_refused_by_name() {
        for (json, code) in [
            (
                r#"{"storage":{"type":"sftp","config":{"path":"/r"}}}"#,
                "unsupported-storage",
            ),
            (
                r#"{"apiServer":{"url":"https://h:51515"}}"#,
                "config-server",
            ),
            (
                r#"{"storage":{"type":"filesystem","config":{}}}"#,
                "config-file",
            ),
            (r#"{"hostname":"h"}"#, "config-file"),
            ("{", "config-file"),
        ] {
            assert_eq!(parse(json).unwrap_err().code(), code, "{json}");
        }
    }

    #[test]
    fn limits_of_the_client_go_before_those_of_the_storage() {
        let limits = |json: &str| match parse(json).unwrap().place {
            Place::Folder(place) => place.limits.reads_per_second,
            #[cfg(feature = "object-stores")]
            Place::Object(place) => place.limits.reads_per_second,
        };
        let storage =
            r#""storage":{"type":"filesystem","config":{"path":"/r","readsPerSecond":7}}"#;
        assert_eq!(limits(&format!("{{{storage}}}")), 7.0);
        let own = r#""throttlingLimits":{"readsPerSecond":9,"maxUploadSpeedBytesPerSecond":1e6}"#;
        assert_eq!(limits(&format!("{{{storage},{own}}}")), 9.0);
        assert_eq!(
            limits(&format!("{{{storage},\"throttlingLimits\":{{}}}}")),
            0.0
        );
        let wrong = format!("{{{storage},\"throttlingLimits\":{{\"readsPerSecond\":-1}}}}");
        assert_eq!(parse(&wrong).unwrap_err().code(), "config-file");
    }

    #[test]
    fn a_read_only_connection_and_missing_names_are_seen() {
        let json = r#"{"storage":{"type":"filesystem","config":{"path":"/r"}},"readonly":true}"#;
        let config = parse(json).unwrap();
        assert!(config.read_only);
        assert_eq!((config.username, config.hostname), (None, None));
    }
}
