//! Every configuration key, declared once: the file's reader, the environment, the flags and the
//! help texts all work from this table.

/// What a key's value must look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A whole number within these bounds, both included.
    Integer {
        /// Smallest.
        min: u64,
        /// Largest.
        max: u64,
    },
    /// A DNS label.
    Label,
    /// Free text of at most this many bytes, without control characters.
    Text {
        /// Largest length.
        bytes_max: usize,
    },
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A log filter: a level, or `target=level` pairs.
    Levels,
    /// A path; relative ones start at the configuration file, or at the working directory when
    /// they come from the environment or a flag.
    Path,
    /// One socket address: an IP address and a port.
    Address,
    /// One or several socket addresses.
    Addresses,
    /// A list of node names, socket addresses, host names with a port, and SRV names.
    Seeds,
    /// A list of paths below which something is served.
    Prefixes,
}

/// One key.
#[derive(Debug, PartialEq, Eq)]
pub struct Key {
    /// Where it stands in the file; keys of a `[[node]]` table start with `node.`.
    pub path: &'static str,
    /// What its value must look like.
    pub kind: Kind,
    /// Its unit, empty if it has none.
    pub unit: &'static str,
    /// Its default as text; empty if there is none.
    pub default: &'static str,
    /// What it does, in one sentence.
    pub help: &'static str,
}

impl Key {
    /// The environment variable that overrides it.
    pub fn env(&self) -> String {
        let path = self.path.strip_prefix("node.").unwrap_or(self.path);
        format!("CURSORMESH_{}", path.replace('.', "_").to_uppercase())
    }

    /// The flag that overrides it, without dashes.
    pub fn flag(&self) -> String {
        let path = self.path.strip_prefix("node.").unwrap_or(self.path);
        path.replace(['.', '_'], "-")
    }

    /// What to write, for a remedy or a help text.
    pub fn expects(&self) -> String {
        let value = match self.kind {
            Kind::Integer { min, max } => format!("a whole number from {min} to {max}"),
            Kind::Label => {
                "1 to 63 characters of a-z, 0-9 and '-', not at either end a '-'".to_owned()
            }
            Kind::Text { bytes_max } => {
                format!("text of at most {bytes_max} bytes without control characters")
            }
            Kind::Choice(words) => words
                .iter()
                .map(|word| format!("\"{word}\""))
                .collect::<Vec<_>>()
                .join(" or "),
            Kind::Levels => "a level (off, error, warn, info, debug, trace), or a list such as \
                \"info,cursormesh_mesh=debug\""
                .to_owned(),
            Kind::Path => "a path".to_owned(),
            Kind::Address => "an IP address and a port, such as \"127.0.0.1:7171\" or \
                \"[::1]:7171\""
                .to_owned(),
            Kind::Addresses => "an IP address and a port, such as \"127.0.0.1:7071\" or \
                \"[::1]:7071\", or a list of them"
                .to_owned(),
            Kind::Prefixes => {
                "a path such as \"/ws\" (letters, digits, '-', '_' and '/'), or a list \
                of them"
                    .to_owned()
            }
            Kind::Seeds => "a list of node names from this file, addresses such as \
                \"10.0.0.1:7171\", host names with a port such as \"mesh.example.org:7171\", and SRV \
                names such as \"srv:_mesh._udp.example.org\""
                .to_owned(),
        };
        match (self.unit, self.default) {
            ("", "") => value,
            ("", default) => format!("{value} (default {default})"),
            (unit, "") => format!("{value} ({unit})"),
            (unit, default) => format!("{value} ({unit}; default {default})"),
        }
    }
}

