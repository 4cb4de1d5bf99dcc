//! The two one-way pumps between the web edge and the mesh, and the translation between their
//! words. Neither pump waits for the other: hub → mesh waits for the mesh alone (that is the
//! back-pressure), mesh → hub never waits.

use std::sync::atomic::{AtomicU64, Ordering};

use cursormesh_mesh::proto::event::{self, Member, Message, MessageKind, Row};
use cursormesh_mesh::proto::identity::NameError;
use cursormesh_mesh::proto::{Event, Local, MemberId, RoomName};
use cursormesh_web::Hub;
use cursormesh_web::cluster::{self, Outbound};
use tokio::sync::{mpsc, watch};
use uuid::Uuid;

/// What one side said and the other has no form for. Room names are checked where they come in, so
/// both stay zero unless something is wrong.
#[derive(Debug, Default)]
pub(crate) struct Dropped {
    to_mesh: AtomicU64,
    to_web: AtomicU64,
}

impl Dropped {
    /// Dropped on the way from the web edge to the mesh.
    pub(crate) fn to_mesh(&self) -> u64 {
        self.to_mesh.load(Ordering::Relaxed)
    }

    /// Dropped on the way from the mesh to the web edge.
    pub(crate) fn to_web(&self) -> u64 {
        self.to_web.load(Ordering::Relaxed)
    }
}

/// Tells the mesh what the hub says, until either ends, or until `stopped` says that what is
/// waiting then is the last.
pub(crate) async fn hub_to_mesh(
    mut outbound: mpsc::Receiver<Outbound>,
    local: mpsc::Sender<Local>,
    mut stopped: watch::Receiver<bool>,
    dropped: &Dropped,
) {
    let mut stopping = false;
    loop {
        let said = tokio::select! {
            said = outbound.recv() => said,
            _ = stopped.wait_for(|stopped| *stopped), if !stopping => {
                stopping = true;
                outbound.close();
                continue;
            }
        };
        let Some(said) = said else {
            return;
        };
        match to_mesh(said) {
            Ok(said) => {
                if local.send(said).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                dropped.to_mesh.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(%error, "a room with an impossible name was not told to the mesh");
            }
        }
    }
}

/// Tells the hub what the mesh says, until the mesh ends.
pub(crate) async fn mesh_to_hub(mut events: mpsc::Receiver<Event>, hub: Hub, dropped: &Dropped) {
    while let Some(event) = events.recv().await {
        to_hub(event, &hub, dropped);
    }
}

fn to_mesh(said: Outbound) -> Result<Local, NameError> {
    Ok(match said {
        Outbound::Join(member) => Local::Join(Box::new(Row {
            member: MemberId(member.id.into_bytes()),
            // Not known from anywhere else: the core makes it the first.
            epoch: 0,
            room: RoomName::new(&member.room)?,
            user: event::User {
                id: member.user.id,
                name: member.user.name,
                color: member.user.color,
            },
            state: member.state,
            joined_at: member.joined_at,
            away: member.away,
            // The tutorial's pages know no token to come back with.
            resumable: false,
            handle: 0,
        })),
        Outbound::Leave { member, reason } => Local::Leave {
            member: MemberId(member.into_bytes()),
            reason: reason_to_mesh(reason),
        },
        Outbound::Interest { room, wanted } => Local::Interest {
            room: RoomName::new(&room)?,
            wanted,
        },
        Outbound::Messages { room, items } => Local::Messages {
            room: RoomName::new(&room)?,
            items: items
                .into_iter()
                .map(|(sender, payload)| Message {
                    sender: MemberId(sender.into_bytes()),
                    kind: MessageKind::Tutorial,
                    payload,
                })
                .collect(),
        },
    })
}

fn to_hub(event: Event, hub: &Hub, dropped: &Dropped) {
    match event {
        Event::Joined(member) => hub.joined(member_to_web(&member)),
        Event::Updated(member) => hub.updated(member_to_web(&member)),
        Event::Left {
            room,
            member,
            reason,
        } => hub.left(room.as_str(), uuid(member), reason_to_web(reason)),
        Event::Messages { room, items, .. } => {
            let total = items.len();
            let items: Vec<_> = items
                .into_iter()
                .filter(|(_, message)| message.kind == MessageKind::Tutorial)
                .map(|(_, message)| (uuid(message.sender), message.payload))
                .collect();
            // Named events have no reader here.
            let strange = (total - items.len()) as u64;
            dropped.to_web.fetch_add(strange, Ordering::Relaxed);
            hub.deliver(room.as_str(), items);
        }
        // A tutorial connection cannot move, sends no events, and its cursor is inside its messages. What concerns
        // links and nodes is in the mesh's own log and view.
        Event::MovedAway { .. }
        | Event::MessageRefused { .. }
        | Event::Published { .. }
        | Event::Head { .. }
        | Event::Replayed { .. }
        | Event::Cursors { .. }
        | Event::LinkUp { .. }
        | Event::LinkDown { .. }
        | Event::Refused { .. }
        | Event::Membership { .. }
        | Event::Visibility { .. } => {}
    }
}

