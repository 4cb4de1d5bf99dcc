//! SWIM: foca, driven by hand.
//!
//! foca 2.0.0 tells a healthy member that it is down whenever a refuted suspicion's timer fires
//! (`ChangeSuspectToDown` sends `TurnUndead` without looking whether anything was applied), and the
//! member then renews its identity for nothing. The guard below withholds that packet while the
//! member is active here. foca's timers come back in the order of their deadlines.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::num::{NonZeroU8, NonZeroUsize};
use std::time::Duration;

use bytes::Bytes;
use foca::{
    AccumulatingRuntime, Codec, Foca, Identity, Message, OwnedNotification, PostcardCodec, Timer,
};
use rand::SeedableRng;
use rand::rngs::StdRng;
use serde::{Deserialize, Serialize};

use super::super::event::{Event, Lane};
use super::super::identity::{Boot, ConnId, NodeName, Time};
use super::super::rule::Rule;
use super::super::wire::{Datagram, Frame, Hello, OwnerId, SWIM_BYTES_MAX};
use super::Core;

/// A node as SWIM knows it. The name is its address, so that a node may change where it is reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SwimId {
    pub(super) node: NodeName,
    pub(super) boot: Boot,
    /// Renewals within this boot, after having been declared down.
    bump: u32,
    pub(super) addr: SocketAddr,
}

impl Identity for SwimId {
    type Addr = NodeName;

    fn renew(&self) -> Option<Self> {
        Some(Self {
            bump: self.bump.wrapping_add(1),
            ..self.clone()
        })
    }

    fn addr(&self) -> NodeName {
        self.node.clone()
    }

    fn win_addr_conflict(&self, adversary: &Self) -> bool {
        (self.boot, self.bump) > (adversary.boot, adversary.bump)
    }
}

/// Members in one frame: with the longest names still below the lane's limit.
const MEMBERS_PER_FRAME: usize = 500;

type Node = Foca<SwimId, PostcardCodec, StdRng, foca::NoCustomBroadcast>;

/// foca, its timers, and where its output goes.
pub(super) struct Swim {
    foca: Node,
    runtime: AccumulatingRuntime<SwimId>,
    timers: BTreeMap<(Time, u64), Timer<SwimId>>,
    timer_count: u64,
    resized_for: usize,
}

impl Swim {
    pub(super) fn new(me: &OwnerId, addr: SocketAddr, seed: u64) -> Self {
        let id = SwimId {
            node: me.node.clone(),
            boot: me.boot,
            bump: 0,
            addr,
        };
        let rng = StdRng::seed_from_u64(seed);
        Self {
            foca: Foca::new(id, settings(3), rng, PostcardCodec),
            runtime: AccumulatingRuntime::new(),
            timers: BTreeMap::new(),
            timer_count: 0,
            resized_for: 3,
        }
    }

    pub(super) fn bump(&self) -> u32 {
        self.foca.identity().bump
    }

    /// The SWIM identity of whoever sent this Hello.
    pub(super) fn id_of(&self, hello: &Hello) -> SwimId {
        SwimId {
            node: hello.node.clone(),
            boot: hello.boot,
            bump: hello.bump,
            addr: hello.advertise,
        }
    }

    pub(super) fn timeout(&self) -> Time {
        self.timers
            .keys()
            .next()
            .map_or(Time(u64::MAX), |(at, _)| *at)
    }

    /// Whether SWIM holds a node for alive (suspects count as alive).
    pub(super) fn is_alive(&self, node: &NodeName) -> bool {
        self.foca
            .iter_members()
            .any(|member| member.id().node == *node)
    }

    /// Nodes SWIM holds for alive, this one not counted.
    pub(super) fn alive(&self) -> usize {
        self.foca.num_members()
    }
}

