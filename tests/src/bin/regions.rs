//! Plays the world and tells what its people saw. See `--help`.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::process::ExitCode;
use std::time::{Duration, Instant};

use cursormesh_tests::cluster::Failure;
use cursormesh_tests::regions::map::{JITTER_MAX, LOSS, REGIONS, round_trip};
use cursormesh_tests::regions::world::{Plan, World};
use cursormesh_tests::regions::{Part, Tale, disasters, many, measure};

const USAGE: &str = "\
Plays a world on this machine: real nodes in five regions, two in each, as far from each other as
their cities are (delay, jitter and 1 % loss on every packet between regions), with three people on
every node who move ten times a second. Measures what they see, then lets disasters happen.

  scripts/regions                     everything, about three minutes
  scripts/regions --only PART         one part; may be given several times
  scripts/regions --list              the parts
  scripts/regions --map               the round trips between the regions
  scripts/regions --seconds N         how long positions and bytes are measured (default 20)
  scripts/regions --nodes N           nodes in each region (default 2)
  scripts/regions --people N          people on each node (default 3)
  scripts/regions --many [N]          instead: N nodes (default 30) without distances, one person each:
                                      forming, idle, moving, three crashes, healing
  scripts/regions --json              prints JSON instead of tables

Progress is told on standard error, results on standard output, goals and whether they were met at the
end. The goals: positions between regions at most one way, plus the jitter's maximum, plus two ticks
(2 x 16 ms) plus 5 ms old in 99 of 100 cases; a lost region hidden within 5 s and one way, and nobody
removed who is there; bytes between regions at most 1.1 times one copy for each region.

Exit code 0 if all goals were met, 1 if one was missed, 2 for wrong usage, 3 if a part could not be
carried out. Every node of the world needs some processor time: with fewer than two free processors
the ages are the machine's. The nodes should be a release build, which CURSORMESH_BIN=PATH names:

  cargo build --release -p cursormesh && CURSORMESH_BIN=target/release/cursormesh scripts/regions

PARTITIONS_SEED=N chooses other chances for what is lost, PARTITIONS_KEEP=1 keeps the nodes' logs.
";

/// Parts by name, in their order, and what each is.
const PARTS: &[(&str, &str)] = &[
    (
        "cursors",
        "everybody moves: ages of positions by pair of regions, and bytes between regions",
    ),
    (
        "presence",
        "people come and go on every node: how soon the others are told",
    ),
    (
        "lost-region",
        "both nodes of Singapore crash, and come back",
    ),
    (
        "transatlantic",
        "nothing passes between Europe and the Americas for 12 s",
    ),
    (
        "flapping",
        "Virginia - Frankfurt comes and goes three times",
    ),
    ("slow-node", "a node in Sao Paulo stands still for 1.5 s"),
    (
        "rolling",
        "every node is stopped in order and started again, one after the other",
    ),
];

/// What the command line says.
struct Wish {
    parts: Vec<&'static str>,
    length: Duration,
    nodes: usize,
    people: usize,
    many: Option<usize>,
    json: bool,
}

enum Answer {
    Play(Wish),
    Tell(String),
    Wrong(String),
}

#[tokio::main]
async fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let wish = match read(&words) {
        Answer::Play(wish) => wish,
        Answer::Tell(text) => {
            print!("{text}");
            return ExitCode::SUCCESS;
        }
        Answer::Wrong(problem) => {
            eprintln!("regions: {problem}; see --help");
            return ExitCode::from(2);
        }
    };
    // Dropping the world ends its nodes.
    let outcome = tokio::select! {
        outcome = play(&wish) => outcome,
        () = told_to_stop() => {
            eprintln!("stopped; the nodes are ended");
            return ExitCode::from(130);
        }
    };
    let (tale, failure) = outcome;
    if wish.json {
        println!("{:#}", tale.json());
    } else {
        print!("{}", tale.markdown());
    }
    match failure {
        Some(error) => {
            eprintln!("regions: not carried out: {error}");
            ExitCode::from(3)
        }
        None if tale.is_good() => ExitCode::SUCCESS,
        None => ExitCode::FAILURE,
    }
}

async fn told_to_stop() {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut term) = signal(SignalKind::terminate()) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = term.recv() => {}
    }
}

