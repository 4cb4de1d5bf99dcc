//! Requests carried between endpoints on the loopback interface.

use quinn::{RecvStream, SendStream, VarInt};

use super::super::tls::{ALPN_BULK, ALPN_CARRY, ALPN_LIVE};
use super::*;

/// Fails the test if something takes too long.
async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what)
        .await
        .expect("not in time")
}

/// Asks `node` and expects it to take the request.
async fn ask(carrier: &Carrier, node: &str, request: &'static str) -> Answer {
    soon(carrier.carry(&name(node), request.into()))
        .await
        .unwrap()
}

async fn refused(carrier: &Carrier, node: &str) -> CarryError {
    soon(carrier.carry(&name(node), "request".into()))
        .await
        .unwrap_err()
}

async fn next(answer: &mut Answer) -> Result<Option<Bytes>, CarryError> {
    soon(answer.next()).await
}

async fn taken(requests: &mut mpsc::Receiver<Request>) -> Request {
    soon(requests.recv()).await.unwrap()
}

/// Answers each request with its body in a part of its own; `hang` is answered by nothing, and what
/// begins with `endless` without end.
fn echo(mut requests: mpsc::Receiver<Request>) {
    tokio::spawn(async move {
        while let Some(Request {
            body, mut reply, ..
        }) = requests.recv().await
        {
            tokio::spawn(async move {
                if body == "hang" {
                    reply.gone().await;
                } else if body == "endless" {
                    while reply.send(vec![0; 20_000].into()).await.is_ok() {}
                } else {
                    reply.send(body).await.unwrap();
                    reply.finish().unwrap();
                }
            });
        }
    });
}

/// Two linked nodes, the second with its requests taken.
async fn asking() -> (Node, Carrier, Node, mpsc::Receiver<Request>) {
    let ((a, _), (mut b, _)) = pair().await;
    let requests = b.mesh.requests().unwrap();
    let carrier = a.mesh.carrier();
    (a, carrier, b, requests)
}

/// What an overview says of a node that `relay` leads to.
fn behind(relay: &str, node: &str) -> PeerOverview {
    PeerOverview {
        node: name(node),
        region: String::new(),
        boot: 1,
        addr: None,
        alive: true,
        linked: false,
        version: None,
        public: String::new(),
        rtt: None,
        relay: Some(name(relay)),
        visible: true,
        hidden_because: String::new(),
        applied: 0,
        rows: 0,
        rooms: Vec::new(),
        room_count: 0,
        evidence_age: None,
        refused: None,
    }
}

/// `a` and `b`, `b` and `c` are linked; `a` knows that `b` leads to `c`.
async fn chain() -> (Node, Node, Node) {
    let ca = Ca::new();
    let mut a = Node::start(&ca.bundle("a", "test"));
    let mut b = Node::start(&ca.bundle("b", "test"));
    let mut c = Node::start(&ca.bundle("c", "test"));
    a.dial(b.addr(), Some("b"));
    a.connected().await;
    b.connected().await;
    b.dial(c.addr(), Some("c"));
    b.connected().await;
    c.connected().await;
    a.peers.lock().unwrap().push(behind("b", "c"));
    let carrier = a.mesh.carrier();
    eventually("the way is known", || {
        carrier.reachable() == [name("b"), name("c")]
    })
    .await;
    (a, b, c)
}

/// A peer without a mesh that says whatever a test wants over a connection for requests.
struct Rogue {
    /// Keeps the socket.
    _endpoint: quinn::Endpoint,
    connection: quinn::Connection,
}

impl Rogue {
    async fn connect(bundle: &str, addr: SocketAddr) -> Self {
        let identity = Identity::from_pem(bundle.as_bytes()).unwrap();
        let crypto = identity.client_config(ALPN_CARRY).unwrap();
        let config = quinn::ClientConfig::new(Arc::new(crypto));
        let endpoint = quinn::Endpoint::client(loopback()).unwrap();
        let connecting = endpoint.connect_with(config, addr, "test.mesh").unwrap();
        let connection = soon(connecting).await.unwrap();
        Self {
            _endpoint: endpoint,
            connection,
        }
    }

