//! The simulated world: a virtual clock, nodes, and the network between them.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use cursormesh_mesh::proto::event::{CloseCode, Event};
use cursormesh_mesh::proto::wire::{Datagram, Frame, VERSION};
use cursormesh_mesh::proto::{
    Config, ConnId, Core, GRACE, Input, Lane, Local, NodeName, Output, RoomName, Rules,
    SNAPSHOT_PART_BYTES, Time, Versions,
};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::clients::Clients;
use crate::judge::{Judge, Mirror};
use crate::missed::MissedEvents;
use crate::network::{Connection, End, Path, PathState};
use crate::versions::{Way, public_of};

/// Microseconds in a millisecond.
pub const MS: u64 = 1_000;
/// Microseconds in a second.
pub const SECOND: u64 = 1_000_000;

/// QUIC's idle timeout on live connections, and how often it sends keep-alives.
const IDLE: u64 = 2_500 * MS;
const KEEP_ALIVE: u64 = 500 * MS;
/// How long a node that leaves waits for its goodbye to get out.
const LEAVING: u64 = 700 * MS;
/// Wall clock at the start of the world, in milliseconds since the Unix epoch.
const WALL_START_MS: u64 = 1_700_000_000_000;
/// Bytes of a packet. Large messages give way to presence and datagrams, packet by packet.
const PACKET: usize = 1_200;
/// Datagrams that wait for a node that does not run; more are lost.
const SOCKET_DATAGRAMS: usize = 300;

/// What a world is made of.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Number of nodes; all are started at once.
    pub nodes: usize,
    /// Source of all chance.
    pub seed: u64,
    /// Which rules hold in all cores.
    pub rules: Rules,
    /// Every path at first.
    pub path: Path,
    /// Bytes after which a part of a snapshot is full.
    pub snapshot_part_bytes: usize,
    /// Bytes per second of every bulk connection, where its path gives more.
    pub bulk_bandwidth: u64,
    /// Nodes know each other by a name alone: it stands for some of the first three, and sometimes for
    /// nobody besides.
    pub named: bool,
    /// Which versions of the protocol nodes speak at first, by number; all for those that are not named.
    pub versions: Vec<Versions>,
    /// Whether to write everything that happens to standard error.
    pub trace: bool,
}

impl Setup {
    /// Nodes that know every rule, on equal paths, with snapshots as large and as fast as they come.
    pub fn new(nodes: usize, seed: u64, path: Path) -> Self {
        Self {
            nodes,
            seed,
            rules: Rules::default(),
            path,
            snapshot_part_bytes: SNAPSHOT_PART_BYTES,
            bulk_bandwidth: u64::MAX,
            named: false,
            versions: Vec::new(),
            trace: false,
        }
    }
}

/// Something due at a time.
#[derive(Debug)]
enum Due {
    Wake(usize, u32),
    Run(usize, u32),
    Lane(u64, usize, usize),
    Depart(u64, usize, usize, usize),
    Datagram(u64, usize, Bytes),
    Dialled {
        node: usize,
        life: u32,
        addr: SocketAddr,
    },
    DialFailed(usize, u32, SocketAddr),
    Resolved(usize, u32),
    Accepted(u64),
    Idle(u64, usize, u64),
    CloseArrives(u64, usize, bool),
    Path(u64),
    Left(usize, u32),
    Interest(usize, u32, RoomName),
    Watched(usize, u32, RoomName),
    Ghosts {
        observer: usize,
        node: usize,
        boots: Vec<u64>,
        since: u64,
    },
}

struct Timed {
    at: u64,
    order: u64,
    due: Due,
}

impl PartialEq for Timed {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.order) == (other.at, other.order)
    }
}
impl Eq for Timed {}
impl PartialOrd for Timed {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Timed {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

/// One node: its process, if it runs, and what its clients and the judge know of it.
pub(crate) struct Node {
    pub(crate) name: NodeName,
    pub(crate) core: Option<Core>,
    /// Counts processes; what is meant for an earlier one is lost.
    pub(crate) life: u32,
    pub(crate) born: u64,
    pub(crate) paused: bool,
    /// When it was last stopped.
    pub(crate) paused_at: u64,
    /// When its last pause, slowness or start ended.
    pub(crate) hindered_at: u64,
    /// Time it takes for one input, in microseconds.
    slow: u64,
    inbox: VecDeque<Input>,
    inbox_datagrams: usize,
    running: bool,
    wake_at: u64,
    wall_offset_ms: i64,
    /// The versions that its process speaks, and those that its next one will.
    pub(crate) versions: [Versions; 2],
    /// Boots of all its processes.
    pub(crate) boots: Vec<u64>,
    /// Lives that left in good order, and until when their rows stay.
    pub(crate) lingers: BTreeMap<u64, u64>,
    /// When processes ended, by boot.
    pub(crate) ended: BTreeMap<u64, u64>,
    pub(crate) leaving: bool,
    pub(crate) mirror: Mirror,
}

/// Bytes and frames that a node sent.
#[derive(Debug, Clone, Copy, Default)]
pub struct Traffic {
    /// Bytes on ordered lanes, bulk included.
    pub ordered_bytes: u64,
    /// Bytes in datagrams.
    pub datagram_bytes: u64,
    /// Frames and datagrams.
    pub packets: u64,
}

/// The whole: nodes, network, clients and the judge.
pub struct World {
    pub(crate) now: u64,
    queue: BinaryHeap<Reverse<Timed>>,
    order: u64,
    pub(crate) rng: StdRng,
    rules: Rules,
    snapshot_part_bytes: usize,
    bulk_bandwidth: u64,
    named: bool,
    trace: bool,
    pub(crate) nodes: Vec<Node>,
    paths: Vec<Vec<PathState>>,
    conns: BTreeMap<u64, Connection>,
    conn_count: u64,
    /// Whom each connection that ever was connected.
    conn_nodes: BTreeMap<u64, [usize; 2]>,
    pub(crate) clients: Clients,
    pub(crate) judge: Judge,
    pub(crate) missed: MissedEvents,
    pub(crate) hash: DefaultHasher,
    traffic: Vec<Traffic>,
    by_name: BTreeMap<NodeName, usize>,
}

impl World {
    /// A world at time zero, with every node just started.
    pub fn new(setup: &Setup) -> Self {
        let state = PathState {
            path: setup.path,
            cuts: 0,
            cut_at: [0; 2],
            busy: [0; 3],
        };
        let mut world = Self {
            now: 0,
            queue: BinaryHeap::new(),
            order: 0,
            rng: StdRng::seed_from_u64(setup.seed),
            rules: setup.rules.clone(),
            snapshot_part_bytes: setup.snapshot_part_bytes,
            bulk_bandwidth: setup.bulk_bandwidth,
            named: setup.named,
            trace: setup.trace,
            nodes: Vec::new(),
            paths: vec![vec![state; setup.nodes]; setup.nodes],
            conns: BTreeMap::new(),
            conn_count: 0,
            conn_nodes: BTreeMap::new(),
            clients: Clients::default(),
            judge: Judge::default(),
            missed: MissedEvents::default(),
            hash: DefaultHasher::new(),
            traffic: vec![Traffic::default(); setup.nodes],
            by_name: BTreeMap::new(),
        };
        for index in 0..setup.nodes {
            #[allow(clippy::expect_used)]
            let name = NodeName::new(&format!("n{index}")).expect("a label");
            world.by_name.insert(name.clone(), index);
            world.nodes.push(Node {
                name,
                core: None,
                life: 0,
                born: 0,
                paused: false,
                paused_at: 0,
                hindered_at: 0,
                slow: 0,
                inbox: VecDeque::new(),
                inbox_datagrams: 0,
                running: false,
                wake_at: u64::MAX,
                wall_offset_ms: 0,
                versions: [setup.versions.get(index).copied().unwrap_or_default(); 2],
                boots: Vec::new(),
                lingers: BTreeMap::new(),
                ended: BTreeMap::new(),
                leaving: false,
                mirror: Mirror::default(),
            });
        }
        for index in 0..setup.nodes {
            world.start(index);
        }
        world
    }

