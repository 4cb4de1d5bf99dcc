//! A running node: what is started in which order, and how it stops.
//!
//! Start: certificate, web socket, mesh, pumps, web edge. The web socket is bound before the mesh
//! starts, so that a node whose port is taken never shows up at its peers. Stop: no new
//! connections, browsers are told (close 1012), the mesh is told what they left, the node leaves.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cursormesh_mesh::net::{self, Identity, Mesh, Settings, StartError};
use cursormesh_mesh::proto;
use cursormesh_web::config::Secret;
use cursormesh_web::tls::TlsError;
use cursormesh_web::{BindError, Hub, Server};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tracing::{error, info, warn};

use crate::bridge::{self, Dropped, ToMesh, Way};
use crate::carriage::{self, ToOthers};
use crate::cert::{self, Authority, CertError};
use crate::config::{ConfigError, Located, NodeConfig, Origin, Tls, WebTls};
use crate::directory::Directory;
use crate::discovery::{self, Discovery, Resolve, Unresolved};
use crate::levers::Levers;
use crate::metrics;

/// A stop that takes longer than this is cut short. With the runtime's own end it stays below 5 s.
const STOP_TIMEOUT: Duration = Duration::from_millis(4500);
/// A certificate that expires within this time is worth a warning: 30 days.
const EXPIRY_WARNING_SECONDS: i64 = 30 * 24 * 60 * 60;
/// File descriptors beside those of browsers.
const DESCRIPTORS_RESERVED: u64 = 64;
/// Exit code after a second Ctrl-C: 128 and the signal's number, as shells have it.
const EXIT_INTERRUPTED: i32 = 130;
/// Exit code after a second SIGTERM, likewise.
const EXIT_TERMINATED: i32 = 143;

