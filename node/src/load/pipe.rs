//! A connection, and what it has not taken yet.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;

use mio::{Registry, Token};
use rustls::ClientConfig;

use super::partial::PARTIAL_BYTES_MAX;
use super::wire::Wire;

/// Where a connection leads, and how it is known to the poller.
#[derive(Debug, Clone)]
pub(super) struct Dial {
    pub(super) token: Token,
    pub(super) addr: SocketAddr,
    pub(super) tls: Option<Arc<ClientConfig>>,
    /// With a small receive buffer.
    pub(super) slow: bool,
}

#[derive(Debug)]
pub(super) struct Pipe {
    wire: Wire,
    unsent: Vec<u8>,
}

impl Pipe {
    /// Begins to connect; `first` goes out when the socket can be written.
    pub(super) fn connect(registry: &Registry, dial: &Dial, first: Vec<u8>) -> io::Result<Self> {
        let tls = dial.tls.as_ref();
        Ok(Self {
            wire: Wire::connect(registry, dial.token, dial.addr, tls, dial.slow)?,
            unsent: first,
        })
    }

    /// Sends what is waiting.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.wire.flush()?;
        while !self.unsent.is_empty() {
            match self.wire.write(&self.unsent) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => drop(self.unsent.drain(..n)),
                // Not connected yet, or no room: the poller says when.
                Err(error) if is_not_yet(&error) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Sends bytes that belong together, or keeps what the socket does not take.
    pub(super) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.unsent.is_empty() {
            match self.wire.write(bytes) {
                Ok(n) if n == bytes.len() => return Ok(()),
                Ok(n) => self.unsent.extend_from_slice(&bytes[n..]),
                Err(error) if is_not_yet(&error) => self.unsent.extend_from_slice(bytes),
                Err(error) => return Err(error),
            }
        } else if self.unsent.len() < PARTIAL_BYTES_MAX {
            self.unsent.extend_from_slice(bytes);
        }
        Ok(())
    }

    /// Reads once into `buffer`; how many bytes, and whether there may be more. `None` if there is
    /// nothing for now.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> io::Result<Option<(usize, bool)>> {
        match self.wire.read(buffer) {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            // Less than there was room for: the socket is empty, and says so when it is not.
            Ok(n) => {
                let is_empty = n < buffer.len() && self.wire.is_empty_after_short_read();
                Ok(Some((n, !is_empty)))
            }
            // A handshake that is done by now lets go what waited for it.
            Err(error) if is_not_yet(&error) => self.flush().map(|()| None),
            Err(error) => Err(error),
        }
    }
}

fn is_not_yet(error: &io::Error) -> bool {
    use io::ErrorKind::{Interrupted, NotConnected, WouldBlock};
    matches!(error.kind(), WouldBlock | NotConnected | Interrupted)
}