    async fn open(&self) -> (SendStream, RecvStream) {
        soon(self.connection.open_bi()).await.unwrap()
    }

    /// Sends these bytes as a request; the code with which the answer is reset.
    async fn say(&self, bytes: &[u8]) -> u64 {
        let (mut send, mut recv) = self.open().await;
        // Fails if the refusal is faster.
        let _ = send.write_all(bytes).await;
        let _ = send.finish();
        match soon(recv.read(&mut [0])).await {
            Err(quinn::ReadError::Reset(code)) => code.into_inner(),
            other => panic!("{other:?}"),
        }
    }
}

/// A header and a request as they go over the wire.
fn request(left: u8, origin: &str, target: &str, body: &[u8]) -> Vec<u8> {
    let mut header = vec![left];
    for name in [origin, target] {
        header.push(u8::try_from(name.len()).unwrap());
        header.extend_from_slice(name.as_bytes());
    }
    framing::join([Bytes::from(header), Bytes::copy_from_slice(body)]).concat()
}

#[tokio::test]
async fn two_meshes_with_cores_carry_a_request_and_an_answer_of_three_parts() {
    let ca = Ca::new();
    let identity = |node: &str| Identity::from_pem(ca.bundle(node, "test").as_bytes()).unwrap();
    let mut b = start(settings(identity("b"), "b", "test", loopback()))
        .await
        .unwrap();
    let mut settings = settings(identity("a"), "a", "test", loopback());
    settings.core.seeds = vec![(None, b.listen_addr())];
    let mut a = start(settings).await.unwrap();
    let carrier = a.carrier();
    assert_eq!(refused(&carrier, "nobody").await, CarryError::Unreachable);
    eventually("linked", || carrier.reachable() == [name("b")]).await;

    let mut requests = b.requests().unwrap();
    assert!(b.requests().is_none());
    let mut answer = ask(&carrier, "b", "question").await;
    let Request {
        from,
        body,
        mut reply,
    } = taken(&mut requests).await;
    assert_eq!((from.as_str(), &body[..]), ("a", &b"question"[..]));
    for part in ["one", "two", "three"] {
        reply.send(part.into()).await.unwrap();
        assert_eq!(next(&mut answer).await, Ok(Some(part.into())));
    }
    reply.finish().unwrap();
    assert_eq!(next(&mut answer).await, Ok(None));
    assert_eq!(next(&mut answer).await, Ok(None));

    // And the other way, over a connection that the other side dials.
    echo(a.requests().unwrap());
    let mut answer = ask(&b.carrier(), "a", "back").await;
    assert_eq!(next(&mut answer).await, Ok(Some("back".into())));
    assert_eq!(next(&mut answer).await, Ok(None));
}

#[tokio::test]
async fn parts_keep_their_boundaries_and_sizes_above_the_limit_are_not_sent() {
    let (a, carrier, b, mut requests) = asking().await;
    let big = Bytes::from(vec![7; REQUEST_BYTES_MAX]);
    let too_big = Bytes::from(vec![7; REQUEST_BYTES_MAX + 1]);
    let error = carrier.carry(&name("b"), too_big.clone()).await;
    assert_eq!(error.unwrap_err(), CarryError::TooBig);
    assert_eq!(a.counter("mesh_carry_asked_total"), 0);

    let target = name("b");
    let (answer, request) =
        soon(async { tokio::join!(carrier.carry(&target, big.clone()), requests.recv()) }).await;
    let Request {
        body, mut reply, ..
    } = request.unwrap();
    assert_eq!(body, big);
    let mut answer = answer.unwrap();
    let sizes = [0, 1, 0, 4096, 4097, 100_000, PART_BYTES_MAX, 0, 3];
    let send = async {
        assert_eq!(reply.send(too_big).await, Err(CarryError::TooBig));
        for (index, size) in sizes.into_iter().enumerate() {
            let part = vec![u8::try_from(index).unwrap(); size];
            reply.send(part.into()).await.unwrap();
        }
        reply.finish().unwrap();
    };
    let receive = async {
        for (index, size) in sizes.into_iter().enumerate() {
            let part = next(&mut answer).await.unwrap().unwrap();
            assert_eq!(part.len(), size, "part {index}");
            assert!(part.iter().all(|byte| usize::from(*byte) == index));
        }
        assert_eq!(next(&mut answer).await, Ok(None));
    };
    tokio::join!(send, receive);
    assert_eq!(a.counter("mesh_carry_connections_total"), 1);
    assert_eq!(a.counter("mesh_carry_asked_total"), 1);
    assert_eq!(b.counter("mesh_carry_served_total"), 1);
    let live = &a.mesh.view().links()[0];
    assert!(
        live.udp_tx_bytes < 100_000,
        "the live connection carried it"
    );
}

