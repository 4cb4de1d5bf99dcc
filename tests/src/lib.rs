//! Tests of the whole: a deterministic simulator of the mesh's core.

pub mod sim;
