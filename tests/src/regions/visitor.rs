//! One person in the world: a v1 client who moves, says something now and then, comes back when the
//! connection breaks, and keeps a diary of what there was to see.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval_at, sleep, timeout};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;

use crate::cluster::Failure;

/// How long after a break the next node is tried.
const RETRY: Duration = Duration::from_millis(100);
/// A node that has not let somebody in within this time is given up.
const JOIN_WITHIN: Duration = Duration::from_secs(5);
/// How long a node may take to answer a close.
const CLOSE_WITHIN: Duration = Duration::from_secs(2);
/// Problems beyond this many are not kept: the first ones tell.
const PROBLEMS_MAX: usize = 20;
/// Things said by who is not listed yet beyond this many are not kept.
const EARLY_MAX: usize = 1000;
/// Kinds of binary frames.
const MOVE: u8 = 1;
const CURSORS: u8 = 2;
/// The flag of a frame that tells where everybody was, not who moved.
const FULL: u8 = 1;

/// What all people have in common.
#[derive(Debug, Clone)]
pub struct Habits {
    /// The room.
    pub room: String,
    /// How often each moves.
    pub period: Duration,
    /// Every so many movements each says something.
    pub say_every: u64,
    /// Whether they move now.
    pub moving: Arc<AtomicBool>,
    /// The one clock of all.
    pub clock: Clock,
}

/// The machine's clock in the form of a position: whole seconds, and microseconds of the second, both
/// exact in 32-bit floats. So every age is by one clock and without rounding to the milliseconds that
/// cursors carry themselves.
#[derive(Debug, Clone, Copy)]
pub struct Clock(Instant);

/// A person on a node; dropping it breaks the connection.
#[derive(Debug)]
pub struct Visitor {
    /// The name, by which the others know the person, too.
    pub name: String,
    /// The node where the person came in first.
    pub node: String,
    diary: Arc<Mutex<Diary>>,
    stay: watch::Sender<bool>,
    task: JoinHandle<()>,
}

/// What a person saw.
#[derive(Debug, Default)]
pub struct Diary {
    /// Whether the person is in the room now.
    pub open: bool,
    /// When the first request to be let in was sent.
    pub asked_at: Option<Instant>,
    /// What became of each join since the mark, and how long the person had been away.
    pub outcomes: Vec<(String, Duration)>,
    /// Things said by somebody who was not listed yet, since the mark.
    pub outran: u32,
    /// Who came and went, since the mark.
    pub told: Vec<Told>,
    /// What was seen of each other person, by name.
    pub heard: BTreeMap<String, Heard>,
    /// What must not be.
    pub problems: Vec<String>,
    /// Who is here: name and alias by id.
    members: BTreeMap<String, (String, u16)>,
    aliases: BTreeMap<u16, String>,
    /// Pages of a list that has not come whole.
    pages: Vec<Value>,
    /// Whether the list is on its way: what is said before it is told.
    waits_for_list: bool,
    /// What was said by who is not listed yet.
    early: Vec<(Value, u64)>,
}

/// Somebody came or went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// When that was told.
    pub at: Instant,
    /// Who.
    pub who: String,
    /// Whether the person came.
    pub came: bool,
    /// Why the person went, as the node says.
    pub reason: String,
}

/// What was seen of one other person.
#[derive(Debug, Default, Clone)]
pub struct Heard {
    /// When the last new position came.
    pub at: Option<Instant>,
    /// When that position was made, in microseconds of the common clock.
    made_us: u64,
    /// The longest time without a new position while the person was there, since the mark.
    pub gap_max: Duration,
    /// Ages of positions on arrival since the mark, in microseconds.
    pub ages_us: Vec<u64>,
    /// Numbers of what the person said, since the mark.
    pub said: BTreeSet<u64>,
    /// The newest of them before the mark.
    pub said_before: u64,
    last_said: u64,
    /// Ages of what the person said on arrival since the mark, in microseconds.
    pub said_ages_us: Vec<u64>,
}

