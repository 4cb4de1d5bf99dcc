//! WebSocket (RFC 6455): the upgrade, the framing, and the task that serves one connection.
//!
//! Written here rather than taken from a library for two reasons: a server's frames are not masked,
//! so one encoding can be shared by every connection of a room and many frames can go out in one
//! write; and an idle connection must cost kilobytes, not the buffers of a general codec.

pub(crate) mod close;
pub(crate) mod connection;
pub(crate) mod decoder;
pub(crate) mod frame;
pub(crate) mod upgrade;
