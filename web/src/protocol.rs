//! Browser protocol v1: what is said, as types and bytes. The twin of `web/client/src/protocol.ts`;
//! both are tested on the files in `web/protocol`.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write;

use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::cluster::{LeaveReason, NodeSummary};
use crate::demo::NESTING_MAX;
use crate::websocket::close::Close;

/// The subprotocol with binary cursor frames.
pub(crate) const BINARY: &str = "cursormesh.v1";
/// The subprotocol in which everything is JSON.
pub(crate) const JSON: &str = "cursormesh.v1.json";

/// The newest version of the protocol. A client says the newest that it speaks, and the node says which
/// of the two is the lesser: that is the version of the connection. Version 1 says nothing of versions.
pub(crate) const VERSION: u64 = 2;

/// Rooms that one connection may be in.
pub(crate) const ROOMS_MAX: usize = 32;
/// Bytes of a member's state, as the client writes it.
pub(crate) const STATE_BYTES_MAX: usize = 4096;
/// Bytes of a user's id, and of its name.
pub(crate) const USER_BYTES_MAX: usize = 256;
/// Bytes of a message that says an event.
pub(crate) const EVENT_BYTES_MAX: usize = 16 * 1024;
/// Bytes of an event's name.
pub(crate) const EVENT_NAME_BYTES_MAX: usize = 64;
/// Hues.
pub(crate) const COLORS: u16 = 360;
/// Origins that a client may name when it comes back; more are not looked at.
const SEEN_MAX: usize = 256;

// -------------------------------------------------------------------------------------------------
// From the client.

/// One message of a client.
#[derive(Debug)]
pub(crate) enum ClientMessage<'a> {
    /// The first one; with the version of the connection.
    Hello(u64),
    /// Asks for a sign of life.
    Ping(serde_json::Number),
    /// Joins a room.
    Join(Join<'a>),
    /// Changes the member.
    Update(Update<'a>),
    /// Leaves a room.
    Leave(Leave<'a>),
    /// Says an event.
    Event(SaidEvent<'a>),
    /// A position, in JSON.
    Cursor(SaidCursor<'a>),
}

/// Joins a room.
#[derive(Debug, Deserialize)]
pub(crate) struct Join<'a> {
    #[serde(borrow)]
    pub(crate) room: Cow<'a, str>,
    #[serde(borrow, default)]
    pub(crate) user: Option<PartialUser<'a>>,
    #[serde(borrow, default, deserialize_with = "given")]
    pub(crate) state: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(crate) resume: Option<Resume<'a>>,
}

/// Asks to be a member again.
#[derive(Debug, Deserialize)]
pub(crate) struct Resume<'a> {
    #[serde(borrow)]
    pub(crate) token: Cow<'a, str>,
    #[serde(borrow, default)]
    seen: BTreeMap<Cow<'a, str>, Cow<'a, str>>,
    #[serde(default)]
    pub(crate) away_ms: u64,
}

impl Resume<'_> {
    /// The last number seen of each origin; what is not a number is left out.
    pub(crate) fn seen(&self) -> Vec<(String, u64)> {
        self.seen
            .iter()
            .take(SEEN_MAX)
            .filter_map(|(origin, number)| Some((origin.to_string(), number.parse().ok()?)))
            .collect()
    }
}

/// A user, or what of it changes.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct PartialUser<'a> {
    #[serde(borrow, default)]
    pub(crate) id: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    pub(crate) name: Option<Cow<'a, str>>,
    #[serde(default)]
    pub(crate) color: Option<u16>,
}

/// Changes the member.
#[derive(Debug, Deserialize)]
pub(crate) struct Update<'a> {
    #[serde(borrow)]
    pub(crate) room: Cow<'a, str>,
    #[serde(borrow, default)]
    pub(crate) user: Option<PartialUser<'a>>,
    #[serde(borrow, default, deserialize_with = "given")]
    pub(crate) state: Option<&'a RawValue>,
}

/// Leaves a room.
#[derive(Debug, Deserialize)]
pub(crate) struct Leave<'a> {
    #[serde(borrow)]
    pub(crate) room: Cow<'a, str>,
}

