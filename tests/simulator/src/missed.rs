//! Clients that come back ask for the events they missed, and what they are told is judged.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use cursormesh_mesh::proto::event::{Message, MessageKind};
use cursormesh_mesh::proto::wire::OwnerId;
use cursormesh_mesh::proto::{Local, MemberId, RoomName};

use crate::clients::Stage;
use crate::judge::number_of;
use crate::world::{MS, SECOND, World};

/// For how long an event is kept.
const RING: u64 = 30 * SECOND;
/// What was said so long before a client was lost did not fall into its absence.
const STALE: u64 = 10 * SECOND;
/// An answer is there within three times what the farthest other node needs, with so much for what it
/// may be late, and within these bounds.
const LATE: u64 = 400 * MS;
const ANSWER: [u64; 2] = [2_000 * MS, 3_300 * MS];

/// Which events there were, by the numbers of their origins, and who asked for which.
#[derive(Debug, Default)]
pub(crate) struct MissedEvents {
    /// Whether clients ask.
    asks: bool,
    /// Per room and origin, by number: the message and when it was published.
    events: BTreeMap<(RoomName, OwnerId), BTreeMap<u64, (u64, u64)>>,
    questions: BTreeMap<u64, Question>,
}

/// What one client asked for.
#[derive(Debug, Clone)]
struct Question {
    member: MemberId,
    attachment: usize,
    node: usize,
    life: u32,
    room: RoomName,
    seen: BTreeMap<OwnerId, u64>,
    lost_at: u64,
    asked_at: u64,
    /// How long the answer may take.
    bound: u64,
    /// Which lives the node saw then.
    sight: BTreeSet<OwnerId>,
    answer: Option<Answer>,
}

#[derive(Debug, Clone)]
struct Answer {
    numbers: BTreeMap<OwnerId, Vec<u64>>,
    complete: bool,
}

impl World {
    /// From now on, clients that come back ask for what they missed.
    pub fn replay_missed(&mut self) {
        self.missed.asks = true;
    }

    /// A client gets nothing more from its node, whether that knows it or not.
    pub fn lose_sight(&mut self, member: MemberId) {
        let now = self.now;
        let Some(client) = self.clients.members.get_mut(&member) else {
            return;
        };
        let Some(newest) = client.attachments.last() else {
            return;
        };
        let node = &self.nodes[newest.node];
        let served = matches!(newest.stage, Stage::Open | Stage::Departed);
        if client.missing.is_some() || !served || node.life != newest.life {
            return;
        }
        let mut seen = client.replayed.clone();
        for (origin, number) in node.mirror.heads.get(&client.room).into_iter().flatten() {
            let last = seen.entry(origin.clone()).or_default();
            *last = (*last).max(*number);
        }
        let at = if node.paused { node.paused_at } else { now };
        client.missing = Some((seen, at));
    }

    /// A client that is back asks its node for what it missed.
    pub(crate) fn ask_for_missed(&mut self, member: MemberId) {
        let Some(client) = self.clients.members.get(&member) else {
            return;
        };
        let (Some((seen, lost_at)), Some(newest)) = (&client.missing, client.attachments.last())
        else {
            return;
        };
        if !self.missed.asks || client.forked {
            return;
        }
        let question = Question {
            member,
            attachment: client.attachments.len() - 1,
            node: newest.node,
            life: newest.life,
            room: client.room.clone(),
            seen: seen.clone(),
            lost_at: *lost_at,
            asked_at: self.now,
            bound: self.answer_bound(newest.node),
            sight: self.sight_of(newest.node),
            answer: None,
        };
        let ticket = self.missed.questions.len() as u64 + 1;
        let local = Local::Replay {
            ticket,
            room: question.room.clone(),
            seen: question.seen.clone().into_iter().collect(),
            away: Duration::from_micros(self.now - question.lost_at),
        };
        let node = question.node;
        self.missed.questions.insert(ticket, question);
        self.local(node, local);
    }

