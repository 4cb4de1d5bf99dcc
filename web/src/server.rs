//! Listening, accepting, and stopping in good order.

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use warp::Filter;
use warp::reply::Response as Reply;

use crate::cluster::{Carrier, Directory};
use crate::config::Config;
use crate::hub::Hub;
use crate::levers::Levers;
use crate::routes::{self, Origin};
use crate::sockjs::answer::Endpoint;
use crate::sockjs::carriage::Answers;
use crate::websocket::poller::Pollers;

/// Connections that the kernel holds until they are accepted.
const BACKLOG: i32 = 1024;

/// The pause after an accept that failed for want of file descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What the kernel may hold for one connection that does not read, before its bookkeeping (Linux
/// doubles it). Without a bound it grows to megabytes, and what waits in it is stale on arrival.
const SEND_BUFFER_BYTES: usize = 208 * 1024;

/// However short a silence is taken for death, packets that are lost are sent again for this long.
#[cfg(target_os = "linux")]
const UNACKNOWLEDGED_MIN: Duration = Duration::from_secs(5);

/// What hyper may buffer of one request's headers.
const REQUEST_BUFFER_BYTES: usize = 64 * 1024;

/// The web edge of one node, bound to its addresses.
pub struct Server {
    config: Arc<Config>,
    listeners: Vec<TcpListener>,
    hub: Hub,
    directory: Arc<dyn Directory>,
    sockjs: Arc<Endpoint>,
    levers: Option<Arc<dyn Levers>>,
}

/// An address could not be listened on; nothing is bound any more.
#[derive(Debug, Error)]
#[error("cannot listen for browsers on {addr}: {source}")]
pub struct BindError {
    /// The address.
    pub addr: SocketAddr,
    /// What the system said.
    pub source: io::Error,
}

impl Server {
    /// Listens on every address of `config`. From then on clients can connect; they are answered
    /// once the server [runs](Server::run). Needs a tokio runtime.
    pub fn bind(
        config: Config,
        hub: Hub,
        directory: Arc<dyn Directory>,
    ) -> Result<Self, BindError> {
        let listeners = config
            .listen
            .iter()
            .map(|addr| {
                listen(*addr).map_err(|source| BindError {
                    addr: *addr,
                    source,
                })
            })
            .collect::<Result<_, _>>()?;
        let config = Arc::new(config);
        let sockjs = Endpoint::new(hub.clone(), config.clone(), directory.clone(), None);
        Ok(Self {
            config,
            listeners,
            hub,
            directory,
            sockjs,
            levers: None,
        })
    }

    /// The server of a node that has others around it: requests of sessions that they have are carried to
    /// them. Comes before [`Server::answers`].
    #[must_use]
    pub fn with_carrier(mut self, carrier: Arc<dyn Carrier>) -> Self {
        let (hub, directory) = (self.hub.clone(), self.directory.clone());
        self.sockjs = Endpoint::new(hub, self.config.clone(), directory, Some(carrier));
        self
    }

    /// The server of a node that can be broken on purpose, over HTTP: for loopback addresses alone.
    #[must_use]
    pub fn with_levers(mut self, levers: Arc<dyn Levers>) -> Self {
        self.levers = Some(levers);
        self
    }

    /// What answers requests of sessions that this node has and that came to other nodes.
    pub fn answers(&self) -> Answers {
        self.sockjs.answers()
    }

    /// The addresses listened on, in the order of the configuration, with the real port where the
    /// configuration said 0.
    pub fn local_addrs(&self) -> Vec<SocketAddr> {
        self.listeners
            .iter()
            .filter_map(|listener| listener.local_addr().ok())
            .collect()
    }

