//! SockJS without sticky sessions: three real nodes, and every request goes to the next one.

#![allow(clippy::print_stdout, clippy::unwrap_used)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cursormesh_tests::cluster::sockjs::{Balancer, Ear, Heard, Mouth, Session, Transport};
use cursormesh_tests::cluster::{Cluster, PATIENCE};
use tokio::time::timeout;

const NODES: [&str; 3] = ["n1", "n2", "n3"];
/// A limit on answers that makes sessions come back often.
const SHORT_ANSWERS: &str = "[web]\nsockjs_response_bytes_max = 1024\n";

fn web(cluster: &Cluster, nodes: &[&str]) -> Vec<SocketAddr> {
    nodes
        .iter()
        .map(|node| cluster.web(node).unwrap())
        .collect()
}

fn message(number: usize) -> String {
    format!("{{\"n\":{number},\"text\":\"</script> %41 \u{2028} \u{1f600}\"}}")
}

/// Waits for the next message and gives its number. A second `o` is the end of what was there before.
async fn number(ear: &mut Ear) -> Result<usize, String> {
    match timeout(PATIENCE, ear.hear()).await {
        Err(_) => Err("nothing is heard".into()),
        Ok(Err(error)) => Err(error.to_string()),
        Ok(Ok(Heard::Message(text))) => {
            let value: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert_eq!(value["text"], "</script> %41 \u{2028} \u{1f600}");
            Ok(value["n"].as_u64().unwrap() as usize)
        }
        Ok(Ok(other)) => Err(format!("{other:?}")),
    }
}

async fn begin(
    balancer: &Arc<Balancer>,
    index: usize,
    name: &str,
    follows: bool,
) -> Result<(Ear, Mouth), String> {
    let transport = Transport::ALL[index % Transport::ALL.len()];
    let name = format!("{name}-{index}");
    let error = |error: &dyn std::fmt::Display| format!("{transport:?} {name}: {error}");
    let (mut ear, mouth) = Session::begin(balancer, transport, &name, follows)
        .await
        .map_err(|problem| error(&problem))?;
    match timeout(PATIENCE, ear.hear()).await {
        Ok(Ok(Heard::Open)) => Ok((ear, mouth)),
        Ok(Ok(other)) => Err(error(&format!("{other:?}"))),
        Ok(Err(problem)) => Err(error(&problem)),
        Err(_) => Err(error(&"does not open")),
    }
}

/// Says messages and hears them all, once, in order.
async fn talk(ear: &mut Ear, mouth: &mut Mouth, from: usize, count: usize) -> Result<(), String> {
    let say = async {
        for number in (from..from + count).step_by(2) {
            let texts: Vec<String> = (number..(number + 2).min(from + count))
                .map(message)
                .collect();
            mouth.say(&texts).await.map_err(|error| error.to_string())?;
        }
        Ok::<_, String>(())
    };
    let hear = async {
        for expected in from..from + count {
            let heard = number(ear).await?;
            if heard != expected {
                return Err(format!("{heard} comes where {expected} is expected"));
            }
        }
        Ok(())
    };
    let (said, heard) = tokio::join!(say, hear);
    said.and(heard)
}