/// Settings measured over wide-area links (150 ms, up to 5 % loss): no false downs, heal in
/// seconds. `max_transmissions` is floored at ten because the formula's two for three nodes loses
/// updates; down members are announced to every 3 s because the default of a minute is what a heal
/// would otherwise take.
fn settings(cluster_size: usize) -> foca::Config {
    let size = u32::try_from(cluster_size.max(2)).unwrap_or(u32::MAX);
    let log = f64::from(size).log10();
    let count = |n: usize| NonZeroUsize::new(n).unwrap_or(NonZeroUsize::MIN);
    let periodic = |millis: u64, n: usize| {
        Some(foca::PeriodicParams {
            frequency: Duration::from_millis(millis),
            num_members: count(n),
        })
    };
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let transmissions = (4.0 * (log + 1.0)).ceil().clamp(10.0, 40.0) as u8;
    foca::Config {
        probe_period: Duration::from_millis(1_500),
        probe_rtt: Duration::from_millis(500),
        num_indirect_probes: count(3),
        max_transmissions: NonZeroU8::new(transmissions).unwrap_or(NonZeroU8::MAX),
        suspect_to_down_after: Duration::from_millis(6_000).mul_f64(log.max(1.0)),
        remove_down_after: Some(Duration::from_secs(3_600)),
        max_packet_size: count(SWIM_BYTES_MAX),
        notify_down_members: true,
        periodic_announce: periodic(15_000, 2),
        periodic_announce_to_down_members: periodic(3_000, 3),
        periodic_gossip: periodic(300, 4),
    }
}

impl Core {
    pub(super) fn run_swim(&mut self) {
        while let Some((&key, _)) = self.swim.timers.first_key_value() {
            if key.0 > self.now {
                break;
            }
            if let Some(timer) = self.swim.timers.remove(&key) {
                // A late timer makes foca complain of an incomplete probe cycle and start a new one.
                let _ = self.swim.foca.handle_timer(timer, &mut self.swim.runtime);
                self.drain_swim();
            }
        }
    }

    pub(super) fn swim_packet(&mut self, peer: &NodeName, packet: &Bytes) {
        // foca believes a packet's source, so it must be the certificate's.
        let source = PostcardCodec.decode_header(&packet[..]);
        match source {
            Ok(header) if source_is(&header, peer) => {
                if let Message::Ack(number) = header.message {
                    self.note_probe_answered(peer, number);
                }
                // Packets for an identity this node no longer has are foca's to ignore.
                let _ = self.swim.foca.handle_data(packet, &mut self.swim.runtime);
                self.drain_swim();
            }
            _ => self.counters.datagrams_refused_total += 1,
        }
    }

    pub(super) fn announce_to(&mut self, id: SwimId) {
        let _ = self.swim.foca.announce(id, &mut self.swim.runtime);
        self.drain_swim();
    }

    /// On a new link the whole member list goes over a stream: one packet would hold a hundred.
    pub(super) fn send_members(&mut self, conn: ConnId) {
        let members: Vec<foca::Member<SwimId>> = self.swim.foca.iter_members().cloned().collect();
        for chunk in members.chunks(MEMBERS_PER_FRAME) {
            // Serialising into memory does not fail; an empty list would only cost time.
            let bytes = postcard::to_allocvec(chunk).unwrap_or_default();
            self.send(conn, Lane::Presence, &Frame::Members(bytes.into()));
        }
    }

    pub(super) fn learn_members(&mut self, bytes: &[u8]) {
        let Ok(members) = postcard::from_bytes::<Vec<foca::Member<SwimId>>>(bytes) else {
            self.counters.frames_refused_total += 1;
            return;
        };
        // Past the number of nodes that are kept in mind only what concerns known ones is news.
        let known: BTreeSet<NodeName> = if self.swim.alive() < super::replica::NODES_MAX {
            BTreeSet::new()
        } else {
            let ids = self.swim.foca.iter_members().map(|member| member.id());
            ids.map(|id| id.node.clone()).collect()
        };
        let updates = members
            .into_iter()
            .take(MEMBERS_PER_FRAME)
            .filter(|member| known.is_empty() || known.contains(&member.id().node));
        let _ = self
            .swim
            .foca
            .apply_many(updates, false, &mut self.swim.runtime);
        self.drain_swim();
    }

