//! Browser protocol v1: hello, then any number of rooms, each with members, cursors and events.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;
use uuid::Uuid;

use super::{End, Session};
use crate::cluster::User;
use crate::config::Config;
use crate::hub::outbox::{Outbox, Owed};
use crate::hub::room::visit::{Arrival, Before, Parting, Visit};
use crate::hub::{Hub, unix_ms};
use crate::protocol::{
    self, ClientMessage, ErrorCode, FrameError, Join, Limits, PartialUser, Rebuilt, Refused,
    Resume, SaidCursor, SaidEvent, Update, Welcome,
};
use crate::routes::check_room;
use crate::token::{TokenError, Tokens};
use crate::websocket::close::Close;

/// The cluster answers a join within this time, missed events included, or not at all.
const JOIN_TIMEOUT: Duration = Duration::from_secs(5);
/// Fresh tokens are sent this often, so that one that a client holds is good for as long again.
const TOKEN_EVERY: Duration = Duration::from_secs(60);
/// A node that has only just started is not in touch with all others: its first clients would see an
/// empty cluster, and what they say would not get everywhere. They are welcomed that much later at most.
const WELCOME_WITHIN: Duration = Duration::from_secs(3);
const WELCOME_RETRY: Duration = Duration::from_millis(50);
/// What a small message costs the node beside its bytes.
const MESSAGE_COST: usize = 64;

/// A connection of protocol v1.
pub(crate) struct V1 {
    hub: Hub,
    outbox: Arc<Outbox>,
    config: Arc<Config>,
    id: Uuid,
    /// Whether cursors are binary frames.
    binary: bool,
    began: Instant,
    greeted: bool,
    /// The version of the protocol that client and node agreed on.
    version: u64,
    /// When to look again whether the node is ready, and when to welcome the client all the same.
    welcome_due: Option<(Instant, Instant)>,
    visits: Vec<Visit>,
    tokens_due: Instant,
}

impl V1 {
    /// A connection that has said nothing yet.
    pub(crate) fn new(hub: Hub, outbox: Arc<Outbox>, config: Arc<Config>, binary: bool) -> Self {
        let now = Instant::now();
        outbox.narrow();
        Self {
            hub,
            outbox,
            config,
            id: Uuid::new_v4(),
            binary,
            began: now,
            greeted: false,
            version: 1,
            welcome_due: None,
            visits: Vec::new(),
            tokens_due: now + TOKEN_EVERY,
        }
    }

    /// Names the connection in the log and to its client.
    pub(crate) fn id(&self) -> Uuid {
        self.id
    }

    fn say(&self, text: &str) {
        self.outbox.say(text);
    }

    fn error(&self, room: &str, code: ErrorCode, message: &str) {
        tracing::debug!(room, ?code, message, "refused");
        self.say(&protocol::error(room, code, message, false));
    }

    /// The visit of a room; `None` if there is none, or if it ended.
    fn visit(&mut self, room: &str) -> Option<&mut Visit> {
        let index = self.visits.iter().position(|visit| visit.room() == room)?;
        if self.visits[index].is_over() {
            self.visits.swap_remove(index);
            return None;
        }
        self.visits.get_mut(index)
    }

    fn greet(&mut self, now: Instant) {
        self.greeted = true;
        let (_, end) = *self.welcome_due.get_or_insert((now, now + WELCOME_WITHIN));
        if now < end && self.hub.context().directory.ready().is_err() {
            self.welcome_due = Some((now + WELCOME_RETRY, end));
        } else {
            self.welcome_due = None;
            self.welcome();
        }
    }

