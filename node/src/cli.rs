//! The command line: what can be said, and what happens then.

use std::fmt;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::{ArgMatches, Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use cursormesh_mesh::proto::NodeName;

use crate::cert::{self, Authority, CertError};
use crate::config::keys::{KEYS, Key};
use crate::config::source::unknown_variables;
use crate::config::{ClusterConfig, ConfigError, NodeConfig, Origin, Overrides, Tls};
use crate::load::{self, LoadError, Plan, Protocol, Report, Transport};
use crate::run::{self, RunError};
use crate::status::{self, NodeUrl, StatusError};
use crate::telemetry;

/// Exit code when the command line or the configuration is wrong.
const EXIT_USAGE: u8 = 2;
/// Exit code when what was asked for failed.
const EXIT_FAILURE: u8 = 1;

/// Everyone's cursors, in every browser, on every node.
#[derive(Debug, Parser)]
#[command(
    name = "cursormesh",
    version,
    arg_required_else_help = true,
    after_help = "Start here:\n  \
        cursormesh dev                                        one node, then open http://127.0.0.1:7071\n  \
        cursormesh serve --config cluster.toml --node n1      one node of a cluster\n  \
        cursormesh status                                     the mesh as that node sees it\n\n\
        Exit codes: 0 done, 1 failed, 2 wrong command line or configuration."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start one node of the cluster that a file describes
    #[command(after_long_help = "Examples:\n  \
        cursormesh serve --config cluster.toml --node n1\n  \
        cursormesh serve --config cluster.toml --node n1 --tls-dir certs --log-format json\n  \
        CURSORMESH_WEB_TICK_MS=33 cursormesh serve --config cluster.toml --node n2\n  \
        cursormesh serve --node pod-0 --mesh [::]:7171 --advertise [fd00::10]:7171 \\\n      \
        --web [::]:7071 --mesh-seeds mesh.example.org:7171 --tls-dir certs\n\n\
        The last one needs no file: a node that no file lists is described by flags or the \
        environment.\n\
        The file documents its keys. A flag wins over the environment, the environment over the \
        file.\nSIGTERM or Ctrl-C: browsers are told (close 1012), the node leaves the mesh and \
        exits with 0\nwithin 5 s; a second one exits at once.")]
    Serve(Serve),
    /// Start one node on its own, without any file
    #[command(after_long_help = "Examples:\n  \
        cursormesh dev                            then open http://127.0.0.1:7071\n  \
        cursormesh dev --port 8080\n  \
        cursormesh dev --web 0.0.0.0:7071         reachable from other machines, without encryption\n  \
        cursormesh dev --conformance              with what public SockJS test suites ask for\n\n\
        Nothing is written to disk.")]
    Dev(Dev),
    /// Check a cluster's file without starting anything
    #[command(after_long_help = "Examples:\n  \
        cursormesh check --config cluster.toml              all nodes\n  \
        cursormesh check --config cluster.toml --node n1    one, with the overrides that serve would see\n\n\
        Reads the certificates that the file names, too. Exit code 0: all is well; 2: the file is \
        wrong;\n1: a certificate is.")]
    Check(Check),
    /// Print the mesh as a node sees it
    #[command(after_long_help = "Examples:\n  \
        cursormesh status\n  \
        cursormesh status --url http://127.0.0.1:7072 --json\n  \
        cursormesh status --config cluster.toml --node n3\n  \
        cursormesh status --wait 20               waits until the node is ready, up to 20 s")]
    Status(Status),
    /// Put a server under load and tell what it costs
    #[command(after_long_help = "Examples:\n  \
        cursormesh load --members 50 --senders 50                     everyone in one room moves\n  \
        cursormesh load --rooms 100 --members 10 --senders 10 --protocol v1\n  \
        cursormesh load --transport xhr-streaming --senders 10\n  \
        cursormesh load --url ws://127.0.0.1:7071 --url ws://127.0.0.1:7081 --pid 4711 --pid 4712\n\n\
        Only against servers of your own. Clients of a room are spread over the servers in turn. All \
        of it\nruns in one thread: when `load` itself uses nearly a whole processor, it is what was \
        measured.")]
    Load(Load),
    /// Make and show certificates
    #[command(
        subcommand,
        after_long_help = "Examples:\n  \
            cursormesh cert ca --cluster dev --out certs      a CA of the cluster's own\n  \
            cursormesh cert node --name n1 --ca certs         certs/n1.pem, for node n1 alone\n  \
            cursormesh cert show certs/n1.pem\n\n\
            Copy to each node its own bundle and nothing else. The CA's directory belongs on no node."
    )]
    Cert(Cert),
}

