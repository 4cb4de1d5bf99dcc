//! Codecs of older versions of the mesh protocol, frozen: the simulator lets nodes that speak such a
//! version say and hear only what its codec knows.

pub mod v1;
