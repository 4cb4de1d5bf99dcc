//! `jsonp` and `jsonp_send`: for browsers that can do nothing but load scripts and submit forms. Each
//! poll is a script that calls a function with one frame; messages come as the field `d` of a form.

use super::http::{Answer, Request};
use super::node::{Node, node};
use super::session::{GO_AWAY, Session};
use super::transport::Transport;

async fn poll(node: &Node, session: &Session) -> String {
    let answer = node.get(&format!("{}/jsonp?c=x", session.url)).await;
    assert_eq!(answer.status, 200);
    answer.body
}

async fn open(node: &Node, service: &str) -> Session {
    let session = Session::new(node, service);
    assert_eq!(poll(node, &session).await, "/**/x(\"o\");\r\n");
    session
}

async fn submit(node: &Node, session: &Session, body: &str) -> Answer {
    let request = Request::post(format!("{}/jsonp_send", session.url))
        .header("Content-Type", "application/x-www-form-urlencoded")
        .body(body);
    node.fetch(request).await
}

#[tokio::test]
async fn each_poll_is_a_script_with_one_frame() {
    let node = node();
    let session = Session::new(&node, "/echo");
    let poll = Request::get(format!("{}/jsonp?c=%63allback", session.url));
    let answer = node.fetch(poll.clone()).await;
    assert_eq!(answer.status, 200);
    assert_eq!(
        answer.headers.content_type(),
        "application/javascript;charset=UTF-8"
    );
    assert_eq!(answer.body, "/**/callback(\"o\");\r\n");
    session.say_with_a_form("x").await;
    let answer = node.fetch(poll).await;
    assert_eq!(answer.body, "/**/callback(\"a[\\\"x\\\"]\");\r\n");
}

#[tokio::test]
async fn it_is_a_script_and_nothing_else() {
    let node = node();
    let session = Session::new(&node, "/echo");
    let answer = node.get(&format!("{}/jsonp?c=x", session.url)).await;
    assert_eq!(
        answer.headers.get("x-content-type-options"),
        Some("nosniff")
    );
    assert!(answer.body.starts_with("/**/"), "{}", answer.body);
}

#[tokio::test]
async fn a_poll_hangs_until_there_is_a_message() {
    let node = node();
    let session = open(&node, "/echo").await;
    let hanging = session.hang(Transport::Jsonp).await;
    session.say_with_a_form("x").await;
    let body = hanging.response().await.whole().await.body;
    assert_eq!(body, "/**/_jp.a123456(\"a[\\\"x\\\"]\");\r\n");
}

#[tokio::test]
async fn a_form_that_is_submitted_is_answered_with_ok() {
    let node = node();
    let session = open(&node, "/echo").await;
    let answer = submit(&node, &session, "d=%5B%22x%22%5D").await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "ok"));
    assert_eq!(answer.headers.content_type(), "text/plain;charset=UTF-8");
    assert_eq!(poll(&node, &session).await, "/**/x(\"a[\\\"x\\\"]\");\r\n");
}

#[tokio::test]
async fn a_form_is_decoded_and_plain_text_is_not() {
    let node = node();
    let session = open(&node, "/echo").await;
    let form = submit(&node, &session, "d=%5B%22%61bc+%2B%22%5D").await;
    assert_eq!(form.body, "ok");
    let plain = Request::post(format!("{}/jsonp_send", session.url))
        .header("Content-Type", "text/plain")
        .body("[\"%61bc+\"]");
    assert_eq!(node.fetch(plain).await.body, "ok");
    assert_eq!(
        poll(&node, &session).await,
        "/**/x(\"a[\\\"abc +\\\",\\\"%61bc+\\\"]\");\r\n"
    );
}

#[tokio::test]
async fn other_fields_of_the_form_are_ignored() {
    let node = node();
    let session = open(&node, "/echo").await;
    let answer = submit(&node, &session, "a=1&d=%5B%22x%22%5D&e=2").await;
    assert_eq!(answer.body, "ok");
    assert_eq!(poll(&node, &session).await, "/**/x(\"a[\\\"x\\\"]\");\r\n");
}

#[tokio::test]
async fn a_form_may_say_how_its_characters_are_encoded() {
    let node = node();
    let session = open(&node, "/echo").await;
    let request = Request::post(format!("{}/jsonp_send", session.url))
        .header(
            "Content-Type",
            "application/x-www-form-urlencoded; charset=UTF-8",
        )
        .body("d=%5B%22%C3%A9%22%5D");
    assert_eq!(node.fetch(request).await.body, "ok");
    assert_eq!(poll(&node, &session).await, "/**/x(\"a[\\\"é\\\"]\");\r\n");
}

