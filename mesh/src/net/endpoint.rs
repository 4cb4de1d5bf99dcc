//! The QUIC endpoint: one UDP socket to accept and to dial, and who may stay after a handshake.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use quinn::crypto::rustls::HandshakeData;
use quinn::{
    ClientConfig, Connection, ConnectionError, Endpoint, EndpointConfig, Incoming, Runtime,
    ServerConfig, TransportConfig, VarInt,
};
use rustls::pki_types::CertificateDer;
use tokio::time::Instant;
use tracing::{Instrument, debug, info_span, warn};

use super::StartError;
use super::carriage;
use super::cut::{CutSocket, Cuts};
use super::inbox::{Inbox, Report};
use super::tls::{ALPN_BULK, ALPN_CARRY, ALPN_LIVE, Identity, names};
use super::view::View;
use crate::proto::NodeName;
use crate::proto::event::CloseCode;

/// A live or carrying connection without a packet for this long is lost.
const LIVE_IDLE: Duration = Duration::from_millis(2500);
/// A live or carrying connection with nothing to say sends something this often.
const LIVE_KEEP_ALIVE: Duration = Duration::from_millis(500);
/// A bulk connection without a packet for this long is closed.
pub(super) const BULK_IDLE: Duration = Duration::from_secs(30);
/// A handshake, dialled or accepted, that takes longer has failed.
pub(super) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(2);
/// With more handshakes than this under way, addresses have to prove that they can receive.
const UNVALIDATED_MAX: usize = 64;
/// More handshakes than this at once are refused.
const HANDSHAKES_MAX: usize = 256;
/// What QUIC queues of datagrams; it drops the oldest beyond that.
pub(super) const DATAGRAM_SEND_BUFFER: usize = 64 * 1024;
/// What QUIC keeps of received datagrams that the mesh task did not take yet.
const DATAGRAM_RECEIVE_BUFFER: usize = 1024 * 1024;
/// What of a peer's reason for closing is logged.
const REASON_CHARS_MAX: usize = 300;
/// At most so many warnings about handshakes and dials per [`REPEAT_WARNING`].
const WARNINGS_MAX: u32 = 30;
/// The same reason about the same address is a warning at most this often.
const REPEAT_WARNING: Duration = Duration::from_secs(30);

/// The endpoint and what is needed to dial from it and to judge whom it meets.
#[derive(Debug)]
pub(super) struct Gate {
    pub(super) endpoint: Endpoint,
    pub(super) node: NodeName,
    pub(super) view: Arc<View>,
    pub(super) warnings: Warnings,
    cuts: Option<Arc<Cuts>>,
    cluster: NodeName,
    live: ClientConfig,
    bulk: ClientConfig,
    carry: ClientConfig,
}

/// The three kinds of connection between nodes, told apart by ALPN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Live,
    Bulk,
    Carry,
}

/// Why a peer may not stay although its certificate is good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    /// The certificate's node name, if it has one of the right form.
    pub(super) peer: Option<NodeName>,
    pub(super) code: CloseCode,
    pub(super) reason: String,
}

/// A bound socket with its endpoint, before the core and the view exist.
#[derive(Debug)]
pub(super) struct Bound {
    pub(super) endpoint: Endpoint,
    pub(super) cuts: Option<Arc<Cuts>>,
    live: ClientConfig,
    bulk: ClientConfig,
    carry: ClientConfig,
    pub(super) addr: SocketAddr,
}

/// Binds the UDP socket, `cuttable` or not. Must be called inside a tokio runtime.
pub(super) fn bind(
    listen: SocketAddr,
    identity: &Identity,
    cuttable: bool,
) -> Result<Bound, StartError> {
    let tls = |error: rustls::Error| StartError::Tls(error.to_string());
    let crypto = identity.server_config().map_err(tls)?;
    let mut server = ServerConfig::with_crypto(Arc::new(crypto));
    server
        .transport_config(Arc::new(transport(BULK_IDLE, Some(LIVE_KEEP_ALIVE))))
        .max_incoming(HANDSHAKES_MAX);
    let mut live = ClientConfig::new(Arc::new(identity.client_config(ALPN_LIVE).map_err(tls)?));
    live.transport_config(Arc::new(transport(LIVE_IDLE, Some(LIVE_KEEP_ALIVE))));
    let mut bulk = ClientConfig::new(Arc::new(identity.client_config(ALPN_BULK).map_err(tls)?));
    bulk.transport_config(Arc::new(transport(BULK_IDLE, None)));
    let mut carry = ClientConfig::new(Arc::new(identity.client_config(ALPN_CARRY).map_err(tls)?));
    let mut windows = transport(LIVE_IDLE, Some(LIVE_KEEP_ALIVE));
    carriage::set_windows(&mut windows);
    carry.transport_config(Arc::new(windows));

    let refused = |source| StartError::Bind {
        addr: listen,
        source,
    };
    let socket = UdpSocket::bind(listen).map_err(refused)?;
    let addr = socket.local_addr().map_err(refused)?;
    let runtime = Arc::new(quinn::TokioRuntime);
    let mut socket = runtime.wrap_udp_socket(socket).map_err(refused)?;
    let cuts = cuttable.then(Arc::<Cuts>::default);
    if let Some(cuts) = &cuts {
        let (inner, cuts) = (socket, Arc::clone(cuts));
        socket = Arc::new(CutSocket { inner, cuts });
    }
    let config = EndpointConfig::default();
    let endpoint = Endpoint::new_with_abstract_socket(config, Some(server), socket, runtime)
        .map_err(refused)?;
    Ok(Bound {
        endpoint,
        cuts,
        live,
        bulk,
        carry,
        addr,
    })
}

