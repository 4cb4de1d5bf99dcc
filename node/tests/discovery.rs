//! Real nodes that have to find each other: by names, among wrong seeds, after a move, over IPv6.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, Instant};

use cursormesh::cert::Authority;
use cursormesh::config::{Located, NodeConfig, Overrides, SeedName, Tls};
use cursormesh::discovery::Resolve;
use cursormesh::run::Node;
use cursormesh::status::NodeUrl;
use cursormesh_mesh::proto::NodeName;
use futures_util::future::BoxFuture;
use serde_json::Value;

/// What names stand for, as a test says.
#[derive(Debug, Default)]
struct Names {
    hosts: Mutex<BTreeMap<String, Vec<IpAddr>>>,
    services: Mutex<BTreeMap<String, Vec<(String, u16)>>>,
}

impl Names {
    fn set(&self, host: &str, ips: &[IpAddr]) {
        let mut hosts = self.hosts.lock().unwrap();
        hosts.insert(host.to_owned(), ips.to_vec());
    }

    fn lead(&self, service: &str, hosts: Vec<(String, u16)>) {
        let mut services = self.services.lock().unwrap();
        services.insert(service.to_owned(), hosts);
    }
}

fn found<T: Clone>(table: &Mutex<BTreeMap<String, T>>, name: &str) -> io::Result<T> {
    let found = table.lock().unwrap().get(name).cloned();
    found.ok_or_else(|| io::Error::other("there is no such name"))
}

impl Resolve for Names {
    fn addresses(&self, host: String) -> BoxFuture<'_, io::Result<Vec<IpAddr>>> {
        Box::pin(async move { found(&self.hosts, &host) })
    }

    fn services(&self, name: String) -> BoxFuture<'_, io::Result<Vec<(String, u16)>>> {
        Box::pin(async move { found(&self.services, &name) })
    }
}

fn name(text: &str) -> NodeName {
    NodeName::new(text).unwrap()
}

fn host(host: &str, port: u16) -> SeedName {
    SeedName::Host {
        host: host.to_owned(),
        port,
    }
}

fn loopback(last: u8, port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, last], port))
}

fn config(authority: &Authority, cluster: &str, node: &str, mesh: SocketAddr) -> NodeConfig {
    let (node, cluster) = (name(node), name(cluster));
    let bundle = Tls::Pem(authority.bundle_for(&node, &cluster).unwrap());
    let mut config = NodeConfig::dev(&Overrides::default(), |_, _| bundle).unwrap();
    config.node = node;
    config.cluster = cluster;
    config.web = vec![Located::by_default(loopback(1, 0))];
    config.mesh = Located::by_default(mesh);
    config
}

fn authority() -> Authority {
    Authority::new(&name("red")).unwrap()
}

/// A node of the cluster red.
async fn start(
    authority: &Authority,
    node: &str,
    mesh: SocketAddr,
    seeds: &[SocketAddr],
    names: &[SeedName],
    resolver: &Arc<Names>,
) -> Node {
    let mut config = config(authority, "red", node, mesh);
    config.seeds = seeds.iter().map(|addr| (None, *addr)).collect();
    config.seed_names = names.to_vec();
    Node::start_with(config, resolver.clone()).await.unwrap()
}

async fn cluster(node: &Node) -> Value {
    let url = NodeUrl::parse(&node.web_addrs()[0].to_string()).unwrap();
    tokio::task::spawn_blocking(move || url.cluster(None))
        .await
        .unwrap()
        .unwrap()
}

