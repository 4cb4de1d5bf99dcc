//! What the asker gets: the parts of an answer as they come.

use std::sync::Arc;

use bytes::Bytes;
use quinn::VarInt;
use tokio::sync::OwnedSemaphorePermit;

use super::super::framing::Splitter;
use super::{Asked, Carriage, CarryError, PART_BYTES_MAX, add, code};
use crate::proto::NodeName;

/// What is taken out of QUIC at once.
const CHUNK_BYTES: usize = 32 * 1024;

/// The answer to a request that another node's handler has. Dropping it before its end tells the
/// handler at once. Parts that are not taken stay with QUIC, which holds the handler back.
#[derive(Debug)]
pub struct Answer {
    state: State,
    carriage: Arc<Carriage>,
    hop: NodeName,
}

#[derive(Debug)]
enum State {
    Open {
        asked: Asked,
        splitter: Splitter,
        _permit: OwnedSemaphorePermit,
    },
    /// The stream is let go of, and with it the connection, and why.
    Ended(Result<(), CarryError>),
}

impl Answer {
    pub(super) fn new(
        carriage: Arc<Carriage>,
        hop: NodeName,
        asked: Asked,
        permit: OwnedSemaphorePermit,
    ) -> Self {
        Self {
            state: State::Open {
                asked,
                splitter: Splitter::new(PART_BYTES_MAX),
                _permit: permit,
            },
            carriage,
            hop,
        }
    }

    /// The next part, exactly as it was given to [`Reply::send`](super::Reply::send), at most
    /// [`PART_BYTES_MAX`] bytes; `None` when the handler finished. Waits as long as the handler
    /// does; nothing is lost if the future is dropped. What it said last, `None` or the error, it
    /// says from then on.
    ///
    /// [`CarryError::Lost`] if a connection or the node was lost, [`CarryError::Broken`] if the
    /// handler dropped its reply.
    pub async fn next(&mut self) -> Result<Option<Bytes>, CarryError> {
        let outcome = loop {
            let (asked, splitter) = match &mut self.state {
                State::Open {
                    asked, splitter, ..
                } => (asked, splitter),
                State::Ended(outcome) => return outcome.map(|()| None),
            };
            match splitter.next_frame() {
                Ok(Some(part)) => return Ok(Some(part)),
                Ok(None) => splitter.shrink(),
                Err(error) => {
                    self.carriage.malformed(&self.hop, &error.to_string());
                    // Fails only on a stream that has ended.
                    let _ = asked.stream.stop(VarInt::from_u32(code::MALFORMED));
                    break Err(CarryError::Broken);
                }
            }
            match asked.stream.read_chunk(CHUNK_BYTES, true).await {
                Ok(Some(chunk)) => splitter.push(&chunk.bytes),
                Ok(None) if splitter.is_empty() => break Ok(()),
                Ok(None) => {
                    self.carriage
                        .malformed(&self.hop, "an answer that ends within a part");
                    break Err(CarryError::Broken);
                }
                Err(error) => break Err(error.into()),
            }
        };
        if outcome == Err(CarryError::Lost) {
            add(&self.carriage.counters().carry_lost);
        }
        self.state = State::Ended(outcome);
        outcome.map(|()| None)
    }
}
