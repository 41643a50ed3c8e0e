//! Checks a value against a schema, within a budget of steps.
//!
//! Every look at a value costs a step, comparisons and patterns cost more; a schema that needs more
//! than [`STEPS_MAX`], or nests deeper than [`DEPTH_MAX`], is refused, whatever its value. So a
//! check ends within a second, and its stack is bounded. Memory: the path to the value, on the
//! stack.

use std::cmp::Ordering;
use std::fmt;

use serde_json::{Map, Number, Value};

use super::Schema;

/// Steps of one check: some tenths of a second. Honest configurations need some hundred.
const STEPS_MAX: u64 = 2_000_000;

/// Schemas inside each other, references included.
const DEPTH_MAX: usize = 200;

/// Steps of a pattern for each byte of the text: its states.
const PATTERN_STEPS: u64 = 16;

/// Values that a message shows, in bytes.
const SHOWN_BYTES_MAX: usize = 60;

/// Why a value was not accepted.
enum Fault {
    /// It does not fit: where, and why.
    Misfit(String),
    /// The schema asks for too much.
    Endless,
}

/// Where a value is: the keys and numbers above it.
struct Place<'a> {
    above: Option<&'a Place<'a>>,
    part: &'a dyn fmt::Display,
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.above {
            Some(above) => write!(f, "{above}/{}", self.part),
            None => self.part.fmt(f),
        }
    }
}

impl Schema {
    /// Checks a value.
    ///
    /// # Errors
    /// Where it does not fit and why, or that the schema asks for more than a check may take.
    pub(in crate::plugin) fn check(&self, value: &Value) -> Result<(), String> {
        let mut checker = Checker {
            schema: self,
            steps: 0,
            depth: 0,
        };
        let place = Place {
            above: None,
            part: &"configuration",
        };
        match checker.check(&self.root, value, &place) {
            Ok(()) => Ok(()),
            Err(Fault::Misfit(why)) => Err(why),
            Err(Fault::Endless) => Err(format!(
                "its schema takes more than {STEPS_MAX} steps, or refers to itself without end"
            )),
        }
    }
}

struct Checker<'a> {
    schema: &'a Schema,
    steps: u64,
    depth: usize,
}

type Checked = Result<(), Fault>;

fn misfit(place: &Place<'_>, why: impl fmt::Display) -> Checked {
    Err(Fault::Misfit(format!("{place} {why}")))
}

impl<'a> Checker<'a> {
    fn spend(&mut self, steps: u64) -> Checked {
        self.steps = self.steps.saturating_add(steps);
        match self.steps <= STEPS_MAX {
            true => Ok(()),
            false => Err(Fault::Endless),
        }
    }

    fn check(&mut self, schema: &'a Value, value: &Value, place: &Place<'_>) -> Checked {
        self.spend(1)?;
        let keywords = match schema {
            Value::Object(keywords) => keywords,
            Value::Bool(false) => return misfit(place, "may not be there"),
            _ => return Ok(()),
        };
        if self.depth == DEPTH_MAX {
            return Err(Fault::Endless);
        }
        self.depth += 1;
        let checked = self.keywords(keywords, value, place);
        self.depth -= 1;
        checked
    }

