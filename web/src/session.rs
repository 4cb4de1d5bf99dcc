//! What a connection speaks: from whole messages to what happens in rooms. The socket is someone
//! else's business, so that one session runs over any transport.

pub(crate) mod dialect;
mod echo;
pub(crate) mod tutorial;
pub(crate) mod v1;

use tokio::time::Instant;

use crate::websocket::close::Close;

/// How a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// The node closes.
    Node(Close),
    /// The client closes, with a code or without.
    Client(Option<u16>),
    /// The socket ended or failed without a close frame.
    Broken,
}

/// The protocol of one connection. An error closes the connection.
pub(crate) trait Session: Send {
    /// A whole text message, valid UTF-8. Gives the bytes that it makes the node pass on.
    fn text(&mut self, text: &[u8]) -> Result<usize, Close>;

    /// A whole binary message, likewise.
    fn binary(&mut self, bytes: &[u8]) -> Result<usize, Close>;

    /// What was read at once is given: what was kept to go together goes.
    fn read_ends(&mut self) {}

    /// The socket took everything that waited: what was left out meanwhile is due, frames after
    /// number `since` where they are numbered.
    fn catch_up(&mut self, since: Option<u64>);

    /// Nothing waits for the socket any more.
    fn taken(&mut self) {}

    /// Whether what the client sends has to wait.
    fn is_paused(&self) -> bool;

    /// When [`Session::on_time`] is to be called.
    fn deadline(&self) -> Option<Instant> {
        None
    }

    /// A deadline has passed.
    fn on_time(&mut self, _now: Instant) -> Result<(), Close> {
        Ok(())
    }

    /// The connection ends.
    fn end(self: Box<Self>, end: End);
}
