//! One live connection: a writer per lane, a reader per stream, a reader of datagrams.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use quinn::{Connection, ReadError, RecvStream, SendStream, WriteError};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tracing::{Instrument, info_span, trace, warn};

use super::bulk;
use super::dialer::Dialer;
use super::endpoint::close_code;
use super::framing::{self, Splitter};
use super::inbox::{Inbox, Report, Source};
use super::view::{LinkCounters, View};
use crate::proto::event::CloseCode;
use crate::proto::wire::frame_bytes_max;
use crate::proto::{ConnId, Lane, NodeName};

/// What may wait for one lane's writer. The core sends less; more means that it was not told.
const LANE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// What may wait for the bulk connection; the newest beyond that is dropped and asked for again.
const BULK_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Counted for each waiting frame beside its bytes.
const FRAME_OVERHEAD: usize = 64;
/// How long a parting connection may take to deliver what was queued before.
const FLUSH_TIMEOUT: Duration = Duration::from_millis(500);
/// How long what a dead connection had delivered may wait to be read.
const READ_OUT_TIMEOUT: Duration = Duration::from_millis(200);

/// The mesh task's end of a live connection. Dropping it closes the connection as lost.
#[derive(Debug)]
pub(super) struct Link {
    presence: LaneSender,
    messages: LaneSender,
    bulk: LaneSender,
    part: oneshot::Sender<(CloseCode, String)>,
    /// Frames of this connection that wait for the mesh task.
    pub(super) waiting: Arc<AtomicUsize>,
}

/// What a link's tasks share.
#[derive(Debug, Clone)]
pub(super) struct LinkContext {
    pub(super) conn: ConnId,
    pub(super) peer: NodeName,
    pub(super) addr: SocketAddr,
    pub(super) connection: Connection,
    pub(super) counters: Arc<LinkCounters>,
    pub(super) view: Arc<View>,
    pub(super) inbox: Inbox,
}

impl Link {
    /// Starts the tasks of a live connection in the current span. [`Report::Closed`] ends them.
    pub(super) fn spawn(context: LinkContext, dialer: Dialer) -> Self {
        let waiting = Arc::new(AtomicUsize::new(0));
        let (presence, presence_queue) = LaneSender::new(LANE_BYTES_MAX);
        let (messages, messages_queue) = LaneSender::new(LANE_BYTES_MAX);
        let (bulk, bulk_queue) = LaneSender::new(BULK_BYTES_MAX);
        let (part, parting) = oneshot::channel();

        let mut writers = JoinSet::new();
        for (lane, queue) in [
            (Lane::Presence, presence_queue),
            (Lane::Messages, messages_queue),
        ] {
            writers.spawn(write_lane(context.clone(), lane, queue).in_current_span());
        }
        let mut others = JoinSet::new();
        others.spawn(bulk::write_bulk(context.clone(), dialer, bulk_queue).in_current_span());
        let mut readers = JoinSet::new();
        let source = Source::Live(context.conn, Arc::clone(&waiting));
        readers.spawn(
            StreamReader {
                connection: context.connection.clone(),
                source,
                counters: Arc::clone(&context.counters),
                view: Arc::clone(&context.view),
                inbox: context.inbox.clone(),
                open: Arc::default(),
            }
            .run()
            .in_current_span(),
        );
        others.spawn(read_datagrams(context.clone()).in_current_span());
        tokio::spawn(supervise(context, writers, readers, others, parting).in_current_span());
        Self {
            presence,
            messages,
            bulk,
            part,
            waiting,
        }
    }

    /// Queues a frame for its lane. False if the lane has too much queued: the frame is dropped.
    pub(super) fn send(&self, lane: Lane, frame: Bytes) -> bool {
        match lane {
            Lane::Presence => self.presence.push(frame),
            Lane::Messages => self.messages.push(frame),
            Lane::Bulk => self.bulk.push(frame),
        }
    }

    /// Frame bytes that wait for the writers, roughly.
    pub(super) fn queued(&self) -> usize {
        [&self.presence, &self.messages, &self.bulk]
            .iter()
            .map(|lane| lane.queued.load(Ordering::Relaxed))
            .sum()
    }

    /// Delivers what is queued on the two live lanes, then closes.
    pub(super) fn part(self, code: CloseCode, reason: String) {
        let _ = self.part.send((code, reason));
    }
}

/// The queue in front of one lane's writer.
#[derive(Debug)]
struct LaneSender {
    queue: mpsc::UnboundedSender<Bytes>,
    queued: Arc<AtomicUsize>,
    bytes_max: usize,
}

/// The writer's end of a lane's queue.
#[derive(Debug)]
pub(super) struct LaneQueue {
    queue: mpsc::UnboundedReceiver<Bytes>,
    queued: Arc<AtomicUsize>,
}

