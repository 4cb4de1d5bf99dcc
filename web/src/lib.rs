//! The browser side of a node: HTTP and WebSocket edge, hub of rooms, protocol v1 and the tutorial's.
//!
//! This crate has never heard of a peer: what concerns other nodes goes out as
//! [`cluster::Outbound`] and comes in through the [`Hub`]'s methods, and [`cluster::Directory`]
//! answers what the whole cluster knows.
//!
//! ```text
//! browser ─▶ server ─▶ routes ─▶ websocket ─▶ session ─▶ hub/room ─▶ hub/outbox ─▶ browsers
//!                                                          │  ▲
//!                                                 Outbound ▼  │ joined, left, events, cursors, …
//!                                                     the rest of the cluster
//! ```

pub mod cluster;
pub mod config;
pub mod demo;
#[doc(hidden)]
pub mod harness;
pub mod hub;
pub mod levers;
pub mod metrics;
pub mod server;

mod admin;
mod assets;
mod nodes;
mod protocol;
mod routes;
mod session;
mod sockjs;
pub mod tls;
mod token;
mod websocket;

pub use config::Config;
pub use hub::Hub;
pub use metrics::Metrics;
pub use server::{BindError, Server};
pub use sockjs::carriage::Answers;
