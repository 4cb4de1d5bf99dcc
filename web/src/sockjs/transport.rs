//! What the HTTP transports make of frames: what comes before the first, and how each is wrapped.

use std::fmt::Write;

use serde::{Deserialize, Serialize};

use super::frame::quote;

/// How frames reach a client over HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Transport {
    /// A request that is answered with one frame.
    Xhr,
    /// An answer that goes on.
    XhrStreaming,
    /// The browser's own event stream.
    EventSource,
    /// A page in a hidden frame that goes on.
    HtmlFile,
    /// A script that calls a function with one frame.
    Jsonp,
}

/// The HTML head of an htmlfile, before the callback's name and after it.
const HTML: [&str; 2] = [
    "<!doctype html>\n<html><head>\n  <meta http-equiv=\"X-UA-Compatible\" content=\"IE=edge\" />\n  \
     <meta http-equiv=\"Content-Type\" content=\"text/html; charset=UTF-8\" />\n</head><body><h2>Don't \
     panic!</h2>\n  <script>\n    document.domain = document.domain;\n    var c = parent.",
    ";\n    c.start();\n    function p(d) {c.message(d);};\n    window.onload = function() {c.stop();};\n  \
     </script>",
];
/// Some browsers look at a page once so many bytes are there.
const HTML_BYTES_MIN: usize = 1024;
const XHR_PRELUDE_BYTES: usize = 2048;
const CALLBACK_BYTES_MAX: usize = 32;

/// Why a request's callback is not taken; the words are the protocol's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CallbackError {
    /// There is none.
    #[error("\"callback\" parameter required")]
    Required,
    /// It is not a plain name: it would be a way to put script into the answer.
    #[error("invalid \"callback\" parameter")]
    Invalid,
}

impl Transport {
    /// Whether an answer ends with its first frame.
    pub(crate) fn is_polling(self) -> bool {
        matches!(self, Self::Xhr | Self::Jsonp)
    }

    /// Whether requests name a function to call.
    pub(crate) fn has_callback(self) -> bool {
        matches!(self, Self::HtmlFile | Self::Jsonp)
    }

    /// The answer's `Content-Type`.
    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::Xhr | Self::XhrStreaming | Self::Jsonp => "application/javascript; charset=UTF-8",
            Self::EventSource => "text/event-stream; charset=UTF-8",
            Self::HtmlFile => "text/html; charset=UTF-8",
        }
    }

    /// What an answer begins with; does not count against the response limit.
    pub(crate) fn prelude(self, callback: &str) -> String {
        match self {
            Self::Xhr | Self::Jsonp => String::new(),
            Self::XhrStreaming => {
                let mut text = "h".repeat(XHR_PRELUDE_BYTES);
                text.push('\n');
                text
            }
            Self::EventSource => "\r\n".to_owned(),
            Self::HtmlFile => {
                let mut text = [HTML[0], callback, HTML[1]].concat();
                while text.len() < HTML_BYTES_MIN {
                    text.push(' ');
                }
                text.push_str("\r\n\r\n");
                text
            }
        }
    }

    /// A frame as it goes into the answer.
    pub(crate) fn wrap(self, frame: &str, callback: &str) -> String {
        let mut out = String::with_capacity(frame.len() + 64);
        match self {
            Self::Xhr | Self::XhrStreaming => {
                out.push_str(frame);
                out.push('\n');
            }
            Self::EventSource => {
                out.push_str("data: ");
                for character in frame.chars() {
                    match character {
                        '%' | '\r' | '\n' | '\0' => {
                            // Writing to a String cannot fail.
                            let _ = write!(out, "%{:02X}", u32::from(character));
                        }
                        _ => out.push(character),
                    }
                }
                out.push_str("\r\n\r\n");
            }
            Self::HtmlFile => {
                out.push_str("<script>\np(");
                quote_in_script(frame, &mut out);
                out.push_str(");\n</script>\r\n");
            }
            Self::Jsonp => {
                out.push_str("/**/");
                out.push_str(callback);
                out.push('(');
                quote_in_script(frame, &mut out);
                out.push_str(");\r\n");
            }
        }
        out
    }
}

/// A JSON string that stays one inside a `<script>`: no `</script>` in it ends that.
fn quote_in_script(text: &str, out: &mut String) {
    let mut quoted = String::with_capacity(text.len() + 2);
    quote(text, &mut quoted);
    for character in quoted.chars() {
        match character {
            '<' => out.push_str("\\u003c"),
            _ => out.push(character),
        }
    }
}

/// The name of a function that a request wants called, if it may.
pub(crate) fn callback(name: Option<&str>) -> Result<&str, CallbackError> {
    let name = name
        .filter(|name| !name.is_empty())
        .ok_or(CallbackError::Required)?;
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if name.len() > CALLBACK_BYTES_MAX || !name.bytes().all(is_plain) {
        return Err(CallbackError::Invalid);
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_wrapped_as_each_transport_wants_them() {
        let frame = r#"a["x%"]"#;
        assert_eq!(Transport::Xhr.wrap(frame, ""), "a[\"x%\"]\n");
        assert_eq!(
            Transport::EventSource.wrap(frame, ""),
            "data: a[\"x%25\"]\r\n\r\n"
        );
        assert_eq!(
            Transport::HtmlFile.wrap(frame, ""),
            "<script>\np(\"a[\\\"x%\\\"]\");\n</script>\r\n"
        );
        assert_eq!(
            Transport::Jsonp.wrap(frame, "cb"),
            "/**/cb(\"a[\\\"x%\\\"]\");\r\n"
        );
    }

    #[test]
    fn no_message_ends_the_script_that_carries_it() {
        let frame = super::super::frame::messages(["</script><script>alert(1)</script>"]);
        for transport in [Transport::HtmlFile, Transport::Jsonp] {
            let text = transport.wrap(&frame, "cb");
            let inside = text
                .replacen("<script>", "", 1)
                .replacen("</script>", "", 1);
            assert!(!inside.contains('<'), "{text}");
        }
    }

    #[test]
    fn answers_that_go_on_begin_with_enough_for_browsers_to_look_at_them() {
        assert_eq!(Transport::XhrStreaming.prelude("").len(), 2049);
        let page = Transport::HtmlFile.prelude("_jp.abc");
        assert!(page.len() > 1024 && page.ends_with("\r\n\r\n"));
        assert!(page.contains("var c = parent._jp.abc;"));
    }

    #[test]
    fn a_callback_is_a_plain_name() {
        assert_eq!(callback(Some("_jp.a1-b")), Ok("_jp.a1-b"));
        assert_eq!(callback(None), Err(CallbackError::Required));
        assert_eq!(callback(Some("")), Err(CallbackError::Required));
        for bad in ["a(b", "%20", "alert(1);//", "é", &"x".repeat(33)] {
            assert_eq!(callback(Some(bad)), Err(CallbackError::Invalid), "{bad}");
        }
    }
}
