//! What is measured while nothing is broken: how old positions are on arrival, how soon people are
//! seen to come and go, and how many bytes pass between regions.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::machine::{Clockwork, Use};
use super::map::{JITTER_MAX, city, one_way};
use super::report::{Part, Table, round};
use super::visitor::Visitor;
use super::world::{PATIENCE, World, region_of};
use crate::cluster::report::Report;
use crate::cluster::stage::quantile_us;
use crate::cluster::{Failure, eventually};

/// What a position may take beyond the way itself: a tick on the node where it is made, a tick on the
/// node where it is seen, and 5 ms for everything else.
pub const BEYOND_THE_WAY: Duration = Duration::from_millis(2 * 16 + 5);
/// What a change of presence may wait until it is pushed.
const PUSH: Duration = Duration::from_millis(50);
/// A tick of a node.
const TICK: Duration = Duration::from_millis(16);
/// The most bytes between regions, as a multiple of one copy for each region that is interested.
const COPIES_MAX: f64 = 1.1;
/// What was said or resent before a pause has come or is given up after this.
pub const QUIET: Duration = Duration::from_millis(2500);
/// With less than this share of all processors idle, the machine distorts what is measured.
const IDLE_MIN: f64 = 0.1;

/// The figure of what nodes do not hold to yet: a join may be overtaken by what its member says.
pub const OUTRAN: &str = "things said by somebody who was not listed yet";

/// Bytes that each link carried, by sender and receiver.
type Carried = BTreeMap<(String, String), u64>;
/// Bytes per second on each link.
type Rates = BTreeMap<(String, String), f64>;
/// How soon people in one region were told of those in another, in microseconds.
type After = BTreeMap<(String, String), Vec<u64>>;

/// The oldest that a position may be in 99 of 100 cases: the way, all its jitter, and
/// [`BEYOND_THE_WAY`].
pub fn age_goal(one: &str, other: &str) -> Duration {
    one_way(one, other) + JITTER_MAX + BEYOND_THE_WAY
}

/// Ages in one direction, in microseconds.
pub fn ages(
    world: &World,
    listeners: &str,
    speakers: &str,
    of: impl Fn(&super::visitor::Heard) -> &Vec<u64>,
) -> Vec<u64> {
    let mut ages = Vec::new();
    for person in world.people_in(listeners) {
        let diary = person.diary();
        for (name, heard) in &diary.heard {
            if name != &person.name && region_of_person(name) == speakers {
                ages.extend(of(heard));
            }
        }
    }
    ages
}

/// The region of a person's first node.
pub fn region_of_person(name: &str) -> &str {
    region_of(name.split_once('.').map_or(name, |(node, _)| node))
}

/// Everybody moves for `length`: ages and bytes by pair of regions.
pub async fn cursors(world: &mut World, length: Duration) -> Result<Vec<Part>, Failure> {
    // What passes while nobody moves is not part of any copy of a position.
    world.let_move(false);
    sleep(QUIET).await;
    let still = (length / 3).max(Duration::from_secs(4));
    let before = carried(world);
    sleep(still).await;
    let idle = rates(&before, &carried(world), still);

    world.let_move(true);
    sleep(Duration::from_secs(2)).await;
    let _ = lateness(world);
    world.mark();
    let (before, begin) = (carried(world), Instant::now());
    let clockwork = Clockwork::now(&mut world.cluster);
    sleep(length).await;
    let took = begin.elapsed();
    let busy = rates(&before, &carried(world), took);
    let used = Clockwork::now(&mut world.cluster).since(&clockwork);
    let mut age_part = age_table(world);
    age_part.report.saw = describe_machine(world, &used);
    judge(world, &mut age_part.report);
    Ok(vec![age_part, bytes_table(world, &idle, &busy)])
}

