//! The order in which Azure's keys are looked for, and the tokens of Microsoft's sign-in.
//!
//! Given keys in Kopia's order; a given file (Velero's); the storage account's key, signature or
//! connection string of the environment; Velero's file; a client secret, a token that Kubernetes
//! writes (workload identity); the machine's identity. Client certificates are refused. Memory: a
//! file, a token.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use object_store::azure::{AzureAccessKey, AzureCredential};

use super::exchange::{Exchange, Kind, encoded};
use super::google_tokens::parse_token;
use super::ini::{self, Section, value};
use super::refreshing::{Asked, Issued, Issuer, Refreshing};
use super::{AzureKeys, Found, Given, Secret, Sources, read_text};
use crate::blob::object::connect::Credentials;
use crate::blob::object::location::AzureLocation;
use crate::clock::{SharedClock, Timestamp};

/// What a token is asked for.
const RESOURCE: &str = "https://storage.azure.com";

/// Azure's address of a machine's metadata.
const MACHINE: &str = "http://169.254.169.254";

/// A cloud of Microsoft's: Velero's name, where one signs in, the domain of its storage.
const CLOUDS: [(&str, &str, &str); 3] = [
    (
        "AzurePublicCloud",
        "https://login.microsoftonline.com",
        "blob.core.windows.net",
    ),
    (
        "AzureChinaCloud",
        "https://login.chinacloudapi.cn",
        "blob.core.chinacloudapi.cn",
    ),
    (
        "AzureUSGovernmentCloud",
        "https://login.microsoftonline.us",
        "blob.core.usgovcloudapi.net",
    ),
];

/// Returns where one signs in to a cloud, and the domain of its storage.
pub(super) fn cloud(name: &str) -> Result<(&'static str, &'static str), String> {
    let name = name.trim();
    let name = if name.eq_ignore_ascii_case("AzureUSGovernment") {
        "AzureUSGovernmentCloud"
    } else {
        name
    };
    let found = CLOUDS
        .iter()
        .find(|(known, ..)| known.eq_ignore_ascii_case(name));
    let known = CLOUDS.map(|(name, ..)| name).join(", ");
    let (_, authority, domain) =
        found.ok_or_else(|| format!("there is no cloud {name}; there are {known}"))?;
    Ok((authority, domain))
}

/// What files and environment say of an account besides its keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AzureAccount {
    /// The account's name.
    pub account: Option<String>,
    /// The domain behind it.
    pub domain: Option<String>,
    /// URL of the blob service, which wins over both.
    pub endpoint: Option<String>,
}

/// Finds what is known of the account besides its keys.
pub fn account(sources: &Sources) -> Result<AzureAccount, String> {
    let variables = &sources.variables;
    let mut found = AzureAccount {
        account: variables.get("AZURE_STORAGE_ACCOUNT").map(str::to_owned),
        domain: variables.get("AZURE_STORAGE_DOMAIN").map(str::to_owned),
        endpoint: None,
    };
    if let Some(text) = variables.get("AZURE_STORAGE_CONNECTION_STRING") {
        let parts = connection_string(text);
        let part = |name| value(&parts, name).map(str::to_owned);
        found.account = part("AccountName").or(found.account);
        found.endpoint = part("BlobEndpoint");
        found.domain = part("EndpointSuffix")
            .map(|end| format!("blob.{end}"))
            .or(found.domain);
    }
    let file = sources
        .file
        .clone()
        .or_else(|| variables.path("AZURE_CREDENTIALS_FILE"));
    let pairs = match &file {
        Some(file) => ini::pairs(&read_text(file)?),
        None => Section::new(),
    };
    if found.account.is_none() {
        found.account = value(&pairs, "AZURE_STORAGE_ACCOUNT").map(str::to_owned);
    }
    let name = value(&pairs, "AZURE_CLOUD_NAME").or_else(|| variables.get("AZURE_CLOUD_NAME"));
    if let (None, Some(name)) = (&found.domain, name) {
        found.domain = Some(cloud(name)?.1.to_owned());
    }
    Ok(found)
}