    /// How long a node may take to answer a client that comes back.
    fn answer_bound(&self, node: usize) -> u64 {
        let others = (0..self.nodes.len()).filter(|other| *other != node);
        let farthest = others.map(|other| self.way_us(node, other)).max();
        let [least, most] = ANSWER;
        // Links that carry little or stand still, and detours, make others look farther away than they are.
        let overview = self.core(node).map(|core| core.overview(self.time(node)));
        let mut peers = overview.iter().flat_map(|overview| &overview.peers);
        let is_plain = self.judge.mild && peers.all(|peer| peer.linked || !peer.visible);
        let least = if is_plain { least } else { most };
        ((farthest.unwrap_or(0) + LATE) * 3).clamp(least, most)
    }

    /// The lives of other nodes that a node knows of and sees.
    fn sight_of(&self, index: usize) -> BTreeSet<OwnerId> {
        let overview = self.core(index).map(|core| core.overview(self.time(index)));
        let peers = overview.into_iter().flat_map(|overview| overview.peers);
        let seen = peers.filter(|peer| peer.visible && peer.boot != 0);
        seen.map(|peer| OwnerId {
            node: peer.node,
            boot: peer.boot,
        })
        .collect()
    }

    pub(crate) fn note_head(&mut self, index: usize, room: RoomName, origin: OwnerId, number: u64) {
        let heads = &mut self.nodes[index].mirror.heads;
        let last = heads.entry(room).or_default().entry(origin).or_default();
        *last = (*last).max(number);
    }

    pub(crate) fn note_published(
        &mut self,
        room: RoomName,
        origin: OwnerId,
        items: Vec<(u64, Message)>,
    ) {
        let now = self.now;
        let events = self.missed.events.entry((room, origin)).or_default();
        events.extend(
            items
                .iter()
                .map(|(number, message)| (*number, (number_of(message), now))),
        );
    }

    /// What a client is told must be events of its room, beyond what it had seen, in order, once.
    pub(crate) fn judge_replay(
        &mut self,
        index: usize,
        ticket: u64,
        items: Vec<(OwnerId, u64, Message)>,
        complete: bool,
    ) {
        let name = self.nodes[index].name.clone();
        let asked = self.missed.questions.get(&ticket).cloned();
        let Some(question) = asked
            .filter(|q| (q.node, q.life) == (index, self.nodes[index].life) && q.answer.is_none())
        else {
            return self.violation(format!("{name}: an answer to {ticket}, which nobody asked"));
        };
        let hindered =
            self.nodes[index].paused || self.nodes[index].hindered_at >= question.asked_at;
        if self.now > question.asked_at + question.bound && !hindered {
            self.violation(format!("{name}: the answer to {ticket} took too long"));
        }
        self.reach(if complete {
            "complete replays"
        } else {
            "incomplete replays"
        });
        let mut numbers: BTreeMap<OwnerId, Vec<u64>> = BTreeMap::new();
        for (origin, number, message) in items {
            self.reach("events replayed");
            let key = (question.room.clone(), origin.clone());
            let events = self.missed.events.get(&key);
            let numbered = events.and_then(|events| events.get(&number));
            let sent = self.clients.published.get(&number_of(&message));
            // Without a listener at its origin nobody was told the event's number.
            let known = numbered.is_none_or(|(id, _)| *id == number_of(&message))
                && sent.is_some_and(|sent| {
                    (sent.kind, message.kind) == (MessageKind::Event, MessageKind::Event)
                        && sent.room == question.room
                        && self.index_of(&origin.node) == Some(sent.node)
                });
            let told = numbers.entry(origin.clone()).or_default();
            let seen = question.seen.get(&origin).copied().unwrap_or(0);
            let last = told.last().copied().unwrap_or(seen);
            told.push(number);
            if !known {
                self.violation(format!(
                    "{name}: {number} of {origin:?} is no event of the room"
                ));
            }
            if number <= last {
                self.violation(format!(
                    "{name}: {number} of {origin:?} was replayed after {last}"
                ));
            }
        }
        if let Some(client) = self.clients.members.get_mut(&question.member)
            && client.attachments.len() == question.attachment + 1
            && client.attachments[question.attachment].stage == Stage::Open
            && let Some((seen, _)) = client.missing.take()
        {
            // Who was told that something is missing does not ask for it again.
            client.replayed = if complete { seen } else { BTreeMap::new() };
            for (origin, told) in &numbers {
                let last = client.replayed.entry(origin.clone()).or_default();
                *last = (*last).max(told.last().copied().unwrap_or(0));
            }
        }
        if let Some(question) = self.missed.questions.get_mut(&ticket) {
            question.answer = Some(Answer { numbers, complete });
        }
    }

