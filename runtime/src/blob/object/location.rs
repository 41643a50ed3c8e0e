//! Where in an object store a repository is: plain data, as a URL or Kopia's config file says it.
//!
//! The prefix is a raw string that stands before every blob ID, as in Kopia: `kopia/ns/` puts the
//! blobs in a folder, `kopia` before their names. No secrets are in here: all of it may be shown.
//! Mirrors the options of Kopia's `repo/blob/{s3,gcs,azure}`. No memory cost.

use std::fmt;

/// How the server is reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transport {
    /// Whether to speak HTTP without TLS.
    pub plain_http: bool,
    /// Whether to believe any certificate.
    pub skip_tls_verify: bool,
    /// Certificates in PEM that are believed besides the system's.
    pub ca_pem: Option<Vec<u8>>,
}

impl Transport {
    /// Returns the scheme of URLs.
    pub fn scheme(&self) -> &'static str {
        if self.plain_http { "http" } else { "https" }
    }
}

/// A place in S3, or in a store that speaks its language.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct S3Location {
    /// The bucket.
    pub bucket: String,
    /// Stands before every blob ID.
    pub prefix: String,
    /// `HOST` or `HOST:PORT`, `None` for Amazon's own of the region.
    pub endpoint: Option<String>,
    /// The region, `None` for `us-east-1`.
    pub region: Option<String>,
    /// Whether the bucket is in the path of URLs instead of their host; `None` decides by the
    /// endpoint, as Kopia does.
    pub path_style: Option<bool>,
    /// Storage class of blobs that are written, `None` for the bucket's default.
    pub storage_class: Option<String>,
    /// How the server is reached.
    pub transport: Transport,
}

/// A place in Google Cloud Storage.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GcsLocation {
    /// The bucket.
    pub bucket: String,
    /// Stands before every blob ID.
    pub prefix: String,
    /// `HOST` or `HOST:PORT`, `None` for Google's own.
    pub endpoint: Option<String>,
    /// Storage class of blobs that are written, `None` for the bucket's default.
    pub storage_class: Option<String>,
    /// How the server is reached.
    pub transport: Transport,
}

/// A place in Azure Blob Storage.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AzureLocation {
    /// The container.
    pub container: String,
    /// Stands before every blob ID.
    pub prefix: String,
    /// The storage account.
    pub account: String,
    /// `HOST[:PORT][/PATH]` instead of `ACCOUNT.DOMAIN`: emulators have the account in the path.
    pub endpoint: Option<String>,
    /// The domain behind the account, `None` for `blob.core.windows.net`.
    pub domain: Option<String>,
    /// Access tier of blobs that are written, `None` for the account's default.
    pub storage_class: Option<String>,
    /// How the server is reached.
    pub transport: Transport,
}

/// A place in an object store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// S3.
    S3(S3Location),
    /// Google Cloud Storage.
    Gcs(GcsLocation),
    /// Azure Blob Storage.
    Azure(AzureLocation),
}

impl Location {
    /// Returns what stands before every blob ID.
    pub fn prefix(&self) -> &str {
        match self {
            Self::S3(place) => &place.prefix,
            Self::Gcs(place) => &place.prefix,
            Self::Azure(place) => &place.prefix,
        }
    }

    /// Returns the bucket or container.
    pub fn bucket(&self) -> &str {
        match self {
            Self::S3(place) => &place.bucket,
            Self::Gcs(place) => &place.bucket,
            Self::Azure(place) => &place.container,
        }
    }

    /// Returns how the server is reached.
    pub fn transport(&self) -> &Transport {
        match self {
            Self::S3(place) => &place.transport,
            Self::Gcs(place) => &place.transport,
            Self::Azure(place) => &place.transport,
        }
    }

    /// Returns the storage class of blobs that are written, `None` for the store's default.
    pub fn storage_class(&self) -> Option<&str> {
        match self {
            Self::S3(place) => place.storage_class.as_deref(),
            Self::Gcs(place) => place.storage_class.as_deref(),
            Self::Azure(place) => place.storage_class.as_deref(),
        }
    }

    /// Returns the URL of the server; for S3 with the bucket in the host where that is its style.
    pub fn server_url(&self) -> String {
        match self {
            Self::S3(place) => place.server_url(),
            Self::Gcs(place) => place.server_url(),
            Self::Azure(place) => place.server_url(),
        }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::S3(place) => place.fmt(f),
            Self::Gcs(place) => place.fmt(f),
            Self::Azure(place) => place.fmt(f),
        }
    }
}

