//! The CA: made once, then read back to sign.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData,
};
use x509_parser::prelude::{FromDer, X509Certificate, parse_x509_pem};

use super::folder::{self, Entry};
use super::{AUTHORITY_DAYS, PkiError, Written, validity};

const CERTIFICATE: &str = "ca.pem";
const KEY: &str = "private/ca.key";

/// Longest file of a CA that is read.
const PEM_BYTES_MAX: u64 = 64 * 1024;

/// Makes a CA in the folder `out`.
///
/// # Errors
/// The folder holds something, or cannot be made. Then nothing was written.
pub fn init(out: &Path, now: SystemTime) -> Result<Written, PkiError> {
    let mut params = CertificateParams::default();
    let valid_until = validity::end(now, AUTHORITY_DAYS);
    validity::limit(&mut params, now, valid_until);
    params.distinguished_name = DistinguishedName::new();
    let made = validity::text(now);
    params.distinguished_name.push(DnType::CommonName, format!("Causeway CA, made {made}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];

    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let certificate = params.self_signed(&key)?;
    let files = folder::create(
        out,
        &[
            Entry { path: CERTIFICATE, mode: folder::PUBLIC, content: certificate.pem() },
            Entry { path: KEY, mode: folder::SECRET, content: key.serialize_pem() },
        ],
    )?;
    Ok(Written { identity: None, valid_until, files })
}

/// A CA that can sign.
pub(super) struct Authority {
    pub(super) issuer: Issuer<'static, KeyPair>,
    pub(super) pem: String,
    pub(super) valid_until: SystemTime,
}

impl Authority {
    /// Reads the CA that [`init`] made in `folder`.
    pub(super) fn load(folder: &Path, now: SystemTime) -> Result<Authority, PkiError> {
        let (certificate_path, key_path) = (folder.join(CERTIFICATE), folder.join(KEY));
        let no_authority =
            |path: &PathBuf, why: String| PkiError::NoAuthority { path: path.clone(), why };
        let pem = read(&certificate_path, |_| Ok(()))?;
        let key = read(&key_path, |mode| {
            if mode & 0o077 == 0 {
                return Ok(());
            }
            Err(PkiError::KeyOpen { path: key_path.clone(), mode })
        })?;
        let key =
            KeyPair::from_pem(&key).map_err(|error| no_authority(&key_path, error.to_string()))?;
        let valid_until =
            examine(&pem, &key).map_err(|why| no_authority(&certificate_path, why))?;
        if valid_until <= now {
            let ended = validity::text(valid_until);
            return Err(PkiError::Ended { path: certificate_path, ended });
        }
        let issuer = Issuer::from_ca_cert_pem(&pem, key)
            .map_err(|error| no_authority(&certificate_path, error.to_string()))?;
        Ok(Authority { issuer, pem, valid_until })
    }
}

/// That the certificate is a CA's, and this key's; gives its end.
fn examine(pem: &str, key: &KeyPair) -> Result<SystemTime, String> {
    let (_, block) = parse_x509_pem(pem.as_bytes()).map_err(|_| "no PEM in it".to_owned())?;
    let (_, certificate) = X509Certificate::from_der(&block.contents)
        .map_err(|_| "no certificate in it".to_owned())?;
    if !certificate.is_ca() {
        return Err("it is the certificate of no CA".to_owned());
    }
    if certificate.public_key().raw != key.subject_public_key_info() {
        return Err(format!("{KEY} is not its key"));
    }
    let until = u64::try_from(certificate.validity().not_after.timestamp()).unwrap_or(0);
    Ok(SystemTime::UNIX_EPOCH + Duration::from_secs(until))
}

fn read(
    path: &Path,
    mode_check: impl FnOnce(u32) -> Result<(), PkiError>,
) -> Result<String, PkiError> {
    let unreadable = |source| PkiError::System { path: path.to_owned(), action: "read", source };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let why = "it does not exist".to_owned();
            return Err(PkiError::NoAuthority { path: path.to_owned(), why });
        }
        Err(source) => return Err(unreadable(source)),
    };
    mode_check(file.metadata().map_err(unreadable)?.permissions().mode() & 0o7777)?;
    let mut text = String::new();
    file.take(PEM_BYTES_MAX).read_to_string(&mut text).map_err(unreadable)?;
    Ok(text)
}
