//! Three nodes in one process, each in a runtime of its own, linked over real QUIC.

#![allow(clippy::unwrap_used)]

#[path = "support/certs.rs"]
mod certs;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use cursormesh_mesh::net::{Identity, Mesh, Settings, StartError, View, start};
use cursormesh_mesh::proto::event::{Cursor, LeaveReason, Message, MessageKind, Row, User};
use cursormesh_mesh::proto::{
    Config, Event, GRACE, Local, MemberId, NodeName, RoomName, Rules, SNAPSHOT_PART_BYTES, Versions,
};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio::time::Instant;

use self::certs::Ca;

const PATIENCE: Duration = Duration::from_secs(15);

/// A node, the runtime it lives in and everything it ever said.
struct Node {
    name: &'static str,
    runtime: Option<Runtime>,
    mesh: Option<Mesh>,
    addr: SocketAddr,
    local: mpsc::Sender<Local>,
    view: Arc<View>,
    events: Arc<Mutex<Vec<(Instant, Event)>>>,
}

impl Node {
    /// Starts a node that knows `seeds`. The address may still be held by a life before.
    async fn start(
        ca: &Ca,
        name: &'static str,
        boot: u64,
        listen: SocketAddr,
        seeds: &[SocketAddr],
    ) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let identity = Identity::from_pem(ca.bundle(name, "test").as_bytes()).unwrap();
        let began = Instant::now();
        let mut mesh = loop {
            let settings = Settings {
                core: Config {
                    node: identity.node().clone(),
                    cluster: identity.cluster().clone(),
                    region: "here".into(),
                    boot,
                    advertise: listen,
                    seeds: seeds.iter().map(|addr| (None, *addr)).collect(),
                    grace: GRACE,
                    snapshot_part_bytes: SNAPSHOT_PART_BYTES,
                    public: String::new(),
                    versions: Versions::default(),
                    rules: Rules::default(),
                },
                listen,
                identity: identity.clone(),
                cuttable: false,
                seed: None,
            };
            match runtime.spawn(start(settings)).await.unwrap() {
                Ok(mesh) => break mesh,
                Err(StartError::Bind { .. }) if began.elapsed() < PATIENCE => {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                Err(error) => panic!("{error}"),
            }
        };
        let events = Arc::new(Mutex::new(Vec::new()));
        let mut receiver = mesh.events().unwrap();
        let sink = Arc::clone(&events);
        tokio::spawn(async move {
            while let Some(event) = receiver.recv().await {
                sink.lock().unwrap().push((Instant::now(), event));
            }
        });
        Self {
            name,
            runtime: Some(runtime),
            addr: mesh.listen_addr(),
            local: mesh.local(),
            view: mesh.view(),
            mesh: Some(mesh),
            events,
        }
    }

    /// Ends the node without a word to anybody.
    fn kill(&mut self) -> Instant {
        self.runtime.take().unwrap().shutdown_background();
        Instant::now()
    }

    async fn tell(&self, local: Local) {
        self.local.send(local).await.unwrap();
    }

    fn find<T>(&self, mut pick: impl FnMut(&Event) -> Option<T>) -> Option<(Instant, T)> {
        let events = self.events.lock().unwrap();
        let mut found = events.iter();
        found.find_map(|(when, event)| pick(event).map(|found| (*when, found)))
    }

    fn count(&self, mut pick: impl FnMut(&Event) -> bool) -> usize {
        let events = self.events.lock().unwrap();
        events.iter().filter(|(_, event)| pick(event)).count()
    }

    fn saw_joined(&self, member: MemberId) -> bool {
        self.find(|event| match event {
            Event::Joined(joined) if joined.row.member == member => Some(()),
            _ => None,
        })
        .is_some()
    }

    fn saw_left(&self, of: MemberId) -> Option<(Instant, LeaveReason)> {
        self.find(|event| match event {
            Event::Left { member, reason, .. } if *member == of => Some(*reason),
            _ => None,
        })
    }

    fn is_linked_to(&self, others: &[&str]) -> bool {
        let overview = self.view.overview();
        others.iter().all(|other| {
            let mut peers = overview.peers.iter();
            peers.any(|peer| peer.node.as_str() == *other && peer.linked)
        })
    }