impl S3Location {
    /// Returns the region that requests are signed for.
    pub fn signing_region(&self) -> &str {
        self.region.as_deref().unwrap_or("us-east-1")
    }

    /// Tells whether the bucket is in the path of URLs: as asked for, else for all but Amazon's
    /// endpoints, and for buckets whose dots no certificate covers.
    pub fn uses_path_style(&self) -> bool {
        self.path_style.unwrap_or_else(|| {
            let dotted = self.bucket.contains('.') && !self.transport.plain_http;
            dotted || !self.is_amazon()
        })
    }

    /// Tells whether the endpoint is Amazon's.
    pub fn is_amazon(&self) -> bool {
        match self.endpoint.as_deref().map(host_of) {
            None => true,
            Some(host) => host.ends_with(".amazonaws.com") || host.ends_with(".amazonaws.com.cn"),
        }
    }

    /// Returns the URL of the server, with the bucket in its host unless that is in the path.
    pub fn server_url(&self) -> String {
        let scheme = self.transport.scheme();
        let host = match &self.endpoint {
            Some(endpoint) => endpoint.clone(),
            None => format!("s3.{}.amazonaws.com", self.signing_region()),
        };
        if self.uses_path_style() {
            format!("{scheme}://{host}")
        } else {
            format!("{scheme}://{}.{host}", self.bucket)
        }
    }
}

impl GcsLocation {
    /// Returns the URL of the server.
    pub fn server_url(&self) -> String {
        let host = self.endpoint.as_deref().unwrap_or("storage.googleapis.com");
        format!("{}://{host}", self.transport.scheme())
    }
}

impl AzureLocation {
    /// Returns the URL of the server.
    pub fn server_url(&self) -> String {
        let scheme = self.transport.scheme();
        match &self.endpoint {
            Some(endpoint) => format!("{scheme}://{endpoint}"),
            None => {
                let domain = self.domain.as_deref().unwrap_or("blob.core.windows.net");
                format!("{scheme}://{}.{domain}", self.account)
            }
        }
    }
}

impl fmt::Display for S3Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3://{}/{}", self.bucket, self.prefix)
    }
}

impl fmt::Display for GcsLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "gs://{}/{}", self.bucket, self.prefix)
    }
}

impl fmt::Display for AzureLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "az://{}/{}", self.container, self.prefix)
    }
}

/// Returns the host of `HOST[:PORT][/PATH]`.
fn host_of(endpoint: &str) -> &str {
    let authority = endpoint.split('/').next().unwrap_or_default();
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
        _ => authority,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_in_the_host_only_where_kopia_has_them_there() {
        let place = |endpoint: Option<&str>, bucket: &str, path_style| S3Location {
            bucket: bucket.into(),
            endpoint: endpoint.map(str::to_owned),
            region: Some("eu-west-1".into()),
            path_style,
            ..S3Location::default()
        };
        for (place, url) in [
            (
                place(None, "b", None),
                "https://b.s3.eu-west-1.amazonaws.com",
            ),
            (
                place(None, "b", Some(true)),
                "https://s3.eu-west-1.amazonaws.com",
            ),
            (
                place(None, "b.c", None),
                "https://s3.eu-west-1.amazonaws.com",
            ),
            (
                place(Some("s3-eu-west-1.amazonaws.com:443"), "b", None),
                "https://b.s3-eu-west-1.amazonaws.com:443",
            ),
            (place(Some("minio:9000"), "b", None), "https://minio:9000"),
            (
                place(Some("minio:9000"), "b", Some(false)),
                "https://b.minio:9000",
            ),
        ] {
            assert_eq!(place.server_url(), url);
        }
    }

    #[test]
    fn a_place_is_shown_with_its_raw_prefix() {
        let azure = AzureLocation {
            container: "c".into(),
            prefix: "x/kopia".into(),
            account: "a".into(),
            ..AzureLocation::default()
        };
        assert_eq!(azure.server_url(), "https://a.blob.core.windows.net");
        assert_eq!(Location::Azure(azure).to_string(), "az://c/x/kopia");
        let gcs = GcsLocation {
            bucket: "b".into(),
            transport: Transport {
                plain_http: true,
                ..Transport::default()
            },
            endpoint: Some("127.0.0.1:4443".into()),
            ..GcsLocation::default()
        };
        assert_eq!(gcs.server_url(), "http://127.0.0.1:4443");
        assert_eq!(Location::Gcs(gcs).to_string(), "gs://b/");
    }
}
