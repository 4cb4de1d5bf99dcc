//! The one task that owns the core.
//!
//! Each turn, in this order: timers; what happened to connections; datagrams (membership,
//! liveness, cursors); at most 64 KiB of ordered frames and as much of the node's own input; then
//! what the core wants done. A turn stops taking input after 4 ms and ends after 5 ms, whatever
//! waits; what the core still wants then comes in the next one, before more ordered input.
//!
//! Pressure: while the node does not take its events, ordered frames stay in QUIC, which holds the
//! peers back; cursors are dropped; timers and membership go on as ever.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use quinn::{Connection, ConnectionError, SendDatagramError};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tracing::{Span, debug, info, info_span, trace, warn};

use super::carriage::Carriage;
use super::dialer::Dialer;
use super::endpoint::{DATAGRAM_SEND_BUFFER, Gate, close_code, describe, is_clean, is_fault};
use super::inbox::{Inbox, Ordered, Outlet, Report, Source};
use super::peer::{Link, LinkContext, spawn_bulk_reader};
use super::view::{LinkCounters, LinkProbe, View};
use crate::proto::event::CloseCode;
use crate::proto::{
    ConnId, Core, Event, Input, Lane, Local, NodeName, Output, Overview, RoomName, Time,
};

/// How many events may wait for the node.
pub(super) const EVENTS_MAX: usize = 8192;
/// With less room than this for events, ordered frames wait.
const EVENTS_RESERVE: usize = 1024;
/// With more events than this beyond the channel, the node's own input waits too.
const BACKLOG_MAX: usize = 8192;
/// How much ordered input of each kind a turn takes.
const ORDERED_BYTES_MAX: usize = 64 * 1024;
/// How much else a turn takes of each kind.
const ITEMS_MAX: usize = 512;
/// After this a turn takes no more input.
const TURN_INPUT_MAX: Duration = Duration::from_millis(4);
/// After this a turn ends; one that took longer by a tenth is counted.
const TURN_MAX: Duration = Duration::from_millis(5);
/// How often paths and the overview are looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// A connection on which so many looks found no new packet is closed with a word: after 2.1 s and
/// what the looks came late, but before QUIC would give it up in silence. A peer that can still be
/// told, but is no longer heard, learns so at once that its packets are lost; else it would send
/// into the void for 2.5 s more.
const SILENT_LOOKS_MAX: u32 = 21;
/// Who was sent so many packets and did not acknowledge any for this long and a round trip is quiet. An
/// acknowledgement is due within 25 ms of the second packet.
const QUIET_PACKETS: u64 = 4;
const QUIET_AFTER: Duration = Duration::from_millis(300);
/// The overview's age at which it is renewed, while someone asks and while nobody does.
const OVERVIEW_AGE_ASKED: Duration = Duration::from_millis(250);
const OVERVIEW_AGE: Duration = Duration::from_secs(1);
/// What of the datagram queue is kept for membership and liveness, in bytes.
const URGENT_RESERVE: usize = 8 * 1024;
/// With more than this queued in it, there is no room for another flush of cursors: what waits here
/// is already old. On an overloaded link of 1 Mbit/s it is 65 ms of every cursor's age.
const CURSOR_QUEUE_MAX: usize = 8 * 1024;
/// How long frames that a dead connection delivered may wait for their turn.
const READ_OUT_TIMEOUT: Duration = Duration::from_millis(200);
/// How long leaving may take before the links are cut.
const LEAVE_TIMEOUT: Duration = Duration::from_millis(700);
/// How long the endpoint may take to say goodbye.
const IDLE_TIMEOUT: Duration = Duration::from_millis(200);
/// More dials than this at once fail at once.
const DIALS_MAX: usize = 256;

/// What the driver asks of a core; a seam for tests of the driver alone.
pub(super) trait Engine: Send + 'static {
    fn handle(&mut self, now: Time, input: Input);
    fn poll_output(&mut self) -> Option<Output>;
    fn poll_timeout(&self) -> Time;
    fn overview(&self, now: Time) -> Overview;
}

impl Engine for Core {
    fn handle(&mut self, now: Time, input: Input) {
        Self::handle(self, now, input);
    }

    fn poll_output(&mut self) -> Option<Output> {
        Self::poll_output(self)
    }

