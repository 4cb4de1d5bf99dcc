//! The codec in use and the frozen one of version 1 say the same: on the bytes that are written down
//! here, and on frames of any content.
#![allow(missing_docs, clippy::unwrap_used)]

use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;
use cursormesh_mesh::proto::event::{LeaveReason, Message, MessageKind, Row, User};
use cursormesh_mesh::proto::wire::{
    Bye, CursorRecord, Datagram, Delta, Digest, DigestEntry, Frame, Hello, Liveness, MessagePull,
    Messages, Op, OwnerId, Pull, Relay, Snapshot,
};
use cursormesh_mesh::proto::{MemberId, NodeName, RoomName};
use cursormesh_simulator::frozen::v1;
use proptest::collection::vec;
use proptest::prelude::*;

// ---------------------------------------------------------------------------------------------
// What the codec in use makes of the frozen codec's content.

fn node(node: &v1::Node) -> NodeName {
    NodeName::new(&node.0).unwrap()
}

fn room(room: &v1::Room) -> RoomName {
    RoomName::new(&room.0).unwrap()
}

fn owner(owner: &v1::Owner) -> OwnerId {
    OwnerId {
        node: node(&owner.node),
        boot: owner.boot,
    }
}

fn member(member: v1::Member) -> MemberId {
    MemberId(member.0)
}

fn bytes(text: &v1::Text) -> Bytes {
    Bytes::from(text.0.clone())
}

fn address(address: &v1::Address) -> SocketAddr {
    let ip = match <[u8; 4]>::try_from(address.ip.as_slice()) {
        Ok(four) => IpAddr::from(four),
        Err(_) => IpAddr::from(<[u8; 16]>::try_from(address.ip.as_slice()).unwrap()),
    };
    SocketAddr::new(ip, address.port)
}

fn reason(reason: &v1::Reason) -> LeaveReason {
    match reason {
        v1::Reason::Closed {} => LeaveReason::Closed,
        v1::Reason::TimedOut {} => LeaveReason::TimedOut,
        v1::Reason::NodeLost {} => LeaveReason::NodeLost,
        v1::Reason::Kicked {} => LeaveReason::Kicked,
        v1::Reason::Superseded {} => LeaveReason::Superseded,
    }
}

fn op(op: &v1::Op) -> Op {
    match op {
        v1::Op::Put { row } => Op::Put(Row {
            member: member(row.member),
            epoch: row.epoch,
            room: room(&row.room),
            user: User {
                id: row.user.id.clone(),
                name: row.user.name.clone(),
                color: row.user.color,
            },
            state: bytes(&row.state),
            joined_at: row.joined_at,
            away: row.away,
            resumable: row.resumable,
            handle: row.handle,
        }),
        v1::Op::Leave {
            member: who,
            reason: why,
            after,
        } => Op::Leave {
            member: member(*who),
            reason: reason(why),
            after: *after,
        },
        v1::Op::Moved {
            member: who,
            room: at,
            epoch,
            to,
        } => Op::Moved {
            member: member(*who),
            room: room(at),
            epoch: *epoch,
            to: node(to),
        },
        v1::Op::Gone {
            member: who,
            room: at,
            epoch,
            reason: why,
            after,
        } => Op::Gone {
            member: member(*who),
            room: room(at),
            epoch: *epoch,
            reason: reason(why),
            after: *after,
        },
        v1::Op::Watch { room: at } => Op::Watch(room(at)),
        v1::Op::Unwatch { room: at } => Op::Unwatch(room(at)),
        v1::Op::About {
            region,
            advertise,
            links,
        } => Op::About {
            region: region.clone(),
            advertise: address(advertise),
            links: links.iter().map(|(to, rtt)| (node(to), *rtt)).collect(),
        },
    }
}

fn relay(relay: &v1::Relay) -> Relay {
    Relay {
        origin: owner(&relay.origin),
        left: relay.left,
        to: relay.to.iter().map(node).collect(),
        inner: bytes(&relay.inner),
    }
}

/// What is in a byte string that is the whole body of a frame.
fn string_in(frame: &[u8]) -> Bytes {
    let prefix = 1
        + frame[1..]
            .iter()
            .take_while(|byte| *byte & 0x80 != 0)
            .count()
        + 1;
    Bytes::copy_from_slice(&frame[prefix..])
}

