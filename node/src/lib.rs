//! One node of a cursormesh cluster: the binary's inside, as a library so that tests can start
//! real nodes in their own process.
//!
//! Here the web edge and the mesh, which know nothing of each other, are introduced.

pub mod cert;
pub mod cli;
pub mod config;
pub mod discovery;
pub mod load;
pub mod run;
pub mod status;
pub mod telemetry;

mod bridge;
mod carriage;
mod directory;
mod levers;
mod metrics;
mod nearest;
mod picture;
