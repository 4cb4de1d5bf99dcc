//! `/api/dev`: levers to break a cluster with, for people who try it out on their own machine.
//!
//! Whoever reaches them can stop the node, so they are there only on a node that was started so and
//! listens on loopback addresses alone; and since any page in a browser on this machine could ask, only
//! pages from loopback addresses are heard, under a loopback name (a name of somebody else's that leads
//! here is none).

use std::net::IpAddr;

use bytes::Bytes;
use http::uri::Authority;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use serde::Deserialize;
use warp::reply::Response as Reply;

use crate::admin;
use crate::routes::respond;

/// A request's body; the longest command is a name.
pub(crate) const BODY_BYTES_MAX: u64 = 4 * 1024;

/// A page of another origin may send it only after it was allowed to.
const TOKEN: &str = "x-cursormesh-dev";

/// What the levers are connected to.
pub trait Levers: Send + Sync + 'static {
    /// Nothing passes between this node and another one any more. `Err`: what is wrong with the name.
    fn cut(&self, node: &str) -> Result<(), String>;
    /// Ends the cut from a node, or all.
    fn heal(&self, node: Option<&str>) -> Result<(), String>;
    /// The node stops, as it is told to by a signal.
    fn stop(&self);
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Argument {
    peer: Option<String>,
}

/// Pulls a lever: 204, or an error in JSON.
pub(crate) fn pull(
    levers: Option<&dyn Levers>,
    command: &str,
    method: &Method,
    headers: &HeaderMap,
    body: &Bytes,
) -> Reply {
    let Some(levers) = levers else {
        let message = "This node was not started with --dev.";
        return admin::error(StatusCode::NOT_FOUND, message);
    };
    if !is_from_here(headers) {
        let message = "Only pages from a loopback address of this machine may ask for this.";
        return admin::error(StatusCode::FORBIDDEN, message);
    }
    let reply = match *method {
        Method::OPTIONS => allowed(),
        Method::POST if headers.contains_key(TOKEN) => act(levers, command, body),
        Method::POST => {
            let message = "The header x-cursormesh-dev is missing.";
            admin::error(StatusCode::FORBIDDEN, message)
        }
        _ => {
            let message = "This address is for POST.";
            let mut reply = admin::error(StatusCode::METHOD_NOT_ALLOWED, message);
            let allow = HeaderValue::from_static("POST");
            reply.headers_mut().insert(header::ALLOW, allow);
            reply
        }
    };
    shared(reply, headers)
}

fn act(levers: &dyn Levers, command: &str, body: &Bytes) -> Reply {
    let argument: Argument = match body.is_empty() {
        true => Argument::default(),
        false => match serde_json::from_slice(body) {
            Ok(argument) => argument,
            Err(error) => {
                let message = format!("The body is not {{\"peer\": NAME}}: {error}.");
                return admin::error(StatusCode::BAD_REQUEST, &message);
            }
        },
    };
    let done = match (command, argument.peer) {
        ("cut", Some(peer)) => levers.cut(&peer),
        ("heal", peer) => levers.heal(peer.as_deref()),
        ("stop", None) => {
            levers.stop();
            Ok(())
        }
        ("cut", None) => Err("Which node? {\"peer\": NAME}.".to_owned()),
        ("stop", Some(_)) => Err("A node stops itself alone.".to_owned()),
        _ => {
            let message = "There are cut, heal and stop.";
            return admin::error(StatusCode::NOT_FOUND, message);
        }
    };
    match done {
        Ok(()) => empty(),
        Err(message) => admin::error(StatusCode::BAD_REQUEST, &message),
    }
}

/// Lets pages of other loopback origins read an answer, where there are levers.
pub(crate) fn shared(mut reply: Reply, headers: &HeaderMap) -> Reply {
    let origin = headers.get(header::ORIGIN);
    if let Some(origin) = origin.filter(|origin| is_loopback_origin(origin)) {
        let headers = reply.headers_mut();
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        headers.insert(header::VARY, HeaderValue::from_static("origin"));
    }
    reply
}

fn allowed() -> Reply {
    let mut reply = empty();
    let headers = reply.headers_mut();
    let mut allow = |name, value| headers.insert(name, HeaderValue::from_static(value));
    allow(header::ACCESS_CONTROL_ALLOW_METHODS, "POST");
    allow(
        header::ACCESS_CONTROL_ALLOW_HEADERS,
        "content-type, x-cursormesh-dev",
    );
    reply
}

fn empty() -> Reply {
    let mut reply = respond(StatusCode::NO_CONTENT, "application/json", Bytes::new());
    reply.headers_mut().remove(header::CONTENT_TYPE);
    reply
}

/// Whether a request was addressed to a loopback name, by no page or by one from there.
fn is_from_here(headers: &HeaderMap) -> bool {
    let host = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok());
    let here = host
        .and_then(|host| host.parse::<Authority>().ok())
        .is_some_and(|host| is_loopback(host.host()));
    here && headers.get(header::ORIGIN).is_none_or(is_loopback_origin)
}

