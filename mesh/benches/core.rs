//! What single steps of the core cost: `cargo bench -p cursormesh-mesh`, or `scripts/bench --micro`.
#![allow(missing_docs, clippy::unwrap_used)]

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use cursormesh_mesh::proto::event::{Cursor, Row, User};
use cursormesh_mesh::proto::wire::{
    CursorRecord, Datagram, Delta, Digest, DigestEntry, Frame, Op, OwnerId, VERSION,
};
use cursormesh_mesh::proto::{
    Config, ConnId, Core, GRACE, Input, Local, MemberId, NodeName, Output, RoomName, Rules,
    SNAPSHOT_PART_BYTES, Time, Versions,
};
use divan::{Bencher, black_box};

fn main() {
    divan::main();
}

const CONN: ConnId = ConnId(1);
const MEMBERS: [u32; 3] = [1_000, 10_000, 100_000];

fn name(index: u16) -> NodeName {
    NodeName::new(&format!("n{index}")).unwrap()
}

fn owner(index: u16) -> OwnerId {
    OwnerId {
        node: name(index),
        boot: 1_000,
    }
}

fn room(n: u32) -> RoomName {
    RoomName::new(&format!("room-{n}")).unwrap()
}

fn member(n: u32) -> MemberId {
    let mut id = [7; 16];
    // As in a random id, the first bytes tell members apart.
    id[..4].copy_from_slice(&n.wrapping_mul(2_654_435_761).to_be_bytes());
    MemberId(id)
}

/// Rooms have ten members each.
fn row(n: u32) -> Row {
    Row {
        member: member(n),
        epoch: 1,
        room: room(n / 10),
        user: User {
            id: format!("user-{n}"),
            name: "Somebody".to_owned(),
            color: 200,
        },
        state: Bytes::from_static(b"{\"tool\":\"pen\"}"),
        joined_at: 1_764_000_000_000,
        away: false,
        resumable: true,
        handle: n + 1,
    }
}

fn core(index: u16) -> Core {
    let config = Config {
        node: name(index),
        cluster: NodeName::new("bench").unwrap(),
        region: "here".to_owned(),
        boot: 1_000,
        advertise: SocketAddr::from(([127, 0, 0, 1], 7_000 + index)),
        seeds: Vec::new(),
        grace: GRACE,
        snapshot_part_bytes: SNAPSHOT_PART_BYTES,
        public: String::new(),
        versions: Versions::default(),
        rules: Rules::default(),
    };
    Core::new(config, Time(1_000_000), u64::from(index))
}

/// Two cores that are linked, n1 with so many members.
struct Pair {
    now: Time,
    cores: [Core; 2],
}

impl Pair {
    fn new(members: u32) -> Self {
        let mut pair = Self {
            now: Time(1_000_000),
            cores: [core(1), core(2)],
        };
        for n in 0..members {
            pair.cores[0].handle(pair.now, Input::Local(Local::Join(Box::new(row(n)))));
            while pair.cores[0].poll_output().is_some() {}
        }
        pair
    }

    fn link(&mut self) {
        for (index, core) in self.cores.iter_mut().enumerate() {
            let peer = 2 - index as u16;
            let input = Input::Connected {
                conn: CONN,
                peer: name(peer),
                addr: SocketAddr::from(([127, 0, 0, 1], 7_000 + peer)),
                dialled: index == 0,
            };
            core.handle(self.now, input);
        }
    }

    /// Carries everything across until n2 shows what n1 shows.
    fn settle(&mut self) {
        let members = self.cores[0].shown().count();
        for _ in 0..200 {
            self.now = self.now.after(Duration::from_millis(60));
            for index in 0..2 {
                self.cores[index].handle(self.now, Input::Tick);
            }
            while self.carry() {}
            if self.cores[1].shown().count() == members {
                return;
            }
        }
    }

    /// Carries what is there; false if that is nothing.
    fn carry(&mut self) -> bool {
        let mut some = false;
        for from in 0..2 {
            while let Some(output) = self.cores[from].poll_output() {
                let (now, to) = (self.now, 1 - from);
                match output {
                    Output::Send { conn, lane, frame } => {
                        some = true;
                        let bytes = frame.len();
                        let given = Input::Frame {
                            conn,
                            lane,
                            bytes: frame,
                        };
                        self.cores[to].handle(now, given);
                        self.cores[from].handle(now, Input::Drained { conn, lane, bytes });
                    }
                    Output::Datagram { conn, bytes, .. } => {
                        some = true;
                        self.cores[to].handle(now, Input::Datagram { conn, bytes });
                    }
                    _ => {}
                }
            }
        }
        some
    }
}

/// A member joins a node that has so many, and the node is asked to do something about it.
#[divan::bench(args = MEMBERS)]
fn join(bencher: Bencher<'_, '_>, members: u32) {
    let mut pair = Pair::new(members);
    let mut n = members;
    bencher.bench_local(|| {
        n += 1;
        let core = &mut pair.cores[0];
        core.handle(pair.now, Input::Local(Local::Join(Box::new(row(n)))));
        while core.poll_output().is_some() {}
    });
}

/// Everybody's rows are gone through once.
#[divan::bench(args = MEMBERS)]
fn list(bencher: Bencher<'_, '_>, members: u32) {
    let pair = Pair::new(members);
    bencher.bench_local(|| {
        pair.cores[0]
            .shown()
            .filter(|shown| !shown.row.away)
            .count()
    });
}

