//! What the levers of the web edge are connected to: see `cursormesh serve --dev`.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use cursormesh_mesh::net::{Cuts, View};
use cursormesh_mesh::proto::NodeName;
use tokio::sync::Notify;
use tracing::warn;

/// The levers of a node; without effect until its mesh runs.
#[derive(Debug, Default)]
pub(crate) struct Levers {
    mesh: OnceLock<(Arc<Cuts>, Arc<View>)>,
    stop: Arc<Notify>,
}

impl Levers {
    /// The mesh runs.
    pub(crate) fn started(&self, cuts: Arc<Cuts>, view: Arc<View>) {
        // A second mesh is impossible: a node starts its mesh once.
        let _ = self.mesh.set((cuts, view));
    }

    /// Told once somebody stops the node.
    pub(crate) fn stopped(&self) -> Arc<Notify> {
        self.stop.clone()
    }

    /// The nodes that this one is cut from, by name.
    pub(crate) fn cuts(&self) -> Vec<String> {
        let cuts = self.mesh.get().map(|(cuts, _)| cuts.list());
        let cuts = cuts.unwrap_or_default();
        cuts.iter().map(NodeName::to_string).collect()
    }

    /// The node, and where it may send from or listen.
    fn addresses(view: &View, node: &str) -> Result<(NodeName, Vec<SocketAddr>), String> {
        let overview = view.overview();
        if overview.node.as_str() == node {
            return Err("That is this node itself.".to_owned());
        }
        let peer = overview
            .peers
            .iter()
            .find(|peer| peer.node.as_str() == node);
        let Some(peer) = peer else {
            return Err(format!("No node {node} is known here."));
        };
        let links = view.links();
        let linked = links.iter().filter(|link| link.peer == peer.node);
        let addrs = linked.map(|link| link.addr).chain(peer.addr).collect();
        Ok((peer.node.clone(), addrs))
    }
}

impl cursormesh_web::levers::Levers for Levers {
    fn cut(&self, node: &str) -> Result<(), String> {
        let Some((cuts, view)) = self.mesh.get() else {
            return Err("The node starts.".to_owned());
        };
        let (name, addrs) = Self::addresses(view, node)?;
        warn!(peer = %name, "cut on purpose: nothing passes between this node and the peer");
        cuts.cut(&name, addrs);
        Ok(())
    }

    fn heal(&self, node: Option<&str>) -> Result<(), String> {
        let Some((cuts, _)) = self.mesh.get() else {
            return Err("The node starts.".to_owned());
        };
        let name = node.map(NodeName::new).transpose();
        let name = name.map_err(|_| "That is no node's name.".to_owned())?;
        if cuts.heal(name.as_ref()) {
            warn!(peer = node.unwrap_or("all"), "healed");
        }
        Ok(())
    }

    fn stop(&self) {
        warn!("told to stop by the dashboard");
        self.stop.notify_one();
    }
}
