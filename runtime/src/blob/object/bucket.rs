//! Where the blobs are, and how requests are written and signed there.
//!
//! Keys are raw strings: the location's prefix, then the blob ID, as Kopia has it; a prefix need
//! not end with a slash. Requests are made here rather than by the client of the crate
//! `object_store`, because that knows paths instead of names, refuses a whole page for one foreign
//! key, cannot lock and wants a blob in memory; its credentials and its signatures are used.
//! Secrets are in its credentials only. Memory: a request.

use std::fmt::{self, Write};
use std::sync::Arc;

use object_store::aws::{AwsAuthorizer, AwsCredential};
use object_store::azure::{AzureAuthorizer, AzureCredential};
use object_store::client::{HttpRequest, HttpRequestBody};
use object_store::gcp::GcpCredential;
use reqwest::Method;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

use super::answer::Call;
use super::connect::{Credentials, Keys};
use super::location::Location;
use crate::blob::BlobError;

/// Which store it is, with what only that one needs. Without credentials requests are not signed.
#[derive(Debug)]
pub(super) enum Provider {
    /// Amazon's, and the many that speak as it does. Signatures name its region.
    S3 {
        region: String,
        credentials: Option<Arc<dyn Keys<AwsCredential>>>,
    },
    /// Google's, by its XML interface.
    Google {
        credentials: Option<Arc<dyn Keys<GcpCredential>>>,
    },
    /// Microsoft's.
    Azure {
        account: String,
        credentials: Option<Arc<dyn Keys<AzureCredential>>>,
    },
}

/// A bucket (a container), and the place of the repository in it.
#[derive(Debug)]
pub(super) struct Bucket {
    pub(super) provider: Provider,
    /// Its URL, without a slash at its end.
    url: String,
    /// What every key begins with.
    pub(super) prefix: String,
    /// Storage class of what is put, where somebody asked for one.
    pub(super) storage_class: Option<String>,
    /// The repository's URL as people know it, for messages.
    pub(super) location: String,
}

/// How the bytes of a request are vouched for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Payload {
    /// They are in the request, or it has none.
    InRequest,
    /// They are streamed, and TLS protects them.
    Streamed,
    /// They are streamed, and this is their SHA-256.
    Digested([u8; 32]),
}

/// What must be there for a put to be done.
#[derive(Clone, Copy, Debug)]
pub(super) enum Condition<'a> {
    /// Anything, or nothing.
    None,
    /// Nothing.
    Absent,
    /// The version with this word.
    Version(&'a str),
}

/// Google's name for the condition of a put.
const GENERATION_MATCH: &str = "x-goog-if-generation-match";

/// A request in the making.
#[derive(Debug)]
pub(super) struct Ask {
    pub(super) method: Method,
    /// The object's key; `None` asks the bucket itself.
    pub(super) key: Option<String>,
    pub(super) query: Vec<(&'static str, String)>,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Option<String>,
}

impl Ask {
    pub(super) fn new(method: Method, key: Option<String>) -> Self {
        Self {
            method,
            key,
            query: Vec::new(),
            headers: Vec::new(),
            body: None,
        }
    }

    pub(super) fn query(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.query.push((name, value.into()));
        self
    }

    pub(super) fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }
}

impl Bucket {
    /// Makes the bucket of a place.
    pub(super) fn new(place: &Location, credentials: &Credentials) -> Result<Self, BlobError> {
        let server = place.server_url();
        let server = server.trim_end_matches('/');
        let bucket = place.bucket();
        let (provider, url) = match (place, credentials) {
            (Location::S3(place), credentials) => {
                let credentials = match credentials {
                    Credentials::Anonymous => None,
                    Credentials::Aws(provider) => Some(provider.clone()),
                    _ => return Err(foreign(place)),
                };
                let url = if place.uses_path_style() {
                    format!("{server}/{bucket}")
                } else {
                    server.to_owned()
                };
                let region = place.signing_region().to_owned();
                let provider = Provider::S3 {
                    region,
                    credentials,
                };
                (provider, url)
            }
            (Location::Gcs(place), credentials) => {
                let credentials = match credentials {
                    Credentials::Anonymous => None,
                    Credentials::Google(provider) => Some(provider.clone()),
                    _ => return Err(foreign(place)),
                };
                (
                    Provider::Google { credentials },
                    format!("{server}/{bucket}"),
                )
            }
            (Location::Azure(place), credentials) => {
                let credentials = match credentials {
                    Credentials::Anonymous => None,
                    Credentials::Azure(provider) => Some(provider.clone()),
                    _ => return Err(foreign(place)),
                };
                let account = place.account.clone();
                let provider = Provider::Azure {
                    account,
                    credentials,
                };
                (provider, format!("{server}/{bucket}"))
            }
        };
        Ok(Self {
            provider,
            url,
            prefix: place.prefix().to_owned(),
            storage_class: place.storage_class().map(str::to_owned),
            location: place.to_string(),
        })
    }

