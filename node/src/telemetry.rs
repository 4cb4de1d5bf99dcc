//! Structured logs to standard error: text for people or JSON, the node's name on every line.

use std::fmt;
use std::io::IsTerminal;

use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::{Format, FormatFields, Json, Writer};
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::{LogConfig, LogFormat};

/// Begins to log for the whole process. Does nothing if something logs already.
pub fn init(config: &LogConfig, node: &str) {
    let filter = Targets::new()
        .with_default(config.level)
        .with_targets(config.targets.iter().cloned());
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let registry = tracing_subscriber::registry().with(filter);
    // The only error is that a subscriber is set already, as in a test process.
    let _ = match config.format {
        LogFormat::Text => registry
            .with(
                layer
                    .with_ansi(
                        std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none(),
                    )
                    .with_timer(NodeTime(node.to_owned()))
                    .fmt_fields(TextFields(node.to_owned())),
            )
            .try_init(),
        LogFormat::Json => registry
            .with(layer.json().event_format(NodeJson {
                node: node.to_owned(),
                json: Format::default().json(),
            }))
            .try_init(),
    };
}

/// The time, and the node's name after it.
struct NodeTime(String);

impl FormatTime for NodeTime {
    fn format_time(&self, writer: &mut Writer<'_>) -> fmt::Result {
        SystemTime.format_time(writer)?;
        write!(writer, " node={}", self.0)
    }
}

/// Fields as text, without those that name the node: its name stands on every line already.
struct TextFields(String);

impl<'writer> FormatFields<'writer> for TextFields {
    fn format_fields<R: RecordFields>(&self, writer: Writer<'writer>, fields: R) -> fmt::Result {
        let mut visitor = TextVisitor {
            node: &self.0,
            writer,
            is_first: true,
            result: Ok(()),
        };
        fields.record(&mut visitor);
        visitor.result
    }
}

struct TextVisitor<'a, 'writer> {
    node: &'a str,
    writer: Writer<'writer>,
    is_first: bool,
    result: fmt::Result,
}

impl Visit for TextVisitor<'_, '_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.record_debug(field, &format_args!("{value}"));
        } else {
            self.record_debug(field, &value);
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let name = field.name();
        if self.result.is_err() || (name == "node" && format!("{value:?}") == self.node) {
            return;
        }
        let gap = if std::mem::take(&mut self.is_first) {
            ""
        } else {
            " "
        };
        self.result = match name {
            "message" => write!(self.writer, "{gap}{value:?}"),
            _ if self.writer.has_ansi_escapes() => write!(
                self.writer,
                "{gap}\x1b[3m{name}\x1b[0m\x1b[2m=\x1b[0m{value:?}"
            ),
            _ => write!(self.writer, "{gap}{name}={value:?}"),
        };
    }
}

/// A JSON object per event that begins with the node's name. The event's own fields stand in an
/// object of their own, where they cannot collide with it.
struct NodeJson {
    node: String,
    json: Format<Json>,
}

impl<S, N> FormatEvent<S, N> for NodeJson
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut line = String::new();
        self.json
            .format_event(context, Writer::new(&mut line), event)?;
        // A node's name is a DNS label: it needs no escaping.
        let rest = line.strip_prefix('{').unwrap_or(&line);
        write!(writer, "{{\"node\":\"{}\",{rest}", self.node)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_text_line_names_its_node_once_and_other_nodes_where_they_stand() {
        let buffer = Buffer::default();
        let writer = buffer.clone();
        let layer = tracing_subscriber::fmt::layer()
            .with_ansi(false)
            .with_timer(NodeTime("n1".to_owned()))
            .fmt_fields(TextFields("n1".to_owned()))
            .with_writer(move || writer.clone());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            let span = tracing::info_span!("link", node = %"n1", peer = "n2");
            let _inside = span.enter();
            tracing::info!(node = %"n1", of = %"n3", count = 2, "hello");
            tracing::info!(node = %"n2", "other");
        });
        let bytes = buffer.0.lock().unwrap().clone();
        let text = String::from_utf8(bytes).unwrap();
        let ends: Vec<&str> = text
            .lines()
            .map(|line| line.split_once(" node=n1 ").unwrap().1.trim_start())
            .collect();
        let head = "INFO link{peer=\"n2\"}: cursormesh::telemetry::tests:";
        assert_eq!(
            ends,
            [
                format!("{head} hello of=n3 count=2"),
                format!("{head} other node=n2")
            ]
        );
    }

    #[test]
    fn a_json_line_is_an_object_with_node_and_fields() {
        let buffer = Buffer::default();
        let writer = buffer.clone();
        let layer = tracing_subscriber::fmt::layer()
            .json()
            .with_writer(move || writer.clone())
            .event_format(NodeJson {
                node: "n1".to_owned(),
                json: Format::default().json(),
            });
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            let span = tracing::info_span!("link", peer = "n2");
            let _inside = span.enter();
            tracing::info!(room = "a \"quoted\" room", "hello");
        });
        let bytes = buffer.0.lock().unwrap().clone();
        let line: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(line["node"], "n1");
        assert_eq!(line["level"], "INFO");
        assert_eq!(line["fields"]["message"], "hello");
        assert_eq!(line["fields"]["room"], "a \"quoted\" room");
        assert_eq!(line["span"]["peer"], "n2");
    }
}
