//! One part's certificate and key, in a bundle of its own.

use std::path::Path;
use std::time::SystemTime;

use placement::Identity;
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType,
};

use super::authority::Authority;
use super::folder::{self, Entry};
use super::{PkiError, Written, validity};

/// Makes a bundle for `identity` in the folder `out`, signed by the CA in the folder `pki`.
///
/// # Errors
/// There is no CA to sign, it ends earlier than the certificate would, or the folder cannot be
/// made. Then nothing was written.
pub fn issue(
    pki: &Path,
    identity: &Identity,
    days: u32,
    out: &Path,
    now: SystemTime,
) -> Result<Written, PkiError> {
    let authority = Authority::load(pki, now)?;
    let valid_until = validity::end(now, days);
    if valid_until > authority.valid_until {
        let days_max = validity::days_between(now, authority.valid_until);
        let ended = validity::text(authority.valid_until);
        return Err(PkiError::Outlives { days, days_max, ended });
    }
    let mut params = CertificateParams::default();
    validity::limit(&mut params, now, valid_until);
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, identity.name.as_str());
    params.subject_alt_names = vec![SanType::URI(identity.to_string().try_into()?)];
    params.is_ca = IsCa::ExplicitNoCa;
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    // Every part both calls and is called.
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];

    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let certificate = params.signed_by(&key, &authority.issuer)?;
    let files = folder::create(
        out,
        &[
            Entry { path: "certificate.pem", mode: folder::PUBLIC, content: certificate.pem() },
            Entry { path: "key.pem", mode: folder::SECRET, content: key.serialize_pem() },
            Entry { path: "ca.pem", mode: folder::PUBLIC, content: authority.pem },
        ],
    )?;
    Ok(Written { identity: Some(identity.clone()), valid_until, files })
}
