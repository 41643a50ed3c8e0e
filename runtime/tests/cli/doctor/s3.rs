//! An S3 server of a few requests, which does what a test wants: a bucket with a repository in it.
//!
//! Signatures are not looked at, only whose key it is. Blobs are whole in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::io::BufReader;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};

use servers::http::Message;

/// How the server is wrong.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Wrong {
    /// It lets nobody do this: `LIST`, `GET`, `PUT`, `DELETE`, `LOCK`.
    pub(super) denied: Option<&'static str>,
    /// Its clock.
    pub(super) date: Option<&'static str>,
    /// It puts what is there already, though it is asked not to.
    pub(super) overwrites: bool,
    /// It has no object locks.
    pub(super) lockless: bool,
    /// It refuses everything, with a status and a code.
    pub(super) refuses: Option<(u16, &'static str)>,
    /// Where the bucket is, if not where everybody asks.
    pub(super) region: Option<&'static str>,
    /// It shows people a web page.
    pub(super) is_console: bool,
}

/// The key that it knows.
pub(super) const KEY: &str = "AKTEST";

type Blobs = Arc<Mutex<BTreeMap<String, Vec<u8>>>>;

/// Starts a server with the repository of a folder below `b/x/kopia/ns/`; returns its port.
pub(super) fn start(folder: &Path, wrong: Wrong) -> u16 {
    let mut blobs = BTreeMap::new();
    collect(folder, "", &mut blobs);
    assert!(blobs.contains_key("x/kopia/ns/kopia.repository"));
    let blobs: Blobs = Arc::new(Mutex::new(blobs));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let blobs = Arc::clone(&blobs);
            std::thread::spawn(move || serve(stream, &blobs, wrong));
        }
    });
    port
}

/// Takes the blobs of a folder in Kopia's layout.
fn collect(folder: &Path, name: &str, blobs: &mut BTreeMap<String, Vec<u8>>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let own = format!("{name}{}", entry.file_name().to_str().unwrap());
        if entry.file_type().unwrap().is_dir() {
            collect(&entry.path(), &own, blobs);
        } else if let Some(id) = own.strip_suffix(".f") {
            let bytes = std::fs::read(entry.path()).unwrap();
            blobs.insert(format!("x/kopia/ns/{id}"), bytes);
        }
    }
}

fn serve(stream: TcpStream, blobs: &Blobs, wrong: Wrong) {
    let mut from = BufReader::new(stream);
    while let Ok(Some(asked)) = Message::read_request(&mut from) {
        let mut answer = answer(&asked, blobs, wrong);
        let now = "Thu, 26 Nov 2026 08:00:00 GMT".to_owned();
        let date = wrong.date.map_or_else(http_now, str::to_owned);
        answer.headers.push(("date".into(), date));
        answer.headers.push(("last-modified".into(), now));
        if asked.method() == "HEAD" {
            let length = answer.body.len().to_string();
            answer.headers.push(("content-length".into(), length));
            answer.body.clear();
        }
        if answer.write(from.get_mut(), None).is_err() {
            return;
        }
    }
}

fn http_now() -> String {
    let now = std::process::Command::new("date")
        .args(["-u", "+%a, %d %b %Y %H:%M:%S GMT"])
        .env("LC_ALL", "C")
        .output();
    String::from_utf8(now.unwrap().stdout)
        .unwrap()
        .trim()
        .to_owned()
}

