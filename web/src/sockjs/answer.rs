//! What every request below a service's prefix is answered.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Buf, Bytes};
use futures_util::{Stream, StreamExt};
use http::header::{self, HeaderMap};
use http::{Method, StatusCode};
use ring::digest;
use ring::rand::{SecureRandom, SystemRandom};
use serde::Serialize;
use tokio::time::timeout;
use warp::reply::Response as Reply;

use super::body::{Bodies, BodyError};
use super::carriage::{Answers, Ask, FIND_TIMEOUT, Found, Lost, Passed, Places, Verdict, lost};
use super::path::{self, Action, Route};
use super::reply;
use super::service::{Service, Speaks, services};
use super::session::Receiver;
use super::sessions::{Full, Sessions};
use super::transport::{self, Transport};
use super::{frame, frame::PayloadError};
use crate::cluster::{Carrier, Directory, Nobody};
use crate::config::Config;
use crate::hub::Hub;
use crate::routes::{percent_decode, room_name};

/// A connection takes what its client says within this time, or the client is told to come again.
const TAKE_TIMEOUT: Duration = Duration::from_secs(30);

const WELCOME: &str = "Welcome to SockJS!\n";
/// What is around the address of the client's script in the iframe page.
const IFRAME: [&str; 2] = [
    "<!DOCTYPE html>\n<html>\n<head>\n  <meta http-equiv=\"X-UA-Compatible\" content=\"IE=edge\" />\n  \
     <meta http-equiv=\"Content-Type\" content=\"text/html; charset=UTF-8\" />\n  <script src=\"",
    "\"></script>\n  <script>\n    document.domain = document.domain;\n    SockJS.bootstrap_iframe();\n  \
     </script>\n</head>\n<body>\n  <h2>Don't panic!</h2>\n  <p>This is a SockJS hidden iframe. It's used \
     for cross domain magic.</p>\n</body>\n</html>",
];

/// A request, but for its body.
pub(crate) struct Call {
    /// Its method.
    pub(crate) method: Method,
    /// Its headers.
    pub(crate) headers: HeaderMap,
    /// What follows the path's question mark.
    pub(crate) query: Option<String>,
}

/// What a request is answered.
pub(crate) enum Outcome {
    /// This.
    Reply(Reply),
    /// The connection becomes a WebSocket that speaks this, with frames of SockJS or without.
    Upgrade(crate::session::dialect::Dialect, bool),
    /// The room that the query names cannot be one.
    BadRoom(&'static str),
}

/// All services of a node.
pub(crate) struct Endpoint {
    services: Vec<Service>,
    sessions: Arc<Sessions>,
    places: Places,
    bodies: Bodies,
    hub: Hub,
    config: Arc<Config>,
    directory: Arc<dyn Directory>,
    carrier: Arc<dyn Carrier>,
    iframe: Page,
    /// Receivers of other nodes' sessions that are passed on now: node, prefix and id.
    passing: Mutex<slab::Slab<(String, String, String)>>,
    random: SystemRandom,
}

/// The iframe page and its name for caches.
struct Page {
    body: Bytes,
    tag: String,
}

impl Endpoint {
    /// The services of a configuration. Sessions of other nodes are asked for through `carrier`.
    pub(crate) fn new(
        hub: Hub,
        config: Arc<Config>,
        directory: Arc<dyn Directory>,
        carrier: Option<Arc<dyn Carrier>>,
    ) -> Arc<Self> {
        let body = [IFRAME[0], config.sockjs.client_url.as_str(), IFRAME[1]].concat();
        let hash = digest::digest(&digest::SHA256, body.as_bytes());
        let tag: String = hash.as_ref()[..8]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        Arc::new(Self {
            services: services(&config),
            sessions: Sessions::new(hub.clone(), config.clone()),
            places: Places::new(),
            bodies: Bodies::new(),
            hub,
            config,
            directory,
            carrier: carrier.unwrap_or_else(|| Arc::new(Nobody)),
            iframe: Page {
                body: body.into(),
                tag: format!("\"{tag}\""),
            },
            passing: Mutex::default(),
            random: SystemRandom::new(),
        })
    }

    /// What other nodes ask of this one.
    pub(crate) fn answers(self: &Arc<Self>) -> Answers {
        Answers(self.clone())
    }

