//! Finding other nodes by name: what the names among the seeds stand for, asked again and again.
//!
//! One task asks, and tells the mesh whenever the answer differs; the mesh never waits for it. A name
//! that cannot be resolved keeps the addresses it last had, because a DNS server that is down says
//! nothing about the nodes.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cursormesh_mesh::net::View;
use cursormesh_mesh::proto::SEEDS_MAX;
use futures_util::future::BoxFuture;
use futures_util::stream::{self, StreamExt};
use hickory_resolver::TokioResolver;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::RData;
use hickory_resolver::system_conf::parse_resolv_conf;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{info, warn};

use crate::config::SeedName;

/// How often names are resolved while the node has a link.
const EVERY: Duration = Duration::from_secs(30);
/// How often they are while it has none.
const EVERY_ALONE: Duration = Duration::from_secs(2);
/// A lookup that takes longer has failed.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);
/// So many lookups are under way at once.
const LOOKUPS_MAX: usize = 16;
/// Where the system says which DNS servers to ask.
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// Who knows what a name stands for.
pub trait Resolve: std::fmt::Debug + Send + Sync + 'static {
    /// All addresses of a host.
    fn addresses(&self, host: String) -> BoxFuture<'_, io::Result<Vec<IpAddr>>>;

    /// Hosts and ports that the SRV records of a name tell.
    fn services(&self, name: String) -> BoxFuture<'_, io::Result<Vec<(String, u16)>>>;
}

/// The system's resolver (`/etc/hosts` included) for addresses, the DNS servers of `/etc/resolv.conf`
/// for SRV records.
#[derive(Debug, Default)]
pub struct System {
    /// The client for SRV records, with the text it was configured by.
    client: Mutex<Option<(Vec<u8>, TokioResolver)>>,
}

impl System {
    /// A client for what `/etc/resolv.conf` says now; a new one only when that changed.
    fn client(&self) -> io::Result<TokioResolver> {
        let text = std::fs::read(RESOLV_CONF)
            .map_err(|error| io::Error::new(error.kind(), format!("{RESOLV_CONF}: {error}")))?;
        let mut client = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, client)) = &*client
            && *of == text
        {
            return Ok(client.clone());
        }
        let (config, options) = parse_resolv_conf(&text).map_err(io::Error::other)?;
        let mut builder =
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        *builder.options_mut() = options;
        // Who asks every 30 s wants to know what is there now.
        builder.options_mut().cache_size = 0;
        let made = builder.build().map_err(io::Error::other)?;
        *client = Some((text, made.clone()));
        Ok(made)
    }
}

impl Resolve for System {
    fn addresses(&self, host: String) -> BoxFuture<'_, io::Result<Vec<IpAddr>>> {
        Box::pin(async move {
            let found = tokio::net::lookup_host((host.as_str(), 0)).await?;
            Ok(found.map(|addr| addr.ip()).collect())
        })
    }

    fn services(&self, name: String) -> BoxFuture<'_, io::Result<Vec<(String, u16)>>> {
        Box::pin(async move { services(&self.client()?, &name).await })
    }
}

/// Targets and ports of a name's SRV records. Priorities and weights say nothing here: every node is as
/// good as another to begin with.
async fn services(client: &TokioResolver, name: &str) -> io::Result<Vec<(String, u16)>> {
    let found = client.srv_lookup(name).await.map_err(|error| {
        if error.is_nx_domain() {
            io::Error::other("there is no such name")
        } else if error.is_no_records_found() {
            io::Error::other("it has no SRV records")
        } else {
            io::Error::other(error.to_string())
        }
    })?;
    let records = found
        .answers()
        .iter()
        .filter_map(|answer| match &answer.data {
            RData::SRV(record) if !record.target.is_root() => {
                Some((record.target.to_ascii(), record.port))
            }
            _ => None,
        });
    Ok(records.collect())
}

/// Names that cannot be resolved now, each with why.
pub(crate) type Unresolved = Arc<Mutex<BTreeMap<SeedName, String>>>;

