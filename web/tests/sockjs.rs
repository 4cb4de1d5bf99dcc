//! A SockJS server (protocol 0.3.x) as its clients meet it: a real server on a loopback port, and
//! nothing known of it but what is on the wire. Read the names of the tests as the specification,
//! transport by transport.
//!
//! The services that most of it is held against are those of the public conformance suite: `/echo`
//! says back each message, `/close` closes each session at once with 3000 and "Go away!", and their
//! variants have no websocket or want cookies. `/ws` is the tutorial's room and `/v1/sockjs` speaks
//! protocol v1.
//!
//! ```text
//! request ─▶ PREFIX/<server>/<session>/<transport>          frames: o  a["…"]  h  c[code,"reason"]
//!            PREFIX/<server>/<session>/{xhr,jsonp}_send     messages: ["…"]
//! ```

#![allow(clippy::unwrap_used)]

mod sockjs {
    // What the tests stand on: the server, and clients of it.
    mod http;
    mod node;
    mod session;
    mod socket;
    mod transport;

    // Around the sessions.
    mod greeting;
    mod iframe;
    mod info;
    mod mounting;

    // What all transports have in common.
    mod caching;
    mod cookies;
    mod cors;
    mod http_versions;
    mod methods;
    mod session_urls;

    // The transports.
    mod eventsource;
    mod htmlfile;
    mod jsonp;
    mod raw_websocket;
    mod websocket;
    mod xhr_polling;
    mod xhr_streaming;

    // The life of a session.
    mod close;
    mod disconnect_delay;
    mod heartbeat;
    mod receivers;

    // What is in a message, and who sends it.
    mod hostile;
    mod room;
    mod unicode;
    mod v1;
}