    /// Returns the key of a blob, or of a prefix of blobs.
    pub(super) fn key(&self, id: &str) -> String {
        format!("{}{id}", self.prefix)
    }

    /// Tells whether TLS protects what is sent.
    pub(super) fn is_protected(&self) -> bool {
        self.url.starts_with("https:")
    }

    /// Returns the request for one page of a listing.
    pub(super) fn ask_list(
        &self,
        prefix: &str,
        after: Option<&str>,
        next: Option<&str>,
        limit: usize,
    ) -> Ask {
        let ask = Ask::new(Method::GET, None);
        let (ask, next_name, limit_name) = match self.provider {
            Provider::Azure { .. } => (
                ask.query("restype", "container")
                    .query("comp", "list")
                    .query("include", "metadata"),
                "marker",
                "maxresults",
            ),
            _ => (
                ask.query("list-type", "2"),
                "continuation-token",
                "max-keys",
            ),
        };
        // With the delimiter, foreign objects below folders cost one line a folder, as in Kopia.
        let ask = ask
            .query("prefix", self.key(prefix))
            .query("delimiter", "/")
            .query(limit_name, limit.to_string());
        match (next, after) {
            (Some(next), _) => ask.query(next_name, next),
            (None, Some(after)) if !self.is_azure() => ask.query("start-after", self.key(after)),
            _ => ask,
        }
    }

    /// Tells whether a listing cannot begin behind a name, only where a page before it ended.
    pub(super) fn is_azure(&self) -> bool {
        matches!(self.provider, Provider::Azure { .. })
    }

    /// Returns the request that puts a blob of `length` bytes, into a storage class where one is
    /// named.
    pub(super) fn ask_put(
        &self,
        id: &str,
        length: u64,
        condition: Condition<'_>,
        class: Option<&str>,
    ) -> Ask {
        let mut ask = Ask::new(Method::PUT, Some(self.key(id)))
            .header("content-length", length.to_string())
            .header("content-type", "application/octet-stream");
        if self.is_azure() {
            ask = ask.header("x-ms-blob-type", "BlockBlob");
        }
        if let Some(class) = class {
            let name = match self.provider {
                Provider::S3 { .. } => "x-amz-storage-class",
                Provider::Google { .. } => "x-goog-storage-class",
                Provider::Azure { .. } => "x-ms-access-tier",
            };
            ask = ask.header(name, class);
        }
        match (condition, self.is_google()) {
            (Condition::None, _) => ask,
            (Condition::Absent, true) => ask.header(GENERATION_MATCH, "0"),
            (Condition::Absent, false) => ask.header("if-none-match", "*"),
            (Condition::Version(word), true) => ask.header(GENERATION_MATCH, word),
            (Condition::Version(word), false) => ask.header("if-match", word),
        }
    }

    fn is_google(&self) -> bool {
        matches!(self.provider, Provider::Google { .. })
    }

