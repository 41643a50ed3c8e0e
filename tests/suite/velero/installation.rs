//! An installation of Velero in a namespace: its objects and secrets, and stores in folders.
//!
//! Velero itself does not run: its objects are written as it leaves them.

use std::fs;
use std::io::{BufRead, BufReader, Lines};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use kit::golden::Golden;
use kit::kubernetes::{self, Kubernetes};
use kit::program;
use serde_json::{Value, json};
use tempfile::TempDir;

/// The repository that Kopia 0.17.0 made in Velero's way.
const GOLDEN: &str = "velero-0.17.0";

/// The prefix of the storage location `default`.
const PREFIX: &str = "cluster-1";

/// Velero in a namespace of its own.
pub(crate) struct Installation<'s> {
    pub(crate) server: &'s Kubernetes,
    pub(crate) namespace: String,
    pub(crate) kubeconfig: PathBuf,
    /// Of commands, as `--memory`.
    pub(crate) memory: &'static str,
    folder: TempDir,
}

/// What a command said.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) exit: i32,
    pub(crate) lines: Vec<Value>,
    pub(crate) text: String,
}

impl Answer {
    /// Returns the bodies of the lines of a kind: `row`, `report`.
    pub(crate) fn all(&self, kind: &str) -> Vec<Value> {
        let lines = self.lines.iter().filter(|line| line["kind"] == kind);
        lines.map(|line| line[kind].clone()).collect()
    }

    /// Returns why the command ended early.
    pub(crate) fn error(&self) -> &Value {
        let mut errors = self.lines.iter().filter(|line| line["kind"] == "error");
        errors
            .next()
            .unwrap_or_else(|| panic!("no error in {}", self.text))
    }

    /// Returns the row of a repository.
    pub(crate) fn row(&self, name: &str) -> Value {
        let mut rows = self.all("row").into_iter();
        let row = rows.find(|row| row["name"] == name);
        row.unwrap_or_else(|| panic!("no row {name} in {}", self.text))
    }
}

/// Returns an installation in the server of this process.
pub(crate) fn installation() -> Option<Installation<'static>> {
    program::careen()?;
    Some(Installation::on(kubernetes::shared()?))
}

impl<'s> Installation<'s> {
    /// Installs in a fresh namespace: the password, and the storage location `default`, a folder.
    pub(crate) fn on(server: &'s Kubernetes) -> Self {
        let made = Self::empty(server);
        made.secret(
            "velero-repo-credentials",
            "repository-password",
            "static-passw0rd\n",
        );
        made.location("default", &made.folder_location());
        made
    }

    /// Returns a fresh namespace without Velero.
    pub(crate) fn empty(server: &'s Kubernetes) -> Self {
        Self::within(server, server.namespace())
    }

    /// Returns a namespace of another's, without Velero.
    pub(crate) fn within(server: &'s Kubernetes, namespace: String) -> Self {
        // Not in the system's directory, which may lie in memory.
        let target = kit::workspace_root().join("target");
        let folder = tempfile::Builder::new()
            .prefix("velero-")
            .tempdir_in(target);
        Self {
            namespace,
            kubeconfig: server.kubeconfig(),
            memory: "128MiB",
            folder: folder.unwrap(),
            server,
        }
    }

    pub(crate) fn collection(&self, plural: &str) -> String {
        let version = if plural == "datauploads" {
            "v2alpha1"
        } else {
            "v1"
        };
        let namespace = &self.namespace;
        match plural {
            "secrets" | "pods" | "events" => format!("/api/v1/namespaces/{namespace}/{plural}"),
            "jobs" => format!("/apis/batch/v1/namespaces/{namespace}/{plural}"),
            "leases" => format!("/apis/coordination.k8s.io/v1/namespaces/{namespace}/{plural}"),
            _ => format!("/apis/velero.io/{version}/namespaces/{namespace}/{plural}"),
        }
    }

    pub(crate) fn post(&self, plural: &str, body: &Value) -> Value {
        let made = self.server.post(&self.collection(plural), body);
        made.unwrap_or_else(|refusal| panic!("{plural}: {}", refusal.message))
    }

