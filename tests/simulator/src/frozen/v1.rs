//! What version 1 of the mesh protocol says on the wire, written by hand from `docs/mesh-protocol.md`.
//!
//! Frozen: this file is never changed, and is deleted when version 1 is no longer spoken. It shares
//! nothing with the codec in use, neither types nor serde nor postcard, so that no change there can
//! change both; and it stands beside the simulator, which holds nodes of version 1 to it, rather than
//! in the mesh, which never runs it. It takes what version 1 takes and not a byte more, SWIM's packets
//! included; the names of fields are those of the document.
#![allow(missing_docs)]

/// Why bytes are not of version 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused(pub &'static str);

type Result<T> = std::result::Result<T, Refused>;

/// Bytes that are read from the front.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn bytes(&mut self, count: usize) -> Result<&'a [u8]> {
        if count > self.0.len() {
            return Err(Refused("too short"));
        }
        let (bytes, rest) = self.0.split_at(count);
        self.0 = rest;
        Ok(bytes)
    }

    fn byte(&mut self) -> Result<u8> {
        Ok(self.bytes(1)?[0])
    }

    /// Seven bits to a byte, the lowest first; bit 7 says that more follow.
    fn varint(&mut self, bits: u32) -> Result<u64> {
        let mut value = 0_u128;
        for shift in (0..bits).step_by(7) {
            let byte = self.byte()?;
            value |= u128::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                let fits = value >> bits == 0;
                let value = u64::try_from(value).map_err(|_| Refused("varint"))?;
                return if fits {
                    Ok(value)
                } else {
                    Err(Refused("varint"))
                };
            }
        }
        Err(Refused("varint"))
    }

    fn length(&mut self) -> Result<usize> {
        usize::try_from(self.varint(64)?).map_err(|_| Refused("length"))
    }
}

fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(u8::try_from(value & 0x7f).unwrap_or_default() | 0x80);
        value >>= 7;
    }
    out.push(u8::try_from(value).unwrap_or_default());
}

/// A value as it stands in a body.
trait Field: Sized {
    fn get(from: &mut Reader<'_>) -> Result<Self>;
    fn put(&self, out: &mut Vec<u8>);
}

macro_rules! integers {
    ($($type:ty: $bits:literal),*) => {$(
        impl Field for $type {
            fn get(from: &mut Reader<'_>) -> Result<Self> {
                Self::try_from(from.varint($bits)?).map_err(|_| Refused("integer"))
            }
            fn put(&self, out: &mut Vec<u8>) {
                varint(u64::from(*self), out);
            }
        }
    )*};
}
integers!(u16: 16, u32: 32, u64: 64);

impl Field for u8 {
    fn get(from: &mut Reader<'_>) -> Result<Self> {
        from.byte()
    }
    fn put(&self, out: &mut Vec<u8>) {
        out.push(*self);
    }
}

impl Field for bool {
    fn get(from: &mut Reader<'_>) -> Result<Self> {
        match from.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Refused("bool")),
        }
    }
    fn put(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }
}

/// A 32-bit float, by its bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Float(pub u32);

impl Field for Float {
    fn get(from: &mut Reader<'_>) -> Result<Self> {
        let bytes = from.bytes(4)?;
        Ok(Self(u32::from_le_bytes([
            bytes[0], bytes[1], bytes[2], bytes[3],
        ])))
    }
    fn put(&self, out: &mut Vec<u8>) {
        out.extend(self.0.to_le_bytes());
    }
}

impl Field for String {
    fn get(from: &mut Reader<'_>) -> Result<Self> {
        let length = from.length()?;
        let text = std::str::from_utf8(from.bytes(length)?);
        Ok(text.map_err(|_| Refused("text"))?.to_owned())
    }
    fn put(&self, out: &mut Vec<u8>) {
        varint(self.len() as u64, out);
        out.extend(self.as_bytes());
    }
}

/// A byte string.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text(pub Vec<u8>);

impl Field for Text {
    fn get(from: &mut Reader<'_>) -> Result<Self> {
        let length = from.length()?;
        Ok(Self(from.bytes(length)?.to_vec()))
    }
    fn put(&self, out: &mut Vec<u8>) {
        varint(self.0.len() as u64, out);
        out.extend(&self.0);
    }
}

impl<T: Field> Field for Vec<T> {
    fn get(from: &mut Reader<'_>) -> Result<Self> {
        let length = from.length()?;
        let mut items = Self::new();
        for _ in 0..length {
            items.push(T::get(from)?);
        }
        Ok(items)
    }
    fn put(&self, out: &mut Vec<u8>) {
        varint(self.len() as u64, out);
        self.iter().for_each(|item| item.put(out));
    }
}

