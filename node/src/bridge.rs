//! The two ways between the web edge and the mesh, and the translation between their words. Neither
//! waits for the other: what the mesh has no room for stays with the hub's rooms (that is the
//! back-pressure), and what the mesh says the hub takes at once.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use cursormesh_mesh::proto::event::{self, Member, Message, MessageKind, Row};
use cursormesh_mesh::proto::identity::NameError;
use cursormesh_mesh::proto::wire::OwnerId;
use cursormesh_mesh::proto::{Event, Local, MemberId, NodeName, RoomName};
use cursormesh_web::Hub;
use cursormesh_web::cluster::{self, Outbound, Uplink};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use uuid::Uuid;

/// What the web edge said and the mesh has no form for. Room names are checked where they come in,
/// so it stays zero unless something is wrong.
#[derive(Debug, Default)]
pub(crate) struct Dropped {
    to_mesh: AtomicU64,
}

impl Dropped {
    /// Dropped on the way from the web edge to the mesh.
    pub(crate) fn to_mesh(&self) -> u64 {
        self.to_mesh.load(Ordering::Relaxed)
    }
}

/// The way from the hub to the mesh: translated on the spot, by whoever says it.
#[derive(Debug, Default)]
pub(crate) struct ToMesh {
    /// Empty until the mesh runs.
    local: OnceLock<mpsc::Sender<Local>>,
    dropped: Arc<Dropped>,
}

impl ToMesh {
    /// A way that is full until it is [opened](Self::open).
    pub(crate) fn new(dropped: Arc<Dropped>) -> Self {
        Self {
            local: OnceLock::new(),
            dropped,
        }
    }

    /// From now on what is said goes to `local`.
    pub(crate) fn open(&self, local: mpsc::Sender<Local>) {
        let _ = self.local.set(local);
    }
}

/// What is said to one goes to the other; they share it.
#[derive(Debug, Clone)]
pub(crate) struct Way(pub(crate) Arc<ToMesh>);

impl Uplink for Way {
    fn offer(&self, said: Outbound) -> Option<Outbound> {
        let Some(local) = self.0.local.get() else {
            return Some(said);
        };
        let place = match local.try_reserve() {
            Ok(place) => place,
            Err(TrySendError::Full(())) => return Some(said),
            Err(TrySendError::Closed(())) => return None,
        };
        match to_mesh(said) {
            Ok(said) => place.send(said),
            Err(error) => {
                self.0.dropped.to_mesh.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(%error, "a room with an impossible name was not told to the mesh");
            }
        }
        None
    }
}

/// Tells the hub what the mesh says, until the mesh ends.
pub(crate) async fn mesh_to_hub(mut events: mpsc::Receiver<Event>, hub: Hub) {
    while let Some(event) = events.recv().await {
        to_hub(event, &hub);
    }
}

fn to_mesh(said: Outbound) -> Result<Local, NameError> {
    Ok(match said {
        Outbound::Join(member) => Local::Join(Box::new(Row {
            member: MemberId(member.id.into_bytes()),
            epoch: member.epoch,
            room: RoomName::new(&member.room)?,
            user: user_to_mesh(member.user),
            state: member.state,
            joined_at: member.joined_at,
            away: member.away,
            resumable: member.resumable,
            handle: 0,
        })),
        Outbound::Update {
            member,
            user,
            state,
        } => Local::Update {
            member: MemberId(member.into_bytes()),
            user: user.map(user_to_mesh),
            state,
            away: None,
        },
        Outbound::Break { member } => Local::Break {
            member: MemberId(member.into_bytes()),
        },
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
            items: messages_to_mesh(items, MessageKind::Tutorial),
        },
        Outbound::Events { room, items } => Local::Messages {
            room: RoomName::new(&room)?,
            items: messages_to_mesh(items, MessageKind::Event),
        },
        Outbound::Cursors { room, items } => Local::Cursors {
            room: RoomName::new(&room)?,
            items: items
                .into_iter()
                .map(|cursor| event::Cursor {
                    member: MemberId(cursor.member.into_bytes()),
                    time_ms: cursor.time_ms,
                    x: cursor.x,
                    y: cursor.y,
                })
                .collect(),
        },
        Outbound::Replay {
            ticket,
            room,
            seen,
            away,
        } => Local::Replay {
            ticket,
            room: RoomName::new(&room)?,
            seen: seen
                .into_iter()
                .filter_map(|(origin, number)| Some((origin_to_mesh(&origin)?, number)))
                .collect(),
            away,
        },
    })
}

fn messages_to_mesh(items: Vec<(Uuid, Bytes)>, kind: MessageKind) -> Vec<Message> {
    items
        .into_iter()
        .map(|(sender, payload)| Message {
            sender: MemberId(sender.into_bytes()),
            kind,
            payload,
        })
        .collect()
}

fn user_to_mesh(user: cluster::User) -> event::User {
    event::User {
        id: user.id,
        name: user.name,
        color: user.color,
    }
}

