//! The core: owns every table and timer of the mesh.

use std::net::SocketAddr;

use super::event::{Input, Output};
use super::identity::{Boot, NodeName, Time};
use super::overview::Overview;

/// What the core must know before it starts.
#[derive(Debug, Clone)]
pub struct Config {
    /// This node's name, as in its certificate.
    pub node: NodeName,
    /// The cluster's name: a DNS label.
    pub cluster: NodeName,
    /// The node's region; free text of at most 63 bytes.
    pub region: String,
    /// Start of this process, milliseconds since the Unix epoch.
    pub boot: Boot,
    /// Where peers reach this node.
    pub advertise: SocketAddr,
    /// Where to find other nodes at first: one that answers is enough. A name, where it is known,
    /// is checked against the certificate found there.
    pub seeds: Vec<(Option<NodeName>, SocketAddr)>,
}

/// The sans-io core of one node.
#[derive(Debug)]
pub struct Core {
    #[allow(dead_code)]
    config: Config,
}

impl Core {
    /// A core at the moment `now`, with all its randomness drawn from `seed`.
    pub fn new(config: Config, _now: Time, _seed: u64) -> Self {
        Self { config }
    }

    /// Tells the core what happened at `now`; `now` never goes back.
    pub fn handle(&mut self, _now: Time, _input: Input) {}

    /// What to do next, in order; `None` when there is nothing.
    pub fn poll_output(&mut self) -> Option<Output> {
        None
    }

    /// When to call [`Core::handle`] again at the latest.
    pub fn poll_timeout(&self) -> Time {
        Time(u64::MAX)
    }

    /// The mesh as this node sees it at `now`.
    pub fn overview(&self, _now: Time) -> Overview {
        Overview {
            node: self.config.node.clone(),
            cluster: self.config.cluster.clone(),
            region: self.config.region.clone(),
            boot: self.config.boot,
            seq: 0,
            rows: 0,
            rooms: Vec::new(),
            peers: Vec::new(),
            counters: Vec::new(),
        }
    }
}
