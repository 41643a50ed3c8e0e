//! A real Kubernetes API server with etcd, for suites of `careen velero` and of the manifests.
//!
//! `.ci/kubernetes.sh` builds it on first use (`tests/kubernetes`, a small Go program); it ends
//! when this process does. One server serves a whole binary: every test has a namespace of its
//! own. Without Go one line says so, and with `CAREEN_KUBERNETES_REQUIRED` that is a failure. There
//! is no kubelet: a test that wants a pod to have ended writes its status, or runs it
//! (`kit::kubelet`). Memory: the server's 300 MiB, the controllers' 100 MiB.

mod velero_kinds;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use base64::Engine as _;
use kube::api::{DeleteParams, GetParams, ListParams, Patch, PatchParams, PostParams, Request};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::{Value, json};
use servers::fault_proxy::FaultProxy;
use tokio::runtime::Runtime;

pub use velero_kinds::{RELEASES, Release};

/// How long the API server may take to serve a new kind.
const SERVED_WITHIN: Duration = Duration::from_secs(30);

/// What the API server says no with.
pub type Refusal = Box<kube::core::Status>;

/// A running API server.
pub struct Kubernetes {
    child: Child,
    folder: PathBuf,
    program: PathBuf,
    runtime: Runtime,
    client: Client,
}

impl std::fmt::Debug for Kubernetes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Kubernetes").field(&self.folder).finish()
    }
}

/// Returns the server of this process, with the kinds of the newest Velero; `None` without Go.
///
/// # Panics
///
/// When it does not start, or when there is none and `CAREEN_KUBERNETES_REQUIRED` is set.
pub fn shared() -> Option<&'static Kubernetes> {
    static SHARED: OnceLock<Option<Kubernetes>> = OnceLock::new();
    let start = || {
        let server = start()?;
        server.install(Release::newest());
        Some(server)
    };
    SHARED.get_or_init(start).as_ref()
}

/// Returns the server of [`shared`] with its controllers at work: Jobs make pods, CronJobs Jobs.
///
/// # Panics
///
/// As [`shared`].
pub fn shared_with_controllers() -> Option<&'static Kubernetes> {
    static CONTROLLERS: OnceLock<Controllers> = OnceLock::new();
    let server = shared()?;
    CONTROLLERS.get_or_init(|| server.controllers());
    Some(server)
}

/// Starts another server, without Velero's kinds; `None` without Go.
///
/// # Panics
///
/// As [`shared`].
pub fn start() -> Option<Kubernetes> {
    Some(Kubernetes::start(program()?))
}

/// Returns the server's program, which is built if it must be.
fn program() -> Option<PathBuf> {
    static FOUND: OnceLock<Option<PathBuf>> = OnceLock::new();
    FOUND.get_or_init(|| built("cluster")).clone()
}

/// Returns a program of `.ci/kubernetes.sh`, which builds it if it must; `None` without Go.
pub(crate) fn built(what: &str) -> Option<PathBuf> {
    let script = crate::workspace_root().join(".ci/kubernetes.sh");
    let mut build = Command::new("bash");
    let build = build.arg(script).arg(what);
    let build = build.stdin(Stdio::null()).stderr(Stdio::inherit());
    let built = build.output().expect("bash runs");
    if built.status.success() {
        let path = String::from_utf8_lossy(&built.stdout);
        return Some(PathBuf::from(path.trim()));
    }
    let line = "skipped: no Go, so no Kubernetes API server (.ci/kubernetes.sh)";
    assert_eq!(built.status.code(), Some(75), "{what} is not built");
    assert!(
        std::env::var_os("CAREEN_KUBERNETES_REQUIRED").is_none(),
        "{line}"
    );
    crate::say_once(line);
    None
}

