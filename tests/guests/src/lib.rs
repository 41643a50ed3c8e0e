//! Plugins for suites, made of a few lines of WebAssembly text: honest around, hostile inside.
//!
//! A package of its own, without Careen below it: the tests of the plugin floor, the suites, the
//! benchmark and the fuzz target all make their guests here. Types are those of the contract in
//! `guest-sdk/wit`, written once more by hand, so that a test can also break them.
//! Memory: a component of some kilobytes.

pub mod answers;
pub mod splitting;
pub mod worlds;

/// Version of the WIT package whose interfaces the guests import and export.
pub const PACKAGE_VERSION: &str = "0.1.0";
