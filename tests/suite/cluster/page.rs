//! The page for new users says what works: its commands are typed as they stand.
//!
//! `runtime/deploy/README.md`, against the API server, in the namespace that it names, with a
//! bucket of SeaweedFS behind TLS in the place of `BUCKET`. Commands are given to kubectl and jq;
//! where one of them is missing a line says so. What nobody answers here is left out: an engine
//! that builds an image, Helm's program (`admission` renders), and logs, for which the API server
//! asks a kubelet that listens.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use kit::kubernetes;
use kit::object_stores::s3;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::life::ended;
use super::site::{BACKUPS, Site};
use super::stores::{carry, endpoint, keys};

/// Commands that nobody can answer here.
const LEFT_OUT: [&str; 3] = ["podman", "helm", "logs"];

/// Returns the page.
fn page() -> String {
    fs::read_to_string(kit::workspace_root().join("runtime/deploy/README.md")).unwrap()
}

/// Returns the parts of the page that are YAML.
fn blocks() -> [String; 4] {
    let page = page();
    let mut blocks = page.split("```yaml\n").skip(1);
    let next = |_| blocks.next().unwrap().split_once("```\n").unwrap().0;
    [
        "the overlay",
        "a store of one's own",
        "no keys",
        "all of Velero's",
    ]
    .map(next)
    .map(str::to_owned)
}

/// Returns the overlay, and what a store of one's own adds.
pub(super) fn overlay() -> (String, String) {
    let [text, more, _, _] = blocks();
    assert!(
        text.contains("kind: Kustomization") && more.contains("components:"),
        "{text}{more}"
    );
    (text, more)
}

/// Returns what is added where there are no keys.
pub(super) fn no_keys() -> String {
    let [_, _, more, _] = blocks();
    assert!(more.contains("components/workload-identity"), "{more}");
    more
}

/// Returns what is added where a CronJob has all repositories of Velero's.
pub(super) fn all_of_veleros() -> String {
    let [_, _, _, more] = blocks();
    assert!(more.contains("components/velero"), "{more}");
    more
}

/// Returns the commands below a heading, as they stand.
fn commands(heading: &str) -> Vec<String> {
    let page = page();
    let (_, rest) = page.split_once(&format!("\n### {heading}\n")).unwrap();
    let section = rest.split_once("\n##").unwrap().0;
    let mut commands: Vec<String> = Vec::new();
    let mut fenced = false;
    for line in section.lines() {
        fenced ^= line.starts_with("```");
        match line.strip_prefix("    ") {
            Some(text) if !fenced => match commands.last_mut() {
                Some(last) if last.ends_with(['\\', '|']) => *last = format!("{last}\n{text}"),
                _ => commands.push(text.to_owned()),
            },
            _ => (),
        }
    }
    commands
}

/// A folder with a copy of the project, and the user's own beside it.
struct Desk {
    folder: TempDir,
    kubeconfig: PathBuf,
}

impl Desk {
    fn new(kubeconfig: PathBuf) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let runtime = folder.path().join("careen/runtime");
        fs::create_dir_all(&runtime).unwrap();
        fs::create_dir(folder.path().join("my-careen")).unwrap();
        let copied = Command::new("cp")
            .arg("-R")
            .arg(kit::workspace_root().join("runtime/deploy"))
            .arg(runtime)
            .status();
        assert!(copied.unwrap().success());
        Self { folder, kubeconfig }
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("careen")
    }

    /// Types a command at the root of the project; it must end well.
    fn types(&self, command: &str) -> String {
        let typed = Command::new("sh")
            .args(["-euc", command])
            .current_dir(self.root())
            .env("KUBECONFIG", &self.kubeconfig)
            .env("HOME", self.folder.path())
            .output();
        let typed = typed.unwrap();
        let said = String::from_utf8_lossy(&typed.stderr);
        assert!(typed.status.success(), "{command}: {said}");
        String::from_utf8(typed.stdout).unwrap()
    }

    fn types_all(&self, commands: &[String]) -> Vec<String> {
        let left_out = |command: &&String| !LEFT_OUT.iter().any(|word| command.contains(word));
        let typed = commands.iter().filter(left_out);
        typed.map(|command| self.types(command)).collect()
    }
}

fn is_here(program: &str) -> bool {
    let asked = Command::new("sh")
        .args(["-c", &format!("command -v {program}")])
        .output();
    let here = asked.unwrap().status.success();
    if !here {
        kit::say_once(&format!(
            "skipped: the page for new users is not typed: no {program}"
        ));
    }
    here
}

