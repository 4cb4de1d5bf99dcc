//! Links: who is connected, whether to believe the Hello, which of two connections to keep, and
//! when to dial.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use rand::RngExt;

use super::super::event::{CloseCode, Event, Lane, Output};
use super::super::identity::{Boot, ConnId, MemberId, NodeName, RoomName, Time};
use super::super::overview::SeedOverview;
use super::super::wire::{self, Frame, Hello, OwnerId, PUBLIC_BYTES_MAX};
use super::Core;
use super::messages::{Outgoing, Sent};
use super::rtt::RoundTrip;
use super::snapshot::Serving;

/// Most addresses of other nodes that are taken from outside at a time.
pub const SEEDS_MAX: usize = 1_000;

/// Known peers are redialled at least this often (protocol §2).
const REDIAL_MAX: Duration = Duration::from_millis(1_000);
const REDIAL_MIN: Duration = Duration::from_millis(700);
/// Addresses kept besides those of the configuration: two for each node in mind.
const ADDRESSES_MAX: usize = 2 * super::replica::NODES_MAX;
/// Of two nodes the one with the lesser name dials; the other waits this long before it does too, and
/// two round trips if those are longer: a handshake takes one, and the Hello half of one.
const DIAL_HEAD_START: Duration = Duration::from_millis(400);
const DIAL_HEAD_START_MAX: Duration = Duration::from_millis(1_200);
/// After a refusal there is little hope: somebody has to change something first.
const REFUSED_REDIAL: Duration = Duration::from_secs(5);
/// An address that led back to this node is tried again after this long, if a name stands for it and
/// there is no link at all: behind one address there may be several nodes, this one among them.
const ITSELF_REDIAL: Duration = Duration::from_secs(30);
/// A dial without any answer counts as failed.
const DIAL_LOST: Duration = Duration::from_secs(6);
/// A connection that heard nothing for this long gives way to a new one, whoever dialled it:
/// heartbeats come every 0.5 s. On a far link what is lost takes longer to come again.
const SILENT: Duration = Duration::from_millis(1_500);
/// A connection without a Hello is closed after this long.
const HELLO_MAX: Duration = Duration::from_secs(5);
/// What may arrive on other lanes before the Hello does.
const EARLY_BYTES_MAX: usize = 512 * 1024;
/// An address that was learned from others is forgotten when its node has been away this long.
const ADDRESS_KEPT: Duration = Duration::from_secs(3_600);

/// One authenticated connection.
#[derive(Debug)]
pub(super) struct Conn {
    pub(super) peer: NodeName,
    addr: SocketAddr,
    dialled: bool,
    opened_at: Time,
    pub(super) heard_at: Time,
    pub(super) hello: Option<Hello>,
    /// The protocol version of the link; until the Hello was heard, the oldest.
    pub(super) version: u16,
    /// What the peer wants told to its users; empty if it did not say.
    pub(super) public: String,
    pub(super) up: bool,
    pub(super) rtt: Duration,
    pub(super) room_for_cursors: bool,
    /// Since when the peer has acknowledged nothing, if it was heard of before that.
    pub(super) quiet_at: Option<Time>,
    unsent: [usize; 3],
    /// On which lanes the peer has said Bye.
    pub(super) byes: [bool; 3],
    /// Own operations handed to the transport.
    pub(super) pushed: u64,
    /// The newest own operation when the last push was due, and when that was.
    pub(super) told: u64,
    pub(super) told_at: Time,
    /// A push was skipped; a digest has to tell the peer when there is room again.
    pub(super) behind: bool,
    early: Vec<(Lane, Bytes)>,
    early_bytes: usize,
    pub(super) serving: Serving,
    pub(super) outgoing: Outgoing,
    /// Own members whose newest position this peer has not been sent.
    pub(super) cursors_waiting: BTreeMap<MemberId, RoomName>,
}

impl Conn {
    pub(super) fn boot(&self) -> Boot {
        self.hello.as_ref().map_or(0, |hello| hello.boot)
    }

    pub(super) fn unsent(&self, lane: Lane) -> usize {
        self.unsent[lane as usize]
    }

    pub(super) fn unsent_mut(&mut self, lane: Lane) -> &mut usize {
        &mut self.unsent[lane as usize]
    }
}

