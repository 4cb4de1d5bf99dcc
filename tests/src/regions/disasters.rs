//! What is done to the world, and what people see of it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::map::{city, one_way};
use super::measure::{QUIET, ages, at, judge, region_of_person};
use super::report::{Part, Table};
use super::visitor::Visitor;
use super::world::{PATIENCE, World};
use crate::cluster::report::Report;
use crate::cluster::{Failure, eventually};

/// A crash is to be hidden within this time and one way.
const HIDDEN_WITHIN_S: f64 = 5.0;
/// Who is not concerned is to hear everybody at least this often.
const GAP_ELSEWHERE_MAX_S: f64 = 1.0;
/// Across what was cut: until the link is given up and another way is taken.
const GAP_CUT_MAX_S: f64 = 5.0;
/// Who has to go to another node is back there within this time.
const GAP_MOVED_MAX_S: f64 = 2.0;
/// How long a node stands still. Less than 2 s, below which nobody may be removed.
const STANDS_STILL: Duration = Duration::from_millis(1500);
/// What a node that stood still may take until all have heard its people again, beyond that.
const CATCH_UP_S: f64 = 1.0;

/// What people saw of somebody else, by who listened to whom.
#[derive(Debug, Default, Clone)]
pub struct Saw {
    /// How often somebody was told that somebody left.
    pub leaves: usize,
    /// How often somebody was told that somebody came.
    pub joins: usize,
    /// The longest time for which somebody did not see somebody who was there move.
    pub gap: Duration,
    /// Who that was.
    pub gap_between: String,
}

/// What those for whom `concerned` holds, as (listener, speaker), saw since the mark.
pub fn saw(world: &World, concerned: impl Fn(&Visitor, &str) -> bool) -> Saw {
    let mut all = Saw::default();
    for person in &world.people {
        let diary = person.diary();
        for told in diary
            .told
            .iter()
            .filter(|told| concerned(person, &told.who))
        {
            if told.came {
                all.joins += 1;
            } else {
                all.leaves += 1;
            }
        }
        for (name, heard) in &diary.heard {
            if *name == person.name || !concerned(person, name) {
                continue;
            }
            let now = heard.at.map_or(Duration::ZERO, |at| at.elapsed());
            let gap = heard.gap_max.max(now);
            if gap > all.gap {
                all.gap = gap;
                all.gap_between = format!("{} not seeing {name}", person.name);
            }
        }
    }
    all
}

/// How many things that somebody said, and that anybody heard since the mark, others did not hear.
/// Everybody is silent for a while first, and moves again afterwards.
pub async fn missing(world: &World, concerned: impl Fn(&Visitor, &str) -> bool) -> usize {
    world.let_move(false);
    sleep(QUIET).await;
    let mut count = 0;
    for speaker in &world.people {
        // What some had heard before the mark was on its way to others then.
        let begun = world.people.iter().map(|person| {
            let diary = person.diary();
            diary
                .heard
                .get(&speaker.name)
                .map_or(0, |heard| heard.said_before)
        });
        let begun = begun.max().unwrap_or(0);
        let heard_by = |person: &Visitor| -> BTreeSet<u64> {
            let diary = person.diary();
            let said = diary.heard.get(&speaker.name).map(|heard| &heard.said);
            said.into_iter()
                .flatten()
                .filter(|number| **number > begun)
                .copied()
                .collect()
        };
        let all: BTreeSet<u64> = world.people.iter().flat_map(heard_by).collect();
        for person in &world.people {
            if concerned(person, &speaker.name) {
                count += all.len() - heard_by(person).len();
            }
        }
    }
    world.let_move(true);
    count
}