/// Splits `Name=Value;Name=Value`.
fn connection_string(text: &str) -> Section {
    let parts = text.split(';').filter_map(|part| part.split_once('='));
    parts
        .map(|(name, value)| (name.trim().to_owned(), Secret::new(value.trim())))
        .collect()
}

/// Finds the keys of an Azure place.
pub(super) fn find(place: &AzureLocation, sources: &Sources) -> Result<Found, String> {
    let (issuer, origin) = Search { place, sources }.first()?;
    let keys = Refreshing::new(issuer, origin.clone(), sources.clock.clone());
    Ok(Found {
        credentials: Credentials::Azure(Arc::new(keys)),
        origin,
    })
}

type AnyIssuer = Box<dyn Issuer<Credential = AzureCredential>>;
type Named = (AnyIssuer, String);

struct Search<'a> {
    place: &'a AzureLocation,
    sources: &'a Sources,
}

impl Search<'_> {
    fn first(&self) -> Result<Named, String> {
        let variables = &self.sources.variables;
        if let Given::Azure(keys) = &self.sources.given
            && let Some(found) = self.of_keys(keys, "the config file")?
        {
            return Ok(found);
        }
        if let Some(file) = &self.sources.file {
            return self.of_file(file);
        }
        if let Some(text) = variables.get("AZURE_STORAGE_CONNECTION_STRING") {
            let parts = connection_string(text);
            let secret = |name| Secret::new(value(&parts, name).unwrap_or_default());
            let keys = AzureKeys {
                account_key: secret("AccountKey"),
                sas_token: secret("SharedAccessSignature"),
                ..AzureKeys::default()
            };
            let found = self.of_keys(&keys, "AZURE_STORAGE_CONNECTION_STRING")?;
            return found.ok_or("AZURE_STORAGE_CONNECTION_STRING has no AccountKey".into());
        }
        let secret = |name| Secret::new(variables.get(name).unwrap_or_default());
        let keys = AzureKeys {
            account_key: secret("AZURE_STORAGE_KEY"),
            sas_token: secret("AZURE_STORAGE_SAS_TOKEN"),
            ..AzureKeys::default()
        };
        if let Some(found) = self.of_keys(&keys, "the environment")? {
            return Ok(found);
        }
        if let Some(file) = variables.path("AZURE_CREDENTIALS_FILE") {
            return self.of_file(&file);
        }
        let keys = identity(|name| variables.get(name).map(str::to_owned));
        match self.of_keys(&keys, "the environment")? {
            Some(found) => Ok(found),
            None => self.machine(variables.get("AZURE_CLIENT_ID")),
        }
    }

    /// Keys of Velero's file: the account's, else those of an application.
    fn of_file(&self, file: &Path) -> Result<Named, String> {
        let pairs = ini::pairs(&read_text(file)?);
        let from = file.display().to_string();
        let names = ["AZURE_STORAGE_ACCOUNT_ACCESS_KEY", "AZURE_STORAGE_KEY"];
        if names.iter().any(|name| value(&pairs, name).is_some()) {
            let (path, clock) = (file.to_owned(), self.sources.clock.clone());
            let issuer = Asked(move || {
                let pairs = ini::pairs(&read_text(&path)?);
                let key = names.iter().find_map(|name| value(&pairs, name));
                let key = account_key(key.ok_or("the file has no key any more")?)?;
                Ok(Issued::of_file(key, clock.now()))
            });
            return Ok((Box::new(issuer), format!("the account's key of {from}")));
        }
        let variables = &self.sources.variables;
        let keys = identity(|name| {
            let there = value(&pairs, name).or_else(|| variables.get(name));
            there.map(str::to_owned)
        });
        let own = value(&pairs, "AZURE_AUTHORITY_HOST").map(str::to_owned);
        let own = match (own, value(&pairs, "AZURE_CLOUD_NAME")) {
            (Some(own), _) => Some(own),
            (None, Some(name)) => Some(cloud(name)?.0.to_owned()),
            (None, None) => None,
        };
        match self.of_keys_at(&keys, &from, own)? {
            Some(found) => Ok(found),
            None => self.machine(value(&pairs, "AZURE_CLIENT_ID")),
        }
    }

    fn of_keys(&self, keys: &AzureKeys, from: &str) -> Result<Option<Named>, String> {
        self.of_keys_at(keys, from, None)
    }

    fn of_keys_at(
        &self,
        keys: &AzureKeys,
        from: &str,
        authority: Option<String>,
    ) -> Result<Option<Named>, String> {
        if !keys.sas_token.is_empty() {
            let (sas, clock) = (keys.sas_token.clone(), self.sources.clock.clone());
            shared_signature(&sas, &clock)?;
            let issuer = Asked(move || shared_signature(&sas, &clock));
            return Ok(Some((Box::new(issuer), format!("the SAS token of {from}"))));
        }
        if !keys.account_key.is_empty() {
            let key = keys.account_key.clone();
            account_key(key.reveal())?;
            let issuer = Asked(move || account_key(key.reveal()).map(Issued::lasting));
            return Ok(Some((
                Box::new(issuer),
                format!("the account's key of {from}"),
            )));
        }
        if keys.tenant_id.is_empty() || keys.client_id.is_empty() {
            return Ok(None);
        }
        let proof = if !keys.client_secret.is_empty() {
            Proof::Secret(keys.client_secret.clone())
        } else if keys.has_certificate {
            let text = "client certificates are not supported: give the application a client \
                        secret, or use workload identity";
            return Err(format!("{from}: {text}"));
        } else if let Some(file) = &keys.federated_token_file {
            Proof::TokenOf(file.clone())
        } else {
            return Ok(None);
        };
        let origin = match &proof {
            Proof::Secret(_) => format!("application {} of {from}", keys.client_id),
            Proof::TokenOf(file) => {
                format!("workload identity {} by {}", keys.client_id, file.display())
            }
        };
        let issuer = Application {
            exchange: self.exchange(Kind::Token)?,
            url: format!(
                "{}/{}/oauth2/v2.0/token",
                self.authority(authority)?.trim_end_matches('/'),
                encoded(&keys.tenant_id)
            ),
            client_id: keys.client_id.clone(),
            proof,
            clock: self.sources.clock.clone(),
        };
        Ok(Some((Box::new(issuer), origin)))
    }

    fn authority(&self, own: Option<String>) -> Result<String, String> {
        let variables = &self.sources.variables;
        let named = own.or_else(|| variables.get("AZURE_AUTHORITY_HOST").map(str::to_owned));
        let host = match (named, variables.get("AZURE_CLOUD_NAME")) {
            (Some(host), _) => host,
            (None, Some(name)) => cloud(name)?.0.to_owned(),
            (None, None) => CLOUDS[0].1.to_owned(),
        };
        Ok(if host.contains("://") {
            host
        } else {
            format!("https://{host}")
        })
    }

    fn machine(&self, client_id: Option<&str>) -> Result<Named, String> {
        let variables = &self.sources.variables;
        let who = client_id
            .map(|id| format!("&client_id={}", encoded(id)))
            .unwrap_or_default();
        let question = format!("api-version=2019-08-01&resource={}{who}", encoded(RESOURCE));
        let (url, header) = match variables.get("IDENTITY_ENDPOINT") {
            Some(url) => {
                let key = variables.get("IDENTITY_HEADER").unwrap_or_default();
                (
                    format!("{url}?{question}"),
                    ("x-identity-header", Secret::from(key)),
                )
            }
            None => {
                let host = variables
                    .get("AZURE_POD_IDENTITY_AUTHORITY_HOST")
                    .unwrap_or(MACHINE);
                let base = host.trim_end_matches('/');
                let url = format!("{base}/metadata/identity/oauth2/token?{question}");
                (url, ("metadata", Secret::from("true")))
            }
        };
        let issuer = Machine {
            exchange: self.exchange(Kind::Metadata)?,
            url,
            header,
            clock: self.sources.clock.clone(),
        };
        Ok((Box::new(issuer), "the machine's managed identity".into()))
    }

    fn exchange(&self, kind: Kind) -> Result<Exchange, String> {
        Exchange::new(&self.place.transport, kind)
    }
}