    fn welcome(&self) {
        let directory = &self.hub.context().directory;
        let node = directory.node();
        let nodes = directory.nodes();
        let welcome = Welcome {
            connection: self.id,
            protocol: self.version,
            region: nodes
                .iter()
                .find(|summary| summary.node == node)
                .map(|summary| summary.region.clone())
                .unwrap_or_default(),
            node,
            ping_ms: self.config.ping_interval.as_millis(),
            dead_ms: self.config.dead_after.as_millis(),
            nodes,
            limits: Limits {
                rooms: protocol::ROOMS_MAX,
                state_bytes: protocol::STATE_BYTES_MAX,
                event_bytes: protocol::EVENT_BYTES_MAX,
                message_bytes: self.config.message_bytes_max,
            },
        };
        self.say(&protocol::welcome(&welcome));
    }

    fn join(&mut self, join: Join<'_>) {
        let room = join.room.as_ref();
        if let Err(why) = check_room(room) {
            return self.error(room, ErrorCode::BadRoom, why.trim_end());
        }
        if self.visit(room).is_some() {
            return self.error(
                room,
                ErrorCode::AlreadyJoined,
                "This connection is in the room.",
            );
        }
        self.visits.retain(|visit| !visit.is_over());
        if self.visits.len() >= protocol::ROOMS_MAX {
            let why = "This connection is in as many rooms as it may be.";
            return self.error(room, ErrorCode::TooManyRooms, why);
        }
        let given = join.user.unwrap_or_default();
        let color = given.color;
        let user = match changed(&User::default(), given) {
            Ok(user) => user,
            Err(why) => return self.error(room, ErrorCode::BadState, why),
        };
        let state = match state(join.state.map(|state| state.get())) {
            Ok(state) => state,
            Err(why) => return self.error(room, ErrorCode::BadState, why),
        };
        let arrival = Arrival {
            user: (user, color),
            state: state.unwrap_or_else(|| Bytes::from_static(b"null")),
            before: before(&self.hub.context().tokens, room, join.resume, unix_ms()),
            binary: self.binary,
        };
        self.outbox.set_gathers(!self.visits.is_empty());
        let visit = self.hub.visit(room, self.outbox.clone(), arrival);
        self.visits.push(visit);
    }

    fn update(&mut self, update: Update<'_>) {
        let room = update.room.as_ref();
        let Some(visit) = self.visit(room) else {
            return self.not_joined(room);
        };
        let user = match update.user.map(|given| changed(visit.user(), given)) {
            None => None,
            Some(Ok(user)) => Some(user),
            Some(Err(why)) => return self.error(room, ErrorCode::BadState, why),
        };
        match state(update.state.map(|state| state.get())) {
            Ok(state) if user.is_some() || state.is_some() => visit.update(user, state),
            Ok(_) => {}
            Err(why) => self.error(room, ErrorCode::BadState, why),
        }
    }

    fn leave(&mut self, room: &str) {
        if self.visit(room).is_none() {
            return self.not_joined(room);
        }
        if let Some(index) = self.visits.iter().position(|visit| visit.room() == room) {
            self.visits.swap_remove(index).part(Parting::Left);
        }
        self.say(&protocol::left(room, crate::cluster::LeaveReason::Closed));
    }

    fn event(&mut self, event: &SaidEvent<'_>, length: usize) -> Result<(), Close> {
        if event.name.is_empty() {
            return Err(Close::bad_message("an event has a name"));
        }
        let room = event.room.as_ref();
        let refusal = if length > protocol::EVENT_BYTES_MAX
            || event.name.len() > protocol::EVENT_NAME_BYTES_MAX
        {
            Refused::TooBig
        } else if let Some(visit) = self.visit(room).filter(|visit| !visit.is_joining()) {
            visit.event(event.payload(visit.epoch()));
            return Ok(());
        } else {
            Refused::NotJoined
        };
        self.say(&protocol::refused(room, event.reference.as_ref(), refusal));
        Ok(())
    }

    fn cursor(&mut self, cursor: &SaidCursor<'_>) {
        let sample = cursor.sample();
        match (self.visit(cursor.room.as_ref()), sample) {
            (Some(visit), Some(sample)) => visit.place(sample),
            _ => self.hub.metrics().messages_dropped.misplaced.increment(),
        }
    }

