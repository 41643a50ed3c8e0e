//! A place in an object store, put together of URL, options, environment and Kopia's config file.
//!
//! Options come before everything; with a URL the environment comes next, as in the clouds' own
//! programs. A config file of Kopia's says all by itself, so that only keys, region and account may
//! come from elsewhere. No memory cost.

use std::path::Path;

use crate::blob::StorageLimits;
use crate::blob::object::credentials::{Given, Sources, Variables, azure_account, profile_region};
use crate::blob::object::location::{AzureLocation, GcsLocation, Location, S3Location, Transport};
use crate::cli::arguments::StorageOptions;
use crate::cli::error::CliError;
use crate::cli::kopia_config::read_bounded;
use crate::cli::surroundings::Surroundings;

/// Largest file of certificates; a system's whole list has 220 KiB.
const CA_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// A place, and where its keys may be.
#[derive(Clone, Debug)]
pub(in crate::cli) struct ObjectPlace {
    /// Where it is.
    pub(in crate::cli) location: Location,
    /// Keys that were given.
    pub(in crate::cli) given: Given,
    /// Limits of Kopia's config file.
    pub(in crate::cli) limits: StorageLimits,
    /// Whether the config file asks for no changes.
    pub(in crate::cli) read_only: bool,
}

impl ObjectPlace {
    /// Makes a place of which nothing but the location is known.
    pub(super) fn new(location: Location) -> Self {
        Self {
            location,
            given: Given::Nothing,
            limits: StorageLimits::default(),
            read_only: false,
        }
    }

    /// Makes the place of `scheme://REST`.
    pub(super) fn of_url(
        scheme: &str,
        rest: &str,
        options: &StorageOptions,
        surroundings: &Surroundings,
    ) -> Result<Self, CliError> {
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        if bucket.is_empty() {
            let what = if scheme == "az" {
                "CONTAINER"
            } else {
                "BUCKET"
            };
            return Err(CliError::Usage(format!(
                "it must be {scheme}://{what}/PREFIX"
            )));
        }
        if bucket.contains(['@', ':', '?', '#', '%', ' ']) {
            let text = "no user, port or options are in the URL: give --endpoint and the like";
            return Err(CliError::Usage(format!("{scheme}://{bucket}: {text}")));
        }
        let (bucket, prefix) = (bucket.to_owned(), prefix.to_owned());
        let location = match scheme {
            "s3" => Location::S3(S3Location {
                bucket,
                prefix,
                ..S3Location::default()
            }),
            "gs" => Location::Gcs(GcsLocation {
                bucket,
                prefix,
                ..GcsLocation::default()
            }),
            _ => Location::Azure(AzureLocation {
                container: bucket,
                prefix,
                ..AzureLocation::default()
            }),
        };
        Self::new(location).with_options(options, surroundings, true)
    }

    /// Returns the scheme of its URL.
    pub(super) fn scheme(&self) -> &'static str {
        match self.location {
            Location::S3(_) => "s3",
            Location::Gcs(_) => "gs",
            Location::Azure(_) => "az",
        }
    }

    /// Returns where keys may be.
    pub(in crate::cli) fn sources(
        &self,
        options: &StorageOptions,
        surroundings: &Surroundings,
    ) -> Sources {
        Sources {
            given: self.given.clone(),
            file: options.credentials_file.clone(),
            profile: options.profile.clone(),
            variables: surroundings.variables.clone(),
            clock: surroundings.clock.clone(),
        }
    }

    /// Applies options, and the environment where a URL leaves things open.
    pub(super) fn with_options(
        mut self,
        options: &StorageOptions,
        surroundings: &Surroundings,
        is_url: bool,
    ) -> Result<Self, CliError> {
        let variables = &surroundings.variables;
        let sources = self.sources(options, surroundings);
        let transport = transport(self.location.transport(), options, variables, is_url, &self)?;
        let class = options.storage_class.clone();
        let given = options.endpoint.as_deref();
        match &mut self.location {
            Location::S3(place) => {
                let named = ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"];
                let named = variables.first(&named).filter(|_| is_url);
                if let Some(text) = given.or(named) {
                    place.endpoint = Some(endpoint(text, &transport, false)?);
                }
                let named = || variables.first(&["AWS_REGION", "AWS_DEFAULT_REGION"]);
                let region = options.region.clone().or_else(|| place.region.clone());
                place.region = region
                    .or_else(|| named().map(str::to_owned))
                    .or_else(|| place.endpoint.as_deref().and_then(region_of_host))
                    .or_else(|| profile_region(&sources));
                place.path_style = options.path_style().or(place.path_style);
                place.storage_class = class.or(place.storage_class.take());
                place.transport = transport;
            }
            Location::Gcs(place) => {
                place.storage_class = class.or(place.storage_class.take());
                place.transport = transport;
                if let Some(text) = given {
                    place.endpoint = Some(endpoint(text, &place.transport, false)?);
                } else if let Some(text) = variables.get("STORAGE_EMULATOR_HOST").filter(|_| is_url)
                {
                    // Google's programs ask an emulator without TLS and without keys.
                    place.transport.plain_http = !text.starts_with("https://");
                    place.endpoint = Some(endpoint(text, &place.transport, false)?);
                    self.given = Given::Anonymous;
                }
            }
            Location::Azure(place) => {
                let known = azure_account(&sources).map_err(CliError::Usage)?;
                let account = options.storage_account.clone();
                let own = Some(std::mem::take(&mut place.account)).filter(|own| !own.is_empty());
                let account = account.or(own).or(known.account);
                if let Some(text) = given.or(known.endpoint.as_deref().filter(|_| is_url)) {
                    place.endpoint = Some(endpoint(text, &transport, true)?);
                }
                let missing = "which storage account? Give --storage-account, or set \
                               AZURE_STORAGE_ACCOUNT";
                place.account = account.ok_or_else(|| CliError::Usage(missing.into()))?;
                place.domain = place.domain.take().or(known.domain);
                place.storage_class = class.or(place.storage_class.take());
                place.transport = transport;
            }
        }
        Ok(self)
    }
}

