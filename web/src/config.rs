//! Settings of the web edge.

use std::net::SocketAddr;
use std::num::NonZero;
use std::time::Duration;

pub use crate::tls::Tls;
pub use crate::token::Secret;

/// The largest value that [`Config::message_bytes_max`] may take: what the mesh carries in one
/// message, less what the server adds to it.
pub const MESSAGE_BYTES_LIMIT: usize = 128 * 1024;

/// Settings of the web edge. [`Config::default`] fits one node on one machine; the program that
/// embeds the crate fills in `listen`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Addresses that browsers connect to, served alike. An IPv6 address is IPv6 only, so that
    /// `0.0.0.0` and `[::]` can stand side by side. Defaults to `127.0.0.1:7071` and `[::1]:7071`.
    pub listen: Vec<SocketAddr>,
    /// Connections of all kinds at a time; further ones wait in the listener's backlog. Each costs
    /// a file descriptor. Defaults to 10,000.
    pub connections_max: usize,
    /// The largest message a client may send, in bytes after reassembly, 1 to
    /// [`MESSAGE_BYTES_LIMIT`]. A larger one closes the connection with code 1009. Defaults to
    /// 65,536.
    pub message_bytes_max: usize,
    /// The least time between two flushes of a room. Higher saves CPU (a flush is one write per
    /// connection), lower saves latency; a room that was quiet flushes at once either way. Sane
    /// from 5 to 100 ms. Defaults to 16 ms.
    pub tick: Duration,
    /// Threads that serve connections and flush rooms, at least 1. Defaults to one per processor less one,
    /// which is left to the mesh and to what is asked over HTTP.
    pub threads: usize,
    /// What browsers are served with over TLS. Defaults to none: they are served in the clear.
    pub tls: Option<Tls>,
    /// The time a client has to send a request's headers, and to finish a TLS handshake before. Defaults
    /// to 10 s.
    pub header_timeout: Duration,
    /// Bytes that wait for one connection's socket before that connection skips ahead to the newest
    /// message per sender. Defaults to 256 KiB.
    pub outbox_bytes_max: usize,
    /// Memory that all connections together may make the node keep: what waits in outboxes, the
    /// newest messages that rooms keep for those who are behind, and messages that are not finished.
    /// Past it the connection that holds something for longest skips ahead or is closed. Defaults to
    /// 16 MiB.
    pub backlog_bytes_max: usize,
    /// Bytes of a room's messages that wait for the rest of the cluster before the room's
    /// connections are not read any more. Defaults to 256 KiB.
    pub upstream_bytes_max: usize,
    /// Bytes of messages from other nodes that wait for a room's next flush before only the newest
    /// per sender is kept. Defaults to 1 MiB.
    pub downstream_bytes_max: usize,
    /// How often a connection is pinged. Defaults to 20 s.
    pub ping_interval: Duration,
    /// A connection from which nothing arrived for this long is dead; must be longer than
    /// `ping_interval` by a round trip. Defaults to 30 s.
    pub dead_after: Duration,
    /// How long after its last local connection a room still takes messages from other nodes, so
    /// that a page reload does not make the cluster forget and learn the room. Defaults to 5 s.
    pub interest_linger: Duration,
    /// How long after its last local connection a room's state is kept. Not shorter than
    /// `interest_linger`. Defaults to 30 s.
    pub room_linger: Duration,
    /// A sender from another node that is silent for this long without ever having joined has left:
    /// its node died before the join got through. Defaults to 10 s.
    pub stranger_timeout: Duration,
    /// How long a v1 client may take to say hello. Defaults to 10 s.
    pub hello_timeout: Duration,
    /// What resume tokens are sealed with: the same on all nodes of a cluster, the first one seals,
    /// any opens. Defaults to none: the node makes its own, and tokens are good on this node alone.
    pub resume_secrets: Vec<Secret>,
    /// SockJS, for pages whose WebSockets do not get through.
    pub sockjs: SockJs,
    /// How long a client may take to answer a close before its socket is dropped. Defaults to 1 s.
    pub close_timeout: Duration,
    /// How long a shutdown waits for connections to finish. Defaults to 2 s.
    pub shutdown_timeout: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: vec![
                SocketAddr::from(([127, 0, 0, 1], 7071)),
                SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], 7071)),
            ],
            connections_max: 10_000,
            message_bytes_max: 64 * 1024,
            tick: Duration::from_millis(16),
            threads: threads(),
            tls: None,
            header_timeout: Duration::from_secs(10),
            outbox_bytes_max: 256 * 1024,
            backlog_bytes_max: 16 * 1024 * 1024,
            upstream_bytes_max: 256 * 1024,
            downstream_bytes_max: 1024 * 1024,
            ping_interval: Duration::from_secs(20),
            dead_after: Duration::from_secs(30),
            interest_linger: Duration::from_secs(5),
            room_linger: Duration::from_secs(30),
            stranger_timeout: Duration::from_secs(10),
            hello_timeout: Duration::from_secs(10),
            resume_secrets: Vec::new(),
            sockjs: SockJs::default(),
            close_timeout: Duration::from_secs(1),
            shutdown_timeout: Duration::from_secs(2),
        }
    }
}

/// Settings of the SockJS server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SockJs {
    /// Paths under which the tutorial's protocol is served, each beginning with a slash and not ending in
    /// one. Protocol v1 is always at `/v1/sockjs`. Defaults to `/ws`.
    pub prefixes: Vec<String>,
    /// The script of the iframe page: sockjs-client in the version of the pages that use it, as a URL or a
    /// path. Defaults to the one that the npm package names.
    pub client_url: String,
    /// The longest silence while a client listens; then it is sent a heartbeat. Defaults to 25 s.
    pub heartbeat: Duration,
    /// A session that nobody listens to for so long is over. Defaults to 5 s.
    pub disconnect_delay: Duration,
    /// Bytes after which an answer that goes on is ended, so that browsers let go of it; the client asks
    /// again at once. Defaults to 128 KiB.
    pub response_bytes_max: usize,
    /// The largest body that a client may send; a larger one is answered with 413. Defaults to 256 KiB.
    pub body_bytes_max: usize,
    /// The time that a body may take; then it is answered with 408. Defaults to 10 s.
    pub body_timeout: Duration,
    /// Sessions over HTTP at a time; a further one is answered with 503. Defaults to 10,000.
    pub sessions_max: usize,
    /// Whether there are services for public conformance suites besides: `/echo`, `/close`,
    /// `/disabled_websocket_echo` and `/cookie_needed_echo`. Defaults to false.
    pub conformance: bool,
}

impl Default for SockJs {
    fn default() -> Self {
        Self {
            prefixes: vec!["/ws".to_owned()],
            client_url: "https://cdn.jsdelivr.net/npm/sockjs-client@1/dist/sockjs.min.js"
                .to_owned(),
            heartbeat: Duration::from_secs(25),
            disconnect_delay: Duration::from_secs(5),
            response_bytes_max: 128 * 1024,
            body_bytes_max: 256 * 1024,
            body_timeout: Duration::from_secs(10),
            sessions_max: 10_000,
            conformance: false,
        }
    }
}

fn threads() -> usize {
    let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
    (processors - 1).max(1)
}