    fn not_joined(&self, room: &str) {
        self.error(
            room,
            ErrorCode::NotJoined,
            "This connection is not in the room.",
        );
    }
}

impl Session for V1 {
    fn text(&mut self, text: &[u8]) -> Result<usize, Close> {
        let message = protocol::parse(text)?;
        match message {
            ClientMessage::Hello(_) if self.greeted => {
                return Err(Close::bad_message("hello comes once"));
            }
            ClientMessage::Hello(version) => {
                self.version = version;
                self.greet(Instant::now());
            }
            _ if !self.greeted => return Err(Close::bad_message("hello comes first")),
            ClientMessage::Ping(t) => self.say(&protocol::pong(&t, unix_ms())),
            ClientMessage::Join(join) => self.join(join),
            ClientMessage::Update(update) => self.update(update),
            ClientMessage::Leave(leave) => self.leave(&leave.room),
            ClientMessage::Event(event) => self.event(&event, text.len())?,
            ClientMessage::Cursor(cursor) => self.cursor(&cursor),
        }
        Ok(text.len() + MESSAGE_COST)
    }

    fn binary(&mut self, bytes: &[u8]) -> Result<usize, Close> {
        if !self.greeted {
            return Err(Close::bad_message("hello comes first"));
        }
        if !self.binary {
            return Err(Close::bad_message("this subprotocol has no binary frames"));
        }
        let dropped = &self.hub.metrics().messages_dropped.misplaced;
        match protocol::decode_samples(bytes) {
            Ok((number, Some(sample))) => {
                let visit = self.visits.iter().find(|visit| visit.number() == number);
                match visit.filter(|visit| !visit.is_over()) {
                    Some(visit) => visit.place(sample),
                    None => dropped.increment(),
                }
            }
            Ok((_, None)) | Err(FrameError::Length) => dropped.increment(),
            Err(FrameError::Kind) => return Err(Close::bad_message("unknown kind of frame")),
        }
        Ok(0)
    }

    fn catch_up(&mut self, _since: Option<u64>) {
        let anew = self.outbox.take_owed() == Some(Owed::Snapshots);
        for visit in &self.visits {
            visit.catch_up(anew);
        }
    }

    fn is_paused(&self) -> bool {
        self.welcome_due.is_some() || self.visits.iter().any(Visit::is_paused)
    }

    fn deadline(&self) -> Option<Instant> {
        if !self.greeted {
            return Some(self.began + self.config.hello_timeout);
        }
        if let Some((due, _)) = self.welcome_due {
            return Some(due);
        }
        let joins = self.visits.iter().filter(|visit| visit.is_joining());
        let joins = joins.map(|visit| visit.began() + JOIN_TIMEOUT);
        joins.chain([self.tokens_due]).min()
    }

    fn on_time(&mut self, now: Instant) -> Result<(), Close> {
        if !self.greeted {
            return if now >= self.began + self.config.hello_timeout {
                Err(Close::NO_HELLO)
            } else {
                Ok(())
            };
        }
        if self.welcome_due.is_some_and(|(due, _)| now >= due) {
            self.greet(now);
        }
        let late = |visit: &Visit| now >= visit.began() + JOIN_TIMEOUT && visit.is_joining();
        if self.visits.iter().any(late) {
            return Err(Close::UNANSWERED);
        }
        if now >= self.tokens_due {
            self.tokens_due = now + TOKEN_EVERY;
            self.visits.iter().for_each(Visit::renew_token);
        }
        Ok(())
    }

    fn end(self: Box<Self>, end: End) {
        /// What a client closes with when it is done.
        const DONE: u16 = 1000;
        let parting = match end {
            End::Client(None | Some(DONE)) => Parting::Left,
            End::Node(close) if close == Close::SHUTDOWN => Parting::Stopping,
            End::Node(close) if close.is_final() => Parting::Left,
            End::Client(Some(_)) | End::Node(_) | End::Broken => Parting::Broken,
        };
        for visit in self.visits {
            visit.part(parting);
        }
    }
}