impl Clock {
    /// A clock that begins now.
    pub fn start() -> Self {
        Self(Instant::now())
    }

    fn now_us(self) -> u64 {
        u64::try_from(self.0.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    fn place(self) -> (f32, f32) {
        let now = self.now_us();
        ((now / 1_000_000) as f32, (now % 1_000_000) as f32)
    }

    fn from_place(x: f32, y: f32) -> u64 {
        x as u64 * 1_000_000 + y as u64
    }
}

impl Visitor {
    /// Lets a person in at the first of `doors`; when that one closes, at the next, and so on.
    pub fn enter(name: &str, node: &str, doors: Vec<SocketAddr>, habits: Habits) -> Self {
        let diary = Arc::new(Mutex::new(Diary::default()));
        let (stay, staying) = watch::channel(true);
        let person = Person {
            name: name.to_owned(),
            doors,
            habits,
            diary: Arc::clone(&diary),
            staying,
            memory: Memory::default(),
        };
        Self {
            name: name.to_owned(),
            node: node.to_owned(),
            diary,
            stay,
            task: tokio::spawn(person.live()),
        }
    }

    /// The region of the node where the person came in.
    pub fn region(&self) -> &str {
        super::world::region_of(&self.node)
    }

    /// What the person saw so far.
    pub fn diary(&self) -> MutexGuard<'_, Diary> {
        lock(&self.diary)
    }

    /// From now on everything counts anew.
    pub fn mark(&self) {
        let mut diary = self.diary();
        diary.told.clear();
        diary.outcomes.clear();
        diary.outran = 0;
        for heard in diary.heard.values_mut() {
            heard.gap_max = Duration::ZERO;
            heard.ages_us.clear();
            heard.said.clear();
            heard.said_before = heard.last_said;
            heard.said_ages_us.clear();
        }
    }

    /// From now on ages count anew, and nothing else.
    pub fn forget_ages(&self) {
        for heard in self.diary().heard.values_mut() {
            heard.ages_us.clear();
            heard.said_ages_us.clear();
        }
    }

    /// Leaves in good order, and returns at once.
    pub fn leave(&self) {
        // Fails only if the person is gone already.
        let _ = self.stay.send(false);
    }
}

impl Drop for Visitor {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Diary {
    /// The names of all who are here, the own one included.
    pub fn present(&self) -> BTreeSet<&str> {
        let names = self.members.values().map(|(name, _)| name.as_str());
        names.collect()
    }

    fn told(&mut self, who: &str, came: bool, reason: &str) {
        // A gap is a time in which somebody was there and not heard.
        self.heard.entry(who.to_owned()).or_default().at = None;
        self.told.push(Told {
            at: Instant::now(),
            who: who.to_owned(),
            came,
            reason: reason.to_owned(),
        });
    }

    fn add(&mut self, member: &Value) -> Option<String> {
        let id = member["id"].as_str()?.to_owned();
        let name = member["user"]["id"].as_str()?.to_owned();
        let alias = u16::try_from(member["alias"].as_u64()?).ok()?;
        if let Some((_, old)) = self.members.insert(id.clone(), (name.clone(), alias)) {
            self.aliases.remove(&old);
        } else {
            self.aliases.insert(alias, name.clone());
            return Some(name);
        }
        self.aliases.insert(alias, name);
        None
    }

    fn remove(&mut self, id: &str) -> Option<String> {
        let (name, alias) = self.members.remove(id)?;
        self.aliases.remove(&alias);
        Some(name)
    }

    /// A whole list: what changed against the one before is what the person sees.
    fn replace(&mut self, pages: Vec<Value>, is_first: bool) {
        let before = std::mem::take(&mut self.members);
        self.aliases.clear();
        let listed = pages.iter().filter_map(|page| page["members"].as_array());
        for member in listed.flatten() {
            self.add(member);
        }
        if is_first {
            return;
        }
        let now = std::mem::take(&mut self.members);
        for (id, (name, _)) in &before {
            if !now.contains_key(id) {
                self.told(name, false, "not in the list");
            }
        }
        for (id, (name, _)) in &now {
            if !before.contains_key(id) {
                self.told(name, true, "");
            }
        }
        self.members = now;
    }

