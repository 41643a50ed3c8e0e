//! Where the keys of an object store are found, and how they stay valid during a run.
//!
//! What was given comes first, then the environment, then files, then the metadata service of the
//! machine or container: the order of the clouds' own programs. Every kind has an issuer that can
//! be asked again, so that keys which expire are renewed in the middle of a run. Secrets are never
//! shown: [`Secret`] and all providers have a `Debug` without them. Memory: some KiB.

mod aws;
mod aws_chain;
mod aws_files;
mod aws_roles;
mod azure;
mod exchange;
mod google;
mod google_tokens;
mod ini;
mod refreshing;
mod secret;
#[cfg(test)]
mod test_server;
mod variables;

use std::path::PathBuf;

use super::connect::Credentials;
use super::location::Location;
use crate::blob::BlobError;
use crate::clock::SharedClock;

pub use aws_chain::profile_region;
pub use azure::{AzureAccount, account as azure_account};
pub(super) use exchange::told;
pub use refreshing::{Issued, Issuer, Refreshing};
pub use secret::Secret;
pub use variables::{VARIABLES, Variables};

/// Largest file with keys; a service account's is 3 KiB.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Keys that were given, most often by Kopia's config file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Given {
    /// None: they are looked for.
    #[default]
    Nothing,
    /// Requests are not to be signed.
    Anonymous,
    /// For S3.
    S3(S3Keys),
    /// For Azure.
    Azure(AzureKeys),
    /// For Google: the JSON of a credentials file.
    Google(Secret),
    /// For Google: the path of a credentials file.
    GoogleFile(PathBuf),
}

/// Keys for S3 as Kopia's config file has them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct S3Keys {
    /// The access key, empty to look for one.
    pub access_key_id: String,
    /// Its secret.
    pub secret_access_key: Secret,
    /// The session's token, empty for none.
    pub session_token: Secret,
    /// The role to assume with them.
    pub role: Option<Role>,
}

/// A role to assume.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Role {
    /// Its name.
    pub arn: String,
    /// The session's name, empty for `careen`.
    pub session_name: String,
    /// How long its keys are valid, `None` for an hour.
    pub seconds: Option<u64>,
    /// URL of the token service, `None` for Amazon's of the region.
    pub endpoint: Option<String>,
    /// Region of the token service, `None` for the bucket's.
    pub region: Option<String>,
    /// Whom the role's owner knows us as.
    pub external_id: Option<String>,
}

/// Keys for Azure as Kopia's config file has them; the first that is there is taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AzureKeys {
    /// A shared access signature.
    pub sas_token: Secret,
    /// The account's key.
    pub account_key: Secret,
    /// The tenant.
    pub tenant_id: String,
    /// The application.
    pub client_id: String,
    /// Its secret.
    pub client_secret: Secret,
    /// The file of a token that Kubernetes writes.
    pub federated_token_file: Option<PathBuf>,
    /// Whether there is a client certificate, which we cannot use.
    pub has_certificate: bool,
}

/// Everything that keys may come from.
#[derive(Clone, Debug)]
pub struct Sources {
    /// What was given.
    pub given: Given,
    /// `--credentials-file`, also in Velero's formats.
    pub file: Option<PathBuf>,
    /// `--profile`.
    pub profile: Option<String>,
    /// The environment.
    pub variables: Variables,
    /// The client's clock.
    pub clock: SharedClock,
}

/// Keys, and where they are from.
#[derive(Clone, Debug)]
pub struct Found {
    /// The keys, renewed by themselves.
    pub credentials: Credentials,
    /// Where they are from, for messages; no secrets.
    pub origin: String,
}

/// Finds the keys of a place. Files are read, but nothing is asked of the network.
pub fn find(place: &Location, sources: &Sources) -> Result<Found, BlobError> {
    let found = match (place, &sources.given) {
        (_, Given::Anonymous) => Ok(Found {
            credentials: Credentials::Anonymous,
            origin: "none: requests are not signed".into(),
        }),
        (Location::S3(s3), _) => aws_chain::find(s3, sources),
        (Location::Azure(azure), _) => azure::find(azure, sources),
        (Location::Gcs(gcs), _) => google::find(gcs, sources),
    };
    found.map_err(|reason| BlobError::Credentials {
        location: place.to_string(),
        reason,
    })
}

/// Reads a file with keys; the reason names it.
fn read_file(path: &std::path::Path) -> Result<Vec<u8>, String> {
    use std::io::Read;

    let read = || {
        let mut bytes = Vec::new();
        let file = std::fs::File::open(path)?;
        file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read().map_err(|error: std::io::Error| format!("{}: {error}", path.display()))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(format!("{}: larger than 1 MiB", path.display()));
    }
    Ok(bytes)
}

/// Reads a file with keys as text.
fn read_text(path: &std::path::Path) -> Result<String, String> {
    let bytes = read_file(path)?;
    let text = String::from_utf8(bytes).map_err(|_| format!("{}: not UTF-8", path.display()))?;
    Ok(text
        .strip_prefix('\u{feff}')
        .map(str::to_owned)
        .unwrap_or(text))
}
