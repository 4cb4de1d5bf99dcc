//! What goes into the core and what comes out: the whole outside world on one page.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::identity::{Boot, ConnId, MemberId, NodeName, RoomName};
use super::wire::OwnerId;

/// Which ordered channel to a peer a frame travels on. Order holds within a lane only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// Hello, deltas, digests, pulls: one long stream per direction of the live connection.
    Presence,
    /// Events and the tutorial's messages: one long stream per direction of the live connection.
    Messages,
    /// Snapshot parts: a connection of its own, so that they cannot delay the other two.
    Bulk,
}

/// What happened, told to the core.
#[derive(Debug, Clone)]
pub enum Input {
    /// Time passed; due timers run. Every other input runs them too.
    Tick,
    /// A live connection is authenticated: `peer` is the name in its certificate, which was checked
    /// against the cluster's CA. `dialled` says that this side opened it.
    Connected {
        /// The driver's number for the connection.
        conn: ConnId,
        /// The certificate's node name.
        peer: NodeName,
        /// The far end's socket address.
        addr: SocketAddr,
        /// Whether this node opened it.
        dialled: bool,
    },
    /// A connection is gone. `clean` when the peer said that it is leaving the cluster
    /// (close code [`CloseCode::Leaving`]).
    Disconnected {
        /// The connection.
        conn: ConnId,
        /// Whether the peer left on purpose.
        clean: bool,
    },
    /// One whole frame arrived on an ordered lane, without its length prefix. Frames that arrive on
    /// a peer's bulk connection are given with the [`ConnId`] of its live connection.
    Frame {
        /// The live connection of the peer.
        conn: ConnId,
        /// The lane.
        lane: Lane,
        /// The frame.
        bytes: Bytes,
    },
    /// A datagram arrived.
    Datagram {
        /// The live connection.
        conn: ConnId,
        /// The payload.
        bytes: Bytes,
    },
    /// `bytes` of frames given in [`Output::Send`] were handed to the transport (or dropped with it).
    Drained {
        /// The live connection.
        conn: ConnId,
        /// The lane.
        lane: Lane,
        /// Frame bytes, without length prefixes.
        bytes: usize,
    },
    /// The transport's current round-trip estimate, and whether its datagram queue has room for
    /// another flush of cursors. Given whenever either changed noticeably, at most every 0.1 s.
    Path {
        /// The live connection.
        conn: ConnId,
        /// Smoothed round-trip time.
        rtt: Duration,
        /// False while cursor datagrams would only queue.
        room_for_cursors: bool,
    },
    /// Packets that the peer has to acknowledge were sent and nothing at all came back, for a round trip
    /// and some 0.3 s: the link may still come to itself. Told once per silence; optional.
    Quiet {
        /// The live connection.
        conn: ConnId,
    },
    /// A dial asked for by [`Output::Dial`] did not lead to a connection.
    DialFailed {
        /// The address dialled.
        addr: SocketAddr,
        /// Why, in words for an operator.
        reason: String,
    },
    /// What the names among the seeds stand for now, all of them together: it takes the place of what
    /// was given before. At most [`SEEDS_MAX`](super::SEEDS_MAX) are taken. An address that is no longer
    /// among them is forgotten, unless a node was found there or the configuration has it as an address.
    Seeds(BTreeSet<SocketAddr>),
    /// Something this node's own clients did.
    Local(Local),
    /// This node leaves: says `Bye` to every peer. With a `linger`, its rows stay visible
    /// elsewhere, as away, for that long.
    Leave {
        /// How long the rows stay; zero removes them at once.
        linger: Duration,
    },
}

/// What to do, told by the core.
#[derive(Debug, Clone)]
pub enum Output {
    /// Send one frame on an ordered lane; the driver adds the length prefix.
    Send {
        /// The live connection of the peer.
        conn: ConnId,
        /// The lane.
        lane: Lane,
        /// The frame.
        frame: Bytes,
    },
    /// Send a datagram if the transport takes it now; never queue it for long.
    Datagram {
        /// The live connection.
        conn: ConnId,
        /// At most 1,162 bytes.
        bytes: Bytes,
        /// Membership and liveness: goes before cursors and into the reserve.
        urgent: bool,
    },
    /// Open a live connection to this address. `peer` is the node that the configuration puts
    /// there, if it names one: another one found there is refused.
    Dial {
        /// Where to.
        addr: SocketAddr,
        /// Expected name.
        peer: Option<NodeName>,
    },
    /// Close a connection with a code and a reason that the peer logs too.
    Close {
        /// The connection.
        conn: ConnId,
        /// The code.
        code: CloseCode,
        /// The reason, for people.
        reason: String,
    },
    /// Something this node's clients or its operator should know.
    Event(Event),
}

