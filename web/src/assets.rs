//! What every node serves to browsers, built into the binary: the page at `/` with its files, the
//! tutorial's page and the client.

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

/// The files of the page and the tutorial's page, and `demo`, which finds them.
macro_rules! demo {
    ($($name:ident $path:literal $file:literal $content_type:expr;)*) => {
        $(static $name: Asset = Asset {
            body: include_str!($file),
            content_type: $content_type,
            shared: false,
            tag: LazyLock::new(|| tag($name.body)),
        };)*

        /// A file of the page, by the path it is served at.
        fn demo(path: &str) -> Option<&'static Asset> {
            match path {
                $($path => Some(&$name),)*
                _ => None,
            }
        }
    };
}

demo! {
    TUTORIAL "/tutorial" "../demo/tutorial.html" "text/html; charset=utf-8";
    DEMO_ICON "/demo/icon.svg" "../demo/icon.svg" "image/svg+xml";
    DEMO_STYLE "/demo/demo.css" "../demo/demo.css" "text/css; charset=utf-8";
    DEMO "/demo/demo.mjs" "../demo/demo.mjs" SCRIPT;
    DEMO_BOTS "/demo/bots.mjs" "../demo/bots.mjs" SCRIPT;
    DEMO_CHAT "/demo/chat.mjs" "../demo/chat.mjs" SCRIPT;
    DEMO_EDGES "/demo/edges.mjs" "../demo/edges.mjs" SCRIPT;
    DEMO_FOLLOWING "/demo/following.mjs" "../demo/following.mjs" SCRIPT;
    DEMO_MAKE "/demo/make.mjs" "../demo/make.mjs" SCRIPT;
    DEMO_NODES "/demo/nodes.mjs" "../demo/nodes.mjs" SCRIPT;
    DEMO_PEOPLE "/demo/people.mjs" "../demo/people.mjs" SCRIPT;
    DEMO_PERSON "/demo/person.mjs" "../demo/person.mjs" SCRIPT;
    DEMO_REACTIONS "/demo/reactions.mjs" "../demo/reactions.mjs" SCRIPT;
    DEMO_STATUS "/demo/status.mjs" "../demo/status.mjs" SCRIPT;
    DEMO_WANDER "/demo/wander.mjs" "../demo/wander.mjs" SCRIPT;
    DEMO_WAY "/demo/way.mjs" "../demo/way.mjs" SCRIPT;
}

/// A file beside the page at `/`, by the path it is served at.
pub(crate) fn file(path: &str) -> Option<&'static Asset> {
    client(path).or_else(|| demo(path))
}

/// A file of the client, by the path it is served at.
fn client(path: &str) -> Option<&'static Asset> {
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
