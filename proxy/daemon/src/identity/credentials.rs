//! Certificate, key and CA from disk, checked as strictly as a peer will check them: what a peer
//! would refuse in the handshake is refused here, with a reason that names the file.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use placement::{Identity, Role, SiteName};
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use super::certificate::{CertificateError, peer_identity, valid_until};
use super::tls::{self, AdmitOurs, ExpectOne};

/// Longest PEM file: a chain of a few certificates, with room.
pub const PEM_BYTES_MAX: u64 = 256 * 1024;

/// Where a daemon's certificate, key and CA lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdentityPaths {
    /// Its certificate chain, the daemon's own first.
    pub certificate: PathBuf,
    /// The key of the first certificate; nobody but its owner may read the file.
    pub key: PathBuf,
    /// The CA (or, while one replaces another, the CAs) that may have signed a peer.
    pub authority: PathBuf,
}

/// Why a daemon has no identity.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// A file could not be read.
    #[error("{}: cannot be read; check [identity] and who may read the file", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Others may read the key.
    #[error(
        "{}: this key may be read by others (mode {mode:04o}); run: chmod 600 {}",
        path.display(), path.display()
    )]
    KeyOpen {
        /// The key's file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file holds no PEM block of the kind that belongs there.
    #[error("{}: holds no {wanted} in PEM form; write it anew with `causeway pki issue`", path.display())]
    NotPem {
        /// The file.
        path: PathBuf,
        /// What should be in it.
        wanted: &'static str,
        /// What was met instead, where anything was.
        #[source]
        source: Option<pem::Error>,
    },
    /// The certificate names no part of ours.
    #[error(
        "{}: is no certificate of a part of Causeway; issue one with `causeway pki issue`",
        path.display()
    )]
    Certificate {
        /// The certificate's file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: CertificateError,
    },
    /// TLS would not have them: another key's certificate, another CA's, expired, or not yet valid.
    #[error(
        "{}: every peer would refuse this certificate; issue a new one with `causeway pki issue`",
        path.display()
    )]
    Refused {
        /// The certificate's file.
        path: PathBuf,
        /// What rustls said.
        #[source]
        source: rustls::Error,
    },
    /// A sound identity, but not the one that this daemon is configured to be.
    #[error("{}: the certificate is {found}, but this is a {role} of site '{site}'; give it its own bundle", path.display())]
    NotMine {
        /// The certificate's file.
        path: PathBuf,
        /// Whose certificate it is.
        found: Identity,
        /// The role that the program has.
        role: Role,
        /// The site that its configuration says.
        site: SiteName,
    },
}

/// A loaded identity: every part is there, fits the others, and would be taken by a peer today.
#[derive(Debug)]
pub struct Credentials {
    identity: Identity,
    valid_until: SystemTime,
    certified: Arc<CertifiedKey>,
    admit: Arc<AdmitOurs>,
    roots: Arc<RootCertStore>,
}

impl Credentials {
    /// Loads and checks the three files. Blocks on the disk.
    ///
    /// # Errors
    /// The first thing that a peer, or a careful operator, would refuse.
    pub fn load(paths: &IdentityPaths) -> Result<Credentials, CredentialsError> {
        let chain = certificates(&paths.certificate)?;
        let key = private_key(&paths.key)?;
        let roots = Arc::new(authorities(&paths.authority)?);
        let path = || paths.certificate.clone();
        let refused = |source| CredentialsError::Refused { path: path(), source };

        let certified = CertifiedKey::from_der(chain, key, &tls::provider()).map_err(refused)?;
        let own = certified.end_entity_cert().map_err(refused)?;
        let unnamed = |source| CredentialsError::Certificate { path: path(), source };
        let identity = peer_identity(own).map_err(unnamed)?;
        let valid_until = valid_until(own).map_err(unnamed)?;

        let admit = Arc::new(AdmitOurs::new(Arc::clone(&roots)).map_err(refused)?);
        let intermediates = certified.cert.get(1..).unwrap_or_default();
        let now = UnixTime::now();
        admit.verify_client_cert(own, intermediates, now).map_err(refused)?;
        ExpectOne::new(Arc::clone(&roots), identity.clone())
            .verify_server_cert(own, intermediates, &tls::no_name(), &[], now)
            .map_err(refused)?;
        Ok(Credentials { identity, valid_until, certified: Arc::new(certified), admit, roots })
    }

    /// Who the certificate says we are.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// When peers begin to refuse the certificate.
    #[must_use]
    pub fn valid_until(&self) -> SystemTime {
        self.valid_until
    }

    /// Makes sure that these are the papers of a `role` at `site`, as the program and its
    /// configuration say; `paths` is where they came from.
    ///
    /// # Errors
    /// They are somebody else's.
    pub fn expect(
        &self,
        role: Role,
        site: &SiteName,
        paths: &IdentityPaths,
    ) -> Result<(), CredentialsError> {
        if self.identity.role == role && self.identity.site == *site {
            return Ok(());
        }
        Err(CredentialsError::NotMine {
            path: paths.certificate.clone(),
            found: self.identity.clone(),
            role,
            site: site.clone(),
        })
    }

    /// TLS for those who call us: any identity under our CA, which [`caller`](super::caller) then
    /// tells.
    #[must_use]
    pub fn server_config(&self) -> Arc<ServerConfig> {
        Arc::new(tls::server_config(Arc::clone(&self.admit), Arc::clone(&self.certified)))
    }

    /// TLS for calling `expected`, and nobody else.
    #[must_use]
    pub fn client_config(&self, expected: Identity) -> Arc<ClientConfig> {
        let expect = ExpectOne::new(Arc::clone(&self.roots), expected);
        Arc::new(tls::client_config(expect, Arc::clone(&self.certified)))
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, CredentialsError> {
    let not_pem =
        |source| CredentialsError::NotPem { path: path.to_owned(), wanted: "certificate", source };
    let bytes = read(path, |_| Ok(()))?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let chain = chain.map_err(|source| not_pem(Some(source)))?;
    if chain.is_empty() { Err(not_pem(None)) } else { Ok(chain) }
}

fn authorities(path: &Path) -> Result<RootCertStore, CredentialsError> {
    let mut roots = RootCertStore::empty();
    for authority in certificates(path)? {
        let refused = |source| CredentialsError::Refused { path: path.to_owned(), source };
        roots.add(authority).map_err(refused)?;
    }
    Ok(roots)
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, CredentialsError> {
    let bytes = read(path, |mode| {
        // Of the open file, so that it cannot be another one by the time it is read.
        if mode & 0o077 == 0 {
            return Ok(());
        }
        Err(CredentialsError::KeyOpen { path: path.to_owned(), mode: mode & 0o7777 })
    })?;
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|source| CredentialsError::NotPem {
        path: path.to_owned(),
        wanted: "private key",
        source: Some(source),
    })
}

fn read(
    path: &Path,
    mode_check: impl FnOnce(u32) -> Result<(), CredentialsError>,
) -> Result<Vec<u8>, CredentialsError> {
    let unreadable = |source| CredentialsError::Unreadable { path: path.to_owned(), source };
    let file = File::open(path).map_err(unreadable)?;
    mode_check(file.metadata().map_err(unreadable)?.permissions().mode())?;
    let mut bytes = Vec::new();
    file.take(PEM_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > PEM_BYTES_MAX {
        let source = io::Error::other(format!("longer than {PEM_BYTES_MAX} bytes"));
        return Err(unreadable(source));
    }
    Ok(bytes)
}