/// What a name stands for as far as is known, and why it is not known better.
#[derive(Debug)]
struct Known<T> {
    found: T,
    problem: Option<String>,
}

impl<T: Default> Default for Known<T> {
    fn default() -> Self {
        Self {
            found: T::default(),
            problem: None,
        }
    }
}

type Target = (String, u16);

#[derive(Debug)]
enum Question {
    Services(String),
    Addresses(String),
}

#[derive(Debug)]
enum Answer {
    Services(String, io::Result<Vec<Target>>),
    Addresses(String, io::Result<Vec<IpAddr>>),
}

/// The names of one node's configuration and what they stand for.
#[derive(Debug)]
pub(crate) struct Discovery {
    names: BTreeSet<SeedName>,
    /// Where the node listens: what it can send to follows from it.
    listen: SocketAddr,
    /// Most addresses that are told.
    room: usize,
    resolver: Arc<dyn Resolve>,
    services: BTreeMap<String, Known<BTreeSet<Target>>>,
    hosts: BTreeMap<String, Known<BTreeSet<IpAddr>>>,
    told: watch::Sender<BTreeSet<SocketAddr>>,
    unresolved: Unresolved,
    /// The log has it that there are more addresses than are told.
    said_many: bool,
}

impl Discovery {
    /// Looks for `names` on behalf of a node that listens at `listen` and knows `others` more seeds.
    pub(crate) fn new(
        names: impl IntoIterator<Item = SeedName>,
        listen: SocketAddr,
        others: usize,
        resolver: Arc<dyn Resolve>,
        told: watch::Sender<BTreeSet<SocketAddr>>,
        unresolved: Unresolved,
    ) -> Self {
        Self {
            names: names.into_iter().collect(),
            listen,
            room: SEEDS_MAX.saturating_sub(others),
            resolver,
            services: BTreeMap::new(),
            hosts: BTreeMap::new(),
            told,
            unresolved,
            said_many: false,
        }
    }

    /// Asks again and again, until the mesh has ended.
    pub(crate) async fn run(mut self, view: Arc<View>) {
        let told = self.told.clone();
        tokio::select! {
            () = told.closed() => {}
            () = self.ask_on(&view) => {}
        }
    }

    async fn ask_on(&mut self, view: &View) {
        loop {
            let began = Instant::now();
            self.ask().await;
            loop {
                tokio::time::sleep(EVERY_ALONE).await;
                if began.elapsed() >= EVERY || view.links().is_empty() {
                    break;
                }
            }
        }
    }

    /// Asks once for everything, and tells each answer as it comes.
    async fn ask(&mut self) {
        let mut hosts = BTreeSet::new();
        let mut questions = Vec::new();
        for name in &self.names {
            match name {
                SeedName::Service(name) => questions.push(Question::Services(name.clone())),
                SeedName::Host { host, .. } => {
                    hosts.insert(host.clone());
                }
            }
        }
        questions.extend(hosts.iter().cloned().map(Question::Addresses));
        self.ask_all(questions).await;
        // What services led to is known by now.
        let led: BTreeSet<String> = self
            .targets()
            .map(|(host, _)| host.clone())
            .filter(|host| !hosts.contains(host))
            .take(SEEDS_MAX)
            .collect();
        let questions = led.iter().cloned().map(Question::Addresses).collect();
        self.ask_all(questions).await;
        hosts.extend(led);
        self.hosts.retain(|host, _| hosts.contains(host));
    }

    async fn ask_all(&mut self, questions: Vec<Question>) {
        let resolver = Arc::clone(&self.resolver);
        let mut answers = stream::iter(questions)
            .map(|question| answer(resolver.as_ref(), question))
            .buffer_unordered(LOOKUPS_MAX);
        while let Some(answer) = answers.next().await {
            match answer {
                Answer::Services(name, found) => self.services_are(name, found),
                Answer::Addresses(host, found) => self.addresses_are(host, found),
            }
            self.tell();
        }
    }

