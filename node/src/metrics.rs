//! Prometheus text of the mesh and the process: every metric of this page is named and explained
//! here, or comes with its name and help from the mesh.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use cursormesh_mesh::net::{LinkStats, Traffic, View, Volume};
use cursormesh_mesh::proto::Overview;

use crate::bridge::Dropped;

/// Everything but the web edge's own metrics, in text format 0.0.4.
pub(crate) fn render(view: &View, dropped: &Dropped, uptime: Duration) -> String {
    let overview = view.overview();
    let mut page = Page(String::with_capacity(8192));
    page.head(
        "cursormesh_info",
        "gauge",
        "Always 1; says which node of which cluster runs which version.",
    );
    page.sample(
        "cursormesh_info",
        &[
            ("node", overview.node.as_str()),
            ("cluster", overview.cluster.as_str()),
            ("region", &overview.region),
            ("version", env!("CARGO_PKG_VERSION")),
        ],
        1,
    );
    page.one(
        "cursormesh_boot_milliseconds",
        "gauge",
        "Start of this process, milliseconds since the Unix epoch.",
        overview.boot,
    );
    page.one(
        "cursormesh_uptime_seconds",
        "gauge",
        "Time since the node started.",
        uptime.as_secs(),
    );
    page.one(
        "cursormesh_mesh_members",
        "gauge",
        "Members of all rooms on all visible nodes.",
        view.member_count(),
    );
    page.one(
        "cursormesh_mesh_rooms",
        "gauge",
        "Rooms with members on any visible node.",
        view.room_count(),
    );
    page.one(
        "cursormesh_mesh_own_rows",
        "gauge",
        "Presence rows that this node owns.",
        overview.rows,
    );
    nodes(&mut page, &overview);
    links(&mut page, &view.links());
    traffic(&mut page, &overview.region, &view.traffic());
    page.head(
        "cursormesh_bridge_dropped_total",
        "counter",
        "What did not pass between web edge and mesh because it had no valid form.",
    );
    page.sample(
        "cursormesh_bridge_dropped_total",
        &[("to", "mesh")],
        dropped.to_mesh(),
    );
    for (name, help, value) in overview.counters.iter().copied().chain(view.counters()) {
        let kind = if name.ends_with("_total") {
            "counter"
        } else {
            "gauge"
        };
        // The web edge counts messages, too: the prefix tells them apart.
        let name = name.strip_prefix("mesh_").unwrap_or(name);
        page.one(&format!("cursormesh_mesh_{name}"), kind, help, value);
    }
    process(&mut page);
    page.0
}

fn nodes(page: &mut Page, overview: &Overview) {
    let up = overview.peers.iter().filter(|peer| peer.alive).count();
    page.head(
        "cursormesh_mesh_nodes",
        "gauge",
        "Other nodes that were heard of, by whether membership holds them for alive.",
    );
    page.sample("cursormesh_mesh_nodes", &[("state", "up")], up);
    page.sample(
        "cursormesh_mesh_nodes",
        &[("state", "down")],
        overview.peers.len() - up,
    );
    page.head(
        "cursormesh_mesh_node_up",
        "gauge",
        "1 while membership holds the node for alive.",
    );
    for peer in &overview.peers {
        let labels = [("peer", peer.node.as_str()), ("region", &peer.region)];
        page.sample("cursormesh_mesh_node_up", &labels, u8::from(peer.alive));
    }
    page.head(
        "cursormesh_mesh_node_linked",
        "gauge",
        "1 while a direct link to the node is up.",
    );
    for peer in &overview.peers {
        page.sample(
            "cursormesh_mesh_node_linked",
            &[("peer", peer.node.as_str())],
            u8::from(peer.linked),
        );
    }
    page.head(
        "cursormesh_mesh_node_protocol",
        "gauge",
        "Version of the mesh protocol on the direct link to the node; absent without one.",
    );
    for peer in &overview.peers {
        if let Some(version) = peer.version {
            page.sample(
                "cursormesh_mesh_node_protocol",
                &[("peer", peer.node.as_str())],
                version,
            );
        }
    }
    page.head(
        "cursormesh_mesh_node_visible",
        "gauge",
        "1 while the node's members are shown.",
    );
    for peer in &overview.peers {
        page.sample(
            "cursormesh_mesh_node_visible",
            &[("peer", peer.node.as_str())],
            u8::from(peer.visible),
        );
    }
    page.head(
        "cursormesh_mesh_node_rows",
        "gauge",
        "Presence rows of the node known here.",
    );
    for peer in &overview.peers {
        page.sample(
            "cursormesh_mesh_node_rows",
            &[("peer", peer.node.as_str())],
            peer.rows,
        );
    }
}

