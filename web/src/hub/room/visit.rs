//! A v1 connection in a room: what it may do there, and what the cluster tells the room of members
//! that can come back.

use std::sync::{Arc, Weak};

use bytes::Bytes;
use tokio::time::{Duration, Instant, sleep_until};
use uuid::Uuid;

use super::super::audience::{Audience, Joining, Phase, Resuming, Session};
use super::super::roster::Positions;
use super::{Inner, Item, Move, Outbox, Room, hue, unix_ms};
use crate::cluster::{Event, LeaveReason, Member, Outbound, User};
use crate::protocol::{Rebuilt, Sample};
use crate::token::Claim;

/// How long a join waits for the other nodes to say where their events begin. They do within a push
/// and a round trip; one that does not is not waited for.
const HEADS_PATIENCE: Duration = Duration::from_millis(400);

/// A connection that wants to be in a room.
pub(crate) struct Arrival {
    /// Who comes, and the hue; without one it gets the member's own.
    pub(crate) user: (User, Option<u16>),
    /// The application's state, JSON.
    pub(crate) state: Bytes,
    /// Whom it was, and what it saw.
    pub(crate) before: Before,
    /// Whether it takes cursors as binary frames.
    pub(crate) binary: bool,
}

/// What a connection was before.
pub(crate) enum Before {
    /// Nobody.
    Nobody,
    /// Somebody, but it cannot prove that, for this reason.
    Unknown(Rebuilt),
    /// A member that its token names.
    Member {
        /// What the token says.
        claim: Claim,
        /// The last event number seen of each origin.
        seen: Vec<(String, u64)>,
        /// How long the client was away.
        away: Duration,
    },
}

/// How a connection goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Parting {
    /// On purpose: the member leaves.
    Left,
    /// It broke: the member may come back.
    Broken,
    /// The node stops: the member may come back elsewhere.
    Stopping,
}

/// A v1 connection's presence in a room; broken when dropped.
pub(crate) struct Visit {
    room: Arc<Room>,
    hub: Weak<Inner>,
    member: Uuid,
    serial: u64,
    user: User,
    phase: Arc<Phase>,
    began: Instant,
    parting: Parting,
}

impl Visit {
    /// The room's name.
    pub(crate) fn room(&self) -> &str {
        self.room.name()
    }

    /// The member.
    pub(crate) fn member(&self) -> Uuid {
        self.member
    }

    /// The room's number in binary frames.
    pub(crate) fn number(&self) -> u32 {
        self.room.number
    }

    /// Whether the room has ended it.
    pub(crate) fn is_over(&self) -> bool {
        self.phase.is_over()
    }

    /// When it began.
    pub(crate) fn began(&self) -> Instant {
        self.began
    }

    /// Whether the cluster has not shown the member yet.
    pub(crate) fn is_joining(&self) -> bool {
        self.phase.is_joining()
    }

    /// Whether the room takes nothing for now.
    pub(crate) fn is_paused(&self) -> bool {
        *self.room.paused.borrow()
    }

    /// The user as it was last told to the cluster.
    pub(crate) fn user(&self) -> &User {
        &self.user
    }

    /// Changes the member.
    pub(crate) fn update(&mut self, user: Option<User>, state: Option<Bytes>) {
        if let Some(user) = &user {
            self.user = user.clone();
        }
        self.say(Outbound::Update {
            member: self.member,
            user,
            state,
        });
    }

    /// The member's epoch, once it has joined.
    pub(crate) fn epoch(&self) -> u32 {
        self.phase.epoch()
    }

    /// Says an event: `{"epoch":…,"name":…,"data":…}`.
    pub(crate) fn event(&self, payload: Bytes) {
        self.say(Outbound::Events {
            room: self.room.name.clone(),
            items: vec![(self.member, self.room.context.budget.said(payload))],
        });
    }

    /// Moves the cursor.
    pub(crate) fn place(&self, sample: Sample) {
        self.room.place([(self.member, sample)].into_iter(), true);
    }

    /// The connection's socket took what waited; with `anew` presence diffs were left out.
    pub(crate) fn catch_up(&self, anew: bool) {
        if let Some(audience) = &mut self.room.delivery().audience {
            audience.catch_up(self.serial, anew);
        }
    }

    /// Sends a fresh token.
    pub(crate) fn renew_token(&self) {
        if let Some(audience) = &self.room.delivery().audience {
            audience.renew_token(self.serial);
        }
    }

    /// Goes, in some way.
    pub(crate) fn part(mut self, parting: Parting) {
        self.parting = parting;
    }

    fn say(&self, outbound: Outbound) {
        let room = &self.room;
        room.queue(|pending, _| room.outbound(pending, outbound));
        room.update_pause();
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        let (room, member) = (&self.room, self.member);
        let there = match &mut room.delivery().audience {
            Some(audience) => audience.exit(self.serial),
            None => false,
        };
        room.vacate(&self.hub, |pending| {
            let outbound = match self.parting {
                // Its member belongs to another connection, or to none any more.
                _ if !there => return,
                Parting::Stopping => return,
                Parting::Left => Outbound::Leave {
                    member,
                    reason: LeaveReason::Closed,
                },
                Parting::Broken => Outbound::Break { member },
            };
            room.outbound(pending, outbound);
        });
    }
}

