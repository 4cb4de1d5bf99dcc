//! Links that carry little, and one large transfer among small things.

use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::partition::Ground;
use crate::cluster::puppet::{Puppet, STATE_BYTES};
use crate::cluster::report::Report;
use crate::cluster::stage::Stage;
use crate::cluster::{Cluster, Failure, PATIENCE, eventually};

const MEGABIT: u64 = 1_000_000;
/// The room of the puppets' cursors.
const FIELD: &str = "field";
/// The room of the members that are only large.
const BULK: &str = "bulk";
const FRAME: Duration = Duration::from_millis(16);

/// Cursors stay young because what is overtaken is dropped, and presence is complete.
pub(super) async fn link(ground: Ground) -> Result<Report, Failure> {
    let mut report = Report::default();
    let (stage, puppets) = match ground {
        Ground::Namespaces => match ground.stage().await? {
            Ok(stage) => (stage, None),
            Err(skipped) => return Ok(skipped),
        },
        Ground::Proxy => {
            let cluster = Cluster::start(&["n1", "n2", "n3"], &["m1", "m2"]).await?;
            let stage = Stage::set(cluster, 2).await?;
            let mut mover = Puppet::start(&stage.cluster, "m1", &["n1", "n2"]).await?;
            let watcher = Puppet::start(&stage.cluster, "m2", &["m1", "n1"]).await?;
            watcher.watch(FIELD).await?;
            mover.watch(FIELD).await?;
            let members = mover.fill(FIELD, 0, 60, 100).await?;
            eventually(
                PATIENCE,
                "the watcher knows the cursors' members",
                async || Ok(count(&watcher, FIELD) == 60),
            )
            .await?;
            mover.move_all(FIELD, members, FRAME)?;
            (stage, Some((mover, watcher)))
        }
    };
    let nodes = ["n1", "n2", "n3"];
    for (index, one) in nodes.iter().enumerate() {
        for other in &nodes[index + 1..] {
            stage.cluster.network().limit(one, other, MEGABIT)?;
        }
    }
    if puppets.is_some() {
        stage
            .cluster
            .network()
            .faults("*", "*", |faults| faults.rate = Some(MEGABIT))?;
    }
    sleep(Duration::from_secs(2)).await;
    let cast = stage.cast();
    let begin = Instant::now();
    stage.mark();
    if let Some((_, watcher)) = &puppets {
        watcher.mark();
    }
    let sent = |stage: &Stage| stage.cluster.network().bytes("m1", "m2");
    let before = sent(&stage);
    sleep(Duration::from_secs(8)).await;
    if let Some((_, watcher)) = &puppets {
        let (positions, members) = watcher.moved();
        report.figure("cursor age p50", watcher.age_ms(0.5), "ms", None);
        report.figure("cursor age p99", watcher.age_ms(0.99), "ms", Some(250.0));
        report.figure(
            "positions per second",
            positions as f64 / begin.elapsed().as_secs_f64(),
            "",
            None,
        );
        report.expect(members == 60, || {
            format!("only {members} of 60 cursors moved")
        });
        report.expect(watcher.left() == 0, || {
            format!("{} members left", watcher.left())
        });
        if let (Some(before), Some(after)) = (before, sent(&stage)) {
            let offered = (after - before) as f64 * 8.0 / begin.elapsed().as_secs_f64() / 1e6;
            report.figure("offered to the link", offered, "Mbit/s", None);
        }
    }
    let mut age = 0.0_f64;
    for one in nodes {
        for other in nodes.iter().filter(|other| **other != one) {
            age = age.max(stage.age_ms(one, &cast, other, 0.99));
        }
    }
    report.figure("pages' messages, age p99", age, "ms", Some(250.0));
    // Newcomers are shown everywhere while the links are slow.
    stage.judge_changes(&mut report, begin, &cast, |_, _| Some((0, 0)));
    stage.until_listed(PATIENCE).await?;
    stage.judge(&mut report);
    report.saw = "presence complete, nobody left, cursors young".into();
    Ok(report)
}

/// A snapshot on its own connection leaves the cursors alone.
pub(super) async fn snapshot() -> Result<Report, Failure> {
    let mut report = Report::default();
    let cluster = Cluster::start(&["n1", "n2", "n3"], &["m1", "m2"]).await?;
    let mut mover = Puppet::start(&cluster, "m1", &["n1", "n2", "n3"]).await?;
    mover.watch(FIELD).await?;
    let members = mover.fill(FIELD, 0, 30, 100).await?;
    let rows = 5_000_000 / STATE_BYTES as u32;
    mover.fill(BULK, 1000, rows, STATE_BYTES).await?;
    let stage = Stage::set(cluster, 2).await?;
    eventually(PATIENCE, "the nodes have the 5 MB", async || {
        let peer = stage.cluster.peer("n1", "m1").await?;
        Ok(peer["rows"].as_u64() == Some(u64::from(rows) + 30))
    })
    .await?;
    stage.cluster.network().faults("*", "*", |faults| {
        faults.loss = 0.02;
        faults.delay = Duration::from_millis(10);
    })?;
    // A watcher of cursors that has the 5 MB already: how old cursors are without a transfer.
    mover.move_all(FIELD, members, FRAME)?;
    let cast = stage.cast();
    sleep(Duration::from_secs(1)).await;
    let watcher = Puppet::start(&stage.cluster, "m2", &["n1", "m1"]).await?;
    watcher.watch(FIELD).await?;
    let complete = |watcher: &Puppet| count(watcher, BULK) == rows as usize;
    let linked = || {
        watcher
            .view()
            .links()
            .iter()
            .any(|link| link.peer.as_str() == "m1")
    };
    eventually(PATIENCE, "the watcher is linked to the mover", async || {
        Ok(linked())
    })
    .await?;
    watcher.mark();
    stage.mark();
    let begin = Instant::now();
    // Many times over, so that there is something to measure: each time the whole table is new to
    // another node of the same name.
    eventually(
        Duration::from_secs(60),
        "the watcher has the 5 MB",
        async || Ok(complete(&watcher)),
    )
    .await?;
    let took = begin.elapsed();
    let during = watcher.age_ms(0.99);
    let (positions, _) = watcher.moved();
    let pages_during = stage.age_ms("n1", &cast, "n2", 0.99);
    watcher.mark();
    stage.mark();
    sleep(took.max(Duration::from_secs(5))).await;
    let after = watcher.age_ms(0.99);
    report.seconds("snapshot took", took, None);
    report.figure("positions meanwhile", positions as f64, "", None);
    report.figure("cursor age p99 without", after, "ms", None);
    report.figure("cursor age p99 during", during, "ms", Some(after + 16.0));
    report.figure(
        "pages' age p99 n2 to n1 without",
        stage.age_ms("n1", &cast, "n2", 0.99),
        "ms",
        None,
    );
    report.figure("during", pages_during, "ms", None);
    report.expect(watcher.left() == 0, || {
        format!("{} members left", watcher.left())
    });
    stage.judge_changes(&mut report, begin, &cast, |_, _| Some((0, 0)));
    stage.judge(&mut report);
    report.saw = "cursors and messages went on".into();
    Ok(report)
}

fn count(puppet: &Puppet, room: &str) -> usize {
    let rooms = puppet.view().rooms(usize::MAX);
    rooms
        .iter()
        .find(|known| known.room.as_str() == room)
        .map_or(0, |known| known.members)
}
