//! The storage blocks `s3`, `azureBlob` and `gcs` of Kopia's config file.
//!
//! All options that Kopia has are read. `pointInTime` is refused: it shows an old state, which must
//! not be maintained. Mirrors the `Options` of Kopia's `repo/blob/{s3,azure,gcs}`.
//! Memory: the block.

use std::path::PathBuf;

use base64::Engine as _;
use serde::Deserialize;
use serde_json::Value;

use super::folder::{limits, parsed};
use super::object::ObjectPlace;
use crate::blob::object::credentials::{AzureKeys, Given, Role, S3Keys, Secret};
use crate::blob::object::location::{AzureLocation, GcsLocation, Location, S3Location, Transport};

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct S3Block {
    bucket: String,
    prefix: String,
    endpoint: String,
    #[serde(rename = "doNotUseTLS")]
    plain_http: bool,
    #[serde(rename = "doNotVerifyTLS")]
    skip_tls_verify: bool,
    #[serde(rename = "rootCA")]
    root_ca: Option<String>,
    #[serde(rename = "accessKeyID")]
    access_key_id: String,
    secret_access_key: Secret,
    session_token: Secret,
    #[serde(rename = "roleARN")]
    role_arn: String,
    session_name: String,
    duration: Option<Value>,
    role_endpoint: String,
    role_region: String,
    region: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct AzureBlock {
    container: String,
    prefix: String,
    storage_account: String,
    storage_key: Secret,
    sas_token: Secret,
    #[serde(rename = "TenantID")]
    tenant_id: String,
    #[serde(rename = "ClientID")]
    client_id: String,
    #[serde(rename = "ClientSecret")]
    client_secret: Secret,
    client_certificate: Secret,
    azure_federated_token_file: String,
    storage_domain: String,
    #[serde(rename = "doNotUseTLS")]
    plain_http: bool,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct GoogleBlock {
    bucket: String,
    prefix: String,
    credentials_file: String,
    credentials: Option<Value>,
    read_only: bool,
}

/// Reads a block; the reason of an error names no values.
pub(super) fn read(kind: &str, block: &Value) -> Result<ObjectPlace, String> {
    if block.get("pointInTime").is_some_and(|time| !time.is_null()) {
        let text = "it shows a point in time (pointInTime): an old state, which must not be \
                    maintained; connect Kopia without --point-in-time";
        return Err(text.into());
    }
    let mut place = match kind {
        "s3" => s3(parsed(block)?)?,
        "azureBlob" => azure(parsed(block)?)?,
        _ => google(parsed(block)?)?,
    };
    place.limits = limits(block)?;
    Ok(place)
}

fn named(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

fn s3(block: S3Block) -> Result<ObjectPlace, String> {
    if block.bucket.is_empty() {
        return Err("its storage has no bucket".into());
    }
    let ca_pem = match block.root_ca {
        None => None,
        Some(text) => {
            let bytes = base64::engine::general_purpose::STANDARD.decode(text);
            Some(bytes.map_err(|_| "rootCA is not base64")?)
        }
    };
    let seconds = block.duration.as_ref().map(seconds).transpose()?;
    let role = named(block.role_arn).map(|arn| Role {
        arn,
        session_name: block.session_name,
        seconds: seconds.filter(|seconds| *seconds > 0),
        endpoint: named(block.role_endpoint),
        region: named(block.role_region),
        external_id: None,
    });
    let keys = S3Keys {
        access_key_id: block.access_key_id,
        secret_access_key: block.secret_access_key,
        session_token: block.session_token,
        role,
    };
    // Kopia's default endpoint stands for the bucket's region, wherever that is.
    let endpoint = named(block.endpoint).filter(|host| host != "s3.amazonaws.com");
    let location = Location::S3(S3Location {
        bucket: block.bucket,
        prefix: block.prefix,
        endpoint,
        region: named(block.region),
        path_style: None,
        storage_class: None,
        transport: Transport {
            plain_http: block.plain_http,
            skip_tls_verify: block.skip_tls_verify,
            ca_pem,
        },
    });
    Ok(ObjectPlace {
        given: Given::S3(keys),
        ..ObjectPlace::new(location)
    })
}

fn azure(block: AzureBlock) -> Result<ObjectPlace, String> {
    if block.container.is_empty() {
        return Err("its storage has no container".into());
    }
    let keys = AzureKeys {
        sas_token: block.sas_token,
        account_key: block.storage_key,
        tenant_id: block.tenant_id,
        client_id: block.client_id,
        client_secret: block.client_secret,
        federated_token_file: named(block.azure_federated_token_file).map(PathBuf::from),
        has_certificate: !block.client_certificate.is_empty(),
    };
    let location = Location::Azure(AzureLocation {
        container: block.container,
        prefix: block.prefix,
        account: block.storage_account,
        endpoint: None,
        domain: named(block.storage_domain),
        storage_class: None,
        transport: Transport {
            plain_http: block.plain_http,
            ..Transport::default()
        },
    });
    Ok(ObjectPlace {
        given: Given::Azure(keys),
        ..ObjectPlace::new(location)
    })
}

fn google(block: GoogleBlock) -> Result<ObjectPlace, String> {
    if block.bucket.is_empty() {
        return Err("its storage has no bucket".into());
    }
    let given = match (block.credentials, named(block.credentials_file)) {
        (Some(json), _) if !json.is_null() => Given::Google(Secret::new(json.to_string())),
        (_, Some(file)) => Given::GoogleFile(file.into()),
        (_, None) => Given::Nothing,
    };
    let location = Location::Gcs(GcsLocation {
        bucket: block.bucket,
        prefix: block.prefix,
        ..GcsLocation::default()
    });
    Ok(ObjectPlace {
        given,
        read_only: block.read_only,
        ..ObjectPlace::new(location)
    })
}

/// Parses a duration as Go writes it (`1h0m0s`), or nanoseconds, to whole seconds.
fn seconds(value: &Value) -> Result<u64, String> {
    let wrong = || "its storage has a duration that is none".to_owned();
    let text = match value {
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.trim().to_owned(),
        _ => return Err(wrong()),
    };
    if let Ok(nanos) = text.parse::<f64>() {
        return Ok((nanos / 1e9) as u64);
    }
    let (mut total, mut rest) = (0.0, text.as_str());
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .ok_or_else(wrong)?;
        let number: f64 = rest[..digits].parse().map_err(|_| wrong())?;
        let unit_end = rest[digits..].find(|c: char| c.is_ascii_digit() || c == '.');
        let unit_end = unit_end.map_or(rest.len(), |end| digits + end);
        total += number
            * match &rest[digits..unit_end] {
                "h" => 3600.0,
                "m" => 60.0,
                "s" => 1.0,
                "ms" => 1e-3,
                "us" | "µs" => 1e-6,
                "ns" => 1e-9,
                _ => return Err(wrong()),
            };
        rest = &rest[unit_end..];
    }
    Ok(total as u64)
}

#[cfg(test)]
mod tests;
