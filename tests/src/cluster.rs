//! Real nodes, as processes, behind a network that can be broken, with clients that move, write and
//! watch, and judges that know only what those clients saw.

pub mod client;
pub mod http;
pub mod namespaces;
pub mod network;
pub mod ports;
pub mod process;
pub mod puppet;
pub mod report;
pub mod scenario;
pub mod sockjs;
pub mod stage;
pub mod watch;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use self::network::Network;
use self::process::Process;

/// Why a scenario could not be carried out, in words.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// How long a node may take to start, or the mesh to link up. Generous: the machine may be busy.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// The name of every test cluster.
const CLUSTER: &str = "dev";

/// A cluster of real nodes. Dropping it kills them and removes everything it made.
#[derive(Debug)]
pub struct Cluster {
    dir: PathBuf,
    bin: PathBuf,
    web: BTreeMap<String, SocketAddr>,
    network: Network,
    processes: BTreeMap<String, Process>,
    formed: Duration,
}

/// How a node is started.
#[derive(Debug, Clone, Default)]
pub struct Launch {
    /// A shell command before the node's, such as `ulimit -n 40`.
    pub before: Option<String>,
    /// Where its log goes; `None`: into the cluster's directory.
    pub log: Option<PathBuf>,
    /// What it logs; empty: the default.
    pub level: String,
}

/// The program under test: `CURSORMESH_BIN`, or the one built beside this one.
pub fn program() -> Result<PathBuf, Failure> {
    if let Some(named) = std::env::var_os("CURSORMESH_BIN").filter(|named| !named.is_empty()) {
        return Ok(named.into());
    }
    let own = std::env::current_exe()?;
    own.ancestors()
        .skip(1)
        .take(2)
        .map(|dir| dir.join("cursormesh"))
        .find(|bin| bin.is_file())
        .ok_or_else(|| "there is no cursormesh beside this program: run `cargo build --package cursormesh` first, or set CURSORMESH_BIN".into())
}

impl Cluster {
    /// Starts `names` on loopback behind a fault proxy and waits until all are linked. `more` are
    /// further nodes of the network that the caller runs itself.
    pub async fn start(names: &[&str], more: &[&str]) -> Result<Self, Failure> {
        Self::start_with(names, more, "").await
    }

    /// The same, with `settings` in the nodes' file besides: whole tables of TOML.
    pub async fn start_with(
        names: &[&str],
        more: &[&str],
        settings: &str,
    ) -> Result<Self, Failure> {
        let dir = temporary_directory()?;
        let network = Network::behind_proxy(&[names, more].concat()).await?;
        Self::on(network, dir, &anywhere(names), more, settings).await
    }

    /// Starts nodes, each a name and its region, behind a fault proxy that `prepare` sets up before
    /// the first of them runs.
    pub async fn start_in_regions(
        places: &[(&str, &str)],
        prepare: impl FnOnce(&Network) -> Result<(), Failure>,
    ) -> Result<Self, Failure> {
        let dir = temporary_directory()?;
        let names: Vec<&str> = places.iter().map(|(name, _)| *name).collect();
        let network = Network::behind_proxy(&names).await?;
        prepare(&network)?;
        Self::on(network, dir, places, &[], "").await
    }

    /// Starts `names` on loopback with nothing in between, which costs least: for many nodes.
    pub async fn start_directly(names: &[&str]) -> Result<Self, Failure> {
        let dir = temporary_directory()?;
        let network = Network::direct(names)?;
        Self::on(network, dir, &anywhere(names), &[], "").await
    }

    /// Starts `names` in network namespaces of their own. Needs root.
    pub async fn start_in_namespaces(names: &[&str]) -> Result<Self, Failure> {
        let dir = temporary_directory()?;
        let network = Network::in_namespaces(names)?;
        Self::on(network, dir, &anywhere(names), &[], "").await
    }

