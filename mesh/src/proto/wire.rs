//! The bytes between nodes: one kind byte, then the body in postcard.
//!
//! A frame's kind decides its body; bit 7 of the kind says that a node that does not know the kind
//! may skip the frame, otherwise it closes the link. Bodies are exact: a byte too many or too few is
//! an error. Sizes are bounded by the driver before a frame gets here ([`frame_bytes_max`]); counts
//! inside a frame are bounded by its size.
//!
//! A kind's body never changes. What a version adds is a kind of its own, and [`since`] says from
//! which version on it is there: so a link's version decides which kinds may go over it, and the
//! kind decides the rest.

use std::fmt;
use std::net::SocketAddr;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::Lane;
use super::event::{LeaveReason, Message, Row};
use super::identity::{Boot, MemberId, NodeName, RoomName};

/// The newest protocol version that this code speaks.
pub const VERSION: u16 = 2;
/// The oldest one: the version before, so that a cluster can be upgraded node by node.
pub const VERSION_OLDEST: u16 = 1;

/// Since which version a kind of frame or datagram is there: the place to say that a new one needs
/// the newest version.
const fn since(kind: u8) -> u16 {
    match kind {
        PUBLIC => 2,
        _ => 1,
    }
}

/// The protocol versions that a node speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Versions {
    /// The oldest.
    pub oldest: u16,
    /// The newest.
    pub newest: u16,
}

impl Default for Versions {
    /// All that this code speaks.
    fn default() -> Self {
        Self {
            oldest: VERSION_OLDEST,
            newest: VERSION,
        }
    }
}

impl Versions {
    /// The newest version that both speak.
    pub fn shared(self, other: Self) -> Option<u16> {
        let newest = self.newest.min(other.newest);
        (newest >= self.oldest.max(other.oldest)).then_some(newest)
    }
}

impl fmt::Display for Versions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {}", self.oldest, self.newest)
    }
}

/// The largest datagram the core makes for its own use, so that a relay can wrap it (protocol §2).
pub const DATAGRAM_BYTES_MAX: usize = 1_100;
/// The largest datagram with a relay's wrapping.
pub const DATAGRAM_WRAPPED_BYTES_MAX: usize = 1_162;
/// Membership packets: below the smallest datagram a QUIC path carries, at 1,200-byte packets.
pub const SWIM_BYTES_MAX: usize = 1_120;

/// Rows one owner may have.
pub const ROWS_PER_OWNER_MAX: usize = 200_000;
/// Rooms one owner may be interested in.
pub const ROOMS_PER_OWNER_MAX: usize = 200_000;
/// Bytes of one member's state.
pub const STATE_BYTES_MAX: usize = 4_096;
/// Bytes of a user's id or name.
pub const USER_BYTES_MAX: usize = 256;
/// Bytes of a region's name.
pub const REGION_BYTES_MAX: usize = 63;
/// Bytes of what a node wants told to its users.
pub const PUBLIC_BYTES_MAX: usize = 512;

/// The largest frame on a lane, in bytes, without the length prefix.
pub const fn frame_bytes_max(lane: Lane) -> usize {
    match lane {
        Lane::Presence => 64 * 1024,
        Lane::Messages => 192 * 1024,
        Lane::Bulk => 320 * 1024,
    }
}

/// Why bytes were not understood. Nothing was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// There are no bytes.
    #[error("empty frame")]
    Empty,
    /// The kind is unknown and may not be skipped.
    #[error("unknown frame kind {0:#04x}")]
    UnknownKind(u8),
    /// The kind is unknown, but marked as one that may be skipped.
    #[error("unknown frame kind {0:#04x}, to be skipped")]
    Skip(u8),
    /// The body is not what its kind says.
    #[error("malformed body of frame kind {0:#04x}")]
    Body(u8),
    /// A field is larger than its limit.
    #[error("{0} is larger than its limit")]
    Limit(&'static str),
}

/// A node in one of its lives: the single writer of one log.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct OwnerId {
    /// The node.
    pub node: NodeName,
    /// Its boot.
    pub boot: Boot,
}

