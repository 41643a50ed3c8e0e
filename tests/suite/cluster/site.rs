//! A user's installation: the manifests in a restricted namespace, a repository on a claim, and a
//! kubelet for the pods that the Job controller makes.
//!
//! The repository is in a folder, so a claim is mounted on top (`stores` has the other kind). Jobs
//! are made of the CronJob as `kubectl create job --from` makes them.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use careen::clock::{Clock, SystemClock};
use careen::maintenance::lease::{LEASE, Lease};
use kit::aging::age_schedule;
use kit::cycle::schedule;
use kit::image::Image;
use kit::index_work::open;
use kit::kubelet::Kubelet;
use kit::kubernetes::{self, Kubernetes};
use kit::manifests::{Renderer, collection, into_namespace};
use serde_json::{Value, json};
use tempfile::TempDir;

/// How long the controllers may take: one waits 10 s before it tries a pod again, then 20.
const CONTROLLERS_WAIT: Duration = Duration::from_secs(120);

/// Velero's password.
pub(super) const PASSWORD: &str = "static-passw0rd";

/// Where pods find the repository.
pub(super) const REPOSITORY: &str = "/repository";

/// Two small backups with garbage.
pub(super) const BACKUPS: [&str; 4] = [
    "--snapshots=4",
    "--directories=4",
    "--files=50",
    "--sessions=4",
];

/// How they are checked.
pub(super) const ALL: [&str; 3] = ["--index", "--snapshots", "--contents"];

/// An index whose compaction takes some seconds.
pub(super) const INDEX: [&str; 2] = ["--entries=600000", "--index-blobs=600"];

