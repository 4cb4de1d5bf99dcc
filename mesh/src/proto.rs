//! The sans-io core.
//!
//! [`Core::handle`] takes what happened and the time; [`Core::poll_output`] yields what to do;
//! [`Core::poll_timeout`] says when to call again with [`Input::Tick`]. Nothing blocks, nothing
//! reads a clock and all randomness comes from the seed, so that a simulator can drive it.

mod core;
pub mod event;
pub mod identity;
mod log;
pub mod overview;
pub mod rule;
mod table;
pub mod wire;

pub use self::core::{
    Config, Core, EVIDENCE_MAX, GRACE, PURGE_AFTER, SEEDS_MAX, SNAPSHOT_PART_BYTES,
};
pub use self::rule::{Rule, Rules};

/// The largest payload of one message, in bytes: the largest tutorial message a node may be
/// configured to take (128 KiB) and the two fields the server adds to it.
pub const MESSAGE_BYTES_MAX: usize = 128 * 1024 + 256;
pub use self::event::{Event, Input, Lane, Local, Output};
pub use self::identity::{Boot, ConnId, MemberId, NodeName, RoomName, Time};
pub use self::overview::{Overview, PeerOverview, SeedOverview};
pub use self::wire::Versions;
