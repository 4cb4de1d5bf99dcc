//! Frames on ordered lanes: a little-endian `u32` length, then that many bytes.
//!
//! A stream starts with one byte that names its lane; frames follow until it ends. A length above
//! the lane's limit is refused before anything is allocated for it.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::proto::Lane;

/// Bytes of a frame's length prefix.
const PREFIX: usize = 4;
/// Frames up to this size are copied together into one chunk; larger ones are handed on as they are.
const COPY_BYTES_MAX: usize = 4 * 1024;

/// The byte that starts a lane's stream.
pub(super) const fn lane_byte(lane: Lane) -> u8 {
    match lane {
        Lane::Presence => 1,
        Lane::Messages => 2,
        Lane::Bulk => 3,
    }
}

/// The lane that a stream's first byte names; `None` if it names none.
pub(super) const fn lane_of(byte: u8) -> Option<Lane> {
    match byte {
        1 => Some(Lane::Presence),
        2 => Some(Lane::Messages),
        3 => Some(Lane::Bulk),
        _ => None,
    }
}

/// A frame's length is above the lane's limit. The stream cannot be read further.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a frame of {length} bytes, at most {limit} are allowed on this lane")]
pub(super) struct TooLong {
    pub(super) length: usize,
    pub(super) limit: usize,
}

/// Cuts a byte stream, in whatever pieces it comes, into frames.
#[derive(Debug)]
pub(super) struct Splitter {
    limit: usize,
    buffer: BytesMut,
}

impl Splitter {
    /// Frames of at most `limit` bytes.
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            buffer: BytesMut::new(),
        }
    }

    /// Adds what arrived. Take all frames out before adding more, so that no more than one
    /// unfinished frame is kept.
    pub(super) fn push(&mut self, chunk: &[u8]) {
        self.buffer.extend_from_slice(chunk);
    }

    /// Whether nothing of an unfinished frame is kept.
    pub(super) fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// Gives the memory of earlier frames back if nothing is kept. For streams that are many and
    /// mostly silent.
    pub(super) fn shrink(&mut self) {
        if self.buffer.is_empty() {
            self.buffer = BytesMut::new();
        }
    }

    /// The next whole frame, if it is here.
    pub(super) fn next_frame(&mut self) -> Result<Option<Bytes>, TooLong> {
        let Some(prefix) = self.buffer.first_chunk::<PREFIX>() else {
            return Ok(None);
        };
        let length = u32::from_le_bytes(*prefix) as usize;
        if length > self.limit {
            return Err(TooLong {
                length,
                limit: self.limit,
            });
        }
        if self.buffer.len() < PREFIX + length {
            return Ok(None);
        }
        self.buffer.advance(PREFIX);
        Ok(Some(self.buffer.split_to(length).freeze()))
    }
}

/// Frames with their prefixes as few chunks for one write.
pub(super) fn join(frames: impl IntoIterator<Item = Bytes>) -> Vec<Bytes> {
    let mut chunks = Vec::new();
    let mut small = BytesMut::new();
    for frame in frames {
        // Frames come from the core, which keeps the lanes' limits: far below 4 GiB.
        small.put_u32_le(u32::try_from(frame.len()).unwrap_or(u32::MAX));
        if frame.len() <= COPY_BYTES_MAX {
            small.extend_from_slice(&frame);
        } else {
            chunks.push(small.split().freeze());
            chunks.push(frame);
        }
    }
    if !small.is_empty() {
        chunks.push(small.freeze());
    }
    chunks
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;
    use crate::proto::wire::frame_bytes_max;

    fn split_all(limit: usize, chunks: &[&[u8]]) -> Result<Vec<Bytes>, TooLong> {
        let mut splitter = Splitter::new(limit);
        let mut frames = Vec::new();
        for chunk in chunks {
            splitter.push(chunk);
            while let Some(frame) = splitter.next_frame()? {
                frames.push(frame);
            }
        }
        Ok(frames)
    }

    fn bytes_of(frames: Vec<Bytes>) -> Vec<u8> {
        join(frames).concat()
    }

    #[test]
    fn lanes_and_their_bytes_are_each_others_inverse() {
        for lane in [Lane::Presence, Lane::Messages, Lane::Bulk] {
            assert_eq!(lane_of(lane_byte(lane)), Some(lane));
        }
        assert_eq!(lane_of(0), None);
        assert_eq!(lane_of(4), None);
    }

    #[test]
    fn a_frame_at_the_limit_passes_and_one_byte_more_does_not() {
        for lane in [Lane::Presence, Lane::Messages, Lane::Bulk] {
            let limit = frame_bytes_max(lane);
            let whole = bytes_of(vec![Bytes::from(vec![7; limit])]);
            let frames = split_all(limit, &[&whole]).unwrap();
            assert_eq!(frames.len(), 1);
            assert_eq!(frames[0].len(), limit);

            let prefix = u32::try_from(limit + 1).unwrap().to_le_bytes();
            assert_eq!(
                split_all(limit, &[&prefix]),
                Err(TooLong {
                    length: limit + 1,
                    limit
                })
            );
        }
    }

    #[test]
    fn a_claimed_length_allocates_nothing() {
        let mut splitter = Splitter::new(usize::MAX);
        splitter.push(&u32::MAX.to_le_bytes());
        assert_eq!(splitter.next_frame(), Ok(None));
        assert!(splitter.buffer.capacity() < 1024);
    }

    proptest! {
        #[test]
        fn any_chunking_yields_the_frames_that_were_joined(
            frames in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..6000), 0..12),
            cuts in proptest::collection::vec(1_usize..3000, 1..40),
        ) {
            let frames: Vec<Bytes> = frames.into_iter().map(Bytes::from).collect();
            let stream = bytes_of(frames.clone());
            let mut chunks = Vec::new();
            let mut rest = stream.as_slice();
            for cut in cuts.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (chunk, after) = rest.split_at((*cut).min(rest.len()));
                chunks.push(chunk);
                rest = after;
            }
            prop_assert_eq!(split_all(6000, &chunks), Ok(frames));
        }

        #[test]
        fn arbitrary_bytes_never_panic_and_never_exceed_the_limit(
            chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 0..20),
            limit in 0_usize..500,
        ) {
            let mut splitter = Splitter::new(limit);
            'chunks: for chunk in &chunks {
                splitter.push(chunk);
                loop {
                    match splitter.next_frame() {
                        Ok(Some(frame)) => prop_assert!(frame.len() <= limit),
                        Ok(None) => break,
                        Err(error) => {
                            prop_assert!(error.length > limit);
                            break 'chunks;
                        }
                    }
                }
                prop_assert!(splitter.buffer.len() < PREFIX + limit);
            }
        }
    }
}
