//! `PREFIX/info`: what the client asks first. It learns what the server can do, gets some chance for
//! its random numbers, and measures how long an answer takes.

use std::collections::HashSet;

use serde_json::{Value, json};

use super::http::Answer;
use super::node::node;

fn info(answer: &Answer) -> Value {
    assert_eq!(answer.status, 200);
    serde_json::from_str(&answer.body).unwrap()
}

#[tokio::test]
async fn it_says_what_the_server_can_do() {
    let node = node();
    for path in [
        "/echo/info",
        "/echo/info/",
        "/echo/info?t=1",
        "/ws/info",
        "/v1/sockjs/info",
    ] {
        let answer = node.get(path).await;
        assert_eq!(
            answer.headers.content_type(),
            "application/json;charset=UTF-8"
        );
        let info = info(&answer);
        assert_eq!(info["websocket"], true, "{path}");
        assert_eq!(info["origins"], json!(["*:*"]));
        assert!(info["cookie_needed"].is_boolean());
        assert!(info["entropy"].is_u64(), "{info}");
    }
}

#[tokio::test]
async fn its_entropy_is_fresh_in_every_answer() {
    let node = node();
    let mut seen = HashSet::new();
    for _ in 0..16 {
        let info = info(&node.get("/echo/info").await);
        let entropy = info["entropy"].as_u64().unwrap();
        assert!(entropy < 1 << 32, "32 bits: {entropy}");
        seen.insert(entropy);
    }
    assert!(seen.len() >= 15, "{seen:?}");
    let highest = seen.iter().max().unwrap();
    assert!(*highest > 1 << 24, "all of the 32 bits are used: {seen:?}");
}

#[tokio::test]
async fn a_service_without_websocket_says_so() {
    let info = info(&node().get("/disabled_websocket_echo/info").await);
    assert_eq!(info["websocket"], false);
    assert_eq!(info["origins"], json!(["*:*"]));
}

#[tokio::test]
async fn a_service_that_needs_cookies_says_so() {
    let node = node();
    let needed = info(&node.get("/cookie_needed_echo/info").await);
    assert_eq!(needed["cookie_needed"], true);
    let not_needed = info(&node.get("/echo/info").await);
    assert_eq!(not_needed["cookie_needed"], false);
}

#[tokio::test]
async fn it_is_never_cached() {
    let answer = node().get("/echo/info").await;
    super::caching::is_not_cached(&answer.headers);
}
