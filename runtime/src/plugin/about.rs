//! What a plugin says about itself: the optional interface `about` of the contract's version 1.1.
//!
//! It is asked once, after loading, in an instance of its own. Whatever it says is a stranger's
//! text: lengths are checked, what steers a terminal is replaced. Memory: at most
//! [`SCHEMA_BYTES_MAX`] and a kilobyte.

use super::contract::bindings::exports::careen::strategy::about as wit;
use super::error::{Failure, GUEST_TEXT_BYTES_MAX, without_controls};
use super::schema::SCHEMA_BYTES_MAX;

/// Longest name, and longest version.
const NAME_BYTES_MAX: usize = 100;

/// What a plugin says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct About {
    /// Its name, 1 to 100 bytes.
    pub name: String,
    /// Its own version, at most 100 bytes; shown, never compared.
    pub version: String,
    /// What it decides, at most 1,000 bytes.
    pub summary: String,
    /// The JSON Schema of its configuration, at most 64 KiB, not yet looked at; none for a plugin
    /// that takes no configuration.
    pub configuration_schema: Option<String>,
}

impl About {
    /// Checks a description, and makes its texts harmless.
    pub(super) fn new(description: wit::Description) -> Result<Self, Failure> {
        let wit::Description {
            name,
            version,
            summary,
            configuration_schema,
        } = description;
        let schema_bytes = configuration_schema.as_ref().map_or(0, String::len);
        for (what, bytes, most) in [
            ("name", name.len(), NAME_BYTES_MAX),
            ("version", version.len(), NAME_BYTES_MAX),
            ("summary", summary.len(), GUEST_TEXT_BYTES_MAX),
            ("configuration schema", schema_bytes, SCHEMA_BYTES_MAX),
        ] {
            if bytes > most {
                return Err(Failure::Description(format!(
                    "a {what} of {bytes} bytes; allowed are {most}"
                )));
            }
        }
        let name = without_controls(&name).trim().to_owned();
        if name.is_empty() {
            return Err(Failure::Description("no name".into()));
        }
        Ok(Self {
            name,
            version: without_controls(&version),
            summary: without_controls(&summary),
            configuration_schema,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn description(name: &str, version: &str, summary: usize, schema: usize) -> wit::Description {
        wit::Description {
            name: name.into(),
            version: version.into(),
            summary: "s".repeat(summary),
            configuration_schema: (schema > 0).then(|| " ".repeat(schema)),
        }
    }

    #[test]
    fn texts_are_checked_and_made_harmless() {
        let about = About::new(description(" a\u{1b}b\n", "1\t0", 1_000, 65_536)).unwrap();
        assert_eq!((&*about.name, &*about.version), ("a b", "1 0"));
        for (bad, words) in [
            (description("", "1", 0, 0), "no name"),
            (description("\n", "1", 0, 0), "no name"),
            (description(&"n".repeat(101), "1", 0, 0), "a name of 101"),
            (description("n", &"1".repeat(101), 0, 0), "a version of 101"),
            (description("n", "1", 1_001, 0), "a summary of 1001 bytes"),
            (description("n", "1", 0, 65_537), "schema of 65537 bytes"),
        ] {
            let failure = About::new(bad).unwrap_err();
            assert_eq!(failure.code(), "plugin-description");
            assert!(failure.to_string().contains(words), "{failure}");
        }
    }
}
