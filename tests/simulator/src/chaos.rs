//! Runs drawn from a seed: who does what, what breaks, and when.

use std::collections::BTreeMap;
use std::time::Duration;

use cursormesh_mesh::proto::event::MessageKind;
use cursormesh_mesh::proto::{Lane, MemberId, Rules, Versions};
use rand::distr::uniform::{SampleRange, SampleUniform};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::network::Path;
use crate::room;
use crate::versions::V1;
use crate::world::{MS, SECOND, Setup, World};

/// Until then all nodes find each other.
const WARM_UP: u64 = 8 * SECOND;
/// After the last fault, all nodes agree within this: a second and a bit until the links are up, and
/// then as long as a pointer to a node that died is followed.
const HEAL: u64 = 5_500 * MS;
/// Nodes that are far apart need so much longer.
const FAR: u64 = 3 * SECOND;
/// After a frame that its receiver refused, the two do not talk for this long.
const REFUSED: u64 = 6 * SECOND;
/// They are watched for so long after that.
const WATCH: u64 = 20 * SECOND;

/// What one run came to.
#[derive(Debug, Clone)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// Number of nodes.
    pub nodes: usize,
    /// What was violated; empty is good.
    pub violations: Vec<String>,
    /// Differs between runs that differ in anything a core put out.
    pub trace_hash: u64,
    /// Kind of run.
    pub profile: &'static str,
    /// Messages delivered between nodes.
    pub messages_delivered: u64,
    /// Messages reported as lost.
    pub messages_lost: u64,
    /// Frames and datagrams relayed.
    pub relayed: u64,
    /// Why connections were closed, and how often.
    pub closes: BTreeMap<String, u64>,
    /// What the run came by that few do, and how often.
    pub reached: BTreeMap<&'static str, u64>,
}

/// What happens in a run besides crashes and restarts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Profile {
    /// Loss up to 5 %, round trips up to 150 ms, no outage or stall.
    Mild,
    /// Cuts and splits of up to 12 s too.
    Cuts,
    /// Everything.
    Wild,
}

/// Something planned.
#[derive(Debug, Clone)]
enum Act {
    Fault,
    Client,
    Cursor,
    Message,
    Burst,
    Large(MemberId, MessageKind, u32),
    Check,
    Start(usize),
    Replace(usize, Versions),
    Resume(usize),
    HealOne(usize, usize),
    Restore(usize, usize, Path),
    Fast(usize),
    Flap(usize, usize, u32, bool),
    Notice(MemberId, usize),
    Return(MemberId),
    Attach(MemberId, usize),
    AttachTwice(MemberId, usize, usize),
}

struct Chaos {
    world: World,
    rng: StdRng,
    profile: Profile,
    plan: BTreeMap<(u64, u64), Act>,
    planned: u64,
    heal_at: u64,
    rooms: usize,
    members_max: usize,
    base: Path,
    /// Every path as it is without faults, from and to.
    homes: Vec<Vec<Path>>,
    far: bool,
    viewers: Vec<(usize, usize)>,
    /// Chance of its own for what is drawn besides, unless the run is plain.
    extra: Option<StdRng>,
    /// Likewise for the versions of nodes, in mixed runs.
    mixed: Option<StdRng>,
    /// Versions change by a plan.
    rolling: bool,
}

/// Which run.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Decides everything.
    pub seed: u64,
    /// Number of nodes; zero lets the seed choose.
    pub nodes: usize,
    /// Which rules hold.
    pub rules: Rules,
    /// Leaves out small and slow snapshot parts, bursts of large messages and missed events.
    pub plain: bool,
    /// Nodes know each other by a name alone, and what it stands for changes.
    pub named: bool,
    /// Some nodes speak version 1 of the protocol alone: for all the run, or until they are upgraded one
    /// by one, and rolled back.
    pub mixed: bool,
    /// Nodes are as far apart as cities are, or a millisecond to 600 ms, each pair for itself and one
    /// way slower than the other, with 1 to 5 % loss; nothing else is wrong but crashes.
    pub far: bool,
    /// Whether to write everything that happens to standard error.
    pub trace: bool,
}

