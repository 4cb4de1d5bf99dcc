//! Many small nodes on one machine: what a node costs when there are many others.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::machine::Clockwork;
use super::measure::at;
use super::report::{Part, Table, round};
use super::visitor::{Clock, Habits, Visitor};
use super::world::PATIENCE;
use crate::cluster::report::Report;
use crate::cluster::{Cluster, Failure, eventually, http};

/// The room that everybody is in.
const ROOM: &str = "many";
/// How many nodes crash at once.
const CRASHES: usize = 3;
/// What the document states for a crash by the number of nodes.
fn hidden_within_s(nodes: usize) -> f64 {
    match nodes {
        ..=32 => 5.0,
        33..=100 => 9.0,
        _ => 13.0,
    }
}

/// Starts `count` nodes with one person each: idle, moving, after a crash of three, and healed.
pub async fn many(count: usize, length: Duration, say: impl Fn(&str)) -> Result<Part, Failure> {
    let names: Vec<String> = (1..=count).map(|number| format!("n{number}")).collect();
    let words: Vec<&str> = names.iter().map(String::as_str).collect();
    say(&format!("starting {count} nodes"));
    let mut cluster = Cluster::start_directly(&words).await?;
    let mut table = Table::new(&["", "per node", "all together"]);
    let mut row = |what: &str, each: String, all: String| {
        table.rows.push(vec![what.to_owned(), each, all]);
    };
    let mut report = Report::default();
    report.seconds(
        "every node linked to every other after",
        cluster.formed(),
        None,
    );

    say("idle");
    sleep(Duration::from_secs(5)).await;
    let (bytes, cpu) = state(&mut cluster, &words).await?;
    sleep(length).await;
    let (bytes_after, cpu_after) = state(&mut cluster, &words).await?;
    let rate = (bytes_after - bytes) / length.as_secs_f64() / 1000.0;
    let used = cpu_after.since(&cpu);
    let each = count as f64;
    row(
        "sent, idle",
        format!("{:.1} KB/s", rate / each),
        format!("{rate:.0} KB/s"),
    );
    row(
        "processors, idle",
        format!("{:.2} %", used.nodes * 100.0 / each),
        format!("{:.2} ({used})", used.nodes),
    );
    let (largest, sum) = resident(&mut cluster, &words)?;
    row(
        "resident memory, idle",
        format!("{:.1} MiB, {largest:.1} at most", sum / each),
        format!("{sum:.0} MiB"),
    );

    say("one person on each");
    let habits = Habits {
        room: ROOM.to_owned(),
        period: Duration::from_millis(100),
        say_every: 10,
        moving: Arc::new(AtomicBool::new(true)),
        clock: Clock::start(),
    };
    let begin = Instant::now();
    let mut people = Vec::new();
    for name in &names {
        let door = cluster.web(name)?;
        people.push(Visitor::enter(
            &format!("{name}.0"),
            name,
            vec![door],
            habits.clone(),
        ));
    }
    until_whole(&people).await?;
    report.seconds("everybody sees everybody after", begin.elapsed(), None);
    sleep(Duration::from_secs(2)).await;
    people.iter().for_each(Visitor::mark);
    let (bytes, cpu) = state(&mut cluster, &words).await?;
    sleep(length).await;
    let (bytes_after, cpu_after) = state(&mut cluster, &words).await?;
    let rate = (bytes_after - bytes) / length.as_secs_f64() / 1000.0;
    let used = cpu_after.since(&cpu);
    row(
        "sent, one person each moves ten times a second",
        format!("{:.1} KB/s", rate / each),
        format!("{rate:.0} KB/s"),
    );
    row(
        "processors, so",
        format!("{:.2} %", used.nodes * 100.0 / each),
        format!("{:.2} ({used})", used.nodes),
    );
    let ages: Vec<u64> = people
        .iter()
        .flat_map(|person| {
            let diary = person.diary();
            let others = diary.heard.iter().filter(|(name, _)| **name != person.name);
            others
                .flat_map(|(_, heard)| heard.ages_us.clone())
                .collect::<Vec<u64>>()
        })
        .collect();
    report.figure("position age p50", at(&ages, 0.5), "ms", None);
    report.figure("position age p99", at(&ages, 0.99), "ms", None);

    say("three crash");
    people.iter().for_each(Visitor::mark);
    let dead: Vec<&str> = words.iter().rev().take(CRASHES).copied().collect();
    let begin = Instant::now();
    for name in &dead {
        cluster.process(name)?.kill()?;
    }
    let is_dead = |name: &str| dead.contains(&name.split('.').next().unwrap_or_default());
    eventually(PATIENCE, "the dead are gone for everybody", async || {
        Ok(people
            .iter()
            .filter(|person| !is_dead(&person.name))
            .all(|person| {
                let diary = person.diary();
                diary
                    .told
                    .iter()
                    .filter(|told| is_dead(&told.who) && !told.came)
                    .count()
                    >= CRASHES
            }))
    })
    .await?;
    report.seconds(
        "three nodes crash: gone everywhere after",
        begin.elapsed(),
        Some(hidden_within_s(count)),
    );
    let wrong: usize = people
        .iter()
        .filter(|person| !is_dead(&person.name))
        .map(|person| {
            let diary = person.diary();
            diary
                .told
                .iter()
                .filter(|told| !told.came && !is_dead(&told.who))
                .count()
        })
        .sum();
    report.expect(wrong == 0, || {
        format!("{wrong} times somebody was told of a departure that was none")
    });

    say("and come back");
    let begin = Instant::now();
    for name in &dead {
        cluster.launch(name, &Default::default())?;
    }
    until_whole(&people).await?;
    report.seconds(
        "started again: everybody sees everybody after",
        begin.elapsed(),
        None,
    );
    cluster.until_linked(&words).await?;
    report.seconds(
        "and every node is linked to every other after",
        begin.elapsed(),
        None,
    );
    let (largest, sum) = resident(&mut cluster, &words)?;
    row(
        "resident memory, at the end",
        format!("{:.1} MiB, {largest:.1} at most", sum / each),
        format!("{sum:.0} MiB"),
    );
    for person in &people {
        for problem in std::mem::take(&mut person.diary().problems) {
            report
                .problems
                .push(format!("{} saw: {problem}", person.name));
        }
    }
    row(
        "links",
        format!("{}", count - 1),
        round(each * (each - 1.0) / 2.0),
    );
    habits.moving.store(false, Ordering::Relaxed);
    Ok(Part {
        name: "many",
        what: format!("{count} nodes on this machine, without distances"),
        table: Some(table),
        report,
    })
}

