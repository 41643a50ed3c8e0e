//! A strategy of the user's own in a Job: compiled by the init container, pinned, used by the run.
//!
//! The component lies in a ConfigMap, as files of links to links; the compiler has a memory group
//! of its own and leaves its code on the pod's scratch.

use k8s_openapi::ByteString;
use kit::manifests::Renderer;
use serde_json::json;

use super::life::ended;
use super::site::{ALL, BACKUPS, Site};

/// Goal: a pinned plugin is what decides, and another content than the pinned one is refused, which
/// fails the Job at once.
#[test]
fn a_plugin_of_ones_own_decides() {
    let Some(renderer) = Renderer::find() else {
        return;
    };
    let file = kit::workspace_root().join("plugins/examples/built/splitting-by-price.wasm");
    let bytes = std::fs::read(file).unwrap();
    let digest = blake3::hash(&bytes).to_hex();
    let values = format!(
        "
repository: /repository
credentials: {{secret: \"\"}}
settings: {{CAREEN_LOG: \"warn,careen::plugin=debug\"}}
strategies: |
  [splitting]
  plugin = \"/plugin-files/price.wasm\"
  blake3 = \"{digest}\"
plugins:
  volume: {{configMap: {{name: careen-plugins}}}}
  compile: [price.wasm]
"
    );
    let Some(site) = Site::of(renderer.helm(&values), &BACKUPS) else {
        return;
    };
    let files = |bytes: &[u8]| {
        json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": { "name": "careen-plugins", "namespace": site.namespace },
            "binaryData": { "price.wasm": ByteString(bytes.to_vec()) },
        })
    };
    site.apply(&files(&bytes));
    site.job("own", |_| ());
    let Some(report) = site.kubelet.run(&site.pod("own")) else {
        return;
    };
    ended(&report, 0, "done");
    let said = report.run.stdout_text();
    assert!(said.contains("splitting-by-price"), "{said}");
    assert!(
        !said.contains("compiling"),
        "the run compiles nothing: {said}"
    );
    assert_eq!(site.end("own").0, "Complete");

    // A custom section at the end: another content, and as good a component.
    let other = [&bytes[..], &[0, 2, 1, b'x']].concat();
    site.apply(&files(&other));
    site.job("another", |_| ());
    let report = site.kubelet.run(&site.pod("another")).unwrap();
    ended(&report, 50, "configuration");
    assert_eq!(site.end("another").1, "PodFailurePolicy");
    site.verify(&ALL);
}

/// The page's overlay with plugins, whose compiler has a pin, for a repository in a folder.
const PINNED: &str = r#"
resources: [../careen/runtime/deploy/base]
components: [../careen/runtime/deploy/components/plugins]
patches:
  - target: {kind: CronJob, name: careen}
    patch: |
      - op: replace
        path: /spec/jobTemplate/spec/template/spec/initContainers/0/args/3
        value: /plugin-files/price.wasm@blake3:PIN
"#;

/// The chart's values for the same.
const PINNED_VALUES: &str = r#"
plugins:
  volume: {configMap: {name: careen-plugins}}
  compile: ["price.wasm@blake3:PIN"]
"#;

/// Goal: where the compiler refuses, which comes before any run, the Job fails at once too; method:
/// a component with another content than its pin, with kustomize and with Helm.
#[test]
fn a_plugin_that_the_compiler_refuses_fails_the_job_at_once() {
    let Some(renderer) = Renderer::find() else {
        return;
    };
    let file = kit::workspace_root().join("plugins/examples/built/splitting-by-price.wasm");
    let bytes = std::fs::read(file).unwrap();
    let pinned = |text: &str| text.replace("PIN", &"0".repeat(64));
    for objects in [
        renderer.overlay(&pinned(PINNED)),
        renderer.helm(&pinned(PINNED_VALUES)),
    ] {
        let Some(site) = Site::of(objects, &BACKUPS) else {
            return;
        };
        site.secret("cloud-credentials", "cloud", "");
        site.apply(&json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": { "name": "careen-plugins", "namespace": site.namespace },
            "binaryData": { "price.wasm": ByteString(bytes.clone()) },
        }));
        site.job("refused", |_| ());
        let Some(report) = site.kubelet.run(&site.pod("refused")) else {
            return;
        };
        let told = ended(&report, 50, "configuration");
        assert_eq!(told["command"], "plugin compile", "{told}");
        assert_eq!(told["code"], "plugin-digest-mismatch", "{told}");
        let (condition, reason, status) = site.end("refused");
        assert_eq!(
            (&*condition, &*reason),
            ("Failed", "PodFailurePolicy"),
            "{status}"
        );
        assert_eq!(status["failed"], 1, "{status}");
    }
}
