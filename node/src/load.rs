//! `cursormesh load`: many clients in one thread, cheap enough not to be what is measured.
//!
//! Sockets are read and written through one poller; frames are counted where they lie in the read
//! buffer, and only a sample of them is looked into for its age. Moves carry the time at which they
//! were made, so that one process, and with it one clock, knows how old a move is on arrival.

mod client;
mod frame;
mod histogram;
mod nats;
mod partial;
mod process;
mod protocol;
mod run;
mod socketio;
mod step;
mod wire;

pub use protocol::Protocol;
pub use run::{LoadError, Plan, Report, run};
