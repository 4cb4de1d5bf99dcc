//! The greeting, at the prefix itself: it tells people that they have the right address. Whatever is
//! not defined below the prefix does not exist.

use super::http::Request;
use super::node::node;

#[tokio::test]
async fn the_prefix_greets() {
    let node = node();
    for service in [
        "/echo",
        "/close",
        "/disabled_websocket_echo",
        "/ws",
        "/v1/sockjs",
    ] {
        for path in [service.to_owned(), format!("{service}/")] {
            let answer = node.get(&path).await;
            assert_eq!(answer.status, 200, "{path}");
            assert_eq!(answer.headers.content_type(), "text/plain;charset=UTF-8");
            assert_eq!(answer.body, "Welcome to SockJS!\n");
        }
    }
}

#[tokio::test]
async fn what_is_unknown_below_the_prefix_does_not_exist() {
    let node = node();
    for rest in [
        "/a",
        "/a.html",
        "//",
        "///",
        "/a/a",
        "/a/a/",
        "/a/",
        "/a/a/a",
        "/a/a/xhr/x",
    ] {
        for service in ["/echo", "/ws"] {
            let path = format!("{service}{rest}");
            assert_eq!(node.get(&path).await.status, 404, "GET {path}");
            assert_eq!(node.post(&path).await.status, 404, "POST {path}");
        }
    }
}

#[tokio::test]
async fn a_longer_name_is_another_path() {
    let node = node();
    for path in ["/echoes", "/Echo", "/echo.html", "/x/echo"] {
        assert_eq!(node.get(path).await.status, 404, "{path}");
    }
}

#[tokio::test]
async fn the_greeting_is_for_get() {
    let node = node();
    for method in ["POST", "PUT", "DELETE"] {
        let answer = node.fetch(Request::new(method, "/echo")).await;
        assert_eq!(answer.status, 405, "{method}");
        assert!(answer.headers.list("allow").contains(&"GET"));
    }
}
