//! Tests of the whole: real nodes behind a network that can be broken.

pub mod cluster;
pub mod faults;
