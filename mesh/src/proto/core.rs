//! The core: owns every table and timer of the mesh.
//!
//! Each concern has a file under `core/` with its share of the methods; this one has the state,
//! the way in, the way out and the clock.

mod cursors;
mod digest;
mod early;
mod fold;
mod heartbeat;
mod late;
mod links;
mod messages;
mod overview;
mod owner;
mod region;
mod relay;
mod replay;
mod replica;
mod rtt;
mod snapshot;
mod swim;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

pub use self::links::SEEDS_MAX;
pub use self::snapshot::SNAPSHOT_PART_BYTES;
use super::event::{CloseCode, Event, Input, Lane, Local, Member, Output};
use super::identity::{Boot, ConnId, MemberId, NodeName, RoomName, Time};
use super::log::Log;
use super::rule::{Rule, Rules};
use super::table::Table;
use super::wire::{self, Datagram, Frame, Hello, OwnerId, Versions, WireError};

/// Longest time without evidence of life before an owner without a link is hidden, in clusters of
/// up to 32 nodes.
pub const EVIDENCE_MAX: Duration = Duration::from_secs(4);
/// How long hidden rows and tombstones are kept.
pub const PURGE_AFTER: Duration = Duration::from_secs(600);
/// How long a broken connection's row stays, marked away, before the member has left.
pub const GRACE: Duration = Duration::from_secs(10);

/// How often visibility, pulls and gaps are looked at.
const CHECK_EVERY: Duration = Duration::from_millis(100);
/// A pause of the process longer than this is not held against anybody.
const STALL_MIN: Duration = Duration::from_millis(500);
/// What arrives this soon after a pause may have waited in a socket's buffer all through it.
const BACKLOG_MAX: Duration = Duration::from_millis(250);

/// What the core must know before it starts.
#[derive(Debug, Clone)]
pub struct Config {
    /// This node's name, as in its certificate.
    pub node: NodeName,
    /// The cluster's name: a DNS label.
    pub cluster: NodeName,
    /// The node's region; free text of at most 63 bytes.
    pub region: String,
    /// Start of this process, milliseconds since the Unix epoch.
    pub boot: Boot,
    /// Where peers reach this node.
    pub advertise: SocketAddr,
    /// Where to find other nodes at first: one that answers is enough. A name, where it is known,
    /// is checked against the certificate found there. Further ones come as [`Input::Seeds`].
    pub seeds: Vec<(Option<NodeName>, SocketAddr)>,
    /// How long a broken connection's row stays, marked away ([`GRACE`] unless there is a reason).
    pub grace: Duration,
    /// Bytes after which a part of a snapshot is full ([`SNAPSHOT_PART_BYTES`] unless there is a
    /// reason).
    pub snapshot_part_bytes: usize,
    /// What this node wants told to its users, for peers of protocol version 2 to know
    /// ([`PeerOverview::public`](super::PeerOverview)); the mesh does not know what it is. May be
    /// empty; what is longer than 512 bytes is not told.
    pub public: String,
    /// Which protocol versions this node speaks: all that there are, but for tests of upgrades.
    pub versions: Versions,
    /// Which rules hold: all of them, but for tests of the simulator.
    pub rules: Rules,
}

/// The sans-io core of one node.
pub struct Core {
    config: Config,
    rng: StdRng,
    now: Time,
    checked_at: Time,
    /// When this life began.
    born: Time,
    /// When this process's last pause began and ended.
    stall: Option<(Time, Time)>,
    out: VecDeque<Output>,
    counters: Counters,

    /// This node in this life.
    me: OwnerId,
    /// This node's own rows, rooms and links.
    own: Table,
    log: Log,
    /// How far every peer was told of the own log, and those behind relays, and when those were.
    log_pushed: u64,
    relays_told: u64,
    pushed_at: Time,
    handle_last: u32,
    /// Own rows of broken connections, and when their grace ends.
    grace: BTreeMap<MemberId, Time>,
    /// Own tombstones, oldest first.
    retired: VecDeque<(Time, MemberId)>,
    heartbeat: u64,
    heartbeat_at: Time,
    digest_at: Time,
    about_at: Time,
    leaving: bool,
    /// When this node last took a newer boot.
    raised_at: Option<Time>,

