//! Protocol v1 over SockJS, at `/v1/sockjs`: every message is a string with the protocol's JSON in it,
//! and cursors are JSON too.

use serde_json::{Value, json};

use super::node::{Node, node, node_as_set};
use super::session::{Listener, Session};
use super::socket::Socket;
use super::transport::{ALL, Transport, close, messages};

const SERVICE: &str = "/v1/sockjs";

struct Client {
    session: Session,
    listener: Listener,
}

impl Client {
    async fn open(node: &Node, transport: Transport) -> Self {
        let session = Session::new(node, SERVICE);
        let listener = Listener::open(&session, transport).await;
        let mut client = Self { session, listener };
        client.say(json!({"type": "hello"})).await;
        client.until("welcome").await;
        client
    }

    async fn say(&self, message: Value) {
        self.session.say(&[&message.to_string()]).await;
    }

    async fn hear(&mut self) -> Value {
        serde_json::from_str(&self.listener.hear().await).unwrap()
    }

    /// The next message of this type; others are passed by.
    async fn until(&mut self, kind: &str) -> Value {
        loop {
            let message = self.hear().await;
            if message["type"] == kind {
                return message;
            }
        }
    }

    async fn join(&mut self) -> Value {
        self.say(json!({"type": "join", "room": "lobby"})).await;
        let joined = self.until("joined").await;
        self.until("snapshot").await;
        joined
    }
}

#[tokio::test]
async fn a_client_is_welcomed_over_every_transport() {
    let node = node_as_set(cursormesh_web::config::SockJs::default());
    for transport in ALL {
        let mut client = Client::open(&node, transport).await;
        client.say(json!({"type": "ping", "t": 5})).await;
        assert_eq!(client.until("pong").await["t"], 5, "{transport:?}");
    }
}

#[tokio::test]
async fn a_client_is_welcomed_over_a_websocket_with_frames() {
    let node = node();
    let session = Session::new(&node, SERVICE);
    let mut socket = Socket::open(node.addr, &format!("{}/websocket", session.url)).await;
    socket.hears("o").await;
    socket
        .say(&json!([json!({"type": "hello"}).to_string()]).to_string())
        .await;
    let welcome = messages(&socket.hear().await).remove(0);
    let welcome: Value = serde_json::from_str(&welcome).unwrap();
    assert_eq!(welcome["type"], "welcome");
    assert_eq!(welcome["node"], "n1");
    assert!(!welcome.to_string().contains(&session.id));
}

#[tokio::test]
async fn members_see_each_others_cursors_and_events() {
    let node = node();
    let mut one = Client::open(&node, Transport::XhrStreaming).await;
    let mut other = Client::open(&node, Transport::Jsonp).await;
    let joined = one.join().await;
    other.join().await;

    let cursor = json!({"type": "cursor", "room": "lobby", "t": 7, "x": 1.5, "y": -2});
    one.say(cursor).await;
    let seen = loop {
        let cursors = other.until("cursors").await;
        assert_eq!(cursors["room"], "lobby");
        if let Some(cursor) = cursors["c"].as_array().unwrap().first() {
            break cursor.clone();
        }
    };
    assert_eq!(seen[1], 7);
    assert_eq!(
        (seen[2].as_f64(), seen[3].as_f64()),
        (Some(1.5), Some(-2.0))
    );

    let event =
        json!({"type": "event", "room": "lobby", "name": "reaction", "data": "👍 \u{2028}"});
    one.say(event).await;
    for client in [&mut one, &mut other] {
        let event = client.until("event").await;
        assert_eq!(event["data"], "👍 \u{2028}");
        assert_eq!(event["from"], joined["self"]["id"]);
    }
}

#[tokio::test]
async fn a_raw_member_of_the_room_is_seen_too() {
    let node = node();
    let mut client = Client::open(&node, Transport::EventSource).await;
    client.join().await;
    let mut raw = Socket::open(node.addr, "/ws").await;
    raw.say("{\"x\":3.5,\"y\":4.5}").await;
    loop {
        let cursors = client.until("cursors").await;
        let cursors = cursors["c"].as_array().unwrap();
        if cursors
            .iter()
            .any(|cursor| cursor[2].as_f64() == Some(3.5) && cursor[3].as_f64() == Some(4.5))
        {
            break;
        }
    }
}

#[tokio::test]
async fn a_broken_rule_closes_with_its_code_after_what_was_said_before() {
    let node = node();
    let session = Session::open(&node, SERVICE).await;
    let hello = json!({"type": "hello"}).to_string();
    let nonsense = json!({"type": "nonsense"}).to_string();
    session.say(&[&hello, &nonsense]).await;

    let welcome = messages(session.poll().await.trim_end()).remove(0);
    assert!(welcome.contains("\"welcome\""), "{welcome}");
    let first = session.poll().await;
    assert_eq!(close(first.trim_end()).0, 4400, "{first}");
    for _ in 0..2 {
        assert_eq!(
            session.poll().await,
            first,
            "each later receiver is told too"
        );
    }
}

#[tokio::test]
async fn sessions_of_one_client_come_and_go_as_members() {
    let node = node();
    let mut watcher = Client::open(&node, Transport::XhrStreaming).await;
    watcher.join().await;
    let mut member = Client::open(&node, Transport::XhrStreaming).await;
    let id = member.join().await["self"]["id"].clone();
    let joined = loop {
        let presence = watcher.until("presence").await;
        let mut joined = presence["joined"].as_array().into_iter().flatten();
        if let Some(row) = joined.find(|row| row["id"] == id) {
            break row.clone();
        }
    };
    assert_eq!(joined["away"], false);
    member.say(json!({"type": "leave", "room": "lobby"})).await;
    member.until("left").await;
    let left = loop {
        let presence = watcher.until("presence").await;
        if let Some(left) = presence["left"].as_array() {
            break left[0].clone();
        }
    };
    assert_eq!(left, json!({"id": id, "reason": "closed"}));
}
