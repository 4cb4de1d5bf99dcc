//! What clients that never read cost the process, in a process of its own.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cursormesh_web::cluster::{Directory, Member, NodeSummary, RoomSummary};
use cursormesh_web::{Config, Hub, Server};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

/// What 1,000 clients may cost.
const BYTES_PER_CLIENT_MAX: u64 = 64 * 1024 * 1024 / 1000;

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
    let config = Config {
        listen: vec![SocketAddr::from(([127, 0, 0, 1], 0))],
        ..Config::default()
    };
    let (sender, mut outbound) = mpsc::channel(1024);
    tokio::spawn(async move { while outbound.recv().await.is_some() {} });
    let hub = Hub::new(&config, Arc::new(Alone), sender);
    let server = Server::bind(config, hub.clone(), Arc::new(Alone)).unwrap();
    let addr = server.local_addrs()[0];
    tokio::spawn(server.run(std::future::pending()));
    (addr, hub)
}

async fn open(addr: SocketAddr, room: &str) -> TcpStream {
    let mut stream = TcpStream::connect(addr).await.unwrap();
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

fn assert_growth(before: u64, clients: usize, what: &str) {
    let growth = resident_bytes().saturating_sub(before);
    let allowed = BYTES_PER_CLIENT_MAX * clients as u64;
    assert!(
        growth <= allowed,
        "{clients} {what} cost {growth} bytes, more than {allowed}"
    );
}

#[tokio::test]
async fn a_room_full_of_clients_that_never_read() {
    let (addr, hub) = node();
    let mut sender = open(addr, "lobby").await;
    let clients = clients();
    let before = resident_bytes();
    let mut asleep = Vec::new();
    for _ in 0..clients {
        asleep.push(open(addr, "lobby").await);
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
    assert_growth(before, clients, "clients in one room");
}

#[tokio::test]
async fn a_room_each_for_clients_that_never_read() {
    let (addr, hub) = node();
    let clients = clients();
    let before = resident_bytes();
    let mut asleep = Vec::new();
    for room in 0..clients {
        asleep.push(open(addr, &format!("r{room}")).await);
    }
    let deadline = Instant::now() + Duration::from_secs(60);
    // Nothing is shared between rooms.
    while hub.metrics().outbox_lags.get() < clients as u64 {
        for room in 0..clients {
            let text = Bytes::from(format!("{{\"x\":\"{}\"}}", "p".repeat(8_000)));
            hub.deliver(
                &format!("r{room}"),
                vec![(Uuid::from_u128(room as u128), text)],
            );
        }
        // Longer than a tick: what waits in outboxes is measured, not what waits for a flush.
        sleep(Duration::from_millis(20)).await;
        assert!(
            Instant::now() < deadline,
            "not all lag: {}",
            hub.metrics().outbox_lags.get()
        );
    }
    assert_growth(before, clients, "clients in rooms of their own");
}