fn is_loopback_origin(origin: &HeaderValue) -> bool {
    let uri = origin
        .to_str()
        .ok()
        .and_then(|text| text.parse::<Uri>().ok());
    uri.is_some_and(|uri| uri.host().is_some_and(is_loopback))
}

fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost")
        || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Mutex;

    use super::*;

    #[derive(Default)]
    struct Pulled(Mutex<Vec<String>>);

    impl Levers for Pulled {
        fn cut(&self, node: &str) -> Result<(), String> {
            self.0.lock().unwrap().push(format!("cut {node}"));
            match node {
                "n1" => Err("that is this node".to_owned()),
                _ => Ok(()),
            }
        }
        fn heal(&self, node: Option<&str>) -> Result<(), String> {
            self.0.lock().unwrap().push(format!("heal {node:?}"));
            Ok(())
        }
        fn stop(&self) {
            self.0.lock().unwrap().push("stop".to_owned());
        }
    }

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
            .collect::<HeaderMap>()
    }

    fn post(
        levers: &Pulled,
        command: &str,
        pairs: &[(&'static str, &str)],
        body: &'static str,
    ) -> u16 {
        let body = Bytes::from_static(body.as_bytes());
        let reply = pull(Some(levers), command, &Method::POST, &headers(pairs), &body);
        reply.status().as_u16()
    }

    const HERE: [(&str, &str); 2] = [("host", "127.0.0.1:7071"), (TOKEN, "1")];

    #[test]
    fn levers_are_pulled() {
        let levers = Pulled::default();
        assert_eq!(post(&levers, "cut", &HERE, r#"{"peer":"n3"}"#), 204);
        assert_eq!(post(&levers, "heal", &HERE, r#"{"peer":"n3"}"#), 204);
        assert_eq!(post(&levers, "heal", &HERE, ""), 204);
        assert_eq!(post(&levers, "stop", &HERE, "{}"), 204);
        let pulled = levers.0.lock().unwrap();
        assert_eq!(
            *pulled,
            ["cut n3", "heal Some(\"n3\")", "heal None", "stop"]
        );
    }

    #[test]
    fn what_is_wrong_is_told() {
        let levers = Pulled::default();
        assert_eq!(post(&levers, "cut", &HERE, r#"{"peer":"n1"}"#), 400);
        assert_eq!(post(&levers, "cut", &HERE, "{}"), 400);
        assert_eq!(post(&levers, "stop", &HERE, r#"{"peer":"n1"}"#), 400);
        assert_eq!(post(&levers, "cut", &HERE, r#"{"node":"n3"}"#), 400);
        assert_eq!(post(&levers, "cut", &HERE, "["), 400);
        assert_eq!(post(&levers, "burn", &HERE, "{}"), 404);
        assert_eq!(*levers.0.lock().unwrap(), ["cut n1"]);
        let body = Bytes::new();
        let none = pull(None, "stop", &Method::POST, &headers(&HERE), &body);
        assert_eq!(none.status(), StatusCode::NOT_FOUND);
        let get = pull(Some(&levers), "stop", &Method::GET, &headers(&HERE), &body);
        assert_eq!(get.status(), StatusCode::METHOD_NOT_ALLOWED);
    }

    #[test]
    fn only_pages_of_this_machine_are_heard() {
        let levers = Pulled::default();
        let from = |host, origin| {
            let pairs = [("host", host), ("origin", origin), (TOKEN, "1")];
            post(&levers, "heal", &pairs, "")
        };
        for (host, origin) in [
            ("localhost:7071", "http://localhost:7071"),
            ("LOCALHOST:7071", "http://127.0.0.1:7081"),
            ("[::1]:7071", "http://[::1]:7071"),
            ("127.3.2.1", "https://127.0.0.1"),
        ] {
            assert_eq!(from(host, origin), 204, "{host} {origin}");
        }
        for (host, origin) in [
            (
                "rebound.example.org:7071",
                "http://rebound.example.org:7071",
            ),
            ("localhost.example.org", "http://localhost"),
            ("localhost:7071", "http://example.org"),
            ("localhost:7071", "null"),
            ("10.0.0.1:7071", "http://localhost"),
        ] {
            assert_eq!(from(host, origin), 403, "{host} {origin}");
        }
        assert_eq!(post(&levers, "stop", &[(TOKEN, "1")], ""), 403);
        assert_eq!(post(&levers, "stop", &[("host", "localhost")], ""), 403);
        assert_eq!(levers.0.lock().unwrap().len(), 4);
    }

    #[test]
    fn a_page_of_another_port_may_ask_and_read() {
        let levers = Pulled::default();
        let pairs = [
            ("host", "localhost:7071"),
            ("origin", "http://localhost:7081"),
        ];
        let reply = pull(
            Some(&levers),
            "cut",
            &Method::OPTIONS,
            &headers(&pairs),
            &Bytes::new(),
        );
        assert_eq!(reply.status(), StatusCode::NO_CONTENT);
        let told = |name| reply.headers().get(name).unwrap().to_str().unwrap();
        assert_eq!(told("access-control-allow-origin"), "http://localhost:7081");
        assert!(told("access-control-allow-headers").contains(TOKEN));
        assert!(levers.0.lock().unwrap().is_empty());
    }
}
