//! Browser protocol v1 on real nodes in one process: members, cursors and events across the mesh,
//! and clients that come back.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use cursormesh::cert::Authority;
use cursormesh::config::{Located, NodeConfig, Overrides, Tls};
use cursormesh::run::Node;
use cursormesh_mesh::proto::NodeName;
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

const PATIENCE: Duration = Duration::from_secs(20);

// ---------------------------------------------------------------------------------------------
// The nodes under test.

fn loopback() -> Located<SocketAddr> {
    Located::by_default("127.0.0.1:0".parse().unwrap())
}

fn config(authority: &Authority, name: &str, seeds: &[SocketAddr]) -> NodeConfig {
    let node = NodeName::new(name).unwrap();
    let bundle = Tls::Pem(authority.bundle(&node).unwrap());
    let mut config = NodeConfig::dev(&Overrides::default(), |_, _| bundle).unwrap();
    config.node = node;
    config.web = vec![loopback()];
    config.mesh = loopback();
    config.seeds = seeds.iter().map(|addr| (None, *addr)).collect();
    config
}

/// Nodes n1, n2, … that are all linked.
async fn cluster(count: usize) -> Vec<Node> {
    let authority = Authority::new(&NodeName::new("dev").unwrap()).unwrap();
    let mut nodes: Vec<Node> = Vec::new();
    for index in 1..=count {
        let seeds: Vec<SocketAddr> = nodes.iter().map(Node::mesh_addr).collect();
        let config = config(&authority, &format!("n{index}"), &seeds);
        nodes.push(Node::start(config).await.unwrap());
    }
    for node in &nodes {
        let begin = Instant::now();
        loop {
            let mut client = Client::connect(node).await;
            let known = client.welcome["nodes"].as_array().unwrap().len();
            client.close(1000).await;
            if known == count {
                break;
            }
            assert!(
                begin.elapsed() < PATIENCE,
                "the nodes do not find each other"
            );
            sleep(Duration::from_millis(50)).await;
        }
    }
    nodes
}

// ---------------------------------------------------------------------------------------------
// A client that keeps a diary.

type Socket = WebSocketStream<TcpStream>;

struct Client {
    socket: Socket,
    welcome: Value,
    /// What came and was not looked at yet.
    inbox: Vec<Value>,
}

async fn open(node: &Node, path: &str, subprotocol: Option<&str>) -> Socket {
    let addr = node.web_addrs()[0];
    let mut request = format!("ws://{addr}{path}").into_client_request().unwrap();
    if let Some(subprotocol) = subprotocol {
        let headers = request.headers_mut();
        headers.insert("sec-websocket-protocol", subprotocol.parse().unwrap());
    }
    let stream = TcpStream::connect(addr).await.unwrap();
    let (socket, _) = tokio_tungstenite::client_async(request, stream)
        .await
        .unwrap();
    socket
}

/// What a frame says; binary cursor frames in the words of the JSON variant.
fn read(message: Message) -> Option<Value> {
    match message {
        Message::Text(text) => Some(serde_json::from_str(&text).unwrap()),
        Message::Binary(bytes) => {
            assert_eq!(bytes[0], 2);
            let count = u16::from_le_bytes([bytes[2], bytes[3]]);
            let number = u32::from_le_bytes(bytes[4..8].try_into().unwrap());
            assert_eq!(bytes.len(), 8 + usize::from(count) * 12);
            let records: Vec<Value> = bytes[8..]
                .chunks(12)
                .map(|record| {
                    let alias = u16::from_le_bytes([record[0], record[1]]);
                    let time_ms = u16::from_le_bytes([record[2], record[3]]);
                    let x = f32::from_le_bytes(record[4..8].try_into().unwrap());
                    let y = f32::from_le_bytes(record[8..12].try_into().unwrap());
                    json!([alias, time_ms, x, y])
                })
                .collect();
            Some(
                json!({"type": "cursors", "number": number, "full": bytes[1] & 1 == 1, "c": records}),
            )
        }
        Message::Close(frame) => {
            let code = frame.map(|frame| u16::from(frame.code));
            Some(json!({"type": "close", "code": code}))
        }
        _ => None,
    }
}

