//! What is where: every path that the node answers.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Method, Response, StatusCode, header};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use rustls::ServerConnection;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio_rustls::server::TlsStream;
use warp::path::FullPath;
use warp::reply::Response as Reply;
use warp::{Buf, Filter, Stream};

use crate::cluster::Directory;
use crate::hub::Hub;
use crate::levers::{self, Levers};
use crate::nodes::Listing;
use crate::protocol;
use crate::session::dialect::Dialect;
use crate::sockjs::answer::{Call, Endpoint, Outcome};
use crate::websocket::poller::{Arrival, Pollers};
use crate::websocket::upgrade::{self, UpgradeError};
use crate::{admin, assets, nodes};

/// Where a request came from, and its share of the connection limit.
#[derive(Debug, Clone)]
pub(crate) struct Origin {
    /// The client's address.
    pub(crate) peer: SocketAddr,
    /// Held as long as the connection lives, as a WebSocket too.
    pub(crate) permit: Arc<OwnedSemaphorePermit>,
}

/// What the routes need.
#[derive(Clone)]
pub(crate) struct Context {
    pub(crate) hub: Hub,
    pub(crate) directory: Arc<dyn Directory>,
    pub(crate) pollers: Arc<Pollers>,
    pub(crate) sockjs: Arc<Endpoint>,
    pub(crate) listing: Arc<Listing>,
    /// To break the cluster with, where the node has any.
    pub(crate) levers: Option<Arc<dyn Levers>>,
    /// Turns true when the node stops.
    pub(crate) shutdown: watch::Receiver<bool>,
}

/// The room of tutorial pages that name none.
const LOBBY: &str = "lobby";

/// Bytes in a room's name.
const ROOM_BYTES_MAX: usize = 200;

/// All routes as one filter that answers everything.
pub(crate) fn routes(
    context: Context,
) -> impl Filter<Extract = (Reply,), Error = Infallible> + Clone + Send + Sync + 'static {
    // One filter for all of them: each `or` below costs compile time.
    let files = warp::path::full()
        .and_then(|path: FullPath| async move {
            assets::file(path.as_str()).ok_or_else(warp::reject::not_found)
        })
        .and(request(&context))
        .map(|asset: &'static assets::Asset, request: Request| request.file(asset));
    let healthz = warp::path!("healthz")
        .and(request(&context))
        .map(|request: Request| request.read(|_| text(StatusCode::OK, "ok\n")));
    let readyz = warp::path!("readyz")
        .and(request(&context))
        .map(|request: Request| request.read(admin::ready));
    let metrics = warp::path!("metrics")
        .and(request(&context))
        .map(|request: Request| request.read(admin::metrics));
    let rooms = warp::path!("api" / "rooms")
        .and(request(&context))
        .map(|request: Request| request.query(admin::rooms));
    let members = warp::path!("api" / "rooms" / String / "members")
        .and(request(&context))
        .map(|room: String, request: Request| {
            request.query(|context| admin::members(context, &room))
        });
    let cluster = warp::path!("api" / "cluster")
        .and(request(&context))
        .map(|request: Request| request.query(admin::cluster));
    let mesh = warp::path!("api" / "mesh").and(request(&context)).map(mesh);
    let lever = warp::path!("api" / "dev" / String)
        .and(request(&context))
        .and(short_body())
        .map(lever);
    let api = warp::path("api")
        .map(|| admin::error(StatusCode::NOT_FOUND, "There is nothing at this address."));
    let endpoint = context.sockjs.clone();
    let sockjs = warp::path::full()
        .and_then(move |path: FullPath| {
            let service = endpoint.service(path.as_str());
            async move {
                service
                    .map(|index| (index, path))
                    .ok_or_else(warp::reject::not_found)
            }
        })
        .and(request(&context))
        .and(query())
        .and(warp::ext::optional::<OnUpgrade>())
        .and(warp::ext::optional::<Origin>())
        .and(warp::body::stream())
        .then(sockjs);
    let websocket = warp::path!("ws")
        .and(request(&context))
        .and(query())
        .and(warp::ext::optional::<OnUpgrade>())
        .and(warp::ext::optional::<Origin>())
        .map(tutorial);
    let v1 = warp::path!("v1")
        .and(request(&context))
        .and(warp::ext::optional::<OnUpgrade>())
        .and(warp::ext::optional::<Origin>())
        .map(v1);
    let nodes = warp::path!("v1" / "nodes")
        .and(request(&context))
        .map(|request: Request| request.read(nodes::nodes));
    let nothing =
        warp::any().map(|| text(StatusCode::NOT_FOUND, "There is nothing at this address.\n"));

    files
        .or(sockjs)
        .unify()
        .or(websocket)
        .unify()
        .or(v1)
        .unify()
        .or(nodes)
        .unify()
        .or(healthz)
        .unify()
        .or(readyz)
        .unify()
        .or(metrics)
        .unify()
        .or(rooms)
        .unify()
        .or(members)
        .unify()
        .or(cluster)
        .unify()
        .or(mesh)
        .unify()
        .or(lever)
        .unify()
        .or(api)
        .unify()
        .or(nothing)
        .unify()
}

