//! `cursormesh status`: asks a node over HTTP how it sees the mesh, and prints it.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use serde_json::Value;

/// How long one request may take in all.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// Pause between two looks while waiting for a node to be ready.
const POLL: Duration = Duration::from_millis(100);
/// Largest answer that is read, in bytes.
const ANSWER_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Why a node's state could not be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StatusError {
    /// The URL cannot be used.
    #[error("{url}: {problem}\n  remedy: give a node's address such as http://127.0.0.1:7071")]
    Url {
        /// As it was given.
        url: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// Nobody answered.
    #[error(
        "{url}: {problem}\n  remedy: start the node, or name another with --url URL, or with --config FILE \
         --node NAME"
    )]
    Unreachable {
        /// The node.
        url: String,
        /// What happened.
        problem: String,
    },
    /// Something answered that is not a node, or not one in order.
    #[error("{url}: {problem}\n  remedy: see what runs at this address, and its log")]
    Answer {
        /// The node.
        url: String,
        /// What it said.
        problem: String,
    },
    /// The node did not become ready in time.
    #[error("{url}: is not ready after {seconds} s: {problem}\n  remedy: see the node's log")]
    NotReady {
        /// The node.
        url: String,
        /// How long it was waited for.
        seconds: u64,
        /// What it said last.
        problem: String,
    },
}

/// A node's HTTP address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeUrl {
    authority: String,
}

impl NodeUrl {
    /// Takes `http://HOST:PORT`, with or without a `/` at the end; the port may be left out (80).
    pub fn parse(url: &str) -> Result<Self, StatusError> {
        let wrong = |problem| StatusError::Url {
            url: url.escape_debug().to_string(),
            problem,
        };
        let rest = match url.split_once("://") {
            Some(("http", rest)) => rest,
            Some(("https", _)) => {
                return Err(wrong(
                    "this asks over plain HTTP only: ask a node that serves browsers without TLS",
                ));
            }
            Some(_) => return Err(wrong("begins with something else than http://")),
            None => url,
        };
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        let is_plain = !authority.is_empty()
            && authority
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "-._:[]%".contains(c));
        if !is_plain {
            return Err(wrong("is not http://HOST:PORT"));
        }
        // A port stands after the last colon, unless that colon is inside [brackets].
        let has_port = authority
            .rsplit_once(':')
            .is_some_and(|(_, port)| !port.ends_with(']') && port.parse::<u16>().is_ok());
        let authority = if has_port {
            authority.to_owned()
        } else {
            format!("{authority}:80")
        };
        Ok(Self { authority })
    }

    /// The mesh as the node sees it, once it is ready if `wait` says how long to wait for that.
    pub fn cluster(&self, wait: Option<Duration>) -> Result<Value, StatusError> {
        if let Some(wait) = wait {
            self.wait_until_ready(wait)?;
        }
        let (status, body) = self.get("/api/cluster")?;
        let value: Option<Value> = serde_json::from_str(&body).ok();
        match value {
            Some(value) if status == 200 && value["node"].is_string() => Ok(value),
            _ => Err(self.answer(format!(
                "answered {status}, and not as a cursormesh node does"
            ))),
        }
    }

    fn wait_until_ready(&self, wait: Duration) -> Result<(), StatusError> {
        let begin = Instant::now();
        loop {
            let problem = match self.get("/readyz") {
                Ok((200, _)) => return Ok(()),
                Ok((_, body)) => body.trim().escape_debug().to_string(),
                Err(StatusError::Unreachable { problem, .. }) => problem,
                Err(error) => return Err(error),
            };
            if begin.elapsed() >= wait {
                return Err(StatusError::NotReady {
                    url: self.to_string(),
                    seconds: wait.as_secs(),
                    problem,
                });
            }
            std::thread::sleep(POLL);
        }
    }

    fn get(&self, path: &str) -> Result<(u16, String), StatusError> {
        let unreachable = |problem: String| StatusError::Unreachable {
            url: self.to_string(),
            problem,
        };
        let addrs = self
            .authority
            .to_socket_addrs()
            .map_err(|error| unreachable(error.to_string()))?;
        let deadline = Instant::now() + REQUEST_TIMEOUT;
        let mut problem = "the name has no address".to_owned();
        let mut stream = None;
        for addr in addrs {
            match TcpStream::connect_timeout(&addr, REQUEST_TIMEOUT) {
                Ok(connected) => {
                    stream = Some(connected);
                    break;
                }
                Err(error) => problem = error.to_string(),
            }
        }
        let mut stream = stream.ok_or_else(|| unreachable(problem))?;
        let failed = |error: std::io::Error| match error.kind() {
            std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut => {
                unreachable(format!("no answer within {} s", REQUEST_TIMEOUT.as_secs()))
            }
            _ => unreachable(error.to_string()),
        };
        stream
            .set_write_timeout(Some(REQUEST_TIMEOUT))
            .map_err(failed)?;
        // HTTP/1.0: the answer ends with the connection and is never in chunks.
        let request = format!("GET {path} HTTP/1.0\r\nHost: {}\r\n\r\n", self.authority);
        stream.write_all(request.as_bytes()).map_err(failed)?;
        let mut bytes = Vec::new();
        let mut chunk = vec![0; 64 * 1024];
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            stream
                .set_read_timeout(Some(left.max(Duration::from_millis(1))))
                .map_err(failed)?;
            let n = stream.read(&mut chunk).map_err(failed)?;
            bytes.extend_from_slice(&chunk[..n]);
            if n == 0 {
                break;
            }
            if bytes.len() as u64 > ANSWER_BYTES_MAX || Instant::now() >= deadline {
                return Err(self.answer("the answer does not end".to_owned()));
            }
        }
        parse_answer(&bytes).ok_or_else(|| self.answer("does not speak HTTP".to_owned()))
    }

    fn answer(&self, problem: String) -> StatusError {
        StatusError::Answer {
            url: self.to_string(),
            problem,
        }
    }
}

