//! Answers `/metrics`, `/healthz` and `/readyz` over HTTP, with TLS and a bearer token where others can reach it.
//!
//! Reads one small request and answers it; keeps no connection, takes no body, knows no other path. What it tells is `metrics`'
//! business.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, AUTHORIZATION, CONNECTION, CONTENT_TYPE, WWW_AUTHENTICATE};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use lifeboat_config::MetricsConfig;
use lifeboat_schema::{Digest, Time};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;

use crate::metrics::{Health, Metrics};

/// Connections that are answered at once; more wait.
const MAX_CONNECTIONS: usize = 16;

/// A connection is closed after so long, whatever it is doing.
const MAX_CONNECTION_TIME: Duration = Duration::from_secs(30);

/// Longest bearer token in bytes.
const MAX_TOKEN_BYTES: usize = 4096;

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Why the listener cannot start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ListenerError {
    /// The address is taken or not this machine's.
    #[error("{listen} cannot be listened on: {source}. Choose another address as metrics.listen")]
    Bind {
        /// The address.
        listen: SocketAddr,
        /// The operating system's reason.
        #[source]
        source: std::io::Error,
    },
    /// A file cannot be used.
    #[error("{path} cannot be used for metrics.{key}: {why}")]
    File {
        /// The file.
        path: PathBuf,
        /// The key of the configuration.
        key: &'static str,
        /// What is wrong.
        why: String,
    },
}

/// A listener that has its address and does not answer yet.
pub struct Listener {
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    token: Option<Digest>,
}

impl Listener {
    /// Takes the address and reads the files that the configuration names. `address` is its parsed `listen`.
    ///
    /// # Errors
    /// [`ListenerError`].
    pub async fn bind(config: &MetricsConfig, address: SocketAddr) -> Result<Self, ListenerError> {
        let tls = match (&config.tls_certificate, &config.tls_key) {
            (Some(certificate), Some(key)) => Some(acceptor(certificate, key)?),
            _ => None,
        };
        let token = config.token_file.as_deref().map(read_token).transpose()?;
        let bound = TcpListener::bind(address).await;
        let listener = bound.map_err(|source| ListenerError::Bind { listen: address, source })?;
        Ok(Self { listener, tls, token })
    }

    /// The address that it has.
    ///
    /// # Errors
    /// That of the operating system.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Answers until the future is dropped. `now` is the clock.
    pub async fn serve(self, metrics: Arc<Metrics>, now: Arc<dyn Fn() -> Time + Send + Sync>) {
        let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let mut connections = tokio::task::JoinSet::new();
        loop {
            while connections.try_join_next().is_some() {}
            let permit = Arc::clone(&permits).acquire_owned().await.expect("the semaphore is never closed");
            let stream = match self.listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Such as too many open files: wait for others to close theirs.
                    tracing::warn!(%error, "a connection for metrics was not taken");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    continue;
                }
            };
            let (tls, token) = (self.tls.clone(), self.token);
            let (metrics, now) = (Arc::clone(&metrics), Arc::clone(&now));
            connections.spawn(async move {
                let talk = async {
                    match tls {
                        None => talk(stream, token, metrics, now).await,
                        Some(tls) => match tls.accept(stream).await {
                            Ok(stream) => talk(stream, token, metrics, now).await,
                            Err(error) => {
                                tracing::debug!(%error, "a TLS connection for metrics did not stand")
                            }
                        },
                    }
                };
                let _ = tokio::time::timeout(MAX_CONNECTION_TIME, talk).await;
                drop(permit);
            });
        }
    }
}