    /// The time, in microseconds since the start of the world.
    pub fn now(&self) -> u64 {
        self.now
    }

    /// A number that differs between runs that differ in any output of any core.
    pub fn trace_hash(&self) -> u64 {
        self.hash.finish()
    }

    /// What a node sent so far.
    pub fn traffic(&self, node: usize) -> Traffic {
        self.traffic[node]
    }

    /// The core of a node that runs.
    pub fn core(&self, node: usize) -> Option<&Core> {
        self.nodes[node].core.as_ref()
    }

    /// Takes the core of a node out of the run: to see how large it is.
    pub fn take_core(&mut self, node: usize) -> Option<Core> {
        self.nodes[node].core.take()
    }

    /// A counter or gauge of a running node's overview; zero if there is none.
    pub fn counter(&self, node: usize, name: &str) -> u64 {
        let overview = self.core(node).map(|core| core.overview(self.time(node)));
        overview
            .and_then(|overview| overview.counters.into_iter().find(|(n, _, _)| *n == name))
            .map_or(0, |(_, _, value)| value)
    }

    /// A node's name.
    pub fn name(&self, node: usize) -> &NodeName {
        &self.nodes[node].name
    }

    /// Lets the world run until `at`.
    pub fn run_until(&mut self, at: u64) {
        while self.queue.peek().is_some_and(|Reverse(next)| next.at <= at) {
            let Some(Reverse(next)) = self.queue.pop() else {
                break;
            };
            self.now = next.at;
            self.happen(next.due);
        }
        self.now = at;
    }

    /// Lets the world run for so many microseconds.
    pub fn run_for(&mut self, duration: u64) {
        self.run_until(self.now + duration);
    }

    /// Starts a node's process anew, with an empty memory and a boot from its wall clock.
    pub fn start(&mut self, node: usize) {
        let boot = self.wall_ms(node);
        self.start_with_boot(node, boot);
    }

    /// Starts a node's process with a given boot.
    pub fn start_with_boot(&mut self, index: usize, boot: u64) {
        let seed = self.rng.random();
        let seeds = (0..self.nodes.len().min(3))
            .filter(|other| *other != index && !self.named)
            .map(|other| (None, address(other)))
            .collect();
        let rules = self.rules.clone();
        let now = self.now;
        let node = &mut self.nodes[index];
        if node.core.is_some() {
            return;
        }
        #[allow(clippy::expect_used)]
        let config = Config {
            node: node.name.clone(),
            cluster: NodeName::new("sim").expect("a label"),
            region: format!("r{}", index % 3),
            boot,
            advertise: address(index),
            seeds,
            grace: GRACE,
            snapshot_part_bytes: self.snapshot_part_bytes,
            public: public_of(index),
            versions: node.versions[1],
            rules,
        };
        let versions = config.versions;
        self.note(|| format!("n{index} STARTS boot {boot}, versions {versions}"));
        let node = &mut self.nodes[index];
        node.versions[0] = versions;
        node.life += 1;
        node.boots.push(boot);
        node.born = now;
        node.hindered_at = now;
        node.core = Some(Core::new(config, Time(0), seed));
        node.inbox.clear();
        node.inbox_datagrams = 0;
        node.running = false;
        node.paused = false;
        node.leaving = false;
        node.slow = 0;
        node.wake_at = u64::MAX;
        node.mirror = Mirror::default();
        let life = node.life;
        self.drain(index);
        if self.named {
            self.resolve(index, life, true);
        }
    }

    /// The versions that a node's next process speaks.
    pub fn set_versions(&mut self, node: usize, versions: Versions) {
        self.nodes[node].versions[1] = versions;
    }

