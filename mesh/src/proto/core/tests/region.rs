//! Gateways: one copy for a region, and what happens when its gateway is not there.

use super::*;
use crate::proto::wire::{Datagram, Relay};

/// n1 alone in its region and `there` nodes in another, all with somebody in the rooms `a` and `b`.
fn regions(there: usize) -> Mesh {
    let count = there + 1;
    let mut mesh = Mesh::new(count);
    for index in 0..count {
        let config = Config {
            region: if index == 0 { "here" } else { "there" }.to_owned(),
            ..config(index, count, 1_000)
        };
        mesh.nodes[index].core = Core::new(config, mesh.now, index as u64);
    }
    mesh.run(3_000 * MS);
    for index in 0..count {
        mesh.local(index, watch("a"));
    }
    mesh.local(0, Local::Join(row(0, "a")));
    mesh.run(2_000 * MS);
    mesh
}

/// To whom n1 sends a position, and for whom each is wrapped.
fn sent(mesh: &mut Mesh, x: f32) -> Vec<(NodeName, Vec<NodeName>)> {
    let now = mesh.now;
    let core = &mut mesh.nodes[0].core;
    let cursor = Cursor {
        member: member(0),
        time_ms: 0,
        x,
        y: 0.0,
    };
    let items = vec![cursor];
    let room = room("a");
    core.handle(now, Input::Local(Local::Cursors { room, items }));
    let mut sent = Vec::new();
    while let Some(output) = core.poll_output() {
        let Output::Datagram { conn, bytes, .. } = output else {
            continue;
        };
        let peer = core.conns.get(&conn).unwrap().peer.clone();
        match Datagram::decode(&bytes, VERSION) {
            Ok(Datagram::Relay(Relay { to, .. })) => sent.push((peer, to)),
            Ok(Datagram::Cursors { .. }) => sent.push((peer, Vec::new())),
            _ => {}
        }
    }
    sent.sort();
    sent
}

fn link(mesh: &Mesh, to: usize) -> ConnId {
    mesh.nodes[0].core.link_to(&name(to)).unwrap().0
}

fn index_of(node: &NodeName) -> usize {
    (0..100).find(|index| name(*index) == *node).unwrap()
}

#[test]
fn a_region_gets_one_copy_and_a_large_one_a_few() {
    let mut mesh = regions(3);
    let copies = sent(&mut mesh, 1.0);
    assert_eq!(copies.len(), 1, "{copies:?}");
    assert_eq!(copies[0].1.len(), 3);
    // Nine names fit beside a gateway's own.
    let mut mesh = regions(20);
    let copies = sent(&mut mesh, 1.0);
    assert_eq!(copies.len(), 3, "{copies:?}");
    let reached: usize = copies.iter().map(|(_, to)| to.len().max(1)).sum();
    assert_eq!(reached, 20);
}

#[test]
fn a_gateway_that_acknowledges_nothing_is_passed_by_until_it_is_heard_of() {
    let mut mesh = regions(3);
    let gateway = sent(&mut mesh, 1.0)[0].0.clone();
    let conn = link(&mesh, index_of(&gateway));
    mesh.now = mesh.now.after(Duration::from_millis(1));
    mesh.input(0, Input::Quiet { conn });
    let copies = sent(&mut mesh, 2.0);
    assert_eq!(copies.len(), 1, "{copies:?}");
    let other = copies[0].0.clone();
    assert_ne!(other, gateway);
    // It is no gateway, but it is still told: by the one that is.
    assert!(copies[0].1.contains(&gateway), "{copies:?}");
    mesh.run(1_000 * MS);
    let conn = link(&mesh, index_of(&other));
    mesh.now = mesh.now.after(Duration::from_millis(1));
    mesh.input(0, Input::Quiet { conn });
    let copies = sent(&mut mesh, 3.0);
    assert_eq!(copies.len(), 1, "{copies:?}");
    assert_eq!(copies[0].0, gateway, "it was heard of again");
}

#[test]
fn a_gateway_that_says_goodbye_is_one_no_longer() {
    let mut mesh = regions(3);
    let gateway = index_of(&sent(&mut mesh, 1.0)[0].0.clone());
    let linger = Duration::from_secs(10);
    mesh.input(gateway, Input::Leave { linger });
    mesh.run(10 * MS);
    let copies = sent(&mut mesh, 2.0);
    assert_eq!(copies.len(), 1, "{copies:?}");
    assert_ne!(copies[0].0, name(gateway));
}
