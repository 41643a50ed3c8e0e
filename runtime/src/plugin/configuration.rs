//! A plugin's configuration: JSON that the user wrote and that must fit the plugin's own schema.
//!
//! It is checked before anything else happens: size and form where it is read, the schema when the
//! plugin is loaded. A plugin without a schema takes none, and one that the user did not configure
//! gets `{}`, which must fit too. Memory: the text and its tree, about a megabyte for the largest.

use serde_json::Value;

use super::about::About;
use super::error::Failure;
use super::schema::{SCHEMA_BYTES_MAX, Schema};

/// What a plugin gets that the user did not configure.
const NOTHING: &str = "{}";

/// A configuration as JSON; at most 64 KiB.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Configuration {
    text: String,
    value: Value,
}

impl Configuration {
    /// Reads a JSON text.
    ///
    /// # Errors
    /// What is wrong with it: its size, or that it is no JSON.
    pub fn parse(text: &str) -> Result<Self, String> {
        let bytes = text.len();
        if bytes > SCHEMA_BYTES_MAX {
            return Err(format!(
                "{bytes} bytes of JSON; allowed are {SCHEMA_BYTES_MAX}"
            ));
        }
        let value = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let text = text.to_owned();
        Ok(Self { text, value })
    }

    /// Returns the JSON text.
    pub fn text(&self) -> &str {
        &self.text
    }
}

/// Checks what the user configured against what the plugin says, and returns the text that each
/// instance gets; none for a plugin that takes no configuration.
pub(super) fn agreed(
    about: Option<&About>,
    configured: Option<&Configuration>,
) -> Result<Option<String>, Failure> {
    let schema = about.and_then(|about| about.configuration_schema.as_deref());
    let Some(schema) = schema else {
        return match configured {
            None => Ok(None),
            Some(_) => Err(Failure::Configuration(
                "it takes no configuration, but there is one".into(),
            )),
        };
    };
    let schema = Schema::parse(schema).map_err(Failure::Schema)?;
    let nothing = Configuration::parse(NOTHING).map_err(Failure::Configuration)?;
    let configuration = configured.unwrap_or(&nothing);
    let fits = schema.check(&configuration.value);
    fits.map_err(Failure::Configuration)?;
    Ok(Some(configuration.text.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn about(schema: Option<&str>) -> About {
        About {
            name: "n".into(),
            version: "1".into(),
            summary: String::new(),
            configuration_schema: schema.map(str::to_owned),
        }
    }

    #[test]
    fn a_plugin_without_a_schema_takes_none() {
        let configured = Configuration::parse("{}").unwrap();
        for about in [None, Some(about(None))] {
            assert_eq!(agreed(about.as_ref(), None).unwrap(), None);
            let failure = agreed(about.as_ref(), Some(&configured)).unwrap_err();
            assert_eq!(failure.code(), "plugin-configuration");
        }
    }

    #[test]
    fn what_is_not_configured_is_an_empty_object_and_must_fit() {
        let free = about(Some("{}"));
        assert_eq!(agreed(Some(&free), None).unwrap().as_deref(), Some("{}"));
        let strict = about(Some(r#"{"required":["tenants"]}"#));
        let failure = agreed(Some(&strict), None).unwrap_err();
        assert!(
            failure.to_string().contains("lacks \"tenants\""),
            "{failure}"
        );
        let configured = Configuration::parse(r#"{ "tenants": 1 }"#).unwrap();
        let given = agreed(Some(&strict), Some(&configured)).unwrap();
        assert_eq!(given.as_deref(), Some(configured.text()));
        let broken = about(Some("{"));
        let failure = agreed(Some(&broken), Some(&configured)).unwrap_err();
        assert_eq!(failure.code(), "plugin-schema");
    }

    #[test]
    fn what_is_no_json_or_too_much_is_refused() {
        assert!(Configuration::parse("{").is_err());
        assert!(Configuration::parse("").is_err());
        let deep = "[".repeat(10_000);
        assert!(
            Configuration::parse(&deep)
                .unwrap_err()
                .contains("recursion")
        );
        let huge = format!("\"{}\"", "x".repeat(SCHEMA_BYTES_MAX));
        assert!(
            Configuration::parse(&huge)
                .unwrap_err()
                .contains("allowed are 65536")
        );
    }
}
