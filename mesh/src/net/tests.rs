//! Two endpoints on the loopback interface, with a puppet where the core is.

#![allow(clippy::unwrap_used)]

mod carriage;

use std::collections::VecDeque;
use std::io;
use std::sync::{Mutex, OnceLock};

use bytes::Bytes;
use tracing_subscriber::fmt::MakeWriter;

use super::certs::Ca;
use super::*;
use crate::proto::event::{CloseCode, Input, LeaveReason, Output};
use crate::proto::wire::frame_bytes_max;
use crate::proto::{
    ConnId, GRACE, Lane, MemberId, Overview, PeerOverview, RoomName, Rules, SNAPSHOT_PART_BYTES,
    Versions,
};

const PATIENCE: Duration = Duration::from_secs(10);

/// Records every input and does what the test says.
#[derive(Debug)]
struct Puppet {
    node: NodeName,
    cluster: NodeName,
    inputs: mpsc::UnboundedSender<Input>,
    outputs: Arc<Mutex<VecDeque<Output>>>,
    peers: Arc<Mutex<Vec<PeerOverview>>>,
    now: Time,
}

impl Engine for Puppet {
    fn handle(&mut self, now: Time, input: Input) {
        assert!(now >= self.now, "time went back");
        self.now = now;
        let _ = self.inputs.send(input);
    }

    fn poll_output(&mut self) -> Option<Output> {
        self.outputs.lock().unwrap().pop_front()
    }

    fn poll_timeout(&self) -> Time {
        self.now.after(Duration::from_millis(5))
    }

    fn overview(&self, _now: Time) -> Overview {
        Overview {
            node: self.node.clone(),
            cluster: self.cluster.clone(),
            region: String::new(),
            boot: 1,
            seq: 0,
            rows: 0,
            rooms: Vec::new(),
            room_count: 0,
            peers: self.peers.lock().unwrap().clone(),
            seeds: Vec::new(),
            counters: Vec::new(),
        }
    }
}

/// A node with a puppet inside.
struct Node {
    mesh: Mesh,
    endpoint: quinn::Endpoint,
    inputs: mpsc::UnboundedReceiver<Input>,
    outputs: Arc<Mutex<VecDeque<Output>>>,
    /// What the puppet's overview says of other nodes.
    peers: Arc<Mutex<Vec<PeerOverview>>>,
}

fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

fn name(text: &str) -> NodeName {
    NodeName::new(text).unwrap()
}

impl Node {
    fn start(bundle: &str) -> Self {
        log();
        let identity = Identity::from_pem(bundle.as_bytes()).unwrap();
        let (node, cluster) = (identity.node().clone(), identity.cluster().clone());
        let (sender, inputs) = mpsc::unbounded_channel();
        let outputs = Arc::new(Mutex::new(VecDeque::new()));
        let peers = Arc::new(Mutex::new(Vec::new()));
        let puppet = Puppet {
            node: node.clone(),
            cluster: cluster.clone(),
            inputs: sender,
            outputs: Arc::clone(&outputs),
            peers: Arc::clone(&peers),
            now: Time::default(),
        };
        let bound = endpoint::bind(loopback(), &identity, false).unwrap();
        let endpoint = bound.endpoint.clone();
        let mesh = launch(puppet, Instant::now(), bound, node, cluster);
        Self {
            mesh,
            endpoint,
            inputs,
            outputs,
            peers,
        }
    }

    fn addr(&self) -> SocketAddr {
        self.mesh.listen_addr()
    }

    fn act(&self, output: Output) {
        self.outputs.lock().unwrap().push_back(output);
    }

    fn dial(&self, addr: SocketAddr, peer: Option<&str>) {
        let peer = peer.map(name);
        self.act(Output::Dial { addr, peer });
    }

    fn send(&self, conn: ConnId, lane: Lane, frame: impl Into<Bytes>) {
        let frame = frame.into();
        self.act(Output::Send { conn, lane, frame });
    }