/// What outlives a connection to a node.
#[derive(Debug, Default)]
pub(super) struct Peer {
    pub(super) up: Option<ConnId>,
    pub(super) region: String,
    pub(super) addr: Option<SocketAddr>,
    pub(super) refused: Option<(CloseCode, String)>,
    /// How far each room's messages were sent to it, whatever the path.
    pub(super) sent: BTreeMap<RoomName, Sent>,
    /// Own operations sent to it through a relay, or before its last link broke.
    pub(super) pushed: u64,
    /// Since when, and for which boot, others say that this node lacks something of it.
    pub(super) behind: Option<(Time, Boot)>,
    pub(super) round_trip: RoundTrip,
}

/// An address worth dialling.
#[derive(Debug)]
pub(super) struct Dial {
    /// The node configured there; finding another one is an error.
    configured: Option<NodeName>,
    /// The node last found there.
    found: Option<NodeName>,
    /// The configuration has it as an address.
    seed: bool,
    /// A name of the configuration stands for it now.
    resolved: bool,
    itself: bool,
    next: Time,
    pending: Option<Time>,
    useful_at: Time,
    /// Why the last dial led to no link, until one does.
    problem: Option<String>,
}

impl Core {
    /// Connections that are up, one per peer.
    pub(super) fn up_conns(&self) -> Vec<ConnId> {
        self.peers.values().filter_map(|peer| peer.up).collect()
    }

    /// The connection to a node that is up.
    pub(super) fn link_to(&self, node: &NodeName) -> Option<(ConnId, &Conn)> {
        let conn = self.peers.get(node)?.up?;
        Some((conn, self.conns.get(&conn)?))
    }

    /// The node at the other end of a connection that is up.
    pub(super) fn peer_of(&self, conn: ConnId) -> Option<NodeName> {
        let link = self.conns.get(&conn)?;
        link.up.then(|| link.peer.clone())
    }

    /// The protocol version of a connection.
    pub(super) fn version_of(&self, conn: ConnId) -> u16 {
        let link = self.conns.get(&conn);
        link.map_or(self.config.versions.oldest, |link| link.version)
    }

    /// Whether a connection has a protocol version, and so what that version brought.
    pub(super) fn speaks(&self, conn: ConnId, version: u16) -> bool {
        self.version_of(conn) >= version
    }

    pub(super) fn take_seeds(&mut self) {
        let own = self.config.advertise;
        for (name, addr) in self.config.seeds.clone() {
            if addr == own || name.as_ref() == Some(&self.me.node) {
                continue;
            }
            self.note_address(addr, name.as_ref());
            if let Some(dial) = self.dials.get_mut(&addr) {
                dial.seed = true;
                dial.configured = name.or(dial.configured.take());
            }
        }
    }

    /// The names among the seeds stand for these addresses now, and no longer for others.
    pub(super) fn resolved_seeds(&mut self, addrs: BTreeSet<SocketAddr>) {
        let addrs: BTreeSet<SocketAddr> = addrs.into_iter().take(SEEDS_MAX).collect();
        self.dials.retain(|addr, dial| {
            if !dial.resolved || addrs.contains(addr) {
                return true;
            }
            dial.resolved = false;
            dial.seed || (dial.found.is_some() && !dial.itself)
        });
        for addr in addrs {
            self.note_address(addr, None);
            if let Some(dial) = self.dials.get_mut(&addr) {
                dial.resolved = true;
            }
        }
    }

    /// Notes where a node may be reached, as others say.
    pub(super) fn learn_address(&mut self, addr: SocketAddr, node: &NodeName) {
        let others = || self.dials.values().filter(|dial| !dial.resolved).count();
        let has_room = self.dials.len() < ADDRESSES_MAX || others() < ADDRESSES_MAX;
        if has_room || self.dials.contains_key(&addr) {
            self.note_address(addr, Some(node));
        }
    }

    fn note_address(&mut self, addr: SocketAddr, node: Option<&NodeName>) {
        if addr == self.config.advertise || addr.port() == 0 || node == Some(&self.me.node) {
            return;
        }
        let wait = match node {
            Some(node) if *node < self.me.node => self.head_start(node),
            _ => Duration::ZERO,
        };
        let now = self.now;
        let dial = self.dials.entry(addr).or_insert_with(|| Dial {
            configured: None,
            found: None,
            seed: false,
            resolved: false,
            itself: false,
            next: now.after(wait),
            pending: None,
            useful_at: now,
            problem: None,
        });
        dial.useful_at = now;
        if let Some(node) = node {
            dial.found = Some(node.clone());
        }
    }

