//! Figures of clusters by size, and what a node keeps after many restarts of another.

use crate::network::Path;
use crate::room;
use crate::world::{MS, SECOND, Setup, World};

/// Members per node.
const MEMBERS: usize = 10;

/// What a cluster of one size does; times in microseconds.
#[derive(Debug, Clone, Copy, Default)]
pub struct Figures {
    /// Number of nodes.
    pub nodes: usize,
    /// From the start of all nodes until each shows every member.
    pub formed_us: Option<u64>,
    /// From a join until every node shows it.
    pub join_us: Option<u64>,
    /// From a crash until no node shows a member of it.
    pub hidden_us: Option<u64>,
    /// What a node sends on average while nothing happens, QUIC's own bytes not counted.
    pub bytes_per_second: u64,
    /// Frames and datagrams of the same.
    pub packets_per_second: u64,
    /// Members that a node keeps an entry for.
    pub entries: u64,
    /// Owners whose log a node keeps.
    pub replicas: u64,
    /// Resident memory of the simulation per node: the core, what is on its wires, and the record
    /// that the judge keeps of it. 0 where the system does not tell.
    pub memory_bytes: u64,
}

/// Runs a cluster with 100 ms round trips, 1 % loss and ten members per node.
pub fn measure(nodes: usize) -> Figures {
    let resident = resident_bytes();
    let path = Path {
        loss: 0.01,
        ..Path::clean(48 * MS)
    };
    let mut world = World::new(&Setup::new(nodes, 1, path));
    for node in 0..nodes {
        for _ in 0..MEMBERS {
            world.join(node, &room(node), true);
        }
    }
    let total = nodes * MEMBERS;
    let formed_us = until(&mut world, 120 * SECOND, |world| all_show(world, total));
    world.run_for(30 * SECOND);
    let before: Vec<_> = (0..nodes).map(|node| world.traffic(node)).collect();
    world.run_for(10 * SECOND);
    let (mut bytes, mut packets) = (0, 0);
    for (node, before) in before.iter().enumerate() {
        let now = world.traffic(node);
        bytes += now.ordered_bytes + now.datagram_bytes;
        bytes -= before.ordered_bytes + before.datagram_bytes;
        packets += now.packets - before.packets;
    }
    let per_node_second = nodes as u64 * 10;
    let memory_bytes = resident_bytes().saturating_sub(resident) / nodes as u64;
    world.join(0, &room(0), true);
    let join_us = until(&mut world, 20 * SECOND, |world| all_show(world, total + 1));
    let (entries, replicas) = (
        world.counter(0, "members_indexed"),
        world.counter(0, "replicas"),
    );
    world.crash(nodes - 1);
    let hidden_us = until(&mut world, 60 * SECOND, |world| {
        all_show(world, total + 1 - MEMBERS)
    });
    Figures {
        nodes,
        formed_us,
        join_us,
        hidden_us,
        bytes_per_second: bytes / per_node_second,
        packets_per_second: packets / per_node_second,
        entries,
        replicas,
        memory_bytes,
    }
}

/// What a node keeps before and after so many restarts of another, and what it then sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kept {
    /// Members it keeps an entry for.
    pub entries: u64,
    /// Owners whose log it keeps.
    pub replicas: u64,
    /// Other nodes it lists.
    pub peers: usize,
    /// Bytes it sends in ten seconds.
    pub bytes: u64,
}

/// Restarts one of three nodes so many times, with a member each time.
pub fn restart(times: usize) -> (Kept, Kept) {
    let mut world = World::new(&Setup::new(3, 1, Path::clean(5 * MS)));
    world.run_for(4 * SECOND);
    world.join(2, &room(0), true);
    world.run_for(10 * SECOND);
    let before = kept(&mut world);
    for _ in 0..times {
        world.crash(2);
        world.run_for(300 * MS);
        world.start(2);
        world.join(2, &room(0), true);
        world.run_for(700 * MS);
    }
    world.run_for(20 * SECOND);
    (before, kept(&mut world))
}

fn kept(world: &mut World) -> Kept {
    let before = world.traffic(0);
    world.run_for(10 * SECOND);
    let now = world.traffic(0);
    let bytes = now.ordered_bytes + now.datagram_bytes;
    Kept {
        entries: world.counter(0, "members_indexed"),
        replicas: world.counter(0, "replicas"),
        peers: world.peers(0),
        bytes: bytes - before.ordered_bytes - before.datagram_bytes,
    }
}

/// What the process occupies, in whole pages of 4 KiB.
fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok());
    pages.unwrap_or(0u64) * 4096
}

fn all_show(world: &World, members: usize) -> bool {
    (0..world.node_count())
        .filter_map(|node| world.core(node))
        .all(|core| core.shown().count() == members)
}

fn until(world: &mut World, longest: u64, holds: impl Fn(&World) -> bool) -> Option<u64> {
    let start = world.now();
    while world.now() < start + longest {
        if holds(world) {
            return Some(world.now() - start);
        }
        world.run_for(50 * MS);
    }
    None
}
