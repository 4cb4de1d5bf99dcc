//! What lies between the nodes, and how to break it: the fault proxy, network namespaces, or nothing.

use std::net::SocketAddr;

use std::collections::BTreeMap;

use super::namespaces::Namespaces;
use super::{Failure, ports};
use crate::faults::{Faults, Proxy, Route};

/// The network of one cluster.
#[derive(Debug)]
pub enum Network {
    /// Loopback, with the fault proxy in between.
    Proxy {
        /// The proxy.
        proxy: Proxy,
        /// Where clients connect to each node.
        web: BTreeMap<String, SocketAddr>,
    },
    /// A network namespace for each node, with a bridge in between.
    Namespaces(Namespaces),
    /// Loopback with nothing in between: nothing can be broken.
    Direct {
        /// Where each node listens for the others.
        mesh: BTreeMap<String, SocketAddr>,
        /// Where clients connect to each node.
        web: BTreeMap<String, SocketAddr>,
    },
}

impl Network {
    pub(super) async fn behind_proxy(names: &[&str]) -> Result<Self, Failure> {
        let mut routes = Vec::new();
        let mut web = BTreeMap::new();
        for name in names {
            routes.push(Route {
                node: (*name).to_owned(),
                front: ports::free()?,
                target: ports::free()?,
            });
            web.insert((*name).to_owned(), ports::free()?);
        }
        let proxy = Proxy::start(routes, seed()).await?;
        Ok(Self::Proxy { proxy, web })
    }

    pub(super) fn direct(names: &[&str]) -> Result<Self, Failure> {
        let (mut mesh, mut web) = (BTreeMap::new(), BTreeMap::new());
        for name in names {
            mesh.insert((*name).to_owned(), ports::free()?);
            web.insert((*name).to_owned(), ports::free()?);
        }
        Ok(Self::Direct { mesh, web })
    }

    pub(super) fn in_namespaces(names: &[&str]) -> Result<Self, Failure> {
        Ok(Self::Namespaces(Namespaces::make(names)?))
    }

    pub(super) fn web(&self, node: &str) -> Result<SocketAddr, Failure> {
        match self {
            Self::Proxy { web, .. } | Self::Direct { web, .. } => {
                web.get(node).copied().ok_or_else(|| unknown(node))
            }
            Self::Namespaces(namespaces) => namespaces.web(node),
        }
    }

    /// Where a node is to listen for the others.
    pub fn mesh(&self, node: &str) -> Result<SocketAddr, Failure> {
        match self {
            Self::Proxy { proxy, .. } => Ok(route(proxy, node)?.target),
            Self::Namespaces(namespaces) => namespaces.mesh(node),
            Self::Direct { mesh, .. } => mesh.get(node).copied().ok_or_else(|| unknown(node)),
        }
    }

    /// Where the others reach a node.
    pub fn reached_at(&self, node: &str) -> Result<SocketAddr, Failure> {
        match self {
            Self::Proxy { proxy, .. } => Ok(route(proxy, node)?.front),
            Self::Namespaces(_) | Self::Direct { .. } => self.mesh(node),
        }
    }

    /// The words that put a command where the node lives.
    pub(super) fn enter(&self, node: &str) -> Vec<String> {
        match self {
            Self::Proxy { .. } | Self::Direct { .. } => Vec::new(),
            Self::Namespaces(namespaces) => namespaces.enter(node),
        }
    }

    /// Nothing passes between two nodes any more.
    pub fn cut(&self, one: &str, other: &str) -> Result<(), Failure> {
        self.cut_one_way(one, other)?;
        self.cut_one_way(other, one)
    }

    /// Nothing passes from one node to another any more.
    pub fn cut_one_way(&self, from: &str, to: &str) -> Result<(), Failure> {
        match self {
            Self::Proxy { proxy, .. } => Ok(proxy.change(from, to, |faults| faults.cut = true)?),
            Self::Namespaces(namespaces) => namespaces.cut_one_way(from, to),
            Self::Direct { .. } => Err(unbreakable()),
        }
    }

    /// Ends all cuts.
    pub fn heal(&self) -> Result<(), Failure> {
        match self {
            Self::Proxy { proxy, .. } => Ok(proxy.change("*", "*", |faults| faults.cut = false)?),
            Self::Namespaces(namespaces) => namespaces.heal(),
            Self::Direct { .. } => Err(unbreakable()),
        }
    }

    /// At most so many bits per second leave a node, or pass between two nodes in each direction.
    pub fn limit(&self, one: &str, other: &str, bits_per_second: u64) -> Result<(), Failure> {
        match self {
            Self::Proxy { .. } => {
                let change = |faults: &mut Faults| faults.rate = Some(bits_per_second);
                self.faults(one, other, change)?;
                self.faults(other, one, change)
            }
            Self::Namespaces(namespaces) => {
                namespaces.limit(one, bits_per_second)?;
                namespaces.limit(other, bits_per_second)
            }
            Self::Direct { .. } => Err(unbreakable()),
        }
    }

    /// Changes any faults of one direction; `*` is any node. Only the proxy can.
    pub fn faults(
        &self,
        from: &str,
        to: &str,
        change: impl Fn(&mut Faults),
    ) -> Result<(), Failure> {
        match self {
            Self::Proxy { proxy, .. } => Ok(proxy.change(from, to, change)?),
            Self::Namespaces(_) => Err("namespaces only cut and limit".into()),
            Self::Direct { .. } => Err(unbreakable()),
        }
    }

    /// Bytes that have gone from one node to another; `None` where nobody counts.
    pub fn bytes(&self, from: &str, to: &str) -> Option<u64> {
        match self {
            Self::Proxy { proxy, .. } => proxy
                .show()
                .iter()
                .find(|shown| shown.from == from && shown.to == to)
                .map(|shown| shown.counters.bytes),
            Self::Namespaces(_) | Self::Direct { .. } => None,
        }
    }

    /// The proxy, if there is one.
    pub fn proxy(&self) -> Option<&Proxy> {
        match self {
            Self::Proxy { proxy, .. } => Some(proxy),
            Self::Namespaces(_) | Self::Direct { .. } => None,
        }
    }
}

fn route<'a>(proxy: &'a Proxy, node: &str) -> Result<&'a Route, Failure> {
    proxy
        .routes()
        .iter()
        .find(|route| route.node == node)
        .ok_or_else(|| unknown(node))
}

fn unbreakable() -> Failure {
    "there is nothing between these nodes that could be broken".into()
}

fn unknown(node: &str) -> Failure {
    format!("there is no node {node}").into()
}

/// The seed of all faults: `PARTITIONS_SEED`, or always the same.
fn seed() -> u64 {
    std::env::var("PARTITIONS_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or(1)
}