/// Waits until `node` is linked to exactly `peers`; what it says then.
async fn linked(node: &Node, peers: &[&str]) -> Value {
    let begin = Instant::now();
    loop {
        let cluster = cluster(node).await;
        let mut linked: Vec<&str> = cluster["peers"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|peer| peer["linked"] == true)
            .map(|peer| peer["node"].as_str().unwrap())
            .collect();
        linked.sort_unstable();
        if linked == peers {
            return cluster;
        }
        assert!(begin.elapsed() < Duration::from_secs(30), "{cluster:#}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// An address where nobody is.
fn nobody() -> SocketAddr {
    let socket = UdpSocket::bind(loopback(1, 0)).unwrap();
    socket.local_addr().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_good_name_among_wrong_seeds_is_enough() {
    let (authority, resolver) = (authority(), Arc::new(Names::default()));
    let other = config(&authority, "blue", "x1", loopback(1, 0));
    let other = Node::start_with(other, resolver.clone()).await.unwrap();
    let n1 = start(&authority, "n1", loopback(1, 0), &[], &[], &resolver).await;
    let seeds = [nobody(), other.mesh_addr()];
    resolver.set("mesh.test", &[loopback(77, 0).ip(), loopback(1, 0).ip()]);
    let names = [
        host("nowhere.test", 7171),
        host("mesh.test", n1.mesh_addr().port()),
        SeedName::Service("_mesh._udp.nowhere.test".to_owned()),
    ];
    let n2 = start(&authority, "n2", loopback(1, 0), &seeds, &names, &resolver).await;
    linked(&n1, &["n2"]).await;
    let told = linked(&n2, &["n1"]).await;
    assert!(
        cluster(&other).await["peers"]
            .as_array()
            .unwrap()
            .is_empty()
    );
    // Whoever asks is told what is wrong with the others.
    let seeds = told["seeds"].as_array().unwrap();
    let problem = |addr: &str| {
        let seed = seeds.iter().find(|seed| seed["addr"] == addr).unwrap();
        seed["problem"].as_str().unwrap().to_owned()
    };
    assert_eq!(problem("nowhere.test:7171"), "there is no such name");
    assert_eq!(
        problem("srv:_mesh._udp.nowhere.test"),
        "there is no such name"
    );
    for node in [n2, n1, other] {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_was_wrong_at_first_is_asked_for_again() {
    let (authority, resolver) = (authority(), Arc::new(Names::default()));
    let n1 = start(&authority, "n1", loopback(1, 0), &[], &[], &resolver).await;
    let port = n1.mesh_addr().port();
    resolver.set("mesh.test", &[loopback(77, 0).ip()]);
    let names = [host("mesh.test", port)];
    let n2 = start(&authority, "n2", loopback(1, 0), &[], &names, &resolver).await;
    let (begin, wrong) = (Instant::now(), loopback(77, port).to_string());
    while cluster(&n2).await["seeds"][0]["addr"] != wrong.as_str() {
        assert!(begin.elapsed() < Duration::from_secs(20));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    resolver.set("mesh.test", &[n1.mesh_addr().ip()]);
    let told = linked(&n2, &["n1"]).await;
    assert_eq!(told["seeds"].as_array().unwrap().len(), 1);
    assert_eq!(told["seeds"][0]["addr"], n1.mesh_addr().to_string());
    n2.stop().await;
    n1.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_leads_to_hosts_and_ports() {
    let (authority, resolver) = (authority(), Arc::new(Names::default()));
    let n1 = start(&authority, "n1", loopback(1, 0), &[], &[], &resolver).await;
    let hosts = vec![
        ("gone.test.".to_owned(), 7171),
        ("pod-0.test.".to_owned(), n1.mesh_addr().port()),
    ];
    resolver.lead("_mesh._udp.test", hosts);
    resolver.set("pod-0.test.", &[n1.mesh_addr().ip()]);
    let names = [SeedName::Service("_mesh._udp.test".to_owned())];
    let n2 = start(&authority, "n2", loopback(1, 0), &[], &names, &resolver).await;
    linked(&n2, &["n1"]).await;
    n2.stop().await;
    n1.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_comes_back_elsewhere_is_linked_by_all() {
    let (authority, resolver) = (authority(), Arc::new(Names::default()));
    let n1 = start(&authority, "n1", loopback(1, 0), &[], &[], &resolver).await;
    let seeds = [n1.mesh_addr()];
    let n2 = start(&authority, "n2", loopback(1, 0), &seeds, &[], &resolver).await;
    let n3 = start(&authority, "n3", loopback(1, 0), &seeds, &[], &resolver).await;
    linked(&n3, &["n1", "n2"]).await;
    drop(n2);
    linked(&n3, &["n1"]).await;
    let n2 = start(&authority, "n2", loopback(2, 0), &seeds, &[], &resolver).await;
    for (node, peers) in [(&n1, ["n2", "n3"]), (&n3, ["n1", "n2"])] {
        let told = linked(node, &peers).await;
        let mut all = told["peers"].as_array().unwrap().iter();
        let moved = all.find(|peer| peer["node"] == "n2").unwrap();
        assert_eq!(moved["addr"], n2.mesh_addr().to_string());
    }
    for node in [n2, n3, n1] {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_without_seeds_is_found_again_where_its_name_leads() {
    let (authority, resolver) = (authority(), Arc::new(Names::default()));
    let n2 = start(&authority, "n2", loopback(2, 0), &[], &[], &resolver).await;
    let port = n2.mesh_addr().port();
    resolver.set("n2.test", &[n2.mesh_addr().ip()]);
    let names = [host("n2.test", port)];
    let n1 = start(&authority, "n1", loopback(1, 0), &[], &names, &resolver).await;
    linked(&n1, &["n2"]).await;
    drop(n2);
    linked(&n1, &[]).await;
    let n2 = start(&authority, "n2", loopback(3, port), &[], &[], &resolver).await;
    resolver.set("n2.test", &[n2.mesh_addr().ip()]);
    linked(&n1, &["n2"]).await;
    n2.stop().await;
    n1.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_find_each_other_over_ipv6() {
    let here = SocketAddr::from((Ipv6Addr::LOCALHOST, 0));
    if UdpSocket::bind(here).is_err() {
        return; // A machine without IPv6.
    }
    let (authority, resolver) = (authority(), Arc::new(Names::default()));
    let n1 = start(&authority, "n1", here, &[], &[], &resolver).await;
    let n2 = start(&authority, "n2", here, &[n1.mesh_addr()], &[], &resolver).await;
    // Its IPv4 address is none that a node at an IPv6 address could use.
    let both = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
    resolver.set("mesh.test", &both);
    let names = [host("mesh.test", n1.mesh_addr().port())];
    let n3 = start(&authority, "n3", here, &[], &names, &resolver).await;
    linked(&n1, &["n2", "n3"]).await;
    linked(&n2, &["n1", "n3"]).await;
    let told = linked(&n3, &["n1", "n2"]).await;
    assert_eq!(told["seeds"].as_array().unwrap().len(), 1);
    for peer in told["peers"].as_array().unwrap() {
        assert!(peer["addr"].as_str().unwrap().starts_with("[::1]:"));
    }
    for node in [n3, n2, n1] {
        node.stop().await;
    }
}

/// Every line that was logged in this process.
static LOG: LazyLock<Arc<Mutex<Vec<u8>>>> = LazyLock::new(Arc::default);

struct Log;

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        LOG.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_clusters_with_one_ca_and_each_others_seeds_never_mix() {
    tracing_subscriber::fmt()
        .with_ansi(false)
        .with_writer(|| Log)
        .init();
    let (authority, resolver) = (authority(), Arc::new(Names::default()));
    let all = ["p1", "p2", "q1", "q2"];
    let sockets = all.map(|_| UdpSocket::bind(loopback(1, 0)).unwrap());
    let addrs = sockets.map(|socket| socket.local_addr().unwrap());
    let mut nodes = Vec::new();
    for (node, addr) in all.into_iter().zip(addrs) {
        let cluster = if node.starts_with('p') { "red" } else { "blue" };
        let mut config = config(&authority, cluster, node, addr);
        config.seeds = addrs.iter().map(|addr| (None, *addr)).collect();
        let node = Node::start_with(config, resolver.clone()).await;
        nodes.push(node.unwrap());
    }
    let mates = [["p2"], ["p1"], ["q2"], ["q1"]];
    for (node, mate) in nodes.iter().zip(mates) {
        linked(node, &mate).await;
    }
    // Each has tried the others twice by then, and been tried by them.
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(7) {
        for (node, mate) in nodes.iter().zip(mates) {
            let told = cluster(node).await;
            let peers = told["peers"].as_array().unwrap();
            let names: Vec<&Value> = peers.iter().map(|peer| &peer["node"]).collect();
            assert_eq!(names, mate);
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let log = String::from_utf8(LOG.lock().unwrap().clone()).unwrap();
    for (own, mate) in all.iter().zip(mates) {
        for foreign in all
            .iter()
            .filter(|node| **node != *own && **node != mate[0])
        {
            let told = log.lines().filter(|line| {
                line.contains("refused a peer")
                    && line.contains(&format!("node={own} "))
                    && line.contains(&format!("{foreign} belongs to cluster"))
            });
            assert_eq!(told.count(), 1, "{own} of {foreign}: {log}");
        }
    }
    for node in nodes {
        node.stop().await;
    }
}
