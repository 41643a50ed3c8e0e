//! Keys that end while a run is at work: every service that gives such keys, with tokens that live
//! for two seconds, and a store that refuses what has ended.
//!
//! The run must have asked for more of them, have done all its work, and have told none of them.
//! A second gate ends tokens long before the services say so, as when somebody revokes them.

use std::path::Path;
use std::time::Duration;

use kit::golden::Golden;
use kit::object_stores::{Place, azure, google, s3};
use servers::token_gate::{CONTAINER, CONTAINER_WORD, IDENTITY, Lives, TokenGate};
use tempfile::TempDir;

use super::commands::{FULL, User};

/// What each request to a store takes longer, so that a run lasts for many tokens.
const DELAY: Duration = Duration::from_millis(100);

const SHORT: Lives = Lives {
    told: Duration::from_secs(2),
    real: Duration::from_secs(2),
};

const REVOKED: Lives = Lives {
    told: Duration::from_secs(3600),
    real: Duration::from_secs(1),
};

/// A way to keys: its name, and the environment of whoever goes it.
type Way = (&'static str, fn(u16, &Path) -> Vec<(&'static str, String)>);

fn here(port: u16) -> String {
    format!("http://127.0.0.1:{port}")
}

/// Writes a file and returns its path.
fn file(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

const AMAZON: [Way; 4] = [
    ("a machine's role", |port, _| {
        vec![("AWS_EC2_METADATA_SERVICE_ENDPOINT", here(port))]
    }),
    ("a container's role", |port, _| {
        let url = format!("{}{CONTAINER}", here(port));
        vec![
            ("AWS_CONTAINER_CREDENTIALS_FULL_URI", url),
            (
                "AWS_CONTAINER_AUTHORIZATION_TOKEN",
                CONTAINER_WORD.to_owned(),
            ),
        ]
    }),
    ("a web identity", |port, folder| {
        let token = file(folder, "token", IDENTITY);
        vec![
            ("AWS_WEB_IDENTITY_TOKEN_FILE", token),
            ("AWS_ROLE_ARN", "arn:aws:iam::1:role/suite".to_owned()),
            ("AWS_ENDPOINT_URL_STS", here(port)),
        ]
    }),
    ("a role of a profile", |port, folder| {
        let text = "[base]\naws_access_key_id = AK\naws_secret_access_key = hunter-base\n\
                    [default]\nrole_arn = arn:aws:iam::1:role/suite\nsource_profile = base\n";
        let cloud = file(folder, "cloud", text);
        vec![
            ("AWS_SHARED_CREDENTIALS_FILE", cloud),
            ("AWS_ENDPOINT_URL_STS", here(port)),
        ]
    }),
];

const MICROSOFT: [Way; 3] = [
    ("an application's secret", |port, _| {
        let mut way = application(port);
        way.push(("AZURE_CLIENT_SECRET", "hunter-secret".to_owned()));
        way
    }),
    ("a workload identity", |port, folder| {
        let mut way = application(port);
        way.push((
            "AZURE_FEDERATED_TOKEN_FILE",
            file(folder, "token", IDENTITY),
        ));
        way
    }),
    ("a machine's identity", |port, _| {
        vec![("AZURE_POD_IDENTITY_AUTHORITY_HOST", here(port))]
    }),
];

fn application(port: u16) -> Vec<(&'static str, String)> {
    vec![
        ("AZURE_TENANT_ID", "tenant".to_owned()),
        ("AZURE_CLIENT_ID", "application".to_owned()),
        ("AZURE_AUTHORITY_HOST", here(port)),
    ]
}

const GOOGLE: [Way; 4] = [
    ("a user", |port, folder| {
        let text = format!(
            r#"{{"type":"authorized_user","client_id":"c","client_secret":"hunter-client",
                "refresh_token":"hunter-refresh","token_uri":"{}/oauth2/token"}}"#,
            here(port)
        );
        application_default(folder, &text)
    }),
    ("a service account", |port, folder| {
        let key = include_str!("../../../runtime/src/blob/object/credentials/google/test_key.pem");
        let text = format!(
            r#"{{"type":"service_account","client_email":"suite@example.test",
                "private_key":{key:?},"token_uri":"{}/oauth2/token"}}"#,
            here(port)
        );
        application_default(folder, &text)
    }),
    ("an external account", |port, folder| {
        let token = file(folder, "token", IDENTITY);
        let text = format!(
            r#"{{"type":"external_account","audience":"a","token_url":"{}/google-sts",
                "subject_token_type":"urn:ietf:params:oauth:token-type:jwt",
                "credential_source":{{"file":"{token}"}}}}"#,
            here(port)
        );
        application_default(folder, &text)
    }),
    ("a machine's service account", |port, _| {
        vec![("GCE_METADATA_HOST", format!("127.0.0.1:{port}"))]
    }),
];

fn application_default(folder: &Path, text: &str) -> Vec<(&'static str, String)> {
    let path = file(folder, "google.json", text);
    vec![("GOOGLE_APPLICATION_CREDENTIALS", path)]
}

/// Runs a full cycle with the keys of one way, and judges what it did.
fn run(golden: &Golden, place: &Place, (name, way): Way, lives: Lives) {
    let Some(user) = User::carried(golden, place) else {
        return;
    };
    let what = format!("{name} at {}", place.location);
    let gate = TokenGate::before(place.port, lives, DELAY);
    let folder = TempDir::new().unwrap();
    let mut command = user.command(&FULL, &place.clone().through(gate.port()));
    for own in [
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AZURE_STORAGE_KEY",
        "GOOGLE_APPLICATION_CREDENTIALS",
    ] {
        command.env_remove(own);
    }
    command.envs(way(gate.port(), folder.path()));
    let told = user.told(&mut command, &what);
    assert_eq!(told.exit, Some(0), "{what}: {}", told.all);
    assert!(!told.all.contains("hunter"), "{what}: a secret was told");
    assert!(gate.given() >= 3, "{what}: {} tokens", gate.given());
    if lives.told > lives.real {
        assert!(gate.refused() > 0, "{what}: {gate:?}");
    }
    user.judge(&what);
}

/// Goes all ways of a store at the same time; the first one with revoked tokens too.
fn run_all(ways: &[Way], place: fn() -> Option<Place>) {
    let golden = Golden::open("small-packs");
    let revoked = ways.iter().take(1).map(|way| (way, REVOKED));
    let all = ways.iter().map(|way| (way, SHORT)).chain(revoked);
    std::thread::scope(|scope| {
        for (way, lives) in all {
            let Some(place) = place() else {
                return;
            };
            let golden = &golden;
            scope.spawn(move || run(golden, &place, *way, lives));
        }
    });
}

#[test]
fn amazons_tokens_are_renewed_in_the_middle_of_a_run() {
    run_all(&AMAZON, s3);
}

#[test]
fn microsofts_tokens_are_renewed_in_the_middle_of_a_run() {
    run_all(&MICROSOFT, azure);
}

#[test]
fn googles_tokens_are_renewed_in_the_middle_of_a_run() {
    run_all(&GOOGLE, || Some(google()));
}
