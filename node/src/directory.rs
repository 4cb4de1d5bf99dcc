//! What the web edge may ask of the mesh: answers from the replicated table, without asking anyone.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{OnceLock, PoisonError};
use std::time::{Duration, Instant};

use cursormesh_mesh::net::View;
use cursormesh_mesh::proto::{MemberId, NodeName, Overview, PeerOverview, RoomName, SeedOverview};
use cursormesh_web::cluster::{self, NearNode, NodeSummary, RoomSummary};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::bridge::{self, Dropped};
use crate::config::{NodeConfig, SeedName};
use crate::discovery::Unresolved;
use crate::levers::Levers;
use crate::metrics;
use crate::nearest;
use crate::picture::{self, Around, Losses, picture};

/// For so long after its start a node that knows of others but is not in touch with all of them is not
/// ready: its first clients would see an empty cluster, or be heard by a part of it.
const JOIN_GRACE: Duration = Duration::from_secs(3);

/// Rooms listed per node; their count is always given.
const ROOMS_LISTED_MAX: usize = 100;

/// The mesh as the web edge knows it.
#[derive(Debug)]
pub(crate) struct Directory {
    node: String,
    region: String,
    /// Where browsers reach the nodes, by name.
    urls: BTreeMap<String, String>,
    has_seeds: bool,
    started: Instant,
    view: OnceLock<Arc<View>>,
    leaving: AtomicBool,
    dropped: Arc<Dropped>,
    unresolved: Unresolved,
    losses: Losses,
    /// Where the node has any.
    levers: Option<Arc<Levers>>,
}

impl Directory {
    /// A directory of a node whose mesh does not run yet.
    pub(crate) fn new(
        config: &NodeConfig,
        dropped: Arc<Dropped>,
        unresolved: Unresolved,
        levers: Option<Arc<Levers>>,
    ) -> Self {
        Self {
            node: config.node.to_string(),
            region: config.region.clone(),
            urls: config.urls.clone(),
            has_seeds: !(config.seeds.is_empty() && config.seed_names.is_empty()),
            started: Instant::now(),
            view: OnceLock::new(),
            leaving: AtomicBool::new(false),
            dropped,
            unresolved,
            losses: Losses::default(),
            levers,
        }
    }

    /// The mesh runs.
    pub(crate) fn started(&self, view: Arc<View>) {
        // A second view is impossible: a node starts its mesh once.
        let _ = self.view.set(view);
    }

    /// Where browsers reach a node: as this node's own file has it, or else as that one says of itself.
    /// `None` where nobody said.
    fn url(&self, node: &str, public: &str) -> Option<String> {
        let told = || (!public.is_empty()).then(|| public.to_owned());
        self.urls.get(node).cloned().or_else(told)
    }

    /// The node shuts down.
    pub(crate) fn leaving(&self) {
        self.leaving.store(true, Ordering::Relaxed);
    }
}

impl cluster::Directory for Directory {
    fn node(&self) -> String {
        self.node.clone()
    }

    fn rooms(&self, limit: usize) -> Vec<RoomSummary> {
        let Some(view) = self.view.get() else {
            return Vec::new();
        };
        let mut rooms: Vec<RoomSummary> = view
            .rooms(limit)
            .into_iter()
            .map(|room| RoomSummary {
                room: room.room.to_string(),
                count: room.members,
            })
            .collect();
        rooms.sort_by(|a, b| a.room.cmp(&b.room));
        rooms
    }

    fn members(&self, room: &str) -> Vec<cluster::Member> {
        let (Some(view), Ok(room)) = (self.view.get(), RoomName::new(room)) else {
            return Vec::new();
        };
        let mut members: Vec<cluster::Member> = view
            .members(&room)
            .iter()
            .map(|member| bridge::member_to_web(member))
            .collect();
        members.sort_by_key(|member| (member.joined_at, member.id));
        members
    }

    fn member(&self, room: &str, member: Uuid) -> Option<cluster::Member> {
        let view = self.view.get()?;
        let room = RoomName::new(room).ok()?;
        let member = view.member(&room, MemberId(member.into_bytes()))?;
        Some(bridge::member_to_web(&member))
    }

    fn is_watched(&self, room: &str) -> bool {
        // Until the mesh runs it is asked for nothing.
        self.view.get().is_none_or(|view| view.is_watched(room))
    }