#[tokio::test]
async fn a_handler_hears_at_once_that_the_asker_has_gone() {
    let (_a, carrier, _b, mut requests) = asking().await;
    let answer = ask(&carrier, "b", "request").await;
    let mut reply = taken(&mut requests).await.reply;
    let waits = tokio::time::timeout(Duration::from_millis(50), reply.gone()).await;
    assert!(waits.is_err());
    // Waiting in vain took nothing away.
    reply.send("part".into()).await.unwrap();
    drop(answer);
    soon(reply.gone()).await;
    soon(reply.gone()).await;
    assert_eq!(reply.send("more".into()).await, Err(CarryError::Broken));
    assert_eq!(reply.finish(), Err(CarryError::Broken));
}

#[tokio::test]
async fn a_handler_that_waits_for_room_hears_that_the_asker_has_gone() {
    let (_a, carrier, _b, mut requests) = asking().await;
    let answer = ask(&carrier, "b", "request").await;
    let mut reply = taken(&mut requests).await.reply;
    let full = soon(async move {
        let send = reply.send(vec![0; PART_BYTES_MAX].into());
        tokio::pin!(send);
        let waits = tokio::time::timeout(Duration::from_millis(200), &mut send).await;
        assert!(waits.is_err(), "nothing held the handler back");
        drop(answer);
        send.await
    });
    assert_eq!(full.await, Err(CarryError::Broken));
}

#[tokio::test]
async fn a_reply_that_is_dropped_or_cut_short_breaks_the_answer() {
    let (_a, carrier, _b, mut requests) = asking().await;
    let mut answer = ask(&carrier, "b", "request").await;
    drop(taken(&mut requests).await);
    for _ in 0..2 {
        assert_eq!(next(&mut answer).await, Err(CarryError::Broken));
    }

    let mut answer = ask(&carrier, "b", "request").await;
    let mut reply = taken(&mut requests).await.reply;
    let send = reply.send(vec![0; PART_BYTES_MAX].into());
    let waits = tokio::time::timeout(Duration::from_millis(100), send).await;
    assert!(waits.is_err());
    assert_eq!(reply.send("next".into()).await, Err(CarryError::Broken));
    assert_eq!(next(&mut answer).await, Err(CarryError::Broken));
}

#[tokio::test]
async fn nobody_to_take_requests_is_unreachable() {
    let ((a, _), (mut b, _)) = pair().await;
    let carrier = a.mesh.carrier();
    let began = Instant::now();
    for node in ["nobody", "a"] {
        assert_eq!(refused(&carrier, node).await, CarryError::Unreachable);
    }
    assert!(began.elapsed() < Duration::from_millis(100));
    // No handler yet, and none any more.
    assert_eq!(refused(&carrier, "b").await, CarryError::Unreachable);
    drop(b.mesh.requests().unwrap());
    assert_eq!(refused(&carrier, "b").await, CarryError::Unreachable);
    assert_eq!(b.counter("mesh_carry_served_total"), 0);
    let view = a.mesh.view();
    drop(a);
    eventually("the mesh has ended", || view.links().is_empty()).await;
    assert_eq!(refused(&carrier, "b").await, CarryError::Unreachable);
}

