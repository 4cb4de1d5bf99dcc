//! Where SockJS is served, and with which settings when nobody says anything.

use std::time::Duration;

use cursormesh_web::config::SockJs;

use super::http::Request;
use super::node::{node, node_as_set, node_with};
use super::session::Session;
use super::socket::upgrade;

const CONFORMANCE: [&str; 4] = [
    "/echo",
    "/close",
    "/disabled_websocket_echo",
    "/cookie_needed_echo",
];

#[test]
fn by_itself_it_is_as_the_protocol_says() {
    let sockjs = SockJs::default();
    assert_eq!(sockjs.prefixes, ["/ws"]);
    assert_eq!(sockjs.heartbeat, Duration::from_secs(25));
    assert_eq!(sockjs.disconnect_delay, Duration::from_secs(5));
    assert_eq!(sockjs.response_bytes_max, 131_072);
    assert!(!sockjs.conformance);
}

#[tokio::test]
async fn the_services_of_the_conformance_suite_are_there_only_on_demand() {
    let without = node_as_set(SockJs::default());
    for service in CONFORMANCE {
        for rest in ["", "/", "/info", "/iframe.html", "/websocket"] {
            let path = format!("{service}{rest}");
            assert_eq!(without.get(&path).await.status, 404, "{path}");
        }
        let poll = without.post(&format!("{service}/000/abc/xhr")).await;
        assert_eq!(poll.status, 404, "{service}");
    }
    for service in ["/ws", "/v1/sockjs"] {
        assert_eq!(without.get(service).await.status, 200, "{service}");
        Session::open(&without, service).await;
    }
    let with = node();
    for service in CONFORMANCE {
        assert_eq!(with.get(service).await.status, 200, "{service}");
        Session::open(&with, service).await;
    }
}

#[tokio::test]
async fn a_room_may_be_served_at_other_prefixes() {
    let node = node_with(SockJs {
        prefixes: vec!["/one".into(), "/a/b/two".into()],
        ..SockJs::default()
    });
    for prefix in ["/one", "/a/b/two"] {
        assert_eq!(node.get(prefix).await.body, "Welcome to SockJS!\n");
        assert_eq!(node.get(&format!("{prefix}/info")).await.status, 200);
        Session::open(&node, prefix).await;
    }
    assert_eq!(node.get("/a/b").await.status, 404);
    assert_eq!(node.post("/ws/000/abc/xhr").await.status, 404);
}

#[tokio::test]
async fn services_do_not_share_sessions() {
    let node = node();
    let session = Session::open(&node, "/echo").await;
    session.say(&["x"]).await;
    let elsewhere = node.post(&format!("/ws/000/{}/xhr", session.id)).await;
    assert_eq!(elsewhere.body, "o\n");
    assert_eq!(session.poll().await, "a[\"x\"]\n");
}

#[tokio::test]
async fn the_same_address_greets_and_upgrades() {
    let node = node();
    assert_eq!(node.get("/ws").await.body, "Welcome to SockJS!\n");
    assert_eq!(node.stream(upgrade("/ws")).await.status, 101);
    let named = upgrade("/ws?room=kitchen");
    assert_eq!(node.stream(named).await.status, 101);
    let half = Request::get("/ws").header("Upgrade", "websocket");
    let half = node.fetch(half).await;
    assert!(matches!(half.status, 200 | 400 | 426), "{}", half.status);
}
