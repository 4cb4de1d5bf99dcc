//! `xhr_streaming`: one POST brings frame after frame, each with a line end. Some browsers show nothing
//! of a response before 2 KiB have come, so that it begins with 2,048 times `h` and a line end. A
//! browser keeps all of a response until it is over, so that it is over after so many bytes, and the
//! client opens the next one.

use cursormesh_web::config::SockJs;

use super::node::{node, node_with};
use super::session::{GO_AWAY, Listener, STILL_OPEN, Session};
use super::transport::Transport;

#[tokio::test]
async fn it_begins_with_a_prelude_and_each_frame_is_a_chunk() {
    let node = node();
    let session = Session::new(&node, "/echo");
    let mut response = node
        .stream(Transport::XhrStreaming.request(&session.url))
        .await;
    assert_eq!(response.status, 200);
    assert_eq!(
        response.headers.content_type(),
        "application/javascript;charset=UTF-8"
    );
    assert_eq!(response.text().await, format!("{}\n", "h".repeat(2048)));
    assert_eq!(response.text().await, "o\n");
    session.say(&["x"]).await;
    assert_eq!(response.text().await, "a[\"x\"]\n");
    session.say(&["y"]).await;
    assert_eq!(response.text().await, "a[\"y\"]\n");
}

#[tokio::test]
async fn every_response_has_its_prelude() {
    let node = node();
    let prelude = format!("{}\n", "h".repeat(2048));
    let session = Session::open(&node, "/close").await;
    for _ in 0..2 {
        let request = Transport::XhrStreaming.request(&session.url);
        let body = node.fetch(request).await.body;
        assert_eq!(body, format!("{prelude}{GO_AWAY}\n"));
    }
    let session = Session::new(&node, "/echo");
    let _first = session.receive_first(Transport::XhrStreaming).await;
    let request = Transport::XhrStreaming.request(&session.url);
    let body = node.fetch(request).await.body;
    assert_eq!(body, format!("{prelude}{STILL_OPEN}\n"));
}

#[tokio::test]
async fn a_frame_is_there_at_once() {
    let node = node();
    let session = Session::new(&node, "/echo");
    let mut receiver = session.receive_first(Transport::XhrStreaming).await;
    for n in 0..20 {
        session.say(&[&n.to_string()]).await;
        receiver.hears(&format!("a[\"{n}\"]")).await;
    }
}

#[tokio::test]
async fn it_is_over_when_4096_bytes_of_frames_were_sent() {
    let node = node();
    let session = Session::new(&node, "/echo");
    let mut receiver = session.receive_first(Transport::XhrStreaming).await;
    let message = "x".repeat(128);
    for _ in 0..31 {
        session.say(&[&message]).await;
        receiver.hears(&format!("a[\"{message}\"]")).await;
    }
    receiver.ends().await;
}

#[tokio::test]
async fn one_large_frame_is_sent_whole_and_ends_it() {
    let node = node();
    let session = Session::new(&node, "/echo");
    let mut receiver = session.receive_first(Transport::XhrStreaming).await;
    let message = "x".repeat(20_000);
    session.say(&[&message]).await;
    receiver.hears(&format!("a[\"{message}\"]")).await;
    receiver.ends().await;
}

#[tokio::test]
async fn the_limit_of_other_services_is_the_configured_one() {
    let node = node_with(SockJs {
        response_bytes_max: 300,
        ..SockJs::default()
    });
    let session = Session::new(&node, "/ws");
    let mut receiver = session.receive_first(Transport::XhrStreaming).await;
    session
        .say(&[&format!("{{\"p\":\"{}\"}}", "p".repeat(300))])
        .await;
    assert!(receiver.frame().await.unwrap().contains("ppp"));
    receiver.ends().await;

    let session = Session::new(&node, "/echo");
    let mut receiver = session.receive_first(Transport::XhrStreaming).await;
    session.say(&[&"x".repeat(400)]).await;
    receiver.frame().await.unwrap();
    session.say(&["still the same"]).await;
    receiver.hears("a[\"still the same\"]").await;
}

#[tokio::test]
async fn messages_between_two_responses_wait_for_the_second() {
    let node = node();
    let session = Session::new(&node, "/echo");
    let mut receiver = session.receive_first(Transport::XhrStreaming).await;
    session.say(&[&"x".repeat(4096)]).await;
    receiver.frame().await.unwrap();
    receiver.ends().await;
    session.say(&["in", "between"]).await;
    let mut receiver = session.receive(Transport::XhrStreaming).await;
    receiver.hears("a[\"in\",\"between\"]").await;
    session.say(&["after"]).await;
    receiver.hears("a[\"after\"]").await;
}

#[tokio::test]
async fn nothing_is_lost_from_one_response_to_the_next() {
    const MESSAGES: usize = 300;
    let node = node();
    let session = Session::new(&node, "/echo");
    let mut listener = Listener::open(&session, Transport::XhrStreaming).await;
    let sending = tokio::spawn(async move {
        for n in 0..MESSAGES {
            session.say(&[&format!("{n} {}", "x".repeat(200))]).await;
        }
    });
    for n in 0..MESSAGES {
        let message = listener.hear().await;
        assert!(message.starts_with(&format!("{n} ")), "{n}: {message}");
    }
    assert!(listener.reopened >= 10, "{}", listener.reopened);
    sending.await.unwrap();
}
