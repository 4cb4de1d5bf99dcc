//! Passing a request on to the node it is for, and its answer back.

use std::sync::Arc;

use quinn::RecvStream;

use super::header::Header;
use super::route::Hop;
use super::sending::Sending;
use super::serve::Incoming;
use super::{Carriage, CarryError, STREAM_WINDOW, TAKEN, add};

impl Carriage {
    /// Passes a request on over this node's own link to its target, if it may be, and the answer
    /// back as it comes. When the asker goes, the target's handler is told.
    pub(super) async fn pass_on(self: &Arc<Self>, sending: Sending, incoming: Incoming) {
        let Incoming {
            header,
            body,
            unanswered,
            permit,
        } = incoming;
        let neighbour = self.view.neighbour(&header.target);
        let Some(hop) = neighbour.filter(|_| header.left == 1).map(Hop::from) else {
            sending.refuse(CarryError::Unreachable.code());
            return;
        };
        add(&self.counters().carry_relayed);
        let header = Header { left: 0, ..header };
        let gone = sending.stopped();
        let asked = tokio::select! {
            _ = gone => return,
            asked = self.ask(&hop, &header, body) => asked,
        };
        drop(unanswered);
        match asked {
            Ok(mut asked) => pipe(&mut asked.stream, sending).await,
            Err(error) => sending.refuse(error.code()),
        }
        drop(permit);
    }
}

/// Passes the answer on as QUIC takes it: what the asker does not read is not read from the target.
async fn pipe(from: &mut RecvStream, mut to: Sending) {
    if to.write_all(&[TAKEN]).await.is_err() {
        return;
    }
    let gone = to.stopped();
    tokio::pin!(gone);
    loop {
        let chunk = tokio::select! {
            _ = &mut gone => return,
            chunk = from.read_chunk(STREAM_WINDOW as usize, true) => chunk,
        };
        match chunk {
            Ok(Some(chunk)) => {
                if to.write_chunk(chunk.bytes).await.is_err() {
                    return;
                }
            }
            Ok(None) => {
                // Fails only if the asker has gone.
                let _ = to.finish();
                return;
            }
            Err(error) => {
                to.refuse(CarryError::from(error).code());
                return;
            }
        }
    }
}
