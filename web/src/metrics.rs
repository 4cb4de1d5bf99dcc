//! What the web edge counts, in Prometheus text format. Every metric is named and explained here.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::demo::Refusal;

/// A count that only rises.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds one.
    pub fn increment(&self) {
        self.add(1);
    }

    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// The count since the process started.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A level that rises and falls.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    /// Rises by `n`.
    pub fn rise(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// Falls by `n`, which was added before.
    pub fn fall(&self, n: u64) {
        self.0.fetch_sub(n, Ordering::Relaxed);
    }

    /// Is `n` now.
    pub fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }

    /// The level now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Why a message was not passed on.
#[derive(Debug, Default)]
pub struct Dropped {
    /// A client's message was no valid JSON text, or a peer's message no UTF-8.
    pub malformed: Counter,
    /// A client's message was empty or only white space.
    pub empty: Counter,
    /// A client's message was JSON, but no object.
    pub not_object: Counter,
    /// A client's message nested deeper than [`crate::demo::NESTING_MAX`].
    pub too_deep: Counter,
    /// A client's binary message was no UTF-8 (its connection closed with code 1007).
    pub not_utf8: Counter,
    /// A message of a member that had left already.
    pub departed: Counter,
    /// A message from another node was overtaken by a newer one of the same sender while the
    /// room's queue was over its bound.
    pub overtaken: Counter,
    /// A v1 cursor for a room that its connection is not in, without finite coordinates, or in a
    /// frame of the wrong length.
    pub misplaced: Counter,
    /// A frame was skipped by one connection that did not read fast enough. One message skipped by
    /// two connections counts twice.
    pub lagging: Counter,
}

/// Connections closed, by the code of the close frame that the node sent.
#[derive(Debug, Default)]
pub struct Closes {
    /// The client closed with a close frame of its own; the node sent its code back.
    pub client: Counter,
    /// 1001: nothing arrived for too long.
    pub dead: Counter,
    /// 1002: the client broke the WebSocket protocol.
    pub protocol: Counter,
    /// 1007: the client sent text that is no UTF-8.
    pub utf8: Counter,
    /// 1008: the member was removed, the connection fell too far behind, or it did not finish a
    /// message.
    pub policy: Counter,
    /// 1009: the client sent a message above the limit.
    pub too_big: Counter,
    /// 1012: the node shuts down.
    pub restart: Counter,
    /// 1013: too much waited for a v1 connection, or its join was not answered.
    pub overload: Counter,
    /// 3000: a SockJS client's frame was none.
    pub sockjs: Counter,
    /// 4400: a v1 client said what the protocol does not have.
    pub bad_message: Counter,
    /// 4408: a v1 client did not say hello.
    pub no_hello: Counter,
    /// 4409: a v1 client's member is connected elsewhere.
    pub superseded: Counter,
    /// No close frame: the client's socket broke or ended without one.
    pub broken: Counter,
}