/// All keys, in the order in which the shipped file documents them.
pub const KEYS: &[Key] = &[
    Key {
        path: "cluster",
        kind: Kind::Label,
        unit: "",
        default: "dev",
        help: "The cluster's name; a node whose certificate is for another cluster is refused",
    },
    Key {
        path: "web.message_bytes_max",
        kind: Kind::Integer {
            min: 1024,
            max: 131_072,
        },
        unit: "bytes",
        default: "65536",
        help: "Largest message a browser may send; a larger one closes its connection (1009)",
    },
    Key {
        path: "web.tick_ms",
        kind: Kind::Integer { min: 1, max: 1000 },
        unit: "milliseconds",
        default: "16",
        help: "Least time between two deliveries to a busy room; a quiet room delivers at once",
    },
    Key {
        path: "web.connections_max",
        kind: Kind::Integer {
            min: 1,
            max: 1_000_000,
        },
        unit: "connections",
        default: "10000",
        help: "Most browser connections at a time; further ones wait in the kernel's queue",
    },
    Key {
        path: "web.header_timeout_ms",
        kind: Kind::Integer {
            min: 100,
            max: 600_000,
        },
        unit: "milliseconds",
        default: "10000",
        help: "How long a client may take to send a request's headers",
    },
    Key {
        path: "web.threads",
        kind: Kind::Integer { min: 0, max: 1024 },
        unit: "threads",
        default: "0",
        help: "Threads that serve browsers; 0 is one per processor less one, at least one",
    },
    Key {
        path: "web.tls_certificate",
        kind: Kind::Path,
        unit: "",
        default: "",
        help: "Certificate chain (PEM) to serve browsers over TLS with, and only so; without it, in the clear",
    },
    Key {
        path: "web.tls_key",
        kind: Kind::Path,
        unit: "",
        default: "",
        help: "Private key (PEM) of web.tls_certificate",
    },
    Key {
        path: "web.outbox_bytes_max",
        kind: Kind::Integer {
            min: 4096,
            max: 16_777_216,
        },
        unit: "bytes",
        default: "262144",
        help: "Most bytes kept for one client that reads too slowly",
    },
    Key {
        path: "web.backlog_bytes_max",
        kind: Kind::Integer {
            min: 1_048_576,
            max: 1_099_511_627_776,
        },
        unit: "bytes",
        default: "16777216",
        help: "Most bytes kept for all clients that are stuck; past it those stuck for longest pay",
    },
    Key {
        path: "web.ping_interval_ms",
        kind: Kind::Integer {
            min: 100,
            max: 3_600_000,
        },
        unit: "milliseconds",
        default: "20000",
        help: "How often a connection is pinged",
    },
    Key {
        path: "web.ping_timeout_ms",
        kind: Kind::Integer {
            min: 100,
            max: 3_600_000,
        },
        unit: "milliseconds",
        default: "30000",
        help: "A connection that was silent for this long is closed; more than web.ping_interval_ms",
    },
    Key {
        path: "web.sockjs_prefixes",
        kind: Kind::Prefixes,
        unit: "",
        default: "/ws",
        help: "Where pages without working WebSockets find the tutorial's room by SockJS; an empty list: nowhere",
    },
    Key {
        path: "web.sockjs_client_url",
        kind: Kind::Text { bytes_max: 255 },
        unit: "",
        default: "https://cdn.jsdelivr.net/npm/sockjs-client@1/dist/sockjs.min.js",
        help: "The script of SockJS's iframe page: sockjs-client in the version that pages use",
    },
    Key {
        path: "web.sockjs_heartbeat_ms",
        kind: Kind::Integer {
            min: 100,
            max: 600_000,
        },
        unit: "milliseconds",
        default: "25000",
        help: "The longest silence while a SockJS client listens; then it is sent a heartbeat",
    },
    Key {
        path: "web.sockjs_disconnect_ms",
        kind: Kind::Integer {
            min: 100,
            max: 600_000,
        },
        unit: "milliseconds",
        default: "5000",
        help: "A SockJS session that nobody listens to for this long is over",
    },
    Key {
        path: "web.sockjs_response_bytes_max",
        kind: Kind::Integer {
            min: 1024,
            max: 1_073_741_824,
        },
        unit: "bytes",
        default: "131072",
        help: "An answer of SockJS that goes on ends after this much, and the client asks again",
    },
    Key {
        path: "mesh.seeds",
        kind: Kind::Seeds,
        unit: "",
        default: "all other nodes in the file",
        help: "Where a node looks for the others; one that answers is enough",
    },
    Key {
        path: "log.format",
        kind: Kind::Choice(&["text", "json"]),
        unit: "",
        default: "text",
        help: "How log lines are written (to standard error)",
    },
    Key {
        path: "log.level",
        kind: Kind::Levels,
        unit: "",
        default: "info",
        help: "What is logged, for all or per part",
    },
    Key {
        path: "tls.dir",
        kind: Kind::Path,
        unit: "",
        default: "",
        help: "Directory with one bundle NAME.pem per node, as `cursormesh cert node` writes it",
    },
    Key {
        path: "node.name",
        kind: Kind::Label,
        unit: "",
        default: "",
        help: "The node's name, as in its certificate",
    },
    Key {
        path: "node.region",
        kind: Kind::Text { bytes_max: 63 },
        unit: "",
        default: "default",
        help: "Where the node runs",
    },
    Key {
        path: "node.web",
        kind: Kind::Addresses,
        unit: "",
        default: "127.0.0.1:7071,[::1]:7071",
        help: "Where browsers connect (TCP)",
    },
    Key {
        path: "node.url",
        kind: Kind::Text { bytes_max: 255 },
        unit: "",
        default: "",
        help: "Where browsers reach this node's /v1 from outside, as a ws:// or wss:// address",
    },
    Key {
        path: "node.mesh",
        kind: Kind::Address,
        unit: "",
        default: "",
        help: "Where the node listens for other nodes (UDP)",
    },
    Key {
        path: "node.advertise",
        kind: Kind::Address,
        unit: "",
        default: "",
        help: "Where other nodes reach this one, if that is not its mesh address",
    },
    Key {
        path: "node.bundle",
        kind: Kind::Path,
        unit: "",
        default: "",
        help: "The node's certificate bundle; overrides tls.dir for this node",
    },
];