impl LaneSender {
    fn new(bytes_max: usize) -> (Self, LaneQueue) {
        // Bounded by bytes, which is what matters here, through the counter.
        let (sender, receiver) = mpsc::unbounded_channel();
        let queued = Arc::new(AtomicUsize::new(0));
        let lane = Self {
            queue: sender,
            queued: Arc::clone(&queued),
            bytes_max,
        };
        let queue = LaneQueue {
            queue: receiver,
            queued,
        };
        (lane, queue)
    }

    fn push(&self, frame: Bytes) -> bool {
        let cost = frame.len() + FRAME_OVERHEAD;
        if self.queued.load(Ordering::Acquire) + cost > self.bytes_max {
            return false;
        }
        self.queued.fetch_add(cost, Ordering::AcqRel);
        // Fails when the writer ended with its connection, which is reported on its own.
        let _ = self.queue.send(frame);
        true
    }
}

impl LaneQueue {
    /// The next frames, at most `count`, as soon as there is one; empty when there will be none.
    pub(super) async fn take(&mut self, count: usize) -> Vec<Bytes> {
        let mut frames = Vec::new();
        self.queue.recv_many(&mut frames, count).await;
        let cost = frames.iter().map(|frame| frame.len() + FRAME_OVERHEAD);
        self.queued.fetch_sub(cost.sum(), Ordering::AcqRel);
        frames
    }
}

/// Writes frames as they come, those that wait together in one write.
async fn write_lane(link: LinkContext, lane: Lane, mut queue: LaneQueue) {
    let Ok(mut stream) = open(&link.connection, lane).await else {
        return;
    };
    loop {
        let frames = queue.take(256).await;
        if frames.is_empty() {
            break;
        }
        let count = frames.len();
        let bytes = frames.iter().map(Bytes::len).sum();
        match write(&mut stream, frames).await {
            Ok(()) => written(&link, lane, count, bytes).await,
            Err(error) => {
                if let WriteError::Stopped(_) = error {
                    let reason = format!("the peer stopped reading lane {lane:?}");
                    link.connection
                        .close(close_code(CloseCode::Protocol), reason.as_bytes());
                }
                return;
            }
        }
    }
    // Resolves when the peer has everything, or with the connection.
    if stream.finish().is_ok() {
        let _ = stream.stopped().await;
    }
}

/// Opens a lane's stream; its first byte travels with the first frames.
pub(super) async fn open(connection: &Connection, lane: Lane) -> Result<SendStream, WriteError> {
    let mut stream = connection.open_uni().await?;
    // Small presence frames go before large messages, snapshots after everything.
    let priority = match lane {
        Lane::Presence => 1,
        Lane::Messages => 0,
        Lane::Bulk => -1,
    };
    // Fails only on a finished stream.
    let _ = stream.set_priority(priority);
    stream.write_all(&[framing::lane_byte(lane)]).await?;
    Ok(stream)
}

/// Writes frames with their prefixes.
pub(super) async fn write(stream: &mut SendStream, frames: Vec<Bytes>) -> Result<(), WriteError> {
    stream.write_all_chunks(&mut framing::join(frames)).await
}

/// Counts and reports frames that QUIC took.
pub(super) async fn written(link: &LinkContext, lane: Lane, frames: usize, bytes: usize) {
    let counters = &link.counters;
    counters
        .frames_sent
        .fetch_add(frames as u64, Ordering::Relaxed);
    counters
        .frame_bytes_sent
        .fetch_add(bytes as u64, Ordering::Relaxed);
    let conn = link.conn;
    link.inbox
        .report(Report::Drained { conn, lane, bytes })
        .await;
}

async fn read_datagrams(link: LinkContext) {
    while let Ok(bytes) = link.connection.read_datagram().await {
        trace!(bytes = bytes.len(), "datagram");
        link.inbox.datagram(link.conn, bytes).await;
    }
}

