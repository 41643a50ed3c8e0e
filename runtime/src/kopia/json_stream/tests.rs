//! The stream against serde_json: what one takes as JSON the other takes too.
//!
//! Random values, whole, cut into small pieces, and with one byte changed.

use proptest::prelude::*;

use super::*;

/// Entries of any kind.
struct Anything;

impl Entries for Anything {
    const STREAM: &'static str = "any";
    type Entry<'a> = ();

    fn entry<'a>(cursor: &mut Cursor<'a>) -> Result<(), Stop> {
        cursor.skip_value()?;
        cursor.peek().map(|_| ())
    }
}

fn entries(json: &[u8], piece_bytes: usize) -> Result<usize, FormatError> {
    let mut stream = JsonStream::new();
    let mut entries = 0;
    for piece in json.chunks(piece_bytes) {
        stream.push::<Anything, FormatError>(piece, &"test", &mut |()| {
            entries += 1;
            Ok(())
        })?;
    }
    stream.finish::<Anything>(&"test")?;
    Ok(entries)
}

fn value() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<f64>().prop_map(Into::into),
        "[ -~\\n\\t\"\\\\é€𝄞]{0,40}".prop_map(Into::into),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Into::into),
            prop::collection::btree_map("[a-z\"\\\\]{0,9}", inner, 0..6)
                .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    /// Goal: all JSON is taken, in pieces of any length.
    #[test]
    fn valid_json_is_taken(
        values in prop::collection::vec(value(), 0..8), other in value(), pretty: bool,
        piece_bytes in 1_usize..200,
    ) {
        let json = serde_json::json!({"stream": "any", "entries": &values, "zother": other});
        let json = if pretty {
            serde_json::to_vec_pretty(&json).unwrap()
        } else {
            serde_json::to_vec(&json).unwrap()
        };
        prop_assert_eq!(entries(&json, piece_bytes).unwrap(), values.len());
        prop_assert_eq!(entries(&json, usize::MAX).unwrap(), values.len());
    }

    /// Goal: of JSON with one byte changed, nothing is taken that serde_json refuses.
    #[test]
    fn wrong_json_is_refused(
        value in value(), at in any::<prop::sample::Index>(), byte in 0x20_u8..0x7f
    ) {
        let json = serde_json::json!({"stream": "any", "entries": [1, value, "x"]});
        let mut json = serde_json::to_vec(&json).unwrap();
        let at = at.index(json.len());
        json[at] = byte;
        let theirs = serde_json::from_slice::<serde_json::Value>(&json);
        if entries(&json, usize::MAX).is_ok() {
            // Lone surrogates are left to those who unescape.
            let surrogate = json.windows(3).any(|w| w.eq_ignore_ascii_case(br"\ud"));
            let range = theirs.as_ref().is_err_and(|e| e.to_string().contains("out of range"));
            let text = std::str::from_utf8(&json).is_ok(); // skipped strings are not checked
            let fine = theirs.is_ok() || surrogate || range || !text;
            prop_assert!(fine, "{}", String::from_utf8_lossy(&json));
        }
        prop_assert_eq!(entries(&json, 7).is_ok(), entries(&json, usize::MAX).is_ok());
    }
}

#[test]
fn deep_nesting_ends() {
    let deep = |levels: usize| {
        let (open, close) = ("[".repeat(levels), "]".repeat(levels));
        format!(r#"{{"stream":"any","entries":[{open}{close}]}}"#)
    };
    assert_eq!(entries(deep(128).as_bytes(), 1000).unwrap(), 1);
    let error = entries(deep(129).as_bytes(), 1000).unwrap_err();
    assert!(error.to_string().contains("nested too deeply"), "{error}");
}
