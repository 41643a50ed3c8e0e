//! Requests to metadata and token services: small, few, and given up soon.
//!
//! A service that is not there must be known within seconds, since most machines have none. What
//! fails for the moment is tried three times. Messages name the service's own error code, never
//! what was sent. Memory: an answer of at most [`ANSWER_BYTES_MAX`].

use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Method, Request, StatusCode, Url};

use super::super::bucket::encode;
use super::super::listing::text_of;
use super::super::location::Transport;
use super::super::tls;

/// Largest answer; tokens are a few KiB.
const ANSWER_BYTES_MAX: usize = 256 * 1024;

/// How often a request is tried.
const TRIES: u32 = 3;

/// Where a service is, in a hurry or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// On this machine or beside it: answers at once or is not there.
    Metadata,
    /// Somewhere in the network.
    Token,
}

/// A client for them.
#[derive(Clone, Debug)]
pub(super) struct Exchange {
    client: Client,
    /// Whether secrets may go over the network in the clear.
    plain_allowed: bool,
}

impl Exchange {
    /// Makes a client that believes whom `transport` believes; proxies are not for metadata.
    pub(super) fn new(transport: &Transport, kind: Kind) -> Result<Self, String> {
        let (connect, whole) = match kind {
            Kind::Metadata => (1, 5),
            Kind::Token => (10, 30),
        };
        let over_tls = Transport {
            plain_http: false,
            ..transport.clone()
        };
        let builder = tls::client_builder(&over_tls).map_err(|error| error.to_string())?;
        let builder = match kind {
            Kind::Metadata => builder.no_proxy(),
            Kind::Token => builder,
        };
        let client = builder
            .connect_timeout(Duration::from_secs(connect))
            .timeout(Duration::from_secs(whole))
            .build();
        Ok(Self {
            client: client.map_err(|error| told(&error))?,
            plain_allowed: kind == Kind::Metadata || transport.plain_http,
        })
    }

    /// Gets `url`.
    pub(super) async fn get(&self, url: &str, headers: &[(&str, &str)]) -> Result<String, String> {
        self.send(Method::GET, url, headers, None).await
    }

    /// Puts nothing to `url`: how Amazon gives session tokens of its metadata.
    pub(super) async fn put(&self, url: &str, headers: &[(&str, &str)]) -> Result<String, String> {
        self.send(Method::PUT, url, headers, Some(String::new()))
            .await
    }

    /// Posts a form.
    pub(super) async fn post_form(
        &self,
        url: &str,
        fields: &[(&str, &str)],
    ) -> Result<String, String> {
        let headers = [("content-type", "application/x-www-form-urlencoded")];
        self.send(Method::POST, url, &headers, Some(form(fields)))
            .await
    }

    /// Posts JSON.
    pub(super) async fn post_json(
        &self,
        url: &str,
        headers: &[(&str, &str)],
        body: String,
    ) -> Result<String, String> {
        let mut all = vec![("content-type", "application/json")];
        all.extend_from_slice(headers);
        self.send(Method::POST, url, &all, Some(body)).await
    }

    async fn send(
        &self,
        method: Method,
        url: &str,
        headers: &[(&str, &str)],
        body: Option<String>,
    ) -> Result<String, String> {
        let parsed = Url::parse(url).map_err(|error| format!("{}: {error}", shown(url)))?;
        let mut request = Request::new(method, parsed);
        let map = request.headers_mut();
        for (name, value) in headers {
            insert(map, name, value).ok_or_else(|| format!("{name}: cannot be in a header"))?;
        }
        *request.body_mut() = body.map(Into::into);
        self.send_request(request).await
    }

    /// Sends a request, again where that may help.
    pub(super) async fn send_request(&self, request: Request) -> Result<String, String> {
        let url = shown(request.url().as_str());
        let here = matches!(
            request.url().host_str(),
            Some("127.0.0.1" | "localhost" | "[::1]")
        );
        if request.url().scheme() != "https" && !self.plain_allowed && !here {
            return Err(format!("{url}: secrets are not sent without TLS"));
        }
        let mut wait = Duration::from_millis(100);
        for left in (0..TRIES).rev() {
            let copy = request.try_clone().ok_or("a stream is sent once")?;
            match self.send_once(copy).await {
                Ok(answer) => return Ok(answer),
                Err((true, _)) if left > 0 => tokio::time::sleep(wait).await,
                Err((_, reason)) => return Err(format!("{url}: {reason}")),
            }
            wait *= 3;
        }
        Err(format!("{url}: no try left"))
    }