/// Name, kind, help, and where the value is.
type LinkMetric = (
    &'static str,
    &'static str,
    &'static str,
    fn(&LinkStats) -> u64,
);

fn links(page: &mut Page, links: &[LinkStats]) {
    // During a takeover two connections to one peer exist for a moment; a label set may stand
    // only once in a page, so the newest speaks for the link.
    let newest: BTreeMap<&str, &LinkStats> = links
        .iter()
        .map(|link| (link.peer.as_str(), link))
        .collect();
    page.head(
        "cursormesh_link_rtt_seconds",
        "gauge",
        "Smoothed round-trip time of the live link.",
    );
    for (peer, link) in &newest {
        page.sample(
            "cursormesh_link_rtt_seconds",
            &[("peer", peer)],
            link.rtt.as_secs_f64(),
        );
    }
    let table: [LinkMetric; 13] = [
        (
            "cursormesh_link_packets_sent_total",
            "counter",
            "QUIC packets sent on the live link.",
            |link| link.sent_packets,
        ),
        (
            "cursormesh_link_packets_lost_total",
            "counter",
            "QUIC packets sent on the live link and declared lost.",
            |link| link.lost_packets,
        ),
        (
            "cursormesh_link_congestion_events_total",
            "counter",
            "Congestion events on the live link.",
            |link| link.congestion_events,
        ),
        (
            "cursormesh_link_congestion_window_bytes",
            "gauge",
            "Congestion window of the live link.",
            |link| link.congestion_window,
        ),
        (
            "cursormesh_link_mtu_bytes",
            "gauge",
            "Largest UDP payload that the path is known to carry.",
            |link| u64::from(link.mtu),
        ),
        (
            "cursormesh_link_datagrams_sent_total",
            "counter",
            "QUIC datagrams (cursors, membership, liveness) sent.",
            |link| link.datagrams_sent,
        ),
        (
            "cursormesh_link_datagrams_received_total",
            "counter",
            "QUIC datagrams (cursors, membership, liveness) received.",
            |link| link.datagrams_received,
        ),
        (
            "cursormesh_link_cursor_datagrams_dropped_total",
            "counter",
            "Cursor datagrams not sent because too much was queued.",
            |link| link.cursor_datagrams_dropped,
        ),
        (
            "cursormesh_link_urgent_datagrams_dropped_total",
            "counter",
            "Membership and liveness datagrams not sent because too much was queued.",
            |link| link.urgent_datagrams_dropped,
        ),
        (
            "cursormesh_link_datagrams_too_large_total",
            "counter",
            "Datagrams not sent because the path's packets are too small.",
            |link| link.datagrams_too_large,
        ),
        (
            "cursormesh_link_frames_sent_total",
            "counter",
            "Frames handed to QUIC on ordered lanes.",
            |link| link.frames_sent,
        ),
        (
            "cursormesh_link_frames_received_total",
            "counter",
            "Frames received on ordered lanes.",
            |link| link.frames_received,
        ),
        (
            "cursormesh_link_queued_bytes",
            "gauge",
            "Frame bytes that wait to be handed to QUIC.",
            |link| link.queued_bytes,
        ),
    ];
    for (name, kind, help, value) in table {
        page.head(name, kind, help);
        for (peer, link) in &newest {
            page.sample(name, &[("peer", peer)], value(link));
        }
    }
}

/// Name after its prefix, help, and where the value is.
type VolumeMetric = (&'static str, &'static str, fn(&Volume) -> u64);