/// QUIC application close codes between nodes. A code below `0x1000` is an error of the receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum CloseCode {
    /// The handle was dropped or the process died: a lost link, not a leave.
    Lost = 0,
    /// The peer sent something the protocol does not allow.
    Protocol = 0x0001,
    /// The peer speaks no version of the protocol that this node speaks.
    Version = 0x0002,
    /// The peer belongs to another cluster.
    Cluster = 0x0003,
    /// The peer is not who it claims to be, or carries this node's own name.
    Name = 0x0004,
    /// The peer exceeded a limit.
    Limit = 0x0005,
    /// Another connection to the same node replaces this one.
    Superseded = 0x1001,
    /// The node leaves the cluster on purpose.
    Leaving = 0x1EA7,
}

/// Who a member is; several members (tabs, devices) may share one.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct User {
    /// The application's id for the user; empty means the member stands for itself.
    pub id: String,
    /// Display name; may be empty.
    pub name: String,
    /// Hue in degrees, 0–359.
    pub color: u16,
}

/// One connection's presence in one room, as its owner wrote it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// The member.
    pub member: MemberId,
    /// Rises by at least one each time the member moves to another node.
    pub epoch: u32,
    /// The room.
    pub room: RoomName,
    /// Who it is.
    pub user: User,
    /// The application's state, opaque to the mesh; at most 4 KiB.
    pub state: Bytes,
    /// Milliseconds since the Unix epoch at the first join; kept when the member moves.
    pub joined_at: u64,
    /// The connection broke and the grace period runs.
    pub away: bool,
    /// Whether the member can be resumed on another node; a tutorial connection cannot.
    pub resumable: bool,
    /// Stands for the member in cursor frames; unique per (node, boot), never reused.
    pub handle: u32,
}

/// A row as the fold shows it: with the node it was read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The node that owns it.
    pub node: NodeName,
    /// That node's boot.
    pub boot: Boot,
    /// The row.
    pub row: Row,
}

/// Why a member is no longer there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum LeaveReason {
    /// Its client left or closed the connection.
    Closed,
    /// Its connection broke and did not come back within the grace period.
    TimedOut,
    /// Its node crashed, restarted or cannot be reached.
    NodeLost,
    /// An operator removed it.
    Kicked,
    /// A newer connection took its place.
    Superseded,
}

/// The two kinds of numbered message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum MessageKind {
    /// A tutorial page's message: past the bound the newest per sender wins.
    Tutorial,
    /// A named event of protocol v1: past the bound the sender is refused.
    Event,
}

/// One message in a room.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// The member that sent it.
    pub sender: MemberId,
    /// What it is.
    pub kind: MessageKind,
    /// Its bytes, opaque to the mesh; at most [`crate::proto::MESSAGE_BYTES_MAX`].
    pub payload: Bytes,
}

/// A member's position.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cursor {
    /// The member.
    pub member: MemberId,
    /// The sender's clock in milliseconds, modulo 2^16.
    pub time_ms: u16,
    /// In the room's own coordinates.
    pub x: f32,
    /// In the room's own coordinates.
    pub y: f32,
}

/// What this node's own clients do.
#[derive(Debug, Clone)]
pub enum Local {
    /// A member joins with epoch 0, or moves here from another node with the epoch it had there; the
    /// core raises it above that and every epoch it knows. `row.handle` is ignored and set by the core.
    Join(Box<Row>),
    /// A member's user, state or away flag changes. Unknown members are ignored.
    Update {
        /// The member.
        member: MemberId,
        /// New user, if changed.
        user: Option<User>,
        /// New state, if changed.
        state: Option<Bytes>,
        /// New away flag, if changed.
        away: Option<bool>,
    },
    /// A member's connection broke without a word. A resumable one stays, marked away, for the
    /// grace period and then leaves as timed out; another leaves at once.
    Break {
        /// The member.
        member: MemberId,
    },
    /// A member leaves. Unknown members are ignored.
    Leave {
        /// The member.
        member: MemberId,
        /// Why.
        reason: LeaveReason,
    },
    /// The node has its first local connection in a room (true) or no more (false).
    Interest {
        /// The room.
        room: RoomName,
        /// Whether there is interest.
        wanted: bool,
    },
    /// Messages for a room, in order. They go to interested peers only: local connections were
    /// served by the hub.
    Messages {
        /// The room.
        room: RoomName,
        /// The messages.
        items: Vec<Message>,
    },
    /// A client is back and asks for the events it missed; answered by [`Event::Replayed`] within
    /// two seconds.
    Replay {
        /// A number of the asker's choice, not zero and not in use; comes back with the answer.
        ticket: u64,
        /// The room; this node must be interested in it.
        room: RoomName,
        /// The last number seen of each origin. An origin that is not named is asked for all it has.
        seen: Vec<(OwnerId, u64)>,
        /// How long the client was away.
        away: Duration,
    },
    /// New positions of local members of a room: one flush of the hub.
    Cursors {
        /// The room.
        room: RoomName,
        /// The positions.
        items: Vec<Cursor>,
    },
}

