//! The core driven by hand: a clock, a few nodes and wires that deliver at once.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;

use super::super::event::*;
use super::super::identity::*;
use super::super::rule::Rules;
use super::super::wire::{Delta, Frame, Hello, OwnerId, VERSION, Versions};
use super::{Config, Core, GRACE, SNAPSHOT_PART_BYTES};

mod hostile;
mod region;
mod versions;

const MS: Duration = Duration::from_millis(1);

/// A few nodes in one process. Connections open at once where they are not cut.
struct Mesh {
    now: Time,
    nodes: Vec<Node>,
    conns: BTreeMap<ConnId, (usize, ConnId)>,
    conn_last: u64,
    cut: BTreeSet<(usize, usize)>,
    /// Processes that run as another node than their number says.
    moved: BTreeMap<usize, usize>,
    /// Addresses beside those of the processes, and whose they are.
    leads: BTreeMap<usize, usize>,
}

struct Node {
    core: Core,
    events: Vec<Event>,
    closes: Vec<(CloseCode, String)>,
    running: bool,
}

fn addr(index: usize) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 7_171 + u16::try_from(index).unwrap()))
}

fn name(index: usize) -> NodeName {
    NodeName::new(&format!("n{}", index + 1)).unwrap()
}

fn room(text: &str) -> RoomName {
    RoomName::new(text).unwrap()
}

fn member(n: u8) -> MemberId {
    MemberId([n; 16])
}

fn row(n: u8, room_name: &str) -> Box<Row> {
    Box::new(Row {
        member: member(n),
        epoch: 0,
        room: room(room_name),
        user: User::default(),
        state: Bytes::from_static(b"null"),
        joined_at: 1,
        away: false,
        resumable: true,
        handle: 0,
    })
}

fn config(index: usize, count: usize, boot: u64) -> Config {
    Config {
        node: name(index),
        cluster: NodeName::new("test").unwrap(),
        region: "here".to_owned(),
        boot,
        advertise: addr(index),
        seeds: (0..count)
            .map(|other| (Some(name(other)), addr(other)))
            .collect(),
        grace: GRACE,
        snapshot_part_bytes: SNAPSHOT_PART_BYTES,
        public: String::new(),
        versions: Versions::default(),
        rules: Rules::default(),
    }
}

impl Mesh {
    fn new(count: usize) -> Self {
        let now = Time(1_000_000);
        let nodes = (0..count)
            .map(|index| Node {
                core: Core::new(config(index, count, 1_000), now, index as u64),
                events: Vec::new(),
                closes: Vec::new(),
                running: true,
            })
            .collect();
        Self {
            now,
            nodes,
            conns: BTreeMap::new(),
            conn_last: 0,
            cut: BTreeSet::new(),
            moved: BTreeMap::new(),
            leads: BTreeMap::new(),
        }
    }

    fn linked(count: usize) -> Self {
        let mut mesh = Self::new(count);
        mesh.run(3_000 * MS);
        for node in &mesh.nodes {
            let overview = node.core.overview(mesh.now);
            assert_eq!(
                overview.peers.iter().filter(|peer| peer.linked).count(),
                count - 1
            );
        }
        mesh
    }

    fn run(&mut self, duration: Duration) {
        let end = self.now.after(duration);
        while self.now < end {
            self.now = self.now.after(10 * MS);
            for index in 0..self.nodes.len() {
                if self.nodes[index].running && self.nodes[index].core.poll_timeout() <= self.now {
                    self.input(index, Input::Tick);
                }
            }
        }
    }

    fn local(&mut self, index: usize, local: Local) {
        self.input(index, Input::Local(local));
    }

    fn input(&mut self, index: usize, input: Input) {
        let mut todo = VecDeque::from([(index, input)]);
        while let Some((index, input)) = todo.pop_front() {
            let node = &mut self.nodes[index];
            if !node.running {
                continue;
            }
            node.core.handle(self.now, input);
            while let Some(output) = self.nodes[index].core.poll_output() {
                self.output(index, output, &mut todo);
            }
        }
    }

    fn output(&mut self, index: usize, output: Output, todo: &mut VecDeque<(usize, Input)>) {
        match output {
            Output::Send { conn, lane, frame } => {
                todo.push_back((
                    index,
                    Input::Drained {
                        conn,
                        lane,
                        bytes: frame.len(),
                    },
                ));
                if let Some((to, theirs)) = self.far_end(index, conn) {
                    todo.push_back((
                        to,
                        Input::Frame {
                            conn: theirs,
                            lane,
                            bytes: frame,
                        },
                    ));
                }
            }
            Output::Datagram { conn, bytes, .. } => {
                if let Some((to, conn)) = self.far_end(index, conn) {
                    todo.push_back((to, Input::Datagram { conn, bytes }));
                }
            }
            Output::Dial { addr: to, .. } => {
                let number = usize::from(to.port() - 7_171);
                let other = self.leads.get(&number).copied().unwrap_or(number);
                if self.is_cut(index, other) || !self.nodes.get(other).is_some_and(|n| n.running) {
                    let reason = "cut".to_owned();
                    todo.push_back((index, Input::DialFailed { addr: to, reason }));
                } else {
                    self.connect(index, other, to, todo);
                }
            }
            Output::Close { conn, code, reason } => {
                self.nodes[index].closes.push((code, reason));
                if let Some((to, theirs)) = self.conns.remove(&conn) {
                    self.conns.remove(&theirs);
                    let clean = code == CloseCode::Leaving;
                    todo.push_back((
                        to,
                        Input::Disconnected {
                            conn: theirs,
                            clean,
                        },
                    ));
                }
            }
            Output::Event(event) => self.nodes[index].events.push(event),
        }
    }