    pub(super) fn connected(
        &mut self,
        conn: ConnId,
        peer: NodeName,
        addr: SocketAddr,
        dialled: bool,
    ) {
        if dialled && let Some(dial) = self.dials.get_mut(&addr) {
            dial.pending = None;
            dial.next = self.now.after(REDIAL_MAX);
        }
        let hello = Frame::Hello(Hello {
            version: self.config.versions.newest,
            version_oldest: self.config.versions.oldest,
            cluster: self.config.cluster.as_str().to_owned(),
            node: self.me.node.clone(),
            boot: self.me.boot,
            bump: self.swim.bump(),
            region: self.config.region.clone(),
            advertise: self.config.advertise,
            capabilities: 0,
            your_boot: self.boots.get(&peer).copied().unwrap_or(0),
        });
        self.conns.insert(
            conn,
            Conn {
                peer,
                addr,
                dialled,
                opened_at: self.now,
                heard_at: self.now,
                hello: None,
                version: self.config.versions.oldest,
                public: String::new(),
                up: false,
                rtt: Duration::ZERO,
                room_for_cursors: true,
                quiet_at: None,
                unsent: [0; 3],
                byes: [false; 3],
                pushed: 0,
                told: 0,
                told_at: self.now,
                behind: false,
                early: Vec::new(),
                early_bytes: 0,
                serving: Serving::default(),
                outgoing: Outgoing::default(),
                cursors_waiting: BTreeMap::new(),
            },
        );
        self.send(conn, Lane::Presence, &hello);
    }

    /// What overtook the Hello on another stream waits for it, and for the version that it decides.
    pub(super) fn early(&mut self, conn: ConnId, lane: Lane, frame: Bytes) {
        let Some(link) = self.conns.get_mut(&conn) else {
            return;
        };
        if lane == Lane::Presence && wire::is_skippable(&frame) {
            return;
        }
        link.early_bytes += frame.len();
        if lane == Lane::Presence || link.early_bytes > EARLY_BYTES_MAX {
            let reason = "the first frame must be a Hello".to_owned();
            return self.misbehaved(conn, CloseCode::Protocol, reason);
        }
        link.early.push((lane, frame));
    }

    pub(super) fn hello(&mut self, conn: ConnId, version: u16, hello: Hello) {
        let Some(link) = self.conns.get(&conn) else {
            return;
        };
        let peer = link.peer.clone();
        if peer == self.me.node && hello.boot == self.me.boot {
            // A seed list may name this node itself by another address.
            if let Some(dial) = self.dials.get_mut(&link.addr) {
                dial.itself = true;
                dial.next = self.now.after(ITSELF_REDIAL);
            }
            return self.close(
                conn,
                CloseCode::Superseded,
                "a connection to itself".to_owned(),
            );
        }
        if let Err((code, reason)) = self.judge(link, &hello) {
            return self.refuse(conn, code, reason);
        }
        if hello.your_boot > self.me.boot {
            return self.raise_boot(hello.your_boot);
        }
        let known = self.boots.get(&peer).copied().unwrap_or(0);
        if hello.boot < known {
            let reason = format!("boot {} is older than the known {known}", hello.boot);
            return self.close(conn, CloseCode::Superseded, reason);
        }
        let (addr, dialled) = (link.addr, link.dialled);
        let replaced = self.link_to(&peer).map(|(old, _)| old);
        if let Some((old, existing)) = self.link_to(&peer) {
            if !self.replaces(link, hello.boot, existing) {
                self.found_at(addr, dialled, &peer);
                let reason = "another connection to this node stays".to_owned();
                return self.close(conn, CloseCode::Superseded, reason);
            }
            self.counters.links_superseded_total += 1;
            self.take_down(old);
            self.close(
                old,
                CloseCode::Superseded,
                "replaced by another connection".to_owned(),
            );
        }
        self.link_up(conn, version, hello, replaced.is_none());
        self.found_at(addr, dialled, &peer);
    }

    /// A node that started anew may be elsewhere now, and another one where it was: what names stand for
    /// is to be seen again.
    pub(super) fn doubt_addresses(&mut self, node: &NodeName) {
        for dial in self.dials.values_mut().filter(|dial| dial.resolved) {
            dial.found.take_if(|found| found == node);
        }
    }

