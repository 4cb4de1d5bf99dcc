//! Tests of the whole: real nodes behind a network that can be broken, or that is as long as the real one.

pub mod cluster;
pub mod faults;
pub mod regions;