fn age_table(world: &World) -> Part {
    let mut table = Table::new(&[
        "between",
        "one way",
        "goal p99",
        "positions: age p50 / p99",
        "beyond one way",
        "things said: age p50 / p99",
        "positions",
    ]);
    let mut report = Report::default();
    let within = world.plan.regions.iter().map(|region| (*region, *region));
    for (one, other) in world.plan.pairs().into_iter().chain(within) {
        let both = |of: fn(&super::visitor::Heard) -> &Vec<u64>| {
            let mut all = ages(world, one, other, of);
            if one != other {
                all.extend(ages(world, other, one, of));
            }
            all
        };
        let (positions, said) = (
            both(|heard| &heard.ages_us),
            both(|heard| &heard.said_ages_us),
        );
        if positions.is_empty() {
            // One person alone in a region.
            continue;
        }
        let way = ms(one_way(one, other));
        let (p50, p99) = (at(&positions, 0.5), at(&positions, 0.99));
        let is_far = one != other;
        table.rows.push(vec![
            pair_name(one, other),
            format!("{} ms", round(way)),
            if is_far {
                format!("{} ms", round(ms(age_goal(one, other))))
            } else {
                "–".into()
            },
            format!("{p50:.1} / {p99:.1} ms"),
            format!("+{:.1} / +{:.1} ms", p50 - way, p99 - way),
            format!("{:.0} / {:.0} ms", at(&said, 0.5), at(&said, 0.99)),
            positions.len().to_string(),
        ]);
        if is_far {
            let name = format!("position age p99, {}", pair_name(one, other));
            report.figure(&name, p99, "ms", Some(ms(age_goal(one, other))));
        }
    }
    Part {
        name: "cursors",
        what: "everybody moves ten times a second".to_owned(),
        table: Some(table),
        report,
    }
}

fn bytes_table(world: &World, idle: &Rates, busy: &Rates) -> Part {
    let mut table = Table::new(&[
        "between",
        "nobody moves, there + back",
        "everybody moves, there + back",
        "copies of what one region needs",
    ]);
    let mut report = Report::default();
    let mut all = (0.0, 0.0, 0.0, 0.0);
    for (one, other) in world.plan.pairs() {
        let kb = |rates: &Rates, from: &str, to: &str| {
            let links = world.links(from, to);
            links.iter().filter_map(|link| rates.get(link)).sum::<f64>() / 1000.0
        };
        let (there, back) = (
            copies(world, one, other, idle, busy),
            copies(world, other, one, idle, busy),
        );
        let (moved, needed) = (there.0 + back.0, there.1 + back.1);
        table.rows.push(vec![
            pair_name(one, other),
            format!(
                "{:.1} + {:.1} KB/s",
                kb(idle, one, other),
                kb(idle, other, one)
            ),
            format!(
                "{:.1} + {:.1} KB/s",
                kb(busy, one, other),
                kb(busy, other, one)
            ),
            format!("{:.2}", moved / needed.max(1.0)),
        ]);
        all.0 += moved;
        all.1 += needed;
        all.2 += kb(idle, one, other) + kb(idle, other, one);
        all.3 += kb(busy, one, other) + kb(busy, other, one);
    }
    report.figure("between regions, nobody moves", all.2, "KB/s", None);
    report.figure("between regions, everybody moves", all.3, "KB/s", None);
    report.figure(
        "bytes, as copies per interested region",
        all.0 / all.1.max(1.0),
        "",
        Some(COPIES_MAX),
    );
    Part {
        name: "bytes",
        what: "UDP payload between regions; copies: what moving adds, of the busiest link from each node to the region".to_owned(),
        table: Some(table),
        report,
    }
}

/// What moving adds to the bytes per second from one region to another, and how much of that is one
/// copy. Each node has a link to every node there, and what the busiest of them carries is one copy of
/// what the node has to say: once for the region would do.
fn copies(world: &World, from: &str, to: &str, idle: &Rates, busy: &Rates) -> (f64, f64) {
    let mut sum = (0.0, 0.0);
    for sender in world.plan.nodes_of(from) {
        let added = world.plan.nodes_of(to).into_iter().map(|receiver| {
            let link = (sender.clone(), receiver);
            let rate = |rates: &Rates| rates.get(&link).copied();
            (rate(busy).unwrap_or(0.0) - rate(idle).unwrap_or(0.0)).max(0.0)
        });
        let added: Vec<f64> = added.collect();
        sum.0 += added.iter().sum::<f64>();
        sum.1 += added.iter().copied().fold(0.0, f64::max);
    }
    sum
}

