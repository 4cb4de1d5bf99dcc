//! Runs the simulator over many seeds and says what it found.

use std::collections::BTreeMap;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use clap::Parser;
use cursormesh_simulator::scale::{measure, restart};
use cursormesh_simulator::{Options, Report, run_seed};

/// Runs the mesh's core in a simulated network that loses, delays, cuts and crashes, and judges what
/// every node shows and delivers.
///
/// A seed is a run, byte for byte. A seed that finds something is printed with what was violated and
/// the command that replays it; the exit code is then 1.
#[derive(Debug, Parser)]
#[command(name = "scripts/sim")]
struct Arguments {
    /// How many seeds to run.
    #[arg(long, value_name = "N", default_value_t = 300)]
    seeds: u64,
    /// The first of them.
    #[arg(long, value_name = "S", default_value_t = 0)]
    first_seed: u64,
    /// Nodes of every cluster; without it each seed chooses 2 to 6.
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    nodes: usize,
    /// Leave out small and slow snapshot parts, bursts of large messages and missed events.
    #[arg(long)]
    plain: bool,
    /// Let nodes know each other by a name alone, and change what it stands for.
    #[arg(long)]
    named: bool,
    /// Let some nodes speak the version before the newest alone, judged by its frozen codec; in half of
    /// the seeds all nodes begin so and are upgraded one by one, and some rolled back.
    #[arg(long)]
    mixed: bool,
    /// Let nodes be as far apart as cities are, or up to 600 ms, with 1 to 5 % loss.
    #[arg(long)]
    far: bool,
    /// Print every input and output of every node to standard error: for one seed.
    #[arg(long)]
    trace: bool,
    /// Instead of seeds: figures of clusters of 3, 10, 30, 100 and 300 nodes, up to this size, and of
    /// 1,000 restarts of one node.
    #[arg(long, value_name = "LARGEST", num_args = 0..=1, default_missing_value = "300")]
    scale: Option<usize>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match arguments.scale {
        Some(largest) => scale(largest),
        None => run(&arguments),
    }
}

fn run(arguments: &Arguments) -> ExitCode {
    let (first, seeds) = (arguments.first_seed, arguments.seeds);
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
                        nodes: arguments.nodes,
                        plain: arguments.plain,
                        named: arguments.named,
                        mixed: arguments.mixed,
                        far: arguments.far,
                        trace: arguments.trace,
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
    let mut reached: BTreeMap<&str, u64> = BTreeMap::new();
    for (what, times) in reports.iter().flat_map(|report| &report.reached) {
        *reached.entry(what).or_default() += times;
    }
    for (what, times) in reached {
        say(&format!("{times} {what}"));
    }
    let mut same = String::new();
    if arguments.nodes > 0 {
        same += &format!(" --nodes {}", arguments.nodes);
    }
    if arguments.plain {
        same += " --plain";
    }
    if arguments.named {
        same += " --named";
    }
    if arguments.mixed {
        same += " --mixed";
    }
    if arguments.far {
        same += " --far";
    }
    for seed in failed.iter().take(10) {
        say(&format!(
            "replay: scripts/sim --seeds 1 --first-seed {seed}{same}"
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
    say("nodes  formed s  join s  hidden s  B/s/node  packets/s/node  entries  replicas  KiB/node");
    for nodes in [3, 10, 30, 100, 300].into_iter().filter(|n| *n <= largest) {
        let figures = measure(nodes);
        let seconds = |us: Option<u64>| {
            us.map_or("-".to_owned(), |us| {
                format!("{}.{:02}", us / 1_000_000, us % 1_000_000 / 10_000)
            })
        };
        say(&format!(
            "{:5}  {:>8}  {:>6}  {:>8}  {:8}  {:14}  {:7}  {:8}  {:8}",
            figures.nodes,
            seconds(figures.formed_us),
            seconds(figures.join_us),
            seconds(figures.hidden_us),
            figures.bytes_per_second,
            figures.packets_per_second,
            figures.entries,
            figures.replicas,
            figures.memory_bytes / 1024
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
