//! The way to an object store: place, name, connection, certificate, clock, credentials.
//!
//! No memory cost.

use std::time::Duration;

use super::{Ended, Walk};
use crate::blob::BlobError;
use crate::blob::object::location::Location;
use crate::blob::object::probe::{Problem, Server};
use crate::cli::place::ObjectPlace;
use crate::clock::Timestamp;
use crate::maintenance::diagnosis::Finding;

/// Kopia refuses maintenance when its clock and the storage's are further apart.
const SKEW_MAX: Duration = Duration::from_secs(300);

/// From here on a person should know.
const SKEW_SEEN: Duration = Duration::from_secs(30);

/// Walks to the store.
pub(super) fn look(walk: &mut Walk<'_>, place: &ObjectPlace) -> Result<(), Ended> {
    describe(walk, place);
    let located = match place.located() {
        Ok(located) => located,
        Err(error) => return Err(walk.failed("region", &error.into())),
    };
    if let Some(server) = Server::of(&located) {
        reach(walk, &server)?;
    } else {
        let what = format!("{} is no URL of a server", located.server_url());
        let finding = Finding::error("name", "storage-setup", what, "check --endpoint");
        return Err(walk.end(&finding));
    }
    credentials(walk, place)
}

/// Tells how the place is understood, and what of it is not safe.
fn describe(walk: &mut Walk<'_>, place: &ObjectPlace) {
    let location = &place.location;
    let kind = match location {
        Location::S3(s3) => {
            let style = if s3.uses_path_style() { "path" } else { "host" };
            let region = match (&s3.region, &s3.endpoint) {
                (None, None) => "asked for",
                _ => s3.signing_region(),
            };
            format!(
                "S3, region {region}, bucket in the {style} of {}",
                location.server_url()
            )
        }
        Location::Gcs(_) => format!("Google Cloud Storage at {}", location.server_url()),
        Location::Azure(azure) => {
            format!(
                "Azure, account {}, at {}",
                azure.account,
                location.server_url()
            )
        }
    };
    walk.tell(&Finding::ok("place", format!("{location}: {kind}")));
    if !location.prefix().is_empty() && !location.prefix().ends_with('/') {
        let what = format!("the prefix {:?} ends without a slash", location.prefix());
        let next = "fine if the repository was made so: it stands before every blob's name as it \
                    is; Velero's prefixes end with a slash";
        walk.tell(&Finding::warning(
            "place",
            "prefix-without-slash",
            what,
            next,
        ));
    }
    let transport = location.transport();
    if transport.plain_http {
        let what = "HTTP without TLS: everybody on the way can read and change what is sent";
        let next = "use TLS unless the server is on this machine or in a network of its own";
        walk.tell(&Finding::warning("place", "plain-http", what, next));
    }
    if transport.skip_tls_verify {
        let what = "any certificate is trusted: whoever is on the way can pretend to be the store";
        let next = "give --ca-file the server's CA instead";
        walk.tell(&Finding::warning("place", "tls-unchecked", what, next));
    }
}

fn reach(walk: &mut Walk<'_>, server: &Server) -> Result<(), Ended> {
    let shown = format!("{}:{}", server.host, server.port);
    let addresses = server
        .resolve()
        .map_err(|problem| told(walk, "name", problem))?;
    let names: Vec<String> = addresses
        .iter()
        .map(|address| address.ip().to_string())
        .collect();
    walk.tell(&Finding::ok(
        "name",
        format!("{}: {}", server.host, names.join(", ")),
    ));
    let stream = server
        .connect(&addresses)
        .map_err(|problem| told(walk, "connection", problem))?;
    walk.tell(&Finding::ok("connection", shown));
    let greeting = server
        .greet(stream)
        .map_err(|problem| told(walk, "tls", problem))?;
    walk.tell(&Finding::ok("tls", greeting.protection));
    let now = walk.console.surroundings.clock.now();
    walk.tell(&clock(greeting.time, now));
    Ok(())
}

fn clock(theirs: Option<Timestamp>, ours: Timestamp) -> Finding {
    let check = "clock";
    let Some(theirs) = theirs else {
        return Finding::skipped(check, "the server tells no time");
    };
    let (apart, who) = if theirs > ours {
        (theirs.since(ours), "behind")
    } else {
        (ours.since(theirs), "ahead of")
    };
    let what = format!("this machine is {} s {who} the server", apart.as_secs());
    let next = "set this machine's clock (NTP): signatures and Kopia's safety times depend on it";
    if apart > SKEW_MAX {
        return Finding::error(check, "clock-skew", what, next);
    }
    if apart > SKEW_SEEN {
        return Finding::warning(check, "clock-skew", what, next);
    }
    Finding::ok(check, "this machine and the server agree")
}

fn credentials(walk: &mut Walk<'_>, place: &ObjectPlace) -> Result<(), Ended> {
    let surroundings = &walk.console.surroundings;
    let found = place.keys(walk.target.storage_options(), surroundings);
    let found = found.map_err(|error| walk.end(&none(&error)))?;
    let checked = found.credentials.check_now();
    checked.map_err(|error| walk.end(&none(&error)))?;
    walk.tell(&Finding::ok("credentials", found.origin));
    Ok(())
}

/// Says that there are no keys, without the place, which was told.
fn none(error: &BlobError) -> Finding {
    let what = match error {
        BlobError::Credentials { reason, .. } => reason.clone(),
        other => other.to_string(),
    };
    if what.contains("has ended at") {
        let next = "make a new one, that lives longer than a run";
        return Finding::error("credentials", "keys-ended", what, next);
    }
    let next = "give the keys in one of these places, or a file with them to --credentials-file";
    Finding::error("credentials", error.code(), what, next)
}

fn told(walk: &mut Walk<'_>, check: &'static str, problem: Problem) -> Ended {
    walk.end(&Finding::error(
        check,
        problem.code,
        problem.what,
        problem.next,
    ))
}
