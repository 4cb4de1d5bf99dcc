//! What every node serves to browsers, built into the binary: the page at `/`, the tutorial's page, the
//! page at `/dashboard`, and the client.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::LazyLock;

use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use warp::reply::Response as Reply;

use crate::routes::respond;

/// A file in the binary.
pub(crate) struct Asset {
    body: &'static str,
    content_type: &'static str,
    /// Whether pages of other origins may load it.
    shared: bool,
    /// Changes with the file, so that a browser that has it is not sent it again.
    tag: LazyLock<String>,
}

const PAGE: &str = "text/html; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const ICON: &str = "image/svg+xml";

/// A file of this crate, of that content type; with `shared` for pages of any origin.
macro_rules! asset {
    ($file:literal, $content_type:expr) => {
        asset!($file, $content_type, false)
    };
    ($file:literal, $content_type:expr, shared) => {
        asset!($file, $content_type, true)
    };
    ($file:literal, $content_type:expr, $shared:literal) => {{
        static FILE: Asset = Asset {
            body: include_str!(concat!("../", $file)),
            content_type: $content_type,
            shared: $shared,
            tag: LazyLock::new(|| tag(FILE.body)),
        };
        Some(&FILE)
    }};
}

/// A file, by the path it is served at.
pub(crate) fn file(path: &str) -> Option<&'static Asset> {
    match path {
        "/" => asset!("demo/index.html", PAGE),
        "/tutorial" => asset!("demo/tutorial.html", PAGE),
        "/dashboard" => asset!("dashboard/index.html", PAGE),
        "/cursormesh.js" => asset!("dist/cursormesh.js", SCRIPT, shared),
        "/cursormesh.mjs" => asset!("dist/cursormesh.mjs", SCRIPT, shared),
        "/cursormesh-sockjs.mjs" => asset!("dist/cursormesh-sockjs.mjs", SCRIPT, shared),
        "/cursormesh-nearest.mjs" => asset!("dist/cursormesh-nearest.mjs", SCRIPT, shared),
        "/cursormesh-ui.mjs" => asset!("dist/cursormesh-ui.mjs", SCRIPT, shared),
        "/demo/demo.css" => asset!("demo/demo.css", STYLE),
        "/demo/icon.svg" => asset!("demo/icon.svg", ICON),
        "/demo/demo.mjs" => asset!("demo/demo.mjs", SCRIPT),
        "/demo/bots.mjs" => asset!("demo/bots.mjs", SCRIPT),
        "/demo/chat.mjs" => asset!("demo/chat.mjs", SCRIPT),
        "/demo/edges.mjs" => asset!("demo/edges.mjs", SCRIPT),
        "/demo/following.mjs" => asset!("demo/following.mjs", SCRIPT),
        "/demo/make.mjs" => asset!("demo/make.mjs", SCRIPT),
        "/demo/nodes.mjs" => asset!("demo/nodes.mjs", SCRIPT),
        "/demo/people.mjs" => asset!("demo/people.mjs", SCRIPT),
        "/demo/person.mjs" => asset!("demo/person.mjs", SCRIPT),
        "/demo/reactions.mjs" => asset!("demo/reactions.mjs", SCRIPT),
        "/demo/status.mjs" => asset!("demo/status.mjs", SCRIPT),
        "/demo/wander.mjs" => asset!("demo/wander.mjs", SCRIPT),
        "/demo/way.mjs" => asset!("demo/way.mjs", SCRIPT),
        "/dashboard/dashboard.css" => asset!("dashboard/dashboard.css", STYLE),
        "/dashboard/icon.svg" => asset!("dashboard/icon.svg", ICON),
        "/dashboard/dashboard.mjs" => asset!("dashboard/dashboard.mjs", SCRIPT),
        "/dashboard/actions.mjs" => asset!("dashboard/actions.mjs", SCRIPT),
        "/dashboard/address.mjs" => asset!("dashboard/address.mjs", SCRIPT),
        "/dashboard/changes.mjs" => asset!("dashboard/changes.mjs", SCRIPT),
        "/dashboard/chosen.mjs" => asset!("dashboard/chosen.mjs", SCRIPT),
        "/dashboard/elements.mjs" => asset!("dashboard/elements.mjs", SCRIPT),
        "/dashboard/layout.mjs" => asset!("dashboard/layout.mjs", SCRIPT),
        "/dashboard/mesh.mjs" => asset!("dashboard/mesh.mjs", SCRIPT),
        "/dashboard/motion.mjs" => asset!("dashboard/motion.mjs", SCRIPT),
        "/dashboard/news.mjs" => asset!("dashboard/news.mjs", SCRIPT),
        "/dashboard/picture.mjs" => asset!("dashboard/picture.mjs", SCRIPT),
        "/dashboard/poll.mjs" => asset!("dashboard/poll.mjs", SCRIPT),
        "/dashboard/tables.mjs" => asset!("dashboard/tables.mjs", SCRIPT),
        "/dashboard/traffic.mjs" => asset!("dashboard/traffic.mjs", SCRIPT),
        "/dashboard/words.mjs" => asset!("dashboard/words.mjs", SCRIPT),
        _ => None,
    }
}

impl Asset {
    /// The file, or 304 if the browser says that it has it.
    pub(crate) fn serve(&self, if_none_match: Option<&HeaderValue>) -> Reply {
        let tag = self.tag.as_str();
        let known = if_none_match
            .and_then(|value| value.to_str().ok())
            .is_some_and(|value| {
                value
                    .split(',')
                    .any(|part| part.trim().trim_start_matches("W/") == tag)
            });
        let (status, body) = if known {
            (StatusCode::NOT_MODIFIED, "")
        } else {
            (StatusCode::OK, self.body)
        };
        let mut reply = respond(
            status,
            self.content_type,
            Bytes::from_static(body.as_bytes()),
        );
        let headers = reply.headers_mut();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        if self.shared {
            headers.insert(
                header::ACCESS_CONTROL_ALLOW_ORIGIN,
                HeaderValue::from_static("*"),
            );
        }
        if let Ok(tag) = HeaderValue::from_str(tag) {
            headers.insert(header::ETAG, tag);
        }
        reply
    }
}

fn tag(body: &str) -> String {
    let mut hasher = DefaultHasher::new();
    body.hash(&mut hasher);
    format!("\"{:016x}\"", hasher.finish())
}
