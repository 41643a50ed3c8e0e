//! What a plugin says about itself: the optional interface `about` of the contract's version 1.1.
//!
//! It is asked once, after loading, in an instance of its own. Whatever it says is a stranger's
//! text: lengths are checked, what steers a terminal is replaced, and a name has nothing in it that
//! could be taken for the digest beside it. Memory: at most
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
        if name.trim().is_empty() {
            return Err(Failure::Description("no name".into()));
        }
        check_characters("name", &name, " -_.")?;
        check_characters("version", &version, " -_.+")?;
        Ok(Self {
            name: name.trim().to_owned(),
            version,
            summary: without_controls(&summary),
            configuration_schema,
        })
    }
}

/// Refuses everything but letters, digits and `others`.
fn check_characters(what: &str, text: &str, others: &str) -> Result<(), Failure> {
    let is_one = |character: char| character.is_alphanumeric() || others.contains(character);
    match text.chars().all(is_one) {
        true => Ok(()),
        false => Err(Failure::Description(format!(
            "a {what} of other characters than letters, digits and {others:?}"
        ))),
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
        let about = About::new(description(" größe-2.x", "1.0.0-rc1+b", 1_000, 65_536)).unwrap();
        assert_eq!(
            (&*about.name, &*about.version),
            ("größe-2.x", "1.0.0-rc1+b")
        );
        let mut steering = description("n", "1", 0, 0);
        steering.summary = "a\u{1b}b".into();
        assert_eq!(About::new(steering).unwrap().summary, "a b");
        for (bad, words) in [
            (description("", "1", 0, 0), "no name"),
            (description("\n", "1", 0, 0), "no name"),
            (
                description("a (blake3 00)", "1", 0, 0),
                "a name of other characters",
            ),
            (
                description("a\u{1b}b", "1", 0, 0),
                "a name of other characters",
            ),
            (
                description("a", "1, blake3 0", 0, 0),
                "a version of other characters",
            ),
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