/// Both nodes of a region crash and come back later.
pub async fn lost_region(world: &mut World) -> Result<Part, Failure> {
    let region = pick(world, "ap-southeast");
    let mut report = Report::default();
    world.mark();
    let begin = Instant::now();
    for node in world.plan.nodes_of(region) {
        world.cluster.process(&node)?.kill()?;
    }
    let lost: Vec<String> = world
        .people_in(region)
        .map(|person| person.name.clone())
        .collect();
    let outside = |person: &&Visitor| person.region() != region;
    eventually(
        PATIENCE,
        "everybody elsewhere is told who is gone",
        async || {
            Ok(world.people.iter().filter(outside).all(|person| {
                let diary = person.diary();
                let told = |name: &String| {
                    diary
                        .told
                        .iter()
                        .any(|told| told.who == *name && !told.came)
                };
                lost.iter().all(told)
            }))
        },
    )
    .await?;
    let (mut hidden, mut beyond) = (Duration::ZERO, Duration::ZERO);
    for person in world.people.iter().filter(outside) {
        let diary = person.diary();
        for told in diary
            .told
            .iter()
            .filter(|told| lost.contains(&told.who) && !told.came)
        {
            let after = told.at - begin;
            hidden = hidden.max(after);
            beyond = beyond.max(after.saturating_sub(one_way(region, person.region())));
        }
    }
    report.seconds("gone for everybody elsewhere after", hidden, None);
    report.seconds("gone, less the one way", beyond, Some(HIDDEN_WITHIN_S));
    // Long enough that a second departure, or a wrong one, would have shown.
    sleep(Duration::from_secs(3)).await;
    let elsewhere = |person: &Visitor, name: &str| {
        person.region() != region && region_of_person(name) != region
    };
    let rest = saw(world, elsewhere);
    expect_calm(&mut report, &rest, "people of other regions");
    report.seconds("others' longest gap", rest.gap, Some(GAP_ELSEWHERE_MAX_S));
    let again = Instant::now();
    for node in world.plan.nodes_of(region) {
        world.cluster.launch(&node, &Default::default())?;
    }
    world.until_whole(PATIENCE).await?;
    report.seconds(
        "started again, everybody sees everybody move after",
        again.elapsed(),
        None,
    );
    let gone = saw(world, |person, name| {
        person.region() != region && region_of_person(name) == region
    });
    let each = world.people.iter().filter(outside).count() * lost.len();
    report.expect((gone.leaves, gone.joins) == (each, each), || {
        format!(
            "{} leaves and {} joins were told of the lost region, not {each} and {each}",
            gone.leaves, gone.joins
        )
    });
    let lacking = missing(world, elsewhere).await;
    world.until_whole(PATIENCE).await?;
    report.figure(
        "things said elsewhere that somebody missed",
        lacking as f64,
        "",
        Some(0.0),
    );
    judge(world, &mut report);
    report.saw = format!(
        "Elsewhere: the {} people in {} left, once each, and came back, once each; of others nobody left.",
        lost.len(),
        city(region)
    );
    Ok(Part {
        name: "lost-region",
        what: format!(
            "kill -9 of all nodes in {}, started again later",
            city(region)
        ),
        table: None,
        report,
    })
}

/// Nothing passes between Europe and the Americas; what lies beyond both carries it.
pub async fn transatlantic(world: &mut World, length: Duration) -> Result<Part, Failure> {
    let (europe, rest): (Vec<_>, Vec<_>) = world
        .plan
        .regions
        .iter()
        .copied()
        .partition(|region| region.starts_with("eu-"));
    let (americas, beyond): (Vec<_>, Vec<_>) = rest
        .into_iter()
        .partition(|region| region.starts_with("us-") || region.starts_with("sa-"));
    if europe.is_empty() || americas.is_empty() || beyond.is_empty() {
        return Err("a cut across the Atlantic needs Europe, America, and a way around".into());
    }
    let is_across = |one: &str, other: &str| {
        (europe.contains(&one) && americas.contains(&other))
            || (europe.contains(&other) && americas.contains(&one))
    };
    let mut report = Report::default();
    world.mark();
    for one in &europe {
        for other in &americas {
            world.cut(one, other)?;
        }
    }
    let begin = Instant::now();
    sleep(length.saturating_sub(Duration::from_secs(4))).await;
    let across = |person: &Visitor, name: &str| is_across(person.region(), region_of_person(name));
    let first = saw(world, across);
    // The link is given up by now: what comes, comes the other way.
    for person in &world.people {
        person.forget_ages();
    }
    sleep(length.saturating_sub(begin.elapsed())).await;
    for one in &europe {
        for other in &americas {
            let mut detour = ages(world, one, other, |heard| &heard.ages_us);
            detour.extend(ages(world, other, one, |heard| &heard.ages_us));
            let shortest = beyond
                .iter()
                .map(|third| one_way(one, third) + one_way(third, other))
                .min();
            let name = format!(
                "position age p99 around, {} – {} (the detour alone takes {:.0} ms)",
                city(one),
                city(other),
                shortest.unwrap_or_default().as_secs_f64() * 1000.0
            );
            report.figure(&name, at(&detour, 0.99), "ms", None);
        }
    }
    let healed = Instant::now();
    world.cluster.network().heal()?;
    let names = world.plan.names();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    world.cluster.until_linked(&names).await?;
    report.seconds(
        "all linked directly again, heal +",
        healed.elapsed(),
        Some(3.0),
    );
    sleep(Duration::from_secs(2)).await;
    let gaps = finish(world, &mut report, &first, across, GAP_CUT_MAX_S).await;
    world.until_whole(PATIENCE).await?;
    report.saw = format!(
        "Nobody left; across the cut people were seen through Singapore, then directly. {gaps}"
    );
    Ok(Part {
        name: "transatlantic",
        what: format!(
            "everything between Europe and America cut for {:.0} s",
            length.as_secs_f64()
        ),
        table: None,
        report,
    })
}

