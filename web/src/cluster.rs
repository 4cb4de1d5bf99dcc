//! The seam to the rest of the cluster: what goes out, and what can be asked.

use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use serde::Serialize;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use uuid::Uuid;

/// Who a member is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct User {
    /// The application's id for the user; empty means the member stands for itself.
    pub id: String,
    /// Display name; may be empty.
    pub name: String,
    /// Hue in degrees, 0–359.
    pub color: u16,
}

/// A member as every node knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Member {
    /// The member: one connection's presence in one room.
    pub id: Uuid,
    /// The room it is in; left out where the room is said once for all.
    #[serde(skip)]
    pub room: String,
    /// Who it is.
    pub user: User,
    /// The application's state: JSON text, `null` when there is none.
    #[serde(serialize_with = "raw_json")]
    pub state: Bytes,
    /// The node that serves it.
    pub node: String,
    /// Milliseconds since the Unix epoch.
    pub joined_at: u64,
    /// The connection broke and may come back.
    pub away: bool,
    /// Rises each time the member comes back, here or on another node; 0 in a join of a new one.
    #[serde(skip)]
    pub epoch: u32,
    /// Whether its client can come back with a token and be this member again.
    #[serde(skip)]
    pub resumable: bool,
}

/// A member's position in its room.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cursor {
    /// The member.
    pub member: Uuid,
    /// The sender's clock in milliseconds, modulo 2^16.
    pub time_ms: u16,
    /// In the room's own coordinates; finite.
    pub x: f32,
    /// In the room's own coordinates; finite.
    pub y: f32,
}

/// A named event on its way through a room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Its number: rises per origin, with gaps.
    pub number: u64,
    /// The member that sent it.
    pub sender: Uuid,
    /// JSON text, `{"epoch":…,"name":…,"data":…}`; the epoch is its sender's when it said that.
    pub payload: Bytes,
}

fn raw_json<S: serde::Serializer>(state: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
    let raw: Option<&serde_json::value::RawValue> = serde_json::from_slice(state).ok();
    raw.serialize(serializer)
}

/// Why a member is no longer there. The JSON names are part of the browser protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LeaveReason {
    /// Its client left or closed the connection.
    Closed,
    /// Its connection broke and did not come back in time.
    TimedOut,
    /// Its node crashed or cannot be reached.
    NodeLost,
    /// An operator removed it.
    Kicked,
    /// A newer connection took its place.
    Superseded,
}

/// The hub's word to the rest of the cluster. Ordered; the channel that carries it is bounded, and
/// while it is full the hub keeps what it has and pauses the connections that would add to it.
#[derive(Debug)]
pub enum Outbound {
    /// A local connection becomes a member of a room.
    Join(Member),
    /// A local member's user or state changes.
    Update {
        /// The member.
        member: Uuid,
        /// The new user, if it changed.
        user: Option<User>,
        /// The new state, if it changed.
        state: Option<Bytes>,
    },
    /// A local member's connection broke: the member stays, away, for the grace period.
    Break {
        /// The member.
        member: Uuid,
    },
    /// A local member leaves.
    Leave {
        /// The member.
        member: Uuid,
        /// Why.
        reason: LeaveReason,
    },
    /// The first local connection entered a room (true), or the last one left it (false).
    Interest {
        /// The room.
        room: String,
        /// Whether there is interest.
        wanted: bool,
    },
    /// Messages of tutorial connections, in order, ready for tutorial connections elsewhere.
    /// Local connections have been served already.
    Messages {
        /// The room.
        room: String,
        /// Sender and text of each.
        items: Vec<(Uuid, Bytes)>,
    },
    /// Events of local members, in order: sender and payload of each. They come back to
    /// [`Hub::events`](crate::Hub::events), with numbers, for local connections too.
    Events {
        /// The room.
        room: String,
        /// Sender and JSON text, `{"epoch":…,"name":…,"data":…}`, of each.
        items: Vec<(Uuid, Bytes)>,
    },
    /// New positions of local members, the newest of each: one flush of a room.
    Cursors {
        /// The room.
        room: String,
        /// The positions.
        items: Vec<Cursor>,
    },
    /// A client is back and asks for the events it missed; answered by
    /// [`Hub::replayed`](crate::Hub::replayed).
    Replay {
        /// Comes back with the answer; never zero, never used twice.
        ticket: u64,
        /// The room.
        room: String,
        /// The last number seen of each origin, as the client tells it.
        seen: Vec<(String, u64)>,
        /// How long the client says that it was away.
        away: Duration,
    },
}