    fn connect(
        &mut self,
        from: usize,
        to: usize,
        at: SocketAddr,
        todo: &mut VecDeque<(usize, Input)>,
    ) {
        let (ours, theirs) = (ConnId(self.conn_last + 1), ConnId(self.conn_last + 2));
        self.conn_last += 2;
        self.conns.insert(ours, (to, theirs));
        self.conns.insert(theirs, (from, ours));
        let named = |process: usize| name(self.moved.get(&process).copied().unwrap_or(process));
        let input = |conn, peer, addr, dialled| Input::Connected {
            conn,
            peer,
            addr,
            dialled,
        };
        todo.push_back((from, input(ours, named(to), at, true)));
        todo.push_back((to, input(theirs, named(from), addr(from), false)));
    }

    fn far_end(&self, from: usize, conn: ConnId) -> Option<(usize, ConnId)> {
        let (to, theirs) = *self.conns.get(&conn)?;
        (!self.is_cut(from, to)).then_some((to, theirs))
    }

    fn is_cut(&self, a: usize, b: usize) -> bool {
        self.cut.contains(&(a.min(b), a.max(b)))
    }

    /// Cuts two nodes off from each other; their idle timeouts fire 2.5 s later.
    fn cut(&mut self, a: usize, b: usize) {
        self.cut.insert((a.min(b), a.max(b)));
        self.run(2_500 * MS);
        self.break_links(|x, y| (x.min(y), x.max(y)) == (a.min(b), a.max(b)));
    }

    fn kill(&mut self, index: usize) {
        self.nodes[index].running = false;
        self.run(2_500 * MS);
        self.break_links(|a, b| a == index || b == index);
    }

    fn break_links(&mut self, which: impl Fn(usize, usize) -> bool) {
        let broken: Vec<(ConnId, usize)> = self
            .conns
            .iter()
            .map(|(conn, (to, theirs))| (*conn, self.conns[theirs].0, *to))
            .filter(|(_, from, to)| which(*from, *to))
            .map(|(conn, from, _)| (conn, from))
            .collect();
        for (conn, from) in broken {
            self.conns.remove(&conn);
            self.input(from, Input::Disconnected { conn, clean: false });
        }
    }

    fn shown(&self, index: usize) -> Vec<MemberId> {
        self.nodes[index]
            .core
            .shown()
            .map(|member| member.row.member)
            .collect()
    }

    fn events(&mut self, index: usize) -> Vec<Event> {
        std::mem::take(&mut self.nodes[index].events)
    }

    fn lefts(&mut self, index: usize) -> Vec<(MemberId, LeaveReason)> {
        self.events(index)
            .into_iter()
            .filter_map(|event| match event {
                Event::Left { member, reason, .. } => Some((member, reason)),
                _ => None,
            })
            .collect()
    }

    fn texts(&mut self, index: usize) -> Vec<Bytes> {
        self.events(index)
            .into_iter()
            .filter_map(|event| match event {
                Event::Messages { items, lost: 0, .. } => Some(items),
                Event::Messages { .. } => panic!("lost messages"),
                _ => None,
            })
            .flatten()
            .map(|(_, message)| message.payload)
            .collect()
    }
}

fn text(n: u32) -> Message {
    Message {
        sender: member(9),
        kind: MessageKind::Tutorial,
        payload: n.to_string().into(),
    }
}

fn texts(range: std::ops::Range<u32>) -> Local {
    Local::Messages {
        room: room("a"),
        items: range.map(text).collect(),
    }
}

fn watch(name: &str) -> Local {
    Local::Interest {
        room: room(name),
        wanted: true,
    }
}

#[test]
fn three_nodes_link_and_swim_agrees() {
    let mesh = Mesh::linked(3);
    for node in &mesh.nodes {
        let overview = node.core.overview(mesh.now);
        assert!(overview.peers.iter().all(|peer| peer.alive && peer.visible));
    }
}

#[test]
fn a_join_is_shown_everywhere_and_comes_back_as_an_event() {
    let mut mesh = Mesh::linked(3);
    mesh.local(0, Local::Join(row(1, "a")));
    mesh.run(200 * MS);
    for index in 0..3 {
        assert_eq!(mesh.shown(index), [member(1)]);
        let joins = mesh
            .events(index)
            .into_iter()
            .filter(|e| matches!(e, Event::Joined(_)));
        assert_eq!(joins.count(), 1);
    }
}

#[test]
fn an_update_is_neither_a_leave_nor_a_join() {
    let mut mesh = Mesh::linked(2);
    mesh.local(0, Local::Join(row(1, "a")));
    mesh.run(200 * MS);
    mesh.events(1);
    let state = Some(Bytes::from_static(b"{\"n\":1}"));
    mesh.local(
        0,
        Local::Update {
            member: member(1),
            user: None,
            state,
            away: None,
        },
    );
    mesh.run(200 * MS);
    let events = mesh.events(1);
    assert!(
        matches!(&events[..], [Event::Updated(member)] if &member.row.state[..] == b"{\"n\":1}")
    );
}

