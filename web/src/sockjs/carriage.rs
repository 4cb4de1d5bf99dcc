//! Requests of sessions that another node has: how they are asked there, and answered here.
//!
//! A path that names its node says where to ask. Of any other session this node knows where it was
//! found before, or asks all. What comes back is the answer as it goes to the client: this node passes
//! it on and adds one thing, the close frame when the session's node is lost.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, FuturesUnordered};
use futures_util::{Stream, StreamExt};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::answer::Endpoint;
use super::frame;
use super::transport::Transport;
use crate::cluster::{Carried, Carrier};

/// The first byte of what is asked: the form of the rest.
const FORM: u8 = 1;
/// A node has so long to say whether it has a session.
const VERDICT_TIMEOUT: Duration = Duration::from_secs(4);
/// All nodes have so long when they are asked together. One that has died is out of reach sooner; one that
/// is only slow may have the session, and a second one of its id would end it.
pub(super) const FIND_TIMEOUT: Duration = Duration::from_secs(4);
/// All nodes are asked about so many sessions at a time.
const FINDS_MAX: usize = 256;
/// Sessions whose place is remembered, in each of two generations.
const KNOWN_MAX: usize = 10_000;

/// What is asked of another node.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Ask<'a> {
    /// Whether it has a session.
    Find {
        /// The service.
        prefix: &'a str,
        /// The session.
        id: &'a str,
    },
    /// To hear a session.
    Receive {
        /// The service.
        prefix: &'a str,
        /// The session.
        id: &'a str,
        /// How.
        transport: Transport,
        /// The function to call, where the transport does that.
        callback: &'a str,
        /// The session may begin with this request, in this room.
        opens: Option<&'a str>,
    },
    /// To say something.
    Send {
        /// The service.
        prefix: &'a str,
        /// The session.
        id: &'a str,
        /// The messages.
        texts: Vec<&'a str>,
    },
    /// To have the receiver end its answer in good order: the node that passes it on stops.
    Release {
        /// The service.
        prefix: &'a str,
        /// The session.
        id: &'a str,
    },
}

/// The first part of every answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Verdict {
    /// There is no such session.
    Unknown = 0,
    /// It is here: it was done, or its parts follow.
    Here = 1,
    /// There are too many sessions for another one.
    Full = 2,
}

impl Verdict {
    fn part(self) -> Bytes {
        Bytes::copy_from_slice(&[self as u8])
    }

    fn read(part: &[u8]) -> Option<Self> {
        match part {
            [0] => Some(Self::Unknown),
            [1] => Some(Self::Here),
            [2] => Some(Self::Full),
            _ => None,
        }
    }
}

/// The node that has a session could not be asked, or was lost before it answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lost;

impl Ask<'_> {
    fn encode(&self) -> Option<Bytes> {
        postcard::to_extend(self, vec![FORM]).ok().map(Bytes::from)
    }

    /// Asks a node; gives what it says, and the parts that follow.
    pub(super) async fn of(
        &self,
        node: &str,
        carrier: &dyn Carrier,
        within: Duration,
    ) -> Result<(Verdict, Carried), Lost> {
        let mut carried = carrier.carry(node, self.encode().ok_or(Lost)?);
        let first = timeout(within, carried.next()).await;
        let Ok(Some(Ok(first))) = first else {
            return Err(Lost);
        };
        Verdict::read(&first)
            .map(|verdict| (verdict, carried))
            .ok_or(Lost)
    }

    /// Asks a node that is likely to have the session.
    pub(super) async fn of_owner(
        &self,
        node: &str,
        carrier: &dyn Carrier,
    ) -> Result<(Verdict, Carried), Lost> {
        self.of(node, carrier, VERDICT_TIMEOUT).await
    }
}

/// Where sessions of other nodes are.
pub(super) struct Places {
    known: Mutex<[HashMap<(String, String), String>; 2]>,
    finds: Semaphore,
}

/// What all nodes together say about a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Found {
    /// This node has it.
    At(String),
    /// None has it.
    Nowhere,
    /// None says that it has it, and some say nothing.
    Unclear,
}

impl Places {
    pub(super) fn new() -> Self {
        Self {
            known: Mutex::default(),
            finds: Semaphore::new(FINDS_MAX),
        }
    }