    fn keywords(
        &mut self,
        keywords: &'a Map<String, Value>,
        value: &Value,
        place: &Place<'_>,
    ) -> Checked {
        for (keyword, wanted) in keywords {
            self.spend(1)?;
            match (keyword.as_str(), wanted) {
                ("$ref", Value::String(name)) => {
                    if let Some(target) = self.schema.target(name) {
                        self.check(target, value, place)?;
                    }
                }
                ("type", _) => check_type(wanted, value, place)?,
                ("const", _) => {
                    if !self.same(wanted, value)? {
                        return misfit(place, format_args!("must be {}", shown(wanted)));
                    }
                }
                ("enum", Value::Array(values)) => self.one_of_values(values, value, place)?,
                ("allOf" | "anyOf" | "oneOf", Value::Array(schemas)) => {
                    self.combined(keyword, schemas, value, place)?;
                }
                ("not", _) => {
                    if self.fits(wanted, value, place)? {
                        return misfit(place, "is what the schema excludes");
                    }
                }
                ("if", _) => {
                    let fits = self.fits(wanted, value, place)?;
                    let next = keywords.get(if fits { "then" } else { "else" });
                    if let Some(next) = next {
                        self.check(next, value, place)?;
                    }
                }
                _ => match value {
                    Value::Number(number) => check_number(keyword, wanted, number, place)?,
                    Value::String(text) => self.check_text(keyword, wanted, text, place)?,
                    Value::Array(items) => {
                        self.check_items(keyword, wanted, keywords, items, place)?;
                    }
                    Value::Object(members) => {
                        self.check_members(keyword, wanted, keywords, members, place)?;
                    }
                    Value::Null | Value::Bool(_) => {}
                },
            }
        }
        Ok(())
    }

    /// Tells whether a value fits, without the reason.
    fn fits(&mut self, schema: &'a Value, value: &Value, place: &Place<'_>) -> Result<bool, Fault> {
        match self.check(schema, value, place) {
            Ok(()) => Ok(true),
            Err(Fault::Misfit(_)) => Ok(false),
            Err(Fault::Endless) => Err(Fault::Endless),
        }
    }

    fn combined(
        &mut self,
        keyword: &str,
        schemas: &'a [Value],
        value: &Value,
        place: &Place<'_>,
    ) -> Checked {
        let (mut fitting, mut first) = (0, None);
        for schema in schemas {
            match (self.check(schema, value, place), keyword) {
                (Err(Fault::Endless), _) => return Err(Fault::Endless),
                (Err(misfit), "allOf") => return Err(misfit),
                (Err(Fault::Misfit(why)), _) => first = first.or(Some(why)),
                (Ok(()), "anyOf") => return Ok(()),
                (Ok(()), _) => fitting += 1,
            }
        }
        match (keyword, fitting, first) {
            ("allOf", _, _) | ("oneOf", 1, _) => Ok(()),
            (_, 0, Some(why)) => misfit(
                place,
                format_args!(
                    "fits none of {} alternatives; the first: {why}",
                    schemas.len()
                ),
            ),
            _ => misfit(place, format_args!("fits {fitting} alternatives, not one")),
        }
    }

    fn one_of_values(&mut self, values: &[Value], value: &Value, place: &Place<'_>) -> Checked {
        for wanted in values {
            if self.same(wanted, value)? {
                return Ok(());
            }
        }
        let names: Vec<_> = values.iter().take(10).map(shown).collect();
        misfit(place, format_args!("must be one of {}", names.join(", ")))
    }

    /// Compares two values; numbers by their value, objects whatever their order.
    fn same(&mut self, one: &Value, other: &Value) -> Result<bool, Fault> {
        self.spend(1)?;
        Ok(match (one, other) {
            (Value::Number(one), Value::Number(other)) => {
                compare(one, other) == Some(Ordering::Equal)
            }
            (Value::String(one), Value::String(other)) => {
                self.spend(one.len().min(other.len()) as u64 / 16)?;
                one == other
            }
            (Value::Array(one), Value::Array(other)) => {
                let mut same = one.len() == other.len();
                for (one, other) in one.iter().zip(other) {
                    same = same && self.same(one, other)?;
                }
                same
            }
            (Value::Object(one), Value::Object(other)) => {
                let mut same = one.len() == other.len();
                for (name, one) in one {
                    same = match other.get(name) {
                        Some(other) if same => self.same(one, other)?,
                        _ => false,
                    };
                }
                same
            }
            _ => one == other,
        })
    }

