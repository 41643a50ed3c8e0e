//! TLS before a server that speaks plain HTTP, with a certificate of a CA that nobody knows.
//!
//! Also a proxy that clients are told by `HTTPS_PROXY`: whatever name they ask for they get this
//! server, so that a client which makes the server's name itself (Azure's `ACCOUNT.DOMAIN`) comes
//! here. Messages go through whole. The certificates beside this file were made for these tests;
//! their CA signs nothing else.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::http::Message;
use crate::listener::Listener;
use crate::way::Way;

/// The CA's certificate, in PEM form.
pub const CA: &[u8] = include_bytes!("tls/ca.pem");

/// A domain behind which Azurite's account has a name that is in the certificate, as have
/// `localhost` and its address.
pub const AZURE_DOMAIN: &str = "blob.suites.invalid";

/// First byte of a connection that begins with TLS.
const HANDSHAKE: u8 = 0x16;

/// The running proxy.
#[derive(Debug)]
pub struct TlsProxy {
    listener: Listener,
}

impl TlsProxy {
    /// Stands before the server on `port`.
    ///
    /// # Panics
    ///
    /// When the certificate cannot be used.
    pub fn before(port: u16) -> Self {
        let config = Arc::new(config().expect("the certificate is a good one"));
        let serve = move |stream, reader| serve(&config, port, stream, reader);
        Self {
            listener: Listener::start(Arc::new(serve)),
        }
    }

    /// Returns its port.
    pub fn port(&self) -> u16 {
        self.listener.port
    }
}

/// Returns where the CA's certificate is.
pub fn ca_file() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/src/tls/ca.pem"))
}

fn config() -> Result<ServerConfig, rustls::Error> {
    let pem = |error| rustls::Error::General(format!("{error:?}"));
    let certificate = CertificateDer::from_pem_slice(include_bytes!("tls/server.pem"));
    let key = PrivateKeyDer::from_pem_slice(include_bytes!("tls/server_key.pem"));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![certificate.map_err(pem)?], key.map_err(pem)?)
}

/// A connection of which some bytes were read already.
struct Connection {
    stream: TcpStream,
    reader: BufReader<TcpStream>,
}

impl Read for Connection {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.reader.read(into)
    }
}

impl Write for Connection {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

fn serve(
    config: &Arc<ServerConfig>,
    port: u16,
    mut stream: TcpStream,
    mut reader: BufReader<TcpStream>,
) -> io::Result<()> {
    if reader.fill_buf()?.first() != Some(&HANDSHAKE) {
        match Message::read_request(&mut reader)? {
            Some(request) if request.method() == "CONNECT" => {
                stream.write_all(b"HTTP/1.1 200 Connected\r\n\r\n")?;
            }
            // Who speaks no TLS gets no answer.
            _ => return stream.shutdown(Shutdown::Both),
        }
    }
    let tls = ServerConnection::new(Arc::clone(config)).map_err(io::Error::other)?;
    let secure = StreamOwned::new(tls, Connection { stream, reader });
    let mut secure = BufReader::with_capacity(64 << 10, secure);
    let mut way = Way::to(port);
    while let Some(request) = Message::read_request(&mut secure)? {
        let answer = way.ask(&request)?;
        answer.write(secure.get_mut(), None)?;
        secure.get_mut().flush()?;
    }
    secure.get_mut().conn.send_close_notify();
    secure.get_mut().flush()
}