    /// Where a session was found before.
    pub(super) fn known(&self, prefix: &str, id: &str) -> Option<String> {
        let key = (prefix.to_owned(), id.to_owned());
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.iter().find_map(|part| part.get(&key)).cloned()
    }

    /// A session is not where it was.
    pub(super) fn forget(&self, prefix: &str, id: &str) {
        let key = (prefix.to_owned(), id.to_owned());
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        for part in &mut *known {
            part.remove(&key);
        }
    }

    /// Asks all nodes.
    pub(super) async fn find(
        &self,
        prefix: &str,
        id: &str,
        carrier: &dyn Carrier,
        within: Duration,
    ) -> Found {
        let nodes = carrier.reachable();
        if nodes.is_empty() {
            return Found::Nowhere;
        }
        let Ok(_permit) = self.finds.acquire().await else {
            return Found::Unclear;
        };
        let ask = Ask::Find { prefix, id };
        let mut answers: FuturesUnordered<_> = nodes
            .iter()
            .map(|node| {
                let answer = ask.of(node, carrier, within);
                async move { (node, answer.await) }
            })
            .collect();
        let mut found = Found::Nowhere;
        while let Some((node, answer)) = answers.next().await {
            match answer {
                Ok((Verdict::Here, _)) => {
                    self.remember(prefix, id, node);
                    return Found::At(node.clone());
                }
                Ok(_) => {}
                Err(Lost) => found = Found::Unclear,
            }
        }
        found
    }

    fn remember(&self, prefix: &str, id: &str, node: &str) {
        let key = (prefix.to_owned(), id.to_owned());
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known[0].len() >= KNOWN_MAX {
            known.swap(0, 1);
            known[0].clear();
        }
        known[0].insert(key, node.to_owned());
    }
}

/// The body of an answer that another node gives. Where that node is lost, it ends with a close frame.
pub(super) struct Passed {
    /// Only one at a time polls it; the lock is for the compiler.
    parts: Mutex<Carried>,
    transport: Transport,
    callback: String,
    over: bool,
    /// What is to be undone when it ends.
    _guard: Box<dyn std::any::Any + Send + Sync>,
}

impl Passed {
    pub(super) fn new(
        parts: Carried,
        transport: Transport,
        callback: String,
        guard: impl Send + Sync + 'static,
    ) -> Self {
        Self {
            parts: Mutex::new(parts),
            transport,
            callback,
            over: false,
            _guard: Box::new(guard),
        }
    }
}

impl Stream for Passed {
    type Item = Bytes;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if self.over {
            return Poll::Ready(None);
        }
        let parts = self.parts.get_mut().unwrap_or_else(PoisonError::into_inner);
        let next = std::task::ready!(parts.poll_next_unpin(cx));
        Poll::Ready(match next {
            Some(Ok(part)) => Some(part),
            Some(Err(_)) => {
                self.over = true;
                Some(self.transport.wrap(&lost(), &self.callback).into())
            }
            None => None,
        })
    }
}

/// The close frame of a session whose node is lost.
pub(super) fn lost() -> String {
    frame::close(1012, "the session's node is gone")
}

/// What this node answers to what other nodes ask of it.
#[derive(Clone)]
pub struct Answers(pub(crate) Arc<Endpoint>);

impl Answers {
    /// The parts of an answer, as they come. Dropped before its end, the client that it was for has gone.
    /// What cannot be read is answered like what is unknown. To be called from within a tokio runtime.
    pub fn answer(&self, request: Bytes) -> Pin<Box<dyn Stream<Item = Bytes> + Send>> {
        let endpoint = self.0.clone();
        let answer = async move {
            let ask = request.split_first().and_then(|(form, rest)| {
                postcard::from_bytes::<Ask<'_>>(rest)
                    .ok()
                    .filter(|_| *form == FORM)
            });
            let (verdict, receiver) = match ask {
                Some(ask) => endpoint.asked(ask).await,
                None => (Verdict::Unknown, None),
            };
            let parts =
                receiver.map_or_else(|| stream::empty().left_stream(), StreamExt::right_stream);
            stream::once(async move { verdict.part() }).chain(parts)
        };
        Box::pin(stream::once(answer).flatten())
    }
}

impl std::fmt::Debug for Answers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Answers").finish_non_exhaustive()
    }
}
