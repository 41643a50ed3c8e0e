//! The manifests of `runtime/deploy` as objects, rendered by kustomize's and Helm's own code.
//!
//! A Go program (`tests/manifests`) renders; `.ci/kubernetes.sh render` builds it on first use. An
//! overlay is written as a user writes one, beside a copy of `runtime/deploy`. [`into_namespace`]
//! moves objects to a namespace of a test's own. Memory: the rendered text, some 30 KB.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use serde_json::Value;
use tempfile::TempDir;

use crate::kubernetes::built;

/// The namespace that the manifests name.
const NAMESPACE: &str = "velero";

/// The renderer.
#[derive(Clone, Copy, Debug)]
pub struct Renderer {
    program: &'static Path,
}

impl Renderer {
    /// Finds the renderer, or builds it; without Go one line says so.
    ///
    /// # Panics
    ///
    /// When it cannot be built, or when there is none and `CAREEN_KUBERNETES_REQUIRED` is set.
    pub fn find() -> Option<Self> {
        static FOUND: OnceLock<Option<PathBuf>> = OnceLock::new();
        let found = FOUND.get_or_init(|| built("render"));
        found.as_deref().map(|program| Self { program })
    }

    /// Builds a folder below `runtime/deploy`, as `kubectl apply -k` would.
    pub fn kustomize(self, folder: &str) -> Vec<Value> {
        self.render(&["kustomize", folder])
    }

    /// Builds an overlay: `kustomization` lies in a folder beside `careen/runtime/deploy`.
    pub fn overlay(self, kustomization: &str) -> Vec<Value> {
        let made = || -> io::Result<TempDir> {
            let folder = tempfile::tempdir()?;
            let deploy = folder.path().join("careen/runtime/deploy");
            fs::create_dir_all(folder.path().join("careen/runtime"))?;
            let from = crate::workspace_root().join("runtime/deploy");
            Command::new("cp")
                .arg("-R")
                .arg(from)
                .arg(deploy)
                .status()?;
            fs::create_dir(folder.path().join("my-careen"))?;
            let file = folder.path().join("my-careen/kustomization.yaml");
            fs::write(file, kustomization)?;
            Ok(folder)
        };
        let folder = made().expect("an overlay can be written");
        let overlay = folder.path().join("my-careen");
        self.render(&["kustomize", &overlay.display().to_string()])
    }

    /// Renders the chart with `values` (YAML) above its own.
    pub fn helm(self, values: &str) -> Vec<Value> {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let file = folder.path().join("values.yaml");
        fs::write(&file, values).expect("values can be written");
        self.render(&["helm", &file.display().to_string()])
    }

    fn render(self, words: &[&str]) -> Vec<Value> {
        let rendered = Command::new(self.program)
            .arg("json")
            .args(words)
            .current_dir(crate::workspace_root().join("tests/manifests"))
            .output()
            .expect("the renderer runs");
        let said = String::from_utf8_lossy(&rendered.stderr);
        assert!(rendered.status.success(), "{words:?}: {said}");
        let objects: Vec<Value> = serde_json::from_slice(&rendered.stdout).expect("JSON");
        assert!(!objects.is_empty(), "{words:?} renders nothing");
        objects
    }
}

/// Moves an object, and the accounts that it names, to another namespace.
pub fn into_namespace(object: &mut Value, namespace: &str) {
    assert_eq!(object["metadata"]["namespace"], NAMESPACE, "{object}");
    object["metadata"]["namespace"] = namespace.into();
    let subjects = object.get_mut("subjects").and_then(Value::as_array_mut);
    for subject in subjects.into_iter().flatten() {
        assert_eq!(subject["namespace"], NAMESPACE, "{subject}");
        subject["namespace"] = namespace.into();
    }
}

/// Returns the path of an object's collection in its namespace.
pub fn collection(object: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let version = text(&object["apiVersion"]);
    let kind = text(&object["kind"]).to_lowercase();
    let plural = match kind.strip_suffix('y') {
        Some(stem) => format!("{stem}ies"),
        None => format!("{kind}s"),
    };
    let root = if version.contains('/') { "apis" } else { "api" };
    let namespace = text(&object["metadata"]["namespace"]);
    format!("/{root}/{version}/namespaces/{namespace}/{plural}")
}

/// Returns the pod's template of a CronJob or a Job.
pub fn pod_template(object: &Value) -> Option<&Value> {
    match object["kind"].as_str()? {
        "CronJob" => Some(&object["spec"]["jobTemplate"]["spec"]["template"]),
        "Job" => Some(&object["spec"]["template"]),
        _ => None,
    }
}