/// Runs one seed.
pub fn run_seed(options: &Options) -> Report {
    let (seed, nodes) = (options.seed, options.nodes);
    let mut rng = StdRng::seed_from_u64(seed ^ 0x00C0_FFEE);
    let profile = match rng.random_range(0..10) {
        0..3 => Profile::Mild,
        3..6 => Profile::Cuts,
        _ => Profile::Wild,
    };
    let profile = if options.far { Profile::Mild } else { profile };
    let drawn = rng.random_range(2..=6);
    let nodes = if nodes == 0 { drawn } else { nodes };
    let latency_us = match rng.random_range(0..3) {
        0 => rng.random_range(100..2_000),
        1 => rng.random_range(2_000..30_000),
        _ => rng.random_range(30_000..65_000),
    };
    let base = Path {
        jitter_us: latency_us / 8,
        loss: if rng.random_bool(0.5) {
            rng.random_range(0.0..0.01)
        } else {
            0.0
        },
        ..Path::clean(latency_us)
    };
    let mut setup = Setup {
        rules: options.rules.clone(),
        named: options.named,
        trace: options.trace,
        ..Setup::new(nodes, seed, base)
    };
    let mut extra = (!options.plain).then(|| StdRng::seed_from_u64(seed ^ 0x000D_ECAF));
    if let Some(rng) = extra.as_mut()
        && rng.random_bool(0.4)
    {
        setup.snapshot_part_bytes = rng.random_range(200..600);
        setup.bulk_bandwidth = rng.random_range(5_000..50_000);
    }
    let mut mixed = options
        .mixed
        .then(|| StdRng::seed_from_u64(seed ^ 0x0005_EED5));
    let rolling = mixed.as_mut().is_some_and(|rng| rng.random_bool(0.5));
    if let Some(rng) = mixed.as_mut() {
        setup.versions = (0..nodes)
            .map(|_| {
                if rolling || rng.random_bool(0.5) {
                    V1
                } else {
                    Versions::default()
                }
            })
            .collect();
    }
    let world = World::new(&setup);
    let mut chaos = Chaos {
        world,
        profile,
        plan: BTreeMap::new(),
        planned: 0,
        heal_at: WARM_UP + rng.random_range(30..80) * SECOND,
        rooms: rng.random_range(1..=4),
        members_max: rng.random_range(3..=14),
        base,
        homes: if options.far {
            distances(nodes, seed)
        } else {
            vec![vec![base; nodes]; nodes]
        },
        far: options.far,
        viewers: Vec::new(),
        rng,
        extra,
        mixed,
        rolling,
    };
    if rolling {
        chaos.plan_upgrade();
    }
    chaos.run();
    let world = chaos.world;
    Report {
        seed,
        nodes,
        violations: world.violations().to_vec(),
        trace_hash: world.trace_hash(),
        profile: match profile {
            Profile::Mild => "mild",
            Profile::Cuts => "cuts",
            Profile::Wild => "wild",
        },
        messages_delivered: world.delivered(),
        messages_lost: world.lost_reported(),
        relayed: world.relayed(),
        closes: world.closes().clone(),
        reached: world.reached().clone(),
    }
}

impl Chaos {
    fn run(&mut self) {
        match self.profile {
            Profile::Mild => {
                self.world.mild();
                self.world.lossless(true);
            }
            Profile::Cuts => self.world.lossless(true),
            Profile::Wild => {}
        }
        let vary = self.rng.random_bool(0.5);
        if self.far {
            self.set_homes(1.0);
        } else if vary {
            self.vary_paths();
        }
        self.after(SECOND, Act::Check);
        self.after(2 * SECOND, Act::Client);
        self.after(3 * SECOND, Act::Cursor);
        self.after(4 * SECOND, Act::Message);
        self.after(WARM_UP, Act::Fault);
        if let Some(rng) = self.extra.as_mut() {
            self.world.replay_missed();
            if rng.random_bool(0.3) {
                self.after(WARM_UP, Act::Burst);
            }
        }
        while let Some((at, _)) = self.plan.keys().next().copied() {
            if at > self.heal_at {
                break;
            }
            let Some((_, act)) = self.plan.pop_first() else {
                break;
            };
            self.world.run_until(at);
            self.act(act);
        }
        self.world.run_until(self.heal_at);
        self.heal();
        self.watch();
    }

