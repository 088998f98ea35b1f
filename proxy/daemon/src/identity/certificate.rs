//! Reads from a certificate what we go by: its one URI and the end of its validity. Pure.
//!
//! Chain and signature are rustls's to check; here is only what stands in the certificate.

use std::time::{Duration, SystemTime};

use placement::{Identity, IdentityError};
use rustls::pki_types::CertificateDer;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// Why a certificate names none of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// Not X.509, or bytes follow it.
    #[error("is not an X.509 certificate")]
    Malformed,
    /// Its subject alternative names cannot be read in full, so that one may hide in them.
    #[error("has subject alternative names that cannot be read")]
    Names,
    /// Not exactly one URI.
    #[error("has {0} URI names, and must have exactly one")]
    Count(usize),
    /// One URI, but none of ours.
    #[error("has a URI that names no part of Causeway")]
    Identity(#[from] IdentityError),
}

/// The identity that a certificate carries: exactly one URI name, of our form. Names of other
/// kinds are ignored, unreadable ones are not.
///
/// # Errors
/// It carries none, or more than one, or something else.
pub fn peer_identity(certificate: &CertificateDer<'_>) -> Result<Identity, CertificateError> {
    let certificate = parse(certificate)?;
    let names = certificate.subject_alternative_name().map_err(|_| CertificateError::Names)?;
    let names = names.map_or(&[][..], |extension| &extension.value.general_names);
    let mut uris = Vec::new();
    for name in names {
        match name {
            GeneralName::URI(uri) => uris.push(*uri),
            GeneralName::Invalid(..) => return Err(CertificateError::Names),
            _ => {}
        }
    }
    match uris.as_slice() {
        [uri] => Ok(uri.parse()?),
        _ => Err(CertificateError::Count(uris.len())),
    }
}

/// When the certificate ceases to be valid.
///
/// # Errors
/// It is no certificate.
pub fn valid_until(certificate: &CertificateDer<'_>) -> Result<SystemTime, CertificateError> {
    let not_after = parse(certificate)?.validity().not_after.timestamp();
    let seconds = u64::try_from(not_after).map_err(|_| CertificateError::Malformed)?;
    SystemTime::UNIX_EPOCH
        .checked_add(Duration::from_secs(seconds))
        .ok_or(CertificateError::Malformed)
}

fn parse<'a>(certificate: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, CertificateError> {
    match X509Certificate::from_der(certificate) {
        Ok(([], certificate)) => Ok(certificate),
        _ => Err(CertificateError::Malformed),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rcgen::{CertificateParams, KeyPair, SanType};

    use super::*;

    fn with_names(names: Vec<SanType>) -> CertificateDer<'static> {
        let mut params = CertificateParams::default();
        params.subject_alt_names = names;
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()
    }

    fn uri(text: &str) -> SanType {
        SanType::URI(text.try_into().unwrap())
    }

    const HV1: &str = "causeway://site/a/role/agent/name/hv1";

    #[test]
    fn one_uri_of_our_form_is_an_identity_whatever_other_names_stand_beside_it() {
        let dns = SanType::DnsName("hv1.example".try_into().unwrap());
        for names in [vec![uri(HV1)], vec![dns, uri(HV1)]] {
            assert_eq!(peer_identity(&with_names(names)).unwrap().to_string(), HV1);
        }
    }

    #[test]
    fn none_two_or_foreign_uris_are_no_identity() {
        let dns = SanType::DnsName("hv1.example".try_into().unwrap());
        let count = |names| peer_identity(&with_names(names)).unwrap_err();
        assert_eq!(count(vec![]), CertificateError::Count(0));
        assert_eq!(count(vec![dns]), CertificateError::Count(0));
        assert_eq!(count(vec![uri(HV1), uri(HV1)]), CertificateError::Count(2));
        assert_eq!(count(vec![uri(HV1), uri("https://example")]), CertificateError::Count(2));
        let foreign = count(vec![uri("spiffe://site/a/role/agent/name/hv1")]);
        assert_eq!(foreign, CertificateError::Identity(IdentityError::Form));
    }

    #[test]
    fn a_uri_that_is_not_text_hides_behind_no_other() {
        // rcgen writes no such name, so one letter of the second URI is broken afterwards.
        let der = with_names(vec![uri(HV1), uri("https://example")]).to_vec();
        let at = der.windows(7).position(|w| w == b"example").unwrap();
        let mut broken = der;
        broken[at] = 0xff;
        assert_eq!(peer_identity(&broken.into()), Err(CertificateError::Names));
    }

    #[test]
    fn bytes_after_the_certificate_are_refused() {
        let mut der = with_names(vec![uri(HV1)]).to_vec();
        der.push(0);
        assert_eq!(peer_identity(&der.into()), Err(CertificateError::Malformed));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
            let der = CertificateDer::from(bytes);
            prop_assert!(peer_identity(&der).is_err());
            prop_assert!(valid_until(&der).is_err());
        }

        #[test]
        fn any_uri_is_an_identity_that_says_the_same_or_none(
            text in "(causeway://)?(site/|role/|name/|agent/|[ -~]{0,9}/?){0,8}",
        ) {
            if let Ok(identity) = peer_identity(&with_names(vec![uri(&text)])) {
                prop_assert_eq!(identity.to_string(), text);
            }
        }

        #[test]
        fn a_certificate_with_broken_bytes_never_panics(at: prop::sample::Index, byte: u8) {
            static WHOLE: std::sync::LazyLock<Vec<u8>> =
                std::sync::LazyLock::new(|| with_names(vec![uri(HV1)]).to_vec());
            let mut der = WHOLE.clone();
            let at = at.index(der.len());
            der[at] = byte;
            let der = CertificateDer::from(der);
            let _ = (peer_identity(&der), valid_until(&der));
        }
    }
}