    /// Serves until `shutdown` resolves. Then stops accepting, closes every WebSocket with code
    /// 1012, and returns when all connections are gone, at the latest after
    /// [`Config::shutdown_timeout`].
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        let Self {
            config,
            listeners,
            hub,
            directory,
            sockjs,
            levers,
        } = self;
        let (stop, stopping) = watch::channel(false);
        let pollers = match Pollers::start(config.threads, &hub, &config) {
            Ok(pollers) => Arc::new(pollers),
            Err(error) => {
                tracing::error!(%error, "the threads that serve connections cannot be started");
                return;
            }
        };
        let connections = Arc::new(Semaphore::new(config.connections_max));
        let metrics = hub.metrics().clone();
        let context = routes::Context {
            hub,
            directory,
            pollers: pollers.clone(),
            sockjs: sockjs.clone(),
            listing: Arc::default(),
            levers,
            shutdown: stopping.clone(),
        };
        let routes = routes::routes(context);
        let accept = async {
            loop {
                // Taken before accepting, so that whoever finds no room waits in the backlog.
                let Ok(permit) = connections.clone().acquire_owned().await else {
                    return;
                };
                match accept_any(&listeners).await {
                    Ok((stream, peer)) => {
                        let origin = Origin {
                            peer,
                            permit: Arc::new(permit),
                        };
                        let served = serve(
                            stream,
                            origin,
                            routes.clone(),
                            config.clone(),
                            stopping.clone(),
                        );
                        tokio::spawn(served);
                    }
                    Err(error) if is_one_client(&error) => metrics.accept_errors.increment(),
                    Err(error) => {
                        metrics.accept_errors.increment();
                        tracing::warn!(%error, "cannot accept a connection");
                        sleep(ACCEPT_PAUSE).await;
                    }
                }
            }
        };
        tokio::select! {
            () = accept => {}
            () = shutdown => {}
        }
        drop(listeners);
        tracing::info!(
            connections = config.connections_max - connections.available_permits(),
            "closing all connections"
        );
        stop.send_replace(true);
        sockjs.stop();
        pollers.stop();
        let all = u32::try_from(config.connections_max).unwrap_or(u32::MAX);
        if timeout(config.shutdown_timeout, connections.acquire_many(all))
            .await
            .is_err()
        {
            tracing::warn!("some connections did not close in time");
        }
        pollers.quit();
    }
}

fn listen(addr: SocketAddr) -> io::Result<TcpListener> {
    use socket2::{Domain, Protocol, Socket, Type};
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    if addr.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // On Unix this allows a restart while old connections linger; a second listener is still refused.
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// The next connection on any of the listeners.
async fn accept_any(listeners: &[TcpListener]) -> io::Result<(TcpStream, SocketAddr)> {
    poll_fn(|cx| {
        for listener in listeners {
            if let Poll::Ready(accepted) = listener.poll_accept(cx) {
                return Poll::Ready(accepted);
            }
        }
        Poll::Pending
    })
    .await
}

/// Whether an accept failed because of that one client, so that the next may succeed at once.
fn is_one_client(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
    )
}

/// Serves one connection, encrypted if the configuration says so.
async fn serve<F>(
    stream: TcpStream,
    origin: Origin,
    routes: F,
    config: Arc<Config>,
    stopping: watch::Receiver<bool>,
) where
    F: Filter<Extract = (Reply,), Error = Infallible> + Clone + Send + Sync + 'static,
{
    let peer = origin.peer;
    if let Err(error) = prepare(&stream, config.dead_after) {
        tracing::debug!(%peer, %error, "connection lost before its first request");
        return;
    }
    let Some(tls) = &config.tls else {
        return serve_http(stream, origin, routes, config, stopping).await;
    };
    let handshake = TlsAcceptor::from(tls.server()).accept(stream);
    match timeout(config.header_timeout, handshake).await {
        Ok(Ok(stream)) => serve_http(stream, origin, routes, config, stopping).await,
        Ok(Err(error)) => tracing::debug!(%peer, %error, "TLS handshake failed"),
        Err(_) => tracing::debug!(%peer, "TLS handshake took too long"),
    }
}

/// Serves one connection's requests, until it closes or becomes a WebSocket.
async fn serve_http<S, F>(
    stream: S,
    origin: Origin,
    routes: F,
    config: Arc<Config>,
    mut stopping: watch::Receiver<bool>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    F: Filter<Extract = (Reply,), Error = Infallible> + Clone + Send + Sync + 'static,
{
    let peer = origin.peer;
    let warp = TowerToHyperService::new(warp::service(routes));
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(origin.clone());
        warp.call(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(config.header_timeout)
        .keep_alive(true)
        .half_close(false)
        .max_buf_size(REQUEST_BUFFER_BYTES)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    tokio::pin!(connection);
    let outcome = tokio::select! {
        outcome = connection.as_mut() => outcome,
        _ = stopping.changed() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = outcome {
        tracing::debug!(%peer, %error, "request failed");
    }
}

/// Sets a client's socket up. What it does not acknowledge within `dead_after` ends it: over HTTP there is
/// no pong, and the next heartbeat is what a client that vanished does not acknowledge.
fn prepare(stream: &TcpStream, dead_after: Duration) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = socket2::SockRef::from(stream);
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(dead_after.max(UNACKNOWLEDGED_MIN)))?;
    socket.set_send_buffer_size(SEND_BUFFER_BYTES)
}
