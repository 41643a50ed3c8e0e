//! Prometheus' text form: families in a fixed order, each with its help, its type and its samples.
//!
//! Every sample has the label `repository`, so that several repositories can be told apart in one
//! folder of textfiles. Memory: the samples.

use std::collections::BTreeMap;
use std::fmt::Write;

/// What stands before every name.
const PREFIX: &str = "careen_";

/// How a number moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Up and down.
    Gauge,
    /// Up, from zero at the start of a process.
    Counter,
}

/// A family of samples.
#[derive(Clone, Copy, Debug)]
pub(super) struct Family {
    /// Its name, without [`PREFIX`].
    pub(super) name: &'static str,
    /// What it is, in a sentence.
    pub(super) help: &'static str,
    /// How it moves.
    pub(super) kind: Kind,
}

/// The text in the making.
pub(super) struct Text<'a> {
    families: &'a [Family],
    repository: String,
    samples: BTreeMap<String, Vec<String>>,
}

impl<'a> Text<'a> {
    /// Begins a text about `repository`.
    pub(super) fn new(families: &'a [Family], repository: &str) -> Self {
        Self {
            families,
            repository: format!("repository=\"{}\"", escaped(repository)),
            samples: BTreeMap::new(),
        }
    }

    /// Adds a sample of the family `name`. Numbers that are none are left out.
    pub(super) fn add(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        debug_assert!(self.families.iter().any(|f| f.name == name), "{name}");
        if !value.is_finite() {
            return;
        }
        let mut line = self.start(name);
        for (label, text) in labels {
            let _ = write!(line, ",{label}=\"{}\"", escaped(text));
        }
        let _ = write!(line, "}} {value}");
        self.samples.entry(name.to_owned()).or_default().push(line);
    }

    /// Takes the sample of a family without further labels over from an earlier text, unless there
    /// is a new one.
    pub(super) fn take_over(&mut self, name: &str, earlier: &str) {
        if self.samples.contains_key(name) {
            return;
        }
        let start = self.start(name) + "} ";
        let found = earlier.lines().find_map(|line| line.strip_prefix(&start));
        if let Some(value) = found.and_then(|text| text.trim().parse().ok()) {
            self.add(name, &[], value);
        }
    }

    fn start(&self, name: &str) -> String {
        format!("{PREFIX}{name}{{{}", self.repository)
    }

    /// Returns the whole text. Families without samples are left out.
    pub(super) fn finish(self) -> String {
        let mut text = String::new();
        for family in self.families {
            let Some(samples) = self.samples.get(family.name) else {
                continue;
            };
            let (name, help) = (family.name, family.help);
            let kind = match family.kind {
                Kind::Gauge => "gauge",
                Kind::Counter => "counter",
            };
            let _ = writeln!(text, "# HELP {PREFIX}{name} {help}");
            let _ = writeln!(text, "# TYPE {PREFIX}{name} {kind}");
            for sample in samples {
                let _ = writeln!(text, "{sample}");
            }
        }
        text
    }
}

/// Escapes the value of a label.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '\\' => escaped.push_str("\\\\"),
            '"' => escaped.push_str("\\\""),
            '\n' => escaped.push_str("\\n"),
            other => escaped.push(other),
        }
    }
    escaped
}
