//! What a request's stream starts with: from whom, for whom, and whether it may be passed on.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::proto::NodeName;

/// The largest header: two names of 63 bytes with their lengths, and a byte.
pub(super) const HEADER_BYTES_MAX: usize = 129;

/// On the wire: postcard, with the fields in this order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Header {
    /// How often it may still be passed on: 1 to a relay, else 0.
    pub(super) left: u8,
    /// Who asks.
    pub(super) origin: NodeName,
    /// Who is asked.
    pub(super) target: NodeName,
}

impl Header {
    pub(super) fn encode(&self) -> Bytes {
        // Writing plain values into memory cannot fail; an empty header would be refused.
        postcard::to_allocvec(self).unwrap_or_default().into()
    }

    /// Reads the header of a stream of `me` that `peer` opened, or says what is wrong with it.
    pub(super) fn decode(
        bytes: &[u8],
        me: &NodeName,
        peer: &NodeName,
    ) -> Result<Self, &'static str> {
        let (header, rest) =
            postcard::take_from_bytes::<Self>(bytes).map_err(|_| "a header that cannot be read")?;
        if !rest.is_empty() {
            return Err("a header with bytes too many");
        }
        if header.left > 1 {
            return Err("a request that may be passed on more than once");
        }
        if header.left == 1 && header.origin != *peer {
            return Err("a request to be passed on in another's name");
        }
        if header.origin == *me || header.origin == header.target {
            return Err("a request of a node to itself");
        }
        Ok(header)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    fn name(text: &str) -> NodeName {
        NodeName::new(text).unwrap()
    }

    fn header(left: u8, origin: &str, target: &str) -> Header {
        Header {
            left,
            origin: name(origin),
            target: name(target),
        }
    }

    fn decode(header: &Header) -> Result<Header, &'static str> {
        Header::decode(&header.encode(), &name("me"), &name("peer"))
    }

    #[test]
    fn a_direct_one_one_to_pass_on_and_one_passed_on_are_read_as_written() {
        for header in [
            header(0, "peer", "me"),
            header(1, "peer", "other"),
            header(0, "third", "me"),
        ] {
            assert_eq!(decode(&header), Ok(header));
        }
    }

    #[test]
    fn the_longest_header_is_as_long_as_allowed() {
        let longest = "a".repeat(63);
        assert_eq!(
            header(1, &longest, &longest).encode().len(),
            HEADER_BYTES_MAX
        );
    }

    #[test]
    fn what_a_peer_may_not_say_is_refused() {
        for header in [
            header(2, "peer", "other"),
            header(1, "third", "other"),
            header(0, "me", "me"),
            header(0, "me", "other"),
            header(1, "peer", "peer"),
        ] {
            assert!(decode(&header).is_err(), "{header:?}");
        }
        let mut long = header(0, "peer", "me").encode().to_vec();
        long.push(0);
        assert!(Header::decode(&long, &name("me"), &name("peer")).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_header_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(header) = Header::decode(&bytes, &name("me"), &name("peer")) {
                prop_assert!(header.left <= 1);
                prop_assert!(header.encode().len() <= HEADER_BYTES_MAX);
            }
        }

        #[test]
        fn a_damaged_header_never_panics(at in 0_usize..12, byte: u8, cut in 0_usize..12) {
            let mut bytes = header(1, "peer", "other").encode().to_vec();
            let at = at.min(bytes.len() - 1);
            bytes[at] = byte;
            bytes.truncate(bytes.len().saturating_sub(cut));
            let _ = Header::decode(&bytes, &name("me"), &name("peer"));
        }
    }
}
