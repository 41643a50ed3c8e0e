//! Pushes metrics to a Pushgateway: one POST, which replaces the families that it has.
//!
//! A POST and not a PUT: the times of earlier successes stay when a run fails. Never longer than
//! [`TIMEOUT`]; the answer is not read beyond its status. Memory: the text and a TLS client.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use reqwest::Url;
use tokio::runtime::Builder;

use crate::blob::object::location::Transport;
use crate::blob::object::tls::client_builder;
use crate::cli::arguments::GlobalOptions;
use crate::cli::ending::{Facts, Outcome};
use crate::cli::kopia_config::read_bounded;
use crate::cli::metrics::exposition;

/// Largest file of certificates.
const CA_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Longest push, connecting included.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Pushes where that is asked for.
pub(in crate::cli) fn push_or_warn(global: &GlobalOptions, facts: &Facts, outcome: &Outcome) {
    let Some(url) = &global.reporting.metrics_push else {
        return;
    };
    let ca = global.storage.ca_file.as_deref();
    let ca = ca.and_then(|path| read_bounded(path, CA_BYTES_MAX).ok());
    let text = exposition(facts, &outcome.into(), "");
    if let Err(reason) = push(url, &facts.repository, ca, text) {
        tracing::warn!(reason, "the metrics cannot be pushed");
    }
}

/// Pushes `text`; the reason why not is one line.
fn push(url: &str, repository: &str, ca_pem: Option<Vec<u8>>, text: String) -> Result<(), String> {
    let url = group_url(url, repository)?;
    let transport = Transport {
        plain_http: url.scheme() == "http",
        skip_tls_verify: false,
        ca_pem,
    };
    let client = client_builder(&transport)
        .map_err(|error| error.to_string())?
        .timeout(TIMEOUT)
        .build()
        .map_err(|error| error.to_string())?;
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    let request = client
        .post(url)
        .header("content-type", "text/plain; version=0.0.4")
        .body(text);
    // Inside, since a request with a timeout needs the runtime as soon as it is made.
    let answer = runtime.block_on(async { request.send().await });
    let status = answer.map_err(|error| told(&error))?.status();
    status
        .is_success()
        .then_some(())
        .ok_or_else(|| format!("the server answers {status}"))
}

/// Says what happened, the innermost reason, in one line.
fn told(error: &reqwest::Error) -> String {
    let mut source: &dyn std::error::Error = error;
    let mut text = if error.is_timeout() {
        "no answer in time".to_owned()
    } else {
        "the server cannot be reached".to_owned()
    };
    while let Some(deeper) = source.source() {
        source = deeper;
    }
    text.push_str(": ");
    text + &source.to_string()
}

/// Returns the URL of the group: the one that is given, or, without a path, that of job `careen`
/// and the repository.
fn group_url(text: &str, repository: &str) -> Result<Url, String> {
    let mut url = Url::parse(text).map_err(|error| error.to_string())?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err("it must be http://HOST:PORT or https://HOST".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("no user or password in the URL: every process of the machine sees it".into());
    }
    if matches!(url.path(), "" | "/") {
        let name = URL_SAFE.encode(repository);
        url.set_path(&format!("/metrics/job/careen/repository@base64/{name}"));
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_alone_gets_the_group_of_the_repository() {
        let url = |text| group_url(text, "s3://bucket/kopia/ns/").map(|url| url.to_string());
        let group = "/metrics/job/careen/repository@base64/czM6Ly9idWNrZXQva29waWEvbnMv";
        assert_eq!(
            url("http://push:9091").unwrap(),
            format!("http://push:9091{group}")
        );
        assert_eq!(
            url("https://push/").unwrap(),
            format!("https://push{group}")
        );
        let own = "http://push:9091/metrics/job/other/team/a";
        assert_eq!(url(own).unwrap(), own);
        for wrong in [
            "push:9091",
            "ftp://push",
            "",
            "http://",
            "http://a:secret@push",
        ] {
            assert!(url(wrong).is_err(), "{wrong}");
        }
    }
}
