//! One connection: HTTP/1 over it, until either side is done.

use std::{convert::Infallible, pin::pin, sync::Arc};

use http_body_util::Full;
use hyper::{
    Response, StatusCode,
    body::{Bytes, Incoming},
    header::{HeaderValue, WWW_AUTHENTICATE},
    http::request::Parts,
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::watch,
    time::timeout,
};

use super::{HEAD_BYTES, deadline::Deadline, places::Place, routes::Site, stopped};

/// Serves one connection, by TLS if that is asked for.
pub(super) async fn serve_by_rules(
    stream: TcpStream,
    site: Arc<Site>,
    place: Place,
    shutdown: watch::Receiver<bool>,
) {
    let Some(tls) = site.access.rules().tls.clone() else {
        return serve(stream, site, place, shutdown).await;
    };
    let client = Arc::clone(&place.client);
    let accepted = tokio::select! {
        accepted = timeout(site.limits().head, tls.accept(stream)) => accepted,
        () = client.evicted() => return,
    };
    match accepted {
        Ok(Ok(stream)) => serve(stream, site, place, shutdown).await,
        Ok(Err(error)) => tracing::debug!("a TLS handshake failed: {error}"),
        Err(_) => tracing::debug!("a TLS handshake took too long"),
    }
}

/// The response to one request, if whoever sent it may ask.
async fn respond(site: &Site, request: &Parts) -> Response<Full<Bytes>> {
    let rules = site.access.rules();
    let mut response = if site.access.admits(&rules, request).await {
        site.respond(request).await
    } else {
        let mut response = Response::new(Full::from("401 who are you?\n"));
        *response.status_mut() = StatusCode::UNAUTHORIZED;
        let basic = HeaderValue::from_static("Basic realm=\"tcptrace\"");
        response.headers_mut().insert(WWW_AUTHENTICATE, basic);
        response
    };
    response.headers_mut().extend(rules.headers.iter().cloned());
    response
}

/// Serves one connection, for as long as it has its place.
pub(super) async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send,
    site: Arc<Site>,
    place: Place,
    mut shutdown: watch::Receiver<bool>,
) {
    let client = &place.client;
    let io = Deadline::new(TokioIo::new(stream), site.limits(), Arc::clone(client));
    let service = service_fn(|request: hyper::Request<Incoming>| {
        client.is_served();
        let site = Arc::clone(&site);
        // The body is not looked at: hyper closes the connection rather than read it.
        let (head, _) = request.into_parts();
        async move { Ok::<_, Infallible>(respond(&site, &head).await) }
    });
    let mut connection = pin!(
        http1::Builder::new()
            .max_buf_size(HEAD_BYTES)
            // A client that has no more to say is answered all the same.
            .half_close(true)
            .header_read_timeout(None)
            .serve_connection(io, service)
    );
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = client.evicted() => return,
        () = stopped(&mut shutdown) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        // A stranger's bytes are no reason to fill the log.
        tracing::debug!("a web connection ended: {error}");
    }
}
