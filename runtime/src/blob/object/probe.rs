//! Looks at the way to a server, step by step: its name, its port, its certificate, its clock.
//!
//! The client of the store does all of this at once and can only say that it did not work; a
//! person who sets a store up wants to know where. Blocks, for some seconds at most. Memory: the
//! head of an answer, at most [`HEAD_BYTES_MAX`].

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{CertificateError, ClientConnection, StreamOwned};

use super::location::{Location, Transport};
use super::tls;
use crate::clock::Timestamp;

/// How long a connection, and each answer, may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Longest head of an answer that is looked at.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// Addresses of one name that are tried.
const ADDRESSES_MAX: usize = 4;

/// What is wrong on the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// A stable name, in kebab case.
    pub code: &'static str,
    /// What happened.
    pub what: String,
    /// What to do next.
    pub next: &'static str,
}

impl Problem {
    fn new(code: &'static str, what: impl Into<String>, next: &'static str) -> Self {
        let what = what.into();
        Self { code, what, next }
    }
}

/// The server of a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Its name or address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Whether its name is made of the name of a storage account.
    is_of_account: bool,
    transport: Transport,
}

/// What was found out about a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Greeting {
    /// How the connection is protected.
    pub protection: String,
    /// What time it is there.
    pub time: Option<Timestamp>,
}

impl Server {
    /// Finds the server of a place; `None` for an endpoint that is no host.
    pub fn of(place: &Location) -> Option<Self> {
        let url = reqwest::Url::parse(&place.server_url()).ok()?;
        Some(Self {
            host: url.host_str()?.to_owned(),
            port: url.port_or_known_default()?,
            is_of_account: matches!(place, Location::Azure(azure) if azure.endpoint.is_none()),
            transport: place.transport().clone(),
        })
    }

    /// Looks its name up.
    pub fn resolve(&self) -> Result<Vec<SocketAddr>, Problem> {
        let next = match self.is_of_account {
            true => {
                "check the storage account's name and its cloud (AZURE_CLOUD_NAME), and that this \
                 machine or container can look names up (DNS)"
            }
            false => {
                "check --endpoint (or the config file's endpoint), and that this machine or \
                 container can look names up (DNS)"
            }
        };
        let host = self.host.trim_matches(['[', ']']);
        let found = (host, self.port).to_socket_addrs().map_err(|error| {
            Problem::new("name-unknown", format!("{}: {error}", self.host), next)
        })?;
        let found: Vec<SocketAddr> = found.take(ADDRESSES_MAX).collect();
        if found.is_empty() {
            let what = format!("{} has no address", self.host);
            return Err(Problem::new("name-unknown", what, next));
        }
        Ok(found)
    }

    /// Connects to the first address that answers.
    pub fn connect(&self, addresses: &[SocketAddr]) -> Result<TcpStream, Problem> {
        let mut reason = String::new();
        for address in addresses {
            match TcpStream::connect_timeout(address, TIMEOUT) {
                Ok(stream) => {
                    let set = stream.set_read_timeout(Some(TIMEOUT));
                    let set = set.and_then(|()| stream.set_write_timeout(Some(TIMEOUT)));
                    if set.is_ok() {
                        return Ok(stream);
                    }
                }
                Err(error) => reason = format!("{address}: {error}"),
            }
        }
        let next = "check the port of --endpoint, that the server runs, and that no firewall or \
                    network policy is in between";
        Err(Problem::new("no-connection", reason, next))
    }

    /// Makes the connection secure, if it is to be, and asks for the time.
    pub fn greet(&self, stream: TcpStream) -> Result<Greeting, Problem> {
        if self.transport.plain_http {
            return self.greet_plainly(stream);
        }
        let (config, roots) = tls::client_config(&self.transport)
            .map_err(|error| Problem::new("ca-file", error.to_string(), CA_NEXT))?;
        let name = ServerName::try_from(self.host.trim_matches(['[', ']']).to_owned());
        let name = name.map_err(|_| {
            Problem::new(
                "tls-name",
                format!("{} is no name", self.host),
                "check --endpoint",
            )
        })?;
        let client = ClientConnection::new(Arc::new(config), name)
            .map_err(|error| Problem::new("tls-failed", error.to_string(), TLS_NEXT))?;
        let address = stream.peer_addr().ok();
        let mut secure = StreamOwned::new(client, stream);
        while secure.conn.is_handshaking() {
            if let Err(error) = secure.conn.complete_io(&mut secure.sock) {
                let silent = !error
                    .get_ref()
                    .is_some_and(|inner| inner.is::<rustls::Error>());
                if silent && address.is_some_and(|address| self.answers_plainly(address)) {
                    return Err(no_tls());
                }
                return Err(tls_problem(&error));
            }
        }
        let version = secure.conn.protocol_version();
        let version = version
            .and_then(|version| version.as_str())
            .unwrap_or("TLS");
        let protection = format!(
            "{}, trusted by {roots}",
            version.replace("TLSv1_", "TLS 1.")
        );
        let time = self.ask(&mut secure).ok().and_then(|head| date_of(&head));
        Ok(Greeting { protection, time })
    }

