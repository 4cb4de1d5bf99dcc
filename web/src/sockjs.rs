//! SockJS, protocol 0.3: for browsers and networks in which a WebSocket does not pass.

pub(crate) mod frame;
pub(crate) mod path;
pub(crate) mod transport;
