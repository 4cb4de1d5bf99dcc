//! The HTTP sessions that this node has.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;

use super::driver;
use super::session::Session;
use crate::config::Config;
use crate::hub::Hub;
use crate::session::dialect::Dialect;

/// A service's prefix and a session's id. Two services may have sessions of the same id.
type Key = (String, String);

/// The sessions, by prefix and id. Their number is bounded.
pub(crate) struct Sessions {
    hub: Hub,
    config: Arc<Config>,
    map: DashMap<Key, Arc<Session>>,
    count: AtomicUsize,
}

/// There are as many sessions as there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Full;

impl Sessions {
    /// None yet.
    pub(super) fn new(hub: Hub, config: Arc<Config>) -> Arc<Self> {
        Arc::new(Self {
            hub,
            config,
            map: DashMap::new(),
            count: AtomicUsize::new(0),
        })
    }

    /// The session of this id.
    pub(super) fn find(&self, prefix: &str, id: &str) -> Option<Arc<Session>> {
        let key = (prefix.to_owned(), id.to_owned());
        self.map.get(&key).map(|session| session.clone())
    }

    /// The session of this id; a new one that speaks `dialect` if there is none. To be called from
    /// within a tokio runtime.
    pub(super) fn find_or_open(
        self: &Arc<Self>,
        prefix: &str,
        id: &str,
        dialect: Dialect,
    ) -> Result<Arc<Session>, Full> {
        let place = match self.map.entry((prefix.to_owned(), id.to_owned())) {
            Entry::Occupied(there) => return Ok(there.get().clone()),
            Entry::Vacant(place) => place,
        };
        if self.count.fetch_add(1, Ordering::Relaxed) >= self.config.sockjs.sessions_max {
            self.count.fetch_sub(1, Ordering::Relaxed);
            return Err(Full);
        }
        let (session, said) = Session::new(&self.config.sockjs);
        let key = place.key().clone();
        place.insert(session.clone());
        let forget = Forget {
            sessions: self.clone(),
            key,
            session: session.clone(),
        };
        let (hub, config) = (self.hub.clone(), self.config.clone());
        let driven = session.clone();
        tokio::spawn(async move {
            let _forget = forget;
            driver::drive(driven, said, dialect, hub, config).await;
        });
        Ok(session)
    }

    /// A session that is over makes place for a new one of its id at once, not when its task has seen it.
    pub(super) fn forget(&self, prefix: &str, id: &str, session: &Arc<Session>) {
        let key = (prefix.to_owned(), id.to_owned());
        let is_it = |_: &Key, there: &Arc<Session>| Arc::ptr_eq(there, session);
        if self.map.remove_if(&key, is_it).is_some() {
            self.count.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Closes all sessions: the node stops.
    pub(super) fn close_all(&self) {
        for session in &self.map {
            session.shut_down();
        }
    }
}

/// Forgets a session when its task ends, however that comes.
struct Forget {
    sessions: Arc<Sessions>,
    key: Key,
    session: Arc<Session>,
}

impl Drop for Forget {
    fn drop(&mut self) {
        let (prefix, id) = &self.key;
        self.sessions.forget(prefix, id, &self.session);
    }
}
