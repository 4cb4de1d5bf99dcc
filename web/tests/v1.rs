//! Browser protocol v1 as a client meets it: a real server on a loopback port, with the cluster's
//! side played by the test.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use cursormesh_web::cluster::{
    Cursor, Directory, Event, LeaveReason, Member, NodeSummary, Outbound, RoomSummary, User,
};
use cursormesh_web::config::Secret;
use cursormesh_web::{Config, Hub, Server};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep, timeout};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::{WebSocketStream, client_async};
use uuid::Uuid;

/// No single step of any test takes this long.
const PATIENCE: Duration = Duration::from_secs(20);
const ORIGIN: &str = "n1.1";

async fn soon<T>(future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.expect("it does not happen")
}

// ---------------------------------------------------------------------------------------------
// The node under test, and a cluster that answers by itself.

#[derive(Default)]
struct Cluster {
    members: Mutex<BTreeMap<Uuid, Member>>,
    starting: AtomicBool,
}

impl Directory for Cluster {
    fn node(&self) -> String {
        "n1".into()
    }
    fn rooms(&self, _: usize) -> Vec<RoomSummary> {
        Vec::new()
    }
    fn members(&self, room: &str) -> Vec<Member> {
        let members = self.members.lock().unwrap();
        let inside = members.values().filter(|member| member.room == room);
        inside.cloned().collect()
    }
    fn member(&self, _: &str, member: Uuid) -> Option<Member> {
        self.members.lock().unwrap().get(&member).cloned()
    }
    fn nodes(&self) -> Vec<NodeSummary> {
        vec![NodeSummary {
            node: "n1".into(),
            region: "here".into(),
            url: None,
        }]
    }
    fn count(&self, _: &str) -> usize {
        0
    }
    fn cluster(&self) -> Value {
        Value::Null
    }
    fn ready(&self) -> Result<(), String> {
        let starting = self.starting.load(Ordering::SeqCst);
        if starting {
            Err("the node starts".to_owned())
        } else {
            Ok(())
        }
    }
    fn metrics(&self) -> String {
        String::new()
    }
}

/// Does for one node what the mesh does: shows members, numbers events, keeps them for replays.
async fn play(cluster: Arc<Cluster>, hub: Hub, mut outbound: mpsc::Receiver<Outbound>, mute: bool) {
    let mut kept: HashMap<String, Vec<Event>> = HashMap::new();
    let mut number = 0;
    while let Some(said) = outbound.recv().await {
        if mute {
            continue;
        }
        match said {
            Outbound::Join(mut member) => {
                member.epoch += 1;
                let mut members = cluster.members.lock().unwrap();
                let known = members.insert(member.id, member.clone());
                drop(members);
                match known {
                    Some(_) => hub.updated(member),
                    None => hub.joined(member),
                }
            }
            Outbound::Update {
                member,
                user,
                state,
            } => change(&cluster, &hub, member, |row| {
                row.user = user.unwrap_or(row.user.clone());
                row.state = state.unwrap_or(row.state.clone());
            }),
            Outbound::Break { member } => change(&cluster, &hub, member, |row| row.away = true),
            Outbound::Leave { member, reason } => {
                let row = cluster.members.lock().unwrap().remove(&member);
                if let Some(row) = row {
                    hub.left(&row.room, member, reason);
                }
            }
            Outbound::Interest { room, wanted: true } => hub.head(&room, ORIGIN, number),
            Outbound::Events { room, items } => {
                let events: Vec<Event> = items
                    .into_iter()
                    .map(|(sender, payload)| {
                        number += 1;
                        Event {
                            number,
                            sender,
                            payload,
                        }
                    })
                    .collect();
                kept.entry(room.clone()).or_default().extend(events.clone());
                hub.events(&room, ORIGIN, events);
            }
            Outbound::Replay {
                ticket, room, seen, ..
            } => {
                let from = seen
                    .iter()
                    .find(|(origin, _)| origin == ORIGIN)
                    .map_or(0, |(_, number)| *number);
                let missed = kept.get(&room).into_iter().flatten();
                let missed = missed
                    .filter(|event| event.number > from)
                    .map(|event| (ORIGIN.to_owned(), event.clone()))
                    .collect();
                hub.replayed(ticket, missed, true);
            }
            Outbound::Interest { .. } | Outbound::Messages { .. } | Outbound::Cursors { .. } => {}
        }
    }
}

fn change(cluster: &Cluster, hub: &Hub, member: Uuid, change: impl FnOnce(&mut Member)) {
    let mut members = cluster.members.lock().unwrap();
    let Some(row) = members.get_mut(&member) else {
        return;
    };
    change(row);
    let row = row.clone();
    drop(members);
    hub.updated(row);
}