    replicas: BTreeMap<OwnerId, replica::Replica>,
    /// The newest life known of each other node.
    boots: BTreeMap<NodeName, Boot>,
    /// Which other nodes have connections in a room.
    watchers: BTreeMap<RoomName, BTreeSet<NodeName>>,
    fold: fold::Fold,

    conns: BTreeMap<ConnId, links::Conn>,
    peers: BTreeMap<NodeName, links::Peer>,
    dials: BTreeMap<SocketAddr, links::Dial>,

    swim: swim::Swim,
    probes: rtt::Probes,
    messages: messages::Messaging,
    cursors: cursors::Cursors,
    relay: relay::Relaying,
    gateways: region::Gateways,
    replays: replay::Replays,
    late: late::LateLeaves,
    early: early::EarlyMessages,
}

macro_rules! counters {
    ($($field:ident: $help:literal,)*) => {
        #[derive(Debug, Default)]
        struct Counters { $($field: u64,)* }
        impl Counters {
            fn list(&self) -> Vec<(&'static str, &'static str, u64)> {
                vec![$((stringify!($field), $help, self.$field),)*]
            }
        }
    };
}

counters! {
    frames_in_total: "Ordered frames received from peers.",
    frames_out_total: "Ordered frames sent to peers.",
    frames_refused_total: "Ordered frames that were malformed or not allowed; each closed its link.",
    datagrams_in_total: "Datagrams received from peers.",
    datagrams_refused_total: "Datagrams that were malformed or not allowed.",
    deltas_applied_total: "Deltas that advanced a replica.",
    delta_gaps_total: "Deltas that did not follow what was applied and led to a pull.",
    delta_pushes_skipped_total: "Pushes left to the digest because a peer's queue was full.",
    pulls_sent_total: "Pulls sent.",
    snapshots_sent_total: "Snapshots sent.",
    snapshots_applied_total: "Snapshots swapped in.",
    messages_in_total: "Messages from peers delivered to this node's rooms.",
    messages_out_total: "Messages sent to peers, counted per peer.",
    messages_duplicate_total: "Messages from peers ignored because they had been delivered.",
    messages_early_total: "Batches of messages that waited for their sender's join.",
    messages_conflated_total: "Tutorial messages replaced by a newer one of their sender on a slow link.",
    messages_refused_total: "Events not sent to a peer because its link was slow.",
    messages_lost_total: "Messages from peers that could not be had any more.",
    message_gaps_total: "Gaps in a peer's messages.",
    cursors_in_total: "Cursor positions from peers delivered.",
    cursors_out_total: "Cursor positions sent to peers, counted per peer.",
    cursors_stale_total: "Cursor positions from peers dropped because a newer one was known.",
    cursors_conflated_total: "Cursor positions replaced by a newer one on a slow link.",
    shared_copies_total: "Frames and datagrams sent to one node of a region for others of it as well.",
    relayed_total: "Frames and datagrams forwarded for other nodes.",
    relay_dropped_total: "Frames and datagrams not forwarded: over budget, or not allowed.",
    swim_guarded_total: "Needless SWIM down notices to healthy members withheld.",
    links_superseded_total: "Connections closed because another to the same node replaced them.",
    refusals_total: "Peers refused at Hello.",
    stalls_total: "Pauses of this process of more than half a second.",
}