/// Says an event.
#[derive(Debug, Deserialize)]
pub(crate) struct SaidEvent<'a> {
    #[serde(borrow)]
    pub(crate) room: Cow<'a, str>,
    #[serde(borrow)]
    pub(crate) name: Cow<'a, str>,
    #[serde(borrow, default, deserialize_with = "given")]
    pub(crate) data: Option<&'a RawValue>,
    #[serde(rename = "ref", default)]
    pub(crate) reference: Option<serde_json::Number>,
}

impl SaidEvent<'_> {
    /// What travels through the cluster, of a member in this epoch.
    pub(crate) fn payload(&self, epoch: u32) -> Bytes {
        let data = self.data.map_or("null", RawValue::get);
        let name = json(&self.name);
        format!("{EPOCH}{epoch},\"name\":{name},\"data\":{data}}}").into()
    }
}

/// A position, in JSON.
#[derive(Debug, Deserialize)]
pub(crate) struct SaidCursor<'a> {
    #[serde(borrow)]
    pub(crate) room: Cow<'a, str>,
    #[serde(default)]
    t: u64,
    x: f64,
    y: f64,
}

impl SaidCursor<'_> {
    /// As a record of a binary frame; `None` if a coordinate is not a finite `f32`.
    pub(crate) fn sample(&self) -> Option<Sample> {
        Sample::new(self.t as u16, self.x as f32, self.y as f32)
    }
}

/// A field that is there, `null` included.
fn given<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

/// Reads one text message. The error closes the connection with code 4400.
pub(crate) fn parse(text: &[u8]) -> Result<ClientMessage<'_>, Close> {
    #[derive(Deserialize)]
    struct Head<'a> {
        #[serde(rename = "type", borrow)]
        kind: Cow<'a, str>,
    }
    fn fields<'a, T: Deserialize<'a>>(text: &'a [u8]) -> Result<T, Close> {
        serde_json::from_slice(text)
            .map_err(|_| Close::bad_message("a field is missing or of the wrong kind"))
    }
    if is_too_deep(text) {
        return Err(Close::bad_message("nested too deep"));
    }
    let head: Head<'_> = serde_json::from_slice(text)
        .map_err(|_| Close::bad_message("not a JSON object with a type"))?;
    Ok(match head.kind.as_ref() {
        "hello" => {
            #[derive(Deserialize)]
            struct Hello<'a> {
                #[serde(borrow, default)]
                protocol: Option<&'a RawValue>,
            }
            // To version 1 the field is one that it does not know: whatever is in it is no error.
            let said = fields::<Hello<'_>>(text)?.protocol;
            let newest = said.and_then(|said| said.get().parse().ok());
            ClientMessage::Hello(newest.unwrap_or(1).clamp(1, VERSION))
        }
        "ping" => {
            #[derive(Deserialize)]
            struct Ping {
                t: serde_json::Number,
            }
            ClientMessage::Ping(fields::<Ping>(text)?.t)
        }
        "join" => ClientMessage::Join(fields(text)?),
        "update" => ClientMessage::Update(fields(text)?),
        "leave" => ClientMessage::Leave(fields(text)?),
        "event" => ClientMessage::Event(fields(text)?),
        "cursor" => ClientMessage::Cursor(fields(text)?),
        _ => return Err(Close::bad_message("unknown type")),
    })
}

