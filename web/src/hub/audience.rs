//! The v1 connections of one room: what each has been told, and what it is told next.
//!
//! A session joins when the cluster shows its member, not before: whether the member was still shown
//! then decides whether it recovered. It gets the members page by page, as its socket takes them;
//! changes to what it was sent meanwhile are told after the last page. From then on it gets the diffs
//! that everyone gets.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;
use uuid::Uuid;

use super::missed::in_order;
use super::outbox::Outbox;
use super::roster::{Diff, Positions, Roster};
use super::{Context, unix_ms};
use crate::cluster::{Event, LeaveReason, Member, Outbound};
use crate::protocol::{self, Joined, Outcome, Placed, Rebuilt, Refused, Sample};
use crate::token::{Claim, TOKEN_VALID};
use crate::websocket::close::Close;
use crate::websocket::frame::{self, Opcode};

/// Positions in one cursor frame.
const FRAME_CURSORS_MAX: usize = 4096;
/// Changes behind the pages that are noted for one session before its snapshot begins anew.
const CHANGED_MAX: usize = 10_000;
/// Bytes of live events kept for a session whose missed events are being gathered.
const BUFFER_BYTES_MAX: usize = 256 * 1024;
/// The least time between two cursor frames of one sender, by members of the room.
const INTERVALS_MS: [(usize, u64); 3] = [(50, 16), (200, 33), (1000, 66)];
const INTERVAL_MS_MAX: u64 = 100;

/// Where an origin's events stand, by origin.
pub(super) type Heads = BTreeMap<String, u64>;

/// The v1 connections of one room, and what they see of it.
pub(super) struct Audience {
    room: String,
    number: u32,
    context: Arc<Context>,
    sessions: Vec<Session>,
    roster: Roster,
    positions: Positions,
    interval_ms: u64,
}

/// One connection in the room.
pub(super) struct Session {
    /// Its member.
    pub(super) member: Uuid,
    /// Tells two connections of one member apart.
    pub(super) serial: u64,
    /// Where its frames go.
    pub(super) outbox: Arc<Outbox>,
    /// Whether it takes cursors as binary frames.
    pub(super) binary: bool,
    /// How far it is, for its connection.
    pub(super) phase: Arc<Phase>,
    /// The member's epoch: the token's at first, 0 without one.
    pub(super) epoch: u32,
    /// When the member first joined, in Unix milliseconds.
    pub(super) joined_at: u64,
    /// How far it is.
    pub(super) stage: Stage,
    /// Up to where it has the events of an origin already, for origins whose events may come again.
    floors: Vec<(String, u64)>,
    /// It is owed all positions.
    owed_positions: bool,
}

/// How far a session is, as its connection sees it without a lock.
#[derive(Debug, Default)]
pub(super) struct Phase {
    step: AtomicU8,
    epoch: AtomicU32,
}

impl Phase {
    const JOINED: u8 = 1;
    const OVER: u8 = 2;

    /// The cluster has not shown the member yet.
    pub(super) fn is_joining(&self) -> bool {
        self.step.load(Ordering::SeqCst) == 0
    }

    /// The room has ended the session.
    pub(super) fn is_over(&self) -> bool {
        self.step.load(Ordering::SeqCst) == Self::OVER
    }

    /// The member's epoch, once it has joined.
    pub(super) fn epoch(&self) -> u32 {
        self.epoch.load(Ordering::SeqCst)
    }

    fn set(&self, step: u8) {
        self.step.store(step, Ordering::SeqCst);
    }
}

/// How far a session is.
pub(super) enum Stage {
    /// The cluster has not shown its member yet, or its missed events are not here.
    Joining(Box<Joining>),
    /// It is being sent the members.
    Paging(Paging),
    /// It gets what changes.
    Live,
}

/// A join that is under way.
#[derive(Default)]
pub(super) struct Joining {
    /// Why it cannot be who it was, where that is known from the start.
    pub(super) problem: Option<Rebuilt>,
    /// It comes back, with this.
    pub(super) resume: Option<Resuming>,
    /// The cluster shows the member; true if it did before.
    shown: Option<bool>,
}

/// What a client that comes back brings.
pub(super) struct Resuming {
    /// The last number seen of each origin.
    pub(super) seen: Vec<(String, u64)>,
    /// How long it was away.
    pub(super) away: Duration,
    /// Once so many origins have said where they stand, this node gets all events of the room.
    pub(super) origins: usize,
    /// Missed events are asked for then at the latest.
    pub(super) ask_at: Instant,
    ticket: Option<u64>,
    answer: Option<Answer>,
    buffer: Vec<(String, u64, Bytes)>,
    buffer_bytes: usize,
}