/// First frame on a connection, both ways. Its kind and its first two fields never change, and
/// further fields are only ever appended: whoever gets the Hello of a newer version than its own reads
/// the fields that it knows. A node of version 1 takes no byte more than these, so what version 2 has
/// to say besides follows in a frame of its own, [`Frame::Public`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Newest protocol version spoken.
    pub version: u16,
    /// Oldest protocol version spoken.
    pub version_oldest: u16,
    /// The cluster's name.
    pub cluster: String,
    /// The sender's name; must be its certificate's.
    pub node: NodeName,
    /// The sender's boot.
    pub boot: Boot,
    /// Renewals of its SWIM identity so far.
    pub bump: u32,
    /// Its region.
    pub region: String,
    /// Where to reach it.
    pub advertise: SocketAddr,
    /// Capabilities: bits of which none is defined yet; unknown bits are ignored.
    pub capabilities: u64,
    /// The highest boot of the receiver that the sender knows of; zero for none. A receiver with a
    /// lower one had its clock set back and takes this plus one.
    pub your_boot: Boot,
}

/// One operation on an owner's log, and one entry of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Op {
    /// A member is there, as the row says.
    Put(Row),
    /// A member is gone and nothing of it is kept.
    Leave {
        /// The member.
        member: MemberId,
        /// Why.
        reason: LeaveReason,
        /// The last message of this owner in the member's room before it left; zero for none.
        /// Messages travel on a lane of their own, and the leave is not to overtake them.
        after: u64,
    },
    /// A member was taken over by another node at this epoch.
    Moved {
        /// The member.
        member: MemberId,
        /// Its room.
        room: RoomName,
        /// The epoch it has there.
        epoch: u32,
        /// Where it is now.
        to: NodeName,
    },
    /// A member that had moved here left; kept so that an older epoch cannot come back.
    Gone {
        /// The member.
        member: MemberId,
        /// Its room.
        room: RoomName,
        /// Its last epoch.
        epoch: u32,
        /// Why it left.
        reason: LeaveReason,
        /// As with a plain leave; zero in snapshots.
        after: u64,
    },
    /// The node has local connections in a room.
    Watch(RoomName),
    /// It has none there any more.
    Unwatch(RoomName),
    /// The node itself: whom it has links to, with round trips in microseconds.
    About {
        /// Its region.
        region: String,
        /// Where to reach it.
        advertise: SocketAddr,
        /// Its links.
        links: Vec<(NodeName, u32)>,
    },
}

/// Operations `from`+1 to `to` of an owner's log, in order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delta {
    /// The owner.
    pub owner: OwnerId,
    /// The receiver must have applied at least this.
    pub from: u64,
    /// What it has applied afterwards.
    pub to: u64,
    /// Exactly `to - from` operations.
    pub ops: Vec<Op>,
}

/// What a node has of one owner's log, and how alive it holds the owner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DigestEntry {
    /// The owner.
    pub owner: OwnerId,
    /// Operations applied.
    pub applied: u64,
    /// The owner's highest heartbeat seen.
    pub heartbeat: u64,
    /// Milliseconds since that heartbeat was new to the sender.
    pub age_ms: u32,
}

/// What a node has of every owner it shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Digest {
    /// The entries.
    pub entries: Vec<DigestEntry>,
    /// An answer to a digest: only entries in which the sender is ahead; not to be answered.
    pub reply: bool,
}

/// Asks for an owner's log from `have` on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pull {
    /// The owner.
    pub owner: OwnerId,
    /// What the asker has applied.
    pub have: u64,
}

/// One part of an owner's whole table; to be swapped in when all parts are there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The owner.
    pub owner: OwnerId,
    /// The state of its log that the snapshot shows.
    pub at: u64,
    /// Index of this part.
    pub part: u32,
    /// How many parts there are, at least one.
    pub parts: u32,
    /// `Put`, `Moved`, `Gone`, `Watch` and `About` entries.
    pub entries: Vec<Op>,
}

/// Messages of one origin in one room.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Messages {
    /// The origin.
    pub origin: OwnerId,
    /// The room.
    pub room: RoomName,
    /// The receiver is complete up to here if it has seen the frame before this one.
    pub base: u64,
    /// The receiver is complete up to here afterwards: numbers in between that are not in `items`
    /// were given up on purpose.
    pub to: u64,
    /// How many of the numbers in between could not be had any more.
    pub lost: u64,
    /// The ticket of the pull that this answers; zero for none and for pulls that fill a gap.
    pub ticket: u64,
    /// How far its sender had applied the receiver's log; 0 in what goes to several. A receiver begins to
    /// hear an origin with a frame that knows of its interest; an earlier one belongs to an interest that
    /// has ended.
    pub known: u64,
    /// Number and message of each, ascending.
    pub items: Vec<(u64, Message)>,
}