/// The chart's values for a repository in a folder, which has no keys.
const VALUES: &str = "
image: {repository: registry.example/careen}
repository: /repository
credentials: {secret: \"\"}
";

pub(super) struct Site {
    pub(super) server: &'static Kubernetes,
    pub(super) namespace: String,
    pub(super) kubelet: Kubelet<'static>,
    /// The program of the image, which runs on this machine too.
    program: PathBuf,
    /// Where the repository lies.
    folder: TempDir,
    /// Pods that were run.
    seen: RefCell<BTreeSet<String>>,
}

impl Site {
    /// Applies the manifests, and makes a repository of that shape.
    pub(super) fn new(shape: &[&str]) -> Option<Self> {
        let renderer = Renderer::find()?;
        Self::of(renderer.helm(VALUES), shape)
    }

    /// The same with other manifests.
    pub(super) fn of(objects: Vec<Value>, shape: &[&str]) -> Option<Self> {
        let server = kubernetes::shared_with_controllers()?;
        let site = Self::empty(server.restricted_namespace(), shape)?;
        for mut object in objects {
            into_namespace(&mut object, &site.namespace);
            mount_repository(&mut object);
            begin_at_once(&mut object);
            site.apply(&object);
        }
        Some(site)
    }

    /// Makes a repository and Velero's password, and applies nothing.
    pub(super) fn empty(namespace: String, shape: &[&str]) -> Option<Self> {
        let server = kubernetes::shared_with_controllers()?;
        let image = Image::find_or_make()?;
        let folder = tempfile::tempdir_in(kit::disk()).unwrap();
        let program = image.root.join("careen");
        let made = Command::new(&program)
            .args(["demo", "--no-run", "--scratch"])
            .arg(folder.path())
            .arg("--keep")
            .arg(folder.path().join("repository"))
            .args(shape)
            .output();
        let made = made.unwrap();
        assert!(made.status.success(), "{made:?}");
        let mut kubelet = Kubelet::new(server, &namespace, image);
        let repository = folder.path().join("repository");
        kubelet.claims.insert("repository".into(), repository);
        let site = Self {
            server,
            namespace,
            kubelet,
            program,
            folder,
            seen: RefCell::default(),
        };
        site.secret("velero-repo-credentials", "repository-password", PASSWORD);
        Some(site)
    }

    pub(super) fn apply(&self, object: &Value) {
        let taken = self
            .server
            .apply_strictly(&collection(object), object, false);
        taken.unwrap_or_else(|refusal| panic!("{}: {}", object["kind"], refusal.message));
    }

    /// Makes a Secret, or changes it.
    pub(super) fn secret(&self, name: &str, key: &str, text: &str) {
        self.apply(&json!({
            "apiVersion": "v1", "kind": "Secret", "stringData": { key: text },
            "metadata": { "name": name, "namespace": self.namespace },
        }));
    }

    /// Returns the path of a collection of the batch API.
    fn batch(&self, plural: &str) -> String {
        format!("/apis/batch/v1/namespaces/{}/{plural}", self.namespace)
    }

    /// Changes the CronJob by a merge patch.
    pub(super) fn change(&self, patch: &Value) {
        let changed = self.server.merge(&self.batch("cronjobs"), "careen", patch);
        changed.unwrap_or_else(|refusal| panic!("{}", refusal.message));
    }

    /// Changes an entry of the settings.
    pub(super) fn set(&self, name: &str, value: &str) {
        let path = format!("/api/v1/namespaces/{}/configmaps", self.namespace);
        let patch = json!({ "data": { name: value } });
        let changed = self.server.merge(&path, "careen", &patch);
        changed.unwrap_or_else(|refusal| panic!("{}", refusal.message));
    }

    /// Makes a Job of the CronJob, with changes to its container.
    pub(super) fn job(&self, name: &str, change: impl FnOnce(&mut Value)) {
        let cron = self.server.get(&self.batch("cronjobs"), "careen").unwrap();
        let template = &cron["spec"]["jobTemplate"];
        let mut spec = template["spec"].clone();
        change(&mut spec["template"]["spec"]["containers"][0]);
        let job = json!({
            "apiVersion": "batch/v1", "kind": "Job", "spec": spec,
            "metadata": {
                "name": name,
                "labels": template["metadata"]["labels"],
                "annotations": { "cronjob.kubernetes.io/instantiate": "manual" },
                "ownerReferences": [{
                    "apiVersion": "batch/v1", "kind": "CronJob", "name": "careen",
                    "uid": cron["metadata"]["uid"], "controller": true,
                }],
            },
        });
        let made = self.server.post(&self.batch("jobs"), &job);
        made.unwrap_or_else(|refusal| panic!("{}", refusal.message));
    }

    /// Waits for a pod of the Job that was not run yet.
    pub(super) fn pod(&self, job: &str) -> String {
        let path = format!("/api/v1/namespaces/{}/pods", self.namespace);
        let name = wait(&format!("a pod of {job}"), || {
            let pods = self.server.list(&path).unwrap();
            let of_job = |pod: &&Value| pod["metadata"]["labels"]["job-name"] == job;
            let names = pods.iter().filter(of_job).map(|pod| {
                let name = pod["metadata"]["name"].as_str();
                name.unwrap().to_owned()
            });
            let mut fresh = names.filter(|name| !self.seen.borrow().contains(name));
            fresh.next()
        });
        self.seen.borrow_mut().insert(name.clone());
        name
    }

    /// Evicts a pod, as a drain does.
    pub(super) fn evict(&self, pod: &str, grace_seconds: u32) {
        let path = format!("/api/v1/namespaces/{}/pods/{pod}/eviction", self.namespace);
        let eviction = json!({
            "apiVersion": "policy/v1", "kind": "Eviction", "metadata": { "name": pod },
            "deleteOptions": { "gracePeriodSeconds": grace_seconds },
        });
        let evicted = self.server.post(&path, &eviction);
        evicted.unwrap_or_else(|refusal| panic!("{}", refusal.message));
    }

    /// Waits until the Job is `Complete` or `Failed`; returns its status, and the reason.
    pub(super) fn end(&self, job: &str) -> (String, String, Value) {
        wait(&format!("the end of {job}"), || {
            let status = self.server.get(&self.batch("jobs"), job).unwrap()["status"].clone();
            let conditions = status["conditions"].as_array()?.iter();
            let mut ended = conditions.filter(|condition| {
                let kind = condition["type"].as_str().unwrap();
                ["Complete", "Failed"].contains(&kind) && condition["status"] == "True"
            });
            let ended = ended.next()?;
            let text = |name: &str| ended[name].as_str().unwrap_or_default().to_owned();
            Some((text("type"), text("reason"), status.clone()))
        })
    }

    /// Waits until a pod of the Job is counted as failed; returns the Job's status.
    pub(super) fn counted(&self, job: &str) -> Value {
        wait(&format!("a failure of {job}"), || {
            let status = self.server.get(&self.batch("jobs"), job).unwrap()["status"].clone();
            (status["failed"] == 1).then_some(status)
        })
    }

    /// Waits until a run has written the repository's schedule, where its lease is.
    pub(super) fn wait_for_lease(&self) {
        let schedule = self.repository().join("kopia.maintenance.f");
        wait("a lease", || schedule.exists().then_some(()));
    }

    /// Lets the lease of a run that died end, a moment after another pod has begun to wait for it.
    pub(super) fn end_lease(&self) {
        thread::sleep(Duration::from_secs(3));
        let repository = open(&self.repository(), PASSWORD, SystemClock.now()).unwrap();
        let lease = Lease::of(&schedule(&repository));
        assert!(lease.is_some(), "the lease of the run that died");
        age_schedule(&repository, LEASE).unwrap();
        // It is a new file: what `fsGroup` gave to the pod's group is given again.
        let group = fs::metadata(self.repository()).unwrap().gid();
        let file = self.repository().join("kopia.maintenance.f");
        chown(&file, None, Some(group)).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o660)).unwrap();
    }

    /// Waits for a Job of the CronJob that nobody but its schedule made; returns its name.
    pub(super) fn scheduled_job(&self) -> String {
        wait("a Job of the schedule", || {
            let jobs = self.server.list(&self.batch("jobs")).unwrap();
            let name = jobs.first()?["metadata"]["name"].as_str()?;
            Some(name.to_owned())
        })
    }

    /// Returns the repository on this machine.
    pub(super) fn repository(&self) -> PathBuf {
        self.folder.path().join("repository")
    }

    /// Checks the repository by the program, outside of the cluster: `--index` and so on.
    pub(super) fn verify(&self, what: &[&str]) {
        let verified = Command::new(&self.program)
            .args(["verify", "--memory=256MiB", "--scratch"])
            .arg(self.folder.path())
            .args(what)
            .arg(self.repository())
            .env("KOPIA_PASSWORD", PASSWORD)
            .output();
        let verified = verified.unwrap();
        let said = String::from_utf8_lossy(&verified.stdout);
        assert!(verified.status.success(), "{said}");
    }
}

