//! The meeting point of a node's rooms: local connections on one side, the rest of the cluster on
//! the other.

mod audience;
pub(crate) mod budget;
mod departed;
mod missed;
pub(crate) mod outbox;
pub(crate) mod room;
mod roster;
pub(crate) mod ticker;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use uuid::Uuid;

use crate::cluster::{Cursor, Directory, Event, LeaveReason, Member, Uplink};
use crate::config::Config;
use crate::metrics::Metrics;
use crate::protocol::Sample;
use crate::token::Tokens;

use budget::Budget;
use outbox::{FrameSink, Outbox};
use room::visit::{Arrival, Visit};
use room::{Membership, Room};
use ticker::Ticker;

/// All rooms that have, or lately had, connections on this node. Cheap to clone.
///
/// Every method is to be called from within a tokio runtime, and none waits for a connection or for
/// the cluster. Order matters to the caller alone: the hub does what it is told in the order in
/// which it is told.
#[derive(Clone)]
pub struct Hub(Arc<Inner>);

struct Inner {
    context: Arc<Context>,
    rooms: RwLock<HashMap<String, Arc<Room>>>,
}

/// What all rooms share.
pub(crate) struct Context {
    pub(crate) config: Config,
    pub(crate) directory: Arc<dyn Directory>,
    pub(crate) uplink: Box<dyn Uplink>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) budget: Arc<Budget>,
    pub(crate) tokens: Tokens,
    pub(crate) ticker: Ticker,
    last_room: AtomicU32,
    last_serial: AtomicU64,
    /// The room of each question for missed events; the cluster answers every one.
    replays: Mutex<HashMap<u64, String>>,
}

impl Context {
    /// A number that was not given before.
    pub(crate) fn serial(&self) -> u64 {
        self.last_serial.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// A ticket for a question about a room.
    pub(crate) fn ticket(&self, room: &str) -> u64 {
        let ticket = self.serial();
        self.replays
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(ticket, room.to_owned());
        ticket
    }
}

/// Now, in milliseconds since the Unix epoch.
pub(crate) fn unix_ms() -> u64 {
    let elapsed = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
}

impl Hub {
    /// A hub without rooms. What local connections do goes to `uplink`, per room in the order
    /// interest, join, messages, leave, no interest. While it is full the rooms keep what they have
    /// and pause their connections.
    pub fn new(config: &Config, directory: Arc<dyn Directory>, uplink: impl Uplink) -> Self {
        let metrics = Arc::new(Metrics::default());
        let budget = Budget::new(config.backlog_bytes_max, metrics.clone());
        let context = Context {
            config: config.clone(),
            directory,
            uplink: Box::new(uplink),
            metrics,
            budget: Arc::new(budget),
            tokens: Tokens::new(&config.resume_secrets),
            ticker: Ticker::new(config.tick),
            last_room: AtomicU32::new(0),
            last_serial: AtomicU64::new(0),
            replays: Mutex::default(),
        };
        Self(Arc::new(Inner {
            context: Arc::new(context),
            rooms: RwLock::default(),
        }))
    }

    /// Messages from another node, ready for the tutorial's connections, in order per sender.
    /// They go out with the room's next flush and are not echoed to the cluster. Ignored for rooms
    /// without local connections; dropped and counted for senders that have left. Past the bound
    /// [`Config::downstream_bytes_max`] only the newest message per sender is kept.
    pub fn deliver(&self, room: &str, items: Vec<(Uuid, Bytes)>) {
        if let Some(room) = self.room(room) {
            room.deliver(items);
        }
    }

    /// A member became visible, on this node or another one. For a v1 connection that waits to join,
    /// this is the moment: it is a new member, or one that had left.
    pub fn joined(&self, member: Member) {
        if let Some(room) = self.room(&member.room) {
            room.shown(member, true);
        }
    }

    /// A visible member changed, or moved to another node. A v1 connection that waits to join as it
    /// has recovered it.
    pub fn updated(&self, member: Member) {
        if let Some(room) = self.room(&member.room) {
            room.shown(member, false);
        }
    }

