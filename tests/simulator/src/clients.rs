//! Clients and the hub of each node, as far as the mesh can tell; and the model of who is where.
//!
//! The model is what the clients did and what the nodes told them, nothing more: a member is where
//! it was last attached, unless that ended. It knows nothing of logs, replicas or folds.

use std::collections::BTreeMap;

use bytes::Bytes;
use cursormesh_mesh::proto::event::{Cursor, LeaveReason, Member, Message, MessageKind, Row, User};
use cursormesh_mesh::proto::wire::OwnerId;
use cursormesh_mesh::proto::{GRACE, Local, MemberId, RoomName};

use crate::world::{MS, World};

/// Microseconds of the grace period.
pub(crate) fn grace_us() -> u64 {
    u64::try_from(GRACE.as_micros()).unwrap_or(u64::MAX)
}

/// How an attachment of a member to a node is getting on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Its connection is there.
    Open,
    /// Its connection broke; the grace period runs since then.
    Away(u64),
    /// It left.
    Closed,
    /// Its node was told that the member is elsewhere.
    Told,
    /// Its node's process ended.
    Dead,
    /// Its node left in good order.
    Departed,
}

/// One time that a member was attached to a node.
#[derive(Debug, Clone)]
pub(crate) struct Attachment {
    pub(crate) node: usize,
    pub(crate) life: u32,
    pub(crate) stage: Stage,
    /// Whose token it came with.
    pub(crate) parent: Option<usize>,
    /// As its node said; zero until then.
    pub(crate) epoch: u32,
    pub(crate) state: u32,
    pub(crate) changed_at: u64,
    /// The number of the last cursor position sent here, and when; zero for none.
    pub(crate) cursor: (u64, u64),
    /// It was not said to the core yet.
    unsaid: bool,
    /// Whether a broken connection counts as a reason for a time-out.
    pub(crate) broke: bool,
}

impl Attachment {
    /// Whether its row should be in its node's table.
    pub(crate) fn is_there(&self, now: u64) -> bool {
        match self.stage {
            Stage::Open => true,
            Stage::Away(since) => now < since + grace_us(),
            Stage::Closed | Stage::Told | Stage::Dead | Stage::Departed => false,
        }
    }
}

/// A member and its history.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    pub(crate) room: RoomName,
    pub(crate) resumable: bool,
    pub(crate) attachments: Vec<Attachment>,
    pub(crate) cursor: u64,
    /// Two connections were made with one token.
    pub(crate) forked: bool,
    /// How far it had seen each origin's events when it was last told of what it missed.
    pub(crate) replayed: BTreeMap<OwnerId, u64>,
    /// How far it had seen them when it lost its node, and when, until it is told what it missed.
    pub(crate) missing: Option<(BTreeMap<OwnerId, u64>, u64)>,
    states: u32,
}

impl Client {
    /// Whether `older` is the attachment that `newer`'s token came from, or one before it.
    pub(crate) fn descends(&self, newer: usize, older: usize) -> bool {
        let mut at = Some(newer);
        while let Some(index) = at {
            let parent = self.attachments[index].parent;
            if parent == Some(older) {
                return true;
            }
            at = parent;
        }
        false
    }
}

/// A published message.
#[derive(Debug, Clone)]
pub(crate) struct Published {
    pub(crate) at: u64,
    pub(crate) node: usize,
    pub(crate) life: u32,
    pub(crate) room: RoomName,
    pub(crate) kind: MessageKind,
    pub(crate) sender: MemberId,
    /// Nodes that were known to be interested: node, life, and when their interest began.
    pub(crate) targets: Vec<(usize, u32, u64)>,
}

/// Everything clients did.
#[derive(Debug, Default)]
pub(crate) struct Clients {
    pub(crate) members: BTreeMap<MemberId, Client>,
    member_count: u64,
    /// Local connections per node, life and room, and since when there are any.
    pub(crate) interest: BTreeMap<(usize, u32, RoomName), (u32, u64)>,
    /// When a node's interest in a room last ended.
    pub(crate) interest_ended: BTreeMap<(usize, RoomName), u64>,
    pub(crate) published: BTreeMap<u64, Published>,
    message_count: u64,
}

