//! Methods: each path is for one, and says so to whoever comes with another.

use super::http::Request;
use super::node::node;
use super::session::Session;

#[tokio::test]
async fn what_is_posted_cannot_be_fetched() {
    let node = node();
    for name in ["xhr", "xhr_send", "xhr_streaming"] {
        for method in ["GET", "PUT", "DELETE", "PATCH"] {
            let path = format!("/echo/000/abc/{name}");
            let answer = node.fetch(Request::new(method, &path)).await;
            assert_eq!(answer.status, 405, "{method} {path}");
            assert_eq!(answer.headers.list("allow"), ["OPTIONS", "POST"], "{path}");
        }
    }
    let answer = node.get("/echo/000/abc/jsonp_send").await;
    assert_eq!(answer.status, 405);
    assert!(answer.headers.list("allow").contains(&"POST"));
}

#[tokio::test]
async fn what_is_fetched_cannot_be_posted() {
    let node = node();
    for name in ["eventsource", "htmlfile?c=x", "jsonp?c=x", "websocket"] {
        for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
            let path = format!("/echo/000/abc/{name}");
            let answer = node.fetch(Request::new(method, &path)).await;
            assert_eq!(answer.status, 405, "{method} {path}");
            assert_eq!(answer.headers.list("allow"), ["GET"], "{path}");
        }
    }
}

#[tokio::test]
async fn info_is_fetched_and_asked_for_options() {
    let node = node();
    for method in ["POST", "PUT", "DELETE"] {
        let answer = node.fetch(Request::new(method, "/echo/info")).await;
        assert_eq!(answer.status, 405, "{method}");
        assert_eq!(answer.headers.list("allow"), ["GET", "OPTIONS"]);
    }
}

#[tokio::test]
async fn the_iframe_page_is_fetched() {
    let answer = node().post("/echo/iframe.html").await;
    assert_eq!(answer.status, 405);
    assert!(answer.headers.list("allow").contains(&"GET"));
}

#[tokio::test]
async fn a_wrong_method_opens_no_session() {
    let node = node();
    let session = Session::new(&node, "/echo");
    node.get(&format!("{}/xhr", session.url)).await;
    node.post(&format!("{}/eventsource", session.url)).await;
    assert_eq!(session.send("[\"x\"]").await.status, 404);
}
