//! WebSocket (RFC 6455): the upgrade, the framing, and the threads that serve connections.
//!
//! Written here rather than taken from a library for two reasons: a server's frames are not masked,
//! so one encoding can be shared by every connection of a room and many frames can go out in one
//! write; and an idle connection must cost kilobytes, not the buffers of a general codec.
//!
//! The threads are our own, too, rather than tasks of the runtime: a message that is read by a task
//! costs a second read that finds nothing, a pass through the scheduler and often a wake-up of another
//! thread, and a task that waits for a dozen things is as large as all of them together.

pub(crate) mod close;
pub(crate) mod connection;
pub(crate) mod decoder;
pub(crate) mod frame;
mod mailbox;
mod pace;
pub(crate) mod poller;
mod socket;
pub(crate) mod upgrade;
