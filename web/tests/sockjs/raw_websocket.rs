//! `PREFIX/websocket`: for programs that are no browsers. No frames, neither `o` nor heartbeats of the
//! protocol; what is said is text, and a close is a close.

use std::time::Duration;

use cursormesh_web::config::SockJs;

use super::http::Request;
use super::node::{node, node_with};
use super::socket::{Heard, Socket, upgrade};

#[tokio::test]
async fn text_is_text() {
    let node = node();
    let mut socket = Socket::open(node.addr, "/echo/websocket").await;
    for text in [
        "Hello world!\u{ffff}",
        "",
        "[\"a\"]",
        "\"a\"",
        "[\"a",
        "\u{0}",
    ] {
        socket.say(text).await;
        socket.hears(text).await;
    }
    socket.close().await;
}

#[tokio::test]
async fn a_close_by_the_server_is_a_close_of_the_connection() {
    let node = node();
    let mut socket = Socket::open(node.addr, "/close/websocket").await;
    assert_eq!(socket.is_closed().await, Some((3000, "Go away!".into())));
}

#[tokio::test]
async fn it_has_no_heartbeats_of_the_protocol() {
    let node = node_with(SockJs {
        heartbeat: Duration::from_millis(100),
        ..SockJs::default()
    });
    let mut socket = Socket::open(node.addr, "/echo/websocket").await;
    let quiet = tokio::time::timeout(Duration::from_millis(700), async {
        while socket.next().await == Heard::Ping {}
    });
    assert!(quiet.await.is_err(), "something was said");
    socket.say("x").await;
    socket.hears("x").await;
}

#[tokio::test]
async fn a_request_that_is_no_upgrade_is_refused() {
    let node = node();
    for request in [
        Request::get("/echo/websocket"),
        Request::get("/echo/websocket")
            .header("Upgrade", "websocket")
            .header("Connection", "close"),
    ] {
        assert_eq!(node.fetch(request).await.status, 400);
    }
    let posted = node.post("/echo/websocket").await;
    assert_eq!(posted.status, 405);
    assert_eq!(posted.headers.list("allow"), ["GET"]);
}

#[tokio::test]
async fn the_upgrade_is_what_clients_expect() {
    let node = node();
    for path in ["/echo/websocket", "/echo/websocket/", "/ws/websocket"] {
        let response = node.stream(upgrade(path)).await;
        assert_eq!(response.status, 101, "{path}");
        assert_eq!(
            response.headers.get("sec-websocket-accept"),
            Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
        );
        assert_eq!(response.headers.get("content-length"), None);
    }
}
