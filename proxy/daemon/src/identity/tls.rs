//! TLS 1.3 between two of ours: rustls checks chains and signatures, we compare identities.
//!
//! The provider is named in every configuration, never taken from the process. There are no
//! session tickets: a resumed session would not look at the caller's certificate again, so that an
//! expired one, or one of a CA since replaced, would stay admitted.

use std::sync::Arc;

use placement::Identity;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, verify_server_cert_signed_by_trust_anchor};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{NoServerSessionStorage, ParsedCertificate, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::TLS13;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, OtherError,
    RootCertStore, ServerConfig, SignatureScheme,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsConnector, client, server};

use super::certificate::{self, peer_identity};

/// rustls asks for a server's name; ours are identities, so that it gets one that is never sent
/// (addresses are not) and never compared.
pub(super) fn no_name() -> ServerName<'static> {
    ServerName::from(std::net::Ipv4Addr::UNSPECIFIED)
}

/// The one crypto provider.
pub(super) fn provider() -> CryptoProvider {
    rustls::crypto::aws_lc_rs::default_provider()
}

/// The called one is not who was meant to be reached.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("reached {found}, but meant {expected}; check the address and the name that go together")]
pub struct WrongIdentity {
    /// Who was called.
    pub expected: Identity,
    /// Who answered.
    pub found: Identity,
}

/// Why no TLS connection came about.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Somebody else answered; nothing was sent.
    #[error(transparent)]
    Wrong(WrongIdentity),
    /// The connection broke, or one end refused the other's certificate.
    #[error(
        "no TLS connection to {expected}; check that both certificates come from one CA and are still valid"
    )]
    Failed {
        /// Who was called.
        expected: Identity,
        /// What was met.
        #[source]
        source: std::io::Error,
    },
}

/// Shakes hands over `stream` as the caller. `expected` must be who `config` was made for; it
/// stands in errors only.
///
/// # Errors
/// Another identity, or no connection at all.
pub async fn connect<S: AsyncRead + AsyncWrite + Unpin>(
    config: Arc<ClientConfig>,
    expected: &Identity,
    stream: S,
) -> Result<client::TlsStream<S>, ConnectError> {
    let handshake = TlsConnector::from(config).connect(no_name(), stream);
    handshake.await.map_err(|source| match wrong_identity(&source) {
        Some(wrong) => ConnectError::Wrong(wrong),
        None => ConnectError::Failed { expected: expected.clone(), source },
    })
}

/// Who called: the identity in the certificate that the handshake proved.
///
/// # Errors
/// The stream is none of a server configuration of ours.
pub fn caller<S>(stream: &server::TlsStream<S>) -> Result<Identity, certificate::CertificateError> {
    let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
    chain.first().map_or(Err(certificate::CertificateError::Count(0)), peer_identity)
}

pub(super) fn server_config(admit: Arc<AdmitOurs>, own: Arc<CertifiedKey>) -> ServerConfig {
    let mut config = ServerConfig::builder_with_provider(Arc::new(provider()))
        .with_protocol_versions(&[&TLS13])
        .expect("aws-lc-rs speaks TLS 1.3")
        .with_client_cert_verifier(admit)
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(own)));
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config
}

pub(super) fn client_config(expect: ExpectOne, own: Arc<CertifiedKey>) -> ClientConfig {
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider()))
        .with_protocol_versions(&[&TLS13])
        .expect("aws-lc-rs speaks TLS 1.3")
        .dangerous() // As ExpectOne below, which checks the chain and then more.
        .with_custom_certificate_verifier(Arc::new(expect))
        .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(own)));
    config.resumption = Resumption::disabled();
    config.enable_sni = false;
    config
}

/// Admits callers that have a certificate of our CA *and* an identity in it.
#[derive(Debug)]
pub(super) struct AdmitOurs {
    chain: Arc<dyn ClientCertVerifier>,
}

impl AdmitOurs {
    pub(super) fn new(roots: Arc<RootCertStore>) -> Result<AdmitOurs, Error> {
        let chain = WebPkiClientVerifier::builder_with_provider(roots, Arc::new(provider()));
        let chain = chain.build().map_err(|error| Error::General(error.to_string()))?;
        Ok(AdmitOurs { chain })
    }
}

impl ClientCertVerifier for AdmitOurs {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chain.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.chain.verify_client_cert(end_entity, intermediates, now)?;
        peer_identity(end_entity).map_err(refusal)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}

/// Takes as called one the one identity that was meant, under our CA, and nobody else.
#[derive(Debug)]
pub(super) struct ExpectOne {
    roots: Arc<RootCertStore>,
    algorithms: WebPkiSupportedAlgorithms,
    expected: Identity,
}

impl ExpectOne {
    pub(super) fn new(roots: Arc<RootCertStore>, expected: Identity) -> ExpectOne {
        let algorithms = provider().signature_verification_algorithms;
        ExpectOne { roots, algorithms, expected }
    }
}

impl ServerCertVerifier for ExpectOne {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        verify_server_cert_signed_by_trust_anchor(
            &ParsedCertificate::try_from(end_entity)?,
            &self.roots,
            intermediates,
            now,
            self.algorithms.all,
        )?;
        let found = peer_identity(end_entity).map_err(refusal)?;
        if found == self.expected {
            return Ok(ServerCertVerified::assertion());
        }
        Err(refusal(WrongIdentity { expected: self.expected.clone(), found }))
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2 is not spoken here".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

fn refusal(reason: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(reason))))
}

fn wrong_identity(error: &std::io::Error) -> Option<WrongIdentity> {
    let tls = error.get_ref()?.downcast_ref::<Error>()?;
    let Error::InvalidCertificate(CertificateError::Other(OtherError(reason))) = tls else {
        return None;
    };
    reason.downcast_ref::<WrongIdentity>().cloned()
}