    fn poll_timeout(&self) -> Time {
        Self::poll_timeout(self)
    }

    fn overview(&self, now: Time) -> Overview {
        Self::overview(self, now)
    }
}

/// The node's wish to leave, and whom to tell when it is done.
#[derive(Debug)]
pub(super) struct Leave {
    pub(super) linger: Duration,
    pub(super) done: oneshot::Sender<()>,
}

/// The node's ends of the driver's channels.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) local: mpsc::Receiver<Local>,
    pub(super) events: mpsc::Sender<Event>,
    pub(super) leave: mpsc::Receiver<Leave>,
    pub(super) seeds: watch::Receiver<BTreeSet<SocketAddr>>,
}

/// The task's state.
#[derive(Debug)]
pub(super) struct Driver<E> {
    engine: E,
    start: Instant,
    gate: Arc<Gate>,
    view: Arc<View>,
    inbox: Inbox,
    outlet: Outlet,
    client: Client,
    dialer: Dialer,
    dialling: BTreeSet<SocketAddr>,
    links: BTreeMap<ConnId, Entry>,
    bulk: BTreeMap<NodeName, Connection>,
    carriage: Arc<Carriage>,
    next_conn: u64,
    backlog: VecDeque<Event>,
    paused: bool,
    /// The last turn ended before the core's outputs did.
    undrained: bool,
    next_look: Instant,
    overview_at: Instant,
    overview_wanted: bool,
    leaving: Option<(Instant, Option<oneshot::Sender<()>>)>,
}

/// A live connection.
#[derive(Debug)]
struct Entry {
    peer: NodeName,
    connection: Connection,
    /// Gone once this side decided to close.
    link: Option<Link>,
    waiting: Arc<AtomicUsize>,
    counters: Arc<LinkCounters>,
    span: Span,
    rtt: Duration,
    room_for_cursors: bool,
    /// Packets received so far, and how many looks ago there was a new one. Looks rather than time:
    /// a process that was stopped did not look, and what it missed then is no silence.
    received: u64,
    silent_looks: u32,
    /// Packets sent until the last look at which there was one, and whether the core was told.
    sent: u64,
    told_quiet: bool,
    /// Set when the connection is gone: whether cleanly, and how long to wait for its last frames.
    closed: Option<(bool, Instant)>,
}

/// What woke the task.
enum Wake {
    Time,
    Report(Report),
    Datagram(ConnId, Bytes),
    Ordered(Ordered),
    Local(Local),
    Leave(Option<Leave>),
    Seeds,
}

impl<E: Engine> Driver<E> {
    pub(super) fn new(
        engine: E,
        start: Instant,
        gate: Arc<Gate>,
        carriage: Arc<Carriage>,
        inbox: Inbox,
        outlet: Outlet,
        client: Client,
    ) -> Self {
        let dialer = Dialer::new(Arc::clone(&gate), inbox.clone());
        Self {
            engine,
            start,
            view: Arc::clone(&gate.view),
            gate,
            inbox,
            outlet,
            client,
            dialer,
            dialling: BTreeSet::new(),
            links: BTreeMap::new(),
            bulk: BTreeMap::new(),
            carriage,
            next_conn: 1,
            backlog: VecDeque::new(),
            paused: false,
            undrained: false,
            next_look: start,
            overview_at: start,
            overview_wanted: true,
            leaving: None,
        }
    }

    /// Runs until the node left or dropped its [`Mesh`](super::Mesh).
    pub(super) async fn run(mut self) {
        loop {
            let wake = self.wait().await;
            let began = Instant::now();
            if let Wake::Leave(None) = wake {
                break;
            }
            self.turn(wake, began);
            self.measure(began.elapsed());
            if let Some((deadline, _)) = &self.leaving
                && (self.links.is_empty() || Instant::now() >= *deadline)
            {
                break;
            }
        }
        // Readers may keep the view, but not the connections and, through them, the socket.
        self.view.clear_links();
        self.carriage.close();
        let (code, reason) = match self.leaving {
            Some(_) => (CloseCode::Leaving, "the node leaves the cluster"),
            None => (CloseCode::Lost, "the mesh was dropped"),
        };
        self.gate
            .endpoint
            .close(close_code(code), reason.as_bytes());
        // What the network does not take in time the peers learn from their idle timeout.
        let _ = tokio::time::timeout(IDLE_TIMEOUT, self.gate.endpoint.wait_idle()).await;
        if let Some((_, Some(done))) = self.leaving {
            let _ = done.send(());
        }
    }