    pub(super) fn disconnected(&mut self, conn: ConnId, clean: bool) {
        let Some(link) = self.conns.get(&conn) else {
            return;
        };
        let (peer, addr, up, dialled) = (link.peer.clone(), link.addr, link.up, link.dialled);
        if up {
            self.take_down(conn);
            self.emit(Event::LinkDown {
                peer: peer.clone(),
                clean: clean || self.leaving,
            });
            let wait = self.redial_wait(&peer);
            for dial in self.dials.values_mut().filter(|dial| dial.is_of(&peer)) {
                dial.next = self.now.after(wait);
            }
        } else if dialled && let Some(dial) = self.dials.get_mut(&addr) {
            dial.next = self.now.after(REFUSED_REDIAL);
        }
        self.conns.remove(&conn);
        self.check_visibility();
        self.check_relays();
    }

    /// The addresses this node was told to begin with.
    pub(super) fn seeds(&self) -> Vec<SeedOverview> {
        let seeds = self.dials.iter().filter(|(_, dial)| dial.is_seed());
        seeds
            .map(|(addr, dial)| SeedOverview {
                addr: *addr,
                node: dial.node().cloned(),
                itself: dial.itself,
                problem: dial.problem.clone(),
            })
            .collect()
    }

    /// Whether an address is one to dial.
    #[cfg(test)]
    pub(super) fn dials_to(&self, addr: SocketAddr) -> bool {
        self.dials.contains_key(&addr)
    }

    pub(super) fn dial_failed(&mut self, addr: SocketAddr, reason: String) {
        let wait = self.rng.random_range(REDIAL_MIN..=REDIAL_MAX);
        if let Some(dial) = self.dials.get_mut(&addr) {
            dial.pending = None;
            dial.next = self.now.after(wait);
            dial.problem = Some(reason);
        }
    }

    pub(super) fn drained(&mut self, conn: ConnId, lane: Lane, bytes: usize) {
        let Some(link) = self.conns.get_mut(&conn) else {
            return;
        };
        let unsent = link.unsent_mut(lane);
        *unsent = unsent.saturating_sub(bytes);
        match lane {
            Lane::Presence => {
                if link.behind
                    && link.unsent(Lane::Presence) < super::owner::PRESENCE_UNSENT_MAX / 2
                {
                    link.behind = false;
                    link.pushed = self.log.seq();
                    self.send_digest(conn);
                }
            }
            Lane::Messages => self.pump_messages(conn),
            Lane::Bulk => self.pump_bulk(conn),
        }
    }

    pub(super) fn path(&mut self, conn: ConnId, rtt: Duration, room_for_cursors: bool) {
        if let Some(link) = self.conns.get_mut(&conn) {
            link.rtt = rtt;
            link.room_for_cursors = room_for_cursors;
            if room_for_cursors {
                self.send_waiting_cursors(conn);
            }
        }
    }

    /// The peer broke the protocol: its link is closed, with a reason.
    pub(super) fn misbehaved(&mut self, conn: ConnId, code: CloseCode, reason: String) {
        self.counters.frames_refused_total += 1;
        let Some(link) = self.conns.get(&conn) else {
            return;
        };
        let (peer, up) = (link.peer.clone(), link.up);
        self.note_refusal(&peer, code, &reason);
        if up {
            self.take_down(conn);
            self.emit(Event::LinkDown {
                peer: peer.clone(),
                clean: false,
            });
        }
        for dial in self.dials.values_mut().filter(|dial| dial.is_of(&peer)) {
            dial.next = self.now.after(REFUSED_REDIAL);
        }
        self.close(conn, code, reason);
        self.check_visibility();
    }

    pub(super) fn close_all(&mut self, reason: &str) {
        let conns: Vec<ConnId> = self.conns.keys().copied().collect();
        for conn in conns {
            if let Some(peer) = self.peer_of(conn) {
                self.take_down(conn);
                self.emit(Event::LinkDown { peer, clean: false });
            }
            self.close(conn, CloseCode::Superseded, reason.to_owned());
        }
        for dial in self.dials.values_mut() {
            dial.next = self.now;
        }
    }

