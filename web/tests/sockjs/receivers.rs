//! Receivers: a session has one at a time. A second one is sent away and the first goes on. One that
//! is cut off in the middle takes the session with it, since nobody knows what it has received.

use std::time::Duration;

use cursormesh_web::config::SockJs;
use tokio::time::sleep;

use super::http::soon;
use super::node::{Node, node, node_with};
use super::session::{STILL_OPEN, Session};
use super::transport::{ALL, POLLING, Receiver, STREAMING, Transport};

/// A node that forgets no session by itself while a test runs.
fn patient_node() -> Node {
    node_with(SockJs {
        disconnect_delay: Duration::from_secs(600),
        ..SockJs::default()
    })
}

#[tokio::test]
async fn a_second_receiver_is_told_that_another_is_open() {
    let node = node();
    for transport in STREAMING {
        let session = Session::new(&node, "/echo");
        let mut first = session.receive_first(transport).await;
        for _ in 0..2 {
            let mut second = session.receive(transport).await;
            second.hears(STILL_OPEN).await;
            second.ends().await;
        }
        session.say(&["x"]).await;
        first.hears("a[\"x\"]").await;
    }
}

#[tokio::test]
async fn of_two_polls_one_is_told_that_the_other_is_open() {
    let node = node();
    for transport in POLLING {
        let session = Session::open(&node, "/echo").await;
        let hanging = session.hang(transport).await;
        session.say(&["x"]).await;
        let mut receiver = Receiver::new(transport, hanging.response().await);
        receiver.hears("a[\"x\"]").await;
        receiver.ends().await;
    }
}

#[tokio::test]
async fn a_second_receiver_is_sent_away_over_whatever_transport_it_comes() {
    let node = node();
    for first in STREAMING {
        for second in ALL {
            let session = Session::new(&node, "/echo");
            let mut first = session.receive_first(first).await;
            let mut second = session.receive(second).await;
            second.hears(STILL_OPEN).await;
            second.ends().await;
            session.say(&["x"]).await;
            first.hears("a[\"x\"]").await;
        }
    }
    for first in POLLING {
        for second in STREAMING {
            let session = Session::open(&node, "/echo").await;
            let hanging = session.hang(first).await;
            let mut second = session.receive(second).await;
            second.hears(STILL_OPEN).await;
            second.ends().await;
            session.say(&["x"]).await;
            let mut first = Receiver::new(first, hanging.response().await);
            first.hears("a[\"x\"]").await;
        }
    }
}

#[tokio::test]
async fn a_second_receiver_is_a_second_one_under_another_server_too() {
    let node = node();
    let session = Session::new(&node, "/echo");
    let _first = session.receive_first(Transport::XhrStreaming).await;
    let poll = node.post(&format!("/echo/999/{}/xhr", session.id)).await;
    assert_eq!(poll.body, format!("{STILL_OPEN}\n"));
}

#[tokio::test]
async fn a_receiver_that_is_over_is_in_nobodys_way() {
    let node = node();
    let session = Session::open(&node, "/echo").await;
    for n in 0..30 {
        let transport = ALL[n % ALL.len()];
        let message = if STREAMING.contains(&transport) {
            "x".repeat(4096)
        } else {
            "x".to_owned()
        };
        session.say(&[&message]).await;
        let mut receiver = session.receive(transport).await;
        receiver.hears(&format!("a[\"{message}\"]")).await;
        receiver.ends().await;
    }
}

/// The session with this id is no longer the one that was there. It may take a moment until the
/// server hears that the connection is gone.
async fn is_over(session: &Session) {
    soon(async {
        loop {
            match session.poll().await.trim_end() {
                STILL_OPEN => sleep(Duration::from_millis(10)).await,
                "o" | "c[1002,\"Connection interrupted\"]" => break,
                frame => panic!("{frame}"),
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_stream_that_is_cut_off_ends_its_session() {
    let node = patient_node();
    for transport in STREAMING {
        for reset in [true, false] {
            let session = Session::new(&node, "/echo");
            let receiver = session.receive_first(transport).await;
            if reset {
                receiver.response.reset();
            } else {
                receiver.response.hang_up();
            }
            is_over(&session).await;
        }
    }
}

#[tokio::test]
async fn a_poll_that_is_cut_off_ends_its_session() {
    let node = patient_node();
    for transport in POLLING {
        for reset in [true, false] {
            let session = Session::open(&node, "/echo").await;
            let hanging = session.hang(transport).await;
            if reset {
                hanging.reset();
            } else {
                hanging.hang_up();
            }
            is_over(&session).await;
        }
    }
}

#[tokio::test]
async fn a_second_receiver_that_is_cut_off_does_no_harm() {
    let node = patient_node();
    let session = Session::new(&node, "/echo");
    let mut first = session.receive_first(Transport::XhrStreaming).await;
    for transport in ALL {
        let request = transport.request(&session.url);
        request.start(node.addr).await.reset();
    }
    session.say(&["x"]).await;
    first.hears("a[\"x\"]").await;
    first
        .response
        .is_silent_for(Duration::from_millis(200))
        .await;
}

#[tokio::test]
async fn a_poll_whose_connection_ends_after_the_answer_was_not_cut_off() {
    let node = patient_node();
    let session = Session::open(&node, "/echo").await;
    for n in 0..10 {
        session.say(&["x"]).await;
        let mut response = Transport::Xhr.request(&session.url).stream(node.addr).await;
        assert_eq!(response.rest().await, "a[\"x\"]\n");
        if n % 2 == 0 {
            response.reset();
        } else {
            response.hang_up();
        }
    }
}
