//! The meeting point of a node's rooms: local connections on one side, the rest of the cluster on
//! the other.

mod departed;
pub(crate) mod outbox;
pub(crate) mod room;

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::cluster::{Directory, LeaveReason, Member, Outbound};
use crate::config::Config;
use crate::metrics::Metrics;

use outbox::{Bounds, Outbox};
use room::{Membership, Room};

/// All rooms that have, or lately had, connections on this node. Cheap to clone.
///
/// Every method is to be called from within a tokio runtime, and none waits for a connection or for
/// the cluster. Order matters to the caller alone: the hub does what it is told in the order in
/// which it is told.
#[derive(Clone)]
pub struct Hub(Arc<Inner>);

struct Inner {
    context: Arc<Context>,
    rooms: RwLock<HashMap<String, Arc<Room>>>,
}

/// What all rooms share.
pub(crate) struct Context {
    pub(crate) config: Config,
    pub(crate) directory: Arc<dyn Directory>,
    pub(crate) outbound: mpsc::Sender<Outbound>,
    pub(crate) metrics: Arc<Metrics>,
}

impl Hub {
    /// A hub without rooms. What local connections do goes to `outbound`, per room in the order
    /// interest, join, messages, leave, no interest. While it is full the rooms keep what they have
    /// and pause their connections; once its receiver is dropped, rooms are local to the node.
    pub fn new(
        config: &Config,
        directory: Arc<dyn Directory>,
        outbound: mpsc::Sender<Outbound>,
    ) -> Self {
        let context = Context {
            config: config.clone(),
            directory,
            outbound,
            metrics: Arc::new(Metrics::default()),
        };
        Self(Arc::new(Inner {
            context: Arc::new(context),
            rooms: RwLock::default(),
        }))
    }

    /// Messages from another node, ready for the tutorial's connections, in order per sender.
    /// They go out with the room's next flush and are not echoed to the cluster. Ignored for rooms
    /// without local connections; dropped and counted for senders that have left. Past the bound
    /// [`Config::downstream_bytes_max`] only the newest message per sender is kept.
    pub fn deliver(&self, room: &str, items: Vec<(Uuid, Bytes)>) {
        if let Some(room) = self.room(room) {
            room.deliver(items);
        }
    }

    /// A member became visible, on this node or another one.
    pub fn joined(&self, member: Member) {
        if let Some(room) = self.room(&member.room) {
            room.joined(member.id);
        }
    }

    /// A visible member changed.
    pub fn updated(&self, member: Member) {
        if let Some(room) = self.room(&member.room) {
            room.updated(member.id, member.user.color);
        }
    }

    /// A member is no longer visible, wherever it was. Connections that were there when it sent
    /// something are told once. If it is a connection of this node that is still open, the cluster
    /// has removed it, and the connection is closed.
    pub fn left(&self, room: &str, member: Uuid, reason: LeaveReason) {
        if let Some(room) = self.room(room) {
            room.left(member, reason);
        }
    }

    /// What this node's web edge counts.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.0.context.metrics
    }

    /// Makes a new member of the room for a connection that gets the room's frames through
    /// `outbox`.
    pub(crate) fn enter(&self, name: &str, outbox: Arc<Outbox>) -> Membership {
        let room = {
            let mut rooms = self.0.rooms.write().unwrap_or_else(PoisonError::into_inner);
            let room = match rooms.get(name) {
                Some(room) => room.clone(),
                None => {
                    let room = Arc::new(Room::new(name.to_owned(), self.0.context.clone()));
                    rooms.insert(name.to_owned(), room.clone());
                    self.metrics().rooms.rise(1);
                    room
                }
            };
            // Under the lock, so that the room cannot be evicted between here and there.
            room.occupants.fetch_add(1, Ordering::SeqCst);
            room
        };
        room.enter(outbox, Arc::downgrade(&self.0))
    }

    pub(crate) fn outbox_bounds(&self) -> Bounds {
        let config = &self.0.context.config;
        Bounds {
            bytes_max: config.outbox_bytes_max,
            total_bytes_max: config.outboxes_bytes_max,
        }
    }

    fn room(&self, name: &str) -> Option<Arc<Room>> {
        self.0
            .rooms
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(name)
            .cloned()
    }
}

impl Inner {
    /// Forgets an empty room. False if it has to stay a while yet.
    fn evict(&self, room: &Arc<Room>) -> bool {
        let mut rooms = self.rooms.write().unwrap_or_else(PoisonError::into_inner);
        let gone = !rooms
            .get(room.name())
            .is_some_and(|known| Arc::ptr_eq(known, room));
        if gone {
            return true;
        }
        if room.occupants.load(Ordering::SeqCst) > 0 || !room.is_settled() {
            return false;
        }
        rooms.remove(room.name());
        self.context.metrics.rooms.fall(1);
        tracing::debug!(room = room.name(), "room evicted");
        true
    }
}
