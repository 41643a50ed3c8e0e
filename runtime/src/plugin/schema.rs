//! JSON Schemas of configurations: what a plugin says that its configuration looks like.
//!
//! The schema comes from a stranger's plugin, and some schemas take for ever: a dozen definitions
//! that each name the next one twice, one that names itself, a pattern that backtracks. So this is
//! a checker of our own with a budget, not a library without one: the keywords of JSON Schema
//! 2020-12 that configurations need, patterns in linear time, references within the document. A
//! schema with any other keyword is refused: what nobody checks must not look checked.
//!
//! Memory: the schema as a tree, about a megabyte for the largest, and its patterns. Nothing is
//! fetched from anywhere.

mod check;

use std::collections::BTreeMap;

use regex_lite::{Regex, RegexBuilder};
use serde_json::{Map, Value};

/// Largest schema, and largest configuration.
pub(super) const SCHEMA_BYTES_MAX: usize = 64 << 10;

/// Patterns of a schema.
const PATTERNS_MAX: usize = 64;

/// Memory of one compiled pattern; it bounds the time of a match as well.
const PATTERN_BYTES_MAX: usize = 32 << 10;

/// Where definitions are that a `$ref` may name.
const DEFINITIONS: [&str; 2] = ["$defs", "definitions"];

/// A schema that can be checked against.
#[derive(Debug)]
pub(super) struct Schema {
    root: Value,
    patterns: BTreeMap<String, Regex>,
}

/// What a keyword's value must be.
enum Form {
    /// For people; the host does not look at it.
    Anything,
    /// A schema.
    Schema,
    /// An object of schemas.
    Named,
    /// A list of schemas, at least one.
    Listed,
    /// An object of schemas under patterns.
    Patterned,
    /// The name of a type, or a list of such names.
    Type,
    /// A list of values.
    Values,
    /// A list of names.
    Names,
    /// A number.
    Number,
    /// A number above zero.
    Divisor,
    /// A whole number, zero or more.
    Count,
    /// True or false.
    Bool,
    /// A regular expression.
    Pattern,
    /// `#`, `#/$defs/NAME` or `#/definitions/NAME`.
    Reference,
}

fn form(keyword: &str) -> Option<Form> {
    Some(match keyword {
        "$schema" | "$comment" | "title" | "description" | "default" | "examples" | "format"
        | "deprecated" | "readOnly" | "writeOnly" | "const" => Form::Anything,
        "additionalProperties" | "items" | "propertyNames" | "not" | "if" | "then" | "else" => {
            Form::Schema
        }
        "properties" | "$defs" | "definitions" => Form::Named,
        "allOf" | "anyOf" | "oneOf" | "prefixItems" => Form::Listed,
        "patternProperties" => Form::Patterned,
        "type" => Form::Type,
        "enum" => Form::Values,
        "required" => Form::Names,
        "minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum" => Form::Number,
        "multipleOf" => Form::Divisor,
        "minLength" | "maxLength" | "minItems" | "maxItems" | "minProperties" | "maxProperties" => {
            Form::Count
        }
        "uniqueItems" => Form::Bool,
        "pattern" => Form::Pattern,
        "$ref" => Form::Reference,
        _ => return None,
    })
}

impl Schema {
    /// Reads a schema and looks at every keyword in it.
    ///
    /// # Errors
    /// What is wrong, and where.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if text.len() > SCHEMA_BYTES_MAX {
            let bytes = text.len();
            return Err(format!(
                "it has {bytes} bytes; allowed are {SCHEMA_BYTES_MAX}"
            ));
        }
        let root: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let mut patterns = BTreeMap::new();
        Reader {
            root: &root,
            patterns: &mut patterns,
        }
        .schema(&root, "#")?;
        Ok(Self { root, patterns })
    }

    /// Returns what a reference names; it was found when the schema was read.
    fn target(&self, reference: &str) -> Option<&Value> {
        target(&self.root, reference)
    }
}

/// Finds what a reference names.
fn target<'a>(root: &'a Value, reference: &str) -> Option<&'a Value> {
    if reference == "#" {
        return Some(root);
    }
    let (definitions, name) = reference.strip_prefix("#/")?.split_once('/')?;
    let known = DEFINITIONS.contains(&definitions) && !name.contains('/');
    let name = name.replace("~1", "/").replace("~0", "~");
    known.then(|| root.get(definitions)?.get(name)).flatten()
}

struct Reader<'a> {
    root: &'a Value,
    patterns: &'a mut BTreeMap<String, Regex>,
}

