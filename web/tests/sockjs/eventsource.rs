//! `eventsource`: frames as server-sent events, each an event of one line of data. A browser takes
//! `%XX` in it back to what it was, so that `%` itself is escaped.

use super::node::node;
use super::session::{Listener, Session};
use super::transport::Transport;

#[tokio::test]
async fn it_begins_with_an_empty_line_and_each_frame_is_an_event_in_a_chunk() {
    let node = node();
    let session = Session::new(&node, "/echo");
    let mut response = node
        .stream(Transport::EventSource.request(&session.url))
        .await;
    assert_eq!(response.status, 200);
    assert_eq!(
        response.headers.content_type().split(';').next(),
        Some("text/event-stream")
    );
    assert_eq!(response.text().await, "\r\n");
    assert_eq!(response.text().await, "data: o\r\n\r\n");
    session.say(&["x"]).await;
    assert_eq!(response.text().await, "data: a[\"x\"]\r\n\r\n");
}

#[tokio::test]
async fn spaces_stay_and_ends_of_lines_are_escaped() {
    let node = node();
    let session = Session::new(&node, "/echo");
    let mut response = session.receive_first(Transport::EventSource).await.response;
    let sent = session.send(r#"["  \u0000\n\r "]"#).await;
    assert_eq!(sent.status, 204);
    assert_eq!(
        response.text().await,
        "data: a[\"  \\u0000\\n\\r \"]\r\n\r\n"
    );
}

#[tokio::test]
async fn a_percent_sign_is_escaped() {
    let node = node();
    let session = Session::new(&node, "/echo");
    let mut response = session.receive_first(Transport::EventSource).await.response;
    session.say(&["100 % %41 %80"]).await;
    assert_eq!(
        response.text().await,
        "data: a[\"100 %25 %2541 %2580\"]\r\n\r\n"
    );
}

#[tokio::test]
async fn a_client_may_come_back_with_the_id_of_the_last_event() {
    let node = node();
    let session = Session::open(&node, "/echo").await;
    session.say(&["x"]).await;
    let request = Transport::EventSource
        .request(&session.url)
        .header("Accept", "text/event-stream")
        .header("Last-Event-ID", "17");
    let mut response = node.stream(request).await;
    assert_eq!(response.text().await, "\r\n");
    assert_eq!(response.text().await, "data: a[\"x\"]\r\n\r\n");
}

#[tokio::test]
async fn it_is_over_when_4096_bytes_of_frames_were_sent() {
    let node = node();
    let session = Session::new(&node, "/echo");
    let mut receiver = session.receive_first(Transport::EventSource).await;
    let message = "x".repeat(4096);
    session.say(&[&message]).await;
    receiver.hears(&format!("a[\"{message}\"]")).await;
    receiver.ends().await;
    session.say(&["more"]).await;
    let mut receiver = session.receive(Transport::EventSource).await;
    receiver.hears("a[\"more\"]").await;
}

#[tokio::test]
async fn nothing_is_lost_from_one_response_to_the_next() {
    const MESSAGES: usize = 100;
    let node = node();
    let session = Session::new(&node, "/echo");
    let mut listener = Listener::open(&session, Transport::EventSource).await;
    let sending = tokio::spawn(async move {
        for n in 0..MESSAGES {
            session.say(&[&format!("{n} {}", "x".repeat(500))]).await;
        }
    });
    for n in 0..MESSAGES {
        let message = listener.hear().await;
        assert!(message.starts_with(&format!("{n} ")), "{n}: {message}");
    }
    assert!(listener.reopened >= 3, "{}", listener.reopened);
    sending.await.unwrap();
}
