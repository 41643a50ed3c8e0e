//! The manifests as the page has a user write them, with a repository in an object store.
//!
//! The bucket is in SeaweedFS, which is said once where it is not installed; keys come from the
//! Secret that Velero has. What a network adds to memory fits in the limit of the manifests.

use careen::blob::Storage;
use careen::blob::object::WireLimits;
use careen::blob::object::location::Location;
use kit::data_dir::DataDir;
use kit::manifests::Renderer;
use kit::object_stores::{carry_there, s3};
use servers::seaweedfs;

use super::life::ended;
use super::site::{BACKUPS, Site};

/// Goal: the page's overlay does what is due in a bucket; method: its text, with the options that a
/// server without TLS at a port of its own needs.
#[test]
fn the_overlay_of_the_page_works_in_a_bucket() {
    let (Some(renderer), Some(place)) = (Renderer::find(), s3()) else {
        return;
    };
    let Location::S3(location) = &place.location else {
        unreachable!("it is S3");
    };
    let endpoint = location.endpoint.as_deref().unwrap();
    let text = super::page::kustomization()
        .replace(
            "s3://BUCKET/PREFIX/kopia/NAMESPACE/",
            &place.location.to_string(),
        )
        .replace(
            "AWS_REGION: eu-central-1",
            &format!("AWS_REGION: us-east-1\n        AWS_ENDPOINT_URL_S3: http://{endpoint}"),
        );
    let more = "
  - target: {kind: CronJob, name: careen}
    patch: |
      - op: add
        path: /spec/jobTemplate/spec/template/spec/containers/0/args/-
        value: --insecure-plain-http
";
    let objects = renderer.overlay(&(text + more));
    let Some(site) = Site::of(objects, &BACKUPS) else {
        return;
    };
    let keys = format!(
        "[default]\naws_access_key_id={}\naws_secret_access_key={}\n",
        seaweedfs::ACCESS_KEY,
        seaweedfs::SECRET_KEY
    );
    site.secret("cloud-credentials", "cloud", &keys);
    let local = DataDir::open(&site.repository()).unwrap();
    let storage = Storage::new(place.store(&WireLimits::default()));
    carry_there(&local, &storage);
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
    // Keys that are wrong are no reason to try again.
    site.secret(
        "cloud-credentials",
        "cloud",
        &keys.replace("testtest", "wrong"),
    );
    site.job("wrong-keys", |_| ());
    let report = site.kubelet.run(&site.pod("wrong-keys")).unwrap();
    ended(&report, 50, "configuration");
    assert_eq!(site.end("wrong-keys").1, "PodFailurePolicy");
}
