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
/// More than 1 Mbit/s carries at the rate of [`FRAME`].
const CURSORS: u32 = 150;
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
            let members = mover.fill(FIELD, 0, CURSORS, 100).await?;
            eventually(
                PATIENCE,
                "the watcher knows the cursors' members",
                async || Ok(count(&watcher, FIELD) == CURSORS as usize),
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
        report.expect(members == CURSORS as usize, || {
            format!("only {members} of {CURSORS} cursors moved")
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

/// A node that was away takes 5 MB from the one whose cursors it watches, on the same path: a
/// snapshot travels on a connection of its own, so the cursors stay as young as they were.
pub(super) async fn snapshot() -> Result<Report, Failure> {
    let mut report = Report::default();
    let cluster = Cluster::start(&["n1", "n2", "n3"], &["m1", "m2"]).await?;
    let mut mover = Puppet::start(&cluster, "m1", &["n1", "n2", "n3"]).await?;
    let watcher = Puppet::start(&cluster, "m2", &["n1", "m1"]).await?;
    mover.watch(FIELD).await?;
    watcher.watch(FIELD).await?;
    let members = mover.fill(FIELD, 0, 30, 100).await?;
    let stage = Stage::set(cluster, 2).await?;
    stage.cluster.network().faults("*", "*", |faults| {
        faults.loss = 0.02;
        faults.delay = Duration::from_millis(10);
    })?;
    let linked = || {
        let links = watcher.view().links();
        links.iter().any(|link| link.peer.as_str() == "m1")
    };
    eventually(
        PATIENCE,
        "the watcher knows the cursors' members",
        async || Ok(count(&watcher, FIELD) == 30 && linked()),
    )
    .await?;
    mover.move_all(FIELD, members, FRAME)?;
    sleep(Duration::from_secs(1)).await;
    let cast = stage.cast();
    let begin = Instant::now();
    watcher.mark();
    stage.mark();
    sleep(Duration::from_secs(6)).await;
    let before = watcher.age_ms(0.99);
    let pages_before = stage.age_ms("n1", &cast, "n2", 0.99);

    stage.cluster.network().cut("m2", "*")?;
    eventually(PATIENCE, "the watcher is alone", async || Ok(!linked())).await?;
    let rows = 5_000_000 / u32::try_from(STATE_BYTES)?;
    mover.fill(BULK, 1000, rows, STATE_BYTES).await?;
    stage.cluster.network().heal()?;
    eventually(PATIENCE, "the watcher is linked again", async || {
        Ok(linked())
    })
    .await?;
    watcher.mark();
    stage.mark();
    let healed = Instant::now();
    let complete = || count(&watcher, BULK) == rows as usize;
    report.expect(!complete(), || {
        "the 5 MB were there before the measurement".into()
    });
    eventually(
        Duration::from_secs(60),
        "the watcher has the 5 MB",
        async || Ok(complete()),
    )
    .await?;
    let took = healed.elapsed();
    let (positions, moved) = watcher.moved();
    report.seconds("5 MB took", took, None);
    report.figure("cursor age p99 before", before, "ms", None);
    report.figure("during", watcher.age_ms(0.99), "ms", Some(before + 16.0));
    report.figure(
        "positions per second during",
        positions as f64 / took.as_secs_f64(),
        "",
        None,
    );
    report.figure("pages' age p99 before", pages_before, "ms", None);
    report.figure("during", stage.age_ms("n1", &cast, "n2", 0.99), "ms", None);
    report.expect(moved == 30, || format!("only {moved} of 30 cursors moved"));
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