/// The key at `path`.
pub fn find(path: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.path == path)
}

/// The word of `known` that a misspelt `word` was most likely meant to be, if one is near enough.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|candidate| (distance(word, candidate), candidate))
        .min()
        .filter(|(distance, candidate)| *distance <= (candidate.len() / 3).max(1))
        .map(|(_, candidate)| candidate)
}

/// Edits (insert, delete, replace, swap of neighbours) between two words.
fn distance(a: &str, b: &str) -> usize {
    // A word from outside may be long; what is far longer than any key is no misspelt key.
    if a.len() > 64 {
        return usize::MAX;
    }
    let a: Vec<char> = a.chars().collect();
    let b: Vec<char> = b.chars().collect();
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            rows[i][j] = if i == 0 || j == 0 {
                i + j
            } else {
                let replace = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
                let mut best = replace.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
                if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                    best = best.min(rows[i - 2][j - 2] + 1);
                }
                best
            };
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn env_and_flag_follow_from_the_path() {
        let key = find("web.tick_ms").unwrap();
        assert_eq!(key.env(), "CURSORMESH_WEB_TICK_MS");
        assert_eq!(key.flag(), "web-tick-ms");
        let key = find("node.web").unwrap();
        assert_eq!(key.env(), "CURSORMESH_WEB");
        assert_eq!(key.flag(), "web");
    }

    #[test]
    fn no_two_keys_share_a_path_a_variable_or_a_flag() {
        for (index, key) in KEYS.iter().enumerate() {
            for other in &KEYS[index + 1..] {
                assert_ne!(key.path, other.path);
                assert_ne!(key.env(), other.env());
                assert_ne!(key.flag(), other.flag());
            }
        }
    }

    #[test]
    fn a_misspelt_word_finds_the_nearest_and_a_strange_one_finds_none() {
        let known = ["tick_ms", "connections_max", "region"];
        assert_eq!(nearest("tikc_ms", known), Some("tick_ms"));
        assert_eq!(nearest("connection_max", known), Some("connections_max"));
        assert_eq!(nearest("bananas", known), None);
        assert_eq!(nearest(&"x".repeat(100_000), known), None);
    }
}