/// A node that has nothing gets everything from one that has so many members.
#[divan::bench(args = MEMBERS, sample_count = 3, sample_size = 1)]
fn snapshot(bencher: Bencher<'_, '_>, members: u32) {
    bencher
        .with_inputs(|| Pair::new(members))
        .bench_local_values(|mut pair| {
            pair.link();
            pair.settle();
            assert_eq!(pair.cores[1].shown().count(), members as usize);
            pair
        });
}

/// A push of so many joins is merged by a node with 10,000 members.
#[divan::bench(args = [1, 100, 1_000], sample_count = 20, sample_size = 1)]
fn merge(bencher: Bencher<'_, '_>, joins: u32) {
    let with_push = || {
        let mut pair = Pair::new(10_000);
        pair.link();
        pair.settle();
        for n in 10_000..10_000 + joins {
            pair.cores[0].handle(pair.now, Input::Local(Local::Join(Box::new(row(n)))));
        }
        pair.now = pair.now.after(Duration::from_millis(60));
        pair.cores[0].handle(pair.now, Input::Tick);
        let mut frames = Vec::new();
        while let Some(output) = pair.cores[0].poll_output() {
            if let Output::Send { conn, lane, frame } = output {
                frames.push(Input::Frame {
                    conn,
                    lane,
                    bytes: frame,
                });
            }
        }
        (pair, frames)
    };
    bencher
        .with_inputs(with_push)
        .bench_local_values(|(mut pair, frames)| {
            let core = &mut pair.cores[1];
            for frame in frames {
                core.handle(pair.now, frame);
                while core.poll_output().is_some() {}
            }
            assert_eq!(core.shown().count(), (10_000 + joins) as usize);
            pair
        });
}

/// Fifty members of a room move; another node watches.
#[divan::bench]
fn move_fifty(bencher: Bencher<'_, '_>) {
    let mut pair = Pair::new(0);
    let one = room(0);
    for n in 0..50 {
        let row = Row {
            room: one.clone(),
            ..row(n)
        };
        pair.cores[0].handle(pair.now, Input::Local(Local::Join(Box::new(row))));
    }
    let interest = Local::Interest {
        room: one.clone(),
        wanted: true,
    };
    pair.cores[1].handle(pair.now, Input::Local(interest));
    pair.link();
    pair.settle();
    let mut step = 0_u16;
    bencher.bench_local(|| {
        step = step.wrapping_add(1);
        let moved = |n| Cursor {
            member: member(n),
            time_ms: step,
            x: f32::from(step),
            y: 1.0,
        };
        let items = (0..50).map(moved).collect();
        let core = &mut pair.cores[0];
        core.handle(
            pair.now,
            Input::Local(Local::Cursors {
                room: one.clone(),
                items,
            }),
        );
        let mut datagrams = 0;
        while let Some(output) = core.poll_output() {
            datagrams += usize::from(matches!(output, Output::Datagram { urgent: false, .. }));
        }
        assert!(datagrams > 0);
    });
}

fn delta(joins: u32) -> Frame {
    Frame::Delta(Delta {
        owner: owner(1),
        from: 0,
        to: u64::from(joins),
        ops: (0..joins).map(|n| Op::Put(row(n))).collect(),
    })
}

fn digest() -> Frame {
    let entry = |index| DigestEntry {
        owner: owner(index),
        applied: 123_456,
        heartbeat: 99_999,
        age_ms: 40,
    };
    Frame::Digest(Digest {
        entries: (0..30).map(entry).collect(),
        reply: false,
    })
}

fn cursors() -> Datagram {
    let record = |n: u16| CursorRecord {
        handle: 100_000 + u32::from(n),
        epoch: 1,
        seq: u32::from(n),
        time_ms: n,
        x: f32::from(n),
        y: 2.0,
    };
    Datagram::Cursors {
        boot: 1_764_000_000_000,
        records: (0..45).map(record).collect(),
    }
}

#[divan::bench(args = [1, 1_000])]
fn encode_delta(bencher: Bencher<'_, '_>, joins: u32) {
    let frame = delta(joins);
    bencher.bench_local(|| black_box(&frame).encode(VERSION));
}

#[divan::bench(args = [1, 1_000])]
fn decode_delta(bencher: Bencher<'_, '_>, joins: u32) {
    let bytes = delta(joins).encode(VERSION);
    bencher.bench_local(|| Frame::decode(black_box(&bytes), VERSION).unwrap());
}

#[divan::bench]
fn encode_digest_of_thirty_nodes(bencher: Bencher<'_, '_>) {
    let frame = digest();
    bencher.bench_local(|| black_box(&frame).encode(VERSION));
}

#[divan::bench]
fn decode_digest_of_thirty_nodes(bencher: Bencher<'_, '_>) {
    let bytes = digest().encode(VERSION);
    bencher.bench_local(|| Frame::decode(black_box(&bytes), VERSION).unwrap());
}

#[divan::bench]
fn encode_forty_five_cursors(bencher: Bencher<'_, '_>) {
    let datagram = cursors();
    bencher.bench_local(|| black_box(&datagram).encode(VERSION));
}

#[divan::bench]
fn decode_forty_five_cursors(bencher: Bencher<'_, '_>) {
    let bytes = cursors().encode(VERSION);
    bencher.bench_local(|| Datagram::decode(black_box(&bytes), VERSION).unwrap());
}