#[derive(Debug, Args)]
struct Serve {
    /// The cluster's file [default: cluster.toml, or none if that is not there and --node and --mesh are given]
    #[arg(long, value_name = "FILE", env = "CURSORMESH_CONFIG")]
    config: Option<PathBuf>,
    /// Which node this is; one that the file does not list needs --mesh
    #[arg(long, value_name = "NAME", env = "CURSORMESH_NODE")]
    node: Option<String>,
    /// Lets /dashboard cut and heal this node's links and stop it: on loopback addresses alone
    #[arg(long)]
    dev: bool,
    #[command(flatten)]
    flags: Flags,
}

#[derive(Debug, Args)]
struct Dev {
    /// Port for browsers on both loopback addresses; short for --web
    #[arg(long, value_name = "PORT", conflicts_with = "node.web")]
    port: Option<u16>,
    /// Serve /echo, /close, /disabled_websocket_echo and /cookie_needed_echo too, for SockJS test suites
    #[arg(long)]
    conformance: bool,
    #[command(flatten)]
    flags: Flags,
}

#[derive(Debug, Args)]
struct Load {
    /// A server; may be given several times
    #[arg(long, value_name = "URL", default_value = "ws://127.0.0.1:7071")]
    url: Vec<String>,
    /// Certificates (PEM) to trust servers for whose URL begins with wss://
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// What is spoken
    #[arg(long, value_enum, default_value = "tutorial")]
    protocol: Protocol,
    /// What carries it; SockJS the tutorial's JSON only. Over HTTP, who moves says so with xhr_send
    #[arg(long, value_enum, default_value = "websocket")]
    transport: Transport,
    /// Number of rooms
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rooms: u32,
    /// Clients in each room
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    members: u32,
    /// Rooms of its own that each client is in besides (v1 only)
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=31))]
    more_rooms: u32,
    /// How many of each room move [default: all]
    #[arg(long, value_name = "N")]
    senders: Option<u32>,
    /// How many of each room read 10 KB a second and no more
    #[arg(long, value_name = "N", default_value_t = 0)]
    slow: u32,
    /// Moves per second of each that moves
    #[arg(long, value_name = "N", default_value_t = 20.0)]
    rate: f64,
    /// How long is measured, in seconds
    #[arg(long, value_name = "S", default_value_t = 10)]
    seconds: u64,
    /// How long is moved before that, in seconds
    #[arg(long, value_name = "S", default_value_t = 2)]
    warmup: u64,
    /// A process of the server, whose processor time and memory are told; may be given several times
    #[arg(long, value_name = "PID")]
    pid: Vec<u32>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct Check {
    /// The cluster's file [default: cluster.toml, or none if that is not there and --node and --mesh are given]
    #[arg(long, value_name = "FILE", env = "CURSORMESH_CONFIG")]
    config: Option<PathBuf>,
    /// Check for this node alone
    #[arg(long, value_name = "NAME", env = "CURSORMESH_NODE")]
    node: Option<String>,
    #[command(flatten)]
    flags: Flags,
}

#[derive(Debug, Args)]
struct Status {
    /// The node's address [default: http://127.0.0.1:7071] [env: CURSORMESH_STATUS_URL]
    #[arg(long, value_name = "URL", conflicts_with = "config")]
    url: Option<String>,
    /// Take the address from the cluster's file; needs --node
    #[arg(long, value_name = "FILE", requires = "node")]
    config: Option<PathBuf>,
    /// Which of its nodes to ask
    #[arg(long, value_name = "NAME", requires = "config")]
    node: Option<String>,
    /// Print the node's answer as JSON
    #[arg(long)]
    json: bool,
    /// Wait until the node is ready, for at most so many seconds
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(0..=3600))]
    wait: Option<u64>,
}