    fn after(&mut self, wait: u64, act: Act) {
        self.planned += 1;
        let key = (self.world.now() + wait, self.planned);
        self.plan.insert(key, act);
    }

    /// Every path without faults, and with no more loss than this.
    fn set_homes(&mut self, loss_max: f64) {
        for a in 0..self.world.node_count() {
            for b in (0..self.world.node_count()).filter(|b| *b != a) {
                let mut path = self.homes[a][b];
                path.loss = path.loss.min(loss_max);
                self.world.set_path(a, b, path);
            }
        }
    }

    fn vary_paths(&mut self) {
        for a in 0..self.world.node_count() {
            for b in 0..a {
                let latency_us = self
                    .rng
                    .random_range(self.base.latency_us / 2..=self.base.latency_us);
                let path = Path {
                    latency_us,
                    jitter_us: latency_us / 8,
                    ..self.base
                };
                self.world.set_path(a, b, path);
                self.world.set_path(b, a, path);
            }
        }
    }

    fn act(&mut self, act: Act) {
        match act {
            Act::Fault => {
                self.fault();
                let wait = self.rng.random_range(200 * MS..6 * SECOND);
                self.after(wait, Act::Fault);
            }
            Act::Client => {
                self.client();
                let wait = self.rng.random_range(20 * MS..800 * MS);
                self.after(wait, Act::Client);
            }
            Act::Cursor => {
                if let Some(member) = self.some_member() {
                    self.world.move_cursor(member);
                }
                let wait = self.rng.random_range(5 * MS..200 * MS);
                self.after(wait, Act::Cursor);
            }
            Act::Message => {
                if let Some(member) = self.some_member() {
                    let kind = if self.rng.random_bool(0.5) {
                        MessageKind::Event
                    } else {
                        MessageKind::Tutorial
                    };
                    for _ in 0..self.rng.random_range(1..4) {
                        self.world.publish(member, kind, 20);
                    }
                }
                let wait = self.rng.random_range(20 * MS..700 * MS);
                self.after(wait, Act::Message);
            }
            Act::Burst => {
                self.burst();
                let wait = self.extra(5..25) * SECOND;
                self.after(wait, Act::Burst);
            }
            Act::Large(member, kind, left) => {
                let kib = self.extra(1..=64);
                self.world.publish(member, kind, kib * 1024);
                if left > 0 {
                    let wait = self.extra(1..30) * MS;
                    self.after(wait, Act::Large(member, kind, left - 1));
                }
            }
            Act::Check => {
                self.world.check_folds();
                self.after(SECOND, Act::Check);
            }
            Act::Start(node) => {
                self.change_version(node);
                self.world.start(node);
            }
            Act::Replace(node, versions) => self.replace(node, versions),
            Act::Resume(node) => self.world.resume(node),
            Act::HealOne(from, to) => self.world.heal(from, to),
            Act::Restore(from, to, path) => self.world.set_path(from, to, path),
            Act::Fast(node) => self.world.slow(node, 0),
            Act::Flap(a, b, left, cut) => {
                if cut {
                    self.world.heal_both(a, b);
                } else {
                    self.world.cut_both(a, b);
                }
                if left > 0 || !cut {
                    let wait = self.rng.random_range(50 * MS..1_500 * MS);
                    self.after(wait, Act::Flap(a, b, left.saturating_sub(1), !cut));
                }
            }
            Act::Notice(member, attachment) => {
                if self.world.is_stopped(member, attachment) {
                    return self.after(SECOND, Act::Notice(member, attachment));
                }
                self.world.break_attachment(member, attachment);
            }
            Act::Return(member) => self.world.come_back(member),
            Act::Attach(member, node) => {
                if self.world.is_resumable(member) && self.world.is_up(node) {
                    self.world.resume_member(member, node);
                }
            }
            Act::AttachTwice(member, one, two) => {
                let both = self.world.is_up(one) && self.world.is_up(two) && one != two;
                if both && self.world.is_resumable(member) {
                    self.world.resume_twice(member, one, two);
                }
            }
        }
    }

