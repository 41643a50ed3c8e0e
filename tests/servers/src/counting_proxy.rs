//! A proxy that counts what a program asks of a server, and makes the way longer.
//!
//! Bodies pass through piece by piece, so it can stand before large blobs and take little time of
//! its own. What is counted is what went over the wire, whoever asked: the same for every program.
//! Memory: a name for each blob that is read and eight bytes for each read.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::fault_proxy::{Kind, kind_of};
use crate::http::Message;
use crate::listener::Listener;
use crate::way::{PIECE_BYTES, Way};

/// What was asked.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    requests: BTreeMap<Kind, u64>,
    /// Bytes of the bodies of answers.
    pub downloaded_bytes: u64,
    /// Bytes of the bodies of requests.
    pub uploaded_bytes: u64,
    /// Bytes of the heads of answers: what a request costs however little it asks for.
    pub downloaded_head_bytes: u64,
    /// Bytes of the heads of requests.
    pub uploaded_head_bytes: u64,
    /// Answers that were no success, by status.
    pub refused: BTreeMap<u16, u64>,
    /// Most requests in flight at one time.
    pub in_flight_peak: u64,
    /// Sum of the times of all requests.
    pub request_time: Duration,
    /// Time in which at least one request was in flight.
    pub busy_time: Duration,
    /// Pages of listings by what they asked for.
    pages: BTreeMap<String, u64>,
    blobs: BTreeMap<String, Blob>,
}

/// What was asked about one blob.
#[derive(Clone, Debug, Default)]
pub struct Blob {
    /// Reads: the first byte and the last, `u32::MAX` where none is named.
    pub reads: Vec<(u32, u32)>,
    /// Reads of those that found nothing.
    pub missing: u64,
    /// Bytes that were read.
    pub read_bytes: u64,
    /// Puts.
    pub puts: u64,
    /// Bytes that were put.
    pub put_bytes: u64,
    /// Deletions.
    pub deletes: u64,
}

impl Asked {
    /// Returns how many requests there were of a kind.
    pub fn count(&self, kind: Kind) -> u64 {
        self.requests.get(&kind).copied().unwrap_or(0)
    }

    /// Returns how many requests there were.
    pub fn all(&self) -> u64 {
        self.requests.values().sum()
    }

    /// Returns how many requests were in flight while there were any.
    pub fn in_flight_mean(&self) -> f64 {
        let busy = self.busy_time.as_secs_f64();
        if busy == 0.0 {
            return 0.0;
        }
        self.request_time.as_secs_f64() / busy
    }

    /// Returns the pages of listings that were asked for more than once, with how often.
    pub fn pages_again(&self) -> Vec<(&str, u64)> {
        let again = self.pages.iter().filter(|(_, count)| **count > 1);
        again.map(|(page, count)| (page.as_str(), *count)).collect()
    }

    /// Returns the blobs whose names begin with one of these, and how often each was read.
    pub fn reads_of(&self, starts: &[&str]) -> BTreeMap<&str, u64> {
        let read = self.blobs_of(starts);
        let read = read.filter(|(_, blob)| !blob.reads.is_empty());
        read.map(|(name, blob)| (name, blob.reads.len() as u64))
            .collect()
    }

    /// Returns the reads of these blobs that ask for a byte that was asked for before.
    pub fn reads_again(&self, starts: &[&str]) -> Vec<String> {
        let mut again = Vec::new();
        for (name, blob) in self.blobs_of(starts) {
            for (at, (first, last)) in blob.reads.iter().enumerate() {
                let is_before = |other: &&(u32, u32)| other.0 <= *last && *first <= other.1;
                if let Some(before) = blob.reads[..at].iter().find(is_before) {
                    again.push(format!("{name} {first}-{last} after {before:?}"));
                }
            }
        }
        again
    }

    /// Returns the blobs whose names begin with one of these, with what was asked about each.
    pub fn blobs_of(&self, starts: &[&str]) -> impl Iterator<Item = (&str, &Blob)> {
        let is_one = |name: &str| starts.iter().any(|start| name.starts_with(start));
        let blobs = self.blobs.iter().map(|(name, blob)| (name.as_str(), blob));
        blobs.filter(move |(name, _)| is_one(name))
    }
}

