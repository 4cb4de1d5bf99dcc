//! A stream's sending half that is reset, not ended, when it is dropped before its end.

use std::ops::{Deref, DerefMut};

use quinn::{SendStream, VarInt};

use super::CarryError;

/// QUIC ends a stream that is dropped, so that half an answer would pass for a whole one.
#[derive(Debug)]
pub(super) struct Sending {
    stream: SendStream,
    /// With what it is reset.
    code: VarInt,
    ended: bool,
}

impl Sending {
    pub(super) fn new(stream: SendStream, code: VarInt) -> Self {
        Self {
            stream,
            code,
            ended: false,
        }
    }

    /// Ends the stream after what was written.
    pub(super) fn finish(&mut self) -> Result<(), CarryError> {
        self.ended = true;
        self.stream.finish().map_err(|_| CarryError::Broken)
    }

    /// Resets the stream now, with a code of its own.
    pub(super) fn refuse(mut self, code: VarInt) {
        self.code = code;
    }
}

impl Deref for Sending {
    type Target = SendStream;

    fn deref(&self) -> &SendStream {
        &self.stream
    }
}

impl DerefMut for Sending {
    fn deref_mut(&mut self) -> &mut SendStream {
        &mut self.stream
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        if !self.ended {
            // Fails only on a stream that was reset or on one whose connection is gone.
            let _ = self.stream.reset(self.code);
        }
    }
}
