//! WebSocket frames as a client needs them: its own with a mask of zero, the server's found in place.

pub(super) const TEXT: u8 = 1;
pub(super) const BINARY: u8 = 2;

/// Appends a frame with a mask of zero, which leaves the payload as it is.
pub(super) fn put(out: &mut Vec<u8>, opcode: u8, payload: &[u8]) {
    out.push(0x80 | opcode);
    match payload.len() {
        len @ 0..=125 => out.push(0x80 | len as u8),
        len @ 126..=65_535 => {
            out.push(0x80 | 126);
            out.extend_from_slice(&(len as u16).to_be_bytes());
        }
        len => {
            out.push(0x80 | 127);
            out.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(payload);
}

/// A frame of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Frame<'a> {
    pub(super) opcode: u8,
    pub(super) payload: &'a [u8],
}

/// The first frame in `bytes` and what follows it; `None` if it is not whole yet.
pub(super) fn take(bytes: &[u8]) -> Option<(Frame<'_>, &[u8])> {
    let (&first, rest) = bytes.split_first()?;
    let (&second, rest) = rest.split_first()?;
    let (len, rest) = match second & 0x7f {
        126 => {
            let (len, rest) = rest.split_first_chunk()?;
            (u64::from(u16::from_be_bytes(*len)), rest)
        }
        127 => {
            let (len, rest) = rest.split_first_chunk()?;
            (u64::from_be_bytes(*len), rest)
        }
        len => (u64::from(len), rest),
    };
    let (payload, rest) = rest.split_at_checked(usize::try_from(len).ok()?)?;
    let opcode = first & 0x0f;
    Some((Frame { opcode, payload }, rest))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn frames_are_found_one_after_the_other() {
        for len in [0, 125, 126, 65_535, 65_536] {
            let payload = vec![7; len];
            let mut masked = Vec::new();
            put(&mut masked, 2, &payload);
            // A server's frame is the same without the mask.
            let header = masked.len() - 4 - len;
            let mut bytes = masked[..header].to_vec();
            bytes[1] &= 0x7f;
            bytes.extend_from_slice(&payload);
            assert_eq!(take(&bytes[..bytes.len() - 1]), None);
            bytes.extend_from_slice(b"next");
            let (frame, rest) = take(&bytes).unwrap();
            assert_eq!((frame.opcode, frame.payload), (2, &payload[..]));
            assert_eq!(rest, b"next");
        }
    }

    #[test]
    fn a_length_beyond_all_memory_is_no_frame_yet() {
        let mut bytes = vec![0x82, 127];
        bytes.extend_from_slice(&u64::MAX.to_be_bytes());
        assert_eq!(take(&bytes), None);
    }
}
