//! A deterministic simulator of many cores: one seed is one run, byte for byte.
//!
//! [`World`] is the clock, the nodes and the network; it is driven by hand in directed tests and by
//! [`run_seed`] with faults and clients drawn from a seed. The judge inside it knows a model of who
//! is where that has nothing in common with the core's algorithm.

mod chaos;
mod clients;
pub mod frozen;
mod judge;
mod missed;
mod network;
pub mod scale;
pub mod scenarios;
mod versions;
mod world;

pub use chaos::{Options, Report, run_seed};
pub use network::Path;
pub use world::{MS, SECOND, Setup, Traffic, World};

use cursormesh_mesh::proto::RoomName;

/// The `number`th room.
pub fn room(number: usize) -> RoomName {
    #[allow(clippy::expect_used)]
    RoomName::new(&format!("room-{number}")).expect("a room's name")
}
