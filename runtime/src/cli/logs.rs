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

/// What is told without a choice. The Kubernetes client calls an error what we ask again for.
const DEFAULT: &str = "warn,kube_client=off";

/// Starts the telling of log lines, once in a process; a second call changes nothing.
pub(super) fn start(output: &Arc<Output>, directives: Option<&str>) {
    let filter = EnvFilter::try_new(directives.unwrap_or(DEFAULT))
        .unwrap_or_else(|_| EnvFilter::new(DEFAULT));
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
    /// The plugin whose line it is, if it is one's.
    #[serde(skip_serializing_if = "Option::is_none")]
    plugin: Option<String>,
}

impl<S: Subscriber> Layer<S> for JsonLogs {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut words = Words::default();
        event.record(&mut words);
        let level = event.metadata().level().as_str().to_ascii_lowercase();
        let body = LogBody {
            level: &level,
            target: event.metadata().target(),
            message: words.message,
            plugin: words.plugin,
        };
        self.output.json(Kind::Log, &body);
    }
}

/// The text of an event: its message, then its fields as `name=value`; the plugin, if it names one.
#[derive(Default)]
struct Words {
    message: String,
    plugin: Option<String>,
}

impl Visit for Words {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "plugin" => self.plugin = Some(value.to_owned()),
            _ => self.record_debug(field, &value),
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let text = &mut self.message;
        let separator = if text.is_empty() { "" } else { " " };
        let written = if field.name() == "message" {
            write!(text, "{separator}{value:?}")
        } else {
            write!(text, "{separator}{}={value:?}", field.name())
        };
        written.expect("a string takes what is written to it");
    }
}