#[test]
fn a_leave_has_its_reason() {
    let mut mesh = Mesh::linked(2);
    mesh.local(0, Local::Join(row(1, "a")));
    mesh.run(200 * MS);
    mesh.local(
        0,
        Local::Leave {
            member: member(1),
            reason: LeaveReason::Kicked,
        },
    );
    mesh.run(200 * MS);
    assert_eq!(mesh.lefts(1), [(member(1), LeaveReason::Kicked)]);
}

#[test]
fn a_node_that_joins_late_gets_what_was_there() {
    let mut mesh = Mesh::new(3);
    mesh.nodes[2].running = false;
    mesh.run(3_000 * MS);
    (1..40).for_each(|n| mesh.local(0, Local::Join(row(n, "a"))));
    mesh.nodes[2].running = true;
    mesh.run(4_000 * MS);
    assert_eq!(mesh.shown(2).len(), 39);
}

#[test]
fn members_of_a_crashed_node_are_gone_within_five_seconds() {
    let mut mesh = Mesh::linked(3);
    mesh.local(0, Local::Join(row(1, "a")));
    mesh.run(200 * MS);
    mesh.kill(0);
    assert_eq!(
        mesh.shown(1),
        [member(1)],
        "a broken link alone hides nobody"
    );
    mesh.run(2_500 * MS);
    for index in 1..3 {
        assert_eq!(mesh.lefts(index), [(member(1), LeaveReason::NodeLost)]);
    }
}

#[test]
fn a_partial_cut_is_relayed_around_and_nobody_leaves() {
    let mut mesh = Mesh::linked(3);
    mesh.local(0, Local::Join(row(1, "a")));
    mesh.local(2, watch("a"));
    mesh.local(2, Local::Join(row(3, "a")));
    mesh.run(500 * MS);
    mesh.cut(0, 2);
    mesh.run(20_000 * MS);
    mesh.local(0, Local::Join(row(2, "a")));
    mesh.local(0, texts(0..5));
    mesh.run(200 * MS);
    assert_eq!(mesh.shown(2), [member(1), member(2), member(3)]);
    let overview = mesh.nodes[0].core.overview(mesh.now);
    let relay = overview
        .peers
        .iter()
        .find(|peer| peer.node == name(2))
        .unwrap()
        .relay
        .clone();
    assert_eq!(relay, Some(name(1)));
    let events = mesh.events(2);
    assert!(
        !events
            .iter()
            .any(|event| matches!(event, Event::Left { .. }))
    );
    let messages = events
        .iter()
        .filter(|event| matches!(event, Event::Messages { .. }));
    assert_eq!(messages.count(), 1);
}

#[test]
fn a_resume_on_another_node_is_no_leave_and_no_join() {
    let mut mesh = Mesh::linked(3);
    mesh.local(0, Local::Join(row(1, "a")));
    mesh.run(200 * MS);
    mesh.events(2);
    mesh.local(0, Local::Break { member: member(1) });
    mesh.run(200 * MS);
    mesh.local(
        1,
        Local::Join(Box::new(Row {
            epoch: 1,
            ..*row(1, "a")
        })),
    );
    mesh.run(15_000 * MS);
    assert!(
        mesh.events(2)
            .iter()
            .all(|event| matches!(event, Event::Updated(_)))
    );
    assert_eq!(mesh.nodes[2].core.shown().next().unwrap().node, name(1));
    assert!(
        mesh.events(0)
            .iter()
            .any(|event| matches!(event, Event::MovedAway { .. }))
    );
    mesh.local(
        1,
        Local::Leave {
            member: member(1),
            reason: LeaveReason::Closed,
        },
    );
    mesh.run(200 * MS);
    (0..3).for_each(|index| assert_eq!(mesh.shown(index), []));
}

#[test]
fn a_broken_connection_leaves_after_the_grace_period() {
    let mut mesh = Mesh::linked(2);
    mesh.local(0, Local::Join(row(1, "a")));
    mesh.local(0, Local::Break { member: member(1) });
    mesh.run(9_000 * MS);
    assert!(mesh.nodes[1].core.shown().next().unwrap().row.away);
    mesh.run(1_500 * MS);
    assert_eq!(mesh.lefts(1), [(member(1), LeaveReason::TimedOut)]);
}

#[test]
fn messages_go_to_the_interested_only_once_and_in_order() {
    let mut mesh = Mesh::linked(3);
    mesh.local(1, watch("a"));
    mesh.run(200 * MS);
    mesh.local(0, texts(0..400));
    assert_eq!(
        mesh.texts(1),
        (0..400)
            .map(|n| Bytes::from(n.to_string()))
            .collect::<Vec<_>>()
    );
    assert_eq!(mesh.texts(2), Vec::<Bytes>::new());
}

#[test]
fn a_message_larger_than_a_frame_of_others_arrives() {
    let mut mesh = Mesh::linked(2);
    mesh.local(1, watch("a"));
    mesh.run(200 * MS);
    let payload = Bytes::from(vec![b'x'; 128 * 1024]);
    let items = vec![
        Message {
            payload: payload.clone(),
            ..text(0)
        },
        text(1),
    ];
    mesh.local(
        0,
        Local::Messages {
            room: room("a"),
            items,
        },
    );
    assert_eq!(mesh.texts(1), [payload, Bytes::from_static(b"1")]);
}

