//! What the program says: text and tables for people, one JSON object a line for programs.
//!
//! Everything goes through here, so that the two forms always tell the same. Results go to standard
//! output, errors and bars of the text form to standard error. A closed pipe is not an error: what
//! remains is dropped, and `is_closed` tells listings to end early. A full disk is one, told at the
//! end.
//! Memory: one line, or 64 KiB of rows.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::io::{ErrorKind, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use serde::Serialize;

use super::arguments::{GlobalOptions, OutputForm};
use super::error::{CliError, Exit};
use crate::blob::{Counters, CountersByBlob, Storage, Traffic};
use crate::clock::{SharedClock, Stopwatch, Timestamp};

/// Version of the JSON lines. Fields may be added under the same number, never removed or changed.
pub(super) const SCHEMA: u32 = 1;

/// Rows that are sent out together, in bytes.
const WAITING_BYTES_MAX: usize = 64 * 1024;

/// The kinds of JSON lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Kind {
    /// First line: command, repository, version.
    Started,
    /// Nothing is done before a moment: until when, and what is waited for.
    Wait,
    /// What will be done, why, and in how much memory.
    Plan,
    /// How far the current step is; at most one a second.
    Progress,
    /// A message of the program for its operators.
    Log,
    /// A step of the work begins or ends.
    Task,
    /// One row of a listing.
    Row,
    /// What was done or found.
    Report,
    /// Why it ended early: code, message, hint, exit code.
    Error,
    /// Last line: exit code, seconds, peak memory; after index work also `busy`, the seconds of
    /// thread time that went into each part ([`crate::progress::Part`]), waits left out; where a
    /// repository was opened what was asked of its storage ([`Asked`]).
    Finished,
}

/// Form of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// For people.
    Text,
    /// For programs.
    Json,
}

impl Form {
    /// Chooses the form from the options and from where standard output goes.
    pub(super) fn choose(options: &GlobalOptions, stdout_is_terminal: bool) -> Self {
        match options.output {
            _ if options.json => Self::Json,
            _ if options.no_json => Self::Text,
            OutputForm::Json => Self::Json,
            OutputForm::Text => Self::Text,
            OutputForm::Auto if stdout_is_terminal => Self::Text,
            OutputForm::Auto => Self::Json,
        }
    }

    /// Guesses the form when the arguments could not be parsed.
    pub(super) fn guess<'a>(
        arguments: impl Iterator<Item = &'a str>,
        stdout_is_terminal: bool,
    ) -> Self {
        let mut options = GlobalOptions::default();
        let mut previous = "";
        for argument in arguments {
            match argument {
                "--json" | "--output=json" => options.json = true,
                "--no-json" | "--output=text" => options.no_json = true,
                "json" if previous == "--output" => options.json = true,
                "text" if previous == "--output" => options.no_json = true,
                _ => {}
            }
            previous = argument;
        }
        Self::choose(&options, stdout_is_terminal)
    }
}

#[derive(Serialize)]
struct Line<'a, B: Serialize> {
    schema: u32,
    time: Timestamp,
    kind: Kind,
    #[serde(flatten)]
    body: &'a B,
}

#[derive(Serialize)]
struct ErrorBody<'a> {
    code: &'a str,
    message: String,
    hint: &'a str,
    exit: u8,
}

#[derive(Serialize)]
struct FinishedBody<'a> {
    exit: u8,
    seconds: f64,
    peak_memory_bytes: Option<u64>,
    #[serde(skip_serializing_if = "<[_]>::is_empty", serialize_with = "as_object")]
    busy: Vec<(&'static str, f64)>,
    #[serde(flatten)]
    asked: Option<&'a Asked>,
}

/// What was asked of the storage in all.
#[derive(Debug, Serialize)]
pub(super) struct Asked {
    /// Calls of the work itself.
    requests: Counters,
    /// The same by what the blobs are.
    requests_by_blob: CountersByBlob,
    /// What went over the wire for that, tries and pages included; none in a folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    traffic: Option<Traffic>,
}

impl Asked {
    /// Asks a storage what it was asked.
    pub(super) fn of(storage: &Storage) -> Self {
        Self {
            requests: storage.counters(),
            requests_by_blob: storage.counters_by_blob(),
            traffic: storage.traffic(),
        }
    }
}

