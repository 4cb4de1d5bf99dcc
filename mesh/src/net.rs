//! The half that talks: quinn, rustls, and the task that owns the core.
//!
//! [`start`] binds the UDP socket and spawns one task that owns the [`Core`].
//! The node speaks to it through [`Mesh::local`], listens through [`Mesh::events`] and lets anyone
//! read the replicated table through [`Mesh::view`]. Beside the table, the mesh carries requests from
//! node to node, without knowing what they are about: [`Mesh::carrier`] and [`Mesh::requests`].

mod bulk;
mod carriage;
mod cut;
mod dialer;
mod driver;
mod endpoint;
mod framing;
mod inbox;
mod peer;
mod tls;
mod traffic;
mod view;

#[cfg(test)]
#[path = "../tests/support/certs.rs"]
mod certs;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rand::TryRng;
use rand::rngs::SysRng;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use self::carriage::Carriage;
pub use self::carriage::{
    Answer, Carrier, CarryError, PART_BYTES_MAX, REQUEST_BYTES_MAX, Reply, Request,
};
pub use self::cut::Cuts;
use self::driver::{Client, Driver, Engine, Leave};
use self::endpoint::Bound;
pub use self::tls::{Identity, IdentityError};
pub use self::traffic::{Traffic, Volume};
pub use self::view::{LinkStats, RoomCount, UserEntry, View};
use crate::proto::{Config, Core, Event, Local, NodeName, Time};

/// How much of the node's own input may wait.
const LOCAL_MAX: usize = 1024;

/// What [`start`] needs.
#[derive(Debug)]
pub struct Settings {
    /// What the core must know. Where `advertise` has port 0, the port that was bound is filled in.
    pub core: Config,
    /// The UDP address to listen on; port 0 takes any free port.
    pub listen: SocketAddr,
    /// The node's checked bundle.
    pub identity: Identity,
    /// Whether links can be [cut](Mesh::cuts) on purpose.
    pub cuttable: bool,
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
    leave: mpsc::Sender<Leave>,
    seeds: watch::Sender<BTreeSet<SocketAddr>>,
    view: Arc<View>,
    carriage: Arc<Carriage>,
    cuts: Option<Arc<Cuts>>,
    listen_addr: SocketAddr,
}

/// Starts the mesh inside the current tokio runtime and returns once the socket is bound; links
/// come up later and are told as [`Event::LinkUp`].
pub async fn start(settings: Settings) -> Result<Mesh, StartError> {
    let Settings {
        mut core,
        listen,
        identity,
        cuttable,
        seed,
    } = settings;
    if *identity.node() != core.node || *identity.cluster() != core.cluster {
        return Err(StartError::Identity {
            certificate_node: identity.node().clone(),
            certificate_cluster: identity.cluster().clone(),
            node: core.node,
            cluster: core.cluster,
        });
    }
    let seed = match seed {
        Some(seed) => seed,
        None => SysRng
            .try_next_u64()
            .map_err(|error| StartError::Entropy(error.to_string()))?,
    };
    let bound = endpoint::bind(listen, &identity, cuttable)?;
    if core.advertise.port() == 0 {
        core.advertise.set_port(bound.addr.port());
    }
    let (node, cluster) = (core.node.clone(), core.cluster.clone());
    let start = Instant::now();
    let engine = Core::new(core, Time::default(), seed);
    Ok(launch(engine, start, bound, node, cluster))
}

/// Spawns the tasks around an engine whose time is zero at `start`.
fn launch<E: Engine>(
    engine: E,
    start: Instant,
    bound: Bound,
    node: NodeName,
    cluster: NodeName,
) -> Mesh {
    let listen_addr = bound.addr;
    let cuts = bound.cuts.clone();
    let view = Arc::new(View::new(engine.overview(Time::default())));
    let gate = Arc::new(bound.into_gate(node, cluster, Arc::clone(&view)));
    let carriage = Arc::new(Carriage::new(&gate));
    let (local, local_out) = mpsc::channel(LOCAL_MAX);
    let (events_in, events) = mpsc::channel(driver::EVENTS_MAX);
    let (leave, leave_out) = mpsc::channel(1);
    let (seeds, seeds_out) = watch::channel(BTreeSet::new());
    let (inbox, outlet) = inbox::channels();
    tokio::spawn(endpoint::accept(Arc::clone(&gate), inbox.clone()));
    let client = Client {
        local: local_out,
        events: events_in,
        leave: leave_out,
        seeds: seeds_out,
    };
    let driver = Driver::new(
        engine,
        start,
        gate,
        Arc::clone(&carriage),
        inbox,
        outlet,
        client,
    );
    tokio::spawn(driver.run());
    Mesh {
        local,
        events: Some(events),
        leave,
        seeds,
        view,
        carriage,
        cuts,
        listen_addr,
    }
}

impl Mesh {
    /// Where to tell the mesh what this node's clients do. Bounded (1,024): waiting here is the
    /// back-pressure. The task that reads [`Mesh::events`] must not be the one that waits here:
    /// the mesh stops reading while more than 8,192 events beyond the channel wait for it.
    pub fn local(&self) -> mpsc::Sender<Local> {
        self.local.clone()
    }

    /// The events for this node, once; `None` when taken already. While they are not read the mesh
    /// stops reading ordered frames from its peers, and drops cursors.
    pub fn events(&mut self) -> Option<mpsc::Receiver<Event>> {
        self.events.take()
    }

    /// Where to say what the names among the seeds stand for, all of them together, whenever that
    /// changes: addresses beside those of [`Config::seeds`]. At most [`SEEDS_MAX`](crate::proto::SEEDS_MAX)
    /// are taken; the newest set counts. Closed when the mesh has ended.
    pub fn seeds(&self) -> watch::Sender<BTreeSet<SocketAddr>> {
        self.seeds.clone()
    }

    /// The replicated table and the mesh's state, for readers.
    pub fn view(&self) -> Arc<View> {
        Arc::clone(&self.view)
    }

    /// What other nodes ask of this one, once; `None` when taken already, or when the mesh has ended.
    /// Bounded (1,024): what does
    /// not fit is refused as [`CarryError::Busy`]. Until this is called, and once the receiver is
    /// dropped, other nodes are told [`CarryError::Unreachable`]. Ends with the mesh.
    pub fn requests(&mut self) -> Option<mpsc::Receiver<Request>> {
        self.carriage.listen()
    }

    /// The way to ask other nodes; cheap to clone, and may outlive the mesh, which makes every node
    /// unreachable to it.
    pub fn carrier(&self) -> Carrier {
        Carrier::new(Arc::clone(&self.carriage))
    }

    /// What cuts this node from others on purpose, where the settings allow it.
    pub fn cuts(&self) -> Option<Arc<Cuts>> {
        self.cuts.clone()
    }

    /// The UDP address that was bound.
    pub fn listen_addr(&self) -> SocketAddr {
        self.listen_addr
    }

    /// Leaves the cluster: every peer is told, with `linger` this node's rows stay visible there as
    /// away for that long, then all links close. Takes at most about 1 s.
    pub async fn leave(self, linger: Duration) {
        let (done, left) = oneshot::channel();
        // Either fails only when the mesh task has ended, and then there is nothing to leave.
        let _ = self.leave.send(Leave { linger, done }).await;
        let _ = left.await;
    }
}
