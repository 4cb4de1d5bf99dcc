//! Bodies of requests, read within bounds of size and time.

use std::sync::Arc;

use bytes::Buf;
use futures_util::{Stream, StreamExt};
use http::header::{self, HeaderMap};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

use crate::config::SockJs;

/// Memory for all bodies that are being read.
const BYTES_TOTAL: usize = 64 * 1024 * 1024;
/// What that is counted in.
const PAGE_BYTES: usize = 1024;

/// Memory for bodies.
#[derive(Debug, Clone)]
pub(super) struct Bodies(Arc<Semaphore>);

/// Why a body is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BodyError {
    /// It is longer than bodies may be.
    TooBig,
    /// It was not whole in time.
    TooSlow,
    /// Too many are being read.
    Busy,
    /// It broke off.
    Broken,
}

impl Bodies {
    pub(super) fn new() -> Self {
        Self(Arc::new(Semaphore::new(BYTES_TOTAL / PAGE_BYTES)))
    }

    /// Reads a whole body.
    pub(super) async fn read<B: Buf, E>(
        &self,
        headers: &HeaderMap,
        body: impl Stream<Item = Result<B, E>>,
        config: &SockJs,
    ) -> Result<Vec<u8>, BodyError> {
        let bytes_max = config.body_bytes_max;
        let length = headers
            .get(header::CONTENT_LENGTH)
            .and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
        let expected = length.unwrap_or(bytes_max);
        if expected > bytes_max {
            return Err(BodyError::TooBig);
        }
        let _reserved = self.reserve(expected)?;
        let read = async {
            let mut whole = Vec::new();
            futures_util::pin_mut!(body);
            while let Some(part) = body.next().await {
                let mut part = part.map_err(|_| BodyError::Broken)?;
                if whole.len() + part.remaining() > expected {
                    return Err(BodyError::TooBig);
                }
                while part.has_remaining() {
                    let chunk = part.chunk();
                    whole.extend_from_slice(chunk);
                    let taken = chunk.len();
                    part.advance(taken);
                }
            }
            Ok(whole)
        };
        timeout(config.body_timeout, read)
            .await
            .unwrap_or(Err(BodyError::TooSlow))
    }

    fn reserve(&self, bytes: usize) -> Result<SemaphorePermit<'_>, BodyError> {
        let pages = u32::try_from(bytes.div_ceil(PAGE_BYTES)).unwrap_or(u32::MAX);
        self.0.try_acquire_many(pages).map_err(|_| BodyError::Busy)
    }
}
