//! Runs the simulator over many seeds and says what it found.

use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use cursormesh_simulator::scale::{measure, restart};
use cursormesh_simulator::{Options, Report, run_seed};

fn main() -> ExitCode {
    let mut seeds = 300;
    let mut first = 0;
    let mut nodes = 0;
    let mut trace = false;
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        if arg == "--trace" {
            trace = true;
            continue;
        }
        if arg == "--scale" {
            let largest = args.next().and_then(|value| value.parse().ok());
            return scale(largest.unwrap_or(300));
        }
        let value = args.next().and_then(|value| value.parse::<u64>().ok());
        match (arg.as_str(), value) {
            ("--seeds", Some(value)) => seeds = value,
            ("--first-seed", Some(value)) => first = value,
            ("--nodes", Some(value)) => nodes = usize::try_from(value).unwrap_or(0),
            _ => {
                say(
                    "usage: scripts/sim [--seeds N] [--first-seed S] [--nodes N] [--trace]\n       scripts/sim --scale [largest cluster]",
                );
                return ExitCode::FAILURE;
            }
        }
    }
    run(first, seeds, nodes, trace)
}

fn run(first: u64, seeds: u64, nodes: usize, trace: bool) -> ExitCode {
    let next = AtomicU64::new(first);
    let done = AtomicU64::new(0);
    let reports: Mutex<Vec<Report>> = Mutex::default();
    let failed: Mutex<Vec<u64>> = Mutex::default();
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + seeds {
                        return;
                    }
                    let options = Options {
                        seed,
                        nodes,
                        trace,
                        ..Options::default()
                    };
                    match catch_unwind(AssertUnwindSafe(|| run_seed(&options))) {
                        Ok(report) => {
                            if !report.violations.is_empty() {
                                let head = format!(
                                    "seed {seed} ({}, {} nodes) failed:",
                                    report.profile, report.nodes
                                );
                                let lines = report.violations.join(
                                    "
  ",
                                );
                                say(&format!(
                                    "{head}
  {lines}"
                                ));
                                note(&failed, seed);
                            }
                            note(&reports, report);
                        }
                        Err(_) => {
                            say(&format!("seed {seed} panicked"));
                            note(&failed, seed);
                        }
                    }
                    let done = done.fetch_add(1, Ordering::Relaxed) + 1;
                    if done.is_multiple_of(100) {
                        say(&format!("{done} of {seeds} seeds done"));
                    }
                }
            });
        }
    });
    let reports = reports.into_inner().unwrap_or_default();
    let failed = failed.into_inner().unwrap_or_default();
    let sum = |of: fn(&Report) -> u64| reports.iter().map(of).sum::<u64>();
    say(&format!(
        "{} runs, {} failed; {} messages delivered, {} reported lost, {} frames relayed",
        reports.len(),
        failed.len(),
        sum(|r| r.messages_delivered),
        sum(|r| r.messages_lost),
        sum(|r| r.relayed)
    ));
    for seed in failed.iter().take(10) {
        say(&format!(
            "replay: scripts/sim --seeds 1 --first-seed {seed} --nodes {nodes}"
        ));
    }
    if failed.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Prints figures of clusters up to a size.
fn scale(largest: usize) -> ExitCode {
    say("nodes  formed s  join s  hidden s  B/s/node  packets/s/node  entries  replicas");
    for nodes in [3, 10, 30, 100, 300].into_iter().filter(|n| *n <= largest) {
        let figures = measure(nodes);
        let seconds = |us: Option<u64>| {
            us.map_or("-".to_owned(), |us| {
                format!("{}.{:02}", us / 1_000_000, us % 1_000_000 / 10_000)
            })
        };
        say(&format!(
            "{:5}  {:>8}  {:>6}  {:>8}  {:8}  {:14}  {:7}  {:8}",
            figures.nodes,
            seconds(figures.formed_us),
            seconds(figures.join_us),
            seconds(figures.hidden_us),
            figures.bytes_per_second,
            figures.packets_per_second,
            figures.entries,
            figures.replicas
        ));
    }
    let (before, after) = restart(1_000);
    say(&format!(
        "before 1,000 restarts of one of three nodes: {before:?}"
    ));
    say(&format!(
        "after them:                                  {after:?}"
    ));
    ExitCode::SUCCESS
}

fn note<T>(list: &Mutex<Vec<T>>, item: T) {
    if let Ok(mut list) = list.lock() {
        list.push(item);
    }
}

fn say(text: &str) {
    // Nobody to tell if standard output is gone.
    let _ = writeln!(std::io::stdout(), "{text}");
}
