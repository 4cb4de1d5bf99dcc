//! Clusters in which nodes speak different versions of the protocol: what a node of version 1 says and
//! is told has to be what the frozen codec of version 1 knows, to the byte.

use cursormesh_mesh::proto::{ConnId, Versions};

use crate::frozen::v1;
use crate::world::World;

/// What a node says that speaks version 1 alone.
pub(crate) const V1: Versions = Versions {
    oldest: 1,
    newest: 1,
};

/// How bytes travel.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Way {
    Frame,
    Datagram,
}

/// What a node wants told to its users.
pub(crate) fn public_of(node: usize) -> String {
    format!("wss://n{node}.example.org/v1")
}

impl World {
    /// What goes from or to a node of version 1 is read by its frozen codec, and has to be what that
    /// codec makes of what it read.
    pub(crate) fn judge_version(&mut self, index: usize, conn: ConnId, way: Way, bytes: &[u8]) {
        let Some([_, far]) = self.ends_of(conn) else {
            return;
        };
        let old = [index, far].map(|node| self.nodes[node].versions[0].newest == 1);
        let again = match (old, way) {
            ([false, false], _) => return,
            (_, Way::Frame) => v1::Frame::decode(bytes).map(|frame| frame.encode()),
            (_, Way::Datagram) => v1::Datagram::decode(bytes).map(|one| one.encode()),
        };
        self.reach(match old {
            [true, true] => "frames and datagrams between nodes of version 1",
            [true, false] => "frames and datagrams from version 1 to version 2",
            _ => "frames and datagrams from version 2 to version 1",
        });
        if again.as_deref() != Ok(bytes) {
            let (from, to) = (&self.nodes[index].name, &self.nodes[far].name);
            let kind = bytes.first().copied().unwrap_or_default();
            let why = again.err();
            let text = format!("{from} to {to}: kind {kind} is not of version 1: {why:?}");
            self.violation(text);
        }
    }

    /// Two nodes that are linked talk in the newest version that both speak, and know of each other
    /// what that version says.
    pub fn check_versions(&mut self) {
        for index in 0..self.nodes.len() {
            let own = self.nodes[index].versions[0];
            let Some(core) = self.core(index).filter(|_| self.is_up(index)) else {
                continue;
            };
            let peers = core.overview(self.time(index)).peers;
            for peer in peers.into_iter().filter(|peer| peer.linked) {
                let Some(far) = self.index_of(&peer.node).filter(|far| self.is_up(*far)) else {
                    continue;
                };
                let shared = own.shared(self.nodes[far].versions[0]);
                let public = match shared {
                    Some(2) => public_of(far),
                    _ => String::new(),
                };
                if peer.version != shared || peer.public != public {
                    let name = &self.nodes[index].name;
                    let (version, said) = (peer.version, peer.public);
                    let text = format!(
                        "{name}: link to {} in version {version:?} instead of {shared:?}, public {said:?} instead of {public:?}",
                        peer.node
                    );
                    self.violation(text);
                }
                self.reach(match shared {
                    Some(1) => "links of version 1 in the end",
                    _ => "links of version 2 in the end",
                });
            }
        }
    }
}