    fn some_node(&mut self) -> usize {
        self.rng.random_range(0..self.world.node_count())
    }

    fn some_pair(&mut self) -> (usize, usize) {
        let count = self.world.node_count();
        let one = self.rng.random_range(0..count);
        (one, (one + self.rng.random_range(1..count)) % count)
    }

    fn up_node(&mut self) -> Option<usize> {
        let up: Vec<usize> = (0..self.world.node_count())
            .filter(|node| self.world.is_up(*node))
            .collect();
        (!up.is_empty()).then(|| up[self.rng.random_range(0..up.len())])
    }

    fn some_member(&mut self) -> Option<MemberId> {
        let members = self.world.members();
        let from = members.len().saturating_sub(self.members_max);
        (!members.is_empty()).then(|| members[self.rng.random_range(from..members.len())])
    }

    fn client(&mut self) {
        let live = self
            .world
            .members()
            .into_iter()
            .filter(|member| self.world.attachment(*member).is_some_and(|(_, open)| open))
            .count();
        if live < self.members_max && self.rng.random_bool(0.4) {
            if let Some(node) = self.up_node() {
                let number = self.rng.random_range(0..self.rooms);
                let resumable = self.rng.random_bool(0.75);
                self.world.join(node, &room(number), resumable);
            }
            return;
        }
        if self.rng.random_bool(0.05) {
            return self.viewer();
        }
        let Some(member) = self.some_member() else {
            return;
        };
        let attached = self.world.attachment(member);
        let Some((node, true)) = attached else {
            // Its node died, or it is away: it may try to come back somewhere.
            if self.world.is_resumable(member)
                && self.rng.random_bool(0.3)
                && let Some(to) = self.up_node()
            {
                self.world.resume_member(member, to);
            }
            return;
        };
        let newest = self.world.attachment_count(member) - 1;
        match self.rng.random_range(0..100) {
            0..55 => self.world.update(member),
            55..62 => self.world.leave_room(member),
            62..72 => {
                // It breaks, the node notices, and it may come back in time.
                self.world.break_off(member);
                if self.rng.random_bool(0.6) {
                    let wait = self.rng.random_range(100 * MS..12 * SECOND);
                    self.after(wait, Act::Return(member));
                }
            }
            72..90 => {
                // It goes to another node: after its old one noticed, before it, or never noticed
                // by it within the grace period.
                let Some(to) = self.up_node() else {
                    return;
                };
                let notice = self.rng.random_range(0..4 * SECOND);
                let attach = self.rng.random_range(20 * MS..4 * SECOND);
                self.world.lose_sight(member);
                self.after(notice, Act::Notice(member, newest));
                self.after(attach, Act::Attach(member, to));
            }
            90..93 => {
                let wait = self.rng.random_range(8 * SECOND..14 * SECOND);
                self.world.break_off(member);
                if let Some(to) = self.up_node() {
                    self.after(wait, Act::Attach(member, to));
                }
            }
            93..95 => {
                let (one, two) = self.some_pair();
                self.after(SECOND, Act::Notice(member, newest));
                self.after(500 * MS, Act::AttachTwice(member, one, two));
            }
            _ => {
                // Back and forth.
                let (one, _) = self.some_pair();
                self.after(100 * MS, Act::Attach(member, one));
                self.after(200 * MS, Act::Attach(member, node));
            }
        }
    }

    fn viewer(&mut self) {
        if self.viewers.len() > 3 || (self.rng.random_bool(0.5) && !self.viewers.is_empty()) {
            let (node, number) = self.viewers.remove(0);
            if self.world.is_up(node) {
                self.world.unwatch(node, &room(number));
            }
        } else if let Some(node) = self.up_node() {
            let number = self.rng.random_range(0..self.rooms);
            self.world.watch(node, &room(number));
            self.viewers.push((node, number));
        }
    }

