//! Answers as the protocol wants them: status, caching, cookies, and what other origins may see.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Response, StatusCode};
use warp::Reply as _;
use warp::reply::Response as Reply;

/// What is said about answers that are good once.
const NO_CACHE: &str = "no-store, no-cache, no-transform, must-revalidate, max-age=0";
/// What is said about answers that never change.
const YEAR: Duration = Duration::from_secs(31_536_000);
const CACHE_YEAR: &str = "public, max-age=31536000";
const COOKIE: &str = "JSESSIONID";
/// Bytes of a cookie that is said back.
const COOKIE_BYTES_MAX: usize = 256;

/// A plain text answer.
pub(super) fn text(status: StatusCode, body: impl Into<Bytes>) -> Reply {
    typed(status, "text/plain; charset=UTF-8", body)
}

/// An answer of another type.
pub(super) fn typed(
    status: StatusCode,
    content_type: &'static str,
    body: impl Into<Bytes>,
) -> Reply {
    let mut reply = Response::new(body.into().into());
    *reply.status_mut() = status;
    set(&mut reply, header::CONTENT_TYPE, content_type);
    reply
}

/// An answer that goes on: each item is a chunk of its own.
pub(super) fn stream(
    content_type: &'static str,
    items: impl Stream<Item = Bytes> + Send + Sync + 'static,
) -> Reply {
    let items = items.map(Ok::<_, std::convert::Infallible>);
    let mut reply = warp::reply::stream(items).into_response();
    set(&mut reply, header::CONTENT_TYPE, content_type);
    reply
}

/// An answer without a body or a type.
pub(super) fn empty(status: StatusCode) -> Reply {
    let mut reply = Response::new(Bytes::new().into());
    *reply.status_mut() = status;
    reply
}

/// The wrong method for a path.
pub(super) fn not_allowed(allow: &'static str) -> Reply {
    let mut reply = empty(StatusCode::METHOD_NOT_ALLOWED);
    set(&mut reply, header::ALLOW, allow);
    reply
}

/// What a browser asks before it sends a request to another origin.
pub(super) fn options(allow: &'static str) -> Reply {
    let mut reply = empty(StatusCode::NO_CONTENT);
    cache(&mut reply);
    set(&mut reply, header::ACCESS_CONTROL_ALLOW_METHODS, allow);
    set(&mut reply, header::ACCESS_CONTROL_MAX_AGE, "31536000");
    reply
}

/// Nobody keeps this answer.
pub(super) fn no_cache(reply: &mut Reply) {
    set(reply, header::CACHE_CONTROL, NO_CACHE);
}

/// Whoever wants may keep this answer for a year.
pub(super) fn cache(reply: &mut Reply) {
    set(reply, header::CACHE_CONTROL, CACHE_YEAR);
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    if let Ok(expires) = HeaderValue::try_from(http_date((now + YEAR).as_secs())) {
        reply.headers_mut().insert(header::EXPIRES, expires);
    }
}

/// Lets pages of other origins see the answer: that of the request is named, with its credentials.
pub(super) fn cors(reply: &mut Reply, request: &HeaderMap) {
    match request.get(header::ORIGIN) {
        Some(origin) => {
            let headers = reply.headers_mut();
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
            set(reply, header::ACCESS_CONTROL_ALLOW_CREDENTIALS, "true");
        }
        None => set(reply, header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
    }
    set(reply, header::VARY, "Origin");
    let asked = request.get(header::ACCESS_CONTROL_REQUEST_HEADERS);
    if let Some(asked) = asked.filter(|asked| !asked.is_empty()) {
        let headers = reply.headers_mut();
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, asked.clone());
    }
}

/// The cookie that load balancers may look at: as the client has it, or the first one.
pub(super) fn cookie(reply: &mut Reply, request: &HeaderMap) {
    let value = request
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(name, value)| *name == COOKIE && value.len() <= COOKIE_BYTES_MAX)
        .map_or("dummy", |(_, value)| value);
    if let Ok(line) = HeaderValue::try_from(format!("{COOKIE}={value}; path=/")) {
        reply.headers_mut().insert(header::SET_COOKIE, line);
    }
}

/// Sets a header to a fixed value.
pub(super) fn set(reply: &mut Reply, name: HeaderName, value: &'static str) {
    reply
        .headers_mut()
        .insert(name, HeaderValue::from_static(value));
}

/// A moment in seconds since the Unix epoch as HTTP writes it (RFC 9110 §5.6.7).
fn http_date(seconds: u64) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let days = seconds / 86_400;
    let weekday = DAYS[(days % 7) as usize];
    let divides = |by: u64, year: u64| year.is_multiple_of(by);
    let is_leap = |year| divides(4, year) && (!divides(100, year) || divides(400, year));
    let (mut year, mut left) = (1970, days);
    while left >= 365 + u64::from(is_leap(year)) {
        left -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let mut month = 0;
    loop {
        let length = match month {
            1 => 28 + u64::from(is_leap(year)),
            3 | 5 | 8 | 10 => 30,
            _ => 31,
        };
        if left < length {
            break;
        }
        left -= length;
        month += 1;
    }
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    let (day, month) = (left + 1, MONTHS[month]);
    format!("{weekday}, {day:02} {month} {year} {hour:02}:{minute:02}:{second:02} GMT")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_as_http_has_them() {
        assert_eq!(http_date(784_111_777), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(http_date(951_782_400), "Tue, 29 Feb 2000 00:00:00 GMT");
        assert_eq!(http_date(0), "Thu, 01 Jan 1970 00:00:00 GMT");
    }

    #[test]
    fn a_cookie_is_said_back() {
        let mut request = HeaderMap::new();
        let said = |request: &HeaderMap| {
            let mut reply = empty(StatusCode::OK);
            cookie(&mut reply, request);
            reply.headers()[header::SET_COOKIE].clone()
        };
        assert_eq!(said(&request), "JSESSIONID=dummy; path=/");
        let value = HeaderValue::from_static("a=b; JSESSIONID=x.n1; c=d");
        request.insert(header::COOKIE, value);
        assert_eq!(said(&request), "JSESSIONID=x.n1; path=/");
    }
}
