//! What every node serves to browsers, built into the binary: the page at `/`, the client, and the
//! page at `/dashboard`.

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

const SCRIPT: &str = "text/javascript; charset=utf-8";

/// The page.
pub(crate) static PAGE: Asset = Asset {
    body: include_str!("../demo/index.html"),
    content_type: "text/html; charset=utf-8",
    shared: false,
    tag: LazyLock::new(|| tag(PAGE.body)),
};

/// The client, for a script tag.
static CLIENT: Asset = Asset {
    body: include_str!("../dist/cursormesh.js"),
    content_type: SCRIPT,
    shared: true,
    tag: LazyLock::new(|| tag(CLIENT.body)),
};

/// The client, as a module.
static CLIENT_MODULE: Asset = Asset {
    body: include_str!("../dist/cursormesh.mjs"),
    content_type: SCRIPT,
    shared: true,
    tag: LazyLock::new(|| tag(CLIENT_MODULE.body)),
};

/// The part of the client that is loaded only where WebSocket fails.
static CLIENT_FALLBACK: Asset = Asset {
    body: include_str!("../dist/cursormesh-sockjs.mjs"),
    content_type: SCRIPT,
    shared: true,
    tag: LazyLock::new(|| tag(CLIENT_FALLBACK.body)),
};

/// The part of the client that finds the nearest node, loaded once it is connected.
static CLIENT_NEAREST: Asset = Asset {
    body: include_str!("../dist/cursormesh-nearest.mjs"),
    content_type: SCRIPT,
    shared: true,
    tag: LazyLock::new(|| tag(CLIENT_NEAREST.body)),
};

/// A file of the client, by the path it is served at.
pub(crate) fn client(path: &str) -> Option<&'static Asset> {
    match path {
        "/cursormesh.js" => Some(&CLIENT),
        "/cursormesh.mjs" => Some(&CLIENT_MODULE),
        "/cursormesh-sockjs.mjs" => Some(&CLIENT_FALLBACK),
        "/cursormesh-nearest.mjs" => Some(&CLIENT_NEAREST),
        _ => dashboard(path),
    }
}

/// A file of `web/dashboard`, of that content type.
macro_rules! dashboard_file {
    ($file:literal, $content_type:expr) => {{
        static FILE: Asset = Asset {
            body: include_str!(concat!("../dashboard/", $file)),
            content_type: $content_type,
            shared: false,
            tag: LazyLock::new(|| tag(FILE.body)),
        };
        Some(&FILE)
    }};
}

/// A file of the page that shows the mesh, by the path it is served at.
fn dashboard(path: &str) -> Option<&'static Asset> {
    match path {
        "/dashboard" => dashboard_file!("index.html", "text/html; charset=utf-8"),
        "/dashboard/dashboard.css" => dashboard_file!("dashboard.css", "text/css; charset=utf-8"),
        "/dashboard/icon.svg" => dashboard_file!("icon.svg", "image/svg+xml"),
        "/dashboard/dashboard.mjs" => dashboard_file!("dashboard.mjs", SCRIPT),
        "/dashboard/actions.mjs" => dashboard_file!("actions.mjs", SCRIPT),
        "/dashboard/address.mjs" => dashboard_file!("address.mjs", SCRIPT),
        "/dashboard/changes.mjs" => dashboard_file!("changes.mjs", SCRIPT),
        "/dashboard/chosen.mjs" => dashboard_file!("chosen.mjs", SCRIPT),
        "/dashboard/elements.mjs" => dashboard_file!("elements.mjs", SCRIPT),
        "/dashboard/layout.mjs" => dashboard_file!("layout.mjs", SCRIPT),
        "/dashboard/mesh.mjs" => dashboard_file!("mesh.mjs", SCRIPT),
        "/dashboard/motion.mjs" => dashboard_file!("motion.mjs", SCRIPT),
        "/dashboard/news.mjs" => dashboard_file!("news.mjs", SCRIPT),
        "/dashboard/picture.mjs" => dashboard_file!("picture.mjs", SCRIPT),
        "/dashboard/poll.mjs" => dashboard_file!("poll.mjs", SCRIPT),
        "/dashboard/tables.mjs" => dashboard_file!("tables.mjs", SCRIPT),
        "/dashboard/traffic.mjs" => dashboard_file!("traffic.mjs", SCRIPT),
        "/dashboard/words.mjs" => dashboard_file!("words.mjs", SCRIPT),
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
