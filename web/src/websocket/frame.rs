//! Frames from server to client: not masked, never fragmented.

use std::ops::Range;

use super::close::Close;

/// What a frame is (RFC 6455 §5.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Opcode {
    Text = 0x1,
    Binary = 0x2,
    Close = 0x8,
    Ping = 0x9,
    Pong = 0xa,
}

/// Bytes of the frame for a payload of `length` bytes.
pub(crate) fn frame_length(length: usize) -> usize {
    let header = match length {
        0..=125 => 2,
        126..=0xffff => 4,
        _ => 10,
    };
    header + length
}

/// Appends one whole frame to `output`.
pub(crate) fn encode(opcode: Opcode, payload: &[u8], output: &mut Vec<u8>) {
    const FIN: u8 = 0x80;
    output.push(FIN | opcode as u8);
    let length = payload.len();
    if length <= 125 {
        output.push(length as u8);
    } else if let Ok(length) = u16::try_from(length) {
        output.push(126);
        output.extend_from_slice(&length.to_be_bytes());
    } else {
        output.push(127);
        output.extend_from_slice(&(length as u64).to_be_bytes());
    }
    output.extend_from_slice(payload);
}

/// One text frame.
pub(crate) fn text(text: &str) -> Vec<u8> {
    let mut output = Vec::with_capacity(frame_length(text.len()));
    encode(Opcode::Text, text.as_bytes(), &mut output);
    output
}

/// A close frame with a code and a reason.
pub(crate) fn close(close: Close) -> Vec<u8> {
    let mut payload = Vec::with_capacity(2 + close.reason.len());
    payload.extend_from_slice(&close.code.to_be_bytes());
    payload.extend_from_slice(close.reason.as_bytes());
    let mut output = Vec::with_capacity(frame_length(payload.len()));
    encode(Opcode::Close, &payload, &mut output);
    output
}

/// The opcodes and payloads in a run of whole frames written by [`encode`].
pub(crate) fn frames(mut run: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    std::iter::from_fn(move || {
        let first = *run.first()?;
        let end = frame_at(run, 0).range.end;
        let (frame, rest) = run.split_at(end);
        run = rest;
        let header = match frame[1] {
            126 => 4,
            127 => 10,
            _ => 2,
        };
        Some((first & 0xf, &frame[header..]))
    })
}

/// Code and reason in the payload of a close frame; 1000 where it has none.
pub(crate) fn close_parts(payload: &[u8]) -> (u16, &str) {
    match payload {
        [high, low, reason @ ..] => (
            u16::from_be_bytes([*high, *low]),
            std::str::from_utf8(reason).unwrap_or_default(),
        ),
        _ => (1000, ""),
    }
}

/// Where one frame stands in a run of frames.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// Its bytes.
    pub(crate) range: Range<usize>,
    /// How many frames come before it.
    pub(crate) index: usize,
}

/// In a run of whole frames written by [`encode`]: the frame that contains byte `at`, which must be
/// inside the run.
pub(crate) fn frame_at(frames: &[u8], at: usize) -> Place {
    let mut start = 0;
    let mut index = 0;
    loop {
        let length = match frames[start + 1] {
            126 => usize::from(u16::from_be_bytes([frames[start + 2], frames[start + 3]])),
            127 => {
                let mut bytes = [0; 8];
                bytes.copy_from_slice(&frames[start + 2..start + 10]);
                u64::from_be_bytes(bytes) as usize
            }
            short => usize::from(short),
        };
        let end = start + frame_length(length);
        if at < end {
            return Place {
                range: start..end,
                index,
            };
        }
        start = end;
        index += 1;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_shortest_length_encoding_is_used() {
        for (length, header) in [(0, 2), (125, 2), (126, 4), (65_535, 4), (65_536, 10)] {
            let mut output = Vec::new();
            encode(Opcode::Text, &vec![b'x'; length], &mut output);
            assert_eq!(output.len(), header + length);
            assert_eq!(frame_length(length), header + length);
        }
    }

    #[test]
    fn a_close_frame_is_taken_apart_as_it_was_written() {
        let frame = close(Close::SHUTDOWN);
        let mut run = text("x");
        run.extend_from_slice(&frame);
        let parts: Vec<_> = frames(&run).collect();
        assert_eq!(parts[0], (Opcode::Text as u8, &b"x"[..]));
        assert_eq!(parts[1].0, Opcode::Close as u8);
        assert_eq!(close_parts(parts[1].1), (1012, Close::SHUTDOWN.reason));
        assert_eq!(close_parts(b""), (1000, ""));
    }

    proptest! {
        #[test]
        fn what_is_written_in_a_row_is_read_in_a_row(
            lengths in prop::collection::vec(prop_oneof![0usize..200, 65_500usize..65_600], 0..6),
        ) {
            let mut run = Vec::new();
            for length in &lengths {
                encode(Opcode::Text, &vec![b'x'; *length], &mut run);
            }
            let read: Vec<usize> = frames(&run).map(|(_, payload)| payload.len()).collect();
            prop_assert_eq!(read, lengths);
        }

        #[test]
        fn a_frame_is_found_from_any_of_its_bytes(
            lengths in prop::collection::vec(prop_oneof![0usize..200, 65_500usize..65_600], 1..6),
            at in any::<prop::sample::Index>(),
        ) {
            let mut frames = Vec::new();
            let mut places = Vec::new();
            for (index, length) in lengths.into_iter().enumerate() {
                let start = frames.len();
                encode(Opcode::Text, &vec![0x7f; length], &mut frames);
                places.push(Place { range: start..frames.len(), index });
            }
            let at = at.index(frames.len());
            let expected = places.into_iter().find(|place| place.range.contains(&at));
            prop_assert_eq!(Some(frame_at(&frames, at)), expected);
        }
    }
}