struct Node {
    addr: SocketAddr,
    hub: Hub,
    cluster: Arc<Cluster>,
    _stop: oneshot::Sender<()>,
}

fn config() -> Config {
    Config {
        listen: vec![SocketAddr::from(([127, 0, 0, 1], 0))],
        ..Config::default()
    }
}

fn node_with(config: Config, mute: bool) -> Node {
    let (sender, outbound) = mpsc::channel(65_536);
    let cluster = Arc::new(Cluster::default());
    let hub = Hub::new(&config, cluster.clone(), sender);
    let server = Server::bind(config, hub.clone(), cluster.clone()).unwrap();
    let addr = server.local_addrs()[0];
    let (stop, stopped) = oneshot::channel::<()>();
    tokio::spawn(server.run(async {
        let _ = stopped.await;
    }));
    tokio::spawn(play(cluster.clone(), hub.clone(), outbound, mute));
    Node {
        addr,
        hub,
        cluster,
        _stop: stop,
    }
}

fn node() -> Node {
    node_with(config(), false)
}

fn member(id: u128, room: &str) -> Member {
    Member {
        id: Uuid::from_u128(id),
        room: room.into(),
        user: User::default(),
        state: Bytes::from_static(b"null"),
        node: "n2".into(),
        joined_at: 5,
        away: false,
        epoch: 1,
        resumable: true,
    }
}

// ---------------------------------------------------------------------------------------------
// A client.

struct Client {
    socket: WebSocketStream<TcpStream>,
}

async fn open_with(addr: SocketAddr, subprotocol: &str, receive_buffer: Option<u32>) -> Client {
    let mut request = format!("ws://{addr}/v1").into_client_request().unwrap();
    let headers = request.headers_mut();
    headers.insert("sec-websocket-protocol", subprotocol.parse().unwrap());
    let socket = TcpSocket::new_v4().unwrap();
    if let Some(bytes) = receive_buffer {
        socket.set_recv_buffer_size(bytes).unwrap();
    }
    let stream = socket.connect(addr).await.unwrap();
    let (socket, response) = client_async(request, stream).await.unwrap();
    let chosen = response.headers()["sec-websocket-protocol"].to_str();
    assert!(subprotocol.contains(chosen.unwrap()));
    Client { socket }
}

impl Client {
    async fn raw(node: &Node) -> Self {
        open_with(node.addr, "cursormesh.v1", None).await
    }

    async fn open(node: &Node) -> Self {
        let mut client = Self::raw(node).await;
        client.say(json!({"type": "hello"})).await;
        client.hears("welcome").await;
        client
    }

    async fn say(&mut self, message: Value) {
        self.write(&message.to_string()).await;
    }

    async fn write(&mut self, text: &str) {
        self.socket.send(Message::text(text)).await.unwrap();
    }

    async fn hear(&mut self) -> Value {
        loop {
            match soon(self.socket.next()).await.unwrap().unwrap() {
                Message::Text(text) => return serde_json::from_str(&text).unwrap(),
                Message::Binary(bytes) => return json!({"type": "binary", "bytes": bytes.to_vec()}),
                Message::Close(frame) => {
                    let code = frame.map(|frame| u16::from(frame.code));
                    return json!({"type": "close", "code": code});
                }
                _ => {}
            }
        }
    }

    /// The next message, which is of this type.
    async fn hears(&mut self, kind: &str) -> Value {
        let message = self.hear().await;
        assert_eq!(message["type"], kind, "{message:#}");
        message
    }

    /// The next message of this type; others are passed by.
    async fn until(&mut self, kind: &str) -> Value {
        loop {
            let message = self.hear().await;
            assert!(kind == "close" || message["type"] != "close", "{message}");
            if message["type"] == kind {
                return message;
            }
        }
    }

    async fn join(&mut self, room: &str) -> Value {
        self.say(json!({"type": "join", "room": room})).await;
        let joined = self.hears("joined").await;
        self.hears("snapshot").await;
        self.hears("binary").await;
        joined
    }

    async fn closes(&mut self) -> u16 {
        self.until("close").await["code"].as_u64().unwrap() as u16
    }
}

/// The bytes of a cursor frame with one record.
fn cursor_frame(number: &Value, x: f32, y: f32) -> Vec<u8> {
    let mut frame = vec![1, 0, 1, 0];
    frame.extend((number.as_u64().unwrap() as u32).to_le_bytes());
    frame.extend(9u16.to_le_bytes());
    frame.extend(x.to_le_bytes());
    frame.extend(y.to_le_bytes());
    frame
}