/// Waits for the connection's end, whoever causes it, lets what arrived before be read, reports.
async fn supervise(
    link: LinkContext,
    mut writers: JoinSet<()>,
    mut readers: JoinSet<()>,
    others: JoinSet<()>,
    parting: oneshot::Receiver<(CloseCode, String)>,
) {
    let connection = &link.connection;
    tokio::select! {
        _ = connection.closed() => {}
        parting = parting => {
            let (code, reason) = parting.unwrap_or((CloseCode::Lost, String::new()));
            let flushed = async { while writers.join_next().await.is_some() {} };
            // What cannot be delivered in time is lost with the connection.
            let _ = tokio::time::timeout(FLUSH_TIMEOUT, flushed).await;
            connection.close(close_code(code), reason.as_bytes());
        }
    }
    let error = connection.closed().await;
    let read_out = async { while readers.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(READ_OUT_TIMEOUT, read_out).await;
    drop((writers, readers, others));
    let conn = link.conn;
    link.inbox.report(Report::Closed { conn, error }).await;
}

/// Reads all unidirectional streams of one connection.
#[derive(Debug, Clone)]
pub(super) struct StreamReader {
    pub(super) connection: Connection,
    pub(super) source: Source,
    pub(super) counters: Arc<LinkCounters>,
    pub(super) view: Arc<View>,
    pub(super) inbox: Inbox,
    /// A bit per lane that has a stream now.
    pub(super) open: Arc<AtomicU8>,
}

/// What a peer may not do. The connection closes with the code and the reason.
#[derive(Debug)]
struct Violation {
    code: CloseCode,
    reason: String,
}

impl StreamReader {
    /// Until the connection ends. QUIC bounds how many streams there can be.
    pub(super) async fn run(self) {
        let mut streams = JoinSet::new();
        while let Ok(stream) = self.connection.accept_uni().await {
            while streams.try_join_next().is_some() {}
            streams.spawn(self.clone().read(stream).in_current_span());
        }
        while streams.join_next().await.is_some() {}
    }

    async fn read(self, stream: RecvStream) {
        if let Err(Violation { code, reason }) = self.read_lane(stream).await {
            self.view
                .count_up()
                .limit_violations
                .fetch_add(1, Ordering::Relaxed);
            let addr = self.connection.remote_address();
            warn!(%addr, ?code, %reason, "the peer broke a framing rule; closing its connection");
            self.connection.close(close_code(code), reason.as_bytes());
        }
    }

    async fn read_lane(&self, mut stream: RecvStream) -> Result<(), Violation> {
        let mut first = [0];
        match stream.read(&mut first).await {
            Ok(Some(_)) => {}
            Ok(None) => return Err(protocol("a stream without a lane")),
            Err(error) => return ended(error),
        }
        let Some(lane) = framing::lane_of(first[0]) else {
            return Err(protocol(format!("no lane has the byte {}", first[0])));
        };
        if matches!(self.source, Source::Bulk(_)) && lane != Lane::Bulk {
            return Err(protocol(format!("lane {lane:?} on a bulk connection")));
        }
        let bit = 1 << framing::lane_byte(lane);
        if self.open.fetch_or(bit, Ordering::AcqRel) & bit != 0 {
            return Err(protocol(format!("a second stream for lane {lane:?}")));
        }
        let outcome = self.read_frames(&mut stream, lane).await;
        self.open.fetch_and(!bit, Ordering::AcqRel);
        outcome
    }

    async fn read_frames(&self, stream: &mut RecvStream, lane: Lane) -> Result<(), Violation> {
        let mut splitter = Splitter::new(frame_bytes_max(lane));
        loop {
            match stream.read_chunk(64 * 1024, true).await {
                Ok(Some(chunk)) => splitter.push(&chunk.bytes),
                Ok(None) => return Ok(()),
                Err(error) => return ended(error),
            }
            while let Some(frame) = splitter.next_frame().map_err(|error| Violation {
                code: CloseCode::Limit,
                reason: format!("lane {lane:?}: {error}"),
            })? {
                trace!(?lane, bytes = frame.len(), "frame");
                let counters = &self.counters;
                counters.frames_received.fetch_add(1, Ordering::Relaxed);
                counters
                    .frame_bytes_received
                    .fetch_add(frame.len() as u64, Ordering::Relaxed);
                self.inbox.frame(self.source.clone(), lane, frame).await;
            }
        }
    }
}

fn protocol(reason: impl Into<String>) -> Violation {
    Violation {
        code: CloseCode::Protocol,
        reason: reason.into(),
    }
}

/// A stream ends with its connection; a peer that abandons one alone would leave a hole in a lane.
fn ended(error: ReadError) -> Result<(), Violation> {
    match error {
        ReadError::Reset(_) => Err(protocol("a lane's stream was abandoned")),
        ReadError::ConnectionLost(_)
        | ReadError::ClosedStream
        | ReadError::IllegalOrderedRead
        | ReadError::ZeroRttRejected => Ok(()),
    }
}

/// Reads a bulk connection that a peer opened until it ends.
pub(super) fn spawn_bulk_reader(
    node: &NodeName,
    connection: Connection,
    peer: NodeName,
    view: Arc<View>,
    inbox: Inbox,
) {
    let reader = StreamReader {
        connection,
        source: Source::Bulk(peer.clone()),
        counters: Arc::default(),
        view,
        inbox,
        open: Arc::default(),
    };
    let span = info_span!("bulk", node = %node, peer = %peer);
    tokio::spawn(reader.run().instrument(span));
}