#[tokio::test]
async fn a_peer_that_ends_and_one_that_falls_silent_lose_what_is_under_way() {
    for silent in [true, false] {
        let ca = Ca::new();
        let mut a = Node::start(&ca.bundle("a", "test"));
        let bundle = ca.bundle("b", "test");
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let b = runtime.spawn(async move { Node::start(&bundle) });
        let mut b = b.await.unwrap();
        a.dial(b.addr(), None);
        a.connected().await;
        let mut requests = b.mesh.requests().unwrap();
        let carrier = a.mesh.carrier();
        let mut answer = ask(&carrier, "b", "request").await;
        let mut request = taken(&mut requests).await;
        let began = Instant::now();
        if silent {
            runtime.shutdown_background();
        } else {
            drop(b.mesh);
            soon(request.reply.gone()).await;
            assert!(soon(requests.recv()).await.is_none());
            runtime.shutdown_background();
        }
        assert_eq!(next(&mut answer).await, Err(CarryError::Lost));
        let took = began.elapsed();
        assert!(took < Duration::from_secs(3), "took {took:?}");
        assert_eq!(a.counter("mesh_carry_lost_total"), 1);
        eventually("out of reach", || carrier.reachable().is_empty()).await;
        assert_eq!(refused(&carrier, "b").await, CarryError::Unreachable);
    }
}

#[tokio::test]
async fn with_the_live_link_goes_what_is_under_way() {
    let ((mut a, at_a), (mut b, _)) = pair().await;
    let mut requests = b.mesh.requests().unwrap();
    let carrier = a.mesh.carrier();
    let mut answer = ask(&carrier, "b", "request").await;
    let mut reply = taken(&mut requests).await.reply;
    let began = Instant::now();
    a.act(Output::Close {
        conn: at_a,
        code: CloseCode::Lost,
        reason: "cut".into(),
    });
    assert_eq!(next(&mut answer).await, Err(CarryError::Lost));
    soon(reply.gone()).await;
    assert_eq!(reply.send("part".into()).await, Err(CarryError::Lost));
    assert!(began.elapsed() < Duration::from_secs(1));
    assert_eq!(refused(&carrier, "b").await, CarryError::Unreachable);

    a.dial(b.addr(), None);
    a.connected().await;
    let _answer = ask(&carrier, "b", "again").await;
    assert_eq!(taken(&mut requests).await.body, "again");
}

#[tokio::test]
async fn many_that_wait_do_not_hold_up_one_that_is_answered() {
    let (a, carrier, b, requests) = asking().await;
    echo(requests);
    let mut waiting = Vec::new();
    for _ in 0..500 {
        waiting.push(ask(&carrier, "b", "hang").await);
    }
    let began = Instant::now();
    let mut answer = ask(&carrier, "b", "quick").await;
    assert_eq!(next(&mut answer).await, Ok(Some("quick".into())));
    assert!(began.elapsed() < Duration::from_secs(1));
    assert_eq!(a.counter("mesh_carry_connections_total"), 1);
    assert_eq!(b.counter("mesh_carry_served_total"), 501);
}

