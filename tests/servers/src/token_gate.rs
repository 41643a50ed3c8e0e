//! A gate before a store that lets in who has a token, and the services that give such tokens.
//!
//! Tokens live for a moment only, so that a run needs many. All services are on the gate's own
//! port: Amazon's metadata of machines and containers and its token service, Microsoft's and
//! Google's sign-in and metadata. What comes in is passed on as the server behind wants it: without
//! a signature (SeaweedFS), with a signature of the account (Azurite), with the one token that the
//! emulation of Google knows. Every token has `hunter` in it, so that it is found where it must not
//! be. Messages are whole in memory.

use std::collections::BTreeMap;
use std::io::{self, BufReader};
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::http::Message;
use crate::listener::Listener;
use crate::way::Way;
use crate::{azurite, google};

/// Where a machine's role is.
const MACHINE_ROLES: &str = "/latest/meta-data/iam/security-credentials/";

/// The path of a container's service.
pub const CONTAINER: &str = "/container";

/// What a client says to a container's service, so that it knows it.
pub const CONTAINER_WORD: &str = "hunter-of-the-container";

/// What a token file of Kubernetes has in it.
pub const IDENTITY: &str = "hunter-of-kubernetes";

/// How long tokens live.
#[derive(Clone, Copy, Debug)]
pub struct Lives {
    /// What the services say.
    pub told: Duration,
    /// How long the store believes them.
    pub real: Duration,
}

#[derive(Debug)]
struct State {
    lives: Lives,
    /// How much longer a request to the store takes.
    delay: Duration,
    /// When each token ends.
    ends: BTreeMap<String, Instant>,
    refused: u64,
}

/// The gate.
#[derive(Debug)]
pub struct TokenGate {
    listener: Listener,
    state: Arc<Mutex<State>>,
}

impl TokenGate {
    /// Stands before the server on `port`, to which each request takes `delay` longer.
    pub fn before(port: u16, lives: Lives, delay: Duration) -> Self {
        let state = Arc::new(Mutex::new(State {
            lives,
            delay,
            ends: BTreeMap::new(),
            refused: 0,
        }));
        let own = Arc::clone(&state);
        let serve = move |stream, reader| serve(&own, port, stream, reader);
        Self {
            listener: Listener::start(Arc::new(serve)),
            state,
        }
    }

    /// Returns the port of the store and of all services.
    pub fn port(&self) -> u16 {
        self.listener.port
    }

    /// Returns how many tokens were given.
    pub fn given(&self) -> usize {
        locked(&self.state).ends.len()
    }

    /// Returns how many requests had a token that has ended.
    pub fn refused(&self) -> u64 {
        locked(&self.state).refused
    }
}