fn frame(frame: &v1::Frame) -> Frame {
    match frame {
        v1::Frame::Hello(hello) => Frame::Hello(Hello {
            version: hello.version,
            version_oldest: hello.version_oldest,
            cluster: hello.cluster.clone(),
            node: node(&hello.node),
            boot: hello.boot,
            bump: hello.bump,
            region: hello.region.clone(),
            advertise: address(&hello.advertise),
            capabilities: hello.capabilities,
            your_boot: hello.your_boot,
        }),
        // Opaque to that codec: SWIM encodes them.
        v1::Frame::Members(_) => Frame::Members(string_in(&frame.encode())),
        v1::Frame::Delta(delta) => Frame::Delta(Delta {
            owner: owner(&delta.owner),
            from: delta.from,
            to: delta.to,
            ops: delta.ops.iter().map(op).collect(),
        }),
        v1::Frame::Digest(digest) => Frame::Digest(Digest {
            entries: digest
                .entries
                .iter()
                .map(|entry| DigestEntry {
                    owner: owner(&entry.owner),
                    applied: entry.applied,
                    heartbeat: entry.heartbeat,
                    age_ms: entry.age_ms,
                })
                .collect(),
            reply: digest.reply,
        }),
        v1::Frame::Pull(pull) => Frame::Pull(Pull {
            owner: owner(&pull.owner),
            have: pull.have,
        }),
        v1::Frame::Snapshot(snapshot) => Frame::Snapshot(Snapshot {
            owner: owner(&snapshot.owner),
            at: snapshot.at,
            part: snapshot.part,
            parts: snapshot.parts,
            entries: snapshot.entries.iter().map(op).collect(),
        }),
        v1::Frame::Messages(messages) => Frame::Messages(Messages {
            origin: owner(&messages.origin),
            room: room(&messages.room),
            base: messages.base,
            to: messages.to,
            lost: messages.lost,
            ticket: messages.ticket,
            known: messages.known,
            items: messages
                .items
                .iter()
                .map(|(number, message)| {
                    let kind = match message.kind {
                        v1::MessageKind::Tutorial {} => MessageKind::Tutorial,
                        v1::MessageKind::Event {} => MessageKind::Event,
                    };
                    let message = Message {
                        sender: member(message.sender),
                        kind,
                        payload: bytes(&message.payload),
                    };
                    (*number, message)
                })
                .collect(),
        }),
        v1::Frame::MessagePull(pull) => Frame::MessagePull(MessagePull {
            origin: owner(&pull.origin),
            room: room(&pull.room),
            from: pull.from,
            to: pull.to,
            ticket: pull.ticket,
        }),
        v1::Frame::Relay(inner) => Frame::Relay(relay(inner)),
        v1::Frame::Bye(bye) => Frame::Bye(Bye {
            boot: bye.boot,
            linger_ms: bye.linger_ms,
        }),
    }
}

fn datagram(datagram: &v1::Datagram) -> Datagram {
    match datagram {
        v1::Datagram::Swim(_) => Datagram::Swim(Bytes::copy_from_slice(&datagram.encode()[1..])),
        v1::Datagram::Liveness(entries) => Datagram::Liveness(
            entries
                .iter()
                .map(|entry| Liveness {
                    owner: owner(&entry.owner),
                    heartbeat: entry.heartbeat,
                    age_ms: entry.age_ms,
                })
                .collect(),
        ),
        v1::Datagram::Cursors(cursors) => Datagram::Cursors {
            boot: cursors.boot,
            records: cursors
                .records
                .iter()
                .map(|record| CursorRecord {
                    handle: record.handle,
                    epoch: record.epoch,
                    seq: record.seq,
                    time_ms: record.time_ms,
                    x: f32::from_bits(record.x.0),
                    y: f32::from_bits(record.y.0),
                })
                .collect(),
        },
        v1::Datagram::Relay(inner) => Datagram::Relay(relay(inner)),
    }
}

/// Both codecs make the same bytes of this content, and the same content of these bytes.
fn agree_on_frame(old: &v1::Frame) -> Vec<u8> {
    let bytes = old.encode();
    let new = frame(old);
    assert_eq!(v1::Frame::decode(&bytes).as_ref(), Ok(old));
    assert_eq!(Frame::decode(&bytes, 1), Ok(new.clone()));
    assert_eq!(new.encode(1), bytes);
    // Nothing of version 1 is said in other words on a link of a newer version.
    assert_eq!(new.encode(2), bytes);
    assert_eq!(Frame::decode(&bytes, 2), Ok(new));
    bytes
}