impl<A: Field, B: Field> Field for (A, B) {
    fn get(from: &mut Reader<'_>) -> Result<Self> {
        Ok((A::get(from)?, B::get(from)?))
    }
    fn put(&self, out: &mut Vec<u8>) {
        self.0.put(out);
        self.1.put(out);
    }
}

/// A DNS label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node(pub String);

impl Field for Node {
    fn get(from: &mut Reader<'_>) -> Result<Self> {
        let name = String::get(from)?;
        let letters = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        let fits = (1..=63).contains(&name.len())
            && name.bytes().all(letters)
            && !name.starts_with('-')
            && !name.ends_with('-');
        if fits {
            Ok(Self(name))
        } else {
            Err(Refused("node"))
        }
    }
    fn put(&self, out: &mut Vec<u8>) {
        self.0.put(out);
    }
}

/// A room's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Room(pub String);

impl Field for Room {
    fn get(from: &mut Reader<'_>) -> Result<Self> {
        let name = String::get(from)?;
        if (1..=200).contains(&name.len()) && !name.chars().any(char::is_control) {
            Ok(Self(name))
        } else {
            Err(Refused("room"))
        }
    }
    fn put(&self, out: &mut Vec<u8>) {
        self.0.put(out);
    }
}

/// The 16 bytes of a UUID.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member(pub [u8; 16]);

impl Field for Member {
    fn get(from: &mut Reader<'_>) -> Result<Self> {
        let mut id = [0; 16];
        id.copy_from_slice(from.bytes(16)?);
        Ok(Self(id))
    }
    fn put(&self, out: &mut Vec<u8>) {
        out.extend(self.0);
    }
}

/// A socket address: four or sixteen bytes, and the port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    pub ip: Vec<u8>,
    pub port: u16,
}

impl Field for Address {
    fn get(from: &mut Reader<'_>) -> Result<Self> {
        let bytes = match from.varint(32)? {
            0 => 4,
            1 => 16,
            _ => return Err(Refused("address")),
        };
        Ok(Self {
            ip: from.bytes(bytes)?.to_vec(),
            port: u16::get(from)?,
        })
    }
    fn put(&self, out: &mut Vec<u8>) {
        out.push(u8::from(self.ip.len() == 16));
        out.extend(&self.ip);
        self.port.put(out);
    }
}

/// Structures: their fields in the order given.
macro_rules! structures {
    ($($name:ident { $($field:ident: $type:ty),* $(,)? })*) => {$(
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct $name { $(pub $field: $type),* }
        impl Field for $name {
            fn get(from: &mut Reader<'_>) -> Result<Self> {
                Ok(Self { $($field: <$type>::get(from)?),* })
            }
            fn put(&self, out: &mut Vec<u8>) {
                $(self.$field.put(out);)*
            }
        }
    )*};
}

/// Choices: an index, then the fields of that choice.
macro_rules! choices {
    ($($name:ident { $($index:literal $choice:ident { $($field:ident: $type:ty),* }),* $(,)? })*) => {$(
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub enum $name { $($choice { $($field: $type),* }),* }
        impl Field for $name {
            fn get(from: &mut Reader<'_>) -> Result<Self> {
                match from.varint(32)? {
                    $($index => Ok(Self::$choice { $($field: <$type>::get(from)?),* }),)*
                    _ => Err(Refused(stringify!($name))),
                }
            }
            fn put(&self, out: &mut Vec<u8>) {
                match self {
                    $(Self::$choice { $($field),* } => {
                        varint($index, out);
                        $($field.put(out);)*
                    })*
                }
            }
        }
    )*};
}

structures! {
    Owner { node: Node, boot: u64 }
    Hello {
        version: u16, version_oldest: u16, cluster: String, node: Node, boot: u64, bump: u32,
        region: String, advertise: Address, capabilities: u64, your_boot: u64,
    }
    User { id: String, name: String, color: u16 }
    Row {
        member: Member, epoch: u32, room: Room, user: User, state: Text, joined_at: u64, away: bool,
        resumable: bool, handle: u32,
    }
    Delta { owner: Owner, from: u64, to: u64, ops: Vec<Op> }
    DigestEntry { owner: Owner, applied: u64, heartbeat: u64, age_ms: u32 }
    Digest { entries: Vec<DigestEntry>, reply: bool }
    Pull { owner: Owner, have: u64 }
    Snapshot { owner: Owner, at: u64, part: u32, parts: u32, entries: Vec<Op> }
    Message { sender: Member, kind: MessageKind, payload: Text }
    Messages {
        origin: Owner, room: Room, base: u64, to: u64, lost: u64, ticket: u64, known: u64,
        items: Vec<(u64, Message)>,
    }
    MessagePull { origin: Owner, room: Room, from: u64, to: u64, ticket: u64 }
    Relay { origin: Owner, left: u8, to: Vec<Node>, inner: Text }
    Bye { boot: u64, linger_ms: u32 }
    Liveness { owner: Owner, heartbeat: u64, age_ms: u32 }
    Record { handle: u32, epoch: u32, seq: u32, time_ms: u16, x: Float, y: Float }
    Cursors { boot: u64, records: Vec<Record> }
    SwimId { node: Node, boot: u64, bump: u32, address: Address }
    SwimMember { id: SwimId, incarnation: u16, state: SwimState }
    SwimHeader { from: SwimId, incarnation: u16, to: SwimId, message: SwimMessage }
}

