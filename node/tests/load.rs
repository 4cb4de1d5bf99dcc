//! `cursormesh load` against a real node: what it counts is what was delivered.

#![allow(clippy::unwrap_used)]

use std::time::Duration;

use cursormesh::cert::Authority;
use cursormesh::config::{Located, NodeConfig, Overrides, Tls};
use cursormesh::load::{LoadError, Plan, Protocol, Report, Transport, run};
use cursormesh::run::Node;
use cursormesh_mesh::proto::NodeName;

async fn node() -> Node {
    let authority = Authority::new(&NodeName::new("dev").unwrap()).unwrap();
    let name = NodeName::new("dev").unwrap();
    let bundle = Tls::Pem(authority.bundle(&name).unwrap());
    let mut config = NodeConfig::dev(&Overrides::default(), |_, _| bundle).unwrap();
    let loopback = Located::by_default("127.0.0.1:0".parse().unwrap());
    config.web = vec![loopback.clone()];
    config.mesh = loopback;
    // Short enough that answers end, and are asked for again, many times in a run.
    config.web_limits.sockjs.response_bytes_max = 4096;
    Node::start(config).await.unwrap()
}

fn plan(node: &Node, protocol: Protocol) -> Plan {
    Plan {
        urls: vec![format!("ws://{}", node.web_addrs()[0])],
        ca: None,
        more: 0,
        slow: 0,
        protocol,
        transport: Transport::Websocket,
        rooms: 2,
        members: 5,
        senders: 2,
        rate: 20.0,
        measured: Duration::from_secs(1),
        warmup: Duration::from_secs(1),
        pids: vec![std::process::id()],
    }
}

async fn load(plan: Plan) -> Result<Report, LoadError> {
    let done = tokio::task::spawn_blocking(move || run(&plan, |_| {}));
    done.await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_move_is_counted_at_everybody_in_the_room() {
    let node = node().await;
    for protocol in [Protocol::Tutorial, Protocol::V1] {
        let report = load(plan(&node, protocol)).await.unwrap();
        assert_eq!((report.clients, report.lost.0), (10, 0), "{report:?}");
        // Four senders twenty times a second, and who hears them: everybody, or everybody else.
        let hear = if protocol == Protocol::Tutorial { 5 } else { 4 };
        assert!(report.sent.abs_diff(80) <= 8, "{report:?}");
        assert_eq!(report.expected, report.sent * hear, "{report:?}");
        // What is on its way when the measurement begins and ends is not counted alike; v1 sends
        // the newest position only.
        assert!((0.7..1.2).contains(&report.ratio()), "{report:?}");
        assert!(report.age_ms.is_some() && report.cpu_us_per_delivered.is_some());
    }
    node.stop().await;
}

/// Every move arrives at everybody in the room, over this transport.
async fn all_arrives_over(transport: Transport) {
    let node = node().await;
    let mut plan = plan(&node, Protocol::Tutorial);
    plan.transport = transport;
    let report = load(plan).await.unwrap();
    node.stop().await;
    assert_eq!((report.clients, report.lost), (10, (0, None)));
    assert_eq!(report.expected, report.sent * 5);
    // But for what is on its way when the measurement begins and ends.
    let on_its_way = report.expected / 10;
    assert!(
        report.delivered.abs_diff(report.expected) <= on_its_way,
        "{} of {}",
        report.delivered,
        report.expected
    );
    let [median, ..] = report.age_ms.unwrap();
    assert!((0.0..500.0).contains(&median), "{median}");
}

#[tokio::test(flavor = "multi_thread")]
async fn all_arrives_over_websockets() {
    all_arrives_over(Transport::Websocket).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_arrives_over_websockets_with_frames_of_sockjs() {
    all_arrives_over(Transport::Sockjs).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_arrives_over_xhr_streaming() {
    all_arrives_over(Transport::XhrStreaming).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_arrives_over_eventsource() {
    all_arrives_over(Transport::Eventsource).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_arrives_over_xhr_polling() {
    all_arrives_over(Transport::XhrPolling).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sockjs_carries_the_tutorial_alone() {
    let node = node().await;
    let mut v1 = plan(&node, Protocol::V1);
    v1.transport = Transport::Sockjs;
    let error = load(v1).await.unwrap_err().to_string();
    assert!(error.contains("give --protocol tutorial"), "{error}");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_get_in_is_told_why() {
    let node = node().await;
    let mut nowhere = plan(&node, Protocol::Tutorial);
    node.stop().await;
    let error = load(nowhere.clone()).await.unwrap_err().to_string();
    assert!(error.contains("only 0 of 10 clients are there"), "{error}");
    nowhere.senders = 6;
    let error = load(nowhere).await.unwrap_err().to_string();
    assert!(error.contains("give --senders up to --members"), "{error}");
}
