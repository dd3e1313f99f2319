//! How it ends.

use std::{io::Write, net::TcpStream, time::Duration};

use super::server::{AMPLE, GET, read_response, read_to_end, serve};
use crate::exporter::Limits;

#[test]
fn idle_connections_end_with_it() {
    let server = serve(AMPLE);
    let mut stream = server.connect();
    stream.write_all(GET.as_bytes()).unwrap();
    read_response(&mut stream);
    server.stop.send(true).unwrap();
    assert_eq!(read_to_end(&mut stream), "");
    server.thread.join().unwrap().unwrap();
    assert!(
        TcpStream::connect(server.address).is_err(),
        "it still listens"
    );
}

#[test]
fn a_slow_response_is_cut_off_at_shutdown() {
    let drain = Duration::from_millis(200);
    let server = serve(Limits { drain, ..AMPLE });
    let mut stream = server.connect();
    stream.write_all(b"GET /metr").unwrap();
    // It has been taken in when a later one has been answered.
    server.get("/-/healthy");
    server.stop.send(true).unwrap();
    server.thread.join().unwrap().unwrap();
    assert_eq!(read_to_end(&mut stream), "");
}

#[test]
fn the_server_ends_when_its_sender_is_dropped() {
    let server = serve(AMPLE);
    drop(server.stop);
    server.thread.join().unwrap().unwrap();
}