/// The counters and gauges of one node's web edge.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Connections open now: WebSockets, and SockJS sessions over HTTP.
    pub connections: Gauge,
    /// Connections opened.
    pub connections_total: Counter,
    /// SockJS sessions over HTTP that this node has now.
    pub sockjs_sessions: Gauge,
    /// Requests of SockJS sessions that were carried to the sessions' node.
    pub sockjs_carried: Counter,
    /// Requests of SockJS sessions that were carried here by other nodes.
    pub sockjs_served: Counter,
    /// Requests of SockJS sessions whose node could not be reached, or was lost midway.
    pub sockjs_lost: Counter,
    /// Rooms with state on this node, with or without connections.
    pub rooms: Gauge,
    /// Messages that clients sent, dropped ones included.
    pub messages_in: Counter,
    /// Messages that came from other nodes.
    pub messages_remote: Counter,
    /// Frames queued to connections: one message to ten connections counts ten.
    pub messages_out: Counter,
    /// Messages that were not passed on.
    pub messages_dropped: Dropped,
    /// Bytes read from WebSocket connections, framing included.
    pub bytes_in: Counter,
    /// Bytes written to WebSocket connections, framing included.
    pub bytes_out: Counter,
    /// Bytes of memory that wait in outboxes, each shared buffer counted once.
    pub outbox_bytes: Gauge,
    /// Bytes of the newest messages that rooms keep for connections that are behind.
    pub newest_bytes: Gauge,
    /// Bytes of messages that clients have not finished.
    pub input_bytes: Gauge,
    /// Bytes of what local clients said that are anywhere on the node.
    pub said_bytes: Gauge,
    /// Connections closed because all of them together held more than
    /// [`Config::backlog_bytes_max`](crate::Config::backlog_bytes_max).
    pub backlog_closes: Counter,
    /// Times a connection did not read fast enough and skipped ahead.
    pub outbox_lags: Counter,
    /// Times a room kept its messages because the way to the rest of the cluster was full.
    pub upstream_full: Counter,
    /// Flushes of rooms.
    pub flushes: Counter,
    /// The least time between two flushes of a room, in microseconds, as of the last look: longer than
    /// [`Config::tick`](crate::Config::tick) while the processor is short.
    pub tick_us: Gauge,
    /// Connections closed.
    pub closes: Closes,
    /// Connections that could not be accepted.
    pub accept_errors: Counter,
}

impl Metrics {
    /// Counts a client's message that was not passed on.
    pub fn refused(&self, refusal: Refusal) {
        let dropped = &self.messages_dropped;
        match refusal {
            Refusal::Malformed => dropped.malformed.increment(),
            Refusal::Empty => dropped.empty.increment(),
            Refusal::NotObject => dropped.not_object.increment(),
            Refusal::TooDeep => dropped.too_deep.increment(),
            Refusal::NotUtf8 => dropped.not_utf8.increment(),
        }
    }

