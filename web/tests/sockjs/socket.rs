//! A small WebSocket client.

use std::net::SocketAddr;

use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{WebSocketStream, client_async};

use super::http::{Request, soon};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Heard {
    Text(String),
    Ping,
    /// A close frame, with code and reason if it has any.
    Close(Option<(u16, String)>),
    /// The connection ended.
    End,
}

pub(crate) struct Socket {
    stream: WebSocketStream<TcpStream>,
}

impl Socket {
    pub(crate) async fn open(addr: SocketAddr, path: &str) -> Self {
        let stream = TcpStream::connect(addr).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let url = format!("ws://{addr}{path}");
        let (stream, _) = soon(client_async(url, stream)).await.unwrap();
        Self { stream }
    }

    pub(crate) async fn say(&mut self, text: &str) {
        soon(self.stream.send(Message::text(text))).await.unwrap();
    }

    /// What comes next.
    pub(crate) async fn next(&mut self) -> Heard {
        loop {
            match soon(self.stream.next()).await {
                Some(Ok(Message::Text(text))) => return Heard::Text(text.to_string()),
                Some(Ok(Message::Ping(_))) => return Heard::Ping,
                Some(Ok(Message::Close(frame))) => {
                    return Heard::Close(
                        frame.map(|frame| (u16::from(frame.code), frame.reason.to_string())),
                    );
                }
                Some(Ok(Message::Binary(bytes))) => panic!("{bytes:?}"),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Heard::End,
            }
        }
    }

    /// The next text, past pings.
    pub(crate) async fn hear(&mut self) -> String {
        loop {
            match self.next().await {
                Heard::Text(text) => return text,
                Heard::Ping => {}
                end => panic!("{end:?}"),
            }
        }
    }

    pub(crate) async fn hears(&mut self, text: &str) {
        assert_eq!(self.hear().await, text);
    }

    /// The connection is closed by the server, and nothing is said before.
    pub(crate) async fn is_closed(&mut self) -> Option<(u16, String)> {
        loop {
            match self.next().await {
                Heard::Ping => {}
                Heard::Close(frame) => return frame,
                Heard::End => return None,
                Heard::Text(text) => panic!("{text}"),
            }
        }
    }

    /// Closes, and waits until the server has closed too.
    pub(crate) async fn close(mut self) {
        soon(self.stream.close(None)).await.unwrap();
        while self.next().await != Heard::End {}
    }
}

/// A request for an upgrade as a browser makes it.
pub(crate) fn upgrade(path: &str) -> Request {
    Request::get(path)
        .header("Connection", "keep-alive, Upgrade")
        .header("Upgrade", "websocket")
        .header("Sec-WebSocket-Version", "13")
        .header("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
}