impl std::fmt::Display for NodeUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "http://{}", self.authority)
    }
}

fn parse_answer(bytes: &[u8]) -> Option<(u16, String)> {
    let text = String::from_utf8_lossy(bytes);
    let (head, body) = text.split_once("\r\n\r\n")?;
    let line = head.lines().next()?;
    let status = line
        .strip_prefix("HTTP/1.")?
        .split(' ')
        .nth(1)?
        .parse()
        .ok()?;
    Some((status, body.to_owned()))
}

/// The answer of `/api/cluster` as a table for people.
pub fn table(cluster: &Value) -> String {
    let peers = cluster["peers"].as_array().map_or(&[][..], Vec::as_slice);
    let linked = peers.iter().filter(|peer| peer["linked"] == true).count();
    let mut out = format!(
        "node {} of cluster {}, region {}: {} of {} peers linked\n",
        word(&cluster["node"]),
        word(&cluster["cluster"]),
        word(&cluster["region"]),
        linked,
        peers.len()
    );
    let _ = writeln!(out, "rooms here: {}", rooms(&cluster["rooms"]));
    for seed in cluster["seeds"].as_array().into_iter().flatten() {
        if seed["problem"].is_null() {
            continue;
        }
        let node = match &seed["node"] {
            Value::Null => String::new(),
            node => format!(" ({})", word(node)),
        };
        let _ = writeln!(
            out,
            "no link to seed {}{node}: {}",
            word(&seed["addr"]),
            word(&seed["problem"])
        );
    }
    if peers.is_empty() {
        return out;
    }
    let mut lines = vec![
        [
            "PEER", "REGION", "STATE", "PROTOCOL", "RTT", "RELAY", "MEMBERS", "ROOMS", "NOTE",
        ]
        .map(str::to_owned),
    ];
    for peer in peers {
        lines.push([
            word(&peer["node"]),
            word(&peer["region"]),
            state(peer),
            protocol(peer),
            peer["rtt_ms"]
                .as_f64()
                .map_or_else(|| "-".to_owned(), |ms| format!("{ms} ms")),
            word(&peer["relay"]),
            peer["rows"].to_string(),
            rooms(&peer["rooms"]),
            note(peer),
        ]);
    }
    let mut widths = [0; 9];
    for line in &lines {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = (*width).max(cell.chars().count());
        }
    }
    out.push('\n');
    for line in lines {
        let cells: Vec<String> = line
            .iter()
            .zip(widths)
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        let _ = writeln!(out, "{}", cells.join("  ").trim_end());
    }
    out
}

fn state(peer: &Value) -> String {
    let link = if peer["linked"] == true {
        "linked"
    } else {
        "no link"
    };
    format!("{}, {link}", word(&peer["state"]))
}

/// The protocol version of the link, if there is one and the node that is asked knows of versions.
fn protocol(peer: &Value) -> String {
    let version = peer["protocol"].as_u64();
    version.map_or_else(|| "-".to_owned(), |version| format!("v{version}"))
}

fn note(peer: &Value) -> String {
    let mut notes = Vec::new();
    if peer["visible"] == false {
        notes.push(format!("hidden: {}", word(&peer["hidden_because"])));
    }
    if peer["refused"].is_object() {
        notes.push(format!("refused: {}", word(&peer["refused"]["reason"])));
    }
    if peer["linked"] == false
        && let Some(age) = peer["evidence_age_ms"].as_f64()
    {
        notes.push(format!("last sign of life {:.1} s ago", age / 1000.0));
    }
    notes.join("; ")
}

