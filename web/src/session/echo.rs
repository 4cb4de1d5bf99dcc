//! A connection that is said back what it says: for conformance suites.

use std::sync::Arc;

use super::{End, Session};
use crate::hub::outbox::Outbox;
use crate::websocket::close::Close;

/// Says back every message.
pub(crate) struct Echo {
    outbox: Arc<Outbox>,
}

impl Echo {
    /// To the client that this outbox is for.
    pub(crate) fn new(outbox: Arc<Outbox>) -> Self {
        Self { outbox }
    }
}

impl Session for Echo {
    fn text(&mut self, text: &[u8]) -> Result<usize, Close> {
        let text = std::str::from_utf8(text).map_err(|_| Close::NOT_UTF8)?;
        self.outbox.say(text);
        Ok(text.len())
    }

    fn binary(&mut self, bytes: &[u8]) -> Result<usize, Close> {
        self.text(bytes)
    }

    fn catch_up(&mut self, _since: Option<u64>) {
        // It owes nothing.
        self.outbox.take_owed();
    }

    fn is_paused(&self) -> bool {
        false
    }

    fn end(self: Box<Self>, _end: End) {}
}
