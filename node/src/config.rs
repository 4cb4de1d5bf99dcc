//! Configuration: one file for all nodes, overridden by the environment, overridden by flags,
//! parsed once into types that cannot be wrong.
//!
//! `cluster.toml` at the root of the repository documents every key; [`keys::KEYS`] declares them.

pub mod keys;
pub mod source;

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use cursormesh_mesh::proto::NodeName;
use cursormesh_mesh::proto::wire::PUBLIC_BYTES_MAX;
use tracing::level_filters::LevelFilter;

use self::keys::{Key, Kind};
use self::source::{File, NodeTable, Raw, Scalar, quoted};
pub use self::source::{Located, Origin, Overrides};

/// Where browsers connect unless something else is said: both loopback addresses.
const WEB_DEFAULT: [SocketAddr; 2] = [
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 7071),
    SocketAddr::new(IpAddr::V6(Ipv6Addr::LOCALHOST), 7071),
];

/// What stands before a name whose SRV records are meant.
const SRV_PREFIX: &str = "srv:";

/// Most web addresses of a node, and most seeds.
const LIST_ITEMS_MAX: usize = 1000;

/// A configuration that cannot be used, in the words of whoever has to change it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ConfigError {
    place: String,
    key: Option<String>,
    problem: String,
    remedy: String,
}

impl ConfigError {
    /// An error at a place (a file and line, a variable, a flag), about a key if there is one.
    pub(crate) fn new(
        place: impl fmt::Display,
        key: Option<&str>,
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self {
            place: place.to_string(),
            key: key.map(str::to_owned),
            problem: problem.into(),
            remedy: remedy.into(),
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.place)?;
        if let Some(key) = &self.key {
            write!(f, "`{key}`: ")?;
        }
        write!(f, "{}\n  remedy: {}", self.problem, self.remedy)
    }
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// What is logged and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogConfig {
    /// How.
    pub format: LogFormat,
    /// What, where no target says otherwise.
    pub level: LevelFilter,
    /// What, per target (a module path or the beginning of one).
    pub targets: Vec<(String, LevelFilter)>,
}

/// Limits and times of the web edge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebLimits {
    /// Largest message of a browser, in bytes.
    pub message_bytes_max: usize,
    /// Least time between two deliveries to a busy room.
    pub tick: Duration,
    /// Most connections at a time.
    pub connections_max: usize,
    /// How long a request's headers may take.
    pub header_timeout: Duration,
    /// Threads that serve browsers; `None` leaves it to the number of processors.
    pub threads: Option<usize>,
    /// What browsers are served with over TLS.
    pub tls: Option<WebTls>,
    /// Most bytes kept for one slow reader.
    pub outbox_bytes_max: usize,
    /// Most bytes kept for all connections together.
    pub backlog_bytes_max: usize,
    /// How often a connection is pinged.
    pub ping_interval: Duration,
    /// A connection silent for this long is closed.
    pub ping_timeout: Duration,
    /// SockJS.
    pub sockjs: SockJs,
}

/// Limits and times of the SockJS server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SockJs {
    /// Paths of the tutorial's room.
    pub prefixes: Vec<String>,
    /// The script of the iframe page.
    pub client_url: String,
    /// The longest silence while a client listens.
    pub heartbeat: Duration,
    /// A session that nobody listens to for this long is over.
    pub disconnect_delay: Duration,
    /// Most bytes of an answer that goes on.
    pub response_bytes_max: usize,
    /// Whether there are services for public conformance suites. Only `cursormesh dev` can say so.
    pub conformance: bool,
}

/// The files that browsers are served with over TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebTls {
    /// The chain, the node's own certificate first.
    pub certificate: Located<PathBuf>,
    /// Its private key.
    pub key: Located<PathBuf>,
}

/// Where a node's certificate comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tls {
    /// A bundle file, as `cursormesh cert node` writes it.
    Bundle {
        /// Where it is.
        path: Located<PathBuf>,
        /// The key that said so.
        key: &'static str,
    },
    /// The throwaway CA in this directory, made when it is missing; loopback only.
    Throwaway(PathBuf),
    /// A bundle's text.
    Pem(String),
}

/// A seed that is a name: what it stands for is asked again and again.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum SeedName {
    /// All addresses of a host, at a port.
    Host {
        /// The host.
        host: String,
        /// The port, not zero.
        port: u16,
    },
    /// All hosts and ports that the SRV records of a name tell.
    Service(String),
}

impl fmt::Display for SeedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host { host, port } => write!(f, "{host}:{port}"),
            Self::Service(name) => write!(f, "{SRV_PREFIX}{name}"),
        }
    }
}

impl SeedName {
    /// A name as it stands in a list of seeds; `None` for anything else.
    fn parse(text: &str) -> Option<Self> {
        if let Some(name) = text.strip_prefix(SRV_PREFIX) {
            return is_host_name(name).then(|| Self::Service(name.to_owned()));
        }
        let (host, port) = text.rsplit_once(':')?;
        let port = port.parse().ok().filter(|port| *port != 0)?;
        is_host_name(host).then(|| Self::Host {
            host: host.to_owned(),
            port,
        })
    }

    /// Whether it can stand for other machines than this one.
    fn is_remote(&self) -> bool {
        match self {
            Self::Host { host, .. } => {
                let host = host.trim_end_matches('.').to_ascii_lowercase();
                host != "localhost" && !host.ends_with(".localhost")
            }
            Self::Service(_) => true,
        }
    }
}

/// Whether a text can be a name in DNS. One that ends in a number is a mistyped address.
fn is_host_name(text: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    let name = text.strip_suffix('.').unwrap_or(text);
    let last = name.rsplit('.').next().unwrap_or_default();
    name.len() <= 253
        && name.split('.').all(is_label)
        && !last.bytes().all(|byte| byte.is_ascii_digit())
}

/// Everything one node must know before it starts.
#[derive(Debug, Clone)]
pub struct NodeConfig {
    /// Its name.
    pub node: NodeName,
    /// Its cluster's name.
    pub cluster: NodeName,
    /// Where it runs; at most 63 bytes.
    pub region: String,
    /// Where browsers connect; at least one.
    pub web: Vec<Located<SocketAddr>>,
    /// Limits and times of the web edge.
    pub web_limits: WebLimits,
    /// Where it listens for other nodes.
    pub mesh: Located<SocketAddr>,
    /// Where other nodes reach it; `None`: at `mesh`.
    pub advertise: Option<SocketAddr>,
    /// Where it looks for other nodes, with their names where they are known.
    pub seeds: Vec<(Option<NodeName>, SocketAddr)>,
    /// Names that stand for further places to look.
    pub seed_names: Vec<SeedName>,
    /// Where browsers reach the cluster's nodes, by name, as far as it is known.
    pub urls: BTreeMap<String, String>,
    /// Its certificate.
    pub tls: Tls,
    /// What is logged and how.
    pub log: LogConfig,
    /// Whether its links can be cut and it can be stopped over HTTP: where browsers connect to loopback
    /// addresses alone. No key says so, only `--dev`.
    pub dev: bool,
}

impl NodeConfig {
    /// Where browsers reach this node, as it tells the others; empty if it is not known.
    pub fn public(&self) -> String {
        let url = self.urls.get(self.node.as_str());
        url.cloned().unwrap_or_default()
    }

    /// One node on its own, without any file: name and cluster `dev`, browsers on both loopback
    /// addresses at port 7071, mesh on a free loopback port. `tls` is a bundle's text.
    /// `overrides` may change all of it.
    pub fn dev(
        overrides: &Overrides,
        tls: impl FnOnce(&NodeName, &NodeName) -> Tls,
    ) -> Result<Self, ConfigError> {
        let settings = Settings {
            file: None,
            overrides,
        };
        let node = label("dev");
        let shared = Shared::read(&settings)?;
        let mesh = settings
            .address(None, "node.mesh")?
            .unwrap_or_else(|| Located::by_default(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0)));
        let entry = NodeEntry::read_rest(&settings, None, Located::by_default(node.clone()), mesh)?;
        if let Some(bundle) = &entry.bundle {
            return Err(ConfigError::new(
                &bundle.origin,
                Some("node.bundle"),
                "`cursormesh dev` makes a certificate of its own",
                "describe the node in a file and use `cursormesh serve --config FILE --node NAME`",
            ));
        }
        let cluster = ClusterConfig {
            path: None,
            shared,
            nodes: vec![entry],
        };
        cluster.check_addresses()?;
        let mut config = cluster.node_without_tls(0)?;
        if let Some((key, open)) = cluster.not_loopback() {
            return Err(ConfigError::new(
                &open.origin,
                Some(key),
                format!("{} is not a loopback address", open.value),
                "`cursormesh dev` runs on this machine alone; for a real cluster describe the \
                 nodes in a file and make certificates: `cursormesh cert --help`",
            ));
        }
        config.tls = tls(&node, &config.cluster);
        config.dev = config.web.iter().all(|at| is_loopback(at.value.ip()));
        Ok(config)
    }

    /// With levers to break it with; refused where browsers of other machines could reach them.
    pub fn with_levers(mut self) -> Result<Self, ConfigError> {
        match self.web.iter().find(|at| !is_loopback(at.value.ip())) {
            Some(open) => Err(ConfigError::new(
                &open.origin,
                Some("node.web"),
                format!(
                    "{} is not a loopback address, and `--dev` lets whoever reaches it stop the node",
                    open.value
                ),
                "leave `--dev` out, or listen on 127.0.0.1 and [::1] alone",
            )),
            None => {
                self.dev = true;
                Ok(self)
            }
        }
    }
}