/// The shorter idle timeout of the two sides holds, so the accepting side, which learns only after
/// the handshake which kind a connection is, offers the longer one and the dialling side decides.
fn transport(idle: Duration, keep_alive: Option<Duration>) -> TransportConfig {
    let millis = u32::try_from(idle.as_millis()).unwrap_or(u32::MAX);
    let mut config = TransportConfig::default();
    config
        .max_idle_timeout(Some(VarInt::from_u32(millis).into()))
        .keep_alive_interval(keep_alive)
        .max_concurrent_uni_streams(VarInt::from_u32(8))
        .max_concurrent_bidi_streams(VarInt::from_u32(0))
        .stream_receive_window(VarInt::from_u32(1024 * 1024))
        .receive_window(VarInt::from_u32(8 * 1024 * 1024))
        .send_window(2 * 1024 * 1024)
        .datagram_send_buffer_size(DATAGRAM_SEND_BUFFER)
        .datagram_receive_buffer_size(Some(DATAGRAM_RECEIVE_BUFFER));
    config
}

impl Bound {
    /// The gate of the node `node` in `cluster`.
    pub(super) fn into_gate(self, node: NodeName, cluster: NodeName, view: Arc<View>) -> Gate {
        Gate {
            endpoint: self.endpoint,
            node,
            cluster,
            view,
            warnings: Warnings::default(),
            cuts: self.cuts,
            live: self.live,
            bulk: self.bulk,
            carry: self.carry,
        }
    }
}

impl Gate {
    /// Starts a handshake with `addr`.
    pub(super) fn connect(
        &self,
        addr: SocketAddr,
        kind: Kind,
    ) -> Result<quinn::Connecting, quinn::ConnectError> {
        let config = match kind {
            Kind::Live => &self.live,
            Kind::Bulk => &self.bulk,
            Kind::Carry => &self.carry,
        };
        // Names are checked after the handshake; TLS only wants something that looks like one.
        let name = format!("{}.mesh", self.cluster);
        self.endpoint.connect_with(config.clone(), addr, &name)
    }

