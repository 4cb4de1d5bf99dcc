//! What operators and pages may ask: readiness, metrics, rooms, members, the cluster.

use http::StatusCode;
use serde::Serialize;
use warp::reply::Response as Reply;

use crate::cluster::{Member, RoomSummary};
use crate::routes::{Context, percent_decode, respond, text};

/// Rooms in one listing.
const ROOMS_MAX: usize = 10_000;

/// 200, or 503 with the reason while no new clients should come.
pub(crate) fn ready(context: &Context) -> Reply {
    if *context.shutdown.borrow() {
        return text(StatusCode::SERVICE_UNAVAILABLE, "node is shutting down\n");
    }
    match context.directory.ready() {
        Ok(()) => text(StatusCode::OK, "ready\n"),
        Err(reason) => text(StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
    }
}

/// Everything that is counted, in Prometheus text format.
pub(crate) fn metrics(context: &Context) -> Reply {
    let metrics = context.hub.metrics();
    let tick = context.hub.context().ticker.tick();
    metrics
        .tick_us
        .set(u64::try_from(tick.as_micros()).unwrap_or(u64::MAX));
    let mut body = metrics.render();
    body.push_str(&context.directory.metrics());
    respond(
        StatusCode::OK,
        "text/plain; version=0.0.4; charset=utf-8",
        body,
    )
}

/// `{"rooms": [{"room", "count"}]}`.
pub(crate) fn rooms(context: &Context) -> Reply {
    #[derive(Serialize)]
    struct Rooms {
        rooms: Vec<RoomSummary>,
    }
    json(
        StatusCode::OK,
        &Rooms {
            rooms: context.directory.rooms(ROOMS_MAX),
        },
    )
}

/// `{"room", "count", "members": [{"id", "user", "state", "node", "joined_at", "away"}]}`; a room
/// without members is a room too.
pub(crate) fn members(context: &Context, segment: &str) -> Reply {
    #[derive(Serialize)]
    struct Members {
        room: String,
        count: usize,
        members: Vec<Member>,
    }
    let Some(room) = percent_decode(segment, false) else {
        return error(
            StatusCode::BAD_REQUEST,
            "The room's name must be percent-encoded UTF-8.",
        );
    };
    let members = context.directory.members(&room);
    json(
        StatusCode::OK,
        &Members {
            room,
            count: members.len(),
            members,
        },
    )
}

/// The mesh as this node sees it.
pub(crate) fn cluster(context: &Context) -> Reply {
    json(StatusCode::OK, &context.directory.cluster())
}

/// What a picture of the mesh needs.
pub(crate) fn mesh(context: &Context) -> Reply {
    json(StatusCode::OK, &context.directory.mesh())
}

/// `{"error": …}`.
pub(crate) fn error(status: StatusCode, message: &str) -> Reply {
    #[derive(Serialize)]
    struct Error<'a> {
        error: &'a str,
    }
    json(status, &Error { error: message })
}

fn json(status: StatusCode, value: &impl Serialize) -> Reply {
    match serde_json::to_vec(value) {
        Ok(body) => respond(status, "application/json", body),
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
    }
}
