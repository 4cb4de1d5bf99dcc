//! What is served under which prefix.

use crate::config::Config;
use crate::session::dialect::Dialect;

/// The prefix of protocol v1.
pub(crate) const V1_PREFIX: &str = "/v1/sockjs";

/// The limit on answers that the public test suite counts on, in bytes.
const CONFORMANCE_RESPONSE_BYTES: usize = 4096;

/// A SockJS service.
#[derive(Debug, Clone)]
pub(crate) struct Service {
    /// Its path, without a slash at the end.
    pub(crate) prefix: String,
    /// What its sessions speak.
    pub(super) speaks: Speaks,
    /// Whether WebSockets are served.
    pub(super) websocket: bool,
    /// Whether answers set the cookie that load balancers may look at.
    pub(super) cookies: bool,
    /// Bytes after which an answer that goes on ends.
    pub(super) response_bytes_max: usize,
}

/// What the sessions of a service speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Speaks {
    Tutorial,
    V1,
    Echo,
    Closing,
}

impl Service {
    /// What a session speaks whose first request names this room.
    pub(super) fn dialect(&self, room: String) -> Dialect {
        match self.speaks {
            Speaks::Tutorial => Dialect::Tutorial(room),
            Speaks::V1 => Dialect::V1 { binary: false },
            Speaks::Echo => Dialect::Echo,
            Speaks::Closing => Dialect::Closing,
        }
    }

    /// The rest of a path that lies under the prefix: empty, or begins with a slash.
    pub(super) fn rest<'a>(&self, path: &'a str) -> Option<&'a str> {
        let rest = path.strip_prefix(self.prefix.as_str())?;
        (rest.is_empty() || rest.starts_with('/')).then_some(rest)
    }
}

/// All services that a configuration asks for; a longer prefix comes before a shorter one.
pub(crate) fn services(config: &Config) -> Vec<Service> {
    let sockjs = &config.sockjs;
    let service = |prefix: &str, speaks| Service {
        prefix: prefix.to_owned(),
        speaks,
        websocket: true,
        cookies: false,
        response_bytes_max: sockjs.response_bytes_max,
    };
    let mut services = vec![service(V1_PREFIX, Speaks::V1)];
    services.extend(
        sockjs
            .prefixes
            .iter()
            .map(|prefix| service(prefix, Speaks::Tutorial)),
    );
    if sockjs.conformance {
        let conformance = |prefix, speaks| Service {
            response_bytes_max: CONFORMANCE_RESPONSE_BYTES,
            ..service(prefix, speaks)
        };
        services.push(conformance("/echo", Speaks::Echo));
        services.push(conformance("/close", Speaks::Closing));
        services.push(Service {
            websocket: false,
            ..conformance("/disabled_websocket_echo", Speaks::Echo)
        });
        services.push(Service {
            cookies: true,
            ..conformance("/cookie_needed_echo", Speaks::Echo)
        });
    }
    services.sort_by_key(|service| std::cmp::Reverse(service.prefix.len()));
    services
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::config::SockJs;

    #[test]
    fn a_service_is_found_by_whole_parts_of_its_prefix() {
        let services = services(&Config::default());
        let ws = services.iter().find(|one| one.prefix == "/ws").unwrap();
        assert_eq!(ws.rest("/ws"), Some(""));
        assert_eq!(ws.rest("/ws/info"), Some("/info"));
        assert_eq!(ws.rest("/wsx/info"), None);
        assert_eq!(ws.rest("/"), None);
    }

    #[test]
    fn services_for_tests_are_there_only_where_they_are_asked_for() {
        let count = |conformance| {
            let sockjs = SockJs {
                conformance,
                ..SockJs::default()
            };
            services(&Config {
                sockjs,
                ..Config::default()
            })
            .len()
        };
        assert_eq!((count(false), count(true)), (2, 6));
    }
}
