//! The Kubernetes API as this floor sees it: one namespace, five verbs, no waiting for ever.
//!
//! A client of the `kube` crate behind calls that block, so that the floors above need not await.
//! Lists come page by page. Requests that fail for a moment (429, 503, 504) are tried again by the
//! client. Memory: the client's 4 MiB, and a page of at most [`PAGE`] objects.

use std::path::PathBuf;
use std::time::Duration;

use k8s_openapi::NamespaceResourceScope;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::runtime::Runtime;

use super::error::{Operation, VeleroError};

/// Objects of a page; those of Velero have 1 to 10 KiB.
const PAGE: u32 = 250;

/// How long a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long an answer may take; a page of a busy API server takes seconds.
const READ_TIMEOUT: Duration = Duration::from_secs(60);

/// Who the API server notes as the writer of our fields.
const FIELD_MANAGER: &str = "careen";

/// A kind of object that lives in a namespace.
pub trait Namespaced:
    Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + Clone
    + std::fmt::Debug
    + DeserializeOwned
{
}

impl<K> Namespaced for K where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + DeserializeOwned
{
}

/// How the cluster is found.
#[derive(Clone, Debug, Default)]
pub struct ClusterOptions {
    /// A kubeconfig file; without it KUBECONFIG, `~/.kube/config`, or the pod's service account.
    pub kubeconfig: Option<PathBuf>,
    /// The context in it; without it the current one.
    pub context: Option<String>,
    /// Velero's namespace.
    pub namespace: String,
}

/// A connection to the API server, for one namespace.
pub struct Cluster {
    runtime: Runtime,
    client: Client,
    namespace: String,
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster")
            .field("namespace", &self.namespace)
            .finish_non_exhaustive()
    }
}

impl Cluster {
    /// Reads the configuration; nothing is asked of the API server yet.
    ///
    /// # Errors
    /// [`VeleroError::NoCluster`] where there is no usable configuration.
    pub fn connect(options: &ClusterOptions) -> Result<Self, VeleroError> {
        let none = |error: &dyn std::fmt::Display| VeleroError::NoCluster(error.to_string());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| none(&error))?;
        let mut config = runtime.block_on(configuration(options))?;
        config.connect_timeout = Some(CONNECT_TIMEOUT);
        config.read_timeout = Some(READ_TIMEOUT);
        config.write_timeout = Some(READ_TIMEOUT);
        config.reset_reader_on_write = true;
        let _entered = runtime.enter();
        let client = Client::try_from(config).map_err(|error| none(&chain(&error)))?;
        Ok(Self {
            client,
            namespace: options.namespace.clone(),
            runtime,
        })
    }

    /// Returns the namespace.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    fn api<K: Namespaced>(&self) -> Api<K> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Shows every object of a kind, those with `labels` (a selector, empty for all), page by page.
    ///
    /// # Errors
    /// The API's; a kind that the cluster does not have is [`VeleroError::NoVelero`].
    pub fn each<K: Namespaced>(
        &self,
        plural: &'static str,
        labels: &str,
        see: &mut dyn FnMut(K) -> Result<(), VeleroError>,
    ) -> Result<(), VeleroError> {
        let api = self.api::<K>();
        let mut params = ListParams::default().limit(PAGE);
        params.label_selector = Some(labels.to_owned()).filter(|labels| !labels.is_empty());
        loop {
            let page = self.runtime.block_on(api.list(&params));
            let page = page.map_err(|error| match &error {
                kube::Error::Api(status) if status.code == 404 => VeleroError::NoVelero {
                    plural,
                    namespace: self.namespace.clone(),
                },
                _ => explained::<K>("list", "", &error),
            })?;
            page.items.into_iter().try_for_each(&mut *see)?;
            match page.metadata.continue_ {
                Some(token) if !token.is_empty() => params.continue_token = Some(token),
                _ => return Ok(()),
            }
        }
    }

    /// Returns all objects of a kind, at most `max`.
    pub fn list<K: Namespaced>(
        &self,
        plural: &'static str,
        labels: &str,
        max: usize,
    ) -> Result<Vec<K>, VeleroError> {
        let mut all = Vec::new();
        self.each(plural, labels, &mut |object| {
            if all.len() >= max {
                return Err(VeleroError::TooMany { plural, max });
            }
            all.push(object);
            Ok(())
        })?;
        Ok(all)
    }

    /// Returns an object, `None` where it is not there.
    pub fn get<K: Namespaced>(&self, name: &str) -> Result<Option<K>, VeleroError> {
        self.runtime
            .block_on(self.api::<K>().get_opt(name))
            .map_err(|error| explained::<K>("get", name, &error))
    }

    /// Changes exactly the fields of `patch`, a JSON merge patch.
    ///
    /// # Errors
    /// [`VeleroError::Conflict`] where the patch names a `resourceVersion` that is not the present.
    pub fn merge<K: Namespaced>(
        &self,
        name: &str,
        patch: &serde_json::Value,
    ) -> Result<K, VeleroError> {
        let params = PatchParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PatchParams::default()
        };
        let api = self.api::<K>();
        self.runtime
            .block_on(api.patch(name, &params, &Patch::Merge(patch)))
            .map_err(|error| explained::<K>("patch", name, &error))
    }

    /// Makes an object.
    ///
    /// # Errors
    /// [`VeleroError::Conflict`] where there is one of this name.
    pub fn create<K: Namespaced + Serialize>(
        &self,
        name: &str,
        object: &K,
    ) -> Result<K, VeleroError> {
        self.runtime
            .block_on(self.api::<K>().create(&written_by_us(), object))
            .map_err(|error| explained::<K>("create", name, &error))
    }

    /// Replaces an object by another of the same `resourceVersion`.
    ///
    /// # Errors
    /// [`VeleroError::Conflict`] where it was changed since.
    pub fn replace<K: Namespaced + Serialize>(
        &self,
        name: &str,
        object: &K,
    ) -> Result<K, VeleroError> {
        self.runtime
            .block_on(self.api::<K>().replace(name, &written_by_us(), object))
            .map_err(|error| explained::<K>("update", name, &error))
    }
}