/// A response with a text body.
pub(crate) fn text(status: StatusCode, body: impl Into<Bytes>) -> Reply {
    respond(status, "text/plain; charset=utf-8", body)
}

/// A response that is not to be cached.
pub(crate) fn respond(
    status: StatusCode,
    content_type: &'static str,
    body: impl Into<Bytes>,
) -> Reply {
    let mut reply = Response::new(body.into().into());
    *reply.status_mut() = status;
    let headers = reply.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static(content_type),
    );
    headers.insert(
        header::CACHE_CONTROL,
        header::HeaderValue::from_static("no-store"),
    );
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        header::HeaderValue::from_static("nosniff"),
    );
    reply
}

/// `text` with `%XX` decoded, and `+` as a space where it stands for one; `None` if an escape is
/// broken or the outcome is not UTF-8.
pub(crate) fn percent_decode(text: &str, plus_is_space: bool) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let high = char::from(rest.next()?).to_digit(16)?;
                let low = char::from(rest.next()?).to_digit(16)?;
                (high * 16 + low) as u8
            }
            b'+' if plus_is_space => b' ',
            _ => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

struct Request {
    context: Context,
    method: Method,
    headers: HeaderMap,
}

impl Request {
    /// Answers GET and HEAD; hyper leaves the body out for HEAD.
    fn read(self, answer: impl FnOnce(&Context) -> Reply) -> Reply {
        self.answer(answer, text)
    }

    /// Answers with a file.
    fn file(self, asset: &assets::Asset) -> Reply {
        let if_none_match = self.headers.get(header::IF_NONE_MATCH).cloned();
        self.read(|_| asset.serve(if_none_match.as_ref()))
    }

    /// Like [`Request::read`], with errors in JSON.
    fn query(self, answer: impl FnOnce(&Context) -> Reply) -> Reply {
        self.answer(answer, |status, message| {
            admin::error(status, message.trim_end())
        })
    }

