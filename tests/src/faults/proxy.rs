//! The sockets of the fault proxy, and the packets that wait in it.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::net::UdpSocket;
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use super::lateness::Lateness;
use super::link::{Counters, Faults, Link};

/// What the kernel is asked to hold of packets that were not read yet.
const SOCKET_BUFFER_BYTES: usize = 4 * 1024 * 1024;
/// Packets that may wait in one direction; further ones are dropped and counted as overflowed.
const WAITING_MAX: usize = 50_000;

/// A node behind the proxy.
#[derive(Debug, Clone)]
pub struct Route {
    /// Its name.
    pub node: String,
    /// Where the proxy takes packets for it; port 0: any.
    pub front: SocketAddr,
    /// Where it listens, and sends from.
    pub target: SocketAddr,
}

/// A running proxy; dropping it stops it, and nothing passes any more.
#[derive(Debug)]
pub struct Proxy {
    routes: Vec<Route>,
    directions: BTreeMap<(String, String), Arc<Direction>>,
    strangers: Arc<AtomicU64>,
    tasks: Vec<AbortHandle>,
}

/// What one direction is doing at a moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Shown {
    /// The sender.
    pub from: String,
    /// The receiver.
    pub to: String,
    /// What it does to packets.
    pub faults: Faults,
    /// What it counted.
    pub counters: Counters,
}

/// All packets from one node to another, whoever dialled.
#[derive(Debug)]
struct Direction {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug)]
struct State {
    link: Link,
    waiting: BinaryHeap<Reverse<Waiting>>,
    count: u64,
    lateness: Lateness,
}

/// A packet that leaves later. Ordered by time, then by arrival.
struct Waiting {
    at: Instant,
    number: u64,
    bytes: Vec<u8>,
    exit: Exit,
}

/// The socket and the address by which a packet leaves.
#[derive(Debug, Clone)]
struct Exit {
    socket: Arc<UdpSocket>,
    to: SocketAddr,
}

impl Proxy {
    /// Binds the fronts and lets everything pass. The seed decides all chances.
    pub async fn start(mut routes: Vec<Route>, seed: u64) -> io::Result<Self> {
        let mut fronts = Vec::new();
        for route in &mut routes {
            let socket = bind(route.front)?;
            route.front = socket.local_addr()?;
            fronts.push(socket);
        }
        let mut directions = BTreeMap::new();
        let mut tasks = Vec::new();
        for from in &routes {
            for to in routes.iter().filter(|to| to.node != from.node) {
                let seed = seed
                    .wrapping_mul(1_000_003)
                    .wrapping_add(directions.len() as u64);
                let direction = Arc::new(Direction {
                    state: Mutex::new(State {
                        link: Link::new(seed),
                        waiting: BinaryHeap::new(),
                        count: 0,
                        lateness: Lateness::default(),
                    }),
                    changed: Notify::new(),
                });
                tasks.push(tokio::spawn(direction.clone().send_later()).abort_handle());
                directions.insert((from.node.clone(), to.node.clone()), direction);
            }
        }
        let strangers = Arc::new(AtomicU64::new(0));
        for (callee, front) in routes.iter().zip(&fronts) {
            let mut callers = Vec::new();
            for caller in routes.iter().filter(|caller| caller.node != callee.node) {
                let back = bind(SocketAddr::new(callee.front.ip(), 0))?;
                let there = &directions[&(caller.node.clone(), callee.node.clone())];
                let here = &directions[&(callee.node.clone(), caller.node.clone())];
                callers.push(Entry {
                    source: caller.target,
                    direction: there.clone(),
                    exit: Exit {
                        socket: back.clone(),
                        to: callee.target,
                    },
                });
                let answers = vec![Entry {
                    source: callee.target,
                    direction: here.clone(),
                    exit: Exit {
                        socket: front.clone(),
                        to: caller.target,
                    },
                }];
                tasks.push(tokio::spawn(receive(back, answers, strangers.clone())).abort_handle());
            }
            tasks.push(
                tokio::spawn(receive(front.clone(), callers, strangers.clone())).abort_handle(),
            );
        }
        Ok(Self {
            routes,
            directions,
            strangers,
            tasks,
        })
    }

    /// The nodes, each with its real front.
    pub fn routes(&self) -> &[Route] {
        &self.routes
    }

    /// Changes the faults of all directions from `from` to `to`; `*` is any node. An error names a
    /// node that is not there.
    pub fn change(&self, from: &str, to: &str, change: impl Fn(&mut Faults)) -> Result<(), String> {
        for name in [from, to] {
            if name != "*" && !self.routes.iter().any(|route| route.node == name) {
                let names: Vec<&str> = self
                    .routes
                    .iter()
                    .map(|route| route.node.as_str())
                    .collect();
                return Err(format!(
                    "there is no node {name}; there are: {}",
                    names.join(", ")
                ));
            }
        }
        if from == to && from != "*" {
            return Err(format!("{from} has no link to itself"));
        }
        for ((one, other), direction) in &self.directions {
            if (from == "*" || from == one) && (to == "*" || to == other) {
                let mut state = direction.state();
                let mut faults = state.link.faults().clone();
                change(&mut faults);
                state.link.set(faults);
            }
        }
        Ok(())
    }

