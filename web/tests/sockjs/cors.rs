//! Cross-origin requests: pages of any origin may use a service, with their cookies. Who asks is
//! echoed, since a wildcard does not go together with credentials.

use super::http::{Headers, Request};
use super::node::node;
use super::session::Session;
use super::transport::Transport;

const ORIGIN: &str = "https://example.org:8443";

/// Whoever asked may read the answer, with credentials if it said who it is.
pub(crate) fn is_readable_by(headers: &Headers, origin: Option<&str>) {
    assert_eq!(
        headers.get("access-control-allow-origin"),
        Some(origin.unwrap_or("*"))
    );
    assert_eq!(
        headers.get("access-control-allow-credentials"),
        origin.map(|_| "true")
    );
    let vary = headers.list("vary");
    assert!(
        vary.iter().any(|name| name.eq_ignore_ascii_case("origin")),
        "{vary:?}"
    );
}

fn asked_by(request: Request, origin: Option<&str>) -> Request {
    match origin {
        Some(origin) => request.header("Origin", origin),
        None => request,
    }
}

#[tokio::test]
async fn info_may_be_read_by_everyone() {
    let node = node();
    for origin in [Some(ORIGIN), Some("test"), Some("null"), None] {
        let request = asked_by(Request::get("/echo/info"), origin);
        is_readable_by(&node.fetch(request).await.headers, origin);
    }
}

#[tokio::test]
async fn frames_over_xhr_may_be_read_by_everyone() {
    let node = node();
    for transport in [Transport::Xhr, Transport::XhrStreaming] {
        for origin in [Some(ORIGIN), Some("null"), None] {
            let session = Session::new(&node, "/echo");
            let request = asked_by(transport.request(&session.url), origin);
            is_readable_by(&node.stream(request).await.headers, origin);
        }
    }
}

#[tokio::test]
async fn frames_over_eventsource_may_be_read_by_everyone() {
    let node = node();
    for origin in [Some(ORIGIN), None] {
        let session = Session::new(&node, "/echo");
        let request = asked_by(Transport::EventSource.request(&session.url), origin);
        is_readable_by(&node.stream(request).await.headers, origin);
    }
}

#[tokio::test]
async fn the_answer_to_a_message_may_be_read_by_everyone() {
    let node = node();
    let session = Session::open(&node, "/echo").await;
    for origin in [Some(ORIGIN), Some("null"), None] {
        let request = Request::post(format!("{}/xhr_send", session.url)).body("[\"x\"]");
        let answer = node.fetch(asked_by(request, origin)).await;
        assert_eq!(answer.status, 204);
        is_readable_by(&answer.headers, origin);
    }
}

#[tokio::test]
async fn errors_may_be_read_too() {
    let node = node();
    let open = Session::open(&node, "/echo").await;
    let unknown = Session::new(&node, "/echo");
    for (session, body, status) in [
        (&unknown, "[\"x\"]", 404),
        (&open, "", 500),
        (&open, "[\"x", 500),
        (&open, "{}", 500),
    ] {
        for origin in [Some(ORIGIN), None] {
            let request = Request::post(format!("{}/xhr_send", session.url)).body(body);
            let answer = node.fetch(asked_by(request, origin)).await;
            assert_eq!(answer.status, status, "{body}");
            is_readable_by(&answer.headers, origin);
        }
    }
}

#[tokio::test]
async fn a_preflight_allows_what_the_path_is_for() {
    let node = node();
    for (path, methods) in [
        ("/echo/info", ["GET", "OPTIONS"]),
        ("/echo/abc/abc/xhr", ["OPTIONS", "POST"]),
        ("/echo/abc/abc/xhr_send", ["OPTIONS", "POST"]),
        ("/echo/abc/abc/xhr_streaming", ["OPTIONS", "POST"]),
    ] {
        for origin in [Some(ORIGIN), Some("null"), None] {
            let request = Request::options(path).header("Access-Control-Request-Method", "POST");
            let answer = node.fetch(asked_by(request, origin)).await;
            assert_eq!((answer.status, answer.body.as_str()), (204, ""), "{path}");
            is_readable_by(&answer.headers, origin);
            assert_eq!(answer.headers.list("access-control-allow-methods"), methods);
        }
    }
}

#[tokio::test]
async fn a_preflight_allows_the_headers_that_are_asked_for() {
    let node = node();
    for path in ["/echo/abc/abc/xhr", "/echo/abc/abc/xhr_send", "/echo/info"] {
        let ask = || Request::options(path).header("Origin", ORIGIN);
        let allowed = |headers: &Headers| {
            let value = headers.get("access-control-allow-headers");
            value.map(str::to_owned)
        };
        let some = ask().header("Access-Control-Request-Headers", "a, b, c");
        let some = node.fetch(some).await;
        assert_eq!(allowed(&some.headers).as_deref(), Some("a, b, c"), "{path}");
        let empty = ask().header("Access-Control-Request-Headers", "");
        assert_eq!(allowed(&node.fetch(empty).await.headers), None, "{path}");
        assert_eq!(allowed(&node.fetch(ask()).await.headers), None, "{path}");
    }
}

#[tokio::test]
async fn a_preflight_opens_no_session() {
    let node = node();
    let session = Session::new(&node, "/echo");
    for name in ["xhr", "xhr_send", "xhr_streaming"] {
        node.options(&format!("{}/{name}", session.url)).await;
    }
    assert_eq!(session.send("[\"x\"]").await.status, 404);
    assert_eq!(session.poll().await, "o\n");
}