struct Answer {
    events: Vec<(String, Event)>,
    complete: bool,
}

/// A snapshot that is under way.
pub(super) struct Paging {
    version: u64,
    after: Option<Uuid>,
    /// Members of pages sent that changed since.
    changed: BTreeSet<Uuid>,
}

impl Resuming {
    pub(super) fn new(
        seen: Vec<(String, u64)>,
        away: Duration,
        origins: usize,
        ask_at: Instant,
    ) -> Self {
        Self {
            seen,
            away,
            origins,
            ask_at,
            ticket: None,
            answer: None,
            buffer: Vec::new(),
            buffer_bytes: 0,
        }
    }
}

impl Session {
    pub(super) fn new(
        claim: (Uuid, u32, u64),
        serial: u64,
        outbox: Arc<Outbox>,
        binary: bool,
        joining: Joining,
    ) -> Self {
        let (member, epoch, joined_at) = claim;
        Self {
            member,
            serial,
            outbox,
            binary,
            phase: Arc::default(),
            epoch,
            joined_at,
            stage: Stage::Joining(Box::new(joining)),
            floors: Vec::new(),
            owed_positions: false,
        }
    }

    fn say(&self, text: &str) {
        self.outbox.say(text);
    }

    fn is_told(&self) -> bool {
        !matches!(self.stage, Stage::Joining(_))
    }

    /// Whether an event is new to it.
    fn wants(&mut self, origin: &str, number: u64) -> bool {
        let Some(index) = self.floors.iter().position(|(known, _)| known == origin) else {
            return true;
        };
        if number <= self.floors[index].1 {
            return false;
        }
        self.floors.swap_remove(index);
        true
    }

    fn token(&self, room: &str, context: &Context) -> String {
        let claim = Claim {
            member: self.member,
            epoch: self.epoch,
            joined_at: self.joined_at,
            room: room.to_owned(),
            subject: String::new(),
        };
        context.tokens.seal(&claim, unix_ms())
    }
}

impl Audience {
    /// The audience of a room that has these members, with their positions so far.
    pub(super) fn new(
        room: String,
        number: u32,
        members: Vec<Member>,
        positions: Positions,
        context: Arc<Context>,
    ) -> Self {
        let mut roster = Roster::new(room.clone(), members);
        positions.members().for_each(|member| roster.list(member));
        Self {
            interval_ms: interval_ms(roster.len(), context.ticker.tick()),
            room,
            number,
            context,
            sessions: Vec::new(),
            roster,
            positions,
        }
    }

    /// A connection comes. An older one of the same member is superseded.
    pub(super) fn enter(&mut self, session: Session) {
        self.sessions.retain(|other| {
            let same = other.member == session.member;
            if same {
                other.outbox.end(Close::SUPERSEDED);
            }
            !same
        });
        self.sessions.push(session);
    }

    /// A connection goes; false if it was superseded or removed.
    pub(super) fn exit(&mut self, serial: u64) -> bool {
        let before = self.sessions.len();
        self.sessions.retain(|session| session.serial != serial);
        self.sessions.len() < before
    }

    /// Whether the member has a connection here.
    pub(super) fn has(&self, member: Uuid) -> bool {
        self.sessions.iter().any(|session| session.member == member)
    }

    /// The cluster shows a member that it did not show before (`fresh`), or a changed one.
    pub(super) fn shown(&mut self, member: &Member, fresh: bool, now: Instant) {
        if self.roster.has_left(member.id) {
            self.tell();
        }
        let placed = self.roster.alias(member.id).is_some();
        self.roster.put(member, now);
        if !placed {
            self.positions.renew(member.id);
        }
        let here = member.node == self.context.directory.node() && !member.away;
        let Some(session) = self
            .sessions
            .iter_mut()
            .find(|session| session.member == member.id)
            .filter(|session| here && member.epoch > session.epoch)
        else {
            return;
        };
        session.epoch = member.epoch;
        session.phase.epoch.store(member.epoch, Ordering::SeqCst);
        if let Stage::Joining(joining) = &mut session.stage {
            joining.shown = Some(!fresh);
        } else {
            let token = session.token(&self.room, &self.context);
            session.say(&protocol::token(&self.room, &token));
        }
    }