/// Lets runs begin without the wait that the settings ask for.
fn begin_at_once(object: &mut Value) {
    if object["kind"] == "ConfigMap" && object["metadata"]["name"] == "careen" {
        let jitter = &mut object["data"]["CAREEN_JITTER"];
        assert_eq!(*jitter, "5m");
        *jitter = "0".into();
    }
}

/// Mounts the claim with the repository in every container of a CronJob.
fn mount_repository(object: &mut Value) {
    if object["kind"] != "CronJob" {
        return;
    }
    let pod = &mut object["spec"]["jobTemplate"]["spec"]["template"]["spec"];
    let volume = json!({
        "name": "repository", "persistentVolumeClaim": { "claimName": "repository" },
    });
    pod["volumes"].as_array_mut().unwrap().push(volume);
    let mounts = &mut pod["containers"][0]["volumeMounts"];
    let mount = json!({ "name": "repository", "mountPath": REPOSITORY });
    mounts.as_array_mut().unwrap().push(mount);
}

fn wait<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let since = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(since.elapsed() < CONTROLLERS_WAIT, "no {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Writes garbage over the first index blob below `folder`.
pub(super) fn damage_index(repository: &Path) {
    let mut folders = vec![repository.join("x")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                std::fs::write(path, [7; 200]).unwrap();
                return;
            }
        }
    }
    panic!("no index blob");
}