/// Writes pairs as one object, in their order.
fn as_object<S: serde::Serializer>(
    pairs: &[(&'static str, f64)],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(pairs.iter().copied())
}

/// Where everything is said.
#[derive(Debug)]
pub(super) struct Output {
    form: Form,
    clock: SharedClock,
    started: Stopwatch,
    closed: AtomicBool,
    /// Why standard output was given up, where its reader had not simply gone.
    lost: OnceLock<String>,
    /// Rows of a listing on their way out together; a write for each would take most of the time.
    waiting: Mutex<Vec<u8>>,
}

impl Output {
    /// Makes the output in `form`; lines bear the time of `clock`.
    pub(super) fn new(form: Form, clock: SharedClock) -> Self {
        Self {
            form,
            clock,
            started: Stopwatch::start(),
            closed: AtomicBool::new(false),
            lost: OnceLock::new(),
            waiting: Mutex::new(Vec::new()),
        }
    }

    /// Returns the form.
    pub(super) fn form(&self) -> Form {
        self.form
    }

    /// Returns whether the reader of standard output has gone.
    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    /// Returns what is missing in standard output and why, unless its reader wanted no more.
    pub(super) fn lost(&self) -> Option<CliError> {
        self.lost.get().cloned().map(CliError::Output)
    }

    /// Returns the time since the start.
    pub(super) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Says `text` in the text form.
    pub(super) fn text(&self, text: impl Display) {
        if self.form == Form::Text {
            self.put(calm(format!("{text}\n")).as_bytes(), false);
        }
    }

    /// Says `body`, an object, in the JSON form.
    pub(super) fn json(&self, kind: Kind, body: &impl Serialize) {
        if self.form == Form::Json {
            let line = json_line(self.clock.now(), kind, body);
            self.put(line.as_bytes(), kind == Kind::Row);
        }
    }

    /// Says a value in both forms; in JSON it is the field `name` of the line.
    pub(super) fn both(&self, kind: Kind, name: &str, value: &(impl Serialize + Display)) {
        match self.form {
            Form::Text => {
                let line = calm(format!("{}\n", value.to_string().trim_end()));
                self.put(line.as_bytes(), kind == Kind::Row);
            }
            Form::Json => self.json_field(kind, name, value),
        }
    }

    /// Says a value in the JSON form only, as the field `name` of the line.
    pub(super) fn json_field(&self, kind: Kind, name: &str, value: &impl Serialize) {
        self.json(kind, &BTreeMap::from([(name, value)]));
    }

    /// Says why the program ends, and what to do next.
    pub(super) fn error(&self, error: &CliError) {
        self.put(&[], false); // what was found before comes before
        match self.form {
            Form::Text => warn_error(error),
            Form::Json => self.json(
                Kind::Error,
                &ErrorBody {
                    code: error.code(),
                    message: error.to_string(),
                    hint: error.hint(),
                    exit: error.exit() as u8,
                },
            ),
        }
    }

    /// Says the last line of the JSON form, and sends rows on that still wait. `busy`: seconds of
    /// thread time of the parts of index work. People see what went over the wire.
    pub(super) fn finished(
        &self,
        exit: Exit,
        busy: Vec<(&'static str, f64)>,
        asked: Option<&Asked>,
    ) {
        self.put(&[], false);
        if self.form == Form::Text
            && let Some(traffic) = asked.and_then(|asked| asked.traffic)
        {
            warn_text(&format!("traffic: {traffic}"));
        }
        let body = FinishedBody {
            exit: exit as u8,
            seconds: (self.elapsed().as_secs_f64() * 1000.0).round() / 1000.0,
            peak_memory_bytes: peak_memory_bytes("self"),
            busy,
            asked,
        };
        self.json(Kind::Finished, &body);
    }

    /// Writes a line; rows wait for each other, everything else goes out at once.
    fn put(&self, line: &[u8], is_row: bool) {
        if self.is_closed() {
            return;
        }
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.extend_from_slice(line);
        if is_row && waiting.len() < WAITING_BYTES_MAX {
            return;
        }
        let mut out = std::io::stdout().lock();
        if let Err(error) = out.write_all(&waiting).and_then(|()| out.flush()) {
            self.closed.store(true, Ordering::Relaxed);
            if error.kind() != ErrorKind::BrokenPipe {
                let _ = self.lost.set(error.to_string());
            }
        }
        waiting.clear();
    }
}

/// Says on standard error why the program ends, and what to do next.
pub(super) fn warn_error(error: &CliError) {
    let (code, hint) = (error.code(), error.hint());
    warn_text(&calm(format!("error [{code}]: {error}\nhint: {hint}")));
}

/// Writes text to standard error; a closed one is no reason to fail.
pub(super) fn warn_text(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// Returns whether standard output and standard error are terminals.
pub(super) fn terminals() -> (bool, bool) {
    (
        std::io::stdout().is_terminal(),
        std::io::stderr().is_terminal(),
    )
}

/// Replaces what steers a terminal by spaces: names come from repositories, messages from stores.
fn calm(text: String) -> String {
    let steers = |character: char| {
        let line = matches!(character, '\n' | '\t');
        let turns = matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        (character.is_control() && !line) || turns
    };
    match text.contains(steers) {
        true => text.replace(steers, " "),
        false => text,
    }
}

/// Makes one line, with its newline.
fn json_line(time: Timestamp, kind: Kind, body: &impl Serialize) -> String {
    let schema = SCHEMA;
    let line = Line {
        schema,
        time,
        kind,
        body,
    };
    let mut text = serde_json::to_string(&line)
        .unwrap_or_else(|error| format!(r#"{{"schema":1,"kind":"log","message":"{error:?}"}}"#));
    text.push('\n');
    text
}

/// Returns the most memory that a process (`self` or an ID) has held so far, `None` where unknown.
pub(super) fn peak_memory_bytes(process: &str) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_steers_a_terminal() {
        let evil = "a\tb\u{1b}[2J\u{7}\u{9b}1m\u{202e}c\n".to_owned();
        assert_eq!(calm(evil), "a\tb [2J  1m c\n");
        assert_eq!(calm("ö ✓\n".to_owned()), "ö ✓\n");
    }

    fn options(output: OutputForm, json: bool, no_json: bool) -> GlobalOptions {
        GlobalOptions {
            output,
            json,
            no_json,
            ..Default::default()
        }
    }

    #[test]
    fn a_pipe_gets_json_unless_told_otherwise() {
        use OutputForm::{Auto, Json, Text};
        for (output, json, no_json, terminal, form) in [
            (Auto, false, false, true, Form::Text),
            (Auto, false, false, false, Form::Json),
            (Auto, true, false, true, Form::Json),
            (Auto, false, true, false, Form::Text),
            (Text, false, false, false, Form::Text),
            (Json, false, false, true, Form::Json),
        ] {
            let chosen = Form::choose(&options(output, json, no_json), terminal);
            assert_eq!(chosen, form, "{output:?} {json} {no_json} {terminal}");
        }
    }

    #[test]
    fn the_form_is_guessed_from_unusable_arguments() {
        let guess = |line: &str| Form::guess(line.split(' '), true);
        assert_eq!(guess("careen sail --json"), Form::Json);
        assert_eq!(guess("careen sail --output json"), Form::Json);
        assert_eq!(guess("careen sail json"), Form::Text);
    }

    /// Goal: a line is one object with version, time and kind; method: a body with fields of its
    /// own.
    #[test]
    fn a_line_is_one_object() {
        #[derive(Serialize)]
        struct Body {
            step: &'static str,
            done: u64,
        }
        let body = Body {
            step: "load\nand sort",
            done: 3,
        };
        let time = Timestamp::parse("2026-01-02T03:04:05.5Z").unwrap();
        assert_eq!(
            json_line(time, Kind::Progress, &body),
            "{\"schema\":1,\"time\":\"2026-01-02T03:04:05.5Z\",\"kind\":\"progress\",\
             \"step\":\"load\\nand sort\",\"done\":3}\n"
        );
    }

    #[test]
    fn busy_parts_are_one_object_or_nothing() {
        let body = |busy| FinishedBody {
            exit: 0,
            seconds: 1.5,
            peak_memory_bytes: None,
            busy,
            asked: None,
        };
        let line = |busy| serde_json::to_string(&body(busy)).unwrap();
        assert!(line(vec![]).ends_with("\"peak_memory_bytes\":null}"));
        let some = line(vec![("read", 0.25), ("hash", 2.0)]);
        assert!(some.ends_with(",\"busy\":{\"read\":0.25,\"hash\":2.0}}"));
    }

    #[test]
    fn our_own_peak_is_known() {
        assert!(peak_memory_bytes("self").unwrap() > 1024 * 1024);
        assert_eq!(peak_memory_bytes("0"), None);
    }
}
