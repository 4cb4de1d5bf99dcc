//! One session over HTTP as a client holds it: it sends, it receives, and it opens the next response
//! when one is over.

use std::collections::VecDeque;
use std::net::SocketAddr;

use serde_json::json;
use uuid::Uuid;

use super::http::{Answer, Pending, Request, soon};
use super::node::Node;
use super::transport::{Receiver, Transport, messages, percent_encode};

pub(crate) const STILL_OPEN: &str = "c[2010,\"Another connection still open\"]";
pub(crate) const GO_AWAY: &str = "c[3000,\"Go away!\"]";

#[derive(Debug, Clone)]
pub(crate) struct Session {
    pub(crate) addr: SocketAddr,
    pub(crate) id: String,
    pub(crate) url: String,
}

impl Session {
    /// A session of a service that nobody has used before; the server does not know of it yet.
    pub(crate) fn new(node: &Node, service: &str) -> Self {
        let id = Uuid::new_v4().to_string();
        Self {
            addr: node.addr,
            url: format!("{service}/000/{id}"),
            id,
        }
    }

    /// The same, opened with a poll.
    pub(crate) async fn open(node: &Node, service: &str) -> Self {
        let session = Self::new(node, service);
        assert_eq!(session.poll().await, "o\n");
        session
    }

    /// What one poll over XHR brings.
    pub(crate) async fn poll(&self) -> String {
        let answer = Transport::Xhr.request(&self.url).fetch(self.addr).await;
        assert_eq!(answer.status, 200);
        answer.body
    }

    /// The answer to a body that is posted to `xhr_send`.
    pub(crate) async fn send(&self, body: impl AsRef<[u8]>) -> Answer {
        let request = Request::post(format!("{}/xhr_send", self.url)).body(body);
        request.fetch(self.addr).await
    }

    /// Sends messages, and they are taken.
    pub(crate) async fn say(&self, messages: &[&str]) {
        let answer = self.send(json!(messages).to_string()).await;
        assert_eq!((answer.status, answer.body.as_str()), (204, ""));
    }

    /// Sends a message as the field of a form, and it is taken.
    pub(crate) async fn say_with_a_form(&self, message: &str) {
        let form = format!("d={}", percent_encode(&json!([message]).to_string()));
        let request = Request::post(format!("{}/jsonp_send", self.url))
            .header("Content-Type", "application/x-www-form-urlencoded")
            .body(form);
        let answer = request.fetch(self.addr).await;
        assert_eq!((answer.status, answer.body.as_str()), (200, "ok"));
    }

    /// Starts to receive.
    pub(crate) async fn receive(&self, transport: Transport) -> Receiver {
        let response = transport.request(&self.url).stream(self.addr).await;
        Receiver::new(transport, response)
    }

    /// The session opened over a transport that goes on.
    pub(crate) async fn receive_first(&self, transport: Transport) -> Receiver {
        let mut receiver = self.receive(transport).await;
        receiver.hears("o").await;
        receiver
    }

    /// A poll of an open session that hangs for sure: a rival of it was told so.
    pub(crate) async fn hang(&self, transport: Transport) -> Pending {
        let mut one = transport.request(&self.url).start(self.addr).await;
        let mut other = transport.request(&self.url).start(self.addr).await;
        let (told, hanging) = soon(async {
            tokio::select! {
                () = one.wait() => (one, other),
                () = other.wait() => (other, one),
            }
        })
        .await;
        let mut told = Receiver::new(transport, told.response().await);
        told.hears(STILL_OPEN).await;
        told.ends().await;
        hanging
    }
}

/// Hears message after message, and opens the next response when one is over.
#[derive(Debug)]
pub(crate) struct Listener {
    session: Session,
    transport: Transport,
    receiver: Receiver,
    heard: VecDeque<String>,
    /// Responses that were over.
    pub(crate) reopened: usize,
}

impl Listener {
    /// Opens a session with this transport.
    pub(crate) async fn open(session: &Session, transport: Transport) -> Self {
        Self {
            session: session.clone(),
            transport,
            receiver: session.receive_first(transport).await,
            heard: VecDeque::new(),
            reopened: 0,
        }
    }

    /// The next message.
    pub(crate) async fn hear(&mut self) -> String {
        loop {
            if let Some(message) = self.heard.pop_front() {
                return message;
            }
            let frame = self.frame().await;
            if frame != "h" {
                self.heard.extend(messages(&frame));
            }
        }
    }

    /// The next frame, of this response or a later one.
    pub(crate) async fn frame(&mut self) -> String {
        loop {
            if let Some(frame) = self.receiver.frame().await {
                return frame;
            }
            self.reopened += 1;
            self.receiver = self.session.receive(self.transport).await;
        }
    }

    /// Is gone, as after a crash.
    pub(crate) fn reset(self) {
        self.receiver.response.reset();
    }
}
