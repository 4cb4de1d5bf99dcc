//! Requests of other nodes: read, checked, and given to the handler or passed on.

use std::collections::BTreeMap;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use quinn::{Connection, ReadExactError, RecvStream, SendStream, VarInt};
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::mpsc::error::TrySendError;
use tracing::{Instrument, debug, info_span};

use super::super::endpoint::close_code;
use super::header::{HEADER_BYTES_MAX, Header};
use super::sending::Sending;
use super::{
    Carriage, CarryError, Door, REQUEST_BYTES_MAX, Reply, Request, STREAMS_GRANTED, TAKEN, add,
    code,
};
use crate::proto::NodeName;
use crate::proto::event::CloseCode;

/// How long a request may take to arrive whole.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// A request as it came over a stream.
#[derive(Debug)]
pub(super) struct Incoming {
    pub(super) header: Header,
    pub(super) body: Bytes,
    /// Its bytes in what may wait unanswered.
    pub(super) unanswered: OwnedSemaphorePermit,
    pub(super) permit: OwnedSemaphorePermit,
}

/// Why a request is not taken.
#[derive(Debug)]
enum Fault {
    /// It breaks a rule.
    Malformed(&'static str),
    /// It is in order, but cannot be taken.
    Refused(CarryError),
    /// The asker gave it up, or its connection is gone.
    Gone,
}

impl From<ReadExactError> for Fault {
    fn from(error: ReadExactError) -> Self {
        match error {
            ReadExactError::FinishedEarly(_) => Self::Malformed("a request that ends too early"),
            ReadExactError::ReadError(_) => Self::Gone,
        }
    }
}

impl Carriage {
    /// Takes the requests of a connection that a peer opened, until it ends.
    pub(in crate::net) fn serve(self: Arc<Self>, peer: NodeName, connection: Connection) {
        debug!(node = %self.node, %peer, "a peer opened a connection for requests");
        connection.set_max_concurrent_bi_streams(VarInt::from_u32(STREAMS_GRANTED.into()));
        let before = self.accepted().insert(peer.clone(), connection.clone());
        if let Some(older) = before {
            let reason = b"a newer connection for requests";
            older.close(close_code(CloseCode::Superseded), reason);
        }
        let span = info_span!("carry", node = %self.node, %peer);
        let serve = async move {
            while let Ok((send, recv)) = connection.accept_bi().await {
                let take = Arc::clone(&self).take(peer.clone(), send, recv);
                tokio::spawn(take.in_current_span());
            }
            let mut accepted = self.accepted();
            let same = |one: &Connection| one.stable_id() == connection.stable_id();
            if accepted.get(&peer).is_some_and(same) {
                accepted.remove(&peer);
            }
        };
        tokio::spawn(serve.instrument(span));
    }

    pub(super) fn close_accepted(&self, peer: &NodeName, reason: &[u8]) {
        if let Some(connection) = self.accepted().remove(peer) {
            connection.close(close_code(CloseCode::Lost), reason);
        }
    }

    pub(super) fn close_all_accepted(&self, reason: &[u8]) {
        for connection in std::mem::take(&mut *self.accepted()).into_values() {
            connection.close(close_code(CloseCode::Lost), reason);
        }
    }

    fn accepted(&self) -> MutexGuard<'_, BTreeMap<NodeName, Connection>> {
        self.accepted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes one request and sees to it that an answer, or why there is none, goes back.
    async fn take(self: Arc<Self>, peer: NodeName, send: SendStream, mut recv: RecvStream) {
        let sending = Sending::new(send, VarInt::from_u32(code::BROKEN));
        let read = tokio::time::timeout(REQUEST_TIMEOUT, self.read(&peer, &mut recv));
        let outcome = match read.await {
            Ok(Ok(incoming)) => {
                if incoming.header.target == self.node {
                    self.hand_over(sending, incoming).await;
                } else {
                    self.pass_on(sending, incoming).await;
                }
                return;
            }
            Ok(Err(fault)) => fault,
            Err(_) => Fault::Refused(CarryError::Broken),
        };
        let code = match outcome {
            Fault::Malformed(reason) => {
                self.malformed(&peer, reason);
                VarInt::from_u32(code::MALFORMED)
            }
            Fault::Refused(error) => error.code(),
            Fault::Gone => return,
        };
        // Fails only on a stream that has ended.
        let _ = recv.stop(code);
        sending.refuse(code);
    }

    /// Reads a whole request. Lengths are checked before anything is allocated for them.
    async fn read(&self, peer: &NodeName, recv: &mut RecvStream) -> Result<Incoming, Fault> {
        let permit = self.permit(&self.taken, 1).map_err(Fault::Refused)?;
        let mut prefix = [0; 4];
        recv.read_exact(&mut prefix).await?;
        let length = u32::from_le_bytes(prefix) as usize;
        let mut header = [0; HEADER_BYTES_MAX];
        let header = header
            .get_mut(..length)
            .ok_or(Fault::Malformed("a header that is too long"))?;
        recv.read_exact(header).await?;
        let header = Header::decode(header, &self.node, peer).map_err(Fault::Malformed)?;
        recv.read_exact(&mut prefix).await?;
        let length = u32::from_le_bytes(prefix);
        if length as usize > REQUEST_BYTES_MAX {
            return Err(Fault::Malformed("a request that is too long"));
        }
        let unanswered = self.permit(&self.unanswered, length);
        let unanswered = unanswered.map_err(Fault::Refused)?;
        let mut body = vec![0; length as usize];
        recv.read_exact(&mut body).await?;
        match recv.read(&mut prefix).await {
            Ok(None) => Ok(Incoming {
                header,
                body: body.into(),
                unanswered,
                permit,
            }),
            Ok(Some(_)) => Err(Fault::Malformed("a request with bytes too many")),
            Err(_) => Err(Fault::Gone),
        }
    }

    /// Gives a request to the node's handler.
    async fn hand_over(&self, mut sending: Sending, incoming: Incoming) {
        let door = match &*self.door.lock().unwrap_or_else(PoisonError::into_inner) {
            Door::Open(sender) => sender.clone().try_reserve_owned(),
            Door::Unused | Door::Closed => {
                sending.refuse(CarryError::Unreachable.code());
                return;
            }
        };
        let place = match door {
            Ok(place) => place,
            Err(TrySendError::Full(_)) => {
                add(&self.counters().carry_busy);
                sending.refuse(CarryError::Busy.code());
                return;
            }
            Err(TrySendError::Closed(_)) => {
                sending.refuse(CarryError::Unreachable.code());
                return;
            }
        };
        if sending.write_all(&[TAKEN]).await.is_err() {
            return;
        }
        add(&self.counters().carry_served);
        place.send(Request {
            from: incoming.header.origin,
            body: incoming.body,
            reply: Reply::new(sending, incoming.unanswered, incoming.permit),
        });
    }
}