    /// The number of the service that a path belongs to.
    pub(crate) fn service(&self, path: &str) -> Option<usize> {
        self.services
            .iter()
            .position(|service| service.rest(path).is_some())
    }

    /// The node stops: its sessions are closed, and answers of other nodes' sessions end in good order.
    pub(crate) fn stop(self: &Arc<Self>) {
        self.sessions.close_all();
        let passing = self.passing.lock().unwrap_or_else(PoisonError::into_inner);
        for (_, (node, prefix, id)) in passing.iter() {
            let (node, prefix, id) = (node.clone(), prefix.clone(), id.clone());
            let carrier = self.carrier.clone();
            tokio::spawn(async move {
                let ask = Ask::Release {
                    prefix: &prefix,
                    id: &id,
                };
                // A client whose answer does not end in good order sees it break off.
                let _ = ask.of_owner(&node, &*carrier).await;
            });
        }
    }

    /// Answers a request to a path of service `index`.
    pub(crate) async fn answer<B: Buf, E>(
        self: Arc<Self>,
        index: usize,
        path: String,
        call: Call,
        body: impl Stream<Item = Result<B, E>>,
    ) -> Outcome {
        let service = &self.services[index];
        let route = service.rest(&path).and_then(path::route);
        let Some((owner, route)) = route else {
            return Outcome::Reply(not_found());
        };
        let is_get = call.method == Method::GET || call.method == Method::HEAD;
        let reply = match route {
            Route::Greeting if call.headers.contains_key(header::UPGRADE) => {
                return self.upgrade(service, &call, false);
            }
            Route::Greeting if is_get => reply::text(StatusCode::OK, WELCOME),
            Route::Greeting => reply::not_allowed("GET"),
            Route::Iframe if is_get => self.iframe(&call.headers),
            Route::Iframe => reply::not_allowed("GET"),
            Route::Info => {
                let mut reply = match call.method {
                    Method::OPTIONS => reply::options("OPTIONS, GET"),
                    _ if is_get => self.info(service, &call),
                    _ => reply::not_allowed("OPTIONS, GET"),
                };
                reply::cors(&mut reply, &call.headers);
                reply
            }
            Route::RawWebSocket => return self.websocket(service, &call, false),
            Route::Session { id, does } => {
                if does == Action::WebSocket {
                    return self.websocket(service, &call, true);
                }
                let visit = Visit {
                    endpoint: &self,
                    service,
                    owner,
                    id,
                    call: &call,
                };
                visit.answer(does, body).await
            }
        };
        Outcome::Reply(reply)
    }

    fn upgrade(&self, service: &Service, call: &Call, framed: bool) -> Outcome {
        // Protocol v1 has one room after the other on a connection, and no room in its address.
        let room = match service.speaks {
            Speaks::Tutorial => room_name(call.query.as_deref()),
            _ => Ok(String::new()),
        };
        match room {
            Ok(room) => Outcome::Upgrade(service.dialect(room), framed),
            Err(why) => Outcome::BadRoom(why),
        }
    }

    fn websocket(&self, service: &Service, call: &Call, framed: bool) -> Outcome {
        if !service.websocket {
            return Outcome::Reply(not_found());
        }
        if call.method != Method::GET {
            return Outcome::Reply(reply::not_allowed("GET"));
        }
        let is_websocket = crate::websocket::upgrade::accept(&call.method, &call.headers).is_ok();
        if !is_websocket {
            let refusal = "Not a valid websocket request\n";
            return Outcome::Reply(reply::text(StatusCode::BAD_REQUEST, refusal));
        }
        self.upgrade(service, call, framed)
    }

    fn iframe(&self, headers: &HeaderMap) -> Reply {
        let known = headers
            .get(header::IF_NONE_MATCH)
            .is_some_and(|tag| tag.as_bytes() == self.iframe.tag.as_bytes());
        let mut reply = if known {
            reply::empty(StatusCode::NOT_MODIFIED)
        } else {
            let body = self.iframe.body.clone();
            reply::typed(StatusCode::OK, "text/html; charset=UTF-8", body)
        };
        reply::cache(&mut reply);
        if let Ok(tag) = header::HeaderValue::try_from(self.iframe.tag.as_str()) {
            reply.headers_mut().insert(header::ETAG, tag);
        }
        reply
    }