choices! {
    Reason { 0 Closed {}, 1 TimedOut {}, 2 NodeLost {}, 3 Kicked {}, 4 Superseded {} }
    MessageKind { 0 Tutorial {}, 1 Event {} }
    Op {
        0 Put { row: Row },
        1 Leave { member: Member, reason: Reason, after: u64 },
        2 Moved { member: Member, room: Room, epoch: u32, to: Node },
        3 Gone { member: Member, room: Room, epoch: u32, reason: Reason, after: u64 },
        4 Watch { room: Room },
        5 Unwatch { room: Room },
        6 About { region: String, advertise: Address, links: Vec<(Node, u32)> },
    }
    SwimState { 0 Alive {}, 1 Suspect {}, 2 Down {} }
    SwimMessage {
        0 Ping { number: u8 },
        1 Ack { number: u8 },
        2 PingReq { target: SwimId, number: u8 },
        3 IndirectPing { origin: SwimId, number: u8 },
        4 IndirectAck { target: SwimId, number: u8 },
        5 ForwardedAck { origin: SwimId, number: u8 },
        6 Announce {},
        7 Feed {},
        8 Gossip {},
        9 Broadcast {},
        10 TurnUndead {},
    }
}

/// What travels on ordered lanes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    Hello(Hello),
    Members(Vec<SwimMember>),
    Delta(Delta),
    Digest(Digest),
    Pull(Pull),
    Snapshot(Snapshot),
    Messages(Messages),
    MessagePull(MessagePull),
    Relay(Relay),
    Bye(Bye),
}

/// What travels as datagrams.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Datagram {
    Swim(Swim),
    Liveness(Vec<Liveness>),
    Cursors(Cursors),
    Relay(Relay),
}

/// A packet of SWIM: a header, and mostly updates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Swim {
    pub header: SwimHeader,
    pub updates: Option<Vec<SwimMember>>,
}

/// A whole body: nothing may follow.
fn whole<T: Field>(body: &[u8]) -> Result<T> {
    let mut reader = Reader(body);
    let value = T::get(&mut reader)?;
    if reader.0.is_empty() {
        Ok(value)
    } else {
        Err(Refused("bytes too many"))
    }
}

fn bytes_of<T: Field>(kind: u8, body: &T) -> Vec<u8> {
    let mut out = vec![kind];
    body.put(&mut out);
    out
}

fn within(size: usize, max: usize, what: &'static str) -> Result<()> {
    if size <= max {
        Ok(())
    } else {
        Err(Refused(what))
    }
}