/// Asks for messages `from`+1 to `to` of an origin in a room.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessagePull {
    /// The origin.
    pub origin: OwnerId,
    /// The room.
    pub room: RoomName,
    /// The last number the asker has.
    pub from: u64,
    /// The last number it wants; the highest possible for all there are.
    pub to: u64,
    /// Comes back with the answer, which is then not taken for a gap's; zero for none.
    pub ticket: u64,
}

/// Wraps a frame or datagram of `origin` for nodes that it cannot reach itself, or, with the receiver among
/// them, for a gateway and its neighbours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Relay {
    /// Who made the inner bytes.
    pub origin: OwnerId,
    /// Forwards still allowed: 1 from the origin, 0 from the relay.
    pub left: u8,
    /// For whom.
    pub to: Vec<NodeName>,
    /// The frame or datagram, with its kind byte.
    pub inner: Bytes,
}

/// The sender leaves the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bye {
    /// Which life of it.
    pub boot: Boot,
    /// How long its rows stay shown, in milliseconds; zero removes them at once.
    pub linger_ms: u32,
}

/// Everything that travels on ordered lanes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// See [`Hello`].
    Hello(Hello),
    /// SWIM members, encoded as SWIM encodes them.
    Members(Bytes),
    /// See [`Delta`].
    Delta(Delta),
    /// See [`Digest`].
    Digest(Digest),
    /// See [`Pull`].
    Pull(Pull),
    /// See [`Snapshot`].
    Snapshot(Snapshot),
    /// See [`Messages`].
    Messages(Messages),
    /// See [`MessagePull`].
    MessagePull(MessagePull),
    /// See [`Relay`].
    Relay(Relay),
    /// See [`Bye`].
    Bye(Bye),
    /// What the sender wants told to its users, at most [`PUBLIC_BYTES_MAX`]; the mesh does not know
    /// what it is. Since version 2.
    Public(String),
}

const HELLO: u8 = 1;
const PUBLIC: u8 = 11;
const SKIPPABLE: u8 = 0x80;

/// Whether a frame is a Hello.
pub fn is_hello(bytes: &[u8]) -> bool {
    bytes.first() == Some(&HELLO)
}

/// Whether a frame may be skipped by who does not know its kind.
pub fn is_skippable(bytes: &[u8]) -> bool {
    bytes.first().is_some_and(|kind| kind & SKIPPABLE != 0)
}

impl Hello {
    /// The versions that a Hello's sender speaks, whatever else is in it; `None` if it does not say.
    pub fn versions(frame: &[u8]) -> Option<Versions> {
        let body = frame.strip_prefix(&[HELLO])?;
        let ((newest, oldest), _) = postcard::take_from_bytes(body).ok()?;
        Some(Versions { oldest, newest })
    }

    /// The Hello in `body`, for a node whose newest version is this.
    fn decode(body: &[u8], newest: u16) -> Result<Self, WireError> {
        match postcard::take_from_bytes::<Self>(body) {
            Ok((hello, [])) => Ok(hello),
            // Version 1 was strict; a node that is held at it is so too.
            Ok((hello, _)) if newest >= 2 && hello.version > newest => Ok(hello),
            _ => Err(WireError::Body(HELLO)),
        }
    }
}

impl Frame {
    const fn kind(&self) -> u8 {
        match self {
            Self::Hello(_) => HELLO,
            Self::Members(_) => 2,
            Self::Delta(_) => 3,
            Self::Digest(_) => 4,
            Self::Pull(_) => 5,
            Self::Snapshot(_) => 6,
            Self::Messages(_) => 7,
            Self::MessagePull(_) => 8,
            Self::Relay(_) => 9,
            Self::Bye(_) => 10,
            Self::Public(_) => PUBLIC,
        }
    }

    /// Since which version the frame is there.
    pub const fn since(&self) -> u16 {
        since(self.kind())
    }