    fn answer(
        self,
        answer: impl FnOnce(&Context) -> Reply,
        refuse: impl FnOnce(StatusCode, &'static str) -> Reply,
    ) -> Reply {
        if self.method == Method::GET || self.method == Method::HEAD {
            return answer(&self.context);
        }
        let mut reply = refuse(
            StatusCode::METHOD_NOT_ALLOWED,
            "This address is for GET and HEAD.\n",
        );
        reply
            .headers_mut()
            .insert(header::ALLOW, header::HeaderValue::from_static("GET, HEAD"));
        reply
    }
}

fn request(
    context: &Context,
) -> impl Filter<Extract = (Request,), Error = Infallible> + Clone + Send + Sync + use<> {
    let context = context.clone();
    warp::any()
        .map(move || context.clone())
        .and(warp::method())
        .and(warp::header::headers_cloned())
        .map(
            |context: Context, method: Method, headers: HeaderMap| Request {
                context,
                method,
                headers,
            },
        )
}

/// A body of a few bytes, or none: what a browser asks before it sends one has no length either.
fn short_body() -> impl Filter<Extract = (Bytes,), Error = warp::Rejection> + Copy + Send + Sync {
    let none = warp::header::optional::<String>("content-length").and_then(
        |length: Option<String>| async move {
            match length {
                None => Ok(Bytes::new()),
                Some(_) => Err(warp::reject::not_found()),
            }
        },
    );
    warp::body::content_length_limit(levers::BODY_BYTES_MAX)
        .and(warp::body::bytes())
        .or(none)
        .unify()
}

/// What follows a path's question mark.
fn query() -> impl Filter<Extract = (Option<String>,), Error = Infallible> + Copy + Send + Sync {
    warp::query::raw()
        .map(Some)
        .or(warp::any().map(|| None))
        .unify()
}

/// SockJS, and the tutorial's protocol where a path of SockJS's is opened as a WebSocket.
async fn sockjs(
    (service, path): (usize, FullPath),
    request: Request,
    query: Option<String>,
    upgrade: Option<OnUpgrade>,
    origin: Option<Origin>,
    body: impl Stream<Item = Result<impl Buf, warp::Error>>,
) -> Reply {
    let call = Call {
        method: request.method.clone(),
        headers: request.headers.clone(),
        query,
    };
    let endpoint = request.context.sockjs.clone();
    let path = path.as_str().to_owned();
    match endpoint.answer(service, path, call, body).await {
        Outcome::Reply(reply) => reply,
        Outcome::BadRoom(why) => text(StatusCode::BAD_REQUEST, why),
        Outcome::Upgrade(dialect, framed) => {
            match upgrade::accept(&request.method, &request.headers) {
                Ok(accept) => websocket(request, accept, upgrade, origin, dialect, framed),
                Err(error) => refuse_upgrade(error),
            }
        }
    }
}

/// A picture of the mesh; where there are levers, for pages of the cluster's other nodes, too.
fn mesh(request: Request) -> Reply {
    let headers = request.headers.clone();
    let has_levers = request.context.levers.is_some();
    let reply = request.query(admin::mesh);
    match has_levers {
        true => levers::shared(reply, &headers),
        false => reply,
    }
}

fn lever(command: String, request: Request, body: Bytes) -> Reply {
    let levers = request.context.levers.as_deref();
    levers::pull(levers, &command, &request.method, &request.headers, &body)
}

/// The tutorial's protocol.
fn tutorial(
    request: Request,
    query: Option<String>,
    upgrade: Option<OnUpgrade>,
    origin: Option<Origin>,
) -> Reply {
    let accept = match upgrade::accept(&request.method, &request.headers) {
        Ok(accept) => accept,
        Err(error) => return refuse_upgrade(error),
    };
    match room_name(query.as_deref()) {
        Ok(room) => websocket(
            request,
            accept,
            upgrade,
            origin,
            Dialect::Tutorial(room),
            false,
        ),
        Err(why) => text(StatusCode::BAD_REQUEST, why),
    }
}

/// Protocol v1.
fn v1(request: Request, upgrade: Option<OnUpgrade>, origin: Option<Origin>) -> Reply {
    let accept = match upgrade::accept(&request.method, &request.headers) {
        Ok(accept) => accept,
        Err(error) => return refuse_upgrade(error),
    };
    let offered = |name| upgrade::lists(&request.headers, header::SEC_WEBSOCKET_PROTOCOL, name);
    let (subprotocol, binary) = if offered(protocol::BINARY) {
        (protocol::BINARY, true)
    } else if offered(protocol::JSON) {
        (protocol::JSON, false)
    } else {
        return text(
            StatusCode::BAD_REQUEST,
            format!(
                "Offer a subprotocol: {} (cursors as binary frames) or {} (all JSON).\n",
                protocol::BINARY,
                protocol::JSON
            ),
        );
    };
    let mut reply = websocket(
        request,
        accept,
        upgrade,
        origin,
        Dialect::V1 { binary },
        false,
    );
    if reply.status() == StatusCode::SWITCHING_PROTOCOLS {
        reply.headers_mut().insert(
            header::SEC_WEBSOCKET_PROTOCOL,
            header::HeaderValue::from_static(subprotocol),
        );
    }
    reply
}

/// The answer to an upgrade; once it is sent, a poller serves the connection.
fn websocket(
    request: Request,
    accept: String,
    upgrade: Option<OnUpgrade>,
    origin: Option<Origin>,
    dialect: Dialect,
    framed: bool,
) -> Reply {
    let context = request.context;
    let (Some(upgrade), Some(origin)) = (upgrade, origin) else {
        return refuse_upgrade(UpgradeError::NoUpgrade);
    };
    let Ok(accept) = header::HeaderValue::try_from(accept) else {
        return refuse_upgrade(UpgradeError::Key);
    };
    tokio::spawn(async move {
        let upgraded = match upgrade.await {
            Ok(upgraded) => upgraded,
            Err(error) => {
                tracing::debug!(peer = %origin.peer, %error, "upgrade failed");
                return;
            }
        };
        let Some((stream, tls, early)) = socket(upgraded) else {
            tracing::error!(peer = %origin.peer, "an upgraded connection is no TCP socket");
            return;
        };
        context.pollers.adopt(Arrival {
            stream,
            tls,
            early,
            dialect,
            framed,
            permit: origin.permit,
        });
    });
    let mut reply = Response::new(Bytes::new().into());
    *reply.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = reply.headers_mut();
    headers.insert(
        header::CONNECTION,
        header::HeaderValue::from_static("Upgrade"),
    );
    headers.insert(
        header::UPGRADE,
        header::HeaderValue::from_static("websocket"),
    );
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    reply
}

/// The socket of a connection that hyper has done with, the state of its encryption, and what hyper
/// read too much.
fn socket(upgraded: Upgraded) -> Option<(TcpStream, Option<ServerConnection>, Bytes)> {
    let upgraded = match upgraded.downcast::<TokioIo<TcpStream>>() {
        Ok(parts) => return Some((parts.io.into_inner(), None, parts.read_buf)),
        Err(upgraded) => upgraded,
    };
    let parts = upgraded.downcast::<TokioIo<TlsStream<TcpStream>>>().ok()?;
    let (stream, tls) = parts.io.into_inner().into_inner();
    Some((stream, Some(tls), parts.read_buf))
}

fn refuse_upgrade(error: UpgradeError) -> Reply {
    let status = match error {
        UpgradeError::Method => StatusCode::METHOD_NOT_ALLOWED,
        UpgradeError::NoUpgrade | UpgradeError::Version => StatusCode::UPGRADE_REQUIRED,
        UpgradeError::Key => StatusCode::BAD_REQUEST,
    };
    let mut reply = text(status, format!("{error}\n"));
    let headers = reply.headers_mut();
    headers.insert(header::ALLOW, header::HeaderValue::from_static("GET"));
    headers.insert(
        header::UPGRADE,
        header::HeaderValue::from_static("websocket"),
    );
    headers.insert(
        header::SEC_WEBSOCKET_VERSION,
        header::HeaderValue::from_static("13"),
    );
    reply
}

/// The room that a query names; the error is for people.
pub(crate) fn room_name(query: Option<&str>) -> Result<String, &'static str> {
    for pair in query.unwrap_or_default().split('&') {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        if percent_decode(key, true).as_deref() == Some("room") {
            let room = percent_decode(value, true)
                .ok_or("The room's name must be percent-encoded UTF-8.\n")?;
            return check_room(&room).map(|()| room);
        }
    }
    Ok(LOBBY.to_owned())
}

