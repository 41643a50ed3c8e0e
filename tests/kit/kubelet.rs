//! As much of a kubelet as the manifests need: it runs a pod that the API server has, for real.
//!
//! The pod is bound to a node; its containers run one after another in the image's root and a
//! memory cgroup ([`crate::image`]), with the environment, volumes and user that the specification
//! asks for; how they end is written as the pod's status, with exit code, reason and termination
//! message. A pod that is deleted meanwhile gets SIGTERM and, after its grace period, SIGKILL.
//! Where its account's token is asked for it is mounted with the authority, as the API server has
//! kubelets do it in a cluster (here it is told not to), and every container is told where that is.
//! Whatever is in a specification that this kubelet does not know is a panic. Memory: the program's
//! output.

mod fields;
mod spec;
mod volumes;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use careen::clock::{Clock, SystemClock};
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::cgroup::{MemoryGroup, Run};
use crate::image::{Image, Pod};
use crate::kubernetes::Kubernetes;
use spec::{Container, PodSpec, Variable};
use volumes::{Place, TOKEN_VOLUME};

/// The node's name.
const NODE: &str = "node-1";

/// Pause between two looks at whether a pod was deleted.
const PAUSE: Duration = Duration::from_millis(50);

/// Where pods find their token.
const TOKEN_FOLDER: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// Longest termination message that a kubelet takes, in bytes.
const MESSAGE_BYTES_MAX: usize = 4096;

/// A kubelet for the pods of one namespace.
#[derive(Debug)]
pub struct Kubelet<'s> {
    server: &'s Kubernetes,
    namespace: String,
    image: Image,
    folder: TempDir,
    /// The folders of persistent volume claims.
    pub claims: BTreeMap<String, PathBuf>,
    /// Whether these can only be read, as disks after an error.
    pub claims_are_read_only: bool,
    /// How much more can be written to them; it is gone with the pod.
    pub claims_free_bytes: Option<u64>,
    /// How large the disks of scratch are; without it as large as this machine's.
    pub scratch_bytes: Option<u64>,
}

/// How a container ended.
pub struct Report {
    /// Its exit code, 128 and the signal's number if it was killed.
    pub exit: i32,
    /// Why, in the word that kubelets use.
    pub reason: &'static str,
    /// Its termination message.
    pub message: String,
    /// Output and memory.
    pub run: Run,
}

impl std::fmt::Debug for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (exit, reason, run) = (self.exit, self.reason, &self.run);
        writeln!(f, "exit code {exit}, {reason}, {run}")?;
        writeln!(f, "{}", self.message)?;
        write!(f, "{}{}", run.stdout_text(), run.stderr_text())
    }
}

impl Report {
    /// Returns the JSON of the termination message.
    ///
    /// # Panics
    ///
    /// When its last line is no JSON.
    pub fn result(&self) -> Value {
        let line = self.message.lines().last().unwrap_or_default();
        serde_json::from_str(line).unwrap_or_else(|error| panic!("{self:?}: {error}"))
    }
}

/// A container at work.
#[derive(Debug)]
pub struct Running<'p> {
    pod: &'p Pod,
    limit_bytes: u64,
}

impl Running<'_> {
    /// Sends the program a signal, past the kubelet.
    pub fn signal(&self, signal: Signal) {
        assert!(self.pod.signal(signal), "the program has ended");
    }

    /// Lets another process have all memory of the group but `left_bytes`, and not give it back, so
    /// that the kernel must kill; it takes the program.
    ///
    /// # Panics
    ///
    /// When that process cannot be started.
    pub fn starve(&self, left_bytes: u64) {
        self.pod.let_die_first();
        let bytes = self.limit_bytes - left_bytes;
        let eat = format!("{{ head -c {bytes} /dev/zero; sleep 20; }} | tail");
        let group: &MemoryGroup = self.pod.group();
        let hungry = group.command("sh").args(["-c", &eat]).spawn();
        // It is killed with the group, at the program's end.
        let ended = hungry.expect("a process can be started").wait();
        ended.expect("it can be waited for");
    }
}

impl<'s> Kubelet<'s> {
    /// Returns a kubelet that runs `image`, whatever image a pod names.
    ///
    /// # Panics
    ///
    /// When it can have no folder.
    pub fn new(server: &'s Kubernetes, namespace: &str, image: Image) -> Self {
        let disk = crate::disk();
        Self {
            server,
            namespace: namespace.to_owned(),
            image,
            folder: tempfile::tempdir_in(disk).expect("a folder can be made"),
            claims: BTreeMap::new(),
            claims_are_read_only: false,
            claims_free_bytes: None,
            scratch_bytes: None,
        }
    }