/// All links between two regions come and go.
pub async fn flapping(world: &mut World) -> Result<Part, Failure> {
    let (one, other) = (pick(world, "us-east"), pick(world, "eu-central"));
    let mut report = Report::default();
    world.mark();
    for _ in 0..3 {
        world.cut(one, other)?;
        sleep(Duration::from_secs(3)).await;
        world.cluster.network().heal()?;
        sleep(Duration::from_millis(1500)).await;
    }
    sleep(Duration::from_secs(3)).await;
    let across = |person: &Visitor, name: &str| {
        let there = region_of_person(name);
        (person.region() == one && there == other) || (person.region() == other && there == one)
    };
    let first = saw(world, across);
    let gaps = finish(world, &mut report, &first, across, GAP_CUT_MAX_S).await;
    world.until_whole(PATIENCE).await?;
    report.saw = format!("Nobody left. {gaps}");
    Ok(Part {
        name: "flapping",
        what: format!(
            "{} – {} cut for 3 s and open for 1.5 s, three times",
            city(one),
            city(other)
        ),
        table: None,
        report,
    })
}

/// One node stands still for a moment.
pub async fn slow_node(world: &mut World) -> Result<Part, Failure> {
    let region = pick(world, "sa-east");
    let node = world.plan.nodes_of(region).swap_remove(0);
    let mut report = Report::default();
    world.mark();
    world.cluster.process(&node)?.signal("STOP")?;
    sleep(STANDS_STILL).await;
    world.cluster.process(&node)?.signal("CONT")?;
    sleep(Duration::from_secs(4)).await;
    let with_node = |person: &Visitor, name: &str| {
        person.node == node || name.split('.').next() == Some(node.as_str())
    };
    let first = saw(world, with_node);
    let gap_max = STANDS_STILL.as_secs_f64() + CATCH_UP_S;
    let gaps = finish(world, &mut report, &first, with_node, gap_max).await;
    world.until_whole(PATIENCE).await?;
    report.saw =
        format!("Nobody left; people of that node stood still for as long as it did. {gaps}");
    Ok(Part {
        name: "slow-node",
        what: format!("SIGSTOP of {node} for {} s", STANDS_STILL.as_secs_f64()),
        table: None,
        report,
    })
}