impl Client {
    async fn connect(node: &Node) -> Self {
        let socket = open(node, "/v1", Some("cursormesh.v1")).await;
        let mut client = Self {
            socket,
            welcome: Value::Null,
            inbox: Vec::new(),
        };
        client.say(json!({"type": "hello", "client": "test"})).await;
        client.welcome = client.next("welcome").await;
        client
    }

    async fn say(&mut self, message: Value) {
        let text = message.to_string();
        self.socket.send(Message::text(text)).await.unwrap();
    }

    /// Reads until something comes that `holds`; the rest stays in the inbox.
    async fn until(&mut self, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        if let Some(index) = self.inbox.iter().position(&holds) {
            return self.inbox.remove(index);
        }
        let read = async {
            loop {
                let Some(Ok(message)) = self.socket.next().await else {
                    panic!("the connection ended before {what}");
                };
                if let Some(value) = read(message) {
                    if holds(&value) {
                        return value;
                    }
                    self.inbox.push(value);
                }
            }
        };
        match timeout(PATIENCE, read).await {
            Ok(value) => value,
            Err(_) => panic!("no {what}; there is {:#?}", self.inbox),
        }
    }

    async fn next(&mut self, kind: &str) -> Value {
        self.until(kind, |message| message["type"] == kind).await
    }

    /// Joins a room and reads up to the first positions.
    async fn join(&mut self, room: &str, more: Value) -> Joined {
        let mut message = json!({"type": "join", "room": room});
        let fields = message.as_object_mut().unwrap();
        fields.extend(more.as_object().unwrap().clone());
        self.say(message).await;
        let joined = self.next("joined").await;
        let mut members = BTreeMap::new();
        loop {
            let page = self.next("snapshot").await;
            for member in page["members"].as_array().unwrap() {
                members.insert(text(&member["id"]), member.clone());
            }
            if page["more"] == false {
                break;
            }
        }
        self.until("positions", |message| message["full"] == true)
            .await;
        Joined {
            id: text(&joined["self"]["id"]),
            joined,
            members,
        }
    }

    async fn event(&mut self, room: &str, data: Value) {
        self.say(json!({"type": "event", "room": room, "name": "e", "data": data}))
            .await;
    }

    async fn place(&mut self, number: &Value, x: f32, y: f32) {
        let mut frame = vec![1, 0, 1, 0];
        frame.extend((number.as_u64().unwrap() as u32).to_le_bytes());
        frame.extend(77u16.to_le_bytes());
        frame.extend(x.to_le_bytes());
        frame.extend(y.to_le_bytes());
        self.socket.send(Message::binary(frame)).await.unwrap();
    }

    /// The next diff that has a member in a list.
    async fn sees(&mut self, list: &str, id: &str) -> Value {
        let diff = self
            .until(&format!("{list} {id}"), |message| {
                message["type"] == "presence" && find(&message[list], id).is_some()
            })
            .await;
        find(&diff[list], id).unwrap()
    }

    /// Whether anything that has come so far tells of the member joining or leaving.
    fn saw_come_or_go(&self, id: &str) -> bool {
        self.inbox.iter().any(|message| {
            message["type"] == "presence"
                && (find(&message["joined"], id).is_some() || find(&message["left"], id).is_some())
        })
    }

    async fn close(&mut self, code: u16) {
        let frame = tokio_tungstenite::tungstenite::protocol::CloseFrame {
            code: code.into(),
            reason: "".into(),
        };
        let _ = self.socket.close(Some(frame)).await;
    }
}

struct Joined {
    id: String,
    joined: Value,
    members: BTreeMap<String, Value>,
}

impl Joined {
    fn resume(&self, seen: Value) -> Value {
        json!({"resume": {"token": self.joined["token"], "seen": seen, "away_ms": 500}})
    }

