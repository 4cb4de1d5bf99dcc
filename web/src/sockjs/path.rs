//! What a path below a SockJS prefix asks for.

use super::transport::Transport;

/// A path below the prefix, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Route<'a> {
    /// The prefix itself.
    Greeting,
    /// `/info`.
    Info,
    /// `/iframe….html`.
    Iframe,
    /// `/websocket`: messages without frames.
    RawWebSocket,
    /// `/SERVER/SESSION/…`.
    Session {
        /// The session's id, as it is written in the path.
        id: &'a str,
        /// What is done with it.
        does: Action,
    },
}

/// What is done with a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// Hear it.
    Receive(Transport),
    /// Say something in a POST's body.
    XhrSend,
    /// Say something in a form.
    JsonpSend,
    /// Both over a WebSocket.
    WebSocket,
}

/// Bytes of a session's id.
const ID_BYTES_MAX: usize = 200;

/// Takes the rest of a path apart, which is empty or begins with a slash; one slash at its end does not
/// matter. `/~NODE` may come first: then the path is one that names the node whose the session is.
/// `None` if nothing is there.
pub(crate) fn route(rest: &str) -> Option<(Option<&str>, Route<'_>)> {
    if let Some(route) = plain(rest) {
        return Some((None, route));
    }
    let named = rest.strip_prefix("/~")?;
    let (node, rest) = named.split_at(named.find('/').unwrap_or(named.len()));
    Some((Some(node), plain(rest)?))
}

fn plain(rest: &str) -> Option<Route<'_>> {
    if rest.is_empty() || rest == "/" {
        return Some(Route::Greeting);
    }
    let rest = rest.strip_prefix('/')?;
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let mut parts = rest.split('/');
    let first = parts.next()?;
    let Some(id) = parts.next() else {
        return match first {
            "info" => Some(Route::Info),
            "websocket" => Some(Route::RawWebSocket),
            _ => is_iframe(first).then_some(Route::Iframe),
        };
    };
    let transport = parts.next()?;
    let is_part = |part: &str| !part.is_empty() && !part.contains('.');
    if parts.next().is_some() || !is_part(first) || !is_part(id) || id.len() > ID_BYTES_MAX {
        return None;
    }
    let does = match transport {
        "xhr" => Action::Receive(Transport::Xhr),
        "xhr_streaming" => Action::Receive(Transport::XhrStreaming),
        "eventsource" => Action::Receive(Transport::EventSource),
        "htmlfile" => Action::Receive(Transport::HtmlFile),
        "jsonp" => Action::Receive(Transport::Jsonp),
        "xhr_send" => Action::XhrSend,
        "jsonp_send" => Action::JsonpSend,
        "websocket" => Action::WebSocket,
        _ => return None,
    };
    Some(Route::Session { id, does })
}

/// `iframe[0-9-.a-z_]*.html`.
fn is_iframe(name: &str) -> bool {
    name.strip_prefix("iframe")
        .and_then(|rest| rest.strip_suffix(".html"))
        .is_some_and(|middle| {
            middle
                .bytes()
                .all(|byte| matches!(byte, b'0'..=b'9' | b'-' | b'.' | b'a'..=b'z' | b'_'))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(rest: &str) -> Option<Route<'_>> {
        super::route(rest).map(|(_, route)| route)
    }

    #[test]
    fn a_path_may_name_the_node_first() {
        let xhr = Route::Session {
            id: "b",
            does: Action::Receive(Transport::Xhr),
        };
        assert_eq!(super::route("/~n1/a/b/xhr"), Some((Some("n1"), xhr)));
        assert_eq!(super::route("/~n1/b/xhr"), Some((None, xhr)));
        assert_eq!(super::route("/~n1"), Some((Some("n1"), Route::Greeting)));
        assert_eq!(
            super::route("/~n1/websocket"),
            Some((Some("n1"), Route::RawWebSocket))
        );
        assert_eq!(super::route("/~n1/~n2/a/b/xhr"), None);
    }

    #[test]
    fn the_prefix_greets_with_a_slash_or_without() {
        assert_eq!(route(""), Some(Route::Greeting));
        assert_eq!(route("/"), Some(Route::Greeting));
        for nothing in ["//", "/a", "/a/a", "/a/a/", "/a/"] {
            assert_eq!(route(nothing), None, "{nothing}");
        }
    }

    #[test]
    fn an_iframe_has_any_version_in_its_name() {
        for there in [
            "/iframe.html",
            "/iframe-0.1.2-dirty.2144.html",
            "/iframe-a_b.html",
            "/iframe.html/",
        ] {
            assert_eq!(route(there), Some(Route::Iframe), "{there}");
        }
        for not in [
            "/iframe.htm",
            "/iframe",
            "/IFRAME.HTML",
            "/xframe.html",
            "/iframe-/.html",
            "/iframe-é.html",
        ] {
            assert_eq!(route(not), None, "{not}");
        }
    }

    #[test]
    fn a_session_is_named_by_its_second_part_alone() {
        let session = |path| match route(path) {
            Some(Route::Session { id, does }) => Some((id, does)),
            _ => None,
        };
        assert_eq!(
            session("/000/abc/xhr"),
            Some(("abc", Action::Receive(Transport::Xhr)))
        );
        assert_eq!(
            session("/999/abc/xhr_send/"),
            Some(("abc", Action::XhrSend))
        );
        assert_eq!(session("/a/b/websocket"), Some(("b", Action::WebSocket)));
        for not in [
            "/a./b/xhr",
            "/a/b./xhr",
            "//b/xhr",
            "/a//xhr",
            "/a/b/",
            "/a/b/nothing",
            "/a/b/xhr/c",
            "/a/b/xhr//",
        ] {
            assert_eq!(session(not), None, "{not}");
        }
        let long = format!("/a/{}/xhr", "x".repeat(201));
        assert_eq!(route(&long), None);
    }
}
