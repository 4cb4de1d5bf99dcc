//! Runs the scenarios and prints their table. See `--help`.
#![allow(clippy::print_stdout)]

use std::process::ExitCode;
use std::time::{Duration, Instant};

use cursormesh_tests::cluster::Failure;
use cursormesh_tests::cluster::report::Report;
use cursormesh_tests::cluster::scenario::{self, SCENARIOS, Scenario};

const USAGE: &str = "\
Breaks three real nodes, or the network between them, while clients move, write and watch, and
prints what the clients saw.

  scripts/partitions                  every scenario but the long ones
  scripts/partitions NAME...          these scenarios
  scripts/partitions --long           the long ones, too
  scripts/partitions --hour [MIN]     5 % loss at 150 ms round trip for an hour, or MIN minutes
  scripts/partitions --restarts N     one node crashes and starts again N times
  scripts/partitions --list           the names

PARTITIONS_SEED=N chooses other chances for the faults, PARTITIONS_KEEP=1 keeps logs,
CURSORMESH_BIN=PATH tries another program. Exit code 1 if a bound was missed.
";

#[tokio::main]
async fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let good = match words[..] {
        [] => table(SCENARIOS.iter().filter(|scenario| !scenario.long)).await,
        ["--long"] => table(SCENARIOS.iter()).await,
        ["--list"] => {
            for scenario in SCENARIOS {
                println!("{:<16} {}", scenario.name, scenario.what);
            }
            true
        }
        ["--hour"] => hour(60.0).await,
        ["--hour", minutes] => match minutes.parse::<f64>() {
            Ok(minutes) if minutes > 0.0 && minutes < 10_000.0 => hour(minutes).await,
            _ => return usage(),
        },
        ["--restarts", count] => match count.parse() {
            Ok(count) => tell(
                "restarts",
                scenario::restarts(count, |line| println!("{line}")).await,
            ),
            Err(_) => return usage(),
        },
        _ if words.iter().all(|word| scenario::named(word).is_some()) => {
            table(words.iter().filter_map(|word| scenario::named(word))).await
        }
        _ => return usage(),
    };
    if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn usage() -> ExitCode {
    print!("{USAGE}");
    ExitCode::from(2)
}

async fn hour(minutes: f64) -> bool {
    let length = Duration::from_secs_f64(minutes * 60.0);
    tell(
        "hour",
        scenario::hour(length, |line| println!("{line}")).await,
    )
}

async fn table(scenarios: impl Iterator<Item = &Scenario>) -> bool {
    let mut good = true;
    for scenario in scenarios {
        println!("== {}: {}", scenario.name, scenario.what);
        let begin = Instant::now();
        good &= tell(scenario.name, scenario.run().await);
        println!("   ({:.0} s)", begin.elapsed().as_secs_f64());
    }
    good
}

fn tell(name: &str, outcome: Result<Report, Failure>) -> bool {
    match outcome {
        Ok(report) => {
            let verdict = match &report.skipped {
                Some(_) => "skipped",
                None if report.is_good() => "good",
                None => "NOT GOOD",
            };
            println!("   {name}: {verdict}: {report}");
            report.is_good()
        }
        Err(error) => {
            println!("   {name}: NOT CARRIED OUT: {error}");
            false
        }
    }
}