/// What went over the network, as sums that outlive the connections.
fn traffic(page: &mut Page, own: &str, traffic: &Traffic) {
    let links: [VolumeMetric; 4] = [
        (
            "cursormesh_link_sent_bytes_total",
            "Bytes of UDP payloads sent to the peer, on all connections with it.",
            |volume| volume.sent_bytes,
        ),
        (
            "cursormesh_link_received_bytes_total",
            "Bytes of UDP payloads received from the peer, on all connections with it.",
            |volume| volume.received_bytes,
        ),
        (
            "cursormesh_link_udp_sent_total",
            "UDP payloads sent to the peer, on all connections with it.",
            |volume| volume.sent,
        ),
        (
            "cursormesh_link_udp_received_total",
            "UDP payloads received from the peer, on all connections with it.",
            |volume| volume.received,
        ),
    ];
    for (name, help, value) in links {
        page.head(name, "counter", help);
        for (peer, region, volume) in &traffic.peers {
            let labels = [("peer", peer.as_str()), ("region", region)];
            page.sample(name, &labels, value(volume));
        }
    }
    page.head(
        "cursormesh_region_sent_bytes_total",
        "counter",
        "Bytes of UDP payloads that this node sent to peers, by its region and theirs.",
    );
    for (region, volume) in &traffic.regions {
        let labels = [("from", own), ("to", region)];
        page.sample(
            "cursormesh_region_sent_bytes_total",
            &labels,
            volume.sent_bytes,
        );
    }
    page.head(
        "cursormesh_region_received_bytes_total",
        "counter",
        "Bytes of UDP payloads that this node received from peers, by their region and its own.",
    );
    for (region, volume) in &traffic.regions {
        let labels = [("from", region.as_str()), ("to", own)];
        page.sample(
            "cursormesh_region_received_bytes_total",
            &labels,
            volume.received_bytes,
        );
    }
}

/// What the kernel says of this process; left out where there is no `/proc`.
fn process(page: &mut Page) {
    if let Some(kib) = std::fs::read_to_string("/proc/self/status")
        .ok()
        .as_deref()
        .and_then(resident_kib)
    {
        page.one(
            "process_resident_memory_bytes",
            "gauge",
            "Resident memory of the process.",
            kib * 1024,
        );
    }
    if let Ok(entries) = std::fs::read_dir("/proc/self/fd") {
        page.one(
            "process_open_fds",
            "gauge",
            "Open file descriptors.",
            entries.count(),
        );
    }
    if let Some(limit) = open_files_max() {
        page.one(
            "process_max_fds",
            "gauge",
            "Most open file descriptors.",
            limit,
        );
    }
}

fn resident_kib(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Most file descriptors that this process may have open; `None` if the kernel does not say.
pub(crate) fn open_files_max() -> Option<u64> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    limits.lines().find_map(soft_open_files)
}

fn soft_open_files(line: &str) -> Option<u64> {
    let rest = line.strip_prefix("Max open files")?;
    rest.split_whitespace().next()?.parse().ok()
}

struct Page(String);

impl Page {
    // Writing to a String cannot fail.
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn one(&mut self, name: &str, kind: &str, help: &str, value: impl std::fmt::Display) {
        self.head(name, kind, help);
        self.sample(name, &[], value);
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl std::fmt::Display) {
        self.0.push_str(name);
        for (index, (label, text)) in labels.iter().enumerate() {
            let open = if index == 0 { '{' } else { ',' };
            let _ = write!(self.0, "{open}{label}=\"{}\"", escaped(text));
        }
        if !labels.is_empty() {
            self.0.push('}');
        }
        let _ = writeln!(self.0, " {value}");
    }
}

/// A label value as the text format wants it.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn labels_are_escaped() {
        let mut page = Page(String::new());
        page.sample("x", &[("a", "q\"b\\c\nd"), ("b", "2")], 3);
        assert_eq!(page.0, "x{a=\"q\\\"b\\\\c\\nd\",b=\"2\"} 3\n");
    }

    #[test]
    fn the_kernel_is_understood() {
        assert_eq!(resident_kib("Name:\tx\nVmRSS:\t    1234 kB\n"), Some(1234));
        assert_eq!(
            soft_open_files(
                "Max open files            1024                 4096                 files"
            ),
            Some(1024)
        );
        assert_eq!(soft_open_files("Max cpu time unlimited"), None);
    }
}