    /// Everything in Prometheus text format 0.0.4.
    pub fn render(&self) -> String {
        let mut page = Page(String::with_capacity(4096));
        page.one(
            "cursormesh_connections",
            "gauge",
            "Connections open now: WebSockets, and SockJS sessions over HTTP.",
            self.connections.get(),
        );
        page.one(
            "cursormesh_sockjs_sessions",
            "gauge",
            "SockJS sessions over HTTP that this node has now.",
            self.sockjs_sessions.get(),
        );
        page.by(
            "cursormesh_sockjs_requests_total",
            "counter",
            "Requests of SockJS sessions that other nodes have (carried, lost) or asked for (served).",
            "outcome",
            &[
                ("carried", self.sockjs_carried.get()),
                ("served", self.sockjs_served.get()),
                ("lost", self.sockjs_lost.get()),
            ],
        );
        page.one(
            "cursormesh_connections_total",
            "counter",
            "Connections opened.",
            self.connections_total.get(),
        );
        page.one(
            "cursormesh_rooms",
            "gauge",
            "Rooms with state on this node.",
            self.rooms.get(),
        );
        page.one(
            "cursormesh_messages_in_total",
            "counter",
            "Messages that clients sent, dropped ones included.",
            self.messages_in.get(),
        );
        page.one(
            "cursormesh_messages_remote_total",
            "counter",
            "Messages that came from other nodes.",
            self.messages_remote.get(),
        );
        page.one(
            "cursormesh_messages_out_total",
            "counter",
            "Frames queued to connections: one message to ten connections counts ten.",
            self.messages_out.get(),
        );
        let dropped = &self.messages_dropped;
        page.by(
            "cursormesh_messages_dropped_total",
            "counter",
            "Messages that were not passed on.",
            "reason",
            &[
                ("malformed", dropped.malformed.get()),
                ("empty", dropped.empty.get()),
                ("not_object", dropped.not_object.get()),
                ("too_deep", dropped.too_deep.get()),
                ("not_utf8", dropped.not_utf8.get()),
                ("departed", dropped.departed.get()),
                ("overtaken", dropped.overtaken.get()),
                ("misplaced", dropped.misplaced.get()),
                ("lagging", dropped.lagging.get()),
            ],
        );
        page.one(
            "cursormesh_websocket_in_bytes_total",
            "counter",
            "Bytes read from WebSocket connections, framing included.",
            self.bytes_in.get(),
        );
        page.one(
            "cursormesh_websocket_out_bytes_total",
            "counter",
            "Bytes written to WebSocket connections, framing included.",
            self.bytes_out.get(),
        );
        page.by(
            "cursormesh_backlog_bytes",
            "gauge",
            "Memory kept for connections: frames in outboxes, newest messages of rooms, unfinished messages.",
            "what",
            &[
                ("output", self.outbox_bytes.get()),
                ("newest", self.newest_bytes.get()),
                ("input", self.input_bytes.get()),
            ],
        );
        page.one(
            "cursormesh_said_bytes",
            "gauge",
            "What clients of this node said and some part of the node still holds.",
            self.said_bytes.get(),
        );
        page.one(
            "cursormesh_backlog_closes_total",
            "counter",
            "Connections closed because all of them together held too much.",
            self.backlog_closes.get(),
        );
        page.one(
            "cursormesh_outbox_lags_total",
            "counter",
            "Times a connection did not read fast enough and skipped ahead.",
            self.outbox_lags.get(),
        );
        page.one(
            "cursormesh_upstream_full_total",
            "counter",
            "Times a room kept its messages because the way to the cluster was full.",
            self.upstream_full.get(),
        );
        page.one(
            "cursormesh_flushes_total",
            "counter",
            "Flushes of rooms.",
            self.flushes.get(),
        );
        page.one(
            "cursormesh_tick_microseconds",
            "gauge",
            "The least time between two flushes of a room now: longer than web.tick_ms while the processor is short.",
            self.tick_us.get(),
        );
        let closes = &self.closes;
        page.by(
            "cursormesh_connections_closed_total",
            "counter",
            "WebSocket connections closed, by the code the node chose; client when the client closed, none when the socket broke.",
            "code",
            &[
                ("client", closes.client.get()),
                ("1001", closes.dead.get()),
                ("1002", closes.protocol.get()),
                ("1007", closes.utf8.get()),
                ("1008", closes.policy.get()),
                ("1009", closes.too_big.get()),
                ("1012", closes.restart.get()),
                ("1013", closes.overload.get()),
                ("3000", closes.sockjs.get()),
                ("4400", closes.bad_message.get()),
                ("4408", closes.no_hello.get()),
                ("4409", closes.superseded.get()),
                ("none", closes.broken.get()),
            ],
        );
        page.one(
            "cursormesh_accept_errors_total",
            "counter",
            "Connections that could not be accepted.",
            self.accept_errors.get(),
        );
        page.0
    }
}

struct Page(String);

impl Page {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a String cannot fail.
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    fn one(&mut self, name: &str, kind: &str, help: &str, value: u64) {
        self.head(name, kind, help);
        let _ = writeln!(self.0, "{name} {value}");
    }

    fn by(&mut self, name: &str, kind: &str, help: &str, label: &str, values: &[(&str, u64)]) {
        self.head(name, kind, help);
        for (of, value) in values {
            let _ = writeln!(self.0, "{name}{{{label}=\"{of}\"}} {value}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_a_comment_or_a_sample() {
        let metrics = Metrics::default();
        metrics.refused(Refusal::TooDeep);
        let text = metrics.render();
        assert!(text.contains("cursormesh_messages_dropped_total{reason=\"too_deep\"} 1\n"));
        for line in text.lines() {
            let sample = line
                .rsplit_once(' ')
                .is_some_and(|(_, value)| value.parse::<u64>().is_ok());
            assert!(line.starts_with("# ") || sample, "{line}");
        }
    }
}
