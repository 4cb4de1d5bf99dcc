//! The page that every node serves at `/`, built into the binary.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::LazyLock;

use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use warp::reply::Response as Reply;

use crate::routes::respond;

static PAGE: &str = include_str!("../demo/index.html");

/// Changes with the page, so that a browser that has it is not sent it again.
static PAGE_TAG: LazyLock<String> = LazyLock::new(|| {
    let mut hasher = DefaultHasher::new();
    PAGE.hash(&mut hasher);
    format!("\"{:016x}\"", hasher.finish())
});

/// The page, or 304 if the browser says that it has it.
pub(crate) fn page(if_none_match: Option<&HeaderValue>) -> Reply {
    let tag = PAGE_TAG.as_str();
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
        (StatusCode::OK, PAGE)
    };
    let mut reply = respond(
        status,
        "text/html; charset=utf-8",
        Bytes::from_static(body.as_bytes()),
    );
    let headers = reply.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    if let Ok(tag) = HeaderValue::from_str(tag) {
        headers.insert(header::ETAG, tag);
    }
    reply
}