#[tokio::test]
async fn a_form_without_messages_is_a_sign_of_life() {
    let node = node();
    let session = open(&node, "/echo").await;
    assert_eq!(submit(&node, &session, "d=%5B%5D").await.body, "ok");
    session.say_with_a_form("x").await;
    assert_eq!(poll(&node, &session).await, "/**/x(\"a[\\\"x\\\"]\");\r\n");
}

#[tokio::test]
async fn broken_messages_are_refused_and_the_session_goes_on() {
    let node = node();
    let session = open(&node, "/echo").await;
    let answer = submit(&node, &session, "d=%5B%22x").await;
    assert_eq!(answer.status, 500);
    assert!(
        answer.body.contains("Broken JSON encoding."),
        "{}",
        answer.body
    );
    for form in ["", "d=", "p=p"] {
        let answer = submit(&node, &session, form).await;
        assert_eq!(answer.status, 500, "{form}");
        assert!(answer.body.contains("Payload expected."), "{}", answer.body);
    }
    session.say_with_a_form("b").await;
    assert_eq!(poll(&node, &session).await, "/**/x(\"a[\\\"b\\\"]\");\r\n");
}

#[tokio::test]
async fn nothing_can_be_submitted_to_a_session_that_is_not_there() {
    let node = node();
    let session = Session::new(&node, "/echo");
    let answer = submit(&node, &session, "d=%5B%22x%22%5D").await;
    assert_eq!(answer.status, 404);
}

#[tokio::test]
async fn a_callback_has_to_be_named() {
    let node = node();
    for query in ["", "?", "?x=callback"] {
        let answer = node.get(&format!("/echo/a/a/jsonp{query}")).await;
        assert_eq!(answer.status, 500, "{query}");
        assert!(
            answer.body.contains("\"callback\" parameter required"),
            "{query}: {}",
            answer.body
        );
    }
}

#[tokio::test]
async fn a_callback_without_a_name_is_none() {
    let answer = node().get("/echo/a/a/jsonp?c=").await;
    assert_eq!(answer.status, 500);
    assert!(
        answer.body.contains("\"callback\" parameter"),
        "{}",
        answer.body
    );
}

#[tokio::test]
async fn a_callback_may_be_named_by_either_parameter() {
    let node = node();
    for query in [
        "c=_jp.a1b2c3",
        "callback=_jp.a1b2c3",
        "t=1&c=_jp.a1b2c3",
        "c=%5Fjp%2ea1b2c3",
    ] {
        let session = Session::new(&node, "/echo");
        let answer = node.get(&format!("{}/jsonp?{query}", session.url)).await;
        assert_eq!(answer.body, "/**/_jp.a1b2c3(\"o\");\r\n", "{query}");
    }
}

#[tokio::test]
async fn a_callback_that_is_no_name_is_refused() {
    let node = node();
    for callback in [
        "%20",
        "*",
        "abc(",
        "abc%28",
        "a%22b",
        "a%3Cscript%3E",
        "a;b",
        "a%0Ab",
        "%C3%A9",
        "a%00",
    ] {
        let session = Session::new(&node, "/echo");
        let answer = node
            .get(&format!("{}/jsonp?c={callback}", session.url))
            .await;
        assert_eq!(answer.status, 500, "{callback}");
        assert!(
            answer.body.contains("invalid \"callback\" parameter"),
            "{callback}: {}",
            answer.body
        );
        assert_eq!(session.send("[\"x\"]").await.status, 404, "no session");
    }
}

#[tokio::test]
async fn a_callback_has_32_characters_at_most() {
    let node = node();
    let session = Session::new(&node, "/echo");
    let poll = |length| {
        let callback = "x".repeat(length);
        Request::get(format!("{}/jsonp?c={callback}", session.url))
    };
    let refused = node.fetch(poll(33)).await;
    assert_eq!(refused.status, 500);
    assert!(refused.body.contains("invalid \"callback\" parameter"));
    let taken = node.fetch(poll(32)).await;
    assert_eq!(taken.body, format!("/**/{}(\"o\");\r\n", "x".repeat(32)));
}

#[tokio::test]
async fn a_session_that_the_server_closed_says_so_in_each_poll() {
    let node = node();
    let session = open(&node, "/close").await;
    let expected = format!("/**/x({});\r\n", serde_json::json!(GO_AWAY));
    for _ in 0..3 {
        assert_eq!(poll(&node, &session).await, expected);
    }
}
