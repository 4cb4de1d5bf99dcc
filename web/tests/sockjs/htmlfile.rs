//! `htmlfile`: a page in a hidden frame that never ends, in which each frame is a script that hands it
//! to the page around. Whatever is in a message must not be able to end that script.

use super::http::Request;
use super::node::node;
use super::session::{Listener, Session};
use super::transport::Transport;

#[tokio::test]
async fn it_begins_with_a_head_of_more_than_1024_bytes_and_each_frame_is_a_script_in_a_chunk() {
    let node = node();
    let session = Session::new(&node, "/echo");
    let request = Request::get(format!("{}/htmlfile?c=%63allback", session.url));
    let mut response = node.stream(request).await;
    assert_eq!(response.status, 200);
    assert_eq!(response.headers.content_type(), "text/html;charset=UTF-8");

    let head = response.text().await;
    assert!(head.len() > 1024, "{}", head.len());
    assert!(head.ends_with("\r\n\r\n"));
    assert!(head.to_lowercase().starts_with("<!doctype html>"), "{head}");
    let script = head.split("<script>").nth(1).unwrap();
    let (script, _) = script.split_once("</script>").unwrap();
    let lines: Vec<_> = script.split(['\n', '\r']).map(str::trim).collect();
    for line in [
        "document.domain = document.domain;",
        "var c = parent.callback;",
        "c.start();",
        "function p(d) {c.message(d);};",
        "window.onload = function() {c.stop();};",
    ] {
        assert!(lines.contains(&line), "{line}: {head}");
    }

    assert_eq!(response.text().await, "<script>\np(\"o\");\n</script>\r\n");
    session.say(&["x"]).await;
    assert_eq!(
        response.text().await,
        "<script>\np(\"a[\\\"x\\\"]\");\n</script>\r\n"
    );
}

#[tokio::test]
async fn a_callback_has_to_be_named() {
    let node = node();
    for query in ["", "?", "?x=callback"] {
        let answer = node.get(&format!("/echo/a/a/htmlfile{query}")).await;
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
    let answer = node().get("/echo/a/a/htmlfile?c=").await;
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
        let request = Request::get(format!("{}/htmlfile?{query}", session.url));
        let mut response = node.stream(request).await;
        assert_eq!(response.status, 200, "{query}");
        let head = response.text().await;
        assert!(head.contains("var c = parent._jp.a1b2c3;"), "{head}");
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
            .get(&format!("{}/htmlfile?c={callback}", session.url))
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
async fn a_message_cannot_end_the_script_that_it_is_in() {
    let node = node();
    let session = Session::new(&node, "/echo");
    let mut response = session.receive_first(Transport::HtmlFile).await.response;
    let message = "</script><script>alert(1)</script><!-- </SCRIPT >";
    session.say(&[message]).await;
    let chunk = response.text().await;
    let payload = chunk
        .strip_prefix("<script>\np(")
        .and_then(|rest| rest.strip_suffix(");\n</script>\r\n"))
        .unwrap();
    assert!(!payload.contains('<'), "{payload}");
    let frame: String = serde_json::from_str(payload).unwrap();
    assert_eq!(super::transport::messages(&frame), [message]);
}

#[tokio::test]
async fn it_is_over_when_4096_bytes_of_frames_were_sent() {
    let node = node();
    let session = Session::new(&node, "/echo");
    let mut receiver = session.receive_first(Transport::HtmlFile).await;
    let message = "x".repeat(4096);
    session.say(&[&message]).await;
    receiver.hears(&format!("a[\"{message}\"]")).await;
    receiver.ends().await;
    session.say(&["more"]).await;
    let mut receiver = session.receive(Transport::HtmlFile).await;
    receiver.hears("a[\"more\"]").await;
}

#[tokio::test]
async fn nothing_is_lost_from_one_response_to_the_next() {
    const MESSAGES: usize = 100;
    let node = node();
    let session = Session::new(&node, "/echo");
    let mut listener = Listener::open(&session, Transport::HtmlFile).await;
    let sending = tokio::spawn(async move {
        for n in 0..MESSAGES {
            session.say(&[&format!("{n} {}", "x".repeat(500))]).await;
        }
    });
    for n in 0..MESSAGES {
        let message = listener.hear().await;
        assert!(message.starts_with(&format!("{n} ")), "{n}: {message}");
    }
    assert!(listener.reopened >= 3, "{}", listener.reopened);
    sending.await.unwrap();
}