/// People come and go on every node in turn: how soon everybody else is told.
pub async fn presence(world: &mut World, rounds: usize) -> Result<Part, Failure> {
    let (mut came, mut went) = (After::new(), After::new());
    world.mark();
    for round in 0..rounds {
        let mut guests: Vec<Visitor> = Vec::new();
        for node in world.plan.names() {
            guests.push(world.enter(&format!("{node}.guest{round}"), &node)?);
            sleep(Duration::from_millis(30)).await;
        }
        until_told(world, &guests, true).await?;
        // Their first positions are on their way; a leave must not be measured behind a burst.
        sleep(Duration::from_millis(500)).await;
        let mut left_at = Vec::new();
        for guest in &guests {
            left_at.push(Instant::now());
            guest.leave();
            sleep(Duration::from_millis(30)).await;
        }
        until_told(world, &guests, false).await?;
        for person in &world.people {
            let diary = person.diary();
            for (guest, left_at) in guests.iter().zip(&left_at) {
                let asked_at = guest.diary().asked_at;
                let pair = (guest.region().to_owned(), person.region().to_owned());
                for told in diary.told.iter().filter(|told| told.who == guest.name) {
                    let (since, after) = if told.came {
                        (asked_at.unwrap_or(*left_at), &mut came)
                    } else {
                        (*left_at, &mut went)
                    };
                    let us = told.at.saturating_duration_since(since).as_micros();
                    after
                        .entry(pair.clone())
                        .or_default()
                        .push(u64::try_from(us)?);
                }
            }
        }
    }
    let mut table = Table::new(&[
        "between",
        "one way",
        "stated",
        "join seen after p50 / p99 / max",
        "leave seen after p50 / p99 / max",
        "seen",
    ]);
    let mut report = Report::default();
    let (mut on_time, mut all) = (0, 0);
    let within = world.plan.regions.iter().map(|region| (*region, *region));
    for (one, other) in world.plan.pairs().into_iter().chain(within) {
        let both = |after: &After| {
            let mut found = Vec::new();
            for (from, to) in [(one, other), (other, one)] {
                found.extend(
                    after
                        .get(&(from.to_owned(), to.to_owned()))
                        .into_iter()
                        .flatten(),
                );
                if one == other {
                    break;
                }
            }
            found
        };
        let (came, went): (Vec<u64>, Vec<u64>) = (both(&came), both(&went));
        let mut stated = one_way(one, other) + PUSH + TICK;
        if one != other {
            stated += JITTER_MAX;
        }
        let three = |ages: &[u64]| {
            format!(
                "{:.0} / {:.0} / {:.0} ms",
                at(ages, 0.5),
                at(ages, 0.99),
                at(ages, 1.0)
            )
        };
        table.rows.push(vec![
            pair_name(one, other),
            format!("{} ms", round(ms(one_way(one, other)))),
            format!("{} ms", round(ms(stated))),
            three(&came),
            three(&went),
            came.len().to_string(),
        ]);
        let limit = u64::try_from(stated.as_micros())?;
        on_time += came.iter().chain(&went).filter(|us| **us <= limit).count();
        all += came.len() + went.len();
    }
    let share = on_time as f64 * 100.0 / (all as f64).max(1.0);
    report.figure(
        "told within what is stated (push, way, jitter, a tick); the rest was lost once",
        share,
        "%",
        None,
    );
    judge(world, &mut report);
    world.until_whole(PATIENCE).await?;
    Ok(Part {
        name: "presence",
        what: format!("somebody comes and goes on every node, {rounds} times"),
        table: Some(table),
        report,
    })
}