    /// Who the other end of an authenticated connection is, or why it may not stay. This node's own
    /// name is the core's to judge: only the Hello tells itself from another node with its bundle.
    pub(super) fn judge(
        &self,
        connection: &Connection,
        expected: Option<&NodeName>,
    ) -> Result<(NodeName, Kind), Refusal> {
        let refuse = |peer: Option<&NodeName>, code, reason: String| Refusal {
            peer: peer.cloned(),
            code,
            reason,
        };
        let identity = connection
            .peer_identity()
            .and_then(|any| any.downcast::<Vec<CertificateDer<'static>>>().ok());
        let named = match identity.as_deref().and_then(|chain| chain.first()) {
            Some(certificate) => names(certificate),
            None => Err("there is none".into()),
        };
        let (peer, cluster) = named.map_err(|what| {
            let reason = format!("the certificate is not a node's <node>.<cluster>.mesh: {what}");
            refuse(None, CloseCode::Name, reason)
        })?;
        if cluster != self.cluster {
            let reason = format!(
                "{peer} belongs to cluster {cluster}, not to cluster {}",
                self.cluster
            );
            return Err(refuse(Some(&peer), CloseCode::Cluster, reason));
        }
        if let Some(expected) = expected
            && *expected != peer
        {
            let reason =
                format!("{expected} was expected at this address, the certificate says {peer}");
            return Err(refuse(Some(&peer), CloseCode::Name, reason));
        }
        let cuts = self.cuts.as_ref();
        if cuts.is_some_and(|cuts| cuts.meets(&peer, connection.remote_address())) {
            let reason = format!("this node was cut from {peer} on purpose");
            return Err(refuse(Some(&peer), CloseCode::Lost, reason));
        }
        let protocol = connection
            .handshake_data()
            .and_then(|any| any.downcast::<HandshakeData>().ok())
            .and_then(|data| data.protocol);
        match protocol.as_deref() {
            Some(ALPN_LIVE) => Ok((peer, Kind::Live)),
            Some(ALPN_BULK) => Ok((peer, Kind::Bulk)),
            Some(ALPN_CARRY) => Ok((peer, Kind::Carry)),
            _ => {
                let reason = "neither a live, a bulk nor a carrying connection".into();
                Err(refuse(Some(&peer), CloseCode::Version, reason))
            }
        }
    }
}

/// Accepts connections until the endpoint is closed.
pub(super) async fn accept(gate: Arc<Gate>, inbox: Inbox) {
    let handshakes = Arc::new(AtomicUsize::new(0));
    while let Some(incoming) = gate.endpoint.accept().await {
        let under_way = handshakes.load(Ordering::Relaxed);
        if under_way >= HANDSHAKES_MAX {
            incoming.refuse();
            continue;
        }
        if under_way >= UNVALIDATED_MAX && incoming.may_retry() {
            // Fails only if a retry was done already, which `may_retry` excluded.
            let _ = incoming.retry();
            continue;
        }
        handshakes.fetch_add(1, Ordering::Relaxed);
        let (gate, inbox) = (Arc::clone(&gate), inbox.clone());
        let handshakes = Arc::clone(&handshakes);
        let span = info_span!("accept", node = %gate.node, addr = %incoming.remote_address());
        tokio::spawn(
            async move {
                let outcome = handshake(&gate, incoming).await;
                handshakes.fetch_sub(1, Ordering::Relaxed);
                match outcome {
                    Ok(report) => inbox.report(report).await,
                    Err(Some(report)) => inbox.report(report).await,
                    Err(None) => {}
                }
            }
            .instrument(span),
        );
    }
}

async fn handshake(gate: &Gate, incoming: Incoming) -> Result<Report, Option<Report>> {
    let addr = incoming.remote_address();
    let failed = |reason: String, fault: bool| {
        let failures = &gate.view.count_up().handshakes_failed;
        failures.fetch_add(1, Ordering::Relaxed);
        if fault && gate.warnings.is_news(addr.ip(), &reason) {
            warn!(%addr, %reason, "an incoming connection failed in the handshake");
        } else {
            debug!(%addr, %reason, "an incoming connection failed in the handshake");
        }
        None
    };
    let connection = match incoming.accept() {
        Ok(connecting) => match tokio::time::timeout(HANDSHAKE_TIMEOUT, connecting).await {
            Ok(Ok(connection)) => connection,
            Ok(Err(error)) => {
                return Err(failed(describe(&error), is_fault(&error)));
            }
            Err(_) => {
                return Err(failed("the handshake took too long".into(), false));
            }
        },
        Err(error) => {
            return Err(failed(describe(&error), is_fault(&error)));
        }
    };
    let judged = gate.judge(&connection, None);
    if let Ok((peer, _)) = &judged {
        gate.view.meter().watch(peer, &connection);
    }
    match judged {
        Ok((peer, Kind::Live)) => Ok(Report::LiveUp {
            connection,
            peer,
            dialled: None,
        }),
        Ok((peer, Kind::Bulk)) => Ok(Report::BulkUp { connection, peer }),
        Ok((peer, Kind::Carry)) => Ok(Report::CarryUp { connection, peer }),
        Err(refusal) => Err(refuse(gate, &connection, refusal)),
    }
}

/// Closes a connection for the reason given, which both sides log.
pub(super) fn refuse(gate: &Gate, connection: &Connection, refusal: Refusal) -> Option<Report> {
    let addr = connection.remote_address();
    let Refusal { peer, code, reason } = refusal;
    gate.view
        .count_up()
        .peers_refused
        .fetch_add(1, Ordering::Relaxed);
    if gate.warnings.is_news(addr.ip(), &reason) {
        warn!(%addr, ?code, %reason, "refused a peer; correct the configuration or issue the right certificate");
    } else {
        debug!(%addr, ?code, %reason, "refused a peer");
    }
    connection.close(close_code(code), reason.as_bytes());
    peer.map(|peer| Report::Refused { peer, code, reason })
}

/// A close code as QUIC carries it.
pub(super) fn close_code(code: CloseCode) -> VarInt {
    VarInt::from_u32(code as u32)
}

/// Whether a connection ended because the peer leaves the cluster.
pub(super) fn is_clean(error: &ConnectionError) -> bool {
    matches!(error, ConnectionError::ApplicationClosed(close)
        if close.error_code == close_code(CloseCode::Leaving))
}

/// Whether a connection ended because one side found the other at fault.
pub(super) fn is_fault(error: &ConnectionError) -> bool {
    match error {
        ConnectionError::ApplicationClosed(close) => {
            (1..0x1000).contains(&close.error_code.into_inner())
        }
        ConnectionError::TransportError(_)
        | ConnectionError::ConnectionClosed(_)
        | ConnectionError::VersionMismatch
        | ConnectionError::CidsExhausted => true,
        ConnectionError::Reset | ConnectionError::TimedOut | ConnectionError::LocallyClosed => {
            false
        }
    }
}

/// Why a connection failed or ended, for people, with what to do where that is known.
pub(super) fn describe(error: &ConnectionError) -> String {
    match error {
        ConnectionError::TransportError(ours) => {
            match tls_alert(ours.code.into()) {
                // A signature by another CA of the same name, and no known CA at all.
                Some(48 | 51) => "certificate not signed by this cluster's CA; issue both nodes' bundles from one CA".into(),
                Some(45) => "certificate expired; renew it, or correct the clocks".into(),
                Some(116) => "no certificate shown".into(),
                Some(120) => "the peer does not speak this protocol".into(),
                _ => format!("{ours}"),
            }
        }
        ConnectionError::ConnectionClosed(theirs) => {
            match tls_alert(theirs.error_code.into()) {
                Some(48 | 51) => "the peer refused this node's certificate: certificate not signed by its cluster's CA; issue both nodes' bundles from one CA".into(),
                Some(45) => "the peer refused this node's certificate as expired; renew it, or correct the clocks".into(),
                Some(116) => "the peer demands a certificate".into(),
                Some(120) => "the peer does not speak this protocol".into(),
                // Anyone on the path may send this before the handshake: no text of theirs.
                _ => format!("closed by the peer's transport: {}", theirs.error_code),
            }
        }
        ConnectionError::ApplicationClosed(close) => {
            let reason: String = String::from_utf8_lossy(&close.reason)
                .chars()
                .filter(|char| !char.is_control())
                .take(REASON_CHARS_MAX)
                .collect();
            format!(
                "closed by the peer, code {:#06x}: {reason}",
                close.error_code.into_inner()
            )
        }
        ConnectionError::TimedOut => "no answer for too long".into(),
        ConnectionError::Reset => "the peer no longer knows the connection (restarted)".into(),
        ConnectionError::LocallyClosed => "closed by this node".into(),
        ConnectionError::VersionMismatch => "the peer speaks another version of QUIC".into(),
        ConnectionError::CidsExhausted => "out of connection ids".into(),
    }
}

/// The TLS alert inside a transport error code, if it is one.
fn tls_alert(code: u64) -> Option<u8> {
    (0x100..0x200)
        .contains(&code)
        .then(|| u8::try_from(code & 0xff).ok())
        .flatten()
}

/// Remembers what was warned about, so that neither a peer that tries every second nor a stranger
/// with many addresses fills the log.
#[derive(Debug, Default)]
pub(super) struct Warnings(Mutex<Warned>);

#[derive(Debug, Default)]
struct Warned {
    since: Option<Instant>,
    count: u32,
    last: BTreeMap<(IpAddr, String), Instant>,
}

impl Warnings {
    /// Whether this reason is new for the address, or was last warned about long ago.
    pub(super) fn is_news(&self, ip: IpAddr, reason: &str) -> bool {
        self.is_news_at(Instant::now(), ip, reason)
    }