fn read(words: &[String]) -> Answer {
    let mut wish = Wish {
        parts: Vec::new(),
        length: Duration::from_secs(20),
        nodes: 2,
        people: 3,
        many: None,
        json: false,
    };
    let mut rest = words.iter().map(String::as_str).peekable();
    while let Some(word) = rest.next() {
        let mut number = |most: u64| -> Option<u64> {
            let value = rest
                .peek()?
                .parse()
                .ok()
                .filter(|n| (1..=most).contains(n))?;
            rest.next();
            Some(value)
        };
        let is_good = match word {
            "--help" | "-h" => return Answer::Tell(USAGE.to_owned()),
            "--list" => return Answer::Tell(list()),
            "--map" => return Answer::Tell(map()),
            "--json" => {
                wish.json = true;
                true
            }
            "--seconds" => number(3600)
                .map(|n| wish.length = Duration::from_secs(n))
                .is_some(),
            "--nodes" => number(5).map(|n| wish.nodes = n as usize).is_some(),
            "--people" => number(50).map(|n| wish.people = n as usize).is_some(),
            "--many" => {
                // Without a number there are 30; a number that makes no sense is no number of its own.
                let is_named = rest.peek().is_some_and(|word| !word.starts_with("--"));
                let mut number = || rest.next()?.parse().ok().filter(|n| (4..=200).contains(n));
                wish.many = if is_named { number() } else { Some(30) };
                wish.many.is_some()
            }
            "--only" => {
                let named = rest.next().unwrap_or_default();
                match PARTS.iter().find(|(name, _)| *name == named) {
                    Some((name, _)) => wish.parts.push(name),
                    None => {
                        return Answer::Wrong(format!(
                            "there is no part {named:?}; --list names them"
                        ));
                    }
                }
                true
            }
            _ => false,
        };
        if !is_good {
            return Answer::Wrong(format!("{word} is not understood, or what follows it"));
        }
    }
    if wish.parts.is_empty() {
        wish.parts = PARTS.iter().map(|(name, _)| *name).collect();
    }
    Answer::Play(wish)
}

fn list() -> String {
    PARTS
        .iter()
        .map(|(name, what)| format!("{name:<14} {what}\n"))
        .collect()
}

fn map() -> String {
    let mut text = format!("{:<22}", "round trips, ms");
    text.extend(REGIONS.iter().map(|region| format!("{:>13}", region.name)));
    text.push('\n');
    for one in REGIONS {
        text.push_str(&format!("{:<22}", format!("{} ({})", one.name, one.city)));
        for other in REGIONS {
            let trip = round_trip(one.name, other.name).unwrap_or_default();
            text.push_str(&format!("{:>13}", trip.as_millis()));
        }
        text.push('\n');
    }
    text.push_str(&format!(
        "jitter up to {} ms and {} % loss between regions, neither within\n",
        JITTER_MAX.as_millis(),
        LOSS * 100.0
    ));
    text
}

/// What was found, and what could not be carried out.
async fn play(wish: &Wish) -> (Tale, Option<Failure>) {
    let mut tale = Tale::default();
    let outcome = match wish.many {
        Some(count) => {
            let part = many::many(count, wish.length, |line| eprintln!("{line}")).await;
            part.map(|part| tale.parts.push(part))
        }
        None => parts(wish, &mut tale).await,
    };
    (tale, outcome.err())
}

async fn parts(wish: &Wish, tale: &mut Tale) -> Result<(), Failure> {
    let plan = Plan {
        regions: REGIONS.iter().map(|region| region.name).collect(),
        nodes: wish.nodes,
        people: wish.people,
    };
    eprintln!(
        "{} regions x {} nodes x {} people are coming up",
        plan.regions.len(),
        plan.nodes,
        plan.people
    );
    let begin = Instant::now();
    let mut world = World::start(plan).await?;
    eprintln!(
        "all nodes linked after {:.1} s, everybody sees everybody after {:.1} s",
        world.cluster.formed().as_secs_f64(),
        begin.elapsed().as_secs_f64()
    );
    for name in &wish.parts {
        let begin = Instant::now();
        eprintln!("{name} …");
        let found = one(&mut world, name, wish).await?;
        for part in &found {
            let verdict = if part.report.is_good() {
                "good"
            } else {
                "MISSED"
            };
            eprintln!(
                "{}: {verdict} ({:.0} s)",
                part.name,
                begin.elapsed().as_secs_f64()
            );
        }
        tale.parts.extend(found);
    }
    Ok(())
}

async fn one(world: &mut World, name: &str, wish: &Wish) -> Result<Vec<Part>, Failure> {
    Ok(match name {
        "cursors" => measure::cursors(world, wish.length).await?,
        "presence" => vec![measure::presence(world, 5).await?],
        "lost-region" => vec![disasters::lost_region(world).await?],
        "transatlantic" => vec![disasters::transatlantic(world, Duration::from_secs(12)).await?],
        "flapping" => vec![disasters::flapping(world).await?],
        "slow-node" => vec![disasters::slow_node(world).await?],
        "rolling" => vec![disasters::rolling(world).await?],
        _ => return Err(format!("there is no part {name}").into()),
    })
}