#[test]
fn messages_missed_while_a_link_was_down_are_replayed() {
    let mut mesh = Mesh::linked(2);
    mesh.local(1, watch("a"));
    mesh.run(200 * MS);
    mesh.local(0, texts(0..3));
    mesh.cut(0, 1);
    mesh.local(0, texts(3..6));
    mesh.cut.clear();
    mesh.run(3_000 * MS);
    mesh.local(0, texts(6..8));
    mesh.run(100 * MS);
    assert_eq!(
        mesh.texts(1),
        (0..8)
            .map(|n| Bytes::from(n.to_string()))
            .collect::<Vec<_>>()
    );
}

#[test]
fn what_is_kept_of_all_rooms_is_bounded_and_who_missed_it_learns_that() {
    let mut mesh = Mesh::linked(2);
    mesh.local(1, watch("a"));
    mesh.run(200 * MS);
    mesh.local(0, texts(0..3));
    mesh.cut(0, 1);
    mesh.local(0, texts(3..6));
    for n in 0..300 {
        let large = Message {
            payload: Bytes::from(vec![b'x'; 60_000]),
            ..text(n)
        };
        mesh.local(
            0,
            Local::Messages {
                room: room(&format!("r{n}")),
                items: vec![large],
            },
        );
    }
    let (rings, kept) = mesh.nodes[0].core.ring_sizes();
    assert_eq!(rings, 301);
    assert!((100..=8 * 1024 * 1024 / 60_000).contains(&kept), "{kept}");
    mesh.cut.clear();
    mesh.run(3_000 * MS);
    mesh.local(0, texts(6..8));
    mesh.run(100 * MS);
    let (mut texts, mut all_lost) = (Vec::new(), 0);
    for event in mesh.events(1) {
        if let Event::Messages { items, lost, .. } = event {
            texts.extend(items.into_iter().map(|(_, message)| message.payload));
            all_lost += lost;
        }
    }
    assert_eq!(texts, [0, 1, 2, 6, 7].map(|n| text(n).payload));
    assert_eq!(all_lost, 1, "the one gap is told once");
    mesh.run(70_000 * MS);
    assert_eq!(mesh.nodes[0].core.ring_sizes(), (0, 0));
}

#[test]
fn a_restarted_node_is_back_and_its_old_rows_are_gone() {
    let mut mesh = Mesh::linked(3);
    mesh.local(
        0,
        Local::Join(Box::new(Row {
            resumable: false,
            ..*row(1, "a")
        })),
    );
    mesh.run(200 * MS);
    mesh.events(1);
    mesh.nodes[0].core = Core::new(config(0, 3, 2_000), mesh.now, 77);
    mesh.run(1_500 * MS);
    mesh.local(0, Local::Join(row(2, "a")));
    mesh.run(300 * MS);
    assert_eq!(mesh.shown(1), [member(2)]);
    assert_eq!(mesh.lefts(1), [(member(1), LeaveReason::NodeLost)]);
}

#[test]
fn a_node_whose_clock_was_set_back_takes_a_newer_boot() {
    let mut mesh = Mesh::linked(2);
    mesh.nodes[0].core = Core::new(config(0, 2, 500), mesh.now, 77);
    mesh.run(3_000 * MS);
    mesh.local(0, Local::Join(row(2, "a")));
    mesh.run(300 * MS);
    let boot = mesh.nodes[0].core.overview(mesh.now).boot;
    assert!((1_001..=1_000 + 65_536).contains(&boot), "{boot}");
    assert_eq!(mesh.shown(1), [member(2)]);
}

#[test]
fn a_clean_leave_is_seen_at_once() {
    let mut mesh = Mesh::linked(2);
    mesh.local(0, Local::Join(row(1, "a")));
    mesh.run(200 * MS);
    mesh.input(
        0,
        Input::Leave {
            linger: Duration::ZERO,
        },
    );
    assert_eq!(mesh.lefts(1), [(member(1), LeaveReason::Closed)]);
}

#[test]
fn a_leave_with_a_linger_keeps_the_rows_for_that_long() {
    let mut mesh = Mesh::linked(2);
    mesh.local(0, Local::Join(row(1, "a")));
    mesh.run(200 * MS);
    mesh.input(
        0,
        Input::Leave {
            linger: Duration::from_secs(8),
        },
    );
    mesh.nodes[0].running = false;
    mesh.break_links(|_, _| true);
    mesh.run(7_500 * MS);
    assert!(mesh.nodes[1].core.shown().next().unwrap().row.away);
    mesh.run(1_000 * MS);
    assert_eq!(mesh.lefts(1), [(member(1), LeaveReason::TimedOut)]);
}

#[test]
fn cursors_reach_the_interested_and_the_last_one_is_sent_again() {
    let mut mesh = Mesh::linked(2);
    mesh.local(1, watch("a"));
    mesh.local(0, Local::Join(row(1, "a")));
    mesh.run(200 * MS);
    mesh.cut.insert((0, 1));
    let cursor = Cursor {
        member: member(1),
        time_ms: 7,
        x: 1.5,
        y: -2.0,
    };
    mesh.local(
        0,
        Local::Cursors {
            room: room("a"),
            items: vec![cursor],
        },
    );
    mesh.run(300 * MS);
    mesh.cut.clear();
    mesh.run(2_500 * MS);
    let seen: Vec<Cursor> = mesh
        .events(1)
        .into_iter()
        .filter_map(|event| match event {
            Event::Cursors { items, .. } => Some(items),
            _ => None,
        })
        .flatten()
        .collect();
    assert_eq!(seen, [cursor]);
}

