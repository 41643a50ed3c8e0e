//! What a pod's specification asks for, read as a kubelet does, and all of it: see [`Fields`].
//!
//! What the manifests do not use is not there. What a container gets in any case (no new rights, a
//! read-only root, no capabilities) must be asked for in just that way. Two things are read and not
//! kept: the CPU limit and the seccomp profile.

use serde_json::{Value, json};

use super::fields::Fields;

/// A pod as a kubelet sees it.
#[derive(Debug)]
pub(super) struct PodSpec {
    /// User, group and group of the volumes.
    pub(super) user: u32,
    /// The service account.
    pub(super) account: String,
    /// Whether its containers get a token of it.
    pub(super) has_token: bool,
    pub(super) volumes: Vec<(String, Volume)>,
    pub(super) init: Vec<Container>,
    pub(super) container: Container,
}

/// Where a volume's content comes from.
#[derive(Debug)]
pub(super) enum Volume {
    /// Name and mode of the files.
    ConfigMap(String, u32),
    Secret(String, u32),
    /// Empty, and gone with the pod.
    Scratch,
    /// A claim, and whether it may only be read.
    Claim(String, bool),
}

#[derive(Debug)]
pub(super) struct Container {
    pub(super) name: String,
    pub(super) image: String,
    pub(super) args: Vec<String>,
    /// ConfigMaps whose entries are variables.
    pub(super) env_from: Vec<String>,
    pub(super) env: Vec<(String, Variable)>,
    pub(super) memory_bytes: u64,
    pub(super) mounts: Vec<Mount>,
}

#[derive(Debug)]
pub(super) enum Variable {
    Value(String),
    /// The memory limit of the container of that name.
    MemoryLimit(String),
}

#[derive(Debug)]
pub(super) struct Mount {
    pub(super) volume: String,
    pub(super) path: String,
    pub(super) read_only: bool,
}

impl PodSpec {
    /// Reads the specification of a pod that is bound to a node.
    pub(super) fn of(pod: &Value) -> Self {
        let mut spec = Fields::of("spec", &pod["spec"]);
        let volumes = spec.list("volumes");
        let init = spec.list("initContainers");
        let containers = spec.list("containers");
        let [container] = &containers[..] else {
            panic!("{} containers", containers.len());
        };
        let read = Self {
            user: user(spec.object("securityContext")),
            account: spec.text("serviceAccountName"),
            has_token: spec
                .take("automountServiceAccountToken")
                .as_bool()
                .expect("the manifests say whether there is a token"),
            volumes: volumes.iter().map(volume).collect(),
            init: init.iter().map(Container::of).collect(),
            container: Container::of(container),
        };
        spec.expect("restartPolicy", &["Never".into()]);
        spec.expect("enableServiceLinks", &[false.into()]);
        spec.expect("preemptionPolicy", &["PreemptLowerPriority".into()]);
        spec.expect("dnsPolicy", &["ClusterFirst".into()]);
        // What others read: the scheduler, admission, and ourselves at the pod's deletion.
        for name in ["serviceAccount", "nodeName", "schedulerName"] {
            spec.text(name);
        }
        spec.number("terminationGracePeriodSeconds");
        spec.number("priority");
        spec.list("tolerations");
        spec.end();
        read
    }
}

fn user(mut context: Fields) -> u32 {
    let user = context.number("runAsUser");
    context.expect("runAsGroup", &[user.into()]);
    context.expect("fsGroup", &[user.into()]);
    context.expect("fsGroupChangePolicy", &["OnRootMismatch".into()]);
    context.expect("runAsNonRoot", &[true.into()]);
    context.expect("seccompProfile", &[json!({ "type": "RuntimeDefault" })]);
    context.end();
    u32::try_from(user).expect("a user's number")
}

