//! TLS, client certificates, passwords and headers, by a file that changes.

use std::{
    fs,
    io::{Read, Write},
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tempfile::TempDir;
use tokio_rustls::{
    TlsConnector,
    rustls::{
        ClientConfig, ClientConnection, NamedGroup, RootCertStore, StreamOwned,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    },
};

use super::server::{AMPLE, Answer, Server, read_response, serve_config};
use crate::exporter::{
    Limits, Protection, WebConfig,
    access::{Access, Rules},
    check_file,
};

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
        for (name, called) in [("server", "localhost"), ("client", "scraper.example")] {
            let names = [called.to_owned(), "2001:db8::7".to_owned()];
            let params = CertificateParams::new(names).expect("names");
            let key = KeyPair::generate().expect("a key");
            let certificate = params.signed_by(&key, &ca).expect("a certificate");
            files.write(&format!("{name}.pem"), &certificate.pem());
            files.write(&format!("{name}.key"), &key.serialize_pem());
        }
        // Nobody vouches for this one.
        let params = CertificateParams::new(["scraper.example".to_owned()]).expect("a name");
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate");
        files.write("stranger.pem", &certificate.pem());
        files.write("stranger.key", &key.serialize_pem());
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

    /// A client that trusts the CA; with a certificate of its own, if one is named.
    fn client(&self, certificate: Option<&str>) -> ClientConfig {
        let certificates = |name: &str| -> Vec<CertificateDer<'static>> {
            let path = self.path(&format!("{name}.pem"));
            let all = CertificateDer::pem_file_iter(path).expect("a file");
            all.map(|one| one.expect("a certificate")).collect()
        };
        let mut roots = RootCertStore::empty();
        for certificate in certificates("ca") {
            roots.add(certificate).expect("a CA");
        }
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots);
        match certificate {
            Some(name) => {
                let key = self.path(&format!("{name}.key"));
                let key = PrivateKeyDer::from_pem_file(key).expect("a key");
                let own = builder.with_client_auth_cert(certificates(name), key);
                own.expect("a certificate")
            }
            None => builder.with_no_client_auth(),
        }
    }

    /// Asks by TLS; what comes, and how it was spoken.
    fn ask(
        &self,
        server: &Server,
        client: ClientConfig,
    ) -> std::io::Result<(String, ClientConnection)> {
        let name = "localhost".try_into().expect("a name");
        let client = ClientConnection::new(Arc::new(client), name).expect("a client");
        let mut stream = StreamOwned::new(client, server.connect());
        stream.write_all(request("").as_bytes())?;
        let mut answer = Vec::new();
        let read = stream.read_to_end(&mut answer);
        match read {
            Err(error) if answer.is_empty() => Err(error),
            _ => Ok((String::from_utf8(answer).expect("text"), stream.conn)),
        }
    }

    /// Whether who has this certificate is answered.
    fn answers(&self, server: &Server, certificate: Option<&str>) -> bool {
        let answer = self.ask(server, self.client(certificate));
        answer.is_ok_and(|(text, _)| text.starts_with("HTTP/1.1 200 OK\r\n"))
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
fn with_tls_plain_http_gets_no_metrics() {
    let files = Files::new();
    let server = files.serve(&format!("{TLS} }}"));
    assert!(files.answers(&server, None));
    let mut plain = server.connect();
    plain.write_all(request("").as_bytes()).expect("it is sent");
    let mut answer = Vec::new();
    drop(plain.read_to_end(&mut answer));
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
}

#[test]
fn certificates_are_asked_for_as_it_says() {
    let files = Files::new();
    let any = [None, Some("stranger"), Some("client")];
    for (how, more, answered) in [
        ("NoClientCert", "", [true, true, true]),
        ("RequestClientCert", "", [true, true, true]),
        ("RequireAnyClientCert", "", [false, true, true]),
        ("RequireClientCert", "", [false, true, true]),
        (
            "VerifyClientCertIfGiven",
            ", client_ca_file: ca.pem",
            [true, false, true],
        ),
        (
            "RequireAndVerifyClientCert",
            ", client_ca_file: ca.pem",
            [false, false, true],
        ),
        (
            "RequireAndVerifyClientCert",
            ", client_ca_file: ca.pem, client_allowed_sans: [other, scraper.example]",
            [false, false, true],
        ),
        (
            "RequireAndVerifyClientCert",
            ", client_ca_file: ca.pem, client_allowed_sans: ['2001:db8::7']",
            [false, false, true],
        ),
        (
            "RequireAndVerifyClientCert",
            ", client_ca_file: ca.pem, client_allowed_sans: [localhost, SCRAPER.example]",
            [false, false, false],
        ),
        (
            "RequireAnyClientCert",
            ", client_allowed_sans: ['2001:db8::7']",
            [false, false, true],
        ),
    ] {
        for version in ["TLS12", "TLS13"] {
            let text = format!(
                "{TLS}, client_auth_type: {how}{more}, min_version: {version}, max_version: {version} }}"
            );
            let server = files.serve(&text);
            let answers = any.map(|certificate| files.answers(&server, certificate));
            assert_eq!(answers, answered, "{text}");
        }
    }
}

#[test]
fn inline_certificates_work_as_files_do() {
    let files = Files::new();
    let read = |name: &str| {
        let text = fs::read_to_string(files.path(name)).expect("a file");
        text.replace('\n', "\n    ")
    };
    let server = files.serve(&format!(
        "tls_server_config:\n  cert: |\n    {}\n  key: |\n    {}\n  client_ca: |\n    {}\n  \
         client_auth_type: RequireAndVerifyClientCert\n",
        read("server.pem"),
        read("server.key"),
        read("ca.pem"),
    ));
    let answers = [None, Some("client")].map(|certificate| files.answers(&server, certificate));
    assert_eq!(answers, [false, true]);
}

#[test]
fn suites_and_curves_are_those_that_are_named() {
    let files = Files::new();
    let suite = "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256";
    let server = files.serve(&format!(
        "{TLS}, max_version: TLS12, cipher_suites: [{suite}, TLS_AES_128_GCM_SHA256], \
         curve_preferences: [CurveP384] }}"
    ));
    let (_, spoken) = files.ask(&server, files.client(None)).expect("an answer");
    let chosen = spoken.negotiated_cipher_suite().expect("a suite");
    assert_eq!(chosen.suite().as_str(), Some(suite));
    let group = spoken.negotiated_key_exchange_group().expect("a group");
    assert_eq!(group.name(), NamedGroup::secp384r1);
}

#[test]
fn http2_is_offered_by_tls_unless_that_is_off() {
    let files = Files::new();
    for (more, spoken) in [
        ("", "h2"),
        ("http_server_config: { http2: true }", "h2"),
        ("http_server_config: { http2: false }", "http/1.1"),
    ] {
        let server = files.serve(&format!("{TLS} }}\n{more}"));
        let mut client = files.client(None);
        client.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.expect("a runtime").block_on(async {
            let stream = tokio::net::TcpStream::connect(server.address)
                .await
                .expect("a server");
            let name = "localhost".try_into().expect("a name");
            let stream = TlsConnector::from(Arc::new(client))
                .connect(name, stream)
                .await;
            let stream = stream.expect("TLS");
            assert_eq!(
                stream.get_ref().1.alpn_protocol(),
                Some(spoken.as_bytes()),
                "{more}"
            );
            if spoken == "h2" {
                let (mut send, connection) = h2::client::handshake(stream).await.expect("HTTP/2");
                tokio::spawn(async move { drop(connection.await) });
                let request = hyper::Request::get("https://localhost/metrics").body(());
                let sent = send.send_request(request.expect("a request"), true);
                let response = sent.expect("a stream").0.await.expect("a response");
                assert_eq!(response.status(), 200);
            }
        });
    }
}

/// So many clients that shook hands and then say nothing.
const IDLE: usize = 1_000;

#[test]
fn a_thousand_idle_connections_hold_up_nobody() {
    // Both ends are this process's.
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
    let wanted = 2 * IDLE as u64 + 500;
    if soft < wanted {
        assert!(hard >= wanted, "this test takes {wanted} descriptors");
        setrlimit(Resource::RLIMIT_NOFILE, wanted, hard).expect("below the hard limit");
    }
    let files = Files::new();
    let config = WebConfig {
        file: Some(files.write("web.yml", &format!("{TLS} }}"))),
        ..WebConfig::default()
    };
    let most = config.limits.connections;
    let server = serve_config(config, Answer::default());
    let client = Arc::new(files.client(None));
    let idle: Vec<_> = (0..IDLE)
        .map(|_| {
            let name = "localhost".try_into().expect("a name");
            let mut client = ClientConnection::new(Arc::clone(&client), name).expect("a client");
            let mut stream = server.connect();
            client.complete_io(&mut stream).expect("a handshake");
            assert!(!client.is_handshaking());
            (client, stream)
        })
        .collect();
    let (text, _) = files.ask(&server, files.client(None)).expect("an answer");
    let evicted = text
        .lines()
        .find_map(|line| line.strip_prefix("tcptrace_web_connections_evicted_total "));
    // Those that were idle longest made room.
    let evicted: usize = evicted.expect("a count").parse().expect("a number");
    assert_eq!(evicted, IDLE + 1 - most);
    assert!(text.contains("\ntcptrace_web_connections_rejected_total 0\n"));
    drop(idle);
}

#[test]
fn more_requests_than_the_limit_are_refused() {
    let files = Files::new();
    let ask = |server: &Server| {
        let response = server.exchange(&request(""));
        response.split(' ').nth(1).expect("a status").to_owned()
    };
    let server = files.serve("rate_limit: { interval: 1h, burst: 3 }");
    let answers: Vec<String> = (0..5).map(|_| ask(&server)).collect();
    assert_eq!(answers, ["200", "200", "200", "429", "429"]);
    let server = files.serve("rate_limit: { interval: 0s, burst: 0 }");
    assert_eq!(ask(&server), "200");
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

/// Those who guess at once.
const FLOOD: usize = 60;

#[test]
fn a_flood_of_wrong_passwords_keeps_nobody_out_who_is_known() {
    let files = Files::new();
    let hash = bcrypt::hash("right", 8).expect("a hash");
    let text = format!("basic_auth_users: {{ prometheus: '{hash}' }}");
    let config = WebConfig {
        file: Some(files.write("web.yml", &text)),
        limits: Limits {
            connections: FLOOD / 2,
            ..AMPLE
        },
        ..WebConfig::default()
    };
    let server = serve_config(config, Answer::default());
    let mut scraper = server.connect();
    let mut scrape = || {
        let head = basic("right");
        write!(scraper, "GET /metrics HTTP/1.1\r\nHost: a\r\n{head}\r\n").expect("a connection");
        let response = read_response(&mut scraper);
        assert!(response.starts_with("HTTP/1.1 200 "), "{response}");
    };
    scrape();
    let busy = AtomicU64::new(0);
    let denied = AtomicU64::new(0);
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for guess in 0..FLOOD {
            let (server, is_over, busy, denied) = (&server, &is_over, &busy, &denied);
            scope.spawn(move || {
                while !is_over.load(Ordering::Relaxed) {
                    let mut stream = server.connect();
                    let mut response = String::new();
                    // Some are closed at once.
                    drop(stream.write_all(request(&basic(&guess.to_string())).as_bytes()));
                    drop(stream.read_to_string(&mut response));
                    for (status, count) in [("503", busy), ("401", denied)] {
                        let answer = response.starts_with(&format!("HTTP/1.1 {status} "));
                        count.fetch_add(answer.into(), Ordering::Relaxed);
                    }
                }
            });
        }
        // However many are turned away, some are looked at.
        while denied.load(Ordering::Relaxed) < 5 || busy.load(Ordering::Relaxed) < 100 {
            scrape();
        }
        is_over.store(true, Ordering::Relaxed);
    });
    scrape();
}