fn hello_from(index: usize) -> Hello {
    Hello {
        version: 1,
        version_oldest: 1,
        cluster: "test".to_owned(),
        node: name(index),
        boot: 9,
        bump: 0,
        region: String::new(),
        advertise: addr(index),
        capabilities: 0,
        your_boot: 0,
    }
}

/// What a node answers to a first frame from the certificate holder `n2`.
fn refusal(frame: &Frame) -> Option<CloseCode> {
    let mut mesh = Mesh::new(1);
    let connected = Input::Connected {
        conn: ConnId(7),
        peer: name(1),
        addr: addr(1),
        dialled: false,
    };
    mesh.input(0, connected);
    let bytes = frame.encode(VERSION);
    mesh.input(
        0,
        Input::Frame {
            conn: ConnId(7),
            lane: Lane::Presence,
            bytes,
        },
    );
    mesh.nodes[0].closes.first().map(|(code, _)| *code)
}

#[test]
fn a_hello_is_believed_only_if_all_of_it_fits() {
    let fits = hello_from(1);
    assert_eq!(refusal(&Frame::Hello(fits.clone())), None);
    let newer = Hello {
        version: 9,
        version_oldest: VERSION + 1,
        ..fits.clone()
    };
    assert_eq!(refusal(&Frame::Hello(newer)), Some(CloseCode::Version));
    let cluster = Hello {
        cluster: "other".to_owned(),
        ..fits.clone()
    };
    assert_eq!(refusal(&Frame::Hello(cluster)), Some(CloseCode::Cluster));
    let name = Hello {
        node: name(2),
        ..fits
    };
    assert_eq!(refusal(&Frame::Hello(name)), Some(CloseCode::Name));
    let no_hello = Frame::Members(Bytes::new());
    assert_eq!(refusal(&no_hello), Some(CloseCode::Protocol));
}

#[test]
fn a_delta_of_somebody_else_closes_the_link() {
    let mut mesh = Mesh::linked(3);
    let conn = mesh.nodes[0].core.link_to(&name(1)).unwrap().0;
    let owner = OwnerId {
        node: name(2),
        boot: 1_000,
    };
    let bytes = Frame::Delta(Delta {
        owner,
        from: 0,
        to: 0,
        ops: vec![],
    })
    .encode(VERSION);
    mesh.input(
        0,
        Input::Frame {
            conn,
            lane: Lane::Presence,
            bytes,
        },
    );
    assert_eq!(mesh.nodes[0].closes.last().unwrap().0, CloseCode::Name);
}

#[test]
fn garbage_closes_the_link_with_a_reason() {
    let mut mesh = Mesh::linked(2);
    let conn = mesh.nodes[0].core.link_to(&name(1)).unwrap().0;
    let bytes = Bytes::from_static(&[3, 255, 255, 255]);
    mesh.input(
        0,
        Input::Frame {
            conn,
            lane: Lane::Presence,
            bytes,
        },
    );
    assert_eq!(mesh.nodes[0].closes.last().unwrap().0, CloseCode::Protocol);
}

#[test]
fn a_slow_link_gets_the_newest_of_each_sender_and_the_queue_stays_bounded() {
    let mut mesh = Mesh::linked(2);
    mesh.local(1, watch("a"));
    mesh.run(200 * MS);
    let core = &mut mesh.nodes[0].core;
    let payload = |n: u8| Message {
        payload: vec![n; 20_000].into(),
        ..text(0)
    };
    // Nothing is ever drained: the transport takes a quarter of a megabyte and no more.
    let mut sent = Vec::new();
    for n in 0..=255 {
        core.handle(
            mesh.now,
            Input::Local(Local::Messages {
                room: room("a"),
                items: vec![payload(n)],
            }),
        );
        while let Some(output) = core.poll_output() {
            if let Output::Send {
                conn,
                lane: Lane::Messages,
                frame,
            } = output
            {
                sent.push((conn, frame.len()));
            }
        }
    }
    assert!(sent.iter().map(|(_, bytes)| bytes).sum::<usize>() < 400_000);
    for (conn, bytes) in sent {
        core.handle(
            mesh.now,
            Input::Drained {
                conn,
                lane: Lane::Messages,
                bytes,
            },
        );
    }
    let mut newest = None;
    while let Some(output) = core.poll_output() {
        if let Output::Send {
            lane: Lane::Messages,
            frame,
            ..
        } = output
            && let Frame::Messages(messages) = Frame::decode(&frame, VERSION).unwrap()
        {
            newest = messages.items.last().map(|(_, message)| message.payload[0]);
        }
    }
    assert_eq!(newest, Some(255));
}

fn event(n: u32) -> Local {
    let message = Message {
        kind: MessageKind::Event,
        ..text(n)
    };
    Local::Messages {
        room: room("a"),
        items: vec![message],
    }
}

