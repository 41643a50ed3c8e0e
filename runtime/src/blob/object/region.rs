//! In which region a bucket at Amazon is: the service tells everybody, without keys.
//!
//! Kopia and Velero ask the same where no region is set. Memory: an answer's head.

use std::time::Duration;

use reqwest::Method;
use tokio::runtime::Builder;

use super::location::S3Location;
use super::tls;
use crate::blob::BlobError;

/// How long the service may take.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Asks Amazon for the region of a bucket. Blocks.
pub fn bucket_region(place: &S3Location) -> Result<String, BlobError> {
    // A bucket with dots in its name has no certificate of its own.
    let url = if place.bucket.contains('.') {
        format!("https://s3.amazonaws.com/{}", place.bucket)
    } else {
        format!("https://{}.s3.amazonaws.com/", place.bucket)
    };
    let setup = |reason: String| BlobError::Setup {
        location: place.to_string(),
        reason: format!("{reason}; name the bucket's region with --region or AWS_REGION"),
    };
    let client = tls::client_builder(&place.transport)?
        .connect_timeout(TIMEOUT / 2)
        .timeout(TIMEOUT)
        .build()
        .map_err(|error| setup(error.without_url().to_string()))?;
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| setup(error.to_string()))?;
    // Inside, since a request with a timeout needs the runtime as soon as it is made.
    let answer = runtime.block_on(async { client.request(Method::HEAD, &url).send().await });
    let answer = answer.map_err(|error| {
        let reason = super::credentials::told(&error);
        setup(format!(
            "Amazon does not tell the bucket's region: {reason}"
        ))
    })?;
    let region = answer.headers().get("x-amz-bucket-region");
    let region = region
        .and_then(|region| region.to_str().ok())
        .map(str::to_owned);
    match (region, answer.status().as_u16()) {
        (Some(region), _) => Ok(region),
        (None, 404) => Err(BlobError::Setup {
            location: place.to_string(),
            reason: "there is no such bucket at Amazon".into(),
        }),
        (None, _) => Err(setup("Amazon does not tell the bucket's region".into())),
    }
}
