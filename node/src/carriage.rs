//! Requests that browsers made of one node and another one answers: the web edge's side and the mesh's,
//! put together.

use std::sync::OnceLock;
use std::time::Duration;

use bytes::Bytes;
use cursormesh_mesh::net::{Carrier, CarryError, Request};
use cursormesh_mesh::proto::NodeName;
use cursormesh_web::Answers;
use cursormesh_web::cluster::{self, Carried};
use futures_util::{StreamExt, stream};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

/// While the way to a node changes, from its own link to one over a third node, it is in no overview.
const RETRY_WITHIN: Duration = Duration::from_millis(1500);
const RETRY_PAUSE: Duration = Duration::from_millis(250);

/// The way to other nodes.
#[derive(Debug, Default)]
pub(crate) struct ToOthers {
    /// Empty until the mesh runs.
    carrier: OnceLock<Carrier>,
}

impl ToOthers {
    /// From now on requests go with `carrier`.
    pub(crate) fn open(&self, carrier: Carrier) {
        let _ = self.carrier.set(carrier);
    }
}

impl cluster::Carrier for ToOthers {
    fn reachable(&self) -> Vec<String> {
        let nodes = self.carrier.get().map(Carrier::reachable);
        nodes
            .unwrap_or_default()
            .into_iter()
            .map(|node| node.to_string())
            .collect()
    }

    fn carry(&self, node: &str, request: Bytes) -> Carried {
        let asked = self.carrier.get().cloned().zip(NodeName::new(node).ok());
        let answer = async move {
            let (carrier, node) = asked.ok_or(cluster::CarryError)?;
            let began = Instant::now();
            loop {
                match carrier.carry(&node, request.clone()).await {
                    Ok(answer) => return Ok(answer),
                    // It was not seen there, so asking again does nothing twice.
                    Err(CarryError::Unreachable | CarryError::Busy)
                        if began.elapsed() < RETRY_WITHIN =>
                    {
                        sleep(RETRY_PAUSE).await;
                    }
                    Err(error) => {
                        tracing::debug!(%node, %error, "a request was not carried");
                        return Err(cluster::CarryError);
                    }
                }
            }
        };
        let parts = stream::once(answer).flat_map(|answer| match answer {
            Ok(answer) => stream::unfold(Some(answer), |answer| async {
                let mut answer = answer?;
                match answer.next().await {
                    Ok(part) => part.map(|part| (Ok(part), Some(answer))),
                    Err(_) => Some((Err(cluster::CarryError), None)),
                }
            })
            .left_stream(),
            Err(error) => stream::iter([Err(error)]).right_stream(),
        });
        Box::pin(parts)
    }
}

/// Has the web edge answer what other nodes ask, until the mesh ends.
pub(crate) async fn answer(mut requests: mpsc::Receiver<Request>, answers: Answers) {
    while let Some(request) = requests.recv().await {
        tokio::spawn(serve(request, answers.clone()));
    }
}

async fn serve(request: Request, answers: Answers) {
    let Request {
        body, mut reply, ..
    } = request;
    let mut parts = answers.answer(body);
    loop {
        let part = tokio::select! {
            part = parts.next() => part,
            () = reply.gone() => return,
        };
        let Some(part) = part else {
            // Who asked has gone, and needs nothing any more.
            let _ = reply.finish();
            return;
        };
        if reply.send(part).await.is_err() {
            return;
        }
    }
}
