//! Where Amazon's keys are from, with files, programs and services on loopback.
//!
//! The word `hunter` stands for secrets: no message may have it.

use std::path::PathBuf;

use object_store::aws::AwsCredential;

use super::*;
use crate::blob::object::credentials::test_server::Server;
use crate::blob::object::credentials::{S3Keys, Variables, find as find_any};
use crate::blob::object::location::Location;
use crate::clock::{ManualClock, Timestamp};

/// Where no machine is: a closed port of this one.
const NOWHERE: (&str, &str) = ("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://127.0.0.1:1");

fn sources(pairs: &[(&str, &str)]) -> Sources {
    Sources {
        given: Given::Nothing,
        file: None,
        profile: None,
        variables: Variables::of([&[NOWHERE], pairs].concat()),
        clock: Arc::new(ManualClock::new(Timestamp::from_seconds(1000))),
    }
}

async fn keys(sources: &Sources) -> Result<(Arc<AwsCredential>, String), String> {
    let place = Location::S3(S3Location {
        bucket: "b".into(),
        region: Some("eu-west-1".into()),
        ..S3Location::default()
    });
    let found = find_any(&place, sources).map_err(|error| error.to_string())?;
    let Credentials::Aws(keys) = found.credentials else {
        panic!("other keys");
    };
    let shown = format!("{keys:?}");
    assert!(!shown.contains("hunter"), "{shown}");
    let credential = keys
        .get_credential()
        .await
        .map_err(|error| error.to_string())?;
    Ok((credential, found.origin))
}

fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cloud");
    std::fs::write(&path, text).unwrap();
    (directory, path)
}

/// A token service: gives keys with the name of what was asked for.
fn token_service() -> Server {
    Server::start(|asked| {
        let field = |name: &str| {
            let field = asked
                .body
                .split('&')
                .find_map(|f| f.strip_prefix(&format!("{name}=")));
            field.unwrap_or_default().to_owned()
        };
        let signed = asked
            .header("authorization")
            .contains("/eu-west-1/sts/aws4_request");
        let allowed = match field("Action").as_str() {
            "AssumeRole" => signed && asked.header("authorization").contains("Credential=AK"),
            "AssumeRoleWithWebIdentity" => !signed && field("WebIdentityToken") == "jwt-1",
            _ => false,
        };
        if !allowed {
            let body = "<ErrorResponse><Error><Code>AccessDenied</Code>\
                        <Message>not you</Message></Error></ErrorResponse>";
            return (403, body.into());
        }
        let keys = format!(
            "<R><Credentials><AccessKeyId>AS-{}</AccessKeyId><SecretAccessKey>hunter2\
             </SecretAccessKey><SessionToken>hunter3</SessionToken>\
             <Expiration>1970-01-01T02:00:00Z</Expiration></Credentials></R>",
            field("RoleArn")
        );
        (200, keys)
    })
}

#[tokio::test]
async fn the_environment_comes_before_files_and_a_given_profile_before_both() {
    let (_directory, path) = file(
        "[default]\naws_access_key_id=AK-file\naws_secret_access_key=hunter2\n\
         [other]\naws_access_key_id=AK-other\naws_secret_access_key=hunter2\n\
         aws_session_token=hunter3\n",
    );
    let shared = ("AWS_SHARED_CREDENTIALS_FILE", path.to_str().unwrap());
    let environment = [
        shared,
        ("AWS_ACCESS_KEY_ID", "AK-env"),
        ("AWS_SECRET_ACCESS_KEY", "hunter2"),
        ("AWS_SESSION_TOKEN", "hunter3"),
    ];
    let (found, _) = keys(&sources(&environment)).await.unwrap();
    assert_eq!(
        (found.key_id.as_str(), found.token.as_deref()),
        ("AK-env", Some("hunter3"))
    );
    let (found, origin) = keys(&sources(&[shared])).await.unwrap();
    assert_eq!(
        (found.key_id.as_str(), found.token.as_deref()),
        ("AK-file", None)
    );
    assert!(origin.starts_with("profile default of "), "{origin}");
    let (found, _) = keys(&sources(&[shared, ("AWS_PROFILE", "other")]))
        .await
        .unwrap();
    assert_eq!(
        (found.key_id.as_str(), found.token.as_deref()),
        ("AK-other", Some("hunter3"))
    );
    let given = Sources {
        profile: Some("other".into()),
        ..sources(&environment)
    };
    assert_eq!(keys(&given).await.unwrap().0.key_id, "AK-other");
    let velero = Sources {
        file: Some(path.clone()),
        ..sources(&environment[1..])
    };
    assert_eq!(keys(&velero).await.unwrap().0.key_id, "AK-file");
    let missing = Sources {
        profile: Some("absent".into()),
        ..velero
    };
    let error = keys(&missing).await.unwrap_err();
    assert!(error.contains("there is no profile absent") && error.contains("default, other"));
    let half = [("AWS_ACCESS_KEY_ID", "AK")];
    assert!(
        keys(&sources(&half))
            .await
            .unwrap_err()
            .contains("AWS_SECRET_ACCESS_KEY is not")
    );
}

