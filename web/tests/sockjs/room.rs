//! The tutorial's room over SockJS: members hear each other over whatever they came, and whoever leaves
//! is told of as over WebSocket.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use cursormesh_web::config::SockJs;
use serde_json::{Value, json};

use super::node::{Node, node, node_with};
use super::session::{Listener, Session};
use super::socket::Socket;
use super::transport::{ALL, Transport, messages};

/// A member of the room `lobby`, over any of the ways there are.
enum Member {
    Raw(Socket),
    Framed(Socket, VecDeque<String>),
    Http(Session, Listener),
}

impl Member {
    async fn raw(node: &Node, path: &str) -> Self {
        Self::Raw(Socket::open(node.addr, path).await)
            .settled()
            .await
    }

    async fn framed(node: &Node) -> Self {
        let session = Session::new(node, "/ws");
        let mut socket = Socket::open(node.addr, &format!("{}/websocket", session.url)).await;
        socket.hears("o").await;
        Self::Framed(socket, VecDeque::new()).settled().await
    }

    async fn http(node: &Node, transport: Transport) -> Self {
        let session = Session::new(node, "/ws");
        let listener = Listener::open(&session, transport).await;
        Self::Http(session, listener).settled().await
    }

    /// It is in the room once it hears itself.
    async fn settled(mut self) -> Self {
        self.say(&json!({"settled": true}).to_string()).await;
        while self.hear().await["settled"] != true {}
        self
    }

    async fn say(&mut self, text: &str) {
        match self {
            Self::Raw(socket) => socket.say(text).await,
            Self::Framed(socket, _) => socket.say(&json!([text]).to_string()).await,
            Self::Http(session, _) => session.say(&[text]).await,
        }
    }

    async fn hear_raw(&mut self) -> String {
        match self {
            Self::Raw(socket) => socket.hear().await,
            Self::Framed(socket, heard) => loop {
                if let Some(message) = heard.pop_front() {
                    break message;
                }
                let frame = socket.hear().await;
                if frame != "h" {
                    heard.extend(messages(&frame));
                }
            },
            Self::Http(_, listener) => listener.hear().await,
        }
    }

    async fn hear(&mut self) -> Value {
        serde_json::from_str(&self.hear_raw().await).unwrap()
    }

    /// The next message that has this field.
    async fn hear_of(&mut self, field: &str) -> Value {
        loop {
            let message = self.hear().await;
            if !message[field].is_null() {
                return message;
            }
        }
    }

    /// Its own sender.
    async fn sender(&mut self) -> String {
        self.say("{\"who\":1}").await;
        let message = self.hear_of("who").await;
        message["sender"].as_str().unwrap().to_owned()
    }
}

#[tokio::test]
async fn members_of_all_transports_hear_each_other() {
    let node = node();
    let mut members = vec![
        Member::raw(&node, "/ws").await,
        Member::raw(&node, "/ws/websocket").await,
        Member::framed(&node).await,
    ];
    for transport in ALL {
        members.push(Member::http(&node, transport).await);
    }
    let count = members.len();
    let mut senders = BTreeMap::new();
    for from in 0..count {
        members[from].say(&json!({"from": from}).to_string()).await;
        for member in &mut members {
            let message = member.hear_of("from").await;
            assert_eq!(message["from"], from);
            let sender = message["sender"].as_str().unwrap().to_owned();
            assert!(message["color"].as_u64().unwrap() < 360);
            assert_eq!(senders.entry(from).or_insert(sender.clone()), &sender);
        }
    }
    let mut different: Vec<_> = senders.values().collect();
    different.sort();
    different.dedup();
    assert_eq!(different.len(), count, "each is a sender of its own");
}

