//! Clients that mean harm, or are broken: bodies without end, sessions without number, names with
//! scripts in them. Each gets its refusal, and nobody else notices.

use std::time::{Duration, Instant};

use cursormesh_web::config::SockJs;
use tokio::net::TcpStream;
use tokio::time::sleep;

use super::cors::is_readable_by;
use super::http::{Pending, Request, soon};
use super::node::{Node, node, node_with};
use super::session::Session;
use super::transport::{ALL, Transport};

/// The session still does what it is for, and so does another.
async fn goes_on(node: &Node, session: &Session) {
    let other = Session::open(node, "/echo").await;
    for session in [session, &other] {
        session.say(&["still there"]).await;
        assert_eq!(session.poll().await, "a[\"still there\"]\n");
    }
}

// ---------------------------------------------------------------------------------------------
// Bodies.

fn small_bodies() -> Node {
    node_with(SockJs {
        body_bytes_max: 1024,
        ..SockJs::default()
    })
}

/// A body of so many bytes with one message.
fn body(length: usize) -> String {
    format!("[\"{}\"]", "x".repeat(length - 4))
}

#[tokio::test]
async fn a_body_of_the_largest_size_is_taken() {
    let node = small_bodies();
    let session = Session::open(&node, "/echo").await;
    assert_eq!(session.send(body(1024)).await.status, 204);
    assert_eq!(session.poll().await, format!("a{}\n", body(1024)));
}

#[tokio::test]
async fn a_larger_one_is_refused_with_413() {
    let node = small_bodies();
    let session = Session::open(&node, "/echo").await;
    let answer = session.send(body(1025)).await;
    assert_eq!(answer.status, 413);
    is_readable_by(&answer.headers, None);
    goes_on(&node, &session).await;

    let form = Request::post(format!("{}/jsonp_send", session.url))
        .header("Content-Type", "application/x-www-form-urlencoded")
        .body(format!("d={}", "x".repeat(1024)));
    assert_eq!(node.fetch(form).await.status, 413);
    goes_on(&node, &session).await;
}

#[tokio::test]
async fn a_larger_one_in_chunks_is_refused_too() {
    let node = small_bodies();
    let session = Session::open(&node, "/echo").await;
    let chunk = format!("100\r\n{}\r\n", "x".repeat(256));
    let request = Request::post(format!("{}/xhr_send", session.url))
        .header("Transfer-Encoding", "chunked")
        .body(chunk.repeat(5));
    let mut pending = request.start(node.addr).await;
    pending.wait().await;
    assert_eq!(pending.response().await.status, 413);
    goes_on(&node, &session).await;
}

#[tokio::test]
async fn a_length_that_is_too_large_is_refused_before_anything_comes() {
    let node = small_bodies();
    let session = Session::open(&node, "/echo").await;
    let request = Request::post(format!("{}/xhr_send", session.url))
        .header("Content-Length", "1000000000000");
    let mut pending = request.start(node.addr).await;
    pending.wait().await;
    assert_eq!(pending.response().await.status, 413);
    goes_on(&node, &session).await;
}

#[tokio::test]
async fn a_body_without_end_is_not_read_to_its_end() {
    let node = small_bodies();
    let session = Session::open(&node, "/echo").await;
    let request =
        Request::post(format!("{}/xhr_send", session.url)).header("Transfer-Encoding", "chunked");
    let mut pending = request.start(node.addr).await;
    let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x1_0000));
    soon(async { while pending.flood(chunk.as_bytes()).await {} }).await;
    // The refusal may have been lost with the connection.
    let status = pending.status_if_any().await;
    assert!(matches!(status, Some(413) | None), "{status:?}");
    goes_on(&node, &session).await;
}

#[tokio::test]
async fn a_body_that_stops_midway_is_given_up_with_408() {
    let node = node_with(SockJs {
        body_timeout: Duration::from_millis(300),
        ..SockJs::default()
    });
    let session = Session::open(&node, "/echo").await;
    for (name, framing, start) in [
        ("xhr_send", ("Content-Length", "20"), "[\"x"),
        ("jsonp_send", ("Content-Length", "20"), "d=%5B"),
        ("xhr_send", ("Content-Length", "20"), ""),
        (
            "xhr_send",
            ("Transfer-Encoding", "chunked"),
            "3\r\n[\"x\r\n",
        ),
    ] {
        let request = Request::post(format!("{}/{name}", session.url))
            .header(framing.0, framing.1)
            .body(start);
        let started = Instant::now();
        let mut pending = request.start(node.addr).await;
        pending.wait().await;
        assert_eq!(pending.response().await.status, 408, "{name} {start:?}");
        assert!(started.elapsed() >= Duration::from_millis(250));
        goes_on(&node, &session).await;
    }
}

