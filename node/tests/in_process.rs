//! Real nodes inside one process, as tests of the whole start them.

#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use cursormesh::cert::Authority;
use cursormesh::config::{Located, NodeConfig, Overrides, Tls};
use cursormesh::run::{Node, RunError};
use cursormesh::status::NodeUrl;
use cursormesh_mesh::net::{self, Identity, Settings};
use cursormesh_mesh::proto::{Config, GRACE, NodeName, Rules, SNAPSHOT_PART_BYTES, Versions};
use serde_json::Value;

fn loopback() -> Located<SocketAddr> {
    Located::by_default("127.0.0.1:0".parse().unwrap())
}

fn config(authority: &Authority, name: &str, seeds: &[SocketAddr]) -> NodeConfig {
    let node = NodeName::new(name).unwrap();
    let bundle = Tls::Pem(authority.bundle(&node).unwrap());
    let mut config = NodeConfig::dev(&Overrides::default(), |_, _| bundle).unwrap();
    config.node = node;
    config.web = vec![loopback()];
    config.mesh = loopback();
    config.seeds = seeds.iter().map(|addr| (None, *addr)).collect();
    config
}

fn authority() -> Authority {
    Authority::new(&NodeName::new("dev").unwrap()).unwrap()
}

async fn cluster(node: &Node) -> Value {
    let url = NodeUrl::parse(&node.web_addrs()[0].to_string()).unwrap();
    tokio::task::spawn_blocking(move || url.cluster(None))
        .await
        .unwrap()
        .unwrap()
}

