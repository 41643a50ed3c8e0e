//! The contract as this host speaks it: the log that plugins may call, the optional interfaces
//! `about` and `tenants`, and which versions fit.
//!
//! Names of interfaces carry the version of their package. wasmtime matches `1.x` with `1.y`, both
//! ways: an export of `split@1.9.0` is found by who looks for `split@1.2.0`, an import of
//! `host-log@1.0.0` gets the host's. What does not fit is refused here, before anything is linked,
//! with both versions. No memory cost.

use wasmtime::Engine;
use wasmtime::component::Component;
use wasmtime::component::types::ComponentItem;

use super::error::{Failure, harmless};
use super::session::{Guest, LogLevel};

pub(super) mod bindings {
    wasmtime::component::bindgen!({
        path: "../guest-sdk/wit",
        inline: "
            package careen:host;

            world describable {
                import careen:strategy/host-log@1.2.0;
                export careen:strategy/about@1.2.0;
            }
        ",
        world: "careen:host/describable",
        imports: { default: trappable },
    });
}

use bindings::careen::strategy::host_log;

/// Version of the contract that this host speaks.
pub const CONTRACT_VERSION: &str = "1.2.0";

/// Package of every interface between host and plugin.
pub(super) const PACKAGE: &str = "careen:strategy/";

/// The only interface that a plugin may import.
const HOST_LOG: &str = "careen:strategy/host-log";

/// The interface in which a plugin describes itself, as the host looks for it.
pub(super) const ABOUT: &str = "careen:strategy/about@1.2.0";

/// The interface in which a splitting strategy gives snapshots tenants, as the host looks for it.
pub(super) const TENANTS: &str = "careen:strategy/tenants@1.2.0";

/// Interface names of a component that an error shows.
const SHOWN_NAMES_MAX: usize = 8;

/// Refuses imports that no plugin gets, and interfaces of another major version.
pub(super) fn check_names(engine: &Engine, component: &Component) -> Result<(), Failure> {
    let interface = component.component_type();
    for (import, item) in interface.imports(engine) {
        if !needs_host(&item.ty, engine) {
            continue;
        }
        let Some((name, version)) = ours(import) else {
            return Err(Failure::Import(harmless(import)));
        };
        check_major(import, version)?;
        if name != HOST_LOG {
            return Err(Failure::World(format!(
                "it imports {}, which this host, careen:strategy@{CONTRACT_VERSION}, does not have",
                harmless(import)
            )));
        }
    }
    for (export, _) in interface.exports(engine) {
        if let Some((_, version)) = ours(export) {
            check_major(export, version)?;
        }
    }
    Ok(())
}

/// Tells whether a plugin gets what it imports.
pub(super) fn is_given(import: &str, item: &ComponentItem, engine: &Engine) -> bool {
    let ours = ours(import).filter(|(name, _)| *name == HOST_LOG);
    !needs_host(item, engine)
        || ours.is_some_and(|(_, version)| check_major(import, version).is_ok())
}

/// Splits the name of an interface of the contract from its version, which is empty where there is
/// none.
fn ours(name: &str) -> Option<(&str, &str)> {
    name.starts_with(PACKAGE)
        .then(|| name.split_once('@').unwrap_or((name, "")))
}

fn check_major(name: &str, version: &str) -> Result<(), Failure> {
    let major = |version: &str| {
        version
            .split('.')
            .next()
            .and_then(|n| n.parse::<u64>().ok())
    };
    if major(version) == major(CONTRACT_VERSION) {
        return Ok(());
    }
    Err(Failure::World(format!(
        "it has {}, this host speaks careen:strategy@{CONTRACT_VERSION}",
        harmless(name)
    )))
}

/// Turns the linker's words into a failure that names the host's version and what the component
/// exports.
pub(super) fn not_linked(
    engine: &Engine,
    component: &Component,
    error: &wasmtime::Error,
) -> Failure {
    let exports: Vec<String> = component
        .component_type()
        .exports(engine)
        .take(SHOWN_NAMES_MAX)
        .map(|(export, _)| harmless(export))
        .collect();
    let exports = match exports.is_empty() {
        true => "nothing".into(),
        false => exports.join(", "),
    };
    Failure::World(format!(
        "{}; it exports {exports}; this host speaks careen:strategy@{CONTRACT_VERSION}",
        harmless(&format!("{error:#}"))
    ))
}

/// Tells whether the host would have to provide something: an interface of types alone needs
/// nothing.
fn needs_host(item: &ComponentItem, engine: &Engine) -> bool {
    match item {
        ComponentItem::ComponentInstance(instance) => instance
            .exports(engine)
            .any(|(_, item)| !matches!(item.ty, ComponentItem::Type(_))),
        ComponentItem::Type(_) => false,
        _ => true,
    }
}

impl host_log::Host for Guest {
    fn log(&mut self, level: host_log::Level, message: String) -> wasmtime::Result<()> {
        let level = match level {
            host_log::Level::Debug => LogLevel::Debug,
            host_log::Level::Info => LogLevel::Info,
            host_log::Level::Warn => LogLevel::Warn,
            host_log::Level::Error => LogLevel::Error,
        };
        Guest::log(self, level, &message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: what this host says it speaks is what the contract is; method: read the contract.
    #[test]
    fn the_version_is_that_of_the_contract() {
        let wit = include_str!("../../../guest-sdk/wit/strategy.wit");
        assert!(wit.contains(&format!("\npackage careen:strategy@{CONTRACT_VERSION};\n")));
        for optional in [ABOUT, TENANTS] {
            assert!(optional.ends_with(&format!("@{CONTRACT_VERSION}")));
        }
    }

    #[test]
    fn versions_of_one_major_number_fit() {
        for version in ["1.0.0", "1.1.0", "1.99.3"] {
            assert!(check_major("careen:strategy/x", version).is_ok());
        }
        for version in ["0.1.0", "2.0.0", "10.0.0", ""] {
            let name = format!("careen:strategy/x@{version}");
            let told = check_major(&name, version).unwrap_err().to_string();
            assert!(
                told.contains(&name) && told.contains(CONTRACT_VERSION),
                "{told}"
            );
        }
        assert_eq!(
            ours("careen:strategy/x@1.0.0"),
            Some(("careen:strategy/x", "1.0.0"))
        );
        assert_eq!(ours("wasi:cli/run@1.0.0"), None);
    }
}