    fn fault(&mut self) {
        let kind = match self.profile {
            Profile::Mild => self.rng.random_range(0..4),
            Profile::Cuts => self.rng.random_range(0..9),
            Profile::Wild => self.rng.random_range(0..17),
        };
        match kind {
            0..2 => self.crash(),
            2 => self.leave(),
            3 => self.lossy(0.05),
            4 => {
                let (a, b) = self.some_pair();
                let wait = self.rng.random_range(100 * MS..12 * SECOND);
                self.cut_for(a, b, wait);
                self.cut_for(b, a, wait);
            }
            5 => {
                // One way only: one end notices after the other, and what is asked meanwhile over
                // the half that is gone may take longer than a gap waits.
                let (a, b) = self.some_pair();
                let wait = self.rng.random_range(100 * MS..12 * SECOND);
                self.world.lossless(false);
                self.cut_for(a, b, wait);
            }
            6 => self.split(),
            7 => {
                let (a, b) = self.some_pair();
                let left = self.rng.random_range(2..8);
                self.after(0, Act::Flap(a, b, left, false));
            }
            8 => {
                // One node alone.
                let alone = self.some_node();
                let wait = self.rng.random_range(500 * MS..12 * SECOND);
                for other in (0..self.world.node_count()).filter(|o| *o != alone) {
                    self.cut_for(alone, other, wait);
                    self.cut_for(other, alone, wait);
                }
            }
            9..11 => {
                let node = self.some_node();
                if self.world.is_up(node) {
                    self.world.pause(node);
                    let wait = match self.rng.random_range(0..3) {
                        0 => self.rng.random_range(100 * MS..2 * SECOND),
                        1 => self.rng.random_range(2 * SECOND..6 * SECOND),
                        _ => self.rng.random_range(6 * SECOND..25 * SECOND),
                    };
                    self.after(wait, Act::Resume(node));
                }
            }
            11 => {
                let node = self.some_node();
                let micros = self.rng.random_range(500..4_000);
                self.world.slow(node, micros);
                self.after(3 * SECOND, Act::Fast(node));
            }
            12 => self.lossy(0.3),
            13 => self.narrow(),
            14 => self.noise(),
            15 => {
                let (a, b) = self.some_pair();
                self.world.break_bulk(a, b);
            }
            _ => {
                let node = self.some_node();
                let millis = self.rng.random_range(-20_000..20_000);
                self.world.step_clock(node, millis);
            }
        }
    }

    /// Every node is replaced by one of version 2, one by one in any order, and then, in half of the
    /// runs, by one of version 1 again.
    fn plan_upgrade(&mut self) {
        let nodes = self.world.node_count();
        let Some(rng) = self.mixed.as_mut() else {
            return;
        };
        let mut acts = Vec::new();
        let back = rng.random_bool(0.5).then_some(V1);
        for versions in [Some(Versions::default()), back].into_iter().flatten() {
            let mut order: Vec<usize> = (0..nodes).collect();
            for at in 1..nodes {
                order.swap(at, rng.random_range(0..=at));
            }
            acts.extend(order.into_iter().map(|node| Act::Replace(node, versions)));
        }
        let step = (self.heal_at - WARM_UP) / (acts.len() as u64 + 1);
        for (act, number) in acts.into_iter().zip(1..) {
            self.after(WARM_UP + number * step, act);
        }
    }

    /// A node is stopped, in good order as a rule, and started with these versions.
    fn replace(&mut self, node: usize, versions: Versions) {
        self.world.set_versions(node, versions);
        if !self.world.is_up(node) {
            return;
        }
        let Some(rng) = self.mixed.as_mut() else {
            return;
        };
        if rng.random_bool(0.7) {
            let linger = Duration::from_millis(rng.random_range(0..3_000));
            self.world.leave(node, linger);
        } else {
            self.world.crash(node);
        }
        let wait = rng.random_range(SECOND..5 * SECOND);
        self.after(wait, Act::Start(node));
    }

    /// In mixed runs without a plan a node that starts anew may have another version.
    fn change_version(&mut self, node: usize) {
        if self.rolling {
            return;
        }
        if let Some(rng) = self.mixed.as_mut() {
            let versions = [V1, Versions::default()][rng.random_range(0..2)];
            self.world.set_versions(node, versions);
        }
    }