#[tokio::test]
async fn roles_are_assumed_with_profiles_tokens_and_kopias_keys() {
    let service = token_service();
    let (_directory, token) = file("jwt-1\n");
    let token = token.to_str().unwrap();
    let text = format!(
        "[default]\nrole_arn=R1\nsource_profile=base\n[base]\naws_access_key_id=AK\n\
         aws_secret_access_key=hunter1\n[web]\nrole_arn=R2\nweb_identity_token_file={token}\n\
         [loop]\nrole_arn=R\nsource_profile=pool\n[pool]\nrole_arn=R\nsource_profile=loop\n\
         [chain]\nrole_arn=R4\nsource_profile=default\n"
    );
    let (_directory, path) = file(&text);
    let sts = ("AWS_ENDPOINT_URL_STS", service.url.as_str());
    let of = |profile: &str| Sources {
        file: Some(path.clone()),
        profile: Some(profile.into()),
        ..sources(&[sts])
    };
    let (found, origin) = keys(&of("default")).await.unwrap();
    assert_eq!(
        (found.key_id.as_str(), found.token.as_deref()),
        ("AS-R1", Some("hunter3"))
    );
    assert!(
        origin.starts_with("role R1, assumed with profile base"),
        "{origin}"
    );
    assert_eq!(keys(&of("web")).await.unwrap().0.key_id, "AS-R2");
    assert!(keys(&of("loop")).await.unwrap_err().contains("in a circle"));
    let error = keys(&of("chain")).await.unwrap_err();
    assert!(
        error.contains("AccessDenied: not you") && !error.contains("hunter"),
        "{error}"
    );

    let pods = [
        sts,
        ("AWS_WEB_IDENTITY_TOKEN_FILE", token),
        ("AWS_ROLE_ARN", "R3"),
    ];
    assert_eq!(keys(&sources(&pods)).await.unwrap().0.key_id, "AS-R3");
    let error = keys(&sources(&pods[..2])).await.unwrap_err();
    assert!(error.contains("AWS_ROLE_ARN is not"), "{error}");

    let given = S3Keys {
        access_key_id: "AK".into(),
        secret_access_key: "hunter1".into(),
        session_token: Default::default(),
        role: Some(Role {
            arn: "R5".into(),
            endpoint: Some(service.url.clone()),
            ..Role::default()
        }),
    };
    let kopias = Sources {
        given: Given::S3(given),
        ..sources(&[])
    };
    assert_eq!(keys(&kopias).await.unwrap().0.key_id, "AS-R5");
}

#[tokio::test]
async fn keys_are_renewed_in_the_middle_of_a_run() {
    let service = token_service();
    let (_directory, token) = file("jwt-1");
    let clock = Arc::new(ManualClock::new(Timestamp::from_seconds(3600)));
    let pairs = [
        ("AWS_ENDPOINT_URL_STS", service.url.as_str()),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", token.to_str().unwrap()),
        ("AWS_ROLE_ARN", "R"),
    ];
    let sources = Sources {
        clock: clock.clone(),
        ..sources(&pairs)
    };
    let found = find(&S3Location::default(), &sources).unwrap();
    let Credentials::Aws(keys) = found.credentials else {
        panic!("other keys");
    };
    for (second, asked) in [(3600, 1), (6800, 1), (6900, 2), (7000, 2), (7060, 3)] {
        clock.set(Timestamp::from_seconds(second));
        keys.get_credential().await.unwrap();
        assert_eq!(service.asked().len(), asked, "at {second}");
    }
}

#[tokio::test]
async fn programs_containers_and_machines_give_keys() {
    let json = r#"{"AccessKeyId":"AK-1","SecretAccessKey":"hunter2","Token":"hunter3",
                   "Expiration":"2030-01-01T00:00:00Z"}"#;
    let (_d, path) = file(&format!(
        "[default]\ncredential_process = echo '{}'\n\
                                    [bad]\ncredential_process = exit 3\n",
        json.replace('\n', "")
    ));
    let of = |profile: &str| Sources {
        file: Some(path.clone()),
        profile: Some(profile.into()),
        ..sources(&[])
    };
    assert_eq!(keys(&of("default")).await.unwrap().0.key_id, "AK-1");
    assert!(
        keys(&of("bad"))
            .await
            .unwrap_err()
            .contains("exit status: 3")
    );

    let body = json.to_owned();
    let server = Server::start(move |asked| {
        let path = asked.line.split(' ').nth(1).unwrap();
        let role = "/latest/meta-data/iam/security-credentials/";
        let session = asked.header("x-aws-ec2-metadata-token") == "session";
        match path {
            "/latest/api/token" if asked.line.starts_with("PUT") => (200, "session".into()),
            _ if path == role && session => (200, "my-role\n".into()),
            _ if path.ends_with("/my-role") && session => (200, body.clone()),
            "/pod" if asked.header("authorization") == "pod-token" => (200, body.clone()),
            _ => (401, String::new()),
        }
    });
    let machine = [("AWS_EC2_METADATA_SERVICE_ENDPOINT", server.url.as_str())];
    let (found, origin) = keys(&sources(&machine)).await.unwrap();
    assert_eq!(found.token.as_deref(), Some("hunter3"));
    assert!(origin.contains("EC2"), "{origin}");

    let (_directory, token) = file("pod-token\n");
    let url = format!("{}/pod", server.url);
    let pod = [
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", url.as_str()),
        (
            "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
            token.to_str().unwrap(),
        ),
    ];
    assert_eq!(keys(&sources(&pod)).await.unwrap().0.key_id, "AK-1");
    let error = keys(&sources(&pod[..1])).await.unwrap_err();
    assert!(error.contains("/pod: 401"), "{error}");
}

#[tokio::test]
async fn where_there_are_none_all_places_are_named() {
    let error = keys(&sources(&[("HOME", "/nonexistent")]))
        .await
        .unwrap_err();
    for part in [
        "AWS_ACCESS_KEY_ID",
        "/nonexistent/.aws/credentials",
        "the machine has none",
    ] {
        assert!(error.contains(part), "{error}");
    }
    let off = [("AWS_EC2_METADATA_DISABLED", "true")];
    assert!(
        keys(&sources(&off))
            .await
            .unwrap_err()
            .contains("none found")
    );
}
