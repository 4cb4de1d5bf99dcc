//! Heartbeats: what hangs in silence for long is cut by something on the way. So a receiver that has
//! heard nothing for a while gets an `h`.

use std::time::{Duration, Instant};

use cursormesh_web::config::SockJs;
use tokio::time::sleep;

use super::node::{Node, node_with};
use super::session::Session;
use super::socket::{Heard, Socket};
use super::transport::{POLLING, STREAMING, Transport};

fn node(heartbeat: Duration) -> Node {
    node_with(SockJs {
        heartbeat,
        ..SockJs::default()
    })
}

#[tokio::test]
async fn a_poll_that_hangs_ends_with_one() {
    let node = node(Duration::from_millis(300));
    for transport in POLLING {
        let session = Session::new(&node, "/echo");
        session.receive_first(transport).await.ends().await;
        for _ in 0..2 {
            let started = Instant::now();
            let mut receiver = session.receive(transport).await;
            receiver.hears("h").await;
            receiver.ends().await;
            assert!(started.elapsed() >= Duration::from_millis(250));
        }
        session.say(&["x"]).await;
        session.receive(transport).await.hears("a[\"x\"]").await;
    }
}

#[tokio::test]
async fn a_heartbeat_of_a_poll_looks_like_any_frame() {
    let node = node(Duration::from_millis(100));
    let session = Session::open(&node, "/echo").await;
    assert_eq!(session.poll().await, "h\n");
    let request = Transport::Jsonp.request(&session.url);
    let body = node.fetch(request).await.body;
    assert_eq!(body, "/**/_jp.a123456(\"h\");\r\n");
}

#[tokio::test]
async fn a_stream_goes_on_after_each() {
    let node = node(Duration::from_millis(300));
    for transport in STREAMING {
        let session = Session::new(&node, "/echo");
        let mut receiver = session.receive_first(transport).await;
        let started = Instant::now();
        for _ in 0..3 {
            receiver.hears("h").await;
        }
        assert!(started.elapsed() >= Duration::from_millis(750));
        session.say(&["x"]).await;
        while receiver.frame().await.unwrap() != "a[\"x\"]" {}
    }
}

#[tokio::test]
async fn it_is_counted_from_what_was_last_written() {
    let node = node(Duration::from_secs(2));
    let session = Session::new(&node, "/echo");
    let mut receiver = session.receive_first(Transport::XhrStreaming).await;
    sleep(Duration::from_secs(1)).await;
    session.say(&["x"]).await;
    receiver.hears("a[\"x\"]").await;
    let written = Instant::now();
    receiver.hears("h").await;
    assert!(written.elapsed() >= Duration::from_millis(1500));
}

#[tokio::test]
async fn without_a_receiver_none_is_kept_for_later() {
    let node = node(Duration::from_millis(200));
    let session = Session::open(&node, "/echo").await;
    sleep(Duration::from_millis(1000)).await;
    session.say(&["x"]).await;
    assert_eq!(session.poll().await, "a[\"x\"]\n");
}

#[tokio::test]
async fn a_websocket_gets_one_too_as_a_frame_or_as_a_ping() {
    let node = node(Duration::from_millis(200));
    let session = Session::new(&node, "/echo");
    let mut socket = Socket::open(node.addr, &format!("{}/websocket", session.url)).await;
    socket.hears("o").await;
    for _ in 0..2 {
        let heard = socket.next().await;
        assert!(
            heard == Heard::Ping || heard == Heard::Text("h".into()),
            "{heard:?}"
        );
    }
}
