//! The network between nodes: what a path does to packets, and connections over paths.
//!
//! A connection is modelled by what QUIC promises: each lane is reliable and in order while the
//! connection lives, loss costs time instead of data, a cut stalls it, and after the idle timeout
//! each end notices for itself, at its own moment. Datagrams keep none of these promises.

use std::collections::VecDeque;

use bytes::Bytes;

/// What a directed path between two nodes does to packets.
#[derive(Debug, Clone, Copy)]
pub struct Path {
    /// Shortest one-way delay, in microseconds.
    pub latency_us: u64,
    /// Added to it, evenly spread, in microseconds.
    pub jitter_us: u64,
    /// Share of packets lost, each for itself.
    pub loss: f64,
    /// Share of datagrams that arrive twice.
    pub duplicate: f64,
    /// Share of datagrams that are held back for up to 0.2 s.
    pub reorder: f64,
    /// Bytes per second.
    pub bandwidth: u64,
    /// Share of frames that arrive cut short or as noise.
    pub garbage: f64,
}

impl Path {
    /// A path that loses nothing.
    pub const fn clean(latency_us: u64) -> Self {
        Self {
            latency_us,
            jitter_us: latency_us / 10,
            loss: 0.0,
            duplicate: 0.0,
            reorder: 0.0,
            bandwidth: 100_000_000,
            garbage: 0.0,
        }
    }
}

/// A path in use.
#[derive(Debug, Clone)]
pub(crate) struct PathState {
    pub(crate) path: Path,
    /// How many cuts are in force.
    pub(crate) cuts: u32,
    /// When it was cut, the last time but one and the last time; 0 for never.
    pub(crate) cut_at: [u64; 2],
    /// When the last byte given so far has left: of what goes first on the live connection, of the
    /// large frames that give way to it, and of bulk.
    pub(crate) busy: [u64; 3],
}

/// One lane in one direction.
#[derive(Debug, Default)]
pub(crate) struct LaneState {
    /// Arrival time and frame.
    pub(crate) queue: VecDeque<(u64, Bytes)>,
    pub(crate) last: u64,
    /// Its head's arrival is being waited for.
    pub(crate) awaited: bool,
    /// Given to the transport while the path was cut.
    pub(crate) unsent: usize,
}

/// One end of a connection.
#[derive(Debug)]
pub(crate) struct End {
    pub(crate) node: usize,
    pub(crate) life: u32,
    /// The core knows of it and has not been told that it is gone.
    pub(crate) open: bool,
    /// The core was told of it; the accepting end learns later.
    pub(crate) known: bool,
    /// It hears the other end.
    pub(crate) hears: bool,
    /// Tells apart idle timers that were started.
    pub(crate) idle: u64,
    /// What it sends.
    pub(crate) lanes: [LaneState; 3],
    pub(crate) room_for_cursors: bool,
    pub(crate) rtt_told_us: u64,
}

impl End {
    pub(crate) fn new(node: usize, life: u32, known: bool) -> Self {
        Self {
            node,
            life,
            open: true,
            known,
            hears: true,
            idle: 0,
            lanes: Default::default(),
            room_for_cursors: true,
            rtt_told_us: 0,
        }
    }
}

/// A connection; end 0 dialled.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) ends: [End; 2],
}
