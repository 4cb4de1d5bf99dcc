//! What clients that never read cost the process, in a process of its own.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cursormesh_web::cluster::{Directory, Member, NodeSummary, Outbound, RoomSummary};
use cursormesh_web::{Config, Hub, Server};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};
use uuid::Uuid;

/// What 1,000 clients may cost.
const GROWTH_BYTES_MAX: u64 = 64 * 1024 * 1024;

struct Alone;

impl Directory for Alone {
    fn node(&self) -> String {
        "n1".into()
    }
    fn rooms(&self, _: usize) -> Vec<RoomSummary> {
        Vec::new()
    }
    fn members(&self, _: &str) -> Vec<Member> {
        Vec::new()
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
    fn cluster(&self) -> serde_json::Value {
        serde_json::Value::Null
    }
    fn ready(&self) -> Result<(), String> {
        Ok(())
    }
    fn metrics(&self) -> String {
        String::new()
    }
}

fn node() -> (SocketAddr, Hub) {
    let (addr, hub, mut outbound) = node_and_cluster();
    tokio::spawn(async move { while outbound.recv().await.is_some() {} });
    (addr, hub)
}

/// A node, and what it tells the rest of the cluster.
fn node_and_cluster() -> (SocketAddr, Hub, mpsc::Receiver<Outbound>) {
    let config = Config {
        listen: vec![SocketAddr::from(([127, 0, 0, 1], 0))],
        ..Config::default()
    };
    let (sender, outbound) = mpsc::channel(1024);
    let hub = Hub::new(&config, Arc::new(Alone), sender);
    let server = Server::bind(config, hub.clone(), Arc::new(Alone)).unwrap();
    let addr = server.local_addrs()[0];
    tokio::spawn(server.run(std::future::pending()));
    (addr, hub, outbound)
}

async fn open(addr: SocketAddr, room: &str) -> TcpStream {
    let stream = TcpStream::connect(addr).await.unwrap();
    upgrade(stream, room).await
}

/// Like [`open`], and the kernel keeps little for it.
async fn open_small(addr: SocketAddr, room: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    upgrade(socket.connect(addr).await.unwrap(), room).await
}

async fn upgrade(mut stream: TcpStream, room: &str) -> TcpStream {
    let request = format!(
        "GET /ws?room={room} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    stream
}

/// A message of `length` bytes, with a mask of zeros.
fn frame(length: usize) -> Vec<u8> {
    let text = format!("{{\"x\":\"{}\"}}", "p".repeat(length - 8));
    let mut bytes = vec![0x81, 0x80 | 126];
    bytes.extend((text.len() as u16).to_be_bytes());
    bytes.extend([0; 4]);
    bytes.extend(text.as_bytes());
    bytes
}

/// As many clients as the limit on open files allows, 1,000 at most.
fn clients() -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap();
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max open files"))
        .unwrap();
    let soft = line
        .split_whitespace()
        .nth(3)
        .unwrap()
        .parse::<usize>()
        .unwrap_or(usize::MAX);
    1000.min((soft - 100) / 2)
}

/// Resident memory of this process.
fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap();
    line.split_whitespace()
        .nth(1)
        .unwrap()
        .parse::<u64>()
        .unwrap()
        * 1024
}

fn assert_growth(before: u64, after: u64, allowed: u64) {
    let growth = after.saturating_sub(before);
    assert!(growth <= allowed, "{growth} bytes, more than {allowed}");
}

/// Reads all it is sent; gives how many bytes came, `enough` or what came before a long silence.
fn read_all(mut stream: TcpStream, enough: u64) -> tokio::task::JoinHandle<u64> {
    tokio::spawn(async move {
        let mut buffer = vec![0; 64 * 1024];
        let mut count = 0;
        while count < enough {
            match timeout(Duration::from_secs(20), stream.read(&mut buffer)).await {
                Ok(Ok(bytes)) if bytes > 0 => count += bytes as u64,
                _ => break,
            }
        }
        count
    })
}

#[tokio::test]
async fn a_room_full_of_clients_that_never_read() {
    let (addr, hub) = node();
    let mut sender = open(addr, "lobby").await;
    let clients = clients();
    let before = resident_bytes();
    let mut asleep = Vec::new();
    for _ in 0..clients {
        asleep.push(open_small(addr, "lobby").await);
    }
    let message = frame(8_000);
    let mut echo = vec![0; 64 * 1024];
    let deadline = Instant::now() + Duration::from_secs(60);
    while hub.metrics().outbox_lags.get() < clients as u64 {
        sender.write_all(&message).await.unwrap();
        let _ = sender.try_read(&mut echo);
        sleep(Duration::from_millis(1)).await;
        assert!(
            Instant::now() < deadline,
            "not all lag: {}",
            hub.metrics().outbox_lags.get()
        );
    }
    let allowed = GROWTH_BYTES_MAX / 1000 * clients as u64;
    assert_growth(before, resident_bytes(), allowed);
    assert_eq!(hub.metrics().backlog_closes.get(), 0);
}