    /// The frame as bytes, for a link of this version, which must have the frame ([`Frame::since`]).
    pub fn encode(&self, version: u16) -> Bytes {
        let kind = self.kind();
        debug_assert!(since(kind) <= version, "frame {kind} on version {version}");
        match self {
            Self::Hello(body) => encode(kind, body),
            Self::Members(body) => encode(kind, body),
            Self::Delta(body) => encode(kind, body),
            Self::Digest(body) => encode(kind, body),
            Self::Pull(body) => encode(kind, body),
            Self::Snapshot(body) => encode(kind, body),
            Self::Messages(body) => encode(kind, body),
            Self::MessagePull(body) => encode(kind, body),
            Self::Relay(body) => encode(kind, body),
            Self::Bye(body) => encode(kind, body),
            Self::Public(body) => encode(kind, body),
        }
    }

    /// The frame in `bytes`, which came over a link of this version (before the Hello: the newest
    /// that this node speaks). Every field is within its limit afterwards.
    pub fn decode(bytes: &[u8], version: u16) -> Result<Self, WireError> {
        let (&kind, body) = bytes.split_first().ok_or(WireError::Empty)?;
        if since(kind) > version {
            return Err(unknown(kind));
        }
        let frame = match kind {
            HELLO => Self::Hello(Hello::decode(body, version)?),
            2 => Self::Members(decode(kind, body)?),
            3 => Self::Delta(decode(kind, body)?),
            4 => Self::Digest(decode(kind, body)?),
            5 => Self::Pull(decode(kind, body)?),
            6 => Self::Snapshot(decode(kind, body)?),
            7 => Self::Messages(decode(kind, body)?),
            8 => Self::MessagePull(decode(kind, body)?),
            9 => Self::Relay(decode(kind, body)?),
            10 => Self::Bye(decode(kind, body)?),
            PUBLIC => Self::Public(decode(kind, body)?),
            _ => return Err(unknown(kind)),
        };
        frame.check()?;
        Ok(frame)
    }

    fn check(&self) -> Result<(), WireError> {
        match self {
            Self::Hello(hello) => {
                within(hello.region.len(), REGION_BYTES_MAX, "region")?;
                within(hello.cluster.len(), 63, "cluster")
            }
            Self::Delta(delta) => {
                if delta.to.checked_sub(delta.from) != Some(delta.ops.len() as u64) {
                    return Err(WireError::Limit("delta range"));
                }
                delta.ops.iter().try_for_each(Op::check)
            }
            Self::Snapshot(snapshot) => {
                if snapshot.part >= snapshot.parts {
                    return Err(WireError::Limit("snapshot part"));
                }
                snapshot.entries.iter().try_for_each(Op::check)
            }
            Self::Messages(messages) => {
                let ascending = messages
                    .items
                    .iter()
                    .try_fold(messages.base, |last, (number, _)| {
                        (*number > last).then_some(*number)
                    });
                match ascending {
                    Some(last) if last <= messages.to => {
                        messages.items.iter().try_for_each(|(_, message)| {
                            within(message.payload.len(), super::MESSAGE_BYTES_MAX, "payload")
                        })
                    }
                    _ => Err(WireError::Limit("message numbers")),
                }
            }
            Self::MessagePull(pull) if pull.from > pull.to => {
                Err(WireError::Limit("message numbers"))
            }
            Self::Relay(relay) => {
                within(relay.to.len(), 1_000, "relay targets")?;
                within(usize::from(relay.left), 1, "relay hops")
            }
            Self::Digest(digest) => within(digest.entries.len(), 4_096, "digest"),
            Self::Public(text) => within(text.len(), PUBLIC_BYTES_MAX, "public"),
            Self::Members(_) | Self::Pull(_) | Self::MessagePull(_) | Self::Bye(_) => Ok(()),
        }
    }
}

impl Op {
    fn check(&self) -> Result<(), WireError> {
        match self {
            Self::Put(row) => {
                within(row.state.len(), STATE_BYTES_MAX, "state")?;
                within(row.user.id.len(), USER_BYTES_MAX, "user id")?;
                within(row.user.name.len(), USER_BYTES_MAX, "user name")
            }
            Self::About { region, links, .. } => {
                within(region.len(), REGION_BYTES_MAX, "region")?;
                within(links.len(), 2_000, "links")
            }
            Self::Leave { .. }
            | Self::Moved { .. }
            | Self::Gone { .. }
            | Self::Watch(_)
            | Self::Unwatch(_) => Ok(()),
        }
    }

