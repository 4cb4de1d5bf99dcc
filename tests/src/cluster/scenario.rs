//! The scenarios: what is done to the nodes or to the network between them, and what the users must
//! see. Each gives a [`Report`]; an error means that it could not be carried out.

mod crash;
mod endure;
mod partition;
mod resources;
mod slow;

use std::pin::Pin;

use super::Failure;
use super::report::Report;

pub use endure::{hour, restarts};
pub use partition::Ground;

/// A scenario of the table.
pub struct Scenario {
    /// Its name on the command line.
    pub name: &'static str,
    /// What is done.
    pub what: &'static str,
    /// Whether it takes too long for every change.
    pub long: bool,
    run: fn() -> Running,
}

type Running = Pin<Box<dyn Future<Output = Result<Report, Failure>>>>;

impl Scenario {
    /// Carries it out.
    pub async fn run(&self) -> Result<Report, Failure> {
        (self.run)().await
    }
}

impl std::fmt::Debug for Scenario {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// All scenarios but the ones that take an argument, in the order of the table.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "kill",
        what: "kill -9 of n3",
        long: false,
        run: || Box::pin(crash::kill()),
    },
    Scenario {
        name: "restart",
        what: "kill -9 of n3, started again after 0.2 s",
        long: false,
        run: || Box::pin(crash::restart()),
    },
    Scenario {
        name: "freeze",
        what: "SIGSTOP of n3 for 6 s, then SIGCONT",
        long: false,
        run: || Box::pin(crash::freeze(6)),
    },
    Scenario {
        name: "freeze-long",
        what: "SIGSTOP of n3 for 30 s, then SIGCONT",
        long: true,
        run: || Box::pin(crash::freeze(30)),
    },
    Scenario {
        name: "rolling",
        what: "SIGTERM and start of n1, n2, n3, one after the other",
        long: false,
        run: || Box::pin(crash::rolling()),
    },
    Scenario {
        name: "split",
        what: "n1 cut from n2 and n3 until hidden; 40 pages and 100 KB come meanwhile; healed under 1 % loss",
        long: false,
        run: || Box::pin(partition::split(Ground::Proxy)),
    },
    Scenario {
        name: "partial",
        what: "n1–n3 cut for 8 s, n2 between them reaches both",
        long: false,
        run: || Box::pin(partition::partial(Ground::Proxy)),
    },
    Scenario {
        name: "one-way",
        what: "n1 → n3 cut for 8 s, n3 → n1 open",
        long: false,
        run: || Box::pin(partition::one_way(Ground::Proxy)),
    },
    Scenario {
        name: "flapping",
        what: "n1–n3 cut for 3 s and open for 1.5 s, four times",
        long: false,
        run: || Box::pin(partition::flapping()),
    },
    Scenario {
        name: "slow-link",
        what: "1 Mbit/s each way between any two nodes, 10 Hz pages, 150 cursors at 60 Hz (more than fits)",
        long: false,
        run: || Box::pin(slow::link(Ground::Proxy)),
    },
    Scenario {
        name: "snapshot",
        what: "5 MB of presence to make up for after a cut, at 2 % loss and 20 ms RTT, cursors on the same path",
        long: false,
        run: || Box::pin(slow::snapshot()),
    },
    Scenario {
        name: "descriptors",
        what: "n1 with 48 file descriptors, clients until it has none left",
        long: false,
        run: || Box::pin(resources::descriptors()),
    },
    Scenario {
        name: "disk-full",
        what: "n1's log on a full disk",
        long: false,
        run: || Box::pin(resources::disk_full()),
    },
    Scenario {
        name: "netns-split",
        what: "in network namespaces: nft drops n1–n2 and n1–n3; 40 pages come meanwhile",
        long: false,
        run: || Box::pin(partition::split(Ground::Namespaces)),
    },
    Scenario {
        name: "netns-partial",
        what: "in network namespaces: nft drops n1–n3",
        long: false,
        run: || Box::pin(partition::partial(Ground::Namespaces)),
    },
    Scenario {
        name: "netns-one-way",
        what: "in network namespaces: nft drops n1 → n3",
        long: false,
        run: || Box::pin(partition::one_way(Ground::Namespaces)),
    },
    Scenario {
        name: "netns-slow-link",
        what: "in network namespaces: tbf 1 Mbit/s out of every node",
        long: false,
        run: || Box::pin(slow::link(Ground::Namespaces)),
    },
];

/// The scenario of this name.
pub fn named(name: &str) -> Option<&'static Scenario> {
    SCENARIOS.iter().find(|scenario| scenario.name == name)
}