impl Room {
    pub(in super::super) fn visit(
        self: &Arc<Self>,
        outbox: Arc<Outbox>,
        arrival: Arrival,
        hub: Weak<Inner>,
    ) -> Visit {
        let context = &self.context;
        let now = Instant::now();
        let (member, epoch, joined_at) = match &arrival.before {
            Before::Member { claim, .. } => (claim.member, claim.epoch, claim.joined_at),
            Before::Nobody | Before::Unknown(_) => (Uuid::new_v4(), 0, unix_ms()),
        };
        let (user, color) = arrival.user;
        let user = User {
            color: color.unwrap_or_else(|| hue(member)),
            ..user
        };
        // The origins are this node and its peers; asked before any lock is taken.
        let origins = context.directory.nodes().len();
        let (ask_at, resumes) = {
            let mut pending = self.pending();
            self.occupy(&mut pending);
            let since = pending.interested_since.unwrap_or(now);
            let resumes = matches!(arrival.before, Before::Member { .. });
            (since + HEADS_PATIENCE, resumes)
        };
        let mut joining = Joining::default();
        match arrival.before {
            Before::Nobody => {}
            Before::Unknown(problem) => joining.problem = Some(problem),
            Before::Member { seen, away, .. } => {
                joining.resume = Some(Resuming::new(seen, away, origins, ask_at));
            }
        }
        let serial = context.serial();
        let session = Session::new(
            (member, epoch, joined_at),
            serial,
            outbox,
            arrival.binary,
            joining,
        );
        let phase = session.phase.clone();
        {
            let mut delivery = self.delivery();
            let delivery = &mut *delivery;
            let positions = &mut delivery.positions;
            delivery
                .audience
                .get_or_insert_with(|| {
                    // What waits in the queue may be in it already; telling it again changes nothing.
                    let members = context.directory.members(&self.name);
                    let name = self.name.clone();
                    let positions = Positions::from(std::mem::take(positions));
                    let context = context.clone();
                    Box::new(Audience::new(
                        name,
                        self.number,
                        members,
                        positions,
                        context,
                    ))
                })
                .enter(session);
        }
        let row = Member {
            id: member,
            room: self.name.clone(),
            user: user.clone(),
            state: arrival.state,
            node: context.directory.node(),
            joined_at,
            away: false,
            epoch,
            resumable: true,
        };
        self.queue(|pending, _| {
            self.outbound(pending, Outbound::Join(row));
            if resumes {
                pending.items.push(Item::Ask);
            }
        });
        if resumes && ask_at > now {
            self.ask_at(ask_at);
        }
        Visit {
            room: self.clone(),
            hub,
            member,
            serial,
            user,
            phase,
            began: now,
            parting: Parting::Broken,
        }
    }

    /// Members are at new positions.
    pub(in super::super) fn place(
        self: &Arc<Self>,
        moves: impl Iterator<Item = (Uuid, Sample)>,
        local: bool,
    ) {
        self.queue(|pending, metrics| {
            // The cluster says a position once: also a room that is empty for a moment keeps it.
            if !pending.interested {
                return;
            }
            for (member, sample) in moves {
                if pending.departed.contains(member) {
                    metrics.messages_dropped.departed.increment();
                } else {
                    pending.moves.insert(member, Move { sample, local });
                }
            }
        });
    }

    pub(in super::super) fn moved_away(self: &Arc<Self>, member: Uuid) {
        let here = match &self.delivery().audience {
            Some(audience) => audience.has(member),
            None => false,
        };
        if here {
            self.queue(|pending, _| pending.items.push(Item::MovedAway(member)));
        }
    }

    pub(in super::super) fn events(self: &Arc<Self>, origin: &str, items: Vec<Event>) {
        let origin = origin.to_owned();
        self.queue(|pending, _| pending.items.push(Item::Events { origin, items }));
    }

    pub(in super::super) fn head(self: &Arc<Self>, origin: &str, number: u64) {
        let origin = origin.to_owned();
        self.queue(|pending, _| pending.items.push(Item::Head { origin, number }));
    }

    pub(in super::super) fn replayed(
        self: &Arc<Self>,
        ticket: u64,
        items: Vec<(String, Event)>,
        complete: bool,
    ) {
        self.queue(|pending, _| {
            pending.items.push(Item::Replayed {
                ticket,
                items,
                complete,
            });
        });
    }

    pub(in super::super) fn refused(&self, member: Uuid) {
        if let Some(audience) = &self.delivery().audience {
            audience.refused(member);
        }
    }

    fn ask_at(self: &Arc<Self>, due: Instant) {
        let room = Arc::downgrade(self);
        tokio::spawn(async move {
            sleep_until(due).await;
            if let Some(room) = room.upgrade() {
                room.queue(|pending, _| pending.items.push(Item::Ask));
            }
        });
    }
}