/// A node that browsers may connect to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NodeSummary {
    /// Its name.
    pub node: String,
    /// Where it runs.
    pub region: String,
    /// The address of its `/v1`, where it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
}

/// A node that browsers may go to, as `/v1/nodes` lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NearNode {
    /// Its name.
    pub node: String,
    /// Where it runs.
    pub region: String,
    /// The address of its `/v1`.
    pub url: String,
    /// The round trip from this node to it; `None` for this node itself and where it is not known.
    pub rtt: Option<Duration>,
}

/// A room in a listing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RoomSummary {
    /// Its name.
    pub room: String,
    /// Members in it, on all nodes that are visible.
    pub count: usize,
}

/// Where a hub says what concerns the rest of the cluster.
pub trait Uplink: Send + Sync + 'static {
    /// Takes a word at once, in the order of the calls; gives it back if it has no room for now. Once
    /// there is no cluster any more it takes everything and does nothing.
    fn offer(&self, said: Outbound) -> Option<Outbound>;
}

/// A bounded channel; whoever drops its receiver leaves the hub alone.
impl Uplink for mpsc::Sender<Outbound> {
    fn offer(&self, said: Outbound) -> Option<Outbound> {
        match self.try_send(said) {
            Err(TrySendError::Full(said)) => Some(said),
            Ok(()) | Err(TrySendError::Closed(_)) => None,
        }
    }
}

/// Carries what clients ask of one node to the node that can answer it.
pub trait Carrier: Send + Sync + 'static {
    /// The other nodes that something can be carried to now, nearest first.
    fn reachable(&self) -> Vec<String>;

    /// Hands `request`, of at most 1 MiB, to a node's [`Answers`](crate::Answers); what they say comes
    /// back part by part, and an error last where the node cannot be reached or is lost. Whoever drops
    /// it before its end has the other side stop.
    fn carry(&self, node: &str, request: Bytes) -> Carried;
}

/// The parts of an answer that another node gives.
pub type Carried = Pin<Box<dyn Stream<Item = Result<Bytes, CarryError>> + Send>>;

/// The node that is asked cannot be reached, or was lost before its answer was whole; whether it did
/// what it was asked is unknown then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the node that has the answer cannot be reached or was lost")]
pub struct CarryError;

/// A node on its own.
#[derive(Debug, Clone, Copy)]
pub struct Nobody;

impl Carrier for Nobody {
    fn reachable(&self) -> Vec<String> {
        Vec::new()
    }

    fn carry(&self, _node: &str, _request: Bytes) -> Carried {
        Box::pin(futures_util::stream::iter([Err(CarryError)]))
    }
}

/// What any node can say without asking another: answers come from its own tables, at once.
pub trait Directory: Send + Sync + 'static {
    /// This node's name.
    fn node(&self) -> String;
    /// All rooms with members, by name; at most `limit`.
    fn rooms(&self, limit: usize) -> Vec<RoomSummary>;
    /// Members of a room, oldest first; empty if there is no such room.
    fn members(&self, room: &str) -> Vec<Member>;
    /// One member of a room; constant time.
    fn member(&self, room: &str, member: Uuid) -> Option<Member>;
    /// Whether another node has clients in a room: if not, what local clients say to each other there
    /// need not leave the node. When it becomes true, [`Hub::watched`](crate::Hub::watched) follows.
    fn is_watched(&self, _room: &str) -> bool {
        true
    }
    /// This node first, then the other nodes that are there, nearest first.
    fn nodes(&self) -> Vec<NodeSummary>;
    /// The nodes that a browser may go to, nearest first: those that are alive, stay, and have an
    /// address that is known.
    fn nearest(&self) -> Vec<NearNode> {
        Vec::new()
    }
    /// How many members a room has; constant time.
    fn count(&self, room: &str) -> usize;
    /// The mesh as this node sees it, as a JSON object.
    fn cluster(&self) -> serde_json::Value;
    /// What a picture of the mesh needs, as this node sees it: a JSON object.
    fn mesh(&self) -> serde_json::Value {
        serde_json::Value::Null
    }
    /// `Err` with the reason while the node should get no new clients.
    fn ready(&self) -> Result<(), String>;
    /// Metrics of everything but the web edge, in Prometheus text format.
    fn metrics(&self) -> String;
}
