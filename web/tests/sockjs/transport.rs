//! The five transports over HTTP as a client uses them: what is asked, and how frames are read from
//! what comes. How they look on the wire is said in a file for each.

use serde_json::Value;

use super::http::{Request, Response};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    Xhr,
    XhrStreaming,
    EventSource,
    HtmlFile,
    Jsonp,
}

/// Ends after each frame.
pub(crate) const POLLING: [Transport; 2] = [Transport::Xhr, Transport::Jsonp];

/// Frame after frame, up to the response limit.
pub(crate) const STREAMING: [Transport; 3] = [
    Transport::XhrStreaming,
    Transport::EventSource,
    Transport::HtmlFile,
];

pub(crate) const ALL: [Transport; 5] = [
    Transport::Xhr,
    Transport::XhrStreaming,
    Transport::EventSource,
    Transport::HtmlFile,
    Transport::Jsonp,
];

impl Transport {
    /// The request of a receiver on a session's URL.
    pub(crate) fn request(self, url: &str) -> Request {
        match self {
            Self::Xhr => Request::post(format!("{url}/xhr")),
            Self::XhrStreaming => Request::post(format!("{url}/xhr_streaming")),
            Self::EventSource => Request::get(format!("{url}/eventsource")),
            Self::HtmlFile => Request::get(format!("{url}/htmlfile?c=_jp.a123456")),
            Self::Jsonp => Request::get(format!("{url}/jsonp?c=_jp.a123456")),
        }
    }
}

/// One response of a transport, read frame by frame.
#[derive(Debug)]
pub(crate) struct Receiver {
    transport: Transport,
    pub(crate) response: Response,
    received: Vec<u8>,
}

impl Receiver {
    pub(crate) fn new(transport: Transport, response: Response) -> Self {
        assert_eq!(response.status, 200, "{transport:?}");
        Self {
            transport,
            response,
            received: Vec::new(),
        }
    }

    /// The next frame, past the prelude; `None` at the end of the response.
    pub(crate) async fn frame(&mut self) -> Option<String> {
        loop {
            if let Some((frame, length)) = self.parse() {
                self.received.drain(..length);
                return Some(frame);
            }
            match self.response.chunk().await {
                Some(chunk) => self.received.extend(chunk),
                None => {
                    let rest = String::from_utf8_lossy(&self.received);
                    assert_eq!(rest.trim(), "", "half a frame, or none of this transport");
                    return None;
                }
            }
        }
    }

    /// The next frame is this one.
    pub(crate) async fn hears(&mut self, frame: &str) {
        assert_eq!(
            self.frame().await.as_deref(),
            Some(frame),
            "{:?}",
            self.transport
        );
    }

    /// The response is over.
    pub(crate) async fn ends(&mut self) {
        assert_eq!(self.frame().await, None, "{:?}", self.transport);
    }

    /// The first frame of what has come and how many bytes it takes, with what stands before it.
    fn parse(&self) -> Option<(String, usize)> {
        let text = std::str::from_utf8(&self.received).ok()?;
        let (before, start, end) = match self.transport {
            Transport::Xhr => ("", "", "\n"),
            // The prelude is a line of its own, and `h` is a frame too.
            Transport::XhrStreaming => (PRELUDE, "", "\n"),
            Transport::EventSource => ("\r\n", "data: ", "\r\n\r\n"),
            Transport::HtmlFile => ("", "<script>\np(", ");\n</script>\r\n"),
            Transport::Jsonp => ("", "/**/_jp.a123456(", ");\r\n"),
        };
        let mut at = 0;
        if self.transport == Transport::HtmlFile {
            at = text.find(start)?;
        } else if !before.is_empty() && text.starts_with(&before[..1]) {
            // A prelude that is not whole is no frame yet.
            if text.starts_with(before) {
                at = before.len();
            } else if before.starts_with(text) {
                return None;
            }
        }
        let rest = &text[at..];
        if rest.len() < start.len() {
            return None;
        }
        let rest = rest
            .strip_prefix(start)
            .unwrap_or_else(|| panic!("no frame of {:?}: {rest:?}", self.transport));
        let length = rest.find(end)?;
        let frame = match self.transport {
            Transport::Xhr | Transport::XhrStreaming => rest[..length].to_owned(),
            Transport::EventSource => percent_decode(&rest[..length]),
            Transport::HtmlFile | Transport::Jsonp => {
                serde_json::from_str(&rest[..length]).expect("a string in JSON")
            }
        };
        Some((frame, at + start.len() + length + end.len()))
    }
}

/// 2,048 times `h` and the end of the line.
const PRELUDE: &str = {
    const BYTES: [u8; 2049] = {
        let mut bytes = [b'h'; 2049];
        bytes[2048] = b'\n';
        bytes
    };
    match std::str::from_utf8(&BYTES) {
        Ok(text) => text,
        Err(_) => panic!(),
    }
};

/// The messages of an `a` frame.
pub(crate) fn messages(frame: &str) -> Vec<String> {
    let array = frame
        .strip_prefix('a')
        .unwrap_or_else(|| panic!("no messages: {frame}"));
    serde_json::from_str(array).unwrap()
}

/// Code and reason of a `c` frame.
pub(crate) fn close(frame: &str) -> (u64, String) {
    let array = frame
        .strip_prefix('c')
        .unwrap_or_else(|| panic!("no close: {frame}"));
    let array: Value = serde_json::from_str(array).unwrap();
    (
        array[0].as_u64().unwrap(),
        array[1].as_str().unwrap().to_owned(),
    )
}

/// What a browser's `decodeURI` makes of the data of an event.
fn percent_decode(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digits = [rest.next().unwrap(), rest.next().unwrap()];
            let digits = std::str::from_utf8(&digits).unwrap();
            bytes.push(u8::from_str_radix(digits, 16).expect("an escape"));
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).unwrap()
}

/// `text` as the value of a form's field.
pub(crate) fn percent_encode(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        match byte {
            b' ' => encoded.push('+'),
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => {
                encoded.push(char::from(byte));
            }
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}