    /// A member is gone. A connection that it has here is in the room no longer.
    pub(super) fn left(&mut self, member: Uuid, reason: LeaveReason, now: Instant) {
        self.roster.remove(member, reason, now);
        self.positions.remove(member);
        let room = &self.room;
        self.sessions.retain(|session| {
            // One that joins is told by what comes after this.
            let ends = session.member == member && session.is_told();
            if ends {
                session.say(&protocol::left(room, reason));
                session.phase.set(Phase::OVER);
            }
            !ends
        });
    }

    /// Another node has the member now.
    pub(super) fn moved_away(&mut self, member: Uuid) {
        for session in &self.sessions {
            // A join that is under way came after that.
            if session.member == member && session.is_told() {
                session.outbox.end(Close::SUPERSEDED);
            }
        }
    }

    /// A member is at a new position.
    pub(super) fn moved(&mut self, member: Uuid, sample: Sample) {
        self.roster.list(member);
        self.positions.set(member, sample);
    }

    /// A named event.
    pub(super) fn event(&mut self, origin: &str, event: &Event) {
        if self.sessions.is_empty() {
            return;
        }
        self.roster.list(event.sender);
        if self.roster.is_pending(event.sender) {
            self.tell();
        }
        let Some(bytes) = self.event_frame(origin, event) else {
            self.context.metrics.messages_dropped.malformed.increment();
            return;
        };
        for session in &mut self.sessions {
            if let Stage::Joining(joining) = &mut session.stage {
                if let Some(resume) = &mut joining.resume {
                    resume.buffer_bytes += bytes.len();
                    if resume.buffer_bytes <= BUFFER_BYTES_MAX {
                        let entry = (origin.to_owned(), event.number, bytes.clone());
                        resume.buffer.push(entry);
                    }
                }
            } else if session.wants(origin, event.number) {
                session.outbox.push_vital(bytes.clone(), 1);
            }
        }
    }

    /// An origin said where its events begin, after sessions joined.
    pub(super) fn head(&mut self, origin: &str, number: u64) {
        let text = protocol::positions(&self.room, origin, number);
        for session in self.sessions.iter().filter(|session| session.is_told()) {
            session.say(&text);
        }
    }

    /// An event of a local member did not get everywhere.
    pub(super) fn refused(&self, member: Uuid) {
        for session in &self.sessions {
            if session.member == member && session.is_told() {
                session.say(&protocol::refused(&self.room, None, Refused::SlowLink));
            }
        }
    }

    /// The missed events of a session.
    pub(super) fn replayed(&mut self, ticket: u64, events: Vec<(String, Event)>, complete: bool) {
        let resume = self
            .sessions
            .iter_mut()
            .find_map(|session| match &mut session.stage {
                Stage::Joining(joining) => joining
                    .resume
                    .as_mut()
                    .filter(|resume| resume.ticket == Some(ticket)),
                Stage::Paging(_) | Stage::Live => None,
            });
        if let Some(resume) = resume {
            resume.answer = Some(Answer { events, complete });
        }
    }

    /// What is to be asked of the cluster for sessions that come back: once this node is sure to get
    /// what is said from now on, as otherwise something could fall in between.
    pub(super) fn ask(&mut self, heads: &Heads, now: Instant) -> Vec<Outbound> {
        let (room, context) = (&self.room, &self.context);
        self.sessions
            .iter_mut()
            .filter_map(|session| match &mut session.stage {
                Stage::Joining(joining) => joining.resume.as_mut(),
                Stage::Paging(_) | Stage::Live => None,
            })
            .filter(|resume| resume.ticket.is_none())
            .filter(|resume| heads.len() >= resume.origins || now >= resume.ask_at)
            .map(|resume| {
                let ticket = context.ticket(room);
                resume.ticket = Some(ticket);
                Outbound::Replay {
                    ticket,
                    room: room.clone(),
                    seen: resume.seen.clone(),
                    away: resume.away,
                }
            })
            .collect()
    }

    /// Sends what changed, and completes joins. Gives when it is to be called again if nothing else
    /// happens.
    pub(super) fn flush(&mut self, heads: &Heads, now: Instant) -> Option<Instant> {
        let due = self.roster.diff_due(now).filter(|due| *due > now);
        if due.is_none() {
            self.tell();
        }
        self.complete_joins(heads);
        self.send_moved();
        due
    }

    /// The connection took what waited for it. With `anew` it missed diffs.
    pub(super) fn catch_up(&mut self, serial: u64, anew: bool) {
        let Some(index) = self
            .sessions
            .iter()
            .position(|session| session.serial == serial && session.is_told())
        else {
            return;
        };
        if anew {
            self.begin_pages(index);
        }
        self.proceed(index);
    }

