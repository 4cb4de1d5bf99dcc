//! What the tasks around connections tell the mesh task: three bounded channels by urgency.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use quinn::{Connection, ConnectionError};
use tokio::sync::mpsc;

use crate::proto::event::CloseCode;
use crate::proto::{ConnId, Lane, NodeName};

/// Something happened to a connection.
#[derive(Debug)]
pub(super) enum Report {
    /// A live connection passed all checks; `dialled` is the address this node dialled.
    LiveUp {
        connection: Connection,
        peer: NodeName,
        dialled: Option<SocketAddr>,
    },
    /// A peer opened a bulk connection.
    BulkUp {
        connection: Connection,
        peer: NodeName,
    },
    /// A peer opened a connection for its requests.
    CarryUp {
        connection: Connection,
        peer: NodeName,
    },
    /// A peer with a good certificate may not stay.
    Refused {
        peer: NodeName,
        code: CloseCode,
        reason: String,
    },
    /// A dial led to no connection.
    DialFailed { addr: SocketAddr, reason: String },
    /// Frame bytes went to QUIC, or were dropped with their connection.
    Drained {
        conn: ConnId,
        lane: Lane,
        bytes: usize,
    },
    /// A live connection is gone and nothing more will be read from it.
    Closed {
        conn: ConnId,
        error: ConnectionError,
    },
}

/// Where an ordered frame came from.
#[derive(Debug, Clone)]
pub(super) enum Source {
    /// A live connection; the counter holds its frames that wait in the channel.
    Live(ConnId, Arc<AtomicUsize>),
    /// A bulk connection of this peer.
    Bulk(NodeName),
}

/// One frame of an ordered lane.
#[derive(Debug)]
pub(super) struct Ordered {
    pub(super) source: Source,
    pub(super) lane: Lane,
    pub(super) frame: Bytes,
}

/// The sending ends. Waiting on a full channel is the back-pressure: what is not read from QUIC
/// makes QUIC hold the peer back, or drop the oldest datagrams.
#[derive(Debug, Clone)]
pub(super) struct Inbox {
    reports: mpsc::Sender<Report>,
    datagrams: mpsc::Sender<(ConnId, Bytes)>,
    ordered: mpsc::Sender<Ordered>,
}

/// The receiving ends, held by the mesh task.
#[derive(Debug)]
pub(super) struct Outlet {
    pub(super) reports: mpsc::Receiver<Report>,
    pub(super) datagrams: mpsc::Receiver<(ConnId, Bytes)>,
    pub(super) ordered: mpsc::Receiver<Ordered>,
}

/// The three channels.
pub(super) fn channels() -> (Inbox, Outlet) {
    let (reports, reports_out) = mpsc::channel(1024);
    let (datagrams, datagrams_out) = mpsc::channel(1024);
    let (ordered, ordered_out) = mpsc::channel(64);
    let inbox = Inbox {
        reports,
        datagrams,
        ordered,
    };
    let outlet = Outlet {
        reports: reports_out,
        datagrams: datagrams_out,
        ordered: ordered_out,
    };
    (inbox, outlet)
}

// Each of these waits for room and does nothing once the mesh task has ended.
impl Inbox {
    pub(super) async fn report(&self, report: Report) {
        let _ = self.reports.send(report).await;
    }

    pub(super) async fn datagram(&self, conn: ConnId, bytes: Bytes) {
        let _ = self.datagrams.send((conn, bytes)).await;
    }

    pub(super) async fn frame(&self, source: Source, lane: Lane, frame: Bytes) {
        if let Source::Live(_, waiting) = &source {
            waiting.fetch_add(1, Ordering::AcqRel);
        }
        let _ = self
            .ordered
            .send(Ordered {
                source,
                lane,
                frame,
            })
            .await;
    }
}
