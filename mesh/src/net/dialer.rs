//! One attempt to reach a peer. When to try, and how often, is the core's business.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use quinn::Connection;
use tracing::{Instrument, debug, info_span, warn};

use super::endpoint::{Gate, HANDSHAKE_TIMEOUT, Kind, Warnings, describe, is_fault, refuse};
use super::inbox::{Inbox, Report};
use crate::proto::NodeName;

/// Dials live connections and reports what came of it.
#[derive(Debug, Clone)]
pub(super) struct Dialer {
    gate: Arc<Gate>,
    inbox: Inbox,
    warnings: Arc<Warnings>,
}

impl Dialer {
    pub(super) fn new(gate: Arc<Gate>, inbox: Inbox) -> Self {
        Self {
            gate,
            inbox,
            warnings: Arc::default(),
        }
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
                    Err(refused) => {
                        dialer
                            .gate
                            .view
                            .count_up()
                            .dials_failed
                            .fetch_add(1, Ordering::Relaxed);
                        if let Some(refused) = refused {
                            dialer.inbox.report(refused).await;
                        }
                        Report::DialFailed { addr }
                    }
                };
                dialer.inbox.report(report).await;
            }
            .instrument(span),
        );
    }

    /// An authenticated connection of one kind to `addr` and who is there. An error is logged; it
    /// carries a report when a peer with a good certificate was refused.
    pub(super) async fn connect(
        &self,
        addr: SocketAddr,
        kind: Kind,
        expected: Option<&NodeName>,
    ) -> Result<(Connection, NodeName), Option<Report>> {
        let connecting = match self.gate.connect(addr, kind) {
            Ok(connecting) => connecting,
            Err(error) => {
                self.log(addr, error.to_string(), true);
                return Err(None);
            }
        };
        let connection = match tokio::time::timeout(HANDSHAKE_TIMEOUT, connecting).await {
            Ok(Ok(connection)) => connection,
            Ok(Err(error)) => {
                self.log(addr, describe(&error), is_fault(&error));
                return Err(None);
            }
            Err(_) => {
                self.log(addr, "no answer".into(), false);
                return Err(None);
            }
        };
        match self.gate.judge(&connection, expected) {
            Ok((peer, _)) => Ok((connection, peer)),
            Err(refusal) => Err(refuse(&self.gate, &connection, refusal, &self.warnings)),
        }
    }

    /// A peer that is not up yet is no news; one that cannot be talked to is.
    fn log(&self, addr: SocketAddr, reason: String, fault: bool) {
        if fault && self.warnings.is_news(addr.ip(), &reason) {
            warn!(%addr, %reason, "cannot link to a peer");
        } else {
            debug!(%addr, %reason, "cannot reach a peer");
        }
    }
}
