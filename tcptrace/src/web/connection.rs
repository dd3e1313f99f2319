//! One connection: HTTP/1 over it, until either side is done.

use std::{convert::Infallible, pin::pin, sync::Arc};

use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::watch,
};

use super::{HEAD_BYTES, deadline::Deadline, places::Place, routes::Site, stopped};

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
        async move { Ok::<_, Infallible>(site.respond(&head).await) }
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