#[derive(Debug, Subcommand)]
enum Cert {
    /// Make a private CA and the cluster's secret
    #[command(
        after_long_help = "Example:\n  cursormesh cert ca --cluster dev --out certs\n\n\
        Writes ca.pem (the certificate, public), ca.key and cluster.secret (private, 0600). The CA \
        is valid\nfor 10 years. Whoever has ca.key can make nodes of this cluster: keep it off the nodes."
    )]
    Ca {
        /// The cluster's name, as in cluster.toml
        #[arg(long, value_name = "NAME", default_value = "dev", value_parser = node_name)]
        cluster: NodeName,
        /// Directory to write to
        #[arg(long, value_name = "DIR", default_value = "certs")]
        out: PathBuf,
        /// Replace the CA that is there: bundles made with it are then worth nothing
        #[arg(long)]
        force: bool,
    },
    /// Make the certificate bundle of a node
    #[command(after_long_help = "Examples:\n  \
        cursormesh cert node --name n1\n  \
        cursormesh cert node --name n1 --name n2 --name n3 --ca certs --out bundles\n\n\
        Writes NAME.pem (0600): the node's certificate for NAME.CLUSTER.mesh, the CA's, the private \
        key and\nthe cluster's secret. Valid for a year; make a new one with --force and start the \
        node again.")]
    Node {
        /// The node's name, as in cluster.toml; may be given several times
        #[arg(long = "name", value_name = "NAME", required = true, value_parser = node_name)]
        names: Vec<NodeName>,
        /// Directory of the CA
        #[arg(long, value_name = "DIR", default_value = "certs")]
        ca: PathBuf,
        /// Directory to write to [default: the CA's]
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
        /// Replace a bundle that is there
        #[arg(long)]
        force: bool,
    },
    /// Print names and expiry of bundles and CA certificates
    #[command(
        after_long_help = "Example:\n  cursormesh cert show certs/ca.pem certs/n1.pem\n\n\
        Exit code 1 if one of them has expired."
    )]
    Show {
        /// Files to show
        #[arg(value_name = "FILE", required = true)]
        files: Vec<PathBuf>,
    },
}

fn node_name(text: &str) -> Result<NodeName, String> {
    NodeName::new(text).map_err(|error| error.to_string())
}

/// A flag for every configuration key, made from the table of keys.
#[derive(Debug, Clone, Default)]
struct Flags(Overrides);

impl Flags {
    fn keys() -> impl Iterator<Item = &'static Key> {
        KEYS.iter().filter(|key| key.path != "node.name")
    }
}

impl FromArgMatches for Flags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut flags = Self::default();
        flags.update_from_arg_matches(matches)?;
        Ok(flags)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        for key in Self::keys() {
            if let Some(text) = matches.get_one::<String>(key.path) {
                self.0.set_flag(key, text.clone());
            }
        }
        Ok(())
    }
}

impl Args for Flags {
    fn augment_args(command: clap::Command) -> clap::Command {
        Self::keys().fold(command, |command, key| {
            let heading = if key.path.starts_with("node.") {
                "Settings of this node, instead of the file's"
            } else {
                "Settings, instead of the file's"
            };
            command.arg(
                clap::Arg::new(key.path)
                    .long(key.flag())
                    .value_name("VALUE")
                    .allow_hyphen_values(true)
                    .help(key.help)
                    .long_help(format!(
                        "{}.\nGive {}.\n[env: {}]",
                        key.help,
                        key.expects(),
                        key.env()
                    ))
                    .help_heading(heading),
            )
        })
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        Self::augment_args(command)
    }
}

/// Why a command ended without success.
#[derive(Debug)]
enum Failure {
    /// The command line or the configuration.
    Usage(String),
    /// Anything else.
    Failed(String),
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::Usage(error.to_string())
    }
}

impl From<CertError> for Failure {
    fn from(error: CertError) -> Self {
        Self::Failed(error.to_string())
    }
}

impl From<RunError> for Failure {
    fn from(error: RunError) -> Self {
        Self::Failed(error.to_string())
    }
}

impl From<LoadError> for Failure {
    fn from(error: LoadError) -> Self {
        match error {
            LoadError::Plan(text) => Self::Usage(text),
            error => Self::Failed(error.to_string()),
        }
    }
}

impl From<StatusError> for Failure {
    fn from(error: StatusError) -> Self {
        match error {
            StatusError::Url { .. } => Self::Usage(error.to_string()),
            error => Self::Failed(error.to_string()),
        }
    }
}