    /// Waits for the next thing to do; several at once come in the order of their urgency.
    async fn wait(&mut self) -> Wake {
        if self.undrained {
            tokio::task::yield_now().await;
            return Wake::Time;
        }
        loop {
            let room = self.flush_backlog();
            let takes_frames = room && self.backlog.is_empty();
            if !takes_frames && !self.paused {
                let pauses = &self.view.count_up().ordered_pauses;
                pauses.fetch_add(1, Ordering::Relaxed);
            }
            self.paused = !takes_frames;
            let wake_at = self.wake_at();
            tokio::select! {
                biased;
                () = tokio::time::sleep_until(wake_at) => return Wake::Time,
                leave = self.client.leave.recv(), if self.leaving.is_none() => {
                    return Wake::Leave(leave);
                }
                Ok(()) = self.client.seeds.changed() => return Wake::Seeds,
                Some(report) = self.outlet.reports.recv() => return Wake::Report(report),
                Some((conn, bytes)) = self.outlet.datagrams.recv() => {
                    return Wake::Datagram(conn, bytes);
                }
                _ = self.client.events.reserve_many(EVENTS_RESERVE), if !takes_frames => {}
                Some(ordered) = self.outlet.ordered.recv(), if takes_frames => {
                    return Wake::Ordered(ordered);
                }
                Some(local) = self.client.local.recv(), if self.takes_local() => {
                    return Wake::Local(local);
                }
            }
        }
    }

    fn wake_at(&self) -> Instant {
        let Time(micros) = self.engine.poll_timeout();
        let until_look = self.next_look.saturating_duration_since(self.start);
        let core = Duration::from_micros(micros).min(until_look);
        let closed = self.links.values().filter_map(|link| link.closed);
        let leaving = self.leaving.as_ref().map(|(deadline, _)| *deadline);
        closed
            .map(|(_, deadline)| deadline)
            .chain(leaving)
            .fold(self.start + core, Instant::min)
    }

    fn turn(&mut self, wake: Wake, began: Instant) {
        if self.engine.poll_timeout() <= self.now() {
            self.input(Input::Tick);
        }
        let late = || began.elapsed() >= TURN_INPUT_MAX;
        let (mut first_ordered, mut first_local) = (None, None);
        match wake {
            Wake::Time | Wake::Leave(None) => {}
            Wake::Leave(Some(leave)) => self.leave(leave),
            Wake::Seeds => {
                let seeds = self.client.seeds.borrow_and_update().clone();
                self.input(Input::Seeds(seeds));
            }
            Wake::Report(report) => self.report(report),
            Wake::Datagram(conn, bytes) => self.datagram(conn, bytes),
            Wake::Ordered(ordered) => first_ordered = Some(ordered),
            Wake::Local(local) => first_local = Some(local),
        }
        for _ in 0..ITEMS_MAX {
            match self.outlet.reports.try_recv() {
                Ok(report) => self.report(report),
                Err(_) => break,
            }
        }
        for _ in 0..ITEMS_MAX {
            if late() {
                break;
            }
            match self.outlet.datagrams.try_recv() {
                Ok((conn, bytes)) => self.datagram(conn, bytes),
                Err(_) => break,
            }
        }
        let mut bytes = 0;
        while let Some(ordered) = first_ordered.take().or_else(|| {
            (self.takes_frames() && bytes < ORDERED_BYTES_MAX && !late())
                .then(|| self.outlet.ordered.try_recv().ok())
                .flatten()
        }) {
            bytes += ordered.frame.len().max(64);
            self.ordered(ordered);
        }
        let mut bytes = 0;
        while let Some(local) = first_local.take().or_else(|| {
            (self.takes_local() && bytes < ORDERED_BYTES_MAX && !late())
                .then(|| self.client.local.try_recv().ok())
                .flatten()
        }) {
            bytes += weight(&local);
            self.input(Input::Local(local));
        }
        self.bury_closed();
        if Instant::now() >= self.next_look {
            self.look();
        }
        self.drain(Some(began));
    }

