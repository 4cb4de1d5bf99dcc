//! Cuts between nodes that all go on.

use std::time::{Duration, Instant};

use tokio::time::sleep;

use crate::cluster::client::Client;
use crate::cluster::puppet::{Puppet, STATE_BYTES};
use crate::cluster::report::Report;
use crate::cluster::stage::{ROOM, Stage};
use crate::cluster::{Cluster, Failure, PATIENCE, eventually, namespaces, watch};

/// A node that is on the side of n1, with much to tell.
const BESIDE: &str = "m1";
/// Its room, and what it tells: 100 KB.
const BULK: &str = "bulk";
const BULK_ROWS: u32 = 28;

/// What lies between the nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ground {
    /// Loopback and the fault proxy.
    Proxy,
    /// Network namespaces.
    Namespaces,
}

impl Ground {
    /// Three nodes with two pages each, or why not.
    pub(super) async fn stage(self) -> Result<Result<Stage, Report>, Failure> {
        match self {
            Self::Proxy => {
                let cluster = Cluster::start(&["n1", "n2", "n3"], &[BESIDE]).await?;
                Ok(Ok(Stage::set(cluster, 2).await?))
            }
            Self::Namespaces => match namespaces::missing() {
                Some(why) => Ok(Err(Report::skipped(why))),
                None => {
                    let cluster = Cluster::start_in_namespaces(&["n1", "n2", "n3"]).await?;
                    Ok(Ok(Stage::set(cluster, 2).await?))
                }
            },
        }
    }
}

/// Each side goes on alone; across the cut everybody leaves and comes back exactly once.
pub(super) async fn split(ground: Ground) -> Result<Report, Failure> {
    let mut stage = match ground.stage().await? {
        Ok(stage) => stage,
        Err(skipped) => return Ok(skipped),
    };
    let beside = match ground {
        Ground::Proxy => Some(Puppet::start(&stage.cluster, BESIDE, &["n1", "n2"]).await?),
        Ground::Namespaces => None,
    };
    let cast = stage.cast();
    let mut report = Report::default();
    stage.mark();
    let begin = Instant::now();
    stage.cluster.network().cut("n1", "n2")?;
    stage.cluster.network().cut("n1", "n3")?;
    if beside.is_some() {
        stage.cluster.network().cut(BESIDE, "n2")?;
        stage.cluster.network().cut(BESIDE, "n3")?;
    }
    stage.until_shown(PATIENCE, &cast, "n1", &["n1"]).await?;
    for node in ["n2", "n3"] {
        stage
            .until_shown(PATIENCE, &cast, node, &["n2", "n3"])
            .await?;
    }
    report.seconds("hidden on both sides after", begin.elapsed(), Some(5.0));
    eventually(PATIENCE, "n2 tells that n1 is hidden", async || {
        let peer = stage.cluster.peer("n2", "n1").await?;
        Ok(peer["visible"] == false && peer["linked"] == false)
    })
    .await?;
    let status = stage.cluster.status("n2")?;
    report.expect(status.contains("hidden"), || {
        format!("status does not name the hidden node:\n{status}")
    });
    // A difference to make up for: pages that come while the other side cannot hear of them.
    for number in 0..40 {
        let node = ["n1", "n2"][number % 2];
        let addr = stage.cluster.web(node)?;
        let rarely = Some(Duration::from_secs(3600));
        stage.clients.push(Client::open(
            &format!("{node}-late-{number}"),
            node,
            addr,
            ROOM,
            rarely,
        ));
    }
    eventually(
        PATIENCE,
        "pages that came late are shown on their side",
        async || Ok(stage.watch.members("n1").len() == 22 && stage.watch.members("n3").len() == 24),
    )
    .await?;
    if let Some(beside) = &beside {
        beside.fill(BULK, 0, BULK_ROWS, STATE_BYTES).await?;
        stage
            .cluster
            .network()
            .faults("*", "*", |faults| faults.loss = 0.01)?;
    }
    let healed = Instant::now();
    stage.cluster.network().heal()?;
    stage.until_listed(PATIENCE).await?;
    if beside.is_some() {
        eventually(
            PATIENCE,
            "the rows of the node beside n1 are shown",
            async || {
                for node in ["n2", "n3"] {
                    let rows = watch::members(stage.cluster.web(node)?, BULK).await?;
                    if rows.len() != BULK_ROWS as usize {
                        return Ok(false);
                    }
                }
                Ok(true)
            },
        )
        .await?;
    }
    report.seconds("all shown everywhere, heal +", healed.elapsed(), Some(3.0));
    stage.cluster.until_linked(&["n1", "n2", "n3"]).await?;
    // Long enough that a second departure would have shown.
    sleep(Duration::from_secs(3)).await;
    stage.judge_changes(&mut report, begin, &cast, |observer, owner| {
        if (observer == "n1") == (owner == "n1") {
            Some((0, 0))
        } else {
            Some((1, 1))
        }
    });
    let own_side = [("n1", "n1"), ("n2", "n3"), ("n3", "n2")];
    let gap = own_side
        .iter()
        .map(|(one, other)| stage.gap(one, &cast, other))
        .max();
    report.seconds(
        "longest gap on the own side",
        gap.unwrap_or_default(),
        Some(1.0),
    );
    stage.judge(&mut report);
    report.saw =
        "own side: nothing; across the cut: everybody left and came back, once each".into();
    Ok(report)
}