    fn resumed(&self) -> Value {
        self.resume(self.joined["positions"].clone())
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

fn find(list: &Value, id: &str) -> Option<Value> {
    let found = list.as_array()?.iter().find(|item| item["id"] == id);
    found.cloned()
}

async fn stop(nodes: Vec<Node>) {
    for node in nodes {
        node.stop().await;
    }
}

// ---------------------------------------------------------------------------------------------
// Rooms, cursors and events.

#[tokio::test(flavor = "multi_thread")]
async fn members_cursors_and_events_cross_the_mesh() {
    let nodes = cluster(3).await;
    let mut a = Client::connect(&nodes[0]).await;
    let mut b = Client::connect(&nodes[1]).await;
    let user = json!({"user": {"id": "ada", "name": "Ada", "color": 7}, "state": {"tool": "pen"}});
    let joined_a = a.join("lobby", user).await;
    assert_eq!(joined_a.joined["outcome"], "new");
    assert_eq!(joined_a.joined["self"]["user"]["name"], "Ada");
    let joined_b = b.join("lobby", json!({})).await;
    if !joined_b.members.contains_key(&joined_a.id) {
        b.sees("joined", &joined_a.id).await;
    }
    let seen = a.sees("joined", &joined_b.id).await;
    assert_eq!(
        (&seen["node"], &seen["state"]),
        (&json!("n2"), &Value::Null)
    );

    b.place(&joined_b.joined["number"], 1.5, -2.0).await;
    let wanted = json!([seen["alias"], 77, 1.5, -2.0]);
    a.until("the cursor", |message| {
        message["type"] == "cursors" && message["c"].as_array().unwrap().contains(&wanted)
    })
    .await;

    // Who comes later gets the position with the members.
    let mut c = Client::connect(&nodes[2]).await;
    c.say(json!({"type": "join", "room": "lobby"})).await;
    c.until("the position", |message| {
        message["type"] == "cursors"
            && message["c"]
                .as_array()
                .unwrap()
                .iter()
                .any(|record| record[2] == 1.5)
    })
    .await;

    a.say(json!({"type": "update", "room": "lobby", "user": {"name": "Ada L."}, "state": 5}))
        .await;
    let changed = b
        .until("the update", |message| {
            message["type"] == "presence"
                && find(&message["updated"], &joined_a.id).is_some_and(|row| row["state"] == 5)
        })
        .await;
    let changed = find(&changed["updated"], &joined_a.id).unwrap();
    assert_eq!(
        changed["user"],
        json!({"id": "ada", "name": "Ada L.", "color": 7})
    );

    a.say(json!({"type": "leave", "room": "lobby"})).await;
    assert_eq!(a.next("left").await["reason"], "closed");
    assert_eq!(b.sees("left", &joined_a.id).await["reason"], "closed");
    stop(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_event_arrives_once_and_in_order() {
    const EVENTS: u64 = 200;
    let nodes = cluster(3).await;
    let mut clients = Vec::new();
    let mut ids = Vec::new();
    for node in &nodes {
        let mut client = Client::connect(node).await;
        ids.push(client.join("lobby", json!({})).await.id);
        clients.push(client);
    }
    // "Exactly once" counts from when all nodes know of each other's interest.
    for (index, client) in clients.iter_mut().enumerate() {
        for _ in 0..20 {
            client.event("lobby", json!({"warm": index})).await;
            sleep(Duration::from_millis(20)).await;
        }
    }
    for index in 0..EVENTS {
        for client in &mut clients {
            client.event("lobby", json!(index)).await;
        }
    }
    for client in &mut clients {
        let mut next: BTreeMap<String, u64> = ids.iter().map(|id| (id.clone(), 0)).collect();
        while next.values().any(|next| *next < EVENTS) {
            let event = client
                .until("event", |message| {
                    message["type"] == "event" && message["data"].is_u64()
                })
                .await;
            let next = next.get_mut(event["from"].as_str().unwrap()).unwrap();
            assert_eq!(event["data"], *next);
            *next += 1;
        }
    }
    stop(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tutorials_pages_and_v1_clients_meet() {
    let nodes = cluster(2).await;
    let mut page = open(&nodes[0], "/ws", None).await;
    let mut far = open(&nodes[1], "/ws", None).await;
    let mut client = Client::connect(&nodes[1]).await;
    let joined = client.join("lobby", json!({"user": {"color": 123}})).await;

    let place = json!([77, 3.0, 4.0]);
    page.send(Message::text("{\"x\":3,\"y\":4,\"n\":1}"))
        .await
        .unwrap();
    client
        .until("the page's cursor", |message| {
            message["type"] == "cursors"
                && message["c"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .any(|record| (&record[2], &record[3]) == (&place[1], &place[2]))
        })
        .await;
    client.place(&joined.joined["number"], 0.5, 0.25).await;
    for socket in [&mut page, &mut far] {
        let told = heard(socket, |message| message["sender"] == joined.id.as_str()).await;
        assert_eq!(
            told,
            json!({"x": 0.5, "y": 0.25, "sender": joined.id, "color": 123})
        );
    }
    client.close(1000).await;
    for socket in [&mut page, &mut far] {
        let told = heard(socket, |message| message["left"] == true).await;
        assert_eq!(told["sender"], joined.id.as_str());
    }
    stop(nodes).await;
}

async fn heard(socket: &mut Socket, holds: impl Fn(&Value) -> bool) -> Value {
    timeout(PATIENCE, async {
        loop {
            let message = socket.next().await.unwrap().unwrap();
            if let Some(value) = read(message).filter(&holds) {
                return value;
            }
        }
    })
    .await
    .unwrap()
}

// ---------------------------------------------------------------------------------------------
// Coming back.

/// A client on the first node, and a witness and a speaker on the last.
struct Stage {
    nodes: Vec<Node>,
    client: Client,
    joined: Joined,
    witness: Client,
}

async fn stage(count: usize) -> Stage {
    let nodes = cluster(count).await;
    let mut witness = Client::connect(nodes.last().unwrap()).await;
    witness.join("lobby", json!({})).await;
    let mut client = Client::connect(&nodes[0]).await;
    let joined = client.join("lobby", json!({"state": "here"})).await;
    if !joined.members.is_empty() {
        witness.sees("joined", &joined.id).await;
    }
    // Both nodes know of each other's interest once this has come.
    loop {
        witness.event("lobby", json!("ready")).await;
        let heard = client.until("ready", |message| message["type"] == "event");
        if timeout(Duration::from_millis(200), heard).await.is_ok() {
            break;
        }
    }
    Stage {
        nodes,
        client,
        joined,
        witness,
    }
}

impl Stage {
    /// Where the client's events are: it has seen all that came so far.
    async fn seen(&mut self) -> Value {
        self.witness.event("lobby", json!("mark")).await;
        self.client
            .until("mark", |message| message["data"] == "mark")
            .await;
        let mut seen = self.joined.joined["positions"].as_object().unwrap().clone();
        let mut mark = |event: &Value| {
            let (origin, number) = (text(&event["at"][0]), text(&event["at"][1]));
            let known = seen
                .get(&origin)
                .map_or(0, |known| known.as_str().unwrap().parse::<u64>().unwrap());
            if number.parse::<u64>().unwrap() > known {
                seen.insert(origin, json!(number));
            }
        };
        let own = self
            .witness
            .until("own mark", |message| {
                message["type"] == "event" && message["data"] == "mark"
            })
            .await;
        mark(&own);
        Value::Object(seen)
    }

    /// Resumes on a node and checks that nobody saw anything and nothing was missed.
    async fn recovers(&mut self, on: usize, seen: Value, missed: &[&str]) -> Client {
        let mut back = Client::connect(&self.nodes[on]).await;
        let mut more = self.joined.resume(seen);
        more["state"] = json!("back");
        let again = back.join("lobby", more).await;
        assert_eq!(again.joined["outcome"], "recovered", "{:#}", again.joined);
        assert_eq!(again.id, self.joined.id);
        assert_eq!(
            again.joined["self"]["joined_at"],
            self.joined.joined["self"]["joined_at"]
        );
        self.witness.event("lobby", json!("after")).await;
        let mut heard = Vec::new();
        loop {
            let event = back.next("event").await;
            heard.push(text(&event["data"]));
            if event["data"] == "after" {
                break;
            }
        }
        assert_eq!(heard[..heard.len() - 1], *missed);
        let id = self.joined.id.clone();
        self.witness
            .until("its return", |message| {
                message["type"] == "presence"
                    && find(&message["updated"], &id).is_some_and(|row| row["state"] == "back")
            })
            .await;
        assert!(
            !self.witness.saw_come_or_go(&id),
            "{:#?}",
            self.witness.inbox
        );
        back
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_connection_comes_back_to_its_node() {
    let mut stage = stage(2).await;
    let seen = stage.seen().await;
    let Stage { client, .. } = &mut stage;
    client.close(1001).await;
    let id = stage.joined.id.clone();
    let away = stage.witness.sees("updated", &id).await;
    assert_eq!(away["away"], true);
    stage.witness.event("lobby", json!("m1")).await;
    stage.witness.event("lobby", json!("m2")).await;
    let mut back = stage.recovers(0, seen, &["m1", "m2"]).await;
    back.close(1000).await;
    assert_eq!(stage.witness.sees("left", &id).await["reason"], "closed");
    stop(stage.nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_connection_comes_back_on_a_node_that_had_no_interest() {
    let mut stage = stage(3).await;
    let seen = stage.seen().await;
    stage.client.close(1001).await;
    stage.witness.event("lobby", json!("m1")).await;
    stage.recovers(1, seen, &["m1"]).await;
    stop(stage.nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_a_killed_node_comes_back_elsewhere() {
    let mut stage = stage(3).await;
    let seen = stage.seen().await;
    drop(stage.nodes.remove(0));
    stage.witness.event("lobby", json!("m1")).await;
    sleep(Duration::from_millis(2500)).await;
    stage.recovers(0, seen, &["m1"]).await;
    // The evidence of the old node's life runs out, and still nobody sees anything.
    sleep(Duration::from_secs(3)).await;
    stage.witness.event("lobby", json!("end")).await;
    stage
        .witness
        .until("end", |message| message["data"] == "end")
        .await;
    assert!(!stage.witness.saw_come_or_go(&stage.joined.id));
    stop(stage.nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_a_drained_node_comes_back_elsewhere() {
    let mut stage = stage(3).await;
    let seen = stage.seen().await;
    let begin = Instant::now();
    stage.nodes.remove(0).stop().await;
    assert!(begin.elapsed() < Duration::from_secs(5));
    let close = stage.client.next("close").await;
    assert_eq!(close["code"], 1012);
    stage.recovers(0, seen, &[]).await;
    stop(stage.nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_back_too_late_is_rebuilt_under_its_id() {
    let mut stage = stage(2).await;
    let id = stage.joined.id.clone();
    stage.client.close(1000).await;
    stage.witness.sees("left", &id).await;
    let mut back = Client::connect(&stage.nodes[1]).await;
    let again = back.join("lobby", stage.joined.resumed()).await;
    assert_eq!(again.joined["outcome"], "rebuilt");
    assert_eq!(again.joined["reason"], "too_late");
    assert_eq!(again.id, id);
    stage.witness.sees("joined", &id).await;
    stop(stage.nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_does_not_come_back_times_out() {
    let mut stage = stage(2).await;
    let id = stage.joined.id.clone();
    stage.client.close(1001).await;
    let left = stage.witness.sees("left", &id).await;
    assert_eq!(left["reason"], "timed_out");
    stop(stage.nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_connections_of_one_member_the_older_is_superseded() {
    let mut stage = stage(3).await;
    for (node, code) in [(0, 4409), (1, 4409)] {
        let mut second = Client::connect(&stage.nodes[node]).await;
        let again = second.join("lobby", stage.joined.resumed()).await;
        assert_eq!(again.id, stage.joined.id);
        assert_eq!(again.joined["outcome"], "recovered", "{:#}", again.joined);
        assert_eq!(stage.client.next("close").await["code"], code);
        stage.client = second;
    }
    stage.witness.event("lobby", json!("end")).await;
    stage
        .witness
        .until("end", |message| message["data"] == "end")
        .await;
    assert!(!stage.witness.saw_come_or_go(&stage.joined.id));
    stop(stage.nodes).await;
}

// ---------------------------------------------------------------------------------------------
// A client of another hand.

#[tokio::test(flavor = "multi_thread")]
async fn a_client_written_from_the_document_alone_joins_moves_and_resumes() {
    let nodes = cluster(2).await;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/v1_client.py");
    let mut command = std::process::Command::new("python3");
    command.arg(script);
    command.args(nodes.iter().map(|node| node.web_addrs()[0].to_string()));
    let output = tokio::task::spawn_blocking(move || command.output())
        .await
        .unwrap()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    stop(nodes).await;
}
