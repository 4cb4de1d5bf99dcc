//! The mesh as one node sees it, for operators: a copy, made on request.

use std::net::SocketAddr;
use std::time::Duration;

use super::event::CloseCode;
use super::identity::{Boot, NodeName, RoomName};

/// What this node knows, at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Overview {
    /// This node.
    pub node: NodeName,
    /// Its cluster.
    pub cluster: NodeName,
    /// Its region.
    pub region: String,
    /// Its boot.
    pub boot: Boot,
    /// Operations of its own log so far.
    pub seq: u64,
    /// Its own rows.
    pub rows: usize,
    /// Rooms it has local connections in, by name; at most 1,000.
    pub rooms: Vec<RoomName>,
    /// How many there are.
    pub room_count: usize,
    /// Every other node it has heard of, by name.
    pub peers: Vec<PeerOverview>,
    /// The addresses it was told to begin with.
    pub seeds: Vec<SeedOverview>,
    /// Counters since start, with their metric names (Prometheus, without prefix) and help texts.
    pub counters: Vec<(&'static str, &'static str, u64)>,
}

/// An address this node was told to begin with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeedOverview {
    /// The address.
    pub addr: SocketAddr,
    /// The node found there, or else the one configured there.
    pub node: Option<NodeName>,
    /// It is this node's own address.
    pub itself: bool,
    /// Why the last dial led to no link; `None` once there is a link, and before the first dial ended.
    pub problem: Option<String>,
}

/// Another node as this node sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct PeerOverview {
    /// Its name.
    pub node: NodeName,
    /// Its region; empty until known.
    pub region: String,
    /// Its boot; zero until known.
    pub boot: Boot,
    /// Where it is reached, if known.
    pub addr: Option<SocketAddr>,
    /// SWIM holds it for alive.
    pub alive: bool,
    /// A direct link is up.
    pub linked: bool,
    /// The protocol version of the link, if one is up.
    pub version: Option<u16>,
    /// What it wants told to its users; empty if it has no link, speaks protocol version 1 or has
    /// nothing to say.
    pub public: String,
    /// Round trip of the link, if one is up.
    pub rtt: Option<Duration>,
    /// The links that it tells of itself, to whom and with which round trip: at most 1,000, while its rows
    /// are shown.
    pub links: Vec<(NodeName, Duration)>,
    /// The node that relays to it, if there is no direct link and one does.
    pub relay: Option<NodeName>,
    /// Whether its rows are shown.
    pub visible: bool,
    /// Why its rows are hidden; empty while they are shown.
    pub hidden_because: String,
    /// How much of its log is known here.
    pub applied: u64,
    /// Its rows known here.
    pub rows: usize,
    /// Rooms it has connections in, by name; at most 1,000.
    pub rooms: Vec<RoomName>,
    /// How many there are.
    pub room_count: usize,
    /// Time since the last evidence of its life, direct or through others.
    pub evidence_age: Option<Duration>,
    /// The last refusal, if it was refused since the last link.
    pub refused: Option<(CloseCode, String)>,
}