async fn until_whole(people: &[Visitor]) -> Result<(), Failure> {
    let names: BTreeSet<&str> = people.iter().map(|person| person.name.as_str()).collect();
    eventually(PATIENCE, "everybody sees everybody", async || {
        Ok(people.iter().all(|person| {
            let diary = person.diary();
            diary.open && diary.present() == names
        }))
    })
    .await
    .map(drop)
}

/// Bytes that all nodes have sent to each other, and the processors.
async fn state(cluster: &mut Cluster, names: &[&str]) -> Result<(f64, Clockwork), Failure> {
    let mut sum = 0.0;
    for name in names {
        let (_, page) = http::get(cluster.web(name)?, "/metrics").await?;
        sum += total(
            &String::from_utf8_lossy(&page),
            "cursormesh_link_sent_bytes_total",
        );
    }
    Ok((sum, Clockwork::now(cluster)))
}

/// The sum of a metric over its labels.
fn total(page: &str, metric: &str) -> f64 {
    page.lines()
        .filter(|line| {
            line.strip_prefix(metric)
                .is_some_and(|rest| rest.starts_with(['{', ' ']))
        })
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .sum()
}

/// Resident memory in MiB: of the largest node, and of all.
fn resident(cluster: &mut Cluster, names: &[&str]) -> Result<(f64, f64), Failure> {
    let (mut largest, mut sum) = (0.0_f64, 0.0);
    for name in names {
        let mib = cluster.process(name)?.resident_kib()? as f64 / 1024.0;
        largest = largest.max(mib);
        sum += mib;
    }
    Ok((largest, sum))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_is_summed_over_its_labels_and_no_other_is_taken_for_it() {
        let page = "# TYPE a counter\na{peer=\"x\"} 3\na{peer=\"y\"} 4\na_more{peer=\"x\"} 100\n";
        assert_eq!(total(page, "a"), 7.0);
    }
}
