//! The tutorial's raw protocol: one room from the first moment to the last.

use bytes::Bytes;
use tokio::sync::watch;

use super::{End, Session};
use crate::cluster::LeaveReason;
use crate::demo::{self, Refusal};
use crate::hub::Hub;
use crate::hub::room::Membership;
use crate::websocket::close::Close;

/// A connection of the tutorial's protocol.
pub(crate) struct Tutorial {
    hub: Hub,
    membership: Membership,
    pauses: watch::Receiver<bool>,
    /// Messages of one read, which go together.
    texts: Vec<Bytes>,
}

impl Tutorial {
    /// The session of a member.
    pub(crate) fn new(hub: Hub, membership: Membership) -> Self {
        Self {
            hub,
            pauses: membership.pauses(),
            membership,
            texts: Vec::new(),
        }
    }
}

impl Session for Tutorial {
    fn text(&mut self, text: &[u8]) -> Result<usize, Close> {
        match demo::stamp(text, self.membership.member(), self.membership.color()) {
            Ok(stamped) => {
                let length = stamped.len();
                self.texts.push(self.hub.context().budget.said(stamped));
                Ok(length)
            }
            Err(refusal) => {
                self.hub.metrics().refused(refusal);
                if refusal == Refusal::NotUtf8 {
                    return Err(Close::NOT_UTF8);
                }
                tracing::debug!(bytes = text.len(), %refusal, "message dropped");
                Ok(0)
            }
        }
    }

    fn binary(&mut self, bytes: &[u8]) -> Result<usize, Close> {
        self.text(bytes)
    }

    fn read_ends(&mut self) {
        let texts = std::mem::take(&mut self.texts);
        if !texts.is_empty() {
            tracing::trace!(messages = texts.len(), "received");
            self.membership.send(texts);
        }
    }

    fn catch_up(&mut self, since: Option<u64>) {
        if let Some(since) = since {
            tracing::debug!(since, "skips ahead");
            self.membership.catch_up(since);
        }
    }

    fn taken(&mut self) {
        self.membership.taken();
    }

    fn is_paused(&self) -> bool {
        *self.pauses.borrow()
    }

    fn end(self: Box<Self>, end: End) {
        self.membership.leave(if end == End::Node(Close::DEAD) {
            LeaveReason::TimedOut
        } else {
            LeaveReason::Closed
        });
    }
}