/// Why a node did not start. Nothing is left running.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The throwaway CA cannot be made or read.
    #[error(transparent)]
    Certificate(#[from] CertError),
    /// The bundle cannot be used.
    #[error(transparent)]
    Bundle(Box<ConfigError>),
    /// An address cannot be listened on.
    #[error(transparent)]
    Listen(Box<ConfigError>),
    /// The mesh did not start for another reason.
    #[error("the mesh cannot start: {0}")]
    Mesh(StartError),
    /// The runtime could not be had.
    #[error("the system gives no threads or signals: {0}")]
    System(#[from] std::io::Error),
}

/// A running node. Dropping it stops it at once, as a crash would; [`Node::stop`] is the clean way.
#[derive(Debug)]
pub struct Node {
    web_addrs: Vec<SocketAddr>,
    mesh_addr: SocketAddr,
    stop: watch::Sender<bool>,
    done: JoinHandle<()>,
}

impl Node {
    /// Starts a node inside the current tokio runtime; returns once it listens. Links to other
    /// nodes come up later.
    pub async fn start(config: NodeConfig) -> Result<Self, RunError> {
        Self::start_with(config, Arc::new(discovery::System::default())).await
    }

    /// As [`Node::start`], with somebody else to say what the names among the seeds stand for.
    pub async fn start_with(
        config: NodeConfig,
        resolver: Arc<dyn Resolve>,
    ) -> Result<Self, RunError> {
        let (identity, secret) = identity_and_secret(&config)?;
        warn_ahead(&config);
        let dropped = Arc::new(Dropped::default());
        let unresolved = Unresolved::default();
        let levers = config.dev.then(Arc::<Levers>::default);
        let directory =
            Directory::new(&config, dropped.clone(), unresolved.clone(), levers.clone());
        let directory = Arc::new(directory);
        let to_mesh = Arc::new(ToMesh::new(dropped));
        let web = web_config(&config, secret, web_tls(&config)?);
        let hub = Hub::new(&web, directory.clone(), Way(to_mesh.clone()));
        let to_others = Arc::new(ToOthers::default());
        let mut server = Server::bind(web, hub.clone(), directory.clone())
            .map_err(|error| web_error(&config, &error))?
            .with_carrier(to_others.clone());
        let web_addrs = server.local_addrs();
        let mut mesh = net::start(mesh_settings(&config, identity))
            .await
            .map_err(|error| mesh_error(&config, error))?;
        let mesh_addr = mesh.listen_addr();
        directory.started(mesh.view());
        if let Some(levers) = &levers {
            server = server.with_levers(levers.clone());
            if let Some(cuts) = mesh.cuts() {
                levers.started(cuts, mesh.view());
            }
        }
        info!(
            cluster = %config.cluster,
            region = config.region,
            mesh = %mesh_addr,
            seeds = config.seeds.len() + config.seed_names.len(),
            version = env!("CARGO_PKG_VERSION"),
            "node started"
        );
        let encrypted = config.web_limits.tls.is_some();
        let urls: Vec<String> = web_addrs
            .iter()
            .map(|addr| local_url(*addr, encrypted))
            .collect();
        info!("open {} in a browser", urls.join(" or "));

        let (stop, stopped) = watch::channel(false);
        if !config.seed_names.is_empty() {
            let discovery = Discovery::new(
                config.seed_names,
                mesh_addr,
                config.seeds.len(),
                resolver,
                mesh.seeds(),
                unresolved,
            );
            tokio::spawn(discovery.run(mesh.view()));
        }
        to_mesh.open(mesh.local());
        to_others.open(mesh.carrier());
        if let Some(requests) = mesh.requests() {
            tokio::spawn(carriage::answer(requests, server.answers()));
        }
        let events = mesh.events();
        let to_hub = tokio::spawn(async move {
            if let Some(events) = events {
                bridge::mesh_to_hub(events, hub).await;
            }
        });
        let running = Running {
            mesh,
            directory,
            to_hub,
            told: levers.map(|levers| levers.stopped()).unwrap_or_default(),
        };
        let done = tokio::spawn(running.until(server, stopped));
        Ok(Self {
            web_addrs,
            mesh_addr,
            stop,
            done,
        })
    }

    /// Where browsers connect; a configured port 0 is the real one here.
    pub fn web_addrs(&self) -> &[SocketAddr] {
        &self.web_addrs
    }

    /// Where it listens for other nodes.
    pub fn mesh_addr(&self) -> SocketAddr {
        self.mesh_addr
    }

    /// Stops the node: browsers are told, peers are told. Takes less than 5 s.
    pub async fn stop(mut self) {
        // If nobody listens any more, the node has ended already.
        let _ = self.stop.send(true);
        if tokio::time::timeout(STOP_TIMEOUT, &mut self.done)
            .await
            .is_err()
        {
            warn!("the stop took too long and was cut short");
        }
    }

    /// Returns when the node ended without having been told to: its mesh or its web edge failed,
    /// and the log says how.
    async fn ended(&mut self) {
        // A panic inside has been printed by then, and means the same.
        let _ = (&mut self.done).await;
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.done.abort();
    }
}

/// The parts of a node that runs.
struct Running {
    mesh: Mesh,
    directory: Arc<Directory>,
    to_hub: JoinHandle<()>,
    /// Notified when a lever stops the node.
    told: Arc<Notify>,
}

impl Running {
    /// Serves until `stopped` says so or a part fails, then stops everything in order.
    async fn until(mut self, server: Server, mut stopped: watch::Receiver<bool>) {
        let (stop_web, web_stopped) = tokio::sync::oneshot::channel::<()>();
        let mut web = tokio::spawn(server.run(async {
            // A dropped sender means the same: stop.
            let _ = web_stopped.await;
        }));
        let mut web_runs = true;
        tokio::select! {
            // Also when the handle is gone.
            _ = stopped.wait_for(|stopped| *stopped) => info!("node stops"),
            () = self.told.notified() => info!("node stops"),
            _ = &mut self.to_hub => error!("the mesh ended by itself: the node stops"),
            _ = &mut web => {
                web_runs = false;
                error!("the web edge ended by itself: the node stops");
            }
        }
        self.directory.leaving();
        drop(stop_web);
        if web_runs {
            // A panic inside has been printed; there is nothing left to wait for then.
            let _ = web.await;
        }
        // What browsers said last is with the mesh by now; then the node leaves.
        // Members that can come back are shown as away while their clients move to other nodes.
        self.mesh.leave(proto::GRACE).await;
        self.to_hub.abort();
        info!("node stopped");
    }
}

/// Runs a node until SIGTERM or Ctrl-C and stops it then; a second signal ends the process at once.
/// The exit code says whether the node ended in order.
pub fn until_signal(config: NodeConfig) -> Result<ExitCode, RunError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let result = runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut node = Node::start(config).await?;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            () = node.ended() => return Ok(ExitCode::FAILURE),
        }
        tokio::select! {
            () = node.stop() => Ok(ExitCode::SUCCESS),
            _ = terminate.recv() => std::process::exit(EXIT_TERMINATED),
            _ = interrupt.recv() => std::process::exit(EXIT_INTERRUPTED),
        }
    });
    runtime.shutdown_timeout(Duration::from_millis(200));
    result
}

