//! `--listen`: readiness, health and metrics of the worker over HTTP.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::stats::Stats;

/// Answers until the worker has ended.
pub(crate) async fn run(listener: TcpListener, stats: Arc<Stats>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((socket, _)) => {
                    let stats = stats.clone();
                    connections.spawn(async move {
                        let service = service_fn(|request| {
                            let answer = answer(&request, &stats);
                            async { Ok::<_, Infallible>(answer) }
                        });
                        let connection = http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(socket), service);
                        if let Err(e) = connection.await {
                            tracing::debug!("a connection to --listen broke: {e}");
                        }
                    });
                }
                Err(e) => {
                    tracing::warn!("cannot accept a connection to --listen: {e}");
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Binds the port, and logs the address.
pub(crate) async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let listener = TcpListener::bind(address).await.map_err(|e| {
        let hint = match e.kind() {
            io::ErrorKind::AddrInUse => {
                "; another program listens there: stop it, or choose another port with --listen (0: a free one)"
            }
            _ => "",
        };
        anyhow::anyhow!("cannot listen on {address}: {e}{hint}")
    })?;
    tracing::info!(address = %listener.local_addr()?, "serving readiness and metrics");
    Ok(listener)
}

fn answer(request: &Request<Incoming>, stats: &Stats) -> Response<Full<Bytes>> {
    let (status, body) = match (request.method(), request.uri().path()) {
        (&Method::GET | &Method::HEAD, "/ready") if stats.is_ready() => {
            (StatusCode::OK, "ready\n".to_owned())
        }
        (&Method::GET | &Method::HEAD, "/ready") => {
            (StatusCode::SERVICE_UNAVAILABLE, "not all job streams are open\n".to_owned())
        }
        (&Method::GET | &Method::HEAD, "/health") => (StatusCode::OK, "ok\n".to_owned()),
        (&Method::GET | &Method::HEAD, "/metrics") => (StatusCode::OK, stats.metrics()),
        (_, "/ready" | "/health" | "/metrics") => (StatusCode::METHOD_NOT_ALLOWED, "use GET\n".to_owned()),
        _ => (StatusCode::NOT_FOUND, "use /ready, /health or /metrics\n".to_owned()),
    };
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    let kind = hyper::header::HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(hyper::header::CONTENT_TYPE, kind);
    response
}
