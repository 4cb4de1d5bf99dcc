//! `/v1/nodes`: the nodes that a browser may go to.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;
use warp::reply::Response as Reply;

use crate::cluster::Directory;
use crate::routes::{Context, respond};

/// Nodes in one listing.
const NODES_MAX: usize = 256;
/// For so long one listing answers everybody: anybody may ask, as often as they like.
const SHOWN_FOR: Duration = Duration::from_secs(1);

/// The listing as it was made last.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    shown: Mutex<Option<(Instant, Bytes)>>,
}

impl Listing {
    /// The listing in JSON, at most a second old at `now`.
    fn at(&self, now: Instant, directory: &dyn Directory) -> serde_json::Result<Bytes> {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((made, body)) = &*shown
            && now.saturating_duration_since(*made) < SHOWN_FOR
        {
            return Ok(body.clone());
        }
        let body = Bytes::from(render(directory)?);
        *shown = Some((now, body.clone()));
        Ok(body)
    }
}

/// `{"node", "nodes": [{"node", "region", "url", "rtt_ms"}]}` for pages of any origin.
pub(crate) fn nodes(context: &Context) -> Reply {
    match context
        .listing
        .at(Instant::now(), context.directory.as_ref())
    {
        Ok(body) => {
            let mut reply = respond(StatusCode::OK, "application/json", body);
            reply.headers_mut().insert(
                header::ACCESS_CONTROL_ALLOW_ORIGIN,
                HeaderValue::from_static("*"),
            );
            reply
        }
        Err(error) => crate::admin::error(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

fn render(directory: &dyn Directory) -> serde_json::Result<Vec<u8>> {
    #[derive(Serialize)]
    struct Nodes {
        node: String,
        nodes: Vec<Near>,
    }
    #[derive(Serialize)]
    struct Near {
        node: String,
        region: String,
        url: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        rtt_ms: Option<f64>,
    }
    let nodes = directory.nearest().into_iter().take(NODES_MAX);
    serde_json::to_vec(&Nodes {
        node: directory.node(),
        nodes: nodes
            .map(|near| Near {
                node: near.node,
                region: near.region,
                url: near.url,
                rtt_ms: near.rtt.map(round_ms),
            })
            .collect(),
    })
}

/// Milliseconds to a hundredth.
fn round_ms(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 100_000.0).round() / 100.0
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::atomic::{AtomicUsize, Ordering};

    use serde_json::{Value, json};
    use uuid::Uuid;

    use super::*;
    use crate::cluster::{Member, NearNode, NodeSummary, RoomSummary};

    /// A cluster of so many nodes, and how often it was asked for them.
    struct Many(usize, AtomicUsize);

    impl Directory for Many {
        fn node(&self) -> String {
            "n0".to_owned()
        }
        fn rooms(&self, _: usize) -> Vec<RoomSummary> {
            Vec::new()
        }
        fn members(&self, _: &str) -> Vec<Member> {
            Vec::new()
        }
        fn member(&self, _: &str, _: Uuid) -> Option<Member> {
            None
        }
        fn nodes(&self) -> Vec<NodeSummary> {
            Vec::new()
        }
        fn nearest(&self) -> Vec<NearNode> {
            self.1.fetch_add(1, Ordering::Relaxed);
            let near = |index| NearNode {
                node: format!("n{index}"),
                region: "eu".to_owned(),
                url: format!("wss://n{index}.example.org/v1"),
                rtt: (index > 0).then(|| Duration::from_micros(1_234)),
            };
            (0..self.0).map(near).collect()
        }
        fn count(&self, _: &str) -> usize {
            0
        }
        fn cluster(&self) -> Value {
            Value::Null
        }
        fn ready(&self) -> Result<(), String> {
            Ok(())
        }
        fn metrics(&self) -> String {
            String::new()
        }
    }

    fn asked(cluster: &Many) -> usize {
        cluster.1.load(Ordering::Relaxed)
    }

    #[test]
    fn a_listing_says_who_answers_and_where_the_nodes_are() {
        let cluster = Many(2, AtomicUsize::default());
        let body = Listing::default().at(Instant::now(), &cluster).unwrap();
        let told: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(
            told,
            json!({"node": "n0", "nodes": [
                {"node": "n0", "region": "eu", "url": "wss://n0.example.org/v1"},
                {"node": "n1", "region": "eu", "url": "wss://n1.example.org/v1", "rtt_ms": 1.23},
            ]})
        );
    }

    #[test]
    fn a_listing_is_bounded_and_made_at_most_once_a_second() {
        let cluster = Many(100_000, AtomicUsize::default());
        let listing = Listing::default();
        let began = Instant::now();
        let first = listing.at(began, &cluster).unwrap();
        let told: Value = serde_json::from_slice(&first).unwrap();
        assert_eq!(told["nodes"].as_array().unwrap().len(), NODES_MAX);
        for ms in [0, 1, 999] {
            let again = listing.at(began + Duration::from_millis(ms), &cluster);
            assert_eq!(again.unwrap(), first);
        }
        assert_eq!(asked(&cluster), 1);
        listing.at(began + SHOWN_FOR, &cluster).unwrap();
        assert_eq!(asked(&cluster), 2);
    }
}
