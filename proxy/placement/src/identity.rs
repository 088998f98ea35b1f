//! Who a part says it is: the URI that its certificate carries.
//!
//! `causeway://site/SITE/role/ROLE/name/NAME`, as the certificate's only URI subject alternative
//! name. Both ends of every connection compare it; a signature of our CA alone admits nobody.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::names::{NameError, PartName, SiteName};

const SCHEME: &str = "causeway://";

/// What a certificate entitles its holder to. Which role may call what stands beside each route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// `causeway serve`: drives moves.
    Orchestrator,
    /// `causeway agent`: owns QEMU and the VM's port on one hypervisor host.
    Agent,
    /// `causeway-proxy`, and the tunnel's end in it.
    Proxy,
    /// `causeway-gslb`.
    Gslb,
    /// A person or program that may change things through `serve`, and what a viewer may.
    Operator,
    /// A person or program that may look.
    Viewer,
}

impl Role {
    /// Every role, in the order of their declaration.
    pub const ALL: [Role; 6] =
        [Role::Orchestrator, Role::Agent, Role::Proxy, Role::Gslb, Role::Operator, Role::Viewer];

    /// The word that stands for the role in a URI and in configurations.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Orchestrator => "orchestrator",
            Role::Agent => "agent",
            Role::Proxy => "proxy",
            Role::Gslb => "gslb",
            Role::Operator => "operator",
            Role::Viewer => "viewer",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Role {
    type Err = IdentityError;
    fn from_str(text: &str) -> Result<Self, IdentityError> {
        Role::ALL
            .into_iter()
            .find(|role| role.as_str() == text)
            .ok_or_else(|| IdentityError::Role(text.chars().take(32).collect()))
    }
}

/// One part of ours, as its certificate names it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Identity {
    /// The site it stands at.
    pub site: SiteName,
    /// What it may do.
    pub role: Role,
    /// Which one of its role at its site.
    pub name: PartName,
}

/// Why a URI names none of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// Not of the form above.
    #[error("not an identity; write causeway://site/SITE/role/ROLE/name/NAME")]
    Form,
    /// A role that does not exist.
    #[error(
        "role '{0}' does not exist; write orchestrator, agent, proxy, gslb, operator or viewer"
    )]
    Role(String),
    /// The site's or the part's name is none.
    #[error(transparent)]
    Name(#[from] NameError),
}

impl FromStr for Identity {
    type Err = IdentityError;
    fn from_str(uri: &str) -> Result<Self, IdentityError> {
        let path = uri.strip_prefix(SCHEME).ok_or(IdentityError::Form)?;
        let mut words = path.split('/');
        let mut next = || words.next().ok_or(IdentityError::Form);
        let (site_key, site) = (next()?, next()?);
        let (role_key, role) = (next()?, next()?);
        let (name_key, name) = (next()?, next()?);
        if (site_key, role_key, name_key) != ("site", "role", "name") || words.next().is_some() {
            return Err(IdentityError::Form);
        }
        Ok(Identity { site: site.parse()?, role: role.parse()?, name: name.parse()? })
    }
}

impl TryFrom<String> for Identity {
    type Error = IdentityError;
    fn try_from(uri: String) -> Result<Self, IdentityError> {
        uri.parse()
    }
}

impl From<Identity> for String {
    fn from(identity: Identity) -> String {
        identity.to_string()
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Identity { site, role, name } = self;
        write!(f, "{SCHEME}site/{site}/role/{role}/name/{name}")
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_role_survives_the_way_through_its_uri() {
        for role in Role::ALL {
            let identity =
                Identity { site: "a".parse().unwrap(), role, name: "hv1".parse().unwrap() };
            let json = serde_json::to_string(&identity).unwrap();
            assert_eq!(json, format!("\"{identity:?}\""));
            assert_eq!(serde_json::from_str::<Identity>(&json).unwrap(), identity);
            assert_eq!(identity.to_string().parse(), Ok(identity));
        }
    }

    #[test]
    fn an_uri_that_is_almost_one_is_refused() {
        for uri in [
            "",
            "causeway://",
            "causeway://site/a/role/agent",
            "causeway://site/a/role/agent/name/hv1/",
            "causeway://site/a/role/agent/name/hv1/x",
            "causeway://site/a/role/root/name/hv1",
            "causeway://site//role/agent/name/hv1",
            "causeway://role/agent/site/a/name/hv1",
            "Causeway://site/a/role/agent/name/hv1",
            "causeway://site/a%2f/role/agent/name/hv1",
            " causeway://site/a/role/agent/name/hv1",
            "https://site/a/role/agent/name/hv1",
        ] {
            assert!(uri.parse::<Identity>().is_err(), "{uri:?} was taken");
        }
    }
}
