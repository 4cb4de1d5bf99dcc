//! Nodes that die, restart, freeze or are replaced.

use std::time::{Duration, Instant};

use tokio::time::sleep;

use crate::cluster::report::Report;
use crate::cluster::stage::Stage;
use crate::cluster::{Failure, PATIENCE, eventually};

/// Survivors see each member of the dead node leave once, within 5 s, and each other without a break.
pub(super) async fn kill() -> Result<Report, Failure> {
    let mut stage = Stage::of_three().await?;
    let cast = stage.cast();
    let mut report = Report::default();
    stage.mark();
    let begin = Instant::now();
    stage.cluster.process("n3")?.kill()?;
    let mut gone = Duration::ZERO;
    for node in ["n1", "n2"] {
        stage
            .until_shown(PATIENCE, &cast, node, &["n1", "n2"])
            .await?;
        gone = begin.elapsed();
    }
    until_told(&stage, "n3", &cast).await?;
    report.seconds("gone everywhere after", gone, Some(5.0));
    report.seconds(
        "survivors' longest gap",
        stage
            .gap("n1", &cast, "n2")
            .max(stage.gap("n2", &cast, "n1")),
        Some(1.0),
    );
    stage.judge_changes(&mut report, begin, &cast, |observer, owner| {
        match (observer, owner) {
            ("n3", _) => None,
            (_, "n3") => Some((1, 0)),
            _ => Some((0, 0)),
        }
    });
    stage.judge(&mut report);
    report.saw = "n1 and n2: the members of n3 left, once each; nothing else".into();
    Ok(report)
}

/// Pages of the restarted node come back as new members; the old ones leave once.
pub(super) async fn restart() -> Result<Report, Failure> {
    let mut stage = Stage::of_three().await?;
    let before = stage.cast();
    let mut report = Report::default();
    stage.mark();
    let begin = Instant::now();
    stage.cluster.process("n3")?.kill()?;
    sleep(Duration::from_millis(200)).await;
    stage.cluster.restart("n3").await?;
    for node in ["n1", "n2"] {
        stage
            .until_shown(PATIENCE, &before, node, &["n1", "n2"])
            .await?;
    }
    report.seconds("old members gone after", begin.elapsed(), Some(5.0));
    stage.until_complete(PATIENCE).await?;
    report.seconds(
        "new ones seen and heard everywhere after",
        begin.elapsed(),
        Some(8.0),
    );
    until_told(&stage, "n3", &before).await?;
    stage.judge_changes(&mut report, begin, &before, |observer, owner| {
        match (observer, owner) {
            ("n3", _) => None,
            (_, "n3") => Some((1, 0)),
            _ => Some((0, 0)),
        }
    });
    let old = before
        .keys()
        .filter(|id| stage.watch.members("n3").contains_key(*id) && before[*id] == "n3")
        .count();
    report.expect(old == 0, || {
        format!("n3 shows {old} members of its former life")
    });
    stage.judge(&mut report);
    report.saw =
        "n1 and n2: the old members of n3 left, once each, and new ones came; n3: the whole room"
            .into();
    Ok(report)
}

/// A frozen node is hidden and comes back; on its own side nobody left.
pub(super) async fn freeze(seconds: u64) -> Result<Report, Failure> {
    let mut stage = Stage::of_three().await?;
    let cast = stage.cast();
    let mut report = Report::default();
    stage.mark();
    let begin = Instant::now();
    stage.cluster.process("n3")?.signal("STOP")?;
    for node in ["n1", "n2"] {
        stage
            .until_shown(PATIENCE, &cast, node, &["n1", "n2"])
            .await?;
    }
    report.seconds("gone everywhere after", begin.elapsed(), Some(5.0));
    sleep(Duration::from_secs(seconds).saturating_sub(begin.elapsed())).await;
    let healed = Instant::now();
    stage.cluster.process("n3")?.signal("CONT")?;
    for node in ["n1", "n2", "n3"] {
        stage
            .until_shown(PATIENCE, &cast, node, &["n1", "n2", "n3"])
            .await?;
    }
    report.seconds("back everywhere after", healed.elapsed(), Some(3.0));
    stage.until_complete(PATIENCE).await?;
    report.seconds("heard everywhere after", healed.elapsed(), Some(4.0));
    stage.judge_changes(&mut report, begin, &cast, |observer, owner| {
        match (observer, owner) {
            ("n3", _) => Some((0, 0)),
            (_, "n3") => Some((1, 1)),
            _ => Some((0, 0)),
        }
    });
    stage.judge(&mut report);
    report.saw =
        "n1 and n2: the members of n3 left and came back, once each; n3: nobody left".into();
    Ok(report)
}

/// Pages reconnect to their node as it is replaced; nobody else is touched.
pub(super) async fn rolling() -> Result<Report, Failure> {
    let mut stage = Stage::of_three().await?;
    let mut report = Report::default();
    let (mut stopped, mut complete, mut gap) = (Duration::ZERO, Duration::ZERO, Duration::ZERO);
    for node in ["n1", "n2", "n3"] {
        let cast = stage.cast();
        stage.mark();
        let begin = Instant::now();
        stopped = stopped.max(stage.cluster.process(node)?.terminate().await?);
        stage.cluster.restart(node).await?;
        stage.until_complete(PATIENCE).await?;
        complete = complete.max(begin.elapsed());
        stage.judge_changes(&mut report, begin, &cast, |observer, owner| {
            if observer == node {
                None
            } else if owner == node {
                Some((1, 0))
            } else {
                Some((0, 0))
            }
        });
        let others: Vec<&str> = ["n1", "n2", "n3"]
            .into_iter()
            .filter(|other| *other != node)
            .collect();
        gap = gap
            .max(stage.gap(others[0], &cast, others[1]))
            .max(stage.gap(others[1], &cast, others[0]));
    }
    report.seconds("a node stops within", stopped, Some(5.0));
    report.seconds("the room is complete again after", complete, None);
    report.seconds("others' longest gap", gap, Some(1.0));
    stage.judge(&mut report);
    report.saw = "per node: its members left at once, once each, and came back as new ones; the others went on".into();
    Ok(report)
}

/// Waits until every page on another node was told that each member on `gone` left.
async fn until_told(
    stage: &Stage,
    gone: &str,
    cast: &crate::cluster::stage::Cast,
) -> Result<Duration, Failure> {
    eventually(
        Duration::from_secs(5),
        "every page is told who left",
        async || {
            Ok(stage
                .clients
                .iter()
                .filter(|client| client.node != gone)
                .all(|client| {
                    let diary = client.diary();
                    cast.iter()
                        .filter(|(_, owner)| *owner == gone)
                        .all(|(id, _)| diary.heard.get(id).is_some_and(|heard| heard.left > 0))
                }))
        },
    )
    .await
}
