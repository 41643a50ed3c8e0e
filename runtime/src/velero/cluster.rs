//! The Kubernetes API as this floor sees it: one namespace, five verbs, no waiting for ever.
//!
//! A client of the `kube` crate behind calls that block, so that the floors above need not await.
//! Lists come page by page, smaller ones where objects are large. Reads that fail for a moment are
//! made again ([`super::asking`]); the client's own repetition is off, as it may wait for minutes,
//! and a Lease does not. Memory: the client's 4 MiB, and a page of at most [`PAGE`] objects.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use k8s_openapi::NamespaceResourceScope;
use kube::api::{GetParams, ListParams, ObjectList, Patch, PatchParams, PostParams, Request};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::asking::{Asker, Patience, chain};
use super::error::{Operation, VeleroError};
use crate::maintenance::watch::StopFlag;

/// Objects of a page; those of Velero have 1 to 10 KiB.
const PAGE: u32 = 250;

/// How long a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

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
    /// How long answers are waited for, unless another patience is asked for: then no longer.
    pub patience: Patience,
}

/// A connection to the API server, for one namespace; copies share it.
#[derive(Clone)]
pub struct Cluster {
    asker: Arc<Asker>,
    patience: Patience,
    /// What was asked for when we connected.
    given: Patience,
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
    /// Reads the configuration; nothing is asked of the API server yet. Once `stop` is set, what
    /// heeds it waits no more.
    ///
    /// # Errors
    /// [`VeleroError::NoCluster`] where there is no usable configuration.
    pub fn connect(options: &ClusterOptions, stop: StopFlag) -> Result<Self, VeleroError> {
        let none = |error: &dyn std::fmt::Display| VeleroError::NoCluster(error.to_string());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| none(&error))?;
        let mut config = runtime.block_on(configuration(options))?;
        config.connect_timeout = Some(CONNECT_TIMEOUT);
        // Ours come first, and say what was waited for.
        let longest = options.patience.one.saturating_add(CONNECT_TIMEOUT);
        config.read_timeout = Some(longest);
        config.write_timeout = Some(longest);
        config.reset_reader_on_write = true;
        config.default_retry = false;
        let client = {
            let _entered = runtime.enter();
            Client::try_from(config).map_err(|error| none(&chain(&error)))?
        };
        let asker = Asker {
            runtime,
            client,
            stop,
            is_away: AtomicBool::new(false),
        };
        Ok(Self {
            asker: Arc::new(asker),
            patience: options.patience,
            given: options.patience,
            namespace: options.namespace.clone(),
        })
    }

    /// Returns the namespace.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Returns the same connection with another patience, of which no try takes longer than was
    /// asked for when we connected.
    pub fn with(&self, patience: Patience) -> Self {
        Self {
            patience: patience.within(self.given),
            ..self.clone()
        }
    }

    /// Does `what` again while it fails with what may pass; for what looks before it writes.
    ///
    /// # Errors
    /// Those of `what`.
    pub fn persist<T>(
        &self,
        what: impl FnMut() -> Result<T, VeleroError>,
    ) -> Result<T, VeleroError> {
        self.asker.persist(self.patience, what)
    }

    /// Asks once; `make` makes the request for the path of the kind.
    fn ask<K: Namespaced, T: DeserializeOwned>(
        &self,
        verb: &'static str,
        name: &str,
        make: impl FnOnce(&Request) -> Result<http::Request<Vec<u8>>, kube::core::request::Error>,
    ) -> Result<T, VeleroError> {
        let operation = Operation {
            verb,
            plural: K::plural(&()).into_owned(),
            name: name.to_owned(),
        };
        let path = K::url_path(&(), Some(&self.namespace));
        match make(&Request::new(path)) {
            Ok(request) => self.asker.ask(self.patience, &operation, request),
            Err(error) => Err(VeleroError::Refused {
                operation,
                message: chain(&error),
            }),
        }
    }

    /// Shows every object of a kind, those with `labels` (a selector, empty for all), page by page.
    /// A listing that takes so long that the server forgets its beginning goes on in the present.
    ///
    /// # Errors
    /// The API's; a kind that the cluster does not have is [`VeleroError::NoVelero`].
    pub fn each<K: Namespaced>(
        &self,
        plural: &'static str,
        labels: &str,
        see: &mut dyn FnMut(K) -> Result<(), VeleroError>,
    ) -> Result<(), VeleroError> {
        let mut params = ListParams::default().limit(PAGE);
        params.label_selector = Some(labels.to_owned()).filter(|labels| !labels.is_empty());
        loop {
            let ask = || self.ask::<K, ObjectList<K>>("list", "", |path| path.list(&params));
            let page = match self.persist(ask) {
                Ok(page) => page,
                Err(VeleroError::NotFound { .. }) => {
                    return Err(VeleroError::NoVelero {
                        plural,
                        namespace: self.namespace.clone(),
                    });
                }
                // A token that was refused is not taken again: no loop.
                Err(VeleroError::Expired {
                    token: Some(token), ..
                }) if params.continue_token.as_deref() != Some(&token) => {
                    params.continue_token = Some(token);
                    continue;
                }
                Err(VeleroError::TooLarge { .. }) if params.limit > Some(1) => {
                    params.limit = params.limit.map(|limit| limit / 2);
                    continue;
                }
                Err(error) => return Err(error),
            };
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
        let params = GetParams::default();
        let ask = || self.ask::<K, K>("get", name, |path| path.get(name, &params));
        match self.persist(ask) {
            Ok(object) => Ok(Some(object)),
            Err(VeleroError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Changes exactly the fields of `patch`, a JSON merge patch; asks once.
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
        self.ask::<K, K>("patch", name, |path| {
            path.patch(name, &params, &Patch::Merge(patch))
        })
    }

    /// Makes an object; asks once.
    ///
    /// # Errors
    /// [`VeleroError::Conflict`] where there is one of this name.
    pub fn create<K: Namespaced + Serialize>(
        &self,
        name: &str,
        object: &K,
    ) -> Result<K, VeleroError> {
        let body = serde_json::to_vec(object);
        self.ask::<K, K>("create", name, |path| {
            path.create(&written_by_us(), body.map_err(written)?)
        })
    }

    /// Replaces an object by another of the same `resourceVersion`; asks once.
    ///
    /// # Errors
    /// [`VeleroError::Conflict`] where it was changed since.
    pub fn replace<K: Namespaced + Serialize>(
        &self,
        name: &str,
        object: &K,
    ) -> Result<K, VeleroError> {
        let body = serde_json::to_vec(object);
        self.ask::<K, K>("update", name, |path| {
            path.replace(name, &written_by_us(), body.map_err(written)?)
        })
    }
}

fn written(error: serde_json::Error) -> kube::core::request::Error {
    kube::core::request::Error::SerializeBody(error)
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
