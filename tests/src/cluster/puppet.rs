//! A node without browsers inside this process: what pages cannot yet do, such as thousands of
//! members with much state and cursors many times a second.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use cursormesh_mesh::net::{self, Identity, Mesh, Settings, View};
use cursormesh_mesh::proto::event::{Cursor, Row, User};
use cursormesh_mesh::proto::{
    Config, Event, GRACE, Local, MemberId, NodeName, RoomName, Rules, SNAPSHOT_PART_BYTES, Versions,
};
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};

use super::stage::quantile_us;
use super::{Cluster, Failure};

/// State of a member that is to be large, in bytes; the limit is 4 KiB.
pub const STATE_BYTES: usize = 3500;

/// A node of the mesh in this process; dropping it is a crash.
#[derive(Debug)]
pub struct Puppet {
    mesh: Mesh,
    saw: Arc<Mutex<Saw>>,
    tasks: Vec<JoinHandle<()>>,
}

/// What a puppet saw.
#[derive(Debug, Default)]
struct Saw {
    ages_us: Vec<u64>,
    moved: BTreeSet<MemberId>,
    left: u64,
}

impl Puppet {
    /// Starts the node `name` of a cluster whose network knows it; `seeds` are nodes it looks for.
    pub async fn start(cluster: &Cluster, name: &str, seeds: &[&str]) -> Result<Self, Failure> {
        let network = cluster.network();
        let mut known = Vec::new();
        for seed in seeds {
            known.push((Some(NodeName::new(seed)?), network.reached_at(seed)?));
        }
        let core = Config {
            node: NodeName::new(name)?,
            cluster: NodeName::new("dev")?,
            region: "test".to_owned(),
            boot: unix_ms(),
            advertise: network.reached_at(name)?,
            seeds: known,
            grace: GRACE,
            snapshot_part_bytes: SNAPSHOT_PART_BYTES,
            public: String::new(),
            versions: Versions::default(),
            rules: Rules::default(),
        };
        let identity = Identity::from_pem(&cluster.bundle(name)?)?;
        let listen = network.mesh(name)?;
        let mut mesh = net::start(Settings {
            core,
            listen,
            identity,
            cuttable: false,
            seed: None,
        })
        .await?;
        let saw = Arc::new(Mutex::new(Saw::default()));
        let mut events = mesh.events().ok_or("no events")?;
        let reader = tokio::spawn({
            let saw = saw.clone();
            async move {
                while let Some(event) = events.recv().await {
                    lock(&saw).note(event);
                }
            }
        });
        Ok(Self {
            mesh,
            saw,
            tasks: vec![reader],
        })
    }

    /// What it replicated.
    pub fn view(&self) -> Arc<View> {
        self.mesh.view()
    }

    /// Watches a room.
    pub async fn watch(&self, room: &str) -> Result<(), Failure> {
        let room = RoomName::new(room)?;
        Ok(self
            .mesh
            .local()
            .send(Local::Interest { room, wanted: true })
            .await?)
    }

    /// Lets `count` members with `state_bytes` of state join a room; gives their ids. `first` keeps
    /// them apart from others.
    pub async fn fill(
        &self,
        room: &str,
        first: u32,
        count: u32,
        state_bytes: usize,
    ) -> Result<Vec<MemberId>, Failure> {
        let mut ids = Vec::new();
        for number in first..first + count {
            let mut id = [0x40; 16];
            id[..4].copy_from_slice(&number.to_be_bytes());
            let member = MemberId(id);
            ids.push(member);
            // Not the same bytes over and over, should anything ever compress.
            let state: Vec<u8> = (0..state_bytes)
                .map(|at| {
                    b'a' + (at as u32)
                        .wrapping_mul(number.wrapping_add(7))
                        .wrapping_shr(3) as u8
                        % 26
                })
                .collect();
            let row = Row {
                member,
                epoch: 1,
                room: RoomName::new(room)?,
                user: User {
                    id: format!("user-{number}"),
                    name: String::new(),
                    color: 1,
                },
                state: Bytes::from(format!("\"{}\"", String::from_utf8_lossy(&state))),
                joined_at: unix_ms(),
                away: false,
                resumable: false,
                handle: 0,
            };
            self.mesh.local().send(Local::Join(Box::new(row))).await?;
        }
        Ok(ids)
    }

    /// Moves the cursors of these members every `period` until the puppet is dropped.
    pub fn move_all(
        &mut self,
        room: &str,
        members: Vec<MemberId>,
        period: Duration,
    ) -> Result<(), Failure> {
        let (local, room) = (self.mesh.local(), RoomName::new(room)?);
        self.tasks.push(tokio::spawn(async move {
            let mut due = interval(period);
            due.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let mut at = 0.0;
            loop {
                due.tick().await;
                at += 1.0;
                let time_ms = clock();
                let items = members.iter().map(|member| Cursor {
                    member: *member,
                    time_ms,
                    x: at,
                    y: -at,
                });
                let said = Local::Cursors {
                    room: room.clone(),
                    items: items.collect(),
                };
                if local.send(said).await.is_err() {
                    return;
                }
            }
        }));
        Ok(())
    }

    /// From now on ages and departures count anew.
    pub fn mark(&self) {
        *lock(&self.saw) = Saw::default();
    }

    /// A quantile (0 to 1) of the ages of the cursors that arrived since the mark, in ms.
    pub fn age_ms(&self, quantile: f64) -> f64 {
        quantile_us(lock(&self.saw).ages_us.clone(), quantile) as f64 / 1000.0
    }

    /// How many cursor positions arrived since the mark, and of how many members.
    pub fn moved(&self) -> (usize, usize) {
        let saw = lock(&self.saw);
        (saw.ages_us.len(), saw.moved.len())
    }

    /// How many members left since the mark.
    pub fn left(&self) -> u64 {
        lock(&self.saw).left
    }
}

impl Drop for Puppet {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl Saw {
    fn note(&mut self, event: Event) {
        match event {
            Event::Cursors { items, .. } => {
                let now = clock();
                for cursor in items {
                    let age = u64::from(now.wrapping_sub(cursor.time_ms));
                    self.ages_us.push(age * 1000);
                    self.moved.insert(cursor.member);
                }
            }
            Event::Left { .. } => self.left += 1,
            _ => {}
        }
    }
}

/// The clock of cursors: milliseconds modulo 2^16.
fn clock() -> u16 {
    (unix_ms() & 0xffff) as u16
}

fn unix_ms() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn lock(saw: &Mutex<Saw>) -> MutexGuard<'_, Saw> {
    saw.lock().unwrap_or_else(PoisonError::into_inner)
}