    /// A node is told what the name of the cluster stands for now; `whole` for all that there is. The
    /// node itself is part of it.
    fn resolve(&mut self, index: usize, life: u32, whole: bool) {
        let first = 0..self.nodes.len().min(3);
        let mut addrs: BTreeSet<SocketAddr> = first
            .filter(|_| whole || self.rng.random_bool(0.8))
            .map(address)
            .collect();
        if self.rng.random_bool(0.3) {
            addrs.insert(address(self.nodes.len() + 1));
        }
        let again = self.rng.random_range(2..30) * SECOND;
        self.at(self.now + again, Due::Resolved(index, life));
        self.give(index, life, Input::Seeds(addrs));
    }

    /// Kills a node's process without a word to anybody.
    pub fn crash(&mut self, index: usize) {
        if self.nodes[index].core.is_none() {
            return;
        }
        self.note(|| format!("n{index} CRASHES"));
        // Rows of a life that left in good order stay for as long as it said, whatever comes of later ones.
        let node = &self.nodes[index];
        let lingers = |boot: &u64| {
            node.lingers
                .get(boot)
                .is_some_and(|until| *until > self.now)
        };
        let boots = node.boots.iter().filter(|boot| !lingers(boot));
        let boots = boots.copied().collect();
        self.expect_gone(index, boots, 0);
        self.end_process(index);
    }

    /// A node leaves in good order; its rows stay for `linger`, as away.
    pub fn leave(&mut self, index: usize, linger: Duration) {
        let node = &mut self.nodes[index];
        if node.core.is_none() || node.leaving || node.paused {
            return;
        }
        node.leaving = true;
        let (life, boots) = (node.life, node.boots.clone());
        let linger_us = u64::try_from(linger.as_micros()).unwrap_or(u64::MAX);
        self.note(|| format!("n{index} LEAVES, linger {linger:?}"));
        let until = self.now + LEAVING + linger_us;
        self.clients.node_leaves(index, life, self.now, until);
        let ends = boots.iter().map(|boot| (*boot, until));
        self.nodes[index].lingers.extend(ends);
        self.expect_gone(index, boots, LEAVING + linger_us);
        self.give(index, life, Input::Leave { linger });
        self.at(self.now + LEAVING, Due::Left(index, life));
    }

    /// Stops a node's process from running (SIGSTOP).
    pub fn pause(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        if node.core.is_some() && !node.leaving {
            node.paused = true;
            node.paused_at = self.now;
            self.note(|| format!("n{index} PAUSES"));
            self.judge.disturbed(self.now);
            self.refresh_all(index);
        }
    }

    /// Lets a stopped process go on.
    pub fn resume(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        if node.paused {
            node.paused = false;
            node.hindered_at = self.now;
            if !node.running {
                node.running = true;
                let life = node.life;
                self.at(self.now + 1, Due::Run(index, life));
            }
            self.note(|| format!("n{index} GOES ON"));
            self.judge.disturbed(self.now);
            self.refresh_all(index);
        }
    }

    /// Makes a node take so long for each input.
    pub fn slow(&mut self, index: usize, micros: u64) {
        self.nodes[index].slow = micros;
        self.nodes[index].hindered_at = self.now;
        self.judge.disturbed(self.now);
    }

    /// Steps a node's wall clock; its next process sees it.
    pub fn step_clock(&mut self, index: usize, millis: i64) {
        self.nodes[index].wall_offset_ms += millis;
    }

    /// Cuts the path from one node to another, in this direction only. Cuts add up.
    pub fn cut(&mut self, from: usize, to: usize) {
        self.note(|| format!("CUT n{from} -> n{to}"));
        let path = &mut self.paths[from][to];
        path.cuts += 1;
        path.cut_at = [path.cut_at[1], self.now];
        self.judge.disturbed(self.now);
        self.refresh_pair(from, to);
    }

    /// Takes one cut back.
    pub fn heal(&mut self, from: usize, to: usize) {
        self.note(|| format!("HEAL n{from} -> n{to}"));
        let path = &mut self.paths[from][to];
        path.cuts = path.cuts.saturating_sub(1);
        self.judge.disturbed(self.now);
        if path.cuts > 0 {
            return;
        }
        for (id, side) in self.conns_between(from, to) {
            for lane in 0..3 {
                let wait = self.rng.random_range(20 * MS..800 * MS);
                self.flush_unsent(id, side, lane);
                if let Some(conn) = self.conns.get_mut(&id) {
                    let lane_state = &mut conn.ends[side].lanes[lane];
                    if !lane_state.queue.is_empty() && !lane_state.awaited {
                        lane_state.awaited = true;
                        self.at(self.now + wait, Due::Lane(id, side, lane));
                    }
                }
            }
        }
        self.refresh_pair(from, to);
    }

    /// Whether the path between two nodes, in either direction, was cut twice in the last so many
    /// microseconds: what one link had just got across the next cut stops again.
    pub(crate) fn flaps(&self, a: usize, b: usize, within: u64) -> bool {
        [(a, b), (b, a)].into_iter().any(|(from, to)| {
            let [earlier, _] = self.paths[from][to].cut_at;
            earlier > 0 && self.now < earlier + within
        })
    }

    /// Cuts both directions between two nodes.
    pub fn cut_both(&mut self, a: usize, b: usize) {
        self.cut(a, b);
        self.cut(b, a);
    }

    /// Heals both directions between two nodes.
    pub fn heal_both(&mut self, a: usize, b: usize) {
        self.heal(a, b);
        self.heal(b, a);
    }

    /// The path from one node to another.
    pub fn path(&self, from: usize, to: usize) -> Path {
        self.paths[from][to].path
    }

    /// The longest that a packet takes from one node to another and back, in microseconds.
    pub(crate) fn round_trip_us(&self, a: usize, b: usize) -> u64 {
        let ways = [self.path(a, b), self.path(b, a)];
        ways.iter().map(|way| way.latency_us + way.jitter_us).sum()
    }

