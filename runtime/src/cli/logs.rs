//! Log lines of all floors: to standard error as text, or as JSON lines of kind `log`.
//!
//! `CAREEN_LOG` chooses what is told, as `warn` (the default), `debug`, or
//! `careen::maintenance=trace`. Logs never decide anything and carry no secrets. Memory: one line.

use std::fmt::{Debug, Write};
use std::sync::Arc;

use serde::Serialize;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

use super::output::{Form, Kind, Output};

/// Starts the telling of log lines, once in a process; a second call changes nothing.
pub(super) fn start(output: &Arc<Output>, directives: Option<&str>) {
    let filter =
        EnvFilter::try_new(directives.unwrap_or("warn")).unwrap_or_else(|_| EnvFilter::new("warn"));
    let registry = tracing_subscriber::registry().with(filter);
    let started = match output.form() {
        Form::Text => {
            let layer = tracing_subscriber::fmt::layer()
                .with_writer(std::io::stderr)
                .with_ansi(false)
                .with_target(false);
            tracing::subscriber::set_global_default(registry.with(layer))
        }
        Form::Json => {
            let output = Arc::clone(output);
            tracing::subscriber::set_global_default(registry.with(JsonLogs { output }))
        }
    };
    let _ = started;
}

struct JsonLogs {
    output: Arc<Output>,
}

#[derive(Serialize)]
struct LogBody<'a> {
    level: &'a str,
    target: &'a str,
    message: String,
}

impl<S: Subscriber> Layer<S> for JsonLogs {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut message = Message(String::new());
        event.record(&mut message);
        let level = event.metadata().level().as_str().to_ascii_lowercase();
        let body = LogBody {
            level: &level,
            target: event.metadata().target(),
            message: message.0,
        };
        self.output.json(Kind::Log, &body);
    }
}

/// The text of an event: its message, then its fields as `name=value`.
struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let separator = if self.0.is_empty() { "" } else { " " };
        let written = if field.name() == "message" {
            write!(self.0, "{separator}{value:?}")
        } else {
            write!(self.0, "{separator}{}={value:?}", field.name())
        };
        written.expect("a string takes what is written to it");
    }
}