#[derive(Debug)]
struct State {
    asked: Asked,
    delay: Duration,
    in_flight: u64,
    /// When the number in flight last changed.
    changed: Instant,
}

impl State {
    /// Accounts for the time since the last change.
    fn passes(&mut self) {
        let now = Instant::now();
        let time = now - self.changed;
        self.changed = now;
        if self.in_flight > 0 {
            self.asked.busy_time += time;
            self.asked.request_time += time * self.in_flight as u32;
        }
    }
}

/// The proxy.
#[derive(Debug)]
pub struct CountingProxy {
    listener: Listener,
    state: Arc<Mutex<State>>,
}

impl CountingProxy {
    /// Stands before the server on `port`.
    pub fn before(port: u16) -> Self {
        let state = Arc::new(Mutex::new(State {
            asked: Asked::default(),
            delay: Duration::ZERO,
            in_flight: 0,
            changed: Instant::now(),
        }));
        let own = Arc::clone(&state);
        let serve = move |stream, reader| serve(&own, port, stream, reader);
        Self {
            listener: Listener::start(Arc::new(serve)),
            state,
        }
    }

    /// Returns the port to use instead of the server's.
    pub fn port(&self) -> u16 {
        self.listener.port
    }

    /// Makes every request take so much longer from now on.
    pub fn delay(&self, delay: Duration) {
        locked(&self.state).delay = delay;
    }

    /// Returns what was asked since the last call.
    pub fn take(&self) -> Asked {
        let mut state = locked(&self.state);
        state.passes();
        std::mem::take(&mut state.asked)
    }
}

