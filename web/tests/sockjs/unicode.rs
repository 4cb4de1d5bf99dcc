//! Strings: any string gets through in both directions. The server escapes what browsers would mangle,
//! and takes what they cannot help to send.

use serde_json::json;

use super::node::node;
use super::session::{Listener, Session};
use super::socket::Socket;
use super::transport::{ALL, Transport, messages};

/// What the server always escapes, beyond what JSON demands.
fn escaped() -> Vec<char> {
    let ranges = [
        '\u{200c}'..='\u{200f}',
        '\u{2028}'..='\u{202f}',
        '\u{2060}'..='\u{206f}',
        '\u{fff0}'..='\u{ffff}',
    ];
    ranges.into_iter().flatten().collect()
}

/// Strings that have gone wrong somewhere.
fn strings() -> Vec<String> {
    let controls: String = ('\0'..='\u{1f}').collect();
    let all_sorts: String = (' '..='\u{3ff}').chain('\u{1e00}'..='\u{20ff}').collect();
    let mut strings = vec![
        controls,
        all_sorts,
        escaped().into_iter().collect(),
        "\u{7f}\u{80}\u{9f}\u{ad}\u{feff}".into(),
        "😀 𝄞 👩‍👩‍👧 \u{10000}\u{1f3ff}\u{10ffff}".into(),
        "\u{d7ff}\u{e000}\u{f8ff}\u{fffd}".into(),
        "new\nline\r\ntab\tbell\u{7}".into(),
    ];
    let plain = [
        "",
        " ",
        "é",
        "日本語",
        "\"quoted\" \\ back/slash",
        "</script><script>alert(1)</script>",
        "<!-- & &amp; ]]>",
        "%41 %80 %zz %",
        "+ &d=[]",
        "a[\"x\"]",
        "c[3000,\"Go away!\"]",
        "\\ud800 \\u0041 \\n",
        "data: o\r\n\r\n",
        "\u{2028}\u{2029}",
        "  leading and trailing  ",
    ];
    strings.extend(plain.map(str::to_owned));
    strings
}

#[tokio::test]
async fn what_browsers_mangle_is_escaped() {
    let node = node();
    let session = Session::open(&node, "/echo").await;
    let all: String = escaped().into_iter().collect();
    let sent = session.send(format!("[\"{all}\"]")).await;
    assert_eq!(sent.status, 204);
    let expected: String = escaped()
        .into_iter()
        .map(|char| format!("\\u{:04x}", u32::from(char)))
        .collect();
    assert_eq!(session.poll().await, format!("a[\"{expected}\"]\n"));
}

#[tokio::test]
async fn control_characters_are_escaped() {
    let node = node();
    let session = Session::open(&node, "/echo").await;
    for code in 0..0x20_u8 {
        let long = format!("\\u{code:04x}");
        assert_eq!(session.send(format!("[\"{long}\"]")).await.status, 204);
        let frame = session.poll().await;
        let short = match code {
            8 => "\\b",
            9 => "\\t",
            10 => "\\n",
            12 => "\\f",
            13 => "\\r",
            _ => long.as_str(),
        };
        assert!(
            frame == format!("a[\"{long}\"]\n") || frame == format!("a[\"{short}\"]\n"),
            "{code}: {frame}"
        );
    }
}