    fn change(&mut self, diff: &Value) {
        for member in diff["joined"].as_array().into_iter().flatten() {
            if let Some(name) = self.add(member) {
                self.told(&name, true, "");
            }
        }
        for member in diff["updated"].as_array().into_iter().flatten() {
            self.add(member);
        }
        for gone in diff["left"].as_array().into_iter().flatten() {
            if let Some(name) = gone["id"].as_str().and_then(|id| self.remove(id)) {
                self.told(&name, false, gone["reason"].as_str().unwrap_or_default());
            }
        }
    }

    fn moved(&mut self, alias: u16, made_us: u64, now_us: u64, is_full: bool) {
        let Some(name) = self.aliases.get(&alias) else {
            return self.problem(format!("alias {alias} stands for nobody"));
        };
        let heard = self.heard.entry(name.clone()).or_default();
        // Where somebody was is no news, and neither is what is known.
        if is_full || made_us <= heard.made_us {
            return;
        }
        let now = Instant::now();
        if let Some(before) = heard.at {
            heard.gap_max = heard.gap_max.max(now - before);
        }
        (heard.at, heard.made_us) = (Some(now), made_us);
        heard.ages_us.push(now_us.saturating_sub(made_us));
    }

    fn said(&mut self, event: &Value, now_us: u64) {
        let from = event["from"].as_str().unwrap_or_default();
        let Some((name, _)) = self.members.get(from).filter(|_| !self.waits_for_list) else {
            self.outran += u32::from(!self.waits_for_list);
            if self.early.len() < EARLY_MAX {
                self.early.push((event.clone(), now_us));
            }
            return;
        };
        let (Some(number), Some(made_us)) =
            (event["data"]["n"].as_u64(), event["data"]["t"].as_u64())
        else {
            return self.problem(format!("not said by a person: {event}"));
        };
        let name = name.clone();
        let heard = self.heard.entry(name.clone()).or_default();
        if number <= heard.last_said {
            let last = heard.last_said;
            return self.problem(format!("{name} said {number} after {last}"));
        }
        heard.last_said = number;
        heard.said.insert(number);
        heard.said_ages_us.push(now_us.saturating_sub(made_us));
    }

    /// What was said by who is listed by now.
    fn say_early(&mut self) {
        let outran = self.outran;
        for (event, at_us) in std::mem::take(&mut self.early) {
            self.said(&event, at_us);
        }
        // They were counted when they came.
        self.outran = outran;
    }

    fn problem(&mut self, what: String) {
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(what);
        }
    }
}

/// The task behind a visitor.
struct Person {
    name: String,
    doors: Vec<SocketAddr>,
    habits: Habits,
    diary: Arc<Mutex<Diary>>,
    staying: watch::Receiver<bool>,
    memory: Memory,
}

/// What outlives a connection.
#[derive(Debug, Default)]
struct Memory {
    token: Option<String>,
    positions: BTreeMap<String, String>,
    heard_at: Option<Instant>,
    broke_at: Option<Instant>,
    number: u64,
    moves: u64,
}

type Socket = tokio_tungstenite::WebSocketStream<TcpStream>;

impl Person {
    async fn live(mut self) {
        let mut door = 0;
        while *self.staying.borrow() {
            let addr = self.doors[door % self.doors.len()];
            if let Ok(Ok((socket, number))) = timeout(JOIN_WITHIN, self.come_in(addr)).await {
                lock(&self.diary).open = true;
                // How a connection ends does not matter: there is another door.
                let _ = self.stay(socket, number).await;
                lock(&self.diary).open = false;
                self.memory.broke_at = Some(Instant::now());
            }
            door += 1;
            sleep(RETRY).await;
        }
    }