    fn nodes(&self) -> Vec<NodeSummary> {
        let summary = |node: &str, region: &str, public: &str| NodeSummary {
            node: node.to_owned(),
            region: region.to_owned(),
            url: self.url(node, public),
        };
        let mut nodes = vec![summary(&self.node, &self.region, "")];
        let Some(view) = self.view.get() else {
            return nodes;
        };
        let overview = view.overview();
        let mut peers: Vec<&PeerOverview> = overview
            .peers
            .iter()
            .filter(|peer| nearest::stays(peer))
            .collect();
        nearest::sort(&mut peers, &self.region);
        let peers = peers.iter();
        nodes.extend(peers.map(|peer| summary(peer.node.as_str(), &peer.region, &peer.public)));
        nodes
    }

    fn nearest(&self) -> Vec<NearNode> {
        let mut nodes = Vec::new();
        if !self.leaving.load(Ordering::Relaxed) {
            nodes.extend(self.url(&self.node, "").map(|url| NearNode {
                node: self.node.clone(),
                region: self.region.clone(),
                url,
                rtt: None,
            }));
        }
        let Some(view) = self.view.get() else {
            return nodes;
        };
        let overview = view.overview();
        let stay = overview.peers.iter().filter(|peer| nearest::stays(peer));
        let mut peers: Vec<&PeerOverview> = stay.collect();
        nearest::sort(&mut peers, &self.region);
        nodes.extend(peers.iter().filter_map(|peer| {
            Some(NearNode {
                node: peer.node.to_string(),
                region: peer.region.clone(),
                url: self.url(peer.node.as_str(), &peer.public)?,
                rtt: peer.rtt,
            })
        }));
        nodes
    }

    fn count(&self, room: &str) -> usize {
        match (self.view.get(), RoomName::new(room)) {
            (Some(view), Ok(room)) => view.count(&room),
            _ => 0,
        }
    }

    fn cluster(&self) -> Value {
        match self.view.get() {
            Some(view) => {
                let unresolved = self
                    .unresolved
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner);
                overview_json(&view.overview(), &unresolved)
            }
            None => json!({ "node": self.node, "peers": [] }),
        }
    }

    fn mesh(&self) -> Value {
        let Some(view) = self.view.get() else {
            return json!({ "node": self.node, "nodes": [], "links": [] });
        };
        let rooms = view.rooms(picture::ROOMS_MAX).into_iter();
        let around = Around {
            links: &view.links(),
            losses: &self.losses,
            rooms: rooms
                .map(|room| (room.room.to_string(), room.members))
                .collect(),
            room_count: view.room_count(),
            member_count: view.member_count(),
            url: &|node, public| self.url(node, public),
            cuts: self.levers.as_ref().map(|levers| levers.cuts()),
        };
        picture(&view.overview(), &around, Instant::now())
    }

    fn ready(&self) -> Result<(), String> {
        if self.leaving.load(Ordering::Relaxed) {
            return Err("the node shuts down".to_owned());
        }
        let Some(view) = self.view.get() else {
            return Err("the node starts".to_owned());
        };
        let joining = self.has_seeds && self.started.elapsed() < JOIN_GRACE;
        let overview = view.overview();
        let linked = overview.peers.iter().any(|peer| peer.linked);
        let mut alive = overview.peers.iter().filter(|peer| peer.alive);
        let apart = alive.any(|peer| !(peer.linked || peer.relay.is_some()) || !peer.visible);
        if joining && (apart || !linked) {
            return Err("the node looks for the others".to_owned());
        }
        Ok(())
    }

    fn metrics(&self) -> String {
        self.view.get().map_or_else(String::new, |view| {
            metrics::render(view, &self.dropped, self.started.elapsed())
        })
    }
}

fn overview_json(overview: &Overview, unresolved: &BTreeMap<SeedName, String>) -> Value {
    let seeds = overview.seeds.iter().map(seed_json);
    let names = unresolved.iter().map(|(name, problem)| {
        json!({ "addr": name.to_string(), "node": null, "itself": false, "problem": problem })
    });
    json!({
        "node": overview.node.as_str(),
        "cluster": overview.cluster.as_str(),
        "region": overview.region,
        // A 64-bit number is an opaque string in JavaScript.
        "boot": overview.boot.to_string(),
        "version": env!("CARGO_PKG_VERSION"),
        "seq": overview.seq,
        "rows": overview.rows,
        "rooms": rooms_json(overview.room_count, &overview.rooms),
        "peers": overview.peers.iter().map(peer_json).collect::<Vec<_>>(),
        "seeds": seeds.chain(names).collect::<Vec<_>>(),
    })
}