    fn is_news_at(&self, now: Instant, ip: IpAddr, reason: &str) -> bool {
        let is_recent = |when: Instant| now.duration_since(when) < REPEAT_WARNING;
        let mut warned = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !warned.since.is_some_and(is_recent) {
            warned.since = Some(now);
            warned.count = 0;
            warned.last.retain(|_, when| is_recent(*when));
        }
        let key = (ip, reason.to_owned());
        let repeated = warned.last.get(&key).is_some_and(|when| is_recent(*when));
        if repeated || warned.count >= WARNINGS_MAX {
            return false;
        }
        warned.count += 1;
        warned.last.insert(key, now);
        true
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_warning_is_repeated_only_after_a_while_and_their_number_is_bounded() {
        let warnings = Warnings::default();
        let ip = IpAddr::from([127, 0, 0, 1]);
        let start = Instant::now();
        assert!(warnings.is_news_at(start, ip, "a"));
        assert!(!warnings.is_news_at(start, ip, "a"));
        assert!(warnings.is_news_at(start, ip, "b"));
        let later = start + REPEAT_WARNING;
        assert!(warnings.is_news_at(later, ip, "b"));

        let strangers = (0..=255).map(|last| IpAddr::from([10, 0, 0, last]));
        let told = strangers
            .filter(|ip| warnings.is_news_at(later, *ip, "a"))
            .count();
        assert_eq!(told + 1, WARNINGS_MAX as usize);
        assert!(warnings.0.lock().unwrap().last.len() <= WARNINGS_MAX as usize + 1);
    }
}
