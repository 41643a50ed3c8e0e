//! The order in which Google's keys are looked for.
//!
//! Given JSON or file (Kopia's config file); `--credentials-file`; the file of
//! `GOOGLE_APPLICATION_CREDENTIALS`; the one that Google's program writes; the machine's service.
//! Memory: a file.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use object_store::gcp::GcpCredential;
use serde::Deserialize;

use super::exchange::{Exchange, Kind};
use super::google_tokens::{External, Machine, ServiceAccount, Subject, User};
use super::refreshing::Issuer;
use super::{Found, Given, Refreshing, Secret, Sources, read_text};
use crate::blob::object::connect::Credentials;
use crate::blob::object::location::GcsLocation;

/// Google's name of a machine's metadata.
const MACHINE: &str = "metadata.google.internal";

/// Google's token service.
const TOKENS: &str = "https://oauth2.googleapis.com/token";

type AnyIssuer = Box<dyn Issuer<Credential = GcpCredential>>;

/// Finds the keys of a Google place.
pub(super) fn find(place: &GcsLocation, sources: &Sources) -> Result<Found, String> {
    let (issuer, origin) = Search { place, sources }.first()?;
    let keys = Refreshing::new(issuer, origin.clone(), sources.clock.clone());
    Ok(Found {
        credentials: Credentials::Google(Arc::new(keys)),
        origin,
    })
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct CredentialsFile {
    #[serde(rename = "type")]
    kind: String,
    client_email: String,
    private_key: Secret,
    private_key_id: String,
    token_uri: String,
    client_id: String,
    client_secret: Secret,
    refresh_token: Secret,
    audience: String,
    subject_token_type: String,
    token_url: String,
    service_account_impersonation_url: Option<String>,
    credential_source: CredentialSource,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct CredentialSource {
    file: Option<PathBuf>,
    url: Option<String>,
    headers: std::collections::BTreeMap<String, Secret>,
    format: SourceFormat,
    environment_id: Option<String>,
    executable: Option<serde_json::Value>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct SourceFormat {
    #[serde(rename = "type")]
    kind: String,
    subject_token_field_name: String,
}

struct Search<'a> {
    place: &'a GcsLocation,
    sources: &'a Sources,
}

impl Search<'_> {
    fn first(&self) -> Result<(AnyIssuer, String), String> {
        let variables = &self.sources.variables;
        match &self.sources.given {
            Given::Google(json) => return self.of_json(json.reveal(), "the config file"),
            Given::GoogleFile(path) => return self.of_file(path),
            _ => {}
        }
        if let Some(path) = &self.sources.file {
            return self.of_file(path);
        }
        if let Some(path) = variables.path("GOOGLE_APPLICATION_CREDENTIALS") {
            return self.of_file(&path);
        }
        let folder = variables.path("CLOUDSDK_CONFIG");
        let folder = folder.or_else(|| Some(variables.path("HOME")?.join(".config/gcloud")));
        if let Some(path) = folder.map(|f| f.join("application_default_credentials.json"))
            && path.exists()
        {
            return self.of_file(&path);
        }
        let machine = Machine {
            exchange: self.exchange(Kind::Metadata)?,
            host: variables
                .get("GCE_METADATA_HOST")
                .unwrap_or(MACHINE)
                .to_owned(),
            clock: self.sources.clock.clone(),
        };
        Ok((Box::new(machine), "the machine's service account".into()))
    }

    fn of_file(&self, path: &Path) -> Result<(AnyIssuer, String), String> {
        let text = Secret::new(read_text(path)?);
        self.of_json(text.reveal(), &path.display().to_string())
    }

    fn of_json(&self, text: &str, from: &str) -> Result<(AnyIssuer, String), String> {
        let wrong = |reason: &str| format!("{from}: {reason}");
        let file: CredentialsFile =
            serde_json::from_str(text).map_err(|_| wrong("is no credentials file in JSON"))?;
        let exchange = self.exchange(Kind::Token)?;
        let clock = self.sources.clock.clone();
        let token_url = match file.token_uri.as_str() {
            "" => TOKENS.to_owned(),
            url => url.to_owned(),
        };
        match file.kind.as_str() {
            "service_account" => {
                if file.private_key.is_empty() || file.client_email.is_empty() {
                    return Err(wrong("lacks private_key or client_email"));
                }
                let origin = format!("service account {} of {from}", file.client_email);
                let issuer = ServiceAccount {
                    exchange,
                    email: file.client_email,
                    key_id: file.private_key_id,
                    key_pem: file.private_key,
                    token_url,
                    clock,
                };
                issuer.assertion().map_err(|reason| wrong(&reason))?;
                Ok((Box::new(issuer), origin))
            }
            "authorized_user" => {
                if file.refresh_token.is_empty() {
                    return Err(wrong("lacks refresh_token"));
                }
                let issuer = User {
                    exchange,
                    client_id: file.client_id,
                    client_secret: file.client_secret,
                    refresh_token: file.refresh_token,
                    token_url,
                    clock,
                };
                Ok((Box::new(issuer), format!("the user of {from}")))
            }
            "external_account" => self.external(file, exchange, from),
            "impersonated_service_account" => Err(wrong(
                "impersonated_service_account is not supported; use the service account's own key, \
                 or external_account with service_account_impersonation_url",
            )),
            "" => Err(wrong("has no type: it is no credentials file of Google's")),
            other => Err(wrong(&format!(
                "credentials of type {other} are not supported"
            ))),
        }
    }

    fn external(
        &self,
        file: CredentialsFile,
        exchange: Exchange,
        from: &str,
    ) -> Result<(AnyIssuer, String), String> {
        let source = file.credential_source;
        if source.environment_id.is_some() || source.executable.is_some() {
            return Err(format!(
                "{from}: only external accounts whose token is in a file or behind a URL are \
                 supported, not Amazon's keys or programs"
            ));
        }
        let headers = source.headers.into_iter().collect();
        let subject = match (source.file, source.url) {
            (Some(file), _) => Subject::File(file),
            (None, Some(url)) => Subject::Url(url, headers),
            (None, None) => {
                return Err(format!("{from}: credential_source has no file and no url"));
            }
        };
        let issuer = External {
            exchange,
            audience: file.audience,
            token_kind: file.subject_token_type,
            subject,
            field: (source.format.kind == "json").then_some(source.format.subject_token_field_name),
            token_url: file.token_url,
            impersonation_url: file.service_account_impersonation_url,
            clock: self.sources.clock.clone(),
        };
        Ok((Box::new(issuer), format!("the external account of {from}")))
    }

    fn exchange(&self, kind: Kind) -> Result<Exchange, String> {
        Exchange::new(&self.place.transport, kind)
    }
}

#[cfg(test)]
mod tests;
