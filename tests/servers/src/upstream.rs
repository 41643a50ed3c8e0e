//! The server behind a proxy: in plain text, or by TLS with the CA that it names.
//!
//! One connection for each of the clients, made when it is first used.

use std::io::{self, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, IpAddr, Ipv4Addr, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::process::address;

/// Where the server is, on loopback.
#[derive(Clone, Debug)]
pub(crate) struct Upstream {
    port: u16,
    tls: Option<Arc<ClientConfig>>,
}

impl Upstream {
    /// A server that speaks plain HTTP.
    pub(crate) fn plain(port: u16) -> Self {
        Self { port, tls: None }
    }

    /// A server that speaks TLS, with a certificate of the CA in `ca_pem`.
    ///
    /// # Panics
    ///
    /// When that is no certificate.
    pub(crate) fn secure(port: u16, ca_pem: &[u8]) -> Self {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(ca_pem) {
            let certificate = certificate.expect("the CA is in PEM form");
            roots.add(certificate).expect("it is a certificate");
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the provider has them")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let tls = Some(Arc::new(config));
        Self { port, tls }
    }

    pub(crate) fn connect(&self) -> io::Result<BufReader<Connection>> {
        let stream = TcpStream::connect(address(self.port))?;
        stream.set_nodelay(true)?;
        let connection = match &self.tls {
            None => Connection::Plain(stream),
            Some(config) => {
                let name = ServerName::IpAddress(IpAddr::V4(Ipv4Addr::from([127, 0, 0, 1])));
                let client = ClientConnection::new(Arc::clone(config), name);
                let client = client.map_err(io::Error::other)?;
                Connection::Secure(Box::new(StreamOwned::new(client, stream)))
            }
        };
        Ok(BufReader::with_capacity(64 << 10, connection))
    }
}

/// A connection to the server.
#[derive(Debug)]
pub(crate) enum Connection {
    Plain(TcpStream),
    Secure(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Read for Connection {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(into),
            Self::Secure(stream) => stream.read(into),
        }
    }
}

impl Write for Connection {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.write(bytes),
            Self::Secure(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.flush(),
            Self::Secure(stream) => stream.flush(),
        }
    }
}
