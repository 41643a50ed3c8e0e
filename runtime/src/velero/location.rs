//! From a storage location to the URL and options of `careen`: where Velero's Kopia looks, exactly.
//!
//! Velero hands a few keys of the location's `config` on to Kopia and ignores the rest; so do we.
//! `s3ForcePathStyle`, for one, is for Velero's own plugin: Kopia finds the style by itself, and
//! our store as Kopia does. No memory cost.
//!
//! Mirrors `getStorageVariables` of Velero's `pkg/repository/provider/unified_repo.go` and
//! `pkg/repository/config/config.go`.

use std::collections::BTreeMap;

use super::kinds::{BackupRepositorySpec, BackupStorageLocationSpec, SecretKey};

/// The Secret with the keys of the installation, and the key in it.
const INSTALLATION: (&str, &str) = ("cloud-credentials", "cloud");

/// A kind of store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Provider {
    /// Amazon's protocol.
    Aws,
    /// Google.
    Gcp,
    /// Azure.
    Azure,
    /// A folder.
    Fs,
}

/// Where a repository is, and how it is reached; nothing of it is secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The kind of store.
    pub provider: Provider,
    /// A URL, or a folder.
    pub url: String,
    /// Options of `careen` that go with it.
    pub options: Vec<String>,
    /// Lines for Velero's file of Azure's keys: what the location says beside it.
    pub azure: AzureWords,
    /// The Secret with the keys; none for a folder.
    pub keys: Option<KeySource>,
    /// Certificates that are trusted besides the system's.
    pub certificates: Certificates,
}

/// Which Secret holds the store's keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeySource {
    /// The Secret and the key in it.
    pub secret: SecretKey,
    /// Whether it must be there: the keys of the installation may be absent, then the environment
    /// has them (a service account's role, workload identity).
    pub required: bool,
}

/// What a location says of Azure's keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AzureWords {
    /// The name of the account's key in the file.
    pub key_name: Option<String>,
    /// Where tokens come from, if not from where the cloud's name says.
    pub authority: Option<String>,
}

/// Certificates of a store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Certificates {
    /// The system's.
    #[default]
    System,
    /// In the location, base64 of PEM.
    Inline(String),
    /// In a Secret.
    Secret(SecretKey),
}

/// Returns where the repository is.
///
/// # Errors
/// Why it cannot be reached, as a sentence.
pub fn place_of(
    repository: &BackupRepositorySpec,
    location: &BackupStorageLocationSpec,
) -> Result<Place, String> {
    let none = BTreeMap::new();
    let config = location.config.as_ref().unwrap_or(&none);
    let text = |key: &str| config.get(key).map(String::as_str).unwrap_or_default();
    let provider = provider_of(&location.provider, text("s3Url"))?;
    let (bucket, prefix) = match &location.object_storage {
        Some(storage) => (storage.bucket.as_str(), storage.prefix.as_str()),
        None => (text("bucket"), text("prefix")),
    };
    let bucket = bucket.trim_matches('/');
    let prefix = joined(&[
        prefix.trim_matches('/'),
        "kopia",
        &repository.volume_namespace,
    ]);
    if bucket.is_empty() && provider != Provider::Fs {
        return Err("its storage location names no bucket".to_owned());
    }
    let mut place = Place {
        provider,
        url: String::new(),
        options: Vec::new(),
        azure: AzureWords::default(),
        keys: Some(keys_of(location)),
        certificates: certificates_of(location),
    };
    match provider {
        Provider::Aws => {
            place.url = format!("s3://{bucket}/{prefix}/");
            place.options = s3_options(&text)?;
        }
        Provider::Gcp => place.url = format!("gs://{bucket}/{prefix}/"),
        Provider::Azure => {
            place.url = format!("az://{bucket}/{prefix}/");
            place.options = azure_options(&text)?;
            let given = |key| Some(text(key)).filter(|text| !text.is_empty());
            place.azure = AzureWords {
                key_name: given("storageAccountKeyEnvVar").map(str::to_owned),
                authority: given("activeDirectoryAuthorityURI").map(str::to_owned),
            };
        }
        Provider::Fs => {
            let folder = text("fspath");
            if !folder.starts_with('/') {
                return Err("its storage location has no absolute fspath".to_owned());
            }
            place.url = format!("/{}", joined(&[folder, &prefix]));
            place.keys = None;
            place.certificates = Certificates::System;
        }
    }
    Ok(place)
}