impl Core {
    /// A core at the moment `now`, with all its randomness drawn from `seed`.
    pub fn new(config: Config, now: Time, seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let me = OwnerId {
            node: config.node.clone(),
            boot: config.boot,
        };
        let swim = swim::Swim::new(&me, config.advertise, rng.random());
        let mut core = Self {
            rng,
            now,
            checked_at: now,
            born: now,
            stall: None,
            out: VecDeque::new(),
            counters: Counters::default(),
            own: Table::default(),
            log: Log::default(),
            log_pushed: 0,
            relays_told: 0,
            pushed_at: now,
            handle_last: 0,
            grace: BTreeMap::new(),
            retired: VecDeque::new(),
            heartbeat: 0,
            heartbeat_at: now,
            digest_at: now,
            about_at: now,
            leaving: false,
            raised_at: None,
            replicas: BTreeMap::new(),
            boots: BTreeMap::new(),
            watchers: BTreeMap::new(),
            fold: fold::Fold::default(),
            conns: BTreeMap::new(),
            peers: BTreeMap::new(),
            dials: BTreeMap::new(),
            swim,
            probes: rtt::Probes::default(),
            messages: messages::Messaging::default(),
            cursors: cursors::Cursors::default(),
            relay: relay::Relaying::default(),
            gateways: region::Gateways::default(),
            replays: replay::Replays::default(),
            late: late::LateLeaves::default(),
            early: early::EarlyMessages::default(),
            me,
            config,
        };
        core.write_about();
        core.take_seeds();
        core
    }

    /// Tells the core what happened at `now`; `now` never goes back.
    pub fn handle(&mut self, now: Time, input: Input) {
        self.now = now.max(self.now);
        self.forgive_stall();
        match input {
            Input::Tick => {}
            Input::Connected {
                conn,
                peer,
                addr,
                dialled,
            } => self.connected(conn, peer, addr, dialled),
            Input::Disconnected { conn, clean } => self.disconnected(conn, clean),
            Input::Frame { conn, lane, bytes } => self.frame(conn, lane, bytes),
            Input::Datagram { conn, bytes } => self.datagram(conn, &bytes),
            Input::Drained { conn, lane, bytes } => self.drained(conn, lane, bytes),
            Input::Path {
                conn,
                rtt,
                room_for_cursors,
            } => self.path(conn, rtt, room_for_cursors),
            Input::Quiet { conn } => self.quiet(conn),
            Input::DialFailed { addr, reason } => self.dial_failed(addr, reason),
            Input::Seeds(addrs) => self.resolved_seeds(addrs),
            Input::Local(local) => self.local(local),
            Input::Leave { linger } => self.leave(linger),
        }
        self.run_timers();
    }

    /// What to do next, in order; `None` when there is nothing.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    /// When to call [`Core::handle`] again at the latest.
    pub fn poll_timeout(&self) -> Time {
        let push = self.push_due().unwrap_or(Time(u64::MAX));
        [
            self.checked_at.after(CHECK_EVERY),
            self.heartbeat_at,
            self.digest_at,
            push,
            self.swim.timeout(),
            self.cursors.timeout(),
        ]
        .into_iter()
        .min()
        .unwrap_or(self.now)
    }

    /// The members that clients of this node are shown, by id: what the emitted events fold to.
    pub fn shown(&self) -> impl Iterator<Item = &Member> {
        self.fold.shown()
    }

    fn run_timers(&mut self) {
        self.run_swim();
        if self.now >= self.heartbeat_at {
            self.send_liveness();
        }
        if self.now >= self.digest_at {
            self.send_digests();
        }
        self.run_cursors();
        if self.now >= self.checked_at.after(CHECK_EVERY) {
            self.checked_at = self.now;
            self.check_grace();
            self.check_visibility();
            self.check_moving();
            self.check_pulls();
            self.check_message_gaps();
            self.release_early();
            self.release_leaves();
            self.finish_replays();
            self.check_relays();
            self.check_gateways();
            self.check_about();
            self.check_links();
        }
        if self.push_due().is_some_and(|due| self.now >= due) {
            self.push_deltas(false);
        }
    }