    fn info(&self, service: &Service, call: &Call) -> Reply {
        #[derive(Serialize)]
        struct Info {
            websocket: bool,
            origins: [&'static str; 1],
            cookie_needed: bool,
            entropy: u32,
            #[serde(skip_serializing_if = "Option::is_none")]
            base_url: Option<String>,
        }
        let mut entropy = [0; 4];
        // Without randomness it is still a number that a client may mix into its own.
        let _ = self.random.fill(&mut entropy);
        let info = Info {
            websocket: service.websocket,
            origins: ["*:*"],
            cookie_needed: service.cookies,
            entropy: u32::from_le_bytes(entropy),
            base_url: self.base_url(service, call),
        };
        let body = serde_json::to_vec(&info).unwrap_or_default();
        let mut reply = reply::typed(StatusCode::OK, "application/json; charset=UTF-8", body);
        reply::no_cache(&mut reply);
        reply
    }

    /// The address under which a client's sessions name this node, so that any other one knows where to
    /// ask. `None` where it cannot be told how the client reached the node: what is between them may
    /// speak TLS to it, and a page of https cannot use an address of http.
    fn base_url(&self, service: &Service, call: &Call) -> Option<String> {
        let headers = &call.headers;
        if self.carrier.reachable().is_empty() {
            return None;
        }
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let scheme = match text("x-forwarded-proto") {
            Some(proto @ ("http" | "https")) => proto,
            Some(_) => return None,
            None if self.config.tls.is_some() => "https",
            None => {
                let is_https = |url: &str| url.starts_with("https:");
                let said = [text("origin"), text("referer")];
                if said.into_iter().flatten().any(is_https) {
                    return None;
                }
                "http"
            }
        };
        let host = text("x-forwarded-host").or_else(|| text("host"))?;
        let is_host = |byte: u8| byte.is_ascii_alphanumeric() || b".-:[]_".contains(&byte);
        if host.is_empty() || !host.bytes().all(is_host) {
            return None;
        }
        let (prefix, node) = (&service.prefix, self.directory.node());
        // Clients keep the query of an address, and the room may be in it.
        let query = call.query.as_deref().filter(|query| !query.is_empty());
        let query = query.map_or_else(String::new, |query| format!("?{query}"));
        Some(format!("{scheme}://{host}{prefix}/~{node}{query}"))
    }

    /// What another node asks.
    pub(super) async fn asked(self: &Arc<Self>, ask: Ask<'_>) -> (Verdict, Option<Receiver>) {
        self.hub.metrics().sockjs_served.increment();
        let here = |is_here| {
            if is_here {
                Verdict::Here
            } else {
                Verdict::Unknown
            }
        };
        match ask {
            Ask::Find { prefix, id } => (here(self.sessions.find(prefix, id).is_some()), None),
            Ask::Release { prefix, id } => {
                let session = self.sessions.find(prefix, id);
                if let Some(session) = &session {
                    session.release();
                }
                (here(session.is_some()), None)
            }
            Ask::Send { prefix, id, texts } => {
                let texts = texts.into_iter().map(str::to_owned).collect();
                (here(self.send_here(prefix, id, texts).await), None)
            }
            Ask::Receive {
                prefix,
                id,
                transport,
                callback,
                opens,
            } => {
                let Some(service) = self.services.iter().find(|one| one.prefix == prefix) else {
                    return (Verdict::Unknown, None);
                };
                match self.receive_here(service, id, transport, callback, opens) {
                    Ok(Some(receiver)) => (Verdict::Here, Some(receiver)),
                    Ok(None) => (Verdict::Unknown, None),
                    Err(Full) => (Verdict::Full, None),
                }
            }
        }
    }

    /// What a session of this node says to a receiver. One that does not exist begins, if it `opens` in
    /// a room.
    fn receive_here(
        &self,
        service: &Service,
        id: &str,
        transport: Transport,
        callback: &str,
        opens: Option<&str>,
    ) -> Result<Option<Receiver>, Full> {
        let prefix = service.prefix.as_str();
        let bytes_max = service.response_bytes_max;
        if let Some(session) = self.sessions.find(prefix, id) {
            let receiver = session.receive(transport, callback.to_owned(), bytes_max);
            if receiver.is_some() {
                return Ok(receiver);
            }
            self.sessions.forget(prefix, id, &session);
        }
        let Some(room) = opens else {
            return Ok(None);
        };
        let dialect = service.dialect(room.to_owned());
        let session = self.sessions.find_or_open(prefix, id, dialect)?;
        Ok(session.receive(transport, callback.to_owned(), bytes_max))
    }

    /// Says something in a session of this node; false if there is none.
    async fn send_here(&self, prefix: &str, id: &str, texts: Vec<String>) -> bool {
        match self.sessions.find(prefix, id) {
            Some(session) => timeout(TAKE_TIMEOUT, session.post(texts))
                .await
                .unwrap_or(false),
            None => false,
        }
    }

    /// Notes that an answer of another node's session is passed on, until the guard is dropped.
    fn pass(self: &Arc<Self>, node: &str, prefix: &str, id: &str) -> Passing {
        let mut passing = self.passing.lock().unwrap_or_else(PoisonError::into_inner);
        let place = passing.insert((node.to_owned(), prefix.to_owned(), id.to_owned()));
        Passing {
            endpoint: self.clone(),
            place,
        }
    }
}

/// While it lives, an answer of another node's session is passed on.
struct Passing {
    endpoint: Arc<Endpoint>,
    place: usize,
}

impl Drop for Passing {
    fn drop(&mut self) {
        let passing = &self.endpoint.passing;
        let mut passing = passing.lock().unwrap_or_else(PoisonError::into_inner);
        passing.try_remove(self.place);
    }
}

/// What became of something that was said in a session.
enum Sent {
    Taken,
    /// There is no such session.
    Unknown,
    /// Nobody knows: the session's node did not answer.
    Unclear,
}

/// A request of a session over HTTP.
struct Visit<'a> {
    endpoint: &'a Arc<Endpoint>,
    service: &'a Service,
    /// The node that the path names.
    owner: Option<&'a str>,
    id: &'a str,
    call: &'a Call,
}

impl Visit<'_> {
    async fn answer<B: Buf, E>(
        &self,
        does: Action,
        body: impl Stream<Item = Result<B, E>>,
    ) -> Reply {
        let allow = match does {
            Action::Receive(Transport::Xhr | Transport::XhrStreaming) | Action::XhrSend => {
                "POST, OPTIONS"
            }
            Action::JsonpSend => "POST",
            _ => "GET",
        };
        let is_xhr = allow == "POST, OPTIONS";
        let wanted = if allow == "GET" {
            Method::GET
        } else {
            Method::POST
        };
        let mut reply = if is_xhr && self.call.method == Method::OPTIONS {
            reply::options("OPTIONS, POST")
        } else if self.call.method != wanted {
            reply::not_allowed(allow)
        } else {
            let mut reply = match does {
                Action::Receive(transport) => self.receive(transport).await,
                _ => self.send(does, body).await,
            };
            reply::no_cache(&mut reply);
            reply
        };
        if is_xhr || does == Action::Receive(Transport::EventSource) {
            reply::cors(&mut reply, &self.call.headers);
        }
        if self.service.cookies {
            reply::cookie(&mut reply, &self.call.headers);
        }
        reply
    }