impl Frame {
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let (&kind, body) = bytes.split_first().ok_or(Refused("empty"))?;
        let (frame, lane_max) = match kind {
            1 => (Self::Hello(whole(body)?), 64),
            2 => (Self::Members(whole(&whole::<Text>(body)?.0)?), 64),
            3 => (Self::Delta(whole(body)?), 64),
            4 => (Self::Digest(whole(body)?), 64),
            5 => (Self::Pull(whole(body)?), 64),
            6 => (Self::Snapshot(whole(body)?), 320),
            7 => (Self::Messages(whole(body)?), 192),
            8 => (Self::MessagePull(whole(body)?), 192),
            9 => (Self::Relay(whole(body)?), 192),
            10 => (Self::Bye(whole(body)?), 64),
            _ => return Err(Refused("unknown kind of frame")),
        };
        within(bytes.len(), lane_max * 1024, "frame")?;
        frame.check()?;
        Ok(frame)
    }

    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Hello(body) => bytes_of(1, body),
            Self::Members(members) => {
                let mut bytes = Vec::new();
                members.put(&mut bytes);
                bytes_of(2, &Text(bytes))
            }
            Self::Delta(body) => bytes_of(3, body),
            Self::Digest(body) => bytes_of(4, body),
            Self::Pull(body) => bytes_of(5, body),
            Self::Snapshot(body) => bytes_of(6, body),
            Self::Messages(body) => bytes_of(7, body),
            Self::MessagePull(body) => bytes_of(8, body),
            Self::Relay(body) => bytes_of(9, body),
            Self::Bye(body) => bytes_of(10, body),
        }
    }

    fn check(&self) -> Result<()> {
        match self {
            Self::Hello(hello) => {
                within(hello.cluster.len(), 63, "cluster")?;
                within(hello.region.len(), 63, "region")
            }
            Self::Delta(delta) => {
                if delta.to.checked_sub(delta.from) != Some(delta.ops.len() as u64) {
                    return Err(Refused("delta range"));
                }
                delta.ops.iter().try_for_each(Op::check)
            }
            Self::Digest(digest) => within(digest.entries.len(), 4_096, "digest"),
            Self::Snapshot(snapshot) => {
                if snapshot.part >= snapshot.parts {
                    return Err(Refused("snapshot part"));
                }
                within(snapshot.parts as usize, 5_120, "snapshot parts")?;
                snapshot.entries.iter().try_for_each(Op::check)
            }
            Self::Messages(messages) => {
                let mut last = messages.base;
                for (number, message) in &messages.items {
                    within(message.payload.0.len(), 128 * 1024 + 256, "payload")?;
                    if *number <= last {
                        return Err(Refused("message numbers"));
                    }
                    last = *number;
                }
                if last <= messages.to {
                    Ok(())
                } else {
                    Err(Refused("message numbers"))
                }
            }
            Self::MessagePull(pull) if pull.from > pull.to => Err(Refused("message numbers")),
            Self::Relay(relay) => {
                relay.check()?;
                // Nothing but Delta, Digest, Messages and MessagePull is opened by the target.
                match relay.inner.0.first() {
                    Some(3 | 4 | 7 | 8) => Self::decode(&relay.inner.0).map(drop),
                    _ => Err(Refused("relayed kind of frame")),
                }
            }
            Self::Members(_) | Self::Pull(_) | Self::MessagePull(_) | Self::Bye(_) => Ok(()),
        }
    }
}

impl Relay {
    fn check(&self) -> Result<()> {
        within(self.to.len(), 1_000, "relay targets")?;
        within(usize::from(self.left), 1, "relay hops")
    }
}

impl Op {
    fn check(&self) -> Result<()> {
        match self {
            Self::Put { row } => {
                within(row.state.0.len(), 4_096, "state")?;
                within(row.user.id.len(), 256, "user id")?;
                within(row.user.name.len(), 256, "user name")
            }
            Self::About { region, links, .. } => {
                within(region.len(), 63, "region")?;
                within(links.len(), 2_000, "links")
            }
            _ => Ok(()),
        }
    }
}

impl Datagram {
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let (&kind, body) = bytes.split_first().ok_or(Refused("empty"))?;
        within(bytes.len(), 1_162, "datagram")?;
        match kind {
            32 => {
                within(body.len(), 1_120, "SWIM packet")?;
                Ok(Self::Swim(Swim::decode(body)?))
            }
            33 => Ok(Self::Liveness(whole(body)?)),
            34 => Ok(Self::Cursors(whole(body)?)),
            35 => {
                let relay: Relay = whole(body)?;
                relay.check()?;
                match relay.inner.0.first() {
                    Some(34) => Self::decode(&relay.inner.0).map(|_| Self::Relay(relay)),
                    _ => Err(Refused("relayed kind of datagram")),
                }
            }
            _ => Err(Refused("unknown kind of datagram")),
        }
    }

    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Swim(swim) => {
                let mut out = bytes_of(32, &swim.header);
                if let Some(updates) = &swim.updates {
                    let count = u16::try_from(updates.len()).unwrap_or_default();
                    out.extend(count.to_be_bytes());
                    updates.iter().for_each(|member| member.put(&mut out));
                }
                out
            }
            Self::Liveness(entries) => bytes_of(33, entries),
            Self::Cursors(cursors) => bytes_of(34, cursors),
            Self::Relay(relay) => bytes_of(35, relay),
        }
    }
}

impl Swim {
    fn decode(body: &[u8]) -> Result<Self> {
        let mut reader = Reader(body);
        let header = SwimHeader::get(&mut reader)?;
        if reader.0.is_empty() {
            return Ok(Self {
                header,
                updates: None,
            });
        }
        let count = reader.bytes(2)?;
        let mut updates = Vec::new();
        for _ in 0..u16::from_be_bytes([count[0], count[1]]) {
            updates.push(SwimMember::get(&mut reader)?);
        }
        within(reader.0.len(), 0, "SWIM packet")?;
        Ok(Self {
            header,
            updates: Some(updates),
        })
    }
}
