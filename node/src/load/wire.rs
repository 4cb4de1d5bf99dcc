//! What carries a client's bytes: a socket, or TLS over one.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;

use mio::event::Source;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};
use socket2::{Domain, Socket, Type};

/// The receive buffer of a client that reads slowly.
const NARROW_BYTES: usize = 4096;

/// A connection that never blocks.
#[derive(Debug)]
pub(super) struct Wire {
    stream: TcpStream,
    tls: Option<Box<ClientConnection>>,
}

impl Wire {
    /// Begins to connect, and tells `registry` of it.
    pub(super) fn connect(
        registry: &Registry,
        token: Token,
        addr: SocketAddr,
        tls: Option<&Arc<ClientConfig>>,
        slow: bool,
    ) -> io::Result<Self> {
        let tls = tls.map(|config| {
            let name = ServerName::IpAddress(addr.ip().into());
            ClientConnection::new(config.clone(), name).map_err(io::Error::other)
        });
        let mut wire = Self {
            stream: if slow {
                connect_narrow(addr)?
            } else {
                TcpStream::connect(addr)?
            },
            tls: tls.transpose()?.map(Box::new),
        };
        let interest = Interest::READABLE | Interest::WRITABLE;
        wire.stream.register(registry, token, interest)?;
        Ok(wire)
    }

    /// Whether a read that fills less than its buffer has emptied the socket.
    pub(super) fn is_empty_after_short_read(&self) -> bool {
        self.tls.is_none()
    }

    fn send_records(stream: &mut TcpStream, tls: &mut ClientConnection) -> io::Result<()> {
        while tls.wants_write() {
            match tls.write_tls(stream) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                written => written?,
            };
        }
        Ok(())
    }
}

/// Begins to connect with a small receive buffer, as little is on its way on a slow link.
fn connect_narrow(addr: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, None)?;
    socket.set_recv_buffer_size(NARROW_BYTES)?;
    socket.set_nonblocking(true)?;
    match socket.connect(&addr.into()) {
        // EINPROGRESS: the poller says when it is done.
        Err(error) if error.raw_os_error() != Some(115) => Err(error),
        _ => Ok(TcpStream::from_std(socket.into())),
    }
}

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Self { stream, tls } = self;
        let Some(tls) = tls else {
            return stream.read(buffer);
        };
        loop {
            match tls.reader().read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return read,
            }
            if tls.read_tls(stream)? == 0 {
                return Ok(0);
            }
            tls.process_new_packets().map_err(io::Error::other)?;
            Self::send_records(stream, tls)?;
        }
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Self { stream, tls } = self;
        let Some(tls) = tls else {
            return stream.write(bytes);
        };
        // Before the handshake is done nothing is taken.
        if tls.is_handshaking() {
            Self::send_records(stream, tls)?;
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let taken = tls.writer().write(bytes)?;
        Self::send_records(stream, tls)?;
        if taken == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        let Self { stream, tls } = self;
        match tls {
            Some(tls) => Self::send_records(stream, tls),
            None => Ok(()),
        }
    }
}
