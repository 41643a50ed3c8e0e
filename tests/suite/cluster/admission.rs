//! The API server takes every manifest, and lets every pod in that they lead to.
//!
//! All renderings: server-side apply, strict about fields, first without effect and then really;
//! and a pod of every template, under Pod Security `restricted`.

use std::collections::BTreeMap;

use kit::kubernetes::{self, Kubernetes};
use kit::manifests::{Renderer, collection, into_namespace, pod_template};
use serde_json::{Value, json};

/// Every value of the chart that changes what is rendered.
const FULL: &str = r#"
image: {digest: "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"}
imagePullSecrets: [{name: pull}]
repository: az://container/prefix/
settings: {AZURE_STORAGE_ACCOUNT: account}
ca: {configMap: careen-ca, key: root.pem}
extraArgs: [--max-download=10GiB]
memory: 128Mi
schedule: M * * * *
scratch: {type: emptyDir, size: 20Gi, quota: 18GiB}
strategies: |
  [splitting]
  plugin = "/plugin-files/price.wasm"
  blake3 = "00"
plugins:
  volume: {image: {reference: "registry.example/plugins@sha256:01", pullPolicy: IfNotPresent}}
  compile: [price.wasm]
metrics: {push: "http://push:9091"}
alerts: {enabled: true}
dashboard: {enabled: true}
networkPolicy: {ports: [443, 9091]}
velero: {enabled: true}
once: {enabled: true}
podLabels: {velero.io/repo-name: ns-default-kopia}
podAnnotations: {a: b}
nodeSelector: {kubernetes.io/arch: amd64}
tolerations: [{operator: Exists}]
affinity:
  nodeAffinity:
    preferredDuringSchedulingIgnoredDuringExecution:
      - weight: 1
        preference: {matchExpressions: [{key: spot, operator: DoesNotExist}]}
serviceAccount: {annotations: {eks.amazonaws.com/role-arn: "arn:aws:iam::1:role/careen"}}
"#;

/// Components of `runtime/deploy/components`.
const COMPONENTS: [&str; 8] = [
    "alerts",
    "ca",
    "dashboard",
    "emptydir-scratch",
    "metrics-push",
    "plugins",
    "velero",
    "workload-identity",
];

fn overlay(components: &[&str]) -> String {
    let path = |name: &&str| format!("  - ../careen/runtime/deploy/components/{name}\n");
    let lines: String = components.iter().map(path).collect();
    format!("resources: [../careen/runtime/deploy/base]\ncomponents:\n{lines}")
}

/// Everything that can be rendered, by what it is.
fn renderings(renderer: Renderer) -> BTreeMap<String, Vec<Value>> {
    let mut all = BTreeMap::new();
    let listed = kit::workspace_root().join("runtime/deploy/components");
    let listed = std::fs::read_dir(listed).unwrap().count();
    assert_eq!(listed, COMPONENTS.len(), "a component is not tried");
    for component in COMPONENTS {
        all.insert(component.into(), renderer.overlay(&overlay(&[component])));
    }
    all.insert("all".into(), renderer.overlay(&overlay(&COMPONENTS)));
    all.insert("base".into(), renderer.kustomize("base"));
    all.insert("once".into(), renderer.kustomize("once"));
    for (name, values) in [
        ("helm", "{}"),
        ("helm, full", FULL),
        ("helm, openshift", "{openshift: true}"),
        (
            "helm, no keys",
            "{credentials: {secret: \"\"}, networkPolicy: {enabled: false}}",
        ),
        (
            "helm, all of Velero's",
            "{velero: {enabled: true, all: true}, jitter: 0s}",
        ),
        (
            "helm, plugins of a claim",
            "{plugins: {volume: {persistentVolumeClaim: {claimName: files}}, compile: [a.wasm]}}",
        ),
    ] {
        all.insert(name.into(), renderer.helm(values));
    }
    all
}

/// The kind of the Prometheus operator, with the fields that alerts have.
fn install_prometheus_rules(server: &Kubernetes) {
    let text = json!({ "type": "string" });
    let texts = json!({ "type": "object", "additionalProperties": text });
    let rule = json!({
        "type": "object", "required": ["expr"],
        "properties": {
            "alert": text, "record": text, "for": text, "labels": texts, "annotations": texts,
            "expr": { "x-kubernetes-int-or-string": true },
        },
    });
    let group = json!({
        "type": "object", "required": ["name"],
        "properties": {
            "name": text, "interval": text, "rules": { "type": "array", "items": rule },
        },
    });
    let spec = json!({
        "type": "object",
        "properties": { "groups": { "type": "array", "items": group } },
    });
    server.install_kind(&json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": { "name": "prometheusrules.monitoring.coreos.com" },
        "spec": {
            "group": "monitoring.coreos.com", "scope": "Namespaced",
            "names": { "kind": "PrometheusRule", "plural": "prometheusrules" },
            "versions": [{
                "name": "v1", "served": true, "storage": true,
                "schema": { "openAPIV3Schema": {
                    "type": "object", "required": ["spec"], "properties": { "spec": spec },
                } },
            }],
        },
    }));
}

/// Returns the pod that a template leads to.
fn pod(template: &Value) -> Value {
    let mut metadata = template["metadata"].clone();
    metadata["name"] = "tried".into();
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"],
    })
}

/// Goal: no manifest is refused, by any of a real API server's checks; method: every rendering in a
/// namespace of its own, with no field that it does not know.
#[test]
fn every_manifest_is_taken() {
    let (Some(server), Some(renderer)) = (kubernetes::shared(), Renderer::find()) else {
        return;
    };
    install_prometheus_rules(server);
    for (rendering, objects) in renderings(renderer) {
        let namespace = server.restricted_namespace();
        let mut pods = 0;
        for mut object in objects {
            into_namespace(&mut object, &namespace);
            let what = format!("{rendering}: {}", object["kind"]);
            for dry_run in [true, false] {
                let taken = server.apply_strictly(&collection(&object), &object, dry_run);
                taken.unwrap_or_else(|refusal| panic!("{what}: {}", refusal.message));
            }
            let Some(template) = pod_template(&object) else {
                continue;
            };
            let path = format!("/api/v1/namespaces/{namespace}/pods");
            let admitted = server.try_post(&path, &pod(template));
            admitted.unwrap_or_else(|refusal| panic!("{what}: {}", refusal.message));
            pods += 1;
        }
        assert!(pods > 0, "{rendering} has no pod");
    }
}

/// Goal: the checks above can fail; method: a field that is misspelt, a pod with rights.
#[test]
fn what_is_not_restricted_is_refused() {
    let (Some(server), Some(renderer)) = (kubernetes::shared(), Renderer::find()) else {
        return;
    };
    let namespace = server.restricted_namespace();
    let objects = renderer.kustomize("once");
    let mut job = objects
        .into_iter()
        .find(|object| object["kind"] == "Job")
        .unwrap();
    into_namespace(&mut job, &namespace);
    let path = format!("/api/v1/namespaces/{namespace}/pods");
    let mut tried = pod(pod_template(&job).unwrap());
    server.try_post(&path, &tried).unwrap();
    tried["spec"]["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = true.into();
    let refusal = server.try_post(&path, &tried).unwrap_err();
    assert!(
        refusal.message.contains("violates PodSecurity"),
        "{}",
        refusal.message
    );
    job["spec"]["backofLimit"] = 1.into();
    let refusal = server
        .apply_strictly(&collection(&job), &job, true)
        .unwrap_err();
    assert!(
        refusal.message.contains("backofLimit"),
        "{}",
        refusal.message
    );
}