async fn get(addr: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    soon(stream.read_to_string(&mut answer)).await.unwrap();
    answer
}

// ---------------------------------------------------------------------------------------------
// Connecting.

#[tokio::test]
async fn a_subprotocol_has_to_be_offered() {
    let node = node();
    let request = "GET /v1 HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, close\r\nUpgrade: websocket\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
        Sec-WebSocket-Protocol: chat\r\n\r\n";
    let answer = get(node.addr, request).await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert!(answer.contains("cursormesh.v1 ") && answer.contains("cursormesh.v1.json"));
    open_with(node.addr, "chat, cursormesh.v1.json", None).await;
}

#[tokio::test]
async fn hello_comes_first_and_once() {
    let node = node();
    let mut client = Client::raw(&node).await;
    client.say(json!({"type": "ping", "t": 1})).await;
    assert_eq!(client.closes().await, 4400);
    let mut client = Client::raw(&node).await;
    client
        .say(json!({"type": "hello", "client": "x", "later": []}))
        .await;
    let welcome = client.hears("welcome").await;
    assert_eq!(
        (&welcome["node"], &welcome["region"]),
        (&json!("n1"), &json!("here"))
    );
    assert_eq!(welcome["limits"]["rooms"], 32);
    client.say(json!({"type": "ping", "t": 1.5})).await;
    assert_eq!(client.hears("pong").await["t"], 1.5);
    client.say(json!({"type": "hello"})).await;
    assert_eq!(client.closes().await, 4400);
}

#[tokio::test]
async fn the_welcome_says_the_version_that_both_speak() {
    let node = node();
    for (hello, version) in [
        (json!({"type": "hello"}), Value::Null),
        (json!({"type": "hello", "protocol": 1}), Value::Null),
        (json!({"type": "hello", "protocol": 2}), json!(2)),
        (json!({"type": "hello", "protocol": 99}), json!(2)),
        (json!({"type": "hello", "protocol": "new"}), Value::Null),
    ] {
        let mut client = Client::raw(&node).await;
        client.say(hello.clone()).await;
        let welcome = client.hears("welcome").await;
        assert_eq!(welcome["protocol"], version, "{hello}");
    }
}

/// A message of version 1, from its frozen files.
fn frozen(name: &str) -> Value {
    let file = format!("{}/protocol/v1/{name}.json", env!("CARGO_MANIFEST_DIR"));
    let file: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    file["message"].clone()
}

/// Says all that clients of version 1 say, and is told nothing that those do not know.
#[tokio::test]
async fn a_client_of_the_version_before_is_served_as_before() {
    let node = node();
    let mut client = open_with(node.addr, "cursormesh.v1.json", None).await;
    let fields =
        |message: &Value| -> Vec<String> { message.as_object().unwrap().keys().cloned().collect() };
    client.say(frozen("hello")).await;
    let welcome = client.hears("welcome").await;
    assert_eq!(fields(&welcome), fields(&frozen("welcome")));
    assert_eq!(
        fields(&welcome["limits"]),
        fields(&frozen("welcome")["limits"])
    );
    for name in ["ping", "join"] {
        client.say(frozen(name)).await;
    }
    assert_eq!(fields(&client.hears("pong").await), fields(&frozen("pong")));
    let joined = client.hears("joined").await;
    assert_eq!(fields(&joined), fields(&frozen("joined")));
    assert_eq!(fields(&joined["self"]), fields(&frozen("joined")["self"]));
    let snapshot = client.hears("snapshot").await;
    assert_eq!(fields(&snapshot), fields(&frozen("snapshot")));
    let positions = client.hears("cursors").await;
    assert_eq!(fields(&positions), fields(&frozen("cursors")));
    for (said, answer) in [("update", "presence"), ("event_send", "event")] {
        client.say(frozen(said)).await;
        let known = fields(&frozen(answer));
        let told = client.until(answer).await;
        assert!(
            fields(&told).iter().all(|field| known.contains(field)),
            "{told}"
        );
    }
    client.say(frozen("cursor")).await;
    client.say(frozen("leave")).await;
    let left = client.until("left").await;
    assert_eq!(fields(&left), fields(&frozen("left")));
    client.say(frozen("join_resume")).await;
    let joined = client.hears("joined").await;
    assert_eq!(fields(&joined), fields(&frozen("joined_rebuilt")));
}

