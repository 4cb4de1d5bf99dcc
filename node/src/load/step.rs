//! What something a server said asks of a client.

/// The next thing to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step<'a> {
    /// A move has arrived; its text.
    Move(&'a [u8]),
    /// The client is there.
    Joined,
    /// This is to be said.
    Answer(&'static [u8]),
    /// The server wants no more of this client; its words.
    Refused(&'a [u8]),
    /// Nothing.
    Nothing,
}