/// Every node is stopped in order and started again; its people go to the next one of their region.
pub async fn rolling(world: &mut World) -> Result<Part, Failure> {
    let mut report = Report::default();
    let (mut stopped, mut leaves, mut joins, mut lacking) = (Duration::ZERO, 0, 0, 0);
    let (mut moved, mut elsewhere) = (Saw::default(), Saw::default());
    let mut outcomes = BTreeMap::<String, (u32, Duration)>::new();
    let mut table = Table::new(&[
        "node",
        "after",
        "who had to move",
        "back after",
        "longest gap",
    ]);
    let begin = Instant::now();
    for node in world.plan.names() {
        world.mark();
        let at = begin.elapsed();
        stopped = stopped.max(world.cluster.process(&node)?.terminate().await?);
        world.cluster.restart(&node).await?;
        world.until_whole(PATIENCE).await?;
        sleep(Duration::from_secs(1)).await;
        // Who had to go elsewhere says so by the outcome of joining there.
        let movers: BTreeSet<String> = world
            .people
            .iter()
            .filter(|person| !person.diary().outcomes.is_empty())
            .map(|person| person.name.clone())
            .collect();
        let mut here = BTreeMap::<String, (u32, Duration)>::new();
        for person in &world.people {
            for (outcome, away) in &person.diary().outcomes {
                let (count, longest) = here.entry(outcome.clone()).or_default();
                (*count, *longest) = (*count + 1, (*longest).max(*away));
                let (count, longest) = outcomes.entry(outcome.clone()).or_default();
                (*count, *longest) = (*count + 1, (*longest).max(*away));
            }
        }
        let concerned =
            |person: &Visitor, name: &str| movers.contains(&person.name) || movers.contains(name);
        for (sum, now) in [
            (&mut moved, saw(world, concerned)),
            (
                &mut elsewhere,
                saw(world, |person, name| !concerned(person, name)),
            ),
        ] {
            (leaves, joins) = (leaves + now.leaves, joins + now.joins);
            if now.gap > sum.gap {
                *sum = now;
            }
        }
        let longest = here.values().map(|(_, away)| *away).max();
        let counts = here
            .iter()
            .map(|(outcome, (count, _))| format!("{count} {outcome}"));
        table.rows.push(vec![
            node.clone(),
            format!("{:.0} s", at.as_secs_f64()),
            counts.collect::<Vec<_>>().join(", "),
            format!("{:.2} s", longest.unwrap_or_default().as_secs_f64()),
            format!("{:.2} s", saw(world, concerned).gap.as_secs_f64()),
        ]);
        lacking += missing(world, |_, _| true).await;
        world.until_whole(PATIENCE).await?;
    }
    report.seconds("a node stops within", stopped, Some(5.0));
    report.seconds(
        "longest gap of who had to move",
        moved.gap,
        Some(GAP_MOVED_MAX_S),
    );
    report.seconds(
        "others' longest gap",
        elsewhere.gap,
        Some(GAP_ELSEWHERE_MAX_S),
    );
    report.figure("leaves told", leaves as f64, "", Some(0.0));
    report.figure("joins told", joins as f64, "", Some(0.0));
    report.figure(
        "things said that somebody missed",
        lacking as f64,
        "",
        Some(0.0),
    );
    judge(world, &mut report);
    let outcomes: Vec<String> = outcomes
        .iter()
        .map(|(outcome, (count, longest))| {
            let longest = longest.as_secs_f64();
            format!("{count} {outcome}, back after {longest:.2} s at most")
        })
        .collect();
    report.saw = format!(
        "People of each node went on at the other one of their region ({}). Longest gap: {}.",
        outcomes.join("; "),
        moved.gap_between
    );
    Ok(Part {
        name: "rolling",
        what: "SIGTERM and start of every node, one after the other".to_owned(),
        table: Some(table),
        report,
    })
}

/// What all disasters in which nobody may leave have in common.
async fn finish(
    world: &World,
    report: &mut Report,
    first: &Saw,
    concerned: impl Fn(&Visitor, &str) -> bool,
    gap_max_s: f64,
) -> String {
    let (with, without) = (
        saw(world, &concerned),
        saw(world, |person, name| !concerned(person, name)),
    );
    let longest = if first.gap > with.gap { first } else { &with };
    report.seconds(
        "longest gap of those concerned",
        longest.gap,
        Some(gap_max_s),
    );
    report.seconds(
        "others' longest gap",
        without.gap,
        Some(GAP_ELSEWHERE_MAX_S),
    );
    expect_calm(report, &with, "those concerned");
    expect_calm(report, &without, "others");
    let lacking = missing(world, |_, _| true).await;
    report.figure(
        "things said that somebody missed",
        lacking as f64,
        "",
        Some(0.0),
    );
    judge(world, report);
    format!(
        "The longest gaps: {}; of others {}.",
        longest.gap_between, without.gap_between
    )
}

fn expect_calm(report: &mut Report, saw: &Saw, of: &str) {
    report.expect((saw.leaves, saw.joins) == (0, 0), || {
        format!(
            "{of} were told {} times that somebody left, and {} times that somebody came",
            saw.leaves, saw.joins
        )
    });
}

/// The region wanted, or the last one where the world is too small for it.
fn pick(world: &World, wanted: &str) -> &'static str {
    let regions = &world.plan.regions;
    let found = regions.iter().copied().find(|region| *region == wanted);
    found.unwrap_or_else(|| regions[regions.len() - 1])
}
