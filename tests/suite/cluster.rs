//! The manifests in a real cluster's control plane, and the Job's life with the real program.
//!
//! Everything that kustomize and Helm render is applied to the API server in a namespace whose pods
//! must be restricted (`admission`). The controllers make Jobs and pods of it; `kit::kubelet` runs
//! them in the image's root and a memory cgroup, and reports how they ended; then the Job follows
//! (`life`, `evictions`, `plugins`, `at_its_time`, `velero_pod`). `page` types what the page for
//! new users says.

mod admission;
mod at_its_time;
mod evictions;
mod life;
mod page;
mod plugins;

mod site;
mod stores;
mod velero_pod;