    /// The same by whichever is longer, the direct way or the best one through a third node.
    pub(crate) fn way_us(&self, a: usize, b: usize) -> u64 {
        let relays = (0..self.nodes.len()).filter(|relay| ![a, b].contains(relay));
        let around =
            relays.map(|relay| self.round_trip_us(a, relay) + self.round_trip_us(relay, b));
        self.round_trip_us(a, b).max(around.min().unwrap_or(0))
    }

    /// When the last of what links have been given so far will be on its way; not before now.
    pub fn idle_at(&self) -> u64 {
        let ways = self.paths.iter().flatten();
        let busy = ways.flat_map(|way| way.busy);
        busy.max().unwrap_or_default().max(self.now)
    }

    /// Changes the path from one node to another.
    pub fn set_path(&mut self, from: usize, to: usize, path: Path) {
        self.judge.garbage |= path.garbage > 0.0;
        self.paths[from][to].path = path;
    }

    /// Says that something besides cuts and pauses hinders the nodes from now on.
    pub fn disturb(&mut self) {
        self.judge.disturbed(self.now);
    }

    /// Drops every bulk frame that is under way between two nodes: that connection broke.
    pub fn break_bulk(&mut self, from: usize, to: usize) {
        for (id, side) in self.conns_between(from, to) {
            if let Some(conn) = self.conns.get_mut(&id) {
                conn.ends[side].lanes[2].queue.clear();
            }
        }
    }

    /// Puts a frame into the connection from one node to another, as if that one had sent it.
    pub fn inject(&mut self, from: usize, to: usize, lane: Lane, frame: Bytes) {
        self.judge.garbage = true;
        let open = |(id, side): &(u64, usize)| {
            let ends = self.conns.get(id).map(|conn| &conn.ends);
            ends.is_some_and(|ends| ends[*side].open && ends[1 - side].open)
        };
        let conns = self.conns_between(from, to);
        if let Some((id, side)) = conns.into_iter().rfind(open) {
            self.send_frame(conn_id(id, side), lane, frame);
        }
    }

    /// Whether a node runs and is neither stopped nor about to leave.
    pub fn is_up(&self, node: usize) -> bool {
        let node = &self.nodes[node];
        node.core.is_some() && !node.paused && !node.leaving
    }

    /// Number of nodes, running or not.
    pub fn node_count(&self) -> usize {
        self.nodes.len()
    }

    /// Whether two nodes can reach each other directly in both directions.
    pub fn can_reach(&self, a: usize, b: usize) -> bool {
        self.paths[a][b].cuts == 0 && self.paths[b][a].cuts == 0
    }

    pub(crate) fn index_of(&self, name: &NodeName) -> Option<usize> {
        self.by_name.get(name).copied()
    }

    pub(crate) fn time(&self, node: usize) -> Time {
        Time(self.now - self.nodes[node].born)
    }

    /// What a node's own clients do.
    pub(crate) fn local(&mut self, node: usize, local: Local) {
        let life = self.nodes[node].life;
        self.give(node, life, Input::Local(local));
    }

    /// In a moment the hub tells whether anybody is left in a room.
    pub(crate) fn tell_interest_soon(&mut self, node: usize, room: RoomName) {
        let life = self.nodes[node].life;
        self.at(self.now + MS, Due::Interest(node, life, room));
    }

    /// In a moment the hub says where everybody in a room is.
    pub(crate) fn tell_positions_soon(&mut self, node: usize, room: RoomName) {
        let life = self.nodes[node].life;
        self.at(self.now + MS, Due::Watched(node, life, room));
    }

    pub(crate) fn note(&self, text: impl FnOnce() -> String) {
        if self.trace {
            let (seconds, micros) = (self.now / SECOND, self.now % SECOND);
            // Nobody to tell if standard error is gone.
            let _ = writeln!(std::io::stderr(), "{seconds:4}.{micros:06} {}", text());
        }
    }

    fn at(&mut self, at: u64, due: Due) {
        self.order += 1;
        let order = self.order;
        self.queue.push(Reverse(Timed { at, order, due }));
    }

    fn happen(&mut self, due: Due) {
        match due {
            Due::Wake(node, life) => self.wake(node, life),
            Due::Run(node, life) => self.run_slow(node, life),
            Due::Lane(conn, side, lane) => self.lane_arrives(conn, side, lane),
            Due::Depart(conn, side, lane, bytes) => self.departs(conn, side, lane, bytes),
            Due::Datagram(conn, side, bytes) => self.datagram_arrives(conn, side, bytes),
            Due::Dialled { node, life, addr } => self.dialled(node, life, addr),
            Due::DialFailed(node, life, addr) => {
                let reason = "no answer".to_owned();
                self.give(node, life, Input::DialFailed { addr, reason });
            }
            Due::Resolved(node, life) => {
                if self.nodes[node].life == life && self.nodes[node].core.is_some() {
                    self.resolve(node, life, false);
                }
            }
            Due::Accepted(conn) => self.accepted(conn),
            Due::Idle(conn, side, idle) => self.idle(conn, side, idle),
            Due::CloseArrives(conn, side, clean) => self.close_end(conn, side, clean),
            Due::Path(conn) => self.tell_paths(conn),
            Due::Left(node, life) => {
                if self.nodes[node].life == life && self.nodes[node].core.is_some() {
                    let ids: Vec<u64> = self.conns.keys().copied().collect();
                    for id in ids {
                        for side in 0..2 {
                            if self
                                .conns
                                .get(&id)
                                .is_some_and(|c| c.ends[side].node == node)
                            {
                                self.close(conn_id(id, side), CloseCode::Leaving);
                            }
                        }
                    }
                    self.end_process(node);
                }
            }
            Due::Interest(node, life, room) => {
                let wanted = self
                    .clients
                    .interest
                    .contains_key(&(node, life, room.clone()));
                self.give(node, life, Input::Local(Local::Interest { room, wanted }));
            }
            Due::Watched(node, life, room) => {
                let items = self.unsaid_positions(node, life, &room);
                self.give(node, life, Input::Local(Local::Cursors { room, items }));
            }
            Due::Ghosts {
                observer,
                node,
                boots,
                since,
            } => self.check_ghosts(observer, node, &boots, since),
        }
    }