/// What a client that was away gets on a node: the payloads, and whether they are all.
fn replayed(mesh: &mut Mesh, index: usize, seen: Vec<(OwnerId, u64)>) -> (Vec<Bytes>, bool) {
    mesh.events(index);
    let (ticket, room) = (7, room("a"));
    let away = Duration::from_secs(5);
    mesh.local(
        index,
        Local::Replay {
            ticket,
            room,
            seen,
            away,
        },
    );
    mesh.run(2_000 * MS);
    let answer = mesh
        .events(index)
        .into_iter()
        .find_map(|event| match event {
            Event::Replayed {
                ticket: 7,
                items,
                complete,
            } => Some((items, complete)),
            _ => None,
        });
    let (items, complete) = answer.unwrap();
    let payloads = items.into_iter().map(|(_, _, message)| message.payload);
    (payloads.collect(), complete)
}

#[test]
fn events_come_back_to_their_own_node_with_their_numbers() {
    let mut mesh = Mesh::linked(2);
    mesh.local(0, watch("a"));
    mesh.local(0, event(1));
    let numbers: Vec<u64> = mesh
        .events(0)
        .into_iter()
        .filter_map(|event| match event {
            Event::Published { items, .. } => Some(items[0].0),
            _ => None,
        })
        .collect();
    assert_eq!(numbers, [1]);
}

#[test]
fn a_client_that_comes_back_on_a_node_without_interest_gets_what_it_missed_from_the_origin() {
    let mut mesh = Mesh::linked(3);
    mesh.local(0, watch("a"));
    mesh.local(1, watch("a"));
    mesh.run(200 * MS);
    (1..=4).for_each(|n| mesh.local(0, event(n)));
    mesh.local(2, watch("a"));
    mesh.run(200 * MS);
    let origin = OwnerId {
        node: name(0),
        boot: 1_000,
    };
    let seen = vec![(origin, 2)];
    assert_eq!(
        replayed(&mut mesh, 2, seen),
        (
            vec![Bytes::from_static(b"3"), Bytes::from_static(b"4")],
            true
        )
    );
}

#[test]
fn what_a_dead_origin_said_is_replayed_by_who_heard_it() {
    let mut mesh = Mesh::linked(3);
    mesh.local(1, watch("a"));
    mesh.local(2, watch("a"));
    mesh.run(200 * MS);
    (1..=3).for_each(|n| mesh.local(0, event(n)));
    mesh.run(100 * MS);
    mesh.kill(0);
    let origin = OwnerId {
        node: name(0),
        boot: 1_000,
    };
    let (events, complete) = replayed(&mut mesh, 1, vec![(origin, 1)]);
    assert_eq!(events, [Bytes::from_static(b"2"), Bytes::from_static(b"3")]);
    assert!(complete);
}

#[test]
fn what_one_node_does_not_answer_another_is_asked_for() {
    let mut mesh = Mesh::linked(4);
    mesh.local(1, watch("a"));
    mesh.local(2, watch("a"));
    mesh.run(200 * MS);
    (1..=3).for_each(|n| mesh.local(0, event(n)));
    mesh.run(100 * MS);
    mesh.kill(0);
    mesh.local(3, watch("a"));
    mesh.run(200 * MS);
    // It is about to stop, and still linked.
    mesh.nodes[1].running = false;
    let origin = OwnerId {
        node: name(0),
        boot: 1_000,
    };
    let (events, complete) = replayed(&mut mesh, 3, vec![(origin, 1)]);
    assert_eq!(events, [Bytes::from_static(b"2"), Bytes::from_static(b"3")]);
    assert!(complete);
}

#[test]
fn what_was_said_just_before_a_node_began_to_listen_is_not_taken_for_nothing() {
    let mut mesh = Mesh::linked(3);
    mesh.local(0, watch("a"));
    mesh.run(200 * MS);
    (1..=2).for_each(|n| mesh.local(0, event(n)));
    mesh.local(2, watch("a"));
    mesh.run(100 * MS);
    mesh.events(2);
    // Its connection broke after that, and the second event was still on its way to it.
    mesh.local(
        2,
        Local::Replay {
            ticket: 7,
            room: room("a"),
            seen: vec![(
                OwnerId {
                    node: name(0),
                    boot: 1_000,
                },
                1,
            )],
            away: Duration::from_millis(20),
        },
    );
    mesh.run(500 * MS);
    let missed = mesh.events(2).into_iter().find_map(|event| match event {
        Event::Replayed {
            items, complete, ..
        } => Some((items.len(), complete)),
        _ => None,
    });
    assert_eq!(missed, Some((1, true)));
}

#[test]
fn what_an_origin_said_before_it_was_restarted_is_replayed_by_who_heard_it() {
    let mut mesh = Mesh::linked(3);
    mesh.local(0, watch("a"));
    mesh.local(1, watch("a"));
    mesh.run(200 * MS);
    (1..=3).for_each(|n| mesh.local(0, event(n)));
    mesh.run(100 * MS);
    mesh.nodes[0].core = Core::new(config(0, 3, 2_000), mesh.now, 77);
    mesh.run(1_500 * MS);
    mesh.local(2, watch("a"));
    mesh.run(200 * MS);
    let seen = |number| {
        let (node, boot) = (name(0), 1_000);
        vec![(OwnerId { node, boot }, number)]
    };
    let missed = vec![Bytes::from_static(b"2"), Bytes::from_static(b"3")];
    assert_eq!(replayed(&mut mesh, 2, seen(1)), (missed, true));
    assert_eq!(replayed(&mut mesh, 2, seen(3)), (Vec::new(), true));
    assert_eq!(replayed(&mut mesh, 1, seen(3)), (Vec::new(), true));
    // In the end nobody remembers it.
    let (origin, _) = seen(1).remove(0);
    assert_eq!(mesh.nodes[1].core.delivered(&room("a"), &origin), 3);
    mesh.run(31_000 * MS);
    assert_eq!(mesh.nodes[1].core.delivered(&room("a"), &origin), 0);
}

