//! `xhr` and `xhr_send`: each poll is a POST that hangs until there is something, brings one frame and
//! a line end, and is over. Messages are posted as an array of strings in JSON.

use super::http::Request;
use super::node::node;
use super::session::Session;
use super::transport::Transport;

#[tokio::test]
async fn the_first_poll_opens_the_session() {
    let node = node();
    let session = Session::new(&node, "/echo");
    let answer = node.post(&format!("{}/xhr", session.url)).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "o\n"));
    assert_eq!(
        answer.headers.content_type(),
        "application/javascript;charset=UTF-8"
    );
}

#[tokio::test]
async fn a_message_that_is_posted_is_taken_with_204() {
    let node = node();
    let session = Session::open(&node, "/echo").await;
    let answer = session.send("[\"x\"]").await;
    assert_eq!((answer.status, answer.body.as_str()), (204, ""));
    assert_eq!(answer.headers.content_type(), "text/plain;charset=UTF-8");
    assert_eq!(session.poll().await, "a[\"x\"]\n");
}

#[tokio::test]
async fn a_poll_hangs_until_there_is_a_message() {
    let node = node();
    let session = Session::open(&node, "/echo").await;
    let hanging = session.hang(Transport::Xhr).await;
    session.say(&["x"]).await;
    let answer = hanging.response().await.whole().await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "a[\"x\"]\n"));
}

#[tokio::test]
async fn what_waits_comes_together_and_in_order() {
    let node = node();
    let session = Session::open(&node, "/echo").await;
    session.say(&["a", "b"]).await;
    session.say(&["c"]).await;
    session.say(&[]).await;
    session.say(&["", "d"]).await;
    assert_eq!(session.poll().await, "a[\"a\",\"b\",\"c\",\"\",\"d\"]\n");
}

#[tokio::test]
async fn nothing_comes_twice() {
    let node = node();
    let session = Session::open(&node, "/echo").await;
    for n in 0..50 {
        session.say(&[&n.to_string()]).await;
        assert_eq!(session.poll().await, format!("a[\"{n}\"]\n"));
    }
}

#[tokio::test]
async fn a_post_without_messages_is_a_sign_of_life() {
    let node = node();
    let session = Session::open(&node, "/echo").await;
    assert_eq!(session.send("[]").await.status, 204);
    assert_eq!(session.send(" [ ] ").await.status, 204);
    session.say(&["a"]).await;
    assert_eq!(session.poll().await, "a[\"a\"]\n");
}

#[tokio::test]
async fn the_content_types_that_browsers_send_are_accepted() {
    const TYPES: [&str; 8] = [
        "text/plain",
        "T",
        "application/json",
        "application/xml",
        "",
        "application/json; charset=utf-8",
        "text/xml; charset=utf-8",
        "text/xml",
    ];
    let node = node();
    let session = Session::open(&node, "/echo").await;
    for content_type in TYPES {
        let request = Request::post(format!("{}/xhr_send", session.url))
            .header("Content-Type", content_type)
            .body("[\"a\"]");
        let answer = node.fetch(request).await;
        assert_eq!(
            (answer.status, answer.body.as_str()),
            (204, ""),
            "{content_type}"
        );
    }
    session.say(&["without"]).await;
    let expected = format!("a[{}\"without\"]\n", "\"a\",".repeat(TYPES.len()));
    assert_eq!(session.poll().await, expected);
}

#[tokio::test]
async fn other_content_types_are_refused() {
    let node = node();
    let session = Session::open(&node, "/echo").await;
    for content_type in [
        "image/png",
        "application/octet-stream",
        "multipart/form-data",
    ] {
        let request = Request::post(format!("{}/xhr_send", session.url))
            .header("Content-Type", content_type)
            .body("[\"a\"]");
        let answer = node.fetch(request).await;
        assert_eq!(answer.status, 500, "{content_type}");
        assert!(answer.body.contains("Payload expected."), "{}", answer.body);
    }
    session.say(&["b"]).await;
    assert_eq!(session.poll().await, "a[\"b\"]\n");
}

#[tokio::test]
async fn a_body_that_is_empty_or_no_array_is_refused_and_the_session_goes_on() {
    let node = node();
    let session = Session::open(&node, "/echo").await;
    for body in ["", "{}", "{\"0\":\"a\"}", "\"a\"", "1", "true", "null"] {
        let answer = session.send(body).await;
        assert_eq!(answer.status, 500, "{body}");
        assert!(answer.body.contains("Payload expected."), "{}", answer.body);
    }
    session.say(&["a"]).await;
    assert_eq!(session.poll().await, "a[\"a\"]\n");
}

#[tokio::test]
async fn a_body_that_is_no_json_is_refused_and_the_session_goes_on() {
    let node = node();
    let session = Session::open(&node, "/echo").await;
    for body in [
        "[\"x",
        "[\"x\"",
        "[\"x\"]]",
        "[\"x\",]",
        "x",
        "['x']",
        "[\"\\x\"]",
    ] {
        let answer = session.send(body).await;
        assert_eq!(answer.status, 500, "{body}");
        assert!(
            answer.body.contains("Broken JSON encoding."),
            "{}",
            answer.body
        );
    }
    session.say(&["a"]).await;
    assert_eq!(
        session.poll().await,
        "a[\"a\"]\n",
        "and nothing of it was taken"
    );
}

#[tokio::test]
async fn nothing_can_be_posted_to_a_session_that_is_not_there() {
    let node = node();
    let session = Session::new(&node, "/echo");
    assert_eq!(session.send("[\"x\"]").await.status, 404);
    assert_eq!(session.send("[]").await.status, 404);
    assert_eq!(
        session.poll().await,
        "o\n",
        "it is not opened by that either"
    );
}

#[tokio::test]
async fn what_is_wrong_with_a_body_is_said_before_what_is_wrong_with_the_session() {
    let node = node();
    let session = Session::new(&node, "/echo");
    let answer = session.send("").await;
    assert_eq!(answer.status, 500);
    assert!(answer.body.contains("Payload expected."), "{}", answer.body);
    let answer = session.send("[\"x").await;
    assert_eq!(answer.status, 500);
    assert!(
        answer.body.contains("Broken JSON encoding."),
        "{}",
        answer.body
    );
}