    pub(crate) fn secret(&self, name: &str, key: &str, text: &str) {
        let body = json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": { "name": name }, "stringData": { key: text },
        });
        self.post("secrets", &body);
    }

    pub(crate) fn folder_location(&self) -> Value {
        json!({
            "provider": "velero.io/fs",
            "config": { "fspath": self.folder.path() },
            "objectStorage": { "bucket": "unused", "prefix": PREFIX },
        })
    }

    pub(crate) fn location(&self, name: &str, spec: &Value) {
        let body = json!({
            "apiVersion": "velero.io/v1", "kind": "BackupStorageLocation",
            "metadata": { "name": name }, "spec": spec,
        });
        self.post("backupstoragelocations", &body);
    }

    /// Writes a backup of a volume of `namespace` that is at work.
    pub(crate) fn begin_backup(&self, name: &str, namespace: &str, location: &str) {
        let body = json!({
            "apiVersion": "velero.io/v1", "kind": "PodVolumeBackup",
            "metadata": { "name": name },
            "spec": {
                "backupStorageLocation": location, "node": "n", "repoIdentifier": "",
                "pod": { "namespace": namespace, "name": "p" }, "volume": "v",
                "uploaderType": "kopia",
            },
            "status": { "phase": "InProgress" },
        });
        self.post("podvolumebackups", &body);
    }

    pub(crate) fn end_backup(&self, name: &str) {
        let done = json!({ "status": { "phase": "Completed" } });
        self.change("podvolumebackups", name, &done);
    }

    /// Changes fields of an object.
    pub(crate) fn change(&self, plural: &str, name: &str, patch: &Value) {
        let changed = self.server.merge(&self.collection(plural), name, patch);
        changed.unwrap_or_else(|refusal| panic!("{plural}: {}", refusal.message));
    }

    /// Returns who holds the lease of a repository; `None` where there is no lease.
    pub(crate) fn holder(&self, repository: &str) -> Option<String> {
        let leases = self.collection("leases");
        let lease = self
            .server
            .get(&leases, &format!("careen-{repository}"))
            .ok()?;
        lease["spec"]["holderIdentity"].as_str().map(str::to_owned)
    }

    /// Records a repository of `namespace` in the location; returns its name.
    pub(crate) fn record(&self, namespace: &str, location: &str) -> String {
        self.record_with(namespace, location, "kopia", "1h0m0s")
    }

    pub(crate) fn record_with(
        &self,
        namespace: &str,
        location: &str,
        kind: &str,
        frequency: &str,
    ) -> String {
        let name = format!("{namespace}-{location}-{kind}");
        let body = json!({
            "apiVersion": "velero.io/v1", "kind": "BackupRepository",
            "metadata": { "name": name, "labels": { "velero.io/volume-namespace": namespace } },
            "spec": {
                "volumeNamespace": namespace, "backupStorageLocation": location,
                "repositoryType": kind, "maintenanceFrequency": frequency,
                "resticIdentifier": "none",
            },
            "status": { "phase": "Ready", "lastMaintenanceTime": "2026-08-28T05:00:00Z" },
        });
        self.post("backuprepositories", &body);
        name
    }

    /// Returns where a repository of the location `default` lies.
    pub(crate) fn folder_of(&self, namespace: &str) -> PathBuf {
        self.folder
            .path()
            .join(PREFIX)
            .join("kopia")
            .join(namespace)
    }

    /// Makes a repository in the location `default`, and records it; returns its name.
    pub(crate) fn repository(&self, namespace: &str) -> String {
        self.repository_from(GOLDEN, namespace)
    }

    /// The same from another golden repository.
    pub(crate) fn repository_from(&self, golden: &str, namespace: &str) -> String {
        let folder = self.folder_of(namespace);
        fs::create_dir_all(folder.parent().unwrap()).unwrap();
        Golden::open(golden).data().copy_to(&folder).unwrap();
        self.record(namespace, "default")
    }

    pub(crate) fn get(&self, name: &str) -> Value {
        let found = self
            .server
            .get(&self.collection("backuprepositories"), name);
        found.expect("it is there")
    }

    /// Returns a command of the program in this installation.
    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(program::careen().expect("the test asked for it"));
        command
            .arg("velero")
            .args(words)
            .args(["--namespace", &self.namespace, "--kubeconfig"])
            .arg(&self.kubeconfig)
            .args(["--json", "--memory", self.memory, "--scratch"])
            .arg(self.scratch())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    fn scratch(&self) -> PathBuf {
        let scratch = self.folder.path().join("scratch");
        fs::create_dir_all(&scratch).unwrap();
        scratch
    }

    /// Runs a command to its end.
    pub(crate) fn careen(&self, words: &[&str]) -> Answer {
        let output = self.command(words).output().unwrap();
        answer(output)
    }

    /// Starts a command.
    pub(crate) fn start(&self, words: &[&str]) -> Running {
        let mut command = self.command(words);
        let mut child = command.stderr(Stdio::inherit()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Running {
            child,
            lines,
            seen: Vec::new(),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }
}

/// A command at work.
pub(crate) struct Running {
    pub(crate) child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    seen: Vec<String>,
}

impl Running {
    /// Reads on until a line has all of `words`, which may be in a line that was read before.
    pub(crate) fn until(&mut self, words: &[&str]) {
        let has = |line: &String| words.iter().all(|word| line.contains(word));
        while !self.seen.iter().any(has) {
            let line = self.lines.next();
            let line = line.unwrap_or_else(|| panic!("no {words:?} in {:#?}", self.seen));
            self.seen.push(line.unwrap());
        }
    }

    /// Reads to the end.
    pub(crate) fn ended(mut self) -> Answer {
        self.seen.extend(self.lines.by_ref().map(Result::unwrap));
        let status = self.child.wait().unwrap();
        let text = self.seen.join("\n");
        told(status.code(), text, "")
    }
}

/// Reads what a command said.
pub(crate) fn answer(output: std::process::Output) -> Answer {
    let text = String::from_utf8(output.stdout).unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr);
    told(output.status.code(), text, &complaint)
}

fn told(exit: Option<i32>, text: String, complaint: &str) -> Answer {
    let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
    Answer {
        exit: exit.unwrap_or(-1),
        lines: lines.collect(),
        text: format!("{text}{complaint}"),
    }
}
