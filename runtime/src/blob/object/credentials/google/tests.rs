//! Where Google's keys are from, with files and token services on loopback.
//!
//! `test_key.pem` was made for these tests and opens nothing.

use std::sync::Arc;

use base64::Engine as _;
use serde_json::{Value, json};

use super::*;
use crate::blob::object::credentials::test_server::Server;
use crate::blob::object::credentials::{Variables, find as find_any};
use crate::blob::object::location::Location;
use crate::clock::{ManualClock, Timestamp};

const KEY: &str = include_str!("test_key.pem");

fn sources(given: Given, pairs: &[(&str, &str)]) -> Sources {
    Sources {
        given,
        file: None,
        profile: None,
        variables: Variables::of(pairs.iter().copied()),
        clock: Arc::new(ManualClock::new(Timestamp::from_seconds(1000))),
    }
}

async fn token(sources: &Sources) -> Result<(String, String), String> {
    let place = Location::Gcs(GcsLocation {
        bucket: "b".into(),
        ..GcsLocation::default()
    });
    let found = find_any(&place, sources).map_err(|error| error.to_string())?;
    let Credentials::Google(keys) = found.credentials else {
        panic!("other keys");
    };
    let shown = format!("{keys:?}");
    assert!(
        !shown.contains("hunter") && !shown.contains("PRIVATE"),
        "{shown}"
    );
    let credential = keys
        .get_credential()
        .await
        .map_err(|error| error.to_string())?;
    Ok((credential.bearer.clone(), found.origin))
}

fn given(json: &Value) -> Sources {
    sources(Given::Google(Secret::new(json.to_string())), &[])
}

fn good() -> (u16, String) {
    (
        200,
        r#"{"access_token":"token-1","expires_in":3599,"token_type":"Bearer"}"#.into(),
    )
}

#[tokio::test]
async fn a_service_account_signs_for_itself() {
    let server = Server::start(|_| good());
    let mut json = json!({"type": "service_account", "client_email": "me@p.iam", "private_key": KEY,
                          "private_key_id": "k1", "token_uri": server.url});
    let (bearer, origin) = token(&given(&json)).await.unwrap();
    assert_eq!(bearer, "token-1");
    assert!(origin.contains("me@p.iam"), "{origin}");
    let body = server.asked().pop().unwrap().body;
    let jwt = body.split("assertion=").nth(1).unwrap();
    let parts: Vec<&str> = jwt.split('.').collect();
    assert_eq!(parts.len(), 3);
    let claims = base64::engine::general_purpose::URL_SAFE_NO_PAD
        .decode(parts[1])
        .unwrap();
    let claims: Value = serde_json::from_slice(&claims).unwrap();
    assert_eq!(
        (&claims["iss"], &claims["exp"]),
        (&json!("me@p.iam"), &json!(4600))
    );
    assert_eq!(parts[2].len(), 342, "2048 bits of a signature");
    json["private_key"] = json!("-----BEGIN PRIVATE KEY-----\nhunter2\n-----END PRIVATE KEY-----");
    let error = token(&given(&json)).await.unwrap_err();
    assert!(
        error.contains("private key") && !error.contains("hunter"),
        "{error}"
    );
}

#[tokio::test]
async fn a_user_and_another_provider_are_exchanged() {
    let server = Server::start(|asked| {
        let body = &asked.body;
        if asked.line.starts_with("POST /impersonate ") {
            assert_eq!(asked.header("authorization"), "Bearer token-1");
            let body = r#"{"accessToken":"token-2","expireTime":"2030-01-01T00:00:00Z"}"#;
            return (200, body.into());
        }
        let exchanged = body.contains("subject_token=jwt-1") && body.contains("audience=aud");
        if exchanged || body.contains("refresh_token=hunter2") {
            good()
        } else {
            (400, r#"{"error":"invalid_grant"}"#.into())
        }
    });
    let user = |refresh: &str| {
        json!({"type": "authorized_user", "client_id": "i", "client_secret": "hunter3",
               "refresh_token": refresh, "token_uri": server.url})
    };
    assert_eq!(token(&given(&user("hunter2"))).await.unwrap().0, "token-1");
    let error = token(&given(&user("hunter4"))).await.unwrap_err();
    assert!(
        error.contains("invalid_grant") && !error.contains("hunter"),
        "{error}"
    );

    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("token");
    std::fs::write(&file, r#"{"t":"jwt-1"}"#).unwrap();
    let mut external = json!({
        "type": "external_account", "audience": "aud", "token_url": server.url,
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "credential_source": {"file": file,
            "format": {"type": "json", "subject_token_field_name": "t"}}
    });
    assert_eq!(token(&given(&external)).await.unwrap().0, "token-1");
    let url = format!("{}/impersonate", server.url);
    external["service_account_impersonation_url"] = json!(url);
    assert_eq!(token(&given(&external)).await.unwrap().0, "token-2");
    external["credential_source"] = json!({"environment_id": "aws1"});
    let error = token(&given(&external)).await.unwrap_err();
    assert!(error.contains("not Amazon's keys"), "{error}");
}

#[tokio::test]
async fn files_come_before_the_machine() {
    let server = Server::start(|asked| {
        assert_eq!(asked.header("metadata-flavor"), "Google");
        let path = "GET /computeMetadata/v1/instance/service-accounts/default/token ";
        assert!(asked.line.starts_with(path), "{}", asked.line);
        good()
    });
    let host = server.url.strip_prefix("http://").unwrap();
    let home = tempfile::tempdir().unwrap();
    let pairs = [
        ("GCE_METADATA_HOST", host),
        ("HOME", home.path().to_str().unwrap()),
    ];
    let (bearer, origin) = token(&sources(Given::Nothing, &pairs)).await.unwrap();
    assert_eq!(
        (bearer.as_str(), origin.as_str()),
        ("token-1", "the machine's service account")
    );
    let folder = home.path().join(".config/gcloud");
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("application_default_credentials.json");
    std::fs::write(&file, r#"{"type":"impersonated_service_account"}"#).unwrap();
    let error = token(&sources(Given::Nothing, &pairs)).await.unwrap_err();
    assert!(
        error.contains("impersonated_service_account is not supported"),
        "{error}"
    );
    let pairs = [
        pairs.as_slice(),
        &[("GOOGLE_APPLICATION_CREDENTIALS", "/nonexistent")],
    ]
    .concat();
    let error = token(&sources(Given::Nothing, &pairs)).await.unwrap_err();
    assert!(error.contains("/nonexistent: "), "{error}");
}