/// Whether objects and arrays nest more than [`NESTING_MAX`] deep: what is passed on has to be
/// readable for everyone.
fn is_too_deep(text: &[u8]) -> bool {
    let (mut depth, mut in_string, mut escaped) = (0u32, false, false);
    for byte in text {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => {
                depth += 1;
                if depth > NESTING_MAX {
                    return true;
                }
            }
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}

// -------------------------------------------------------------------------------------------------
// To the client.

/// The answer to hello.
#[derive(Debug, Serialize)]
pub(crate) struct Welcome {
    pub(crate) connection: Uuid,
    /// The version of the connection; left out in version 1.
    #[serde(skip_serializing_if = "is_first_version")]
    pub(crate) protocol: u64,
    pub(crate) node: String,
    pub(crate) region: String,
    pub(crate) ping_ms: u128,
    pub(crate) dead_ms: u128,
    pub(crate) nodes: Vec<NodeSummary>,
    pub(crate) limits: Limits,
}

// Serde asks by reference.
#[allow(clippy::trivially_copy_pass_by_ref)]
const fn is_first_version(version: &u64) -> bool {
    *version == 1
}

/// What a client may send.
#[derive(Debug, Serialize)]
pub(crate) struct Limits {
    pub(crate) rooms: usize,
    pub(crate) state_bytes: usize,
    pub(crate) event_bytes: usize,
    pub(crate) message_bytes: usize,
}

/// How a join came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    /// A new member; nothing was asked for.
    New,
    /// The same member, and nothing was missed.
    Recovered,
    /// Not so, for this reason.
    Rebuilt,
}

/// Why a member could not be recovered as it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Rebuilt {
    /// It had left; it joined anew under its id.
    TooLate,
    /// The token ended; a new member.
    TokenExpired,
    /// The token is none, or another room's; a new member.
    TokenInvalid,
    /// The token belongs to somebody else; a new member.
    TokenWrongSubject,
    /// The same member, but events that it missed could not be had.
    EventsLost,
}

/// The answer to a join.
#[derive(Debug, Serialize)]
pub(crate) struct Joined<'a> {
    pub(crate) room: &'a str,
    pub(crate) number: u32,
    #[serde(rename = "self")]
    pub(crate) me: &'a RawValue,
    pub(crate) token: String,
    pub(crate) token_ms: u128,
    pub(crate) outcome: Outcome,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<Rebuilt>,
    pub(crate) positions: BTreeMap<&'a str, String>,
}

/// A problem of one room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ErrorCode {
    /// The room's name.
    BadRoom,
    /// The connection is in as many rooms as it may be.
    TooManyRooms,
    /// The user or the state.
    BadState,
    /// It is in the room already.
    AlreadyJoined,
    /// It is not in the room.
    NotJoined,
}

/// Why an event was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Refused {
    /// The message, or the event's name.
    TooBig,
    /// The connection is not in the room.
    NotJoined,
    /// A link to another node is slow, and the event did not get there.
    SlowLink,
}

/// `{"type":"welcome",…}`.
pub(crate) fn welcome(welcome: &Welcome) -> String {
    tagged("welcome", welcome)
}

/// `{"type":"pong",…}`.
pub(crate) fn pong(t: &serde_json::Number, time_ms: u64) -> String {
    format!("{{\"type\":\"pong\",\"t\":{t},\"time\":{time_ms}}}")
}

/// `{"type":"joined",…}`.
pub(crate) fn joined(joined: &Joined<'_>) -> String {
    tagged("joined", joined)
}

/// `{"type":"left",…}`: the connection is no longer in the room.
pub(crate) fn left(room: &str, reason: LeaveReason) -> String {
    format!(
        "{{\"type\":\"left\",\"room\":{},\"reason\":{}}}",
        json(room),
        json(&reason)
    )
}

/// `{"type":"token",…}`.
pub(crate) fn token(room: &str, token: &str) -> String {
    format!(
        "{{\"type\":\"token\",\"room\":{},\"token\":{}}}",
        json(room),
        json(token)
    )
}

/// `{"type":"positions",…}`: where the events of an origin begin, learnt after the join.
pub(crate) fn positions(room: &str, origin: &str, number: u64) -> String {
    format!(
        "{{\"type\":\"positions\",\"room\":{},\"positions\":{{{}:\"{number}\"}}}}",
        json(room),
        json(origin)
    )
}

/// `{"type":"pressure",…}`.
pub(crate) fn pressure(room: &str, interval_ms: u64) -> String {
    format!(
        "{{\"type\":\"pressure\",\"room\":{},\"interval_ms\":{interval_ms}}}",
        json(room)
    )
}

