//! What has come of something that is not whole yet.

use std::io;

/// A server that sends a longer frame, message, line or head of its answer is not waited for.
pub(super) const PARTIAL_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Bytes kept until what follows them comes.
#[derive(Debug, Default)]
pub(super) struct Partial(Vec<u8>);

impl Partial {
    /// Shows `digest` what was kept and the fresh bytes after it, in place if nothing was kept; it
    /// tells how many it has left over at the end, and those are kept.
    pub(super) fn feed(
        &mut self,
        fresh: &[u8],
        digest: impl FnOnce(&[u8]) -> io::Result<usize>,
    ) -> io::Result<()> {
        if self.0.is_empty() {
            let left = digest(fresh)?;
            self.0.extend_from_slice(&fresh[fresh.len() - left..]);
        } else {
            self.0.extend_from_slice(fresh);
            let left = digest(&self.0)?;
            self.0.drain(..self.0.len() - left);
        }
        if self.0.len() > PARTIAL_BYTES_MAX {
            return Err(io::Error::other("more than 16 MiB that are not whole"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_left_over_comes_again_before_what_is_fresh() {
        let mut partial = Partial::default();
        let mut shown = Vec::new();
        for fresh in [&b"abc"[..], b"d", b"efgh"] {
            // Pairs are whole.
            let digest = |bytes: &[u8]| {
                shown.push(bytes.to_vec());
                Ok(bytes.len() % 2)
            };
            partial.feed(fresh, digest).unwrap();
        }
        assert_eq!(shown, [&b"abc"[..], b"cd", b"efgh"]);
    }

    #[test]
    fn what_never_becomes_whole_is_refused() {
        let mut partial = Partial::default();
        let fresh = vec![0; PARTIAL_BYTES_MAX];
        partial.feed(&fresh, |bytes| Ok(bytes.len())).unwrap();
        assert!(partial.feed(b"x", |bytes| Ok(bytes.len())).is_err());
    }
}
