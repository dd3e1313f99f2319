//! TLS, client certificates, passwords and headers, by a file that changes.

use std::{
    fs,
    io::{Read, Write},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tempfile::TempDir;
use tokio_rustls::rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

use super::server::{AMPLE, Answer, Server, serve_config};
use crate::web::{WebConfig, check_file};

const TLS: &str = "tls_server_config: { cert_file: server.pem, key_file: server.key";
/// bcrypt of cost 4, for tests have no secrets.
fn users(password: &str) -> String {
    let hash = bcrypt::hash(password, 4).expect("a hash");
    format!("basic_auth_users: {{ prometheus: \"{hash}\" }}")
}

/// A directory with a CA, and certificates of it for the server and for a client.
struct Files(TempDir);

impl Files {
    fn new() -> Self {
        let files = Self(tempfile::tempdir().expect("a directory"));
        let mut params = CertificateParams::new([]).expect("a name");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let ca = CertifiedIssuer::self_signed(params, key).expect("a CA");
        files.write("ca.pem", &ca.pem());
        for name in ["server", "client"] {
            let params = CertificateParams::new(["localhost".to_owned()]).expect("a name");
            let key = KeyPair::generate().expect("a key");
            let certificate = params.signed_by(&key, &ca).expect("a certificate");
            files.write(&format!("{name}.pem"), &certificate.pem());
            files.write(&format!("{name}.key"), &key.serialize_pem());
        }
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).expect("it can be written");
        path
    }

    fn serve(&self, text: &str) -> Server {
        let config = WebConfig {
            file: Some(self.write("web.yml", text)),
            limits: AMPLE,
            ..WebConfig::default()
        };
        serve_config(config, Answer::default())
    }

    /// Asks by TLS; with a certificate, if that is wanted.
    fn ask(&self, server: &Server, with_certificate: bool, head: &str) -> std::io::Result<String> {
        let certificates = |name: &str| -> Vec<CertificateDer<'static>> {
            let all = CertificateDer::pem_file_iter(self.path(name)).expect("a file");
            all.map(|one| one.expect("a certificate")).collect()
        };
        let mut roots = RootCertStore::empty();
        for certificate in certificates("ca.pem") {
            roots.add(certificate).expect("a CA");
        }
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots);
        let config = if with_certificate {
            let key = PrivateKeyDer::from_pem_file(self.path("client.key")).expect("a key");
            let own = builder.with_client_auth_cert(certificates("client.pem"), key);
            own.expect("a certificate")
        } else {
            builder.with_no_client_auth()
        };
        let name = "localhost".try_into().expect("a name");
        let client = ClientConnection::new(Arc::new(config), name).expect("a client");
        let mut stream = StreamOwned::new(client, server.connect());
        stream.write_all(request(head).as_bytes())?;
        let mut answer = Vec::new();
        let read = stream.read_to_end(&mut answer);
        match read {
            Err(error) if answer.is_empty() => Err(error),
            _ => Ok(String::from_utf8(answer).expect("text")),
        }
    }
}

fn request(head: &str) -> String {
    format!("GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{head}\r\n")
}

/// `prometheus` with a password.
fn basic(password: &str) -> String {
    use base64::{Engine, prelude::BASE64_STANDARD};
    let encoded = BASE64_STANDARD.encode(format!("prometheus:{password}"));
    format!("Authorization: Basic {encoded}\r\n")
}

#[test]
fn with_tls_nothing_is_told_without_it() {
    let files = Files::new();
    let server = files.serve(&format!("{TLS} }}"));
    let response = files.ask(&server, false, "").expect("an answer");
    assert!(response.starts_with("HTTP/1.1 200 OK\r\n"), "{response}");
    let mut plain = server.connect();
    plain.write_all(request("").as_bytes()).expect("it is sent");
    let mut answer = Vec::new();
    drop(plain.read_to_end(&mut answer));
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
}

#[test]
fn who_must_have_a_certificate_is_not_answered_without() {
    let files = Files::new();
    for (how, without) in [
        ("RequireAndVerifyClientCert", false),
        ("VerifyClientCertIfGiven", true),
    ] {
        let more =
            format!(", client_auth_type: {how}, client_ca_file: ca.pem, min_version: TLS13 }}");
        let server = files.serve(&format!("{TLS}{more}"));
        for (has_one, is_answered) in [(true, true), (false, without)] {
            let response = files.ask(&server, has_one, "").unwrap_or_default();
            assert_eq!(
                response.starts_with("HTTP/1.1 200 "),
                is_answered,
                "{how}: {response}"
            );
        }
    }
}

