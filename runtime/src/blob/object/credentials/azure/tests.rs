//! Where Azure's keys are from, with files and sign-in services on loopback.
//!
//! The word `hunter` stands for secrets: no message may have it.

use std::sync::Arc;

use super::*;
use crate::blob::object::credentials::test_server::Server;
use crate::blob::object::credentials::{Variables, find as find_any};
use crate::blob::object::location::Location;
use crate::clock::{ManualClock, Timestamp};

const KEY: &str = "aHVudGVyMg==";

fn sources(given: Given, file: Option<PathBuf>, pairs: &[(&str, &str)]) -> Sources {
    Sources {
        given,
        file,
        profile: None,
        variables: Variables::of(pairs.iter().copied()),
        clock: Arc::new(ManualClock::new(Timestamp::from_seconds(1000))),
    }
}

fn place() -> Location {
    Location::Azure(AzureLocation {
        container: "c".into(),
        account: "a".into(),
        ..AzureLocation::default()
    })
}

async fn credential(sources: &Sources) -> Result<(Arc<AzureCredential>, String), String> {
    let found = find_any(&place(), sources).map_err(|error| error.to_string())?;
    let Credentials::Azure(keys) = found.credentials else {
        panic!("other keys");
    };
    let shown = format!("{keys:?}");
    assert!(!shown.contains("hunter"), "{shown}");
    let credential = keys.get_credential().await;
    Ok((credential.map_err(|error| error.to_string())?, found.origin))
}

fn is_key(credential: &AzureCredential) -> bool {
    *credential == AzureCredential::AccessKey(AzureAccessKey::try_new(KEY).unwrap())
}

#[tokio::test]
async fn keys_and_signatures_come_in_kopias_order() {
    let keys = AzureKeys {
        account_key: KEY.into(),
        ..AzureKeys::default()
    };
    let (found, origin) = credential(&sources(Given::Azure(keys.clone()), None, &[]))
        .await
        .unwrap();
    assert!(is_key(&found) && origin.contains("config file"), "{origin}");
    let both = AzureKeys {
        sas_token: "?sv=1&sig=hunter2".into(),
        ..keys
    };
    let (found, _) = credential(&sources(Given::Azure(both), None, &[]))
        .await
        .unwrap();
    assert!(matches!(&*found, AzureCredential::SASToken(pairs) if pairs.len() == 2));
    for pairs in [
        [("AZURE_STORAGE_KEY", KEY), ("HOME", "/nonexistent")],
        [
            (
                "AZURE_STORAGE_CONNECTION_STRING",
                "AccountName=a;AccountKey=aHVudGVyMg==;X=y",
            ),
            ("AZURE_STORAGE_KEY", "d3Jvbmc="),
        ],
    ] {
        let (found, origin) = credential(&sources(Given::Nothing, None, &pairs))
            .await
            .unwrap();
        assert!(is_key(&found), "{origin}");
    }
    for (name, value, part) in [
        ("AZURE_STORAGE_KEY", "hunter2!", "not base64"),
        ("AZURE_STORAGE_SAS_TOKEN", "sv=hunter2", "no signature"),
        (
            "AZURE_STORAGE_CONNECTION_STRING",
            "AccountName=hunter2",
            "no AccountKey",
        ),
    ] {
        let error = credential(&sources(Given::Nothing, None, &[(name, value)])).await;
        let error = error.unwrap_err();
        assert!(error.contains(part) && !error.contains("hunter"), "{error}");
    }
}

#[tokio::test]
async fn a_signature_that_has_ended_says_so() {
    let clock = Arc::new(ManualClock::new(Timestamp::from_seconds(0)));
    let with = |se: &str| {
        let token = format!("?sv=1&sig=hunter2&se={se}");
        let pairs = [("AZURE_STORAGE_SAS_TOKEN", token.as_str())];
        Sources {
            clock: clock.clone(),
            ..sources(Given::Nothing, None, &pairs)
        }
    };
    let sources = with("1970-01-01T00%3A10%3A00Z");
    let found = find_any(&place(), &sources).unwrap();
    let Credentials::Azure(keys) = found.credentials else {
        panic!("other keys");
    };
    keys.get_credential().await.unwrap();
    clock.set(Timestamp::from_seconds(601));
    let in_the_run = keys.get_credential().await.unwrap_err().to_string();
    let before = credential(&sources).await.unwrap_err();
    for error in [in_the_run, before] {
        assert!(
            error.contains("has ended at 1970-01-01T00:10:00Z"),
            "{error}"
        );
        assert!(!error.contains("hunter"), "{error}");
    }
    credential(&with("2100-01-01")).await.unwrap();
}

