//! What the machine has left while it plays the world: a figure from a machine without a free
//! processor is a figure of the machine.

use std::fs::read_to_string;
use std::time::Instant;

use crate::cluster::Cluster;

/// Kernel ticks per second, as `/proc` counts them on Linux.
const TICKS: f64 = 100.0;

/// Processor time at a moment.
#[derive(Debug, Clone, Copy)]
pub struct Clockwork {
    at: Instant,
    nodes: f64,
    own: f64,
    idle: f64,
    stolen: f64,
}

/// Processors in use, on average over a time. One is one processor, all of the time.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Use {
    /// All nodes together.
    pub nodes: f64,
    /// Those who move and watch, and the network between the nodes.
    pub own: f64,
    /// Nobody.
    pub idle: f64,
    /// Other machines on the same hardware.
    pub stolen: f64,
    /// How many there are.
    pub processors: f64,
}

impl Clockwork {
    /// Reads it now; what cannot be read counts as zero.
    pub fn now(cluster: &mut Cluster) -> Self {
        let names = cluster.names();
        let nodes = names
            .iter()
            .filter_map(|name| Some(cluster.process(name).ok()?.id()))
            .map(|id| process(&id.to_string()))
            .sum();
        let machine = read_to_string("/proc/stat").unwrap_or_default();
        let column = |index: usize| machine_column(&machine, index);
        Self {
            at: Instant::now(),
            nodes,
            own: process("self"),
            idle: column(3) + column(4),
            stolen: column(7),
        }
    }

    /// What was used since then. A node that ended meanwhile makes it too small.
    pub fn since(&self, earlier: &Self) -> Use {
        let seconds = (self.at - earlier.at).as_secs_f64().max(0.001);
        let rate = |now: f64, then: f64| ((now - then) / TICKS / seconds).max(0.0);
        Use {
            nodes: rate(self.nodes, earlier.nodes),
            own: rate(self.own, earlier.own),
            idle: rate(self.idle, earlier.idle),
            stolen: rate(self.stolen, earlier.stolen),
            processors: std::thread::available_parallelism()
                .map_or(1.0, |count| count.get() as f64),
        }
    }
}

impl Use {
    /// What is neither idle nor ours.
    pub fn others(&self) -> f64 {
        (self.processors - self.nodes - self.own - self.idle).max(0.0)
    }
}

impl std::fmt::Display for Use {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "of {:.0} processors: nodes {:.2}, people and network {:.2}, others {:.2}, idle {:.2}",
            self.processors,
            self.nodes,
            self.own,
            self.others(),
            self.idle
        )
    }
}

/// User and system ticks of a process.
fn process(id: &str) -> f64 {
    let stat = read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    process_ticks(&stat)
}

fn process_ticks(stat: &str) -> f64 {
    // The name is in parentheses and may hold anything; what follows are numbers from the third on.
    let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let field = |index: usize| -> f64 {
        let word = rest.split_whitespace().nth(index);
        word.and_then(|word| word.parse().ok()).unwrap_or(0.0)
    };
    field(11) + field(12)
}

fn machine_column(stat: &str, index: usize) -> f64 {
    let first = stat.lines().next().unwrap_or_default();
    let word = first.split_whitespace().nth(index + 1);
    word.and_then(|word| word.parse().ok()).unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_found_whatever_a_process_is_called() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194304 1 0 0 0 120 30 0 0 20 0 9 0 1";
        assert_eq!(process_ticks(stat), 150.0);
        assert_eq!(process_ticks(""), 0.0);
        let machine = "cpu  10 20 30 400 50 6 7 8 0 0\ncpu0 1 1 1 1";
        assert_eq!(machine_column(machine, 3), 400.0);
        assert_eq!(machine_column(machine, 7), 8.0);
    }
}