fn locked(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn serve(
    state: &Mutex<State>,
    port: u16,
    mut stream: TcpStream,
    mut reader: BufReader<TcpStream>,
) -> io::Result<()> {
    let mut way = Way::to(port);
    while let Some(mut request) = Message::read_request(&mut reader)? {
        let service = locked(state).service(&request);
        let refusal = service.or_else(|| locked(state).check(&mut request).err());
        let answer = match refusal {
            Some(answer) => answer,
            None => {
                let delay = locked(state).delay;
                std::thread::sleep(delay);
                way.ask(&request)?
            }
        };
        answer.write(&mut stream, None)?;
    }
    stream.shutdown(Shutdown::Both)
}

impl State {
    /// Makes a token.
    fn token(&mut self) -> String {
        let token = format!("hunter-{}-{}", std::process::id(), self.ends.len());
        let end = Instant::now() + self.lives.real;
        self.ends.insert(token.clone(), end);
        token
    }

    /// Answers for the services; `None` for what the store is asked.
    fn service(&mut self, request: &Message) -> Option<Message> {
        let path = request.target().split('?').next().unwrap_or("");
        let body = String::from_utf8_lossy(&request.body).into_owned();
        let has = |name: &str, value: &str| request.header(name) == Some(value);
        let is_known = match (request.method(), path) {
            ("PUT", "/latest/api/token") => {
                return Some(Message::answer(200, &[], b"hunter-session"));
            }
            ("GET", MACHINE_ROLES) => return Some(Message::answer(200, &[], b"role")),
            ("GET", path) if path.starts_with(MACHINE_ROLES) => {
                let is_known = has("x-aws-ec2-metadata-token", "hunter-session");
                return Some(self.aws_json(is_known));
            }
            ("GET", CONTAINER) => return Some(self.aws_json(has("authorization", CONTAINER_WORD))),
            ("POST", "/") => return Some(self.aws_xml(&body)),
            ("POST", path) if path.ends_with("/oauth2/v2.0/token") => {
                body.contains("client_secret=hunter") || body.contains(IDENTITY)
            }
            ("GET", "/metadata/identity/oauth2/token") => has("metadata", "true"),
            ("POST", "/oauth2/token") => body.contains("hunter") || body.contains("assertion="),
            ("POST", "/google-sts") => body.contains(IDENTITY),
            ("GET", path) if path.starts_with("/computeMetadata/") => {
                has("metadata-flavor", "Google")
            }
            _ => return None,
        };
        Some(self.bearer(is_known))
    }

    fn bearer(&mut self, is_known: bool) -> Message {
        if !is_known {
            return Message::refusal(400, "invalid_grant");
        }
        let (token, seconds) = (self.token(), self.lives.told.as_secs());
        let json = format!(r#"{{"access_token":"{token}","expires_in":{seconds}}}"#);
        Message::answer(200, &[], json.as_bytes())
    }

    fn aws_json(&mut self, is_known: bool) -> Message {
        if !is_known {
            return Message::refusal(401, "Unauthorized");
        }
        let (token, until) = (self.token(), self.until());
        let json = format!(
            r#"{{"AccessKeyId":"AKSUITE","SecretAccessKey":"hunter-key","Token":"{token}",
                "Expiration":"{until}"}}"#
        );
        Message::answer(200, &[], json.as_bytes())
    }

    fn aws_xml(&mut self, body: &str) -> Message {
        let by_token = body.contains("Action=AssumeRoleWithWebIdentity") && body.contains(IDENTITY);
        if !by_token && !body.contains("Action=AssumeRole&") {
            return Message::refusal(403, "AccessDenied");
        }
        let (token, until) = (self.token(), self.until());
        let xml = format!(
            "<R><Credentials><AccessKeyId>AKSUITE</AccessKeyId><SecretAccessKey>hunter-key\
             </SecretAccessKey><SessionToken>{token}</SessionToken><Expiration>{until}</Expiration>\
             </Credentials></R>"
        );
        Message::answer(200, &[], xml.as_bytes())
    }

    /// Returns when a token that is given now ends, as the services say it.
    fn until(&self) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        google::rfc3339(now.map_or(0, |now| now.as_secs()) + self.lives.told.as_secs())
    }

    /// Lets a request in that has a token, and makes it one that the server behind takes.
    fn check(&mut self, request: &mut Message) -> Result<(), Message> {
        let is_azure = request.header("x-ms-version").is_some();
        let session = request.header("x-amz-security-token").map(str::to_owned);
        let bearer = request.header("authorization");
        let bearer = bearer.and_then(|text| text.strip_prefix("Bearer "));
        let is_s3 = session.is_some();
        let Some(token) = session.or_else(|| bearer.map(str::to_owned)) else {
            return Err(Message::refusal(403, "AccessDenied"));
        };
        if self
            .ends
            .get(&token)
            .is_none_or(|end| *end < Instant::now())
        {
            self.refused += 1;
            return Err(match (is_s3, is_azure) {
                (true, _) => Message::refusal(400, "ExpiredToken"),
                (false, true) => Message::refusal(401, "InvalidAuthenticationInfo"),
                (false, false) => Message::refusal(401, "AuthenticationRequired"),
            });
        }
        let signature = [
            "authorization",
            "x-amz-security-token",
            "x-amz-content-sha256",
        ];
        let is_left = |name: &str| !signature.contains(&name);
        request.headers.retain(|(name, _)| is_left(name));
        if is_azure {
            request.add_to_query(&azurite::shared_signature());
        } else if !is_s3 {
            let own = format!("Bearer {}", google::TOKEN);
            request.headers.push(("authorization".to_owned(), own));
        }
        Ok(())
    }
}