async fn until_told(world: &World, guests: &[Visitor], came: bool) -> Result<(), Failure> {
    let is_told = |person: &Visitor, guest: &Visitor| {
        let diary = person.diary();
        let mut told = diary.told.iter();
        told.any(|told| told.who == guest.name && told.came == came)
    };
    let pairs = || {
        let people = world.people.iter();
        people.flat_map(|person| guests.iter().map(move |guest| (person, guest)))
    };
    let outcome = eventually(
        PATIENCE,
        "everybody is told who comes and goes",
        async || Ok(pairs().all(|(person, guest)| is_told(person, guest))),
    )
    .await;
    outcome.map(drop).map_err(|error| {
        let what = if came { "came" } else { "went" };
        let lacking = pairs().filter(|(person, guest)| !is_told(person, guest));
        let words: Vec<String> = lacking
            .map(|(person, guest)| format!("{} not that {} {what}", person.name, guest.name))
            .collect();
        format!(
            "{error}: {} in all: {}",
            words.len(),
            words[..words.len().min(5)].join(", ")
        )
        .into()
    })
}

/// Adds to the report what nobody must ever see, whatever happens, and forgets it.
pub fn judge(world: &World, report: &mut Report) {
    let outran = world
        .people
        .iter()
        .map(|person| person.diary().outran)
        .sum::<u32>();
    if outran > 0 {
        report.figure(OUTRAN, f64::from(outran), "", Some(0.0));
    }
    for person in &world.people {
        for problem in std::mem::take(&mut person.diary().problems) {
            report
                .problems
                .push(format!("{} saw: {problem}", person.name));
        }
    }
}

fn describe_machine(world: &World, used: &Use) -> String {
    let late = lateness(world);
    let mut text =
        format!("Processor time: {used}. Packets left the emulated distance late by {late}.");
    if used.idle < used.processors * IDLE_MIN {
        text.push_str(" The machine had nothing left: these figures are the machine's.");
    }
    text
}

/// How late the emulated distances are, in words, since the last time.
fn lateness(world: &World) -> String {
    let Some(proxy) = world.cluster.network().proxy() else {
        return String::new();
    };
    let late = proxy.take_lateness();
    format!(
        "{:.1} ms in the median, {:.1} ms p99, {:.0} ms at most",
        ms(late.quantile(0.5)),
        ms(late.quantile(0.99)),
        ms(late.max())
    )
}

fn carried(world: &World) -> Carried {
    let shown = world.cluster.network().proxy().map(|proxy| proxy.show());
    let links = shown.into_iter().flatten();
    links
        .map(|shown| ((shown.from, shown.to), shown.counters.bytes))
        .collect()
}

fn rates(before: &Carried, after: &Carried, took: Duration) -> Rates {
    let rate = |(link, bytes): (&(String, String), &u64)| {
        let more = bytes.saturating_sub(before.get(link).copied().unwrap_or(0));
        (link.clone(), more as f64 / took.as_secs_f64())
    };
    after.iter().map(rate).collect()
}

/// Two regions by their cities.
pub fn pair_name(one: &str, other: &str) -> String {
    if one == other {
        format!("within {}", city(one))
    } else {
        format!("{} – {}", city(one), city(other))
    }
}

/// A duration in milliseconds.
pub fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

/// A quantile of microseconds, in milliseconds.
pub fn at(ages_us: &[u64], quantile: f64) -> f64 {
    quantile_us(ages_us.to_vec(), quantile) as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_goal_is_the_way_its_jitter_two_ticks_and_five_milliseconds() {
        assert_eq!(
            age_goal("us-east", "eu-central"),
            Duration::from_millis(45 + 4 + 32 + 5)
        );
    }

    #[test]
    fn people_belong_to_the_region_of_their_node() {
        assert_eq!(region_of_person("ap-southeast-2.guest0"), "ap-southeast");
    }
}
