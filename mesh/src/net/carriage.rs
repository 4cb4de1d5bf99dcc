//! Requests from node to node, and their answers: bytes that the mesh does not look into.
//!
//! Each request is a bidirectional stream on a connection that the asking node dials for its
//! requests alone, so that they share a congestion window neither with cursors nor with snapshots.
//! An answer is a sequence of parts, over as long a time as the answering node likes. Where there
//! is no link to a node, one other node passes request and answer on.

mod answer;
mod header;
mod lines;
mod relay;
mod reply;
mod route;
mod sending;
mod serve;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use quinn::{Connection, ReadError, RecvStream, TransportConfig, VarInt, WriteError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tracing::debug;

pub use self::answer::Answer;
use self::header::Header;
use self::lines::Line;
pub use self::reply::{Reply, Request};
use self::route::Hop;
use self::sending::Sending;
use super::endpoint::Gate;
use super::framing;
use super::view::{Counters, View};
use crate::proto::NodeName;

/// The largest request, in bytes.
pub const REQUEST_BYTES_MAX: usize = 1024 * 1024;
/// The largest part of an answer, in bytes.
pub const PART_BYTES_MAX: usize = 1024 * 1024;

/// Requests under way at once on one connection, that is, from one node to another.
const STREAMS_MAX: u16 = 4096;
/// For how many QUIC is given room, in streams and in bytes. It announces room only when an eighth
/// of all has come free, so that exactly enough would be too little.
const STREAMS_GRANTED: u16 = STREAMS_MAX + STREAMS_MAX / 4;
/// Requests under way at once that this node asks, and as many that it serves or passes on.
const REQUESTS_MAX: usize = 16_384;
/// Requests that wait for the handler to take them.
const WAITING_MAX: usize = 1024;
/// Bytes of requests on which nothing was answered yet, all together.
const UNANSWERED_BYTES_MAX: usize = 64 * 1024 * 1024;
/// What of one answer may be on its way to an asker that does not read. Over a path of 100 ms it
/// lets an answer through at 320 KB/s.
const STREAM_WINDOW: u32 = 32 * 1024;
/// How long QUIC may take to let a stream be opened. It waits only for the other side's word, after
/// the handshake and when many streams have just ended.
const OPEN_TIMEOUT: Duration = Duration::from_secs(2);
/// The first byte of an answer: the request is with the handler.
const TAKEN: u8 = 1;

/// Codes with which a stream is reset or stopped, beside 0: no longer wanted.
mod code {
    pub(super) const BROKEN: u32 = 1;
    pub(super) const BUSY: u32 = 2;
    pub(super) const UNREACHABLE: u32 = 3;
    pub(super) const LOST: u32 = 4;
    pub(super) const MALFORMED: u32 = 5;
}

/// Why a request was not carried, or its answer ended early. What was sent shortly before may not
/// have arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CarryError {
    /// There is neither a link to the node nor another node that has one, the node does not carry
    /// requests, or it has no handler. The handler did not see the request.
    #[error("the node cannot be reached")]
    Unreachable,
    /// A connection on the way, or the node at the other end, was lost. The handler may have seen
    /// the request.
    #[error("the connection was lost")]
    Lost,
    /// The other side gave up, or sent what the protocol does not allow.
    #[error("the other side gave up")]
    Broken,
    /// Too much is under way at once, here or there. The handler did not see the request.
    #[error("too many requests at once")]
    Busy,
    /// The request is above [`REQUEST_BYTES_MAX`], or the part above [`PART_BYTES_MAX`]. Nothing of
    /// it was sent.
    #[error("too many bytes")]
    TooBig,
}

impl CarryError {
    /// The code that tells the other side of a stream the same.
    fn code(self) -> VarInt {
        VarInt::from_u32(match self {
            Self::Unreachable => code::UNREACHABLE,
            Self::Lost => code::LOST,
            Self::Broken | Self::TooBig => code::BROKEN,
            Self::Busy => code::BUSY,
        })
    }

    fn of_code(code: VarInt) -> Self {
        match u32::try_from(code.into_inner()) {
            Ok(code::UNREACHABLE) => Self::Unreachable,
            Ok(code::LOST) => Self::Lost,
            Ok(code::BUSY) => Self::Busy,
            _ => Self::Broken,
        }
    }
}

