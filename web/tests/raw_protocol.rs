//! The tutorial's raw protocol and the HTTP routes around it, as a client meets them: a real server
//! on a loopback port, with the cluster's side played by the test.

#![allow(clippy::unwrap_used)]

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use cursormesh_web::cluster::{
    Directory, LeaveReason, Member, NodeSummary, Outbound, RoomSummary, User,
};
use cursormesh_web::{Config, Hub, Server};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use uuid::Uuid;

/// No single step of any test takes this long.
const PATIENCE: Duration = Duration::from_secs(20);

async fn soon<T>(future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.expect("it does not happen")
}

async fn eventually(mut fact: impl FnMut() -> bool) {
    soon(async {
        while !fact() {
            sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}

// ---------------------------------------------------------------------------------------------
// The node under test.

struct Cluster {
    ready: AtomicBool,
}

impl Directory for Cluster {
    fn node(&self) -> String {
        "n1".into()
    }
    fn rooms(&self, limit: usize) -> Vec<RoomSummary> {
        let rooms = [
            RoomSummary {
                room: "lobby".into(),
                count: 2,
            },
            RoomSummary {
                room: "a b".into(),
                count: 1,
            },
        ];
        rooms.into_iter().take(limit).collect()
    }
    fn members(&self, room: &str) -> Vec<Member> {
        if room != "café/au lait" {
            return Vec::new();
        }
        vec![Member {
            id: Uuid::from_u128(7),
            room: room.into(),
            user: User {
                id: "u".into(),
                name: "Ada".into(),
                color: 9,
            },
            state: Bytes::from_static(b"{\"n\":1.0}"),
            node: "n2".into(),
            joined_at: 5,
            away: false,
            epoch: 1,
            resumable: false,
        }]
    }
    fn member(&self, _: &str, _: Uuid) -> Option<Member> {
        None
    }
    fn nodes(&self) -> Vec<NodeSummary> {
        Vec::new()
    }
    fn count(&self, _: &str) -> usize {
        0
    }
    fn cluster(&self) -> Value {
        json!({"node": "n1", "peers": []})
    }
    fn ready(&self) -> Result<(), String> {
        if self.ready.load(Ordering::SeqCst) {
            Ok(())
        } else {
            Err("no peer yet".into())
        }
    }
    fn metrics(&self) -> String {
        "cursormesh_peers 2\n".into()
    }
}

struct Node {
    addr: SocketAddr,
    hub: Hub,
    cluster: Arc<Cluster>,
    outbound: mpsc::Receiver<Outbound>,
    stop: Option<oneshot::Sender<()>>,
    running: JoinHandle<()>,
}

fn config() -> Config {
    Config {
        listen: vec![SocketAddr::from(([127, 0, 0, 1], 0))],
        ..Config::default()
    }
}

async fn node() -> Node {
    node_with(config()).await
}

async fn node_with(config: Config) -> Node {
    let (sender, outbound) = mpsc::channel(65_536);
    let cluster = Arc::new(Cluster {
        ready: AtomicBool::new(true),
    });
    let hub = Hub::new(&config, cluster.clone(), sender);
    let server = Server::bind(config, hub.clone(), cluster.clone()).unwrap();
    let addr = server.local_addrs()[0];
    let (stop, stopped) = oneshot::channel::<()>();
    let running = tokio::spawn(server.run(async {
        let _ = stopped.await;
    }));
    Node {
        addr,
        hub,
        cluster,
        outbound,
        stop: Some(stop),
        running,
    }
}

impl Node {
    async fn open(&self, path: &str) -> Client {
        Client::open(self.addr, path).await
    }

    /// Counts what the node says of one of its metrics.
    async fn metric(&self, name: &str) -> u64 {
        let (_, page) = get(self.addr, "/metrics").await;
        let line = page
            .lines()
            .find(|line| line.starts_with(&format!("{name} ")))
            .unwrap();
        line.rsplit(' ').next().unwrap().parse().unwrap()
    }
}

// ---------------------------------------------------------------------------------------------
// A client that can break the rules.

const TEXT: u8 = 0x81;
const BINARY: u8 = 0x82;
const CLOSE: u8 = 0x88;
const PING: u8 = 0x89;
const PONG: u8 = 0x8a;

struct Client {
    stream: TcpStream,
    received: Vec<u8>,
}

impl Client {
    async fn open(addr: SocketAddr, path: &str) -> Self {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {addr}\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut received = Vec::new();
        let end = loop {
            assert_ne!(
                soon(stream.read_buf(&mut received)).await.unwrap(),
                0,
                "no answer to the upgrade"
            );
            if let Some(end) = received.windows(4).position(|window| window == b"\r\n\r\n") {
                break end + 4;
            }
        };
        let head = String::from_utf8(received.drain(..end).collect())
            .unwrap()
            .to_lowercase();
        assert!(head.starts_with("http/1.1 101 "), "{head}");
        assert!(
            head.contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo="),
            "{head}"
        );
        assert!(!head.contains("extensions"), "{head}");
        Self { stream, received }
    }

    async fn send_bytes(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    async fn send(&mut self, first: u8, payload: &[u8]) {
        self.send_bytes(&frame(first, payload)).await;
    }

    async fn say(&mut self, text: &str) {
        self.send(TEXT, text.as_bytes()).await;
    }

    /// The next frame: its first byte and payload. `None` at the end of the stream.
    async fn frame(&mut self) -> Option<(u8, Vec<u8>)> {
        loop {
            if let Some((first, payload, length)) = parse(&self.received) {
                self.received.drain(..length);
                return Some((first, payload));
            }
            match soon(self.stream.read_buf(&mut self.received)).await {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    /// The next message, past pings.
    async fn hear_raw(&mut self) -> String {
        loop {
            match self.frame().await.expect("connection ended") {
                (PING, _) => {}
                (first, payload) => {
                    assert_eq!(first, TEXT, "{payload:?}");
                    return String::from_utf8(payload).unwrap();
                }
            }
        }
    }

    async fn hear(&mut self) -> Value {
        serde_json::from_str(&self.hear_raw().await).unwrap()
    }

    /// Its own sender and color.
    async fn identity(&mut self) -> (String, u64) {
        self.say("{\"who\":1}").await;
        let message = self.hear().await;
        (
            message["sender"].as_str().unwrap().to_owned(),
            message["color"].as_u64().unwrap(),
        )
    }

    /// The code and reason of the close frame that comes next, and the end of the stream after it.
    async fn closed(&mut self) -> (u16, String) {
        let (first, payload) = loop {
            let frame = self.frame().await.expect("no close frame");
            if frame.0 == CLOSE {
                break frame;
            }
        };
        assert_eq!(first, CLOSE);
        assert_eq!(self.frame().await, None, "nothing comes after a close");
        let code = u16::from_be_bytes([payload[0], payload[1]]);
        (code, String::from_utf8(payload[2..].to_vec()).unwrap())
    }
}

fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = header(first, payload.len());
    bytes.extend(
        payload
            .iter()
            .zip(MASK.iter().cycle())
            .map(|(byte, key)| byte ^ key),
    );
    bytes
}

const MASK: [u8; 4] = [0xa1, 0x02, 0x73, 0xff];

fn header(first: u8, length: usize) -> Vec<u8> {
    let mut bytes = vec![first];
    if length <= 125 {
        bytes.push(0x80 | length as u8);
    } else if length <= 0xffff {
        bytes.push(0x80 | 126);
        bytes.extend((length as u16).to_be_bytes());
    } else {
        bytes.push(0x80 | 127);
        bytes.extend((length as u64).to_be_bytes());
    }
    bytes.extend(MASK);
    bytes
}

fn parse(bytes: &[u8]) -> Option<(u8, Vec<u8>, usize)> {
    let (start, length) = match *bytes.get(1)? {
        126 => (
            4,
            usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().unwrap())),
        ),
        127 => (
            10,
            u64::from_be_bytes(bytes.get(2..10)?.try_into().unwrap()) as usize,
        ),
        short => {
            assert!(short < 126, "a server does not mask");
            (2, usize::from(short))
        }
    };
    let payload = bytes.get(start..start + length)?.to_vec();
    Some((bytes[0], payload, start + length))
}

/// One HTTP exchange on a connection of its own: the whole head, and the body.
async fn http(addr: SocketAddr, request: &str) -> (String, String) {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    let request = format!("{request} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    soon(stream.read_to_string(&mut answer)).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}

async fn get(addr: SocketAddr, path: &str) -> (u16, String) {
    let (head, body) = http(addr, &format!("GET {path}")).await;
    (status(&head), body)
}

fn status(head: &str) -> u16 {
    head.split(' ').nth(1).unwrap().parse().unwrap()
}

// ---------------------------------------------------------------------------------------------
// Messages.

#[tokio::test]
async fn a_message_reaches_everyone_in_the_room_its_sender_included() {
    let node = node().await;
    let (mut a, mut b) = (node.open("/ws").await, node.open("/ws?room=lobby").await);
    let mut elsewhere = node.open("/ws?room=kitchen").await;
    a.say(
        "{\"x\":0.1000, \"n\":1e400,\"s\":\"\\ud800\",\"sender\":\"me\",\"x\":2,\"color\":\"red\"}",
    )
    .await;
    let text = a.hear_raw().await;
    assert_eq!(b.hear_raw().await, text);
    assert!(
        text.starts_with("{\"x\":0.1000,\"n\":1e400,\"s\":\"\\ud800\",\"x\":2,\"sender\":\""),
        "{text}"
    );
    elsewhere.say("{\"here\":1}").await;
    assert_eq!(elsewhere.hear().await["here"], 1);
}

#[tokio::test]
async fn sender_and_color_are_the_connections_own_and_stay() {
    let node = node().await;
    let mut seen = HashSet::new();
    for _ in 0..8 {
        let mut client = node.open("/ws").await;
        let (sender, color) = client.identity().await;
        assert_eq!(Uuid::parse_str(&sender).unwrap().get_version_num(), 4);
        assert!(color < 360);
        assert_eq!(client.identity().await, (sender.clone(), color));
        assert!(seen.insert(sender));
    }
}

#[tokio::test]
async fn a_binary_frame_that_holds_json_is_a_message() {
    let node = node().await;
    let mut a = node.open("/ws").await;
    a.send(BINARY, b"{\"x\":1}").await;
    assert_eq!(a.hear().await["x"], 1);
}

#[tokio::test]
async fn a_message_may_come_in_fragments_and_single_bytes() {
    let node = node().await;
    let mut a = node.open("/ws").await;
    let mut bytes = frame(0x01, "{\"x\":\"é".as_bytes());
    bytes.extend(frame(PING, b"now"));
    bytes.extend(frame(0x80, b"\"}"));
    for byte in bytes {
        a.send_bytes(&[byte]).await;
    }
    assert_eq!(a.frame().await.unwrap(), (PONG, b"now".to_vec()));
    assert_eq!(a.hear().await["x"], "é");
}

#[tokio::test]
async fn what_follows_the_handshake_in_the_same_packet_is_not_lost() {
    let node = node().await;
    let mut stream = TcpStream::connect(node.addr).await.unwrap();
    let mut bytes = b"GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        .to_vec();
    bytes.extend(frame(TEXT, b"{\"early\":1}"));
    stream.write_all(&bytes).await.unwrap();
    let mut received = Vec::new();
    while !received.windows(7).any(|window| window == b"\"early\"") {
        assert_ne!(soon(stream.read_buf(&mut received)).await.unwrap(), 0);
    }
}

#[tokio::test]
async fn order_holds_and_nothing_is_lost_for_those_who_read() {
    const MESSAGES: u64 = 3_000;
    let node = node().await;
    let mut readers = Vec::new();
    for _ in 0..4 {
        readers.push(node.open("/ws").await);
    }
    let mut senders = Vec::new();
    for _ in 0..3 {
        senders.push(node.open("/ws").await);
    }
    let reading: Vec<_> = readers
        .into_iter()
        .map(|mut reader| {
            tokio::spawn(async move {
                let mut next = std::collections::HashMap::new();
                for _ in 0..3 * MESSAGES {
                    let message = reader.hear().await;
                    let next = next
                        .entry(message["sender"].as_str().unwrap().to_owned())
                        .or_insert(0);
                    assert_eq!(message["n"].as_u64(), Some(*next));
                    *next += 1;
                }
                assert_eq!(next.len(), 3);
            })
        })
        .collect();
    for mut sender in senders {
        tokio::spawn(async move {
            for n in 0..MESSAGES {
                sender.say(&format!("{{\"n\":{n}}}")).await;
                if n % 50 == 0 {
                    sleep(Duration::from_millis(4)).await;
                }
            }
            while sender.frame().await.is_some() {}
        });
    }
    for reader in reading {
        reader.await.unwrap();
    }
}

#[tokio::test]
async fn a_client_that_writes_a_burst_before_it_reads_loses_nothing() {
    const MESSAGES: usize = 20_000;
    let node = node().await;
    let a = node.open("/ws").await;
    let (mut read, mut write) = a.stream.into_split();
    let writing = tokio::spawn(async move {
        for n in 0..MESSAGES {
            let text = format!("{{\"n\":{n},\"name\":\"someone\",\"x\":0.25,\"y\":0.75}}");
            write
                .write_all(&frame(TEXT, text.as_bytes()))
                .await
                .unwrap();
        }
        write
    });
    // Meanwhile echoes wait that are more than any buffer holds.
    sleep(Duration::from_millis(300)).await;
    let mut received = Vec::new();
    let mut at = 0;
    for n in 0..MESSAGES {
        let payload = loop {
            if let Some((_, payload, length)) = parse(&received[at..]) {
                at += length;
                break payload;
            }
            received.drain(..at);
            at = 0;
            assert_ne!(soon(read.read_buf(&mut received)).await.unwrap(), 0);
        };
        let message: Value = serde_json::from_slice(&payload).unwrap();
        assert_eq!(message["n"].as_u64(), Some(n as u64));
    }
    writing.await.unwrap();
}

// ---------------------------------------------------------------------------------------------
// Hostile input.

#[tokio::test]
async fn what_is_no_json_object_is_dropped_and_counted_and_the_connection_stays() {
    let node = node().await;
    let (mut a, mut b) = (node.open("/ws").await, node.open("/ws").await);
    let deep = format!("{{\"x\":{}{}}}", "[".repeat(128), "]".repeat(128));
    let texts = [
        "",
        " ",
        "null",
        "[]",
        "1",
        "\"x\"",
        "{",
        "{\"x\":1}}",
        "{'x':1}",
        "\u{feff}{}",
        &deep,
        "{\"x\":NaN}",
    ];
    for text in texts {
        a.say(text).await;
        a.send(BINARY, text.as_bytes()).await;
    }
    a.say("{\"end\":1}").await;
    assert_eq!(a.hear().await["end"], 1);
    assert_eq!(b.hear().await["end"], 1);
    let dropped = &node.hub.metrics().messages_dropped;
    assert_eq!(dropped.empty.get(), 4);
    assert_eq!(dropped.not_object.get(), 8);
    assert_eq!(dropped.malformed.get(), 10);
    assert_eq!(dropped.too_deep.get(), 2);
}

#[tokio::test]
async fn each_violation_closes_with_its_code_and_nobody_else_notices() {
    let node = node().await;
    let mut bystander = node.open("/ws").await;
    let unmasked = [&[0x81, 0x02], &b"{}"[..]].concat();
    let oversized_fragments = [
        frame(0x01, &[b' '; 60_000]),
        frame(0x00, &[b' '; 5_536]),
        header(0x80, 1),
    ]
    .concat();
    let cases: Vec<(&str, Vec<u8>, u16)> = vec![
        (
            "text that is not UTF-8",
            frame(TEXT, b"{\"x\":\"\xff\"}"),
            1007,
        ),
        (
            "text cut off inside a character",
            frame(TEXT, b"{\"x\":\"\xc3"),
            1007,
        ),
        (
            "a surrogate in UTF-8",
            frame(TEXT, b"\"\xed\xa0\x80\""),
            1007,
        ),
        (
            "a binary message that is not UTF-8",
            frame(BINARY, b"\xff\xfe"),
            1007,
        ),
        ("the first fragment of bad text", frame(0x01, b"\xff"), 1007),
        ("an unmasked frame", unmasked, 1002),
        ("a reserved bit", frame(0xc1, b"{}"), 1002),
        ("a reserved opcode", frame(0x83, b"{}"), 1002),
        ("a fragmented ping", frame(0x09, b""), 1002),
        ("a long ping", header(PING, 126), 1002),
        ("a continuation of nothing", frame(0x80, b"{}"), 1002),
        (
            "a message inside a message",
            [frame(0x01, b"{"), frame(TEXT, b"{}")].concat(),
            1002,
        ),
        ("a close with one byte", frame(CLOSE, &[3]), 1002),
        (
            "a close with a reserved code",
            frame(CLOSE, &1005u16.to_be_bytes()),
            1002,
        ),
        (
            "an announced message above the limit",
            header(TEXT, 65_537),
            1009,
        ),
        (
            "an announced message of exabytes",
            [&[TEXT, 0xff, 0x7f][..], &[0xff; 7], &MASK].concat(),
            1009,
        ),
        (
            "fragments that add up to more than the limit",
            oversized_fragments,
            1009,
        ),
    ];
    for (what, bytes, code) in cases {
        let mut client = node.open("/ws").await;
        client.say("{\"before\":1}").await;
        client.send_bytes(&bytes).await;
        let (closed, reason) = client.closed().await;
        assert_eq!(closed, code, "{what}");
        assert!(!reason.is_empty(), "{what}");
        assert_eq!(bystander.hear().await["before"], 1, "{what}");
        assert_eq!(bystander.hear().await["left"], true, "{what}");
    }
    bystander.say("{\"end\":1}").await;
    assert_eq!(bystander.hear().await["end"], 1);
}

#[tokio::test]
async fn a_message_at_the_limit_passes() {
    let node = node().await;
    let mut a = node.open("/ws").await;
    let text = format!("{{\"x\":\"{}\"}}", "y".repeat(65_536 - 8));
    assert_eq!(text.len(), 65_536);
    a.say(&text).await;
    assert_eq!(a.hear().await["x"].as_str().unwrap().len(), 65_528);
}

#[tokio::test]
async fn random_bytes_harm_nobody() {
    let node = node().await;
    let mut bystander = node.open("/ws").await;
    let mut seed = 0x9e37_79b9_7f4a_7c15u64;
    for _ in 0..50 {
        let mut client = node.open("/ws").await;
        let mut bytes = Vec::new();
        for _ in 0..200 {
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            bytes.extend_from_slice(&seed.to_be_bytes());
        }
        // The node may have closed before all is written.
        let _ = client.stream.write_all(&bytes).await;
        while client.frame().await.is_some() {}
    }
    bystander.say("{\"end\":1}").await;
    assert_eq!(bystander.hear().await["end"], 1);
}

#[tokio::test]
async fn a_flood_of_pings_from_a_client_that_does_not_read_is_bounded() {
    let node = node().await;
    let mut flooder = node.open("/ws").await;
    let burst = frame(PING, &[b'p'; 125]).repeat(400);
    let flooding = async {
        for _ in 0..100 {
            flooder.send_bytes(&burst).await;
        }
    };
    let _ = timeout(Duration::from_secs(3), flooding).await;
    assert!(
        node.metric("cursormesh_backlog_bytes{what=\"output\"}")
            .await
            < 1024 * 1024
    );
    let mut other = node.open("/ws").await;
    other.say("{\"ok\":1}").await;
    assert_eq!(other.hear().await["ok"], 1);
}

#[tokio::test]
async fn who_never_reads_slows_nobody() {
    let node = node().await;
    let mut asleep = Vec::new();
    for _ in 0..50 {
        asleep.push(node.open("/ws").await);
    }
    let (mut sender, mut reader) = (node.open("/ws").await, node.open("/ws").await);
    let padding = "p".repeat(16_000);
    for n in 0..120 {
        sender
            .say(&format!("{{\"n\":{n},\"p\":\"{padding}\"}}"))
            .await;
        let sent = Instant::now();
        assert_eq!(reader.hear().await["n"], n);
        assert!(sent.elapsed() < Duration::from_secs(2));
        assert_eq!(sender.hear().await["n"], n);
    }
    assert!(
        node.hub.metrics().outbox_lags.get() >= 50,
        "{}",
        node.hub.metrics().outbox_lags.get()
    );
    assert!(
        node.metric("cursormesh_backlog_bytes{what=\"output\"}")
            .await
            < 1024 * 1024
    );

    // One that wakes up reads what it has, and then what is newest, with gaps but in order.
    let mut woken = asleep.pop().unwrap();
    let mut last = -1;
    while last < 119 {
        let n = woken.hear().await["n"].as_i64().unwrap();
        assert!(n > last);
        last = n;
    }
}

#[tokio::test]
async fn who_never_reads_but_writes_is_heard_by_all_others() {
    let node = node().await;
    let (mut deaf, mut reader) = (node.open("/ws").await, node.open("/ws").await);
    let writing = tokio::spawn(async move {
        for n in 0..4_000 {
            deaf.say(&format!("{{\"n\":{n},\"p\":\"{}\"}}", "p".repeat(300)))
                .await;
        }
        deaf
    });
    for n in 0..4_000 {
        assert_eq!(reader.hear().await["n"], n);
    }
    drop(writing.await.unwrap());
    assert_eq!(reader.hear().await["left"], true);
}

// ---------------------------------------------------------------------------------------------
// Leaving.

#[tokio::test]
async fn a_cursor_goes_when_its_connection_goes() {
    let node = node().await;
    let mut reader = node.open("/ws").await;
    for ending in ["close", "end", "reset"] {
        let mut client = node.open("/ws").await;
        let (sender, color) = client.identity().await;
        reader.hear().await;
        match ending {
            "close" => {
                client.send(CLOSE, &[0x0f, 0xa0, b'x']).await;
                assert_eq!(
                    client.frame().await,
                    Some((CLOSE, vec![0x0f, 0xa0])),
                    "the code comes back"
                );
                assert_eq!(client.frame().await, None);
            }
            "end" => drop(client),
            _ => {
                client.stream.set_zero_linger().unwrap();
                drop(client);
            }
        }
        let expected =
            format!(r#"{{"x":-10000,"y":-10000,"left":true,"sender":"{sender}","color":{color}}}"#);
        assert_eq!(reader.hear_raw().await, expected, "{ending}");
    }
    reader.say("{\"end\":1}").await;
    assert_eq!(reader.hear().await["end"], 1, "each was told once");
}

#[tokio::test]
async fn a_close_without_a_code_is_answered_without_one() {
    let node = node().await;
    let mut client = node.open("/ws").await;
    client.send(CLOSE, b"").await;
    assert_eq!(client.frame().await, Some((CLOSE, Vec::new())));
    assert_eq!(client.frame().await, None);
}

#[tokio::test]
async fn the_cluster_hears_of_members_and_messages_and_is_heard() {
    let mut node = node().await;
    let mut client = node.open("/ws?room=caf%C3%A9").await;
    client.say("{\"x\":1}").await;
    let text = client.hear_raw().await;
    let mut told = Vec::new();
    for _ in 0..3 {
        told.push(soon(node.outbound.recv()).await.unwrap());
    }
    let [
        Outbound::Interest { room, wanted: true },
        Outbound::Join(member),
        Outbound::Messages { items, .. },
    ] = &told[..]
    else {
        panic!("{told:?}")
    };
    assert_eq!(room, "café");
    assert_eq!(items[..], [(member.id, Bytes::from(text))]);

    let far = Uuid::from_u128(5);
    let far_text = Bytes::from(format!(r#"{{"y":2,"sender":"{far}","color":77}}"#));
    node.hub.deliver("café", vec![(far, far_text.clone())]);
    assert_eq!(client.hear_raw().await, far_text);
    node.hub.left("café", far, LeaveReason::NodeLost);
    assert_eq!(
        client.hear_raw().await,
        format!(r#"{{"x":-10000,"y":-10000,"left":true,"sender":"{far}","color":77}}"#)
    );

    let id = member.id;
    drop(client);
    let left = soon(node.outbound.recv()).await.unwrap();
    assert!(
        matches!(left, Outbound::Leave { member, reason: LeaveReason::Closed } if member == id),
        "{left:?}"
    );
}

#[tokio::test]
async fn who_is_silent_is_pinged_and_then_closed() {
    let mut node = node_with(Config {
        ping_interval: Duration::from_millis(200),
        dead_after: Duration::from_millis(600),
        ..config()
    })
    .await;
    let (mut silent, mut alive) = (node.open("/ws").await, node.open("/ws").await);
    let answering = tokio::spawn(async move {
        for _ in 0..6 {
            assert_eq!(alive.frame().await, Some((PING, Vec::new())));
            alive.send(PONG, b"").await;
        }
        alive
    });
    assert_eq!(silent.frame().await, Some((PING, Vec::new())));
    assert_eq!(silent.closed().await.0, 1001);
    let reason = loop {
        if let Outbound::Leave { reason, .. } = soon(node.outbound.recv()).await.unwrap() {
            break reason;
        }
    };
    assert_eq!(reason, LeaveReason::TimedOut);
    let mut alive = answering.await.unwrap();
    alive.say("{\"x\":1}").await;
    assert_eq!(alive.hear().await["x"], 1);
}

#[tokio::test]
async fn a_shutdown_closes_every_connection_with_1012() {
    let mut node = node().await;
    let mut clients = Vec::new();
    for _ in 0..20 {
        clients.push(node.open("/ws").await);
    }
    let mut idle = TcpStream::connect(node.addr).await.unwrap();
    idle.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .unwrap();
    let _never_answers = node.open("/ws").await;
    node.stop.take().unwrap().send(()).unwrap();
    for mut client in clients {
        let (code, reason) = client.closed().await;
        assert_eq!(code, 1012);
        assert_eq!(reason, "node is shutting down");
    }
    let mut rest = Vec::new();
    soon(idle.read_to_end(&mut rest)).await.unwrap();
    let started = Instant::now();
    soon(&mut node.running).await.unwrap();
    assert!(started.elapsed() < Duration::from_secs(3));
    assert!(TcpStream::connect(node.addr).await.is_err());
    let mut left = 0;
    while left < 21 {
        if let Outbound::Leave { .. } = soon(node.outbound.recv()).await.unwrap() {
            left += 1;
        }
    }
}

// ---------------------------------------------------------------------------------------------
// The edge.

#[tokio::test]
async fn headers_that_do_not_come_are_not_waited_for() {
    let node = node_with(Config {
        header_timeout: Duration::from_millis(300),
        ..config()
    })
    .await;
    for start in [
        "",
        "GET / HTTP/1.1\r\nHo",
        "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n",
    ] {
        let mut stream = TcpStream::connect(node.addr).await.unwrap();
        stream.write_all(start.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        soon(stream.read_to_end(&mut answer)).await.unwrap();
    }
}

#[tokio::test]
async fn above_the_connection_limit_clients_wait_their_turn() {
    let node = node_with(Config {
        connections_max: 2,
        ..config()
    })
    .await;
    let first = node.open("/ws").await;
    let mut second = node.open("/ws").await;
    let addr = node.addr;
    let third = tokio::spawn(async move { Client::open(addr, "/ws").await });
    second.say("{\"x\":1}").await;
    second.hear().await;
    sleep(Duration::from_millis(50)).await;
    assert!(!third.is_finished());
    drop(first);
    soon(third).await.unwrap();
}

#[tokio::test]
async fn several_addresses_are_served_alike() {
    let listen = vec![
        SocketAddr::from(([127, 0, 0, 1], 0)),
        SocketAddr::from(([127, 0, 0, 1], 0)),
    ];
    let config = Config {
        listen,
        connections_max: 1,
        ..config()
    };
    let (sender, _outbound) = mpsc::channel(16);
    let cluster = Arc::new(Cluster {
        ready: AtomicBool::new(true),
    });
    let hub = Hub::new(&config, cluster.clone(), sender);
    let server = Server::bind(config, hub, cluster).unwrap();
    let addrs = server.local_addrs();
    tokio::spawn(server.run(std::future::pending()));
    for _ in 0..3 {
        for addr in &addrs {
            assert_eq!(get(*addr, "/healthz").await, (200, "ok\n".into()));
        }
    }
}

#[tokio::test]
async fn an_address_in_use_is_named() {
    let node = node().await;
    let config = Config {
        listen: vec![node.addr],
        ..config()
    };
    let error = Server::bind(config, node.hub.clone(), node.cluster.clone())
        .err()
        .unwrap();
    assert!(
        error.to_string().contains(&node.addr.to_string()),
        "{error}"
    );
    assert!(error.to_string().contains("in use"), "{error}");
    assert_eq!(error.source.kind(), std::io::ErrorKind::AddrInUse);
}

#[tokio::test]
async fn an_upgrade_that_cannot_be_is_explained() {
    let node = node().await;
    let (head, body) = http(
        node.addr,
        "GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: h2c\r\nX:",
    )
    .await;
    assert_eq!(status(&head), 426);
    assert!(head.contains("upgrade: websocket"), "{head}");
    assert!(body.contains("WebSocket"), "{body}");
    // Without a wish to upgrade it is SockJS that answers.
    let (head, body) = http(node.addr, "GET /ws").await;
    assert_eq!(
        (status(&head), body.as_str()),
        (200, "Welcome to SockJS!\n")
    );
    for query in ["room=", "room=%00", "room=%ff", "room=%G0"] {
        let request = format!(
            "GET /ws?{query} HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade, close\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nX: y"
        );
        let (head, body) = http(
            node.addr,
            &request
                .replacen(" HTTP/1.1", " HTTP/1.1\r\nHost: y", 1)
                .replace("\r\nX: y", "\r\nX:"),
        )
        .await;
        assert_eq!(status(&head), 400, "{query}");
        assert!(body.contains("room's name"), "{body}");
    }
    let long = "x".repeat(201);
    let (head, _) = http(node.addr, &format!("POST /ws?room={long}")).await;
    assert_eq!(status(&head), 405);
}

#[tokio::test]
async fn the_page_is_served_and_revalidated() {
    let node = node().await;
    let (head, body) = http(node.addr, "GET /").await;
    assert_eq!(status(&head), 200);
    assert!(
        head.contains("content-type: text/html; charset=utf-8"),
        "{head}"
    );
    assert!(body.contains("<html"), "{body}");
    let tag = head
        .lines()
        .find_map(|line| line.strip_prefix("etag: "))
        .unwrap();
    let mut stream = TcpStream::connect(node.addr).await.unwrap();
    let request =
        format!("GET / HTTP/1.1\r\nHost: x\r\nIf-None-Match: {tag}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    soon(stream.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 304 "), "{answer}");
    assert!(answer.ends_with("\r\n\r\n"), "{answer}");
}

#[tokio::test]
async fn head_is_get_without_a_body() {
    let node = node().await;
    for path in [
        "/",
        "/tutorial",
        "/demo/demo.mjs",
        "/demo/demo.css",
        "/demo/icon.svg",
        "/cursormesh.js",
        "/cursormesh.mjs",
        "/cursormesh-sockjs.mjs",
        "/cursormesh-nearest.mjs",
        "/v1/nodes",
        "/healthz",
        "/readyz",
        "/metrics",
        "/api/rooms",
        "/api/cluster",
    ] {
        let (head, body) = http(node.addr, &format!("HEAD {path}")).await;
        assert_eq!(status(&head), 200, "{path}");
        assert!(head.contains("content-length: "), "{head}");
        assert_eq!(body, "", "{path}");
    }
}

#[tokio::test]
async fn health_readiness_and_metrics_are_told() {
    let node = node().await;
    assert_eq!(get(node.addr, "/healthz").await, (200, "ok\n".into()));
    assert_eq!(get(node.addr, "/readyz").await, (200, "ready\n".into()));
    node.cluster.ready.store(false, Ordering::SeqCst);
    assert_eq!(
        get(node.addr, "/readyz").await,
        (503, "no peer yet\n".into())
    );
    let _client = node.open("/ws").await;
    eventually(|| node.hub.metrics().connections.get() == 1).await;
    let (_, metrics) = get(node.addr, "/metrics").await;
    assert!(
        metrics.contains("\ncursormesh_connections 1\n"),
        "{metrics}"
    );
    assert!(
        metrics.ends_with("cursormesh_peers 2\n"),
        "the rest of the node's metrics are there too"
    );
}

#[tokio::test]
async fn the_api_answers_in_json() {
    let node = node().await;
    let json = |body: &str| serde_json::from_str::<Value>(body).unwrap();
    let (_, body) = get(node.addr, "/api/rooms").await;
    assert_eq!(
        json(&body),
        json!({"rooms": [{"room": "lobby", "count": 2}, {"room": "a b", "count": 1}]})
    );
    let (_, body) = get(node.addr, "/api/rooms/caf%C3%A9%2Fau%20lait/members").await;
    let member = json!({
        "id": Uuid::from_u128(7), "user": {"id": "u", "name": "Ada", "color": 9}, "state": {"n": 1.0},
        "node": "n2", "joined_at": 5, "away": false
    });
    assert_eq!(
        json(&body),
        json!({"room": "café/au lait", "count": 1, "members": [member]})
    );
    assert!(
        body.contains("{\"n\":1.0}"),
        "the state is as it was written: {body}"
    );
    let (status, body) = get(node.addr, "/api/rooms/empty/members").await;
    assert_eq!(
        (status, json(&body)),
        (200, json!({"room": "empty", "count": 0, "members": []}))
    );
    let (_, body) = get(node.addr, "/api/rooms/100%2525/members").await;
    assert_eq!(json(&body)["room"], "100%25", "decoded once");
    let (_, body) = http(node.addr, "DELETE /api/rooms").await;
    assert!(json(&body)["error"].is_string());
    let (_, body) = get(node.addr, "/api/cluster").await;
    assert_eq!(json(&body)["node"], "n1");
    let (status, body) = get(node.addr, "/api/rooms/%ff/members").await;
    assert_eq!(status, 400);
    assert!(json(&body)["error"].is_string());
    let (status, body) = get(node.addr, "/api/nothing").await;
    assert_eq!(status, 404);
    assert!(json(&body)["error"].is_string());
}

#[tokio::test]
async fn unknown_paths_and_methods_are_refused_clearly() {
    let node = node().await;
    for path in ["/nothing", "/ws/x", "/healthz/x", "/../etc/passwd"] {
        assert_eq!(get(node.addr, path).await.0, 404, "{path}");
    }
    for path in ["/", "/healthz", "/v1/nodes", "/api/rooms"] {
        let (head, _) = http(node.addr, &format!("POST {path}")).await;
        assert_eq!(status(&head), 405, "{path}");
        assert!(head.contains("allow: GET, HEAD"), "{head}");
    }
}