fn peer_json(peer: &PeerOverview) -> Value {
    json!({
        "node": peer.node.as_str(),
        "region": peer.region,
        "boot": peer.boot.to_string(),
        "addr": peer.addr.map(|addr| addr.to_string()),
        "state": state(peer),
        "alive": peer.alive,
        "linked": peer.linked,
        "protocol": peer.version,
        "public": peer.public,
        "rtt_ms": peer.rtt.map(round_ms),
        "relay": peer.relay.as_ref().map(|relay| relay.as_str()),
        "visible": peer.visible,
        "hidden_because": (!peer.visible).then_some(&peer.hidden_because),
        "applied": peer.applied,
        "rows": peer.rows,
        "rooms": rooms_json(peer.room_count, &peer.rooms),
        "evidence_age_ms": peer.evidence_age.map(round_ms),
        "refused": peer.refused.as_ref().map(|(code, reason)| json!({
            "code": *code as u32,
            "reason": reason,
        })),
    })
}

fn seed_json(seed: &SeedOverview) -> Value {
    json!({
        "addr": seed.addr.to_string(),
        "node": seed.node.as_ref().map(NodeName::as_str),
        "itself": seed.itself,
        "problem": seed.problem,
    })
}

/// `alive`: linked, or seen alive by others. `suspect`: membership has not given it up yet, but
/// there is neither a link nor a sign of life. `down`: membership has.
pub(crate) fn state(peer: &PeerOverview) -> &'static str {
    if !peer.alive && !peer.linked {
        "down"
    } else if peer.linked || peer.visible {
        "alive"
    } else {
        "suspect"
    }
}

fn rooms_json(count: usize, rooms: &[RoomName]) -> Value {
    let listed: Vec<&str> = rooms
        .iter()
        .take(ROOMS_LISTED_MAX)
        .map(RoomName::as_str)
        .collect();
    json!({ "count": count, "names": listed })
}

/// Milliseconds to a hundredth.
pub(crate) fn round_ms(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 100_000.0).round() / 100.0
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use cursormesh_mesh::proto::event::CloseCode;
    use cursormesh_web::cluster::Directory as _;

    #[test]
    fn a_peer_is_told_with_all_that_is_known() {
        let name = |name| NodeName::new(name).unwrap();
        let peer = PeerOverview {
            node: name("n2"),
            region: "eu".to_owned(),
            boot: 1_700_000_000_000,
            addr: Some("127.0.0.1:7172".parse().unwrap()),
            alive: true,
            linked: false,
            version: Some(2),
            public: "wss://n2.example.org/v1".to_owned(),
            rtt: Some(Duration::from_micros(1234)),
            links: Vec::new(),
            relay: Some(name("n3")),
            visible: false,
            hidden_because: "no sign of life".to_owned(),
            applied: 7,
            rows: 3,
            rooms: (0..150)
                .map(|n| RoomName::new(&format!("r{n}")).unwrap())
                .collect(),
            room_count: 2_000,
            evidence_age: None,
            refused: Some((CloseCode::Cluster, "another cluster".to_owned())),
        };
        let told = peer_json(&peer);
        assert_eq!(told["state"], "suspect");
        assert_eq!(told["protocol"], 2);
        assert_eq!(told["public"], "wss://n2.example.org/v1");
        assert_eq!(told["rtt_ms"], 1.23);
        assert_eq!(told["relay"], "n3");
        assert_eq!(told["hidden_because"], "no sign of life");
        assert_eq!(told["rooms"]["count"], 2_000);
        assert_eq!(told["rooms"]["names"].as_array().unwrap().len(), 100);
        assert_eq!(told["refused"]["code"], 3);
        assert_eq!(told["evidence_age_ms"], Value::Null);
    }

    #[test]
    fn a_node_without_a_running_mesh_is_not_ready_and_knows_nothing() {
        let tls = |_: &NodeName, _: &NodeName| crate::config::Tls::Pem(String::new());
        let mut config = NodeConfig::dev(&crate::config::Overrides::default(), tls).unwrap();
        config.node = NodeName::new("n1").unwrap();
        config.seeds = vec![(None, "127.0.0.1:7172".parse().unwrap())];
        let directory = Directory::new(&config, Arc::default(), Unresolved::default(), None);
        assert_eq!(directory.ready(), Err("the node starts".to_owned()));
        assert_eq!(directory.count("lobby"), 0);
        assert!(directory.members("lobby").is_empty());
        assert_eq!(directory.cluster()["node"], "n1");
        directory.leaving();
        assert_eq!(directory.ready(), Err("the node shuts down".to_owned()));
    }
}