/// `{"type":"refused",…}`.
pub(crate) fn refused(
    room: &str,
    reference: Option<&serde_json::Number>,
    reason: Refused,
) -> String {
    let mut text = format!("{{\"type\":\"refused\",\"room\":{}", json(room));
    if let Some(reference) = reference {
        append(&mut text, format_args!(",\"ref\":{reference}"));
    }
    append(&mut text, format_args!(",\"reason\":{}}}", json(&reason)));
    text
}

/// `{"type":"error",…}`.
pub(crate) fn error(room: &str, code: ErrorCode, message: &str, retry: bool) -> String {
    format!(
        "{{\"type\":\"error\",\"room\":{},\"code\":{},\"message\":{},\"retry\":{retry}}}",
        json(room),
        json(&code),
        json(message)
    )
}

/// How the payload of an event begins; the number of its sender's epoch follows.
const EPOCH: &str = "{\"epoch\":";

/// The epoch in which an event's sender said it; 0 if the payload does not say.
pub(crate) fn epoch_of(payload: &[u8]) -> u32 {
    split_epoch(payload).map_or(0, |(epoch, _)| epoch)
}

/// The epoch in a payload, and the other fields.
fn split_epoch(payload: &[u8]) -> Option<(u32, &str)> {
    let text = std::str::from_utf8(payload).ok()?;
    let fields = text.strip_prefix(EPOCH)?.strip_suffix('}')?;
    let (epoch, fields) = fields.split_once(',')?;
    Some((epoch.parse().ok()?, fields))
}

/// `{"type":"event",…}`; `payload` is `{"epoch":…,"name":…,"data":…}`. `None` if it is not.
pub(crate) fn event(
    room: &str,
    from: Uuid,
    payload: &[u8],
    origin: &str,
    number: u64,
) -> Option<String> {
    let (_, fields) = split_epoch(payload)?;
    Some(format!(
        "{{\"type\":\"event\",\"room\":{},\"from\":\"{from}\",{fields},\"at\":[{},\"{number}\"]}}",
        json(room),
        json(origin)
    ))
}

/// One page of a snapshot; `members` are JSON objects, separated by commas.
pub(crate) fn snapshot(
    room: &str,
    version: u64,
    members: &str,
    more: bool,
    unlisted: usize,
) -> String {
    let mut text = format!(
        "{{\"type\":\"snapshot\",\"room\":{},\"version\":\"{version}\",\"members\":[{members}],\"more\":{more}",
        json(room)
    );
    if unlisted > 0 {
        append(&mut text, format_args!(",\"unlisted\":{unlisted}"));
    }
    text.push('}');
    text
}

/// What changed in a room; the lists are JSON objects, separated by commas.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    pub(crate) joined: String,
    pub(crate) updated: String,
    pub(crate) left: String,
}

impl Changes {
    /// Adds a member's JSON to a list.
    pub(crate) fn add(list: &mut String, object: &str) {
        if !list.is_empty() {
            list.push(',');
        }
        list.push_str(object);
    }

    /// Adds a member that left.
    pub(crate) fn add_left(&mut self, member: Uuid, reason: LeaveReason) {
        let object = format!("{{\"id\":\"{member}\",\"reason\":{}}}", json(&reason));
        Self::add(&mut self.left, &object);
    }

    /// `{"type":"presence",…}`.
    pub(crate) fn presence(&self, room: &str, version: u64, unlisted: Option<usize>) -> String {
        let mut text = format!(
            "{{\"type\":\"presence\",\"room\":{},\"version\":\"{version}\"",
            json(room)
        );
        let lists = [
            ("joined", &self.joined),
            ("updated", &self.updated),
            ("left", &self.left),
        ];
        for (name, list) in lists.into_iter().filter(|(_, list)| !list.is_empty()) {
            append(&mut text, format_args!(",\"{name}\":[{list}]"));
        }
        if let Some(unlisted) = unlisted {
            append(&mut text, format_args!(",\"unlisted\":{unlisted}"));
        }
        text.push('}');
        text
    }
}

fn tagged(kind: &str, fields: &impl Serialize) -> String {
    // An object always begins with a brace, and these have fields.
    let object = json(fields);
    format!("{{\"type\":\"{kind}\",{}", &object[1..])
}