/// The node's certificate, read and checked against its name and cluster.
pub fn identity(config: &NodeConfig) -> Result<Identity, RunError> {
    identity_and_secret(config).map(|(identity, _)| identity)
}

/// The certificate, and the cluster's secret where the bundle has it: one made before there was a
/// secret works, but its members cannot be resumed on other nodes.
fn identity_and_secret(config: &NodeConfig) -> Result<(Identity, Option<Secret>), RunError> {
    let NodeConfig { node, cluster, .. } = config;
    let unusable = |problem: String, remedy: String| match &config.tls {
        Tls::Bundle { path, key } => {
            let problem = format!("bundle {}: {problem}", path.value.display());
            let error = ConfigError::new(&path.origin, Some(key), problem, remedy);
            RunError::Bundle(Box::new(error))
        }
        Tls::Throwaway(dir) => RunError::Bundle(Box::new(ConfigError::new(
            dir.display(),
            None,
            format!("throwaway CA: {problem}"),
            "delete this directory and start all nodes again",
        ))),
        Tls::Pem(_) => RunError::Bundle(Box::new(ConfigError::new(
            "bundle in memory",
            None,
            problem,
            remedy,
        ))),
    };
    let bytes = match &config.tls {
        Tls::Pem(text) => text.clone().into_bytes(),
        Tls::Throwaway(dir) => Authority::throwaway(dir, cluster)?
            .bundle_for(node, cluster)?
            .into_bytes(),
        Tls::Bundle { path, .. } => std::fs::read(&path.value).map_err(|error| {
            let dir = path.value.parent().unwrap_or(&path.value).display();
            let remedy = if error.kind() == std::io::ErrorKind::NotFound {
                format!(
                    "make it with `cursormesh cert node --name {node} --ca {dir}` (and the CA \
                     before, with `cursormesh cert ca --cluster {cluster} --out {dir}`)"
                )
            } else {
                "let this user read it".to_owned()
            };
            unusable(error.to_string(), remedy)
        })?,
    };
    let identity = Identity::from_pem(&bytes).map_err(|error| {
        unusable(
            error.to_string(),
            format!(
                "see what it is with `cursormesh cert show`; make a new one with `cursormesh cert \
                 node --name {node} --force`"
            ),
        )
    })?;
    if identity.node() != node || identity.cluster() != cluster {
        return Err(unusable(
            format!(
                "is for node {} of cluster {}, but this is node {node} of cluster {cluster}",
                identity.node(),
                identity.cluster()
            ),
            format!(
                "use the bundle that the CA of cluster {cluster} issued for {node}, made with `cursormesh \
                 cert node --name {node}` where that CA is; or correct `cluster.name`"
            ),
        ));
    }
    Ok((identity, cert::secret(&bytes).map(Secret::new)))
}

