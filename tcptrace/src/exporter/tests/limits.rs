//! What a client cannot do to the others, or to us. Limits of time are in `deadlines.rs`.

use std::{
    io::Write,
    net::{Shutdown, TcpStream},
};

use super::server::{AMPLE, Answer, GET, Server, read_response, read_to_end, serve, serve_with};
use crate::exporter::Limits;

fn is_well(server: &Server) {
    let response = server.get("/metrics");
    assert!(response.starts_with("HTTP/1.1 200 "), "{response}");
}

#[test]
fn heads_beyond_the_limit_are_refused() {
    let server = serve(AMPLE);
    for (name, count) in [("x-huge", 1), ("x-many", 200)] {
        let value = "a".repeat(10_000 / count);
        let mut head = "GET /metrics HTTP/1.1\r\nHost: test\r\n".to_owned();
        for at in 0..count {
            head += &format!("{name}-{at}: {value}\r\n");
        }
        let response = server.exchange(&(head + "\r\n"));
        // What we did not read makes the kernel send a RST, which can overtake the answer.
        let refused = response.is_empty() || response.starts_with("HTTP/1.1 431 ");
        assert!(refused, "{response}");
    }
    is_well(&server);
}

#[test]
fn garbage_is_refused_and_harms_nobody() {
    let server = serve(AMPLE);
    for garbage in [
        "\0\0\0\0\0\0\0\0\r\n\r\n",
        "\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\u{1}\u{fc}\u{3}\u{3}",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "GET\r\n\r\n",
        "GET /metrics HTTP/1.1\r\n: no name\r\n\r\n",
        "GET /metrics HTTP/1.1\r\nContent-Length: many\r\n\r\n",
    ] {
        let response = server.exchange(garbage);
        let refused = response.is_empty() || response.starts_with("HTTP/1.1 400 ");
        assert!(refused, "{garbage:?} got {response}");
    }
    is_well(&server);
}

#[test]
fn bodies_are_not_waited_for() {
    let server = serve(AMPLE);
    for (method, status) in [("GET", 200), ("POST", 405)] {
        let response = server.exchange(&format!(
            "{method} /metrics HTTP/1.1\r\nHost: test\r\nContent-Length: 1000000000\r\n\r\nbegin"
        ));
        assert!(
            response.starts_with(&format!("HTTP/1.1 {status} ")),
            "{response}"
        );
    }
}

#[test]
fn a_client_that_half_closes_gets_its_response() {
    let server = serve(AMPLE);
    for (request, answers) in [
        (GET.repeat(2), 2),
        (String::new(), 0),
        ("GET /met".into(), 0),
    ] {
        let mut stream = server.connect();
        stream.write_all(request.as_bytes()).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let response = read_to_end(&mut stream);
        let count = response.matches("HTTP/1.1 200 OK").count();
        assert_eq!(count, answers, "{request:?}: {response}");
    }
    is_well(&server);
}

#[test]
fn requests_in_one_go_are_answered_one_by_one() {
    let server = serve(AMPLE);
    let mut stream = server.connect();
    stream.write_all(GET.repeat(5).as_bytes()).unwrap();
    for _ in 0..5 {
        assert!(read_response(&mut stream).starts_with("HTTP/1.1 200 "));
    }
}

/// A connection that has had its response.
fn idle_connection(server: &Server) -> TcpStream {
    let mut stream = server.connect();
    stream.write_all(GET.as_bytes()).unwrap();
    let response = read_response(&mut stream);
    assert!(response.starts_with("HTTP/1.1 200 "), "{response}");
    stream
}

#[test]
fn the_connection_that_was_idle_longest_makes_room() {
    let server = serve(Limits {
        connections: 2,
        ..AMPLE
    });
    let mut first = idle_connection(&server);
    let mut second = idle_connection(&server);
    let mut third = idle_connection(&server);
    assert_eq!(read_to_end(&mut first), "");
    for stream in [&mut second, &mut third] {
        stream.write_all(GET.as_bytes()).unwrap();
        let response = read_response(stream);
        for line in [
            "tcptrace_web_connections_evicted_total 1",
            "tcptrace_web_connections_rejected_total 0",
        ] {
            assert!(response.contains(&format!("\n{line}\n")), "{response}");
        }
    }
}

#[test]
fn idle_clients_cannot_keep_a_scraper_out() {
    let server = serve(Limits {
        connections: 8,
        ..AMPLE
    });
    // The one that scrapes is there all the time, and asks now and then.
    let mut scraper = idle_connection(&server);
    let mut idlers = Vec::new();
    for at in 0..64 {
        let mut stream = server.connect();
        let begun = if at % 2 == 0 { "" } else { "GET /metrics HT" };
        // It may have lost its slot to a later one already.
        drop(stream.write_all(begun.as_bytes()));
        idlers.push(stream);
        if at % 4 == 0 {
            scraper.write_all(GET.as_bytes()).unwrap();
            let response = read_response(&mut scraper);
            assert!(response.starts_with("HTTP/1.1 200 "), "{response}");
        }
    }
    is_well(&server);
    drop(idlers);
}

#[test]
fn connections_beyond_the_limit_are_closed_at_once_when_all_are_busy() {
    let (let_go, gate) = tokio::sync::oneshot::channel();
    let server = serve_with(
        Limits {
            connections: 2,
            ..AMPLE
        },
        Answer { gate: Some(gate) },
    );
    let mut busy: Vec<TcpStream> = (0..2).map(|_| server.connect()).collect();
    // They would share one scrape if they asked for the same.
    let accept = "Accept: application/openmetrics-text\r\n\r\n";
    let other = GET.replace("\r\n\r\n", &format!("\r\n{accept}"));
    for (stream, request) in busy.iter_mut().zip([GET, &other]) {
        stream.write_all(request.as_bytes()).unwrap();
    }
    // Both scrapes are asked for: from then on their connections are busy.
    server.wait_until_asked(2);
    for _ in 0..3 {
        assert_eq!(read_to_end(&mut server.connect()), "");
    }
    drop(let_go);
    for stream in &mut busy {
        let response = read_response(stream);
        let line = "\ntcptrace_web_connections_rejected_total 3\n";
        assert!(response.contains(line), "{response}");
    }
    // A slot that is given back can be had again.
    busy.pop();
    is_well(&server);
}

#[test]
fn idle_connections_do_not_hold_up_a_scrape() {
    let server = serve(Limits {
        connections: 512,
        ..AMPLE
    });
    let idle: Vec<TcpStream> = (0..400)
        .map(|at| {
            let mut stream = server.connect();
            let begun = if at % 2 == 0 { "" } else { "GET /metrics HT" };
            stream.write_all(begun.as_bytes()).unwrap();
            stream
        })
        .collect();
    is_well(&server);
    drop(idle);
}

#[test]
fn scrapes_at_the_same_time_are_all_answered() {
    let server = serve(AMPLE);
    std::thread::scope(|scope| {
        for _ in 0..20 {
            scope.spawn(|| is_well(&server));
        }
    });
}