    async fn on(
        network: Network,
        dir: PathBuf,
        places: &[(&str, &str)],
        more: &[&str],
        settings: &str,
    ) -> Result<Self, Failure> {
        let bin = program()?;
        let mut cluster = Self {
            dir,
            bin,
            web: BTreeMap::new(),
            network,
            processes: BTreeMap::new(),
            formed: Duration::ZERO,
        };
        let names: Vec<&str> = places.iter().map(|(name, _)| *name).collect();
        cluster.make_certificates(&[&names, more].concat())?;
        cluster.describe(places, settings)?;
        let begin = Instant::now();
        for name in &names {
            cluster.launch(name, &Launch::default())?;
        }
        for name in &names {
            cluster.until_ready(name).await?;
        }
        cluster.until_linked(&names).await?;
        cluster.formed = begin.elapsed();
        Ok(cluster)
    }

    fn make_certificates(&self, names: &[&str]) -> Result<(), Failure> {
        let certs = self.certs();
        run(Command::new(&self.bin)
            .args(["cert", "ca", "--cluster", CLUSTER, "--out"])
            .arg(&certs))?;
        for name in names {
            run(Command::new(&self.bin)
                .args(["cert", "node", "--name", name, "--ca"])
                .arg(&certs))?;
        }
        Ok(())
    }

    fn describe(&mut self, places: &[(&str, &str)], settings: &str) -> Result<(), Failure> {
        let mut text = format!("cluster = \"{CLUSTER}\"\n[tls]\ndir = \"certs\"\n{settings}\n");
        for (name, region) in places {
            let web = self.network.web(name)?;
            let (mesh, advertise) = (self.network.mesh(name)?, self.network.reached_at(name)?);
            text.push_str(&format!(
                "[[node]]\nname = \"{name}\"\nregion = \"{region}\"\nweb = [\"{web}\"]\nmesh = \"{mesh}\"\nadvertise = \"{advertise}\"\n"
            ));
            self.web.insert((*name).to_owned(), web);
        }
        Ok(std::fs::write(self.config(), text)?)
    }

    /// Starts one node that is not running; returns at once.
    pub fn launch(&mut self, name: &str, launch: &Launch) -> Result<(), Failure> {
        let log = launch.log.clone().unwrap_or_else(|| self.log(name));
        let mut words: Vec<String> = Vec::new();
        if let Some(before) = &launch.before {
            words.extend([
                "sh".into(),
                "-c".into(),
                format!("{before}; exec \"$@\""),
                "sh".into(),
            ]);
        }
        words.extend(self.network.enter(name));
        words.push(self.bin.display().to_string());
        words.extend([
            "serve".into(),
            "--config".into(),
            self.config().display().to_string(),
        ]);
        words.extend(["--node".into(), name.to_owned()]);
        if !launch.level.is_empty() {
            words.extend(["--log-level".into(), launch.level.clone()]);
        }
        let process = Process::start(&words, &log)?;
        self.processes.insert(name.to_owned(), process);
        Ok(())
    }

    /// Starts a node again and waits until it takes clients.
    pub async fn restart(&mut self, name: &str) -> Result<(), Failure> {
        self.launch(name, &Launch::default())?;
        self.until_ready(name).await
    }

    /// The process of a node.
    pub fn process(&mut self, name: &str) -> Result<&mut Process, Failure> {
        self.processes
            .get_mut(name)
            .ok_or_else(|| format!("{name} does not run").into())
    }

    /// From the start of the first node until every node had a link to every other.
    pub fn formed(&self) -> Duration {
        self.formed
    }

    /// The network between the nodes.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// Where clients connect to a node.
    pub fn web(&self, name: &str) -> Result<SocketAddr, Failure> {
        self.web
            .get(name)
            .copied()
            .ok_or_else(|| format!("there is no node {name}").into())
    }

    /// The nodes' names.
    pub fn names(&self) -> Vec<String> {
        self.web.keys().cloned().collect()
    }

