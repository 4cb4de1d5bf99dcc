//! The SockJS server: the same rooms for pages whose WebSockets do not get through.
//!
//! Follows the protocol's version 0.3.x as its public test suite and sockjs-client 1.x have it. A
//! session belongs to the node that it began on; requests of it that come to another node are carried
//! there, so that nothing in front of the nodes has to know which session is whose.
//!
//! ```text
//! request ─▶ answer ─▶ sessions ─▶ session ◀─▶ driver ◀─▶ crate::session (tutorial, v1)
//!               └────▶ carriage ─▶ the session's node
//! ```

pub(crate) mod answer;
mod body;
pub(crate) mod carriage;
mod driver;
mod frame;
pub(crate) mod framing;
mod path;
mod reply;
pub(crate) mod service;
mod session;
pub(crate) mod sessions;
mod transport;