    /// Sends a request; an error tells whether another try may help.
    async fn send_once(&self, request: Request) -> Result<String, (bool, String)> {
        let sent = self.client.execute(request).await;
        // One that is not there stays so: no other try.
        let mut answer = sent.map_err(|error| (!error.is_connect(), told(&error)))?;
        let status = answer.status();
        let mut body = Vec::new();
        while let Some(piece) = answer.chunk().await.map_err(|error| (true, told(&error)))? {
            body.extend_from_slice(&piece);
            if body.len() > ANSWER_BYTES_MAX {
                return Err((false, "the answer is larger than 256 KiB".into()));
            }
        }
        let text = String::from_utf8(body).map_err(|_| (false, "no text".into()))?;
        if status.is_success() {
            return Ok(text);
        }
        let again = status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS;
        Err((again, refused(status, &text)))
    }
}

/// Makes the reason of a refusal: the status, and the service's own words where they have a known
/// form.
fn refused(status: StatusCode, body: &str) -> String {
    let mut reason = status.to_string();
    let json: Option<serde_json::Value> = serde_json::from_str(body).ok();
    let words = json.as_ref().map(|json| {
        let text = |name: &str| json.get(name).and_then(|value| value.as_str());
        let names = ["error", "code", "error_description", "message"];
        names
            .into_iter()
            .filter_map(text)
            .collect::<Vec<_>>()
            .join(": ")
    });
    let words = words.or_else(|| {
        let parts = [text_of(body, "Code"), text_of(body, "Message")];
        Some(parts.into_iter().flatten().collect::<Vec<_>>().join(": "))
    });
    if let Some(words) = words.filter(|words| !words.is_empty()) {
        let first = words.lines().next().unwrap_or_default();
        reason += ": ";
        reason.extend(first.chars().take(300));
    }
    reason
}

/// Makes a form's body.
pub(super) fn form(fields: &[(&str, &str)]) -> String {
    let pair = |(name, value): &(&str, &str)| format!("{}={}", encoded(name), encoded(value));
    fields.iter().map(pair).collect::<Vec<_>>().join("&")
}

/// Encodes all but letters, digits and `-._~`.
pub(super) fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    encode(&mut out, text, false);
    out
}

/// Returns a URL without what is behind its path: there may be tokens.
fn shown(url: &str) -> String {
    url.split(['?', '#']).next().unwrap_or_default().to_owned()
}

fn insert(map: &mut HeaderMap, name: &str, value: &str) -> Option<()> {
    let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
    let mut value = HeaderValue::from_str(value).ok()?;
    value.set_sensitive(name != CONTENT_TYPE);
    map.insert(name, value);
    Some(())
}

/// Tells an HTTP client's error with its causes, without its URL.
pub(in crate::blob::object) fn told(error: &reqwest::Error) -> String {
    if error.is_timeout() && error.is_connect() {
        return "no connection in time".into();
    }
    if error.is_timeout() {
        return "no answer in time".into();
    }
    let mut causes = Vec::new();
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        causes.push(cause.to_string());
        next = cause.source();
    }
    match causes.last() {
        Some(last) => last.clone(),
        None => "the request cannot be made".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_are_encoded_and_answers_are_told_in_their_own_words() {
        assert_eq!(
            form(&[("a", "b c/&"), ("d", "é~")]),
            "a=b%20c%2F%26&d=%C3%A9~"
        );
        let xml = "<E><Error><Code>AccessDenied</Code><Message>not you</Message></Error></E>";
        let told = refused(StatusCode::FORBIDDEN, xml);
        assert_eq!(told, "403 Forbidden: AccessDenied: not you");
        let json = r#"{"error":"invalid_grant","error_description":"expired\nsecond"}"#;
        let told = refused(StatusCode::BAD_REQUEST, json);
        assert_eq!(told, "400 Bad Request: invalid_grant: expired");
        assert_eq!(refused(StatusCode::NOT_FOUND, "<html>"), "404 Not Found");
        assert_eq!(shown("http://h/p?token=x"), "http://h/p");
    }
}
