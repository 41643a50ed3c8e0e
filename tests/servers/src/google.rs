//! What Google Cloud Storage's XML interface does, in memory: no real server of it can be had.
//!
//! Objects, ranges, conditions on generations and entity tags, pages of listings with prefix,
//! delimiter and a start, as its documentation tells them. So "works with Google" means: with this
//! emulation.

use std::collections::BTreeMap;
use std::io::{self, BufReader};
use std::net::TcpStream;
use std::ops::Bound;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::http::Message;
use crate::listener::Listener;

/// Where its service of tokens is.
const TOKENS: &str = "/oauth2/token";

/// The token that it knows; every other one is refused.
pub const TOKEN: &str = "token-of-the-suites";

/// Below every generation that is given.
const FIRST_GENERATION: u64 = 1_700_000_000_000_000;

#[derive(Debug)]
struct Object {
    bytes: Vec<u8>,
    generation: u64,
    seconds: u64,
}

#[derive(Debug, Default)]
struct Buckets {
    objects: BTreeMap<String, Object>,
    generation: u64,
}

/// The running emulation, with any bucket; it forgets all when it is dropped.
#[derive(Debug)]
pub struct Google {
    listener: Listener,
}

impl Google {
    /// Starts it.
    pub fn start() -> Self {
        let buckets: Mutex<Buckets> = Mutex::default();
        let serve = move |stream, reader| serve(&buckets, stream, reader);
        Self {
            listener: Listener::start(Arc::new(serve)),
        }
    }

    /// Returns its port.
    pub fn port(&self) -> u16 {
        self.listener.port
    }

    /// Returns a credentials file, as Google's program writes it for a user.
    pub fn credentials_file(&self) -> String {
        let port = self.port();
        format!(
            r#"{{"type":"authorized_user","client_id":"suites","client_secret":"hunter2hunter2",
                "refresh_token":"hunter3hunter3","token_uri":"http://127.0.0.1:{port}{TOKENS}"}}"#
        )
    }
}

fn serve(
    buckets: &Mutex<Buckets>,
    mut stream: TcpStream,
    mut reader: BufReader<TcpStream>,
) -> io::Result<()> {
    while let Some(request) = Message::read_request(&mut reader)? {
        let mut answer = {
            let mut buckets = buckets.lock().unwrap_or_else(PoisonError::into_inner);
            buckets.answer(&request)
        };
        let date = http_date(now());
        answer.headers.push(("date".to_owned(), date));
        if request.method() == "HEAD" {
            let length = answer.body.len().to_string();
            answer.headers.push(("content-length".to_owned(), length));
            answer.body.clear();
        }
        answer.write(&mut stream, None)?;
    }
    Ok(())
}