#[test]
fn a_password_is_asked_for_and_headers_are_added() {
    let files = Files::new();
    let headers = "http_server_config: { headers: { X-Frame-Options: deny } }";
    let server = files.serve(&format!("{headers}\n{}", users("right")));
    let ask = |head: &str| server.exchange(&request(head));
    for head in [
        String::new(),
        basic("wrong"),
        basic(""),
        "Authorization: Basic !\r\n".into(),
        "Authorization: Bearer right\r\n".into(),
        "Authorization: Basic bm9ib2R5OnJpZ2h0\r\n".into(),
    ] {
        let response = ask(&head);
        assert!(response.starts_with("HTTP/1.1 401 "), "{head}: {response}");
        assert!(
            response.contains("www-authenticate: Basic realm="),
            "{response}"
        );
        assert!(!response.contains("tcptrace_"), "{response}");
    }
    // The second time without bcrypt.
    for _ in 0..2 {
        let response = ask(&basic("right"));
        assert!(response.starts_with("HTTP/1.1 200 "), "{response}");
        assert!(response.contains("x-frame-options: deny\r\n"), "{response}");
    }
}

#[test]
fn a_file_that_changes_holds_and_one_that_breaks_does_not() {
    let files = Files::new();
    let server = files.serve(&users("first"));
    let is_right = |password: &str| {
        let response = server.exchange(&request(&basic(password)));
        response.starts_with("HTTP/1.1 200 ")
    };
    let wait_for = |what: &dyn Fn() -> bool| {
        let waited = (0..200).any(|_| {
            std::thread::sleep(Duration::from_millis(50));
            what()
        });
        assert!(waited, "in vain");
    };
    assert!(is_right("first"));
    files.write("web.yml", &users("the second"));
    wait_for(&|| is_right("the second"));
    assert!(!is_right("first"));
    files.write("web.yml", "basic_auth_users: [");
    std::thread::sleep(super::super::access::LOOK_EVERY);
    assert!(is_right("the second"));
    files.write("web.yml", &users("third"));
    wait_for(&|| is_right("third"));
}

#[test]
fn what_is_wrong_with_a_file_is_said() {
    let files = Files::new();
    files.write("empty.pem", "");
    for (text, why) in [
        ("basic_auth_user: {}", "unknown field `basic_auth_user`"),
        (
            "basic_auth_users: { a: b }",
            "the hash of a is not bcrypt's",
        ),
        (
            "http_server_config: { headers: { 'a b': c } }",
            "a b: c is no header",
        ),
        (
            "tls_server_config: { cert_file: server.pem }",
            "missing field `key_file`",
        ),
        (
            "tls_server_config: { cert_file: none.pem, key_file: server.key }",
            "no certificates in /",
        ),
        (
            "tls_server_config: { cert_file: empty.pem, key_file: server.key }",
            "no certificates in /",
        ),
        (
            "tls_server_config: { cert_file: server.pem, key_file: ca.pem }",
            "no key in /",
        ),
        (
            "tls_server_config: { cert_file: server.pem, key_file: client.key }",
            "tls_server_config: ",
        ),
        (
            &format!("{TLS}, client_ca_file: ca.pem }}"),
            "of no use without client_auth_type",
        ),
        (
            &format!("{TLS}, client_auth_type: VerifyClientCertIfGiven }}"),
            "takes a client_ca_file",
        ),
        (
            &format!("{TLS}, client_auth_type: RequestClientCert }}"),
            "RequestClientCert",
        ),
        (&format!("{TLS}, min_version: TLS10 }}"), "TLS10"),
        (
            &format!("{TLS}, min_version: TLS13, max_version: TLS12 }}"),
            "below min_version",
        ),
    ] {
        let path = files.write("web.yml", text);
        let error = check_file(Some(&path)).map_err(|error| format!("{error:#}"));
        let error = error.expect_err(text);
        assert!(
            error.starts_with("--web.config.file /") && error.contains(why),
            "{text}: {error}"
        );
    }
    let good = files.write("web.yml", "");
    assert_eq!(
        check_file(Some(&good)).expect("an empty file"),
        (false, false)
    );
    let good = files.write("web.yml", &format!("{TLS} }}"));
    assert_eq!(check_file(Some(&good)).expect("TLS"), (true, true));
    assert!(check_file(Some(&files.path("none.yml"))).is_err());
}