/// Whether a room may have this name; the error is for people.
pub(crate) fn check_room(room: &str) -> Result<(), &'static str> {
    if room.is_empty() || room.len() > ROOM_BYTES_MAX {
        return Err("The room's name must have 1 to 200 bytes.\n");
    }
    if room.chars().any(char::is_control) {
        return Err("The room's name must not contain control characters.\n");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lobby_is_the_room_of_those_who_name_none() {
        assert_eq!(room_name(None), Ok("lobby".into()));
        assert_eq!(room_name(Some("")), Ok("lobby".into()));
        assert_eq!(room_name(Some("rooms=x&roo=y&v=%zz")), Ok("lobby".into()));
    }

    #[test]
    fn a_room_is_named_in_the_query() {
        assert_eq!(room_name(Some("room=kitchen")), Ok("kitchen".into()));
        assert_eq!(
            room_name(Some("a=1&room=caf%C3%A9+au%20lait%2B&b")),
            Ok("café au lait+".into())
        );
        assert_eq!(room_name(Some("ro%6fm=x&room=y")), Ok("x".into()));
        assert_eq!(
            room_name(Some(&format!("room={}", "x".repeat(200)))),
            Ok("x".repeat(200))
        );
    }

    #[test]
    fn bad_names_are_refused() {
        for query in [
            "room=",
            "room",
            "room=%0a",
            "room=%7f",
            "room=%C2%85",
            "room=%ff",
            "room=%4",
            "room=%",
            "room=%zz",
        ] {
            assert!(room_name(Some(query)).is_err(), "{query}");
        }
        assert!(room_name(Some(&format!("room={}", "x".repeat(201)))).is_err());
        assert!(room_name(Some(&format!("room={}", "%C3%A9".repeat(101)))).is_err());
    }
}
