//! Who we are and who is at the other end: certificates on disk, and TLS that compares identities.
//!
//! A signature of our CA admits nobody by itself. Both ends parse the other's certificate down to
//! its only URI; the called one learns a caller's [`placement::Identity`] and asks the route's
//! roles, the caller names beforehand which identity it means to reach.

mod certificate;
mod credentials;
mod tls;

pub use certificate::{CertificateError, peer_identity, valid_until};
pub use credentials::{Credentials, CredentialsError, IdentityPaths, PEM_BYTES_MAX};
pub use tls::{ConnectError, WrongIdentity, caller, connect};

#[cfg(test)]
pub(crate) mod tests;
