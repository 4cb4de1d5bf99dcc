//! An emulated world: real nodes in five regions on one machine, as far from each other as their
//! cities are, with people who move on every one of them, and disasters.
//!
//! What is measured is what people see, against what the distance alone takes.

pub mod disasters;
pub mod machine;
pub mod many;
pub mod map;
pub mod measure;
pub mod report;
pub mod visitor;
pub mod world;

pub use report::{Part, Tale};
pub use world::{Plan, World};