    /// A fair guess of the operation's encoded size in bytes, never less than half of it.
    pub(super) fn size_hint(&self) -> usize {
        match self {
            Self::Put(row) => {
                60 + row.room.as_str().len()
                    + row.user.id.len()
                    + row.user.name.len()
                    + row.state.len()
            }
            Self::Leave { .. } => 20,
            Self::Moved { room, to, .. } => 28 + room.as_str().len() + to.as_str().len(),
            Self::Gone { room, .. } => 28 + room.as_str().len(),
            Self::Watch(room) | Self::Unwatch(room) => 4 + room.as_str().len(),
            Self::About { region, links, .. } => 30 + region.len() + links.len() * 68,
        }
    }
}

/// How alive a node holds another, in a datagram.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Liveness {
    /// The owner.
    pub owner: OwnerId,
    /// Its highest heartbeat seen.
    pub heartbeat: u64,
    /// Milliseconds since that heartbeat was new to the sender.
    pub age_ms: u32,
}

/// One cursor position in a batch.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct CursorRecord {
    /// Stands for the member at its origin.
    pub handle: u32,
    /// The member's epoch.
    pub epoch: u32,
    /// Rises with every position of this handle.
    pub seq: u32,
    /// The sender's clock in milliseconds, modulo 2^16.
    pub time_ms: u16,
    /// Position.
    pub x: f32,
    /// Position.
    pub y: f32,
}

/// Everything that travels as datagrams.
#[derive(Debug, Clone, PartialEq)]
pub enum Datagram {
    /// A SWIM packet, as SWIM encodes it.
    Swim(Bytes),
    /// Heartbeats.
    Liveness(Vec<Liveness>),
    /// Positions of members of the sender (or of a relay's origin) in its life `boot`.
    Cursors {
        /// The origin's boot.
        boot: Boot,
        /// The positions.
        records: Vec<CursorRecord>,
    },
    /// See [`Relay`].
    Relay(Relay),
}

impl Datagram {
    /// The datagram as bytes, for links of this version and newer ones.
    pub fn encode(&self, version: u16) -> Bytes {
        debug_assert!(self.since() <= version, "{self:?} on version {version}");
        match self {
            Self::Swim(packet) => {
                let mut bytes = Vec::with_capacity(1 + packet.len());
                bytes.push(32);
                bytes.extend_from_slice(packet);
                bytes.into()
            }
            Self::Liveness(entries) => encode(33, entries),
            Self::Cursors { boot, records } => encode(34, &(boot, records)),
            Self::Relay(relay) => encode(35, relay),
        }
    }

    /// Since which version the datagram is there.
    pub const fn since(&self) -> u16 {
        since(match self {
            Self::Swim(_) => 32,
            Self::Liveness(_) => 33,
            Self::Cursors { .. } => 34,
            Self::Relay(_) => 35,
        })
    }

    /// The datagram in `bytes`, which came over a link of this version.
    pub fn decode(bytes: &[u8], version: u16) -> Result<Self, WireError> {
        let (&kind, body) = bytes.split_first().ok_or(WireError::Empty)?;
        if since(kind) > version {
            return Err(unknown(kind));
        }
        match kind {
            32 => Ok(Self::Swim(Bytes::copy_from_slice(body))),
            33 => Ok(Self::Liveness(decode(kind, body)?)),
            34 => {
                let (boot, records) = decode(kind, body)?;
                Ok(Self::Cursors { boot, records })
            }
            35 => {
                let relay: Relay = decode(kind, body)?;
                within(usize::from(relay.left), 1, "relay hops")?;
                Ok(Self::Relay(relay))
            }
            _ => Err(unknown(kind)),
        }
    }
}

fn encode<T: Serialize>(kind: u8, body: &T) -> Bytes {
    // Serialising these types into memory has no way to fail; an empty frame is refused by every
    // receiver, so even then nobody would be misled.
    postcard::to_extend(body, vec![kind])
        .map(Bytes::from)
        .unwrap_or_default()
}

fn decode<T: DeserializeOwned>(kind: u8, body: &[u8]) -> Result<T, WireError> {
    match postcard::take_from_bytes(body) {
        Ok((value, [])) => Ok(value),
        _ => Err(WireError::Body(kind)),
    }
}

