//! The browser side of a node: HTTP and WebSocket edge, hub of rooms, the tutorial's protocol.
//!
//! This crate has never heard of a peer: what concerns other nodes goes out as
//! [`cluster::Outbound`] and comes in through the hub's methods, and [`cluster::Directory`]
//! answers what the whole cluster knows.

pub mod cluster;