#[tokio::test]
async fn a_body_that_trickles_is_given_up_all_the_same() {
    let node = node_with(SockJs {
        body_timeout: Duration::from_millis(500),
        ..SockJs::default()
    });
    let session = Session::open(&node, "/echo").await;
    let request =
        Request::post(format!("{}/xhr_send", session.url)).header("Content-Length", "10000");
    let mut pending = request.start(node.addr).await;
    soon(async {
        while tokio::time::timeout(Duration::from_millis(50), pending.wait())
            .await
            .is_err()
        {
            pending.flood(b" ").await;
        }
    })
    .await;
    assert_eq!(pending.response().await.status, 408);
    goes_on(&node, &session).await;
}

#[tokio::test]
async fn a_body_that_is_broken_off_is_not_a_message() {
    let node = node();
    let session = Session::open(&node, "/echo").await;
    let request = Request::post(format!("{}/xhr_send", session.url))
        .header("Content-Length", "20")
        .body("[\"x\"]");
    request.start(node.addr).await.hang_up();
    goes_on(&node, &session).await;
}

#[tokio::test]
async fn json_that_is_nested_deeply_is_refused() {
    let node = node();
    let session = Session::open(&node, "/echo").await;
    for body in [
        "[".repeat(100_000),
        format!("{}{}", "[".repeat(50_000), "]".repeat(50_000)),
    ] {
        assert_eq!(session.send(body).await.status, 500);
    }
    goes_on(&node, &session).await;
}

// ---------------------------------------------------------------------------------------------
// Sessions.

#[tokio::test]
async fn there_are_so_many_sessions_and_no_more() {
    let node = node_with(SockJs {
        sessions_max: 3,
        ..SockJs::default()
    });
    let mut open = Vec::new();
    for _ in 0..3 {
        let session = Session::new(&node, "/echo");
        open.push((
            session.receive_first(Transport::XhrStreaming).await,
            session,
        ));
    }
    for transport in ALL {
        let session = Session::new(&node, "/echo");
        let answer = node.fetch(transport.request(&session.url)).await;
        assert_eq!(answer.status, 503, "{transport:?}");
        if !matches!(transport, Transport::HtmlFile | Transport::Jsonp) {
            is_readable_by(&answer.headers, None);
        }
    }
    for (receiver, session) in &mut open {
        session.say(&["x"]).await;
        receiver.hears("a[\"x\"]").await;
    }

    // Where one goes, there is room for another.
    let (gone, _) = open.pop().unwrap();
    gone.response.reset();
    let session = Session::new(&node, "/echo");
    let answer = soon(async {
        loop {
            let answer = node.post(&format!("{}/xhr", session.url)).await;
            if answer.status != 503 {
                break answer;
            }
            sleep(Duration::from_millis(10)).await;
        }
    });
    assert_eq!(answer.await.body, "o\n");
}

#[tokio::test]
async fn a_thousand_sessions_that_are_abandoned_are_gone_after_the_disconnect_delay() {
    let node = node_with(SockJs {
        disconnect_delay: Duration::from_millis(1000),
        ..SockJs::default()
    });
    let stays = Session::new(&node, "/echo");
    let mut receiver = stays.receive_first(Transport::XhrStreaming).await;
    let first = Session::open(&node, "/echo").await;
    first.say(&[&"x".repeat(1000)]).await;
    for _ in 0..999 {
        Session::open(&node, "/echo").await;
    }
    assert!(node.sessions().await > 1);
    node.has_sessions(1).await;
    assert_eq!(first.send("[\"x\"]").await.status, 404);
    stays.say(&["x"]).await;
    receiver.hears("a[\"x\"]").await;
}

#[tokio::test]
async fn sessions_that_are_cut_off_while_they_receive_are_gone_at_once() {
    let node = node_with(SockJs {
        disconnect_delay: Duration::from_secs(600),
        ..SockJs::default()
    });
    let mut receivers = Vec::new();
    for n in 0..200 {
        let session = Session::new(&node, "/echo");
        let transport = [Transport::XhrStreaming, Transport::EventSource][n % 2];
        receivers.push(session.receive_first(transport).await);
    }
    assert_eq!(node.sessions().await, 200);
    for receiver in receivers {
        receiver.response.reset();
    }
    node.has_sessions(0).await;
}