    fn crash(&mut self) {
        let node = self.some_node();
        if !self.world.is_up(node) {
            return;
        }
        self.world.crash(node);
        if self.rng.random_bool(0.1) {
            let back = self.rng.random_range(1_000..60_000);
            self.world.step_clock(node, -back);
        }
        let wait = match self.rng.random_range(0..4) {
            0 => self.rng.random_range(100 * MS..SECOND),
            1 => self.rng.random_range(SECOND..4 * SECOND),
            2 => self.rng.random_range(4 * SECOND..15 * SECOND),
            _ => self.rng.random_range(15 * SECOND..90 * SECOND),
        };
        self.after(wait, Act::Start(node));
    }

    fn leave(&mut self) {
        let node = self.some_node();
        if !self.world.is_up(node) {
            return;
        }
        let linger = if self.rng.random_bool(0.5) {
            Duration::ZERO
        } else {
            Duration::from_secs(self.rng.random_range(1..8))
        };
        self.world.leave(node, linger);
        let wait = self.rng.random_range(SECOND..20 * SECOND);
        self.after(wait, Act::Start(node));
    }

    fn cut_for(&mut self, from: usize, to: usize, wait: u64) {
        self.world.cut(from, to);
        self.after(wait, Act::HealOne(from, to));
    }

    fn split(&mut self) {
        let count = self.world.node_count();
        let side: Vec<bool> = (0..count).map(|_| self.rng.random_bool(0.5)).collect();
        let wait = self.rng.random_range(500 * MS..12 * SECOND);
        for a in 0..count {
            for b in 0..count {
                if side[a] != side[b] {
                    self.cut_for(a, b, wait);
                }
            }
        }
    }

    fn changed_path(&mut self, change: impl Fn(&mut Path)) {
        let (a, b) = self.some_pair();
        for (from, to) in [(a, b), (b, a)] {
            let before = self.homes[from][to];
            let mut path = before;
            change(&mut path);
            self.world.set_path(from, to, path);
            let wait = self.rng.random_range(SECOND..10 * SECOND);
            self.after(wait, Act::Restore(from, to, before));
        }
    }

    fn lossy(&mut self, most: f64) {
        let loss = self.rng.random_range(0.0..most);
        let shuffled = self.rng.random_bool(0.5);
        self.changed_path(|path| {
            path.loss = loss;
            path.duplicate = if shuffled { 0.1 } else { 0.0 };
            path.reorder = if shuffled { 0.1 } else { 0.0 };
        });
        if most > 0.05 {
            self.world.disturb();
        }
    }

    fn narrow(&mut self) {
        let bandwidth = self.rng.random_range(4_000..60_000);
        self.world.disturb();
        self.changed_path(|path| path.bandwidth = bandwidth);
    }

    fn noise(&mut self) {
        let (from, to) = self.some_pair();
        self.world.disturb();
        if self.rng.random_bool(0.5) {
            let lane = [Lane::Presence, Lane::Messages, Lane::Bulk][self.rng.random_range(0..3)];
            let noise: Vec<u8> = (0..self.rng.random_range(0..200))
                .map(|_| self.rng.random())
                .collect();
            return self.world.inject(from, to, lane, noise.into());
        }
        let path = Path {
            garbage: 0.02,
            ..self.base
        };
        self.world.set_path(from, to, path);
        let wait = self.rng.random_range(SECOND..4 * SECOND);
        self.after(wait, Act::Restore(from, to, self.base));
    }

    /// Large messages of one member, mostly over paths that are too narrow for them, and past a cut.
    fn burst(&mut self) {
        let members: Vec<MemberId> = self
            .world
            .members()
            .into_iter()
            .filter(|member| matches!(self.world.attachment(*member), Some((_, true))))
            .collect();
        if members.is_empty() {
            return;
        }
        let member = members[self.extra(0..members.len())];
        let Some((node, _)) = self.world.attachment(member) else {
            return;
        };
        if self.profile == Profile::Cuts {
            // What a link loses while it breaks is more than is kept.
            self.world.lossless(false);
        }
        let count = self.world.node_count();
        let all = self.extra(0..2) == 0;
        let other = (node + self.extra(1..count)) % count;
        let wait = self.extra(2..8) * SECOND;
        if self.extra(0..4) > 0 {
            let bandwidth = self.extra(30_000..300_000);
            for to in (0..count).filter(|to| *to != node && (all || *to == other)) {
                for (from, to) in [(node, to), (to, node)] {
                    let home = self.homes[from][to];
                    let path = Path { bandwidth, ..home };
                    self.world.set_path(from, to, path);
                    self.after(wait, Act::Restore(from, to, home));
                }
            }
        }
        let mut first = 0;
        if self.profile != Profile::Mild && self.extra(0..3) == 0 {
            self.cut_for(node, other, wait + 4 * SECOND);
            self.cut_for(other, node, wait + 4 * SECOND);
            // Mostly when the way around is in use.
            first = self.extra(0..5) * SECOND;
        }
        let kind = if self.extra(0..3) > 0 {
            MessageKind::Event
        } else {
            MessageKind::Tutorial
        };
        let left = self.extra(5..60);
        self.after(first, Act::Large(member, kind, left));
    }