    /// Dials who is not linked, gives up on who says nothing, forgets who is long gone.
    pub(super) fn check_links(&mut self) {
        let now = self.now;
        let mute: Vec<ConnId> = self
            .conns
            .iter()
            .filter(|(_, link)| !link.up && now.since(link.opened_at) >= HELLO_MAX)
            .map(|(conn, _)| *conn)
            .collect();
        for conn in mute {
            self.misbehaved(conn, CloseCode::Protocol, "no Hello within 5 s".to_owned());
        }
        if self.leaving {
            return;
        }
        // Nodes with a link, and the addresses they have now: the link's, and what they say.
        let linked: BTreeMap<NodeName, [Option<SocketAddr>; 2]> = self
            .peers
            .iter()
            .filter_map(|(node, peer)| {
                let used = self.conns.get(&peer.up?).map(|link| link.addr);
                let replica = self.current(node).and_then(|o| self.replicas.get(&o));
                let said = replica.and_then(|replica| replica.table.advertise);
                Some((node.clone(), [used, said]))
            })
            .collect();
        let opening: Vec<SocketAddr> = self
            .conns
            .values()
            .filter(|c| !c.up && c.dialled)
            .map(|c| c.addr)
            .collect();
        let alone = linked.is_empty();
        let mut due = Vec::new();
        self.dials.retain(|addr, dial| {
            let addrs = dial.node().and_then(|node| linked.get(node));
            let itself = dial.itself && !(dial.resolved && alone);
            if itself || addrs.is_some() {
                dial.useful_at = now;
                dial.pending = None;
                dial.problem = None;
                // A node that moved leaves no trail of addresses.
                return dial.is_seed() || addrs.is_none_or(|addrs| addrs.contains(&Some(*addr)));
            }
            if !dial.is_seed() && now.since(dial.useful_at) >= ADDRESS_KEPT {
                return false;
            }
            if dial
                .pending
                .is_some_and(|since| now.since(since) >= DIAL_LOST)
            {
                dial.pending = None;
            }
            if dial.pending.is_none() && now >= dial.next && !opening.contains(addr) {
                dial.pending = Some(now);
                due.push((*addr, dial.configured.clone()));
            }
            true
        });
        for (addr, peer) in due {
            self.out.push_back(Output::Dial { addr, peer });
        }
    }

    /// A node is long gone: nothing of it is kept but what the configuration says.
    pub(super) fn forget_node(&mut self, node: &NodeName) {
        self.boots.remove(node);
        self.peers.remove(node);
        self.relay.forget(node);
        self.forget_probe(node);
    }

    /// What a peer wants told to its users.
    pub(super) fn told_public(&mut self, conn: ConnId, text: String) {
        if let Some(link) = self.conns.get_mut(&conn) {
            link.public = text;
        }
    }

    fn link_up(&mut self, conn: ConnId, version: u16, hello: Hello, was_down: bool) {
        let owner = OwnerId {
            node: hello.node.clone(),
            boot: hello.boot,
        };
        let (region, advertise) = (hello.region.clone(), hello.advertise);
        if !self.adopt(&owner) {
            let reason = "this node keeps no more nodes in mind".to_owned();
            return self.close(conn, CloseCode::Limit, reason);
        }
        let Some(link) = self.conns.get_mut(&conn) else {
            return;
        };
        link.up = true;
        link.version = version;
        link.pushed = self.log.seq();
        link.told = link.pushed;
        let (early, rtt) = (std::mem::take(&mut link.early), link.rtt);
        let swim_id = self.swim.id_of(&hello);
        link.hello = Some(hello);
        let peer = self.peers.entry(owner.node.clone()).or_default();
        peer.up = Some(conn);
        peer.region.clone_from(&region);
        peer.addr = Some(advertise);
        peer.refused = None;
        peer.behind = None;
        if !rtt.is_zero() {
            peer.round_trip.take(rtt);
        }
        self.learn_address(advertise, &owner.node);
        if was_down {
            self.emit(Event::LinkUp {
                peer: owner.node.clone(),
                region,
                boot: owner.boot,
            });
        }
        self.touch(&owner);
        self.drop_detour(&owner);
        self.check_visibility();
        self.check_relays();
        self.send_public(conn);
        self.send_members(conn);
        self.send_digest(conn);
        self.send_heads(&owner.node);
        self.send_all_current_cursors(&owner.node);
        self.announce_to(swim_id);
        for (lane, frame) in early {
            self.take_frame(conn, lane, &frame);
        }
    }

    fn send_public(&mut self, conn: ConnId) {
        let told = 1..=PUBLIC_BYTES_MAX;
        if self.speaks(conn, 2) && told.contains(&self.config.public.len()) {
            let frame = Frame::Public(self.config.public.clone());
            self.send(conn, Lane::Presence, &frame);
        }
    }

    fn found_at(&mut self, addr: SocketAddr, dialled: bool, node: &NodeName) {
        if dialled && let Some(dial) = self.dials.get_mut(&addr) {
            dial.found = Some(node.clone());
            dial.itself = false;
        }
    }