    async fn receive(&self, transport: Transport) -> Reply {
        let named = ["c", "callback"]
            .into_iter()
            .find_map(|name| parameter(self.call.query.as_deref(), name));
        let callback = if transport.has_callback() {
            match transport::callback(named.as_deref()) {
                Ok(callback) => callback,
                Err(error) => {
                    return reply::text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string());
                }
            }
        } else {
            ""
        };
        let room = match self.service.speaks {
            Speaks::Tutorial => match room_name(self.call.query.as_deref()) {
                Ok(room) => room,
                Err(why) => return reply::text(StatusCode::BAD_REQUEST, why),
            },
            _ => String::new(),
        };
        let endpoint = self.endpoint;
        let here = |opens| endpoint.receive_here(self.service, self.id, transport, callback, opens);
        let is_own = self.owner == Some(endpoint.directory.node().as_str());
        match here(is_own.then_some(room.as_str())) {
            Ok(None) => {}
            done => return received(transport, done).await,
        }
        if is_own {
            // It ended between the two looks: the client comes again.
            return unavailable();
        }
        if let Some(node) = self.owner {
            return match self
                .receive_at(node, transport, callback, Some(&room))
                .await
            {
                Ok(Some(reply)) => reply,
                Ok(None) => unavailable(),
                Err(Lost) => self.lost(transport, callback),
            };
        }
        let (prefix, id) = (self.service.prefix.as_str(), self.id);
        if let Some(node) = endpoint.places.known(prefix, id) {
            match self.receive_at(&node, transport, callback, None).await {
                Ok(Some(reply)) => return reply,
                Ok(None) => endpoint.places.forget(prefix, id),
                Err(Lost) => {
                    endpoint.places.forget(prefix, id);
                    return self.lost(transport, callback);
                }
            }
        }
        let carrier = &*endpoint.carrier;
        let found = endpoint
            .places
            .find(prefix, id, carrier, FIND_TIMEOUT)
            .await;
        if let Found::At(node) = found
            && let Ok(Some(reply)) = self.receive_at(&node, transport, callback, None).await
        {
            return reply;
        }
        // A client whose session was on a node that is silent takes the new one for the end of its own.
        received(transport, here(Some(&room))).await
    }

    /// Asks another node for the answer; `None` if it has no such session.
    async fn receive_at(
        &self,
        node: &str,
        transport: Transport,
        callback: &str,
        opens: Option<&str>,
    ) -> Result<Option<Reply>, Lost> {
        let endpoint = self.endpoint;
        let (prefix, id) = (self.service.prefix.as_str(), self.id);
        endpoint.hub.metrics().sockjs_carried.increment();
        let ask = Ask::Receive {
            prefix,
            id,
            transport,
            callback,
            opens,
        };
        Ok(match ask.of_owner(node, &*endpoint.carrier).await? {
            (Verdict::Here, parts) => {
                let guard = endpoint.pass(node, prefix, id);
                let body = Passed::new(parts, transport, callback.to_owned(), guard);
                Some(answered(transport, body).await)
            }
            (Verdict::Full, _) => Some(unavailable()),
            (Verdict::Unknown, _) => None,
        })
    }

    /// The session's node is lost, and the session with it.
    fn lost(&self, transport: Transport, callback: &str) -> Reply {
        self.endpoint.hub.metrics().sockjs_lost.increment();
        let body = [
            transport.prelude(callback),
            transport.wrap(&lost(), callback),
        ]
        .concat();
        typed(
            transport,
            reply::typed(StatusCode::OK, transport.content_type(), body),
        )
    }

    async fn send<B: Buf, E>(&self, does: Action, body: impl Stream<Item = Result<B, E>>) -> Reply {
        let endpoint = self.endpoint;
        let headers = &self.call.headers;
        let body = endpoint.bodies.read(headers, body, &endpoint.config.sockjs);
        let body = match body.await {
            Ok(body) => body,
            Err(error) => return refuse_body(error),
        };
        let texts = match messages(does, headers, &body) {
            Ok(texts) => texts,
            Err(error) => {
                return reply::text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string());
            }
        };
        match self.say(texts).await {
            Sent::Taken if does == Action::JsonpSend => reply::text(StatusCode::OK, "ok"),
            Sent::Taken => reply::typed(StatusCode::NO_CONTENT, "text/plain; charset=UTF-8", ""),
            Sent::Unknown => reply::empty(StatusCode::NOT_FOUND),
            Sent::Unclear => {
                endpoint.hub.metrics().sockjs_lost.increment();
                unavailable()
            }
        }
    }

    /// Says something in the session, wherever it is. What may have been taken is not said again.
    async fn say(&self, texts: Vec<String>) -> Sent {
        let endpoint = self.endpoint;
        let (prefix, id) = (self.service.prefix.as_str(), self.id);
        if endpoint.sessions.find(prefix, id).is_some() {
            return if endpoint.send_here(prefix, id, texts).await {
                Sent::Taken
            } else {
                Sent::Unknown
            };
        }
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        if let Some(node) = self.owner {
            if node == endpoint.directory.node() {
                return Sent::Unknown;
            }
            return self.say_at(node, texts).await;
        }
        if let Some(node) = endpoint.places.known(prefix, id) {
            match self.say_at(&node, texts.clone()).await {
                Sent::Unknown => endpoint.places.forget(prefix, id),
                sent => return sent,
            }
        }
        let carrier = &*endpoint.carrier;
        let find = endpoint.places.find(prefix, id, carrier, FIND_TIMEOUT);
        match find.await {
            Found::At(node) => self.say_at(&node, texts).await,
            Found::Nowhere => Sent::Unknown,
            Found::Unclear => Sent::Unclear,
        }
    }

    async fn say_at(&self, node: &str, texts: Vec<&str>) -> Sent {
        let endpoint = self.endpoint;
        endpoint.hub.metrics().sockjs_carried.increment();
        let ask = Ask::Send {
            prefix: &self.service.prefix,
            id: self.id,
            texts,
        };
        match ask.of_owner(node, &*endpoint.carrier).await {
            Ok((Verdict::Here, _)) => Sent::Taken,
            Ok(_) => Sent::Unknown,
            Err(Lost) => Sent::Unclear,
        }
    }
}

