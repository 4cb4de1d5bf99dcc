//! Frames of the bulk lane, on a connection of their own that this side dials when it has some.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use quinn::{Connection, SendStream};
use tracing::{debug, info};

use super::dialer::Dialer;
use super::endpoint::{BULK_IDLE, Kind, close_code};
use super::inbox::Report;
use super::peer::{LaneQueue, LinkContext, open, write, written};
use crate::proto::Lane;
use crate::proto::event::CloseCode;

/// After this long without bulk frames a link that could not dial a bulk connection may try again.
const FALLBACK_IDLE: Duration = Duration::from_secs(60);
/// Few frames per write, so that the core hears soon that there is room.
const FRAMES_PER_WRITE: usize = 4;

/// Where bulk frames go at the moment.
#[derive(Debug)]
struct Route {
    stream: SendStream,
    /// The bulk connection; `None` while the live connection has to do.
    connection: Option<Dialled>,
}

/// A connection that is closed with whoever used it.
#[derive(Debug)]
struct Dialled(Connection);

impl Dialled {
    fn close(&self, reason: &str) {
        self.0.close(close_code(CloseCode::Lost), reason.as_bytes());
    }
}

impl Drop for Dialled {
    fn drop(&mut self) {
        if self.0.close_reason().is_none() {
            self.close("the link ended");
        }
    }
}

/// Writes the bulk frames of one link until the link ends.
pub(super) async fn write_bulk(link: LinkContext, dialer: Dialer, mut queue: LaneQueue) {
    let mut route: Option<Route> = None;
    loop {
        let frames = match &route {
            None => queue.take(FRAMES_PER_WRITE).await,
            Some(Route { connection, .. }) => {
                let idle = match connection {
                    Some(_) => BULK_IDLE,
                    None => FALLBACK_IDLE,
                };
                match tokio::time::timeout(idle, queue.take(FRAMES_PER_WRITE)).await {
                    Ok(frames) => frames,
                    Err(_) => {
                        end(route.take(), "idle");
                        continue;
                    }
                }
            }
        };
        if frames.is_empty() {
            break;
        }
        let count = frames.len();
        let bytes = frames.iter().map(Bytes::len).sum();
        if send(&link, &dialer, &mut route, frames).await {
            written(&link, Lane::Bulk, count, bytes).await;
        } else {
            link.view
                .count_up()
                .bulk_frames_dropped
                .fetch_add(count as u64, Ordering::Relaxed);
            // The protocol asks again for what it misses; the core's room is free either way.
            let (conn, lane) = (link.conn, Lane::Bulk);
            link.inbox
                .report(Report::Drained { conn, lane, bytes })
                .await;
        }
    }
    end(route, "the link ended");
}

/// Sends over the current route, or a new one. False if the frames are lost.
async fn send(
    link: &LinkContext,
    dialer: &Dialer,
    route: &mut Option<Route>,
    frames: Vec<Bytes>,
) -> bool {
    if route.is_none() {
        *route = find_route(link, dialer).await;
    }
    let Some(open) = route else {
        return false;
    };
    let sent = write(&mut open.stream, frames).await.is_ok();
    if !sent {
        *route = None;
    }
    sent
}

async fn find_route(link: &LinkContext, dialer: &Dialer) -> Option<Route> {
    let dialled = dialer
        .connect(link.addr, Kind::Bulk, Some(&link.peer))
        .await
        .map(|(connection, _)| Dialled(connection));
    if let Ok(connection) = dialled
        && let Ok(stream) = open(&connection.0, Lane::Bulk).await
    {
        debug!("bulk connection up");
        link.view
            .count_up()
            .bulk_connections
            .fetch_add(1, Ordering::Relaxed);
        return Some(Route {
            stream,
            connection: Some(connection),
        });
    }
    info!("no bulk connection; bulk frames go over the live one");
    link.view
        .count_up()
        .bulk_fallbacks
        .fetch_add(1, Ordering::Relaxed);
    let stream = open(&link.connection, Lane::Bulk).await.ok()?;
    Some(Route {
        stream,
        connection: None,
    })
}

fn end(route: Option<Route>, reason: &str) {
    let Some(mut route) = route else { return };
    match route.connection {
        Some(connection) => connection.close(reason),
        None => {
            // Fails only if the connection is gone, and the stream with it.
            let _ = route.stream.finish();
        }
    }
}