#[tokio::test]
async fn readers_that_are_stuck_do_not_hold_up_the_others() {
    let (_a, carrier, _b, requests) = asking().await;
    echo(requests);
    // Together far more than a connection's window as other connections have it.
    let mut stuck = Vec::new();
    for _ in 0..300 {
        stuck.push(ask(&carrier, "b", "endless").await);
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    let began = Instant::now();
    let target = name("b");
    let big = Bytes::from(vec![1; REQUEST_BYTES_MAX]);
    let mut answer = soon(carrier.carry(&target, big.clone())).await.unwrap();
    assert_eq!(next(&mut answer).await, Ok(Some(big)));
    let took = began.elapsed();
    assert!(took < Duration::from_secs(3), "took {took:?}");
    // And they go on where they stopped.
    for answer in &mut stuck {
        assert_eq!(next(answer).await.unwrap().unwrap().len(), 20_000);
    }
}

#[tokio::test]
async fn what_the_handler_does_not_take_is_refused_as_busy() {
    let (_a, carrier, b, mut requests) = asking().await;
    let mut waiting = Vec::new();
    let error = loop {
        match soon(carrier.carry(&name("b"), Bytes::new())).await {
            Ok(answer) => waiting.push(answer),
            Err(error) => break error,
        }
    };
    assert_eq!((error, waiting.len()), (CarryError::Busy, 1024));
    assert_eq!(b.counter("mesh_carry_busy_total"), 1);
    taken(&mut requests).await;
    ask(&carrier, "b", "one more").await;
}

#[tokio::test]
async fn a_connection_has_so_many_places_and_an_answer_that_ends_frees_one() {
    let (a, carrier, _b, requests) = asking().await;
    echo(requests);
    let mut waiting = Vec::new();
    for _ in 0..4096 {
        waiting.push(ask(&carrier, "b", "hang").await);
    }
    assert_eq!(refused(&carrier, "b").await, CarryError::Busy);
    assert_eq!(a.counter("mesh_carry_busy_total"), 1);
    waiting.pop();
    let mut answer = ask(&carrier, "b", "fits").await;
    assert_eq!(next(&mut answer).await, Ok(Some("fits".into())));
    assert_eq!(next(&mut answer).await, Ok(None));
    assert_eq!(a.counter("mesh_carry_connections_total"), 1);
}

#[tokio::test]
async fn unanswered_bytes_are_bounded() {
    let (_a, carrier, _b, mut requests) = asking().await;
    let big = Bytes::from(vec![1; REQUEST_BYTES_MAX]);
    let mut waiting = Vec::new();
    let error = loop {
        match soon(carrier.carry(&name("b"), big.clone())).await {
            Ok(answer) => waiting.push(answer),
            Err(error) => break error,
        }
    };
    assert_eq!((error, waiting.len()), (CarryError::Busy, 64));
    let mut first = taken(&mut requests).await;
    first.reply.send("begun".into()).await.unwrap();
    soon(carrier.carry(&name("b"), big)).await.unwrap();
}

#[tokio::test]
async fn an_unused_connection_is_closed_and_dialled_again_when_needed() {
    let (a, carrier, _b, requests) = asking().await;
    echo(requests);
    let mut answer = ask(&carrier, "b", "hang").await;
    let later = |seconds| Instant::now() + Duration::from_secs(seconds);
    let target = name("b");
    a.mesh.carriage.close_unused(&target, later(3600));
    let waits = tokio::time::timeout(Duration::from_millis(100), answer.next()).await;
    assert!(waits.is_err(), "closed while in use");
    drop(answer);
    // A minute counts from when it was last seen in use.
    a.mesh.carriage.close_unused(&target, later(3650));
    ask(&carrier, "b", "still the same").await;
    assert_eq!(a.counter("mesh_carry_connections_total"), 1);
    a.mesh.carriage.close_unused(&target, later(3700));
    ask(&carrier, "b", "another").await;
    assert_eq!(a.counter("mesh_carry_connections_total"), 2);
}

#[tokio::test]
async fn requests_that_begin_together_share_one_dial() {
    let (a, carrier, _b, requests) = asking().await;
    echo(requests);
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let carrier = carrier.clone();
        tasks.spawn(async move {
            let mut answer = ask(&carrier, "b", "request").await;
            assert_eq!(next(&mut answer).await, Ok(Some("request".into())));
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    assert_eq!(a.counter("mesh_carry_connections_total"), 1);
}

#[tokio::test]
async fn a_peer_that_does_not_carry_yet_is_unreachable_and_no_warning() {
    let ca = Ca::new();
    let mut a = Node::start(&ca.bundle("newer", "old"));
    let bundle = ca.bundle("older", "old");
    let mut b = Node::start(&bundle);
    let identity = Identity::from_pem(bundle.as_bytes()).unwrap();
    let crypto = identity.server_config_for(&[ALPN_LIVE, ALPN_BULK]).unwrap();
    let config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    b.endpoint.set_server_config(Some(config));
    a.dial(b.addr(), None);
    a.connected().await;
    b.connected().await;
    let carrier = a.mesh.carrier();
    for _ in 0..20 {
        assert_eq!(refused(&carrier, "older").await, CarryError::Unreachable);
    }
    assert!(carrier.reachable().is_empty());
    assert_eq!(b.counter("mesh_handshakes_failed_total"), 1);
    let log = String::from_utf8_lossy(&LOG.lock().unwrap()).into_owned();
    let warned = |line: &str| line.contains("WARN") && line.contains(&b.addr().to_string());
    assert!(!log.lines().any(warned));
    assert_eq!(a.mesh.view().links().len(), 1);
}

#[tokio::test]
async fn one_node_between_passes_request_and_answer_on() {
    let (a, b, mut c) = chain().await;
    let mut requests = c.mesh.requests().unwrap();
    let carrier = a.mesh.carrier();
    let mut answer = ask(&carrier, "c", "far").await;
    let Request {
        from,
        body,
        mut reply,
    } = taken(&mut requests).await;
    assert_eq!((from.as_str(), &body[..]), ("a", &b"far"[..]));
    let sizes = [3, 0, PART_BYTES_MAX, 1];
    let send = async {
        for size in sizes {
            reply.send(vec![5; size].into()).await.unwrap();
        }
        reply.finish().unwrap();
    };
    let receive = async {
        for size in sizes {
            assert_eq!(next(&mut answer).await.unwrap().unwrap().len(), size);
        }
        assert_eq!(next(&mut answer).await, Ok(None));
    };
    tokio::join!(send, receive);
    assert_eq!(b.counter("mesh_carry_relayed_total"), 1);
    assert_eq!(b.counter("mesh_carry_asked_total"), 0);
    assert_eq!(c.counter("mesh_carry_served_total"), 1);
}

#[tokio::test]
async fn through_a_relay_each_side_hears_of_the_others_end() {
    let (a, b, mut c) = chain().await;
    let carrier = a.mesh.carrier();
    assert_eq!(refused(&carrier, "c").await, CarryError::Unreachable);
    let mut requests = c.mesh.requests().unwrap();

    // The asker goes.
    let answer = ask(&carrier, "c", "request").await;
    let mut reply = taken(&mut requests).await.reply;
    drop(answer);
    soon(reply.gone()).await;

    // The asker does not read, and goes.
    let answer = ask(&carrier, "c", "request").await;
    let mut reply = taken(&mut requests).await.reply;
    let mut sent = 0;
    while tokio::time::timeout(
        Duration::from_millis(300),
        reply.send(vec![0; 10_000].into()),
    )
    .await
    .is_ok()
    {
        sent += 10_000;
        assert!(sent < 1_000_000, "nothing held the handler back");
    }
    drop(answer);
    soon(reply.gone()).await;

    // The handler gives up.
    let mut answer = ask(&carrier, "c", "request").await;
    drop(taken(&mut requests).await);
    assert_eq!(next(&mut answer).await, Err(CarryError::Broken));

    // The handler's node goes.
    let mut answer = ask(&carrier, "c", "request").await;
    let _request = taken(&mut requests).await;
    drop(c);
    assert_eq!(next(&mut answer).await, Err(CarryError::Lost));
    assert_eq!(a.counter("mesh_carry_lost_total"), 1);
    eventually("the relay knows", || {
        b.mesh.carrier().reachable() == [name("a")]
    })
    .await;
    assert_eq!(refused(&carrier, "c").await, CarryError::Unreachable);
    // The relay itself is as good as ever.
    assert_eq!(refused(&carrier, "b").await, CarryError::Unreachable);
    assert_eq!(carrier.reachable()[0], name("b"));
}

#[tokio::test]
async fn a_relay_that_goes_loses_what_it_passed_on() {
    let (a, b, mut c) = chain().await;
    let mut requests = c.mesh.requests().unwrap();
    let mut answer = ask(&a.mesh.carrier(), "c", "request").await;
    let mut reply = taken(&mut requests).await.reply;
    drop(b);
    assert_eq!(next(&mut answer).await, Err(CarryError::Lost));
    soon(reply.gone()).await;
}

#[tokio::test]
async fn garbage_costs_its_stream_and_nothing_else() {
    let ca = Ca::new();
    let mut node = Node::start(&ca.bundle("node", "test"));
    let mut requests = node.mesh.requests().unwrap();
    let rogue = Rogue::connect(&ca.bundle("rogue", "test"), node.addr()).await;
    let good = request(0, "rogue", "node", b"good");
    let mut long = good.clone();
    long.push(0);
    let mut header = good[..good.len() - 8].to_vec();
    let mut huge = header.clone();
    huge.extend_from_slice(&u32::try_from(REQUEST_BYTES_MAX + 1).unwrap().to_le_bytes());
    header.extend_from_slice(&100_u32.to_le_bytes());
    let malformed: [&[u8]; 10] = [
        b"",
        b"abc",
        &[0xff; 64],
        &[0; 64],
        &good[..good.len() - 1],
        &long,
        &huge,
        &header,
        &request(2, "rogue", "node", b""),
        &request(1, "other", "node", b""),
    ];
    for (index, bytes) in malformed.iter().enumerate() {
        assert_eq!(rogue.say(bytes).await, 5, "case {index}");
    }
    assert_eq!(
        node.counter("mesh_limit_violations_total"),
        malformed.len() as u64
    );
    // In order, but not to be had: nobody of that name, and once only.
    for left in [0, 1] {
        assert_eq!(rogue.say(&request(left, "rogue", "other", b"")).await, 3);
    }

    let (mut send, mut recv) = rogue.open().await;
    send.write_all(&good).await.unwrap();
    send.finish().unwrap();
    let Request {
        body, mut reply, ..
    } = taken(&mut requests).await;
    assert_eq!(body, "good");
    reply.send("fine".into()).await.unwrap();
    reply.finish().unwrap();
    let answer = soon(recv.read_to_end(100)).await.unwrap();
    assert_eq!(answer, b"\x01\x04\0\0\0fine");

    // One that gives up while it asks is no offence.
    let (mut send, _recv) = rogue.open().await;
    send.write_all(&good[..good.len() - 1]).await.unwrap();
    send.reset(VarInt::from_u32(0)).unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(
        node.counter("mesh_limit_violations_total"),
        malformed.len() as u64
    );
    assert!(requests.try_recv().is_err());
}

#[tokio::test]
async fn garbage_for_an_answer_breaks_the_answer_alone() {
    let ca = Ca::new();
    let bundle = ca.bundle("b", "test");
    let mut a = Node::start(&ca.bundle("a", "test"));
    let identity = Identity::from_pem(bundle.as_bytes()).unwrap();
    let crypto = identity.server_config().unwrap();
    let config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    let fake = quinn::Endpoint::server(config, loopback()).unwrap();
    a.dial(fake.local_addr().unwrap(), None);
    let _live = soon(async { fake.accept().await.unwrap().await })
        .await
        .unwrap();
    a.connected().await;

    let carrier = a.mesh.carrier();
    let serve = async {
        let carry = soon(async { fake.accept().await.unwrap().await })
            .await
            .unwrap();
        let mut too_long = vec![1];
        too_long.extend_from_slice(&u32::try_from(PART_BYTES_MAX + 1).unwrap().to_le_bytes());
        for bytes in [&b""[..], b"\x02", b"\x01\x04\0\0\0abc", &too_long] {
            let (mut send, mut recv) = soon(carry.accept_bi()).await.unwrap();
            soon(recv.read_to_end(1000)).await.unwrap();
            send.write_all(bytes).await.unwrap();
            send.finish().unwrap();
        }
        carry
    };
    let asks = async {
        for index in 0..4 {
            let outcome = match soon(carrier.carry(&name("b"), "request".into())).await {
                Ok(mut answer) => next(&mut answer).await,
                Err(error) => Err(error),
            };
            assert_eq!(outcome, Err(CarryError::Broken), "case {index}");
        }
    };
    let (carry, ()) = tokio::join!(serve, asks);
    assert!(carry.close_reason().is_none());
    assert_eq!(a.counter("mesh_limit_violations_total"), 4);
    assert_eq!(a.mesh.view().links().len(), 1);
}