    /// A node's log.
    pub fn log(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}.log"))
    }

    /// The directory that goes with the cluster.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The certificate bundle of a node.
    pub fn bundle(&self, name: &str) -> Result<Vec<u8>, Failure> {
        Ok(std::fs::read(self.certs().join(format!("{name}.pem")))?)
    }

    fn certs(&self) -> PathBuf {
        self.dir.join("certs")
    }

    fn config(&self) -> PathBuf {
        self.dir.join("cluster.toml")
    }

    /// What a node says of the mesh (`/api/cluster`).
    pub async fn overview(&self, name: &str) -> Result<Value, Failure> {
        http::get_json(self.web(name)?, "/api/cluster").await
    }

    /// What a node says of one peer.
    pub async fn peer(&self, name: &str, peer: &str) -> Result<Value, Failure> {
        let overview = self.overview(name).await?;
        let peers = overview["peers"].as_array().into_iter().flatten();
        Ok(peers
            .into_iter()
            .find(|entry| entry["node"] == peer)
            .cloned()
            .unwrap_or(Value::Null))
    }

    /// What `cursormesh status` prints for a node.
    pub fn status(&self, name: &str) -> Result<String, Failure> {
        let mut command = Command::new(&self.bin);
        command
            .args(["status", "--url"])
            .arg(format!("http://{}", self.web(name)?));
        run(&mut command)
    }

    /// Waits until a node takes clients.
    pub async fn until_ready(&mut self, name: &str) -> Result<(), Failure> {
        let (web, log) = (self.web(name)?, self.log(name));
        let begin = Instant::now();
        loop {
            if let Ok((200, _)) = http::get(web, "/readyz").await {
                return Ok(());
            }
            let ended = self.process(name)?.ended();
            if ended || begin.elapsed() > PATIENCE {
                let log = std::fs::read_to_string(log).unwrap_or_default();
                let tail: Vec<&str> = log.lines().rev().take(5).collect();
                return Err(format!("{name} does not start: {}", tail.join(" / ")).into());
            }
            pause().await;
        }
    }

    /// Waits until each of `names` is linked to all others of them and shows them.
    pub async fn until_linked(&self, names: &[&str]) -> Result<Duration, Failure> {
        eventually(PATIENCE, "all nodes are linked", async || {
            for name in names {
                let overview = self.overview(name).await?;
                let linked = overview["peers"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .filter(|peer| peer["linked"] == true && peer["visible"] == true)
                    .filter(|peer| names.iter().any(|name| peer["node"] == *name))
                    .count();
                if linked + 1 < names.len() {
                    return Ok(false);
                }
            }
            Ok(true)
        })
        .await
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.processes.clear();
        if std::env::var_os("PARTITIONS_KEEP").is_none() {
            // What is left over is in the system's directory for temporary files.
            let _ = std::fs::remove_dir_all(&self.dir);
        }
    }
}

/// Between two looks at something that is waited for.
pub async fn pause() {
    tokio::time::sleep(Duration::from_millis(25)).await;
}

/// Waits until something is true and says how long that took. A look that fails counts as false; a
/// timeout says what was waited for.
pub async fn eventually(
    patience: Duration,
    what: &str,
    mut look: impl AsyncFnMut() -> Result<bool, Failure>,
) -> Result<Duration, Failure> {
    let begin = Instant::now();
    let mut problem = String::new();
    loop {
        match look().await {
            Ok(true) => return Ok(begin.elapsed()),
            Ok(false) => problem.clear(),
            Err(error) => problem = format!(": {error}"),
        }
        if begin.elapsed() > patience {
            return Err(format!("not within {} s: {what}{problem}", patience.as_secs()).into());
        }
        pause().await;
    }
}

/// Runs a command to its end; gives what it printed, or an error with what it complained about.
pub fn run(command: &mut Command) -> Result<String, Failure> {
    let output = command.stdin(std::process::Stdio::null()).output()?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(format!("{command:?}: {}", complaint.trim()).into())
}

/// Nodes for which it does not matter where they are.
fn anywhere<'a>(names: &[&'a str]) -> Vec<(&'a str, &'static str)> {
    names.iter().map(|name| (*name, "test")).collect()
}

fn temporary_directory() -> Result<PathBuf, Failure> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let dir = std::env::temp_dir().join(format!("cursormesh-{}-{count}", std::process::id()));
    std::fs::create_dir(&dir)?;
    Ok(dir)
}