impl From<ReadError> for CarryError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Reset(code) => Self::of_code(code),
            ReadError::ConnectionLost(_) => Self::Lost,
            ReadError::ClosedStream
            | ReadError::IllegalOrderedRead
            | ReadError::ZeroRttRejected => Self::Broken,
        }
    }
}

impl From<WriteError> for CarryError {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Stopped(code) => Self::of_code(code),
            WriteError::ConnectionLost(_) => Self::Lost,
            WriteError::ClosedStream | WriteError::ZeroRttRejected => Self::Broken,
        }
    }
}

/// Windows of the side that dials, which is the side that asks and receives the answers.
///
/// A stream's window bounds what an asker that does not read holds; the connection's window has room
/// for all of them together, so that any number of askers that do not read leaves the others theirs.
/// It is a bound, not an allocation: 128 MiB are held only if all 4,096 answers wait to be read.
pub(super) fn set_windows(config: &mut TransportConfig) {
    config
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW))
        .receive_window(VarInt::from_u32(u32::from(STREAMS_GRANTED) * STREAM_WINDOW))
        .datagram_receive_buffer_size(None);
}

/// What the node's carriers, the mesh task and the tasks of streams share.
#[derive(Debug)]
pub(super) struct Carriage {
    node: NodeName,
    view: Arc<View>,
    /// Weak, because a carrier that outlives the mesh must not keep the socket.
    gate: Weak<Gate>,
    /// Connections that this node dialled, by the node at the other end.
    lines: Mutex<BTreeMap<NodeName, Line>>,
    /// Connections that other nodes dialled.
    accepted: Mutex<BTreeMap<NodeName, Connection>>,
    door: Mutex<Door>,
    asked: Arc<Semaphore>,
    taken: Arc<Semaphore>,
    unanswered: Arc<Semaphore>,
}

/// Where requests of other nodes go.
#[derive(Debug)]
enum Door {
    /// The node did not ask for them yet.
    Unused,
    Open(mpsc::Sender<Request>),
    /// The mesh has ended.
    Closed,
}

impl Carriage {
    pub(super) fn new(gate: &Arc<Gate>) -> Self {
        Self {
            node: gate.node.clone(),
            view: Arc::clone(&gate.view),
            gate: Arc::downgrade(gate),
            lines: Mutex::default(),
            accepted: Mutex::default(),
            door: Mutex::new(Door::Unused),
            asked: Arc::new(Semaphore::new(REQUESTS_MAX)),
            taken: Arc::new(Semaphore::new(REQUESTS_MAX)),
            unanswered: Arc::new(Semaphore::new(UNANSWERED_BYTES_MAX)),
        }
    }

    /// Opens the door for the requests of other nodes; `None` if it was opened before.
    pub(super) fn listen(&self) -> Option<mpsc::Receiver<Request>> {
        let (sender, receiver) = mpsc::channel(WAITING_MAX);
        let mut door = self.door.lock().unwrap_or_else(PoisonError::into_inner);
        match *door {
            Door::Unused => {
                *door = Door::Open(sender);
                Some(receiver)
            }
            Door::Open(_) | Door::Closed => None,
        }
    }

    /// Ends everything: the mesh has ended.
    pub(super) fn close(&self) {
        *self.door.lock().unwrap_or_else(PoisonError::into_inner) = Door::Closed;
        let reason = b"the mesh has ended";
        self.close_all_lines(reason);
        self.close_all_accepted(reason);
    }

    /// Ends what is under way to and from a node whose live link is gone.
    pub(super) fn cut(&self, peer: &NodeName) {
        let reason = b"the live connection is gone";
        self.close_line(peer, reason);
        self.close_accepted(peer, reason);
    }

    fn counters(&self) -> &Counters {
        self.view.count_up()
    }

    /// A permit, or `Busy`, which is counted.
    fn permit(
        &self,
        semaphore: &Arc<Semaphore>,
        count: u32,
    ) -> Result<OwnedSemaphorePermit, CarryError> {
        Arc::clone(semaphore)
            .try_acquire_many_owned(count)
            .map_err(|_| {
                add(&self.counters().carry_busy);
                CarryError::Busy
            })
    }