fn provider_of(name: &str, s3_url: &str) -> Result<Provider, String> {
    match name.strip_prefix("velero.io/").unwrap_or(name) {
        "aws" => Ok(Provider::Aws),
        "gcp" => Ok(Provider::Gcp),
        "azure" => Ok(Provider::Azure),
        "fs" => Ok(Provider::Fs),
        _ if !s3_url.is_empty() => Ok(Provider::Aws),
        _ => Err(format!(
            "its storage location is of provider {name:?}, which Velero's Kopia does not know"
        )),
    }
}

fn keys_of(location: &BackupStorageLocationSpec) -> KeySource {
    match &location.credential {
        Some(secret) if !secret.name.is_empty() => KeySource {
            secret: secret.clone(),
            required: true,
        },
        _ => KeySource {
            secret: SecretKey {
                name: INSTALLATION.0.to_owned(),
                key: INSTALLATION.1.to_owned(),
            },
            required: false,
        },
    }
}

fn certificates_of(location: &BackupStorageLocationSpec) -> Certificates {
    let Some(storage) = &location.object_storage else {
        return Certificates::System;
    };
    match (&storage.ca_cert_ref, &storage.ca_cert) {
        (Some(secret), _) => Certificates::Secret(secret.clone()),
        (None, Some(text)) if !text.is_empty() => Certificates::Inline(text.clone()),
        _ => Certificates::System,
    }
}

fn s3_options<'a>(text: &impl Fn(&str) -> &'a str) -> Result<Vec<String>, String> {
    let mut options = Vec::new();
    let mut add = |name: &str, value: &str| {
        if !value.is_empty() {
            options.extend([name.to_owned(), value.to_owned()]);
        }
    };
    let url = text("s3Url");
    let mut plain = false;
    if !url.is_empty() {
        let (scheme, host) = url
            .split_once("://")
            .ok_or_else(|| format!("its s3Url {url} has no scheme"))?;
        let host = host.trim_end_matches('/');
        if host.is_empty() || host.contains(['/', '?', '#', '@']) {
            return Err(format!("its s3Url {url} is more than scheme and host"));
        }
        plain = scheme == "http";
        add("--endpoint", host);
    }
    add("--region", text("region").trim_matches('/'));
    add("--profile", text("profile"));
    if plain {
        options.push("--insecure-plain-http".to_owned());
    }
    if is_true(text("insecureSkipTLSVerify")) {
        options.push("--insecure-skip-tls-verify".to_owned());
    }
    Ok(options)
}

fn azure_options<'a>(text: &impl Fn(&str) -> &'a str) -> Result<Vec<String>, String> {
    let account = text("storageAccount");
    if account.is_empty() {
        return Err("its storage location names no storageAccount".to_owned());
    }
    let mut options = vec!["--storage-account".to_owned(), account.to_owned()];
    let uri = text("storageAccountURI");
    if !uri.is_empty() {
        options.extend(["--endpoint".to_owned(), uri.to_owned()]);
        if uri.starts_with("http://") {
            options.push("--insecure-plain-http".to_owned());
        }
    }
    Ok(options)
}

/// Tells whether Go's `strconv.ParseBool` says true.
fn is_true(text: &str) -> bool {
    matches!(text, "1" | "t" | "T" | "true" | "TRUE" | "True")
}

/// Joins parts of a path as Go's `path.Join` does, without a slash at either end.
fn joined(parts: &[&str]) -> String {
    let mut names: Vec<&str> = Vec::new();
    for name in parts.iter().flat_map(|part| part.split('/')) {
        match name {
            "" | "." => {}
            ".." if names.last().is_some_and(|last| *last != "..") => drop(names.pop()),
            name => names.push(name),
        }
    }
    names.join("/")
}

#[cfg(test)]
mod tests;