    /// A member that was on this node is served by another one: its connection here, if it is still
    /// there, is closed as superseded.
    pub fn moved_away(&self, member: Uuid) {
        let rooms: Vec<Arc<Room>> = {
            let rooms = self.0.rooms.read().unwrap_or_else(PoisonError::into_inner);
            rooms.values().cloned().collect()
        };
        for room in rooms {
            room.moved_away(member);
        }
    }

    /// Named events of one origin (a node in one life, opaque), in its order: of other nodes, and
    /// those of local members that come back with their numbers. Ignored for rooms without local
    /// connections.
    pub fn events(&self, room: &str, origin: &str, items: Vec<Event>) {
        if let Some(room) = self.room(room) {
            room.events(origin, items);
        }
    }

    /// Where the events of an origin begin for this node: those up to `number` were before it had
    /// connections in the room.
    pub fn head(&self, room: &str, origin: &str, number: u64) {
        if let Some(room) = self.room(room) {
            room.head(origin, number);
        }
    }

    /// New positions of v1 members on other nodes.
    pub fn cursors(&self, room: &str, items: Vec<Cursor>) {
        if let Some(room) = self.room(room) {
            let moves = items.into_iter().filter_map(|cursor| {
                let sample = Sample::new(cursor.time_ms, cursor.x, cursor.y)?;
                Some((cursor.member, sample))
            });
            room.place(moves, false);
        }
    }

    /// Another node has its first client in a room: it wants to know where everybody here is.
    pub fn watched(&self, room: &str) {
        if let Some(room) = self.room(room) {
            room.watched();
        }
    }

    /// The answer to [`Outbound::Replay`](crate::cluster::Outbound::Replay): what was said after the positions asked for, ascending per
    /// origin, and whether that is all.
    pub fn replayed(&self, ticket: u64, items: Vec<(String, Event)>, complete: bool) {
        let room = self
            .0
            .context
            .replays
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&ticket);
        if let Some(room) = room.and_then(|room| self.room(&room)) {
            room.replayed(ticket, items, complete);
        }
    }

    /// An event of a local member did not get to a node whose link is slow.
    pub fn refused(&self, room: &str, member: Uuid) {
        if let Some(room) = self.room(room) {
            room.refused(member);
        }
    }

    /// A member is no longer visible, wherever it was. Connections that were there when it sent
    /// something are told once. If it is a connection of this node that is still open, the cluster
    /// has removed it, and the connection is closed.
    pub fn left(&self, room: &str, member: Uuid, reason: LeaveReason) {
        if let Some(room) = self.room(room) {
            room.left(member, reason);
        }
    }

    /// Flushes a room now.
    pub(crate) fn flush(&self, room: &str) {
        if let Some(room) = self.room(room) {
            room.flush();
        }
    }

    /// What this node's web edge counts.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.0.context.metrics
    }

    /// Makes a new member of the room for a connection that gets the room's frames through
    /// `outbox`.
    pub(crate) fn enter(&self, name: &str, outbox: Arc<Outbox>) -> Membership {
        self.occupy(name).enter(outbox, Arc::downgrade(&self.0))
    }

    /// Makes a member of the room, new or again, for a v1 connection.
    pub(crate) fn visit(&self, name: &str, outbox: Arc<Outbox>, arrival: Arrival) -> Visit {
        self.occupy(name)
            .visit(outbox, arrival, Arc::downgrade(&self.0))
    }

    /// What v1 sessions need to know of this node.
    pub(crate) fn context(&self) -> &Arc<Context> {
        &self.0.context
    }

    /// The room, with one more occupant.
    fn occupy(&self, name: &str) -> Arc<Room> {
        {
            let mut rooms = self.0.rooms.write().unwrap_or_else(PoisonError::into_inner);
            let room = match rooms.get(name) {
                Some(room) => room.clone(),
                None => {
                    let context = self.0.context.clone();
                    let number = context.last_room.fetch_add(1, Ordering::Relaxed) + 1;
                    let room = Arc::new(Room::new(name.to_owned(), number, context));
                    rooms.insert(name.to_owned(), room.clone());
                    self.metrics().rooms.rise(1);
                    room
                }
            };
            // Under the lock, so that the room cannot be evicted between here and there.
            room.occupants.fetch_add(1, Ordering::SeqCst);
            room
        }
    }

    /// An outbox for a connection's socket.
    pub(crate) fn outbox(&self, sink: Arc<dyn FrameSink>) -> Arc<Outbox> {
        let context = &self.0.context;
        Outbox::new(
            sink,
            context.config.outbox_bytes_max,
            context.budget.clone(),
        )
    }

    fn room(&self, name: &str) -> Option<Arc<Room>> {
        self.0
            .rooms
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(name)
            .cloned()
    }
}

