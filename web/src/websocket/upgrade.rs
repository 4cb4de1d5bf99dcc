//! The opening handshake (RFC 6455 §4.2).

use http::{HeaderMap, HeaderName, Method, header};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

/// Why a request does not become a WebSocket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UpgradeError {
    /// Not a GET request.
    #[error("A WebSocket is opened with GET.")]
    Method,
    /// No upgrade asked for.
    #[error(
        "This address speaks WebSocket: connect with a WebSocket client. If you did, something in between took the Upgrade header away."
    )]
    NoUpgrade,
    /// Another version than 13.
    #[error("Only version 13 of the WebSocket protocol is spoken here.")]
    Version,
    /// No key, several, or none that is 16 bytes in base64.
    #[error("Sec-WebSocket-Key must be 16 bytes in base64, once.")]
    Key,
}

/// Checks an opening handshake; gives the value for `Sec-WebSocket-Accept`.
pub(crate) fn accept(method: &Method, headers: &HeaderMap) -> Result<String, UpgradeError> {
    if method != Method::GET {
        return Err(UpgradeError::Method);
    }
    if !lists(headers, header::CONNECTION, "upgrade")
        || !lists(headers, header::UPGRADE, "websocket")
    {
        return Err(UpgradeError::NoUpgrade);
    }
    if single(headers, header::SEC_WEBSOCKET_VERSION) != Some(b"13") {
        return Err(UpgradeError::Version);
    }
    let key = single(headers, header::SEC_WEBSOCKET_KEY)
        .filter(|key| is_key(key))
        .ok_or(UpgradeError::Key)?;
    Ok(derive_accept_key(key))
}

/// Whether a comma-separated header names `token`, in whatever case.
pub(crate) fn lists(headers: &HeaderMap, name: HeaderName, token: &str) -> bool {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|part| part.trim().eq_ignore_ascii_case(token))
}

/// The value of a header that is there exactly once.
fn single(headers: &HeaderMap, name: HeaderName) -> Option<&[u8]> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?;
    values
        .next()
        .is_none()
        .then(|| value.as_bytes().trim_ascii())
}

/// Whether `key` is the base64 of 16 bytes.
fn is_key(key: &[u8]) -> bool {
    let Some(digits) = key.strip_suffix(b"==") else {
        return false;
    };
    digits.len() == 22
        && digits
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/'))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn request(changes: &[(&str, Option<&str>)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let usual = [
            ("connection", "keep-alive, Upgrade"),
            ("upgrade", "WebSocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ];
        for (name, value) in usual {
            headers.insert(name, value.parse().unwrap());
        }
        for (name, value) in changes {
            let name: HeaderName = name.parse().unwrap();
            match value {
                Some(value) => headers.insert(name, value.parse().unwrap()),
                None => headers.remove(name),
            };
        }
        headers
    }

    fn refusal(changes: &[(&str, Option<&str>)]) -> UpgradeError {
        accept(&Method::GET, &request(changes)).unwrap_err()
    }

    #[test]
    fn the_example_of_the_rfc_is_accepted() {
        assert_eq!(
            accept(&Method::GET, &request(&[])).unwrap(),
            "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        );
    }

    #[test]
    fn what_is_no_opening_handshake_is_refused() {
        assert_eq!(
            accept(&Method::POST, &request(&[])),
            Err(UpgradeError::Method)
        );
        assert_eq!(refusal(&[("upgrade", None)]), UpgradeError::NoUpgrade);
        assert_eq!(
            refusal(&[("upgrade", Some("h2c"))]),
            UpgradeError::NoUpgrade
        );
        assert_eq!(
            refusal(&[("connection", Some("close"))]),
            UpgradeError::NoUpgrade
        );
        assert_eq!(
            refusal(&[("sec-websocket-version", Some("8"))]),
            UpgradeError::Version
        );
        assert_eq!(
            refusal(&[("sec-websocket-version", None)]),
            UpgradeError::Version
        );
        assert_eq!(refusal(&[("sec-websocket-key", None)]), UpgradeError::Key);
        assert_eq!(
            refusal(&[("sec-websocket-key", Some("c2hvcnQ="))]),
            UpgradeError::Key
        );
        assert_eq!(
            refusal(&[("sec-websocket-key", Some("dGhlIHNhbXBsZSBub25jZ!=="))]),
            UpgradeError::Key
        );
    }

    #[test]
    fn a_key_that_is_there_twice_is_refused() {
        let mut headers = request(&[]);
        headers.append(
            "sec-websocket-key",
            "dGhlIHNhbXBsZSBub25jZQ==".parse().unwrap(),
        );
        assert_eq!(accept(&Method::GET, &headers), Err(UpgradeError::Key));
    }
}