#[tokio::test]
async fn a_node_that_starts_welcomes_when_it_is_ready_or_has_waited_long_enough() {
    for becomes_ready in [true, false] {
        let node = node();
        node.cluster.starting.store(true, Ordering::SeqCst);
        let mut client = Client::raw(&node).await;
        client.say(json!({"type": "hello"})).await;
        client.say(json!({"type": "ping", "t": 1})).await;
        let silence = timeout(Duration::from_millis(300), client.hear());
        assert!(silence.await.is_err());
        if becomes_ready {
            node.cluster.starting.store(false, Ordering::SeqCst);
        }
        client.hears("welcome").await;
        client.hears("pong").await;
    }
}

#[tokio::test]
async fn who_says_nothing_is_closed() {
    let hello_timeout = Duration::from_millis(50);
    let node = node_with(
        Config {
            hello_timeout,
            ..config()
        },
        false,
    );
    assert_eq!(Client::raw(&node).await.closes().await, 4408);
}

#[tokio::test]
async fn hostile_messages_close_their_connection_alone() {
    let node = node();
    let mut other = Client::open(&node).await;
    other.join("lobby").await;
    let deep = format!("{{\"type\":\"ping\",\"t\":{}", "[".repeat(60_000));
    for text in [
        "",
        "null",
        "{\"type\":\"dance\"}",
        "{\"type\":\"join\"}",
        &deep,
    ] {
        let mut client = Client::open(&node).await;
        client.write(text).await;
        assert_eq!(client.closes().await, 4400, "{text:.40}");
    }
    let mut client = Client::open(&node).await;
    client.socket.send(Message::binary(vec![9])).await.unwrap();
    assert_eq!(client.closes().await, 4400);
    let mut client = open_with(node.addr, "cursormesh.v1.json", None).await;
    client.say(json!({"type": "hello"})).await;
    client.socket.send(Message::binary(vec![1])).await.unwrap();
    assert_eq!(client.closes().await, 4400);
    other.say(json!({"type": "ping", "t": 1})).await;
    other.hears("pong").await;
}

#[tokio::test]
async fn a_join_that_the_cluster_does_not_answer_ends_the_connection() {
    let node = node_with(config(), true);
    let mut client = Client::open(&node).await;
    client.say(json!({"type": "join", "room": "lobby"})).await;
    assert_eq!(client.closes().await, 1013);
}

// ---------------------------------------------------------------------------------------------
// Rooms.

#[tokio::test]
async fn errors_of_a_room_leave_the_connection_open() {
    let node = node();
    let mut client = Client::open(&node).await;
    client.join("lobby").await;
    let large = "x".repeat(4096);
    let long = "x".repeat(257);
    for (message, code) in [
        (json!({"type": "join", "room": ""}), "bad_room"),
        (json!({"type": "join", "room": "a\nb"}), "bad_room"),
        (json!({"type": "join", "room": "lobby"}), "already_joined"),
        (
            json!({"type": "join", "room": "a", "state": large}),
            "bad_state",
        ),
        (
            json!({"type": "join", "room": "a", "user": {"name": long}}),
            "bad_state",
        ),
        (
            json!({"type": "join", "room": "a", "user": {"color": 360}}),
            "bad_state",
        ),
        (
            json!({"type": "update", "room": "lobby", "state": large}),
            "bad_state",
        ),
        (
            json!({"type": "update", "room": "a", "state": 1}),
            "not_joined",
        ),
        (json!({"type": "leave", "room": "a"}), "not_joined"),
    ] {
        client.say(message.clone()).await;
        let error = client.hears("error").await;
        assert_eq!(error["code"], code, "{message}");
    }
    for index in 1..32 {
        client
            .say(json!({"type": "join", "room": format!("r{index}")}))
            .await;
    }
    client
        .say(json!({"type": "join", "room": "one more"}))
        .await;
    let error = client.until("error").await;
    assert_eq!(
        (&error["code"], &error["room"]),
        (&json!("too_many_rooms"), &json!("one more"))
    );
    client.say(json!({"type": "leave", "room": "r1"})).await;
    client.until("left").await;
    client
        .say(json!({"type": "join", "room": "one more"}))
        .await;
    client.until("joined").await;
}

#[tokio::test]
async fn leaving_and_joining_in_one_breath_is_answered_in_order() {
    let node = node();
    let mut client = Client::open(&node).await;
    let first = client.join("lobby").await;
    client.say(json!({"type": "leave", "room": "lobby"})).await;
    client.say(json!({"type": "join", "room": "lobby"})).await;
    assert_eq!(client.hears("left").await["reason"], "closed");
    let second = client.hears("joined").await;
    assert_ne!(first["self"]["id"], second["self"]["id"]);
    assert_eq!(first["number"], second["number"], "the room is the same");
}

