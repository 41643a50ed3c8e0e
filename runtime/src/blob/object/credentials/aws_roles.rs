//! Roles of Amazon's token service: assumed with other keys, or with a web identity's token.
//!
//! Kubernetes (IRSA) gives each pod such a token in a file and writes it anew before it ends.
//! Memory: an answer.

use async_trait::async_trait;
use object_store::aws::AwsAuthorizer;
use object_store::client::{HttpRequest, HttpRequestBody};
use reqwest::header::{CONTENT_TYPE, HeaderValue};
use reqwest::{Method, Url};

use super::super::listing::text_of;
use super::aws::{AnyIssuer, Keys};
use super::exchange::{Exchange, form};
use super::refreshing::{Issued, Issuer};
use super::{Role, Secret, read_text};
use crate::clock::{SharedClock, Timestamp};

/// How long a role's keys are valid where nothing is said, in seconds.
const SECONDS: u64 = 3600;

/// The version of the service's protocol.
const VERSION: &str = "2011-06-15";

/// The token service.
#[derive(Clone, Debug)]
pub(super) struct Service {
    pub(super) exchange: Exchange,
    /// Its URL.
    pub(super) url: String,
    /// The region that requests are signed for.
    pub(super) region: String,
    pub(super) clock: SharedClock,
}

/// Assumes a role with other keys.
pub(super) struct Assumed {
    pub(super) service: Service,
    pub(super) role: Role,
    pub(super) with: AnyIssuer,
}

/// Assumes a role with the token of a file.
pub(super) struct WebIdentity {
    pub(super) service: Service,
    pub(super) role: Role,
    pub(super) token_file: std::path::PathBuf,
}

fn session(role: &Role) -> &str {
    match role.session_name.as_str() {
        "" => "careen",
        name => name,
    }
}

#[async_trait]
impl Issuer for WebIdentity {
    type Credential = Keys;

    async fn issue(&self) -> Result<Issued<Keys>, String> {
        let token = Secret::new(read_text(&self.token_file)?.trim());
        let seconds = self.role.seconds.unwrap_or(SECONDS).to_string();
        let fields = [
            ("Action", "AssumeRoleWithWebIdentity"),
            ("Version", VERSION),
            ("RoleArn", &self.role.arn),
            ("RoleSessionName", session(&self.role)),
            ("DurationSeconds", &seconds),
            ("WebIdentityToken", token.reveal()),
        ];
        let service = &self.service;
        let answer = service.exchange.post_form(&service.url, &fields).await?;
        parse(&answer, service.clock.now())
    }
}

#[async_trait]
impl Issuer for Assumed {
    type Credential = Keys;

    async fn issue(&self) -> Result<Issued<Keys>, String> {
        let keys = self.with.issue().await?.credential.credential();
        let seconds = self.role.seconds.unwrap_or(SECONDS).to_string();
        let mut fields = vec![
            ("Action", "AssumeRole"),
            ("Version", VERSION),
            ("RoleArn", self.role.arn.as_str()),
            ("RoleSessionName", session(&self.role)),
            ("DurationSeconds", &seconds),
        ];
        if let Some(id) = &self.role.external_id {
            fields.push(("ExternalId", id));
        }
        let service = &self.service;
        let url = Url::parse(&service.url).map_err(|error| format!("{}: {error}", service.url))?;
        let body = form(&fields);
        let mut signed = HttpRequest::new(HttpRequestBody::from(body.clone()));
        *signed.method_mut() = Method::POST;
        *signed.uri_mut() = url
            .as_str()
            .parse()
            .map_err(|_| "no URL of a token service")?;
        let kind = HeaderValue::from_static("application/x-www-form-urlencoded");
        signed.headers_mut().insert(CONTENT_TYPE, kind);
        AwsAuthorizer::new(&keys, "sts", &service.region)
            .try_authorize(&mut signed, None)
            .map_err(|error| error.to_string())?;
        let mut request = reqwest::Request::new(Method::POST, url);
        *request.headers_mut() = signed.headers().clone();
        *request.body_mut() = Some(body.into());
        let answer = service.exchange.send_request(request).await?;
        parse(&answer, service.clock.now())
    }
}

fn parse(xml: &str, now: Timestamp) -> Result<Issued<Keys>, String> {
    let part = |name| text_of(xml, name).ok_or_else(|| format!("the answer has no {name}"));
    let keys = Keys {
        id: part("AccessKeyId")?,
        secret: Secret::new(part("SecretAccessKey")?),
        token: Secret::new(part("SessionToken")?),
    };
    let until = Timestamp::parse(&part("Expiration")?).ok_or("the answer has no time of expiry")?;
    Ok(Issued::expiring(keys, now, until))
}