/// Sessions over all transports in turn, all at the same time.
async fn all_at_once(balancer: &Arc<Balancer>, sessions: usize, name: &'static str, follows: bool) {
    let began = Instant::now();
    let tasks: Vec<_> = (0..sessions)
        .map(|index| {
            let balancer = balancer.clone();
            tokio::spawn(async move {
                let (mut ear, mut mouth) = begin(&balancer, index, name, follows).await?;
                talk(&mut ear, &mut mouth, 0, 12)
                    .await
                    .map_err(|error| format!("{index}: {error}"))?;
                Ok::<_, String>(ear.requests)
            })
        })
        .collect();
    let mut requests = 0;
    let mut failures = Vec::new();
    for task in tasks {
        match task.await.unwrap() {
            Ok(count) => requests += count,
            Err(error) => failures.push(error),
        }
    }
    println!(
        "{sessions} sessions ({name}): {requests} requests to hear, {} failures, {:.1} s",
        failures.len(),
        began.elapsed().as_secs_f64()
    );
    assert!(
        failures.is_empty(),
        "{} failed, such as {:?}",
        failures.len(),
        &failures[..failures.len().min(5)]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_sessions_go_from_node_to_node_request_by_request() {
    let cluster = Cluster::start_with(&NODES, &[], SHORT_ANSWERS)
        .await
        .unwrap();
    let balancer = Balancer::new(web(&cluster, &NODES));
    all_at_once(&balancer, 1000, "named", true).await;
    all_at_once(&balancer, 1000, "unnamed", false).await;
}

/// Messages after which no answer is the one that a session began with.
const SPREAD: usize = 30;

/// Opens sessions that begin on one node, and lets them be heard on the others.
async fn spread(
    cluster: &Cluster,
    owner: &str,
    heard_at: &[&str],
    follows: bool,
    name: &str,
) -> Vec<(Ear, Mouth)> {
    let mut sessions = Vec::new();
    for index in 0..10 {
        let balancer = Balancer::new(web(cluster, &[owner]));
        let (mut ear, mut mouth) = begin(&balancer, index, name, follows).await.unwrap();
        balancer.set(web(cluster, heard_at));
        talk(&mut ear, &mut mouth, 0, SPREAD).await.unwrap();
        sessions.push((ear, mouth));
    }
    sessions
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_of_a_node_that_dies_end_within_seconds_and_no_others() {
    for follows in [true, false] {
        let mut cluster = Cluster::start_with(&NODES, &[], SHORT_ANSWERS)
            .await
            .unwrap();
        let lost = spread(&cluster, "n1", &["n2", "n3"], follows, "lost").await;
        let mut kept = spread(&cluster, "n2", &["n2", "n3"], follows, "kept").await;
        cluster.process("n1").unwrap().kill().unwrap();
        let began = Instant::now();
        let ends = lost.into_iter().map(|(mut ear, mouth)| async move {
            let heard = timeout(Duration::from_secs(6), ear.hear()).await;
            let heard = heard.expect("the end is heard within 6 s").unwrap();
            assert!(
                matches!(heard, Heard::Closed(1012) | Heard::Open),
                "{heard:?}"
            );
            drop(mouth);
            began.elapsed()
        });
        let ends = futures_util::future::join_all(ends).await;
        let last = ends.iter().max().unwrap();
        println!("follows {follows}: the last of 10 sessions heard of its end after {last:?}");
        for (ear, mouth) in &mut kept {
            talk(ear, mouth, SPREAD, 4).await.unwrap();
        }
        // The clients come back elsewhere.
        let balancer = Balancer::new(web(&cluster, &["n2", "n3"]));
        all_at_once(&balancer, 10, "again", follows).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_come_and_go_and_sessions_of_the_others_stay() {
    let mut cluster = Cluster::start_with(&NODES, &[], SHORT_ANSWERS)
        .await
        .unwrap();
    let mut sessions = spread(&cluster, "n1", &["n1", "n2"], false, "stay").await;
    sessions.extend(spread(&cluster, "n2", &["n1", "n2"], true, "stay-too").await);
    for round in 1..=2 {
        cluster.process("n3").unwrap().kill().unwrap();
        for (ear, mouth) in &mut sessions {
            talk(ear, mouth, SPREAD + round * 8 - 8, 4).await.unwrap();
        }
        cluster.restart("n3").await.unwrap();
        cluster.until_linked(&NODES).await.unwrap();
        for (ear, mouth) in &mut sessions {
            talk(ear, mouth, SPREAD + round * 8 - 4, 4).await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_stops_in_order_hands_on_the_sessions_that_it_only_carried() {
    let mut cluster = Cluster::start_with(&NODES, &[], SHORT_ANSWERS)
        .await
        .unwrap();
    let mut sessions = Vec::new();
    for index in 0..10 {
        let balancer = Balancer::new(web(&cluster, &["n1"]));
        let (mut ear, mut mouth) = begin(&balancer, index, "handed", index >= 5).await.unwrap();
        balancer.set(web(&cluster, &["n3"]));
        talk(&mut ear, &mut mouth, 0, SPREAD).await.unwrap();
        // The request that hangs at n3 is the last one there.
        balancer.set(web(&cluster, &["n2"]));
        sessions.push((ear, mouth));
    }
    let (gone, stopped) = tokio::sync::watch::channel(false);
    let hearing = sessions.into_iter().map(|(mut ear, mut mouth)| {
        let mut stopped = stopped.clone();
        async move {
            let (heard, said) = tokio::join!(number(&mut ear), async {
                stopped.wait_for(|gone| *gone).await.unwrap();
                mouth
                    .say(&[message(SPREAD)])
                    .await
                    .map_err(|error| error.to_string())
            });
            said.unwrap();
            assert_eq!(heard, Ok(SPREAD));
            talk(&mut ear, &mut mouth, SPREAD + 1, 6).await.unwrap();
        }
    });
    let stop = async {
        let took = cluster.process("n3").unwrap().terminate().await.unwrap();
        gone.send_replace(true);
        took
    };
    let (_, took) = tokio::join!(futures_util::future::join_all(hearing), stop);
    println!("the node stopped within {took:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_two_nodes_do_not_reach_each_other_a_third_carries() {
    let cluster = Cluster::start_with(&NODES, &[], SHORT_ANSWERS)
        .await
        .unwrap();
    cluster.network().cut("n1", "n3").unwrap();
    cursormesh_tests::cluster::eventually(PATIENCE, "the cut is noticed", async || {
        Ok(cluster.peer("n3", "n1").await?["linked"] == false)
    })
    .await
    .unwrap();
    for follows in [true, false] {
        let name = if follows { "around" } else { "around-unnamed" };
        let mut sessions = spread(&cluster, "n1", &["n3"], follows, name).await;
        for (ear, mouth) in &mut sessions {
            talk(ear, mouth, SPREAD, 20).await.unwrap();
        }
    }
}