/// A whole cluster as its file describes it, with the overrides for one node applied.
#[derive(Debug)]
pub struct ClusterConfig {
    path: Option<PathBuf>,
    shared: Shared,
    nodes: Vec<NodeEntry>,
}

impl ClusterConfig {
    /// Reads and checks the file at `path`. `overrides` of `[[node]]` keys apply to `node`, which
    /// must then be given. A node that is not in the file is described by `overrides` alone, which must
    /// then have `node.mesh`.
    pub fn load(
        path: &Path,
        node: Option<&str>,
        overrides: &Overrides,
    ) -> Result<Self, ConfigError> {
        Self::from_file(&File::read(path)?, node, overrides)
    }

    /// A cluster without any file, of which `node` is described by `overrides`.
    pub fn without_file(node: &str, overrides: &Overrides) -> Result<Self, ConfigError> {
        let settings = Settings {
            file: None,
            overrides,
        };
        let cluster = Self {
            path: None,
            shared: Shared::read(&settings)?,
            nodes: vec![NodeEntry::unlisted(&settings, node)?],
        };
        cluster.check_addresses()?;
        cluster.node(node)?;
        Ok(cluster)
    }

    fn from_file(
        file: &File,
        node: Option<&str>,
        overrides: &Overrides,
    ) -> Result<Self, ConfigError> {
        let settings = Settings {
            file: Some(file),
            overrides,
        };
        let shared = Shared::read(&settings)?;
        let names = node_names(file)?;
        let is_listed = |node: &str| names.iter().any(|name| name.value.as_str() == node);
        let unlisted = node.filter(|node| !is_listed(node) && overrides.has("node.mesh"));
        if names.is_empty() && unlisted.is_none() {
            return Err(ConfigError::new(
                file.path.display(),
                Some("node"),
                "describes no node",
                "add a `[[node]]` table with `name = \"n1\"` and `mesh = \"127.0.0.1:7171\"`, or say \
                 both with --node NAME and --mesh IP:PORT",
            ));
        }
        match node {
            Some(node) if !is_listed(node) && unlisted.is_none() => {
                return Err(unknown_node(&file.path, node, &names));
            }
            None => {
                if let Some(flag) = overrides.node_flag() {
                    return Err(ConfigError::new(
                        flag,
                        None,
                        "concerns one node, and no node was picked",
                        "add --node NAME",
                    ));
                }
            }
            Some(_) => {}
        }
        let plain = Settings {
            file: Some(file),
            overrides: &Overrides::default(),
        };
        let mut nodes = Vec::new();
        for (table, name) in file.nodes.iter().zip(names) {
            let picked = node == Some(name.value.as_str());
            let settings = if picked { &settings } else { &plain };
            nodes.push(NodeEntry::read(settings, table, name)?);
        }
        if let Some(node) = unlisted {
            nodes.push(NodeEntry::unlisted(&settings, node)?);
        }
        let cluster = Self {
            path: Some(file.path.to_path_buf()),
            shared,
            nodes,
        };
        cluster.check_addresses()?;
        for name in cluster.names() {
            if node.is_none_or(|node| node == name.as_str()) {
                cluster.node(name.as_str())?;
            }
        }
        Ok(cluster)
    }

    /// The file, if there is one.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// The cluster's name.
    pub fn cluster(&self) -> &NodeName {
        &self.shared.cluster
    }

    /// The nodes' names in the file's order.
    pub fn names(&self) -> impl Iterator<Item = &NodeName> {
        self.nodes.iter().map(|node| &node.name.value)
    }

    /// Everything the node of this name must know. An error if there is no such node, or if it
    /// would talk over a network without a certificate.
    pub fn node(&self, name: &str) -> Result<NodeConfig, ConfigError> {
        let index = self
            .nodes
            .iter()
            .position(|node| node.name.value.as_str() == name)
            .ok_or_else(|| {
                let names: Vec<_> = self.nodes.iter().map(|node| node.name.clone()).collect();
                unknown_node(self.path.as_deref().unwrap_or(Path::new("")), name, &names)
            })?;
        let mut config = self.node_without_tls(index)?;
        config.tls = self.tls(index)?;
        Ok(config)
    }

    /// The error for a command that needs a node while none was picked: names the ones there are.
    pub fn no_node_picked(&self) -> ConfigError {
        let names: Vec<&str> = self.names().map(NodeName::as_str).collect();
        ConfigError::new(
            self.path.as_deref().unwrap_or(Path::new("")).display(),
            None,
            "no node was picked",
            format!("add --node NAME; the file has: {}", names.join(", ")),
        )
    }

    fn node_without_tls(&self, index: usize) -> Result<NodeConfig, ConfigError> {
        let entry = &self.nodes[index];
        let (seeds, seed_names) = self.seeds(index)?;
        Ok(NodeConfig {
            node: entry.name.value.clone(),
            cluster: self.shared.cluster.clone(),
            region: entry.region.clone(),
            web: entry
                .web
                .iter()
                .map(|at| match at.origin {
                    // A default is changed where the node is described.
                    Origin::Default => Located {
                        value: at.value,
                        origin: entry.name.origin.clone(),
                    },
                    _ => at.clone(),
                })
                .collect(),
            web_limits: self.shared.web.clone(),
            mesh: entry.mesh.clone(),
            advertise: entry.advertise.as_ref().map(|at| at.value),
            seeds,
            seed_names,
            urls: self.urls(),
            tls: Tls::Pem(String::new()),
            log: self.shared.log.clone(),
            dev: false,
        })
    }

    /// Where browsers reach the nodes: as the file says; where it says nothing and the whole cluster
    /// is on this machine, their first web address.
    fn urls(&self) -> BTreeMap<String, String> {
        let local = self.not_loopback().is_none();
        let scheme = match self.shared.web.tls {
            Some(_) => "wss",
            None => "ws",
        };
        let default = |node: &NodeEntry| {
            let addr = node.web.first()?.value;
            let reachable = local && is_loopback(addr.ip()) && addr.port() != 0;
            reachable.then(|| format!("{scheme}://{addr}/v1"))
        };
        self.nodes
            .iter()
            .filter_map(|node| {
                let url = node.url.clone().or_else(|| default(node))?;
                Some((node.name.value.to_string(), url))
            })
            .collect()
    }

    fn seeds(&self, index: usize) -> Result<Seeds, ConfigError> {
        let own = &self.nodes[index];
        let mut found = Vec::new();
        let mut names = Vec::new();
        let Some(seeds) = &self.shared.seeds else {
            let others = self.nodes.iter().filter(|node| node.name != own.name);
            let seeds = others.map(|node| (Some(node.name.value.clone()), node.reached_at().value));
            return Ok((seeds.collect(), names));
        };
        for seed in seeds {
            let by_name = |node: &&NodeEntry| node.name.value.as_str() == seed.text;
            let by_addr = |addr: SocketAddr| {
                let name = self
                    .nodes
                    .iter()
                    .find(|node| node.reached_at().value == addr)
                    .map(|node| node.name.value.clone());
                (name, addr)
            };
            let (name, addr) = if let Some(node) = self.nodes.iter().find(by_name) {
                (Some(node.name.value.clone()), node.reached_at().value)
            } else if let Some(addr) = socket_address(&seed.text) {
                by_addr(addr)
            } else if let Some(name) = SeedName::parse(&seed.text) {
                names.push(name);
                continue;
            } else {
                return Err(self.no_seed(seed));
            };
            if addr.port() == 0 || addr.ip().is_unspecified() {
                return Err(ConfigError::new(
                    &seed.origin,
                    Some("mesh.seeds"),
                    format!("{addr} is an address that nobody can be reached at"),
                    "give the address and port that the other node advertises",
                ));
            }
            if name.as_ref() != Some(&own.name.value) {
                found.push((name, addr));
            }
        }
        Ok((found, names))
    }

    /// The error for a seed that is nothing of what it may be.
    fn no_seed(&self, seed: &Scalar) -> ConfigError {
        let error = |problem: &str, remedy: String| {
            let problem = format!("\"{}\" {problem}", quoted(&seed.text));
            ConfigError::new(&seed.origin, Some("mesh.seeds"), problem, remedy)
        };
        if let Some(name) = seed.text.strip_prefix(SRV_PREFIX) {
            let problem = format!(
                "asks for the SRV records of \"{}\", which is no name",
                quoted(name)
            );
            let remedy = "give one such as \"srv:_mesh._udp.example.org\"".to_owned();
            return error(&problem, remedy);
        }
        if seed.text.contains('.') && is_host_name(&seed.text) {
            let remedy = format!(
                "give one, such as \"{0}:7171\"; or \"{SRV_PREFIX}{0}\" if its SRV records have it",
                seed.text
            );
            return error("is a name without a port", remedy);
        }
        if let Some(bracketed) = unbracketed(&seed.text) {
            let remedy = format!("write \"{bracketed}\"");
            return error("is an IPv6 address without brackets", remedy);
        }
        let names: Vec<&str> = self.names().map(NodeName::as_str).collect();
        error(
            "is neither a node of this file nor an address nor a name with a port",
            format!(
                "give node names ({}), addresses such as \"10.0.0.1:7171\", host names with a port such \
                 as \"mesh.example.org:7171\", or SRV names such as \"srv:_mesh._udp.example.org\"",
                names.join(", ")
            ),
        )
    }