    /// Returns the name of the header in which an answer says the version of a blob.
    pub(super) fn version_header(&self) -> &'static str {
        match self.is_google() {
            true => "x-goog-generation",
            false => "etag",
        }
    }

    /// Returns the word of a version that no blob ever has.
    pub(super) fn no_version(&self) -> &'static str {
        match self.is_google() {
            true => "1",
            false => "\"00000000000000000000000000000000\"",
        }
    }

    /// Writes the request and signs it.
    pub(super) async fn sign(
        &self,
        call: Call<'_>,
        ask: Ask,
        payload: Payload,
    ) -> Result<HttpRequest, BlobError> {
        let body = match ask.body {
            Some(text) => HttpRequestBody::from(text),
            None => HttpRequestBody::empty(),
        };
        let key = ask.key.as_deref().unwrap_or_default();
        if key.split('/').any(|part| matches!(part, "." | "..")) {
            // Whatever reads URLs makes another key of it.
            return Err(BlobError::InvalidName {
                id: key.to_owned(),
                reason: "no URL has such a part of a path",
            });
        }
        let mut request = HttpRequest::new(body);
        let url = self.write_url(ask.key.as_deref(), &ask.query);
        *request.uri_mut() = url
            .parse()
            .map_err(|_| refused(call, format!("{} is no URL", self.url)))?;
        *request.method_mut() = ask.method;
        for (name, value) in &ask.headers {
            let name = HeaderName::from_bytes(name.as_bytes());
            let (Ok(name), Ok(value)) = (name, HeaderValue::from_str(value)) else {
                return Err(refused(call, "a header has characters that none may have"));
            };
            request.headers_mut().insert(name, value);
        }
        self.authorize(call, &mut request, payload).await?;
        Ok(request)
    }

    async fn authorize(
        &self,
        call: Call<'_>,
        request: &mut HttpRequest,
        payload: Payload,
    ) -> Result<(), BlobError> {
        let denied = |error: object_store::Error| BlobError::Credentials {
            location: self.location.clone(),
            reason: error.to_string(),
        };
        match &self.provider {
            Provider::S3 {
                region,
                credentials: Some(credentials),
            } => {
                let credential = credentials.get_credential().await.map_err(denied)?;
                let authorizer = AwsAuthorizer::new(&credential, "s3", region)
                    .with_sign_payload(!matches!(payload, Payload::Streamed));
                let digest = match &payload {
                    Payload::Digested(digest) => Some(&digest[..]),
                    _ => None,
                };
                authorizer.try_authorize(request, digest).map_err(denied)
            }
            Provider::Google {
                credentials: Some(credentials),
            } => {
                let credential = credentials.get_credential().await.map_err(denied)?;
                if credential.bearer.is_empty() {
                    return Ok(());
                }
                let value = HeaderValue::from_str(&format!("Bearer {}", credential.bearer));
                let value = value.map_err(|_| refused(call, "the token is no token"))?;
                request.headers_mut().insert("authorization", value);
                Ok(())
            }
            Provider::Azure {
                account,
                credentials: Some(credentials),
            } => {
                let credential = credentials.get_credential().await.map_err(denied)?;
                AzureAuthorizer::new(&credential, account)
                    .try_authorize(request)
                    .map_err(denied)
            }
            _ => Ok(()),
        }
    }

    fn write_url(&self, key: Option<&str>, query: &[(&str, String)]) -> String {
        let mut url = self.url.clone();
        url.push('/');
        match key {
            Some(key) => encode(&mut url, key, true),
            // A bucket in the path has no slash behind it.
            None if has_path(&self.url) => drop(url.pop()),
            None => {}
        }
        for (number, (name, value)) in query.iter().enumerate() {
            url.push(if number == 0 { '?' } else { '&' });
            encode(&mut url, name, false);
            url.push('=');
            encode(&mut url, value, false);
        }
        url
    }
}

fn has_path(url: &str) -> bool {
    let host = url.split_once("://").map_or(url, |(_, rest)| rest);
    host.contains('/')
}

/// Appends `text` with everything escaped that means something in a URL; in a path slashes stay.
pub(super) fn encode(url: &mut String, text: &str, is_path: bool) {
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                url.push(char::from(byte));
            }
            b'/' if is_path => url.push('/'),
            _ => {
                // Writing to a string cannot fail.
                let _ = write!(url, "%{byte:02X}");
            }
        }
    }
}

fn refused(call: Call<'_>, reason: impl Into<String>) -> BlobError {
    BlobError::Refused {
        operation: call.operation,
        id: call.id.to_owned(),
        reason: reason.into(),
    }
}

fn foreign(place: &impl fmt::Display) -> BlobError {
    BlobError::Credentials {
        location: place.to_string(),
        reason: "they are those of another kind of store".to_owned(),
    }
}

/// Returns the text of a header.
pub(super) fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bucket(url: &str, prefix: &str) -> Bucket {
        Bucket {
            provider: Provider::S3 {
                region: "r".to_owned(),
                credentials: None,
            },
            url: url.to_owned(),
            prefix: prefix.to_owned(),
            storage_class: None,
            location: "s3://b".to_owned(),
        }
    }

    #[test]
    fn keys_are_raw_strings() {
        for (prefix, path) in [
            ("", "/b/p1"),
            ("a/b/", "/b/a/b/p1"),
            ("a//b", "/b/a//bp1"),
            ("/x", "/b//xp1"),
            ("a b+c&d/", "/b/a%20b%2Bc%26d/p1"),
        ] {
            let bucket = bucket("http://h/b", prefix);
            let url = bucket.write_url(Some(&bucket.key("p1")), &[]);
            assert_eq!(url, format!("http://h{path}"));
        }
    }

    #[test]
    fn a_listing_names_the_bucket_prefix_and_start() {
        let bucket = bucket("https://b.s3.amazonaws.com", "a/");
        let ask = bucket.ask_list("xn", Some("xn0"), None, 7);
        assert_eq!(
            bucket.write_url(None, &ask.query),
            "https://b.s3.amazonaws.com/?list-type=2&prefix=a%2Fxn&delimiter=%2F&max-keys=7\
             &start-after=a%2Fxn0"
        );
        let ask = bucket.ask_list("", None, Some("t+"), 7);
        let in_path = super::tests::bucket("http://h/b", "");
        let url = in_path.write_url(None, &ask.query);
        assert!(url.starts_with("http://h/b?list-type=2"), "{url}");
        assert!(url.ends_with("continuation-token=t%2B"), "{url}");
    }
}