    /// Rows of these lives of a node must be gone everywhere within the bound from now on.
    fn expect_gone(&mut self, node: usize, boots: Vec<u64>, after: u64) {
        let since = self.now + after;
        for observer in (0..self.nodes.len()).filter(|observer| *observer != node) {
            let bound = self.hide_bound(observer, node);
            let due = Due::Ghosts {
                observer,
                node,
                boots: boots.clone(),
                since,
            };
            self.at(since + bound, due);
        }
    }

    fn end_process(&mut self, index: usize) {
        for member in self.members() {
            if self
                .attachment(member)
                .is_some_and(|(node, _)| node == index)
            {
                self.lose_sight(member);
            }
        }
        let node = &mut self.nodes[index];
        node.core = None;
        node.paused = false;
        let life = node.life;
        if let Some(boot) = node.boots.last() {
            node.ended.insert(*boot, self.now);
        }
        self.clients.node_ended(index, life, self.now);
        let ids: Vec<u64> = self.conns.keys().copied().collect();
        for id in ids {
            if let Some(conn) = self.conns.get_mut(&id) {
                let mut touched = false;
                for end in conn.ends.iter_mut().filter(|end| end.node == index) {
                    end.open = false;
                    touched = true;
                }
                if touched {
                    self.refresh(id);
                }
            }
        }
    }

    fn wall_ms(&self, node: usize) -> u64 {
        let wall = WALL_START_MS + self.now / MS;
        wall.saturating_add_signed(self.nodes[node].wall_offset_ms)
    }

    fn give(&mut self, index: usize, life: u32, input: Input) {
        let now = self.now;
        let node = &mut self.nodes[index];
        if node.core.is_none() || node.life != life {
            return;
        }
        if !node.paused && node.slow == 0 && node.inbox.is_empty() {
            return self.handle(index, input);
        }
        if matches!(input, Input::Datagram { .. }) {
            if node.inbox_datagrams >= SOCKET_DATAGRAMS {
                return;
            }
            node.inbox_datagrams += 1;
        }
        node.inbox.push_back(input);
        if !node.paused && !node.running {
            node.running = true;
            let at = now + node.slow.max(1);
            self.at(at, Due::Run(index, life));
        }
    }

    fn run_slow(&mut self, index: usize, life: u32) {
        let now = self.now;
        let node = &mut self.nodes[index];
        if node.life != life || node.core.is_none() {
            return;
        }
        node.running = false;
        if node.paused {
            return;
        }
        if let Some(input) = node.inbox.pop_front() {
            if matches!(input, Input::Datagram { .. }) {
                node.inbox_datagrams -= 1;
            }
            self.handle(index, input);
        } else {
            self.handle(index, Input::Tick);
        }
        let node = &mut self.nodes[index];
        if !node.inbox.is_empty() && node.core.is_some() {
            node.running = true;
            let at = now + node.slow;
            self.at(at, Due::Run(index, life));
        }
    }

    fn handle(&mut self, index: usize, input: Input) {
        let time = self.time(index);
        self.note(|| format!("n{index} <- {}", told(&input)));
        if self.nodes[index].core.is_some() {
            let from = match &input {
                Input::Frame { conn, .. } | Input::Datagram { conn, .. } => {
                    let (id, side) = split(*conn);
                    let far = self.conn_nodes.get(&id).map(|nodes| nodes[1 - side]);
                    far.map(|far| &self.nodes[far].name)
                }
                _ => None,
            };
            self.judge.note_input(index, from, &input);
            if let Input::Local(Local::Interest {
                room,
                wanted: false,
            }) = &input
            {
                self.forget_cursors(index, room);
                self.nodes[index].mirror.heads.remove(room);
            }
            if let Some(core) = self.nodes[index].core.as_mut() {
                core.handle(time, input);
            }
            self.drain(index);
        }
    }

    fn wake(&mut self, index: usize, life: u32) {
        let now = self.now;
        let node = &mut self.nodes[index];
        if node.life != life || node.wake_at != now {
            return;
        }
        node.wake_at = u64::MAX;
        if node.core.is_none() || node.paused {
            return;
        }
        let slow = node.slow > 0;
        if slow {
            self.give(index, life, Input::Tick);
            // Its timers are looked at again when the input was taken.
            if self.nodes[index].wake_at == u64::MAX {
                self.nodes[index].wake_at = now + 50 * MS;
                self.at(now + 50 * MS, Due::Wake(index, life));
            }
        } else {
            self.handle(index, Input::Tick);
        }
    }

    fn drain(&mut self, index: usize) {
        while let Some(output) = self.nodes[index].core.as_mut().and_then(Core::poll_output) {
            index.hash(&mut self.hash);
            self.now.hash(&mut self.hash);
            match output {
                Output::Send { conn, lane, frame } => {
                    frame.hash(&mut self.hash);
                    self.traffic[index].ordered_bytes += frame.len() as u64;
                    self.traffic[index].packets += 1;
                    self.note(|| format!("n{index} -> {conn:?} {lane:?} {}", shortened(&frame)));
                    self.judge_version(index, conn, Way::Frame, &frame);
                    self.judge_frame(index, conn, &frame);
                    self.send_frame(conn, lane, frame);
                }
                Output::Datagram {
                    conn,
                    bytes,
                    urgent,
                } => {
                    bytes.hash(&mut self.hash);
                    self.traffic[index].datagram_bytes += bytes.len() as u64;
                    self.traffic[index].packets += 1;
                    self.judge_version(index, conn, Way::Datagram, &bytes);
                    self.judge_datagram(index, conn, &bytes);
                    self.send_datagram(conn, bytes, urgent);
                }
                Output::Dial { addr, .. } => self.dial(index, addr),
                Output::Close { conn, code, reason } => {
                    self.note(|| format!("n{index} CLOSES {conn:?} {code:?} {reason}"));
                    reason.hash(&mut self.hash);
                    self.note_close(index, code, &reason);
                    self.close(conn, code);
                }
                Output::Event(event) => {
                    self.hash_event(&event);
                    self.note(|| format!("n{index} EVENT {event:?}"));
                    self.observe(index, event);
                }
            }
        }
        let node = &mut self.nodes[index];
        if let Some(core) = &node.core {
            let Time(next) = core.poll_timeout();
            let at = node.born.saturating_add(next).max(self.now + 1);
            if at < node.wake_at {
                node.wake_at = at;
                let life = node.life;
                self.at(at, Due::Wake(index, life));
            }
        }
    }