impl Clients {
    pub(crate) fn node_ended(&mut self, node: usize, life: u32, now: u64) {
        for client in self.members.values_mut() {
            for attachment in &mut client.attachments {
                if attachment.node == node && attachment.life == life && attachment.is_there(now) {
                    attachment.stage = Stage::Dead;
                    attachment.changed_at = now;
                }
            }
        }
        let rooms: Vec<RoomName> = self
            .interest
            .keys()
            .filter(|(n, _, _)| *n == node)
            .map(|(_, _, room)| room.clone())
            .collect();
        for room in rooms {
            self.interest_ended.insert((node, room), now);
        }
        self.interest.retain(|(n, _, _), _| *n != node);
    }

    /// A node leaves; what it had may be shown until then.
    pub(crate) fn node_leaves(&mut self, node: usize, life: u32, now: u64, until: u64) {
        for client in self.members.values_mut() {
            for attachment in &mut client.attachments {
                if attachment.node == node && attachment.life == life && attachment.is_there(now) {
                    attachment.stage = Stage::Departed;
                    attachment.changed_at = until;
                }
            }
        }
    }
}

impl World {
    /// A new member joins a room at a node that is up.
    pub fn join(&mut self, node: usize, room: &RoomName, resumable: bool) -> MemberId {
        self.clients.member_count += 1;
        let mut id = [0; 16];
        id[8..].copy_from_slice(&self.clients.member_count.to_be_bytes());
        id[6] = 0x40;
        let member = MemberId(id);
        self.clients.members.insert(
            member,
            Client {
                room: room.clone(),
                resumable,
                attachments: Vec::new(),
                cursor: 0,
                forked: false,
                replayed: BTreeMap::new(),
                missing: None,
                states: 0,
            },
        );
        self.attach(member, node, None);
        member
    }

    /// A member is resumed at a node with the token of its newest attachment.
    pub fn resume_member(&mut self, member: MemberId, node: usize) {
        let Some(client) = self.clients.members.get(&member) else {
            return;
        };
        let newest = client.attachments.len().checked_sub(1);
        self.attach(member, node, newest);
    }

    /// A member is resumed with the token of its attachment before the newest, because the newest
    /// never reached it.
    pub fn resume_with_older(&mut self, member: MemberId, node: usize) {
        if let Some(client) = self.clients.members.get(&member) {
            let older = client.attachments.len().checked_sub(2);
            self.attach(member, node, older);
        }
    }

    /// A member is resumed with one token on two nodes.
    pub fn resume_twice(&mut self, member: MemberId, one: usize, two: usize) {
        let Some(client) = self.clients.members.get_mut(&member) else {
            return;
        };
        client.forked = true;
        let newest = client.attachments.len().checked_sub(1);
        self.attach(member, one, newest);
        self.attach(member, two, newest);
    }

    fn attach(&mut self, member: MemberId, node: usize, parent: Option<usize>) {
        self.lose_sight(member);
        let now = self.now;
        let life = self.nodes[node].life;
        let Some(client) = self.clients.members.get_mut(&member) else {
            return;
        };
        client.states += 1;
        let state = client.states;
        let epoch = parent.map_or(0, |parent| client.attachments[parent].epoch);
        let room = client.room.clone();
        let resumable = client.resumable;
        // The same node takes an attachment over without being told so by anybody.
        for old in &mut client.attachments {
            if old.node == node && old.life == life && old.is_there(now) {
                if old.stage == Stage::Open {
                    // One connection goes, another comes.
                    if let Some((count, _)) =
                        self.clients.interest.get_mut(&(node, life, room.clone()))
                    {
                        *count -= 1;
                    }
                }
                old.stage = Stage::Told;
            }
        }
        client.attachments.push(Attachment {
            node,
            life,
            stage: Stage::Open,
            parent,
            epoch: 0,
            state,
            changed_at: now,
            cursor: (0, 0),
            unsaid: false,
            broke: false,
        });
        self.watch(node, &room);
        let row = Row {
            member,
            epoch,
            room,
            user: user_of(member),
            state: state_bytes(state),
            joined_at: 1,
            away: false,
            resumable,
            handle: 0,
        };
        self.local(node, Local::Join(Box::new(row)));
        self.ask_for_missed(member);
    }