    fn takes_frames(&self) -> bool {
        !self.paused && !self.undrained
    }

    fn takes_local(&self) -> bool {
        self.backlog.len() < BACKLOG_MAX && !self.undrained
    }

    fn now(&self) -> Time {
        Time::default().after(self.start.elapsed())
    }

    fn input(&mut self, input: Input) {
        let now = self.now();
        self.engine.handle(now, input);
    }

    fn report(&mut self, report: Report) {
        match report {
            Report::LiveUp {
                connection,
                peer,
                dialled,
            } => self.live_up(connection, peer, dialled),
            Report::BulkUp { connection, peer } => {
                debug!(%peer, "a peer opened a bulk connection");
                let view = Arc::clone(&self.view);
                spawn_bulk_reader(
                    &self.gate.node,
                    connection.clone(),
                    peer.clone(),
                    view,
                    self.inbox.clone(),
                );
                if let Some(older) = self.bulk.insert(peer, connection) {
                    older.close(
                        close_code(CloseCode::Superseded),
                        b"a newer bulk connection",
                    );
                }
            }
            Report::CarryUp { connection, peer } => {
                Arc::clone(&self.carriage).serve(peer, connection)
            }
            Report::Refused { peer, code, reason } => {
                self.emit(Event::Refused { peer, code, reason });
            }
            Report::DialFailed { addr, reason } => {
                self.dialling.remove(&addr);
                self.input(Input::DialFailed { addr, reason });
            }
            Report::Drained { conn, lane, bytes } => {
                if self.links.contains_key(&conn) {
                    self.input(Input::Drained { conn, lane, bytes });
                }
            }
            Report::Closed { conn, error } => self.closed(conn, &error),
        }
    }

    fn live_up(&mut self, connection: Connection, peer: NodeName, dialled: Option<SocketAddr>) {
        if let Some(addr) = dialled {
            self.dialling.remove(&addr);
        }
        let remote = connection.remote_address();
        let addr = dialled.unwrap_or(SocketAddr::new(remote.ip().to_canonical(), remote.port()));
        if self.leaving.is_some() {
            connection.close(
                close_code(CloseCode::Leaving),
                b"the node leaves the cluster",
            );
            return;
        }
        let conn = ConnId(self.next_conn);
        self.next_conn += 1;
        let span = info_span!("link", node = %self.gate.node, %peer, conn = conn.0);
        let counters = Arc::new(LinkCounters::default());
        let context = LinkContext {
            conn,
            peer: peer.clone(),
            addr,
            connection: connection.clone(),
            counters: Arc::clone(&counters),
            view: Arc::clone(&self.view),
            inbox: self.inbox.clone(),
        };
        let link = span.in_scope(|| {
            debug!(%addr, dialled = dialled.is_some(), "live connection up");
            Link::spawn(context, self.dialer.clone())
        });
        let links_opened = &self.view.count_up().links_opened;
        links_opened.fetch_add(1, Ordering::Relaxed);
        let probe = LinkProbe {
            peer: peer.clone(),
            addr,
            dialled: dialled.is_some(),
            connection: connection.clone(),
            counters: Arc::clone(&counters),
        };
        self.view.add_link(conn, probe);
        let rtt = connection.rtt();
        let entry = Entry {
            peer: peer.clone(),
            connection,
            waiting: Arc::clone(&link.waiting),
            link: Some(link),
            counters,
            span,
            rtt,
            room_for_cursors: true,
            received: 0,
            silent_looks: 0,
            sent: 0,
            told_quiet: false,
            closed: None,
        };
        self.links.insert(conn, entry);
        self.input(Input::Connected {
            conn,
            peer,
            addr,
            dialled: dialled.is_some(),
        });
        self.input(Input::Path {
            conn,
            rtt,
            room_for_cursors: true,
        });
    }

    /// The transport is done with a connection; the core hears of it after its last frames.
    fn closed(&mut self, conn: ConnId, error: &ConnectionError) {
        let Some(entry) = self.links.get_mut(&conn) else {
            return;
        };
        entry.span.in_scope(|| {
            let reason = describe(error);
            if is_fault(error) {
                warn!(%reason, "live connection closed");
            } else {
                info!(%reason, "live connection closed");
            }
        });
        let wait = match entry.link {
            Some(_) => READ_OUT_TIMEOUT,
            None => Duration::ZERO,
        };
        entry.closed = Some((is_clean(error), Instant::now() + wait));
    }