#[test]
fn of_a_dead_origin_that_said_nothing_nothing_is_missed() {
    let mut mesh = Mesh::linked(3);
    mesh.local(0, watch("a"));
    mesh.local(1, watch("a"));
    mesh.run(200 * MS);
    mesh.local(0, event(1));
    mesh.run(200 * MS);
    mesh.kill(0);
    // The ring of whoever heard it has ended by then; what it heard has not.
    mesh.run(31_000 * MS);
    mesh.local(2, watch("a"));
    mesh.run(200 * MS);
    let origin = OwnerId {
        node: name(0),
        boot: 1_000,
    };
    assert_eq!(
        replayed(&mut mesh, 2, vec![(origin, 1)]),
        (Vec::new(), true)
    );
}

#[test]
fn a_life_that_ended_long_ago_leaves_nothing_to_doubt() {
    let mut mesh = Mesh::linked(3);
    mesh.local(0, watch("a"));
    mesh.run(200 * MS);
    mesh.local(0, event(1));
    mesh.run(200 * MS);
    // Nobody else was in the room, and the node starts again.
    mesh.nodes[0].core = Core::new(config(0, 3, 9_000), mesh.now, 78);
    mesh.run(3_000 * MS);
    let origin = OwnerId {
        node: name(0),
        boot: 1_000,
    };
    let seen = vec![(origin, 1)];
    mesh.local(2, watch("a"));
    mesh.run(200 * MS);
    let (_, certain) = replayed(&mut mesh, 2, seen.clone());
    assert!(!certain, "who was away then may have missed something");
    mesh.run(10_000 * MS);
    for index in [0, 2] {
        mesh.local(index, watch("a"));
        mesh.run(200 * MS);
        let answer = replayed(&mut mesh, index, seen.clone());
        assert_eq!(answer, (Vec::new(), true), "node {index}");
    }
}

/// Every node of a cluster is started again, one after the other; a client that goes from the last one
/// to another still names the first life of the first one, which nobody in sight has ever heard of.
#[test]
fn of_a_life_that_was_followed_by_one_the_client_has_seen_nothing_is_missed() {
    let mut mesh = Mesh::linked(4);
    (0..4).for_each(|index| mesh.local(index, watch("a")));
    mesh.run(200 * MS);
    mesh.local(0, event(1));
    mesh.run(200 * MS);
    for index in [0, 2, 3] {
        mesh.input(index, Input::Leave { linger: GRACE });
        mesh.nodes[index].core = Core::new(config(index, 4, 9_000), mesh.now, 80 + index as u64);
        mesh.break_links(|a, b| a == index || b == index);
        mesh.run(500 * MS);
        mesh.local(index, watch("a"));
        mesh.run(500 * MS);
    }
    let origin = |boot| OwnerId {
        node: name(0),
        boot,
    };
    let seen = vec![(origin(1_000), 1), (origin(9_000), 0)];
    mesh.input(1, Input::Leave { linger: GRACE });
    mesh.nodes[1].running = false;
    let ask = |mesh: &mut Mesh, seen| {
        mesh.events(2);
        let (ticket, room, away) = (7, room("a"), 100 * MS);
        mesh.local(
            2,
            Local::Replay {
                ticket,
                room,
                seen,
                away,
            },
        );
        mesh.run(100 * MS);
        mesh.events(2).into_iter().find_map(|event| match event {
            Event::Replayed { complete, .. } => Some(complete),
            _ => None,
        })
    };
    assert_eq!(ask(&mut mesh, seen), Some(true));
    // Of one who has not seen the later life nobody can say that.
    let answer = ask(&mut mesh, vec![(origin(1_000), 1)]);
    assert_ne!(answer, Some(true));
}

#[test]
fn a_leave_that_overtakes_the_last_message_waits_for_it() {
    let mut mesh = Mesh::linked(2);
    mesh.local(1, watch("a"));
    mesh.local(0, Local::Join(row(9, "a")));
    mesh.run(200 * MS);
    mesh.events(1);
    let mut held = Vec::new();
    let core = &mut mesh.nodes[0].core;
    core.handle(mesh.now, Input::Local(texts(0..1)));
    let (member, reason) = (member(9), LeaveReason::Closed);
    core.handle(
        mesh.now.after(60 * MS),
        Input::Local(Local::Leave { member, reason }),
    );
    let mut outputs = Vec::new();
    while let Some(output) = mesh.nodes[0].core.poll_output() {
        outputs.push(output);
    }
    let mut todo = VecDeque::new();
    for output in outputs {
        match output {
            Output::Send {
                lane: Lane::Messages,
                ..
            } => held.push(output),
            other => mesh.output(0, other, &mut todo),
        }
    }
    for (index, input) in todo {
        mesh.input(index, input);
    }
    mesh.run(200 * MS);
    assert_eq!(mesh.shown(1), [member]);
    let mut todo = VecDeque::new();
    held.into_iter()
        .for_each(|output| mesh.output(0, output, &mut todo));
    for (index, input) in todo {
        mesh.input(index, input);
    }
    let order: Vec<&str> = mesh
        .events(1)
        .iter()
        .filter_map(|event| match event {
            Event::Messages { .. } => Some("message"),
            Event::Left { .. } => Some("left"),
            _ => None,
        })
        .collect();
    assert_eq!(order, ["message", "left"]);
}

