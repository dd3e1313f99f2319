//! One connection: HTTP until either side is done.

use std::{
    convert::Infallible,
    future::{Future, pending},
    pin::pin,
    sync::Arc,
};

use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode, Version,
    body::{Bytes, Incoming},
    header::{CONTENT_LENGTH, HOST, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE},
    http::request::Parts,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::graceful::GracefulConnection,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::watch,
    time::timeout,
};

use super::{
    access::Admission,
    activity::Http2Activity,
    config::HEAD_BYTES,
    deadline::Deadline,
    routes::Router,
    slots::{Client, ConnectionSlot},
    stopped,
};

/// The most requests in progress on an HTTP/2 connection.
const STREAMS: u32 = 2;
/// The most bytes that an HTTP/2 client can send before they are read: the least possible (RFC
/// 9113, section 6.9.2).
const WINDOW: u32 = 65_535;

/// Serves one connection, over TLS if configured.
pub(super) async fn serve_by_rules(
    stream: TcpStream,
    router: Arc<Router>,
    slot: ConnectionSlot,
    shutdown: watch::Receiver<bool>,
) {
    let rules = router.access.rules();
    let Some(tls) = rules.tls.clone() else {
        return serve(stream, router, slot, shutdown).await;
    };
    let client = Arc::clone(&slot.client);
    let accepted = tokio::select! {
        accepted = timeout(router.limits().head, tls.accept(stream)) => accepted,
        () = client.evicted() => return,
    };
    if matches!(accepted, Ok(Ok(_))) && rules.knows_clients() {
        client.set_known();
    }
    match accepted {
        Ok(Ok(stream)) if stream.get_ref().1.alpn_protocol() == Some(b"h2") => {
            serve_http2(stream, router, slot, shutdown).await;
        }
        Ok(Ok(stream)) => serve(stream, router, slot, shutdown).await,
        Ok(Err(error)) => tracing::debug!("a TLS handshake failed: {error}"),
        Err(_) => tracing::debug!("a TLS handshake took too long"),
    }
}

/// Returns the response to one request, if the client may ask.
async fn respond(router: &Router, client: &Client, request: &Parts) -> Response<Bytes> {
    let rules = router.access.rules();
    // RFC 9112, section 3.2.
    if request.version == Version::HTTP_11 && request.headers.get_all(HOST).iter().count() != 1 {
        let mut response = Response::new("400 bad request: one Host is needed\n".into());
        *response.status_mut() = StatusCode::BAD_REQUEST;
        return response;
    }
    let refusal = |status, why: &'static str, header, value| {
        let mut response = Response::new(why.into());
        *response.status_mut() = status;
        let value = HeaderValue::from_static(value);
        response.headers_mut().insert(header, value);
        response
    };
    let admission = match rules.has_token() {
        true => Some(router.access.admits(&rules, client.from, request).await),
        false => None,
    };
    let mut response = match admission {
        Some(Admission::Public) => router.respond(request).await,
        Some(Admission::Known) => {
            client.set_known();
            router.respond(request).await
        }
        Some(Admission::Denied) => refusal(
            StatusCode::UNAUTHORIZED,
            "401 who are you?\n",
            WWW_AUTHENTICATE,
            "Basic realm=\"tcptrace\"",
        ),
        Some(Admission::Busy) => refusal(
            StatusCode::SERVICE_UNAVAILABLE,
            "503 too many passwords are being checked: try again\n",
            RETRY_AFTER,
            "1",
        ),
        None => refusal(
            StatusCode::TOO_MANY_REQUESTS,
            "429 too many requests: rate_limit\n",
            RETRY_AFTER,
            "1",
        ),
    };
    response.headers_mut().extend(rules.headers.iter().cloned());
    response
}

/// Serves one connection by HTTP/1, as long as it has its slot.
pub(super) async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    router: Arc<Router>,
    slot: ConnectionSlot,
    shutdown: watch::Receiver<bool>,
) {
    let client = &slot.client;
    let io = Deadline::new(TokioIo::new(stream), router.limits(), Arc::clone(client));
    let service = service_fn(|request: Request<Incoming>| {
        client.begin_response();
        let router = Arc::clone(&router);
        // The body is ignored: hyper closes the connection rather than read it.
        let (head, _) = request.into_parts();
        let client = Arc::clone(client);
        async move { Ok::<_, Infallible>(respond(&router, &client, &head).await.map(Full::new)) }
    });
    let connection = http1::Builder::new()
        .max_buf_size(HEAD_BYTES)
        // A client that has sent its last byte is still answered.
        .half_close(true)
        .header_read_timeout(None)
        .serve_connection(io, service);
    drive(connection, pending(), client, shutdown).await;
}

/// Serves one connection by HTTP/2, as long as it has its slot.
pub(super) async fn serve_http2(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    router: Arc<Router>,
    slot: ConnectionSlot,
    shutdown: watch::Receiver<bool>,
) {
    let limits = router.limits();
    let activity = Http2Activity::new(Arc::clone(&slot.client));
    let service = service_fn(|request: Request<Incoming>| {
        let request_activity = activity.begin();
        let router = Arc::clone(&router);
        let (head, _) = request.into_parts();
        let client = Arc::clone(&slot.client);
        async move {
            let mut response = respond(&router, &client, &head).await;
            // With HTTP/2, hyper leaves it to us that a response to HEAD has no body.
            if head.method == Method::HEAD {
                let length = response.body().len().into();
                response.headers_mut().insert(CONTENT_LENGTH, length);
                response.body_mut().clear();
            }
            Ok::<_, Infallible>(response.map(|bytes| request_activity.body(bytes)))
        }
    });
    let connection = http2::Builder::new(TokioExecutor::new())
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(HEAD_BYTES as u32)
        .initial_connection_window_size(WINDOW)
        .initial_stream_window_size(WINDOW)
        .serve_connection(TokioIo::new(stream), service);
    drive(connection, activity.overdue(limits), &slot.client, shutdown).await;
}

/// Drives a connection until it ends, its client has lost its slot or is overdue, or it is time to
/// stop.
async fn drive(
    connection: impl GracefulConnection<Error = hyper::Error>,
    overdue: impl Future<Output = ()>,
    client: &Client,
    mut shutdown: watch::Receiver<bool>,
) {
    let mut connection = pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = client.evicted() => return,
        () = overdue => return,
        () = stopped(&mut shutdown) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        // Bytes from outside must not fill the log.
        tracing::debug!("a web connection ended: {error}");
    }
}