    /// Runs a pod to its end; `None` where there is no memory cgroup.
    pub fn run(&self, pod: &str) -> Option<Report> {
        self.run_and(pod, |_| ())
    }

    /// The same, with `meanwhile` once the program is at work.
    pub fn run_and(&self, pod: &str, meanwhile: impl FnOnce(&Running<'_>)) -> Option<Report> {
        let binding = json!({
            "apiVersion": "v1", "kind": "Binding", "metadata": { "name": pod },
            "target": { "apiVersion": "v1", "kind": "Node", "name": NODE },
        });
        let bound = self
            .server
            .post(&format!("{}/{pod}/binding", self.pods()), &binding);
        bound.expect("a pod can be bound");
        let object = self.server.get(&self.pods(), pod).expect("it is there");
        let spec = PodSpec::of(&object);
        let own = self.folder.path().join(pod);
        fs::create_dir(&own).expect("a pod is run once");
        let mut places = self.places(&own, &spec.volumes, spec.user);
        if spec.has_token {
            let token = self.token(&own, &object, &spec);
            places.insert(TOKEN_VOLUME.into(), token);
        }
        let mut initial = Vec::new();
        for container in &spec.init {
            let made = self.container(&spec, container, &places)?;
            let report = made.run_container(container, &AtomicBool::new(false));
            initial.push(terminated(container, &report));
            if report.exit != 0 {
                let waiting = state(
                    &spec.container,
                    &json!({ "waiting": {
                    "reason": "PodInitializing",
                } }),
                );
                self.tell(pod, "Failed", &initial, &waiting);
                return Some(report);
            }
        }
        let made = self.container(&spec, &spec.container, &places)?;
        made.etc("hostname", &format!("{pod}\n"));
        let running = json!({ "running": { "startedAt": SystemClock.now().to_string() } });
        self.tell(pod, "Running", &initial, &state(&spec.container, &running));
        let report = self.watched(pod, &spec.container, &made, meanwhile);
        let phase = if report.exit == 0 {
            "Succeeded"
        } else {
            "Failed"
        };
        self.tell(pod, phase, &initial, &terminated(&spec.container, &report));
        if self.deletion(pod).is_some() {
            self.server
                .delete_now(&self.pods(), pod)
                .expect("a pod can be deleted");
        }
        let _ = fs::remove_dir_all(&own); // its scratch goes with it
        Some(report)
    }

    /// Runs a container while the pod's deletion is looked for.
    fn watched(
        &self,
        pod: &str,
        container: &Container,
        made: &Pod,
        meanwhile: impl FnOnce(&Running<'_>),
    ) -> Report {
        let ended = AtomicBool::new(false);
        thread::scope(|scope| {
            let run = scope.spawn(|| made.run_container(container, &ended));
            scope.spawn(|| self.end_when_deleted(pod, made, &ended));
            while made.message().is_empty() && !ended.load(Ordering::SeqCst) {
                thread::sleep(Duration::from_millis(1));
            }
            meanwhile(&Running {
                pod: made,
                limit_bytes: container.memory_bytes,
            });
            run.join().expect("a container runs")
        })
    }

    fn end_when_deleted(&self, pod: &str, made: &Pod, ended: &AtomicBool) {
        let mut asked: Option<Instant> = None;
        while !ended.load(Ordering::SeqCst) {
            match (self.deletion(pod), asked) {
                (Some(_), None) => {
                    made.signal(Signal::TERM);
                    asked = Some(Instant::now());
                }
                (Some(grace), Some(since)) if since.elapsed() > grace => {
                    made.signal(Signal::KILL);
                }
                _ => (),
            }
            thread::sleep(PAUSE);
        }
    }

    /// Returns the grace period of a pod that is being deleted.
    fn deletion(&self, pod: &str) -> Option<Duration> {
        let object = self.server.get(&self.pods(), pod).ok()?;
        let metadata = &object["metadata"];
        metadata["deletionTimestamp"].as_str()?;
        let seconds = metadata["deletionGracePeriodSeconds"].as_u64()?;
        Some(Duration::from_secs(seconds))
    }

    /// Prepares a container.
    fn container(
        &self,
        spec: &PodSpec,
        container: &Container,
        places: &BTreeMap<String, Place>,
    ) -> Option<Pod> {
        assert!(!container.image.is_empty(), "no image");
        let mut pod = Pod::without_volumes(&self.image, spec.user, container.memory_bytes)?;
        for mount in &container.mounts {
            let place = &places[&mount.volume];
            let writable = !mount.read_only && !place.read_only;
            let bytes = match place.is_scratch {
                true => self.scratch_bytes,
                false => self.claims_free_bytes.filter(|_| writable),
            };
            match bytes {
                Some(bytes) => pod.mount_disk(&place.folder, &mount.path, bytes),
                None => pod.mount(&place.folder, &mount.path, writable),
            }
        }
        if let Some(token) = places.get(TOKEN_VOLUME) {
            pod.mount(&token.folder, TOKEN_FOLDER, false);
        }
        let port = self.server.port().to_string();
        for (name, value) in [
            ("KUBERNETES_SERVICE_HOST", "127.0.0.1"),
            ("KUBERNETES_SERVICE_PORT", &port),
            ("KUBERNETES_SERVICE_PORT_HTTPS", &port),
        ] {
            pod.env.insert(name.into(), value.into());
        }
        for name in &container.env_from {
            for (key, value) in self.entries("configmaps", name) {
                let value = String::from_utf8(value).expect("a text");
                pod.env.insert(key, value);
            }
        }
        for (name, variable) in &container.env {
            let value = match variable {
                Variable::Value(text) => text.clone(),
                Variable::MemoryLimit(of) => {
                    let all = spec.init.iter().chain([&spec.container]);
                    let mut all = all.filter(|container| container.name == *of);
                    all.next()
                        .expect("a container's name")
                        .memory_bytes
                        .to_string()
                }
            };
            pod.env.insert(name.clone(), value);
        }
        Some(pod)
    }

    fn tell(&self, pod: &str, phase: &str, initial: &[Value], container: &Value) {
        let status = json!({ "status": {
            "phase": phase,
            "initContainerStatuses": initial,
            "containerStatuses": [container],
        } });
        let told = self.server.merge_status(&self.pods(), pod, &status);
        told.expect("a pod's status can be written");
    }

    fn pods(&self) -> String {
        format!("/api/v1/namespaces/{}/pods", self.namespace)
    }

    /// Returns the folder where volumes lie.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }
}

impl Pod {
    fn run_container(&self, container: &Container, ended: &AtomicBool) -> Report {
        let args = container.args.iter().map(|word| expanded(word, &self.env));
        let args: Vec<String> = args.collect();
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let run = self.run(&args);
        ended.store(true, Ordering::SeqCst);
        let exit = exit_code(&run.run);
        let reason = match exit {
            0 => "Completed",
            _ if run.run.oom_kills > 0 => "OOMKilled",
            _ => "Error",
        };
        assert!(run.message.len() <= MESSAGE_BYTES_MAX, "{}", run.message);
        Report {
            exit,
            reason,
            message: run.message,
            run: run.run,
        }
    }
}

/// Returns the exit code as container runtimes tell it.
fn exit_code(run: &Run) -> i32 {
    // util-linux 2.38 fails to end by the signal that its child ended by. It was SIGKILL:
    // process 1 of a namespace dies of no other that comes from outside.
    if run
        .stderr_text()
        .contains("unshare: sigprocmask unblock failed")
    {
        return 137;
    }
    let signalled = || Some(128 + run.status.signal()?);
    let exit = run.status.code().or_else(signalled);
    exit.expect("it was killed if it did not exit")
}

fn terminated(container: &Container, report: &Report) -> Value {
    let ended = SystemClock.now();
    let began = ended.minus(report.run.wall);
    let how = json!({
        "exitCode": report.exit, "reason": report.reason, "message": report.message,
        "startedAt": began.to_string(), "finishedAt": ended.to_string(),
    });
    state(container, &json!({ "terminated": how }))
}

fn state(container: &Container, state: &Value) -> Value {
    json!({
        "name": container.name, "image": container.image, "imageID": container.image,
        "ready": state["running"].is_object(), "restartCount": 0, "state": state,
    })
}

/// Puts variables in the place of `$(NAME)`; one that is not there stays as it is.
fn expanded(word: &str, env: &BTreeMap<String, String>) -> String {
    let mut text = String::new();
    let mut rest = word;
    while let Some((before, after)) = rest.split_once("$(") {
        text.push_str(before);
        let Some((name, behind)) = after.split_once(')') else {
            rest = &rest[before.len()..];
            break;
        };
        match env.get(name) {
            Some(value) => text.push_str(value),
            None => text.push_str(&format!("$({name})")),
        }
        rest = behind;
    }
    text.push_str(rest);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_put_in() {
        let env = BTreeMap::from([("A".to_owned(), "1".to_owned())]);
        for (word, expected) in [
            ("$(A)", "1"),
            ("--x=$(A)/$(A)y", "--x=1/1y"),
            ("$(B) $(A", "$(B) $(A"),
            ("plain", "plain"),
        ] {
            assert_eq!(expanded(word, &env), expected);
        }
    }

    #[test]
    #[should_panic(expected = "has [\"hostNetwork\"]")]
    fn what_is_not_known_is_refused() {
        let mut fields = fields::Fields::of("spec", &json!({ "hostNetwork": true }));
        fields.take("volumes");
        fields.end();
    }
}