fn transport(
    known: &Transport,
    options: &StorageOptions,
    variables: &Variables,
    is_url: bool,
    place: &ObjectPlace,
) -> Result<Transport, CliError> {
    let is_s3 = matches!(place.location, Location::S3(_));
    let bundle = variables.path("AWS_CA_BUNDLE").filter(|_| is_url && is_s3);
    let file = options.ca_file.clone().or(bundle);
    let ca_pem = match &file {
        Some(file) => Some(ca_file(file)?),
        None => known.ca_pem.clone(),
    };
    Ok(Transport {
        plain_http: options.insecure_plain_http || known.plain_http,
        skip_tls_verify: options.insecure_skip_tls_verify || known.skip_tls_verify,
        ca_pem,
    })
}

fn ca_file(path: &Path) -> Result<Vec<u8>, CliError> {
    read_bounded(path, CA_BYTES_MAX)
        .map_err(|error| CliError::Usage(format!("CA file {}: {error}", path.display())))
}

/// Returns `HOST[:PORT]` of an endpoint, which may be a URL.
fn endpoint(text: &str, transport: &Transport, path_allowed: bool) -> Result<String, CliError> {
    let wrong = |why: &str| Err(CliError::Usage(format!("endpoint {text}: {why}")));
    let (scheme, host) = match text.split_once("://") {
        None => (None, text),
        Some((scheme, host)) => (Some(scheme.to_ascii_lowercase()), host),
    };
    match (scheme.as_deref(), transport.plain_http) {
        (None, _) | (Some("https"), false) | (Some("http"), true) => {}
        (Some("http"), false) => {
            return wrong(
                "without TLS everybody on the way can read and change what is sent; if \
                          that is wanted, give --insecure-plain-http",
            );
        }
        (Some("https"), true) => return wrong("it is not for --insecure-plain-http"),
        _ => return wrong("it must be HOST, HOST:PORT, or a URL of these with https"),
    }
    let host = host.trim_end_matches('/');
    if host.contains('/') && !path_allowed {
        return wrong("it must have no path");
    }
    if host.is_empty() || host.contains(['@', '?', '#', ' ']) {
        return wrong("it must be HOST, HOST:PORT, or a URL of these");
    }
    Ok(host.to_owned())
}

/// Returns the region in the name of one of Amazon's hosts: `s3.REGION.amazonaws.com`.
fn region_of_host(endpoint: &str) -> Option<String> {
    let host = endpoint.split(':').next()?;
    let host = host.strip_suffix(".cn").unwrap_or(host);
    let host = host.strip_suffix(".amazonaws.com")?;
    let region = host
        .strip_prefix("s3.")
        .or_else(|| host.strip_prefix("s3-"))?;
    let region = region.strip_prefix("dualstack.").unwrap_or(region);
    let plausible = region.contains('-') && !region.contains('.');
    plausible.then(|| region.to_owned())
}

#[cfg(test)]
mod tests;
