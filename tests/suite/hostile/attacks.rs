//! What any function of any world can do to its host: bodies of core functions that return an
//! address, with the error that must come of each.
//!
//! Memory: text.

use super::AT;

/// One hostile function.
#[derive(Clone, Debug)]
pub(super) struct Attack {
    /// What it does, for messages.
    pub(super) name: &'static str,
    /// Further fields of its core module.
    pub(super) fields: String,
    /// The function's body.
    pub(super) body: String,
    /// The stable code of the error.
    pub(super) code: &'static str,
    /// What the error must say.
    pub(super) words: &'static str,
}

impl Attack {
    pub(super) fn new(
        name: &'static str,
        body: impl Into<String>,
        code: &'static str,
        words: &'static str,
    ) -> Self {
        Self {
            name,
            fields: String::new(),
            body: body.into(),
            code,
            words,
        }
    }

    /// Whether it needs what the main core module imports: the log, and what makes handles.
    pub(super) fn has_imports(&self) -> bool {
        self.body.contains("$log") || self.fields.contains("(import ")
    }

    pub(super) fn with(mut self, fields: impl Into<String>) -> Self {
        self.fields = fields.into();
        self
    }
}

/// A resource of the component's own: the host counts the handles to it.
pub(super) const HANDLES: &str =
    "(type $own (resource (rep i32))) (core func $new (canon resource.new $own))";

/// Gives the core module what makes a handle.
pub(super) const HANDLES_WITH: &str = r#"(with "own" (instance (export "new" (func $new))))"#;

/// The core module's import of it.
pub(super) const HANDLES_FIELD: &str =
    r#"(import "own" "new" (func $new (param i32) (result i32)))"#;

/// Grows memory by 6 MiB.
pub(super) const GROW: &str = "(drop (memory.grow (i32.const 96)))";

/// Returns the attacks that need nothing but a function.
pub(super) fn common() -> Vec<Attack> {
    let mut all = running();
    all.extend(growing());
    all.extend(talking());
    all
}

/// A loop without end, for who has fuel for minutes.
pub(super) fn endless() -> Attack {
    let body = "(loop (br 0)) unreachable";
    Attack::new("loops on and on", body, "plugin-deadline", "deadline")
}

/// What ends in the code of the guest.
fn running() -> Vec<Attack> {
    let dead = "unreachable";
    let start = |body: &str| format!("(func $start {body}) (start $start)");
    vec![
        Attack::new(
            "loops for ever",
            "(loop (br 0)) unreachable",
            "plugin-fuel",
            "ran out of fuel (used: memory ",
        ),
        Attack::new(
            "loops for ever when it starts",
            dead,
            "plugin-fuel",
            "of 1000000000, ",
        )
        .with(start("(loop (br 0))")),
        Attack::new("traps", dead, "plugin-trap", "unreachable"),
        Attack::new("traps when it starts", dead, "plugin-trap", "unreachable").with(start(dead)),
        Attack::new(
            "divides by zero",
            "(i32.div_u (i32.const 1) (i32.const 0))",
            "plugin-trap",
            "divide by zero",
        ),
        Attack::new(
            "reads where nothing is",
            "(i32.load (i32.const -4))",
            "plugin-trap",
            "out of bounds",
        ),
        Attack::new(
            "calls itself",
            "(call $deep) unreachable",
            "plugin-trap",
            "stack exhausted",
        )
        .with("(func $deep (call $deep) (call $deep))"),
    ]
}

/// What takes memory, tables and handles.
fn growing() -> Vec<Attack> {
    let for_ever = |body: &str| format!("(loop {body} (br 0)) unreachable");
    let memory = "memory limit: with this memory it would hold";
    vec![
        Attack::new(
            "grows its memory page by page",
            for_ever("(drop (memory.grow (i32.const 1)))"),
            "plugin-memory",
            memory,
        ),
        Attack::new(
            "grows its memory at once",
            "(memory.grow (i32.const 65000))",
            "plugin-memory",
            "allowed are 8192 KiB",
        ),
        Attack::new(
            "grows one of two memories",
            for_ever("(drop (memory.grow 1 (i32.const 16)))"),
            "plugin-memory",
            memory,
        )
        .with("(memory $second 1)"),
        Attack::new(
            "grows a table",
            for_ever("(drop (table.grow (ref.null func) (i32.const 1000)))"),
            "plugin-memory",
            "with this table it would hold",
        )
        .with("(table 1 funcref)"),
        Attack::new(
            "makes handles for ever",
            for_ever("(drop (call $new (i32.const 1)))"),
            "plugin-data",
            "handle",
        )
        .with(HANDLES_FIELD),
    ]
}

/// What crosses the border and must not.
fn talking() -> Vec<Attack> {
    let log = |bytes: u32| format!("(call $log (i32.const 1) (i32.const 0) (i32.const {bytes}))");
    let one =
        |byte: u32| format!("(i32.store (i32.const {AT}) (i32.const {byte})) (i32.const {AT})");
    vec![
        Attack::new(
            "floods the log",
            format!("(loop {} (br 0)) unreachable", log(9)),
            "plugin-data",
            "more than 10000 log lines",
        ),
        Attack::new(
            "logs a line of megabytes",
            format!("{GROW} {} unreachable", log(6_000_000)),
            "plugin-data",
            "too much data",
        ),
        Attack::new(
            "logs at a level that there is not",
            "(call $log (i32.const 9) (i32.const 0) (i32.const 4)) unreachable",
            "plugin-data",
            "discriminant",
        ),
        Attack::new(
            "logs what is no text",
            "(i32.store (i32.const 0) (i32.const -1)) \
             (call $log (i32.const 1) (i32.const 0) (i32.const 4)) unreachable",
            "plugin-data",
            "utf-8",
        ),
        Attack::new(
            "answers outside of its memory",
            "(i32.const -8)",
            "plugin-data",
            "out of bounds",
        ),
        Attack::new(
            "answers between two words",
            "(i32.const 5)",
            "plugin-data",
            "align",
        ),
        Attack::new(
            "answers neither well nor badly",
            one(7),
            "plugin-data",
            "discriminant",
        ),
    ]
}
