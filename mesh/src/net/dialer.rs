//! One attempt to reach a peer. When to try, and how often, is the core's business.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use quinn::Connection;
use tracing::{Instrument, debug, info_span, warn};

use super::endpoint::{Gate, HANDSHAKE_TIMEOUT, Kind, describe, is_fault, refuse};
use super::inbox::{Inbox, Report};
use crate::proto::NodeName;

/// Dials live connections and reports what came of it.
#[derive(Debug, Clone)]
pub(super) struct Dialer {
    gate: Arc<Gate>,
    inbox: Inbox,
}

impl Dialer {
    pub(super) fn new(gate: Arc<Gate>, inbox: Inbox) -> Self {
        Self { gate, inbox }
    }

    /// Tries once, in a task of its own. Exactly one of [`Report::LiveUp`] and
    /// [`Report::DialFailed`] follows, for this address.
    pub(super) fn dial(&self, addr: SocketAddr, expected: Option<NodeName>) {
        let dialer = self.clone();
        let span = info_span!("dial", node = %self.gate.node, %addr);
        tokio::spawn(
            async move {
                let report = match dialer.connect(addr, Kind::Live, expected.as_ref()).await {
                    Ok((connection, peer)) => Report::LiveUp {
                        connection,
                        peer,
                        dialled: Some(addr),
                    },
                    Err(Failure { reason, refused }) => {
                        dialer
                            .gate
                            .view
                            .count_up()
                            .dials_failed
                            .fetch_add(1, Ordering::Relaxed);
                        if let Some(refused) = refused {
                            dialer.inbox.report(refused).await;
                        }
                        Report::DialFailed { addr, reason }
                    }
                };
                dialer.inbox.report(report).await;
            }
            .instrument(span),
        );
    }

    /// An authenticated connection of one kind to `addr` and who is there. A failure is logged.
    pub(super) async fn connect(
        &self,
        addr: SocketAddr,
        kind: Kind,
        expected: Option<&NodeName>,
    ) -> Result<(Connection, NodeName), Failure> {
        connect(&self.gate, addr, kind, expected).await
    }
}

/// See [`Dialer::connect`]. Whoever gets the connection closes it in the end: dropping it is not enough.
pub(super) async fn connect(
    gate: &Gate,
    addr: SocketAddr,
    kind: Kind,
    expected: Option<&NodeName>,
) -> Result<(Connection, NodeName), Failure> {
    // A peer of an older release does not carry; that it speaks at all the live link shows.
    let news = kind != Kind::Carry;
    let failed = |reason: String, fault: bool| failed(gate, addr, reason, fault && news);
    let connecting = match gate.connect(addr, kind) {
        Ok(connecting) => connecting,
        Err(error) => {
            return Err(failed(error.to_string(), true));
        }
    };
    let connection = match tokio::time::timeout(HANDSHAKE_TIMEOUT, connecting).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => {
            return Err(failed(describe(&error), is_fault(&error)));
        }
        Err(_) => {
            return Err(failed("no answer".into(), false));
        }
    };
    match gate.judge(&connection, expected) {
        Ok((peer, _)) => {
            gate.view.meter().watch(&peer, &connection);
            Ok((connection, peer))
        }
        Err(refusal) => Err(Failure {
            reason: refusal.reason.clone(),
            refused: refuse(gate, &connection, refusal),
        }),
    }
}

/// A peer that is not up yet is no news; one that cannot be talked to is.
fn failed(gate: &Gate, addr: SocketAddr, reason: String, fault: bool) -> Failure {
    if fault && gate.warnings.is_news(addr.ip(), &reason) {
        warn!(%addr, %reason, "cannot link to a peer");
    } else {
        debug!(%addr, %reason, "cannot reach a peer");
    }
    Failure {
        reason,
        refused: None,
    }
}

/// Why a dial led to no connection.
#[derive(Debug)]
pub(super) struct Failure {
    reason: String,
    /// Given when a peer with a good certificate was refused.
    refused: Option<Report>,
}
