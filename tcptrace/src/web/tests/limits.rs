//! What a client cannot do to the others, or to us.

use std::{io::Write, net::TcpStream, time::Duration};

use tokio::time::Instant;

use super::server::{
    AMPLE, Answer, PATIENCE, Server, body, length, read_response, read_to_end, serve, serve_with,
};
use crate::web::Limits;

const SHORT: Duration = Duration::from_millis(300);
const GET: &str = "GET /metrics HTTP/1.1\r\nHost: test\r\n\r\n";

/// The connection is closed by the server, with nothing said, after about [`SHORT`].
fn is_closed_after_short(stream: &mut TcpStream, since: Instant) {
    assert_eq!(read_to_end(stream), "");
    let took = since.elapsed();
    assert!(took >= SHORT && took < PATIENCE / 2, "{took:?}");
}

fn is_well(server: &Server) {
    let response = server.get("/metrics");
    assert!(response.starts_with("HTTP/1.1 200 "), "{response}");
}

#[test]
fn a_request_that_never_ends_is_given_up() {
    let server = serve(Limits {
        head: SHORT,
        ..AMPLE
    });
    for start in ["", "G", "GET /metrics HTTP/1.1\r\nHost: te"] {
        let since = Instant::now();
        let mut stream = server.connect();
        stream.write_all(start.as_bytes()).unwrap();
        is_closed_after_short(&mut stream, since);
    }
}

#[test]
fn a_byte_now_and_then_does_not_buy_time() {
    let server = serve(Limits {
        head: SHORT,
        ..AMPLE
    });
    let since = Instant::now();
    let mut stream = server.connect();
    for byte in GET.bytes() {
        if stream.write_all(&[byte]).is_err() {
            break;
        }
        std::thread::sleep(SHORT / 10);
    }
    assert_eq!(read_to_end(&mut stream), "");
    assert!(since.elapsed() < PATIENCE / 2);
}

#[test]
fn a_slow_tracer_is_not_held_against_the_client() {
    let limits = Limits {
        head: SHORT,
        idle: SHORT,
        response: SHORT,
        ..AMPLE
    };
    let delay = SHORT * 2;
    let server = serve_with(limits, Answer { delay, bulk: 0 });
    let mut stream = server.connect();
    stream.write_all(GET.as_bytes()).unwrap();
    let response = read_response(&mut stream);
    assert!(response.starts_with("HTTP/1.1 200 "), "{response}");
}

#[test]
fn a_connection_can_be_used_again_but_not_kept_for_ever() {
    let server = serve(Limits {
        idle: SHORT,
        ..AMPLE
    });
    let mut stream = server.connect();
    for _ in 0..3 {
        stream.write_all(GET.as_bytes()).unwrap();
        let response = read_response(&mut stream);
        assert!(response.starts_with("HTTP/1.1 200 "), "{response}");
        std::thread::sleep(SHORT / 10);
    }
    let since = Instant::now();
    assert_eq!(read_to_end(&mut stream), "");
    assert!(since.elapsed() < PATIENCE / 2);
}

#[test]
fn the_second_head_has_the_limit_of_the_first() {
    let server = serve(Limits {
        head: SHORT,
        ..AMPLE
    });
    let mut stream = server.connect();
    stream.write_all(GET.as_bytes()).unwrap();
    read_response(&mut stream);
    // Longer than a head may take: between two requests another limit counts.
    std::thread::sleep(SHORT * 2);
    let since = Instant::now();
    stream.write_all(b"GET /met").unwrap();
    is_closed_after_short(&mut stream, since);
}

#[test]
fn who_does_not_read_is_cut_off_and_delays_nobody() {
    let limits = Limits {
        response: SHORT,
        connections: 2,
        ..AMPLE
    };
    let bulk = 12 << 20;
    let delay = Duration::ZERO;
    let server = serve_with(limits, Answer { delay, bulk });
    let mut slow = server.connect_with_small_window();
    slow.write_all(GET.as_bytes()).unwrap();
    // The response has begun.
    slow.peek(&mut [0]).unwrap();
    // The one place left serves the others meanwhile.
    server.get_until("/-/healthy", |response| {
        response.starts_with("HTTP/1.1 200 ")
    });
    std::thread::sleep(SHORT * 3);
    let got = read_to_end(&mut slow);
    assert!(got.starts_with("HTTP/1.1 200 "));
    assert!(body(&got).len() < length(&got), "it got all of it");
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
        let since = Instant::now();
        let response = server.exchange(&format!(
            "{method} /metrics HTTP/1.1\r\nHost: test\r\nContent-Length: 1000000000\r\n\r\nbegin"
        ));
        assert!(
            response.starts_with(&format!("HTTP/1.1 {status} ")),
            "{response}"
        );
        assert!(since.elapsed() < PATIENCE / 2);
    }
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

#[test]
fn connections_beyond_the_limit_are_closed_at_once_and_counted() {
    let server = serve(Limits {
        connections: 2,
        ..AMPLE
    });
    let mut held: Vec<TcpStream> = Vec::new();
    for _ in 0..2 {
        let mut stream = server.connect();
        stream.write_all(GET.as_bytes()).unwrap();
        read_response(&mut stream);
        held.push(stream);
    }
    for _ in 0..3 {
        let mut stream = server.connect();
        assert_eq!(read_to_end(&mut stream), "");
    }
    held[0].write_all(GET.as_bytes()).unwrap();
    let response = read_response(&mut held[0]);
    assert!(
        response.contains("\ntcptrace_web_connections_rejected_total 3\n"),
        "{response}"
    );
    // A place that is given back can be had again.
    held.pop();
    server.get_until("/metrics", |response| response.starts_with("HTTP/1.1 200 "));
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
    let since = Instant::now();
    is_well(&server);
    assert!(since.elapsed() < PATIENCE / 4);
    drop(idle);
}

#[test]
fn scrapes_at_the_same_time_are_all_answered() {
    let delay = Duration::from_millis(5);
    let server = serve_with(AMPLE, Answer { delay, bulk: 0 });
    std::thread::scope(|scope| {
        for _ in 0..20 {
            scope.spawn(|| is_well(&server));
        }
    });
}