#[tokio::test]
async fn simple_strings_are_written_simply() {
    let node = node();
    let session = Session::open(&node, "/echo").await;
    assert_eq!(session.send(r#"["\u0061/\u0020~"]"#).await.status, 204);
    assert_eq!(session.poll().await, "a[\"a/ ~\"]\n");
}

#[tokio::test]
async fn what_clients_escape_is_understood() {
    let node = node();
    let session = Session::open(&node, "/echo").await;
    let codes: Vec<u32> = (0..0xd800).chain(0xe000..0x1_0000).collect();
    for codes in codes.chunks(4096) {
        let escapes: String = codes.iter().map(|code| format!("\\u{code:04x}")).collect();
        let chars: String = codes.iter().copied().filter_map(char::from_u32).collect();
        assert_eq!(session.send(format!("[\"{escapes}\"]")).await.status, 204);
        assert_eq!(messages(session.poll().await.trim_end()), [chars]);
    }
}

#[tokio::test]
async fn characters_beyond_the_first_plane_come_as_pairs_of_escapes_or_as_they_are() {
    let node = node();
    let session = Session::open(&node, "/echo").await;
    for sent in [r#"["\ud83d\ude00"]"#, r#"["\uD83D\uDE00"]"#, "[\"😀\"]"] {
        assert_eq!(session.send(sent).await.status, 204, "{sent}");
        let frame = session.poll().await;
        assert_eq!(messages(frame.trim_end()), ["😀"], "{sent}");
    }
}

/// What is sent within the quotes, and what it means.
const SURROGATES: [(&str, &str); 9] = [
    (r"\ud800", "\u{fffd}"),
    (r"\udfff", "\u{fffd}"),
    (r"\uD800", "\u{fffd}"),
    (r"a\ud800b", "a\u{fffd}b"),
    (r"\ud800\ud800", "\u{fffd}\u{fffd}"),
    (r"\udc00\ud800", "\u{fffd}\u{fffd}"),
    (r"\ud800\ud83d\ude00\udc00", "\u{fffd}😀\u{fffd}"),
    (r"\ud83d\u0041", "\u{fffd}A"),
    (r"\\ud800", "\\ud800"),
];

#[tokio::test]
async fn half_of_a_pair_is_replaced() {
    let node = node();
    let session = Session::open(&node, "/echo").await;
    for (sent, meant) in SURROGATES {
        assert_eq!(session.send(format!("[\"{sent}\"]")).await.status, 204);
        let frame = session.poll().await;
        assert_eq!(messages(frame.trim_end()), [meant], "{sent}");
    }
    assert_eq!(session.send(r#"["\ud800"]"#).await.status, 204);
    assert_eq!(session.poll().await, "a[\"\\ufffd\"]\n");
}

#[tokio::test]
async fn half_of_a_pair_is_replaced_over_websocket_too() {
    let node = node();
    let session = Session::new(&node, "/echo");
    let mut socket = Socket::open(node.addr, &format!("{}/websocket", session.url)).await;
    socket.hears("o").await;
    for (sent, meant) in SURROGATES {
        for frame in [format!("[\"{sent}\"]"), format!("\"{sent}\"")] {
            socket.say(&frame).await;
            assert_eq!(messages(&socket.hear().await), [meant], "{frame}");
        }
    }
}

#[tokio::test]
async fn any_string_gets_through_every_transport() {
    let node = node();
    for transport in ALL {
        let session = Session::new(&node, "/echo");
        let mut listener = Listener::open(&session, transport).await;
        for string in strings() {
            if transport == Transport::Jsonp {
                session.say_with_a_form(&string).await;
            } else {
                session.say(&[&string]).await;
            }
            assert_eq!(listener.hear().await, string, "{transport:?}");
        }
    }
}

#[tokio::test]
async fn any_string_gets_through_a_websocket() {
    let node = node();
    let session = Session::new(&node, "/echo");
    let mut framed = Socket::open(node.addr, &format!("{}/websocket", session.url)).await;
    let mut raw = Socket::open(node.addr, "/echo/websocket").await;
    framed.hears("o").await;
    for string in strings() {
        framed.say(&json!([string]).to_string()).await;
        assert_eq!(messages(&framed.hear().await), [string.as_str()]);
        raw.say(&string).await;
        assert_eq!(raw.hear().await, string);
    }
}

#[tokio::test]
async fn strings_are_text_in_utf_8() {
    let node = node();
    let session = Session::open(&node, "/echo").await;
    for bytes in [&b"[\"\xff\"]"[..], b"[\"\xc3\"]", b"[\"\xed\xa0\x80\"]"] {
        assert_eq!(session.send(bytes).await.status, 500);
    }
    session.say(&["x"]).await;
    assert_eq!(session.poll().await, "a[\"x\"]\n");
}