async fn talk(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send,
    token: Option<Digest>,
    metrics: Arc<Metrics>,
    now: Arc<dyn Fn() -> Time + Send + Sync>,
) {
    let service = service_fn(|request| {
        let (metrics, now) = (Arc::clone(&metrics), now());
        async move { Ok::<_, Infallible>(answer(&request, token, metrics, now).await) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_secs(10))
        .max_buf_size(16 << 10)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = connection.await {
        tracing::debug!(%error, "a connection for metrics broke");
    }
}

async fn answer(
    request: &Request<Incoming>,
    token: Option<Digest>,
    metrics: Arc<Metrics>,
    now: Time,
) -> Response<Full<Bytes>> {
    let path = request.uri().path();
    if !matches!(path, "/metrics" | "/healthz" | "/readyz") {
        return text(StatusCode::NOT_FOUND, "there are /metrics, /healthz and /readyz\n");
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n");
        response.headers_mut().insert(ALLOW, hyper::header::HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    // A load balancer has no token, and learns from these two only whether the agent is well.
    if path == "/metrics" && !allowed(request, token) {
        let mut response = text(StatusCode::UNAUTHORIZED, "a bearer token is needed\n");
        response.headers_mut().insert(WWW_AUTHENTICATE, hyper::header::HeaderValue::from_static("Bearer"));
        return response;
    }
    match path {
        "/healthz" => health(&metrics.health(now)),
        "/readyz" => match tokio::task::spawn_blocking(move || metrics.readiness()).await {
            Ok(readiness) => health(&readiness),
            Err(_) => text(StatusCode::INTERNAL_SERVER_ERROR, "the agent fails\n"),
        },
        _ => match tokio::task::spawn_blocking(move || metrics.render()).await {
            Ok(Ok(body)) => respond(StatusCode::OK, OPEN_METRICS, body),
            Ok(Err(error)) => {
                tracing::error!(%error, "metrics cannot be told");
                text(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "the catalog cannot be read; the agent's log says why\n",
                )
            }
            Err(_) => text(StatusCode::INTERNAL_SERVER_ERROR, "the agent fails\n"),
        },
    }
}

/// Compares digests: how long that takes says nothing about the token.
fn allowed(request: &Request<Incoming>, token: Option<Digest>) -> bool {
    let Some(token) = token else { return true };
    let given = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let given = given.and_then(|value| value.split_once(' '));
    given.is_some_and(|(scheme, given)| {
        scheme.eq_ignore_ascii_case("bearer")
            && given.len() <= MAX_TOKEN_BYTES
            && Digest::of(given.trim().as_bytes()) == token
    })
}

fn health(health: &Health) -> Response<Full<Bytes>> {
    let status = if health.ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let mut body = serde_json::to_string(health).expect("plain values");
    body.push('\n');
    respond(status, "application/json", body)
}

fn text(status: StatusCode, body: &'static str) -> Response<Full<Bytes>> {
    respond(status, "text/plain; charset=utf-8", body.to_owned())
}

fn respond(status: StatusCode, kind: &'static str, body: String) -> Response<Full<Bytes>> {
    Response::builder()
        .status(status)
        .header(CONTENT_TYPE, kind)
        .header(CONNECTION, "close")
        .body(Full::new(Bytes::from(body)))
        .expect("constant headers are valid")
}

fn read_token(path: &Path) -> Result<Digest, ListenerError> {
    let bad = |why: String| ListenerError::File { path: path.to_owned(), key: "token_file", why };
    let text = std::fs::read_to_string(path).map_err(|error| bad(error.to_string()))?;
    let token = text.lines().next().unwrap_or_default().trim();
    if token.len() < 16 || token.len() > MAX_TOKEN_BYTES {
        return Err(bad("its first line must be a token of 16 to 4096 characters".to_owned()));
    }
    Ok(Digest::of(token.as_bytes()))
}

fn acceptor(certificate: &Path, key: &Path) -> Result<TlsAcceptor, ListenerError> {
    let bad = |path: &Path, name: &'static str, why: String| ListenerError::File {
        path: path.to_owned(),
        key: name,
        why,
    };
    let in_certificate = |why: String| bad(certificate, "tls_certificate", why);
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect)
        .map_err(|error| in_certificate(error.to_string()))?;
    let key_der =
        PrivateKeyDer::from_pem_file(key).map_err(|error| bad(key, "tls_key", error.to_string()))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| in_certificate(error.to_string()))?
        .with_no_client_auth()
        .with_single_cert(chain, key_der)
        .map_err(|error| in_certificate(error.to_string()))?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

#[cfg(test)]
mod tests;