    /// Payloads are large, and to write them out would take longer than everything else.
    fn hash_event(&mut self, event: &Event) {
        if let Event::Messages { items, .. } | Event::Published { items, .. } = event {
            for (number, message) in items {
                number.hash(&mut self.hash);
                message.payload.hash(&mut self.hash);
            }
        } else if let Event::Replayed { items, .. } = event {
            for (_, number, message) in items {
                number.hash(&mut self.hash);
                message.payload.hash(&mut self.hash);
            }
        } else {
            format!("{event:?}").hash(&mut self.hash);
        }
    }

    fn send_frame(&mut self, id: ConnId, lane: Lane, frame: Bytes) {
        let (id, side) = split(id);
        let Some(conn) = self.conns.get_mut(&id).filter(|c| c.ends[side].open) else {
            return;
        };
        let (from, to) = (conn.ends[side].node, conn.ends[1 - side].node);
        let PathState { path, busy, .. } = &mut self.paths[from][to];
        let len = frame.len();
        let (busy, bandwidth) = match lane {
            Lane::Bulk => (&mut busy[2], path.bandwidth.min(self.bulk_bandwidth)),
            Lane::Messages if len > PACKET => (&mut busy[1], path.bandwidth),
            Lane::Messages | Lane::Presence => (&mut busy[0], path.bandwidth),
        };
        let departs = (*busy).max(self.now) + len as u64 * SECOND / bandwidth + 1;
        *busy = departs;
        let mut delay = path.latency_us + self.rng.random_range(0..=path.jitter_us);
        for _ in 0..(len / PACKET + 1).min(20) {
            let mut again = 0;
            while again < 6 && path.loss > 0.0 && self.rng.random_bool(path.loss) {
                again += 1;
                delay += path.latency_us * 3 + 20 * MS;
            }
        }
        let frame = if path.garbage > 0.0 && self.rng.random_bool(path.garbage) {
            garbage(&mut self.rng, &frame)
        } else {
            frame
        };
        let lane_state = &mut conn.ends[side].lanes[lane as usize];
        let arrives = (departs + delay).max(lane_state.last);
        lane_state.last = arrives;
        lane_state.queue.push_back((arrives, frame));
        if !lane_state.awaited {
            lane_state.awaited = true;
            self.at(arrives, Due::Lane(id, side, lane as usize));
        }
        self.at(departs, Due::Depart(id, side, lane as usize, len));
    }

    fn departs(&mut self, id: u64, side: usize, lane: usize, bytes: usize) {
        let Some(conn) = self.conns.get_mut(&id) else {
            return;
        };
        let (from, to) = (conn.ends[side].node, conn.ends[1 - side].node);
        if self.paths[from][to].cuts > 0 {
            conn.ends[side].lanes[lane].unsent += bytes;
            return;
        }
        self.drained(id, side, lane, bytes);
    }

    fn flush_unsent(&mut self, id: u64, side: usize, lane: usize) {
        if let Some(conn) = self.conns.get_mut(&id) {
            let bytes = std::mem::take(&mut conn.ends[side].lanes[lane].unsent);
            if bytes > 0 {
                self.drained(id, side, lane, bytes);
            }
        }
    }

    fn drained(&mut self, id: u64, side: usize, lane: usize, bytes: usize) {
        let Some(conn) = self.conns.get(&id).filter(|c| c.ends[side].open) else {
            return;
        };
        let end = &conn.ends[side];
        let (node, life) = (end.node, end.life);
        let input = Input::Drained {
            conn: conn_id(id, side),
            lane: lane_of(lane),
            bytes,
        };
        self.give(node, life, input);
    }

    fn lane_arrives(&mut self, id: u64, side: usize, lane: usize) {
        loop {
            let Some(conn) = self.conns.get_mut(&id) else {
                return;
            };
            let (from, to) = (conn.ends[side].node, conn.ends[1 - side].node);
            let far = &conn.ends[1 - side];
            let (open, known, life) = (far.open, far.known, far.life);
            let state = &mut conn.ends[side].lanes[lane];
            state.awaited = false;
            if !open {
                state.queue.clear();
                return;
            }
            let Some((arrives, _)) = state.queue.front() else {
                return;
            };
            // A cut path is waited for; an end that has not accepted yet is asked again soon.
            if self.paths[from][to].cuts > 0 {
                return;
            }
            if *arrives > self.now || !known {
                let at = (*arrives).max(self.now + if known { 0 } else { MS });
                state.awaited = true;
                return self.at(at, Due::Lane(id, side, lane));
            }
            let Some((_, bytes)) = state.queue.pop_front() else {
                return;
            };
            // While this frame is handled, new ones must not be waited for twice.
            state.awaited = true;
            let input = Input::Frame {
                conn: conn_id(id, 1 - side),
                lane: lane_of(lane),
                bytes,
            };
            self.give(to, life, input);
        }
    }

