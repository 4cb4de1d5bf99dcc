//! A network namespace for each node: a real interface each, a bridge in between, cuts by nftables
//! and rates by the token bucket filter. Linux and root only.
//!
//! ```text
//! namespace n1: mesh 10.77.X.1 on e0 ──┐
//! namespace n2: mesh 10.77.X.2 on e0 ──┼── bridge in a namespace of its own
//! namespace n3: mesh 10.77.X.3 on e0 ──┘
//! each also:    web 10.78.X.(4i+1) on w0 ── 10.78.X.(4i+2) here, so that faults touch no client
//! ```

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;

use super::{Failure, run};

const PREFIX: &str = "cmesh";

/// The namespaces of one cluster; dropping it removes them.
#[derive(Debug)]
pub struct Namespaces {
    names: Vec<String>,
    process: u32,
}

/// Why namespaces cannot be used here, or `None` if they can.
pub fn missing() -> Option<String> {
    for (tool, package) in [("ip", "iproute2"), ("nft", "nftables"), ("tc", "iproute2")] {
        if Command::new(tool).arg("-V").output().is_err() {
            return Some(format!("{tool} is not installed (package {package})"));
        }
    }
    let probe = format!("{PREFIX}{}probe", std::process::id());
    if let Err(error) = ip(&["netns", "add", &probe]) {
        return Some(format!("no network namespaces without root: {error}"));
    }
    let _ = ip(&["netns", "del", &probe]);
    None
}

impl Namespaces {
    /// Makes a namespace for each name and connects them.
    pub fn make(names: &[&str]) -> Result<Self, Failure> {
        remove_left_over();
        let made = Self {
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            process: std::process::id(),
        };
        let hub = made.space("hub");
        ip(&["netns", "add", &hub])?;
        made.within(&hub, "ip link add br0 type bridge forward_delay 0")?;
        made.within(&hub, "ip link set br0 up")?;
        for (index, name) in names.iter().enumerate() {
            let space = made.space(name);
            ip(&["netns", "add", &space])?;
            made.within(&space, "ip link set lo up")?;
            let port = format!("p{index}");
            ip(&[
                "link", "add", &port, "netns", &hub, "type", "veth", "peer", "name", "e0", "netns",
                &space,
            ])?;
            made.within(&hub, &format!("ip link set {port} master br0 up"))?;
            made.within(
                &space,
                &format!("ip addr add {}/24 dev e0", made.mesh(name)?.ip()),
            )?;
            made.within(&space, "ip link set e0 up")?;
            let here = format!("cm{}w{index}", made.process % 1_000_000);
            ip(&[
                "link", "add", &here, "type", "veth", "peer", "name", "w0", "netns", &space,
            ])?;
            made.within(
                &space,
                &format!("ip addr add {}/30 dev w0", made.web(name)?.ip()),
            )?;
            made.within(&space, "ip link set w0 up")?;
            let gate = made.address(78, 4 * index + 2)?;
            ip(&["addr", "add", &format!("{gate}/30"), "dev", &here])?;
            ip(&["link", "set", &here, "up"])?;
        }
        Ok(made)
    }

    pub(super) fn mesh(&self, node: &str) -> Result<SocketAddr, Failure> {
        Ok((self.address(77, self.index(node)? + 1)?, 7171).into())
    }

    pub(super) fn web(&self, node: &str) -> Result<SocketAddr, Failure> {
        Ok((self.address(78, 4 * self.index(node)? + 1)?, 7071).into())
    }

    pub(super) fn enter(&self, node: &str) -> Vec<String> {
        ["ip", "netns", "exec", &self.space(node)]
            .map(str::to_owned)
            .to_vec()
    }

    pub(super) fn cut_one_way(&self, from: &str, to: &str) -> Result<(), Failure> {
        let to = self.mesh(to)?.ip();
        self.within(
            &self.space(from),
            &format!(
                "nft 'add table inet cut; \
                 add chain inet cut out {{ type filter hook output priority 0; }}; \
                 add rule inet cut out ip daddr {to} drop'"
            ),
        )
    }

    pub(super) fn heal(&self) -> Result<(), Failure> {
        for name in &self.names {
            self.within(
                &self.space(name),
                "nft 'add table inet cut; delete table inet cut'",
            )?;
        }
        Ok(())
    }

    /// Limits what leaves a node for the others.
    pub(super) fn limit(&self, node: &str, bits_per_second: u64) -> Result<(), Failure> {
        self.within(
            &self.space(node),
            &format!(
                "tc qdisc replace dev e0 root tbf rate {bits_per_second}bit burst 3200 limit 16384"
            ),
        )
    }

    fn index(&self, node: &str) -> Result<usize, Failure> {
        let found = self.names.iter().position(|name| name == node);
        found.ok_or_else(|| format!("there is no node {node}").into())
    }

    fn address(&self, second: u8, last: usize) -> Result<Ipv4Addr, Failure> {
        // Runs at the same time must not meet.
        let third = u8::try_from(self.process % 251)?;
        Ok(Ipv4Addr::new(10, second, third, u8::try_from(last)?))
    }

    fn space(&self, name: &str) -> String {
        format!("{PREFIX}{}{name}", self.process)
    }

    fn within(&self, space: &str, command: &str) -> Result<(), Failure> {
        run(Command::new("ip").args(["netns", "exec", space, "sh", "-c", command])).map(drop)
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        for name in self.names.iter().map(String::as_str).chain(["hub"]) {
            // The interfaces go with their namespace; one that is not there was never made.
            let _ = ip(&["netns", "del", &self.space(name)]);
        }
    }
}

/// Removes namespaces of runs that were killed.
fn remove_left_over() {
    let listed = run(Command::new("ip").args(["netns", "list"])).unwrap_or_default();
    for space in listed
        .lines()
        .filter_map(|line| line.split_whitespace().next())
    {
        let Some(rest) = space.strip_prefix(PREFIX) else {
            continue;
        };
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        let is_alive = std::path::Path::new("/proc").join(&digits).exists();
        if !digits.is_empty() && !is_alive {
            let _ = ip(&["netns", "del", space]);
        }
    }
}

fn ip(arguments: &[&str]) -> Result<(), Failure> {
    run(Command::new("ip").args(arguments)).map(drop)
}