/// Whom a join asks to be again.
fn before(tokens: &Tokens, room: &str, resume: Option<Resume<'_>>, now_ms: u64) -> Before {
    let Some(resume) = resume else {
        return Before::Nobody;
    };
    match tokens.open(&resume.token, room, "", now_ms) {
        Ok(claim) => Before::Member {
            claim,
            seen: resume.seen(),
            away: Duration::from_millis(resume.away_ms),
        },
        Err(TokenError::Invalid) => Before::Unknown(Rebuilt::TokenInvalid),
        Err(TokenError::Expired) => Before::Unknown(Rebuilt::TokenExpired),
        Err(TokenError::WrongSubject) => Before::Unknown(Rebuilt::TokenWrongSubject),
    }
}

/// `user` with what a client gives; the error is for people.
fn changed(user: &User, given: PartialUser<'_>) -> Result<User, &'static str> {
    let PartialUser { id, name, color } = given;
    let fits = |text: &str| text.len() <= protocol::USER_BYTES_MAX;
    let user = User {
        id: id.map_or_else(|| user.id.clone(), |id| id.into_owned()),
        name: name.map_or_else(|| user.name.clone(), |name| name.into_owned()),
        color: color.unwrap_or(user.color),
    };
    if !fits(&user.id) || !fits(&user.name) {
        return Err("The user's id and name have at most 256 bytes each.");
    }
    if user.color >= protocol::COLORS {
        return Err("The user's color is a hue, 0 to 359.");
    }
    Ok(user)
}

/// A state as it goes to the cluster; the error is for people.
fn state(given: Option<&str>) -> Result<Option<Bytes>, &'static str> {
    match given {
        Some(state) if state.len() > protocol::STATE_BYTES_MAX => {
            Err("The state has at most 4096 bytes.")
        }
        Some(state) => Ok(Some(Bytes::copy_from_slice(state.as_bytes()))),
        None => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::token::{Claim, Secret};

    #[test]
    fn a_join_is_told_what_is_wrong_with_its_token() {
        let tokens = Tokens::new(&[Secret::new(vec![1; 32])]);
        let claim = |subject: &str| Claim {
            member: Uuid::from_u128(7),
            epoch: 3,
            joined_at: 1_764_000_000_000,
            room: "lobby".into(),
            subject: subject.into(),
        };
        let asked = |token: &str, now_ms| {
            let text = format!(
                r#"{{"type":"join","room":"lobby","resume":{{"token":"{token}","seen":{{"n1.1":"41"}},"away_ms":1234}}}}"#
            );
            let ClientMessage::Join(join) = protocol::parse(text.as_bytes()).unwrap() else {
                panic!("not a join");
            };
            before(&tokens, "lobby", join.resume, now_ms)
        };
        let own = tokens.seal(&claim(""), 1_000);
        let Before::Member {
            claim: as_whom,
            seen,
            away,
        } = asked(&own, 120_999)
        else {
            panic!("a good token");
        };
        assert_eq!((as_whom, away), (claim(""), Duration::from_millis(1234)));
        assert_eq!(seen, [("n1.1".to_owned(), 41)]);
        for (token, now_ms, reason) in [
            (own.as_str(), 121_000, Rebuilt::TokenExpired),
            (
                &tokens.seal(&claim("ada"), 1_000),
                1_000,
                Rebuilt::TokenWrongSubject,
            ),
            ("nonsense", 1_000, Rebuilt::TokenInvalid),
        ] {
            let Before::Unknown(said) = asked(token, now_ms) else {
                panic!("{reason:?}: a token that is no good");
            };
            assert_eq!(said, reason);
        }
    }
}
