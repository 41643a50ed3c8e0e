//! The folders that a pod mounts, filled and owned as a kubelet does it.
//!
//! Files of ConfigMaps and Secrets are links to links, as kubelets leave them. Volumes that a pod
//! may write belong to root and the pod's `fsGroup`. Memory: the largest file.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use k8s_openapi::ByteString;
use serde_json::{Value, json};

use super::Kubelet;
use super::spec::{PodSpec, Volume};

/// The volume of a pod with a token.
pub(super) const TOKEN_VOLUME: &str = "kube-api-access";

/// The ConfigMap with the API server's authority, which a controller puts into every namespace.
const AUTHORITY: &str = "kube-root-ca.crt";

/// How long that may take.
const AUTHORITY_WAIT: Duration = Duration::from_secs(60);

/// A volume on this machine.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) folder: PathBuf,
    pub(super) read_only: bool,
    /// Whether it is gone with the pod.
    pub(super) is_scratch: bool,
}

impl Kubelet<'_> {
    /// Makes all volumes of a pod below `own`.
    pub(super) fn places(
        &self,
        own: &Path,
        volumes: &[(String, Volume)],
        group: u32,
    ) -> BTreeMap<String, Place> {
        let made = volumes.iter().map(|(name, volume)| {
            let folder = own.join(name);
            let place = self.place(folder, volume, group);
            (name.clone(), place.expect("a volume can be made"))
        });
        made.collect()
    }

    fn place(&self, folder: PathBuf, volume: &Volume, group: u32) -> io::Result<Place> {
        let mut read_only = false;
        let place = |folder, read_only, is_scratch| Place {
            folder,
            read_only,
            is_scratch,
        };
        match volume {
            Volume::ConfigMap(name, mode) => {
                files(&folder, &self.entries("configmaps", name), *mode, group)?;
            }
            Volume::Secret(name, mode) => {
                files(&folder, &self.entries("secrets", name), *mode, group)?;
            }
            Volume::Scratch => {
                // As a fresh disk that was given to the group.
                fs::create_dir(&folder)?;
                chown(&folder, None, Some(group))?;
                fs::set_permissions(&folder, fs::Permissions::from_mode(0o2775))?;
                return Ok(place(folder, false, true));
            }
            Volume::Claim(name, only) => {
                let claim = self.claims.get(name);
                let claim = claim.unwrap_or_else(|| panic!("the pod waits for the claim {name}"));
                read_only = *only || self.claims_are_read_only;
                if !read_only {
                    give_to_group(claim, group)?;
                }
                return Ok(place(claim.clone(), read_only, false));
            }
        }
        Ok(place(folder, read_only, false))
    }

    /// Makes the volume with what a pod needs to call the API server: a token that ends with the
    /// pod, the server's authority, and the namespace.
    pub(super) fn token(&self, own: &Path, pod: &Value, spec: &PodSpec) -> Place {
        let core = format!("/api/v1/namespaces/{}", self.namespace);
        let path = format!("{core}/serviceaccounts/{}/token", spec.account);
        let metadata = &pod["metadata"];
        let request = json!({ "spec": {
            "expirationSeconds": 3607,
            "boundObjectRef": {
                "apiVersion": "v1", "kind": "Pod",
                "name": metadata["name"], "uid": metadata["uid"],
            },
        } });
        let answer = self.server.post(&path, &request).expect("a token is made");
        let token = answer["status"]["token"].as_str().expect("a token");
        let authority = || self.server.get(&format!("{core}/configmaps"), AUTHORITY);
        let since = Instant::now();
        while authority().is_err() {
            assert!(since.elapsed() < AUTHORITY_WAIT, "no {AUTHORITY}");
            thread::sleep(super::PAUSE);
        }
        let mut entries = self.entries("configmaps", AUTHORITY);
        entries.insert("token".into(), token.into());
        entries.insert("namespace".into(), self.namespace.clone().into());
        let folder = own.join(TOKEN_VOLUME);
        files(&folder, &entries, 0o600, spec.user).expect("a volume can be made");
        Place {
            folder,
            read_only: true,
            is_scratch: false,
        }
    }

    /// Returns the entries of a ConfigMap or a Secret.
    pub(super) fn entries(&self, plural: &str, name: &str) -> BTreeMap<String, Vec<u8>> {
        let path = format!("/api/v1/namespaces/{}/{plural}", self.namespace);
        let object = self.server.get(&path, name);
        let object = object.unwrap_or_else(|_| panic!("the pod waits for {name} of {plural}"));
        let mut entries = BTreeMap::new();
        for field in ["data", "binaryData"] {
            for (key, value) in object[field].as_object().into_iter().flatten() {
                let is_text = plural == "configmaps" && field == "data";
                let bytes = match value {
                    Value::String(text) if is_text => text.clone().into_bytes(),
                    encoded => {
                        let bytes: ByteString =
                            serde_json::from_value(encoded.clone()).expect("base64");
                        bytes.0
                    }
                };
                entries.insert(key.clone(), bytes);
            }
        }
        entries
    }
}

fn files(
    folder: &Path,
    entries: &BTreeMap<String, Vec<u8>>,
    mode: u32,
    group: u32,
) -> io::Result<()> {
    let real = "..2026_11_26";
    fs::create_dir_all(folder.join(real))?;
    symlink(real, folder.join("..data"))?;
    for (name, bytes) in entries {
        let file = folder.join(real).join(name);
        fs::write(&file, bytes)?;
        chown(&file, None, Some(group))?;
        fs::set_permissions(&file, fs::Permissions::from_mode(mode | 0o440))?;
        symlink(Path::new("..data").join(name), folder.join(name))?;
    }
    for folder in [folder, &folder.join(real)] {
        chown(folder, None, Some(group))?;
        fs::set_permissions(folder, fs::Permissions::from_mode(0o755))?;
    }
    Ok(())
}

/// What `fsGroup` does: the group may read and write everything, whoever owns it.
fn give_to_group(folder: &Path, group: u32) -> io::Result<()> {
    for (program, change) in [
        ("chgrp", group.to_string()),
        ("chmod", "u+rwX,g+rwX".to_owned()),
    ] {
        let mut command = Command::new(program);
        let changed = command.arg("-R").arg(change).arg(folder).status()?;
        assert!(changed.success(), "{program} {}", folder.display());
    }
    Ok(())
}