    /// Every direction, sorted by sender, then receiver.
    pub fn show(&self) -> Vec<Shown> {
        self.directions
            .iter()
            .map(|((from, to), direction)| {
                let state = direction.state();
                Shown {
                    from: from.clone(),
                    to: to.clone(),
                    faults: state.link.faults().clone(),
                    counters: state.link.counters(),
                }
            })
            .collect()
    }

    /// How much later than due delayed packets left since the last call, in all directions: what this
    /// machine adds to the delays that it emulates.
    pub fn take_lateness(&self) -> Lateness {
        let mut all = Lateness::default();
        for direction in self.directions.values() {
            all.add(&std::mem::take(&mut direction.state().lateness));
        }
        all
    }

    /// Packets from addresses that belong to no node; they are dropped.
    pub fn strangers(&self) -> u64 {
        self.strangers.load(Ordering::Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// What a socket does with the packets of one source.
struct Entry {
    source: SocketAddr,
    direction: Arc<Direction>,
    exit: Exit,
}

async fn receive(socket: Arc<UdpSocket>, entries: Vec<Entry>, strangers: Arc<AtomicU64>) {
    let mut buffer = vec![0; 65_536];
    loop {
        // An error here is about one packet that was sent, such as a port where nobody listens.
        let Ok((length, source)) = socket.recv_from(&mut buffer).await else {
            continue;
        };
        match entries.iter().find(|entry| entry.source == source) {
            Some(entry) => entry.direction.take(&buffer[..length], &entry.exit),
            None => {
                strangers.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

impl Direction {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, bytes: &[u8], exit: &Exit) {
        let mut state = self.state();
        let now = Instant::now();
        for at in state.link.pass(now, bytes.len()).into_iter().flatten() {
            if at <= now && state.waiting.is_empty() {
                exit.send(bytes);
            } else if state.waiting.len() < WAITING_MAX {
                state.count += 1;
                let number = state.count;
                let first = state.waiting.peek().is_none_or(|next| at < next.0.at);
                state.waiting.push(Reverse(Waiting {
                    at,
                    number,
                    bytes: bytes.to_vec(),
                    exit: exit.clone(),
                }));
                if first {
                    self.changed.notify_one();
                }
            }
        }
    }

    /// Sends what waits when its time has come, for ever.
    async fn send_later(self: Arc<Self>) {
        loop {
            let next = self.send_due();
            match next {
                Some(at) => tokio::select! {
                    () = tokio::time::sleep_until(at.into()) => {}
                    () = self.changed.notified() => {}
                },
                None => self.changed.notified().await,
            }
        }
    }

    fn send_due(&self) -> Option<Instant> {
        let mut state = self.state();
        let now = Instant::now();
        while let Some(Reverse(next)) = state.waiting.peek() {
            if next.at > now {
                return Some(next.at);
            }
            if let Some(Reverse(due)) = state.waiting.pop() {
                state.lateness.note(now - due.at);
                due.exit.send(&due.bytes);
            }
        }
        None
    }
}

impl Exit {
    fn send(&self, bytes: &[u8]) {
        // A full socket buffer loses packets, as a network does.
        let _ = self.socket.try_send_to(bytes, self.to);
    }
}

impl PartialEq for Waiting {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Waiting {}

impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Waiting {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key().cmp(&other.key())
    }
}

impl Waiting {
    fn key(&self) -> (Instant, u64) {
        (self.at, self.number)
    }
}

impl std::fmt::Debug for Waiting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes to {}", self.bytes.len(), self.exit.to)
    }
}

fn bind(addr: SocketAddr) -> io::Result<Arc<UdpSocket>> {
    use socket2::{Domain, Protocol, Socket, Type};
    let socket = Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    socket.set_recv_buffer_size(SOCKET_BUFFER_BYTES)?;
    socket.set_send_buffer_size(SOCKET_BUFFER_BYTES)?;
    socket.bind(&addr.into())?;
    Ok(Arc::new(UdpSocket::from_std(socket.into())?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    struct Pair {
        proxy: Proxy,
        one: UdpSocket,
        other: UdpSocket,
    }

    async fn pair() -> Pair {
        let local = || UdpSocket::bind("127.0.0.1:0");
        let (one, other) = (local().await.unwrap(), local().await.unwrap());
        let route = |node: &str, socket: &UdpSocket| Route {
            node: node.to_owned(),
            front: "127.0.0.1:0".parse().unwrap(),
            target: socket.local_addr().unwrap(),
        };
        let routes = vec![route("n1", &one), route("n2", &other)];
        let proxy = Proxy::start(routes, 1).await.unwrap();
        Pair { proxy, one, other }
    }

    impl Pair {
        fn front(&self, node: usize) -> SocketAddr {
            self.proxy.routes()[node].front
        }

        fn count(&self, from: &str) -> u64 {
            let shown = self.proxy.show();
            shown
                .iter()
                .find(|shown| shown.from == from)
                .unwrap()
                .counters
                .packets
        }
    }

    async fn hears(socket: &UdpSocket) -> Option<(Vec<u8>, SocketAddr)> {
        let mut buffer = [0; 2000];
        let (length, from) = timeout(Duration::from_secs(5), socket.recv_from(&mut buffer))
            .await
            .ok()?
            .unwrap();
        Some((buffer[..length].to_vec(), from))
    }

    #[tokio::test]
    async fn a_round_trip_passes_each_direction_once_whoever_dials() {
        let pair = pair().await;
        for (caller, callee, front) in [
            (&pair.one, &pair.other, pair.front(1)),
            (&pair.other, &pair.one, pair.front(0)),
        ] {
            caller.send_to(b"ask", front).await.unwrap();
            let (asked, back) = hears(callee).await.unwrap();
            assert_eq!(asked, b"ask");
            callee.send_to(b"answer", back).await.unwrap();
            let (answered, from) = hears(caller).await.unwrap();
            assert_eq!((&answered[..], from), (&b"answer"[..], front));
        }
        assert_eq!((pair.count("n1"), pair.count("n2")), (2, 2));
        assert_eq!(pair.proxy.strangers(), 0);
    }

    #[tokio::test]
    async fn one_direction_can_be_cut_while_the_other_passes() {
        let pair = pair().await;
        pair.proxy
            .change("n1", "n2", |faults| faults.cut = true)
            .unwrap();
        pair.one.send_to(b"lost", pair.front(1)).await.unwrap();
        pair.other.send_to(b"passes", pair.front(0)).await.unwrap();
        assert_eq!(hears(&pair.one).await.unwrap().0, b"passes");
        pair.proxy
            .change("*", "*", |faults| faults.cut = false)
            .unwrap();
        pair.one.send_to(b"again", pair.front(1)).await.unwrap();
        assert_eq!(hears(&pair.other).await.unwrap().0, b"again");
    }

    #[tokio::test]
    async fn a_delay_is_kept_and_later_packets_wait_behind() {
        let pair = pair().await;
        let delay = Duration::from_millis(80);
        pair.proxy
            .change("n1", "n2", |faults| faults.delay = delay)
            .unwrap();
        let begin = Instant::now();
        pair.one.send_to(b"1", pair.front(1)).await.unwrap();
        // The first is inside when the delay goes.
        while pair.count("n1") == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        pair.proxy
            .change("n1", "n2", |faults| faults.delay = Duration::ZERO)
            .unwrap();
        pair.one.send_to(b"2", pair.front(1)).await.unwrap();
        assert_eq!(hears(&pair.other).await.unwrap().0, b"1");
        assert!(begin.elapsed() >= delay);
        assert_eq!(hears(&pair.other).await.unwrap().0, b"2");
    }

    #[tokio::test]
    async fn strangers_and_unknown_names_are_turned_away() {
        let pair = pair().await;
        let stranger = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        stranger.send_to(b"x", pair.front(0)).await.unwrap();
        while pair.proxy.strangers() == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let refused = pair.proxy.change("n1", "n9", |_| {}).unwrap_err();
        assert_eq!(refused, "there is no node n9; there are: n1, n2");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn it_carries_50_mbit_per_second_and_adds_less_than_a_millisecond() {
        const PACKET: usize = 1200;
        const TOTAL: usize = 12_000;
        let Pair { proxy, one, other } = pair().await;
        let front = proxy.routes()[1].front;
        // At most 64 packets are under way, so that no socket buffer overflows.
        let begin = Instant::now();
        let mut buffer = [0; 2000];
        for _ in 0..TOTAL / 64 {
            for _ in 0..64 {
                one.send_to(&[7; PACKET], front).await.unwrap();
            }
            for _ in 0..64 {
                timeout(Duration::from_secs(5), other.recv_from(&mut buffer))
                    .await
                    .unwrap()
                    .unwrap();
            }
        }
        let carried = (TOTAL / 64 * 64 * PACKET * 8) as f64 / begin.elapsed().as_secs_f64();
        assert!(carried > 50e6, "{:.0} Mbit/s", carried / 1e6);
        let mut trips = Vec::new();
        for _ in 0..200 {
            let begin = Instant::now();
            one.send_to(b"ping", front).await.unwrap();
            other.recv_from(&mut buffer).await.unwrap();
            trips.push(begin.elapsed());
        }
        trips.sort();
        assert!(trips[100] < Duration::from_millis(1), "{:?}", trips[100]);
    }
}
