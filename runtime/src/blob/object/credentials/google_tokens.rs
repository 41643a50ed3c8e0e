//! Issuers of Google's tokens: a service account that signs for itself, a user's refresh token,
//! the token of another identity provider, the machine.
//!
//! Memory: an answer.

use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use object_store::gcp::GcpCredential;
use rustls::SignatureScheme;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Value, json};

use super::exchange::Exchange;
use super::refreshing::{Issued, Issuer};
use super::{Secret, read_text};
use crate::clock::SharedClock;

/// What a token is for; the scope that Kopia asks for.
const SCOPE: &str = "https://www.googleapis.com/auth/devstorage.full_control";

/// What a token of another provider is exchanged for first.
const CLOUD_SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";

/// How long a token is asked for, in seconds; the longest that Google gives.
const SECONDS: u64 = 3600;

/// Parses a token and its life in seconds from the JSON that all token services answer.
pub(super) fn parse_token(json: &str) -> Result<(Secret, u64), String> {
    let answer: Value = serde_json::from_str(json).map_err(|_| "the answer is no JSON")?;
    let token = answer.get("access_token").and_then(Value::as_str);
    let token = token
        .filter(|token| !token.is_empty())
        .ok_or("the answer has no access_token")?;
    let life = match answer.get("expires_in") {
        Some(Value::Number(number)) => number.as_u64(),
        Some(Value::String(text)) => text.parse().ok(),
        _ => None,
    };
    Ok((
        Secret::from(token),
        life.ok_or("the answer has no expires_in")?,
    ))
}

fn issued(json: &str, clock: &SharedClock) -> Result<Issued<GcpCredential>, String> {
    let (token, seconds) = parse_token(json)?;
    let now = clock.now();
    let credential = GcpCredential {
        bearer: token.reveal().to_owned(),
    };
    Ok(Issued::expiring(
        credential,
        now,
        now.plus(Duration::from_secs(seconds)),
    ))
}

/// A service account with its private key.
pub(super) struct ServiceAccount {
    pub(super) exchange: Exchange,
    pub(super) email: String,
    pub(super) key_id: String,
    pub(super) key_pem: Secret,
    pub(super) token_url: String,
    pub(super) clock: SharedClock,
}

impl ServiceAccount {
    /// Makes the signed claim that is exchanged for a token.
    pub(super) fn assertion(&self) -> Result<Secret, String> {
        let now = self.clock.now().seconds();
        let head = json!({"alg": "RS256", "typ": "JWT", "kid": self.key_id});
        let claims = json!({
            "iss": self.email,
            "scope": SCOPE,
            "aud": self.token_url,
            "iat": now,
            "exp": now + SECONDS as i64,
        });
        let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", encode(&head), encode(&claims));
        let wrong = |what: &str| format!("the service account's private key {what}");
        let key = PrivateKeyDer::from_pem_slice(self.key_pem.reveal().as_bytes())
            .map_err(|_| wrong("is not in PEM form"))?;
        let key = rustls::crypto::ring::sign::any_supported_type(&key)
            .map_err(|_| wrong("is of no kind that we know"))?;
        let signer = key.choose_scheme(&[SignatureScheme::RSA_PKCS1_SHA256]);
        let signer = signer.ok_or_else(|| wrong("is not RSA"))?;
        let signature = signer
            .sign(signed.as_bytes())
            .map_err(|_| wrong("does not sign"))?;
        Ok(Secret::new(format!(
            "{signed}.{}",
            URL_SAFE_NO_PAD.encode(signature)
        )))
    }
}

#[async_trait]
impl Issuer for ServiceAccount {
    type Credential = GcpCredential;

    async fn issue(&self) -> Result<Issued<GcpCredential>, String> {
        let assertion = self.assertion()?;
        let fields = [
            ("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer"),
            ("assertion", assertion.reveal()),
        ];
        let answer = self.exchange.post_form(&self.token_url, &fields).await?;
        issued(&answer, &self.clock)
    }
}

/// A user who signed in with Google's program.
pub(super) struct User {
    pub(super) exchange: Exchange,
    pub(super) client_id: String,
    pub(super) client_secret: Secret,
    pub(super) refresh_token: Secret,
    pub(super) token_url: String,
    pub(super) clock: SharedClock,
}

#[async_trait]
impl Issuer for User {
    type Credential = GcpCredential;