/// A member in the web edge's words.
pub(crate) fn member_to_web(member: &Member) -> cluster::Member {
    let row = &member.row;
    cluster::Member {
        id: uuid(row.member),
        room: row.room.to_string(),
        user: cluster::User {
            id: row.user.id.clone(),
            name: row.user.name.clone(),
            color: row.user.color,
        },
        state: row.state.clone(),
        node: member.node.to_string(),
        joined_at: row.joined_at,
        away: row.away,
    }
}

fn uuid(member: MemberId) -> Uuid {
    Uuid::from_bytes(member.0)
}

fn reason_to_mesh(reason: cluster::LeaveReason) -> event::LeaveReason {
    match reason {
        cluster::LeaveReason::Closed => event::LeaveReason::Closed,
        cluster::LeaveReason::TimedOut => event::LeaveReason::TimedOut,
        cluster::LeaveReason::NodeLost => event::LeaveReason::NodeLost,
        cluster::LeaveReason::Kicked => event::LeaveReason::Kicked,
        cluster::LeaveReason::Superseded => event::LeaveReason::Superseded,
    }
}

fn reason_to_web(reason: event::LeaveReason) -> cluster::LeaveReason {
    match reason {
        event::LeaveReason::Closed => cluster::LeaveReason::Closed,
        event::LeaveReason::TimedOut => cluster::LeaveReason::TimedOut,
        event::LeaveReason::NodeLost => cluster::LeaveReason::NodeLost,
        event::LeaveReason::Kicked => cluster::LeaveReason::Kicked,
        event::LeaveReason::Superseded => cluster::LeaveReason::Superseded,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use bytes::Bytes;
    use cursormesh_mesh::proto::NodeName;

    fn member() -> cluster::Member {
        cluster::Member {
            id: Uuid::from_u128(0x1234),
            room: "lobby".to_owned(),
            user: cluster::User {
                id: "u".to_owned(),
                name: "Ann".to_owned(),
                color: 200,
            },
            state: Bytes::from_static(b"{\"a\":1}"),
            node: "n1".to_owned(),
            joined_at: 42,
            away: false,
        }
    }

    #[test]
    fn a_member_comes_back_as_it_went() {
        let Local::Join(row) = to_mesh(Outbound::Join(member())).unwrap() else {
            panic!("not a join");
        };
        assert_eq!((row.epoch, row.resumable), (0, false));
        let shown = Member {
            node: NodeName::new("n1").unwrap(),
            boot: 7,
            row: *row,
        };
        assert_eq!(member_to_web(&shown), member());
    }

    #[test]
    fn messages_keep_sender_order_and_bytes() {
        let items = vec![
            (Uuid::from_u128(1), Bytes::from_static(b"{\"x\":1}")),
            (Uuid::from_u128(1), Bytes::from_static(b"{\"x\":2}")),
        ];
        let said = Outbound::Messages {
            room: "lobby".to_owned(),
            items: items.clone(),
        };
        let Local::Messages { room, items: told } = to_mesh(said).unwrap() else {
            panic!("not messages");
        };
        assert_eq!(room.as_str(), "lobby");
        let back: Vec<_> = told
            .into_iter()
            .map(|m| (uuid(m.sender), m.payload))
            .collect();
        assert_eq!(back, items);
    }

    #[tokio::test]
    async fn an_impossible_room_is_counted_and_stops_nothing() {
        let (hub, outbound) = mpsc::channel(4);
        let (local, mut told) = mpsc::channel(4);
        for room in ["", "lobby"] {
            let said = Outbound::Interest {
                room: room.to_owned(),
                wanted: true,
            };
            hub.send(said).await.unwrap();
        }
        drop(hub);
        let dropped = Dropped::default();
        let (_stop, stopped) = watch::channel(false);
        hub_to_mesh(outbound, local, stopped, &dropped).await;
        assert_eq!(dropped.to_mesh(), 1);
        assert!(
            matches!(told.recv().await, Some(Local::Interest { room, .. }) if room.as_str() == "lobby")
        );
        assert!(told.recv().await.is_none());
    }

    #[tokio::test]
    async fn a_stop_passes_on_what_waits_and_takes_no_more() {
        let (hub, outbound) = mpsc::channel(4);
        let (local, mut told) = mpsc::channel(4);
        hub.send(Outbound::Join(member())).await.unwrap();
        let (_stop, stopped) = watch::channel(true);
        hub_to_mesh(outbound, local, stopped, &Dropped::default()).await;
        assert!(matches!(told.recv().await, Some(Local::Join(_))));
        assert!(hub.is_closed());
    }
}