    /// Tells the core of connections that are gone and read out.
    fn bury_closed(&mut self) {
        let now = Instant::now();
        let gone: Vec<(ConnId, bool)> = self
            .links
            .iter()
            .filter_map(|(conn, entry)| {
                let (clean, deadline) = entry.closed?;
                let read_out = entry.waiting.load(Ordering::Acquire) == 0;
                (read_out || now >= deadline).then_some((*conn, clean))
            })
            .collect();
        for (conn, clean) in gone {
            self.view.remove_link(conn);
            let Some(entry) = self.links.remove(&conn) else {
                continue;
            };
            if self.live_conn(&entry.peer).is_none() {
                if let Some(bulk) = self.bulk.remove(&entry.peer) {
                    bulk.close(close_code(CloseCode::Lost), b"the live connection is gone");
                }
                self.carriage.cut(&entry.peer);
            }
            self.input(Input::Disconnected { conn, clean });
        }
    }

    fn datagram(&mut self, conn: ConnId, bytes: Bytes) {
        if self.is_open(conn) {
            self.input(Input::Datagram { conn, bytes });
        }
    }

    fn ordered(&mut self, ordered: Ordered) {
        let Ordered {
            source,
            lane,
            frame,
        } = ordered;
        let conn = match source {
            Source::Live(conn, waiting) => {
                waiting.fetch_sub(1, Ordering::AcqRel);
                self.is_open(conn).then_some(conn)
            }
            Source::Bulk(peer) => {
                let conn = self.live_conn(&peer);
                if conn.is_none() {
                    let dropped = &self.view.count_up().bulk_frames_dropped;
                    dropped.fetch_add(1, Ordering::Relaxed);
                }
                conn
            }
        };
        if let Some(conn) = conn {
            let bytes = frame;
            self.input(Input::Frame { conn, lane, bytes });
        }
    }

    fn is_open(&self, conn: ConnId) -> bool {
        self.links
            .get(&conn)
            .is_some_and(|entry| entry.link.is_some())
    }

    /// The newest live connection of a peer.
    fn live_conn(&self, peer: &NodeName) -> Option<ConnId> {
        self.links
            .iter()
            .rev()
            .find(|(_, entry)| entry.peer == *peer && entry.link.is_some())
            .map(|(conn, _)| *conn)
    }

    /// Looks at what nobody reports: round trips, datagram queues, the overview's age.
    fn look(&mut self) {
        let now = Instant::now();
        self.next_look = now + LOOK_INTERVAL;
        let mut changed = Vec::new();
        let mut quiet = Vec::new();
        for (conn, entry) in &mut self.links {
            let Some(link) = &entry.link else { continue };
            let queued = link.queued() as u64;
            entry.counters.queued_bytes.store(queued, Ordering::Relaxed);
            let stats = entry.connection.stats();
            if stats.udp_rx.datagrams == entry.received {
                entry.silent_looks += 1;
            } else {
                entry.received = stats.udp_rx.datagrams;
                entry.silent_looks = 0;
                entry.sent = stats.udp_tx.datagrams;
                entry.told_quiet = false;
            }
            let silence = LOOK_INTERVAL * entry.silent_looks;
            let unanswered = stats.udp_tx.datagrams - entry.sent >= QUIET_PACKETS;
            if unanswered && silence >= stats.path.rtt + QUIET_AFTER && !entry.told_quiet {
                entry.told_quiet = true;
                quiet.push(*conn);
            }
            if entry.silent_looks == SILENT_LOOKS_MAX {
                entry
                    .span
                    .in_scope(|| info!("nothing is heard of the peer any more"));
                let reason = b"nothing is heard any more";
                entry.connection.close(close_code(CloseCode::Lost), reason);
            }
            let rtt = stats.path.rtt;
            let room_for_cursors = has_room_for_cursors(&entry.connection);
            let noticeable = (entry.rtt / 10).max(Duration::from_millis(1));
            if rtt.abs_diff(entry.rtt) > noticeable || room_for_cursors != entry.room_for_cursors {
                entry.rtt = rtt;
                entry.room_for_cursors = room_for_cursors;
                changed.push((*conn, rtt, room_for_cursors));
            }
        }
        for (conn, rtt, room_for_cursors) in changed {
            self.input(Input::Path {
                conn,
                rtt,
                room_for_cursors,
            });
        }
        for conn in quiet {
            self.input(Input::Quiet { conn });
        }
        self.overview_wanted |= self.view.take_asked();
        let age = now.saturating_duration_since(self.overview_at);
        if age >= OVERVIEW_AGE || (self.overview_wanted && age >= OVERVIEW_AGE_ASKED) {
            self.overview_wanted = false;
            self.overview_at = now;
            self.view.set_overview(self.engine.overview(self.now()));
        }
    }

