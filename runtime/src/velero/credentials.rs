//! The secrets that one repository needs: its password, the store's keys, certificates.
//!
//! They are read when the repository's turn comes, live in memory that is wiped, and go to a child
//! process in files that have no name ([`crate::velero`] does not write them anywhere). `Debug`
//! shows nothing of them. Memory: the Secrets, which Kubernetes bounds at 1 MiB each.
//!
//! Mirrors Velero's `pkg/repository/keys`, `internal/credentials` and `pkg/util/azure`.

use std::fmt;

use base64::Engine as _;
use k8s_openapi::api::core::v1::Secret;
use zeroize::Zeroizing;

use super::cluster::Cluster;
use super::error::VeleroError;
use super::kinds::SecretKey;
use super::location::{AzureWords, Certificates, Place, Provider};

/// The Secret with the password of all repositories, and the key in it.
const PASSWORD: (&str, &str) = ("velero-repo-credentials", "repository-password");

/// The name under which an account's key is looked for in a file of Azure's keys.
const AZURE_KEY: &str = "AZURE_STORAGE_ACCOUNT_ACCESS_KEY";

/// Bytes that nobody is to see.
#[derive(Clone, PartialEq, Eq)]
pub struct Hidden(Zeroizing<Vec<u8>>);

impl Hidden {
    /// Keeps `bytes`.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// Returns them, for the one who needs them.
    pub fn reveal(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// What opens a repository.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// The repository's password.
    pub password: Hidden,
    /// The file with the store's keys; without it the environment has them.
    pub keys: Option<Hidden>,
    /// Certificates, PEM.
    pub certificates: Option<Hidden>,
    /// Where the keys come from, for people.
    pub origin: String,
}

/// Reads the secrets of `place`.
///
/// # Errors
/// Where a Secret that is needed is not there, or may not be read.
pub fn credentials(cluster: &Cluster, place: &Place) -> Result<Credentials, VeleroError> {
    let password = SecretKey {
        name: PASSWORD.0.to_owned(),
        key: PASSWORD.1.to_owned(),
    };
    let password = secret(cluster, &password)?.ok_or_else(|| missing(&password))?;
    let password = Hidden::new(password.reveal().trim_ascii().to_vec());
    let (keys, origin) = match &place.keys {
        None => (None, "none are needed".to_owned()),
        Some(source) => match secret(cluster, &source.secret)? {
            Some(bytes) => {
                let SecretKey { name, key } = &source.secret;
                (Some(bytes), format!("secret {name}, key {key}"))
            }
            None if source.required => return Err(missing(&source.secret)),
            None => (None, "the environment".to_owned()),
        },
    };
    let keys = keys.map(|bytes| match place.provider {
        Provider::Azure => with_azure_words(&bytes, &place.azure),
        _ => bytes,
    });
    let certificates = match &place.certificates {
        Certificates::System => None,
        Certificates::Secret(from) => Some(secret(cluster, from)?.ok_or_else(|| missing(from))?),
        Certificates::Inline(text) => {
            let decoded = base64::engine::general_purpose::STANDARD.decode(text);
            // The API server has checked that it is base64.
            decoded.ok().map(Hidden::new)
        }
    };
    Ok(Credentials {
        password,
        keys,
        certificates,
        origin,
    })
}

fn secret(cluster: &Cluster, from: &SecretKey) -> Result<Option<Hidden>, VeleroError> {
    let Some(secret) = cluster.get::<Secret>(&from.name)? else {
        return Ok(None);
    };
    let mut bytes = None;
    for (key, value) in secret.data.unwrap_or_default() {
        let value = Zeroizing::new(value.0);
        if key == from.key {
            bytes = Some(Hidden(value));
        }
    }
    Ok(bytes)
}

fn missing(from: &SecretKey) -> VeleroError {
    VeleroError::NoSecret {
        name: from.name.clone(),
        key: from.key.clone(),
    }
}

/// Says in a file of Azure's keys what the location says beside it.
fn with_azure_words(file: &Hidden, words: &AzureWords) -> Hidden {
    let mut bytes = Zeroizing::new(file.reveal().to_vec());
    let mut add = |name: &str, value: &[u8]| {
        bytes.push(b'\n');
        bytes.extend_from_slice(name.as_bytes());
        bytes.push(b'=');
        bytes.extend_from_slice(value);
    };
    if let Some(name) = &words.key_name
        && name != AZURE_KEY
        && let Some(value) = value_of(file.reveal(), name)
    {
        add(AZURE_KEY, value);
    }
    if let Some(authority) = &words.authority {
        add("AZURE_AUTHORITY_HOST", authority.as_bytes());
    }
    Hidden(bytes)
}

/// Returns the value of `name` in lines of `NAME=VALUE`, with or without `export`.
fn value_of<'a>(file: &'a [u8], name: &str) -> Option<&'a [u8]> {
    file.split(|byte| *byte == b'\n').find_map(|line| {
        let line = line.trim_ascii();
        let line = line.strip_prefix(b"export ").unwrap_or(line).trim_ascii();
        let value = line.strip_prefix(name.as_bytes())?.trim_ascii_start();
        Some(value.strip_prefix(b"=")?.trim_ascii())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_shown() {
        let hidden = Hidden::new(b"hunter2".to_vec());
        assert_eq!(format!("{hidden:?}"), "(secret)");
    }

    /// Goal: an account's key under any name is found by our store; method: Velero's example.
    #[test]
    fn azures_key_may_have_any_name() {
        let file = Hidden::new(b"AZURE_CLOUD_NAME=AzurePublicCloud\nMY_KEY=a2V5==\n".to_vec());
        let words = AzureWords {
            key_name: Some("MY_KEY".to_owned()),
            authority: Some("https://login.example.com/".to_owned()),
        };
        let bytes = with_azure_words(&file, &words);
        let text = std::str::from_utf8(bytes.reveal()).unwrap();
        let added = "\nAZURE_STORAGE_ACCOUNT_ACCESS_KEY=a2V5==\n\
                     AZURE_AUTHORITY_HOST=https://login.example.com/";
        assert!(text.ends_with(added), "{text}");
        let same = with_azure_words(&file, &AzureWords::default());
        assert_eq!(same, file);
    }
}