fn locked(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The two sides of a connection.
struct Sides {
    client: TcpStream,
    requests: BufReader<TcpStream>,
    way: Way,
}

fn serve(
    state: &Mutex<State>,
    port: u16,
    client: TcpStream,
    requests: BufReader<TcpStream>,
) -> io::Result<()> {
    let mut sides = Sides {
        client,
        requests,
        way: Way::to(port),
    };
    while let Some(request) = Message::read_head(&mut sides.requests)? {
        let (kind, name) = (kind_of(&request), name(&request));
        let delay = begin(state, kind, &request);
        let passed = sides.pass_on(request, delay);
        let mut state = locked(state);
        state.passes();
        state.in_flight -= 1;
        end(&mut state.asked, kind, name, &passed?);
    }
    sides.client.shutdown(Shutdown::Both)
}

/// A request that has its answer.
struct Passed {
    status: u16,
    up: u64,
    down: u64,
    head_up: u64,
    head_down: u64,
}

impl Sides {
    /// Passes a request on, after `delay`, and its answer back.
    fn pass_on(&mut self, request: Message, delay: Duration) -> io::Result<Passed> {
        std::thread::sleep(delay);
        let (to, answers) = self.way.sides()?;
        let is_head = request.method() == "HEAD";
        let head_up = request.head().len() as u64;
        let up = send(request, &mut self.requests, &mut self.client, to)?;
        let answer = answer_head(answers)?;
        let status = answer.status();
        let head = answer.head();
        self.client.write_all(head.as_bytes())?;
        let down = match status {
            204 | 304 => 0,
            _ if is_head => 0,
            _ => pass_body(&answer, answers, &mut self.client, true)?,
        };
        Ok(Passed {
            status,
            up,
            down,
            head_up,
            head_down: head.len() as u64,
        })
    }
}

/// Counts a request that begins; returns how much longer it takes.
fn begin(state: &Mutex<State>, kind: Kind, request: &Message) -> Duration {
    let mut state = locked(state);
    state.passes();
    state.in_flight += 1;
    let in_flight = state.in_flight;
    let asked = &mut state.asked;
    asked.in_flight_peak = asked.in_flight_peak.max(in_flight);
    *asked.requests.entry(kind).or_default() += 1;
    match kind {
        Kind::List => {
            let (_, query) = request.target().split_once('?').unwrap_or(("", ""));
            *asked.pages.entry(page(query)).or_default() += 1;
        }
        Kind::Get => {
            let blob = asked.blobs.entry(name(request)).or_default();
            blob.reads.push(range(request));
        }
        _ => {}
    }
    state.delay
}

/// Counts a request that has its answer.
fn end(asked: &mut Asked, kind: Kind, name: String, passed: &Passed) {
    asked.uploaded_bytes += passed.up;
    asked.downloaded_bytes += passed.down;
    asked.uploaded_head_bytes += passed.head_up;
    asked.downloaded_head_bytes += passed.head_down;
    if passed.status >= 300 {
        *asked.refused.entry(passed.status).or_default() += 1;
    }
    match kind {
        Kind::Get => {
            let blob = asked.blobs.entry(name).or_default();
            blob.read_bytes += passed.down;
            blob.missing += u64::from(passed.status == 404);
        }
        Kind::Put => {
            let blob = asked.blobs.entry(name).or_default();
            blob.puts += 1;
            blob.put_bytes += passed.up;
        }
        Kind::Delete => asked.blobs.entry(name).or_default().deletes += 1,
        _ => {}
    }
}

/// Returns the last part of the path, a blob's name.
fn name(request: &Message) -> String {
    let path = request.target().split('?').next().unwrap_or("");
    path.rsplit('/').next().unwrap_or("").to_owned()
}

/// Returns what says which page of which listing is meant.
fn page(query: &str) -> String {
    let is_told = |pair: &&str| {
        let name = pair.split('=').next().unwrap_or("");
        matches!(
            name,
            "prefix" | "start-after" | "continuation-token" | "marker" | "startFrom"
        )
    };
    let pairs: Vec<&str> = query.split('&').filter(is_told).collect();
    pairs.join("&")
}

fn range(request: &Message) -> (u32, u32) {
    let given = request
        .header("x-ms-range")
        .or_else(|| request.header("range"));
    let range = given.and_then(|text| {
        let (first, last) = text.strip_prefix("bytes=")?.split_once('-')?;
        Some((first.parse().ok()?, last.parse().unwrap_or(u32::MAX)))
    });
    range.unwrap_or((0, u32::MAX))
}

/// Sends a request on; returns the bytes of its body.
fn send(
    mut request: Message,
    from: &mut BufReader<TcpStream>,
    client: &mut TcpStream,
    to: &mut TcpStream,
) -> io::Result<u64> {
    if request.header("expect").is_some() {
        request.headers.retain(|(name, _)| name != "expect");
        client.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
    }
    to.write_all(request.head().as_bytes())?;
    pass_body(&request, from, to, false)
}

/// Reads the head of an answer; those that only say that one will come are left out.
fn answer_head(from: &mut BufReader<TcpStream>) -> io::Result<Message> {
    loop {
        let head = Message::read_head(from)?.ok_or(io::ErrorKind::UnexpectedEof)?;
        if head.status() >= 200 {
            return Ok(head);
        }
    }
}

/// Passes a body on; `to_end`: without a length it ends with the connection.
fn pass_body(
    head: &Message,
    from: &mut BufReader<TcpStream>,
    to: &mut TcpStream,
    to_end: bool,
) -> io::Result<u64> {
    match head.length() {
        _ if head.is_chunked() => pass_chunks(from, to),
        Some(length) => pass(from, to, length as u64),
        None if to_end => pass(from, to, u64::MAX),
        None => Ok(0),
    }
}

fn pass_chunks(from: &mut BufReader<TcpStream>, to: &mut TcpStream) -> io::Result<u64> {
    let mut bytes = 0;
    loop {
        let mut line = String::new();
        from.read_line(&mut line)?;
        let digits = line.trim().split(';').next().unwrap_or("");
        let length = u64::from_str_radix(digits, 16).map_err(io::Error::other)?;
        to.write_all(line.as_bytes())?;
        pass(from, to, length + 2)?; // and the end of its line
        bytes += length;
        if length == 0 {
            return Ok(bytes);
        }
    }
}

fn pass(from: &mut BufReader<TcpStream>, to: &mut TcpStream, bytes: u64) -> io::Result<u64> {
    let mut left = bytes;
    let mut piece = vec![0; PIECE_BYTES];
    while left > 0 {
        let most = left.min(PIECE_BYTES as u64) as usize;
        let count = from.read(&mut piece[..most])?;
        if count == 0 && bytes == u64::MAX {
            break;
        }
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        to.write_all(&piece[..count])?;
        left -= count as u64;
    }
    Ok(bytes - left)
}
