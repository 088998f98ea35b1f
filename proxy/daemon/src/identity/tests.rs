use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use placement::{Identity, Role};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, SanType, date_time_ymd,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::*;

/// A CA of this test alone.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(crate) fn new() -> Authority {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        Authority(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// A bundle in `folder` whose certificate `shape` may spoil.
    pub(crate) fn bundle(
        &self,
        folder: &Path,
        uri: &str,
        shape: impl FnOnce(&mut CertificateParams),
    ) -> IdentityPaths {
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::URI(uri.try_into().unwrap())];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        shape(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        let paths = IdentityPaths {
            certificate: folder.join("certificate.pem"),
            key: folder.join("key.pem"),
            authority: folder.join("ca.pem"),
        };
        fs::create_dir_all(folder).unwrap();
        fs::write(&paths.certificate, certificate.pem()).unwrap();
        fs::write(&paths.key, key.serialize_pem()).unwrap();
        fs::set_permissions(&paths.key, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&paths.authority, self.0.pem()).unwrap();
        paths
    }
}

const PROXY: &str = "causeway://site/a/role/proxy/name/p1";
const AGENT: &str = "causeway://site/a/role/agent/name/hv1";

fn refusal(paths: &IdentityPaths) -> String {
    crate::with_causes(&Credentials::load(paths).unwrap_err())
}

#[test]
fn a_sound_bundle_says_who_we_are_and_until_when() {
    let folder = tempfile::tempdir().unwrap();
    let until = date_time_ymd(2050, 1, 1);
    let paths = Authority::new().bundle(folder.path(), PROXY, |p| p.not_after = until);
    let credentials = Credentials::load(&paths).unwrap();
    assert_eq!(credentials.identity().to_string(), PROXY);
    let seconds = u64::try_from(until.unix_timestamp()).unwrap();
    assert_eq!(credentials.valid_until(), SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));

    let (a, b) = ("a".parse().unwrap(), "b".parse().unwrap());
    credentials.expect(Role::Proxy, &a, &paths).unwrap();
    for (role, site) in [(Role::Agent, &a), (Role::Proxy, &b)] {
        let error = credentials.expect(role, site, &paths).unwrap_err();
        assert!(matches!(error, CredentialsError::NotMine { .. }), "{error}");
    }
}

#[test]
fn a_key_that_others_may_read_is_refused_with_the_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let paths = Authority::new().bundle(folder.path(), PROXY, |_| {});
    for mode in [0o640, 0o604, 0o620, 0o601, 0o777] {
        fs::set_permissions(&paths.key, fs::Permissions::from_mode(mode)).unwrap();
        let refusal = refusal(&paths);
        assert!(refusal.contains(&format!("mode {mode:04o}")), "{refusal}");
        assert!(refusal.contains(&format!("chmod 600 {}", paths.key.display())), "{refusal}");
    }
    fs::set_permissions(&paths.key, fs::Permissions::from_mode(0o400)).unwrap();
    Credentials::load(&paths).unwrap();
}

#[test]
fn what_a_peer_would_refuse_is_refused_at_home() {
    let folder = tempfile::tempdir().unwrap();
    let ours = Authority::new();
    let bundle = |shape: fn(&mut CertificateParams)| ours.bundle(folder.path(), PROXY, shape);

    let expired = bundle(|p| p.not_after = date_time_ymd(2020, 1, 1));
    assert!(refusal(&expired).contains("every peer would refuse this certificate"));
    let early = bundle(|p| p.not_before = date_time_ymd(2090, 1, 1));
    assert!(refusal(&early).contains("every peer would refuse this certificate"));
    let one_way = bundle(|p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]);
    assert!(refusal(&one_way).contains("every peer would refuse this certificate"));
    let nameless = bundle(|p| p.subject_alt_names.clear());
    assert!(refusal(&nameless).contains("has 0 URI names"));

    let foreign = bundle(|_| {});
    fs::write(&foreign.authority, Authority::new().0.pem()).unwrap();
    assert!(refusal(&foreign).contains("every peer would refuse this certificate"));
    let other_key = bundle(|_| {});
    fs::write(&other_key.key, KeyPair::generate().unwrap().serialize_pem()).unwrap();
    assert!(refusal(&other_key).contains("every peer would refuse this certificate"));
}

#[test]
fn a_file_that_is_missing_swapped_or_endless_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let paths = Authority::new().bundle(folder.path(), PROXY, |_| {});
    let swapped = IdentityPaths { certificate: paths.key.clone(), ..paths.clone() };
    assert!(refusal(&swapped).contains("key.pem: holds no certificate in PEM form"));
    fs::set_permissions(&paths.authority, fs::Permissions::from_mode(0o600)).unwrap();
    let swapped = IdentityPaths { key: paths.authority.clone(), ..paths.clone() };
    assert!(refusal(&swapped).contains("ca.pem: holds no private key in PEM form"));
    let missing = IdentityPaths { authority: folder.path().join("no.pem"), ..paths.clone() };
    assert!(refusal(&missing).contains("no.pem: cannot be read"));
    let endless = IdentityPaths { certificate: "/dev/zero".into(), ..paths };
    assert!(matches!(Credentials::load(&endless), Err(CredentialsError::Unreadable { .. })));
}

