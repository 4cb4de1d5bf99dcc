//! Cutting links on purpose, to watch what a partition does: packets to and from a peer's addresses are
//! dropped below QUIC, so that both ends find out as they would of a broken network.
//!
//! There only where [`Settings::cuttable`](super::Settings::cuttable) says so; otherwise the socket is
//! quinn's own.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::task::{Context, Poll, ready};

use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, UdpPoller};

use crate::proto::NodeName;

/// Addresses remembered of one peer; a proxy may give it a new one with each try.
const ADDRESSES_MAX: usize = 64;

/// Which peers a node is cut from.
#[derive(Debug, Default)]
pub struct Cuts {
    /// Whether there are any: most packets need to know no more.
    any: AtomicBool,
    peers: RwLock<BTreeMap<NodeName, BTreeSet<SocketAddr>>>,
}

impl Cuts {
    /// From now on nothing passes between this node and `peer`, which is known at these addresses. One
    /// that it turns up at later is added when its handshake says who it is.
    pub fn cut(&self, peer: &NodeName, addrs: impl IntoIterator<Item = SocketAddr>) {
        let mut peers = self.peers.write().unwrap_or_else(PoisonError::into_inner);
        let known = peers.entry(peer.clone()).or_default();
        for addr in addrs {
            if known.len() < ADDRESSES_MAX {
                known.insert(plain(addr));
            }
        }
        self.any.store(true, Ordering::Relaxed);
    }

    /// Ends the cut from a peer, or all with `None`; whether there was one.
    pub fn heal(&self, peer: Option<&NodeName>) -> bool {
        let mut peers = self.peers.write().unwrap_or_else(PoisonError::into_inner);
        let before = peers.len();
        match peer {
            Some(peer) => drop(peers.remove(peer)),
            None => peers.clear(),
        }
        self.any.store(!peers.is_empty(), Ordering::Relaxed);
        peers.len() < before
    }

    /// The peers, by name.
    pub fn list(&self) -> Vec<NodeName> {
        let peers = self.peers.read().unwrap_or_else(PoisonError::into_inner);
        peers.keys().cloned().collect()
    }

    /// Whether a peer that was met at `addr` is one of them; the address is one of its own then.
    pub(super) fn meets(&self, peer: &NodeName, addr: SocketAddr) -> bool {
        if !self.any.load(Ordering::Relaxed) {
            return false;
        }
        let is_cut = {
            let peers = self.peers.read().unwrap_or_else(PoisonError::into_inner);
            peers.contains_key(peer)
        };
        if is_cut {
            self.cut(peer, [addr]);
        }
        is_cut
    }

    fn drops(&self, addr: SocketAddr) -> bool {
        if !self.any.load(Ordering::Relaxed) {
            return false;
        }
        let peers = self.peers.read().unwrap_or_else(PoisonError::into_inner);
        peers.values().any(|addrs| addrs.contains(&plain(addr)))
    }
}

/// An IPv4 address that came through an IPv6 socket, as itself.
fn plain(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}

/// A socket that loses what passes between this node and those that it is cut from.
#[derive(Debug)]
pub(super) struct CutSocket {
    pub(super) inner: Arc<dyn AsyncUdpSocket>,
    pub(super) cuts: Arc<Cuts>,
}

impl AsyncUdpSocket for CutSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Arc::clone(&self.inner).create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        if self.cuts.drops(transmit.destination) {
            return Ok(());
        }
        self.inner.try_send(transmit)
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let received = ready!(self.inner.poll_recv(cx, bufs, meta))?;
        for one in meta.iter_mut().take(received) {
            if self.cuts.drops(one.addr) {
                // Nothing of it is left to read.
                one.len = 0;
            }
        }
        Poll::Ready(Ok(received))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.inner.max_transmit_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.inner.max_receive_segments()
    }

    fn may_fragment(&self) -> bool {
        self.inner.may_fragment()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn addr(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_peer_is_cut_at_every_address_until_it_is_healed() {
        let cuts = Cuts::default();
        let [n2, n3] = ["n2", "n3"].map(|name| NodeName::new(name).unwrap());
        assert!(!cuts.drops(addr("10.0.0.2:7171")) && !cuts.meets(&n2, addr("10.0.0.2:7171")));
        cuts.cut(&n2, [addr("10.0.0.2:7171")]);
        assert!(cuts.drops(addr("10.0.0.2:7171")) && cuts.drops(addr("[::ffff:10.0.0.2]:7171")));
        assert!(!cuts.drops(addr("10.0.0.2:7172")));
        assert!(cuts.meets(&n2, addr("10.0.0.2:7172")) && cuts.drops(addr("10.0.0.2:7172")));
        assert!(!cuts.meets(&n3, addr("10.0.0.3:7171")));
        cuts.cut(&n3, []);
        assert_eq!(cuts.list(), [n2.clone(), n3.clone()]);
        assert!(cuts.heal(Some(&n2)) && !cuts.heal(Some(&n2)));
        assert!(!cuts.drops(addr("10.0.0.2:7171")) && cuts.meets(&n3, addr("10.0.0.3:7171")));
        assert!(cuts.heal(None) && cuts.list().is_empty() && !cuts.drops(addr("10.0.0.3:7171")));
    }

    #[test]
    fn addresses_are_bounded() {
        let cuts = Cuts::default();
        let n2 = NodeName::new("n2").unwrap();
        let many = (1..1_000).map(|port| SocketAddr::from(([10, 0, 0, 2], port)));
        cuts.cut(&n2, many);
        let peers = cuts.peers.read().unwrap();
        assert_eq!(
            peers.values().map(BTreeSet::len).sum::<usize>(),
            ADDRESSES_MAX
        );
    }
}