#[tokio::test]
async fn a_large_room_comes_in_pages_and_slower() {
    let node = node();
    for id in 1..=450 {
        let row = member(id << 100, "big");
        node.cluster.members.lock().unwrap().insert(row.id, row);
    }
    let mut client = Client::open(&node).await;
    client.say(json!({"type": "join", "room": "big"})).await;
    client.hears("joined").await;
    assert_eq!(client.hears("pressure").await["interval_ms"], 66);
    let mut count = 0;
    let mut versions = Vec::new();
    loop {
        let page = client.hears("snapshot").await;
        let members = page["members"].as_array().unwrap();
        assert!(members.len() <= 200);
        count += members.len();
        versions.push(page["version"].clone());
        if page["more"] == false {
            break;
        }
    }
    assert_eq!((count, versions.len()), (451, 3));
    versions.dedup();
    assert_eq!(versions.len(), 1, "all pages are of one version");
    let positions = client.hears("binary").await;
    assert_eq!(positions["bytes"][1], 1, "a full set");
}

#[tokio::test]
async fn changes_come_once_with_rising_versions() {
    let node = node();
    let mut client = Client::open(&node).await;
    client.join("lobby").await;
    node.hub.joined(member(7, "lobby"));
    let joined = client.hears("presence").await;
    assert_eq!(joined["joined"][0]["id"], Uuid::from_u128(7).to_string());
    assert!(joined.get("left").is_none() && joined.get("updated").is_none());
    let mut changed = member(7, "lobby");
    changed.state = Bytes::from_static(b"{\"n\":1.0}");
    node.hub.updated(changed);
    let updated = client.hears("presence").await;
    assert_eq!(updated["updated"][0]["state"], json!({"n": 1.0}));
    assert_eq!(updated["updated"][0]["alias"], joined["joined"][0]["alias"]);
    node.hub
        .left("lobby", Uuid::from_u128(7), LeaveReason::NodeLost);
    let left = client.hears("presence").await;
    assert_eq!(left["left"][0]["reason"], "node_lost");
    let version = |diff: &Value| diff["version"].as_str().unwrap().parse::<u64>().unwrap();
    assert!(version(&joined) < version(&updated) && version(&updated) < version(&left));
    // It comes again: another alias, as the old one rests.
    node.hub.joined(member(7, "lobby"));
    let again = client.hears("presence").await;
    assert_ne!(again["joined"][0]["alias"], joined["joined"][0]["alias"]);
}

#[tokio::test]
async fn a_member_that_is_removed_is_told_and_may_join_again() {
    let node = node();
    let mut client = Client::open(&node).await;
    let joined = client.join("lobby").await;
    let id: Uuid = joined["self"]["id"].as_str().unwrap().parse().unwrap();
    node.hub.left("lobby", id, LeaveReason::Kicked);
    assert_eq!(client.hears("left").await["reason"], "kicked");
    client.join("lobby").await;
}

#[tokio::test]
async fn a_member_that_moved_away_closes_its_connection() {
    let node = node();
    let mut client = Client::open(&node).await;
    let joined = client.join("lobby").await;
    let id: Uuid = joined["self"]["id"].as_str().unwrap().parse().unwrap();
    node.hub.moved_away(Uuid::from_u128(1));
    node.hub.moved_away(id);
    assert_eq!(client.closes().await, 4409);
}

// ---------------------------------------------------------------------------------------------
// Cursors and events.

#[tokio::test]
async fn cursors_go_in_the_form_that_each_wants() {
    let node = node();
    let mut binary = Client::open(&node).await;
    let joined = binary.join("lobby").await;
    let mut json_client = open_with(node.addr, "cursormesh.v1.json", None).await;
    json_client.say(json!({"type": "hello"})).await;
    json_client
        .say(json!({"type": "join", "room": "lobby"}))
        .await;
    let other = json_client.until("joined").await;
    assert_eq!(json_client.until("cursors").await["c"], json!([]));
    binary.hears("presence").await;

    let frame = cursor_frame(&joined["number"], 1.5, -2.0);
    binary.socket.send(Message::binary(frame)).await.unwrap();
    let alias = &joined["self"]["alias"];
    assert_eq!(
        json_client.hears("cursors").await["c"],
        json!([[alias, 9, 1.5, -2]])
    );
    binary.hears("binary").await;

    // What cannot be a cursor is dropped, and the connection stays.
    let good = cursor_frame(&joined["number"], 0.0, 0.0);
    for frame in [
        cursor_frame(&joined["number"], f32::NAN, 0.0),
        cursor_frame(&json!(99_999), 0.0, 0.0),
        good[..good.len() - 1].to_vec(),
    ] {
        binary.socket.send(Message::binary(frame)).await.unwrap();
    }
    json_client
        .say(json!({"type": "cursor", "room": "lobby", "t": 70_000, "x": 3, "y": 4}))
        .await;
    let seen = binary.hears("binary").await;
    let mut record = (other["self"]["alias"].as_u64().unwrap() as u16)
        .to_le_bytes()
        .to_vec();
    record.extend(4464u16.to_le_bytes());
    record.extend(3f32.to_le_bytes());
    record.extend(4f32.to_le_bytes());
    assert_eq!(
        seen["bytes"].as_array().unwrap()[8..],
        json!(record).as_array().unwrap()[..]
    );
}

