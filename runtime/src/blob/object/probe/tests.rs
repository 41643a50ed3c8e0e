//! Ways to servers that are wrong in one place each, on loopback.
//!
//! The certificates beside this file were made for these tests; their CA signs nothing else.

use std::net::TcpListener;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection};

use super::*;
use crate::blob::object::location::S3Location;

const CA: &[u8] = include_bytes!("ca.pem");
const GOOD: [&[u8]; 2] = [
    include_bytes!("server.pem"),
    include_bytes!("server_key.pem"),
];
const OTHER: [&[u8]; 2] = [include_bytes!("other.pem"), include_bytes!("other_key.pem")];
const EXPIRED: [&[u8]; 2] = [
    include_bytes!("expired.pem"),
    include_bytes!("expired_key.pem"),
];

const ANSWER: &str = "HTTP/1.1 403 Forbidden\r\nDate: Thu, 26 Nov 2026 08:00:00 GMT\r\n\r\n";

/// First byte of a connection that begins with TLS.
const HANDSHAKE: u8 = 0x16;

/// Starts a server that answers everybody the same, with a certificate or without; one with a
/// certificate and no answer hangs up on who speaks no TLS. Returns its port.
fn serve(pair: Option<[&'static [u8]; 2]>, answer: &'static str) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut asked = [0; 4096];
            let Some([certificate, key]) = pair else {
                let _ = stream.read(&mut asked);
                let _ = stream.write_all(answer.as_bytes());
                continue;
            };
            let _ = stream.peek(&mut asked[..1]);
            if answer.is_empty() && asked[0] != HANDSHAKE {
                continue;
            }
            let certificate = CertificateDer::from_pem_slice(certificate).unwrap();
            let key = PrivateKeyDer::from_pem_slice(key).unwrap();
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            let config = ServerConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_no_client_auth()
                .with_single_cert(vec![certificate], key)
                .unwrap();
            let secure = ServerConnection::new(Arc::new(config)).unwrap();
            let mut secure = StreamOwned::new(secure, stream);
            if secure.read(&mut asked).is_ok() {
                let _ = secure.write_all(answer.as_bytes());
                let _ = secure.flush();
            } else {
                let _ = secure.conn.complete_io(&mut secure.sock);
            }
        }
    });
    port
}

fn greet(host: &str, port: u16, transport: Transport) -> Result<Greeting, Problem> {
    let place = Location::S3(S3Location {
        bucket: "b".into(),
        endpoint: Some(format!("{host}:{port}")),
        transport,
        ..S3Location::default()
    });
    let server = Server::of(&place).unwrap();
    let addresses = server.resolve()?;
    let stream = server.connect(&addresses)?;
    server.greet(stream)
}

fn trusting() -> Transport {
    Transport {
        ca_pem: Some(CA.to_vec()),
        ..Transport::default()
    }
}

fn plain() -> Transport {
    Transport {
        plain_http: true,
        ..Transport::default()
    }
}

#[test]
fn a_server_of_ones_own_ca_is_believed_with_it_only() {
    let port = serve(Some(GOOD), ANSWER);
    let greeting = greet("localhost", port, trusting()).unwrap();
    assert!(greeting.protection.starts_with("TLS 1.3"), "{greeting:?}");
    assert_eq!(greeting.time, Timestamp::parse("2026-11-26T08:00:00Z"));
    let code = |host, transport| greet(host, port, transport).unwrap_err().code;
    assert_eq!(code("localhost", Transport::default()), "tls-untrusted");
    let anybody = Transport {
        skip_tls_verify: true,
        ..Transport::default()
    };
    let greeting = greet("127.0.0.1", port, anybody).unwrap();
    assert!(
        greeting.protection.contains("any certificate"),
        "{greeting:?}"
    );
}

#[test]
fn each_wrong_way_has_a_code_of_its_own() {
    let code = |host, port, transport| greet(host, port, transport).unwrap_err().code;
    assert_eq!(
        code("localhost", serve(Some(OTHER), ANSWER), trusting()),
        "tls-name"
    );
    assert_eq!(
        code("localhost", serve(Some(EXPIRED), ANSWER), trusting()),
        "tls-expired"
    );
    assert_eq!(code("localhost", serve(None, ANSWER), trusting()), "no-tls");
    assert_eq!(code("no-such-host.invalid", 1, trusting()), "name-unknown");
    assert_eq!(code("127.0.0.1", 1, trusting()), "no-connection");
    assert_eq!(
        code("127.0.0.1", serve(None, "SSH-2.0-x\r\n"), plain()),
        "no-http"
    );
    let https = "HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n";
    assert_eq!(code("127.0.0.1", serve(None, https), plain()), "tls-wanted");
    for answer in [ANSWER, ""] {
        let port = serve(Some(GOOD), answer);
        assert_eq!(code("localhost", port, plain()), "tls-wanted");
    }
}