    /// The next input that `pick` accepts; others are passed over.
    async fn next<T>(&mut self, mut pick: impl FnMut(Input) -> Option<T>) -> T {
        let found = async {
            loop {
                let input = self.inputs.recv().await.expect("the driver ended");
                if let Some(found) = pick(input) {
                    return found;
                }
            }
        };
        tokio::time::timeout(PATIENCE, found)
            .await
            .expect("no such input")
    }

    async fn connected(&mut self) -> (ConnId, NodeName, bool) {
        self.next(|input| match input {
            Input::Connected {
                conn,
                peer,
                dialled,
                ..
            } => Some((conn, peer, dialled)),
            _ => None,
        })
        .await
    }

    async fn disconnected(&mut self) -> bool {
        self.next(|input| match input {
            Input::Disconnected { clean, .. } => Some(clean),
            _ => None,
        })
        .await
    }

    async fn dial_failed(&mut self) -> SocketAddr {
        self.next(|input| match input {
            Input::DialFailed { addr, .. } => Some(addr),
            _ => None,
        })
        .await
    }

    async fn frame(&mut self, conn: ConnId, lane: Lane) -> Bytes {
        self.next(|input| match input {
            Input::Frame {
                conn: on,
                lane: of,
                bytes,
            } if on == conn && of == lane => Some(bytes),
            _ => None,
        })
        .await
    }

    fn counter(&self, name: &str) -> u64 {
        let counters = self.mesh.view().counters();
        let found = counters.iter().find(|(counter, ..)| *counter == name);
        found.unwrap().2
    }
}

/// What an overview says of a linked node.
fn peer(node: &str, region: &str) -> PeerOverview {
    PeerOverview {
        node: name(node),
        region: region.to_owned(),
        boot: 1,
        addr: None,
        alive: true,
        linked: true,
        version: None,
        public: String::new(),
        rtt: None,
        links: Vec::new(),
        relay: None,
        visible: true,
        hidden_because: String::new(),
        applied: 0,
        rows: 0,
        rooms: Vec::new(),
        room_count: 0,
        evidence_age: None,
        refused: None,
    }
}

/// Two linked nodes of one cluster and the number each gave to the link; the first one dialled.
async fn pair() -> ((Node, ConnId), (Node, ConnId)) {
    let ca = Ca::new();
    let mut a = Node::start(&ca.bundle("a", "test"));
    let mut b = Node::start(&ca.bundle("b", "test"));
    a.dial(b.addr(), Some("b"));
    let at_a = a.connected().await.0;
    let at_b = b.connected().await.0;
    ((a, at_a), (b, at_b))
}

/// Everything logged in this process.
#[derive(Debug, Clone, Copy)]
struct Log;

static LOG: Mutex<Vec<u8>> = Mutex::new(Vec::new());

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        LOG.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        *self
    }
}

fn log() {
    static ONCE: OnceLock<()> = OnceLock::new();
    ONCE.get_or_init(|| {
        tracing_subscriber::fmt()
            .with_ansi(false)
            .with_max_level(tracing::Level::DEBUG)
            .with_writer(Log)
            .init();
    });
}