/// Says in the log what works now and will not for long.
fn warn_ahead(config: &NodeConfig) {
    let wanted = config.web_limits.connections_max as u64 + DESCRIPTORS_RESERVED;
    if let Some(limit) = metrics::open_files_max().filter(|limit| *limit < wanted) {
        warn!(
            limit,
            wanted,
            "too few open files are allowed for web.connections_max: raise `ulimit -n` or lower the key"
        );
    }
    let Tls::Bundle { path, .. } = &config.tls else {
        return;
    };
    let path = &path.value;
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs().cast_signed());
    let expiry = cert::show(path)
        .ok()
        .and_then(|shown| shown.certificates.iter().map(|one| one.not_after).min());
    if let Some(expiry) = expiry.filter(|expiry| expiry - now < EXPIRY_WARNING_SECONDS) {
        warn!(
            bundle = %path.display(),
            expires = cert::date(expiry),
            "the certificate expires soon: make a new one with `cursormesh cert node`"
        );
    }
    let mode = std::fs::metadata(path).map_or(0, |meta| meta.permissions().mode());
    if mode & 0o077 != 0 {
        warn!(
            bundle = %path.display(),
            "others can read the private key in this file: chmod 600"
        );
    }
}

/// The URL at which this machine reaches a listening address, with TLS or without.
pub fn local_url(addr: SocketAddr, encrypted: bool) -> String {
    let ip = match addr.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    let scheme = if encrypted { "https" } else { "http" };
    format!("{scheme}://{}", SocketAddr::new(ip, addr.port()))
}

/// What browsers are served with over TLS, read from its files.
fn web_tls(config: &NodeConfig) -> Result<Option<cursormesh_web::tls::Tls>, RunError> {
    let Some(WebTls { certificate, key }) = &config.web_limits.tls else {
        return Ok(None);
    };
    let unusable = |at: &Located<PathBuf>, name, problem: String| {
        let problem = format!("{}: {problem}", at.value.display());
        let remedy = "give PEM files that belong together and that this user may read";
        RunError::Bundle(Box::new(ConfigError::new(
            &at.origin,
            Some(name),
            problem,
            remedy,
        )))
    };
    let read = |at: &Located<PathBuf>, name| {
        std::fs::read(&at.value).map_err(|error| unusable(at, name, error.to_string()))
    };
    let chain = read(certificate, "web.tls_certificate")?;
    let private = read(key, "web.tls_key")?;
    cursormesh_web::tls::Tls::from_pem(&chain, &private)
        .map(Some)
        .map_err(|error| match &error {
            TlsError::Key(_) => unusable(key, "web.tls_key", error.to_string()),
            TlsError::Certificate(_) | TlsError::Unusable(_) => {
                unusable(certificate, "web.tls_certificate", error.to_string())
            }
        })
}

fn web_config(
    config: &NodeConfig,
    secret: Option<Secret>,
    tls: Option<cursormesh_web::tls::Tls>,
) -> cursormesh_web::Config {
    let own = cursormesh_web::Config::default();
    let limits = &config.web_limits;
    cursormesh_web::Config {
        listen: reachable(&config.web),
        connections_max: limits.connections_max,
        message_bytes_max: limits.message_bytes_max,
        tick: limits.tick,
        header_timeout: limits.header_timeout,
        outbox_bytes_max: limits.outbox_bytes_max,
        backlog_bytes_max: limits.backlog_bytes_max,
        ping_interval: limits.ping_interval,
        dead_after: limits.ping_timeout,
        resume_secrets: secret.into_iter().collect(),
        threads: limits.threads.unwrap_or(own.threads),
        tls,
        sockjs: cursormesh_web::config::SockJs {
            prefixes: limits.sockjs.prefixes.clone(),
            client_url: limits.sockjs.client_url.clone(),
            heartbeat: limits.sockjs.heartbeat,
            disconnect_delay: limits.sockjs.disconnect_delay,
            response_bytes_max: limits.sockjs.response_bytes_max,
            sessions_max: limits.connections_max,
            conformance: limits.sockjs.conformance,
            ..own.sockjs
        },
        ..own
    }
}

