//! Values against schemas: what fits, what does not and where, with the words that people read; and
//! schemas that are made to hurt.

use proptest::prelude::*;
use serde_json::Value;

use crate::clock::Stopwatch;
use crate::plugin::schema::Schema;

fn check(schema: &str, value: &str) -> Result<(), String> {
    let schema = Schema::parse(schema).unwrap_or_else(|error| panic!("{schema}: {error}"));
    schema.check(&serde_json::from_str(value).unwrap())
}

/// Each schema with values that fit and values that do not.
const CASES: &[(&str, &[&str], &[&str])] = &[
    ("true", &["1", "null"], &[]),
    ("false", &[], &["1", "{}"]),
    (
        r#"{"type":"integer"}"#,
        &["1", "-1", "2.0", "18446744073709551615"],
        &["1.5", "\"1\""],
    ),
    (
        r#"{"type":["string","null"]}"#,
        &["null", "\"\""],
        &["0", "false"],
    ),
    (r#"{"type":"number"}"#, &["1", "1.5"], &["true"]),
    (r#"{"const":1}"#, &["1", "1.0"], &["2", "true", "\"1\""]),
    (
        r#"{"const":{"a":[1],"b":2}}"#,
        &[r#"{"b":2,"a":[1]}"#],
        &[r#"{"a":[1]}"#, "[]"],
    ),
    (
        r#"{"enum":["a",2,null]}"#,
        &["\"a\"", "2", "null"],
        &["\"b\"", "0"],
    ),
    (
        r#"{"minimum":1,"maximum":3}"#,
        &["1", "3", "\"x\""],
        &["0", "4", "0.99"],
    ),
    (
        r#"{"exclusiveMinimum":1,"exclusiveMaximum":3}"#,
        &["2", "1.5"],
        &["1", "3"],
    ),
    (
        r#"{"minimum":9007199254740993}"#,
        &["9007199254740993"],
        &["9007199254740992"],
    ),
    (
        r#"{"multipleOf":5}"#,
        &["0", "10", "-5", "5.0"],
        &["1", "7.5"],
    ),
    (r#"{"multipleOf":0.1}"#, &["0.3", "1"], &["0.35"]),
    (
        r#"{"minLength":2,"maxLength":3}"#,
        &["\"äö\"", "\"abc\"", "1"],
        &["\"ä\"", "\"abcd\""],
    ),
    (
        r#"{"pattern":"^a+$"}"#,
        &["\"aa\"", "1"],
        &["\"b\"", "\"\""],
    ),
    (r#"{"pattern":"b"}"#, &["\"abc\""], &["\"ac\""]),
    (
        r#"{"minItems":1,"maxItems":2}"#,
        &["[1]", "[1,2]", "1"],
        &["[]", "[1,2,3]"],
    ),
    (
        r#"{"uniqueItems":true}"#,
        &["[1,2,[1]]", "[]"],
        &["[1,1.0]", r#"[{"a":1},{"a":1}]"#],
    ),
    (
        r#"{"items":{"type":"string"}}"#,
        &["[]", "[\"a\"]"],
        &["[1]", "[\"a\",1]"],
    ),
    (
        r#"{"prefixItems":[{"const":1}],"items":false}"#,
        &["[]", "[1]"],
        &["[2]", "[1,2]"],
    ),
    (r#"{"required":["a"]}"#, &[r#"{"a":null}"#, "1"], &["{}"]),
    (
        r#"{"minProperties":1,"maxProperties":1}"#,
        &[r#"{"a":1}"#],
        &["{}", r#"{"a":1,"b":1}"#],
    ),
    (
        r#"{"properties":{"a":{"type":"string"}}}"#,
        &["{}", r#"{"b":1}"#],
        &[r#"{"a":1}"#],
    ),
    (
        r#"{"properties":{"a":{}},"patternProperties":{"^x":{"type":"null"}},
            "additionalProperties":false}"#,
        &["{}", r#"{"a":1,"x1":null}"#],
        &[r#"{"b":1}"#, r#"{"x1":1}"#],
    ),
    (
        r#"{"additionalProperties":{"type":"integer"}}"#,
        &[r#"{"a":1}"#],
        &[r#"{"a":"1"}"#],
    ),
    (
        r#"{"propertyNames":{"maxLength":2}}"#,
        &[r#"{"ab":1}"#],
        &[r#"{"abc":1}"#],
    ),
    (
        r#"{"allOf":[{"minimum":1},{"maximum":2}]}"#,
        &["1", "2"],
        &["0", "3"],
    ),
    (
        r#"{"anyOf":[{"type":"null"},{"minimum":3}]}"#,
        &["null", "3"],
        &["2"],
    ),
    (
        r#"{"oneOf":[{"minimum":1},{"maximum":2}]}"#,
        &["0", "3"],
        &["1", "2"],
    ),
    (r#"{"not":{"type":"string"}}"#, &["1"], &["\"a\""]),
    (
        r#"{"if":{"required":["a"]},"then":{"required":["b"]},"else":{"required":["c"]}}"#,
        &[r#"{"a":1,"b":1}"#, r#"{"c":1}"#],
        &[r#"{"a":1}"#, "{}"],
    ),
    (
        r##"{"$defs":{"a/b":{"type":"integer"}},"items":{"$ref":"#/$defs/a~1b"}}"##,
        &["[1]"],
        &["[\"1\"]"],
    ),
    (
        r##"{"type":"object","properties":{"next":{"$ref":"#"}},"additionalProperties":false}"##,
        &["{}", r#"{"next":{"next":{}}}"#],
        &[r#"{"next":{"next":1}}"#],
    ),
    (
        r#"{"format":"email","default":3,"title":"x","examples":[]}"#,
        &["1", "\"x\""],
        &[],
    ),
];

#[test]
fn values_fit_or_do_not() {
    for (schema, good, bad) in CASES {
        for value in *good {
            assert_eq!(check(schema, value), Ok(()), "{schema} {value}");
        }
        for value in *bad {
            assert!(check(schema, value).is_err(), "{schema} {value}");
        }
    }
}

#[test]
fn messages_name_the_place_and_what_is_allowed() {
    let schema = r#"{"type":"object","required":["tenants"],"additionalProperties":false,
        "properties":{"tenants":{"type":"array","items":{"type":"object","required":["name"],
            "properties":{"keep":{"type":"integer","minimum":7},
                "mode":{"enum":["strict","lax"]},"name":{"type":"string"}}}}}}"#;
    for (value, words) in [
        ("{}", "configuration lacks \"tenants\""),
        ("[]", "configuration is a list of 0, not of type \"object\""),
        (
            r#"{"tenants":[],"tenant":1}"#,
            "configuration/tenant may not be there",
        ),
        (
            r#"{"tenants":[{"name":"a"},{"name":"b","keep":5}]}"#,
            "configuration/tenants/1/keep is 5; the least is 7",
        ),
        (
            r#"{"tenants":[{"name":"a","mode":"slow"}]}"#,
            "configuration/tenants/0/mode must be one of \"strict\", \"lax\"",
        ),
        (
            r#"{"tenants":[{"keep":8}]}"#,
            "configuration/tenants/0 lacks \"name\"",
        ),
    ] {
        assert_eq!(check(schema, value), Err(words.to_owned()), "{value}");
    }
}

/// Goal: no schema stops the host; method: those that would take for ever, timed loosely.
#[test]
fn schemas_that_would_take_for_ever_are_refused() {
    let doubling: Vec<String> = (0..60)
        .map(|n| {
            let next = format!(r##"{{"$ref":"#/$defs/d{}"}}"##, n + 1);
            format!(r#""d{n}":{{"allOf":[{next},{next}]}}"#)
        })
        .collect();
    let doubling = format!(
        r##"{{"$defs":{{{},"d60":{{}}}},"$ref":"#/$defs/d0"}}"##,
        doubling.join(",")
    );
    let items = format!(
        "[{}]",
        (0..15_000)
            .map(|n| n.to_string())
            .collect::<Vec<_>>()
            .join(",")
    );
    let text = format!("\"{}\"", "a".repeat(60_000));
    for (schema, value) in [
        (r##"{"$ref":"#"}"##, "1"),
        (r##"{"allOf":[{"$ref":"#"},{"$ref":"#"}]}"##, "1"),
        (r##"{"not":{"$ref":"#"}}"##, "1"),
        (&*doubling, "1"),
        (r#"{"uniqueItems":true}"#, &*items),
        (
            r#"{"allOf":[{"pattern":"a*b"},{"pattern":"(a|a)*b"},{"pattern":"a*a*b"}]}"#,
            &*text,
        ),
    ] {
        let started = Stopwatch::start();
        let told = check(schema, value).unwrap_err();
        assert!(
            started.elapsed().as_secs() < 20,
            "{schema}: {:?}",
            started.elapsed()
        );
        assert!(
            told.contains("without end") || told.contains("does not match"),
            "{schema}: {told}"
        );
    }
    // A pattern that a backtracking engine would not end.
    let text = format!("\"{}\"", "a".repeat(5_000));
    assert!(check(r#"{"pattern":"^(a+)+$"}"#, &text).is_ok());
}

/// Any JSON whose keys are keywords, or names that a value may have too.
fn json() -> impl Strategy<Value = Value> {
    const KEYS: [&str; 24] = [
        "$ref",
        "$defs",
        "type",
        "enum",
        "const",
        "minimum",
        "multipleOf",
        "maxLength",
        "pattern",
        "items",
        "prefixItems",
        "minItems",
        "uniqueItems",
        "properties",
        "patternProperties",
        "additionalProperties",
        "propertyNames",
        "required",
        "allOf",
        "anyOf",
        "oneOf",
        "not",
        "if",
        "then",
    ];
    let text = prop::sample::select(vec![
        "#",
        "#/$defs/not",
        "#/$defs/if",
        "object",
        "integer",
        "string",
        "^a",
        "(a|b)*$",
        "not",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-3..9_i64).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        text.prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 60, 6, |inner| {
        let key = prop::sample::select(KEYS.to_vec()).prop_map(str::to_owned);
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((key, inner), 0..5)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 4_000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// Goal: whatever a schema is and whatever a value, there is an answer.
    #[test]
    fn anything_is_answered(schema in json(), value in json()) {
        if let Ok(schema) = Schema::parse(&schema.to_string()) {
            let _ = schema.check(&value);
        }
    }
}