/// What clients and operators of this node should know.
#[derive(Debug, Clone)]
pub enum Event {
    /// The fold shows a member that it did not show before. Local joins come this way too.
    Joined(Box<Member>),
    /// A shown member changed: state, user, away, or the node that serves it.
    Updated(Box<Member>),
    /// A shown member is gone.
    Left {
        /// The room it was in.
        room: RoomName,
        /// The member.
        member: MemberId,
        /// Why.
        reason: LeaveReason,
    },
    /// A local member is now served by another node: its connection here, if any, is to be closed.
    MovedAway {
        /// The member.
        member: MemberId,
        /// Where it is now.
        to: NodeName,
    },
    /// Messages from another node, each exactly once and in the origin's order.
    Messages {
        /// The room.
        room: RoomName,
        /// The node they came from, in which life.
        origin: OwnerId,
        /// Their numbers and the messages.
        items: Vec<(u64, Message)>,
        /// How many before these could not be had any more.
        lost: u64,
    },
    /// Events of this node's own clients, with the numbers that this node gave them. Local clients
    /// get them from here, so that everybody sees the same numbers.
    Published {
        /// The room.
        room: RoomName,
        /// This node in this life.
        origin: OwnerId,
        /// Their numbers and the events.
        items: Vec<(u64, Message)>,
    },
    /// Where an origin's messages in a room begin for this node: events up to this number were
    /// before its interest.
    Head {
        /// The room.
        room: RoomName,
        /// The origin; this node itself too.
        origin: OwnerId,
        /// The last number before.
        number: u64,
    },
    /// The answer to [`Local::Replay`].
    Replayed {
        /// The number the asker gave.
        ticket: u64,
        /// Events after the positions asked for; ascending per origin.
        items: Vec<(OwnerId, u64, Message)>,
        /// Whether these are all.
        complete: bool,
    },
    /// An event of a local member was not sent to a peer whose link is slow.
    MessageRefused {
        /// The room.
        room: RoomName,
        /// Who sent it.
        sender: MemberId,
    },
    /// Positions of members on other nodes; none older than one given before.
    Cursors {
        /// The room.
        room: RoomName,
        /// The positions.
        items: Vec<Cursor>,
    },
    /// A link to a peer is up: both sides accepted the other's Hello.
    LinkUp {
        /// The peer.
        peer: NodeName,
        /// Its region.
        region: String,
        /// Its boot.
        boot: Boot,
    },
    /// The link to a peer is gone.
    LinkDown {
        /// The peer.
        peer: NodeName,
        /// Whether it left on purpose.
        clean: bool,
    },
    /// A peer was refused; the connection closes with this code and reason.
    Refused {
        /// The certificate's name.
        peer: NodeName,
        /// The code.
        code: CloseCode,
        /// The reason.
        reason: String,
    },
    /// SWIM's verdict on a node changed.
    Membership {
        /// The node.
        node: NodeName,
        /// Alive (true) or down (false).
        alive: bool,
    },
    /// A node's rows are hidden from or shown to clients.
    Visibility {
        /// The owner of the rows.
        node: NodeName,
        /// Its boot.
        boot: Boot,
        /// Shown (true) or hidden (false).
        visible: bool,
    },
    /// The first other node began to watch a room, or the last one ended. Emitted before that node is
    /// told that its watching is known. While nobody watches, messages and positions of the room's
    /// local members need not be said to the core; positions are to be said once somebody does.
    Watched {
        /// The room.
        room: RoomName,
        /// Begun (true) or ended (false).
        watched: bool,
    },
}
