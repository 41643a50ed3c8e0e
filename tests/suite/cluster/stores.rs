//! The manifests as the page has a user write them, with a repository in an object store.
//!
//! The bucket is in SeaweedFS, which is said once where it is not installed; keys come from the
//! Secret that Velero has. What a network adds to memory fits in the limit of the manifests.

use std::path::Path;

use careen::blob::Storage;
use careen::blob::object::WireLimits;
use careen::blob::object::location::Location;
use kit::data_dir::DataDir;
use kit::manifests::Renderer;
use kit::object_stores::{Place, carry_there, s3};
use servers::seaweedfs;

use super::life::ended;
use super::site::{BACKUPS, REPOSITORY, Site};

/// Returns the address of a place in S3.
pub(super) fn endpoint(place: &Place) -> String {
    match &place.location {
        Location::S3(place) => place.endpoint.clone().unwrap(),
        other => unreachable!("{other} is S3"),
    }
}

/// Returns the keys of it, as Velero has them.
pub(super) fn keys() -> String {
    format!(
        "[default]\naws_access_key_id={}\naws_secret_access_key={}\n",
        seaweedfs::ACCESS_KEY,
        seaweedfs::SECRET_KEY
    )
}

/// Carries a repository to a place.
pub(super) fn carry(repository: &Path, place: &Place) {
    let local = DataDir::open(repository).unwrap();
    carry_there(&local, &Storage::new(place.store(&WireLimits::default())));
}

/// Goal: the page's overlay does what is due in a bucket, nothing of its keys is told, and wrong
/// ones fail the Job at once; method: its text, as for a server without TLS.
#[test]
fn the_overlay_of_the_page_works_in_a_bucket() {
    let (Some(renderer), Some(place)) = (Renderer::find(), s3()) else {
        return;
    };
    let (text, more) = super::page::overlay();
    let setting = format!(
        "AWS_REGION: us-east-1\n        AWS_ENDPOINT_URL_S3: http://{}",
        endpoint(&place)
    );
    let text = text
        .replace(
            "s3://BUCKET/PREFIX/kopia/NAMESPACE/",
            &place.location.to_string(),
        )
        .replace("AWS_REGION: eu-central-1", &setting);
    let (more, _ca) = more.split_once("components:").unwrap();
    let objects = renderer.overlay(&format!("{text}{more}"));
    let Some(site) = Site::of(objects, &BACKUPS) else {
        return;
    };
    site.secret("cloud-credentials", "cloud", &keys());
    carry(&site.repository(), &place);
    for (job, result) in [("careen-first", "done"), ("careen-second", "nothing-due")] {
        site.job(job, |_| ());
        let Some(report) = site.kubelet.run(&site.pod(job)) else {
            return;
        };
        let told = ended(&report, 0, result);
        assert_eq!(told["repository"], place.location.to_string(), "{told}");
        let all = format!("{report:?}");
        for secret in place.secrets() {
            assert!(!all.contains(secret), "{all}");
        }
        assert_eq!(site.end(job).0, "Complete");
    }
    let wrong = keys().replace(seaweedfs::SECRET_KEY, "wrong");
    site.secret("cloud-credentials", "cloud", &wrong);
    site.job("wrong-keys", |_| ());
    let report = site.kubelet.run(&site.pod("wrong-keys")).unwrap();
    ended(&report, 50, "configuration");
    assert_eq!(site.end("wrong-keys").1, "PodFailurePolicy");
}

/// Goal: without keys a pod wants no Secret of them, and its account and its labels have what the
/// clouds' webhooks look for; method: the page's text, for a repository in a folder.
#[test]
fn a_run_without_keys_wants_no_secret_of_them() {
    let Some(renderer) = Renderer::find() else {
        return;
    };
    let no_keys = super::page::no_keys();
    let text = format!(
        "
resources: [../careen/runtime/deploy/base]
{no_keys}
  - target: {{kind: ConfigMap, name: careen}}
    patch: |
      - {{op: replace, path: /data/CAREEN_REPOSITORY, value: {REPOSITORY}}}
"
    );
    let objects = renderer.overlay(&text);
    let Some(site) = Site::of(objects, &BACKUPS) else {
        return;
    };
    let core = format!("/api/v1/namespaces/{}", site.namespace);
    let account = site
        .server
        .get(&format!("{core}/serviceaccounts"), "careen");
    let account = account.unwrap()["metadata"]["annotations"].clone();
    for name in [
        "eks.amazonaws.com/role-arn",
        "azure.workload.identity/client-id",
        "iam.gke.io/gcp-service-account",
    ] {
        assert!(account[name].is_string(), "{account}");
    }
    site.job("no-keys", |_| ());
    let pod = site.pod("no-keys");
    let made = site.server.get(&format!("{core}/pods"), &pod).unwrap();
    let labels = &made["metadata"]["labels"];
    assert_eq!(labels["azure.workload.identity/use"], "true", "{labels}");
    let Some(report) = site.kubelet.run(&pod) else {
        return;
    };
    ended(&report, 0, "done");
    assert_eq!(site.end("no-keys").0, "Complete");
}