    fn send_datagram(&mut self, id: ConnId, bytes: Bytes, urgent: bool) {
        let (id, side) = split(id);
        let Some(conn) = self.conns.get(&id).filter(|c| c.ends[side].open) else {
            return;
        };
        let (from, to) = (conn.ends[side].node, conn.ends[1 - side].node);
        let PathState { path, busy, .. } = &mut self.paths[from][to];
        // A full datagram queue drops cursors early and the rest late.
        let limit = if urgent { 400 * MS } else { 50 * MS };
        if busy[0] > self.now + limit {
            return;
        }
        let departs = busy[0].max(self.now) + bytes.len() as u64 * SECOND / path.bandwidth + 1;
        busy[0] = departs;
        let copies = 1 + usize::from(path.duplicate > 0.0 && self.rng.random_bool(path.duplicate));
        let path = *path;
        for _ in 0..copies {
            if path.loss > 0.0 && self.rng.random_bool(path.loss) {
                continue;
            }
            let mut delay = path.latency_us + self.rng.random_range(0..=path.jitter_us);
            if path.reorder > 0.0 && self.rng.random_bool(path.reorder) {
                delay += self.rng.random_range(0..200 * MS);
            }
            let noise = path.garbage > 0.0 && self.rng.random_bool(path.garbage);
            let bytes = if noise {
                garbage(&mut self.rng, &bytes)
            } else {
                bytes.clone()
            };
            self.at(departs + delay, Due::Datagram(id, side, bytes));
        }
    }

    fn datagram_arrives(&mut self, id: u64, side: usize, bytes: Bytes) {
        let Some(conn) = self.conns.get(&id) else {
            return;
        };
        let (from, far) = (conn.ends[side].node, &conn.ends[1 - side]);
        if !far.open || !far.known || self.paths[from][far.node].cuts > 0 {
            return;
        }
        let (to, life) = (far.node, far.life);
        let conn = conn_id(id, 1 - side);
        self.give(to, life, Input::Datagram { conn, bytes });
    }

    fn dial(&mut self, node: usize, addr: SocketAddr) {
        let life = self.nodes[node].life;
        let to = node_at(addr).filter(|to| *to < self.nodes.len());
        let takes = match to {
            Some(to) if to != node => {
                let (there, back) = (self.paths[node][to].path, self.paths[to][node].path);
                let mut takes = there.latency_us + back.latency_us + 2 * MS;
                takes += self.rng.random_range(0..=there.jitter_us + back.jitter_us);
                let mut again = 0;
                while again < 4 && there.loss > 0.0 && self.rng.random_bool(there.loss) {
                    takes += 300 * MS;
                    again += 1;
                }
                takes
            }
            _ => return self.at(self.now + 10 * MS, Due::DialFailed(node, life, addr)),
        };
        self.at(self.now + takes, Due::Dialled { node, life, addr });
    }

    fn dialled(&mut self, node: usize, life: u32, addr: SocketAddr) {
        let Some(to) = node_at(addr) else {
            return;
        };
        if self.nodes[node].life != life || self.nodes[node].core.is_none() {
            return;
        }
        let far = &self.nodes[to];
        if far.core.is_none() || far.paused || far.leaving || !self.can_reach(node, to) {
            return self.at(self.now + 1_500 * MS, Due::DialFailed(node, life, addr));
        }
        self.conn_count += 1;
        let id = self.conn_count;
        let far_life = far.life;
        let connection = Connection {
            ends: [End::new(node, life, true), End::new(to, far_life, false)],
        };
        self.conns.insert(id, connection);
        self.conn_nodes.insert(id, [node, to]);
        let there = self.paths[node][to].path.latency_us;
        self.at(self.now + there, Due::Accepted(id));
        self.at(self.now + MS, Due::Path(id));
        self.give(
            node,
            life,
            Input::Connected {
                conn: conn_id(id, 0),
                peer: self.nodes[to].name.clone(),
                addr,
                dialled: true,
            },
        );
    }

    fn accepted(&mut self, id: u64) {
        let Some(conn) = self.conns.get_mut(&id) else {
            return;
        };
        let dialler = conn.ends[0].node;
        let end = &mut conn.ends[1];
        if !end.open {
            return;
        }
        end.known = true;
        let (node, life) = (end.node, end.life);
        let peer = self.nodes[dialler].name.clone();
        // The dialling end's socket is the advertised one: a node has one endpoint.
        let addr = address(dialler);
        self.give(
            node,
            life,
            Input::Connected {
                conn: conn_id(id, 1),
                peer,
                addr,
                dialled: false,
            },
        );
        self.refresh(id);
    }

    fn close(&mut self, id: ConnId, code: CloseCode) {
        let (id, side) = split(id);
        let Some(conn) = self.conns.get_mut(&id).filter(|c| c.ends[side].open) else {
            return;
        };
        conn.ends[side].open = false;
        let (from, to) = (conn.ends[side].node, conn.ends[1 - side].node);
        let path = &self.paths[from][to];
        let clean = code == CloseCode::Leaving;
        if path.cuts == 0 {
            let delay = path.path.latency_us + self.rng.random_range(0..=path.path.jitter_us);
            self.at(self.now + delay, Due::CloseArrives(id, 1 - side, clean));
        } else {
            self.refresh(id);
        }
    }

    fn idle(&mut self, id: u64, side: usize, idle: u64) {
        if self
            .conns
            .get(&id)
            .is_some_and(|conn| conn.ends[side].idle == idle && !conn.ends[side].hears)
        {
            self.close_end(id, side, false);
        }
    }

    fn close_end(&mut self, id: u64, side: usize, clean: bool) {
        let Some(conn) = self.conns.get_mut(&id).filter(|c| c.ends[side].open) else {
            return;
        };
        let end = &mut conn.ends[side];
        end.open = false;
        if end.known {
            let (node, life) = (end.node, end.life);
            let conn = conn_id(id, side);
            self.give(node, life, Input::Disconnected { conn, clean });
        }
        self.refresh(id);
    }

