//! What the handler gets: a request, and the way to answer it.

use bytes::Bytes;
use tokio::sync::OwnedSemaphorePermit;

use super::super::framing;
use super::sending::Sending;
use super::{CarryError, PART_BYTES_MAX};
use crate::proto::NodeName;

/// What another node asks of this one.
#[derive(Debug)]
pub struct Request {
    /// Who asks. Through a relay it is the relay that vouches for the name.
    pub from: NodeName,
    /// The request as it was handed over, at most [`REQUEST_BYTES_MAX`](super::REQUEST_BYTES_MAX)
    /// bytes.
    pub body: Bytes,
    /// The way to answer.
    pub reply: Reply,
}

/// The answer's other end. Dropping it without [`Reply::finish`] breaks the answer off: the asker
/// sees [`CarryError::Broken`].
#[derive(Debug)]
pub struct Reply {
    /// Gone once the answer cannot go on, so that it does not keep the connection.
    stream: Option<Sending>,
    gone: CarryError,
    /// The request's bytes in what may wait unanswered.
    unanswered: Option<OwnedSemaphorePermit>,
    _permit: OwnedSemaphorePermit,
}

impl Reply {
    pub(super) fn new(
        stream: Sending,
        unanswered: OwnedSemaphorePermit,
        permit: OwnedSemaphorePermit,
    ) -> Self {
        Self {
            stream: Some(stream),
            gone: CarryError::Broken,
            unanswered: Some(unanswered),
            _permit: permit,
        }
    }

    /// Sends the next part, at most [`PART_BYTES_MAX`] bytes, empty ones too. Resolves when QUIC has
    /// taken it: while the asker does not read, this waits. Dropping the future breaks the answer off.
    ///
    /// [`CarryError::Broken`] if the asker has gone, [`CarryError::Lost`] if the connection was lost;
    /// both for good. [`CarryError::TooBig`] if the part is; the answer can go on without it.
    pub async fn send(&mut self, part: Bytes) -> Result<(), CarryError> {
        if part.len() > PART_BYTES_MAX {
            return Err(CarryError::TooBig);
        }
        self.unanswered = None;
        // Taken out while it is written, because a part that is cut short cannot be followed.
        let mut stream = self.stream.take().ok_or(self.gone)?;
        let mut chunks = framing::join([part]);
        match stream.write_all_chunks(&mut chunks).await {
            Ok(()) => {
                self.stream = Some(stream);
                Ok(())
            }
            Err(error) => {
                self.gone = said_to_handler(error.into());
                Err(self.gone)
            }
        }
    }

    /// Resolves when the asker has gone or the connection is lost, at once if it is so already.
    /// Sends nothing; nothing is lost if the future is dropped.
    pub async fn gone(&mut self) {
        let Some(stream) = &self.stream else { return };
        self.gone = match stream.stopped().await {
            Ok(_) => CarryError::Broken,
            Err(_) => CarryError::Lost,
        };
        self.stream = None;
    }

    /// Ends the answer after the parts that were sent. What [`Reply::send`] said last if that was for
    /// good, and [`CarryError::Broken`] or [`CarryError::Lost`] if [`Reply::gone`] has resolved.
    /// `Ok` does not say that the asker has everything already, or will.
    pub fn finish(mut self) -> Result<(), CarryError> {
        let mut stream = self.stream.take().ok_or(self.gone)?;
        stream.finish()
    }
}

/// An asker that went, whatever the code, has gone; only a lost connection is something else.
fn said_to_handler(error: CarryError) -> CarryError {
    match error {
        CarryError::Lost => CarryError::Lost,
        CarryError::Broken | CarryError::Busy | CarryError::Unreachable | CarryError::TooBig => {
            CarryError::Broken
        }
    }
}