/// Says who makes or replaces an object.
fn written_by_us() -> PostParams {
    PostParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PostParams::default()
    }
}

async fn configuration(options: &ClusterOptions) -> Result<Config, VeleroError> {
    let none = |error: &dyn std::error::Error| VeleroError::NoCluster(chain(error));
    let chosen = KubeConfigOptions {
        context: options.context.clone(),
        ..KubeConfigOptions::default()
    };
    if let Some(file) = &options.kubeconfig {
        let read = Kubeconfig::read_from(file).map_err(|error| none(&error))?;
        let config = Config::from_custom_kubeconfig(read, &chosen).await;
        return config.map_err(|error| none(&error));
    }
    if options.context.is_some() {
        let config = Config::from_kubeconfig(&chosen).await;
        return config.map_err(|error| none(&error));
    }
    Config::infer().await.map_err(|error| none(&error))
}

/// Tells what an error of the client means.
fn explained<K: Resource<DynamicType = ()>>(
    verb: &'static str,
    name: &str,
    error: &kube::Error,
) -> VeleroError {
    let operation = Operation {
        verb,
        plural: K::plural(&()).into_owned(),
        name: name.to_owned(),
    };
    match error {
        kube::Error::Api(status) if matches!(status.code, 401 | 403) => VeleroError::Forbidden {
            operation,
            message: status.message.clone(),
        },
        kube::Error::Api(status) if status.code == 409 => VeleroError::Conflict { operation },
        kube::Error::Api(status) => VeleroError::Api {
            operation,
            message: status.message.clone(),
        },
        _ => VeleroError::Api {
            operation,
            message: chain(error),
        },
    }
}

/// Returns the texts of an error and of those below it that it does not already tell.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        let below = error.to_string();
        if !text.contains(&below) {
            text = format!("{text}: {below}");
        }
        next = error.source();
    }
    text
}