impl Kubernetes {
    fn start(program: PathBuf) -> Self {
        // Sockets lie in it: their paths must be short.
        let folder = tempfile::Builder::new().prefix("careen-k8s-").tempdir();
        let folder = folder.expect("a folder can be made").keep();
        let log = fs::File::create(folder.join("log")).expect("a log can be made");
        let mut child = Command::new(&program)
            .arg("api-server")
            .arg(&folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .expect("the API server starts");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("was piped");
        let read = BufReader::new(stdout).read_line(&mut line);
        let log = || fs::read_to_string(folder.join("log")).unwrap_or_default();
        assert!(read.is_ok() && line == "ready\n", "{}", log());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime can be made");
        let client = client(&runtime, &folder.join("kubeconfig"));
        Self {
            child,
            folder,
            program,
            runtime,
            client,
        }
    }

    /// Starts the controllers that make Jobs, CronJobs and namespaces move; they end with it.
    pub fn controllers(&self) -> Controllers {
        let log = fs::File::create(self.folder.join("controllers.log"));
        let child = Command::new(&self.program)
            .arg("controllers")
            .arg(&self.folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(log.expect("a log can be made"))
            .spawn();
        Controllers(child.expect("the controllers start"))
    }

    /// Returns the kubeconfig of somebody who may do everything.
    pub fn kubeconfig(&self) -> PathBuf {
        self.folder.join("kubeconfig")
    }

    /// Returns the port at which it listens on this machine.
    ///
    /// # Panics
    ///
    /// When the kubeconfig names none.
    pub fn port(&self) -> u16 {
        let text = fs::read_to_string(self.kubeconfig()).expect("it was written");
        let (_, rest) = text.split_once("server: \"").expect("it names a server");
        let address = rest.split('"').next().unwrap_or_default();
        let port = address.rsplit(':').next().unwrap_or_default();
        port.parse().expect("a port")
    }

    /// Puts a proxy before the server; returns it, and the kubeconfig, in `folder`, of somebody who
    /// may do everything and goes through it.
    pub fn behind_proxy(&self, folder: &Path) -> (FaultProxy, PathBuf) {
        let text = fs::read_to_string(self.kubeconfig()).expect("it was written");
        let between = |begin: &str| {
            let (_, rest) = text.split_once(begin).expect("the kubeconfig has it");
            rest.split('"').next().unwrap_or_default()
        };
        let server = between("server: \"");
        let ca = between("certificate-authority-data: \"");
        let ca_pem = base64::engine::general_purpose::STANDARD.decode(ca);
        let ca_pem = ca_pem.expect("it is base64");
        let proxy = FaultProxy::before_secure(self.port(), &ca_pem);
        let own = format!("http://127.0.0.1:{}", proxy.port());
        let ca = format!(", certificate-authority-data: \"{ca}\"");
        let file = folder.join("proxied.kubeconfig");
        let text = text.replace(server, &own).replace(&ca, "");
        fs::write(&file, text).expect("it can be written");
        (proxy, file)
    }

    /// Makes a namespace that nobody else uses; returns its name.
    pub fn namespace(&self) -> String {
        let name = fresh_name();
        self.make_namespace(&name, &json!({}));
        name
    }

    /// Makes one whose pods must be as Pod Security `restricted` wants them; returns its name.
    pub fn restricted_namespace(&self) -> String {
        let name = fresh_name();
        self.make_restricted_namespace(&name);
        name
    }

    /// The same with a name of the caller's.
    pub fn make_restricted_namespace(&self, name: &str) {
        let labels = json!({ "pod-security.kubernetes.io/enforce": "restricted" });
        self.make_namespace(name, &labels);
    }

    fn make_namespace(&self, name: &str, labels: &Value) {
        let body = json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": { "name": name, "labels": labels },
        });
        self.post("/api/v1/namespaces", &body)
            .expect("a namespace is made");
    }

    /// Makes an object in the collection at `path`.
    pub fn post(&self, path: &str, body: &Value) -> Result<Value, Refusal> {
        let bytes = serde_json::to_vec(body).expect("JSON can be written");
        let request = Request::new(path).create(&PostParams::default(), bytes);
        self.ask(request.expect("a request can be made"))
    }

    /// Returns the object `name` of the collection at `path`.
    pub fn get(&self, path: &str, name: &str) -> Result<Value, Refusal> {
        let request = Request::new(path).get(name, &GetParams::default());
        self.ask(request.expect("a request can be made"))
    }

    /// Returns all objects of the collection at `path`.
    pub fn list(&self, path: &str) -> Result<Vec<Value>, Refusal> {
        let request = Request::new(path).list(&ListParams::default());
        let list = self.ask(request.expect("a request can be made"))?;
        Ok(list["items"].as_array().cloned().unwrap_or_default())
    }

    /// Changes fields of an object by a merge patch.
    pub fn merge(&self, path: &str, name: &str, patch: &Value) -> Result<Value, Refusal> {
        let params = PatchParams::default();
        let request = Request::new(path).patch(name, &params, &Patch::Merge(patch));
        self.ask(request.expect("a request can be made"))
    }

    /// The same for its sub-resource `status`.
    pub fn merge_status(&self, path: &str, name: &str, patch: &Value) -> Result<Value, Refusal> {
        let params = PatchParams::default();
        let patch = Patch::Merge(patch);
        let request = Request::new(path).patch_subresource("status", name, &params, &patch);
        self.ask(request.expect("a request can be made"))
    }

    /// Makes an object of YAML, or changes it to that, by server-side apply.
    pub fn apply(&self, path: &str, name: &str, yaml: &str) -> Result<Value, Refusal> {
        let params = PatchParams::apply("suite").force();
        self.apply_with(&params, path, name, yaml)
    }

