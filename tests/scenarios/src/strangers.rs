//! Callers with papers that are not in order. They look at nobody else's papers, so that whoever
//! refuses is the proxy.

use std::fs;
use std::sync::Arc;

use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, Issuer, KeyPair, SanType, date_time_ymd};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::version::TLS13;
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};

use crate::house::House;

/// Who signed a stranger's certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signer {
    /// The house's own CA.
    Ours,
    /// Another CA, of the same name.
    Foreign,
}

/// A stranger's papers, before they are signed.
#[derive(Debug)]
pub struct Papers {
    params: CertificateParams,
}

impl Papers {
    /// Papers with these URIs, otherwise in order.
    ///
    /// # Panics
    /// A URI is not ASCII.
    #[must_use]
    pub fn of(uris: &[&str]) -> Papers {
        let mut params = CertificateParams::default();
        let name = |uri: &&str| SanType::URI((*uri).try_into().expect("ASCII"));
        params.subject_alt_names = uris.iter().map(name).collect();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        Papers { params }
    }

    /// The same, run out long ago.
    #[must_use]
    pub fn expired(mut self) -> Papers {
        self.params.not_before = date_time_ymd(2001, 1, 1);
        self.params.not_after = date_time_ymd(2002, 1, 1);
        self
    }

    /// The same, for servers only.
    #[must_use]
    pub fn for_servers(mut self) -> Papers {
        self.params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self
    }

    /// TLS with these papers.
    ///
    /// # Panics
    /// They cannot be signed.
    #[must_use]
    pub fn signed(&self, house: &House, signer: Signer) -> ClientConfig {
        let issuer = issuer(house, signer);
        let key = KeyPair::generate().expect("a key");
        let certificate = self.params.signed_by(&key, &issuer).expect("a certificate");
        let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
        blind()
            .with_client_auth_cert(vec![certificate.der().clone()], key)
            .expect("key and certificate belong together")
    }
}

/// TLS without any papers.
#[must_use]
pub fn without_papers() -> ClientConfig {
    blind().with_no_client_auth()
}

/// The foreign one has the real one's name, and a key of its own: a name alone must open nothing.
fn issuer(house: &House, signer: Signer) -> Issuer<'static, KeyPair> {
    let pem = fs::read_to_string(house.path("pki/ca.pem")).expect("the CA's certificate");
    let key = match signer {
        Signer::Ours => {
            let key = fs::read_to_string(house.path("pki/private/ca.key")).expect("the CA's key");
            KeyPair::from_pem(&key).expect("a key")
        }
        Signer::Foreign => KeyPair::generate().expect("a key"),
    };
    Issuer::from_ca_cert_pem(&pem, key).expect("a CA")
}

fn blind() -> rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&TLS13])
        .expect("aws-lc-rs speaks TLS 1.3")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Blind(provider)))
}

/// Takes whatever the other end shows.
#[derive(Debug)]
struct Blind(Arc<CryptoProvider>);

impl ServerCertVerifier for Blind {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.3 alone".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