    /// Whoever was told everything must have missed nothing: what is not in the answer came after
    /// the question, was reported as lost, was refused at its origin, or died with it.
    pub fn check_missed(&mut self) {
        let mut found = Vec::new();
        for (ticket, question) in &self.missed.questions {
            let node = &self.nodes[question.node];
            if node.life != question.life || !self.is_up(question.node) {
                continue;
            }
            let Some(answer) = &question.answer else {
                let bound = question.bound + SECOND;
                if self.now > question.asked_at.max(node.hindered_at) + bound {
                    found.push(format!("{}: no answer to {ticket}", node.name));
                }
                continue;
            };
            let key = (question.node, question.life, question.room.clone());
            let listened = self.clients.interest.get(&key);
            let Some((_, since)) = listened.copied() else {
                continue;
            };
            if !answer.complete || since > question.asked_at {
                continue;
            }
            for ((room, origin), events) in &self.missed.events {
                if *room != question.room {
                    continue;
                }
                let seen = question.seen.get(origin);
                let told = answer.numbers.get(origin);
                // Of whom neither the client nor the node had heard, nothing can be said: a split.
                let own = origin.node == node.name;
                if seen.is_none() && !own && !question.sight.contains(origin) {
                    continue;
                }
                for (number, (id, at)) in events {
                    let before = match seen {
                        Some(seen) => number <= seen,
                        None => *at <= question.lost_at,
                    };
                    if before || *at > question.asked_at || told.is_some_and(|t| t.contains(number))
                    {
                        continue;
                    }
                    let Some(sent) = self.clients.published.get(id) else {
                        continue;
                    };
                    let came = node.mirror.messages.get(id);
                    let lost = node.mirror.lost.get(&(sent.node, room.clone()));
                    let refused = (sent.node, sent.life, sent.sender);
                    // When an origin dies, its last events have got to some nodes and not to others;
                    // and what a node heard for an interest that has ended it forgot.
                    let origin_node = &self.nodes[sent.node];
                    let died = origin_node.life != sent.life || origin_node.core.is_none();
                    let excused = [came, lost]
                        .into_iter()
                        .flatten()
                        .any(|at| *at >= question.asked_at)
                        || self.judge.refused.contains_key(&refused)
                        || (died && came.is_none_or(|at| *at < since))
                        // What the node before had not heard for long is not missing since then; and
                        // nobody keeps it for longer than a ring does.
                        || (died && *at + STALE < question.lost_at)
                        || *at + RING + STALE < question.lost_at;
                    if !excused {
                        found.push(format!(
                            "{}: {} was told at {} ms that nothing is missing since {} ms, but {number} of {} boot {}, sent at {} ms, seen {seen:?}",
                            node.name,
                            question.member,
                            question.asked_at / 1_000,
                            question.lost_at / 1_000,
                            origin.node,
                            origin.boot,
                            at / 1_000,
                        ));
                    }
                }
            }
        }
        for what in found {
            self.violation(what);
        }
    }
}
