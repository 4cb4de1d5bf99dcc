//! The mesh between nodes: membership, replicated presence, messages and cursors over QUIC.
//!
//! Two halves. [`proto`] thinks: a sans-io core that takes inputs and the time and yields outputs;
//! it reads no clock, opens no socket and can be driven by hand. [`net`] talks: the quinn endpoint,
//! mutual TLS and the one task that owns the core. This crate has never heard of a browser.

pub mod proto;

#[cfg(feature = "net")]
pub mod net;