#[tokio::test]
async fn a_message_arrives_as_it_was_written() {
    let node = node();
    let mut raw = Member::raw(&node, "/ws").await;
    let mut streaming = Member::http(&node, Transport::XhrStreaming).await;
    let text = "{\"x\":0.1000,\"n\":1e400,\"s\":\"\\ud800 \\u2028\",\"t\":\"</script> %41 😀\"}";
    let expected = format!("{},\"sender\":\"", text.trim_end_matches('}'));
    streaming.say(text).await;
    for member in [&mut raw, &mut streaming] {
        loop {
            let heard = member.hear_raw().await;
            if heard.contains("1e400") {
                assert!(heard.starts_with(&expected), "{heard}");
                break;
            }
        }
    }
    raw.say(text).await;
    loop {
        let heard = streaming.hear_raw().await;
        if heard.contains("1e400") {
            assert!(heard.starts_with(&expected), "{heard}");
            break;
        }
    }
}

#[tokio::test]
async fn what_is_no_object_is_dropped_and_the_session_goes_on() {
    let node = node();
    let mut member = Member::http(&node, Transport::Xhr).await;
    for text in ["", "x", "1", "null", "[]", "\"text\"", "{\"x\":", "{}{}"] {
        member.say(text).await;
    }
    member.say("{\"after\":1}").await;
    assert_eq!(member.hear().await["after"], 1);
}

#[tokio::test]
async fn nobody_learns_the_id_of_a_session() {
    let node = node();
    let mut raw = Member::raw(&node, "/ws").await;
    let session = Session::new(&node, "/ws");
    let mut listener = Listener::open(&session, Transport::XhrStreaming).await;
    session.say(&["{\"x\":1}"]).await;
    assert!(!listener.hear().await.contains(&session.id));
    let message = raw.hear_of("x").await;
    assert!(!message.to_string().contains(&session.id));
    let rooms = node.get("/api/rooms/lobby/members").await.body;
    assert!(!rooms.contains(&session.id), "{rooms}");
}

#[tokio::test]
async fn a_member_that_is_cut_off_is_told_of() {
    let node = node_with(SockJs {
        disconnect_delay: Duration::from_secs(600),
        ..SockJs::default()
    });
    let mut watcher = Member::raw(&node, "/ws").await;
    for transport in [
        Transport::XhrStreaming,
        Transport::EventSource,
        Transport::HtmlFile,
    ] {
        let mut member = Member::http(&node, transport).await;
        let sender = member.sender().await;
        let Member::Http(_, listener) = member else {
            unreachable!()
        };
        listener.reset();
        let left = watcher.hear_of("left").await;
        assert_eq!(left["sender"], sender.as_str(), "{transport:?}");
        assert_eq!(
            (left["x"].as_i64(), left["y"].as_i64()),
            (Some(-10_000), Some(-10_000))
        );
    }
}

#[tokio::test]
async fn a_member_that_does_not_come_back_is_told_of_after_the_disconnect_delay() {
    let node = node_with(SockJs {
        disconnect_delay: Duration::from_millis(300),
        ..SockJs::default()
    });
    let mut watcher = Member::framed(&node).await;
    let session = Session::open(&node, "/ws").await;
    session.say(&["{\"from\":\"a poll\"}"]).await;
    let message = watcher.hear_of("from").await;
    let left = watcher.hear_of("left").await;
    assert_eq!(left["sender"], message["sender"]);
}

#[tokio::test]
async fn a_member_that_closes_its_websocket_is_told_of() {
    let node = node();
    let mut watcher = Member::http(&node, Transport::XhrStreaming).await;
    let mut member = Member::framed(&node).await;
    let sender = member.sender().await;
    let Member::Framed(socket, _) = member else {
        unreachable!()
    };
    socket.close().await;
    assert_eq!(watcher.hear_of("left").await["sender"], sender.as_str());
}

#[tokio::test]
async fn who_polls_misses_nothing_while_it_asks_again() {
    const MESSAGES: u64 = 300;
    let node = node();
    for transport in [Transport::Xhr, Transport::Jsonp] {
        let mut raw = Member::raw(&node, "/ws").await;
        let mut member = Member::http(&node, transport).await;
        let sending = tokio::spawn(async move {
            for n in 0..MESSAGES {
                raw.say(&format!("{{\"n\":{n}}}")).await;
            }
            raw
        });
        for n in 0..MESSAGES {
            assert_eq!(member.hear_of("n").await["n"], n, "{transport:?}");
        }
        sending.await.unwrap();
    }
}