    /// Connects and joins; gives the room's number.
    async fn come_in(&mut self, addr: SocketAddr) -> Result<(Socket, u32), Failure> {
        let stream = TcpStream::connect(addr).await?;
        stream.set_nodelay(true)?;
        let mut request = format!("ws://{addr}/v1").into_client_request()?;
        request.headers_mut().insert(
            "Sec-WebSocket-Protocol",
            HeaderValue::from_static("cursormesh.v1"),
        );
        let (mut socket, _) = tokio_tungstenite::client_async(request, stream).await?;
        let hello = json!({"type": "hello", "client": "regions"});
        socket.send(Message::text(hello.to_string())).await?;
        let mut join = json!({
            "type": "join", "room": self.habits.room, "user": {"id": self.name},
        });
        if let Some(token) = &self.memory.token {
            let away = self
                .memory
                .heard_at
                .map_or(0, |at| at.elapsed().as_millis());
            join["resume"] = json!({
                "token": token, "seen": self.memory.positions, "away_ms": u64::try_from(away)?,
            });
        }
        lock(&self.diary).asked_at.get_or_insert_with(Instant::now);
        socket.send(Message::text(join.to_string())).await?;
        loop {
            let message = socket.next().await.ok_or("closed")??;
            let Message::Text(text) = message else {
                self.note_close(&message);
                continue;
            };
            let told: Value = serde_json::from_str(&text)?;
            match told["type"].as_str() {
                Some("joined") => {
                    let number = u32::try_from(told["number"].as_u64().ok_or("no number")?)?;
                    self.joined(&told);
                    return Ok((socket, number));
                }
                Some("error") => {
                    self.memory.token = None;
                    return Err(format!("not let in: {text}").into());
                }
                _ => {}
            }
        }
    }

    fn joined(&mut self, told: &Value) {
        self.memory.heard_at = Some(Instant::now());
        self.memory.token = told["token"].as_str().map(str::to_owned);
        let outcome = told["outcome"].as_str().unwrap_or_default();
        let reason = told["reason"].as_str().unwrap_or_default();
        if !(outcome == "recovered" || reason == "events_lost") {
            self.memory.positions.clear();
            self.raise(&told["positions"]);
        }
        let outcome = match reason {
            "" => outcome.to_owned(),
            reason => format!("{outcome}: {reason}"),
        };
        let mut diary = lock(&self.diary);
        let away = self
            .memory
            .broke_at
            .map_or(Duration::ZERO, |at| at.elapsed());
        diary.outcomes.push((outcome, away));
        diary.pages.clear();
        diary.waits_for_list = true;
    }

    fn raise(&mut self, positions: &Value) {
        for (origin, number) in positions.as_object().into_iter().flatten() {
            self.raise_one(origin, number.as_str().unwrap_or_default());
        }
    }

    fn raise_one(&mut self, origin: &str, number: &str) {
        let known = self.memory.positions.entry(origin.to_owned()).or_default();
        if (number.len(), number) > (known.len(), known.as_str()) {
            *known = number.to_owned();
        }
    }

    /// Moves, speaks and watches until the connection ends or it is time to go.
    async fn stay(&mut self, socket: Socket, number: u32) -> Result<(), Failure> {
        let (mut sink, mut stream) = socket.split();
        // Not everybody moves at the same moment.
        let spread = self.name.bytes().map(u32::from).sum::<u32>() * 37 % 100;
        let first = tokio::time::Instant::now() + self.habits.period * spread / 100;
        let mut due = interval_at(first, self.habits.period);
        due.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut staying = self.staying.clone();
        // What was said before this connection counts, too.
        staying.mark_changed();
        loop {
            tokio::select! {
                message = stream.next() => {
                    let Some(message) = message else { return Ok(()) };
                    self.take(&message?);
                }
                _ = due.tick() => {
                    if self.habits.moving.load(Ordering::Relaxed) {
                        for message in self.act(number) {
                            sink.send(message).await?;
                        }
                    }
                }
                _ = staying.changed() => {
                    if *staying.borrow_and_update() {
                        continue;
                    }
                    // Without a code it is a leave, not a break. A socket that is dropped with unread
                    // bytes is reset, and the node might never read this: so the answer is waited for.
                    sink.send(Message::Close(None)).await?;
                    let ended = async { while let Some(Ok(_)) = stream.next().await {} };
                    return Ok(timeout(CLOSE_WITHIN, ended).await?);
                }
            }
        }
    }