impl Buckets {
    fn answer(&mut self, request: &Message) -> Message {
        if request.method() == "POST" && request.target() == TOKENS {
            let token =
                format!(r#"{{"access_token":"{TOKEN}","expires_in":3600,"token_type":"Bearer"}}"#);
            return Message::answer(200, &[], token.as_bytes());
        }
        if request.header("authorization") != Some(&format!("Bearer {TOKEN}")) {
            return Message::refusal(401, "AuthenticationRequired");
        }
        let (path, query) = request
            .target()
            .split_once('?')
            .unwrap_or((request.target(), ""));
        let key = decode(path.trim_start_matches('/'));
        match request.method() {
            "GET" if !key.contains('/') => self.list(&key, query),
            "GET" | "HEAD" => self.get(&key, request),
            "PUT" => self.put(key, request),
            "DELETE" => match self.objects.remove(&key) {
                Some(_) => Message::answer(204, &[], b""),
                None => Message::refusal(404, "NoSuchKey"),
            },
            _ => Message::refusal(405, "MethodNotAllowed"),
        }
    }

    fn put(&mut self, key: String, request: &Message) -> Message {
        let present = self.objects.get(&key).map_or(0, |object| object.generation);
        if request
            .header("x-goog-if-generation-match")
            .is_some_and(|wanted| wanted != present.to_string())
        {
            return Message::refusal(412, "PreconditionFailed");
        }
        // Real generations are times in microseconds.
        self.generation = self.generation.max(FIRST_GENERATION) + 1;
        let object = Object {
            bytes: request.body.clone(),
            generation: self.generation,
            seconds: now(),
        };
        let generation = object.generation.to_string();
        let headers = [("etag", &*object.tag()), ("x-goog-generation", &generation)];
        let answer = Message::answer(200, &headers, b"");
        self.objects.insert(key, object);
        answer
    }

    fn get(&self, key: &str, request: &Message) -> Message {
        let Some(object) = self.objects.get(key) else {
            return Message::refusal(404, "NoSuchKey");
        };
        let (tag, time) = (object.tag(), http_date(object.seconds));
        if request
            .header("if-match")
            .is_some_and(|wanted| wanted != tag)
        {
            return Message::refusal(412, "PreconditionFailed");
        }
        let total = object.bytes.len();
        let generation = object.generation.to_string();
        let mut headers = vec![
            ("etag", tag.as_str()),
            ("last-modified", time.as_str()),
            ("x-goog-generation", &generation),
        ];
        let range = request.header("range").and_then(|text| {
            let (first, last) = text.strip_prefix("bytes=")?.split_once('-')?;
            Some((first.parse::<usize>().ok()?, last.parse::<usize>().ok()?))
        });
        let Some((first, last)) = range else {
            return Message::answer(200, &headers, &object.bytes);
        };
        if first >= total {
            return Message::refusal(416, "InvalidRange");
        }
        let last = last.min(total - 1);
        let content_range = format!("bytes {first}-{last}/{total}");
        headers.push(("content-range", &content_range));
        Message::answer(206, &headers, &object.bytes[first..=last])
    }

    fn list(&self, bucket: &str, query: &str) -> Message {
        let value = |name: &str| {
            let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            let mut found = pairs.filter(|(given, _)| *given == name);
            found.next().map(|(_, value)| decode(value))
        };
        let prefix = format!("{bucket}/{}", value("prefix").unwrap_or_default());
        let max_keys = value("max-keys").and_then(|text| text.parse().ok());
        let max_keys: usize = max_keys.unwrap_or(1000);
        let after = value("continuation-token").or_else(|| value("start-after"));
        let after = format!("{bucket}/{}", after.unwrap_or_default());
        let (mut lines, mut folder, mut last) = (Vec::new(), String::new(), String::new());
        let mut is_whole = true;
        let range = (Bound::Excluded(&after), Bound::Unbounded);
        for (key, object) in self.objects.range::<String, _>(range) {
            let Some(rest) = key.strip_prefix(&prefix) else {
                continue;
            };
            let name = &key[bucket.len() + 1..];
            let slash = rest
                .find('/')
                .map(|at| &key[bucket.len() + 1..prefix.len() + at + 1]);
            if slash.is_some_and(|slash| slash == folder) {
                continue;
            }
            if lines.len() == max_keys {
                is_whole = false;
                break;
            }
            last = name.to_owned();
            match slash {
                Some(slash) => {
                    folder = slash.to_owned();
                    last = format!("{slash}\u{10FFFF}");
                    lines.push(format!(
                        "<CommonPrefixes><Prefix>{slash}</Prefix></CommonPrefixes>"
                    ));
                }
                None => lines.push(object.line(name)),
            }
        }
        let next = if is_whole {
            String::new()
        } else {
            format!("<NextContinuationToken>{last}</NextContinuationToken>")
        };
        let xml = format!(
            "<?xml version='1.0' encoding='UTF-8'?><ListBucketResult \
             xmlns='http://doc.s3.amazonaws.com/2006-03-01'><Name>{bucket}</Name>{next}\
             <IsTruncated>{}</IsTruncated>{}</ListBucketResult>",
            !is_whole,
            lines.concat()
        );
        Message::answer(200, &[("content-type", "application/xml")], xml.as_bytes())
    }
}

impl Object {
    fn tag(&self) -> String {
        format!("\"{}\"", self.generation)
    }

    fn line(&self, name: &str) -> String {
        let name = name.replace('&', "&amp;").replace('<', "&lt;");
        format!(
            "<Contents><Key>{name}</Key><Generation>{}</Generation><LastModified>{}</LastModified>\
             <ETag>{}</ETag><Size>{}</Size></Contents>",
            self.generation,
            rfc3339(self.seconds),
            self.tag().replace('"', "&quot;"),
            self.bytes.len()
        )
    }
}

fn decode(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        let digits = after.get(..2).and_then(|two| std::str::from_utf8(two).ok());
        let code = digits.and_then(|two| u8::from_str_radix(two, 16).ok());
        match (byte, code) {
            (b'%', Some(code)) => {
                bytes.push(code);
                rest = &after[2..];
            }
            _ => {
                bytes.push(*byte);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

/// Returns year, month and day of a day since 1970.
fn date(mut days: u64) -> (u64, usize, u64) {
    let is_leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    let mut year = 1970;
    while days >= 365 + u64::from(is_leap(year)) {
        days -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let february = 28 + u64::from(is_leap(year));
    let months = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 0;
    while days >= months[month] {
        days -= months[month];
        month += 1;
    }
    (year, month + 1, days + 1)
}

/// Returns a time as JSON and XML have it.
pub(crate) fn rfc3339(seconds: u64) -> String {
    let (year, month, day) = date(seconds / 86_400);
    let rest = seconds % 86_400;
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.123Z",
        rest / 3600,
        rest / 60 % 60,
        rest % 60
    )
}

/// Returns a time as HTTP headers have it.
fn http_date(seconds: u64) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = date(days);
    format!(
        "{}, {day:02} {} {year} {:02}:{:02}:{:02} GMT",
        DAYS[(days % 7) as usize],
        MONTHS[month - 1],
        rest / 3600,
        rest / 60 % 60,
        rest % 60
    )
}

#[cfg(test)]
mod tests {
    use super::{http_date, rfc3339};

    #[test]
    fn times_are_those_of_http() {
        assert_eq!(http_date(0), "Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(http_date(1_700_000_000), "Tue, 14 Nov 2023 22:13:20 GMT");
        assert_eq!(http_date(1_709_210_096), "Thu, 29 Feb 2024 12:34:56 GMT");
        assert_eq!(rfc3339(1_709_210_096), "2024-02-29T12:34:56.123Z");
    }
}
