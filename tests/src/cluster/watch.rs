//! Who is in a room, as each node tells it over time.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::{Failure, http};

/// How often each node is asked.
const EVERY: Duration = Duration::from_millis(50);

/// Asks every node all the time; dropping it stops that.
#[derive(Debug)]
pub struct Watch {
    seen: Arc<Mutex<BTreeMap<String, Seen>>>,
    tasks: Vec<JoinHandle<()>>,
}

/// What one node told.
#[derive(Debug, Default)]
struct Seen {
    /// Members by id, with the node that each is on.
    members: BTreeMap<String, String>,
    changes: Vec<Change>,
}

/// A member came or went, as one node tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// When it was first seen.
    pub at: Instant,
    /// The member.
    pub member: String,
    /// Whether it came.
    pub joined: bool,
}

impl Watch {
    /// Begins to ask the nodes for the members of a room.
    pub fn start(nodes: &[(String, SocketAddr)], room: &str) -> Self {
        let seen = Arc::new(Mutex::new(BTreeMap::new()));
        let tasks = nodes
            .iter()
            .map(|(node, addr)| {
                let (node, addr, room, seen) =
                    (node.clone(), *addr, room.to_owned(), Arc::clone(&seen));
                tokio::spawn(async move {
                    loop {
                        // A node that does not answer tells nothing.
                        if let Ok(members) = members(addr, &room).await {
                            lock(&seen).entry(node.clone()).or_default().take(members);
                        }
                        sleep(EVERY).await;
                    }
                })
            })
            .collect();
        Self { seen, tasks }
    }

    /// The members by id, with the node that each is on, as `node` told them last.
    pub fn members(&self, node: &str) -> BTreeMap<String, String> {
        lock(&self.seen)
            .get(node)
            .map(|seen| seen.members.clone())
            .unwrap_or_default()
    }

    /// What changed since a moment, as `node` told it.
    pub fn changes(&self, node: &str, since: Instant) -> Vec<Change> {
        let seen = lock(&self.seen);
        let all = seen
            .get(node)
            .map(|seen| &seen.changes[..])
            .unwrap_or_default();
        all.iter()
            .filter(|change| change.at >= since)
            .cloned()
            .collect()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl Seen {
    fn take(&mut self, members: BTreeMap<String, String>) {
        let at = Instant::now();
        let change = |member: &String, joined| Change {
            at,
            member: member.clone(),
            joined,
        };
        let gone = self.members.keys().filter(|id| !members.contains_key(*id));
        let came = members.keys().filter(|id| !self.members.contains_key(*id));
        self.changes.extend(
            gone.map(|id| change(id, false))
                .chain(came.map(|id| change(id, true))),
        );
        self.members = members;
    }
}

/// Members of a room by id, with the node that each is on.
pub async fn members(addr: SocketAddr, room: &str) -> Result<BTreeMap<String, String>, Failure> {
    let told = http::get_json(addr, &format!("/api/rooms/{room}/members")).await?;
    let members = told["members"].as_array().ok_or("no members")?;
    Ok(members
        .iter()
        .filter_map(|member| {
            let (id, node) = (member["id"].as_str()?, member["node"].as_str()?);
            Some((id.to_owned(), node.to_owned()))
        })
        .collect())
}

fn lock(seen: &Mutex<BTreeMap<String, Seen>>) -> MutexGuard<'_, BTreeMap<String, Seen>> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}