/// The answer that a receiver of this node gives.
async fn received(transport: Transport, receiver: Result<Option<Receiver>, Full>) -> Reply {
    match receiver {
        Ok(Some(receiver)) => answered(transport, receiver).await,
        Ok(None) | Err(Full) => unavailable(),
    }
}

/// The answer whose body this is. One that has a single frame waits for it, and goes out in one piece.
async fn answered(
    transport: Transport,
    mut body: impl Stream<Item = Bytes> + Unpin + Send + Sync + 'static,
) -> Reply {
    let content_type = transport.content_type();
    let reply = if transport.is_polling() {
        let frame = body.next().await.unwrap_or_default();
        reply::typed(StatusCode::OK, content_type, frame)
    } else {
        reply::stream(content_type, body)
    };
    typed(transport, reply)
}

/// What goes with a transport's answers beside their type.
fn typed(transport: Transport, mut reply: Reply) -> Reply {
    if transport == Transport::Jsonp {
        reply::set(&mut reply, header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    }
    reply
}

/// The messages in a request's body.
fn messages(does: Action, headers: &HeaderMap, body: &[u8]) -> Result<Vec<String>, PayloadError> {
    let content_type = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let media = content_type.split(';').next().unwrap_or_default().trim();
    let media = media.to_ascii_lowercase();
    let body = std::str::from_utf8(body).map_err(|_| PayloadError::Broken)?;
    if does == Action::JsonpSend && media == "application/x-www-form-urlencoded" {
        let field = parameter(Some(body), "d").ok_or(PayloadError::Expected)?;
        return frame::payload(&field, false);
    }
    let is_taken = matches!(
        media.as_str(),
        "" | "t" | "text/plain" | "application/json" | "application/xml" | "text/xml"
    );
    if does == Action::XhrSend && !is_taken {
        return Err(PayloadError::Expected);
    }
    frame::payload(body, false)
}

/// A field of a form, or of a query.
fn parameter(form: Option<&str>, name: &str) -> Option<String> {
    form?.split('&').find_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        if key == name {
            percent_decode(value, true)
        } else {
            None
        }
    })
}

fn refuse_body(error: BodyError) -> Reply {
    match error {
        BodyError::TooBig => reply::text(StatusCode::PAYLOAD_TOO_LARGE, "The body is too big.\n"),
        BodyError::TooSlow => reply::text(
            StatusCode::REQUEST_TIMEOUT,
            "The body did not come in time.\n",
        ),
        BodyError::Busy => unavailable(),
        BodyError::Broken => reply::text(StatusCode::BAD_REQUEST, "The body broke off.\n"),
    }
}

fn unavailable() -> Reply {
    let why = "There is no room for this now, or its node cannot be reached: try again.\n";
    let mut reply = reply::text(StatusCode::SERVICE_UNAVAILABLE, why);
    reply::set(&mut reply, header::RETRY_AFTER, "1");
    reply
}

fn not_found() -> Reply {
    reply::text(StatusCode::NOT_FOUND, "There is nothing at this address.\n")
}