    /// A member changes its state, if it is attached to a node that is up.
    pub fn update(&mut self, member: MemberId) {
        let now = self.now;
        let Some((node, attachment, state)) = self.newest_open(member) else {
            return;
        };
        attachment.state = state;
        attachment.changed_at = now;
        let local = Local::Update {
            member,
            user: None,
            state: Some(state_bytes(state)),
            away: None,
        };
        self.local(node, local);
    }

    /// A node notices that a member's newest connection to it broke.
    pub fn break_off(&mut self, member: MemberId) {
        if let Some(client) = self.clients.members.get(&member) {
            let newest = client.attachments.len() - 1;
            self.break_attachment(member, newest);
        }
    }

    /// A node notices that the connection of an attachment, by index, broke.
    pub fn break_attachment(&mut self, member: MemberId, index: usize) {
        self.lose_sight(member);
        let now = self.now;
        let Some(client) = self.clients.members.get_mut(&member) else {
            return;
        };
        let resumable = client.resumable;
        let room = client.room.clone();
        let attachment = &mut client.attachments[index];
        let node = attachment.node;
        let same_life = self.nodes[node].life == attachment.life;
        let process = &self.nodes[node];
        let up = process.core.is_some() && !process.paused && !process.leaving;
        if attachment.stage != Stage::Open || !same_life || !up {
            return;
        }
        attachment.stage = if resumable {
            Stage::Away(now)
        } else {
            Stage::Closed
        };
        attachment.changed_at = now;
        attachment.broke = true;
        self.local(node, Local::Break { member });
        self.unwatch(node, &room);
    }

    /// Whether the process that an attachment is at is stopped for now.
    pub fn is_stopped(&self, member: MemberId, index: usize) -> bool {
        self.clients.members.get(&member).is_some_and(|client| {
            let at = &client.attachments[index];
            self.nodes[at.node].life == at.life && self.nodes[at.node].paused
        })
    }

    /// A member whose connection broke is back on the same node within the grace period.
    pub fn come_back(&mut self, member: MemberId) {
        let now = self.now;
        let Some(client) = self.clients.members.get_mut(&member) else {
            return;
        };
        let room = client.room.clone();
        let Some(attachment) = client.attachments.last_mut() else {
            return;
        };
        let node = attachment.node;
        let back =
            matches!(attachment.stage, Stage::Away(since) if now + 500 * MS < since + grace_us());
        if !back || self.nodes[node].life != attachment.life || !self.is_up(node) {
            return;
        }
        if let Some(attachment) = self
            .clients
            .members
            .get_mut(&member)
            .and_then(|client| client.attachments.last_mut())
        {
            attachment.stage = Stage::Open;
            attachment.changed_at = now;
        }
        self.watch(node, &room);
        let local = Local::Update {
            member,
            user: None,
            state: None,
            away: Some(false),
        };
        self.local(node, local);
        self.ask_for_missed(member);
    }

    /// A member leaves for good.
    pub fn leave_room(&mut self, member: MemberId) {
        let now = self.now;
        let Some((node, attachment, _)) = self.newest_open(member) else {
            return;
        };
        attachment.stage = Stage::Closed;
        attachment.changed_at = now;
        let room = self.clients.members[&member].room.clone();
        let local = Local::Leave {
            member,
            reason: LeaveReason::Closed,
        };
        self.local(node, local);
        self.unwatch(node, &room);
    }

    /// A member's cursor moves; its position is how often it has moved.
    pub fn move_cursor(&mut self, member: MemberId) {
        let now = self.now;
        let Some(client) = self.clients.members.get_mut(&member) else {
            return;
        };
        client.cursor += 1;
        let (count, room) = (client.cursor, client.room.clone());
        let Some((node, attachment, _)) = self.newest_open(member) else {
            return;
        };
        attachment.cursor = (count, now);
        attachment.unsaid = true;
        if self.nodes[node].mirror.watched.contains(&room) {
            let items = vec![cursor(member, count, now)];
            if let Some((_, attachment, _)) = self.newest_open(member) {
                attachment.unsaid = false;
            }
            self.local(node, Local::Cursors { room, items });
        }
    }

