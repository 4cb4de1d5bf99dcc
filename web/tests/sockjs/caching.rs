//! Caching: nothing that belongs to a session may ever be kept by anybody on the way, be it fetched or
//! posted; nor may it be changed on the way, as compression would hold frames back. What never changes
//! is kept for a year.

use super::http::{Headers, Request};
use super::node::node;
use super::session::Session;
use super::transport::ALL;

pub(crate) fn is_not_cached(headers: &Headers) {
    assert_eq!(
        headers.get("cache-control"),
        Some("no-store, no-cache, no-transform, must-revalidate, max-age=0")
    );
    assert_eq!(headers.get("expires"), None);
    assert_eq!(headers.get("last-modified"), None);
}

#[tokio::test]
async fn no_answer_of_a_transport_is_cached() {
    let node = node();
    for transport in ALL {
        let session = Session::new(&node, "/echo");
        let receiver = session.receive_first(transport).await;
        is_not_cached(&receiver.response.headers);
    }
}

#[tokio::test]
async fn no_answer_to_a_message_is_cached() {
    let node = node();
    let session = Session::open(&node, "/echo").await;
    is_not_cached(&session.send("[\"x\"]").await.headers);
    let form = Request::post(format!("{}/jsonp_send", session.url))
        .header("Content-Type", "application/x-www-form-urlencoded")
        .body("d=%5B%22x%22%5D");
    is_not_cached(&node.fetch(form).await.headers);
}

#[tokio::test]
async fn nothing_is_compressed() {
    let node = node();
    for transport in ALL {
        let session = Session::new(&node, "/echo");
        let request = transport
            .request(&session.url)
            .header("Accept-Encoding", "gzip, deflate, br");
        let response = node.stream(request).await;
        assert_eq!(response.headers.get("content-encoding"), None);
    }
}

#[tokio::test]
async fn answers_to_options_are_cached_for_a_year() {
    let node = node();
    for path in [
        "/echo/info",
        "/echo/abc/abc/xhr",
        "/echo/abc/abc/xhr_send",
        "/echo/abc/abc/xhr_streaming",
    ] {
        let answer = node.options(path).await;
        assert_eq!((answer.status, answer.body.as_str()), (204, ""), "{path}");
        let headers = &answer.headers;
        assert_eq!(
            headers.get("cache-control"),
            Some("public, max-age=31536000")
        );
        assert!(headers.get("expires").is_some());
        assert_eq!(headers.get("access-control-max-age"), Some("31536000"));
    }
}