impl Inner {
    /// Forgets an empty room. False if it has to stay a while yet.
    fn evict(&self, room: &Arc<Room>) -> bool {
        let mut rooms = self.rooms.write().unwrap_or_else(PoisonError::into_inner);
        let gone = !rooms
            .get(room.name())
            .is_some_and(|known| Arc::ptr_eq(known, room));
        if gone {
            return true;
        }
        if room.occupants.load(Ordering::SeqCst) > 0 || !room.is_settled() {
            return false;
        }
        rooms.remove(room.name());
        self.context.metrics.rooms.fall(1);
        tracing::debug!(room = room.name(), "room evicted");
        true
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::io::{self, IoSlice};
    use std::sync::Mutex;
    use std::sync::atomic::AtomicUsize;
    use std::time::Duration;

    use tokio::sync::mpsc;
    use tokio::time::{sleep, timeout};

    use super::outbox::State;
    use super::*;
    use crate::cluster::{NodeSummary, Outbound, RoomSummary, User};
    use crate::demo;
    use crate::websocket::close::Close;

    /// A cluster of one node that knows the members it is told.
    #[derive(Default)]
    struct Cluster {
        members: Mutex<Vec<Member>>,
    }

    impl Directory for Cluster {
        fn node(&self) -> String {
            "n1".into()
        }
        fn rooms(&self, _: usize) -> Vec<RoomSummary> {
            Vec::new()
        }
        fn members(&self, _: &str) -> Vec<Member> {
            self.members.lock().unwrap().clone()
        }
        fn member(&self, _: &str, id: Uuid) -> Option<Member> {
            let members = self.members.lock().unwrap();
            members.iter().find(|member| member.id == id).cloned()
        }
        fn nodes(&self) -> Vec<NodeSummary> {
            Vec::new()
        }
        fn count(&self, _: &str) -> usize {
            0
        }
        fn cluster(&self) -> serde_json::Value {
            serde_json::Value::Null
        }
        fn ready(&self) -> Result<(), String> {
            Ok(())
        }
        fn metrics(&self) -> String {
            String::new()
        }
    }

    /// A socket that takes as many bytes as it is allowed.
    #[derive(Default)]
    struct Pipe {
        taken: Mutex<Vec<u8>>,
        closed_after: AtomicUsize,
    }

    struct PipeEnd(Arc<Pipe>);

    impl FrameSink for PipeEnd {
        fn try_write(&self, bytes: &[IoSlice<'_>]) -> io::Result<usize> {
            let mut taken = self.0.taken.lock().unwrap();
            let mut room = self.0.closed_after.load(Ordering::SeqCst) - taken.len();
            let before = taken.len();
            for slice in bytes {
                let take = slice.len().min(room);
                taken.extend_from_slice(&slice[..take]);
                room -= take;
            }
            if taken.len() == before {
                Err(io::ErrorKind::WouldBlock.into())
            } else {
                Ok(taken.len() - before)
            }
        }

        fn call(&self) {}
    }

    struct Page {
        pipe: Arc<Pipe>,
        outbox: Arc<Outbox>,
        seat: Membership,
    }

    impl Page {
        fn id(&self) -> Uuid {
            self.seat.member()
        }

        fn say(&self, fields: &str) -> Bytes {
            let text =
                demo::stamp(fields.as_bytes(), self.seat.member(), self.seat.color()).unwrap();
            self.seat.send(vec![text.clone()]);
            text
        }

        /// The texts that reached the page, whole frames only.
        fn heard(&self) -> Vec<String> {
            let taken = self.pipe.taken.lock().unwrap();
            let mut rest = &taken[..];
            let mut texts = Vec::new();
            while rest.len() >= 2 {
                let (header, length) = match rest[1] {
                    126 => (4, usize::from(u16::from_be_bytes([rest[2], rest[3]]))),
                    127 => unreachable!("no test sends that much"),
                    short => (2, usize::from(short)),
                };
                if rest.len() < header + length {
                    break;
                }
                assert_eq!(rest[0], 0x81, "whole text frames, one after the other");
                texts.push(String::from_utf8(rest[header..header + length].to_vec()).unwrap());
                rest = &rest[header + length..];
            }
            texts
        }

        async fn hears(&self, count: usize) -> Vec<String> {
            eventually(|| self.heard().len() >= count).await;
            self.heard()
        }

        /// What the connection's task does when the socket takes bytes again.
        fn drain(&self) {
            self.pipe.closed_after.store(usize::MAX, Ordering::SeqCst);
            self.outbox.write();
            while let State::Behind(since) = self.outbox.state() {
                self.seat.catch_up(since);
            }
        }
    }

    async fn eventually(mut fact: impl FnMut() -> bool) {
        let wait = async {
            while !fact() {
                sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(Duration::from_secs(10), wait)
            .await
            .expect("it does not become true");
    }

    struct Node {
        hub: Hub,
        cluster: Arc<Cluster>,
        outbound: mpsc::Receiver<Outbound>,
    }

    fn config() -> Config {
        Config {
            tick: Duration::from_millis(5),
            interest_linger: Duration::from_millis(30),
            room_linger: Duration::from_millis(60),
            ..Config::default()
        }
    }

    fn node_with(config: Config, capacity: usize) -> Node {
        let (sender, outbound) = mpsc::channel(capacity);
        let cluster = Arc::new(Cluster::default());
        Node {
            hub: Hub::new(&config, cluster.clone(), sender),
            cluster,
            outbound,
        }
    }

    fn node() -> Node {
        node_with(config(), 1024)
    }

    impl Node {
        fn open_limited(&self, room: &str, bytes: usize) -> Page {
            let pipe = Arc::new(Pipe::default());
            pipe.closed_after.store(bytes, Ordering::SeqCst);
            let outbox = self.hub.outbox(Arc::new(PipeEnd(pipe.clone())));
            let seat = self.hub.enter(room, outbox.clone());
            Page { pipe, outbox, seat }
        }

        fn open(&self, room: &str) -> Page {
            self.open_limited(room, usize::MAX)
        }

        async fn told(&mut self) -> Outbound {
            timeout(Duration::from_secs(10), self.outbound.recv())
                .await
                .unwrap()
                .unwrap()
        }

        /// What the cluster is told, in short.
        async fn told_in_short(&mut self) -> String {
            match self.told().await {
                Outbound::Join(member) => format!("join {}", member.id),
                Outbound::Leave { member, reason } => format!("leave {member} {reason:?}"),
                Outbound::Interest { room, wanted } => format!("interest {room} {wanted}"),
                Outbound::Messages { room, items } => format!("messages {room} {}", items.len()),
                other => panic!("tutorial connections do not say {other:?}"),
            }
        }
    }

    fn remote(id: u128, n: usize) -> (Uuid, Bytes) {
        let sender = Uuid::from_u128(id);
        (
            sender,
            demo::stamp(format!("{{\"n\":{n}}}").as_bytes(), sender, 42).unwrap(),
        )
    }

    fn member(id: u128, color: u16) -> Member {
        Member {
            id: Uuid::from_u128(id),
            room: "lobby".into(),
            user: User {
                color,
                ..User::default()
            },
            state: Bytes::from_static(b"null"),
            node: "n2".into(),
            joined_at: 0,
            away: false,
            epoch: 1,
            resumable: false,
        }
    }

    #[tokio::test]
    async fn a_message_reaches_every_connection_of_the_room_its_sender_included() {
        let node = node();
        let (a, b, elsewhere) = (node.open("lobby"), node.open("lobby"), node.open("kitchen"));
        let text = a.say("{\"x\":1}");
        assert_eq!(a.hears(1).await[0], text);
        assert_eq!(b.hears(1).await[0], text);
        assert!(elsewhere.heard().is_empty());
    }

    #[tokio::test]
    async fn a_quiet_room_flushes_at_once() {
        let node = node();
        let a = node.open("lobby");
        sleep(Duration::from_millis(20)).await;
        a.say("{\"x\":1}");
        assert_eq!(a.heard().len(), 1, "before anything was awaited");
        a.say("{\"x\":2}");
        assert_eq!(a.heard().len(), 1, "the next waits for the tick");
        a.hears(2).await;
    }

    #[tokio::test]
    async fn the_cluster_is_told_in_order() {
        let mut node = node();
        let a = node.open("lobby");
        let id = a.id();
        a.say("{}");
        a.say("{}");
        drop(a);
        assert_eq!(node.told_in_short().await, "interest lobby true");
        assert_eq!(node.told_in_short().await, format!("join {id}"));
        assert_eq!(node.told_in_short().await, "messages lobby 2");
        assert_eq!(node.told_in_short().await, format!("leave {id} Closed"));
        assert_eq!(node.told_in_short().await, "interest lobby false");
        eventually(|| node.hub.metrics().rooms.get() == 0).await;
    }

    #[tokio::test]
    async fn a_reload_does_not_end_the_interest() {
        let mut node = node();
        let first = node.open("lobby").id();
        let a = node.open("lobby");
        sleep(Duration::from_millis(100)).await;
        assert_eq!(node.hub.metrics().rooms.get(), 1);
        let told = [
            node.told_in_short().await,
            node.told_in_short().await,
            node.told_in_short().await,
        ];
        assert_eq!(told[0], "interest lobby true");
        assert_eq!(told[2], format!("leave {first} Closed"));
        assert_eq!(node.told_in_short().await, format!("join {}", a.id()));
        assert!(node.outbound.try_recv().is_err());
    }

    #[tokio::test]
    async fn a_member_is_what_the_protocol_says() {
        let mut node = node();
        let a = node.open("lobby");
        node.told().await;
        let Outbound::Join(member) = node.told().await else {
            panic!("no join")
        };
        assert_eq!(member.id.get_version_num(), 4);
        assert_eq!(member.id, a.id());
        assert_eq!(member.user.color, a.seat.color());
        assert!(member.user.color < 360);
        assert_eq!(
            (
                &member.state[..],
                member.room.as_str(),
                member.node.as_str()
            ),
            (&b"null"[..], "lobby", "n1")
        );
        assert!(member.joined_at > 1_600_000_000_000);
    }

    #[tokio::test]
    async fn messages_from_other_nodes_are_passed_on_and_not_echoed() {
        let mut node = node();
        let a = node.open("lobby");
        node.told().await;
        node.told().await;
        node.hub.deliver("lobby", vec![remote(1, 0), remote(1, 1)]);
        assert_eq!(a.hears(2).await, [remote(1, 0).1, remote(1, 1).1]);
        node.hub.deliver("nowhere", vec![remote(1, 2)]);
        node.hub
            .deliver("lobby", vec![(Uuid::nil(), Bytes::from_static(b"\xff"))]);
        a.say("{}");
        a.hears(3).await;
        assert_eq!(node.told_in_short().await, "messages lobby 1");
        assert_eq!(node.hub.metrics().messages_dropped.malformed.get(), 1);
    }

    #[tokio::test]
    async fn a_sender_that_leaves_is_told_once_to_those_who_were_there() {
        let node = node();
        let (a, b) = (node.open("lobby"), node.open("lobby"));
        let (id, color) = (a.id(), a.seat.color());
        let text = a.say("{\"x\":1}");
        b.hears(1).await;
        let late = node.open("lobby");
        drop(a);
        node.hub.left("lobby", id, LeaveReason::Closed);
        let end = b.say("{\"end\":1}");
        assert_eq!(b.hears(3).await, [text, demo::left(id, color), end.clone()]);
        assert_eq!(
            late.hears(1).await,
            [end],
            "who came later saw no cursor to take away"
        );
    }

    #[tokio::test]
    async fn a_sender_that_said_nothing_leaves_without_a_word() {
        let node = node();
        let (a, b) = (node.open("lobby"), node.open("lobby"));
        drop(a);
        let end = b.say("{}");
        assert_eq!(b.hears(1).await, [end]);
    }

    #[tokio::test]
    async fn the_last_words_come_before_the_farewell() {
        let node = node();
        let (a, b) = (node.open("lobby"), node.open("lobby"));
        let id = a.id();
        a.say("{\"n\":1}");
        a.say("{\"n\":2}");
        drop(a);
        let heard = b.hears(3).await;
        assert!(heard[1].starts_with("{\"n\":2"));
        assert!(heard[2].contains("\"left\":true") && heard[2].contains(&id.to_string()));
    }

    #[tokio::test]
    async fn a_member_of_a_lost_node_leaves_with_its_last_color() {
        let node = node();
        let a = node.open("lobby");
        node.hub.joined(member(1, 42));
        node.hub.deliver("lobby", vec![remote(1, 0)]);
        a.hears(1).await;
        node.hub.updated(member(1, 99));
        node.hub
            .left("lobby", Uuid::from_u128(1), LeaveReason::NodeLost);
        node.hub
            .left("lobby", Uuid::from_u128(1), LeaveReason::NodeLost);
        assert_eq!(a.hears(2).await[1], demo::left(Uuid::from_u128(1), 99));
        node.hub.deliver("lobby", vec![remote(1, 1)]);
        let end = a.say("{}");
        assert_eq!(
            a.hears(3).await[2],
            end,
            "a late message does not bring it back"
        );
        assert_eq!(node.hub.metrics().messages_dropped.departed.get(), 1);

        node.hub.joined(member(1, 42));
        node.hub.deliver("lobby", vec![remote(1, 2)]);
        assert_eq!(a.hears(4).await[3], remote(1, 2).1, "its return does");
    }

    #[tokio::test]
    async fn a_sender_that_never_joined_leaves_when_it_is_silent() {
        let timeout = Duration::from_millis(30);
        let node = node_with(
            Config {
                stranger_timeout: timeout,
                ..config()
            },
            1024,
        );
        node.cluster.members.lock().unwrap().push(member(2, 42));
        let a = node.open("lobby");
        node.hub.deliver("lobby", vec![remote(1, 0), remote(2, 0)]);
        let left = demo::left(Uuid::from_u128(1), 42);
        assert_eq!(a.hears(3).await[2], left);
        node.hub.deliver("lobby", vec![remote(1, 1), remote(2, 1)]);
        assert_eq!(a.hears(4).await[3], remote(2, 1).1, "who is a member stays");
        node.hub
            .left("lobby", Uuid::from_u128(1), LeaveReason::NodeLost);
        node.hub
            .left("lobby", Uuid::from_u128(2), LeaveReason::NodeLost);
        assert_eq!(a.hears(5).await[4], demo::left(Uuid::from_u128(2), 42));
    }

    #[tokio::test]
    async fn a_connection_that_the_cluster_removes_is_closed() {
        let node = node();
        let a = node.open("lobby");
        node.hub.left("lobby", a.id(), LeaveReason::Kicked);
        assert_eq!(a.outbox.state(), State::Ending(Close::REMOVED));
    }

    #[tokio::test]
    async fn a_full_way_to_the_cluster_pauses_the_room_and_loses_nothing() {
        let mut node = node_with(
            Config {
                upstream_bytes_max: 1000,
                ..config()
            },
            1,
        );
        let a = node.open("lobby");
        let pauses = a.seat.pauses();
        for n in 0..20 {
            a.say(&format!("{{\"n\":{n}}}"));
        }
        assert!(*pauses.borrow());
        assert_eq!(a.hears(20).await.len(), 20, "local connections do not wait");
        assert!(node.hub.metrics().upstream_full.get() > 0);
        assert_eq!(node.told_in_short().await, "interest lobby true");
        assert!(node.told_in_short().await.starts_with("join"));
        let mut texts = Vec::new();
        while texts.len() < 20 {
            let Outbound::Messages { items, .. } = node.told().await else {
                panic!("only messages are left")
            };
            texts.extend(items.into_iter().map(|(_, text)| text));
        }
        assert_eq!(a.heard(), texts);
        eventually(|| !*pauses.borrow()).await;
    }

    #[tokio::test]
    async fn a_hub_without_a_cluster_is_a_cluster_of_one() {
        let Node {
            hub,
            cluster,
            outbound,
        } = node();
        drop(outbound);
        let (_, outbound) = mpsc::channel(1);
        let node = Node {
            hub,
            cluster,
            outbound,
        };
        let a = node.open("lobby");
        for _ in 0..10 {
            a.say("{}");
        }
        a.hears(10).await;
        assert!(!*a.seat.pauses().borrow());
    }

    #[tokio::test]
    async fn past_the_bound_only_the_newest_of_each_remote_sender_is_kept() {
        let node = node_with(
            Config {
                downstream_bytes_max: 300,
                ..config()
            },
            1024,
        );
        let a = node.open("lobby");
        let batch = (0..50).map(|n| remote(n % 2 + 1, n as usize)).collect();
        node.hub.deliver("lobby", batch);
        assert_eq!(a.hears(2).await, [remote(1, 48).1, remote(2, 49).1]);
        assert_eq!(node.hub.metrics().messages_dropped.overtaken.get(), 48);
    }

    #[tokio::test]
    async fn who_does_not_read_costs_a_bounded_amount_and_skips_ahead() {
        let node = node_with(
            Config {
                outbox_bytes_max: 4096,
                ..config()
            },
            1024,
        );
        let (slow, fast) = (node.open_limited("lobby", 150), node.open("lobby"));
        let leaver = node.open("lobby");
        leaver.say("{\"bye\":1}");
        fast.hears(1).await;
        let (leaver_id, leaver_color) = (leaver.id(), leaver.seat.color());
        for n in 0..200 {
            fast.say(&format!("{{\"n\":{n}}}"));
            if n == 100 {
                drop(node.open("lobby"));
            }
            if n % 10 == 0 {
                sleep(Duration::from_millis(6)).await;
            }
        }
        drop(leaver);
        let last = slow.say("{\"mine\":1}");
        let all = fast.hears(203).await;
        assert!(node.hub.metrics().outbox_lags.get() >= 1);
        assert!(node.hub.metrics().outbox_bytes.get() <= 3 * 4096);

        slow.drain();
        let heard = slow.heard();
        let caught_up = &heard[heard.len() - 3..];
        assert!(
            caught_up[0].starts_with("{\"n\":199"),
            "the newest of who moved: {heard:?}"
        );
        assert_eq!(
            caught_up[1],
            demo::left(leaver_id, leaver_color),
            "who left meanwhile"
        );
        assert_eq!(caught_up[2], last);
        let mut rest = all.iter();
        assert!(
            heard.iter().all(|text| rest.any(|other| other == text)),
            "in order, nothing twice"
        );

        let end = fast.say("{\"end\":1}");
        eventually(|| slow.heard().last().unwrap().as_bytes() == end).await;
        assert_eq!(slow.outbox.state(), State::Idle);
    }

    #[tokio::test]
    async fn who_missed_more_departures_than_are_kept_is_closed() {
        let node = node_with(
            Config {
                outbox_bytes_max: 1024,
                ..config()
            },
            100_000,
        );
        let slow = node.open_limited("lobby", 10);
        for id in 1..=4_200 {
            node.hub.deliver("lobby", vec![remote(id, 0)]);
            node.hub
                .left("lobby", Uuid::from_u128(id), LeaveReason::NodeLost);
        }
        eventually(|| node.hub.metrics().messages_remote.get() == 4_200).await;
        let end = slow.say("{}");
        let fast = node.open("lobby");
        fast.say("{}");
        fast.hears(1).await;
        let _ = end;
        slow.drain();
        assert_eq!(slow.outbox.state(), State::Ending(Close::TOO_FAR_BEHIND));
    }
}