    fn act(&mut self, room: u32) -> Vec<Message> {
        let clock = self.habits.clock;
        let (x, y) = clock.place();
        let mut frame = vec![MOVE, 0, 1, 0];
        frame.extend(room.to_le_bytes());
        frame.extend((((clock.now_us() / 1000) & 0xffff) as u16).to_le_bytes());
        frame.extend(x.to_le_bytes());
        frame.extend(y.to_le_bytes());
        let mut messages = vec![Message::binary(frame)];
        self.memory.moves += 1;
        if self.memory.moves.is_multiple_of(self.habits.say_every) {
            self.memory.number += 1;
            let event = json!({
                "type": "event", "room": self.habits.room, "name": "said",
                "data": {"n": self.memory.number, "t": clock.now_us()},
            });
            messages.push(Message::text(event.to_string()));
        }
        messages
    }

    fn take(&mut self, message: &Message) {
        self.memory.heard_at = Some(Instant::now());
        let now_us = self.habits.clock.now_us();
        match message {
            Message::Binary(frame) => {
                let diary = Arc::clone(&self.diary);
                let mut diary = lock(&diary);
                match cursors(frame) {
                    Some((is_full, records)) => {
                        for (alias, x, y) in records {
                            diary.moved(alias, Clock::from_place(x, y), now_us, is_full);
                        }
                    }
                    None => diary.problem(format!("not a frame of cursors: {frame:?}")),
                }
            }
            Message::Text(text) => match serde_json::from_str::<Value>(text) {
                Ok(told) => self.take_text(told, now_us),
                Err(_) => lock(&self.diary).problem(format!("not JSON: {text}")),
            },
            other => self.note_close(other),
        }
    }

    fn take_text(&mut self, told: Value, now_us: u64) {
        match told["type"].as_str() {
            Some("presence") => {
                let mut diary = lock(&self.diary);
                diary.change(&told);
                if !diary.early.is_empty() && !diary.waits_for_list {
                    diary.say_early();
                }
            }
            Some("snapshot") => {
                let mut diary = lock(&self.diary);
                let is_last = told["more"] == false;
                diary.pages.push(told);
                if is_last {
                    let pages = std::mem::take(&mut diary.pages);
                    let is_first = diary.members.is_empty();
                    diary.replace(pages, is_first);
                    diary.waits_for_list = false;
                    diary.say_early();
                }
            }
            Some("event") => {
                if let (Some(origin), Some(number)) =
                    (told["at"][0].as_str(), told["at"][1].as_str())
                {
                    self.raise_one(origin, number);
                }
                lock(&self.diary).said(&told, now_us);
            }
            Some("positions") => self.raise(&told["positions"]),
            Some("token") => self.memory.token = told["token"].as_str().map(str::to_owned),
            Some("refused") => lock(&self.diary).problem(format!("refused: {told}")),
            _ => {}
        }
    }

    fn note_close(&mut self, message: &Message) {
        if let Message::Close(Some(close)) = message {
            let code = u16::from(close.code);
            // Somebody else is this member now.
            if code == 4409 {
                self.memory.token = None;
            }
            if ![1001, 1012].contains(&code) {
                lock(&self.diary).problem(format!("closed with {code} {}", close.reason));
            }
        }
    }
}

/// Alias and position.
type Record = (u16, f32, f32);

/// Whether a frame tells where everybody was, and its records.
fn cursors(frame: &[u8]) -> Option<(bool, Vec<Record>)> {
    let (head, records) = frame.split_at_checked(8)?;
    if head[0] != CURSORS || records.len() % 12 != 0 {
        return None;
    }
    let float = |bytes: &[u8]| bytes.try_into().ok().map(f32::from_le_bytes);
    let records = records
        .chunks_exact(12)
        .map(|record| {
            let alias = u16::from_le_bytes([record[0], record[1]]);
            Some((alias, float(&record[4..8])?, float(&record[8..12])?))
        })
        .collect::<Option<_>>()?;
    Some((head[1] & FULL != 0, records))
}

fn lock(diary: &Mutex<Diary>) -> MutexGuard<'_, Diary> {
    diary.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn member(id: &str, alias: u16) -> Value {
        json!({"id": id, "alias": alias, "user": {"id": id.to_uppercase()}})
    }

