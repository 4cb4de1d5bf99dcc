//! `cursormesh load`: many clients in one thread, cheap enough not to be what is measured.
//!
//! Sockets are read and written through one poller; frames are counted where they lie in the read
//! buffer, and only a sample of them is looked into for its age. Moves carry the time at which they
//! were made, so that one process, and with it one clock, knows how old a move is on arrival.

mod client;
mod exchange;
mod frame;
mod histogram;
mod http;
mod nats;
mod partial;
mod pipe;
mod process;
mod protocol;
mod requests;
mod run;
mod socketio;
mod sockjs;
mod step;
mod transport;
mod websocket;
mod wire;

pub use protocol::Protocol;
pub use run::{LoadError, Plan, Report, run};
pub use transport::Transport;
