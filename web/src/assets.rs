//! What every node serves to browsers, built into the binary: the page at `/` and the client.

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

/// The part of the client that draws, loaded where a page asks for it.
static CLIENT_UI: Asset = Asset {
    body: include_str!("../dist/cursormesh-ui.mjs"),
    content_type: SCRIPT,
    shared: true,
    tag: LazyLock::new(|| tag(CLIENT_UI.body)),
};

/// A file of the client, by the path it is served at.
pub(crate) fn client(path: &str) -> Option<&'static Asset> {
    match path {
        "/cursormesh.js" => Some(&CLIENT),
        "/cursormesh.mjs" => Some(&CLIENT_MODULE),
        "/cursormesh-sockjs.mjs" => Some(&CLIENT_FALLBACK),
        "/cursormesh-nearest.mjs" => Some(&CLIENT_NEAREST),
        "/cursormesh-ui.mjs" => Some(&CLIENT_UI),
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