    /// After a pause of the whole process nothing it waited for had a chance to arrive: what was
    /// fresh before the pause stays fresh, and the queues get their turn first.
    fn forgive_stall(&mut self) {
        let late = self.now.since(self.checked_at.after(CHECK_EVERY));
        if late < STALL_MIN {
            return;
        }
        self.counters.stalls_total += 1;
        self.stall = Some((self.checked_at, self.now));
        self.checked_at = self.now;
        if self.holds(Rule::StallIsForgiven) {
            self.forgive_evidence(late);
        }
    }

    /// When what arrives now was in this node's reach at the earliest.
    fn arrived_since(&self) -> Time {
        match self.stall.filter(|_| self.holds(Rule::StallIsForgiven)) {
            Some((began, ended)) if self.now < ended.after(BACKLOG_MAX) => began,
            _ => self.now,
        }
    }

    fn local(&mut self, local: Local) {
        match local {
            Local::Join(row) => self.join(*row),
            Local::Update {
                member,
                user,
                state,
                away,
            } => self.update(member, user, state, away),
            Local::Break { member } => self.break_off(member),
            Local::Leave { member, reason } => self.leave_member(member, reason),
            Local::Interest { room, wanted } => self.interest(room, wanted),
            Local::Messages { room, items } => self.publish(room, items),
            Local::Replay {
                ticket,
                room,
                seen,
                away,
            } => self.replay(ticket, &room, seen, away),
            Local::Cursors { room, items } => self.move_cursors(&room, items),
        }
    }

    fn frame(&mut self, conn: ConnId, lane: Lane, bytes: Bytes) {
        let now = self.now;
        let Some(link) = self.conns.get_mut(&conn) else {
            return;
        };
        link.heard_at = now;
        self.counters.frames_in_total += 1;
        if link.up {
            self.take_frame(conn, lane, &bytes);
        } else if wire::is_hello(&bytes) {
            self.take_hello(conn, &bytes);
        } else {
            self.early(conn, lane, bytes);
        }
    }

    /// A frame on a link that is up, in the version of that link.
    fn take_frame(&mut self, conn: ConnId, lane: Lane, bytes: &[u8]) {
        let Some(link) = self.conns.get(&conn) else {
            return;
        };
        match Frame::decode(bytes, link.version) {
            Ok(frame) => {
                // The rest is looked at by the clock.
                let tells = matches!(
                    frame,
                    Frame::Delta(_) | Frame::Snapshot(_) | Frame::Relay(_) | Frame::Bye(_)
                );
                self.dispatch(conn, lane, frame);
                if tells {
                    self.release_early();
                }
            }
            Err(WireError::Skip(_)) => {}
            Err(error) => self.misbehaved(conn, CloseCode::Protocol, error.to_string()),
        }
    }

    /// A Hello says first which versions there are to choose from: what else is in one that has none
    /// in common with this node need not be understood.
    fn take_hello(&mut self, conn: ConnId, bytes: &[u8]) {
        let own = self.config.versions;
        let version = match Hello::versions(bytes).map(|theirs| (theirs, own.shared(theirs))) {
            Some((_, Some(version))) => version,
            Some((theirs, None)) => {
                let reason = format!("it speaks protocol versions {theirs}, this node {own}");
                return self.refuse(conn, CloseCode::Version, reason);
            }
            None => {
                let reason = WireError::Body(1).to_string();
                return self.misbehaved(conn, CloseCode::Protocol, reason);
            }
        };
        match Frame::decode(bytes, own.newest) {
            Ok(Frame::Hello(hello)) => self.hello(conn, version, hello),
            Ok(_) => {}
            Err(error) => self.misbehaved(conn, CloseCode::Protocol, error.to_string()),
        }
    }