    /// The first mesh address, advertised address or seed that is not on this machine alone, with the
    /// key that says so.
    fn not_loopback(&self) -> Option<(&'static str, Located<String>)> {
        let is_open = |at: &&Located<SocketAddr>| !is_loopback(at.value.ip());
        let told = |at: &Located<SocketAddr>| Located {
            value: at.value.to_string(),
            origin: at.origin.clone(),
        };
        for node in &self.nodes {
            if let Some(at) = Some(&node.mesh).filter(is_open) {
                return Some(("node.mesh", told(at)));
            }
            if let Some(at) = node.advertise.as_ref().filter(is_open) {
                return Some(("node.advertise", told(at)));
            }
        }
        let is_elsewhere = |seed: &&Scalar| match socket_address(&seed.text) {
            Some(addr) => !is_loopback(addr.ip()),
            None => SeedName::parse(&seed.text).is_some_and(|name| name.is_remote()),
        };
        let seed = self.shared.seeds.iter().flatten().find(is_elsewhere)?;
        let told = Located {
            value: seed.text.clone(),
            origin: seed.origin.clone(),
        };
        Some(("mesh.seeds", told))
    }

    fn tls(&self, index: usize) -> Result<Tls, ConfigError> {
        let entry = &self.nodes[index];
        if let Some(bundle) = &entry.bundle {
            return Ok(Tls::Bundle {
                path: bundle.clone(),
                key: "node.bundle",
            });
        }
        if let Some(dir) = &self.shared.tls_dir {
            return Ok(Tls::Bundle {
                path: Located {
                    value: dir.value.join(format!("{}.pem", entry.name.value)),
                    origin: dir.origin.clone(),
                },
                key: "tls.dir",
            });
        }
        if let Some((_, open)) = self.not_loopback() {
            return Err(ConfigError::new(
                &open.origin,
                Some("tls.dir"),
                format!(
                    "nodes talk over {}, which is not a loopback address, and there is no \
                     certificate for node {}",
                    open.value, entry.name.value
                ),
                format!(
                    "run `cursormesh cert ca --cluster {} --out certs` and `cursormesh cert node \
                     --name {} --ca certs`, then set `dir = \"certs\"` under [tls]",
                    self.shared.cluster, entry.name.value
                ),
            ));
        }
        let dir = self
            .path
            .as_deref()
            .map_or_else(|| PathBuf::from("."), source::dir_of);
        Ok(Tls::Throwaway(dir.join(".mesh-dev")))
    }

    fn check_addresses(&self) -> Result<(), ConfigError> {
        for node in &self.nodes {
            node.check()?;
        }
        for (index, node) in self.nodes.iter().enumerate() {
            for other in &self.nodes[index + 1..] {
                node.check_against(other)?;
            }
            if self.nodes.len() > 1 && node.mesh.value.port() == 0 {
                return Err(ConfigError::new(
                    &node.mesh.origin,
                    Some("node.mesh"),
                    format!(
                        "node {}: port 0 means any free port, which other nodes cannot know",
                        node.name.value
                    ),
                    "give the port number",
                ));
            }
        }
        Ok(())
    }
}

/// Addresses to look at, with the node there where it is known, and names that stand for more.
type Seeds = (Vec<(Option<NodeName>, SocketAddr)>, Vec<SeedName>);

/// What holds for all nodes.
#[derive(Debug)]
struct Shared {
    cluster: NodeName,
    web: WebLimits,
    seeds: Option<Vec<Scalar>>,
    log: LogConfig,
    tls_dir: Option<Located<PathBuf>>,
}

impl Shared {
    fn read(settings: &Settings<'_>) -> Result<Self, ConfigError> {
        let millis = |path| {
            settings
                .integer(path)
                .map(|n| Duration::from_millis(n.value))
        };
        let size = |path| {
            settings
                .integer(path)
                .map(|n| usize::try_from(n.value).unwrap_or(usize::MAX))
        };
        let interval = settings.integer("web.ping_interval_ms")?;
        let timeout = settings.integer("web.ping_timeout_ms")?;
        if timeout.value <= interval.value {
            let origin = if timeout.origin == Origin::Default {
                &interval.origin
            } else {
                &timeout.origin
            };
            return Err(ConfigError::new(
                origin,
                Some("web.ping_timeout_ms"),
                format!(
                    "{} ms is not more than web.ping_interval_ms, {} ms: every connection would \
                     be closed",
                    timeout.value, interval.value
                ),
                "give a timeout longer than the interval",
            ));
        }
        let message = settings.integer("web.message_bytes_max")?;
        let outbox = settings.integer("web.outbox_bytes_max")?;
        if outbox.value < message.value {
            let origin = if outbox.origin == Origin::Default {
                &message.origin
            } else {
                &outbox.origin
            };
            return Err(ConfigError::new(
                origin,
                Some("web.outbox_bytes_max"),
                format!(
                    "{} bytes cannot hold one message of web.message_bytes_max, {} bytes",
                    outbox.value, message.value
                ),
                "give an outbox of at least the largest message, better four of them",
            ));
        }
        Ok(Self {
            cluster: settings
                .label(None, "cluster")?
                .map_or_else(|| label("dev"), |cluster| cluster.value),
            web: WebLimits {
                message_bytes_max: size("web.message_bytes_max")?,
                tick: millis("web.tick_ms")?,
                connections_max: size("web.connections_max")?,
                header_timeout: millis("web.header_timeout_ms")?,
                threads: Some(size("web.threads")?).filter(|threads| *threads > 0),
                tls: settings.web_tls()?,
                outbox_bytes_max: size("web.outbox_bytes_max")?,
                backlog_bytes_max: size("web.backlog_bytes_max")?,
                ping_interval: Duration::from_millis(interval.value),
                ping_timeout: Duration::from_millis(timeout.value),
                sockjs: SockJs {
                    prefixes: settings.prefixes("web.sockjs_prefixes")?,
                    client_url: settings.client_url("web.sockjs_client_url")?,
                    heartbeat: millis("web.sockjs_heartbeat_ms")?,
                    disconnect_delay: millis("web.sockjs_disconnect_ms")?,
                    response_bytes_max: size("web.sockjs_response_bytes_max")?,
                    conformance: false,
                },
            },
            seeds: settings.list(None, "mesh.seeds")?,
            log: settings.log()?,
            tls_dir: settings.path(None, "tls.dir")?,
        })
    }
}

/// One `[[node]]` table, understood.
#[derive(Debug)]
struct NodeEntry {
    name: Located<NodeName>,
    region: String,
    web: Vec<Located<SocketAddr>>,
    url: Option<String>,
    mesh: Located<SocketAddr>,
    advertise: Option<Located<SocketAddr>>,
    bundle: Option<Located<PathBuf>>,
}

impl NodeEntry {
    fn read(
        settings: &Settings<'_>,
        table: &NodeTable,
        name: Located<NodeName>,
    ) -> Result<Self, ConfigError> {
        let mesh = settings.address(Some(table), "node.mesh")?.ok_or_else(|| {
            ConfigError::new(
                &table.origin,
                Some("node.mesh"),
                format!(
                    "node {} does not say where it listens for other nodes",
                    name.value
                ),
                "add `mesh = \"IP:PORT\"` (UDP), such as \"127.0.0.1:7171\"",
            )
        })?;
        Self::read_rest(settings, Some(table), name, mesh)
    }

    /// A node that no table describes: the overrides do.
    fn unlisted(settings: &Settings<'_>, name: &str) -> Result<Self, ConfigError> {
        let origin = Origin::Flag("--node".to_owned());
        let Ok(value) = NodeName::new(name) else {
            let problem = format!("\"{}\" is not a usable name", quoted(name));
            return Err(wrong(&origin, "node.name", &problem));
        };
        let Some(mesh) = settings.address(None, "node.mesh")? else {
            return Err(ConfigError::new(
                &origin,
                Some("node.mesh"),
                format!("it is not said where node {value} listens for other nodes"),
                "add --mesh IP:PORT (UDP), such as \"127.0.0.1:7171\"",
            ));
        };
        Self::read_rest(settings, None, Located { value, origin }, mesh)
    }