    fn tell_paths(&mut self, id: u64) {
        let Some(conn) = self.conns.get(&id) else {
            return;
        };
        let nodes = [conn.ends[0].node, conn.ends[1].node];
        let ways = [
            &self.paths[nodes[0]][nodes[1]],
            &self.paths[nodes[1]][nodes[0]],
        ];
        let rtt: u64 = ways
            .iter()
            .map(|way| way.path.latency_us + way.path.jitter_us / 2)
            .sum();
        let room: Vec<bool> = ways
            .iter()
            .map(|way| way.busy[0] <= self.now + 20 * MS)
            .collect();
        let tight = ways.iter().any(|way| way.path.bandwidth < 10_000_000);
        for (side, room_for_cursors) in room.into_iter().enumerate() {
            let Some(end) = self.conns.get_mut(&id).map(|conn| &mut conn.ends[side]) else {
                return;
            };
            let news = rtt.abs_diff(end.rtt_told_us) * 10 > rtt
                || end.room_for_cursors != room_for_cursors;
            if end.open && end.known && news {
                end.rtt_told_us = rtt;
                end.room_for_cursors = room_for_cursors;
                let (node, life) = (end.node, end.life);
                self.give(
                    node,
                    life,
                    Input::Path {
                        conn: conn_id(id, side),
                        rtt: Duration::from_micros(rtt),
                        room_for_cursors,
                    },
                );
            }
        }
        let every = if tight { 100 * MS } else { SECOND };
        if self.conns.contains_key(&id) {
            self.at(self.now + every, Due::Path(id));
        }
    }

    /// The nodes at the near and the far end of a connection, if the process at the far end is still the
    /// one that it was opened to.
    pub(crate) fn ends_of(&self, conn: ConnId) -> Option<[usize; 2]> {
        let (id, side) = split(conn);
        let ends = &self.conns.get(&id)?.ends;
        let far = &ends[1 - side];
        (self.nodes[far.node].life == far.life).then(|| [ends[side].node, far.node])
    }

    fn conns_between(&self, from: usize, to: usize) -> Vec<(u64, usize)> {
        let mut found = Vec::new();
        for (id, conn) in &self.conns {
            for side in 0..2 {
                if conn.ends[side].node == from && conn.ends[1 - side].node == to {
                    found.push((*id, side));
                }
            }
        }
        found
    }

    fn refresh_pair(&mut self, a: usize, b: usize) {
        for (id, _) in self.conns_between(a, b) {
            self.refresh(id);
        }
    }

    fn refresh_all(&mut self, node: usize) {
        let ids: Vec<u64> = self
            .conns
            .iter()
            .filter(|(_, conn)| conn.ends.iter().any(|end| end.node == node))
            .map(|(id, _)| *id)
            .collect();
        for id in ids {
            self.refresh(id);
        }
    }

    /// Works out which end hears the other, and starts or stops idle timers.
    fn refresh(&mut self, id: u64) {
        for side in 0..2 {
            let Some(conn) = self.conns.get(&id) else {
                return;
            };
            let (near, far) = (&conn.ends[side], &conn.ends[1 - side]);
            let process = &self.nodes[far.node];
            let runs = process.core.is_some() && process.life == far.life;
            let reachable = self.paths[far.node][near.node].cuts == 0;
            let there = self.paths[near.node][far.node].cuts == 0;
            let hears = far.open && runs && !process.paused && reachable;
            if hears == near.hears || !near.open {
                continue;
            }
            // An end that has given up answers packets with a reset, if both ways are open.
            let reset = !far.open && runs && !process.paused && reachable && there;
            let wait = if reset {
                20 * MS + self.rng.random_range(0..KEEP_ALIVE)
            } else {
                IDLE - self.rng.random_range(0..KEEP_ALIVE)
            };
            let now = self.now;
            let Some(end) = self.conns.get_mut(&id).map(|conn| &mut conn.ends[side]) else {
                return;
            };
            end.hears = hears;
            end.idle += 1;
            let idle = end.idle;
            if !hears {
                self.at(now + wait, Due::Idle(id, side, idle));
            }
        }
        if self
            .conns
            .get(&id)
            .is_some_and(|conn| conn.ends.iter().all(|end| !end.open))
        {
            self.conns.remove(&id);
        }
    }
}

/// Where a node is reached.
fn address(node: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], 7_000 + u16::try_from(node).unwrap_or(0)))
}

fn node_at(addr: SocketAddr) -> Option<usize> {
    addr.port().checked_sub(7_000).map(usize::from)
}

fn conn_id(id: u64, side: usize) -> ConnId {
    ConnId(id * 2 + side as u64)
}

fn split(ConnId(id): ConnId) -> (u64, usize) {
    (id / 2, usize::from(id % 2 == 1))
}

fn lane_of(lane: usize) -> Lane {
    match lane {
        0 => Lane::Presence,
        1 => Lane::Messages,
        _ => Lane::Bulk,
    }
}

fn told(input: &Input) -> String {
    match input {
        Input::Frame { conn, lane, bytes } => format!("{conn:?} {lane:?} {}", shortened(bytes)),
        Input::Datagram { conn, bytes } => match Datagram::decode(bytes, VERSION) {
            Ok(Datagram::Swim(packet)) => format!("{conn:?} swim, {} bytes", packet.len()),
            other => format!("{conn:?} {other:?}"),
        },
        other => format!("{other:?}"),
    }
}

fn shortened(frame: &Bytes) -> String {
    let mut text = match Frame::decode(frame, VERSION) {
        Ok(Frame::Members(bytes)) => format!("members, {} bytes", bytes.len()),
        other => format!("{other:?}"),
    };
    if let Some((end, _)) = text.char_indices().nth(1_500) {
        text.truncate(end);
    }
    text
}

/// A frame cut short, or noise in its place.
fn garbage(rng: &mut StdRng, frame: &Bytes) -> Bytes {
    if rng.random_bool(0.5) && frame.len() > 1 {
        return frame.slice(..rng.random_range(0..frame.len()));
    }
    let mut noise: Vec<u8> = (0..rng.random_range(1..60)).map(|_| rng.random()).collect();
    noise[0] = rng.random_range(0..64);
    noise.into()
}
