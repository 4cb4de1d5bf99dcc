//! A session that the server closed: whoever receives gets a close frame, again and again until the
//! session is forgotten, since one may be lost on the way.

use std::time::Duration;

use cursormesh_web::config::SockJs;
use tokio::time::sleep;

use super::node::{node, node_with};
use super::session::{GO_AWAY, Session};
use super::transport::{ALL, POLLING, STREAMING, Transport, close};

#[tokio::test]
async fn a_poll_is_told_and_so_is_every_later_one() {
    let node = node();
    for transport in POLLING {
        let session = Session::new(&node, "/close");
        session.receive_first(transport).await.ends().await;
        for _ in 0..3 {
            let mut receiver = session.receive(transport).await;
            receiver.hears(GO_AWAY).await;
            receiver.ends().await;
        }
    }
}

#[tokio::test]
async fn a_stream_is_told_and_ends_and_so_is_every_later_one() {
    let node = node();
    for transport in STREAMING {
        let session = Session::new(&node, "/close");
        let mut receiver = session.receive_first(transport).await;
        receiver.hears(GO_AWAY).await;
        // This one has not been read to its end, and yet it is not in the way of the next.
        for _ in 0..3 {
            let mut later = session.receive(transport).await;
            later.hears(GO_AWAY).await;
            later.ends().await;
        }
        receiver.ends().await;
    }
}

#[tokio::test]
async fn it_does_not_matter_over_which_transport_is_asked() {
    let node = node();
    for first in ALL {
        let session = Session::new(&node, "/close");
        let mut receiver = session.receive_first(first).await;
        if STREAMING.contains(&first) {
            receiver.hears(GO_AWAY).await;
        }
        for later in ALL {
            let mut receiver = session.receive(later).await;
            receiver.hears(GO_AWAY).await;
            receiver.ends().await;
        }
    }
}

#[tokio::test]
async fn the_close_frame_is_written_in_one_way() {
    let node = node();
    let session = Session::open(&node, "/close").await;
    let frame = session.poll().await;
    assert_eq!(frame, "c[3000,\"Go away!\"]\n");
    assert_eq!(close(frame.trim_end()), (3000, "Go away!".into()));
}

#[tokio::test]
async fn after_the_disconnect_delay_the_session_is_forgotten() {
    let node = node_with(SockJs {
        disconnect_delay: Duration::from_millis(300),
        ..SockJs::default()
    });
    let session = Session::open(&node, "/close").await;
    sleep(Duration::from_millis(1500)).await;
    let mut receiver = session.receive(Transport::XhrStreaming).await;
    receiver.hears("o").await;
    receiver.hears(GO_AWAY).await;
}
