//! Whom we believe: TLS by rustls with ring, and where root certificates come from.
//!
//! The system's root certificates (`SSL_CERT_FILE`, `SSL_CERT_DIR`, else the places where Linux
//! distributions keep them); where there are none at all, as in an empty container, Mozilla's list
//! that is compiled in. A CA that was given comes on top of either. Memory: some 300 KiB.

use std::fmt;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use super::location::Transport;
use crate::blob::BlobError;

/// Most certificates of a CA file; a system's whole list has some 150.
const CA_CERTIFICATES_MAX: usize = 1000;

/// Where the root certificates are from, for messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Roots {
    /// The system's.
    System(usize),
    /// Mozilla's list that is compiled in, since the system has none.
    CompiledIn,
    /// So many of a CA file, besides those of the system or the compiled in.
    Given(usize),
    /// None are asked: any certificate is believed.
    Unchecked,
}

impl fmt::Display for Roots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System(count) => write!(f, "{count} root certificates of the system"),
            Self::CompiledIn => f.write_str("Mozilla's root certificates, compiled in"),
            Self::Given(count) => {
                write!(f, "the CA file ({count}), or root certificates as always")
            }
            Self::Unchecked => f.write_str("any certificate, as asked for"),
        }
    }
}

/// Begins an HTTP client that believes what `transport` says; the caller adds its timeouts.
pub fn client_builder(transport: &Transport) -> Result<reqwest::ClientBuilder, BlobError> {
    let (config, _) = client_config(transport)?;
    Ok(reqwest::Client::builder()
        .user_agent(concat!("careen/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .tls_backend_preconfigured(config))
}

/// Makes the TLS configuration, and tells where its root certificates are from.
pub fn client_config(transport: &Transport) -> Result<(ClientConfig, Roots), BlobError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .expect("ring has TLS 1.2 and 1.3");
    if transport.skip_tls_verify {
        let verifier = Arc::new(Unchecked(provider));
        let config = builder
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth();
        return Ok((http1(config), Roots::Unchecked));
    }
    // Over plain HTTP no certificate is ever asked for.
    let (mut store, mut roots) = if transport.plain_http {
        (RootCertStore::empty(), Roots::System(0))
    } else {
        trusted_roots()
    };
    if let Some(pem) = &transport.ca_pem {
        roots = Roots::Given(add_ca(&mut store, pem)?);
    }
    let config = builder.with_root_certificates(store).with_no_client_auth();
    Ok((http1(config), roots))
}

/// HTTP/1.1 only: one connection a request in flight, so that one slow answer stops no other.
fn http1(mut config: ClientConfig) -> ClientConfig {
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config
}

fn trusted_roots() -> (RootCertStore, Roots) {
    let mut store = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::debug!(%error, "root certificates");
    }
    let (added, _) = store.add_parsable_certificates(found.certs);
    if added > 0 {
        return (store, Roots::System(added));
    }
    store.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    (store, Roots::CompiledIn)
}

fn add_ca(store: &mut RootCertStore, pem: &[u8]) -> Result<usize, BlobError> {
    let wrong = |reason: String| BlobError::Setup {
        location: "CA certificates".into(),
        reason,
    };
    let mut count = 0;
    for certificate in CertificateDer::pem_slice_iter(pem).take(CA_CERTIFICATES_MAX) {
        let certificate = certificate.map_err(|error| wrong(error.to_string()))?;
        store
            .add(certificate)
            .map_err(|error| wrong(error.to_string()))?;
        count += 1;
    }
    if count == 0 {
        return Err(wrong("no certificate in PEM form".into()));
    }
    Ok(count)
}

/// Believes any certificate, but still checks that the server has its key.
#[derive(Debug)]
struct Unchecked(Arc<CryptoProvider>);

impl ServerCertVerifier for Unchecked {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ca_that_is_none_is_refused() {
        for pem in [
            &b""[..],
            b"no PEM",
            b"-----BEGIN CERTIFICATE-----\nMTIz\n-----END CERTIFICATE-----\n",
        ] {
            let transport = Transport {
                ca_pem: Some(pem.to_vec()),
                ..Transport::default()
            };
            let error = client_config(&transport).unwrap_err();
            assert_eq!(error.code(), "storage-setup");
            assert!(client_builder(&transport).is_err());
        }
    }

    #[test]
    fn there_are_roots_even_where_the_system_has_none() {
        assert!(webpki_roots::TLS_SERVER_ROOTS.len() > 50);
        let (_, roots) = client_config(&Transport::default()).unwrap();
        assert!(matches!(roots, Roots::System(1..) | Roots::CompiledIn));
    }
}