    /// Does what the core wants done, all of it or until the turn that began then is over.
    fn drain(&mut self, began: Option<Instant>) {
        loop {
            self.undrained = began.is_some_and(|began| began.elapsed() >= TURN_MAX);
            if self.undrained {
                break;
            }
            let Some(output) = self.engine.poll_output() else {
                break;
            };
            match output {
                Output::Send { conn, lane, frame } => self.send(conn, lane, frame),
                Output::Datagram {
                    conn,
                    bytes,
                    urgent,
                } => self.send_datagram(conn, bytes, urgent),
                Output::Dial { addr, peer } => self.dial(addr, peer),
                Output::Close { conn, code, reason } => self.close(conn, code, reason),
                Output::Event(event) => self.emit(event),
            }
        }
    }

    fn send(&mut self, conn: ConnId, lane: Lane, frame: Bytes) {
        let Some(link) = self.links.get(&conn).and_then(|entry| entry.link.as_ref()) else {
            return;
        };
        let bytes = frame.len();
        if link.send(lane, frame) {
            return;
        }
        if lane == Lane::Bulk {
            let dropped = &self.view.count_up().bulk_frames_dropped;
            dropped.fetch_add(1, Ordering::Relaxed);
            self.input(Input::Drained { conn, lane, bytes });
        } else {
            let reason = format!("the peer does not read lane {lane:?}");
            self.close(conn, CloseCode::Limit, reason);
        }
    }

