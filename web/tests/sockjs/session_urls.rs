//! `PREFIX/<server>/<session>/<transport>`. The client makes up both parts: the first helps load
//! balancers and means nothing to the server, the second is the session.

use uuid::Uuid;

use super::http::Request;
use super::node::node;
use super::session::Session;
use super::transport::{ALL, Receiver};

#[tokio::test]
async fn any_server_and_any_session_will_do() {
    let node = node();
    for parts in [
        "/a/a",
        "/_/_",
        "/1/1",
        "/000/2",
        "/abcdefgh_i-j%20/abcdefgh_i-j%20",
        "/%C3%A9/%F0%9F%98%80",
        "/~!$&'()*+,;=:@/~!$&'()*+,;=:@",
    ] {
        let answer = node.post(&format!("/echo{parts}/xhr")).await;
        assert_eq!(
            (answer.status, answer.body.as_str()),
            (200, "o\n"),
            "{parts}"
        );
    }
}

#[tokio::test]
async fn parts_that_are_empty_or_have_dots_do_not_exist() {
    let node = node();
    for parts in [
        "//", "/a./a", "/a/a.", "/./.", "/", "///", "/a//", "//a", "/a", "/a/a/a", "",
    ] {
        for name in ["xhr", "xhr_streaming", "xhr_send"] {
            let path = format!("/echo{parts}/{name}");
            assert_eq!(node.get(&path).await.status, 404, "GET {path}");
            assert_eq!(node.post(&path).await.status, 404, "POST {path}");
        }
    }
}

#[tokio::test]
async fn a_session_without_a_known_transport_does_not_exist() {
    let node = node();
    for rest in [
        "/000/abc",
        "/000/abc/",
        "/000/abc/unknown",
        "/000/abc/XHR",
        "/000/abc/xhr_polling",
        "/000/abc/xhr//",
        "/000/abc/xhr/more",
        "/000/abc/info",
    ] {
        let path = format!("/echo{rest}");
        assert_eq!(node.get(&path).await.status, 404, "GET {path}");
        assert_eq!(node.post(&path).await.status, 404, "POST {path}");
    }
}

#[tokio::test]
async fn one_slash_at_the_end_is_tolerated() {
    let node = node();
    let session = Session::new(&node, "/echo");
    let poll = Request::post(format!("{}/xhr/", session.url));
    assert_eq!(node.fetch(poll.clone()).await.body, "o\n");
    let send = Request::post(format!("{}/xhr_send/", session.url)).body("[\"x\"]");
    assert_eq!(node.fetch(send).await.status, 204);
    assert_eq!(node.fetch(poll).await.body, "a[\"x\"]\n");
}

#[tokio::test]
async fn a_query_changes_nothing() {
    let node = node();
    let session = Session::open(&node, "/echo").await;
    let send = Request::post(format!("{}/xhr_send?t=12345", session.url)).body("[\"x\"]");
    assert_eq!(node.fetch(send).await.status, 204);
    let poll = node.post(&format!("{}/xhr?t=67890", session.url)).await;
    assert_eq!(poll.body, "a[\"x\"]\n");
}

#[tokio::test]
async fn a_session_is_the_same_under_every_server() {
    let node = node();
    let id = Uuid::new_v4();
    let first = node.post(&format!("/echo/000/{id}/xhr")).await;
    assert_eq!(first.body, "o\n");
    for server in ["000", "999", "else%20where"] {
        let send = Request::post(format!("/echo/555/{id}/xhr_send")).body("[\"a\"]");
        assert_eq!(node.fetch(send).await.status, 204);
        let answer = node.post(&format!("/echo/{server}/{id}/xhr")).await;
        assert_eq!(answer.body, "a[\"a\"]\n", "{server}");
    }
}

#[tokio::test]
async fn every_new_session_begins_with_o() {
    let node = node();
    for service in [
        "/echo",
        "/close",
        "/ws",
        "/v1/sockjs",
        "/disabled_websocket_echo",
    ] {
        for transport in ALL {
            let session = Session::new(&node, service);
            let response = node.stream(transport.request(&session.url)).await;
            Receiver::new(transport, response).hears("o").await;
        }
    }
}

#[tokio::test]
async fn a_session_that_is_open_does_not_begin_anew() {
    let node = node();
    for transport in ALL {
        let session = Session::open(&node, "/echo").await;
        session.say(&["x"]).await;
        session.receive(transport).await.hears("a[\"x\"]").await;
    }
}

#[tokio::test]
async fn sessions_do_not_hear_each_other() {
    let node = node();
    let (one, other) = (
        Session::open(&node, "/echo").await,
        Session::open(&node, "/echo").await,
    );
    one.say(&["of one"]).await;
    other.say(&["of the other"]).await;
    assert_eq!(one.poll().await, "a[\"of one\"]\n");
    assert_eq!(other.poll().await, "a[\"of the other\"]\n");
}
