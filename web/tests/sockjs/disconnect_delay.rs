//! A session without a receiver: between two polls that is as it should be. When it lasts for longer
//! than the disconnect delay the client is gone, and so is the session.

use std::time::Duration;

use cursormesh_web::config::SockJs;
use tokio::time::sleep;

use super::node::{Node, node_with};
use super::session::Session;
use super::transport::{ALL, POLLING, STREAMING, Transport};

fn node(disconnect_delay: Duration) -> Node {
    node_with(SockJs {
        disconnect_delay,
        ..SockJs::default()
    })
}

#[tokio::test]
async fn a_session_that_nobody_receives_is_forgotten() {
    let node = node(Duration::from_millis(300));
    let mut sessions = Vec::new();
    for transport in ALL {
        let session = Session::new(&node, "/echo");
        let mut receiver = session.receive_first(transport).await;
        if STREAMING.contains(&transport) {
            session.say(&[&"x".repeat(4096)]).await;
            receiver.frame().await.unwrap();
        }
        receiver.ends().await;
        sessions.push((transport, session));
    }
    sleep(Duration::from_millis(1500)).await;
    for (transport, session) in sessions {
        let sent = session.send("[\"x\"]").await;
        assert_eq!(sent.status, 404, "{transport:?}");
        session.receive(transport).await.hears("o").await;
    }
    node.has_sessions(0).await;
}

#[tokio::test]
async fn what_waited_in_it_is_forgotten_too() {
    let node = node(Duration::from_millis(300));
    let session = Session::open(&node, "/echo").await;
    session.say(&["forgotten"]).await;
    sleep(Duration::from_millis(1500)).await;
    assert_eq!(session.poll().await, "o\n");
    session.say(&["new"]).await;
    assert_eq!(session.poll().await, "a[\"new\"]\n");
}

#[tokio::test]
async fn messages_alone_do_not_keep_it() {
    let node = node(Duration::from_millis(500));
    let session = Session::open(&node, "/echo").await;
    for _ in 0..20 {
        sleep(Duration::from_millis(100)).await;
        session.send("[\"x\"]").await;
    }
    assert_eq!(session.send("[\"x\"]").await.status, 404);
}

#[tokio::test]
async fn each_receiver_starts_the_delay_anew() {
    let node = node(Duration::from_secs(3));
    let session = Session::open(&node, "/echo").await;
    for _ in 0..5 {
        sleep(Duration::from_millis(1000)).await;
        session.say(&["x"]).await;
        assert_eq!(session.poll().await, "a[\"x\"]\n");
    }
}

#[tokio::test]
async fn a_poll_that_hangs_keeps_it_for_ever() {
    let node = node(Duration::from_millis(300));
    for transport in POLLING {
        let session = Session::open(&node, "/echo").await;
        let mut hanging = transport.request(&session.url).start(node.addr).await;
        sleep(Duration::from_millis(1500)).await;
        session.say(&["x"]).await;
        hanging.wait().await;
        let body = hanging.response().await.whole().await.body;
        assert!(body.contains("a["), "{body}");
    }
}

#[tokio::test]
async fn a_stream_that_hangs_keeps_it_for_ever() {
    let node = node(Duration::from_millis(300));
    let mut open = Vec::new();
    for transport in STREAMING {
        let session = Session::new(&node, "/echo");
        open.push((session.receive_first(transport).await, session));
    }
    sleep(Duration::from_millis(1500)).await;
    for (mut receiver, session) in open {
        session.say(&["x"]).await;
        receiver.hears("a[\"x\"]").await;
    }
}

#[tokio::test]
async fn a_session_that_was_forgotten_is_not_the_one_with_its_id_that_comes_after() {
    let node = node(Duration::from_millis(300));
    let session = Session::open(&node, "/echo").await;
    node.has_sessions(0).await;
    let mut receiver = session.receive_first(Transport::XhrStreaming).await;
    sleep(Duration::from_millis(1500)).await;
    session.say(&["still here"]).await;
    receiver.hears("a[\"still here\"]").await;
}