/// A full disk, or a copy that is half written.
#[test]
fn a_file_that_takes_protection_away_is_refused() {
    let files = Files::new();
    let tls = |more: &str| format!("{TLS}{more} }}");
    let named = ", client_auth_type: RequireAndVerifyClientCert, client_ca_file: ca.pem, client_allowed_sans: [a]";
    let verified = ", client_auth_type: RequireAndVerifyClientCert, client_ca_file: ca.pem";
    let any = ", client_auth_type: RequireAnyClientCert";
    let both = |password: &str| format!("{}\n{}", tls(""), users(password));
    for (before, after) in [
        (users("secret"), String::new()),
        (users("secret"), "# nothing\n".to_owned()),
        (users("secret"), "basic_auth_users: {}\n".to_owned()),
        (users("secret"), "http_server_config: {}\n".to_owned()),
        (users("secret"), tls("")),
        (both("secret"), users("secret")),
        (both("secret"), tls("")),
        (tls(named), tls(verified)),
        (tls(verified), tls(any)),
        (tls(any), tls("")),
        (tls(any), String::new()),
    ] {
        let path = files.write("web.yml", &before);
        let open = || Access::open(Some(&path), |_, _| false).expect(&before);
        let strict = open().rules();
        let access = open();
        files.write("web.yml", &after);
        let rules = access.rules();
        assert!(!access.is_valid(), "{before} → {after}");
        let holds = |rules: &Rules| (rules.tls.is_some(), rules.protects());
        assert_eq!(holds(&rules), holds(&strict), "{before} → {after}");
    }
    let path = files.write("web.yml", &users("secret"));
    let access = Access::open(Some(&path), |_, _| false).expect("a file");
    files.write("web.yml", "");
    access.rules();
    assert!(!access.is_valid());
    // What is written after all holds.
    files.write("web.yml", &users("another"));
    std::thread::sleep(super::super::access::LOOK_EVERY);
    access.rules();
    assert!(access.is_valid());
}