    /// Tells whether a server that does not go on with TLS answers plain HTTP.
    fn answers_plainly(&self, address: SocketAddr) -> bool {
        let Ok(mut stream) = self.connect(&[address]) else {
            return false;
        };
        let head = self.ask(&mut stream).unwrap_or_default();
        head.starts_with("HTTP/")
    }

    /// Tells whether a server that says nothing to plain HTTP speaks TLS, whatever its certificate.
    fn answers_with_tls(&self, address: SocketAddr) -> bool {
        let unchecked = Transport {
            skip_tls_verify: true,
            ..Transport::default()
        };
        let (Ok(mut stream), Ok((config, _))) =
            (self.connect(&[address]), tls::client_config(&unchecked))
        else {
            return false;
        };
        let name = ServerName::try_from(self.host.trim_matches(['[', ']']).to_owned());
        let client = name.map(|name| ClientConnection::new(Arc::new(config), name));
        let Ok(Ok(mut client)) = client else {
            return false;
        };
        while client.is_handshaking() {
            if client.complete_io(&mut stream).is_err() {
                return false;
            }
        }
        true
    }

    fn greet_plainly(&self, mut stream: TcpStream) -> Result<Greeting, Problem> {
        let address = stream.peer_addr().ok();
        let head = self.ask(&mut stream).unwrap_or_default();
        let text = head.to_ascii_lowercase();
        let is_http = text.starts_with("http/");
        if head.starts_with('\u{15}')
            || text.contains("https server")
            || text.contains("https port")
            || (!is_http && address.is_some_and(|address| self.answers_with_tls(address)))
        {
            let what = format!("{}:{} speaks TLS only", self.host, self.port);
            let next = "leave out --insecure-plain-http (in Kopia's config file: doNotUseTLS)";
            return Err(Problem::new("tls-wanted", what, next));
        }
        if !is_http {
            let what = format!("{}:{} does not answer HTTP", self.host, self.port);
            return Err(Problem::new(
                "no-http",
                what,
                "check the port of --endpoint",
            ));
        }
        Ok(Greeting {
            protection: "none: plain HTTP".into(),
            time: date_of(&head),
        })
    }

    fn ask(&self, stream: &mut (impl Read + Write)) -> std::io::Result<String> {
        let (host, port) = (&self.host, self.port);
        // In one piece: some servers answer what they do not know whole, and hang up.
        let asked = format!("HEAD / HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n");
        stream.write_all(asked.as_bytes())?;
        stream.flush()?;
        let mut head = Vec::new();
        let mut piece = [0; 1024];
        while head.len() < HEAD_BYTES_MAX && !head.windows(4).any(|end| end == b"\r\n\r\n") {
            match stream.read(&mut piece) {
                Ok(0) | Err(_) => break,
                Ok(count) => head.extend_from_slice(&piece[..count]),
            }
        }
        Ok(String::from_utf8_lossy(&head).into_owned())
    }
}

const CA_NEXT: &str = "give --ca-file a file with the certificate of your CA in PEM form";
const TLS_NEXT: &str = "look with `openssl s_client -connect HOST:PORT` what the server offers";

fn no_tls() -> Problem {
    let next = "if that is wanted, give --insecure-plain-http; else check the port of --endpoint";
    Problem::new("no-tls", "the server speaks no TLS", next)
}

/// Tells why a server's certificate is not believed.
fn tls_problem(error: &std::io::Error) -> Problem {
    let inner = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let Some(inner) = inner else {
        let what = format!("the server ended the handshake: {error}");
        return Problem::new("tls-failed", what, TLS_NEXT);
    };
    let what = inner.to_string();
    match inner {
        rustls::Error::InvalidMessage(_) => no_tls(),
        rustls::Error::InvalidCertificate(reason) => match reason {
            CertificateError::UnknownIssuer => {
                let what = "nobody that is trusted signed the server's certificate";
                Problem::new("tls-untrusted", what, CA_NEXT)
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => Problem::new(
                "tls-expired",
                what,
                "let the server's certificate be renewed; check this machine's clock too",
            ),
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                Problem::new("tls-not-yet", what, "check this machine's clock")
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                Problem::new(
                    "tls-name",
                    what,
                    "give --endpoint the name that is in the certificate; for a bucket with dots, \
                     --path-style",
                )
            }
            CertificateError::BadEncoding => Problem::new("tls-untrusted", what, CA_NEXT),
            _ => Problem::new("tls-untrusted", what, CA_NEXT),
        },
        _ => Problem::new("tls-failed", what, TLS_NEXT),
    }
}

fn date_of(head: &str) -> Option<Timestamp> {
    let date = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("date").then_some(value.trim())
    })?;
    let zoned = jiff::fmt::rfc2822::parse(date).ok()?;
    Some(Timestamp::from_seconds(zoned.timestamp().as_second()))
}

#[cfg(test)]
mod tests;