    /// A fresh token, if the session has joined.
    pub(super) fn renew_token(&self, serial: u64) {
        let session = self
            .sessions
            .iter()
            .find(|session| session.serial == serial);
        if let Some(session) = session.filter(|session| session.is_told()) {
            let token = session.token(&self.room, &self.context);
            session.say(&protocol::token(&self.room, &token));
        }
    }

    /// Sends the diffs since the last version, and the pressure if the size of the room changed it.
    fn tell(&mut self) {
        for Diff { text, members } in self.roster.take_diffs(Instant::now()) {
            let bytes = self.context.budget.share(frame::text(&text));
            for session in &mut self.sessions {
                match &mut session.stage {
                    Stage::Joining(_) => {}
                    Stage::Live => session.outbox.push_presence(bytes.clone()),
                    Stage::Paging(paging) => paging.note(&members, self.roster.version()),
                }
            }
        }
        let interval_ms = interval_ms(self.roster.len(), self.context.ticker.tick());
        if std::mem::replace(&mut self.interval_ms, interval_ms) != interval_ms {
            let text = protocol::pressure(&self.room, interval_ms);
            for session in self.sessions.iter().filter(|session| session.is_told()) {
                session.say(&text);
            }
        }
    }

    fn complete_joins(&mut self, heads: &Heads) {
        for index in 0..self.sessions.len() {
            let session = &mut self.sessions[index];
            let Stage::Joining(joining) = &mut session.stage else {
                continue;
            };
            let answered = joining
                .resume
                .as_ref()
                .is_none_or(|resume| resume.answer.is_some());
            // Of a member that had left nobody's events are missed.
            let Some(was_shown) = joining.shown.filter(|was_shown| answered || !was_shown) else {
                continue;
            };
            let joining = std::mem::take(joining.as_mut());
            self.complete(index, joining, was_shown, heads);
            self.begin_pages(index);
            self.proceed(index);
        }
    }

    fn complete(&mut self, index: usize, joining: Joining, was_shown: bool, heads: &Heads) {
        let mut missed: Vec<Bytes> = Vec::new();
        let (outcome, reason) = match joining.resume {
            _ if joining.problem.is_some() => (Outcome::Rebuilt, joining.problem),
            None => (Outcome::New, None),
            Some(_) if !was_shown => (Outcome::Rebuilt, Some(Rebuilt::TooLate)),
            Some(resume) => {
                let (frames, floors, complete) = self.missed(index, resume);
                missed = frames;
                self.sessions[index].floors = floors;
                if complete {
                    (Outcome::Recovered, None)
                } else {
                    (Outcome::Rebuilt, Some(Rebuilt::EventsLost))
                }
            }
        };
        let session = &self.sessions[index];
        let me = self.roster.json(session.member).unwrap_or_default();
        let Ok(me) = serde_json::from_slice(&me) else {
            // It left again in the same moment: its connection begins anew.
            session.outbox.end(Close::UNANSWERED);
            return;
        };
        let joined = Joined {
            room: &self.room,
            number: self.number,
            me,
            token: session.token(&self.room, &self.context),
            token_ms: TOKEN_VALID.as_millis(),
            outcome,
            reason,
            positions: heads
                .iter()
                .map(|(origin, number)| (origin.as_str(), number.to_string()))
                .collect(),
        };
        tracing::debug!(room = self.room, member = %session.member, ?outcome, ?reason, "joined");
        session.say(&protocol::joined(&joined));
        session.phase.set(Phase::JOINED);
        for frame in missed {
            session.outbox.push_vital(frame, 1);
        }
        if self.interval_ms != INTERVALS_MS[0].1 {
            session.say(&protocol::pressure(&self.room, self.interval_ms));
        }
    }

    /// The events that a session missed, each once; how far it has each origin's events then; and
    /// whether these are all.
    fn missed(&self, index: usize, resume: Resuming) -> (Vec<Bytes>, Vec<(String, u64)>, bool) {
        let mut floors: BTreeMap<String, u64> = resume.seen.into_iter().collect();
        let mut frames = Vec::new();
        let (events, mut complete) = match resume.answer {
            Some(answer) => (answer.events, answer.complete),
            None => (Vec::new(), false),
        };
        let mut take = |origin: String, number: u64, frame: Option<Bytes>| {
            let floor = floors.entry(origin).or_default();
            if number > *floor {
                *floor = number;
                frames.extend(frame);
            }
        };
        for (origin, event) in in_order(events) {
            let frame = self.event_frame(&origin, &event);
            take(origin, event.number, frame);
        }
        complete &= resume.buffer_bytes <= BUFFER_BYTES_MAX;
        for (origin, number, frame) in resume.buffer {
            take(origin, number, Some(frame));
        }
        // More than its outbox holds would end the connection, and it would miss the same again.
        let bytes: usize = frames.iter().map(Bytes::len).sum();
        if bytes > self.sessions[index].outbox.bytes_max() / 2 {
            frames.clear();
            complete = false;
        }
        (frames, floors.into_iter().collect(), complete)
    }

