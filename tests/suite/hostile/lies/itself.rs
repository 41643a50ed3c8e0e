//! What a plugin says of itself, and of its configuration: texts that are none, or endless.
//!
//! Memory: text.

use guests::answers::stores;

use super::{Attack, GROW, data, of};

/// A name at 3072, a schema at 3104, no UTF-8 at 3200, an objection at 3232.
pub(in crate::hostile) const NAMED: &str = r#"(data (i32.const 3072) "a name")
    (data (i32.const 3104) "{\"type\":\"object\"}") (data (i32.const 3200) "\ff\fe")
    (data (i32.const 3232) "not like this")"#;

/// A body of `describe` that tells a name, and a schema; the texts where they are, and how long.
fn describes_as(name: (u32, u32), schema: (u32, u32)) -> String {
    let numbers = [
        (512, name.0),
        (516, name.1),
        (520, 3_072),
        (524, 1),
        (528, 3_072),
        (532, 6),
        (536, 1),
        (540, schema.0),
        (544, schema.1),
    ];
    format!("{} (i32.const 512)", stores(&numbers))
}

/// An honest body of `describe`.
pub(in crate::hostile) fn describes() -> String {
    describes_as((3_072, 6), (3_104, 17))
}

/// Whether an attack needs no answer that is well or bad: `describe` has none.
pub(in crate::hostile) fn is_of_a_record(attack: &Attack) -> bool {
    !attack.name.starts_with("answers neither")
}

/// What a plugin says it is.
pub(in crate::hostile) fn about_itself() -> Vec<Attack> {
    let schema = (3_104, 17);
    let answers = [
        data(
            "has no name that is text",
            describes_as((3_200, 2), schema),
            "utf-8",
        ),
        data(
            "has an endless name",
            describes_as((0, u32::MAX), schema),
            "out of bounds",
        ),
        data(
            "has a name of megabytes",
            format!("{GROW} {}", describes_as((0, 6_000_000), schema)),
            "too much data",
        ),
    ];
    of(answers, "")
}

/// What it makes of its configuration.
pub(in crate::hostile) fn about_configurations() -> Vec<Attack> {
    let says = |at, bytes| {
        format!(
            "{} (i32.const 600)",
            stores(&[(600, 1), (604, at), (608, bytes)])
        )
    };
    let answers = [
        data("objects for ever", says(0, u32::MAX), "out of bounds"),
        data("objects without words", says(3_200, 2), "utf-8"),
    ];
    of(answers, "")
}
