//! The UDP fault proxy as a program, and the way to talk to it. Without arguments it explains itself.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use cursormesh_tests::faults::{Proxy, Route, control};

const USAGE: &str = "\
A UDP proxy in front of nodes that delays, loses, reorders, doubles and stops packets.

  faults run CONTROL SEED NODE=FRONT,TARGET...   runs until it is stopped; CONTROL is a Unix socket,
                                                 FRONT where others reach the node (port 0: any free
                                                 port), TARGET where it listens
  faults send CONTROL COMMAND...                 tells a running proxy what to do:

";

#[tokio::main]
async fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let outcome = match words[..] {
        ["run", control, seed, ref nodes @ ..] if !nodes.is_empty() => {
            run(control, seed, nodes).await
        }
        ["send", control, ref command @ ..] if !command.is_empty() => {
            match control::send(Path::new(control), &command.join(" ")).await {
                Ok(answer) => answer.map(|text| print!("{text}")),
                Err(error) => Err(format!("no proxy answers at {control}: {error}")),
            }
        }
        _ => {
            print!("{USAGE}");
            control::HELP
                .lines()
                .for_each(|line| println!("    {line}"));
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("faults: {problem}");
            ExitCode::FAILURE
        }
    }
}

async fn run(control: &str, seed: &str, nodes: &[&str]) -> Result<(), String> {
    let seed = seed
        .parse()
        .map_err(|_| format!("{seed} is not a seed (a whole number)"))?;
    let mut routes = Vec::new();
    for node in nodes {
        routes.push(route(node).ok_or_else(|| format!("{node} is not NODE=FRONT,TARGET"))?);
    }
    let proxy = Proxy::start(routes, seed)
        .await
        .map_err(|error| format!("cannot listen: {error}"))?;
    for route in proxy.routes() {
        println!(
            "{} is reached at {}, listens at {}",
            route.node, route.front, route.target
        );
    }
    control::serve(Path::new(control), Arc::new(proxy))
        .await
        .map_err(|error| format!("cannot take commands at {control}: {error}"))
}

fn route(text: &str) -> Option<Route> {
    let (node, addrs) = text.split_once('=')?;
    let (front, target) = addrs.split_once(',')?;
    Some(Route {
        node: node.to_owned(),
        front: front.parse().ok()?,
        target: target.parse().ok()?,
    })
}