    fn begin_pages(&mut self, index: usize) {
        let session = &mut self.sessions[index];
        session.owed_positions = true;
        session.stage = Stage::Paging(Paging {
            version: self.roster.version(),
            after: None,
            changed: BTreeSet::new(),
        });
    }

    /// Sends pages and positions as long as the socket takes them.
    fn proceed(&mut self, index: usize) {
        let session = &mut self.sessions[index];
        while let Stage::Paging(paging) = &mut session.stage {
            if paging.after.is_some() && !session.outbox.is_empty() {
                session.outbox.owe();
                return;
            }
            let bytes_max = session.outbox.bytes_max() / 4;
            let page = self
                .roster
                .page(session.member, paging.after, paging.version, bytes_max);
            session.outbox.say(&page.text);
            if page.last.is_some() {
                paging.after = page.last;
                continue;
            }
            let changed: Vec<Uuid> = std::mem::take(&mut paging.changed).into_iter().collect();
            session.stage = Stage::Live;
            if !changed.is_empty() {
                session.say(&self.roster.state_of(&changed));
            }
        }
        if session.owed_positions {
            session.owed_positions = false;
            let all = self.positions.all(&self.roster);
            // Nobody is worth a frame too: it says that these are all.
            let chunks: Vec<&[Placed]> = match all.len() {
                0 => vec![&[]],
                _ => all.chunks(FRAME_CURSORS_MAX).collect(),
            };
            for placed in chunks {
                let bytes = cursor_frame(&self.room, self.number, session.binary, true, placed);
                let bytes = self.context.budget.share(bytes);
                session.outbox.push_vital(bytes, 1);
            }
        }
    }

    fn send_moved(&mut self) {
        if self.sessions.is_empty() {
            // Nobody looks; who comes gets all positions.
            self.positions.forget_moves();
            return;
        }
        let moved = self.positions.take_moved(&self.roster);
        for placed in moved.chunks(FRAME_CURSORS_MAX) {
            let mut frames: [Option<Bytes>; 2] = [None, None];
            for session in &mut self.sessions {
                if !matches!(session.stage, Stage::Live) || session.owed_positions {
                    continue;
                }
                let bytes = frames[usize::from(session.binary)].get_or_insert_with(|| {
                    let bytes =
                        cursor_frame(&self.room, self.number, session.binary, false, placed);
                    self.context.budget.share(bytes)
                });
                session.owed_positions = !session.outbox.push_fleeting(bytes.clone());
            }
        }
    }

    fn event_frame(&self, origin: &str, event: &Event) -> Option<Bytes> {
        let text = protocol::event(
            &self.room,
            event.sender,
            &event.payload,
            origin,
            event.number,
        )?;
        Some(self.context.budget.share(frame::text(&text)))
    }
}

impl Paging {
    /// Notes changes that the pages sent so far do not have.
    fn note(&mut self, members: &[Uuid], version: u64) {
        let Some(after) = self.after else {
            self.version = version;
            return;
        };
        self.changed
            .extend(members.iter().filter(|member| **member <= after));
        if self.changed.len() > CHANGED_MAX {
            *self = Self {
                version,
                after: None,
                changed: BTreeSet::new(),
            };
        }
    }
}

/// What a sender is asked to keep to in a room of so many members on a node with this tick: nobody sees
/// more frames than there are ticks.
fn interval_ms(members: usize, tick: Duration) -> u64 {
    let tick_ms = u64::try_from(tick.as_millis()).unwrap_or(u64::MAX);
    INTERVALS_MS
        .iter()
        .find(|(most, interval_ms)| members <= *most && tick_ms <= *interval_ms)
        .map_or(INTERVAL_MS_MAX, |(_, interval_ms)| *interval_ms)
}

fn cursor_frame(room: &str, number: u32, binary: bool, full: bool, placed: &[Placed]) -> Vec<u8> {
    if !binary {
        return frame::text(&protocol::cursors(room, placed));
    }
    let payload = protocol::encode_cursors(number, full, placed);
    let mut bytes = Vec::with_capacity(frame::frame_length(payload.len()));
    frame::encode(Opcode::Binary, &payload, &mut bytes);
    bytes
}
