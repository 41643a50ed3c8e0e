//! From a place and its keys to the client of an object store.
//!
//! Nothing is asked of the network here. `connector` makes the HTTP client and so sees every
//! request; the client should trust what [`super::tls`] says. Retries are the caller's: the clients
//! try once. Memory: some KiB a client.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3, AmazonS3Builder, AwsCredentialProvider};
use object_store::azure::{AzureCredentialProvider, MicrosoftAzure, MicrosoftAzureBuilder};
use object_store::client::HttpConnector;
use object_store::gcp::{
    GcpCredential, GcpCredentialProvider, GoogleCloudStorage, GoogleCloudStorageBuilder,
};
use object_store::{BackoffConfig, ClientOptions, RetryConfig, StaticCredentialProvider};

use super::location::{AzureLocation, GcsLocation, S3Location};
use crate::blob::BlobError;

/// The keys of a place. They refresh themselves; `Debug` shows none of them.
#[derive(Clone)]
pub enum Credentials {
    /// None: requests are not signed.
    Anonymous,
    /// Amazon's.
    Aws(AwsCredentialProvider),
    /// Google's.
    Google(GcpCredentialProvider),
    /// Microsoft's.
    Azure(AzureCredentialProvider),
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Anonymous => "Anonymous",
            Self::Aws(_) => "Aws",
            Self::Google(_) => "Google",
            Self::Azure(_) => "Azure",
        })
    }
}

/// Makes the client of an S3 place.
pub fn s3(
    place: &S3Location,
    credentials: &Credentials,
    connector: impl HttpConnector,
) -> Result<AmazonS3, BlobError> {
    let builder = AmazonS3Builder::new()
        .with_bucket_name(&place.bucket)
        .with_region(place.signing_region())
        .with_endpoint(place.server_url())
        .with_virtual_hosted_style_request(!place.uses_path_style())
        .with_client_options(client_options(place.transport.plain_http))
        .with_retry(single_try())
        .with_http_connector(connector);
    let builder = match credentials {
        Credentials::Anonymous => builder.with_skip_signature(true),
        Credentials::Aws(provider) => builder.with_credentials(provider.clone()),
        _ => return Err(foreign_credentials(place)),
    };
    builder.build().map_err(|error| wrong(place, &error))
}

/// Makes the client of a Google Cloud Storage place.
pub fn gcs(
    place: &GcsLocation,
    credentials: &Credentials,
    connector: impl HttpConnector,
) -> Result<GoogleCloudStorage, BlobError> {
    let builder = GoogleCloudStorageBuilder::new()
        .with_bucket_name(&place.bucket)
        .with_base_url(&place.server_url())
        .with_client_options(client_options(place.transport.plain_http))
        .with_retry(single_try())
        .with_http_connector(connector);
    let builder = match credentials {
        Credentials::Anonymous => builder
            .with_skip_signature(true)
            .with_credentials(no_token()),
        Credentials::Google(provider) => builder.with_credentials(provider.clone()),
        _ => return Err(foreign_credentials(place)),
    };
    builder.build().map_err(|error| wrong(place, &error))
}

/// Makes the client of an Azure place.
pub fn azure(
    place: &AzureLocation,
    credentials: &Credentials,
    connector: impl HttpConnector,
) -> Result<MicrosoftAzure, BlobError> {
    let builder = MicrosoftAzureBuilder::new()
        .with_container_name(&place.container)
        .with_account(&place.account)
        .with_endpoint(place.server_url())
        .with_client_options(client_options(place.transport.plain_http))
        .with_retry(single_try())
        .with_http_connector(connector);
    let builder = match credentials {
        Credentials::Anonymous => builder.with_skip_signature(true),
        Credentials::Azure(provider) => builder.with_credentials(provider.clone()),
        _ => return Err(foreign_credentials(place)),
    };
    builder.build().map_err(|error| wrong(place, &error))
}

/// Options for a connector that heeds them; ours sets its own.
fn client_options(plain_http: bool) -> ClientOptions {
    ClientOptions::new().with_allow_http(plain_http)
}

/// One try a request: who calls the client decides about another.
fn single_try() -> RetryConfig {
    RetryConfig {
        max_retries: 0,
        retry_timeout: Duration::ZERO,
        backoff: BackoffConfig::default(),
    }
}

fn no_token() -> GcpCredentialProvider {
    let credential = GcpCredential {
        bearer: String::new(),
    };
    Arc::new(StaticCredentialProvider::new(credential))
}

fn wrong(place: &impl fmt::Display, error: &object_store::Error) -> BlobError {
    BlobError::Setup {
        location: place.to_string(),
        reason: error.to_string(),
    }
}

fn foreign_credentials(place: &impl fmt::Display) -> BlobError {
    BlobError::Credentials {
        location: place.to_string(),
        reason: "they are those of another kind of store".into(),
    }
}