#[tokio::test]
async fn a_room_each_for_clients_that_never_read() {
    const READERS: usize = 20;
    const ROUNDS: usize = 16;
    let (addr, hub) = node();
    let clients = clients();
    let before = resident_bytes();
    let mut asleep = Vec::new();
    for room in READERS..READERS + clients {
        asleep.push(open_small(addr, &format!("r{room}")).await);
    }
    let text = Bytes::from(format!("{{\"x\":\"{}\"}}", "p".repeat(60_000)));
    let enough = (ROUNDS * (text.len() + 4)) as u64;
    let mut readers = Vec::new();
    for room in 0..READERS {
        readers.push(read_all(open(addr, &format!("r{room}")).await, enough));
    }
    let mut peak = 0;
    for _ in 0..ROUNDS {
        // Nothing is shared between rooms.
        for room in 0..READERS + clients {
            let sender = Uuid::from_u128(room as u128);
            hub.deliver(&format!("r{room}"), vec![(sender, text.clone())]);
            if room % 100 == 0 {
                peak = peak.max(resident_bytes());
                tokio::task::yield_now().await;
            }
        }
        // Longer than a tick: what waits in outboxes is measured, not what waits for a flush.
        sleep(Duration::from_millis(20)).await;
        peak = peak.max(resident_bytes());
    }
    assert_growth(before, peak, GROWTH_BYTES_MAX);
    assert!(
        hub.metrics().backlog_closes.get() > 0,
        "too little was sent"
    );
    for reader in readers {
        assert_eq!(reader.await.unwrap(), enough, "who reads gets everything");
    }
}

#[tokio::test]
async fn clients_that_do_not_finish_what_they_say() {
    let (addr, hub) = node();
    let clients = clients();
    let before = resident_bytes();
    let whole = frame(65_000);
    let mut unfinished = Vec::new();
    let mut peak = 0;
    for room in 0..clients {
        let mut stream = open(addr, &format!("r{room}")).await;
        stream.write_all(&whole[..64_900]).await.unwrap();
        unfinished.push(stream);
        peak = peak.max(resident_bytes());
        if room % 100 == 99 {
            let mut reader = open(addr, "lobby").await;
            reader.write_all(&whole).await.unwrap();
            let mut echo = vec![0; whole.len()];
            reader.read_exact(&mut echo).await.unwrap();
        }
    }
    assert_growth(before, peak, GROWTH_BYTES_MAX);
    let metrics = hub.metrics();
    assert!(metrics.backlog_closes.get() > 0, "too little was sent");
    let closed = timeout(Duration::from_secs(10), async {
        let mut frame = Vec::new();
        unfinished[0].read_to_end(&mut frame).await.map(|_| frame)
    });
    let reason = b"message was not finished in time";
    let close = [&[0x88, 34, 0x03, 0xf0], &reason[..]].concat();
    assert_eq!(closed.await.unwrap().unwrap(), close);
    // What is kept goes with who is gone.
    drop(unfinished);
    timeout(Duration::from_secs(10), async {
        while metrics.connections.get() > 0 || metrics.input_bytes.get() > 0 {
            sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn what_clients_say_while_the_cluster_takes_nothing() {
    const SENDERS: usize = 300;
    const MESSAGES: usize = 4;
    const SAID_BYTES_MAX: u64 = 12 * 1024 * 1024;
    let (addr, hub, mut outbound) = node_and_cluster();
    let metrics = hub.metrics();
    let whole = frame(60_000);
    let mut senders = Vec::new();
    for room in 0..SENDERS {
        let mut stream = open(addr, &format!("r{room}")).await;
        let whole = whole.clone();
        senders.push(tokio::spawn(async move {
            for _ in 0..MESSAGES {
                stream.write_all(&whole).await.unwrap();
            }
            read_all(stream, (MESSAGES * whole.len()) as u64).await
        }));
    }
    let deadline = Instant::now() + Duration::from_secs(20);
    while metrics.said_bytes.get() <= SAID_BYTES_MAX {
        assert!(Instant::now() < deadline, "too little was sent");
        sleep(Duration::from_millis(5)).await;
    }
    // Some of what was begun by then is finished; nothing else is read, however long it takes.
    for _ in 0..50 {
        sleep(Duration::from_millis(5)).await;
        assert!(metrics.said_bytes.get() <= SAID_BYTES_MAX / 2 * 3 + 128 * 1024);
    }
    let mut arrived = 0;
    while arrived < SENDERS * MESSAGES {
        let said = timeout(Duration::from_secs(20), outbound.recv()).await;
        if let Outbound::Messages { items, .. } = said.unwrap().unwrap() {
            arrived += items.len();
        }
    }
    assert_eq!(metrics.messages_in.get(), (SENDERS * MESSAGES) as u64);
    for sender in senders {
        assert!(sender.await.unwrap().unwrap() >= (MESSAGES * whole.len()) as u64);
    }
}