/// Nobody leaves: what cannot go directly goes through the node between, and then directly again.
pub(super) async fn partial(ground: Ground) -> Result<Report, Failure> {
    let stage = match ground.stage().await? {
        Ok(stage) => stage,
        Err(skipped) => return Ok(skipped),
    };
    let mut report = Report::default();
    around(&stage, &mut report, ["n1", "n3"], || {
        stage.cluster.network().cut("n1", "n3")
    })
    .await?;
    report.saw = "nobody left; n1 and n3 heard each other through n2, then directly".into();
    Ok(report)
}

/// The same where only one direction is lost: half a link is no link.
pub(super) async fn one_way(ground: Ground) -> Result<Report, Failure> {
    let stage = match ground.stage().await? {
        Ok(stage) => stage,
        Err(skipped) => return Ok(skipped),
    };
    let mut report = Report::default();
    around(&stage, &mut report, ["n1", "n3"], || {
        stage.cluster.network().cut_one_way("n1", "n3")
    })
    .await?;
    report.saw = "nobody left; n1 and n3 heard each other through n2, then directly".into();
    Ok(report)
}

/// Breaks what is between two nodes, waits until the third relays, heals, and judges.
async fn around(
    stage: &Stage,
    report: &mut Report,
    ends: [&str; 2],
    break_it: impl FnOnce() -> Result<(), Failure>,
) -> Result<(), Failure> {
    let cast = stage.cast();
    sleep(Duration::from_secs(2)).await;
    let direct = across(ends, |one, other| stage.age_ms(one, &cast, other, 0.99));
    stage.mark();
    let begin = Instant::now();
    break_it()?;
    eventually(PATIENCE, "both ends use the relay", async || {
        for (one, other) in [(ends[0], ends[1]), (ends[1], ends[0])] {
            let peer = stage.cluster.peer(one, other).await?;
            if peer["linked"] == true || peer["relay"] != "n2" || peer["visible"] != true {
                return Ok(false);
            }
        }
        Ok(true)
    })
    .await?;
    report.seconds("relayed after", begin.elapsed(), Some(5.0));
    let status = stage.cluster.status(ends[0])?;
    let line = status
        .lines()
        .find(|line| line.starts_with(ends[1]))
        .unwrap_or_default();
    report.expect(line.contains("no link") && line.contains("n2"), || {
        format!("status does not show the relay:\n{status}")
    });
    sleep(Duration::from_secs(1)).await;
    let outage = across(ends, |one, other| {
        stage.gap(one, &cast, other).as_secs_f64()
    });
    report.figure("longest gap between them", outage, "s", Some(5.0));
    let missing = across(ends, |one, other| stage.missing(one, &cast, other) as f64);
    report.figure("messages missing", missing, "", Some(0.0));
    stage.mark();
    sleep(Duration::from_secs(8).saturating_sub(begin.elapsed())).await;
    let relayed = across(ends, |one, other| stage.age_ms(one, &cast, other, 0.99));
    report.figure("age p99 direct", direct, "ms", None);
    report.figure("age p99 through n2", relayed, "ms", None);
    let missing = across(ends, |one, other| stage.missing(one, &cast, other) as f64);
    stage.mark();
    let healed = Instant::now();
    stage.cluster.network().heal()?;
    eventually(
        PATIENCE,
        "both ends are linked directly again",
        async || {
            for (one, other) in [(ends[0], ends[1]), (ends[1], ends[0])] {
                let peer = stage.cluster.peer(one, other).await?;
                if peer["linked"] != true || !peer["relay"].is_null() {
                    return Ok(false);
                }
            }
            Ok(true)
        },
    )
    .await?;
    report.seconds("direct again, heal +", healed.elapsed(), Some(3.0));
    sleep(Duration::from_secs(2)).await;
    let gap = across(ends, |one, other| {
        stage.gap(one, &cast, other).as_secs_f64()
    });
    report.figure("longest gap at the heal", gap, "s", Some(1.0));
    let missing = missing + across(ends, |one, other| stage.missing(one, &cast, other) as f64);
    report.expect(missing == 0.0, || {
        format!("{missing} messages are missing of the time after")
    });
    stage.judge_changes(report, begin, &cast, |_, _| Some((0, 0)));
    stage.judge(report);
    Ok(())
}

/// A link that comes and goes is routed around each time; nobody leaves.
pub(super) async fn flapping() -> Result<Report, Failure> {
    let stage = Stage::of_three().await?;
    let cast = stage.cast();
    let mut report = Report::default();
    stage.mark();
    let begin = Instant::now();
    for _ in 0..4 {
        stage.cluster.network().cut("n1", "n3")?;
        sleep(Duration::from_secs(3)).await;
        stage.cluster.network().heal()?;
        sleep(Duration::from_millis(1500)).await;
    }
    let healed = Instant::now();
    stage.cluster.until_linked(&["n1", "n2", "n3"]).await?;
    report.seconds(
        "all linked, last heal + 1.5 s +",
        healed.elapsed(),
        Some(3.0),
    );
    sleep(Duration::from_secs(3)).await;
    let ends = ["n1", "n3"];
    report.figure(
        "longest gap between n1 and n3",
        across(ends, |one, other| {
            stage.gap(one, &cast, other).as_secs_f64()
        }),
        "s",
        Some(5.0),
    );
    report.figure(
        "messages missing",
        across(ends, |one, other| stage.missing(one, &cast, other) as f64),
        "",
        Some(0.0),
    );
    stage.judge_changes(&mut report, begin, &cast, |_, _| Some((0, 0)));
    stage.judge(&mut report);
    report.saw = "nobody left, nothing twice".into();
    Ok(report)
}

/// The larger of something in both directions.
fn across(ends: [&str; 2], measure: impl Fn(&str, &str) -> f64) -> f64 {
    measure(ends[0], ends[1]).max(measure(ends[1], ends[0]))
}