impl Reader<'_> {
    /// Looks at a schema. Its depth is that of the document, which the JSON parser limits to 128.
    fn schema(&mut self, schema: &Value, place: &str) -> Result<(), String> {
        match schema {
            Value::Bool(_) => Ok(()),
            Value::Object(keywords) => {
                for (keyword, value) in keywords {
                    self.keyword(keyword, value, &format!("{place}/{keyword}"))?;
                }
                Ok(())
            }
            _ => Err(format!("{place} is no schema")),
        }
    }

    fn keyword(&mut self, keyword: &str, value: &Value, place: &str) -> Result<(), String> {
        let form =
            form(keyword).ok_or_else(|| format!("{place}: this keyword is not known here"))?;
        let bad = |what: &str| Err(format!("{place} must be {what}"));
        let all = |list: Option<&Vec<Value>>, is: fn(&Value) -> bool| {
            list.is_some_and(|list| list.iter().all(is))
        };
        match form {
            Form::Anything => Ok(()),
            Form::Schema => self.schema(value, place),
            Form::Named | Form::Patterned => {
                let Some(schemas) = value.as_object() else {
                    return bad("an object of schemas");
                };
                if matches!(form, Form::Patterned) {
                    for pattern in schemas.keys() {
                        self.pattern(pattern, place)?;
                    }
                }
                self.named(schemas, place)
            }
            Form::Listed => match value.as_array() {
                Some(schemas) if !schemas.is_empty() => schemas
                    .iter()
                    .enumerate()
                    .try_for_each(|(at, schema)| self.schema(schema, &format!("{place}/{at}"))),
                _ => bad("a list of schemas"),
            },
            Form::Type if is_type(value) || all(value.as_array(), is_type) => Ok(()),
            Form::Type => bad("the name of a type, or a list of such names"),
            Form::Values if value.is_array() => Ok(()),
            Form::Values => bad("a list of values"),
            Form::Names if all(value.as_array(), Value::is_string) => Ok(()),
            Form::Names => bad("a list of names"),
            Form::Number if value.is_number() => Ok(()),
            Form::Number => bad("a number"),
            Form::Divisor if value.as_f64().is_some_and(|number| number > 0.0) => Ok(()),
            Form::Divisor => bad("a number above zero"),
            Form::Count if value.is_u64() => Ok(()),
            Form::Count => bad("a whole number, zero or more"),
            Form::Bool if value.is_boolean() => Ok(()),
            Form::Bool => bad("true or false"),
            Form::Pattern => match value.as_str() {
                Some(pattern) => self.pattern(pattern, place),
                None => bad("a regular expression"),
            },
            Form::Reference => match value.as_str() {
                Some(name) if target(self.root, name).is_some() => Ok(()),
                _ => bad("#, #/$defs/NAME or #/definitions/NAME, and there"),
            },
        }
    }

    fn named(&mut self, schemas: &Map<String, Value>, place: &str) -> Result<(), String> {
        schemas
            .iter()
            .try_for_each(|(name, schema)| self.schema(schema, &format!("{place}/{name}")))
    }

    fn pattern(&mut self, pattern: &str, place: &str) -> Result<(), String> {
        if self.patterns.contains_key(pattern) {
            return Ok(());
        }
        if self.patterns.len() == PATTERNS_MAX {
            return Err(format!("{place}: more than {PATTERNS_MAX} patterns"));
        }
        let mut builder = RegexBuilder::new(pattern);
        let built = builder.size_limit(PATTERN_BYTES_MAX).build();
        let regex = built.map_err(|error| format!("{place}: {error}"))?;
        self.patterns.insert(pattern.to_owned(), regex);
        Ok(())
    }
}

fn is_type(value: &Value) -> bool {
    const NAMES: [&str; 7] = [
        "null", "boolean", "integer", "number", "string", "array", "object",
    ];
    value.as_str().is_some_and(|name| NAMES.contains(&name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_schema_is_refused_with_its_place() {
        for (text, words) in [
            ("", "EOF"),
            ("1", "# is no schema"),
            (r#"{"$id":"x"}"#, "#/$id: this keyword is not known"),
            (
                r#"{"properties":{"a":{"minimun":1}}}"#,
                "#/properties/a/minimun",
            ),
            (r#"{"properties":[]}"#, "#/properties must be an object"),
            (r#"{"items":[{}]}"#, "#/items is no schema"),
            (r#"{"allOf":[]}"#, "#/allOf must be a list"),
            (r#"{"allOf":[{},3]}"#, "#/allOf/1 is no schema"),
            (r#"{"type":"float"}"#, "#/type must be"),
            (r#"{"type":["string","text"]}"#, "#/type must be"),
            (r#"{"required":[1]}"#, "#/required must be"),
            (r#"{"minimum":"1"}"#, "#/minimum must be a number"),
            (r#"{"multipleOf":0}"#, "#/multipleOf must be"),
            (r#"{"maxLength":-1}"#, "#/maxLength must be"),
            (r#"{"maxItems":1.5}"#, "#/maxItems must be"),
            (r#"{"pattern":"("}"#, "#/pattern: "),
            (r#"{"pattern":"(a{900}){900}"}"#, "#/pattern: "),
            (r##"{"$ref":"#/$defs/x"}"##, "#/$ref must be"),
            (
                r##"{"properties":{"x":{}},"$ref":"#/properties/x"}"##,
                "#/$ref must be",
            ),
            (r#"{"$ref":"https://example.com/schema"}"#, "#/$ref must be"),
            (r#"{"$dynamicRef":"x"}"#, "not known"),
            (r#"{"unevaluatedProperties":false}"#, "not known"),
        ] {
            let told = Schema::parse(text).unwrap_err();
            assert!(told.contains(words), "{text}: {told}");
        }
    }

    #[test]
    fn huge_and_deep_schemas_are_refused() {
        let huge = format!("{{\"title\":\"{}\"}}", "x".repeat(SCHEMA_BYTES_MAX));
        assert!(
            Schema::parse(&huge)
                .unwrap_err()
                .contains("allowed are 65536")
        );
        let deep = format!("{}{{}}{}", r#"{"not":"#.repeat(8_000), "}".repeat(8_000));
        assert!(
            Schema::parse(&deep)
                .unwrap_err()
                .contains("recursion limit")
        );
        let patterns: Vec<_> = (0..65)
            .map(|n| format!("{{\"pattern\":\"a{n}\"}}"))
            .collect();
        let many = format!("{{\"allOf\":[{}]}}", patterns.join(","));
        assert!(Schema::parse(&many).unwrap_err().contains("64 patterns"));
    }
}