    async fn issue(&self) -> Result<Issued<GcpCredential>, String> {
        let fields = [
            ("grant_type", "refresh_token"),
            ("client_id", self.client_id.as_str()),
            ("client_secret", self.client_secret.reveal()),
            ("refresh_token", self.refresh_token.reveal()),
        ];
        let answer = self.exchange.post_form(&self.token_url, &fields).await?;
        issued(&answer, &self.clock)
    }
}

/// The machine, or Kubernetes for it (workload identity of GKE).
pub(super) struct Machine {
    pub(super) exchange: Exchange,
    pub(super) host: String,
    pub(super) clock: SharedClock,
}

#[async_trait]
impl Issuer for Machine {
    type Credential = GcpCredential;

    async fn issue(&self) -> Result<Issued<GcpCredential>, String> {
        let path = "computeMetadata/v1/instance/service-accounts/default/token";
        let url = format!("http://{}/{path}", self.host);
        let answer = self
            .exchange
            .get(&url, &[("metadata-flavor", "Google")])
            .await;
        let nowhere = "none found: no credentials file was given, GOOGLE_APPLICATION_CREDENTIALS \
                       is not set, there is no application_default_credentials.json, and the \
                       machine has none";
        let answer = answer.map_err(|reason| format!("{nowhere} ({reason})"))?;
        issued(&answer, &self.clock)
    }
}

/// Where the token of another provider is.
pub(super) enum Subject {
    /// In a file.
    File(PathBuf),
    /// Behind a URL, asked with headers.
    Url(String, Vec<(String, Secret)>),
}

/// Another identity provider's token, exchanged (workload identity federation).
pub(super) struct External {
    pub(super) exchange: Exchange,
    pub(super) audience: String,
    pub(super) token_kind: String,
    pub(super) subject: Subject,
    /// The field of a JSON token, `None` for plain text.
    pub(super) field: Option<String>,
    pub(super) token_url: String,
    /// Where the token of a service account is got with it.
    pub(super) impersonation_url: Option<String>,
    pub(super) clock: SharedClock,
}

impl External {
    async fn subject_token(&self) -> Result<Secret, String> {
        let text = match &self.subject {
            Subject::File(file) => read_text(file)?,
            Subject::Url(url, headers) => {
                let headers: Vec<(&str, &str)> = headers
                    .iter()
                    .map(|(name, value)| (name.as_str(), value.reveal()))
                    .collect();
                self.exchange.get(url, &headers).await?
            }
        };
        match &self.field {
            None => Ok(Secret::new(text.trim())),
            Some(field) => {
                let json: Value =
                    serde_json::from_str(&text).map_err(|_| "its token is no JSON")?;
                let token = json.get(field).and_then(Value::as_str);
                Ok(token
                    .ok_or_else(|| format!("its token has no field {field}"))?
                    .into())
            }
        }
    }
}

#[async_trait]
impl Issuer for External {
    type Credential = GcpCredential;

    async fn issue(&self) -> Result<Issued<GcpCredential>, String> {
        let subject = self.subject_token().await?;
        let scope = if self.impersonation_url.is_some() {
            CLOUD_SCOPE
        } else {
            SCOPE
        };
        let fields = [
            (
                "grant_type",
                "urn:ietf:params:oauth:grant-type:token-exchange",
            ),
            (
                "requested_token_type",
                "urn:ietf:params:oauth:token-type:access_token",
            ),
            ("audience", self.audience.as_str()),
            ("scope", scope),
            ("subject_token_type", self.token_kind.as_str()),
            ("subject_token", subject.reveal()),
        ];
        let answer = self.exchange.post_form(&self.token_url, &fields).await?;
        let Some(url) = &self.impersonation_url else {
            return issued(&answer, &self.clock);
        };
        let (token, _) = parse_token(&answer)?;
        let bearer = Secret::new(format!("Bearer {}", token.reveal()));
        let body = json!({"scope": [SCOPE], "lifetime": format!("{SECONDS}s")}).to_string();
        let headers = [("authorization", bearer.reveal())];
        let answer = self.exchange.post_json(url, &headers, body).await?;
        let answer: Value = serde_json::from_str(&answer).map_err(|_| "the answer is no JSON")?;
        let text = |name| answer.get(name).and_then(Value::as_str);
        let (Some(token), Some(until)) = (text("accessToken"), text("expireTime")) else {
            return Err(format!("{url}: the answer has no token"));
        };
        let until = crate::clock::Timestamp::parse(until);
        let until = until.ok_or("the answer has no time of expiry")?;
        let credential = GcpCredential {
            bearer: token.to_owned(),
        };
        Ok(Issued::expiring(credential, self.clock.now(), until))
    }
}
