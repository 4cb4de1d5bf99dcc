//! What a connection can speak, whatever carries it.

use std::sync::Arc;

use uuid::Uuid;

use super::Session;
use super::echo::Echo;
use super::tutorial::Tutorial;
use super::v1::V1;
use crate::config::Config;
use crate::hub::Hub;
use crate::hub::outbox::Outbox;
use crate::websocket::close::Close;

/// What a connection speaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// The tutorial's protocol, in a room.
    Tutorial(String),
    /// Protocol v1; with cursors in binary frames, or all in JSON.
    V1 {
        /// Binary frames.
        binary: bool,
    },
    /// Every message is said back: for conformance suites.
    Echo,
    /// The connection is closed at once: for conformance suites.
    Closing,
}

impl Dialect {
    /// Begins a connection that writes to `outbox` and is carried by `transport`; gives the id that it
    /// has in the log.
    pub(crate) fn open(
        self,
        hub: &Hub,
        config: &Arc<Config>,
        outbox: &Arc<Outbox>,
        transport: &str,
    ) -> (Uuid, Box<dyn Session>) {
        match self {
            Self::Tutorial(room) => {
                let membership = hub.enter(&room, outbox.clone());
                let id = membership.member();
                tracing::info!(connection = %id, room, transport, "connection opened");
                (id, Box::new(Tutorial::new(hub.clone(), membership)))
            }
            Self::V1 { binary } => {
                let session = V1::new(hub.clone(), outbox.clone(), config.clone(), binary);
                tracing::info!(connection = %session.id(), transport, "connection opened");
                (session.id(), Box::new(session))
            }
            Self::Echo => (Uuid::new_v4(), Box::new(Echo::new(outbox.clone()))),
            Self::Closing => {
                outbox.end(Close::GO_AWAY);
                (Uuid::new_v4(), Box::new(Echo::new(outbox.clone())))
            }
        }
    }
}