#[tokio::test]
async fn what_is_refused_leaves_no_session_behind() {
    let node = node();
    for path in [
        "jsonp",
        "jsonp?c=%20",
        "htmlfile",
        "htmlfile?c=*",
        "websocket",
        "unknown",
    ] {
        let session = Session::new(&node, "/echo");
        let answer = node.get(&format!("{}/{path}", session.url)).await;
        assert!(answer.status >= 400, "{path}");
        session.send("[\"x\"]").await;
    }
    assert_eq!(node.sessions().await, 0);
}

// ---------------------------------------------------------------------------------------------
// Heads.

#[tokio::test]
async fn a_callback_with_a_script_in_it_is_not_repeated() {
    let node = node();
    for name in ["jsonp", "htmlfile"] {
        for callback in [
            "%3Cscript%3Ealert(1)%3C/script%3E",
            "x%3C/script%3E%3Cscript%3Ealert(1)%3C/script%3E",
            "x;alert(1);y",
            "x%0d%0aSet-Cookie:%20a=b",
        ] {
            for parameter in ["c", "callback"] {
                let path = format!("/echo/000/abc/{name}?{parameter}={callback}");
                let answer = node.get(&path).await;
                assert_eq!(answer.status, 500, "{path}");
                assert!(!answer.body.contains("alert"), "{}", answer.body);
                assert!(!answer.headers.content_type().starts_with("text/html"));
                assert_eq!(answer.headers.get("set-cookie"), None);
            }
        }
    }
}

#[tokio::test]
async fn a_cookie_cannot_bring_headers_of_its_own() {
    let node = node();
    let session = Session::new(&node, "/cookie_needed_echo");
    let request = Transport::Xhr
        .request(&session.url)
        .header("Cookie", "JSESSIONID=a\tb,c\"d; x=y");
    let answer = node.fetch(request).await;
    assert_eq!(answer.status, 200);
    let cookie = answer.headers.get("set-cookie").unwrap();
    assert!(cookie.starts_with("JSESSIONID="), "{cookie}");
    assert!(cookie.ends_with("; path=/"), "{cookie}");
    assert_eq!(cookie.matches(';').count(), 1, "{cookie}");
}

#[tokio::test]
async fn a_flood_of_headers_is_refused() {
    let node = node();
    let session = Session::open(&node, "/echo").await;
    let mut request = Transport::Xhr.request(&session.url);
    for n in 0..200 {
        request = request.header(&format!("X-{n}"), "x");
    }
    let status = request.start(node.addr).await.status_if_any().await;
    assert!(matches!(status, Some(400..=499)), "{status:?}");
    goes_on(&node, &session).await;
}

#[tokio::test]
async fn a_head_without_end_is_refused() {
    let node = node();
    let session = Session::open(&node, "/echo").await;
    let stream = TcpStream::connect(node.addr).await.unwrap();
    let mut pending = Pending::new(stream);
    let piece = format!("POST {}/xhr HTTP/1.1\r\nX-Endless: ", session.url);
    assert!(pending.flood(piece.as_bytes()).await);
    let piece = "x".repeat(0x1_0000);
    soon(async { while pending.flood(piece.as_bytes()).await {} }).await;
    // The refusal may have been lost with the connection.
    let status = pending.status_if_any().await;
    assert!(matches!(status, Some(400..=499) | None), "{status:?}");
    goes_on(&node, &session).await;
}

#[tokio::test]
async fn an_address_of_any_length_or_kind_does_no_harm() {
    let node = node();
    let long = "x".repeat(20_000);
    for path in [
        format!("/echo/000/{long}/xhr"),
        format!("/echo/{long}/abc/xhr"),
        format!("/echo/000/abc/{long}"),
        format!("/echo/000/abc/jsonp?c={long}"),
        "/echo/000/%00/xhr".to_owned(),
        "/echo/000/%zz/xhr".to_owned(),
        "/echo/000/%ff%fe/xhr".to_owned(),
        "/echo/000/%2e%2e%2f/xhr".to_owned(),
        "/echo/../echo/000/abc/xhr".to_owned(),
    ] {
        let status = Request::post(&path).start(node.addr).await;
        let status = status.status_if_any().await.unwrap();
        assert!((200..=505).contains(&status), "{status}");
    }
    goes_on(&node, &Session::open(&node, "/echo").await).await;
}