#[test]
fn a_truncated_file_does_not_drop_the_password() {
    let files = Files::new();
    let server = files.serve(&users("secret"));
    let metrics = |head: &str| server.exchange(&request(head));
    assert!(metrics("").starts_with("HTTP/1.1 401 "));
    files.write("web.yml", "");
    std::thread::sleep(super::super::access::LOOK_EVERY);
    assert!(metrics("").starts_with("HTTP/1.1 401 "));
    let shown = metrics(&basic("secret"));
    let refused = "\ntcptrace_config_last_reload_successful 0\n";
    assert!(shown.contains(refused), "{shown}");
}

/// Known by how long it takes.
#[test]
fn an_unknown_user_costs_as_much_as_a_known_one() {
    let files = Files::new();
    let hash = |cost| bcrypt::hash("a", cost).expect("a hash");
    let path = files.write(
        "web.yml",
        &format!("basic_auth_users: {{ a: '{}', b: '{}' }}", hash(4), hash(6)),
    );
    let rules = Access::open(Some(&path), |_, _| false)
        .expect("a file")
        .rules();
    let parts: bcrypt::HashParts = rules.nobody().parse().expect("a hash");
    assert_eq!(parts.get_cost(), 6);
    assert!(!bcrypt::verify("a", rules.nobody()).expect("a hash"));
}