/// Has the API server know the storage location and the repository, as Velero tells them.
fn tell_of_velero(site: &Site) {
    let make = |kind: &str, plural: &str, spec: Value| {
        let path = format!("/apis/velero.io/v1/namespaces/velero/{plural}");
        let body = json!({
            "apiVersion": "velero.io/v1", "kind": kind, "spec": spec,
            "metadata": { "name": "default", "namespace": "velero" },
        });
        site.server.post(&path, &body).unwrap();
    };
    make(
        "BackupStorageLocation",
        "backupstoragelocations",
        json!({
            "provider": "aws", "objectStorage": { "bucket": "suites", "prefix": "velero" },
            "config": { "region": "us-east-1", "s3Url": "https://minio.example:9000" },
        }),
    );
    make(
        "BackupRepository",
        "backuprepositories",
        json!({
            "volumeNamespace": "shop", "backupStorageLocation": "default",
            "repositoryType": "kopia", "maintenanceFrequency": "1h0m0s", "resticIdentifier": "none",
        }),
    );
}

/// Writes the user's overlay: that of the page, for a bucket behind TLS with a CA of its own, and
/// without the wait before a run.
fn write_overlay(desk: &Desk, location: &str, endpoint: &str) {
    let (text, more) = overlay();
    let (port, rest) = more.split_once("  - target: {kind: CronJob").unwrap();
    let (_, ca) = rest.split_once("components:").unwrap();
    let text = text
        .replace("s3://BUCKET/PREFIX/kopia/NAMESPACE/", location)
        .replace(
            "AWS_REGION: eu-central-1",
            &format!(
                "AWS_REGION: eu-central-1\n        CAREEN_JITTER: \"0\"\n        \
                 AWS_ENDPOINT_URL_S3: https://{endpoint}"
            ),
        );
    let file = desk.folder.path().join("my-careen/kustomization.yaml");
    fs::write(file, format!("{text}{port}components:{ca}")).unwrap();
}

/// Goal: from the page to a first run that does what is due, and to a doctor who finds nothing
/// wrong; method: every command and file of it as it stands, with the bucket's name and address.
#[test]
fn the_page_leads_to_a_first_run() {
    if !is_here("kubectl") || !is_here("jq") {
        return;
    }
    let (Some(server), Some(place)) = (kubernetes::shared_with_controllers(), s3()) else {
        return;
    };
    server.make_restricted_namespace("velero");
    let Some(site) = Site::empty("velero".to_owned(), &BACKUPS) else {
        return;
    };
    site.secret("cloud-credentials", "cloud", &keys());
    carry(&site.repository(), &place);
    tell_of_velero(&site);
    let place = place.secure(None);
    let desk = Desk::new(server.kubeconfig());
    let found = desk.types_all(&commands_before_helm());
    assert!(
        found[0].contains("default") && found[1].contains("s3Url"),
        "{found:?}"
    );
    fs::copy(servers::tls::ca_file(), desk.root().join("ca.crt")).unwrap();
    desk.types_all(&commands("A store of your own")[..1]);
    write_overlay(&desk, &place.location.to_string(), &endpoint(&place));
    desk.types_all(&commands("With kustomize"));

    let look = commands("Look first, then run");
    let of = |what: &str| look.iter().position(|one| one.contains(what)).unwrap();
    let (message, doctor) = (of("jsonpath"), of("careen-doctor"));
    desk.types_all(&look[..message]);
    let Some(report) = site.kubelet.run(&site.pod("careen-first")) else {
        return;
    };
    ended(&report, 0, "done");
    assert_eq!(desk.types(&look[message]), report.message);
    assert_eq!(site.end("careen-first").0, "Complete");

    desk.types_all(&look[doctor..]);
    let report = site.kubelet.run(&site.pod("careen-doctor")).unwrap();
    let told = ended(&report, 0, "done");
    assert_eq!(told["command"], "doctor", "{told}");
}

/// The commands before the first heading with a choice.
fn commands_before_helm() -> Vec<String> {
    let page = page();
    let (_, rest) = page
        .split_once("\n## From nothing to a first run\n")
        .unwrap();
    let section = rest.split_once("\n###").unwrap().0;
    let lines = section.lines().filter_map(|line| line.strip_prefix("    "));
    lines.map(str::to_owned).collect()
}

/// Goal: what the page names is there; method: every path of the project in it.
#[test]
fn the_page_names_files_that_are_there() {
    let page = page();
    let words = page.split(|char: char| char.is_whitespace() || "`()[],".contains(char));
    let paths = words.filter(|word| word.starts_with("runtime/deploy/"));
    let mut found = 0;
    for path in paths {
        let path = Path::new(path.trim_end_matches('.'));
        assert!(
            kit::workspace_root().join(path).exists(),
            "{}",
            path.display()
        );
        found += 1;
    }
    assert!(found > 1, "{found}");
}