    fn read_rest(
        settings: &Settings<'_>,
        table: Option<&NodeTable>,
        name: Located<NodeName>,
        mesh: Located<SocketAddr>,
    ) -> Result<Self, ConfigError> {
        let web = match settings.list(table, "node.web")? {
            None => WEB_DEFAULT.map(Located::by_default).to_vec(),
            Some(items) => items
                .iter()
                .map(|item| address("node.web", item))
                .collect::<Result<_, _>>()?,
        };
        if web.is_empty() {
            let origin = settings
                .raw(table, "node.web")
                .map_or(Origin::Default, |raw| raw.origin);
            return Err(wrong(
                &origin,
                "node.web",
                "an empty list leaves browsers no way in",
            ));
        }
        Ok(Self {
            region: settings
                .text(table, "node.region")?
                .map_or_else(|| "default".to_owned(), |region| region.value),
            web,
            url: settings.url(table)?,
            advertise: settings.address(table, "node.advertise")?,
            bundle: settings.path(table, "node.bundle")?,
            name,
            mesh,
        })
    }

    /// Where other nodes reach this one.
    fn reached_at(&self) -> &Located<SocketAddr> {
        self.advertise.as_ref().unwrap_or(&self.mesh)
    }

    fn check(&self) -> Result<(), ConfigError> {
        let reached = self.reached_at();
        if reached.value.ip().is_unspecified() {
            let (key, remedy) = if self.advertise.is_some() {
                ("node.advertise", "give an address that this node has")
            } else {
                (
                    "node.mesh",
                    "add `advertise = \"IP:PORT\"`: where other nodes reach this one",
                )
            };
            return Err(ConfigError::new(
                &reached.origin,
                Some(key),
                format!(
                    "node {}: other nodes cannot reach {}",
                    self.name.value, reached.value
                ),
                remedy,
            ));
        }
        if let Some(advertise) = self.advertise.as_ref().filter(|at| at.value.port() == 0) {
            return Err(wrong(
                &advertise.origin,
                "node.advertise",
                "port 0 cannot be reached",
            ));
        }
        for (index, addr) in self.web.iter().enumerate() {
            for other in &self.web[index + 1..] {
                if overlaps(addr.value, other.value) {
                    return Err(clash(
                        "node.web", "web", addr, &self.name, other, &self.name,
                    ));
                }
            }
        }
        Ok(())
    }

    /// Two nodes on one machine must not listen at the same address. On different machines they
    /// may: `0.0.0.0:7071` everywhere is a usual thing.
    fn check_against(&self, other: &Self) -> Result<(), ConfigError> {
        let (own, theirs) = (self.reached_at(), other.reached_at());
        if own.value == theirs.value {
            return Err(clash(
                "node.mesh",
                "mesh",
                own,
                &self.name,
                theirs,
                &other.name,
            ));
        }
        let same_machine = own.value.ip() == theirs.value.ip()
            || (is_loopback(own.value.ip()) && is_loopback(theirs.value.ip()));
        if !same_machine {
            return Ok(());
        }
        if overlaps(self.mesh.value, other.mesh.value) {
            return Err(clash(
                "node.mesh",
                "mesh",
                &self.mesh,
                &self.name,
                &other.mesh,
                &other.name,
            ));
        }
        for addr in &self.web {
            for taken in &other.web {
                if overlaps(addr.value, taken.value) {
                    return Err(clash(
                        "node.web",
                        "web",
                        addr,
                        &self.name,
                        taken,
                        &other.name,
                    ));
                }
            }
        }
        Ok(())
    }
}

/// The layers of one file and its overrides.
struct Settings<'a> {
    file: Option<&'a File>,
    overrides: &'a Overrides,
}

impl Settings<'_> {
    /// The value at `path`: an override, or what the node's table or the file says.
    fn raw(&self, table: Option<&NodeTable>, path: &str) -> Option<Raw> {
        let from_file = || match table {
            Some(table) => table.values.get(path),
            None => self.file.and_then(|file| file.values.get(path)),
        };
        self.overrides.get(path).or_else(|| from_file().cloned())
    }

    fn one(&self, table: Option<&NodeTable>, path: &str) -> Result<Option<Scalar>, ConfigError> {
        let Some(raw) = self.raw(table, path) else {
            return Ok(None);
        };
        match raw.items.into_iter().next() {
            Some(item) if !raw.is_list => Ok(Some(item)),
            _ => Err(wrong(&raw.origin, path, "a list is not possible here")),
        }
    }

    /// Where browsers reach a node, checked as far as text can be.
    fn url(&self, table: Option<&NodeTable>) -> Result<Option<String>, ConfigError> {
        let Some(url) = self.text(table, "node.url")? else {
            return Ok(None);
        };
        let has_host = |scheme: &str| {
            url.value
                .strip_prefix(scheme)
                .is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/'))
        };
        if !has_host("ws://") && !has_host("wss://") {
            let problem = format!("\"{}\" is no WebSocket address", quoted(&url.value));
            let remedy = "give one such as \"wss://n1.example.org/v1\"";
            let error = ConfigError::new(&url.origin, Some("node.url"), problem, remedy);
            return Err(error);
        }
        if url.value.len() > PUBLIC_BYTES_MAX {
            let problem = format!("{} bytes are too many", url.value.len());
            let remedy = format!("give an address of at most {PUBLIC_BYTES_MAX}");
            let error = ConfigError::new(&url.origin, Some("node.url"), problem, remedy);
            return Err(error);
        }
        Ok(Some(url.value))
    }

    fn text(
        &self,
        table: Option<&NodeTable>,
        path: &str,
    ) -> Result<Option<Located<String>>, ConfigError> {
        let Some(item) = self.one(table, path)? else {
            return Ok(None);
        };
        let text = string(path, &item)?;
        if let Some(Key {
            kind: Kind::Text { bytes_max },
            ..
        }) = keys::find(path)
            && (text.len() > *bytes_max || text.chars().any(char::is_control))
        {
            return Err(wrong(
                &item.origin,
                path,
                &format!("\"{}\" does not fit", quoted(text)),
            ));
        }
        Ok(Some(Located {
            value: text.to_owned(),
            origin: item.origin,
        }))
    }

    fn label(
        &self,
        table: Option<&NodeTable>,
        path: &str,
    ) -> Result<Option<Located<NodeName>>, ConfigError> {
        let Some(Located { value, origin }) = self.text(table, path)? else {
            return Ok(None);
        };
        match NodeName::new(&value) {
            Ok(value) => Ok(Some(Located { value, origin })),
            Err(_) => Err(wrong(
                &origin,
                path,
                &format!("\"{}\" is not a usable name", quoted(&value)),
            )),
        }
    }

    fn path(
        &self,
        table: Option<&NodeTable>,
        path: &str,
    ) -> Result<Option<Located<PathBuf>>, ConfigError> {
        let Some(Located { value, origin }) = self.text(table, path)? else {
            return Ok(None);
        };
        if value.is_empty() {
            return Err(wrong(&origin, path, "is empty"));
        }
        let value = match (&origin, self.file) {
            (Origin::File { .. }, Some(file)) => file.dir().join(value),
            _ => PathBuf::from(value),
        };
        Ok(Some(Located { value, origin }))
    }

    /// The certificate and the key for browsers: both or neither.
    fn web_tls(&self) -> Result<Option<WebTls>, ConfigError> {
        let certificate = self.path(None, "web.tls_certificate")?;
        let key = self.path(None, "web.tls_key")?;
        let (there, missing) = match (certificate, key) {
            (None, None) => return Ok(None),
            (Some(certificate), Some(key)) => return Ok(Some(WebTls { certificate, key })),
            (Some(there), None) => (there, "web.tls_key"),
            (None, Some(there)) => (there, "web.tls_certificate"),
        };
        Err(ConfigError::new(
            &there.origin,
            Some(missing),
            "is missing: a certificate and its key are given together",
            format!("give `{missing}`, a path to a PEM file, or neither of the two"),
        ))
    }

    fn address(
        &self,
        table: Option<&NodeTable>,
        path: &str,
    ) -> Result<Option<Located<SocketAddr>>, ConfigError> {
        let item = self.one(table, path)?;
        item.map(|item| address(path, &item)).transpose()
    }

    /// Paths below which something is served; an empty text stands for none.
    fn prefixes(&self, path: &str) -> Result<Vec<String>, ConfigError> {
        let Some(items) = self.list(None, path)? else {
            return Ok(keys::find(path).map_or_else(Vec::new, |key| vec![key.default.to_owned()]));
        };
        let mut prefixes = Vec::new();
        for item in items.iter().filter(|item| !item.text.is_empty()) {
            let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_/".contains(&byte);
            let is_prefix = |text: &str| {
                text.len() > 1
                    && text.len() <= 100
                    && text.starts_with('/')
                    && !text.ends_with('/')
                    && !text.contains("//")
                    && text.bytes().all(is_plain)
            };
            if !is_prefix(&item.text) {
                let problem = format!("\"{}\" is no such path", quoted(&item.text));
                return Err(wrong(&item.origin, path, &problem));
            }
            let taken = ["/v1", "/api", "/metrics", "/healthz", "/readyz"];
            let is_at = |name: &str| {
                let rest = item.text.strip_prefix(name);
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            };
            if let Some(name) = taken.into_iter().find(|name| is_at(name)) {
                let problem = format!("\"{}\" is at {name}, which is in use", quoted(&item.text));
                return Err(wrong(&item.origin, path, &problem));
            }
            prefixes.push(item.text.clone());
        }
        Ok(prefixes)
    }

    /// The script of SockJS's iframe page, which goes into that page as it is.
    fn client_url(&self, path: &str) -> Result<String, ConfigError> {
        let Some(url) = self.text(None, path)? else {
            return Ok(keys::find(path).map_or_else(String::new, |key| key.default.to_owned()));
        };
        let starts = ["/", "http://", "https://"];
        let is_url = starts.iter().any(|start| url.value.starts_with(start));
        if !is_url || url.value.contains(['"', '<', '>', ' ']) {
            let problem = format!("\"{}\" is no URL and no path", quoted(&url.value));
            return Err(wrong(&url.origin, path, &problem));
        }
        Ok(url.value)
    }

    /// A list; text from outside the file is split at commas.
    fn list(
        &self,
        table: Option<&NodeTable>,
        path: &str,
    ) -> Result<Option<Vec<Scalar>>, ConfigError> {
        let Some(raw) = self.raw(table, path) else {
            return Ok(None);
        };
        if raw.items.len() > LIST_ITEMS_MAX {
            return Err(wrong(
                &raw.origin,
                path,
                &format!("has more than {LIST_ITEMS_MAX} items"),
            ));
        }
        let mut items = Vec::new();
        for item in raw.items {
            let text = string(path, &item)?.to_owned();
            let parts: Vec<&str> = if item.toml_type.is_none() {
                text.split(',').map(str::trim).collect()
            } else {
                vec![&text]
            };
            items.extend(parts.into_iter().map(|part| Scalar {
                text: part.to_owned(),
                ..item.clone()
            }));
        }
        Ok(Some(items))
    }

    fn integer(&self, path: &str) -> Result<Located<u64>, ConfigError> {
        let (min, max, default) = match keys::find(path) {
            Some(Key {
                kind: Kind::Integer { min, max },
                default,
                ..
            }) => (*min, *max, *default),
            _ => (0, u64::MAX, "0"),
        };
        let item = self.one(None, path)?.unwrap_or_else(|| Scalar {
            text: default.to_owned(),
            toml_type: None,
            origin: Origin::Default,
        });
        if item.toml_type.is_some_and(|kind| kind != "integer") {
            let problem = format!("{} is not a whole number", shown(&item));
            return Err(wrong(&item.origin, path, &problem));
        }
        match item.text.parse::<i128>() {
            Err(_) => Err(wrong(
                &item.origin,
                path,
                &format!("{} is not a whole number", shown(&item)),
            )),
            Ok(number) => match u64::try_from(number) {
                Ok(value) if (min..=max).contains(&value) => Ok(Located {
                    value,
                    origin: item.origin,
                }),
                _ => Err(wrong(
                    &item.origin,
                    path,
                    &format!("{number} is out of range"),
                )),
            },
        }
    }

    fn log(&self) -> Result<LogConfig, ConfigError> {
        let format = match self.text(None, "log.format")? {
            None => LogFormat::Text,
            Some(word) => match word.value.as_str() {
                "text" => LogFormat::Text,
                "json" => LogFormat::Json,
                other => {
                    let problem = format!("\"{}\" is not a format", quoted(other));
                    return Err(wrong(&word.origin, "log.format", &problem));
                }
            },
        };
        let mut log = LogConfig {
            format,
            level: LevelFilter::INFO,
            targets: Vec::new(),
        };
        let Some(text) = self.text(None, "log.level")? else {
            return Ok(log);
        };
        for part in text.value.split(',').map(str::trim) {
            let (target, word) = match part.split_once('=') {
                Some((target, word)) => (Some(target.trim()), word.trim()),
                None => (None, part),
            };
            let level = match word {
                "off" => LevelFilter::OFF,
                "error" => LevelFilter::ERROR,
                "warn" => LevelFilter::WARN,
                "info" => LevelFilter::INFO,
                "debug" => LevelFilter::DEBUG,
                "trace" => LevelFilter::TRACE,
                _ => {
                    let problem = format!("\"{}\" is not a level", quoted(word));
                    return Err(wrong(&text.origin, "log.level", &problem));
                }
            };
            match target {
                None => log.level = level,
                Some(target) => log.targets.push((target.to_owned(), level)),
            }
        }
        Ok(log)
    }
}