fn to_hub(event: Event, hub: &Hub) {
    match event {
        Event::Joined(member) => hub.joined(member_to_web(&member)),
        Event::Updated(member) => hub.updated(member_to_web(&member)),
        Event::Left {
            room,
            member,
            reason,
        } => hub.left(room.as_str(), uuid(member), reason_to_web(reason)),
        Event::Messages {
            room,
            origin,
            items,
            ..
        } => {
            let (events, tutorial): (Vec<_>, Vec<_>) = items
                .into_iter()
                .partition(|(_, message)| message.kind == MessageKind::Event);
            if !tutorial.is_empty() {
                let items = tutorial
                    .into_iter()
                    .map(|(_, message)| (uuid(message.sender), message.payload))
                    .collect();
                hub.deliver(room.as_str(), items);
            }
            if !events.is_empty() {
                let items = events.into_iter().map(event_to_web).collect();
                hub.events(room.as_str(), &origin_to_web(&origin), items);
            }
        }
        Event::Published {
            room,
            origin,
            items,
        } => {
            let items = items.into_iter().map(event_to_web).collect();
            hub.events(room.as_str(), &origin_to_web(&origin), items);
        }
        Event::Head {
            room,
            origin,
            number,
        } => hub.head(room.as_str(), &origin_to_web(&origin), number),
        Event::Replayed {
            ticket,
            items,
            complete,
        } => {
            let items = items
                .into_iter()
                .map(|(origin, number, message)| {
                    (origin_to_web(&origin), event_to_web((number, message)))
                })
                .collect();
            hub.replayed(ticket, items, complete);
        }
        Event::Cursors { room, items } => {
            let items = items
                .into_iter()
                .map(|cursor| cluster::Cursor {
                    member: uuid(cursor.member),
                    time_ms: cursor.time_ms,
                    x: cursor.x,
                    y: cursor.y,
                })
                .collect();
            hub.cursors(room.as_str(), items);
        }
        Event::Watched {
            room,
            watched: true,
        } => hub.watched(room.as_str()),
        Event::MovedAway { member, .. } => hub.moved_away(uuid(member)),
        Event::MessageRefused { room, sender } => hub.refused(room.as_str(), uuid(sender)),
        // What concerns links and nodes is in the mesh's own log and view.
        Event::LinkUp { .. }
        | Event::LinkDown { .. }
        | Event::Refused { .. }
        | Event::Membership { .. }
        | Event::Visibility { .. }
        | Event::Watched { watched: false, .. } => {}
    }
}

fn event_to_web((number, message): (u64, Message)) -> cluster::Event {
    cluster::Event {
        number,
        sender: uuid(message.sender),
        payload: message.payload,
    }
}

/// A node in one life, as clients hold it: opaque to them and to the web edge.
fn origin_to_web(origin: &OwnerId) -> String {
    format!("{}.{}", origin.node, origin.boot)
}

/// What [`origin_to_web`] made; `None` for anything else that a client sends.
fn origin_to_mesh(origin: &str) -> Option<OwnerId> {
    let (node, boot) = origin.split_once('.')?;
    Some(OwnerId {
        node: NodeName::new(node).ok()?,
        boot: boot.parse().ok()?,
    })
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
        epoch: row.epoch,
        resumable: row.resumable,
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
            epoch: 3,
            resumable: true,
        }
    }

    #[test]
    fn a_member_comes_back_as_it_went() {
        let Local::Join(row) = to_mesh(Outbound::Join(member())).unwrap() else {
            panic!("not a join");
        };
        assert_eq!((row.epoch, row.resumable), (3, true));
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

    fn interest(room: &str) -> Outbound {
        Outbound::Interest {
            room: room.to_owned(),
            wanted: true,
        }
    }

    #[test]
    fn an_impossible_room_is_counted_and_stops_nothing() {
        let (local, mut told) = mpsc::channel(4);
        let dropped = Arc::new(Dropped::default());
        let way = Way(Arc::new(ToMesh::new(dropped.clone())));
        way.0.open(local);
        assert!(way.offer(interest("")).is_none());
        assert!(way.offer(interest("lobby")).is_none());
        assert_eq!(dropped.to_mesh(), 1);
        assert!(
            matches!(told.try_recv(), Ok(Local::Interest { room, .. }) if room.as_str() == "lobby")
        );
        assert!(told.try_recv().is_err());
    }

    #[test]
    fn what_has_no_room_is_given_back_as_it_was() {
        let (local, mut told) = mpsc::channel(1);
        let way = Way(Arc::default());
        let room = |said: Option<Outbound>| match said {
            Some(Outbound::Interest { room, .. }) => room,
            other => panic!("{other:?}"),
        };
        assert_eq!(room(way.offer(interest("early"))), "early");
        way.0.open(local);
        assert!(way.offer(interest("lobby")).is_none());
        assert_eq!(room(way.offer(interest("late"))), "late");
        told.try_recv().unwrap();
        assert!(way.offer(interest("late")).is_none());
    }

    #[test]
    fn without_a_mesh_everything_is_taken() {
        let (local, told) = mpsc::channel(1);
        let way = Way(Arc::default());
        way.0.open(local);
        drop(told);
        assert!(way.offer(interest("lobby")).is_none());
        assert!(way.offer(interest("lobby")).is_none());
    }
}
