//! One client's socket: plain or encrypted, with frames of SockJS or without, read by its poller, written
//! by whoever has something.

use std::io::{self, IoSlice, Read, Write};
use std::net::Shutdown;
use std::sync::{Mutex, MutexGuard, PoisonError};

use mio::net::TcpStream;
use rustls::ServerConnection;

use super::mailbox::Attention;
use crate::hub::outbox::FrameSink;
use crate::sockjs::framing;

/// A connected, non-blocking socket.
///
/// Encrypted, a write makes one record of at most 16 KiB per call and hands it to the socket in one
/// go. What the socket does not take of a record is kept, one record at most, and nothing else is taken
/// until it is gone. Framed, the same holds for what was translated together.
pub(super) struct Socket {
    stream: TcpStream,
    tls: Option<Box<Mutex<ServerConnection>>>,
    /// For a client of SockJS: what was translated and is not written.
    translated: Option<Box<Mutex<Translated>>>,
    attention: Attention,
}

/// What the kernel takes for a narrowed connection beyond what it can put on the way. A link of 10 KB a
/// second needs 1.6 s for it.
#[cfg(target_os = "linux")]
const UNSENT_BYTES: u32 = 16 * 1024;

/// Frames of SockJS on their way.
struct Translated {
    bytes: Vec<u8>,
    /// Bytes of them that are written.
    written: usize,
}

/// What one call encrypts at most: the plaintext of one record.
const RECORD_BYTES_MAX: usize = 16 * 1024;

impl Socket {
    /// The socket of a connection whose poller is called by `attention`.
    pub(super) fn new(
        stream: TcpStream,
        tls: Option<ServerConnection>,
        framed: bool,
        attention: Attention,
    ) -> Self {
        let opening = framed.then(|| Translated {
            bytes: framing::opening(),
            written: 0,
        });
        Self {
            stream,
            translated: opening.map(|opening| Box::new(Mutex::new(opening))),
            tls: tls.map(|tls| Box::new(Mutex::new(tls))),
            attention,
        }
    }

    /// Whether its client speaks in SockJS frames.
    pub(super) fn is_framed(&self) -> bool {
        self.translated.is_some()
    }

    /// The poller has come: from now on it is called again.
    pub(super) fn attended(&self) {
        self.attention.given();
    }

    /// The poller is to come once more.
    pub(super) fn ask_attention(&self) {
        self.attention.ask();
    }

    /// Reads what there is, at most `buffer`; 0 at the end. `WouldBlock` if there is nothing.
    pub(super) fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(tls) = &self.tls else {
            return (&self.stream).read(buffer);
        };
        let mut tls = lock(tls);
        loop {
            match tls.reader().read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return read,
            }
            if tls.read_tls(&mut &self.stream)? == 0 {
                return Ok(0);
            }
            if let Err(error) = tls.process_new_packets() {
                // The alert says why; whether it arrives does not matter.
                let _ = self.write_records(&mut tls);
                return Err(io::Error::new(io::ErrorKind::InvalidData, error));
            }
            if tls.wants_write() {
                self.write_records(&mut tls)?;
            }
        }
    }

    /// Whether a read that fills less than its buffer has emptied the socket: then the poller says
    /// when there is more.
    pub(super) fn is_empty_after_short_read(&self) -> bool {
        self.tls.is_none()
    }

    /// Writes what was taken and not written. True if nothing is left.
    pub(super) fn flush(&self) -> io::Result<bool> {
        if let Some(translated) = &self.translated
            && !self.write_translated(&mut lock(translated))?
        {
            return Ok(false);
        }
        self.tls
            .as_ref()
            .map_or(Ok(true), |tls| self.write_records(&mut lock(tls)))
    }

    /// Ends the sending half. What was written before is sent.
    pub(super) fn shutdown(&self) -> io::Result<()> {
        if let Some(tls) = &self.tls {
            let mut tls = lock(tls);
            tls.send_close_notify();
            self.write_records(&mut tls)?;
        }
        self.stream.shutdown(Shutdown::Write)
    }

    /// The socket as the poller registers it.
    pub(super) fn stream_mut(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    fn write_records(&self, tls: &mut ServerConnection) -> io::Result<bool> {
        while tls.wants_write() {
            match tls.write_tls(&mut &self.stream) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Writes translated frames. True if none is left.
    fn write_translated(&self, translated: &mut Translated) -> io::Result<bool> {
        while translated.written < translated.bytes.len() {
            let left = IoSlice::new(&translated.bytes[translated.written..]);
            match self.write(&[left]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => translated.written += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        // An idle connection keeps no memory for it.
        *translated = Translated {
            bytes: Vec::new(),
            written: 0,
        };
        Ok(true)
    }

    fn write(&self, bytes: &[IoSlice<'_>]) -> io::Result<usize> {
        if let Some(tls) = &self.tls {
            return self.encrypt(&mut lock(tls), bytes);
        }
        match bytes {
            // Costs the kernel less than a list of one.
            [bytes] => (&self.stream).write(bytes),
            _ => (&self.stream).write_vectored(bytes),
        }
    }

    fn encrypt(&self, tls: &mut ServerConnection, bytes: &[IoSlice<'_>]) -> io::Result<usize> {
        if !self.write_records(tls)? {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let mut room = RECORD_BYTES_MAX;
        let mut record = [IoSlice::new(&[]); 16];
        let mut count = 0;
        for (slot, slice) in record.iter_mut().zip(bytes) {
            let take = slice.len().min(room);
            *slot = IoSlice::new(&slice[..take]);
            room -= take;
            count += 1;
            if room == 0 {
                break;
            }
        }
        let taken = tls.writer().write_vectored(&record[..count])?;
        self.write_records(tls)?;
        Ok(taken)
    }
}

impl FrameSink for Socket {
    fn try_write(&self, bytes: &[IoSlice<'_>]) -> io::Result<usize> {
        let Some(translated) = &self.translated else {
            return self.write(bytes);
        };
        let mut translated = lock(translated);
        if !self.write_translated(&mut translated)? {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let taken = framing::translate(bytes, &mut translated.bytes);
        self.write_translated(&mut translated)?;
        Ok(taken)
    }

    fn call(&self) {
        self.attention.ask();
    }

    fn narrow(&self) {
        // Without it more waits in the kernel, and that is all.
        #[cfg(target_os = "linux")]
        let _ = socket2::SockRef::from(&self.stream).set_tcp_notsent_lowat(UNSENT_BYTES);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