/// The names of all `[[node]]` tables, each there and each unique.
fn node_names(file: &File) -> Result<Vec<Located<NodeName>>, ConfigError> {
    let settings = Settings {
        file: Some(file),
        overrides: &Overrides::default(),
    };
    let mut names: Vec<Located<NodeName>> = Vec::new();
    for table in &file.nodes {
        let name = settings.label(Some(table), "node.name")?.ok_or_else(|| {
            ConfigError::new(
                &table.origin,
                Some("node.name"),
                "a [[node]] table without a name",
                "add `name = \"n1\"`",
            )
        })?;
        if let Some(first) = names.iter().find(|known| known.value == name.value) {
            return Err(ConfigError::new(
                &name.origin,
                Some("node.name"),
                format!(
                    "duplicate node \"{}\": it is already at {}",
                    name.value, first.origin
                ),
                "give each node a name of its own, or remove one of the two tables",
            ));
        }
        names.push(name);
    }
    Ok(names)
}

fn unknown_node(path: &Path, node: &str, names: &[Located<NodeName>]) -> ConfigError {
    let known: Vec<&str> = names.iter().map(|name| name.value.as_str()).collect();
    ConfigError::new(
        path.display(),
        None,
        format!("there is no node \"{}\"", quoted(node)),
        format!(
            "pick one with --node: {}; or say with --mesh IP:PORT where it listens for other nodes, to \
             run one that is not in the file",
            known.join(", ")
        ),
    )
}

/// The error for a value that does not fit its key.
fn wrong(origin: &Origin, path: &str, problem: &str) -> ConfigError {
    let expects = keys::find(path).map(Key::expects).unwrap_or_default();
    ConfigError::new(origin, Some(path), problem, format!("give {expects}"))
}

fn clash(
    key: &str,
    what: &str,
    first: &Located<SocketAddr>,
    first_node: &Located<NodeName>,
    second: &Located<SocketAddr>,
    second_node: &Located<NodeName>,
) -> ConfigError {
    // Point at the later one, unless it is a default, which nobody can edit.
    let (at, at_node, other, other_node) =
        if second.origin == Origin::Default && first.origin != Origin::Default {
            (first, first_node, second, second_node)
        } else {
            (second, second_node, first, first_node)
        };
    let place = if at.origin == Origin::Default {
        &at_node.origin
    } else {
        &at.origin
    };
    let problem = if at_node == other_node {
        format!(
            "node {}: its {what} addresses {} and {} are the same",
            at_node.value, other.value, at.value
        )
    } else {
        format!(
            "node {}: its {what} address {} is also that of node {} ({}, {})",
            at_node.value, at.value, other_node.value, other.value, other.origin
        )
    };
    ConfigError::new(place, Some(key), problem, "give each its own port")
}

fn string<'a>(path: &str, item: &'a Scalar) -> Result<&'a str, ConfigError> {
    if item.toml_type.is_none_or(|kind| kind == "string") {
        Ok(&item.text)
    } else {
        Err(wrong(
            &item.origin,
            path,
            &format!("{} is not text in quotes", shown(item)),
        ))
    }
}

fn address(path: &str, item: &Scalar) -> Result<Located<SocketAddr>, ConfigError> {
    let text = string(path, item)?;
    if let Some(value) = socket_address(text) {
        return Ok(Located {
            value,
            origin: item.origin.clone(),
        });
    }
    if let Some(bracketed) = unbracketed(text) {
        return Err(ConfigError::new(
            &item.origin,
            Some(path),
            format!("{} is an IPv6 address without brackets", shown(item)),
            format!("write \"{bracketed}\""),
        ));
    }
    let problem = format!("{} is not an address with a port", shown(item));
    Err(wrong(&item.origin, path, &problem))
}

/// An IP address and a port. IPv4 may stand in brackets too, so that one text such as
/// `[$(POD_IP)]:7171` does for both.
fn socket_address(text: &str) -> Option<SocketAddr> {
    text.parse().ok().or_else(|| {
        let (ip, port) = text.strip_prefix('[')?.split_once("]:")?;
        let ip: Ipv4Addr = ip.parse().ok()?;
        Some(SocketAddr::new(ip.into(), port.parse().ok()?))
    })
}

/// What an IPv6 address and port without brackets should have been.
fn unbracketed(text: &str) -> Option<String> {
    let (ip, port) = text.rsplit_once(':')?;
    let (ip, port): (Ipv6Addr, u16) = (ip.parse().ok()?, port.parse().ok()?);
    Some(format!("[{ip}]:{port}"))
}

fn shown(item: &Scalar) -> String {
    if item.toml_type.is_none_or(|kind| kind == "string") {
        format!("\"{}\"", quoted(&item.text))
    } else {
        quoted(&item.text)
    }
}