    /// The same without any effect, or with one; fields that Kubernetes does not know are refused.
    pub fn apply_strictly(
        &self,
        path: &str,
        object: &Value,
        dry_run: bool,
    ) -> Result<Value, Refusal> {
        let mut params = PatchParams::apply("suite").validation_strict();
        params.dry_run = dry_run;
        let name = object["metadata"]["name"].as_str().expect("a name");
        self.apply_with(&params, path, name, &object.to_string())
    }

    fn apply_with(
        &self,
        params: &PatchParams,
        path: &str,
        name: &str,
        yaml: &str,
    ) -> Result<Value, Refusal> {
        let request = Request::new(path).patch(name, params, &Patch::Apply(json!({})));
        let mut request = request.expect("a request can be made");
        *request.body_mut() = yaml.as_bytes().to_vec();
        self.ask(request)
    }

    /// Makes an object without any effect: admission is asked as for a real one.
    pub fn try_post(&self, path: &str, body: &Value) -> Result<Value, Refusal> {
        let params = PostParams {
            dry_run: true,
            ..PostParams::default()
        };
        let bytes = serde_json::to_vec(body).expect("JSON can be written");
        let request = Request::new(path).create(&params, bytes);
        self.ask(request.expect("a request can be made"))
    }

    /// Deletes an object.
    pub fn delete(&self, path: &str, name: &str) -> Result<Value, Refusal> {
        self.delete_with(&DeleteParams::default(), path, name)
    }

    /// Deletes one at once, as a kubelet does when a pod's containers have ended.
    pub fn delete_now(&self, path: &str, name: &str) -> Result<Value, Refusal> {
        self.delete_with(&DeleteParams::default().grace_period(0), path, name)
    }

    fn delete_with(&self, params: &DeleteParams, path: &str, name: &str) -> Result<Value, Refusal> {
        let request = Request::new(path).delete(name, params);
        self.ask(request.expect("a request can be made"))
    }

    fn ask(&self, request: http::Request<Vec<u8>>) -> Result<Value, Refusal> {
        match self.runtime.block_on(self.client.request(request)) {
            Ok(answer) => Ok(answer),
            Err(kube::Error::Api(status)) => Err(status),
            Err(error) => panic!("the API server does not answer: {error}"),
        }
    }

    /// Installs the kinds of a release of Velero, or changes those that are there to it.
    pub fn install(&self, release: Release) {
        for definition in velero_kinds::definitions(release) {
            self.install_kind(&definition);
        }
    }

    /// Installs a kind, or changes one that is there, and waits until it is served.
    pub fn install_kind(&self, definition: &Value) {
        const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
        let name = definition["metadata"]["name"].as_str().expect("a name");
        let text = definition.to_string();
        self.apply(DEFINITIONS, name, &text)
            .expect("a kind is installed");
        let since = Instant::now();
        loop {
            let now = self.get(DEFINITIONS, name).expect("it is there");
            let conditions = now["status"]["conditions"].as_array();
            let mut conditions = conditions.into_iter().flatten();
            let established =
                conditions.any(|one| one["type"] == "Established" && one["status"] == "True");
            // A new schema is served a moment later.
            if established {
                break;
            }
            assert!(since.elapsed() < SERVED_WITHIN, "{name} is not served");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Returns the kubeconfig of a service account; lies in the server's folder.
    pub fn account(&self, namespace: &str, name: &str) -> PathBuf {
        let accounts = format!("/api/v1/namespaces/{namespace}/serviceaccounts");
        let body = json!({ "spec": { "expirationSeconds": 3600 } });
        let answer = self.post(&format!("{accounts}/{name}/token"), &body);
        let answer = answer.expect("a token is made");
        let token = answer["status"]["token"].as_str().expect("a token");
        let admin = fs::read_to_string(self.kubeconfig()).expect("it was written");
        let file = self.folder.join(format!("{namespace}-{name}.kubeconfig"));
        let line = format!("  user: {{token: \"{token}\"}}");
        let lines = admin
            .lines()
            .map(|one| match one.starts_with("  user: {token") {
                true => line.clone(),
                false => one.to_owned(),
            });
        let text: Vec<String> = lines.collect();
        fs::write(&file, text.join("\n")).expect("it can be written");
        file
    }
}

impl Drop for Kubernetes {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// Running controllers.
#[derive(Debug)]
pub struct Controllers(Child);

impl Drop for Controllers {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

fn fresh_name() -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    format!("suite-{}-{number}", std::process::id())
}

fn client(runtime: &Runtime, kubeconfig: &Path) -> Client {
    let read = Kubeconfig::read_from(kubeconfig).expect("the kubeconfig is a good one");
    let options = KubeConfigOptions::default();
    let config = runtime.block_on(Config::from_custom_kubeconfig(read, &options));
    let _entered = runtime.enter();
    Client::try_from(config.expect("the kubeconfig is a good one")).expect("a client can be made")
}