/// Makes the keys of an application from variables.
fn identity(get: impl Fn(&str) -> Option<String>) -> AzureKeys {
    let text = |name| get(name).unwrap_or_default();
    let certificates = ["AZURE_CLIENT_CERTIFICATE", "AZURE_CLIENT_CERTIFICATE_PATH"];
    AzureKeys {
        tenant_id: text("AZURE_TENANT_ID"),
        client_id: text("AZURE_CLIENT_ID"),
        client_secret: Secret::new(text("AZURE_CLIENT_SECRET")),
        federated_token_file: get("AZURE_FEDERATED_TOKEN_FILE").map(PathBuf::from),
        has_certificate: certificates.iter().any(|name| get(name).is_some()),
        ..AzureKeys::default()
    }
}

fn account_key(text: &str) -> Result<AzureCredential, String> {
    let key = AzureAccessKey::try_new(text.trim());
    let key = key.map_err(|_| "the account's key is not base64".to_owned())?;
    Ok(AzureCredential::AccessKey(key))
}

/// Splits a signature into the pairs that every URL gets.
fn shared_signature(sas: &Secret, clock: &SharedClock) -> Result<Issued<AzureCredential>, String> {
    let text = sas.reveal().trim().trim_start_matches('?');
    let pairs = object_store::azure::split_sas(text);
    let pairs = pairs.map_err(|_| "the SAS token is no list of NAME=VALUE".to_owned())?;
    let value = |name: &str| pairs.iter().find(|(known, _)| known == name);
    value("sig").ok_or("the SAS token has no signature (sig=)")?;
    // One that names a policy of the container has no end of its own.
    let until = value("se").and_then(|(_, text)| Timestamp::parse(text));
    if let Some(until) = until.filter(|until| *until <= clock.now()) {
        return Err(format!(
            "the SAS token has ended at {until}: make a new one"
        ));
    }
    Ok(Issued {
        credential: AzureCredential::SASToken(pairs),
        until,
        renew: until,
    })
}