fn json<T: Serialize + ?Sized>(value: &T) -> String {
    // Nothing that is said here can fail to be JSON: no maps with other keys than text.
    serde_json::to_string(value).unwrap_or_else(|_| "{}".to_owned())
}

fn append(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = text.write_fmt(arguments);
}

// -------------------------------------------------------------------------------------------------
// Cursors.

const FROM_CLIENT: u8 = 1;
const FROM_SERVER: u8 = 2;
const FULL: u8 = 1;
const HEADER_BYTES: usize = 8;
const SAMPLE_BYTES: usize = 10;

/// A position of the client's own cursor.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Sample {
    /// The client's clock in milliseconds, modulo 2^16.
    pub(crate) time_ms: u16,
    /// Finite.
    pub(crate) x: f32,
    /// Finite.
    pub(crate) y: f32,
}

impl Sample {
    /// A position, if its coordinates are finite.
    pub(crate) fn new(time_ms: u16, x: f32, y: f32) -> Option<Self> {
        (x.is_finite() && y.is_finite()).then_some(Self { time_ms, x, y })
    }
}

/// Why a binary frame is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FrameError {
    /// Another kind: the connection closes with code 4400.
    Kind,
    /// Its length does not fit: it is dropped.
    Length,
}

/// Reads a client's cursor frame: the room's number, and the newest of the positions that can be
/// used, if any.
pub(crate) fn decode_samples(frame: &[u8]) -> Result<(u32, Option<Sample>), FrameError> {
    match frame.first() {
        Some(&FROM_CLIENT) => {}
        Some(_) => return Err(FrameError::Kind),
        None => return Err(FrameError::Length),
    }
    let (header, records) = frame
        .split_first_chunk::<HEADER_BYTES>()
        .ok_or(FrameError::Length)?;
    let [_, _, count_low, count_high, number @ ..] = *header;
    let count = usize::from(u16::from_le_bytes([count_low, count_high]));
    if records.len() != count * SAMPLE_BYTES {
        return Err(FrameError::Length);
    }
    let newest = records.chunks_exact(SAMPLE_BYTES).rev().find_map(|record| {
        let (time, rest) = record.split_first_chunk::<2>()?;
        let (x, rest) = rest.split_first_chunk::<4>()?;
        let (y, _) = rest.split_first_chunk::<4>()?;
        let (x, y) = (f32::from_le_bytes(*x), f32::from_le_bytes(*y));
        Sample::new(u16::from_le_bytes(*time), x, y)
    });
    Ok((u32::from_le_bytes(number), newest))
}

/// A member's position as a frame has it: its alias and where it is.
pub(crate) type Placed = (u16, Sample);

/// A binary cursor frame for clients: at most 65,535 records.
pub(crate) fn encode_cursors(number: u32, full: bool, records: &[Placed]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(HEADER_BYTES + records.len() * (SAMPLE_BYTES + 2));
    frame.extend_from_slice(&[FROM_SERVER, if full { FULL } else { 0 }]);
    frame.extend_from_slice(&(records.len() as u16).to_le_bytes());
    frame.extend_from_slice(&number.to_le_bytes());
    for (alias, sample) in records {
        frame.extend_from_slice(&alias.to_le_bytes());
        frame.extend_from_slice(&sample.time_ms.to_le_bytes());
        frame.extend_from_slice(&sample.x.to_le_bytes());
        frame.extend_from_slice(&sample.y.to_le_bytes());
    }
    frame
}

/// The same in JSON.
pub(crate) fn cursors(room: &str, records: &[Placed]) -> String {
    let mut text = format!("{{\"type\":\"cursors\",\"room\":{},\"c\":[", json(room));
    for (index, (alias, Sample { time_ms, x, y })) in records.iter().enumerate() {
        let comma = if index == 0 { "" } else { "," };
        append(
            &mut text,
            format_args!("{comma}[{alias},{time_ms},{x},{y}]"),
        );
    }
    text.push_str("]}");
    text
}

#[cfg(test)]
#[path = "protocol/tests.rs"]
mod tests;