    fn check_text(
        &mut self,
        keyword: &str,
        wanted: &Value,
        text: &str,
        place: &Place<'_>,
    ) -> Checked {
        if let "minLength" | "maxLength" = keyword {
            self.spend(text.len() as u64 / 64)?;
            return check_count(keyword, wanted, text.chars().count(), "characters", place);
        }
        if let ("pattern", Value::String(pattern)) = (keyword, wanted)
            && !self.matches(pattern, text)?
        {
            return misfit(place, format_args!("does not match {pattern:?}"));
        }
        Ok(())
    }

    fn matches(&mut self, pattern: &str, text: &str) -> Result<bool, Fault> {
        self.spend((text.len() as u64 + 1) * PATTERN_STEPS)?;
        let regex = self.schema.patterns.get(pattern);
        Ok(regex.is_some_and(|regex| regex.is_match(text)))
    }

    fn check_items(
        &mut self,
        keyword: &str,
        wanted: &'a Value,
        keywords: &'a Map<String, Value>,
        items: &[Value],
        place: &Place<'_>,
    ) -> Checked {
        match (keyword, wanted) {
            ("minItems" | "maxItems", _) => {
                check_count(keyword, wanted, items.len(), "items", place)
            }
            ("uniqueItems", Value::Bool(true)) => {
                for (at, item) in items.iter().enumerate() {
                    for earlier in &items[..at] {
                        if self.same(earlier, item)? {
                            return misfit(place, format_args!("has {} twice", shown(item)));
                        }
                    }
                }
                Ok(())
            }
            ("prefixItems", Value::Array(schemas)) => {
                let pairs = items.iter().zip(schemas).enumerate();
                for (at, (item, schema)) in pairs {
                    self.check(schema, item, &below(place, &at))?;
                }
                Ok(())
            }
            ("items", _) => {
                let prefix = keywords.get("prefixItems").and_then(Value::as_array);
                let skipped = prefix.map_or(0, Vec::len);
                for (at, item) in items.iter().enumerate().skip(skipped) {
                    self.check(wanted, item, &below(place, &at))?;
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn check_members(
        &mut self,
        keyword: &str,
        wanted: &'a Value,
        keywords: &'a Map<String, Value>,
        members: &Map<String, Value>,
        place: &Place<'_>,
    ) -> Checked {
        match (keyword, wanted) {
            ("minProperties" | "maxProperties", _) => {
                check_count(keyword, wanted, members.len(), "members", place)
            }
            ("required", Value::Array(names)) => {
                for name in names.iter().filter_map(Value::as_str) {
                    self.spend(1)?;
                    if !members.contains_key(name) {
                        return misfit(place, format_args!("lacks {name:?}"));
                    }
                }
                Ok(())
            }
            ("properties", Value::Object(schemas)) => {
                for (name, member) in members {
                    self.spend(1)?;
                    if let Some(schema) = schemas.get(name) {
                        self.check(schema, member, &below(place, name))?;
                    }
                }
                Ok(())
            }
            ("patternProperties", Value::Object(schemas)) => {
                for (name, member) in members {
                    for (pattern, schema) in schemas {
                        if self.matches(pattern, name)? {
                            self.check(schema, member, &below(place, name))?;
                        }
                    }
                }
                Ok(())
            }
            ("propertyNames", _) => {
                for name in members.keys() {
                    let text = Value::String(name.clone());
                    self.check(wanted, &text, &below(place, name))?;
                }
                Ok(())
            }
            ("additionalProperties", _) => {
                for (name, member) in members {
                    if !self.is_named(keywords, name)? {
                        self.check(wanted, member, &below(place, name))?;
                    }
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Tells whether `properties` or `patternProperties` know a member.
    fn is_named(&mut self, keywords: &Map<String, Value>, name: &str) -> Result<bool, Fault> {
        let object = |keyword| keywords.get(keyword).and_then(Value::as_object);
        if object("properties").is_some_and(|known| known.contains_key(name)) {
            return Ok(true);
        }
        for pattern in object("patternProperties").into_iter().flat_map(Map::keys) {
            if self.matches(pattern, name)? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

fn below<'a>(above: &'a Place<'a>, part: &'a dyn fmt::Display) -> Place<'a> {
    Place {
        above: Some(above),
        part,
    }
}

fn check_type(wanted: &Value, value: &Value, place: &Place<'_>) -> Checked {
    let is = |name: &Value| match (name.as_str().unwrap_or_default(), value) {
        ("null", Value::Null)
        | ("boolean", Value::Bool(_))
        | ("number", Value::Number(_))
        | ("string", Value::String(_))
        | ("array", Value::Array(_))
        | ("object", Value::Object(_)) => true,
        ("integer", Value::Number(number)) => {
            !number.is_f64() || number.as_f64().is_some_and(|number| number.fract() == 0.0)
        }
        _ => false,
    };
    match wanted.as_array() {
        None if is(wanted) => Ok(()),
        Some(names) if names.iter().any(is) => Ok(()),
        _ => misfit(
            place,
            format_args!("is {}, not of type {wanted}", shown(value)),
        ),
    }
}

fn check_count(
    keyword: &str,
    wanted: &Value,
    count: usize,
    what: &str,
    place: &Place<'_>,
) -> Checked {
    let (wanted, count) = (wanted.as_u64().unwrap_or(0), count as u64);
    match keyword.starts_with("min") {
        true if count < wanted => misfit(
            place,
            format_args!("has {count} {what}; the least is {wanted}"),
        ),
        false if count > wanted => misfit(
            place,
            format_args!("has {count} {what}; the most is {wanted}"),
        ),
        _ => Ok(()),
    }
}

fn check_number(keyword: &str, wanted: &Value, number: &Number, place: &Place<'_>) -> Checked {
    let Value::Number(wanted) = wanted else {
        return Ok(());
    };
    let order = compare(number, wanted);
    let why = match (keyword, order) {
        ("minimum", Some(Ordering::Less)) => "the least is",
        ("maximum", Some(Ordering::Greater)) => "the most is",
        ("exclusiveMinimum", Some(Ordering::Less | Ordering::Equal)) => "it must be more than",
        ("exclusiveMaximum", Some(Ordering::Greater | Ordering::Equal)) => "it must be less than",
        ("multipleOf", _) if !is_multiple(number, wanted) => "it must be a multiple of",
        _ => return Ok(()),
    };
    misfit(place, format_args!("is {number}; {why} {wanted}"))
}

fn whole(number: &Number) -> Option<i128> {
    let signed = number.as_i64().map(i128::from);
    signed.or_else(|| number.as_u64().map(i128::from))
}

/// Compares by value, exactly where both are whole numbers.
fn compare(one: &Number, other: &Number) -> Option<Ordering> {
    match (whole(one), whole(other)) {
        (Some(one), Some(other)) => Some(one.cmp(&other)),
        _ => one.as_f64()?.partial_cmp(&other.as_f64()?),
    }
}

fn is_multiple(number: &Number, divisor: &Number) -> bool {
    match (whole(number), whole(divisor)) {
        (Some(number), Some(divisor)) => number.checked_rem(divisor) == Some(0),
        _ => match (number.as_f64(), divisor.as_f64()) {
            (Some(number), Some(divisor)) => {
                let parts = number / divisor;
                (parts - parts.round()).abs() < 1e-9
            }
            _ => false,
        },
    }
}

/// The beginning of a value, for a message.
fn shown(value: &Value) -> String {
    let mut text = match value {
        Value::Array(items) => return format!("a list of {}", items.len()),
        Value::Object(members) => return format!("an object of {} members", members.len()),
        other => other.to_string(),
    };
    if text.len() > SHOWN_BYTES_MAX {
        text.truncate(text.floor_char_boundary(SHOWN_BYTES_MAX));
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests;