#[test]
fn an_invalid_file_is_refused_with_the_reason() {
    let files = Files::new();
    files.write("empty.pem", "");
    for (text, why) in [
        ("", "it is empty"),
        (
            "basic_auth_users: { a: '$2y$31$abcdefghijklmnopqrstuuqAR3hbsFYRD9pn.Yz0vHSzVDYxCjM9e' }",
            "the cost 31",
        ),
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
            "missing one of key and key_file",
        ),
        (
            "tls_server_config: { cert_file: none.pem, key_file: server.key }",
            "cert_file /",
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
            "takes a client_ca or client_ca_file",
        ),
        (
            &format!("{TLS}, client_auth_type: Sometimes }}"),
            "Sometimes",
        ),
        (
            &format!("{TLS}, client_auth_type: RequestClientCert, client_allowed_sans: [a] }}"),
            "client_allowed_sans takes a client_auth_type of",
        ),
        (
            &format!("{TLS}, cert: a }}"),
            "both cert and cert_file are set",
        ),
        (
            &format!("{TLS}, cipher_suites: [RC4] }}"),
            "RC4 is none of TLS_ECDHE_",
        ),
        (
            &format!("{TLS}, curve_preferences: [CurveP521] }}"),
            "CurveP521 is none of",
        ),
        ("rate_limit: { interval: 1s, burst: 0 }", "burst is 0"),
        (
            "rate_limit: { interval: -1s, burst: 1 }",
            "interval is negative",
        ),
        (
            "rate_limit: { interval: 9999h, burst: 1 }",
            "longer than a day",
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
    let good = files.write("web.yml", "http_server_config: {}");
    let protection = |tls, authentication| Protection {
        tls,
        authentication,
    };
    assert_eq!(
        check_file(Some(&good)).expect("headers"),
        protection(false, false)
    );
    let good = files.write("web.yml", &format!("{TLS} }}"));
    assert_eq!(
        check_file(Some(&good)).expect("TLS"),
        protection(true, true)
    );
    assert!(check_file(Some(&files.path("none.yml"))).is_err());
}

#[test]
fn a_stop_waits_for_no_password() {
    /// What is locked by the test is a hash under way.
    static HASH: Mutex<()> = Mutex::new(());
    static BEGUN: AtomicBool = AtomicBool::new(false);
    let files = Files::new();
    files.write("web.yml", &users("right"));
    let server = serve_config(
        WebConfig {
            file: Some(files.path("web.yml")),
            limits: Limits {
                drain: Duration::ZERO,
                ..AMPLE
            },
            check_password: |_, _| {
                BEGUN.store(true, Ordering::Relaxed);
                drop(HASH.lock());
                false
            },
            ..WebConfig::default()
        },
        Answer::default(),
    );
    let under_way = HASH.lock().expect("nobody panicked");
    let mut client = server.connect();
    client
        .write_all(request(&basic("guessed")).as_bytes())
        .expect("it is sent");
    while !BEGUN.load(Ordering::Relaxed) {
        std::thread::yield_now();
    }
    server.stop.send_replace(true);
    // It would wait for ever.
    server.thread.join().expect("no panic").expect("it served");
    drop(under_way);
}
