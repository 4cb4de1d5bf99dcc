//! Cookies: some load balancers bring a client back to its node only if they see a `JSESSIONID`. A
//! service that is configured so sets one on all URLs of its sessions, and nowhere else; no other
//! service sets any.

use super::http::{Headers, Request};
use super::node::{Node, node};
use super::session::Session;
use super::transport::ALL;

fn cookie(headers: &Headers) -> Option<&str> {
    headers.get("set-cookie")
}

/// The headers of everything that a session's URLs answer.
async fn all_answers(node: &Node, service: &str, sent: &str) -> Vec<(String, Headers)> {
    let mut answers = Vec::new();
    for transport in ALL {
        let session = Session::new(node, service);
        let request = transport.request(&session.url).header("Cookie", sent);
        let response = node.stream(request).await;
        assert_eq!(response.status, 200);
        answers.push((format!("{transport:?}"), response.headers.clone()));
    }
    let session = Session::open(node, service).await;
    let send = Request::post(format!("{}/xhr_send", session.url))
        .header("Cookie", sent)
        .body("[\"x\"]");
    let form = Request::post(format!("{}/jsonp_send", session.url))
        .header("Cookie", sent)
        .header("Content-Type", "application/x-www-form-urlencoded")
        .body("d=%5B%22x%22%5D");
    answers.push(("xhr_send".into(), node.fetch(send).await.headers));
    answers.push(("jsonp_send".into(), node.fetch(form).await.headers));
    for name in ["xhr", "xhr_send", "xhr_streaming"] {
        let options = Request::options(format!("{}/{name}", session.url)).header("Cookie", sent);
        answers.push((format!("OPTIONS {name}"), node.fetch(options).await.headers));
    }
    answers
}

#[tokio::test]
async fn a_client_without_a_cookie_gets_one() {
    let node = node();
    for (what, headers) in all_answers(&node, "/cookie_needed_echo", "other=1").await {
        assert_eq!(cookie(&headers), Some("JSESSIONID=dummy; path=/"), "{what}");
    }
}

#[tokio::test]
async fn a_client_with_a_cookie_gets_it_back() {
    let node = node();
    for sent in ["JSESSIONID=abcdef", "a=b; JSESSIONID=abcdef; c=d"] {
        for (what, headers) in all_answers(&node, "/cookie_needed_echo", sent).await {
            assert_eq!(
                cookie(&headers),
                Some("JSESSIONID=abcdef; path=/"),
                "{what}"
            );
        }
    }
}

#[tokio::test]
async fn a_service_that_needs_no_cookies_sets_none() {
    let node = node();
    for (what, headers) in all_answers(&node, "/echo", "JSESSIONID=abcdef").await {
        assert_eq!(cookie(&headers), None, "{what}");
    }
}

#[tokio::test]
async fn outside_of_sessions_no_cookie_is_set() {
    let node = node();
    for service in ["/cookie_needed_echo", "/echo"] {
        for rest in ["", "/", "/info", "/iframe.html"] {
            let path = format!("{service}{rest}");
            let request = Request::get(&path).header("Cookie", "JSESSIONID=abcdef");
            let answer = node.fetch(request).await;
            assert_eq!(answer.status, 200, "{path}");
            assert_eq!(cookie(&answer.headers), None, "{path}");
        }
    }
}

#[tokio::test]
async fn a_service_that_needs_cookies_echoes_like_any_other() {
    let node = node();
    let session = Session::open(&node, "/cookie_needed_echo").await;
    session.say(&["x"]).await;
    assert_eq!(session.poll().await, "a[\"x\"]\n");
}
