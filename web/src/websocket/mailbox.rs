//! How other threads reach a poller: a list of what it is to do, and a call that wakes it if it sleeps.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mio::Waker;
use tokio::time::Instant;

use super::poller::Arrival;
use crate::hub::room::Room;
use crate::hub::ticker::Host;

/// What a poller is to do.
pub(super) enum Command {
    /// Serve a connection from now on.
    Adopt(Box<Arrival>),
    /// Look after the connection with this number, if there is one.
    Attend(usize),
    /// Flush a room when it is time.
    Flush(Instant, Arc<Room>),
    /// Close all connections, those that come later too.
    Stop,
    /// Drop everything, at once.
    Quit,
}

/// The mailbox of one poller. It is as long as its connections and rooms are many: each of them is in
/// it at most once.
pub(super) struct Mailbox {
    list: Mutex<List>,
    waker: Waker,
}

#[derive(Default)]
struct List {
    commands: Vec<Command>,
    /// The poller will look here before it sleeps.
    awake: bool,
    /// The poller is gone.
    closed: bool,
}

impl Mailbox {
    /// An empty one, for a poller that is woken by `waker`.
    pub(super) fn new(waker: Waker) -> Self {
        Self {
            list: Mutex::default(),
            waker,
        }
    }

    /// Tells the poller to do something; gives it back if the poller is gone. A poller that works costs
    /// no system call.
    pub(super) fn send(&self, command: Command) -> Result<(), Command> {
        let sleeps = {
            let mut list = self.lock();
            if list.closed {
                return Err(command);
            }
            list.commands.push(command);
            !std::mem::replace(&mut list.awake, true)
        };
        if sleeps {
            // The descriptor lives as long as this; a full counter has woken the poller already.
            let _: io::Result<()> = self.waker.wake();
        }
        Ok(())
    }

    /// Takes nothing any more; gives what there is.
    pub(super) fn close(&self) -> Vec<Command> {
        let mut list = self.lock();
        list.closed = true;
        std::mem::take(&mut list.commands)
    }

    /// The poller is awake: what is sent from now on wakes nobody.
    pub(super) fn wake_up(&self) {
        self.lock().awake = true;
    }

    /// Exchanges what there is to do for `empty`, which has room already.
    pub(super) fn take(&self, empty: &mut Vec<Command>) {
        std::mem::swap(&mut self.lock().commands, empty);
    }

    /// Whether there is nothing to do: the next command wakes the poller then.
    pub(super) fn may_sleep(&self) -> bool {
        let mut list = self.lock();
        list.awake = !list.commands.is_empty();
        !list.awake
    }

    fn lock(&self) -> MutexGuard<'_, List> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Host for Mailbox {
    fn flush_at(&self, due: Instant, room: Arc<Room>) -> Result<(), Arc<Room>> {
        match self.send(Command::Flush(due, room)) {
            Err(Command::Flush(_, room)) => Err(room),
            _ => Ok(()),
        }
    }
}

/// Calls the poller to one connection, once until it has come.
pub(super) struct Attention {
    mailbox: Arc<Mailbox>,
    number: usize,
    asked: AtomicBool,
}

impl Attention {
    /// Calls to the connection with this number.
    pub(super) fn new(mailbox: Arc<Mailbox>, number: usize) -> Self {
        Self {
            mailbox,
            number,
            asked: AtomicBool::new(false),
        }
    }

    /// Calls, unless somebody did.
    pub(super) fn ask(&self) {
        if !self.asked.swap(true, Ordering::SeqCst) {
            // A connection whose poller is gone is gone too.
            let _ = self.mailbox.send(Command::Attend(self.number));
        }
    }

    /// The poller has come.
    pub(super) fn given(&self) {
        self.asked.store(false, Ordering::SeqCst);
    }
}
