//! What a peer does wrong, or cannot keep up with, costs that peer and nobody else.

use super::*;
use crate::proto::wire::{Op, ROWS_PER_OWNER_MAX, Relay};

fn owner(index: usize) -> OwnerId {
    OwnerId {
        node: name(index),
        boot: 1_000,
    }
}

fn conn(mesh: &Mesh, from: usize, to: usize) -> ConnId {
    mesh.nodes[from].core.link_to(&name(to)).unwrap().0
}

fn counter(mesh: &Mesh, index: usize, wanted: &str) -> u64 {
    let counters = mesh.nodes[index].core.overview(mesh.now).counters;
    let found = counters.into_iter().find(|(name, _, _)| *name == wanted);
    found.unwrap().2
}

fn frame(mesh: &mut Mesh, index: usize, conn: ConnId, lane: Lane, frame: &Frame) {
    let bytes = frame.encode(VERSION);
    mesh.input(index, Input::Frame { conn, lane, bytes });
}

fn relayed(origin: usize, left: u8, to: usize, inner: Bytes) -> Frame {
    Frame::Relay(Relay {
        origin: owner(origin),
        left,
        to: vec![name(to)],
        inner,
    })
}

/// n1 is slow to take what n3 sends it through n2.
#[test]
fn a_relay_forwards_nothing_more_to_a_link_that_does_not_keep_up() {
    let mut mesh = Mesh::linked(3);
    let (from, slow) = (conn(&mesh, 1, 2), conn(&mesh, 1, 0));
    let inner = Frame::Messages(crate::proto::wire::Messages {
        origin: owner(2),
        room: room("a"),
        base: 0,
        to: 1,
        lost: 0,
        ticket: 0,
        known: u64::MAX,
        items: vec![(
            1,
            Message {
                payload: vec![0; 60_000].into(),
                ..text(0)
            },
        )],
    })
    .encode(VERSION);
    let mut forwarded = 0;
    for second in 0..40 {
        let now = mesh.now.after(Duration::from_secs(second));
        let core = &mut mesh.nodes[1].core;
        let bytes = relayed(2, 1, 0, inner.clone()).encode(VERSION);
        let lane = Lane::Messages;
        core.handle(
            now,
            Input::Frame {
                conn: from,
                lane,
                bytes,
            },
        );
        while let Some(output) = core.poll_output() {
            // Nothing is ever drained.
            if let Output::Send {
                conn,
                lane: Lane::Messages,
                frame,
            } = output
                && conn == slow
            {
                forwarded += frame.len();
            }
        }
    }
    assert!((256 * 1024..400_000).contains(&forwarded), "{forwarded}");
    assert!(counter(&mesh, 1, "relay_dropped_total") > 30);
}

#[test]
fn a_node_that_is_named_many_times_is_forwarded_to_once() {
    let mut mesh = Mesh::linked(3);
    let from = conn(&mesh, 1, 2);
    let inner = Frame::Delta(Delta {
        owner: owner(2),
        from: 0,
        to: 0,
        ops: vec![],
    })
    .encode(VERSION);
    let Frame::Relay(mut many) = relayed(2, 1, 0, inner) else {
        unreachable!();
    };
    many.to = vec![name(0); 1_000];
    frame(&mut mesh, 1, from, Lane::Presence, &Frame::Relay(many));
    assert_eq!(counter(&mesh, 1, "relayed_total"), 1);
}

#[test]
fn a_lie_inside_a_relay_does_not_cost_the_carrier_its_link() {
    let mut mesh = Mesh::linked(3);
    let carrier = conn(&mesh, 0, 1);
    let lie = Frame::Delta(Delta {
        owner: owner(0),
        from: 0,
        to: 0,
        ops: vec![],
    });
    let lie = relayed(2, 0, 0, lie.encode(VERSION));
    frame(&mut mesh, 0, carrier, Lane::Presence, &lie);
    assert!(mesh.nodes[0].closes.is_empty());
    assert_eq!(counter(&mesh, 0, "relay_dropped_total"), 1);
}

#[test]
fn a_frame_on_a_lane_that_is_not_its_own_is_not_forwarded() {
    let mut mesh = Mesh::linked(3);
    let from = conn(&mesh, 1, 2);
    let mut inner = vec![3];
    inner.resize(100_000, 0);
    let wrong = relayed(2, 1, 0, inner.into());
    frame(&mut mesh, 1, from, Lane::Messages, &wrong);
    assert_eq!(counter(&mesh, 1, "relayed_total"), 0);
    assert_eq!(counter(&mesh, 1, "relay_dropped_total"), 1);
}

#[test]
fn an_owner_with_too_many_rows_is_dropped_whole() {
    let mut mesh = Mesh::linked(3);
    mesh.local(1, Local::Join(row(9, "a")));
    mesh.run(200 * MS);
    assert_eq!(mesh.shown(0), [member(9)]);
    let from = conn(&mesh, 0, 1);
    let applied = |mesh: &Mesh| {
        let peers = mesh.nodes[0].core.overview(mesh.now).peers;
        peers
            .into_iter()
            .find(|peer| peer.node == name(1))
            .unwrap()
            .applied
    };
    for n in 0..=ROWS_PER_OWNER_MAX as u64 {
        let mut row = *row(0, "a");
        row.member.0[8..].copy_from_slice(&n.to_be_bytes());
        row.epoch = 1;
        row.handle = u32::try_from(n).unwrap() + 10;
        let from_number = applied(&mesh);
        let delta = Frame::Delta(Delta {
            owner: owner(1),
            from: from_number,
            to: from_number + 1,
            ops: vec![Op::Put(row)],
        });
        let bytes = delta.encode(VERSION);
        let lane = Lane::Presence;
        mesh.nodes[0].core.handle(
            mesh.now,
            Input::Frame {
                conn: from,
                lane,
                bytes,
            },
        );
        while mesh.nodes[0].core.poll_output().is_some() {}
    }
    assert_eq!(applied(&mesh), 0);
    assert!(mesh.shown(0).is_empty());
}

#[test]
fn numbers_from_the_wire_do_not_overflow() {
    let mut mesh = Mesh::linked(2);
    mesh.local(0, watch("a"));
    mesh.run(200 * MS);
    let from = conn(&mesh, 0, 1);
    for number in 1..=2 {
        let messages = Frame::Messages(crate::proto::wire::Messages {
            origin: owner(1),
            room: room("a"),
            base: number - 1,
            to: number,
            lost: u64::MAX,
            ticket: 0,
            known: u64::MAX,
            items: vec![(number, text(0))],
        });
        frame(&mut mesh, 0, from, Lane::Messages, &messages);
    }
    assert_eq!(counter(&mesh, 0, "messages_lost_total"), u64::MAX);
}

/// The relay in use loses its link to the target, and another takes over in the same moment.
#[test]
fn another_relay_is_told_how_far_the_messages_are() {
    let mut mesh = Mesh::linked(4);
    mesh.local(2, watch("a"));
    mesh.run(200 * MS);
    mesh.cut(0, 2);
    mesh.run(1_000 * MS);
    let relay = mesh.nodes[0].core.relay_of(&name(2)).unwrap();
    let first = if relay == name(1) { 1 } else { 3 };
    // What goes to the target through this relay is lost from now on, without a word.
    mesh.cut.insert((2.min(first), 2.max(first)));
    mesh.local(0, texts(0..3));
    mesh.run(2_500 * MS);
    mesh.break_links(|a, b| (a.min(b), a.max(b)) == (2.min(first), 2.max(first)));
    mesh.run(3_000 * MS);
    assert_eq!(mesh.texts(2).len(), 3);
}