/// The addresses to listen on: without `[::1]` on a machine that has no IPv6, unless nothing else
/// is left.
fn reachable(web: &[Located<SocketAddr>]) -> Vec<SocketAddr> {
    let has_v6 = UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).is_ok();
    let is_missing = |addr: &SocketAddr| !has_v6 && addr.ip() == Ipv6Addr::LOCALHOST;
    let all: Vec<SocketAddr> = web.iter().map(|at| at.value).collect();
    let there: Vec<SocketAddr> = all
        .iter()
        .copied()
        .filter(|addr| !is_missing(addr))
        .collect();
    if there.is_empty() {
        return all;
    }
    for addr in all.iter().filter(|addr| is_missing(addr)) {
        warn!(%addr, "not listening here: this machine has no IPv6");
    }
    there
}

fn mesh_settings(config: &NodeConfig, identity: Identity) -> Settings {
    let boot = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| {
            u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
        });
    Settings {
        core: proto::Config {
            node: config.node.clone(),
            cluster: config.cluster.clone(),
            region: config.region.clone(),
            boot,
            advertise: config.advertise.unwrap_or(config.mesh.value),
            seeds: config.seeds.clone(),
            grace: proto::GRACE,
            snapshot_part_bytes: proto::SNAPSHOT_PART_BYTES,
            public: config.public(),
            versions: proto::Versions::default(),
            rules: proto::Rules::default(),
        },
        listen: config.mesh.value,
        identity,
        cuttable: config.dev,
        seed: None,
    }
}

fn web_error(config: &NodeConfig, error: &BindError) -> RunError {
    let origin = config
        .web
        .iter()
        .find(|at| at.value == error.addr)
        .map_or(&Origin::Default, |at| &at.origin);
    listen_error(origin, "node.web", "TCP", error.addr, &error.source, config)
}

fn mesh_error(config: &NodeConfig, error: StartError) -> RunError {
    match error {
        StartError::Bind { addr, source } => listen_error(
            &config.mesh.origin,
            "node.mesh",
            "UDP",
            addr,
            &source,
            config,
        ),
        other => RunError::Mesh(other),
    }
}

fn listen_error(
    origin: &Origin,
    key: &'static str,
    protocol: &'static str,
    addr: SocketAddr,
    error: &std::io::Error,
    config: &NodeConfig,
) -> RunError {
    let name = key.trim_start_matches("node.");
    let change = match origin {
        Origin::File { .. } => format!(
            "change `{name}` of node {} there; --{name} IP:PORT overrides it for one run",
            config.node
        ),
        Origin::Env(_) | Origin::Flag(_) => format!("choose another with --{name} IP:PORT"),
        // Only `cursormesh dev` listens at addresses that nobody gave.
        Origin::Default => "choose another with --port PORT".to_owned(),
    };
    let (problem, remedy) = match error.kind() {
        std::io::ErrorKind::AddrInUse => {
            let letter = if protocol == "TCP" { 't' } else { 'u' };
            (
                "the port is in use by another program, or by this node already".to_owned(),
                format!("stop that (`ss -ln{letter}p` shows it), or {change}"),
            )
        }
        std::io::ErrorKind::AddrNotAvailable => (
            "this machine has no such address".to_owned(),
            format!("see `ip addr`, and {change}"),
        ),
        std::io::ErrorKind::PermissionDenied => (
            "not allowed to this user".to_owned(),
            format!("choose a port above 1023: {change}"),
        ),
        _ => (error.to_string(), change),
    };
    RunError::Listen(Box::new(ConfigError::new(
        origin,
        Some(key),
        format!("cannot listen on {protocol} {addr}: {problem}"),
        remedy,
    )))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::config::Overrides;

    /// The keys name their defaults for people; what they name is what the web edge documents.
    #[test]
    fn a_key_that_nobody_sets_leaves_the_web_edge_as_it_is() {
        let config =
            NodeConfig::dev(&Overrides::default(), |_, _| Tls::Pem("x".to_owned())).unwrap();
        let own = cursormesh_web::Config::default();
        let web = cursormesh_web::Config {
            listen: own.listen.clone(),
            ..web_config(&config, None, None)
        };
        assert_eq!(web, own);
    }
}