    /// The positions of members at a node that its hub kept while nobody watched.
    pub(crate) fn unsaid_positions(
        &mut self,
        node: usize,
        life: u32,
        room: &RoomName,
    ) -> Vec<Cursor> {
        let now = self.now;
        let members = self.clients.members.iter_mut();
        let here = members.filter(|(_, client)| client.room == *room);
        here.filter_map(|(member, client)| {
            let attachment = client.attachments.last_mut()?;
            let (count, at) = attachment.cursor;
            let is_here = attachment.node == node && attachment.life == life;
            let is_new =
                is_here && attachment.is_there(now) && std::mem::take(&mut attachment.unsaid);
            is_new.then(|| cursor(*member, count, at))
        })
        .collect()
    }

    /// A member sends a message of so many bytes.
    pub fn publish(&mut self, member: MemberId, kind: MessageKind, bytes: usize) {
        let Some((node, _, _)) = self.newest_open(member) else {
            return;
        };
        let room = self.clients.members[&member].room.clone();
        self.clients.message_count += 1;
        let number = self.clients.message_count;
        let mut payload = number.to_be_bytes().to_vec();
        payload.resize(bytes.max(8), 0);
        let time = self.time(node);
        let Some(overview) = self.core(node).map(|core| core.overview(time)) else {
            return;
        };
        let own_boot = overview.boot;
        let known: Vec<usize> = overview
            .peers
            .into_iter()
            .filter(|peer| peer.rooms.contains(&room))
            .filter_map(|peer| Some((self.index_of(&peer.node)?, peer.boot)))
            .filter(|(index, boot)| self.nodes[*index].boots.last() == Some(boot))
            .map(|(index, _)| index)
            .collect();
        let targets = known
            .into_iter()
            .filter_map(|index| {
                let life = self.nodes[index].life;
                let key = (index, life, room.clone());
                let (_, since) = self.clients.interest.get(&key)?;
                let origin = (&self.nodes[node].name, own_boot);
                self.judge
                    .heard(index, origin, &room, *since)
                    .then_some((index, life, *since))
            })
            .collect();
        self.clients.published.insert(
            number,
            Published {
                at: self.now,
                node,
                life: self.nodes[node].life,
                room: room.clone(),
                kind,
                sender: member,
                targets,
            },
        );
        let message = Message {
            sender: member,
            kind,
            payload: payload.into(),
        };
        let items = vec![message];
        // A hub keeps to itself what nobody elsewhere wants, but for events, which are replayed.
        if kind == MessageKind::Event || self.nodes[node].mirror.watched.contains(&room) {
            self.local(node, Local::Messages { room, items });
        }
    }

    /// A connection without a member enters a room at a node.
    pub fn watch(&mut self, node: usize, room: &RoomName) {
        let life = self.nodes[node].life;
        let now = self.now;
        let key = (node, life, room.clone());
        let entry = self.clients.interest.entry(key).or_insert((0, now));
        entry.0 += 1;
        if entry.0 == 1 {
            entry.1 = now;
            let room = room.clone();
            self.local(node, Local::Interest { room, wanted: true });
        }
    }

    /// It leaves again.
    pub fn unwatch(&mut self, node: usize, room: &RoomName) {
        let life = self.nodes[node].life;
        let key = (node, life, room.clone());
        let Some(entry) = self.clients.interest.get_mut(&key) else {
            return;
        };
        entry.0 = entry.0.saturating_sub(1);
        if entry.0 == 0 {
            self.clients.interest.remove(&key);
            let ended = (node, room.clone());
            self.clients.interest_ended.insert(ended, self.now);
            let room = room.clone();
            let wanted = false;
            self.local(node, Local::Interest { room, wanted });
        }
    }

    /// Members that have been created so far.
    pub fn members(&self) -> Vec<MemberId> {
        self.clients.members.keys().copied().collect()
    }

    /// The room of a member.
    pub fn room_of(&self, member: MemberId) -> Option<RoomName> {
        let client = self.clients.members.get(&member)?;
        Some(client.room.clone())
    }