/// Waits until the only peer of `node` is as `holds` wants it.
async fn peer_until(node: &Node, holds: impl Fn(&Value) -> bool) -> Value {
    let begin = Instant::now();
    loop {
        let cluster = cluster(node).await;
        if holds(&cluster["peers"][0]) {
            return cluster;
        }
        assert!(begin.elapsed() < Duration::from_secs(20), "{cluster:#}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_nodes_link_and_a_stop_is_a_leave() {
    let authority = authority();
    let n1 = Node::start(config(&authority, "n1", &[])).await.unwrap();
    let n2 = Node::start(config(&authority, "n2", &[n1.mesh_addr()]))
        .await
        .unwrap();
    for (node, peer) in [(&n1, "n2"), (&n2, "n1")] {
        let seen = peer_until(node, |peer| {
            peer["linked"] == true && peer["visible"] == true
        })
        .await;
        assert_eq!(seen["peers"][0]["node"], peer);
    }
    let begin = Instant::now();
    n2.stop().await;
    assert!(begin.elapsed() < Duration::from_secs(5));
    peer_until(&n1, |peer| peer["state"] == "down").await;
    n1.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_node_is_a_crash_and_may_come_back() {
    let authority = authority();
    let n1 = Node::start(config(&authority, "n1", &[])).await.unwrap();
    let seeds = [n1.mesh_addr()];
    let n2 = Node::start(config(&authority, "n2", &seeds)).await.unwrap();
    let first = peer_until(&n1, |peer| peer["linked"] == true).await;
    drop(n2);
    peer_until(&n1, |peer| peer["linked"] == false).await;
    let n2 = Node::start(config(&authority, "n2", &seeds)).await.unwrap();
    let second = peer_until(&n1, |peer| peer["linked"] == true).await;
    assert_ne!(first["peers"][0]["boot"], second["peers"][0]["boot"]);
    n2.stop().await;
    n1.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_ca_is_no_peer() {
    let n1 = Node::start(config(&authority(), "n1", &[])).await.unwrap();
    let n2 = Node::start(config(&authority(), "n2", &[n1.mesh_addr()]))
        .await
        .unwrap();
    // As long as a link takes that does come up, several times over.
    for _ in 0..20 {
        assert_ne!(cluster(&n1).await["peers"][0]["linked"], true);
        assert_ne!(cluster(&n2).await["peers"][0]["linked"], true);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // Whoever asks the node is told why, although it never heard the name of who is there.
    let seeds = &cluster(&n2).await["seeds"];
    assert_eq!(seeds[0]["addr"], n1.mesh_addr().to_string());
    let problem = seeds[0]["problem"].as_str().unwrap();
    assert!(problem.contains("CA"), "{problem}");
    n2.stop().await;
    n1.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_taken_port_leaves_nothing_running() {
    let authority = authority();
    let n1 = Node::start(config(&authority, "n1", &[])).await.unwrap();
    let mut taken = config(&authority, "n2", &[n1.mesh_addr()]);
    taken.web = vec![Located::by_default(n1.web_addrs()[0])];
    assert!(matches!(Node::start(taken).await, Err(RunError::Listen(_))));
    assert_eq!(cluster(&n1).await["peers"], Value::Array(Vec::new()));
    n1.stop().await;
}

/// The head and the body of what a node answers.
async fn get(node: &Node, path: &str) -> (String, String) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(node.web_addrs()[0])
        .await
        .unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: n\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_ascii_lowercase(), body.to_owned())
}

/// A node in a region, with the addresses of `n1` to `n3` known.
async fn placed(authority: &Authority, name: &str, region: &str, seeds: &[SocketAddr]) -> Node {
    let mut config = config(authority, name, seeds);
    config.region = region.to_owned();
    let url = |node: &str| (node.to_owned(), format!("wss://{node}.example.org/v1"));
    config.urls = ["n1", "n2", "n3"].map(url).into();
    Node::start(config).await.unwrap()
}

/// Waits until `/v1/nodes` on `node` lists these, itself first, then its region, each by the round trip.
async fn listed_until(node: &Node, names: &[&str]) -> Value {
    let begin = Instant::now();
    loop {
        let (_, body) = get(node, "/v1/nodes").await;
        let listing: Value = serde_json::from_str(&body).unwrap();
        let nodes = listing["nodes"].as_array().unwrap();
        let mut there: Vec<&str> = nodes
            .iter()
            .filter_map(|node| node["node"].as_str())
            .collect();
        there.sort_unstable();
        if there == names {
            let home = &nodes[0]["region"];
            assert_eq!(nodes[0]["node"], listing["node"]);
            let rank = |node: &Value| (node["region"] != *home, node["rtt_ms"].as_f64());
            assert!(nodes.is_sorted_by_key(rank), "{listing:#}");
            return listing;
        }
        assert!(begin.elapsed() < Duration::from_secs(20), "{listing:#}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn browsers_are_told_the_nodes_that_are_there_nearest_first() {
    let authority = authority();
    let n1 = placed(&authority, "n1", "eu", &[]).await;
    let seeds = [n1.mesh_addr()];
    let n2 = placed(&authority, "n2", "us", &seeds).await;
    let n3 = placed(&authority, "n3", "eu", &seeds).await;
    // Nobody knows how browsers reach this one.
    let n4 = placed(&authority, "n4", "eu", &seeds).await;
    let listing = listed_until(&n1, &["n1", "n2", "n3"]).await;
    assert_eq!(listing["node"], "n1");
    assert_eq!(listing["nodes"][0]["rtt_ms"], Value::Null);
    assert_eq!(listing["nodes"][1]["region"], "eu");
    assert_eq!(listing["nodes"][1]["url"], "wss://n3.example.org/v1");
    assert!(listing["nodes"][1]["rtt_ms"].as_f64().unwrap() > 0.0);
    listed_until(&n2, &["n1", "n2", "n3"]).await;
    let (head, _) = get(&n4, "/v1/nodes").await;
    assert!(head.starts_with("http/1.1 200 "), "{head}");
    assert!(
        head.contains("\r\naccess-control-allow-origin: *"),
        "{head}"
    );
    assert!(head.contains("\r\ncache-control: no-store"), "{head}");

    n3.stop().await;
    listed_until(&n1, &["n1", "n2"]).await;
    drop(n2);
    listed_until(&n1, &["n1"]).await;
    n4.stop().await;
    n1.stop().await;
}

/// A metric's value; `None` where it is not there.
async fn metric(node: &Node, series: &str) -> Option<u64> {
    let (_, page) = get(node, "/metrics").await;
    let value = page.lines().find_map(|line| line.strip_prefix(series))?;
    Some(value.trim().parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_between_nodes_and_regions_only_rise() {
    const LINK: &str = "cursormesh_link_sent_bytes_total{peer=\"n2\",region=\"us\"}";
    const SENT: &str = "cursormesh_region_sent_bytes_total{from=\"eu\",to=\"us\"}";
    const RECEIVED: &str = "cursormesh_region_received_bytes_total{from=\"us\",to=\"eu\"}";
    let authority = authority();
    let n1 = placed(&authority, "n1", "eu", &[]).await;
    let mut last = [0; 3];
    for _ in 0..2 {
        let n2 = placed(&authority, "n2", "us", &[n1.mesh_addr()]).await;
        peer_until(&n1, |peer| peer["linked"] == true).await;
        let begin = Instant::now();
        loop {
            let mut now = [0; 3];
            for (value, series) in now.iter_mut().zip([LINK, SENT, RECEIVED]) {
                *value = metric(&n1, series).await.unwrap_or(0);
            }
            assert!(now.iter().zip(last).all(|(now, last)| *now >= last));
            // A handshake is more than that, and it is said again to each life of the peer.
            if now.iter().zip(last).all(|(now, last)| *now >= last + 2_000) {
                last = now;
                break;
            }
            assert!(begin.elapsed() < Duration::from_secs(20), "{now:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        drop(n2);
        peer_until(&n1, |peer| peer["linked"] == false).await;
    }
}

/// A mesh held at version 1, as a node of the version before would be, beside two real nodes.
#[tokio::test(flavor = "multi_thread")]
async fn nodes_of_two_versions_run_side_by_side() {
    let authority = authority();
    let n1 = Node::start(config(&authority, "n1", &[])).await.unwrap();
    let mut with_url = config(&authority, "n2", &[n1.mesh_addr()]);
    let url = "wss://n2.example.org/v1".to_owned();
    with_url.urls = [("n2".to_owned(), url.clone())].into();
    let n2 = Node::start(with_url).await.unwrap();
    let bundle = authority.bundle(&NodeName::new("n3").unwrap()).unwrap();
    let identity = Identity::from_pem(bundle.as_bytes()).unwrap();
    let old = net::start(Settings {
        core: Config {
            node: identity.node().clone(),
            cluster: identity.cluster().clone(),
            region: String::new(),
            boot: 1,
            advertise: loopback().value,
            seeds: vec![(None, n1.mesh_addr())],
            grace: GRACE,
            snapshot_part_bytes: SNAPSHOT_PART_BYTES,
            public: "wss://n3.example.org/v1".to_owned(),
            versions: Versions {
                oldest: 1,
                newest: 1,
            },
            rules: Rules::default(),
        },
        listen: loopback().value,
        identity,
        cuttable: false,
        seed: Some(1),
    })
    .await
    .unwrap();
    let begin = Instant::now();
    loop {
        let told = cluster(&n1).await;
        let peers = told["peers"].as_array().unwrap().iter();
        let links: Vec<Value> = peers
            .map(|peer| serde_json::json!([peer["node"], peer["protocol"], peer["public"]]))
            .collect();
        let wanted = [
            serde_json::json!(["n2", 2, url]),
            serde_json::json!(["n3", 1, ""]),
        ];
        if links == wanted {
            break;
        }
        assert!(begin.elapsed() < Duration::from_secs(20), "{told:#}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let overview = old.view().overview();
    let versions = overview.peers.iter().map(|peer| peer.version);
    assert!(versions.flatten().all(|version| version == 1));
    old.leave(Duration::ZERO).await;
    n2.stop().await;
    n1.stop().await;
}