fn rooms(rooms: &Value) -> String {
    const SHOWN: usize = 5;
    let names = rooms["names"].as_array().map_or(&[][..], Vec::as_slice);
    let count = rooms["count"].as_u64().unwrap_or(0);
    if count == 0 {
        return "-".to_owned();
    }
    let shown: Vec<String> = names.iter().take(SHOWN).map(word).collect();
    let more = count.saturating_sub(shown.len() as u64);
    if more > 0 {
        format!("{} and {more} more", shown.join(", "))
    } else {
        shown.join(", ")
    }
}

/// Text of a JSON value, safe for a terminal; `-` when there is none.
fn word(value: &Value) -> String {
    match value.as_str() {
        Some("") | None => "-".to_owned(),
        Some(text) => text
            .chars()
            .take(120)
            .map(|c| if c.is_control() { '?' } else { c })
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    #[test]
    fn urls_are_a_host_and_a_port() {
        let parsed = |url: &str| NodeUrl::parse(url).map(|url| url.to_string());
        assert_eq!(
            parsed("http://127.0.0.1:7071").unwrap(),
            "http://127.0.0.1:7071"
        );
        assert_eq!(
            parsed("http://127.0.0.1:7071/").unwrap(),
            "http://127.0.0.1:7071"
        );
        assert_eq!(parsed("127.0.0.1:7071").unwrap(), "http://127.0.0.1:7071");
        assert_eq!(parsed("http://[::1]:7071").unwrap(), "http://[::1]:7071");
        assert_eq!(parsed("http://[::1]").unwrap(), "http://[::1]:80");
        assert_eq!(parsed("http://n1.example").unwrap(), "http://n1.example:80");
        for bad in [
            "https://x",
            "ftp://x",
            "",
            "http://",
            "http://x/y",
            "http://a b",
            "http://x\r\nHost: y",
        ] {
            assert!(parsed(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_table_says_who_where_and_why() {
        let text = table(&json!({
            "node": "n1", "cluster": "dev", "region": "local",
            "rooms": {"count": 1, "names": ["lobby"]},
            "peers": [
                {"node": "n2", "region": "local", "state": "alive", "linked": true, "protocol": 2, "rtt_ms": 0.4, "relay": null,
                 "visible": true, "rows": 3, "rooms": {"count": 7, "names": ["a", "b", "c", "d", "e", "f", "g"]}, "refused": null},
                {"node": "n3", "region": "", "state": "down", "linked": false, "rtt_ms": null, "relay": null,
                 "visible": false, "hidden_because": "no\u{1b}[31m link", "evidence_age_ms": 4200.0, "rows": 0,
                 "rooms": {"count": 0, "names": []}, "refused": {"code": 3, "reason": "another cluster"}},
            ],
            "seeds": [
                {"addr": "10.0.0.2:7172", "node": "n2", "itself": false, "problem": null},
                {"addr": "10.0.0.4:7172", "node": null, "itself": false, "problem": "no answer"},
                {"addr": "10.0.0.5:7172", "node": "n5", "itself": false, "problem": "foreign\u{1b} CA"},
            ],
        }));
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[0],
            "node n1 of cluster dev, region local: 1 of 2 peers linked"
        );
        assert_eq!(lines[1], "rooms here: lobby");
        assert_eq!(lines[2], "no link to seed 10.0.0.4:7172: no answer");
        assert_eq!(lines[3], "no link to seed 10.0.0.5:7172 (n5): foreign? CA");
        let lines = &lines[2..];
        assert!(lines[3].starts_with("PEER  REGION  STATE "));
        assert!(
            lines[4].starts_with(
                "n2    local   alive, linked  v2        0.4 ms  -      3        a, b, c, d, e and 2 more"
            ),
            "{}",
            lines[4]
        );
        assert!(
            lines[5].ends_with(
                "hidden: no?[31m link; refused: another cluster; last sign of life 4.2 s ago"
            ),
            "{}",
            lines[5]
        );
    }

    #[test]
    fn a_strange_answer_is_no_panic() {
        for value in [
            json!(null),
            json!([]),
            json!({"peers": 3}),
            json!({"peers": [null, 1, {"rooms": "x"}]}),
        ] {
            table(&value);
        }
        assert_eq!(
            parse_answer(b"HTTP/1.1 200 OK\r\nA: b\r\n\r\nbody"),
            Some((200, "body".to_owned()))
        );
        assert_eq!(parse_answer(b"SSH-2.0-x\r\n"), None);
        assert_eq!(parse_answer(&[0xff; 100]), None);
    }

    #[test]
    fn nobody_there_is_said_with_the_remedy() {
        let url = NodeUrl::parse("http://127.0.0.1:1").unwrap();
        let error = url.cluster(None).unwrap_err().to_string();
        assert!(error.starts_with("http://127.0.0.1:1: "), "{error}");
        assert!(error.contains("remedy"), "{error}");
    }
}