#[tokio::test]
async fn a_position_from_another_node_waits_for_its_member() {
    let node = node();
    let mut client = Client::open(&node).await;
    client.join("lobby").await;
    let cursor = Cursor {
        member: Uuid::from_u128(7),
        time_ms: 1,
        x: 1.0,
        y: 2.0,
    };
    node.hub.cursors("lobby", vec![cursor]);
    sleep(Duration::from_millis(50)).await;
    node.hub.joined(member(7, "lobby"));
    client.hears("presence").await;
    client.hears("binary").await;
}

/// The positions that a client is given when it joins, in JSON.
async fn positions_at_join(node: &Node, room: &str) -> Value {
    let mut client = open_with(node.addr, "cursormesh.v1.json", None).await;
    client.say(json!({"type": "hello"})).await;
    client.hears("welcome").await;
    client.say(json!({"type": "join", "room": room})).await;
    let positions = client.until("cursors").await;
    client.socket.close(None).await.unwrap();
    positions["c"].clone()
}

#[tokio::test]
async fn a_position_said_while_a_room_was_empty_for_a_moment_is_not_lost() {
    let node = node();
    let there = || node.cluster.members.lock().unwrap();
    there().insert(Uuid::from_u128(7), member(7, "lobby"));
    assert_eq!(positions_at_join(&node, "lobby").await, json!([]));
    soon(async {
        while there().len() > 1 {
            sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    let cursor = Cursor {
        member: Uuid::from_u128(7),
        time_ms: 1,
        x: 1.5,
        y: 2.5,
    };
    node.hub.cursors("lobby", vec![cursor]);
    assert_eq!(
        positions_at_join(&node, "lobby").await[0],
        json!([1, 1, 1.5, 2.5])
    );
}

#[tokio::test]
async fn a_position_said_before_the_first_v1_client_came_is_not_lost() {
    let node = node();
    let request = format!("ws://{}/ws?room=lobby", node.addr);
    let stream = TcpStream::connect(node.addr).await.unwrap();
    let (mut page, _) = client_async(request, stream).await.unwrap();
    {
        let mut members = node.cluster.members.lock().unwrap();
        members.insert(Uuid::from_u128(7), member(7, "lobby"));
    }
    let cursor = Cursor {
        member: Uuid::from_u128(7),
        time_ms: 1,
        x: 1.5,
        y: 2.5,
    };
    page.send(Message::text("{}")).await.unwrap();
    soon(page.next()).await.unwrap().unwrap();
    node.hub.cursors("lobby", vec![cursor]);
    soon(page.next()).await.unwrap().unwrap();
    let positions = positions_at_join(&node, "lobby").await;
    assert_eq!(positions, json!([[1, 1, 1.5, 2.5]]));
}

#[tokio::test]
async fn events_come_back_with_numbers_and_bad_ones_are_refused() {
    let node = node();
    let mut client = Client::open(&node).await;
    let joined = client.join("lobby").await;
    let large = "x".repeat(17_000);
    for (room, data, reason) in [
        ("lobby", json!(large), "too_big"),
        ("elsewhere", json!(1), "not_joined"),
    ] {
        client
            .say(json!({"type": "event", "room": room, "name": "e", "data": data, "ref": 5}))
            .await;
        let refused = client.hears("refused").await;
        assert_eq!(
            (&refused["reason"], &refused["ref"]),
            (&json!(reason), &json!(5))
        );
    }
    client
        .write("{\"type\":\"event\",\"room\":\"lobby\",\"name\":\"e\",\"data\":{\"n\":1e400}}")
        .await;
    let message = soon(client.socket.next()).await.unwrap().unwrap();
    let text = message.into_text().unwrap();
    assert!(text.contains("\"data\":{\"n\":1e400}"), "{text}");
    assert!(text.contains("\"at\":[\"n1.1\",\"1\"]"), "{text}");
    assert!(
        text.contains(joined["self"]["id"].as_str().unwrap()),
        "{text}"
    );
}

#[tokio::test]
async fn nobody_speaks_for_another() {
    let node = node();
    let (mut ada, mut bob) = (Client::open(&node).await, Client::open(&node).await);
    let victim = ada.join("lobby").await["self"]["id"].clone();
    let forged = |mut message: Value| {
        for field in ["id", "from", "sender", "member"] {
            message[field] = victim.clone();
        }
        message["self"] = json!({"id": victim});
        message["at"] = json!(["n9.1", "99"]);
        message["node"] = json!("n9");
        message
    };
    bob.say(forged(json!({"type": "join", "room": "lobby"})))
        .await;
    let bob_self = bob.until("joined").await["self"].clone();
    assert_ne!(bob_self["id"], victim);
    assert_eq!(bob_self["node"], "n1");

    bob.say(forged(
        json!({"type": "update", "room": "lobby", "state": "forged"}),
    ))
    .await;
    let updated = loop {
        let mut diff = ada.until("presence").await;
        if let Some(updated) = diff["updated"].as_array_mut() {
            break std::mem::take(updated);
        }
    };
    let ids: Vec<_> = updated.iter().map(|member| &member["id"]).collect();
    assert_eq!(ids, [&bob_self["id"]]);

    bob.say(forged(
        json!({"type": "event", "room": "lobby", "name": "e", "data": 1}),
    ))
    .await;
    let event = ada.until("event").await;
    assert_eq!(event["from"], bob_self["id"]);
    assert_eq!(event["at"], json!(["n1.1", "1"]));
}

// ---------------------------------------------------------------------------------------------
// Coming back.

fn resume(joined: &Value, seen: Value) -> Value {
    json!({"type": "join", "room": "lobby", "state": 2,
           "resume": {"token": joined["token"], "seen": seen, "away_ms": 10}})
}

#[tokio::test]
async fn missed_events_come_in_order_before_the_members() {
    let node = node();
    let mut witness = Client::open(&node).await;
    witness.join("lobby").await;
    let mut client = Client::open(&node).await;
    let joined = client.join("lobby").await;
    drop(client);
    loop {
        let diff = witness.hears("presence").await;
        if diff["updated"][0]["away"] == true {
            break;
        }
    }
    for index in 0..3 {
        witness
            .say(json!({"type": "event", "room": "lobby", "name": "e", "data": index}))
            .await;
        witness.hears("event").await;
    }
    let mut client = Client::open(&node).await;
    client.say(resume(&joined, json!({ORIGIN: "1"}))).await;
    let again = client.hears("joined").await;
    assert_eq!(again["outcome"], "recovered");
    assert_eq!(again["self"]["id"], joined["self"]["id"]);
    assert_eq!(again["self"]["state"], 2);
    for index in 1..3 {
        assert_eq!(client.hears("event").await["data"], index);
    }
    client.hears("snapshot").await;
    let diff = witness.hears("presence").await;
    assert_eq!(diff["updated"][0]["away"], false);
    assert!(diff.get("joined").is_none() && diff.get("left").is_none());
}

#[tokio::test]
async fn a_token_that_is_no_good_makes_a_new_member() {
    let secrets = |byte| vec![Secret::new(vec![byte; 32])];
    let with = |byte| {
        let resume_secrets = secrets(byte);
        node_with(
            Config {
                resume_secrets,
                ..config()
            },
            false,
        )
    };
    let (node, foreign) = (with(1), with(2));
    let mut client = Client::open(&foreign).await;
    let joined = client.join("lobby").await;
    for token in [joined["token"].as_str().unwrap(), "", "nonsense", "AAAA"] {
        let mut client = Client::open(&node).await;
        client
            .say(resume(&json!({"token": token}), json!({})))
            .await;
        let again = client.hears("joined").await;
        assert_eq!(again["outcome"], "rebuilt");
        assert_eq!(again["reason"], "token_invalid");
        assert_ne!(again["self"]["id"], joined["self"]["id"]);
    }
    // Of another room.
    let mut client = Client::open(&foreign).await;
    let mut message = resume(&joined, json!({}));
    message["room"] = json!("kitchen");
    client.say(message).await;
    assert_eq!(client.hears("joined").await["reason"], "token_invalid");
}

#[tokio::test]
async fn the_older_of_two_connections_goes_and_its_end_changes_nothing() {
    let node = node();
    let mut older = Client::open(&node).await;
    let joined = older.join("lobby").await;
    let mut newer = Client::open(&node).await;
    newer
        .say(resume(&joined, joined["positions"].clone()))
        .await;
    assert_eq!(newer.hears("joined").await["outcome"], "recovered");
    assert_eq!(older.closes().await, 4409);
    drop(older);
    sleep(Duration::from_millis(50)).await;
    let id: Uuid = joined["self"]["id"].as_str().unwrap().parse().unwrap();
    assert!(!node.cluster.members.lock().unwrap()[&id].away);
}

#[tokio::test]
async fn how_a_connection_ends_decides_whether_its_member_stays() {
    let node = node();
    for (code, stays) in [
        (Some(1000), false),
        (None, false),
        (Some(1001), true),
        (Some(4000), true),
    ] {
        let mut client = Client::open(&node).await;
        let joined = client.join("lobby").await;
        let id: Uuid = joined["self"]["id"].as_str().unwrap().parse().unwrap();
        let frame = code.map(
            |code: u16| tokio_tungstenite::tungstenite::protocol::CloseFrame {
                code: code.into(),
                reason: "".into(),
            },
        );
        client.socket.close(frame).await.unwrap();
        soon(async {
            loop {
                let row = node.cluster.members.lock().unwrap().get(&id).cloned();
                match row {
                    None => break assert!(!stays, "{code:?}"),
                    Some(row) if row.away => break assert!(stays, "{code:?}"),
                    Some(_) => sleep(Duration::from_millis(2)).await,
                }
            }
        })
        .await;
    }
}

// ---------------------------------------------------------------------------------------------
// Clients that do not keep up.

#[tokio::test]
async fn who_does_not_read_gets_a_snapshot_and_the_newest_positions() {
    const MEMBERS: u128 = 200;
    const ROUNDS: usize = 30;
    let node = node();
    let mut slow = open_with(node.addr, "cursormesh.v1", Some(8 * 1024)).await;
    slow.say(json!({"type": "hello"})).await;
    slow.hears("welcome").await;
    slow.join("lobby").await;
    let mut witness = Client::open(&node).await;
    witness.join("lobby").await;
    for round in 0..ROUNDS {
        for id in 1..=MEMBERS {
            let mut row = member(id, "lobby");
            row.state = Bytes::from(format!(
                "{{\"n\":{round},\"pad\":\"{}\"}}",
                "x".repeat(1000)
            ));
            node.cluster
                .members
                .lock()
                .unwrap()
                .insert(row.id, row.clone());
            if round == 0 {
                node.hub.joined(row);
            } else {
                node.hub.updated(row);
            }
            let cursor = Cursor {
                member: Uuid::from_u128(id),
                time_ms: 0,
                x: round as f32,
                y: 0.0,
            };
            node.hub.cursors("lobby", vec![cursor]);
        }
        // Each round is a flush of its own: the witness sees its last change.
        loop {
            let diff = witness.until("presence").await;
            let last = Uuid::from_u128(MEMBERS).to_string();
            let lists = [&diff["joined"], &diff["updated"]];
            let mut rows = lists.into_iter().filter_map(Value::as_array).flatten();
            if rows.any(|row| row["id"] == last.as_str() && row["state"]["n"] == round) {
                break;
            }
        }
    }
    assert!(node.hub.metrics().messages_dropped.lagging.get() > 0);
    assert!(node.hub.metrics().outbox_bytes.get() <= 1024 * 1024);

    let mut members: BTreeMap<String, Value> = BTreeMap::new();
    let (mut snapshots, mut newest) = (0, false);
    while !newest || snapshots == 0 {
        let message = slow.hear().await;
        match message["type"].as_str().unwrap() {
            "snapshot" => {
                snapshots += usize::from(message["more"] == false);
                for row in message["members"].as_array().unwrap() {
                    members.insert(row["id"].as_str().unwrap().into(), row.clone());
                }
            }
            "presence" => {
                for list in ["joined", "updated"] {
                    for row in message[list].as_array().into_iter().flatten() {
                        members.insert(row["id"].as_str().unwrap().into(), row.clone());
                    }
                }
            }
            "binary" => {
                let bytes: Vec<u8> = serde_json::from_value(message["bytes"].clone()).unwrap();
                let xs: Vec<f32> = bytes[8..]
                    .chunks(12)
                    .map(|record| f32::from_le_bytes(record[4..8].try_into().unwrap()))
                    .collect();
                newest =
                    xs.len() == MEMBERS as usize && xs.iter().all(|x| *x == (ROUNDS - 1) as f32);
            }
            "pressure" => {}
            other => panic!("{other}"),
        }
    }
    assert_eq!(members.len(), MEMBERS as usize + 2);
    let stale = members
        .values()
        .filter(|row| row["node"] == "n2" && row["state"]["n"] != ROUNDS - 1)
        .count();
    assert_eq!(stale, 0);
}