    fn services_are(&mut self, name: String, found: io::Result<Vec<Target>>) {
        let found = found.map_err(|error| error.to_string()).and_then(|found| {
            let targets: BTreeSet<Target> = found
                .into_iter()
                .filter(|(_, port)| *port != 0)
                .take(SEEDS_MAX)
                .collect();
            if targets.is_empty() {
                return Err("its SRV records name no host".to_owned());
            }
            Ok(targets)
        });
        let known = self.services.entry(name.clone()).or_default();
        note(&format!("srv:{name}"), known, found, |targets| {
            let all = targets.iter().map(|(host, port)| format!("{host}:{port}"));
            all.collect()
        });
    }

    fn addresses_are(&mut self, host: String, found: io::Result<Vec<IpAddr>>) {
        let listen = self.listen;
        let found = found.map_err(|error| error.to_string()).and_then(|found| {
            let all: BTreeSet<IpAddr> = found
                .into_iter()
                .filter(|ip| !ip.is_unspecified() && !ip.is_multicast())
                .collect();
            let usable: BTreeSet<IpAddr> = all
                .iter()
                .copied()
                .filter(|ip| can_send(listen, *ip))
                .take(SEEDS_MAX)
                .collect();
            match (usable.is_empty(), all.is_empty()) {
                (true, true) => Err("it has no addresses".to_owned()),
                (true, false) => Err(format!(
                    "it has only addresses that a node whose `mesh` is {listen} cannot send to; listen \
                     at [::] for both IPv4 and IPv6"
                )),
                (false, _) => Ok(usable),
            }
        });
        let known = self.hosts.entry(host.clone()).or_default();
        note(&host, known, found, |ips| {
            ips.iter().map(ToString::to_string).collect()
        });
    }

    /// Hosts and ports to look for: those of the configuration, and those that services led to.
    fn targets(&self) -> impl Iterator<Item = (&String, u16)> {
        let hosts = self.names.iter().filter_map(|name| match name {
            SeedName::Host { host, port } => Some((host, *port)),
            SeedName::Service(_) => None,
        });
        let led = self.services.values().flat_map(|known| &known.found);
        hosts.chain(led.map(|(host, port)| (host, *port)))
    }

    /// Tells the mesh if something is different.
    fn tell(&mut self) {
        let mut all = BTreeSet::new();
        for (host, port) in self.targets() {
            if all.len() > self.room {
                break;
            }
            let ips = self.hosts.get(host).map(|known| &known.found);
            all.extend(
                ips.into_iter()
                    .flatten()
                    .map(|ip| SocketAddr::new(*ip, port)),
            );
        }
        let many = all.len() > self.room;
        if many && !self.said_many {
            warn!(
                taken = self.room,
                "the seeds have too many addresses and the rest is left out; one that answers is enough: \
                 give fewer names in mesh.seeds"
            );
        }
        self.said_many = many;
        let all: BTreeSet<SocketAddr> = all.into_iter().take(self.room).collect();
        self.told.send_if_modified(|told| {
            let differs = *told != all;
            if differs {
                *told = all;
            }
            differs
        });
        let unresolved = self.names.iter().filter_map(|name| {
            let problem = match name {
                SeedName::Host { host, .. } => self.hosts.get(host)?.problem.as_ref()?,
                SeedName::Service(service) => {
                    let known = self.services.get(service)?;
                    let hosts = known.found.iter().map(|(host, _)| self.hosts.get(host));
                    let hosts = hosts.map(|known| known?.problem.as_ref());
                    // A service resolves if one of its hosts does.
                    known.problem.as_ref().or(hosts.min().flatten())?
                }
            };
            Some((name.clone(), problem.clone()))
        });
        *self
            .unresolved
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = unresolved.collect();
    }
}