    /// The node of a member's newest attachment and whether that is open, if its process lives.
    pub fn attachment(&self, member: MemberId) -> Option<(usize, bool)> {
        let client = self.clients.members.get(&member)?;
        let newest = client.attachments.last()?;
        let lives =
            self.nodes[newest.node].life == newest.life && self.nodes[newest.node].core.is_some();
        lives.then_some((newest.node, newest.stage == Stage::Open))
    }

    /// How often a member was attached to a node.
    pub fn attachment_count(&self, member: MemberId) -> usize {
        self.clients
            .members
            .get(&member)
            .map_or(0, |client| client.attachments.len())
    }

    /// Whether the member may still be resumed: it did not leave for good.
    pub fn is_resumable(&self, member: MemberId) -> bool {
        self.clients.members.get(&member).is_some_and(|client| {
            client.resumable && !client.attachments.iter().any(|a| a.stage == Stage::Closed)
        })
    }

    /// The node says so of its own member: note the epoch, as the client's token would.
    pub(crate) fn note_own_row(&mut self, index: usize, shown: &Member) {
        let life = self.nodes[index].life;
        let Some(client) = self.clients.members.get_mut(&shown.row.member) else {
            return;
        };
        if let Some(attachment) = client
            .attachments
            .iter_mut()
            .rev()
            .find(|a| a.node == index && a.life == life)
        {
            attachment.epoch = shown.row.epoch;
        }
    }

    /// The node was told that its member is elsewhere: its hub closes the connection.
    pub(crate) fn note_moved(&mut self, index: usize, member: MemberId) {
        let (life, now) = (self.nodes[index].life, self.now);
        let Some(client) = self.clients.members.get_mut(&member) else {
            return;
        };
        let room = client.room.clone();
        let Some(at) = client
            .attachments
            .iter()
            .rposition(|a| a.node == index && a.life == life && a.epoch > 0)
        else {
            return;
        };
        let there = client.attachments[at].is_there(now);
        let open = client.attachments[at].stage == Stage::Open;
        // Nobody else may win against the newest holder of a token, unless it was used twice.
        let newest = at + 1 == client.attachments.len();
        let forked = client.forked;
        if there {
            client.attachments[at].stage = Stage::Told;
            for attachment in &mut client.attachments {
                attachment.changed_at = attachment.changed_at.max(now);
            }
        }
        if there && newest && !forked {
            self.violation(format!(
                "{}: {member} was told to have moved away from its newest node",
                self.nodes[index].name
            ));
        }
        if open {
            let key = (index, life, room.clone());
            if let Some(entry) = self.clients.interest.get_mut(&key) {
                entry.0 -= 1;
                if entry.0 == 0 {
                    self.clients.interest.remove(&key);
                    let ended = (index, room.clone());
                    self.clients.interest_ended.insert(ended, now);
                    self.tell_interest_soon(index, room);
                }
            }
        }
    }

    fn newest_open(&mut self, member: MemberId) -> Option<(usize, &mut Attachment, u32)> {
        let client = self.clients.members.get_mut(&member)?;
        client.states += 1;
        let state = client.states;
        let newest = client.attachments.last_mut()?;
        let process = &self.nodes[newest.node];
        let up = process.core.is_some() && !process.paused && !process.leaving;
        let usable = newest.stage == Stage::Open && process.life == newest.life && up;
        usable.then_some((newest.node, newest, state))
    }
}

/// A position: how often the member has moved.
fn cursor(member: MemberId, count: u64, at: u64) -> Cursor {
    #[allow(clippy::cast_precision_loss)]
    Cursor {
        member,
        time_ms: u16::try_from(at / MS % 65_536).unwrap_or(0),
        x: count as f32,
        y: 0.0,
    }
}

fn user_of(member: MemberId) -> User {
    User {
        id: format!("u{}", member.0[7] % 5),
        name: String::new(),
        color: 1,
    }
}

/// A member's state: a number, so that it can be told from every other.
pub(crate) fn state_bytes(state: u32) -> Bytes {
    Bytes::copy_from_slice(&state.to_be_bytes())
}