/// Runs the program with the process's arguments and environment.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Nothing can be done if nobody reads the message.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { EXIT_USAGE } else { 0 });
        }
    };
    let result = match cli.command {
        Command::Serve(args) => serve(args),
        Command::Dev(args) => dev(args),
        Command::Check(args) => check(&args),
        Command::Status(args) => show_status(&args),
        Command::Load(args) => load_command(args),
        Command::Cert(command) => cert_command(command),
    };
    let (code, message) = match result {
        Ok(code) => return code,
        Err(Failure::Usage(message)) => (EXIT_USAGE, message),
        Err(Failure::Failed(message)) => (EXIT_FAILURE, message),
    };
    complain(format_args!("error: {message}"));
    ExitCode::from(code)
}

/// The cluster that the file or, where there is none, the overrides describe.
fn cluster(
    config: Option<&Path>,
    node: Option<&str>,
    overrides: &Overrides,
) -> Result<ClusterConfig, ConfigError> {
    let usual = Path::new("cluster.toml");
    match (config, node) {
        (None, Some(node)) if overrides.has("node.mesh") && !usual.exists() => {
            ClusterConfig::without_file(node, overrides)
        }
        _ => ClusterConfig::load(config.unwrap_or(usual), node, overrides),
    }
}

fn serve(args: Serve) -> Result<ExitCode, Failure> {
    let overrides = overrides(args.flags)?;
    let cluster = cluster(args.config.as_deref(), args.node.as_deref(), &overrides)?;
    let Some(name) = args.node else {
        return Err(cluster.no_node_picked().into());
    };
    let node = cluster.node(&name)?;
    start(if args.dev { node.with_levers()? } else { node })
}

fn dev(args: Dev) -> Result<ExitCode, Failure> {
    let mut flags = args.flags;
    if let (Some(port), Some(key)) = (args.port, crate::config::keys::find("node.web")) {
        flags
            .0
            .set_flag(key, format!("127.0.0.1:{port},[::1]:{port}"));
    }
    let overrides = overrides(flags)?;
    let mut failed = None;
    let mut config = NodeConfig::dev(&overrides, |node, cluster| {
        match Authority::new(cluster).and_then(|authority| authority.bundle(node)) {
            Ok(bundle) => Tls::Pem(bundle),
            Err(error) => {
                failed = Some(error);
                Tls::Pem(String::new())
            }
        }
    })?;
    config.web_limits.sockjs.conformance = args.conformance;
    match failed {
        Some(error) => Err(error.into()),
        None => start(config),
    }
}

fn start(config: NodeConfig) -> Result<ExitCode, Failure> {
    telemetry::init(&config.log, config.node.as_str());
    let names: Vec<String> = std::env::vars_os()
        .filter_map(|(name, _)| name.into_string().ok())
        .collect();
    for (variable, near) in unknown_variables(names.iter().map(String::as_str)) {
        match near {
            Some(near) => tracing::warn!(
                variable,
                "unknown environment variable ignored; did you mean {near}?"
            ),
            None => tracing::warn!(variable, "unknown environment variable ignored"),
        }
    }
    Ok(run::until_signal(config)?)
}

fn check(args: &Check) -> Result<ExitCode, Failure> {
    let overrides = overrides(args.flags.clone())?;
    let cluster = cluster(args.config.as_deref(), args.node.as_deref(), &overrides)?;
    let file = cluster.path().map(|path| path.display().to_string());
    let mut lines = vec![format!(
        "{}: cluster {}",
        file.as_deref().unwrap_or("no file"),
        cluster.cluster()
    )];
    for name in cluster.names() {
        if args.node.as_ref().is_some_and(|node| node != name.as_str()) {
            continue;
        }
        let node = cluster.node(name.as_str())?;
        lines.push(describe(&node)?);
    }
    lines.push("no errors".to_owned());
    say(lines.join("\n"));
    Ok(ExitCode::SUCCESS)
}