enum Proof {
    Secret(Secret),
    TokenOf(PathBuf),
}

/// An application that signs in.
struct Application {
    exchange: Exchange,
    url: String,
    client_id: String,
    proof: Proof,
    clock: SharedClock,
}

#[async_trait]
impl Issuer for Application {
    type Credential = AzureCredential;

    async fn issue(&self) -> Result<Issued<AzureCredential>, String> {
        let scope = format!("{RESOURCE}/.default");
        let mut fields = vec![
            ("client_id", self.client_id.as_str()),
            ("scope", scope.as_str()),
            ("grant_type", "client_credentials"),
        ];
        let token;
        match &self.proof {
            Proof::Secret(secret) => fields.push(("client_secret", secret.reveal())),
            Proof::TokenOf(file) => {
                token = Secret::new(read_text(file)?.trim());
                let kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
                fields.push(("client_assertion_type", kind));
                fields.push(("client_assertion", token.reveal()));
            }
        }
        let answer = self.exchange.post_form(&self.url, &fields).await?;
        bearer(&answer, &self.clock)
    }
}

/// A machine's identity.
struct Machine {
    exchange: Exchange,
    url: String,
    header: (&'static str, Secret),
    clock: SharedClock,
}

#[async_trait]
impl Issuer for Machine {
    type Credential = AzureCredential;

    async fn issue(&self) -> Result<Issued<AzureCredential>, String> {
        let (name, key) = &self.header;
        let answer = self.exchange.get(&self.url, &[(*name, key.reveal())]).await;
        let nowhere = "none found: no account key, SAS token, connection string, application or \
                       workload identity in the config file, environment or a credentials file, \
                       and the machine has no identity";
        let answer = answer.map_err(|reason| format!("{nowhere} ({reason})"))?;
        bearer(&answer, &self.clock)
    }
}

fn bearer(json: &str, clock: &SharedClock) -> Result<Issued<AzureCredential>, String> {
    let (token, seconds) = parse_token(json)?;
    let now = clock.now();
    let token = AzureCredential::BearerToken(token.reveal().to_owned());
    Ok(Issued::expiring(
        token,
        now,
        now.plus(Duration::from_secs(seconds)),
    ))
}

#[cfg(test)]
mod tests;