const fn unknown(kind: u8) -> WireError {
    if kind & SKIPPABLE != 0 {
        WireError::Skip(kind)
    } else {
        WireError::UnknownKind(kind)
    }
}

fn within(size: usize, max: usize, what: &'static str) -> Result<(), WireError> {
    if size <= max {
        Ok(())
    } else {
        Err(WireError::Limit(what))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;
    use crate::proto::event::{MessageKind, User};

    fn node() -> impl Strategy<Value = NodeName> {
        "[a-z0-9]{1,12}".prop_map(|name| NodeName::new(&name).unwrap())
    }

    fn room() -> impl Strategy<Value = RoomName> {
        "[a-zA-Z0-9 ä🦀]{1,20}".prop_map(|name| RoomName::new(&name).unwrap())
    }

    fn owner() -> impl Strategy<Value = OwnerId> {
        (node(), any::<u64>()).prop_map(|(node, boot)| OwnerId { node, boot })
    }

    fn member() -> impl Strategy<Value = MemberId> {
        any::<[u8; 16]>().prop_map(MemberId)
    }

    fn bytes(max: usize) -> impl Strategy<Value = Bytes> {
        proptest::collection::vec(any::<u8>(), 0..max).prop_map(Bytes::from)
    }

    fn reason() -> impl Strategy<Value = LeaveReason> {
        prop_oneof![
            Just(LeaveReason::Closed),
            Just(LeaveReason::TimedOut),
            Just(LeaveReason::NodeLost),
            Just(LeaveReason::Kicked),
            Just(LeaveReason::Superseded),
        ]
    }

    fn row() -> impl Strategy<Value = Row> {
        (
            member(),
            any::<u32>(),
            room(),
            ".{0,20}",
            bytes(64),
            any::<[bool; 2]>(),
            any::<u32>(),
        )
            .prop_map(
                |(member, epoch, room, name, state, [away, resumable], handle)| Row {
                    member,
                    epoch,
                    room,
                    user: User {
                        id: name.clone(),
                        name,
                        color: 7,
                    },
                    state,
                    joined_at: 1,
                    away,
                    resumable,
                    handle,
                },
            )
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            row().prop_map(Op::Put),
            (member(), reason()).prop_map(|(member, reason)| Op::Leave {
                member,
                reason,
                after: 3
            }),
            (member(), room(), any::<u32>(), node()).prop_map(|(member, room, epoch, to)| {
                Op::Moved {
                    member,
                    room,
                    epoch,
                    to,
                }
            }),
            (member(), room(), any::<u32>(), reason()).prop_map(|(member, room, epoch, reason)| {
                Op::Gone {
                    member,
                    room,
                    epoch,
                    reason,
                    after: 3,
                }
            }),
            room().prop_map(Op::Watch),
            room().prop_map(Op::Unwatch),
            (node(), any::<u32>()).prop_map(|(node, rtt)| Op::About {
                region: "eu".to_owned(),
                advertise: "[::1]:7171".parse().unwrap(),
                links: vec![(node, rtt)],
            }),
        ]
    }

    fn messages() -> impl Strategy<Value = Messages> {
        let item =
            (member(), any::<bool>(), bytes(64)).prop_map(|(sender, event, payload)| Message {
                sender,
                kind: if event {
                    MessageKind::Event
                } else {
                    MessageKind::Tutorial
                },
                payload,
            });
        (
            owner(),
            room(),
            0..1_000_u64,
            proptest::collection::vec(item, 0..5),
        )
            .prop_map(|(origin, room, base, items)| {
                let items: Vec<(u64, Message)> = (base + 1..).zip(items).collect();
                Messages {
                    origin,
                    room,
                    base,
                    to: base + 5,
                    lost: 0,
                    ticket: 0,
                    known: 7,
                    items,
                }
            })
    }

    fn frame() -> impl Strategy<Value = Frame> {
        prop_oneof![
            (owner(), 0..=VERSION, any::<u64>()).prop_map(|(owner, version, your_boot)| {
                Frame::Hello(Hello {
                    version,
                    version_oldest: version,
                    cluster: "dev".to_owned(),
                    node: owner.node,
                    boot: owner.boot,
                    bump: 3,
                    region: "eu".to_owned(),
                    advertise: "127.0.0.1:7171".parse().unwrap(),
                    capabilities: 0,
                    your_boot,
                })
            }),
            bytes(64).prop_map(Frame::Members),
            (owner(), 0..1_000_u64, proptest::collection::vec(op(), 0..4)).prop_map(
                |(owner, from, ops)| {
                    Frame::Delta(Delta {
                        owner,
                        from,
                        to: from + ops.len() as u64,
                        ops,
                    })
                }
            ),
            (owner(), any::<u64>(), any::<bool>()).prop_map(|(owner, n, reply)| {
                let entry = DigestEntry {
                    owner,
                    applied: n,
                    heartbeat: n,
                    age_ms: 5,
                };
                Frame::Digest(Digest {
                    entries: vec![entry],
                    reply,
                })
            }),
            (owner(), any::<u64>()).prop_map(|(owner, have)| Frame::Pull(Pull { owner, have })),
            (
                owner(),
                any::<u64>(),
                0..9_u32,
                proptest::collection::vec(op(), 0..4)
            )
                .prop_map(|(owner, at, part, entries)| {
                    Frame::Snapshot(Snapshot {
                        owner,
                        at,
                        part,
                        parts: 9,
                        entries,
                    })
                }),
            messages().prop_map(Frame::Messages),
            (owner(), room(), 0..100_u64).prop_map(|(origin, room, from)| {
                Frame::MessagePull(MessagePull {
                    origin,
                    room,
                    from,
                    to: from + 3,
                    ticket: 0,
                })
            }),
            (owner(), 0..2_u8, node(), bytes(64)).prop_map(|(origin, left, to, inner)| {
                Frame::Relay(Relay {
                    origin,
                    left,
                    to: vec![to],
                    inner,
                })
            }),
            (any::<u64>(), any::<u32>())
                .prop_map(|(boot, linger_ms)| Frame::Bye(Bye { boot, linger_ms })),
            ".{0,40}".prop_map(Frame::Public),
        ]
    }

    fn datagram() -> impl Strategy<Value = Datagram> {
        let record = (
            any::<[u32; 3]>(),
            any::<u16>(),
            -1e6_f32..1e6,
            -1e6_f32..1e6,
        )
            .prop_map(|([handle, epoch, seq], time_ms, x, y)| CursorRecord {
                handle,
                epoch,
                seq,
                time_ms,
                x,
                y,
            });
        prop_oneof![
            bytes(64).prop_map(Datagram::Swim),
            (owner(), any::<u64>(), any::<u32>()).prop_map(|(owner, heartbeat, age_ms)| {
                Datagram::Liveness(vec![Liveness {
                    owner,
                    heartbeat,
                    age_ms,
                }])
            }),
            (any::<u64>(), proptest::collection::vec(record, 0..5))
                .prop_map(|(boot, records)| Datagram::Cursors { boot, records }),
            (owner(), 0..2_u8, node(), bytes(64)).prop_map(|(origin, left, to, inner)| {
                Datagram::Relay(Relay {
                    origin,
                    left,
                    to: vec![to],
                    inner,
                })
            }),
        ]
    }

    proptest! {
        #[test]
        fn a_frame_survives_the_wire(frame in frame()) {
            prop_assert_eq!(Frame::decode(&frame.encode(VERSION), VERSION), Ok(frame));
        }

        #[test]
        fn a_datagram_survives_the_wire(datagram in datagram()) {
            prop_assert_eq!(Datagram::decode(&datagram.encode(VERSION), VERSION), Ok(datagram));
        }

        #[test]
        fn arbitrary_bytes_never_panic(kind in 0..48_u8, body in bytes(400)) {
            let mut all = vec![kind];
            all.extend_from_slice(&body);
            let _ = Frame::decode(&all, VERSION);
            let _ = Datagram::decode(&all, VERSION);
        }

        #[test]
        fn a_damaged_frame_never_panics(frame in frame(), at in any::<usize>(), bit in 0..8_u32) {
            let mut bytes = frame.encode(VERSION).to_vec();
            let at = at % bytes.len();
            bytes[at] ^= 1 << bit;
            let _ = Frame::decode(&bytes, VERSION);
            let _ = Frame::decode(&bytes[..at], VERSION);
        }

        #[test]
        fn nothing_may_follow_a_frame(frame in frame()) {
            let mut bytes = frame.encode(VERSION).to_vec();
            bytes.push(0);
            prop_assert_ne!(Frame::decode(&bytes, VERSION), Ok(frame));
        }
    }

    #[test]
    fn what_a_version_brought_is_unknown_to_the_one_before() {
        let frame = Frame::Public("wss://n1.example.org/v1".to_owned());
        assert_eq!(frame.since(), 2);
        let bytes = frame.encode(2);
        assert_eq!(Frame::decode(&bytes, 2), Ok(frame));
        assert_eq!(Frame::decode(&bytes, 1), Err(WireError::UnknownKind(11)));
        let long = Frame::Public("x".repeat(PUBLIC_BYTES_MAX + 1)).encode(2);
        assert_eq!(Frame::decode(&long, 2), Err(WireError::Limit("public")));
    }

    #[test]
    fn the_hello_of_a_newer_version_may_say_more() {
        let hello = |version| Hello {
            version,
            version_oldest: 1,
            cluster: "dev".to_owned(),
            node: NodeName::new("n1").unwrap(),
            boot: 1,
            bump: 0,
            region: String::new(),
            advertise: "127.0.0.1:7171".parse().unwrap(),
            capabilities: 0,
            your_boot: 0,
        };
        let longer = |version| {
            let mut bytes = Frame::Hello(hello(version)).encode(1).to_vec();
            bytes.extend(b"\x05hello");
            bytes
        };
        assert_eq!(
            Frame::decode(&longer(3), 2),
            Ok(Frame::Hello(hello(3))),
            "fields that are not known yet"
        );
        let malformed = Err(WireError::Body(HELLO));
        assert_eq!(Frame::decode(&longer(2), 2), malformed);
        assert_eq!(
            Frame::decode(&longer(2), 1),
            malformed,
            "1 takes no byte more"
        );
        let versions = Versions {
            oldest: 4,
            newest: 9,
        };
        assert_eq!(Hello::versions(&[1, 9, 4, 0xff]), Some(versions));
        assert_eq!(Hello::versions(&[1, 9]), None);
        assert_eq!(Hello::versions(&[2, 9, 4]), None);
    }

    #[test]
    fn two_nodes_share_the_newest_version_that_both_speak() {
        let versions = |oldest, newest| Versions { oldest, newest };
        assert_eq!(versions(1, 2).shared(versions(1, 2)), Some(2));
        assert_eq!(versions(1, 2).shared(versions(1, 1)), Some(1));
        assert_eq!(versions(1, 1).shared(versions(1, 2)), Some(1));
        assert_eq!(versions(1, 2).shared(versions(2, 3)), Some(2));
        assert_eq!(versions(1, 1).shared(versions(2, 3)), None);
        assert_eq!(versions(2, 3).shared(versions(1, 1)), None);
        assert_eq!(versions(1, 2).shared(versions(3, 0)), None, "nonsense");
    }

    #[test]
    fn unknown_kinds_are_refused_or_skipped_as_bit_7_says() {
        assert_eq!(Frame::decode(&[], VERSION), Err(WireError::Empty));
        assert_eq!(
            Frame::decode(&[99], VERSION),
            Err(WireError::UnknownKind(99))
        );
        assert_eq!(
            Frame::decode(&[0x80 + 99, 1, 2], VERSION),
            Err(WireError::Skip(0x80 + 99))
        );
        assert_eq!(
            Datagram::decode(&[99], VERSION),
            Err(WireError::UnknownKind(99))
        );
    }

    #[test]
    fn a_delta_must_hold_what_it_says() {
        let owner = OwnerId {
            node: NodeName::new("n1").unwrap(),
            boot: 1,
        };
        let delta = Frame::Delta(Delta {
            owner,
            from: 3,
            to: 9,
            ops: vec![],
        });
        assert_eq!(
            Frame::decode(&delta.encode(VERSION), VERSION),
            Err(WireError::Limit("delta range"))
        );
    }

    #[test]
    fn a_claimed_length_is_not_allocated() {
        // A snapshot that claims four thousand million entries and has none.
        let mut bytes = vec![6, 2, b'n', b'1', 1, 1, 0, 1];
        bytes.extend([0xff, 0xff, 0xff, 0xff, 0x0f]);
        assert_eq!(Frame::decode(&bytes, VERSION), Err(WireError::Body(6)));
    }
}