async fn answer(resolver: &dyn Resolve, question: Question) -> Answer {
    let late = || io::Error::other(format!("no answer within {} s", LOOKUP_TIMEOUT.as_secs()));
    match question {
        Question::Services(name) => {
            let found = tokio::time::timeout(LOOKUP_TIMEOUT, resolver.services(name.clone())).await;
            Answer::Services(name, found.unwrap_or_else(|_| Err(late())))
        }
        Question::Addresses(host) => {
            let found =
                tokio::time::timeout(LOOKUP_TIMEOUT, resolver.addresses(host.clone())).await;
            Answer::Addresses(host, found.unwrap_or_else(|_| Err(late())))
        }
    }
}

/// Takes an answer, and logs what is new about it.
fn note<T: Default + PartialEq>(
    name: &str,
    known: &mut Known<T>,
    found: Result<T, String>,
    list: impl Fn(&T) -> Vec<String>,
) {
    match found {
        Ok(found) => {
            if known.problem.is_some() || known.found != found {
                info!(seed = name, at = %shortened(&list(&found)), "a seed's name resolves");
            }
            known.found = found;
            known.problem = None;
        }
        Err(problem) => {
            if known.problem.as_ref() != Some(&problem) {
                let before = shortened(&list(&known.found));
                warn!(
                    seed = name,
                    problem,
                    before,
                    "a seed's name does not resolve; correct mesh.seeds, or the DNS that {RESOLV_CONF} \
                     names. It is asked for again every {} s, every {} s without a link",
                    EVERY.as_secs(),
                    EVERY_ALONE.as_secs()
                );
            }
            known.problem = Some(problem);
        }
    }
}

/// A few of many, for a log line.
fn shortened(items: &[String]) -> String {
    const SHOWN: usize = 8;
    let first = items[..items.len().min(SHOWN)].join(", ");
    match items.len() {
        0 => "-".to_owned(),
        len if len > SHOWN => format!("{first} and {} more", len - SHOWN),
        _ => first,
    }
}