    fn diary() -> Diary {
        let mut diary = Diary::default();
        let page = json!({"members": [member("a", 1), member("b", 2)]});
        diary.replace(vec![page], true);
        diary
    }

    #[test]
    fn the_clock_survives_its_way_as_a_position() {
        for us in [0u64, 1, 999_999, 1_000_000, 86_400_999_999] {
            let (x, y) = ((us / 1_000_000) as f32, (us % 1_000_000) as f32);
            assert_eq!(Clock::from_place(x, y), us);
        }
    }

    #[test]
    fn the_frame_of_the_document_is_read() {
        let bytes = [
            2, 0, 2, 0, 7, 0, 0, 0, 1, 0, 0xff, 0xff, 0, 0, 0xc0, 0x3f, 0, 0, 0, 0xc0, 1, 2, 0x28,
            0, 0, 0, 0x80, 0x3e, 0, 0x24, 0x74, 0x49,
        ];
        let (is_full, records) = cursors(&bytes).unwrap();
        assert!(!is_full);
        assert_eq!(records, [(1, 1.5, -2.0), (513, 0.25, 1_000_000.0)]);
        assert_eq!(cursors(&bytes[..31]), None);
    }

    #[test]
    fn a_position_counts_once_and_only_if_it_is_new() {
        let mut diary = diary();
        diary.moved(2, 1_000, 51_000, false);
        diary.moved(2, 1_000, 90_000, false);
        diary.moved(2, 900, 90_000, false);
        diary.moved(2, 2_000, 99_000, true);
        assert_eq!(diary.heard["B"].ages_us, [50_000]);
        diary.moved(3, 1, 1, false);
        assert_eq!(diary.problems, ["alias 3 stands for nobody"]);
    }

    #[test]
    fn a_new_list_tells_who_came_and_went_meanwhile() {
        let mut diary = diary();
        assert!(diary.told.is_empty());
        let page = json!({"members": [member("b", 5), member("c", 2)]});
        diary.replace(vec![page], false);
        let told: Vec<_> = diary
            .told
            .iter()
            .map(|t| (t.who.as_str(), t.came))
            .collect();
        assert_eq!(told, [("A", false), ("C", true)]);
        diary.change(
            &json!({"left": [{"id": "c", "reason": "node_lost"}], "joined": [member("d", 9)]}),
        );
        assert_eq!(diary.present(), BTreeSet::from(["B", "D"]));
        assert_eq!(diary.told.last().unwrap().reason, "node_lost");
    }

    #[test]
    fn what_is_said_before_its_speaker_is_listed_counts_once_that_is_known() {
        let mut diary = diary();
        diary.said(&json!({"from": "z", "data": {"n": 1, "t": 10}}), 20);
        assert_eq!((diary.outran, diary.heard.contains_key("Z")), (1, false));
        diary.change(&json!({"joined": [member("z", 9)]}));
        diary.say_early();
        assert_eq!((diary.outran, diary.heard["Z"].said.len()), (1, 1));
        assert!(diary.problems.is_empty());
    }

    #[test]
    fn what_is_said_twice_is_a_problem() {
        let mut diary = diary();
        let event = |n: u64| json!({"from": "a", "data": {"n": n, "t": 10}});
        for number in [1, 3, 3] {
            diary.said(&event(number), 20);
        }
        assert_eq!(diary.heard["A"].said, BTreeSet::from([1, 3]));
        assert_eq!(diary.problems, ["A said 3 after 3"]);
    }
}