    /// The connection is not the link to its peer any more; it may still have to be closed.
    fn take_down(&mut self, conn: ConnId) {
        let Some(link) = self.conns.get_mut(&conn) else {
            return;
        };
        link.up = false;
        let (node, pushed) = (link.peer.clone(), link.pushed);
        if let Some(peer) = self.peers.get_mut(&node)
            && peer.up == Some(conn)
        {
            peer.up = None;
            peer.pushed = pushed;
            let region = peer.region.clone();
            self.doubt_sent(&node);
            self.gateway_lost(&node, &region);
        }
        self.drop_pulls(conn);
    }

    fn judge(&self, link: &Conn, hello: &Hello) -> Result<(), (CloseCode, String)> {
        if hello.cluster != self.config.cluster.as_str() {
            return Err((
                CloseCode::Cluster,
                format!(
                    "it belongs to cluster {:?}, this node to {:?}",
                    hello.cluster,
                    self.config.cluster.as_str()
                ),
            ));
        }
        if hello.node != link.peer {
            return Err((
                CloseCode::Name,
                format!(
                    "it claims to be {}, its certificate says {}",
                    hello.node, link.peer
                ),
            ));
        }
        if hello.node == self.me.node {
            return Err((
                CloseCode::Name,
                format!(
                    "another process runs as {}, this node's own name",
                    hello.node
                ),
            ));
        }
        let expected = self
            .dials
            .get(&link.addr)
            .filter(|_| link.dialled)
            .and_then(|dial| dial.configured.as_ref());
        match expected {
            Some(expected) if *expected != hello.node => Err((
                CloseCode::Name,
                format!(
                    "{} is configured as {expected}, but {} is there",
                    link.addr, hello.node
                ),
            )),
            _ => Ok(()),
        }
    }

    /// Whether a connection takes the place of the one that is up. Both ends decide alike: a newer
    /// boot wins; then a connection dialled by the lesser name; then the newer one. One that has
    /// gone silent wins against nobody.
    fn replaces(&self, new: &Conn, boot: Boot, old: &Conn) -> bool {
        let by_lesser = |link: &Conn| link.dialled == (self.me.node < link.peer);
        boot > old.boot()
            || by_lesser(new) >= by_lesser(old)
            || self.now.since(old.heard_at) >= SILENT + self.farness(&old.peer)
    }

    pub(super) fn refuse(&mut self, conn: ConnId, code: CloseCode, reason: String) {
        let Some(link) = self.conns.get(&conn) else {
            return;
        };
        let (peer, addr, dialled) = (link.peer.clone(), link.addr, link.dialled);
        self.note_refusal(&peer, code, &reason);
        if dialled && let Some(dial) = self.dials.get_mut(&addr) {
            dial.next = self.now.after(REFUSED_REDIAL);
            dial.problem = Some(reason.clone());
        }
        self.close(conn, code, reason);
    }

    fn note_refusal(&mut self, node: &NodeName, code: CloseCode, reason: &str) {
        self.counters.refusals_total += 1;
        if let Some(peer) = self.peers.get_mut(node) {
            peer.refused = Some((code, reason.to_owned()));
        }
        self.emit(Event::Refused {
            peer: node.clone(),
            code,
            reason: reason.to_owned(),
        });
    }

    fn close(&mut self, conn: ConnId, code: CloseCode, reason: String) {
        if self.conns.remove(&conn).is_some() {
            self.out.push_back(Output::Close { conn, code, reason });
        }
    }

    /// How long the node with the lesser name has for its dial before this one dials too.
    fn head_start(&self, peer: &NodeName) -> Duration {
        let two = self.round_trip(peer).unwrap_or_default() * 2;
        two.clamp(DIAL_HEAD_START, DIAL_HEAD_START_MAX)
    }

    fn redial_wait(&mut self, peer: &NodeName) -> Duration {
        let head_start = if *peer < self.me.node {
            self.head_start(peer)
        } else {
            Duration::ZERO
        };
        head_start
            + self
                .rng
                .random_range(Duration::ZERO..=Duration::from_millis(100))
    }
}

impl Dial {
    /// Who is there as far as is known.
    fn node(&self) -> Option<&NodeName> {
        self.found.as_ref().or(self.configured.as_ref())
    }

    fn is_seed(&self) -> bool {
        self.seed || self.resolved
    }

    fn is_of(&self, node: &NodeName) -> bool {
        self.node() == Some(node)
    }
}