fn agree_on_datagram(old: &v1::Datagram) -> Vec<u8> {
    let bytes = old.encode();
    let new = datagram(old);
    assert_eq!(v1::Datagram::decode(&bytes).as_ref(), Ok(old));
    assert_eq!(Datagram::decode(&bytes, 1), Ok(new.clone()));
    assert_eq!(new.encode(1), bytes);
    assert_eq!(new.encode(2), bytes);
    bytes
}

// ---------------------------------------------------------------------------------------------
// Bytes that are written down.

fn n1() -> v1::Owner {
    v1::Owner {
        node: v1::Node("n1".to_owned()),
        boot: 300,
    }
}

fn swim_id(name: &str) -> v1::SwimId {
    v1::SwimId {
        node: v1::Node(name.to_owned()),
        boot: 300,
        bump: 1,
        address: v1::Address {
            ip: vec![10, 0, 0, 1],
            port: 7171,
        },
    }
}

fn swim_member() -> v1::SwimMember {
    v1::SwimMember {
        id: swim_id("n2"),
        incarnation: 5,
        state: v1::SwimState::Suspect {},
    }
}

fn lobby() -> v1::Room {
    v1::Room("lobby".to_owned())
}

const ADA: v1::Member = v1::Member([0xAD; 16]);

/// Every operation, in the order of their indices.
fn all_ops() -> Vec<v1::Op> {
    vec![
        v1::Op::Put {
            row: v1::Row {
                member: ADA,
                epoch: 2,
                room: lobby(),
                user: v1::User {
                    id: "u".to_owned(),
                    name: "Ä".to_owned(),
                    color: 217,
                },
                state: v1::Text(b"{}".to_vec()),
                joined_at: 1000,
                away: false,
                resumable: true,
                handle: 9,
            },
        },
        v1::Op::Leave {
            member: ADA,
            reason: v1::Reason::Superseded {},
            after: 3,
        },
        v1::Op::Moved {
            member: ADA,
            room: lobby(),
            epoch: 3,
            to: v1::Node("n2".to_owned()),
        },
        v1::Op::Gone {
            member: ADA,
            room: lobby(),
            epoch: 3,
            reason: v1::Reason::TimedOut {},
            after: 0,
        },
        v1::Op::Watch { room: lobby() },
        v1::Op::Unwatch { room: lobby() },
        v1::Op::About {
            region: "eu".to_owned(),
            advertise: v1::Address {
                ip: vec![0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
                port: 80,
            },
            links: vec![(v1::Node("n2".to_owned()), 1500)],
        },
    ]
}

fn example_frames() -> Vec<(v1::Frame, &'static str)> {
    let ops = all_ops();
    let pull = v1::Frame::MessagePull(v1::MessagePull {
        origin: n1(),
        room: lobby(),
        from: 1,
        to: u64::MAX,
        ticket: 7,
    });
    vec![
        (
            v1::Frame::Hello(v1::Hello {
                version: 1,
                version_oldest: 1,
                cluster: "dev".to_owned(),
                node: v1::Node("n1".to_owned()),
                boot: 300,
                bump: 1,
                region: "eu".to_owned(),
                advertise: v1::Address {
                    ip: vec![127, 0, 0, 1],
                    port: 7171,
                },
                capabilities: 0,
                your_boot: 128,
            }),
            "01010103646576026e31ac0201026575007f0000018338008001",
        ),
        (
            v1::Frame::Members(vec![swim_member()]),
            "021001026e32ac0201000a00000183380501",
        ),
        (
            v1::Frame::Delta(v1::Delta {
                owner: n1(),
                from: 4,
                to: 4 + ops.len() as u64,
                ops: ops.clone(),
            }),
            "03026e31ac02040b0700adadadadadadadadadadadadadadadad02056c6f626279017502\
             c384d901027b7de80700010901adadadadadadadadadadadadadadadad040302adadadad\
             adadadadadadadadadadadad056c6f62627903026e3203adadadadadadadadadadadadad\
             adadad056c6f62627903010004056c6f62627905056c6f62627906026575010000000000\
             00000000000000000000015001026e32dc0b",
        ),
        (
            v1::Frame::Digest(v1::Digest {
                entries: vec![v1::DigestEntry {
                    owner: n1(),
                    applied: 200,
                    heartbeat: 3,
                    age_ms: 4_000,
                }],
                reply: true,
            }),
            "0401026e31ac02c80103a01f01",
        ),
        (
            v1::Frame::Pull(v1::Pull {
                owner: n1(),
                have: 16_384,
            }),
            "05026e31ac02808001",
        ),
        (
            v1::Frame::Snapshot(v1::Snapshot {
                owner: n1(),
                at: 9,
                part: 1,
                parts: 2,
                entries: vec![ops[4].clone()],
            }),
            "06026e31ac020901020104056c6f626279",
        ),
        (
            v1::Frame::Messages(v1::Messages {
                origin: n1(),
                room: lobby(),
                base: 1,
                to: 4,
                lost: 0,
                ticket: 0,
                known: 6,
                items: vec![(
                    3,
                    v1::Message {
                        sender: ADA,
                        kind: v1::MessageKind::Event {},
                        payload: v1::Text(b"hi".to_vec()),
                    },
                )],
            }),
            "07026e31ac02056c6f62627901040000060103adadadadadadadadadadadadadadadad01\
             026869",
        ),
        (
            pull.clone(),
            "08026e31ac02056c6f62627901ffffffffffffffffff0107",
        ),
        (
            v1::Frame::Relay(v1::Relay {
                origin: n1(),
                left: 1,
                to: vec![v1::Node("n3".to_owned())],
                inner: v1::Text(pull.encode()),
            }),
            "09026e31ac020101026e331808026e31ac02056c6f62627901ffffffffffffffffff0107",
        ),
        (
            v1::Frame::Bye(v1::Bye {
                boot: 300,
                linger_ms: 1_000,
            }),
            "0aac02e807",
        ),
    ]
}

fn example_datagrams() -> Vec<(v1::Datagram, &'static str)> {
    let cursors = v1::Datagram::Cursors(v1::Cursors {
        boot: 300,
        records: vec![v1::Record {
            handle: 9,
            epoch: 2,
            seq: 300,
            time_ms: 65_535,
            x: v1::Float(1.5_f32.to_bits()),
            y: v1::Float((-2.0_f32).to_bits()),
        }],
    });
    let header = |message| v1::SwimHeader {
        from: swim_id("n1"),
        incarnation: 3,
        to: swim_id("n2"),
        message,
    };
    vec![
        (
            v1::Datagram::Swim(v1::Swim {
                header: header(v1::SwimMessage::PingReq {
                    target: swim_id("n3"),
                    number: 200,
                }),
                updates: Some(vec![swim_member()]),
            }),
            "20026e31ac0201000a000001833803026e32ac0201000a000001833802026e33ac020100\
             0a0000018338c80001026e32ac0201000a00000183380501",
        ),
        (
            v1::Datagram::Swim(v1::Swim {
                header: header(v1::SwimMessage::TurnUndead {}),
                updates: None,
            }),
            "20026e31ac0201000a000001833803026e32ac0201000a00000183380a",
        ),
        (
            v1::Datagram::Liveness(vec![v1::Liveness {
                owner: n1(),
                heartbeat: 300,
                age_ms: 0,
            }]),
            "2101026e31ac02ac0200",
        ),
        (cursors.clone(), "22ac02010902ac02ffff030000c03f000000c0"),
        (
            v1::Datagram::Relay(v1::Relay {
                origin: n1(),
                left: 0,
                to: vec![v1::Node("n3".to_owned())],
                inner: v1::Text(cursors.encode()),
            }),
            "23026e31ac020001026e331322ac02010902ac02ffff030000c03f000000c0",
        ),
    ]
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn the_bytes_of_every_frame_are_those_written_down() {
    for (old, written) in example_frames() {
        assert_eq!(
            hex(&agree_on_frame(&old)),
            written.replace(' ', ""),
            "{old:?}"
        );
    }
}

#[test]
fn the_bytes_of_every_datagram_are_those_written_down() {
    for (old, written) in example_datagrams() {
        assert_eq!(
            hex(&agree_on_datagram(&old)),
            written.replace(' ', ""),
            "{old:?}"
        );
    }
}

#[test]
fn what_version_1_does_not_know_its_frozen_codec_refuses() {
    let public = Frame::Public("wss://n1.example.org/v1".to_owned()).encode(2);
    for bytes in [
        &public[..],
        &[],
        &[0],
        &[99, 1],
        &[0x80 + 11, 1],
        // A byte too many, and one too few.
        &[10, 1, 1, 0],
        &[10, 1],
    ] {
        assert!(v1::Frame::decode(bytes).is_err(), "{bytes:?}");
    }
    assert!(v1::Datagram::decode(&[36, 0]).is_err());
    let mut longer = agree_on_frame(&example_frames()[0].0);
    longer.push(0);
    assert!(
        v1::Frame::decode(&longer).is_err(),
        "a Hello with one field more"
    );
}

// ---------------------------------------------------------------------------------------------
// Any content.

fn any_node() -> impl Strategy<Value = v1::Node> {
    "[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?".prop_map(v1::Node)
}

fn any_room() -> impl Strategy<Value = v1::Room> {
    "[a-zA-Z0-9 ä🦀]{1,20}".prop_map(v1::Room)
}

fn any_owner() -> impl Strategy<Value = v1::Owner> {
    (any_node(), any::<u64>()).prop_map(|(node, boot)| v1::Owner { node, boot })
}

fn any_member() -> impl Strategy<Value = v1::Member> {
    any::<[u8; 16]>().prop_map(v1::Member)
}

fn any_text() -> impl Strategy<Value = v1::Text> {
    vec(any::<u8>(), 0..300).prop_map(v1::Text)
}

fn any_address() -> impl Strategy<Value = v1::Address> {
    let ip = prop_oneof![vec(any::<u8>(), 4), vec(any::<u8>(), 16)];
    (ip, any::<u16>()).prop_map(|(ip, port)| v1::Address { ip, port })
}

fn any_reason() -> impl Strategy<Value = v1::Reason> {
    prop_oneof![
        Just(v1::Reason::Closed {}),
        Just(v1::Reason::TimedOut {}),
        Just(v1::Reason::NodeLost {}),
        Just(v1::Reason::Kicked {}),
        Just(v1::Reason::Superseded {}),
    ]
}

fn any_row() -> impl Strategy<Value = v1::Row> {
    let who = (any_member(), any_room(), ".{0,20}", ".{0,20}", any_text());
    let numbers = (
        any::<[u32; 2]>(),
        any::<u16>(),
        any::<u64>(),
        any::<[bool; 2]>(),
    );
    (who, numbers).prop_map(
        |(
            (member, room, id, name, state),
            ([epoch, handle], color, joined_at, [away, resumable]),
        )| {
            v1::Row {
                member,
                epoch,
                room,
                user: v1::User { id, name, color },
                state,
                joined_at,
                away,
                resumable,
                handle,
            }
        },
    )
}

fn any_op() -> impl Strategy<Value = v1::Op> {
    prop_oneof![
        any_row().prop_map(|row| v1::Op::Put { row }),
        (any_member(), any_reason(), any::<u64>()).prop_map(|(member, reason, after)| {
            v1::Op::Leave {
                member,
                reason,
                after,
            }
        }),
        (any_member(), any_room(), any::<u32>(), any_node()).prop_map(
            |(member, room, epoch, to)| v1::Op::Moved {
                member,
                room,
                epoch,
                to
            }
        ),
        (
            any_member(),
            any_room(),
            any::<u32>(),
            any_reason(),
            any::<u64>()
        )
            .prop_map(|(member, room, epoch, reason, after)| v1::Op::Gone {
                member,
                room,
                epoch,
                reason,
                after
            }),
        any_room().prop_map(|room| v1::Op::Watch { room }),
        any_room().prop_map(|room| v1::Op::Unwatch { room }),
        (
            "[a-z]{0,63}",
            any_address(),
            vec((any_node(), any::<u32>()), 0..4)
        )
            .prop_map(|(region, advertise, links)| v1::Op::About {
                region,
                advertise,
                links
            }),
    ]
}

fn any_swim_id() -> impl Strategy<Value = v1::SwimId> {
    (any_node(), any::<u64>(), any::<u32>(), any_address()).prop_map(
        |(node, boot, bump, address)| v1::SwimId {
            node,
            boot,
            bump,
            address,
        },
    )
}

fn any_swim_member() -> impl Strategy<Value = v1::SwimMember> {
    let state = prop_oneof![
        Just(v1::SwimState::Alive {}),
        Just(v1::SwimState::Suspect {}),
        Just(v1::SwimState::Down {}),
    ];
    (any_swim_id(), any::<u16>(), state).prop_map(|(id, incarnation, state)| v1::SwimMember {
        id,
        incarnation,
        state,
    })
}

fn any_messages() -> impl Strategy<Value = v1::Messages> {
    let kind = prop_oneof![
        Just(v1::MessageKind::Tutorial {}),
        Just(v1::MessageKind::Event {})
    ];
    let item = (1..1_000_u64, any_member(), kind, any_text());
    let numbers = (0..u64::MAX / 2, any::<[u64; 3]>(), 0..1_000_u64);
    (any_owner(), any_room(), numbers, vec(item, 0..4)).prop_map(
        |(origin, room, (base, [lost, ticket, known], beyond), items)| {
            let mut to = base;
            let items = items
                .into_iter()
                .map(|(step, sender, kind, payload)| {
                    to += step;
                    let message = v1::Message {
                        sender,
                        kind,
                        payload,
                    };
                    (to, message)
                })
                .collect();
            v1::Messages {
                origin,
                room,
                base,
                to: to + beyond,
                lost,
                ticket,
                known,
                items,
            }
        },
    )
}

fn any_bare_frame() -> impl Strategy<Value = v1::Frame> {
    let hello = (
        any::<[u16; 2]>(),
        "[a-z]{0,63}",
        any_owner(),
        any::<u32>(),
        "[a-z]{0,63}",
        any_address(),
        any::<[u64; 2]>(),
    );
    prop_oneof![
        hello.prop_map(
            |([version, version_oldest], cluster, owner, bump, region, advertise, [a, b])| {
                v1::Frame::Hello(v1::Hello {
                    version,
                    version_oldest,
                    cluster,
                    node: owner.node,
                    boot: owner.boot,
                    bump,
                    region,
                    advertise,
                    capabilities: a,
                    your_boot: b,
                })
            }
        ),
        vec(any_swim_member(), 0..4).prop_map(v1::Frame::Members),
        (any_owner(), 0..u64::MAX / 2, vec(any_op(), 0..5)).prop_map(|(owner, from, ops)| {
            v1::Frame::Delta(v1::Delta {
                owner,
                from,
                to: from + ops.len() as u64,
                ops,
            })
        }),
        (
            vec((any_owner(), any::<[u64; 2]>(), any::<u32>()), 0..4),
            any::<bool>()
        )
            .prop_map(|(entries, reply)| {
                let entries = entries.into_iter();
                let entries =
                    entries.map(|(owner, [applied, heartbeat], age_ms)| v1::DigestEntry {
                        owner,
                        applied,
                        heartbeat,
                        age_ms,
                    });
                v1::Frame::Digest(v1::Digest {
                    entries: entries.collect(),
                    reply,
                })
            }),
        (any_owner(), any::<u64>())
            .prop_map(|(owner, have)| v1::Frame::Pull(v1::Pull { owner, have })),
        (any_owner(), any::<u64>(), 0..5_120_u32, vec(any_op(), 0..4)).prop_map(
            |(owner, at, part, entries)| v1::Frame::Snapshot(v1::Snapshot {
                owner,
                at,
                part,
                parts: 5_120,
                entries,
            })
        ),
        any_messages().prop_map(v1::Frame::Messages),
        (any_owner(), any_room(), any::<[u64; 3]>()).prop_map(|(origin, room, [a, b, ticket])| {
            v1::Frame::MessagePull(v1::MessagePull {
                origin,
                room,
                from: a.min(b),
                to: a.max(b),
                ticket,
            })
        }),
        (any::<u64>(), any::<u32>())
            .prop_map(|(boot, linger_ms)| v1::Frame::Bye(v1::Bye { boot, linger_ms })),
    ]
}

fn relays(inner: Vec<u8>, origin: v1::Owner, left: u8, to: Vec<v1::Node>) -> v1::Relay {
    v1::Relay {
        origin,
        left,
        to,
        inner: v1::Text(inner),
    }
}

fn any_frame() -> impl Strategy<Value = v1::Frame> {
    let relayed = any_bare_frame().prop_filter("what is relayed", |frame| {
        matches!(
            frame,
            v1::Frame::Delta(_)
                | v1::Frame::Digest(_)
                | v1::Frame::Messages(_)
                | v1::Frame::MessagePull(_)
        )
    });
    prop_oneof![
        9 => any_bare_frame(),
        1 => (relayed, any_owner(), 0..2_u8, vec(any_node(), 0..4)).prop_map(
            |(inner, origin, left, to)| v1::Frame::Relay(relays(inner.encode(), origin, left, to))
        ),
    ]
}

fn any_cursors() -> impl Strategy<Value = v1::Datagram> {
    let record = (
        any::<[u32; 3]>(),
        any::<u16>(),
        -1e9_f32..1e9,
        -1e9_f32..1e9,
    );
    let record = record.prop_map(|([handle, epoch, seq], time_ms, x, y)| v1::Record {
        handle,
        epoch,
        seq,
        time_ms,
        x: v1::Float(x.to_bits()),
        y: v1::Float(y.to_bits()),
    });
    (any::<u64>(), vec(record, 0..20))
        .prop_map(|(boot, records)| v1::Datagram::Cursors(v1::Cursors { boot, records }))
}

fn any_datagram() -> impl Strategy<Value = v1::Datagram> {
    let message = prop_oneof![
        any::<u8>().prop_map(|number| v1::SwimMessage::Ping { number }),
        any::<u8>().prop_map(|number| v1::SwimMessage::Ack { number }),
        (any_swim_id(), any::<u8>())
            .prop_map(|(target, number)| v1::SwimMessage::PingReq { target, number }),
        (any_swim_id(), any::<u8>())
            .prop_map(|(origin, number)| v1::SwimMessage::IndirectPing { origin, number }),
        (any_swim_id(), any::<u8>())
            .prop_map(|(target, number)| v1::SwimMessage::IndirectAck { target, number }),
        (any_swim_id(), any::<u8>())
            .prop_map(|(origin, number)| v1::SwimMessage::ForwardedAck { origin, number }),
        Just(v1::SwimMessage::Announce {}),
        Just(v1::SwimMessage::Feed {}),
        Just(v1::SwimMessage::Gossip {}),
        Just(v1::SwimMessage::Broadcast {}),
        Just(v1::SwimMessage::TurnUndead {}),
    ];
    let header = (any_swim_id(), any::<u16>(), any_swim_id(), message).prop_map(
        |(from, incarnation, to, message)| v1::SwimHeader {
            from,
            incarnation,
            to,
            message,
        },
    );
    let updates = proptest::option::of(vec(any_swim_member(), 0..8));
    prop_oneof![
        (header, updates)
            .prop_map(|(header, updates)| v1::Datagram::Swim(v1::Swim { header, updates })),
        vec((any_owner(), any::<u64>(), any::<u32>()), 0..8).prop_map(|entries| {
            let entries = entries.into_iter();
            let entries = entries.map(|(owner, heartbeat, age_ms)| v1::Liveness {
                owner,
                heartbeat,
                age_ms,
            });
            v1::Datagram::Liveness(entries.collect())
        }),
        any_cursors(),
        (any_cursors(), any_owner(), 0..2_u8, vec(any_node(), 0..4)).prop_map(
            |(inner, origin, left, to)| v1::Datagram::Relay(relays(
                inner.encode(),
                origin,
                left,
                to
            ))
        ),
    ]
}

proptest! {
    #[test]
    fn both_codecs_agree_on_any_frame(frame in any_frame()) {
        agree_on_frame(&frame);
    }

    #[test]
    fn both_codecs_agree_on_any_datagram(datagram in any_datagram()) {
        agree_on_datagram(&datagram);
    }

    #[test]
    fn what_one_codec_takes_of_arbitrary_bytes_the_other_takes_alike(
        kind in 0..12_u8,
        body in vec(any::<u8>(), 0..60),
    ) {
        let mut bytes = vec![kind];
        bytes.extend(body);
        if let Ok(old) = v1::Frame::decode(&bytes) {
            prop_assert_eq!(Frame::decode(&bytes, 1), Ok(frame(&old)));
        }
    }
}
