//! The connections over which this node asks: one per neighbour, dialled when needed, closed when
//! unused.

use std::collections::BTreeMap;
use std::sync::{Arc, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use quinn::Connection;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tracing::debug;

use super::super::dialer;
use super::super::endpoint::{Kind, close_code};
use super::route::Hop;
use super::{Carriage, CarryError, STREAMS_MAX, add};
use crate::proto::NodeName;
use crate::proto::event::CloseCode;

/// A connection without requests is closed after this long.
const UNUSED: Duration = Duration::from_secs(60);
/// How often it is looked at for that.
const LOOK_INTERVAL: Duration = Duration::from_secs(10);
/// A neighbour that could not be dialled is not dialled again for this long: one of an older release
/// refuses, and would log every dial.
const HOLD_OFF: Duration = Duration::from_secs(1);

/// The way to one neighbour.
#[derive(Debug, Default)]
pub(super) struct Line {
    up: Option<Up>,
    /// Held while one request dials for all.
    dial: Arc<tokio::sync::Mutex<()>>,
    held_off_until: Option<Instant>,
}

#[derive(Debug)]
struct Up {
    connection: Connection,
    slots: Arc<Semaphore>,
    used_at: Instant,
}

impl Carriage {
    /// A connection to a neighbour, with a place on it; dialled if there is none.
    pub(super) async fn line(
        self: &Arc<Self>,
        hop: &Hop,
    ) -> Result<(Connection, OwnedSemaphorePermit), CarryError> {
        if let Some(found) = self.place(&hop.node)? {
            return Ok(found);
        }
        let turn = Arc::clone(&self.lines().entry(hop.node.clone()).or_default().dial);
        let _turn = turn.lock().await;
        if let Some(found) = self.place(&hop.node)? {
            return Ok(found);
        }
        let gate = self.gate.upgrade().ok_or(CarryError::Unreachable)?;
        let dialled = dialer::connect(&gate, hop.addr, Kind::Carry, Some(&hop.node));
        let Ok((connection, _)) = dialled.await else {
            let mut lines = self.lines();
            let line = lines.entry(hop.node.clone()).or_default();
            line.held_off_until = Some(Instant::now() + HOLD_OFF);
            return Err(CarryError::Unreachable);
        };
        debug!(node = %self.node, peer = %hop.node, "a connection for requests is up");
        add(&self.counters().carry_connections);
        let slots = Arc::new(Semaphore::new(STREAMS_MAX.into()));
        let slot = self.permit(&slots, 1).inspect_err(|_| {
            connection.close(close_code(CloseCode::Lost), b"too many requests at once");
        })?;
        let up = Up {
            connection: connection.clone(),
            slots,
            used_at: Instant::now(),
        };
        self.lines().entry(hop.node.clone()).or_default().up = Some(up);
        let watch = watch(Arc::downgrade(self), hop.node.clone(), connection.clone());
        tokio::spawn(watch);
        Ok((connection, slot))
    }

    /// A place on the connection that there is; `None` if one has to be dialled.
    fn place(
        &self,
        node: &NodeName,
    ) -> Result<Option<(Connection, OwnedSemaphorePermit)>, CarryError> {
        let mut lines = self.lines();
        let Some(line) = lines.get_mut(node) else {
            return Ok(None);
        };
        if let Some(up) = &mut line.up
            && up.connection.close_reason().is_none()
        {
            let slot = self.permit(&up.slots, 1)?;
            up.used_at = Instant::now();
            return Ok(Some((up.connection.clone(), slot)));
        }
        if line.is_held_off() {
            return Err(CarryError::Unreachable);
        }
        Ok(None)
    }

    /// Whether a neighbour could not be dialled just now.
    pub(super) fn is_held_off(&self, node: &NodeName) -> bool {
        self.lines().get(node).is_some_and(Line::is_held_off)
    }

    /// Closes the connection to a neighbour if it is without requests since [`UNUSED`] before `now`.
    pub(in crate::net) fn close_unused(&self, node: &NodeName, now: Instant) {
        let mut lines = self.lines();
        let Some(up) = lines.get_mut(node).and_then(|line| line.up.as_mut()) else {
            return;
        };
        if up.slots.available_permits() < usize::from(STREAMS_MAX) {
            up.used_at = now;
        } else if now.saturating_duration_since(up.used_at) >= UNUSED
            && let Some(line) = lines.remove(node)
        {
            line.close(b"unused");
        }
    }

    pub(super) fn close_line(&self, node: &NodeName, reason: &[u8]) {
        if let Some(line) = self.lines().remove(node) {
            line.close(reason);
        }
    }

    pub(super) fn close_all_lines(&self, reason: &[u8]) {
        for line in std::mem::take(&mut *self.lines()).into_values() {
            line.close(reason);
        }
    }

    /// Forgets a connection that is gone, unless another has taken its place.
    fn forget(&self, node: &NodeName, connection: &Connection) {
        let mut lines = self.lines();
        let same = lines
            .get(node)
            .and_then(|line| line.up.as_ref())
            .is_some_and(|up| up.connection.stable_id() == connection.stable_id());
        if same {
            lines.remove(node);
        }
    }

    fn lines(&self) -> MutexGuard<'_, BTreeMap<NodeName, Line>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Line {
    fn is_held_off(&self) -> bool {
        self.held_off_until
            .is_some_and(|until| Instant::now() < until)
    }

    fn close(self, reason: &[u8]) {
        if let Some(up) = self.up {
            up.connection.close(close_code(CloseCode::Lost), reason);
        }
    }
}

/// Until the connection ends: looks whether it is used.
async fn watch(carriage: Weak<Carriage>, node: NodeName, connection: Connection) {
    let look = async {
        loop {
            tokio::time::sleep(LOOK_INTERVAL).await;
            let Some(carriage) = carriage.upgrade() else {
                return;
            };
            carriage.close_unused(&node, Instant::now());
        }
    };
    tokio::select! {
        _ = connection.closed() => {}
        () = look => {}
    }
    if let Some(carriage) = carriage.upgrade() {
        carriage.forget(&node, &connection);
    }
}