    fn dispatch(&mut self, conn: ConnId, lane: Lane, frame: Frame) {
        match frame {
            Frame::Hello(_) => {
                self.misbehaved(conn, CloseCode::Protocol, "a second Hello".to_owned());
            }
            Frame::Members(members) => self.learn_members(&members),
            Frame::Delta(delta) => self.delta(conn, None, delta),
            Frame::Digest(digest) => self.digest(conn, digest),
            Frame::Pull(pull) => self.pulled(conn, pull),
            Frame::Snapshot(snapshot) => self.snapshot_part(conn, snapshot),
            Frame::Messages(messages) => self.messages_frame(conn, None, messages),
            Frame::MessagePull(pull) => {
                if let Some(peer) = self.peer_of(conn) {
                    self.messages_pulled(&peer, &pull);
                }
            }
            Frame::Relay(relay) => self.relay_frame(conn, lane, relay),
            Frame::Bye(bye) => self.bye(conn, lane, &bye),
            Frame::Public(text) => self.told_public(conn, text),
        }
    }

    fn datagram(&mut self, conn: ConnId, bytes: &[u8]) {
        let now = self.now;
        let Some(link) = self.conns.get_mut(&conn) else {
            return;
        };
        link.heard_at = now;
        if !link.up {
            return;
        }
        let (peer, version) = (link.peer.clone(), link.version);
        self.counters.datagrams_in_total += 1;
        match Datagram::decode(bytes, version) {
            Ok(Datagram::Swim(packet)) => self.swim_packet(&peer, &packet),
            Ok(Datagram::Liveness(entries)) => self.liveness(&peer, entries),
            Ok(Datagram::Cursors { boot, records }) => {
                self.cursor_batch(&OwnerId { node: peer, boot }, &records);
            }
            Ok(Datagram::Relay(relay)) => self.relay_datagram(conn, relay),
            // A datagram carries no order and no promise: a bad one is counted, not punished.
            Err(_) => self.counters.datagrams_refused_total += 1,
        }
    }

    /// Sends a frame in the version of the link. What that version does not have has to be asked for
    /// first ([`Core::speaks`]); it is not sent.
    fn send(&mut self, conn: ConnId, lane: Lane, frame: &Frame) {
        let version = self.version_of(conn);
        debug_assert!(frame.since() <= version, "{frame:?} on version {version}");
        if frame.since() <= version {
            self.send_bytes(conn, lane, frame.encode(version));
        }
    }

    fn send_bytes(&mut self, conn: ConnId, lane: Lane, frame: Bytes) {
        if let Some(link) = self.conns.get_mut(&conn) {
            *link.unsent_mut(lane) += frame.len();
            self.counters.frames_out_total += 1;
            self.out.push_back(Output::Send { conn, lane, frame });
        }
    }

    fn send_datagram(&mut self, conn: ConnId, bytes: Bytes, urgent: bool) {
        self.out.push_back(Output::Datagram {
            conn,
            bytes,
            urgent,
        });
    }

    fn emit(&mut self, event: Event) {
        self.out.push_back(Output::Event(event));
    }

    fn holds(&self, rule: Rule) -> bool {
        self.config.rules.hold(rule)
    }

    /// How old evidence may get: the interval at which heartbeats spread grows with the cluster.
    fn evidence_max(&self) -> Duration {
        let shown = self.replicas.values().filter(|replica| replica.visible);
        match shown.count() + 1 {
            0..=32 => EVIDENCE_MAX,
            33..=100 => EVIDENCE_MAX * 2,
            _ => EVIDENCE_MAX * 3,
        }
    }

    /// A duration of `base` give or take a tenth.
    fn jittered(&mut self, base: Duration) -> Duration {
        let tenth = u64::try_from(base.as_micros() / 10).unwrap_or(0);
        let extra = self.rng.random_range(0..=tenth * 2);
        base - Duration::from_micros(tenth) + Duration::from_micros(extra)
    }
}

impl std::fmt::Debug for Core {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Core")
            .field("me", &self.me)
            .finish_non_exhaustive()
    }
}
