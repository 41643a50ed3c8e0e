//! Plugins for suites, made of a few lines of WebAssembly text: honest around, hostile inside.
//!
//! A package of its own, without Careen below it: the tests of the plugin floor, the suites, the
//! benchmark and the fuzz target all make their guests here. Types are those of the contract in
//! `guest-sdk/wit`, written once more by hand, so that a test can also break them.
//! Memory: a component of some kilobytes.

pub mod answers;
pub mod splitting;
pub mod tenants;
pub mod worlds;

/// Version of the interfaces that guests import and export, unless a test says otherwise: that in
/// which the interfaces of the strategies came. A guest with `about` has [`ABOUT_VERSION`].
pub const PACKAGE_VERSION: &str = "1.0.0";

/// Version in which the interface `tenants` came.
pub const TENANTS_VERSION: &str = "1.2.0";

/// Version in which the interface `about` came.
pub const ABOUT_VERSION: &str = "1.1.0";
