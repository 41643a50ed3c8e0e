//! The table: what a run took, and what it asked for.
//!
//! A row without a proxy shows what the program says of itself in its line `finished`.

use std::time::Duration;

use kit::cgroup::Run;
use kit::programs::event;
use serde_json::Value;
use servers::counting_proxy::Asked;
use servers::fault_proxy::Kind;

/// One run.
pub(crate) struct Row {
    name: String,
    run: Option<Run>,
    /// What the proxy counted.
    pub(crate) asked: Option<Asked>,
}

/// Returns the head of the table.
pub(crate) fn head() -> String {
    format!(
        "{:<24} {:>7} {:>6} {:>6} {:>5} {:>5} {:>6} {:>5} {:>5} {:>8} {:>8} {:>9} {:>8}",
        "",
        "s",
        "ratio",
        "GET",
        "LIST",
        "PUT",
        "DELETE",
        "HEAD",
        "other",
        "MB down",
        "MB up",
        "in flight",
        "anon MiB"
    )
}

impl Row {
    pub(crate) fn new(name: &str, run: Option<Run>, asked: Option<Asked>) -> Self {
        let name = name.to_owned();
        Self { name, run, asked }
    }

    pub(crate) fn of_folder(name: &str, run: Option<Run>) -> Self {
        Self::new(name, run, None)
    }

    /// Returns how long it took.
    pub(crate) fn wall(&self) -> Option<Duration> {
        self.run.as_ref().map(|run| run.wall)
    }

    /// Returns its line; `base` is what it is compared with.
    pub(crate) fn line(&self, base: Option<Duration>) -> String {
        let Some(run) = &self.run else {
            return format!("{:<24} cannot run it here", self.name);
        };
        let seconds = run.wall.as_secs_f64();
        let ratio = base.map_or(0.0, |base| seconds / base.as_secs_f64());
        let anon = run.anon_max_bytes >> 20;
        let counts = match &self.asked {
            Some(asked) => counted(asked),
            None => told(run),
        };
        let mut line = format!(
            "{:<24} {seconds:>7.2} {ratio:>6.2} {counts} {anon:>8}",
            self.name
        );
        if !run.status.success() {
            let said = run.stderr_text();
            line += &format!(
                "\n    failed ({}, {} killed for memory): {}",
                run.status,
                run.oom_kills,
                said.lines().last().unwrap_or(&run.stdout_text())
            );
        }
        line
    }
}

/// Returns what each task of careen says that it asked for; empty for other programs.
pub(crate) fn tasks(row: &Row) -> Vec<String> {
    let stdout = row.run.as_ref().map(Run::stdout_text).unwrap_or_default();
    let ended = stdout.lines().filter_map(|line| {
        let event: Value = serde_json::from_str(line).ok()?;
        let requests = event
            .get("requests")
            .filter(|_| event["state"] == "ended")?;
        let number = |field: &str| requests[field].as_u64().unwrap_or(0);
        Some(format!(
            "{:<32} {:>5} GETs of {:>9} bytes, {:>3} LISTs, {:>3} PUTs of {:>9}, {:>4} DELETEs, \
             {:.2} s",
            event["task"].as_str()?,
            number("gets"),
            number("bytes_read"),
            number("lists"),
            number("puts"),
            number("bytes_written"),
            number("deletes"),
            event["seconds"].as_f64()?
        ))
    });
    ended.collect()
}

/// Returns what the proxy counted; bytes with the heads of HTTP, as a network counts them.
fn counted(asked: &Asked) -> String {
    let mut line = format!(
        "{:>6} {:>5} {:>5} {:>6} {:>5} {:>5} {:>8.2} {:>8.2} {:>9}",
        asked.count(Kind::Get),
        asked.count(Kind::List),
        asked.count(Kind::Put),
        asked.count(Kind::Delete),
        asked.count(Kind::Head),
        asked.count(Kind::Other),
        (asked.downloaded_bytes + asked.downloaded_head_bytes) as f64 / 1e6,
        (asked.uploaded_bytes + asked.uploaded_head_bytes) as f64 / 1e6,
        format!("{} / {:.1}", asked.in_flight_peak, asked.in_flight_mean()),
    );
    if asked.refused.keys().any(|status| *status != 404) {
        line += &format!(" refused {:?}", asked.refused);
    }
    line
}

/// Returns what the program says of itself.
fn told(run: &Run) -> String {
    let finished = event(run, "finished").unwrap_or_default();
    let traffic = &finished["traffic"];
    if traffic.is_null() {
        return format!("{:>65}", "");
    }
    let number = |field: &str| traffic[field].as_u64().unwrap_or(0);
    let mib = |value: &Value| value.as_f64().unwrap_or(0.0) / 1e6;
    format!(
        "{:>6} {:>5} {:>5} {:>6} {:>5} {:>5} {:>8.2} {:>8.2} {:>9}",
        number("get"),
        number("list"),
        number("put"),
        number("delete"),
        number("head"),
        number("lock"),
        mib(&traffic["downloaded_bytes"]),
        mib(&traffic["uploaded_bytes"]),
        format!(
            "{} / {:.1}",
            number("in_flight_peak"),
            traffic["in_flight_mean"].as_f64().unwrap_or(0.0)
        ),
    )
}