    /// All messages by origin, in the order in which they came.
    fn messages(&self) -> BTreeMap<String, Vec<Bytes>> {
        let mut all: BTreeMap<String, Vec<Bytes>> = BTreeMap::new();
        for (_, event) in self.events.lock().unwrap().iter() {
            if let Event::Messages {
                origin,
                items,
                lost,
                ..
            } = event
            {
                assert_eq!(*lost, 0, "{} lost messages of {}", self.name, origin.node);
                let of = all.entry(origin.node.as_str().to_owned()).or_default();
                of.extend(items.iter().map(|(_, item)| item.payload.clone()));
            }
        }
        all
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

fn room() -> RoomName {
    RoomName::new("lobby").unwrap()
}

fn member(id: u8) -> MemberId {
    MemberId([id; 16])
}

fn join(id: u8) -> Local {
    Local::Join(Box::new(Row {
        member: member(id),
        epoch: 0,
        room: room(),
        user: User {
            id: String::new(),
            name: format!("member {id}"),
            color: 7,
        },
        state: Bytes::new(),
        joined_at: 1_700_000_000_000,
        away: false,
        resumable: true,
        handle: 0,
    }))
}

async fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < PATIENCE, "never: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Three nodes, two of which know the first only, all linked to each other.
async fn three(ca: &Ca) -> [Node; 3] {
    let n1 = Node::start(ca, "n1", 1, loopback(), &[]).await;
    let n2 = Node::start(ca, "n2", 1, loopback(), &[n1.addr]).await;
    let n3 = Node::start(ca, "n3", 1, loopback(), &[n1.addr]).await;
    eventually("all are linked to all", || {
        n1.is_linked_to(&["n2", "n3"])
            && n2.is_linked_to(&["n1", "n3"])
            && n3.is_linked_to(&["n1", "n2"])
    })
    .await;
    [n1, n2, n3]
}

#[tokio::test]
async fn a_join_is_seen_everywhere_and_a_leave_too() {
    let nodes = three(&Ca::new()).await;
    nodes[2].tell(join(1)).await;
    for node in &nodes {
        eventually("joined", || node.saw_joined(member(1))).await;
        eventually("counted", || node.view.count(&room()) == 1).await;
        let seen = node.view.member(&room(), member(1)).unwrap();
        assert_eq!(
            (seen.node.as_str(), seen.row.user.name.as_str()),
            ("n3", "member 1")
        );
    }
    let reason = LeaveReason::Closed;
    let member = member(1);
    nodes[2].tell(Local::Leave { member, reason }).await;
    for node in &nodes {
        eventually("left", || node.saw_left(member).is_some()).await;
        assert_eq!(node.saw_left(member).unwrap().1, LeaveReason::Closed);
        assert_eq!(node.count(|event| matches!(event, Event::Joined(_))), 1);
        assert_eq!(node.view.count(&room()), 0);
    }
}

#[tokio::test]
async fn messages_of_any_size_cross_exactly_once_and_in_order() {
    let nodes = three(&Ca::new()).await;
    for (id, node) in (1..).zip(&nodes) {
        node.tell(Local::Interest {
            room: room(),
            wanted: true,
        })
        .await;
        node.tell(join(id)).await;
    }
    for node in &nodes {
        eventually("interest is known", || {
            let overview = node.view.overview();
            overview.peers.len() == 2 && overview.peers.iter().all(|p| p.rooms == [room()])
        })
        .await;
    }
    let sizes = [1, 10, 1_200, 100_000, 20, 64_000, 131_072, 3];
    let payloads = |from: &str| -> Vec<Bytes> {
        let text = |(index, size): (usize, usize)| {
            let mut text = format!("{from} {index} ").into_bytes();
            text.resize(text.len().max(size), b'.');
            Bytes::from(text)
        };
        sizes
            .into_iter()
            .cycle()
            .take(40)
            .enumerate()
            .map(text)
            .collect()
    };
    for index in 0..40 {
        for (id, node) in (1..).zip(&nodes) {
            let payload = payloads(node.name)[index].clone();
            let kind = MessageKind::Event;
            let sender = member(id);
            node.tell(Local::Messages {
                room: room(),
                items: vec![Message {
                    sender,
                    kind,
                    payload,
                }],
            })
            .await;
        }
        // A rate the links keep up with: events beyond it are refused to their sender.
        let arrived = |node: &Node| node.messages().values().map(Vec::len).sum::<usize>();
        for node in &nodes {
            eventually("kept up", || arrived(node) >= 2 * (index + 1)).await;
        }
    }
    // What would arrive twice would arrive within the time the repair takes.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    for node in &nodes {
        let messages = node.messages();
        assert_eq!(messages.len(), 2);
        for (origin, received) in messages {
            assert!(received == payloads(&origin), "{} from {origin}", node.name);
        }
        assert_eq!(
            node.count(|event| matches!(event, Event::MessageRefused { .. })),
            0
        );
    }
}

#[tokio::test]
async fn cursors_reach_interested_nodes() {
    let nodes = three(&Ca::new()).await;
    for node in &nodes {
        node.tell(Local::Interest {
            room: room(),
            wanted: true,
        })
        .await;
    }
    nodes[0].tell(join(1)).await;
    for node in &nodes {
        eventually("joined", || node.saw_joined(member(1))).await;
    }
    let cursor = Cursor {
        member: member(1),
        time_ms: 5,
        x: 1.5,
        y: -2.5,
    };
    nodes[0]
        .tell(Local::Cursors {
            room: room(),
            items: vec![cursor],
        })
        .await;
    for node in &nodes[1..] {
        eventually("the cursor", || {
            node.count(
                |event| matches!(event, Event::Cursors { items, .. } if items.contains(&cursor)),
            ) > 0
        })
        .await;
    }
}

#[tokio::test]
async fn a_killed_nodes_members_are_gone_in_five_seconds_and_it_comes_back() {
    let ca = Ca::new();
    let [n1, n2, mut n3] = three(&ca).await;
    n1.tell(join(1)).await;
    n3.tell(join(3)).await;
    for node in [&n1, &n2, &n3] {
        let both = || node.saw_joined(member(1)) && node.saw_joined(member(3));
        eventually("both joined", both).await;
    }
    let killed = n3.kill();
    for node in [&n1, &n2] {
        eventually("gone", || node.saw_left(member(3)).is_some()).await;
        let (when, reason) = node.saw_left(member(3)).unwrap();
        assert_eq!(reason, LeaveReason::NodeLost);
        let took = when.duration_since(killed);
        assert!(took < Duration::from_secs(5), "took {took:?}");
        assert!(node.saw_left(member(1)).is_none());
        assert_eq!(node.view.count(&room()), 1);
    }

    let addr = n3.addr;
    // Its view's links hold on to the socket.
    drop(n3);
    let restarted = Instant::now();
    let n3 = Node::start(&ca, "n3", 2, addr, &[n1.addr]).await;
    n3.tell(join(4)).await;
    for node in [&n1, &n2] {
        eventually("back", || node.saw_joined(member(4))).await;
        let others = if node.name == "n1" {
            ["n2", "n3"]
        } else {
            ["n1", "n3"]
        };
        eventually("linked again", || node.is_linked_to(&others)).await;
    }
    eventually("the new life knows the others", || n3.saw_joined(member(1))).await;
    assert!(restarted.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn a_node_that_leaves_is_gone_at_once_and_cleanly() {
    let [n1, n2, mut n3] = three(&Ca::new()).await;
    n3.tell(join(3)).await;
    for node in [&n1, &n2] {
        eventually("joined", || node.saw_joined(member(3))).await;
    }
    let leaving = Instant::now();
    let mesh = n3.mesh.take().unwrap();
    let left = n3
        .runtime
        .as_ref()
        .unwrap()
        .spawn(mesh.leave(Duration::ZERO));
    left.await.unwrap();
    assert!(leaving.elapsed() < Duration::from_secs(1));
    let n3_name = NodeName::new("n3").unwrap();
    for node in [&n1, &n2] {
        eventually("gone", || node.saw_left(member(3)).is_some()).await;
        let (when, _) = node.saw_left(member(3)).unwrap();
        assert!(when.duration_since(leaving) < Duration::from_secs(1));
        eventually("link down, cleanly", || {
            node.count(
                |event| matches!(event, Event::LinkDown { peer, clean: true } if *peer == n3_name),
            ) == 1
        })
        .await;
    }
}
