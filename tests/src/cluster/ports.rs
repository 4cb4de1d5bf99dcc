//! Ports that stay free: a node is killed and started again on the same one, so it must not be in
//! the range from which the system takes ports for others meanwhile.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicU32, Ordering};

use super::Failure;

/// Below the ranges that Linux and the other systems give out by themselves (from 32768).
const FIRST: u32 = 12_000;
const COUNT: u32 = 20_000;

/// A loopback address that is free for both TCP and UDP, and given out only once by this process.
pub fn free() -> Result<SocketAddr, Failure> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    for _ in 0..COUNT {
        // Processes that run at the same time begin far from each other.
        let offset = std::process::id()
            .wrapping_mul(7919)
            .wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = u16::try_from(FIRST + offset % COUNT)?;
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if TcpListener::bind(addr).is_ok() && UdpSocket::bind(addr).is_ok() {
            return Ok(addr);
        }
    }
    Err("no port is free".into())
}
