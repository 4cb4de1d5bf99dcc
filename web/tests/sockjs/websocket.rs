//! `websocket` below a session: the same frames, each a message of its own. The session is the
//! connection: it ends with it, and its id means nothing.

use super::http::Request;
use super::node::node;
use super::session::{GO_AWAY, Session};
use super::socket::{Heard, Socket, upgrade};

#[tokio::test]
async fn it_begins_with_o_and_echoes_arrays() {
    let node = node();
    let session = Session::new(&node, "/echo");
    let mut socket = Socket::open(node.addr, &format!("{}/websocket", session.url)).await;
    socket.hears("o").await;
    socket.say("[\"a\"]").await;
    socket.hears("a[\"a\"]").await;
    socket.close().await;
}

#[tokio::test]
async fn the_upgrade_is_what_browsers_expect() {
    let node = node();
    for name in ["websocket", "websocket/"] {
        let session = Session::new(&node, "/echo");
        let response = node
            .stream(upgrade(&format!("{}/{name}", session.url)))
            .await;
        assert_eq!(response.status, 101);
        let headers = &response.headers;
        let connection = headers.get("connection").map(str::to_ascii_lowercase);
        assert_eq!(connection.as_deref(), Some("upgrade"));
        let protocol = headers.get("upgrade").map(str::to_ascii_lowercase);
        assert_eq!(protocol.as_deref(), Some("websocket"));
        assert_eq!(
            headers.get("sec-websocket-accept"),
            Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
        );
        assert_eq!(headers.get("content-length"), None);
        assert_eq!(headers.get("sec-websocket-extensions"), None);
    }
}

#[tokio::test]
async fn several_messages_in_a_frame_are_taken_in_order() {
    let node = node();
    let session = Session::new(&node, "/echo");
    let mut socket = Socket::open(node.addr, &format!("{}/websocket", session.url)).await;
    socket.hears("o").await;
    socket.say("[\"a\",\"b\",\"c\"]").await;
    let mut heard = Vec::new();
    while heard.len() < 3 {
        heard.extend(super::transport::messages(&socket.hear().await));
    }
    assert_eq!(heard, ["a", "b", "c"]);
}

#[tokio::test]
async fn a_message_may_come_without_its_array() {
    let node = node();
    let session = Session::new(&node, "/echo");
    let mut socket = Socket::open(node.addr, &format!("{}/websocket", session.url)).await;
    socket.hears("o").await;
    socket.say("\"a\"").await;
    socket.hears("a[\"a\"]").await;
    socket.say("\"\"").await;
    socket.hears("a[\"\"]").await;
}

#[tokio::test]
async fn frames_without_messages_are_ignored() {
    let node = node();
    let session = Session::new(&node, "/echo");
    let mut socket = Socket::open(node.addr, &format!("{}/websocket", session.url)).await;
    socket.hears("o").await;
    socket.say("").await;
    socket.say("[]").await;
    socket.say("[\"a\"]").await;
    socket.hears("a[\"a\"]").await;
}

#[tokio::test]
async fn broken_json_closes_the_connection_at_once() {
    let node = node();
    for broken in ["[\"a", "a", "[\"a\"]]"] {
        let session = Session::new(&node, "/echo");
        let path = format!("{}/websocket", session.url);
        let mut other = Socket::open(node.addr, &path).await;
        let mut socket = Socket::open(node.addr, &path).await;
        socket.hears("o").await;
        other.hears("o").await;
        socket.say(broken).await;
        match socket.next().await {
            Heard::Text(frame) => {
                assert!(frame.starts_with("c["), "{frame}");
                socket.is_closed().await;
            }
            Heard::Close(_) | Heard::End => {}
            Heard::Ping => panic!("no ping is due yet"),
        }
        other.say("[\"x\"]").await;
        other.hears("a[\"x\"]").await;
    }
}