fn volume(volume: &Value) -> (String, Volume) {
    let mut fields = Fields::of("a volume", volume);
    let name = fields.text("name");
    let source = fields.left();
    let [kind] = &source[..] else {
        panic!("volume {name}: {source:?}");
    };
    let mut source = fields.object(kind);
    let mode = |source: &mut Fields| u32::try_from(source.number("defaultMode")).expect("a mode");
    let read = match kind.as_str() {
        "configMap" => Volume::ConfigMap(source.text("name"), mode(&mut source)),
        "secret" => Volume::Secret(source.text("secretName"), mode(&mut source)),
        "persistentVolumeClaim" => {
            let claim = source.text("claimName");
            Volume::Claim(claim, source.take("readOnly") == true)
        }
        "emptyDir" => {
            source.text("sizeLimit"); // the disk is as large as the test says
            Volume::Scratch
        }
        "ephemeral" => {
            let mut template = source.object("volumeClaimTemplate");
            template.take("metadata");
            let mut claim = template.object("spec");
            claim.expect("accessModes", &[json!(["ReadWriteOnce"])]);
            claim.expect("volumeMode", &["Filesystem".into()]);
            claim.object("resources").object("requests").text("storage");
            claim.end();
            template.end();
            Volume::Scratch
        }
        other => panic!("volume {name} is a {other}"),
    };
    source.end();
    fields.end();
    (name, read)
}

impl Container {
    fn of(container: &Value) -> Self {
        let mut fields = Fields::of("a container", container);
        let args = fields.list("args").into_iter();
        let args = args.map(|word| word.as_str().expect("a text").to_owned());
        let read = Self {
            name: fields.text("name"),
            image: fields.text("image"),
            args: args.collect(),
            env_from: fields.list("envFrom").iter().map(config_map).collect(),
            env: fields.list("env").iter().map(variable).collect(),
            memory_bytes: memory(fields.object("resources")),
            mounts: fields.list("volumeMounts").iter().map(mount).collect(),
        };
        fields.expect("imagePullPolicy", &["IfNotPresent".into()]);
        fields.expect("terminationMessagePath", &["/dev/termination-log".into()]);
        fields.expect("terminationMessagePolicy", &["File".into()]);
        let security = json!({
            "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
            "capabilities": { "drop": ["ALL"] },
        });
        fields.expect("securityContext", &[security]);
        fields.end();
        read
    }
}

fn config_map(source: &Value) -> String {
    let mut fields = Fields::of("envFrom", source);
    let mut reference = fields.object("configMapRef");
    let name = reference.text("name");
    reference.end();
    fields.end();
    name
}

fn variable(variable: &Value) -> (String, Variable) {
    let mut fields = Fields::of("env", variable);
    let name = fields.text("name");
    let value = match fields.take("value") {
        Value::String(text) => Variable::Value(text),
        _ => {
            let mut from = fields.object("valueFrom");
            let mut field = from.object("resourceFieldRef");
            field.expect("resource", &["limits.memory".into()]);
            field.expect("divisor", &["0".into()]);
            let container = field.text("containerName");
            field.end();
            from.end();
            Variable::MemoryLimit(container)
        }
    };
    fields.end();
    (name, value)
}

/// Reads the memory limit, which is the request too.
fn memory(mut resources: Fields) -> u64 {
    let requests = resources.take("requests");
    let limits = resources.take("limits");
    assert_eq!(requests, limits, "requests are limits");
    resources.end();
    let mut limits = Fields::of("limits", &limits);
    limits.text("cpu");
    let memory = limits.text("memory");
    limits.end();
    let mib = memory
        .strip_suffix("Mi")
        .and_then(|number| number.parse::<u64>().ok());
    mib.unwrap_or_else(|| panic!("memory of {memory}")) << 20
}

fn mount(mount: &Value) -> Mount {
    let mut fields = Fields::of("a mount", mount);
    let read = Mount {
        volume: fields.text("name"),
        path: fields.text("mountPath"),
        read_only: fields.take("readOnly") == true,
    };
    fields.end();
    read
}
