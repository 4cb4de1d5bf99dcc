//! A connection that is said back what it says: for conformance suites.

use std::sync::Arc;

use super::{End, Session};
use crate::hub::outbox::Outbox;
use crate::websocket::close::Close;
use crate::websocket::frame::{self, Opcode};

/// Says back every message.
pub(crate) struct Echo {
    outbox: Arc<Outbox>,
    /// Frames of what was said at once, which go together.
    frames: Vec<u8>,
    count: u64,
}

impl Echo {
    /// To the client that this outbox is for.
    pub(crate) fn new(outbox: Arc<Outbox>) -> Self {
        Self {
            outbox,
            frames: Vec::new(),
            count: 0,
        }
    }
}

impl Session for Echo {
    fn text(&mut self, text: &[u8]) -> Result<usize, Close> {
        let text = std::str::from_utf8(text).map_err(|_| Close::NOT_UTF8)?;
        frame::encode(Opcode::Text, text.as_bytes(), &mut self.frames);
        self.count += 1;
        Ok(text.len())
    }

    fn binary(&mut self, bytes: &[u8]) -> Result<usize, Close> {
        self.text(bytes)
    }

    fn read_ends(&mut self) {
        if self.count > 0 {
            let frames = std::mem::take(&mut self.frames);
            self.outbox.push_vital(frames.into(), self.count);
            self.count = 0;
        }
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