fn describe(node: &NodeConfig) -> Result<String, Failure> {
    let scheme = match node.web_limits.tls {
        Some(_) => "https",
        None => "http",
    };
    let web: Vec<String> = node
        .web
        .iter()
        .map(|at| format!("{scheme}://{}", at.value))
        .collect();
    let seeds: Vec<String> = node
        .seeds
        .iter()
        .map(|(name, addr)| {
            name.as_ref()
                .map_or_else(|| addr.to_string(), ToString::to_string)
        })
        .chain(node.seed_names.iter().map(ToString::to_string))
        .collect();
    let tls = match &node.tls {
        Tls::Bundle { path, .. } => {
            run::identity(node)?;
            format!("certificate {}", path.value.display())
        }
        Tls::Throwaway(dir) => format!("throwaway CA in {}", dir.display()),
        Tls::Pem(_) => "own certificate".to_owned(),
    };
    let reached = match node.advertise {
        Some(addr) => format!(" (reached at {addr})"),
        None => String::new(),
    };
    Ok(format!(
        "node {}: region {}, browsers at {}, mesh at UDP {}{reached}, seeds {}, {tls}",
        node.node,
        node.region,
        web.join(" and "),
        node.mesh.value,
        if seeds.is_empty() {
            "none".to_owned()
        } else {
            seeds.join(", ")
        },
    ))
}

fn show_status(args: &Status) -> Result<ExitCode, Failure> {
    let url = match (&args.url, &args.config, &args.node) {
        (_, Some(config), Some(node)) => {
            let overrides = Overrides::from_env(environment()?);
            let node = ClusterConfig::load(config, Some(node), &overrides)?.node(node)?;
            run::local_url(node.web[0].value, node.web_limits.tls.is_some())
        }
        (Some(url), ..) => url.clone(),
        (None, ..) => std::env::var("CURSORMESH_STATUS_URL")
            .ok()
            .filter(|url| !url.is_empty())
            .unwrap_or_else(|| "http://127.0.0.1:7071".to_owned()),
    };
    let url = NodeUrl::parse(&url)?;
    let cluster = url.cluster(args.wait.map(Duration::from_secs))?;
    if args.json {
        say(format!("{cluster:#}"));
    } else {
        say(status::table(&cluster).trim_end());
    }
    Ok(ExitCode::SUCCESS)
}

fn load_command(args: Load) -> Result<ExitCode, Failure> {
    let plan = Plan {
        urls: args.url,
        ca: args.ca,
        more: args.more_rooms as usize,
        slow: args.slow as usize,
        protocol: args.protocol,
        transport: args.transport,
        rooms: args.rooms as usize,
        members: args.members as usize,
        senders: args.senders.unwrap_or(args.members) as usize,
        rate: args.rate,
        measured: Duration::from_secs(args.seconds),
        warmup: Duration::from_secs(args.warmup),
        pids: args.pid,
    };
    let report = load::run(&plan, |line| {
        if !args.json {
            say(line);
        }
    })?;
    if args.json {
        say(format!("{:#}", report.json()));
    } else {
        say(load_table(&report));
    }
    Ok(ExitCode::SUCCESS)
}

fn load_table(report: &Report) -> String {
    let ages = report.age_ms.map_or_else(
        || "-".to_owned(),
        |[median, nine, nines, oldest]| {
            format!("{median:.1} median, {nine:.1} p90, {nines:.1} p99, {oldest:.1} oldest")
        },
    );
    let mut lines = vec![
        format!("{:.0} clients per second came", report.connects_per_second),
        format!(
            "{} moves sent, {} of {} arrived ({:.1} %), {:.0} per second",
            report.sent,
            report.delivered,
            report.expected,
            report.ratio() * 100.0,
            report.delivered as f64 / report.seconds
        ),
        format!("age on arrival in ms: {ages}"),
    ];
    if let Some(cpu) = report.cpu_us_per_delivered {
        lines.push(format!(
            "the server used {:.2} processors, {cpu:.3} µs per move that arrived",
            report.cpu_used
        ));
    }
    if let Some(bytes) = report.idle_client_bytes {
        lines.push(format!(
            "{:.1} KiB of memory per idle client",
            bytes / 1024.0
        ));
    }
    lines.push(format!(
        "the load itself used {:.2} processors, its moves were late by {:.1} ms at most",
        report.load_cpu_used, report.late_ms_max
    ));
    if report.replaced > 0 {
        lines.push(format!(
            "{} moves more were never sent: newer ones came while one was under way",
            report.replaced
        ));
    }
    if let (lost, Some(why)) = &report.lost {
        lines.push(format!("{lost} clients were lost; the last: {why}"));
    }
    lines.join("\n")
}