/// Whether a socket bound at `listen` can send to `to`: one at `[::]` can to both families.
fn can_send(listen: SocketAddr, to: IpAddr) -> bool {
    match listen.ip() {
        IpAddr::V4(_) => to.is_ipv4(),
        IpAddr::V6(ip) => to.is_ipv6() || ip.is_unspecified(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::future::pending;

    use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
    use tokio::net::UdpSocket;

    use super::*;

    /// Answers from a table; what is not in it does not exist, what has no entry never answers.
    #[derive(Debug, Default)]
    struct Table {
        hosts: Mutex<BTreeMap<String, Option<Vec<IpAddr>>>>,
        services: Mutex<BTreeMap<String, Vec<Target>>>,
    }

    impl Table {
        fn host(&self, name: &str, ips: &[&str]) {
            let ips = ips.iter().map(|ip| ip.parse().unwrap()).collect();
            self.hosts
                .lock()
                .unwrap()
                .insert(name.to_owned(), Some(ips));
        }

        fn never(&self, name: &str) {
            self.hosts.lock().unwrap().insert(name.to_owned(), None);
        }
    }

    impl Resolve for Table {
        fn addresses(&self, host: String) -> BoxFuture<'_, io::Result<Vec<IpAddr>>> {
            let found = self.hosts.lock().unwrap().get(&host).cloned();
            Box::pin(async move {
                match found {
                    Some(Some(ips)) => Ok(ips),
                    Some(None) => pending().await,
                    None => Err(io::Error::other("there is no such name")),
                }
            })
        }

        fn services(&self, name: String) -> BoxFuture<'_, io::Result<Vec<Target>>> {
            let found = self.services.lock().unwrap().get(&name).cloned();
            Box::pin(async move { found.ok_or_else(|| io::Error::other("there is no such name")) })
        }
    }

    fn host(name: &str, port: u16) -> SeedName {
        SeedName::Host {
            host: name.to_owned(),
            port,
        }
    }

    fn service(name: &str) -> SeedName {
        SeedName::Service(name.to_owned())
    }

    fn discovery(names: &[SeedName], listen: &str, table: &Arc<Table>) -> Discovery {
        Discovery::new(
            names.iter().cloned(),
            listen.parse().unwrap(),
            0,
            table.clone(),
            watch::channel(BTreeSet::new()).0,
            Unresolved::default(),
        )
    }

    fn told(discovery: &Discovery) -> Vec<String> {
        let told = discovery.told.borrow();
        told.iter().map(ToString::to_string).collect()
    }

    fn problems(discovery: &Discovery) -> Vec<(String, String)> {
        let unresolved = discovery.unresolved.lock().unwrap();
        let all = unresolved.iter();
        all.map(|(name, problem)| (name.to_string(), problem.clone()))
            .collect()
    }

    #[tokio::test]
    async fn all_addresses_of_all_names_are_told_and_wrong_names_hinder_nobody() {
        let table = Arc::new(Table::default());
        table.host("mesh.test", &["10.0.0.1", "10.0.0.2", "fd00::1", "0.0.0.0"]);
        table.host("a.test.", &["10.0.0.9"]);
        let led = vec![("a.test.".to_owned(), 9), ("gone.test.".to_owned(), 9)];
        table
            .services
            .lock()
            .unwrap()
            .insert("_m._udp.test".to_owned(), led);
        let names = [
            host("mesh.test", 7171),
            host("mesh.test", 7172),
            host("nowhere.test", 7171),
            service("_m._udp.test"),
            service("_n._udp.test"),
        ];
        let mut both = discovery(&names, "[::]:7171", &table);
        both.ask().await;
        assert_eq!(
            told(&both),
            [
                "10.0.0.1:7171",
                "10.0.0.1:7172",
                "10.0.0.2:7171",
                "10.0.0.2:7172",
                "10.0.0.9:9",
                "[fd00::1]:7171",
                "[fd00::1]:7172"
            ]
        );
        let none = "there is no such name".to_owned();
        assert_eq!(
            problems(&both),
            [
                ("nowhere.test:7171".to_owned(), none.clone()),
                ("srv:_n._udp.test".to_owned(), none)
            ]
        );
        let mut four = discovery(&names, "10.0.0.3:7171", &table);
        four.ask().await;
        assert_eq!(told(&four).len(), 5);
        let mut six = discovery(&names, "[fd00::3]:7171", &table);
        six.ask().await;
        assert_eq!(told(&six), ["[fd00::1]:7171", "[fd00::1]:7172"]);
        let (name, problem) = problems(&six).pop().unwrap();
        assert_eq!(name, "srv:_n._udp.test", "{problem}");
        let problem = &six.hosts["a.test."].problem;
        assert!(problem.as_ref().unwrap().contains("listen at [::]"));
    }

    #[tokio::test]
    async fn what_a_name_stood_for_is_kept_while_it_does_not_resolve() {
        let table = Arc::new(Table::default());
        table.host("mesh.test", &["10.0.0.1", "10.0.0.2"]);
        let mut discovery = discovery(&[host("mesh.test", 1)], "[::]:1", &table);
        discovery.ask().await;
        assert_eq!(told(&discovery), ["10.0.0.1:1", "10.0.0.2:1"]);
        table.hosts.lock().unwrap().clear();
        discovery.ask().await;
        assert_eq!(told(&discovery).len(), 2);
        assert_eq!(problems(&discovery).len(), 1);
        table.host("mesh.test", &["10.0.0.3"]);
        discovery.ask().await;
        assert_eq!(told(&discovery), ["10.0.0.3:1"]);
        assert!(problems(&discovery).is_empty());
    }

    #[tokio::test]
    async fn a_name_that_nobody_answers_for_delays_no_other() {
        let table = Arc::new(Table::default());
        table.host("good.test", &["10.0.0.1"]);
        table.never("dead.test");
        let names = [host("dead.test", 1), host("good.test", 1)];
        let mut discovery = discovery(&names, "[::]:1", &table);
        let mut seen = discovery.told.subscribe();
        tokio::select! {
            biased;
            changed = seen.changed() => changed.unwrap(),
            () = discovery.ask() => panic!("the dead name was given up before the good one was told"),
        }
        assert_eq!(told(&discovery), ["10.0.0.1:1"]);
        assert!(problems(&discovery).is_empty());
        discovery.ask().await;
        assert_eq!(problems(&discovery)[0].1, "no answer within 5 s");
    }

    #[tokio::test]
    async fn no_more_than_a_thousand_addresses_are_told_with_all_other_seeds() {
        let table = Arc::new(Table::default());
        let many: Vec<String> = (0..900)
            .map(|n| format!("10.0.{}.{}", n / 250, n % 250))
            .collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        table.host("mesh.test", &many);
        let names = [host("mesh.test", 1), host("mesh.test", 2)];
        let mut discovery = discovery(&names, "[::]:1", &table);
        discovery.room -= 10;
        discovery.ask().await;
        assert_eq!(told(&discovery).len(), 990);
        assert!(discovery.said_many);
    }

    /// A DNS server with SRV records for one name; it knows of nothing else.
    async fn dns_server(name: &'static str, records: Vec<(u16, &'static str)>) -> SocketAddr {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let addr = socket.local_addr().unwrap();
        tokio::spawn(async move {
            let mut query = [0; 1500];
            while let Ok((len, from)) = socket.recv_from(&mut query).await {
                let answer = dns_answer(&query[..len], name, &records);
                socket.send_to(&answer, from).await.unwrap();
            }
        });
        addr
    }

    fn encoded(name: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        for label in name.split('.').filter(|label| !label.is_empty()) {
            bytes.push(u8::try_from(label.len()).unwrap());
            bytes.extend(label.as_bytes());
        }
        bytes.push(0);
        bytes
    }

    fn dns_answer(query: &[u8], name: &str, records: &[(u16, &str)]) -> Vec<u8> {
        let end = 12 + query[12..].iter().position(|byte| *byte == 0).unwrap() + 1;
        let (asked, kind) = (&query[12..end], &query[end..end + 2]);
        let known = asked.eq_ignore_ascii_case(&encoded(name));
        let count = if known && kind == [0, 33] {
            records.len()
        } else {
            0
        };
        let mut answer = query[..2].to_vec();
        answer.extend([0x85, if known { 0x80 } else { 0x83 }, 0, 1, 0]);
        answer.push(u8::try_from(count).unwrap());
        answer.extend([0, 0, 0, 0]);
        answer.extend(&query[12..end + 4]);
        for (port, target) in records.iter().take(count) {
            let target = encoded(target);
            answer.extend([0xC0, 12, 0, 33, 0, 1, 0, 0, 0, 30, 0]);
            answer.push(u8::try_from(6 + target.len()).unwrap());
            answer.extend([0, 10, 0, 5]);
            answer.extend(port.to_be_bytes());
            answer.extend(target);
        }
        answer
    }

    #[tokio::test]
    async fn srv_records_are_asked_of_a_dns_server() {
        let records = vec![
            (7171, "pod-0.mesh.test"),
            (7272, "pod-1.mesh.test"),
            (1, ""),
        ];
        let server = dns_server("_mesh._udp.test", records).await;
        let mut connection = ConnectionConfig::udp();
        connection.port = server.port();
        let server = NameServerConfig::new(server.ip(), true, vec![connection]);
        let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
        let client = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
            .build()
            .unwrap();
        let mut found = services(&client, "_mesh._udp.test.").await.unwrap();
        found.sort();
        assert_eq!(
            found,
            [
                ("pod-0.mesh.test.".to_owned(), 7171),
                ("pod-1.mesh.test.".to_owned(), 7272)
            ]
        );
        let error = services(&client, "nowhere.test.").await.unwrap_err();
        assert_eq!(error.to_string(), "there is no such name");
    }
}