/// Shakes hands between the two, each with its own bundle; the server's view of the caller.
async fn shake(
    server: &Credentials,
    client: &Credentials,
    expected: &str,
) -> (Result<Identity, std::io::Error>, Result<u8, ConnectError>) {
    let (here, there): (DuplexStream, DuplexStream) = tokio::io::duplex(64 * 1024);
    let acceptor = tokio_rustls::TlsAcceptor::from(server.server_config());
    let called = async {
        let mut stream = acceptor.accept(there).await?;
        stream.write_u8(7).await?;
        stream.flush().await?;
        Ok(caller(&stream).unwrap())
    };
    let expected: Identity = expected.parse().unwrap();
    let calling = async {
        let mut stream = connect(client.client_config(expected.clone()), &expected, here).await?;
        // In TLS 1.3 the caller learns only now whether it was admitted.
        let failed = |source| ConnectError::Failed { expected: expected.clone(), source };
        stream.read_u8().await.map_err(failed)
    };
    tokio::join!(called, calling)
}

#[tokio::test]
async fn both_ends_learn_who_the_other_is() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let ca = Authority::new();
    let proxy = Credentials::load(&ca.bundle(one.path(), PROXY, |_| {})).unwrap();
    let agent = Credentials::load(&ca.bundle(two.path(), AGENT, |_| {})).unwrap();
    let (called, calling) = shake(&proxy, &agent, PROXY).await;
    assert_eq!(called.unwrap().to_string(), AGENT);
    assert_eq!(calling.unwrap(), 7);
}

#[tokio::test]
async fn another_one_of_our_own_is_still_the_wrong_one() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let ca = Authority::new();
    let agent = Credentials::load(&ca.bundle(one.path(), AGENT, |_| {})).unwrap();
    let caller = Credentials::load(&ca.bundle(two.path(), PROXY, |_| {})).unwrap();
    for other in [
        PROXY,
        "causeway://site/a/role/agent/name/hv2",
        "causeway://site/b/role/agent/name/hv1",
        "causeway://site/a/role/proxy/name/hv1",
    ] {
        let (called, calling) = shake(&agent, &caller, other).await;
        assert!(called.is_err(), "the caller went on");
        let ConnectError::Wrong(wrong) = calling.unwrap_err() else { panic!("another error") };
        assert_eq!(wrong.found.to_string(), AGENT);
        assert_eq!(wrong.expected.to_string(), other);
    }
}

#[tokio::test]
async fn a_foreign_ca_is_refused_by_either_end() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let ours = Credentials::load(&Authority::new().bundle(one.path(), PROXY, |_| {})).unwrap();
    let theirs = Credentials::load(&Authority::new().bundle(two.path(), AGENT, |_| {})).unwrap();
    for (server, client, expected) in [(&ours, &theirs, PROXY), (&theirs, &ours, AGENT)] {
        let (called, calling) = shake(server, client, expected).await;
        assert!(called.is_err());
        assert!(matches!(calling, Err(ConnectError::Failed { .. })));
    }
}

#[tokio::test]
async fn the_server_itself_refuses_a_foreign_caller_that_does_not_look_at_the_server() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (ca, foreign) = (Authority::new(), Authority::new());
    let server = Credentials::load(&ca.bundle(one.path(), PROXY, |_| {})).unwrap();
    let mut paths = foreign.bundle(two.path(), AGENT, |_| {});
    // The stranger trusts both CAs, so that only the server can be the one who refuses.
    fs::write(&paths.authority, format!("{}{}", ca.0.pem(), foreign.0.pem())).unwrap();
    let stranger = Credentials::load(&paths).unwrap();
    let (called, calling) = shake(&server, &stranger, PROXY).await;
    assert!(called.is_err());
    assert!(matches!(calling, Err(ConnectError::Failed { .. })));

    paths.authority = one.path().join("ca.pem");
    assert!(Credentials::load(&paths).is_err());
}

#[test]
fn no_configuration_resumes_a_session() {
    let folder = tempfile::tempdir().unwrap();
    let paths = Authority::new().bundle(folder.path(), PROXY, |_| {});
    let credentials = Credentials::load(&paths).unwrap();
    let server = credentials.server_config();
    assert_eq!(server.send_tls13_tickets, 0);
    assert!(!server.session_storage.can_cache());
    assert_eq!(Arc::strong_count(&server), 1);
}
