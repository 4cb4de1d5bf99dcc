//! What only time shows.

use std::time::{Duration, Instant};

use tokio::time::sleep;

use crate::cluster::report::Report;
use crate::cluster::stage::Stage;
use crate::cluster::{Cluster, Failure, PATIENCE};

/// 5 % independent loss and 150 ms round trip for a while: nobody is ever taken for gone.
pub async fn hour(length: Duration, mut tell: impl FnMut(String)) -> Result<Report, Failure> {
    let mut report = Report::default();
    let stage = Stage::of_three().await?;
    stage.cluster.network().faults("*", "*", |faults| {
        faults.loss = 0.05;
        faults.delay = Duration::from_millis(75);
    })?;
    sleep(Duration::from_secs(5)).await;
    let cast = stage.cast();
    stage.mark();
    let begin = Instant::now();
    let mut gap = Duration::ZERO;
    let mut age = 0.0_f64;
    let mut missing = 0;
    let mut minutes = 0;
    while begin.elapsed() < length {
        sleep(Duration::from_secs(60).min(length.saturating_sub(begin.elapsed()))).await;
        minutes += 1;
        let nodes = stage.cluster.names();
        let mut links = 0;
        for one in &nodes {
            for other in nodes.iter().filter(|other| *other != one) {
                gap = gap.max(stage.gap(one, &cast, other));
                age = age.max(stage.age_ms(one, &cast, other, 0.99));
                missing += stage.missing(one, &cast, other);
                // A node that is too busy to answer now is no reason to end the hour.
                let peer = stage.cluster.peer(one, other).await;
                links += usize::from(peer.is_ok_and(|peer| peer["linked"] == true));
            }
        }
        // The departures are judged at the end, from what every node told; ages only pile up.
        for client in &stage.clients {
            let mut diary = client.diary();
            for heard in diary.heard.values_mut() {
                heard.ages_us.clear();
                heard.missing = 0;
            }
        }
        let removed: usize = nodes
            .iter()
            .map(|node| stage.watch.changes(node, begin).len())
            .sum();
        tell(format!(
            "minute {minutes}: {links} of 6 links up, {removed} changes of presence, longest gap {:.2} s, age p99 {age:.0} ms, {missing} messages missing",
            gap.as_secs_f64(),
        ));
    }
    stage.judge_changes(&mut report, begin, &cast, |_, _| Some((0, 0)));
    stage.judge(&mut report);
    let removals = report.problems.len();
    report.figure("minutes", begin.elapsed().as_secs_f64() / 60.0, "", None);
    report.figure(
        "false removals and other problems",
        removals as f64,
        "",
        Some(0.0),
    );
    report.seconds("longest gap", gap, None);
    report.figure("age p99, worst minute", age, "ms", None);
    report.figure("messages missing", missing as f64, "", None);
    report.saw = "nobody left".into();
    Ok(report)
}

/// One node crashes and starts again, many times: the memory of the others stays what it is.
pub async fn restarts(count: u32, mut tell: impl FnMut(String)) -> Result<Report, Failure> {
    let mut report = Report::default();
    let mut cluster = Cluster::start(&["n1", "n2", "n3"], &[]).await?;
    let mut stays = Vec::new();
    let begin = Instant::now();
    for number in 1..=count {
        cluster.process("n3")?.kill()?;
        cluster.restart("n3").await?;
        let what = "the new n3 is linked";
        super::super::eventually(PATIENCE, what, async || {
            let seen = [
                cluster.peer("n1", "n3").await?,
                cluster.peer("n2", "n3").await?,
            ];
            let boot = cluster.overview("n3").await?["boot"].clone();
            Ok(seen
                .iter()
                .all(|peer| peer["linked"] == true && peer["boot"] == boot))
        })
        .await?;
        if number % 25 == 0 || number == count {
            let memory = (
                cluster.process("n1")?.resident_kib()?,
                cluster.process("n2")?.resident_kib()?,
            );
            stays.push((number, memory.0.max(memory.1)));
            tell(format!(
                "{number} restarts in {:.0} s: n1 {} KiB, n2 {} KiB",
                begin.elapsed().as_secs_f64(),
                memory.0,
                memory.1
            ));
        }
    }
    // The first tenth warms up caches and allocators.
    let warm = stays
        .iter()
        .find(|(number, _)| *number >= count / 10)
        .map_or(0, |(_, kib)| *kib);
    let last = stays.last().map_or(0, |(_, kib)| *kib);
    report.figure("restarts", f64::from(count), "", None);
    report.figure(
        "resident after the first tenth",
        warm as f64 / 1024.0,
        "MiB",
        None,
    );
    report.figure(
        "resident at the end",
        last as f64 / 1024.0,
        "MiB",
        Some(warm as f64 / 1024.0 * 1.05 + 1.0),
    );
    report.saw = "memory stays flat".into();
    Ok(report)
}