/// Whether two listening addresses cannot be had at the same time.
fn overlaps(a: SocketAddr, b: SocketAddr) -> bool {
    a.port() == b.port()
        && a.port() != 0
        && (a.ip() == b.ip()
            || (a.is_ipv4() == b.is_ipv4() && (a.ip().is_unspecified() || b.ip().is_unspecified())))
}

/// Whether only this machine can reach the address.
pub fn is_loopback(ip: IpAddr) -> bool {
    ip.to_canonical().is_loopback()
}

/// A name that is known to be one.
fn label(name: &'static str) -> NodeName {
    match NodeName::new(name) {
        Ok(name) => name,
        Err(_) => unreachable!("a literal label"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const TWO_NODES: &str = r#"
cluster = "dev"

[[node]]
name = "n1"
web = "127.0.0.1:7071"
mesh = "127.0.0.1:7171"

[[node]]
name = "n2"
web = "127.0.0.1:7072"
mesh = "127.0.0.1:7172"
"#;

    fn load(
        text: &str,
        node: Option<&str>,
        overrides: &Overrides,
    ) -> Result<ClusterConfig, String> {
        File::parse(Path::new("c.toml"), text)
            .and_then(|file| ClusterConfig::from_file(&file, node, overrides))
            .map_err(|error| error.to_string())
    }

    fn error(text: &str) -> String {
        load(text, None, &Overrides::default()).unwrap_err()
    }

    fn env(pairs: &[(&str, &str)]) -> Overrides {
        Overrides::from_env(
            pairs
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
        )
    }

    fn flag(path: &str, value: &str) -> Overrides {
        let mut flags = Overrides::default();
        flags.set_flag(keys::find(path).unwrap(), value.to_owned());
        flags
    }

    #[test]
    fn the_shipped_file_is_three_nodes_on_this_machine() {
        let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../cluster.toml"));
        let cluster = ClusterConfig::load(path, None, &Overrides::default()).unwrap();
        let names: Vec<_> = cluster.names().map(NodeName::as_str).collect();
        assert_eq!(names, ["n1", "n2", "n3"]);
        for (index, name) in names.iter().enumerate() {
            let node = cluster.node(name).unwrap();
            let port = u16::try_from(index).unwrap() + 1;
            assert_eq!(
                node.web[0].value.to_string(),
                format!("127.0.0.1:707{port}")
            );
            assert_eq!(node.web[1].value.to_string(), format!("[::1]:707{port}"));
            assert_eq!(node.mesh.value.to_string(), format!("127.0.0.1:717{port}"));
            assert_eq!(node.seeds.len(), 2);
            assert!(matches!(node.tls, Tls::Throwaway(dir) if dir.ends_with(".mesh-dev")));
        }
    }

    #[test]
    fn the_shipped_file_documents_every_key_with_its_default() {
        let text = include_str!("../../cluster.toml");
        for key in keys::KEYS {
            let name = key.path.rsplit('.').next().unwrap();
            let shown = text.lines().any(|line| {
                line.trim_start_matches("# ")
                    .starts_with(&format!("{name} = "))
            });
            assert!(shown, "{} is not in cluster.toml", key.path);
            let default = format!("# {name} = {}", key.default);
            if matches!(key.kind, Kind::Integer { .. }) {
                assert!(text.contains(&default), "default of {}", key.path);
            }
        }
    }

    #[test]
    fn commented_defaults_of_the_shipped_file_are_the_defaults() {
        let text = include_str!("../../cluster.toml");
        let plain = load(text, None, &Overrides::default()).unwrap();
        let uncommented: String = text
            .lines()
            .map(|line| {
                let setting = line.strip_prefix("# ").filter(|rest| {
                    keys::KEYS.iter().any(|key| {
                        let name = key.path.rsplit('.').next().unwrap();
                        // A key without default shows an example.
                        key.path.starts_with("web.")
                            && !key.default.is_empty()
                            && rest.starts_with(&format!("{name} = "))
                            || key.path.starts_with("log.")
                                && rest.starts_with(&format!("{name} = "))
                    })
                });
                format!("{}\n", setting.unwrap_or(line))
            })
            .collect();
        let spelled = load(&uncommented, None, &Overrides::default()).unwrap();
        assert_eq!(plain.shared.web, spelled.shared.web);
        assert_eq!(plain.shared.log, spelled.shared.log);
    }

    #[test]
    fn a_certificate_for_browsers_comes_with_its_key() {
        let web = |keys: &str| {
            load(
                &format!("{TWO_NODES}\n[web]\n{keys}"),
                None,
                &Overrides::default(),
            )
        };
        let alone = web("tls_key = \"web.key\"").unwrap_err().to_string();
        assert!(
            alone.contains("`web.tls_certificate`: is missing"),
            "{alone}"
        );
        assert!(
            alone.contains("remedy: give `web.tls_certificate`"),
            "{alone}"
        );
        let both = web("tls_key = \"web.key\"\ntls_certificate = \"web.pem\"").unwrap();
        let tls = both.shared.web.tls.unwrap();
        assert!(tls.certificate.value.ends_with("web.pem"));
    }

    #[test]
    fn errors_name_the_file_the_line_the_key_and_the_remedy() {
        let cases = [
            (
                "[web]\ntikc_ms = 3",
                "c.toml:2: unknown key `web.tikc_ms`\n  remedy: did you mean `web.tick_ms`?",
            ),
            (
                "[wbe]\ntick_ms = 3",
                "c.toml:1: unknown key `wbe`\n  remedy: did you mean `web`?",
            ),
            (
                "tick_ms = 3",
                "c.toml:1: unknown key `tick_ms`\n  remedy: did you mean `web.tick_ms`, in another section?",
            ),
            (
                "[[node]]\nnam = \"n1\"",
                "c.toml:2: unknown key `node.nam`\n  remedy: did you mean `node.name`?",
            ),
            (
                "[log]\nbananas = 1",
                "c.toml:2: unknown key `log.bananas`\n  remedy: remove it; known in [log]: format, level",
            ),
            (
                "\n\n[web]\ntick_ms = 0",
                "c.toml:4: `web.tick_ms`: 0 is out of range\n  remedy: give a whole number from 1 to 1000 (milliseconds; default 16)",
            ),
            (
                "[web]\ntick_ms = -1",
                "c.toml:2: `web.tick_ms`: -1 is out of range\n  remedy: give a whole number from 1 to 1000 (milliseconds; default 16)",
            ),
            (
                "[web]\ntick_ms = \"16\"",
                "c.toml:2: `web.tick_ms`: \"16\" is not a whole number\n  remedy: give a whole number from 1 to 1000 (milliseconds; default 16)",
            ),
            (
                "[web]\ntick_ms = 16.5",
                "c.toml:2: `web.tick_ms`: 16.5 is not a whole number\n  remedy: give a whole number from 1 to 1000 (milliseconds; default 16)",
            ),
            (
                "[web]\ntick_ms = 99999999999999999999",
                "c.toml:2: `web.tick_ms`: 99999999999999999999 is out of range\n  remedy: give a whole number from 1 to 1000 (milliseconds; default 16)",
            ),
            (
                "[web]\ntick_ms = [1, 2]",
                "c.toml:2: `web.tick_ms`: a list is not possible here\n  remedy: give a whole number from 1 to 1000 (milliseconds; default 16)",
            ),
            (
                "[web]\ntick_ms = {a = 1}",
                "c.toml:2: `web.tick_ms`: a table is not possible here\n  remedy: give a whole number from 1 to 1000 (milliseconds; default 16)",
            ),
            (
                "web = 3",
                "c.toml:1: `web`: is an integer, but `web` is a section\n  remedy: write `[web]` on a line of its own and its keys below",
            ),
            (
                "cluster = \"My Cluster\"",
                "c.toml:1: `cluster`: \"My Cluster\" is not a usable name\n  remedy: give 1 to 63 characters of a-z, 0-9 and '-', not at either end a '-' (default dev)",
            ),
            (
                "cluster = 3",
                "c.toml:1: `cluster`: 3 is not text in quotes\n  remedy: give 1 to 63 characters of a-z, 0-9 and '-', not at either end a '-' (default dev)",
            ),
            (
                "[log]\nformat = \"xml\"",
                "c.toml:2: `log.format`: \"xml\" is not a format\n  remedy: give \"text\" or \"json\" (default text)",
            ),
            (
                "[log]\nlevel = \"inof\"",
                "c.toml:2: `log.level`: \"inof\" is not a level\n  remedy: give a level (off, error, warn, info, debug, trace), or a list such as \"info,cursormesh_mesh=debug\" (default info)",
            ),
            (
                "[web]\noutbox_bytes_max = 4096",
                "c.toml:2: `web.outbox_bytes_max`: 4096 bytes cannot hold one message of web.message_bytes_max, 65536 bytes\n  remedy: give an outbox of at least the largest message, better four of them",
            ),
            (
                "[web]\nping_timeout_ms = 5000",
                "c.toml:2: `web.ping_timeout_ms`: 5000 ms is not more than web.ping_interval_ms, 20000 ms: every connection would be closed\n  remedy: give a timeout longer than the interval",
            ),
            (
                "cluster = \"dev\"",
                "c.toml: `node`: describes no node\n  remedy: add a `[[node]]` table with `name = \"n1\"` and `mesh = \"127.0.0.1:7171\"`, or say both with --node NAME and --mesh IP:PORT",
            ),
            (
                "[[node]]\nname = \"n1\"",
                "c.toml:1: `node.mesh`: node n1 does not say where it listens for other nodes\n  remedy: add `mesh = \"IP:PORT\"` (UDP), such as \"127.0.0.1:7171\"",
            ),
            (
                "\n[[node]]\nmesh = \"127.0.0.1:7171\"",
                "c.toml:2: `node.name`: a [[node]] table without a name\n  remedy: add `name = \"n1\"`",
            ),
            (
                "[node.n1]\nmesh = \"127.0.0.1:7171\"",
                "c.toml:1: `node`: nodes are an array of tables\n  remedy: begin each node with `[[node]]` and give it `name = \"n1\"`",
            ),
            (
                "[node.n1]\n[node.n1]",
                "c.toml:2: duplicate node `n1`\n  remedy: give each node a name of its own, in a `[[node]]` table with `name = \"…\"`",
            ),
            (
                "cluster = \"a\"\ncluster = \"b\"",
                "c.toml:2: duplicate key `cluster`\n  remedy: a key and a section may stand only once in the file: remove one of them",
            ),
            (
                "[web]\n[log]\n[web]",
                "c.toml:3: duplicate key `web`\n  remedy: a key and a section may stand only once in the file: remove one of them",
            ),
            (
                "[[node]]\nname = \"n1\"\nmesh = \"localhost:7171\"",
                "c.toml:3: `node.mesh`: \"localhost:7171\" is not an address with a port\n  remedy: give an IP address and a port, such as \"127.0.0.1:7171\" or \"[::1]:7171\"",
            ),
            (
                "[[node]]\nname = \"n1\"\nmesh = \"127.0.0.1:7171\"\nweb = []",
                "c.toml:4: `node.web`: an empty list leaves browsers no way in\n  remedy: give an IP address and a port, such as \"127.0.0.1:7071\" or \"[::1]:7071\", or a list of them (default 127.0.0.1:7071,[::1]:7071)",
            ),
            (
                "[[node]]\nname = \"n1\"\nmesh = \"0.0.0.0:7171\"",
                "c.toml:3: `node.mesh`: node n1: other nodes cannot reach 0.0.0.0:7171\n  remedy: add `advertise = \"IP:PORT\"`: where other nodes reach this one",
            ),
            (
                "[mesh]\nseeds = [\"n9\"]\n[[node]]\nname = \"n1\"\nmesh = \"127.0.0.1:7171\"",
                "c.toml:2: `mesh.seeds`: \"n9\" is neither a node of this file nor an address nor a name with a port\n  remedy: give node names (n1), addresses such as \"10.0.0.1:7171\", host names with a port such as \"mesh.example.org:7171\", or SRV names such as \"srv:_mesh._udp.example.org\"",
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(error(text), expected, "for {text:?}");
        }
    }

    #[test]
    fn broken_toml_names_the_line() {
        let shown = error("cluster = \"dev\"\n[web\ntick_ms = 1");
        assert!(shown.starts_with("c.toml:2: not valid TOML: "), "{shown}");
        assert!(shown.contains("remedy: "), "{shown}");
    }

    #[test]
    fn the_first_error_in_the_file_is_shown() {
        let shown = error("[web]\nzzz = 1\naaa = 1");
        assert!(
            shown.starts_with("c.toml:2: unknown key `web.zzz`"),
            "{shown}"
        );
    }

    #[test]
    fn a_duplicate_node_names_both_places() {
        let text = TWO_NODES.replace("\"n2\"", "\"n1\"");
        assert_eq!(
            error(&text),
            "c.toml:10: `node.name`: duplicate node \"n1\": it is already at c.toml:5\n  remedy: give each node a name of its own, or remove one of the two tables"
        );
    }

    #[test]
    fn an_unknown_node_lists_the_known() {
        let shown = load(TWO_NODES, Some("n9"), &Overrides::default()).unwrap_err();
        assert_eq!(
            shown,
            "c.toml: there is no node \"n9\"\n  remedy: pick one with --node: n1, n2; or say with --mesh IP:PORT where it listens for other nodes, to run one that is not in the file"
        );
    }

    #[test]
    fn two_nodes_at_one_address_are_refused() {
        assert_eq!(
            error(&TWO_NODES.replace("7172", "7171")),
            "c.toml:12: `node.mesh`: node n2: its mesh address 127.0.0.1:7171 is also that of node n1 (127.0.0.1:7171, c.toml:7)\n  remedy: give each its own port"
        );
        assert_eq!(
            error(&TWO_NODES.replace("7072", "7071")),
            "c.toml:11: `node.web`: node n2: its web address 127.0.0.1:7071 is also that of node n1 (127.0.0.1:7071, c.toml:6)\n  remedy: give each its own port"
        );
        // A default clashes too, and the table is what can be edited then.
        let shown = error(
            &TWO_NODES
                .replace("web = \"127.0.0.1:7072\"\n", "")
                .replace("web = \"127.0.0.1:7071\"\n", ""),
        );
        assert!(
            shown.starts_with("c.toml:9: `node.web`: node n2: "),
            "{shown}"
        );
        // TCP and UDP do not clash, nor do the same ports on different machines.
        load(
            &TWO_NODES.replace("7171", "7072"),
            None,
            &Overrides::default(),
        )
        .unwrap();
        let apart = TWO_NODES
            .replace(
                "[[node]]\nname = \"n1\"",
                "[tls]\ndir = \"certs\"\n[[node]]\nname = \"n1\"",
            )
            .replace("mesh = \"127.0.0.1:7171\"", "mesh = \"10.0.0.1:7171\"")
            .replace("mesh = \"127.0.0.1:7172\"", "mesh = \"10.0.0.2:7171\"")
            .replace("7072", "7071");
        load(&apart, None, &Overrides::default()).unwrap();
    }

    #[test]
    fn a_network_without_certificates_is_refused() {
        let open = TWO_NODES.replace("127.0.0.1:7172", "10.0.0.2:7172");
        assert_eq!(
            error(&open),
            "c.toml:12: `tls.dir`: nodes talk over 10.0.0.2:7172, which is not a loopback address, and there is no certificate for node n1\n  remedy: run `cursormesh cert ca --cluster dev --out certs` and `cursormesh cert node --name n1 --ca certs`, then set `dir = \"certs\"` under [tls]"
        );
        let with_dir = format!("{open}\n[tls]\ndir = \"certs\"");
        let node = load(&with_dir, Some("n1"), &Overrides::default())
            .unwrap()
            .node("n1")
            .unwrap();
        assert!(
            matches!(node.tls, Tls::Bundle { path, .. } if path.value == Path::new("./certs/n1.pem"))
        );
        // A bundle for the node that is started is enough to start that node.
        load(&open, Some("n1"), &flag("node.bundle", "/x/n1.pem")).unwrap();
        load(&open, Some("n2"), &env(&[("CURSORMESH_TLS_DIR", "/x")])).unwrap();
        // A seed elsewhere is a network too.
        let seeded = format!("[mesh]\nseeds = [\"10.0.0.9:7171\"]\n{TWO_NODES}")
            .replace("cluster = \"dev\"", "");
        assert!(error(&seeded).contains("10.0.0.9:7171, which is not a loopback address"));
    }

    #[test]
    fn flags_win_over_the_environment_over_the_file_over_defaults() {
        let tick = |text: &str, overrides: &Overrides| {
            load(text, Some("n1"), overrides)
                .unwrap()
                .node("n1")
                .unwrap()
                .web_limits
                .tick
                .as_millis()
        };
        let file = format!("{TWO_NODES}\n[web]\ntick_ms = 20");
        let from_env = env(&[("CURSORMESH_WEB_TICK_MS", "30")]);
        assert_eq!(tick(TWO_NODES, &Overrides::default()), 16);
        assert_eq!(tick(&file, &Overrides::default()), 20);
        assert_eq!(tick(&file, &from_env), 30);
        assert_eq!(tick(&file, &from_env.with(flag("web.tick_ms", "40"))), 40);
        assert_eq!(tick(&file, &env(&[("CURSORMESH_WEB_TICK_MS", "")])), 20);
    }

    #[test]
    fn overrides_of_a_node_concern_the_picked_node_only() {
        let overrides = flag("node.web", "127.0.0.1:9000,[::1]:9000");
        let cluster = load(TWO_NODES, Some("n2"), &overrides).unwrap();
        assert_eq!(cluster.node("n1").unwrap().web[0].value.port(), 7071);
        let web = cluster.node("n2").unwrap().web;
        assert_eq!(web.len(), 2);
        assert_eq!(web[1].origin, Origin::Flag("--web".to_owned()));
        let shown = load(TWO_NODES, None, &overrides).unwrap_err();
        assert_eq!(
            shown,
            "flag --web: concerns one node, and no node was picked\n  remedy: add --node NAME"
        );
    }

    #[test]
    fn a_bad_override_names_its_variable_or_flag() {
        let shown = load(
            TWO_NODES,
            Some("n1"),
            &env(&[("CURSORMESH_WEB_TICK_MS", "fast")]),
        )
        .unwrap_err();
        assert_eq!(
            shown,
            "environment variable CURSORMESH_WEB_TICK_MS: `web.tick_ms`: \"fast\" is not a whole number\n  remedy: give a whole number from 1 to 1000 (milliseconds; default 16)"
        );
        let shown = load(TWO_NODES, Some("n1"), &flag("node.web", "127.0.0.1:7072")).unwrap_err();
        assert!(
            shown.starts_with("flag --web: `node.web`: ")
                || shown.starts_with("c.toml:11: `node.web`: "),
            "{shown}"
        );
    }

    #[test]
    fn seeds_are_nodes_or_addresses_and_never_the_node_itself() {
        let seeds = |node: &str, text: &str| {
            load(text, Some(node), &Overrides::default())
                .unwrap()
                .node(node)
                .unwrap()
                .seeds
        };
        let default = seeds("n1", TWO_NODES);
        assert_eq!(
            default,
            [(Some(label("n2")), "127.0.0.1:7172".parse().unwrap())]
        );
        let partial = format!("{TWO_NODES}\n[mesh]\nseeds = [\"n1\", \"127.0.0.1:9999\"]");
        assert_eq!(
            seeds("n1", &partial),
            [(None, "127.0.0.1:9999".parse().unwrap())]
        );
        assert_eq!(seeds("n2", &partial).len(), 2);
    }

    #[test]
    fn seeds_may_be_names() {
        let config = |seeds: &str| {
            let text = format!("[mesh]\nseeds = {seeds}\n[tls]\ndir = \"certs\"\n{TWO_NODES}")
                .replace("cluster = \"dev\"", "");
            load(&text, Some("n1"), &Overrides::default()).map(|file| file.node("n1").unwrap())
        };
        let host = |host: &str, port| SeedName::Host {
            host: host.to_owned(),
            port,
        };
        let found = config(
            "[\"n2\", \"mesh.example.org:7171\", \"a_b:1\", \"[fd00::1]:7171\", \"[10.0.0.1]:7171\", \
             \"srv:_mesh._udp.example.org.\"]",
        )
        .unwrap();
        let addrs: Vec<String> = found
            .seeds
            .iter()
            .map(|(_, addr)| addr.to_string())
            .collect();
        assert_eq!(addrs, ["127.0.0.1:7172", "[fd00::1]:7171", "10.0.0.1:7171"]);
        assert_eq!(
            found.seed_names,
            [
                host("mesh.example.org", 7171),
                host("a_b", 1),
                SeedName::Service("_mesh._udp.example.org.".to_owned())
            ]
        );
        for name in &found.seed_names {
            assert_eq!(SeedName::parse(&name.to_string()).as_ref(), Some(name));
        }
        let cases = [
            (
                "mesh.example.org",
                "is a name without a port\n  remedy: give one, such as \"mesh.example.org:7171\"; or \"srv:mesh.example.org\" if its SRV records have it",
            ),
            (
                "fd00::1:7171",
                "is an IPv6 address without brackets\n  remedy: write \"[fd00::1]:7171\"",
            ),
            (
                "srv:a..b",
                "asks for the SRV records of \"a..b\", which is no name\n  remedy: give one such as \"srv:_mesh._udp.example.org\"",
            ),
        ];
        for (seed, expected) in cases {
            let shown = config(&format!("[\"{seed}\"]")).unwrap_err();
            assert_eq!(
                shown,
                format!("c.toml:2: `mesh.seeds`: \"{seed}\" {expected}")
            );
        }
        for wrong in [
            "10.0.0.999:7171",
            "mesh.example.org:0",
            "mesh.example.org:70000",
            "-a.example.org:1",
            "a b:1",
            ":7171",
            "",
            &format!("{}.org:1", "x".repeat(64)),
        ] {
            let shown = config(&format!("[\"{wrong}\"]")).unwrap_err();
            assert!(
                shown.contains("is neither a node of this file nor an address nor a name"),
                "{shown}"
            );
        }
    }

    #[test]
    fn seeds_come_from_the_environment_too() {
        let seeds = "n2, 127.0.0.1:9,localhost:7171";
        let overrides = env(&[("CURSORMESH_MESH_SEEDS", seeds)]);
        let node = load(TWO_NODES, Some("n1"), &overrides)
            .unwrap()
            .node("n1")
            .unwrap();
        assert_eq!((node.seeds.len(), node.seed_names.len()), (2, 1));
        // This machine's own name needs no certificates; others do.
        assert!(matches!(node.tls, Tls::Throwaway(_)));
        let overrides = env(&[("CURSORMESH_MESH_SEEDS", "srv:_mesh._udp.example.org")]);
        let shown = load(TWO_NODES, Some("n1"), &overrides).unwrap_err();
        assert!(
            shown.starts_with(
                "environment variable CURSORMESH_MESH_SEEDS: `tls.dir`: nodes talk over srv:_mesh._udp.example.org, which is not a loopback address"
            ),
            "{shown}"
        );
    }

    #[test]
    fn a_node_that_the_file_does_not_list_is_described_by_overrides() {
        let pod = |ip: &str| {
            env(&[
                ("CURSORMESH_MESH", "[::]:7171"),
                ("CURSORMESH_ADVERTISE", &format!("[{ip}]:7171")),
                ("CURSORMESH_WEB", "[::]:7071"),
                ("CURSORMESH_MESH_SEEDS", "mesh.example.org:7171"),
                ("CURSORMESH_TLS_DIR", "/certs"),
            ])
        };
        let plain = "cluster = \"shop\"";
        for (ip, reached) in [("fd00::7", "[fd00::7]:7171"), ("10.0.0.7", "10.0.0.7:7171")] {
            let nodes = [
                load(plain, Some("pod-0"), &pod(ip)).unwrap(),
                load(TWO_NODES, Some("pod-0"), &pod(ip)).unwrap(),
                ClusterConfig::without_file("pod-0", &pod(ip)).unwrap(),
            ];
            for cluster in nodes {
                let node = cluster.node("pod-0").unwrap();
                assert_eq!(node.mesh.value.to_string(), "[::]:7171");
                assert_eq!(node.advertise.unwrap().to_string(), reached);
                assert_eq!(node.seed_names.len(), 1);
                assert!(
                    matches!(node.tls, Tls::Bundle { path, .. } if path.value == Path::new("/certs/pod-0.pem"))
                );
            }
        }
        // Without seeds, the nodes of the file are where it looks.
        let own = |port| {
            let mesh = flag("node.mesh", &format!("127.0.0.1:{port}"));
            mesh.with(flag("node.web", "127.0.0.1:7073"))
        };
        let shown = load(TWO_NODES, Some("n3"), &own(0)).unwrap_err();
        assert!(shown.contains("port 0 means any free port"), "{shown}");
        let beside = load(TWO_NODES, Some("n3"), &own(7173)).unwrap();
        assert_eq!(beside.node("n3").unwrap().seeds.len(), 2);

        let alone = |node: &str, overrides: &Overrides| {
            ClusterConfig::without_file(node, overrides)
                .unwrap_err()
                .to_string()
        };
        assert_eq!(
            alone("pod-0", &Overrides::default()),
            "flag --node: `node.mesh`: it is not said where node pod-0 listens for other nodes\n  remedy: add --mesh IP:PORT (UDP), such as \"127.0.0.1:7171\""
        );
        assert!(alone("Pod_0", &pod("fd00::7")).contains("\"Pod_0\" is not a usable name"));
        assert_eq!(
            alone("n1", &env(&[("CURSORMESH_MESH", "[::]:7171")])),
            "environment variable CURSORMESH_MESH: `node.mesh`: node n1: other nodes cannot reach [::]:7171\n  remedy: add `advertise = \"IP:PORT\"`: where other nodes reach this one"
        );
        assert_eq!(
            alone("n1", &env(&[("CURSORMESH_MESH", "fd00::7:7171")])),
            "environment variable CURSORMESH_MESH: `node.mesh`: \"fd00::7:7171\" is an IPv6 address without brackets\n  remedy: write \"[fd00::7]:7171\""
        );
    }

    #[test]
    fn dev_needs_nothing_and_stays_on_this_machine() {
        let dev =
            |overrides: &Overrides| NodeConfig::dev(overrides, |_, _| Tls::Pem("x".to_owned()));
        let config = dev(&Overrides::default()).unwrap();
        assert_eq!(config.web.len(), 2);
        assert_eq!(config.mesh.value.to_string(), "127.0.0.1:0");
        assert!(config.seeds.is_empty());
        let config = dev(&flag("node.web", "127.0.0.1:0")).unwrap();
        assert_eq!(config.web[0].value.port(), 0);
        let refused = dev(&flag("node.mesh", "10.0.0.1:7171"))
            .unwrap_err()
            .to_string();
        assert!(
            refused
                .starts_with("flag --mesh: `node.mesh`: 10.0.0.1:7171 is not a loopback address"),
            "{refused}"
        );
        dev(&flag("node.bundle", "x.pem")).unwrap_err();
    }
}
