//! The node under test, and a cluster of nobody else that answers by itself.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cursormesh_web::cluster::{Directory, Event, Member, NodeSummary, Outbound, RoomSummary};
use cursormesh_web::config::SockJs;
use cursormesh_web::{Config, Hub, Server};
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};
use tokio::time::sleep;
use uuid::Uuid;

use super::http::{Answer, Request, Response, soon};

const ORIGIN: &str = "n1.1";

#[derive(Default)]
struct Cluster {
    members: Mutex<BTreeMap<Uuid, Member>>,
}

impl Directory for Cluster {
    fn node(&self) -> String {
        "n1".into()
    }
    fn rooms(&self, _: usize) -> Vec<RoomSummary> {
        Vec::new()
    }
    fn members(&self, room: &str) -> Vec<Member> {
        let members = self.members.lock().unwrap();
        let inside = members.values().filter(|member| member.room == room);
        inside.cloned().collect()
    }
    fn member(&self, _: &str, member: Uuid) -> Option<Member> {
        self.members.lock().unwrap().get(&member).cloned()
    }
    fn nodes(&self) -> Vec<NodeSummary> {
        vec![NodeSummary {
            node: "n1".into(),
            region: "here".into(),
            url: None,
        }]
    }
    fn count(&self, _: &str) -> usize {
        0
    }
    fn cluster(&self) -> Value {
        Value::Null
    }
    fn ready(&self) -> Result<(), String> {
        Ok(())
    }
    fn metrics(&self) -> String {
        String::new()
    }
}

/// Does for one node what the mesh does: shows members and numbers events.
async fn play(cluster: Arc<Cluster>, hub: Hub, mut outbound: mpsc::Receiver<Outbound>) {
    let mut number = 0;
    while let Some(said) = outbound.recv().await {
        match said {
            Outbound::Join(mut member) => {
                member.epoch += 1;
                let mut members = cluster.members.lock().unwrap();
                let known = members.insert(member.id, member.clone());
                drop(members);
                match known {
                    Some(_) => hub.updated(member),
                    None => hub.joined(member),
                }
            }
            Outbound::Leave { member, reason } => {
                let row = cluster.members.lock().unwrap().remove(&member);
                if let Some(row) = row {
                    hub.left(&row.room, member, reason);
                }
            }
            Outbound::Interest { room, wanted: true } => hub.head(&room, ORIGIN, number),
            Outbound::Events { room, items } => {
                let mut events = Vec::new();
                for (sender, payload) in items {
                    number += 1;
                    events.push(Event {
                        number,
                        sender,
                        payload,
                    });
                }
                hub.events(&room, ORIGIN, events);
            }
            _ => {}
        }
    }
}

pub(crate) struct Node {
    pub(crate) addr: SocketAddr,
    _stop: oneshot::Sender<()>,
}

/// A node with the services of the conformance suite.
pub(crate) fn node() -> Node {
    node_with(SockJs::default())
}

/// The same with other settings.
pub(crate) fn node_with(sockjs: SockJs) -> Node {
    node_as_set(SockJs {
        conformance: true,
        ..sockjs
    })
}

/// A node with exactly these settings.
pub(crate) fn node_as_set(sockjs: SockJs) -> Node {
    let config = Config {
        listen: vec![SocketAddr::from(([127, 0, 0, 1], 0))],
        sockjs,
        ..Config::default()
    };
    let (sender, outbound) = mpsc::channel(65_536);
    let cluster = Arc::new(Cluster::default());
    let hub = Hub::new(&config, cluster.clone(), sender);
    let server = Server::bind(config, hub.clone(), cluster.clone()).unwrap();
    let addr = server.local_addrs()[0];
    let (stop, stopped) = oneshot::channel::<()>();
    tokio::spawn(server.run(async {
        let _ = stopped.await;
    }));
    tokio::spawn(play(cluster, hub, outbound));
    Node { addr, _stop: stop }
}

impl Node {
    pub(crate) async fn get(&self, path: &str) -> Answer {
        Request::get(path).fetch(self.addr).await
    }

    pub(crate) async fn post(&self, path: &str) -> Answer {
        Request::post(path).fetch(self.addr).await
    }

    pub(crate) async fn options(&self, path: &str) -> Answer {
        Request::options(path).fetch(self.addr).await
    }

    pub(crate) async fn fetch(&self, request: Request) -> Answer {
        request.fetch(self.addr).await
    }

    pub(crate) async fn stream(&self, request: Request) -> Response {
        request.stream(self.addr).await
    }

    /// How many SockJS sessions the node says it has.
    pub(crate) async fn sessions(&self) -> u64 {
        let page = self.get("/metrics").await.body;
        let line = page
            .lines()
            .find(|line| line.starts_with("cursormesh_sockjs_sessions "))
            .expect("the gauge of sessions");
        line.rsplit(' ').next().unwrap().parse().unwrap()
    }

    /// Waits until the node says that it has so many sessions.
    pub(crate) async fn has_sessions(&self, count: u64) {
        soon(async {
            while self.sessions().await != count {
                sleep(Duration::from_millis(10)).await;
            }
        })
        .await;
    }
}