    pub(super) fn leave_swim(&mut self) {
        let _ = self.swim.foca.leave_cluster(&mut self.swim.runtime);
        self.drain_swim();
        self.swim.timers.clear();
    }

    /// This node took a newer boot.
    pub(super) fn renew_swim(&mut self) {
        let id = SwimId {
            node: self.me.node.clone(),
            boot: self.me.boot,
            bump: 0,
            addr: self.config.advertise,
        };
        let _ = self.swim.foca.change_identity(id, &mut self.swim.runtime);
        self.drain_swim();
    }

    fn drain_swim(&mut self) {
        while let Some((after, timer)) = self.swim.runtime.to_schedule() {
            self.swim.timer_count += 1;
            let key = (self.now.after(after), self.swim.timer_count);
            if let Timer::RemoveDown(id) = &timer {
                // Of an older identity of the same node nothing is left to be removed: a node that
                // restarts often would leave an hour's worth of timers.
                self.swim.timers.retain(
                    |_, other| !matches!(other, Timer::RemoveDown(older) if older.node == id.node),
                );
            }
            self.swim.timers.insert(key, timer);
        }
        while let Some((to, packet)) = self.swim.runtime.to_send() {
            self.send_swim(&to, packet);
        }
        while let Some(notification) = self.swim.runtime.to_notify() {
            self.swim_changed(notification);
        }
    }

    fn send_swim(&mut self, to: &SwimId, packet: Bytes) {
        let header: Result<foca::Header<SwimId>, _> = PostcardCodec.decode_header(&packet[..]);
        let message = header.map(|header| header.message);
        let down = matches!(message, Ok(Message::TurnUndead)) && self.is_alive_here(to);
        if down && self.holds(Rule::SwimGuard) {
            self.counters.swim_guarded_total += 1;
            return;
        }
        if let Some((conn, _)) = self.link_to(&to.node) {
            if let Ok(Message::Ping(number)) = message {
                self.note_probe(&to.node, number);
            }
            let packet = Datagram::Swim(packet).encode(self.version_of(conn));
            self.send_datagram(conn, packet, true);
        }
    }

    fn is_alive_here(&self, id: &SwimId) -> bool {
        let mut members = self.swim.foca.iter_members();
        members.any(|member| member.id() == id)
    }

    fn swim_changed(&mut self, notification: OwnedNotification<SwimId>) {
        match notification {
            OwnedNotification::MemberUp(id) | OwnedNotification::Rename(_, id) => {
                self.learn_address(id.addr, &id.node);
                self.mark_swim(&id, false);
            }
            OwnedNotification::MemberDown(id) => self.mark_swim(&id, true),
            OwnedNotification::Active
            | OwnedNotification::Idle
            | OwnedNotification::Defunct
            | OwnedNotification::Rejoin(_) => {}
        }
        let size = self.swim.foca.num_members() + 1;
        if size.abs_diff(self.swim.resized_for) * 5 > self.swim.resized_for {
            self.swim.resized_for = size;
            // Only sizes change, and those foca takes at any time.
            let _ = self.swim.foca.set_config(settings(size));
        }
    }

    fn mark_swim(&mut self, id: &SwimId, down: bool) {
        let owner = OwnerId {
            node: id.node.clone(),
            boot: id.boot,
        };
        if let Some(replica) = self.replicas.get_mut(&owner) {
            replica.swim_down = down;
        }
        self.emit(Event::Membership {
            node: id.node.clone(),
            alive: !down,
        });
    }
}

fn source_is(header: &foca::Header<SwimId>, peer: &NodeName) -> bool {
    header.src.node == *peer
}