fn cert_command(command: Cert) -> Result<ExitCode, Failure> {
    match command {
        Cert::Ca {
            cluster,
            out,
            force,
        } => {
            Authority::new(&cluster)?.save(&out, force)?;
            say(format!(
                "made the CA of cluster {cluster} in {0}: ca.pem, ca.key, cluster.secret\n\
                 next: cursormesh cert node --name NAME --ca {0}",
                out.display()
            ));
        }
        Cert::Node {
            names,
            ca,
            out,
            force,
        } => {
            let authority = Authority::load(&ca)?;
            let out = out.unwrap_or(ca);
            for name in names {
                let path = out.join(format!("{name}.pem"));
                cert::write_bundle(&path, &authority.bundle(&name)?, force)?;
                say(format!(
                    "made {}: {name}.{}.mesh, valid for 365 days",
                    path.display(),
                    authority.cluster()
                ));
            }
        }
        Cert::Show { files } => return show_certificates(&files),
    }
    Ok(ExitCode::SUCCESS)
}

fn show_certificates(files: &[PathBuf]) -> Result<ExitCode, Failure> {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| {
            i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
        });
    let mut all_valid = true;
    for path in files {
        let (text, valid) = certificates(path, now)?;
        say(text);
        all_valid &= valid;
    }
    Ok(if all_valid {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(EXIT_FAILURE)
    })
}

/// A file's certificates for people, and whether all of them are valid at `now`.
fn certificates(path: &Path, now: i64) -> Result<(String, bool), CertError> {
    let contents = cert::show(path)?;
    let mut lines = vec![format!("{}:", path.display())];
    let mut all_valid = true;
    for certificate in &contents.certificates {
        let what = if certificate.is_ca {
            format!("CA of cluster {}", printable(&certificate.cluster))
        } else {
            format!("node {}", printable(&certificate.names.join(", ")))
        };
        let days = (certificate.not_after - now).div_euclid(24 * 60 * 60);
        let until = cert::date(certificate.not_after);
        let from = cert::date(certificate.not_before);
        all_valid &= (certificate.not_before..=certificate.not_after).contains(&now);
        let validity = if now > certificate.not_after {
            format!("EXPIRED on {until}, {} days ago", -days - 1)
        } else if now < certificate.not_before {
            format!("NOT YET valid, from {from} to {until}")
        } else {
            format!("valid from {from} to {until}, {days} days left")
        };
        lines.push(format!("  {what}"));
        if !certificate.is_ca {
            lines.push(format!(
                "    cluster      {}",
                printable(&certificate.cluster)
            ));
        }
        lines.push(format!("    {validity}"));
        lines.push(format!(
            "    issued by    {}",
            printable(&certificate.issuer)
        ));
        lines.push(format!(
            "    fingerprint  {} (SHA-256)",
            certificate.fingerprint
        ));
    }
    if contents.has_key {
        lines.push("  with private key".to_owned());
    }
    if contents.has_secret {
        lines.push("  with cluster secret".to_owned());
    }
    Ok((lines.join("\n"), all_valid))
}

fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '?' } else { c })
        .collect()
}

fn overrides(flags: Flags) -> Result<Overrides, Failure> {
    Ok(Overrides::from_env(environment()?).with(flags.0))
}

/// The variables that may be settings. A value that is not UTF-8 is an error, not a silent loss.
fn environment() -> Result<Vec<(String, String)>, Failure> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
        .filter(|(name, _)| name.starts_with("CURSORMESH_"))
        .map(|(name, value)| match value.into_string() {
            Ok(value) => Ok((name, value)),
            Err(_) => Err(Failure::from(ConfigError::new(
                Origin::Env(name),
                None,
                "is not UTF-8 text",
                "set it to plain text, or unset it",
            ))),
        })
        .collect()
}

/// Prints to standard output. A reader that went away is no error of ours.
fn say(text: impl fmt::Display) {
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

/// Prints to standard error.
fn complain(text: impl fmt::Display) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// The program's whole command line, for tests and documentation.
pub fn command() -> clap::Command {
    Cli::command()
}
