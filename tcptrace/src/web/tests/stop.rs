//! How it ends.

use std::{io::Write, net::TcpStream, time::Duration};

use tokio::time::Instant;

use super::server::{AMPLE, Answer, PATIENCE, read_response, read_to_end, serve, serve_with};
use crate::web::Limits;

const GET: &str = "GET /metrics HTTP/1.1\r\nHost: test\r\n\r\n";

#[test]
fn idle_connections_end_with_it_at_once() {
    let server = serve(AMPLE);
    let mut stream = server.connect();
    stream.write_all(GET.as_bytes()).unwrap();
    read_response(&mut stream);
    let since = Instant::now();
    server.stop.send(true).unwrap();
    assert_eq!(read_to_end(&mut stream), "");
    server.thread.join().unwrap().unwrap();
    assert!(since.elapsed() < PATIENCE / 2);
    assert!(
        TcpStream::connect(server.address).is_err(),
        "it still listens"
    );
}

#[test]
fn a_scrape_under_way_is_finished() {
    let delay = Duration::from_millis(300);
    let server = serve_with(AMPLE, Answer { delay, bulk: 0 });
    let mut stream = server.connect();
    stream.write_all(GET.as_bytes()).unwrap();
    std::thread::sleep(delay / 3);
    server.stop.send(true).unwrap();
    let response = read_to_end(&mut stream);
    assert!(response.starts_with("HTTP/1.1 200 "), "{response}");
    server.thread.join().unwrap().unwrap();
}

#[test]
fn who_takes_too_long_is_cut_off() {
    let drain = Duration::from_millis(200);
    let server = serve(Limits { drain, ..AMPLE });
    let mut stream = server.connect();
    stream.write_all(b"GET /metr").unwrap();
    // It has been taken in when a later one has been answered.
    server.get("/-/healthy");
    let since = Instant::now();
    server.stop.send(true).unwrap();
    server.thread.join().unwrap().unwrap();
    assert!(since.elapsed() < PATIENCE / 2);
    assert_eq!(read_to_end(&mut stream), "");
}

#[test]
fn it_does_not_outlive_whoever_could_stop_it() {
    let server = serve(AMPLE);
    drop(server.stop);
    server.thread.join().unwrap().unwrap();
}
