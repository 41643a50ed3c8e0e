//! How a strategy's value is made: by itself, or out of a configuration.
//!
//! The host checks a configuration against the plugin's schema before it hands it over, and does
//! that before anything else of a run happens. Memory: whatever the strategy keeps.

/// A strategy that people configure.
///
/// The configuration is JSON, at most 64 KiB; people write it as a table of their strategies file:
///
/// ```toml
/// [scheduling]
/// plugin = "at_night.wasm"
///
/// [scheduling.configuration]
/// begins = 22
/// ends = 6
/// ```
///
/// A strategy is made out of it, once in each instance, before any question. Where the user has
/// configured nothing it is made out of `{}`, which the schema must accept too; give fields a
/// default, or say `required` in the schema, and the host asks the user for it.
///
/// With the feature `json` a strategy can be its own configuration:
///
/// ```
/// # #[cfg(feature = "json")]
/// # mod example {
/// use careen_guest_sdk::{Configured, from_json, register_scheduling};
/// # use careen_guest_sdk::scheduling::{Decision, Pause, Question, RunPlan, Scheduling, TaskRow};
///
/// /// Maintenance between two hours of the day only.
/// #[derive(serde::Deserialize)]
/// #[serde(deny_unknown_fields)]
/// struct AtNight {
///     begins: u8,
///     ends: u8,
/// }
///
/// impl Configured for AtNight {
///     const SCHEMA: &'static str = r#"{
///         "type": "object",
///         "properties": {
///             "begins": { "type": "integer", "minimum": 0, "maximum": 23 },
///             "ends": { "type": "integer", "minimum": 0, "maximum": 23 }
///         },
///         "required": ["begins", "ends"],
///         "additionalProperties": false
///     }"#;
///
///     fn configure(json: &str) -> Result<Self, String> {
///         from_json(json)
///     }
/// }
/// # impl Scheduling for AtNight {
/// #     fn schedule(&self, _: &Question) -> Result<Decision, String> { Err("no".into()) }
/// # }
///
/// register_scheduling!(AtNight, configured);
/// # }
/// ```
pub trait Configured: Sized {
    /// The JSON Schema (2020-12) of the configuration, at most 64 KiB. `EVOLUTION.md` names the
    /// keywords that the host knows; it refuses a plugin whose schema has others.
    const SCHEMA: &'static str;

    /// Makes the strategy out of a JSON text that fits the schema. An error ends the command and
    /// changes nothing; its text is shown to people.
    fn configure(json: &str) -> Result<Self, String>;
}

/// Reads a configuration as JSON; for [`Configured::configure`].
///
/// # Errors
/// What is wrong with it, and where.
#[cfg(feature = "json")]
pub fn from_json<T: serde::de::DeserializeOwned>(json: &str) -> Result<T, String> {
    serde_json::from_str(json).map_err(|error| error.to_string())
}

/// How the registering macros make a strategy.
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "`{T}` cannot be made",
    note = "derive `Default` for `{T}`, or implement `Configured` and register it with \
            `register_…!({T}, configured)`"
)]
pub trait Made<T> {
    /// The schema of its configuration.
    const SCHEMA: Option<&'static str>;

    /// Makes it without a configuration.
    fn unconfigured() -> Result<T, String>;

    /// Makes it out of a configuration.
    fn configure(json: &str) -> Result<T, String>;
}

/// A strategy without a configuration.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub struct ByDefault;

/// A strategy that is [`Configured`].
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub struct ByConfiguration;

impl<T: Default> Made<T> for ByDefault {
    const SCHEMA: Option<&'static str> = None;

    fn unconfigured() -> Result<T, String> {
        Ok(T::default())
    }

    fn configure(_: &str) -> Result<T, String> {
        Err("this plugin takes no configuration".into())
    }
}

impl<T: Configured> Made<T> for ByConfiguration {
    const SCHEMA: Option<&'static str> = Some(T::SCHEMA);

    fn unconfigured() -> Result<T, String> {
        Err("this plugin was asked before it was configured".into())
    }

    fn configure(json: &str) -> Result<T, String> {
        T::configure(json)
    }
}