/// Waits for a line of the log with all these parts.
async fn logged(parts: &[&str]) {
    let found = async {
        loop {
            let log = String::from_utf8_lossy(&LOG.lock().unwrap()).into_owned();
            let mut lines = log.lines();
            if lines.any(|line| parts.iter().all(|part| line.contains(part))) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    if tokio::time::timeout(PATIENCE, found).await.is_err() {
        let log = String::from_utf8_lossy(&LOG.lock().unwrap()).into_owned();
        panic!("no line with {parts:?} in\n{log}");
    }
}

/// Waits until something is so.
async fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let found = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    assert!(
        tokio::time::timeout(PATIENCE, found).await.is_ok(),
        "never: {what}"
    );
}

#[tokio::test]
async fn both_ends_know_the_others_name_and_who_dialled() {
    let ca = Ca::new();
    let mut a = Node::start(&ca.bundle("a", "test"));
    let mut b = Node::start(&ca.bundle("b", "test"));
    a.dial(b.addr(), None);
    let (_, peer, dialled) = a.connected().await;
    assert_eq!((peer.as_str(), dialled), ("b", true));
    let (_, peer, dialled) = b.connected().await;
    assert_eq!((peer.as_str(), dialled), ("a", false));
    let links = a.mesh.view().links();
    assert_eq!(links.len(), 1);
    assert_eq!(links[0].peer.as_str(), "b");
    assert_eq!(links[0].addr, b.addr());
    assert!(links[0].udp_tx_datagrams > 0);
}

#[tokio::test]
async fn a_certificate_of_another_ca_is_refused_and_both_logs_say_so() {
    let mut insider = Node::start(&Ca::new().bundle("insider", "foreign"));
    let mut outsider = Node::start(&Ca::new().bundle("outsider", "foreign"));
    outsider.dial(insider.addr(), None);
    assert_eq!(outsider.dial_failed().await, insider.addr());
    let reason = "certificate not signed by this cluster's CA";
    logged(&["WARN", "node=outsider", "cannot link", reason]).await;
    logged(&[
        "WARN",
        "node=insider",
        &outsider.addr().to_string(),
        "certificate not signed by",
    ])
    .await;
    assert_eq!(insider.counter("mesh_handshakes_failed_total"), 1);
    assert!(insider.mesh.view().links().is_empty());
    assert!(
        insider
            .inputs
            .try_recv()
            .is_ok_and(|input| matches!(input, Input::Tick))
    );
}

#[tokio::test]
async fn a_dialler_that_skips_its_check_is_still_refused_by_the_accepting_side() {
    let (ca, foreign) = (Ca::new(), Ca::new());
    let mut insider = Node::start(&ca.bundle("strict", "skip"));
    // Trusts the insider's CA too, as an attacker would.
    let mut outsider = Node::start(&format!("{}{}", foreign.bundle("lax", "skip"), ca.pem()));
    outsider.dial(insider.addr(), None);
    logged(&[
        "WARN",
        "node=strict",
        &outsider.addr().to_string(),
        "certificate not signed by this cluster's CA",
    ])
    .await;
    // TLS 1.3 lets the dialler believe in the connection until the refusal arrives.
    assert!(
        outsider
            .next(|input| match input {
                Input::Disconnected { clean, .. } => Some(!clean),
                Input::DialFailed { .. } => Some(true),
                _ => None,
            })
            .await
    );
    logged(&["WARN", "node=lax", "refused this node's certificate"]).await;
    eventually("counted", || {
        insider.counter("mesh_handshakes_failed_total") == 1
    })
    .await;
    while let Ok(input) = insider.inputs.try_recv() {
        assert!(!matches!(input, Input::Connected { .. }));
    }
}

#[tokio::test]
async fn another_cluster_of_the_same_ca_is_refused_and_both_logs_say_so() {
    let ca = Ca::new();
    let mut red = Node::start(&ca.bundle("r1", "red"));
    let blue = Node::start(&ca.bundle("b1", "blue"));
    red.dial(blue.addr(), None);
    assert_eq!(red.dial_failed().await, blue.addr());
    logged(&[
        "WARN",
        "node=r1",
        "b1 belongs to cluster blue, not to cluster red",
    ])
    .await;
    logged(&["WARN", "node=b1", "cluster red", "cluster blue"]).await;
}

#[tokio::test]
async fn a_name_other_than_expected_is_refused_and_the_own_name_is_left_to_the_core() {
    let ca = Ca::new();
    let mut a = Node::start(&ca.bundle("expecting", "names"));
    let mut b = Node::start(&ca.bundle("unexpected", "names"));
    a.dial(b.addr(), Some("expected"));
    assert_eq!(a.dial_failed().await, b.addr());
    logged(&[
        "WARN",
        "node=expecting",
        "expected was expected at this address",
    ])
    .await;
    logged(&[
        "WARN",
        "node=unexpected",
        "expected was expected at this address",
    ])
    .await;

    a.dial(a.addr(), None);
    assert_eq!(a.connected().await.1.as_str(), "expecting");
    assert_eq!(a.connected().await.1.as_str(), "expecting");

    let events = a.mesh.events();
    let mut events = events.unwrap();
    let Some(Event::Refused { peer, code, .. }) = events.recv().await else {
        panic!("not a refusal");
    };
    assert_eq!((peer.as_str(), code), ("unexpected", CloseCode::Name));
    // Whether the accepting side saw the link before the refusal is a race; it ends the same way.
    while let Ok(input) = b.inputs.try_recv() {
        assert!(!matches!(input, Input::Frame { .. }));
    }
}

#[tokio::test]
async fn nobody_at_the_address_is_a_failed_dial_within_two_seconds() {
    let ca = Ca::new();
    let mut a = Node::start(&ca.bundle("a", "test"));
    let silent = std::net::UdpSocket::bind(loopback()).unwrap();
    let began = Instant::now();
    a.dial(silent.local_addr().unwrap(), None);
    assert_eq!(a.dial_failed().await, silent.local_addr().unwrap());
    assert!(began.elapsed() < Duration::from_secs(3));
}

#[tokio::test]
async fn frames_of_all_sizes_arrive_whole_and_in_order_on_every_lane() {
    let ((mut a, at_a), (mut b, at_b)) = pair().await;
    for lane in [Lane::Presence, Lane::Messages, Lane::Bulk] {
        let limit = frame_bytes_max(lane);
        let sizes = [
            0,
            1,
            3,
            4,
            1000,
            4096,
            4097,
            65_535,
            limit - 1,
            limit,
            5,
            0,
            limit,
        ];
        let sizes = sizes.map(|size| size.min(limit));
        for (index, size) in sizes.into_iter().enumerate() {
            a.send(at_a, lane, vec![u8::try_from(index).unwrap(); size]);
        }
        for (index, size) in sizes.into_iter().enumerate() {
            let frame = b.frame(at_b, lane).await;
            assert_eq!(frame.len(), size, "frame {index} of {lane:?}");
            assert!(frame.iter().all(|byte| usize::from(*byte) == index));
        }
        let mut drained = 0;
        while drained < sizes.iter().sum() {
            drained += a
                .next(|input| match input {
                    Input::Drained {
                        lane: of, bytes, ..
                    } if of == lane => Some(bytes),
                    _ => None,
                })
                .await;
        }
        assert_eq!(drained, sizes.iter().sum::<usize>());
    }
    b.send(at_b, Lane::Messages, "back");
    assert_eq!(a.frame(at_a, Lane::Messages).await, "back");
}

#[tokio::test]
async fn bulk_frames_go_over_a_connection_of_their_own() {
    let ((mut a, at_a), (mut b, at_b)) = pair().await;
    for (from, on, to, at) in [(&mut a, at_a, &mut b, at_b)] {
        from.send(on, Lane::Bulk, vec![1; 300_000]);
        assert_eq!(to.frame(at, Lane::Bulk).await.len(), 300_000);
        assert_eq!(from.counter("mesh_bulk_connections_total"), 1);
        assert_eq!(from.counter("mesh_bulk_fallbacks_total"), 0);
        let live = &from.mesh.view().links()[0];
        assert!(
            live.udp_tx_bytes < 100_000,
            "the live connection carried it"
        );
    }
    // The side that accepted the live connection dials its bulk connection too.
    b.send(at_b, Lane::Bulk, vec![2; 300_000]);
    assert_eq!(a.frame(at_a, Lane::Bulk).await.len(), 300_000);
    assert_eq!(b.counter("mesh_bulk_connections_total"), 1);
    assert!(b.mesh.view().links()[0].udp_tx_bytes < 100_000);
}

#[tokio::test]
async fn bytes_are_summed_per_peer_and_region_and_never_fall() {
    let ca = Ca::new();
    let mut a = Node::start(&ca.bundle("a", "test"));
    let mut b = Node::start(&ca.bundle("b", "test"));
    *a.peers.lock().unwrap() = vec![peer("b", "eu")];
    let view = a.mesh.view();
    let mut last = Volume::default();
    for round in 1..=3 {
        a.dial(b.addr(), Some("b"));
        let at_a = a.connected().await.0;
        let at_b = b.connected().await.0;
        // The live connection, and a bulk one in each direction.
        a.send(at_a, Lane::Bulk, vec![1; 100_000]);
        assert_eq!(b.frame(at_b, Lane::Bulk).await.len(), 100_000);
        b.send(at_b, Lane::Bulk, vec![2; 200_000]);
        assert_eq!(a.frame(at_a, Lane::Bulk).await.len(), 200_000);
        a.act(Output::Close {
            conn: at_a,
            code: CloseCode::Superseded,
            reason: "the test".into(),
        });
        a.disconnected().await;
        b.disconnected().await;
        eventually("the region is known", || {
            view.traffic()
                .peers
                .iter()
                .any(|(_, region, _)| region == "eu")
        })
        .await;
        let traffic = view.traffic();
        let (node, _, volume) = &traffic.peers[0];
        assert_eq!((traffic.peers.len(), node.as_str()), (1, "b"));
        assert_eq!(traffic.regions, [("eu".to_owned(), *volume)]);
        assert!(volume.sent_bytes >= round * 100_000 && volume.received_bytes >= round * 200_000);
        assert!(volume.sent > last.sent && volume.received > last.received);
        last = *volume;
    }
    a.peers.lock().unwrap().clear();
    eventually("the peer is forgotten", || view.traffic().peers.is_empty()).await;
    let [(region, volume)] = &view.traffic().regions[..] else {
        panic!("the region's sum stays");
    };
    assert_eq!(region, "eu");
    assert!(volume.sent_bytes >= last.sent_bytes && volume.received_bytes >= last.received_bytes);
}

#[tokio::test]
async fn a_frame_above_the_limit_closes_the_link_with_a_reason() {
    for lane in [Lane::Presence, Lane::Messages] {
        let ((mut a, at_a), (mut b, at_b)) = pair().await;
        a.send(at_a, lane, "before");
        assert_eq!(b.frame(at_b, lane).await, "before");
        a.send(at_a, lane, vec![0; frame_bytes_max(lane) + 1]);
        assert!(!b.disconnected().await);
        assert!(!a.disconnected().await);
        assert_eq!(b.counter("mesh_limit_violations_total"), 1);
        let reason = format!("lane {lane:?}: a frame of {}", frame_bytes_max(lane) + 1);
        logged(&["WARN", "closed by the peer, code 0x0005", &reason]).await;
    }
}

#[tokio::test]
async fn a_bulk_frame_above_the_limit_closes_the_bulk_connection_only() {
    let ((a, at_a), (mut b, at_b)) = pair().await;
    a.send(at_a, Lane::Bulk, vec![0; frame_bytes_max(Lane::Bulk) + 1]);
    eventually("a violation", || {
        b.counter("mesh_limit_violations_total") == 1
    })
    .await;
    a.send(at_a, Lane::Messages, "still here");
    assert_eq!(b.frame(at_b, Lane::Messages).await, "still here");
}

#[tokio::test]
async fn without_a_bulk_connection_the_live_one_carries_bulk_frames() {
    let ((a, at_a), (mut b, at_b)) = pair().await;
    // Not accepting any more is what a one-way firewall looks like.
    b.endpoint.set_server_config(None);
    for byte in 0..20 {
        a.send(at_a, Lane::Bulk, vec![byte; 200_000]);
    }
    for byte in 0..20 {
        let frame = b.frame(at_b, Lane::Bulk).await;
        assert_eq!((frame[0], frame.len()), (byte, 200_000));
    }
    assert_eq!(a.counter("mesh_bulk_fallbacks_total"), 1);
}

#[tokio::test]
async fn a_peer_that_falls_silent_is_lost_within_three_seconds_whoever_dialled() {
    let ca = Ca::new();
    for a_dials in [true, false] {
        let mut a = Node::start(&ca.bundle("a", "test"));
        let bundle = ca.bundle("b", "test");
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let b = runtime.spawn(async move { Node::start(&bundle) });
        let b = b.await.unwrap();
        if a_dials {
            a.dial(b.addr(), None);
        } else {
            b.dial(a.addr(), None);
        }
        a.connected().await;
        runtime.shutdown_background();
        let began = Instant::now();
        assert!(!a.disconnected().await);
        let took = began.elapsed();
        assert!(took < Duration::from_secs(3), "took {took:?}");
        drop(b);
    }
}

#[tokio::test]
async fn leaving_delivers_what_was_sent_before_and_is_clean() {
    let ((a, at_a), (mut b, at_b)) = pair().await;
    for index in 0..50_u8 {
        a.send(at_a, Lane::Messages, vec![index; 20_000]);
    }
    a.send(at_a, Lane::Presence, "bye");
    let began = Instant::now();
    // The puppet's outputs are taken in the turn in which it is told to leave.
    a.mesh.leave(Duration::ZERO).await;
    assert!(began.elapsed() < Duration::from_secs(1));
    let (mut messages, mut bye) = (0, false);
    loop {
        let end = b
            .next(|input| match input {
                Input::Frame { conn, lane, bytes } if conn == at_b => Some(Ok((lane, bytes))),
                Input::Disconnected { clean, .. } => Some(Err(clean)),
                _ => None,
            })
            .await;
        match end {
            Ok((Lane::Messages, bytes)) => {
                assert_eq!(bytes[0], messages);
                messages += 1;
            }
            Ok((_, bytes)) => bye = bytes == "bye",
            Err(clean) => {
                assert!(clean);
                break;
            }
        }
    }
    assert_eq!((messages, bye), (50, true));
}

#[tokio::test]
async fn closing_with_a_code_ends_both_sides_once() {
    let ((mut a, at_a), (mut b, _)) = pair().await;
    a.act(Output::Close {
        conn: at_a,
        code: CloseCode::Version,
        reason: "speaks version 99".into(),
    });
    assert!(!a.disconnected().await);
    assert!(!b.disconnected().await);
    logged(&["WARN", "node=b", "code 0x0002: speaks version 99"]).await;
    assert!(a.mesh.view().links().is_empty());
}

#[tokio::test]
async fn datagrams_cross_and_those_that_cannot_are_counted() {
    let ((a, at_a), (mut b, at_b)) = pair().await;
    a.act(Output::Datagram {
        conn: at_a,
        bytes: vec![9; 1162].into(),
        urgent: true,
    });
    let bytes = b
        .next(|input| match input {
            Input::Datagram { conn, bytes } if conn == at_b => Some(bytes),
            _ => None,
        })
        .await;
    assert_eq!(bytes, vec![9; 1162]);

    a.act(Output::Datagram {
        conn: at_a,
        bytes: vec![9; 9000].into(),
        urgent: true,
    });
    let view = a.mesh.view();
    eventually("counted", || view.links()[0].datagrams_too_large == 1).await;

    // More in one turn than the queue holds: cursors stop short of the reserve.
    for _ in 0..100 {
        a.act(Output::Datagram {
            conn: at_a,
            bytes: vec![1; 1100].into(),
            urgent: false,
        });
    }
    a.act(Output::Datagram {
        conn: at_a,
        bytes: vec![2; 1100].into(),
        urgent: true,
    });
    b.next(|input| match input {
        Input::Datagram { bytes, .. } if bytes[0] == 2 => Some(()),
        _ => None,
    })
    .await;
    assert!(view.links()[0].cursor_datagrams_dropped > 0);
    assert_eq!(view.links()[0].urgent_datagrams_dropped, 0);
}

#[tokio::test]
async fn a_node_that_does_not_read_its_events_holds_frames_back_but_not_datagrams() {
    let ((a, at_a), (mut b, at_b)) = pair().await;
    let left = |index: u8| Event::Left {
        room: RoomName::new("room").unwrap(),
        member: MemberId([index; 16]),
        reason: LeaveReason::Closed,
    };
    let count = driver::EVENTS_MAX + 100;
    for index in 0..count {
        b.act(Output::Event(left(u8::try_from(index % 256).unwrap())));
    }
    b.act(Output::Event(Event::Cursors {
        room: RoomName::new("room").unwrap(),
        items: Vec::new(),
    }));
    eventually("paused", || b.counter("mesh_ordered_pauses_total") > 0).await;
    assert_eq!(b.counter("mesh_cursor_events_dropped_total"), 1);

    a.send(at_a, Lane::Messages, "held back");
    a.act(Output::Datagram {
        conn: at_a,
        bytes: "urgent".into(),
        urgent: true,
    });
    b.next(|input| match input {
        Input::Datagram { .. } => Some(()),
        Input::Frame { .. } => panic!("a frame was taken"),
        _ => None,
    })
    .await;

    let mut events = b.mesh.events().unwrap();
    for index in 0..count {
        let event = events.recv().await.unwrap();
        let Event::Left { member, .. } = event else {
            panic!("another event");
        };
        assert_eq!(member, MemberId([u8::try_from(index % 256).unwrap(); 16]));
    }
    assert_eq!(b.frame(at_b, Lane::Messages).await, "held back");
}

#[tokio::test]
async fn a_port_in_use_is_told_with_the_address() {
    let ca = Ca::new();
    let taken = std::net::UdpSocket::bind(loopback()).unwrap();
    let addr = taken.local_addr().unwrap();
    let identity = Identity::from_pem(ca.bundle("a", "test").as_bytes()).unwrap();
    let error = start(settings(identity, "a", "test", addr))
        .await
        .unwrap_err();
    assert!(matches!(error, StartError::Bind { addr: told, .. } if told == addr));
    assert!(error.to_string().contains(&addr.to_string()));
}

#[tokio::test]
async fn a_certificate_for_another_node_or_cluster_is_told_with_both_names() {
    let ca = Ca::new();
    let identity = Identity::from_pem(ca.bundle("n2", "red").as_bytes()).unwrap();
    for (node, cluster) in [("n1", "red"), ("n2", "blue")] {
        let error = start(settings(identity.clone(), node, cluster, loopback()))
            .await
            .unwrap_err()
            .to_string();
        for part in [
            "node n2 of cluster red",
            &format!("node {node} of cluster {cluster}"),
        ] {
            assert!(error.contains(part), "{error}");
        }
    }
}

fn settings(identity: Identity, node: &str, cluster: &str, listen: SocketAddr) -> Settings {
    Settings {
        core: Config {
            node: name(node),
            cluster: name(cluster),
            region: String::new(),
            boot: 1,
            advertise: listen,
            seeds: Vec::new(),
            grace: GRACE,
            snapshot_part_bytes: SNAPSHOT_PART_BYTES,
            public: String::new(),
            versions: Versions::default(),
            rules: Rules::default(),
        },
        listen,
        identity,
        cuttable: false,
        seed: Some(1),
    }
}