#[tokio::test]
async fn a_close_by_the_server_is_a_frame_and_then_the_end() {
    let node = node();
    let session = Session::new(&node, "/close");
    let mut socket = Socket::open(node.addr, &format!("{}/websocket", session.url)).await;
    socket.hears("o").await;
    socket.hears(GO_AWAY).await;
    socket.is_closed().await;
}

#[tokio::test]
async fn two_sockets_on_one_id_are_two_sessions() {
    let node = node();
    let session = Session::new(&node, "/echo");
    let path = format!("{}/websocket", session.url);
    let mut one = Socket::open(node.addr, &path).await;
    one.hears("o").await;
    let mut other = Socket::open(node.addr, &path).await;
    other.hears("o").await;
    one.say("[\"a\"]").await;
    other.say("[\"b\"]").await;
    one.hears("a[\"a\"]").await;
    other.hears("a[\"b\"]").await;
    one.close().await;
    other.say("[\"c\"]").await;
    other.hears("a[\"c\"]").await;
    other.close().await;

    let mut later = Socket::open(node.addr, &path).await;
    later.hears("o").await;
    later.say("[\"d\"]").await;
    later.hears("a[\"d\"]").await;
}

#[tokio::test]
async fn its_session_is_none_of_the_other_transports() {
    let node = node();
    let session = Session::new(&node, "/echo");
    let mut socket = Socket::open(node.addr, &format!("{}/websocket", session.url)).await;
    socket.hears("o").await;
    assert_eq!(session.send("[\"x\"]").await.status, 404);
    assert_eq!(session.poll().await, "o\n");
    session.say(&["of the poll"]).await;
    socket.say("[\"of the socket\"]").await;
    socket.hears("a[\"of the socket\"]").await;
    assert_eq!(session.poll().await, "a[\"of the poll\"]\n");
}

#[tokio::test]
async fn a_request_that_is_no_upgrade_is_refused() {
    let node = node();
    let path = "/echo/0/0/websocket";
    for request in [
        Request::get(path),
        Request::get(path)
            .header("Upgrade", "WebSocket")
            .header("Connection", "close"),
        Request::get(path).header("Connection", "Upgrade"),
    ] {
        let answer = node.fetch(request).await;
        assert_eq!(answer.status, 400);
        assert!(
            answer.body.contains("Not a valid websocket request"),
            "{}",
            answer.body
        );
    }
}

#[tokio::test]
async fn other_versions_of_websocket_are_refused() {
    let node = node();
    let request = Request::get("/echo/0/0/websocket")
        .header("Connection", "Upgrade")
        .header("Upgrade", "websocket")
        .header("Sec-WebSocket-Version", "8")
        .header("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==");
    let answer = node.fetch(request).await;
    assert!(matches!(answer.status, 400 | 426), "{}", answer.status);
}

#[tokio::test]
async fn it_is_for_get() {
    let node = node();
    for request in [
        Request::post("/echo/0/0/websocket"),
        Request::post("/echo/0/0/websocket")
            .header("Upgrade", "WebSocket")
            .header("Connection", "Upgrade"),
    ] {
        let answer = node.fetch(request).await;
        assert_eq!((answer.status, answer.body.as_str()), (405, ""));
        assert_eq!(answer.headers.list("allow"), ["GET"]);
        assert_eq!(answer.headers.get("content-type"), None);
    }
}

#[tokio::test]
async fn where_it_is_disabled_it_does_not_exist() {
    let node = node();
    let service = "/disabled_websocket_echo";
    for path in [
        format!("{service}/0/0/websocket"),
        format!("{service}/websocket"),
    ] {
        assert_eq!(node.get(&path).await.status, 404, "{path}");
        let answer = node.stream(upgrade(&path)).await;
        assert_eq!(answer.status, 404, "{path}");
    }
    let session = Session::open(&node, service).await;
    session.say(&["x"]).await;
    assert_eq!(session.poll().await, "a[\"x\"]\n");
}