fn answer(asked: &Message, blobs: &Blobs, wrong: Wrong) -> Message {
    let (path, query) = asked
        .target()
        .split_once('?')
        .unwrap_or((asked.target(), ""));
    let Some(key) = path
        .strip_prefix("/b")
        .filter(|rest| !rest.starts_with("ad"))
    else {
        return Message::refusal(if path == "/" { 403 } else { 404 }, "NoSuchBucket");
    };
    let signed = asked.header("authorization").unwrap_or_default();
    if let Some((status, code)) = wrong.refuses {
        return Message::refusal(status, code);
    }
    if wrong.is_console {
        return Message::answer(
            200,
            &[("content-type", "text/html")],
            b"<!doctype html><html>",
        );
    }
    if let Some(region) = wrong.region.filter(|region| !signed.contains(region)) {
        let body = b"<Error><Code>PermanentRedirect</Code></Error>";
        return Message::answer(301, &[("x-amz-bucket-region", region)], body);
    }
    if !signed.contains(&format!("Credential={KEY}/")) {
        return Message::refusal(403, "InvalidAccessKeyId");
    }
    let key = key.trim_start_matches('/');
    let is_lock =
        query.starts_with("retention") || asked.header("x-amz-object-lock-mode").is_some();
    if is_lock && wrong.lockless {
        return Message::refusal(400, "InvalidRequest");
    }
    if is_lock && wrong.denied == Some("LOCK") {
        return Message::refusal(403, "AccessDenied");
    }
    let what = match asked.method() {
        "GET" | "HEAD" if key.is_empty() => "LIST",
        "HEAD" => "GET",
        other => other,
    };
    if wrong.denied == Some(what) {
        return Message::refusal(403, "AccessDenied");
    }
    let mut blobs = blobs.lock().unwrap();
    match what {
        "LIST" => list(query, &blobs),
        "GET" => match blobs.get(key) {
            Some(bytes) => part(bytes, asked.header("range")),
            None => Message::refusal(404, "NoSuchKey"),
        },
        "PUT" if query.starts_with("retention") => Message::answer(200, &[], b""),
        "PUT" => {
            let careful = asked.header("if-none-match").is_some() && !wrong.overwrites;
            if careful && blobs.contains_key(key) {
                return Message::refusal(412, "PreconditionFailed");
            }
            blobs.insert(key.to_owned(), asked.body.clone());
            Message::answer(200, &[], b"")
        }
        _ => {
            blobs.remove(key);
            Message::answer(204, &[], b"")
        }
    }
}

/// Answers with a range of a blob: `bytes=0-9`.
fn part(bytes: &[u8], range: Option<&str>) -> Message {
    let etag = ("etag", "\"e\"");
    let Some(range) = range.and_then(|range| range.strip_prefix("bytes=")) else {
        return Message::answer(200, &[etag], bytes);
    };
    let (from, to) = range.split_once('-').unwrap();
    let from: usize = from.parse().unwrap();
    let to = to
        .parse()
        .map_or(bytes.len(), |to: usize| (to + 1).min(bytes.len()));
    if from >= bytes.len() {
        return Message::refusal(416, "InvalidRange");
    }
    let told = format!("bytes {from}-{}/{}", to - 1, bytes.len());
    Message::answer(206, &[etag, ("content-range", &told)], &bytes[from..to])
}

/// Lists all at once; the repository is small.
fn list(query: &str, blobs: &BTreeMap<String, Vec<u8>>) -> Message {
    let value = |name: &str| {
        let found = query
            .split('&')
            .find_map(|pair| pair.strip_prefix(&format!("{name}=")));
        found
            .unwrap_or_default()
            .replace("%2F", "/")
            .replace("%5F", "_")
    };
    let (prefix, after) = (value("prefix"), value("start-after"));
    let limit: usize = value("max-keys").parse().unwrap_or(1000);
    let (mut body, mut folders) = (String::from("<ListBucketResult>"), BTreeSet::new());
    let mut count = 0;
    for (key, bytes) in blobs.range(prefix.clone()..) {
        let Some(rest) = key.strip_prefix(&prefix) else {
            break;
        };
        if let Some((folder, _)) = rest.split_once('/') {
            folders.insert(format!("{prefix}{folder}/"));
        } else if *key > after && count < limit {
            count += 1;
            body += &format!(
                "<Contents><Key>{key}</Key><Size>{}</Size>\
                 <LastModified>2026-11-26T08:00:00Z</LastModified></Contents>",
                bytes.len()
            );
        }
    }
    for folder in folders {
        body += &format!("<CommonPrefixes><Prefix>{folder}</Prefix></CommonPrefixes>");
    }
    body += "</ListBucketResult>";
    Message::answer(200, &[], body.as_bytes())
}