#[test]
fn a_name_that_two_processes_claim_is_warned_about() {
    let mut mesh = Mesh::linked(2);
    for _ in 0..2 {
        let boot = mesh.nodes[0].core.overview(mesh.now).boot + 1;
        let owner = OwnerId {
            node: name(0),
            boot,
        };
        mesh.nodes[0].core.observe(&name(1), &owner, 1, 0);
        mesh.run(1_000 * MS);
    }
    let warned = |event: &Event| matches!(event, Event::Refused { peer, .. } if *peer == name(0));
    assert_eq!(
        mesh.events(0).iter().filter(|event| warned(event)).count(),
        1
    );
}

/// Nodes that know no address of another.
fn strangers(count: usize) -> Mesh {
    let mut mesh = Mesh::new(count);
    for (index, node) in mesh.nodes.iter_mut().enumerate() {
        let config = Config {
            seeds: Vec::new(),
            ..config(index, count, 1_000)
        };
        node.core = Core::new(config, mesh.now, index as u64);
    }
    mesh
}

fn seeds(addrs: impl IntoIterator<Item = usize>) -> Input {
    Input::Seeds(addrs.into_iter().map(addr).collect())
}

/// The addresses that a node says it looks at, by their number.
fn told_seeds(mesh: &Mesh, index: usize) -> Vec<usize> {
    let overview = mesh.nodes[index].core.overview(mesh.now);
    let seeds = overview.seeds.iter();
    seeds
        .map(|seed| usize::from(seed.addr.port() - 7_171))
        .collect()
}

fn links(mesh: &Mesh, index: usize) -> usize {
    let overview = mesh.nodes[index].core.overview(mesh.now);
    overview.peers.iter().filter(|peer| peer.linked).count()
}

#[test]
fn one_good_address_of_a_name_is_enough_and_the_node_itself_is_none() {
    let mut mesh = strangers(3);
    mesh.input(0, seeds([0, 8, 9]));
    mesh.input(1, seeds([0, 1, 9]));
    mesh.input(2, seeds([1]));
    mesh.run(3_000 * MS);
    for index in 0..3 {
        assert_eq!(links(&mesh, index), 2);
    }
    assert_eq!(told_seeds(&mesh, 0), [8, 9]);
}

#[test]
fn a_name_that_stands_for_something_else_now_takes_its_dead_addresses_along() {
    let mut mesh = strangers(2);
    mesh.input(0, seeds([8, 9]));
    mesh.run(3_000 * MS);
    assert_eq!(links(&mesh, 0), 0);
    mesh.input(0, seeds([1, 9]));
    mesh.run(2_000 * MS);
    assert_eq!((links(&mesh, 0), links(&mesh, 1)), (1, 1));
    assert_eq!(told_seeds(&mesh, 0), [1, 9]);
    // A node that was found stays known when its name is gone, and is dialled again.
    mesh.input(0, seeds([]));
    assert!(told_seeds(&mesh, 0).is_empty());
    assert!(!mesh.nodes[0].core.dials_to(addr(8)) && !mesh.nodes[0].core.dials_to(addr(9)));
    mesh.cut(0, 1);
    assert_eq!(links(&mesh, 0), 0);
    mesh.cut.clear();
    mesh.run(2_000 * MS);
    assert_eq!(links(&mesh, 0), 1);
}

#[test]
fn where_a_node_was_before_it_moved_another_one_is_found() {
    let mut mesh = strangers(4);
    mesh.input(0, seeds([1]));
    mesh.run(2_000 * MS);
    assert_eq!(links(&mesh, 0), 1);
    // n2 comes back as the process behind address 3, and n3's process has address 1.
    mesh.kill(1);
    let boot = |index: usize, at: usize, boot| Config {
        advertise: addr(at),
        seeds: Vec::new(),
        ..config(index, 4, boot)
    };
    mesh.nodes[3].core = Core::new(boot(1, 3, 2_000), mesh.now, 7);
    mesh.moved = BTreeMap::from([(3, 1), (1, 2)]);
    mesh.nodes[1].core = Core::new(boot(2, 1, 2_000), mesh.now, 8);
    mesh.nodes[1].running = true;
    mesh.input(0, seeds([1, 3]));
    mesh.run(3_000 * MS);
    assert_eq!(links(&mesh, 0), 2);
}

#[test]
fn behind_one_address_there_may_be_this_node_and_others() {
    let mut mesh = strangers(2);
    // Address 5 leads to n1 itself at first.
    mesh.input(0, seeds([5]));
    mesh.leads = BTreeMap::from([(5, 0)]);
    mesh.run(2_000 * MS);
    assert_eq!(links(&mesh, 0), 0);
    mesh.leads = BTreeMap::from([(5, 1)]);
    mesh.run(31_000 * MS);
    assert_eq!(links(&mesh, 0), 1);
}

#[test]
fn no_more_than_so_many_addresses_are_taken() {
    let mut mesh = strangers(1);
    mesh.nodes[0].running = false;
    let many = (1..=2_000).map(addr).collect();
    mesh.nodes[0].core.handle(mesh.now, Input::Seeds(many));
    assert_eq!(told_seeds(&mesh, 0).len(), super::SEEDS_MAX);
}