    fn extra<T, R>(&mut self, range: R) -> T
    where
        T: SampleUniform,
        R: SampleRange<T>,
    {
        match self.extra.as_mut() {
            Some(rng) => rng.random_range(range),
            None => self.rng.random_range(range),
        }
    }

    /// Ends every fault; what was planned for clients that are on their way still happens.
    fn heal(&mut self) {
        let rest = std::mem::take(&mut self.plan);
        let mut notices = Vec::new();
        for act in rest.into_values() {
            match act {
                Act::Notice(..) => notices.push(act),
                Act::Start(_)
                | Act::Resume(_)
                | Act::HealOne(..)
                | Act::Restore(..)
                | Act::Fast(_) => self.act(act),
                Act::Flap(a, b, _, true) => self.world.heal_both(a, b),
                _ => {}
            }
        }
        self.world.run_for(100 * MS);
        notices.into_iter().for_each(|act| self.act(act));
        self.set_homes(0.01);
    }

    fn watch(&mut self) {
        let refused = if self.profile == Profile::Wild {
            REFUSED
        } else {
            0
        };
        // One last move of every cursor, with the network as it should be: what a slow link was given
        // arrives at that link's pace, even now.
        self.world.run_until(self.world.idle_at());
        self.world.run_for(refused + 2 * SECOND);
        for member in self.world.members() {
            self.world.move_cursor(member);
        }
        let far = if self.far { FAR } else { 0 };
        self.world.run_for(HEAL - 2 * SECOND + far);
        let end = self.world.now() + WATCH;
        while self.world.now() < end && self.world.violations().is_empty() {
            self.world.check_folds();
            self.world.check_converged();
            self.world.run_for(SECOND);
        }
        self.world.check_cursors();
        self.world.check_messages();
        self.world.check_missed();
        self.world.check_memory();
        self.world.check_versions();
    }
}

/// Round trips between five cities in milliseconds: Virginia, Oregon, Frankfurt, Singapore and São Paulo.
const CITIES: [[u64; 5]; 5] = [
    [1, 65, 90, 215, 115],
    [65, 1, 145, 165, 175],
    [90, 145, 1, 160, 205],
    [215, 165, 160, 1, 325],
    [115, 175, 205, 325, 1],
];

/// Paths between nodes that are far apart, from and to.
fn distances(nodes: usize, seed: u64) -> Vec<Vec<Path>> {
    let mut rng = StdRng::seed_from_u64(seed ^ 0x000F_A200);
    let mut paths = vec![vec![Path::clean(500); nodes]; nodes];
    let cities = rng.random_bool(0.3);
    for a in 0..nodes {
        for b in 0..a {
            // Near and far ones alike, whatever the scale.
            let drawn = 1_000.0 * 600.0_f64.powf(rng.random_range(0.0..=1.0));
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            let (round_trip, share) = if cities {
                (CITIES[a % 5][b % 5] * MS, 50)
            } else {
                (drawn as u64, rng.random_range(30..=70))
            };
            for (from, to, share) in [(a, b, share), (b, a, 100 - share)] {
                let latency_us = round_trip * share / 100;
                paths[from][to] = Path {
                    latency_us,
                    jitter_us: rng.random_range(0..=latency_us / 8),
                    loss: rng.random_range(0.01..=0.05),
                    ..Path::clean(latency_us)
                };
            }
        }
    }
    paths
}