    fn send_datagram(&mut self, conn: ConnId, bytes: Bytes, urgent: bool) {
        let Some(entry) = self.links.get(&conn).filter(|entry| entry.link.is_some()) else {
            return;
        };
        let counters = &entry.counters;
        let (reserve, dropped) = if urgent {
            (0, &counters.urgent_datagrams_dropped)
        } else {
            (URGENT_RESERVE, &counters.cursor_datagrams_dropped)
        };
        if entry.connection.datagram_send_buffer_space() < bytes.len() + reserve {
            dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        match entry.connection.send_datagram(bytes) {
            Ok(()) | Err(SendDatagramError::ConnectionLost(_)) => {}
            Err(
                SendDatagramError::TooLarge
                | SendDatagramError::UnsupportedByPeer
                | SendDatagramError::Disabled,
            ) => {
                counters.datagrams_too_large.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    fn dial(&mut self, addr: SocketAddr, peer: Option<NodeName>) {
        if self.leaving.is_some() || self.dialling.contains(&addr) {
            return;
        }
        if self.dialling.len() >= DIALS_MAX {
            let reason = "too many dials at once".to_owned();
            self.input(Input::DialFailed { addr, reason });
            return;
        }
        self.dialling.insert(addr);
        self.dialer.dial(addr, peer);
    }

    fn close(&mut self, conn: ConnId, code: CloseCode, reason: String) {
        let Some(entry) = self.links.get_mut(&conn) else {
            return;
        };
        let Some(link) = entry.link.take() else {
            return;
        };
        let fault = (1..0x1000).contains(&(code as u32));
        entry.span.in_scope(|| {
            if fault {
                warn!(?code, %reason, "closing the connection to a peer at fault");
            } else {
                debug!(?code, %reason, "closing the connection");
            }
        });
        if fault {
            entry.connection.close(close_code(code), reason.as_bytes());
        } else {
            link.part(code, reason);
        }
    }

    fn leave(&mut self, leave: Leave) {
        info!(node = %self.gate.node, "leaving the cluster");
        self.gate.endpoint.set_server_config(None);
        self.input(Input::Leave {
            linger: leave.linger,
        });
        self.drain(None);
        let open: Vec<ConnId> = self.links.keys().copied().collect();
        for conn in open {
            let reason = "the node leaves the cluster".to_owned();
            self.close(conn, CloseCode::Leaving, reason);
        }
        self.leaving = Some((Instant::now() + LEAVE_TIMEOUT, Some(leave.done)));
    }

    /// Gives an event to the readers and to the node.
    fn emit(&mut self, event: Event) {
        self.view.apply(&event);
        self.tell(&event);
        let behind = !self.backlog.is_empty();
        let event = if behind {
            event
        } else {
            match self.client.events.try_send(event) {
                Ok(()) | Err(TrySendError::Closed(_)) => return,
                Err(TrySendError::Full(event)) => event,
            }
        };
        if let Event::Cursors { .. } = event {
            let dropped = &self.view.count_up().cursor_events_dropped;
            dropped.fetch_add(1, Ordering::Relaxed);
        } else {
            self.backlog.push_back(event);
        }
    }

    /// Logs what an operator should know and has the overview renewed for it.
    fn tell(&mut self, event: &Event) {
        let node = &self.gate.node;
        match event {
            Event::LinkUp { peer, region, boot } => {
                info!(%node, %peer, region, boot, "link up");
            }
            Event::LinkDown { peer, clean } => info!(%node, %peer, clean, "link down"),
            Event::Refused { peer, code, reason } => {
                debug!(%node, %peer, ?code, reason, "peer refused");
            }
            Event::Membership { node: of, alive } => {
                info!(%node, of = %of, alive, "membership changed");
            }
            Event::Visibility {
                node: of, visible, ..
            } => info!(%node, of = %of, visible, "visibility changed"),
            Event::Joined(_)
            | Event::Updated(_)
            | Event::Left { .. }
            | Event::MovedAway { .. }
            | Event::Messages { .. }
            | Event::Published { .. }
            | Event::Head { .. }
            | Event::Replayed { .. }
            | Event::MessageRefused { .. }
            | Event::Watched { .. }
            | Event::Cursors { .. } => {
                trace!(%node, ?event, "event");
                return;
            }
        }
        self.overview_wanted = true;
    }

    /// Gives the node what waited. Whether there is room for what ordered frames will bring.
    fn flush_backlog(&mut self) -> bool {
        while let Some(event) = self.backlog.pop_front() {
            match self.client.events.try_send(event) {
                Ok(()) => {}
                // Nobody listens any more: the mesh goes on for the others.
                Err(TrySendError::Closed(_)) => self.backlog.clear(),
                Err(TrySendError::Full(event)) => {
                    self.backlog.push_front(event);
                    return false;
                }
            }
        }
        self.client.events.is_closed() || self.client.events.capacity() >= EVENTS_RESERVE
    }

    fn measure(&self, turn: Duration) {
        let counters = self.view.count_up();
        let micros = u64::try_from(turn.as_micros()).unwrap_or(u64::MAX);
        counters.turns.fetch_add(1, Ordering::Relaxed);
        counters
            .turn_micros_max
            .fetch_max(micros, Ordering::Relaxed);
        if turn > TURN_MAX + TURN_MAX / 10 {
            counters.turns_over_budget.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn has_room_for_cursors(connection: &Connection) -> bool {
    connection.datagram_send_buffer_space() + CURSOR_QUEUE_MAX >= DATAGRAM_SEND_BUFFER
}

/// Roughly the bytes of one input.
fn weight(local: &Local) -> usize {
    let room = RoomName::as_str;
    match local {
        Local::Join(row) => 128 + row.state.len(),
        Local::Update { state, .. } => 128 + state.as_ref().map_or(0, Bytes::len),
        Local::Break { .. } | Local::Leave { .. } => 64,
        Local::Interest { room: name, .. } => 64 + room(name).len(),
        Local::Messages { items, .. } => items.iter().map(|item| 64 + item.payload.len()).sum(),
        Local::Replay { seen, .. } => 64 + 80 * seen.len(),
        Local::Cursors { items, .. } => 64 + 28 * items.len(),
    }
}
