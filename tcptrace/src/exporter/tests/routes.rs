//! Which page is returned for which request.

use std::{
    io::{Read, Write},
    net::TcpListener,
    sync::atomic::Ordering,
    time::Duration,
};

use super::server::{AMPLE, Answer, body, length, read_response, read_to_end, serve, serve_with};
use crate::exporter::{Limits, ScrapeSource, WebConfig, bind, scrape_channel, spawn};

#[test]
fn metrics_are_an_exposition() {
    let server = serve(AMPLE);
    let response = server.get("/metrics");
    assert!(response.starts_with("HTTP/1.1 200 OK\r\n"), "{response}");
    let content_type = "content-type: text/plain; version=0.0.4; charset=utf-8\r\n";
    assert!(response.contains(content_type), "{response}");
    assert_eq!(length(&response), body(&response).len());
    for family in ["tcptrace_tracker_limit 0\n", "tcptrace_build_info{"] {
        assert!(body(&response).contains(family), "{response}");
    }
    let with_query = server.get("/metrics?name[]=up");
    assert!(
        with_query.starts_with("HTTP/1.1 200 OK\r\n"),
        "{with_query}"
    );
}

#[test]
fn content_negotiation_selects_openmetrics_and_gzip() {
    let server = serve(AMPLE);
    let ask = |headers: &str| -> (String, Vec<u8>) {
        let mut stream = server.connect();
        let request =
            format!("GET /metrics HTTP/1.1\r\nHost: test\r\nConnection: close\r\n{headers}\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let end = answer
            .windows(4)
            .position(|bytes| bytes == b"\r\n\r\n")
            .unwrap();
        let head = String::from_utf8(answer[..end].to_vec()).unwrap();
        (head, answer[end + 4..].to_vec())
    };
    // As Prometheus 2 and 3 ask.
    let open = "Accept: application/openmetrics-text;version=1.0.0;q=0.5,text/plain;q=0.3\r\n";
    let (head, body) = ask(open);
    let text = String::from_utf8(body).unwrap();
    assert!(
        head.contains("content-type: application/openmetrics-text; version=1.0.0"),
        "{head}"
    );
    assert!(text.ends_with("# EOF\n") && text.contains("# TYPE tcptrace_tracker_gaps counter\n"));
    assert!(text.contains("\ntcptrace_tracker_gaps_total 0\n"), "{text}");
    let quoted = text
        .lines()
        .filter(|line| line.starts_with("# HELP"))
        .any(|line| line.contains("\\\""));
    assert!(quoted, "no quotation mark is escaped");

    let (head, body) = ask("Accept-Encoding: br, gzip\r\n");
    assert!(
        head.contains("content-encoding: gzip\r\n") && head.contains("vary: "),
        "{head}"
    );
    assert!(head.contains("text/plain; version=0.0.4"), "{head}");
    let mut text = String::new();
    flate2::read::GzDecoder::new(&body[..])
        .read_to_string(&mut text)
        .unwrap();
    assert!(text.contains("\ntcptrace_tracker_gaps_total 0\n"), "{text}");

    for plain in [
        "",
        "Accept-Encoding: gzip;q=0, identity\r\n",
        "Accept: application/openmetrics-text;q=0\r\nAccept-Encoding: gzipped\r\n",
    ] {
        let (head, body) = ask(plain);
        assert!(
            !head.contains("gzip") && body.starts_with(b"# HELP "),
            "{head}"
        );
        assert!(head.contains("text/plain; version=0.0.4"), "{head}");
    }
}

#[test]
fn head_has_the_head_of_get_and_no_body() {
    let server = serve(AMPLE);
    let response =
        server.exchange("HEAD /metrics HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
    assert!(response.starts_with("HTTP/1.1 200 OK\r\n"), "{response}");
    assert!(length(&response) > 1000, "{response}");
    assert_eq!(body(&response), "");
}

#[test]
fn a_client_of_http_1_0_needs_no_host() {
    let response = serve(AMPLE).exchange("GET /metrics HTTP/1.0\r\n\r\n");
    assert!(response.starts_with("HTTP/1.0 200 OK\r\n"), "{response}");
    assert!(response.contains("tcptrace_tracker_limit"), "{response}");
}

#[test]
fn http_1_1_takes_one_host() {
    let server = serve(AMPLE);
    for hosts in ["", "Host: a\r\nHost: b\r\n"] {
        let request = format!("GET /metrics HTTP/1.1\r\nConnection: close\r\n{hosts}\r\n");
        let response = server.exchange(&request);
        assert!(response.starts_with("HTTP/1.1 400 "), "{response}");
        assert!(!response.contains("tcptrace_"), "{response}");
    }
}

#[test]
fn the_landing_page_links_to_the_others() {
    let response = serve(AMPLE).get("/");
    assert!(response.contains("content-type: text/html; charset=utf-8\r\n"));
    for link in ["/metrics", "/-/healthy", "/-/ready"] {
        assert!(
            response.contains(&format!("<a href=\"{link}\">")),
            "{response}"
        );
    }
    assert!(response.contains(&format!("<h1>tcptrace {}</h1>", env!("CARGO_PKG_VERSION"))));
}

#[test]
fn the_telemetry_path_can_be_another_and_cannot_break_out_of_the_page() {
    let listeners = bind(&["127.0.0.1:0".parse().unwrap()]).unwrap();
    let address = listeners[0].local_addr().unwrap();
    let (scraper, requests) = scrape_channel();
    let (_ready, ready) = tokio::sync::watch::channel(Ok(()));
    let (_stop, stop) = tokio::sync::watch::channel(false);
    let config = WebConfig {
        telemetry_path: "/tcp\"><b>".to_owned(),
        limits: AMPLE,
        ..WebConfig::default()
    };
    drop(requests);
    spawn(config, listeners, ScrapeSource { scraper, ready }, stop).unwrap();
    let ask = |path: &str| {
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        read_to_end(&mut stream)
    };
    assert!(ask("/").contains("<a href=\"/tcp&quot;&gt;&lt;b&gt;\">"));
    assert!(ask("/metrics").starts_with("HTTP/1.1 404 "));
}

#[test]
fn unknown_pages_are_404_and_other_methods_405() {
    let server = serve(AMPLE);
    for path in ["/nothing", "/metrics/", "/-/", "/favicon.ico"] {
        let response = server.get(path);
        assert!(
            response.starts_with("HTTP/1.1 404 Not Found\r\n"),
            "{response}"
        );
    }
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "BREW"] {
        for path in ["/metrics", "/", "/-/healthy", "/-/ready"] {
            let response = server.exchange(&format!(
                "{method} {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"
            ));
            assert!(response.starts_with("HTTP/1.1 405 "), "{response}");
            assert!(response.contains("allow: GET, HEAD\r\n"), "{response}");
        }
    }
    assert_eq!(server.scrapes.load(Ordering::Relaxed), 0);
}

#[test]
fn ready_only_while_the_programs_are_attached() {
    let server = serve(AMPLE);
    let status = |path: &str| server.get(path)[..12].to_owned();
    assert_eq!(status("/-/ready"), "HTTP/1.1 200");
    server.ready.send(Err("it is stopping")).unwrap();
    assert_eq!(status("/-/ready"), "HTTP/1.1 503");
    assert_eq!(
        body(&server.get("/-/ready")),
        "tcptrace is not ready: it is stopping\n"
    );
    assert_eq!(status("/-/healthy"), "HTTP/1.1 200");
    server.ready.send(Ok(())).unwrap();
    assert_eq!(status("/-/ready"), "HTTP/1.1 200");
}

#[test]
fn without_its_tracer_it_is_not_ready_and_says_so() {
    let listeners = bind(&["127.0.0.1:0".parse().unwrap()]).unwrap();
    let address = listeners[0].local_addr().unwrap();
    let (scraper, requests) = scrape_channel();
    let (ready, is_ready) = tokio::sync::watch::channel(Ok(()));
    let (_stop, stop) = tokio::sync::watch::channel(false);
    let tracer = ScrapeSource {
        scraper,
        ready: is_ready,
    };
    spawn(WebConfig::default(), listeners, tracer, stop).unwrap();
    drop((requests, ready));
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    for (path, says) in [
        (
            "/metrics",
            "503 no metrics: the tracer has stopped; see the daemon's log\n",
        ),
        (
            "/-/ready",
            "tcptrace is not ready: its tracer has stopped; see the daemon's log\n",
        ),
    ] {
        write!(stream, "GET {path} HTTP/1.1\r\nHost: test\r\n\r\n").unwrap();
        let response = read_response(&mut stream);
        assert!(response.starts_with("HTTP/1.1 503 "), "{response}");
        assert_eq!(body(&response), says);
    }
}

#[test]
fn a_tracer_that_does_not_answer_is_a_503() {
    let limits = Limits {
        scrape: Duration::from_millis(50),
        ..AMPLE
    };
    let (_shut, gate) = tokio::sync::oneshot::channel();
    let server = serve_with(limits, Answer { gate: Some(gate) });
    let response = server.get("/metrics");
    assert!(response.starts_with("HTTP/1.1 503 "), "{response}");
    let says =
        "503 no metrics: the tracer did not answer within 0.05 s; it is overloaded or stuck\n";
    assert_eq!(body(&response), says);
    assert!(server.get("/-/healthy").starts_with("HTTP/1.1 200 "));
}

#[test]
fn an_address_that_is_taken_is_told_with_what_to_do() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let free = "127.0.0.1:0".parse().unwrap();
    let error = bind(&[free, address]).unwrap_err();
    assert_eq!(
        format!("{error:#}"),
        format!(
            "cannot listen on {address}: address in use; another tcptrace daemon? \
             Choose another with --web.listen-address"
        )
    );
    let error = bind(&["192.0.2.1:9823".parse().unwrap()]).unwrap_err();
    assert!(format!("{error:#}").contains("no interface of this host has that address"));
}

#[test]
fn every_address_is_served() {
    let addresses = [
        "127.0.0.1:0".parse().unwrap(),
        "127.0.0.2:0".parse().unwrap(),
    ];
    let listeners = bind(&addresses).unwrap();
    let bound: Vec<_> = listeners
        .iter()
        .map(|listener| listener.local_addr().unwrap())
        .collect();
    let (scraper, _requests) = scrape_channel();
    let (_ready, ready) = tokio::sync::watch::channel(Ok(()));
    let (_stop, stop) = tokio::sync::watch::channel(false);
    spawn(
        WebConfig::default(),
        listeners,
        ScrapeSource { scraper, ready },
        stop,
    )
    .unwrap();
    for address in bound {
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
        assert!(read_to_end(&mut stream).starts_with("HTTP/1.0 200 "));
    }
}
