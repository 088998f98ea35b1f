//! The operator's file: where the service is, and with which papers it is asked.
//!
//! ```toml
//! [server]
//! address = "192.0.2.10:7400"
//! site = "hq"                       # as in the service's certificate
//! name = "serve"
//!
//! [identity]                        # `causeway pki issue --role operator` writes these
//! certificate = "certificate.pem"
//! key = "key.pem"
//! authority = "ca.pem"
//! ```

use std::env;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use daemon::config::{ConfigError, Problems, Told, beside, read};
use daemon::identity::{Credentials, CredentialsError, IdentityPaths};
use placement::{Identity, Role};
use serde::Deserialize;
use toml::Spanned;

/// Where it lies, unless told otherwise: below the home folder.
const DEFAULT: &str = ".config/causeway/operator.toml";
/// What names another.
const VARIABLE: &str = "CAUSEWAY_CONFIG";

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    server: WrittenServer,
    identity: WrittenIdentity,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenServer {
    address: Spanned<String>,
    site: Spanned<String>,
    name: Spanned<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenIdentity {
    certificate: PathBuf,
    key: PathBuf,
    authority: PathBuf,
}

/// The file, checked, with the papers that it names.
#[derive(Debug)]
pub(super) struct OperatorFile {
    pub(super) address: SocketAddr,
    pub(super) server: Identity,
    pub(super) credentials: Credentials,
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub(super) enum OperatorFileError {
    /// Nobody said where it is.
    #[error("no operator's file is named; write --config FILE, or set {VARIABLE}")]
    Nowhere,
    /// It is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The papers are.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
}

impl OperatorFile {
    /// Reads the file that was named, or the one where it usually lies.
    pub(super) fn load(named: Option<&Path>) -> Result<OperatorFile, OperatorFileError> {
        let path = match named {
            Some(path) => path.to_owned(),
            None => usual().ok_or(OperatorFileError::Nowhere)?,
        };
        let (address, server, paths) = read(&path, check)?;
        let credentials = Credentials::load(&paths)?;
        Ok(OperatorFile { address, server, credentials })
    }
}

fn usual() -> Option<PathBuf> {
    let named = env::var_os(VARIABLE).filter(|named| !named.is_empty());
    named.map(PathBuf::from).or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(DEFAULT)))
}

fn check(
    written: Written,
    problems: &mut Problems<'_>,
) -> Result<(SocketAddr, Identity, IdentityPaths), Told> {
    let Written { server, identity } = written;
    let address = server.address.get_ref().parse::<SocketAddr>().map_err(|_| {
        let message = "is no address with a port; write 192.0.2.10:7400 or [2001:db8::10]:7400";
        problems.at(server.address.span(), "server.address", message)
    });
    let site = problems.parse("server.site", &server.site);
    let name = problems.parse("server.name", &server.name);
    let beside = |path: &PathBuf| beside(problems.path(), path);
    let paths = IdentityPaths {
        certificate: beside(&identity.certificate),
        key: beside(&identity.key),
        authority: beside(&identity.authority),
    };
    let server = Identity { site: site?, role: Role::Orchestrator, name: name? };
    Ok((address?, server, paths))
}
