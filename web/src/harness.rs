//! A room whose connections take everything at once: what benchmarks and tests of a flush need, and
//! nothing else does.

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use uuid::Uuid;

use crate::cluster::{Directory, Member, NodeSummary, Outbound, RoomSummary, Uplink, User};
use crate::demo;
use crate::hub::outbox::FrameSink;
use crate::hub::room::Membership;
use crate::hub::room::visit::{Arrival, Before, Visit};
use crate::protocol::Sample;
use crate::{Config, Hub};

/// A node without a cluster: what is said to it is gone.
pub struct Alone;

impl Uplink for Alone {
    fn offer(&self, _: Outbound) -> Option<Outbound> {
        None
    }
}

impl Directory for Alone {
    fn node(&self) -> String {
        "n1".to_owned()
    }
    fn rooms(&self, _: usize) -> Vec<RoomSummary> {
        Vec::new()
    }
    fn members(&self, _: &str) -> Vec<Member> {
        Vec::new()
    }
    fn member(&self, _: &str, _: Uuid) -> Option<Member> {
        None
    }
    fn is_watched(&self, _: &str) -> bool {
        false
    }
    fn nodes(&self) -> Vec<NodeSummary> {
        Vec::new()
    }
    fn count(&self, _: &str) -> usize {
        0
    }
    fn cluster(&self) -> serde_json::Value {
        serde_json::Value::Null
    }
    fn ready(&self) -> Result<(), String> {
        Ok(())
    }
    fn metrics(&self) -> String {
        String::new()
    }
}

/// Counts the bytes it takes.
#[derive(Default)]
struct Drain(AtomicU64);

impl FrameSink for Drain {
    fn try_write(&self, bytes: &[IoSlice<'_>]) -> io::Result<usize> {
        let taken = bytes.iter().map(|slice| slice.len()).sum();
        self.0.fetch_add(taken as u64, Ordering::Relaxed);
        Ok(taken)
    }

    fn call(&self) {}
}

/// A room with connections of one kind. To be used within a tokio runtime.
pub struct Crowd {
    hub: Hub,
    drain: Arc<Drain>,
    visits: Vec<Visit>,
    memberships: Vec<Membership>,
    step: u16,
}

const ROOM: &str = "crowd";

impl Crowd {
    /// A room of so many v1 connections with binary cursors.
    pub fn v1(connections: usize) -> Self {
        let mut crowd = Self::empty();
        for _ in 0..connections {
            let outbox = crowd.hub.outbox(crowd.drain.clone());
            let arrival = Arrival {
                user: (User::default(), None),
                state: Bytes::from_static(b"null"),
                before: Before::Nobody,
                binary: true,
            };
            let visit = crowd.hub.visit(ROOM, outbox, arrival);
            crowd.hub.joined(Member {
                id: visit.member(),
                room: ROOM.to_owned(),
                user: User::default(),
                state: Bytes::from_static(b"null"),
                node: "n1".to_owned(),
                joined_at: 1,
                away: false,
                epoch: 1,
                resumable: true,
            });
            crowd.visits.push(visit);
        }
        crowd
    }

    /// A room of so many of the tutorial's connections.
    pub fn tutorial(connections: usize) -> Self {
        let mut crowd = Self::empty();
        for _ in 0..connections {
            let outbox = crowd.hub.outbox(crowd.drain.clone());
            crowd.memberships.push(crowd.hub.enter(ROOM, outbox));
        }
        crowd
    }

    fn empty() -> Self {
        let config = Config::default();
        Self {
            hub: Hub::new(&config, Arc::new(Alone), Alone),
            drain: Arc::default(),
            visits: Vec::new(),
            memberships: Vec::new(),
            step: 0,
        }
    }

    /// The first `count` connections move, once each.
    pub fn move_all(&mut self, count: usize) {
        self.step = self.step.wrapping_add(1);
        let at = f32::from(self.step);
        for visit in &self.visits[..count.min(self.visits.len())] {
            visit.place(Sample {
                time_ms: self.step,
                x: at,
                y: at,
            });
        }
        for membership in &self.memberships[..count.min(self.memberships.len())] {
            let text = format!(r#"{{"x":{at},"y":{at}}}"#);
            if let Ok(text) = demo::stamp(text.as_bytes(), membership.member(), membership.color())
            {
                membership.send(vec![text]);
            }
        }
    }

    /// Sends on what was said.
    pub fn flush(&self) {
        self.hub.flush(ROOM);
    }

    /// Bytes that the connections have taken, all together.
    pub fn taken(&self) -> u64 {
        self.drain.0.load(Ordering::Relaxed)
    }
}
