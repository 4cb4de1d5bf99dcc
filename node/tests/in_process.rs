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