    /// Hands a request to a neighbour and waits until the node that it is for took it.
    async fn ask(
        self: &Arc<Self>,
        hop: &Hop,
        header: &Header,
        body: Bytes,
    ) -> Result<Asked, CarryError> {
        let (connection, slot) = self.line(hop).await?;
        let opened = tokio::time::timeout(OPEN_TIMEOUT, connection.open_bi()).await;
        let (send, mut recv) = match opened {
            Ok(Ok(streams)) => streams,
            Ok(Err(_)) => return Err(CarryError::Lost),
            Err(_) => {
                add(&self.counters().carry_busy);
                return Err(CarryError::Busy);
            }
        };
        // Reset when this future is dropped, so that half a request is not taken for a broken one.
        let mut sending = Sending::new(send, VarInt::from_u32(0));
        let mut chunks = framing::join([header.encode(), body]);
        sending.write_all_chunks(&mut chunks).await?;
        sending.finish()?;
        let mut first = [0];
        match recv.read(&mut first).await? {
            Some(_) if first[0] == TAKEN => Ok(Asked {
                stream: recv,
                _slot: slot,
            }),
            Some(_) | None => {
                self.malformed(&hop.node, "an answer that does not begin as one");
                // Fails only on a stream that has ended.
                let _ = recv.stop(VarInt::from_u32(code::MALFORMED));
                Err(CarryError::Broken)
            }
        }
    }

    /// Counts and logs what a peer may not do. It costs the one stream: the other side of it may be
    /// a third node.
    fn malformed(&self, peer: &NodeName, reason: &str) {
        add(&self.counters().limit_violations);
        debug!(node = %self.node, %peer, reason, "a carried stream broke a rule");
    }
}

/// A request that was taken: the rest of its answer.
#[derive(Debug)]
struct Asked {
    stream: RecvStream,
    /// Its place on the connection.
    _slot: OwnedSemaphorePermit,
}

fn add(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// Asks other nodes. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Carrier(Arc<Carriage>);

impl Carrier {
    pub(super) fn new(carriage: Arc<Carriage>) -> Self {
        Self(carriage)
    }

    /// Hands `request`, at most [`REQUEST_BYTES_MAX`] bytes, to `node`, directly or through one
    /// other node. Resolves when it waits for that node's handler or is with it; to a node that was
    /// not asked for a while this takes two round trips more. Dropping the future gives the request
    /// up, which the handler notices if it has it already.
    ///
    /// [`CarryError::TooBig`] at once if the request is; [`CarryError::Unreachable`] at once if there is
    /// no way to the node, which includes this node itself, and within about 2 s (through another node
    /// 4 s) if there should be one; [`CarryError::Busy`] if there is too much under way here or there;
    /// [`CarryError::Lost`] and [`CarryError::Broken`] as in [`Answer::next`].
    pub async fn carry(&self, node: &NodeName, request: Bytes) -> Result<Answer, CarryError> {
        if request.len() > REQUEST_BYTES_MAX {
            return Err(CarryError::TooBig);
        }
        let carriage = &self.0;
        add(&carriage.counters().carry_asked);
        let permit = carriage.permit(&carriage.asked, 1)?;
        let hop = self.hop_to(node).ok_or(CarryError::Unreachable)?;
        let header = Header {
            left: u8::from(hop.node != *node),
            origin: carriage.node.clone(),
            target: node.clone(),
        };
        match carriage.ask(&hop, &header, request).await {
            Ok(asked) => Ok(Answer::new(Arc::clone(carriage), hop.node, asked, permit)),
            Err(error) => {
                if error == CarryError::Lost {
                    add(&carriage.counters().carry_lost);
                }
                Err(error)
            }
        }
    }

    /// The other nodes to which a request can be carried now, nearest first: those with a link by
    /// round trip, then those that another node leads to, by the round trip to that one. After a
    /// link broke it can take a second until the way through another node is known.
    pub fn reachable(&self) -> Vec<NodeName> {
        let carriage = &self.0;
        let mut neighbours = carriage.view.neighbours();
        neighbours.retain(|neighbour| !carriage.is_held_off(&neighbour.node));
        let overview = carriage.view.last_overview();
        route::reachable(&carriage.node, neighbours, &overview.peers)
    }

    fn hop_to(&self, node: &NodeName) -> Option<Hop> {
        let view = &self.0.view;
        if *node == self.0.node {
            return None;
        }
        if let Some(neighbour) = view.neighbour(node) {
            return Some(neighbour.into());
        }
        // Asking for it has it renewed soon, in case the way is not known yet.
        let overview = view.overview();
        route::relay_to(node, &overview.peers, |relay| view.neighbour(relay))
    }
}
