//! A UDP proxy in front of every node that does to packets what networks do.
//!
//! Every node tells the others the proxy's address instead of its own (`advertise`), and sends from
//! the address that it is bound to, so the proxy knows who speaks:
//!
//! ```text
//! n1 ──▶ [ front of n3 ] ─ n1 → n3 ─ [ n1's back to n3 ] ──▶ n3
//! n1 ◀── [ front of n3 ] ─ n3 → n1 ─ [ n1's back to n3 ] ◀── n3
//! ```
//!
//! A *front* is the one address at which a node is dialled; a *back* is a socket for each pair,
//! so that answers find back. Whoever dialled whom, every packet from n1 to n3 passes the one
//! [`Link`] n1 → n3 exactly once: delay, jitter, loss, reordering, duplicates, a rate, or a cut, each
//! direction for itself. No root is needed.

pub mod control;
pub mod lateness;
pub mod link;
pub mod proxy;

pub use lateness::Lateness;
pub use link::{Faults, Link};
pub use proxy::{Proxy, Route};
