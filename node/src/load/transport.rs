//! What carries a client's messages: a WebSocket, or one of SockJS's transports.

/// How clients reach the server, and it them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Transport {
    /// A WebSocket, without SockJS
    Websocket,
    /// SockJS over a WebSocket: the messages of a flush in one frame
    Sockjs,
    /// SockJS over HTTP: one answer goes on
    XhrStreaming,
    /// Likewise, as an event stream
    Eventsource,
    /// SockJS over HTTP: an answer for each frame
    XhrPolling,
}

/// How a request of SockJS's HTTP transports asks for what there is to hear.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Hearing {
    pub(super) method: &'static str,
    /// The last part of its path.
    pub(super) name: &'static str,
}

impl Transport {
    /// `None` for those that are WebSockets.
    pub(super) fn hearing(self) -> Option<Hearing> {
        let (method, name) = match self {
            Self::Websocket | Self::Sockjs => return None,
            Self::XhrStreaming => ("POST", "xhr_streaming"),
            Self::Eventsource => ("GET", "eventsource"),
            Self::XhrPolling => ("POST", "xhr"),
        };
        Some(Hearing { method, name })
    }
}

/// The path of a SockJS session.
pub(super) fn path(session: &str) -> String {
    format!("/ws/000/{session}")
}
