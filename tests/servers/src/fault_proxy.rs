//! A proxy between Careen and a server, which does to requests what networks and stores do.
//!
//! A rule decides over every request by its number and what it is. Messages go through whole, so it
//! is for blobs of some MiB.

use std::collections::BTreeMap;
use std::io::{self, BufReader, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::gate::Gate;
use crate::http::Message;
use crate::listener::Listener;
use crate::upstream::{Connection, Upstream};

/// What becomes of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It goes through.
    Pass,
    /// The connection ends before the server hears of it.
    Drop,
    /// The server does it, and the connection ends before the answer.
    DropAnswer,
    /// It takes so much longer.
    Delay(Duration),
    /// The server does it, and nothing comes back for so long; then the connection ends.
    Hang(Duration),
    /// This answer instead of the server's: a status and a code.
    Refuse(u16, &'static str),
    /// The same, and when to come again: `Retry-After`.
    RefuseUntil(u16, &'static str, String),
    /// This answer instead of the server's: a status, and a body of JSON.
    Say(u16, String),
    /// It waits at the gate, then goes through.
    Wait(Gate),
    /// Only so many bytes of the answer's body, then the connection ends.
    Truncate(usize),
    /// The answer that the same request got first.
    Stale,
}

/// Kinds of requests, as rules see them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// A read of bytes.
    Get,
    /// A page of a listing.
    List,
    /// A read of metadata.
    Head,
    /// A put.
    Put,
    /// A deletion.
    Delete,
    /// Anything else: locks.
    Other,
}

/// A request, as rules see it.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// Its number, from 0 on.
    pub number: u64,
    /// What it is.
    pub kind: Kind,
    /// Its method.
    pub method: &'a str,
    /// Path and query.
    pub target: &'a str,
}

/// Decides over requests.
pub type Rule = Box<dyn FnMut(Seen<'_>) -> Fault + Send>;

struct State {
    rule: Rule,
    counts: BTreeMap<Kind, u64>,
    number: u64,
    first_answers: BTreeMap<String, Message>,
    /// Status of the last answer that was dropped.
    dropped: Option<u16>,
}

/// The proxy.
pub struct FaultProxy {
    listener: Listener,
    state: Arc<Mutex<State>>,
}

impl std::fmt::Debug for FaultProxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("FaultProxy").field(&self.listener).finish()
    }
}

impl FaultProxy {
    /// Stands before the server on `port`; lets all through at first.
    pub fn before(port: u16) -> Self {
        Self::start(Upstream::plain(port))
    }

    /// The same before a server that speaks TLS, with a certificate of the CA in `ca_pem`; the
    /// proxy itself speaks plain HTTP.
    ///
    /// # Panics
    ///
    /// When that is no certificate.
    pub fn before_secure(port: u16, ca_pem: &[u8]) -> Self {
        Self::start(Upstream::secure(port, ca_pem))
    }

    fn start(upstream: Upstream) -> Self {
        let state = Arc::new(Mutex::new(State {
            rule: Box::new(|_| Fault::Pass),
            counts: BTreeMap::new(),
            number: 0,
            first_answers: BTreeMap::new(),
            dropped: None,
        }));
        let own = Arc::clone(&state);
        let serve = move |stream, reader| serve(&own, &upstream, stream, reader);
        Self {
            listener: Listener::start(Arc::new(serve)),
            state,
        }
    }

    /// Returns the port to use instead of the server's.
    pub fn port(&self) -> u16 {
        self.listener.port
    }

    /// Changes the rule, and counts from the beginning.
    pub fn rule(&self, rule: impl FnMut(Seen<'_>) -> Fault + Send + 'static) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.rule = Box::new(rule);
        state.counts.clear();
        state.number = 0;
    }

    /// Returns how many requests there were of a kind.
    pub fn count(&self, kind: Kind) -> u64 {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.counts.get(&kind).copied().unwrap_or(0)
    }

    /// Returns the status of the last answer that was dropped.
    pub fn dropped(&self) -> Option<u16> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.dropped
    }
}

/// Tells what a request is, to S3, Google or Azure.
pub(crate) fn kind_of(request: &Message) -> Kind {
    let (_, query) = request.target().split_once('?').unwrap_or(("", ""));
    let is_list = query.contains("list-type=2") || query.contains("comp=list");
    let is_other = query.contains("retention") || query.contains("immutab");
    match request.method() {
        _ if is_other => Kind::Other,
        "GET" if is_list => Kind::List,
        "GET" => Kind::Get,
        "HEAD" => Kind::Head,
        "PUT" => Kind::Put,
        "DELETE" => Kind::Delete,
        _ => Kind::Other,
    }
}

fn serve(
    state: &Mutex<State>,
    upstream: &Upstream,
    mut stream: TcpStream,
    mut reader: BufReader<TcpStream>,
) -> io::Result<()> {
    let mut server: Option<BufReader<Connection>> = None;
    while let Some(request) = Message::read_request(&mut reader)? {
        let fault = decide(state, &request);
        match &fault {
            Fault::Drop => break,
            Fault::Delay(by) => std::thread::sleep(*by),
            Fault::Wait(gate) => gate.pass(),
            _ => {}
        }
        if let Some(told) = instead(&fault) {
            told.write(&mut stream, None)?;
            continue;
        }
        let server = match &mut server {
            Some(server) => server,
            None => server.insert(upstream.connect()?),
        };
        request.write(server.get_mut(), None)?;
        server.get_mut().flush()?;
        let mut answer = Message::read_answer(server, request.method() != "HEAD")?;
        {
            let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
            let target = format!("{} {}", request.method(), request.target());
            let first = state.first_answers.entry(target);
            if kind_of(&request) == Kind::List {
                let first = first.or_insert_with(|| answer.clone());
                if fault == Fault::Stale {
                    answer = first.clone();
                }
            }
        }
        match fault {
            Fault::DropAnswer => {
                let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
                state.dropped = Some(answer.status());
                break;
            }
            Fault::Hang(time) => {
                std::thread::sleep(time);
                break;
            }
            Fault::Truncate(bytes) => {
                answer.write(&mut stream, Some(bytes))?;
                break;
            }
            _ => answer.write(&mut stream, None)?,
        }
    }
    stream.shutdown(Shutdown::Both)
}

/// Returns what is answered instead of the server.
fn instead(fault: &Fault) -> Option<Message> {
    let json = [("content-type", "application/json")];
    Some(match fault {
        Fault::Refuse(status, code) => Message::refusal(*status, code),
        Fault::RefuseUntil(status, code, until) => {
            let mut refusal = Message::refusal(*status, code);
            let until = ("retry-after".to_owned(), until.clone());
            refusal.headers.push(until);
            refusal
        }
        Fault::Say(status, body) => Message::answer(*status, &json, body.as_bytes()),
        _ => return None,
    })
}

fn decide(state: &Mutex<State>, request: &Message) -> Fault {
    let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
    let kind = kind_of(request);
    *state.counts.entry(kind).or_default() += 1;
    let seen = Seen {
        number: state.number,
        kind,
        method: request.method(),
        target: request.target(),
    };
    state.number += 1;
    (state.rule)(seen)
}
