//! HTTP/1.0 and HTTP/1.1: how a body ends, and whether the connection goes on after it.

use super::http::Request;
use super::node::node;
use super::session::Session;
use super::transport::Transport;

const GREETING: &str = "Welcome to SockJS!\n";

#[tokio::test]
async fn a_connection_of_http_1_1_takes_the_next_request() {
    let node = node();
    let greet = Request::get("/echo");
    let first = node.stream(greet.clone()).await;
    assert_ne!(first.headers.get("connection"), Some("close"));
    let second = first.ask_again(&greet).await;
    assert_eq!(second.status, 200);
    assert_eq!(second.whole().await.body, GREETING);
}

#[tokio::test]
async fn a_whole_session_may_use_one_connection() {
    let node = node();
    let session = Session::new(&node, "/echo");
    let poll = Transport::Xhr.request(&session.url);
    let send = |text: &str| Request::post(format!("{}/xhr_send", session.url)).body(text);
    let mut response = node.stream(poll.clone()).await;
    assert_eq!(response.rest().await, "o\n");
    for n in 0..20 {
        response = response.ask_again(&send(&format!("[\"{n}\"]"))).await;
        assert_eq!(response.status, 204);
        response = response.ask_again(&poll).await;
        assert_eq!(response.rest().await, format!("a[\"{n}\"]\n"));
    }
}

#[tokio::test]
async fn a_message_may_come_in_chunks() {
    let node = node();
    let session = Session::open(&node, "/echo").await;
    let request = Request::post(format!("{}/xhr_send", session.url))
        .header("Transfer-Encoding", "chunked")
        .body("3\r\n[\"a\r\n4\r\nbc\"]\r\n0\r\n\r\n");
    assert_eq!(node.fetch(request).await.status, 204);
    assert_eq!(session.poll().await, "a[\"abc\"]\n");
}

#[tokio::test]
async fn streams_of_http_1_1_are_chunked() {
    let node = node();
    for transport in super::transport::STREAMING {
        let session = Session::new(&node, "/echo");
        let response = node.stream(transport.request(&session.url)).await;
        assert_eq!(response.headers.get("transfer-encoding"), Some("chunked"));
        assert_eq!(response.headers.get("content-length"), None);
    }
}

#[tokio::test]
async fn http_1_0_knows_no_chunks() {
    let node = node();
    for keep_alive in [true, false] {
        let mut request = Request::get("/echo").http10();
        if keep_alive {
            request = request.header("Connection", "Keep-Alive");
        }
        let mut response = node.stream(request).await;
        assert_eq!(response.status, 200);
        assert_eq!(response.headers.get("transfer-encoding"), None);
        assert_eq!(response.rest().await, GREETING);
        let connection = response.headers.get("connection").unwrap_or("close");
        if !connection.eq_ignore_ascii_case("keep-alive") {
            response.closes().await;
        }
    }
}

#[tokio::test]
async fn streams_of_http_1_0_end_with_the_connection() {
    let node = node();
    let session = Session::new(&node, "/close");
    let request = Transport::XhrStreaming.request(&session.url).http10();
    let response = node.stream(request).await;
    assert_eq!(response.headers.get("transfer-encoding"), None);
    assert_eq!(response.headers.get("content-length"), None);
    let body = response.whole().await.body;
    let (prelude, frames) = body.split_once('\n').unwrap();
    assert_eq!(prelude, "h".repeat(2048));
    assert_eq!(frames, "o\nc[3000,\"Go away!\"]\n");
}
