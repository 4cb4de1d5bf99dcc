//! Browsers served over TLS.
#![allow(missing_docs, clippy::unwrap_used)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use cursormesh_web::harness::Alone;
use cursormesh_web::tls::{Tls, TlsError};
use cursormesh_web::{Config, Hub, Server};
use futures_util::{SinkExt, StreamExt};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

type Client = WebSocketStream<TlsStream<TcpStream>>;

struct Node {
    addr: SocketAddr,
    trust: Arc<ClientConfig>,
    stop: oneshot::Sender<()>,
}

fn node() -> Node {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let (chain, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    let config = Config {
        listen: vec![SocketAddr::from(([127, 0, 0, 1], 0))],
        tls: Some(Tls::from_pem(chain.as_bytes(), key.as_bytes()).unwrap()),
        ..Config::default()
    };
    let hub = Hub::new(&config, Arc::new(Alone), Alone);
    let server = Server::bind(config, hub, Arc::new(Alone)).unwrap();
    let addr = server.local_addrs()[0];
    let (stop, stopped) = oneshot::channel();
    tokio::spawn(server.run(async {
        let _ = stopped.await;
    }));
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let trust = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Node {
        addr,
        trust: Arc::new(trust),
        stop,
    }
}

async fn open(node: &Node) -> Client {
    let stream = TcpStream::connect(node.addr).await.unwrap();
    let name = ServerName::IpAddress(node.addr.ip().into());
    let stream = TlsConnector::from(node.trust.clone())
        .connect(name, stream)
        .await
        .unwrap();
    let url = format!("wss://{}/ws", node.addr);
    tokio_tungstenite::client_async(url, stream)
        .await
        .unwrap()
        .0
}

async fn hears(client: &mut Client) -> Message {
    timeout(Duration::from_secs(10), client.next())
        .await
        .unwrap()
        .unwrap()
        .unwrap()
}

async fn hears_number(client: &mut Client) -> usize {
    let text = hears(client).await.into_text().unwrap();
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    value["n"].as_u64().unwrap() as usize
}

#[tokio::test]
async fn messages_of_any_size_go_both_ways_in_order() {
    let node = node();
    let (mut a, mut b) = (open(&node).await, open(&node).await);
    let pad = "x".repeat(3_000);
    for n in 0..200 {
        a.send(Message::text(format!(r#"{{"n":{n},"pad":"{pad}"}}"#)))
            .await
            .unwrap();
        assert_eq!(hears_number(&mut a).await, n);
        assert_eq!(hears_number(&mut b).await, n);
    }
}

#[tokio::test]
async fn who_does_not_read_gets_whole_messages_up_to_the_newest_later() {
    let node = node();
    let (mut a, mut slow) = (open(&node).await, open(&node).await);
    let pad = "x".repeat(30_000);
    for n in 0..500 {
        a.send(Message::text(format!(r#"{{"n":{n},"pad":"{pad}"}}"#)))
            .await
            .unwrap();
        assert_eq!(hears_number(&mut a).await, n);
    }
    let (mut last, mut count) = (None, 0);
    while last != Some(499) {
        let number = hears_number(&mut slow).await;
        assert!(last.is_none_or(|last| number > last));
        (last, count) = (Some(number), count + 1);
    }
    assert!(count < 500, "15 MB did not wait for it");
}

#[tokio::test]
async fn who_speaks_no_tls_costs_only_itself() {
    let node = node();
    let mut plain = TcpStream::connect(node.addr).await.unwrap();
    plain
        .write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .unwrap();
    let mut answer = Vec::new();
    timeout(Duration::from_secs(10), plain.read_to_end(&mut answer))
        .await
        .unwrap()
        .unwrap();
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
    let mut client = open(&node).await;
    client.send(Message::text(r#"{"n":1}"#)).await.unwrap();
    assert_eq!(hears_number(&mut client).await, 1);
}

#[tokio::test]
async fn a_node_that_stops_says_so_and_ends_the_stream() {
    let node = node();
    let mut client = open(&node).await;
    client.send(Message::text(r#"{"n":1}"#)).await.unwrap();
    assert_eq!(hears_number(&mut client).await, 1);
    node.stop.send(()).unwrap();
    let Message::Close(Some(close)) = hears(&mut client).await else {
        panic!("no close frame");
    };
    assert_eq!(u16::from(close.code), 1012);
    let rest = timeout(Duration::from_secs(10), client.next())
        .await
        .unwrap();
    assert!(!matches!(rest, Some(Ok(_))), "{rest:?}");
}

#[test]
fn a_certificate_and_a_key_that_cannot_be_used_are_told_apart() {
    let one = rcgen::generate_simple_self_signed(["a".to_owned()]).unwrap();
    let other = rcgen::generate_simple_self_signed(["b".to_owned()]).unwrap();
    let (chain, key) = (one.cert.pem(), one.signing_key.serialize_pem());
    let tls = |chain: &str, key: &str| Tls::from_pem(chain.as_bytes(), key.as_bytes());
    assert!(tls(&chain, &key).is_ok());
    assert!(matches!(tls("", &key), Err(TlsError::Certificate(_))));
    assert!(matches!(tls(&chain, "x"), Err(TlsError::Key(_))));
    let mixed = tls(&chain, &other.signing_key.serialize_pem());
    assert!(matches!(mixed, Err(TlsError::Unusable(_))));
}