#[tokio::test]
async fn veleros_file_is_read_again() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("cloud");
    std::fs::write(&file, "AZURE_STORAGE_ACCOUNT_ACCESS_KEY=d3Jvbmc=\n").unwrap();
    let clock = Arc::new(ManualClock::new(Timestamp::from_seconds(0)));
    let sources = Sources {
        clock: clock.clone(),
        ..sources(Given::Nothing, Some(file.clone()), &[])
    };
    let found = find_any(&place(), &sources).unwrap();
    let Credentials::Azure(keys) = found.credentials else {
        panic!("other keys");
    };
    assert!(!is_key(&keys.get_credential().await.unwrap()));
    std::fs::write(&file, format!("AZURE_STORAGE_ACCOUNT_ACCESS_KEY={KEY}\n")).unwrap();
    assert!(
        !is_key(&keys.get_credential().await.unwrap()),
        "not looked at at each request"
    );
    clock.set(Timestamp::from_seconds(60));
    assert!(is_key(&keys.get_credential().await.unwrap()));
    std::fs::remove_file(&file).unwrap();
    clock.set(Timestamp::from_seconds(120));
    assert!(
        is_key(&keys.get_credential().await.unwrap()),
        "the last key stays"
    );
}

fn bearer_of(credential: &AzureCredential) -> &str {
    match credential {
        AzureCredential::BearerToken(token) => token,
        _ => panic!("no token"),
    }
}

/// A sign-in service that knows one secret and one token.
fn sign_in() -> Server {
    Server::start(|asked| {
        let ok = r#"{"access_token":"token-1","expires_in":"3599"}"#;
        if asked.body.contains("client_secret=hunter2") || asked.body.contains("=jwt-1") {
            (200, ok.into())
        } else {
            let body = r#"{"error":"invalid_client","error_description":"AADSTS7000215: Invalid"}"#;
            (401, body.into())
        }
    })
}

#[tokio::test]
async fn applications_sign_in_with_the_secret_of_veleros_file() {
    let server = sign_in();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("cloud");
    let text = "AZURE_TENANT_ID=t\nAZURE_CLIENT_ID=i\nAZURE_CLIENT_SECRET=hunter2\n\
                AZURE_CLOUD_NAME=AzurePublicCloud\n";
    std::fs::write(
        &file,
        format!("{text}AZURE_AUTHORITY_HOST={}/\n", server.url),
    )
    .unwrap();
    let (found, origin) = credential(&sources(Given::Nothing, Some(file), &[]))
        .await
        .unwrap();
    assert_eq!(bearer_of(&found), "token-1");
    assert!(origin.starts_with("application i of "), "{origin}");
    let asked = server.asked().pop().unwrap();
    assert!(
        asked.line.starts_with("POST /t/oauth2/v2.0/token "),
        "{}",
        asked.line
    );
    assert!(
        asked
            .body
            .contains("scope=https%3A%2F%2Fstorage.azure.com%2F.default")
    );
}

#[tokio::test]
async fn applications_sign_in_with_kubernetes_token_but_not_with_certificates() {
    let server = sign_in();
    let directory = tempfile::tempdir().unwrap();
    let token = directory.path().join("token");
    std::fs::write(&token, "jwt-1\n").unwrap();
    let token = token.to_str().unwrap();
    let base = [
        ("AZURE_TENANT_ID", "t"),
        ("AZURE_CLIENT_ID", "i"),
        ("AZURE_AUTHORITY_HOST", server.url.as_str()),
    ];
    let with = |name, value| {
        sources(
            Given::Nothing,
            None,
            &[base.as_slice(), &[(name, value)]].concat(),
        )
    };
    let (found, origin) = credential(&with("AZURE_FEDERATED_TOKEN_FILE", token))
        .await
        .unwrap();
    assert_eq!(bearer_of(&found), "token-1");
    assert!(origin.contains("workload identity"), "{origin}");
    let error = credential(&with("AZURE_CLIENT_SECRET", "hunter3"))
        .await
        .unwrap_err();
    assert!(
        error.contains("AADSTS7000215") && !error.contains("hunter"),
        "{error}"
    );
    let error = credential(&with("AZURE_CLIENT_CERTIFICATE_PATH", "/c.pem"))
        .await
        .unwrap_err();
    assert!(
        error.contains("client certificates are not supported"),
        "{error}"
    );
    let plain = [
        base.as_slice(),
        &[
            ("AZURE_CLIENT_SECRET", "hunter2"),
            ("AZURE_AUTHORITY_HOST", "http://login.example"),
        ],
    ]
    .concat();
    let error = credential(&sources(Given::Nothing, None, &plain))
        .await
        .unwrap_err();
    assert!(error.contains("without TLS"), "{error}");
}

#[tokio::test]
async fn a_machine_has_an_identity_or_all_places_are_named() {
    let server = Server::start(|asked| {
        if asked.header("metadata") == "true"
            && asked.line.contains("resource=https%3A%2F%2Fstorage")
        {
            (
                200,
                r#"{"access_token":"token-2","expires_in":86400}"#.into(),
            )
        } else {
            (400, r#"{"error":"invalid_request"}"#.into())
        }
    });
    let pairs = [("AZURE_POD_IDENTITY_AUTHORITY_HOST", server.url.as_str())];
    let (found, _) = credential(&sources(Given::Nothing, None, &pairs))
        .await
        .unwrap();
    assert_eq!(bearer_of(&found), "token-2");
    let pairs = [
        ("IDENTITY_ENDPOINT", server.url.as_str()),
        ("IDENTITY_HEADER", "hunter2"),
    ];
    let error = credential(&sources(Given::Nothing, None, &pairs))
        .await
        .unwrap_err();
    assert!(
        error.contains("none found") && error.contains("invalid_request"),
        "{error}"
    );
    assert!(!error.contains("hunter"), "{error}");
}
