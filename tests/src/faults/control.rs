//! The proxy's control: one command per line over a Unix socket, answered by lines of which the
//! last is `ok` or begins with `error: `.

use std::fmt::Write as _;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};

use super::link::Faults;
use super::proxy::Proxy;

/// The longest command, in bytes.
const COMMAND_BYTES_MAX: u64 = 4096;

/// The commands, for people.
pub const HELP: &str = "\
cut A B [--one-way]          nothing passes between A and B (--one-way: from A to B)
heal [A B]                   ends all cuts, or those between A and B
set A B [--one-way] FAULT..  changes the faults between A and B; * is any node:
                             delay=75ms jitter=10ms loss=0.05 reorder=0.01 duplicate=0.01
                             rate=1mbit (or none) queue=16kb (what may wait for the rate)
clear [A B]                  ends all faults, or those between A and B
show                         every direction with its faults and counters
routes                       every node with its two addresses
";

/// Answers commands on `path` until its task is dropped. An old socket there is replaced.
pub async fn serve(path: &Path, proxy: Arc<Proxy>) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    loop {
        let (stream, _) = listener.accept().await?;
        let proxy = proxy.clone();
        tokio::spawn(async move {
            // A client that went away needs no answer.
            let _ = converse(stream, &proxy).await;
        });
    }
}

async fn converse(stream: UnixStream, proxy: &Proxy) -> io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    loop {
        let mut line = String::new();
        if (&mut reader)
            .take(COMMAND_BYTES_MAX)
            .read_line(&mut line)
            .await?
            == 0
        {
            return Ok(());
        }
        let answer = match execute(&line, proxy) {
            Ok(text) => format!("{text}ok\n"),
            Err(problem) => format!("error: {problem}\n"),
        };
        writer.write_all(answer.as_bytes()).await?;
    }
}

/// Sends one command to the proxy behind `path` and gives its answer without the last line.
pub async fn send(path: &Path, command: &str) -> io::Result<Result<String, String>> {
    let mut stream = UnixStream::connect(path).await?;
    stream
        .write_all(format!("{}\n", command.replace('\n', " ")).as_bytes())
        .await?;
    let mut lines = BufReader::new(stream).lines();
    let mut text = String::new();
    while let Some(line) = lines.next_line().await? {
        if line == "ok" {
            return Ok(Ok(text));
        }
        if let Some(problem) = line.strip_prefix("error: ") {
            return Ok(Err(problem.to_owned()));
        }
        text.push_str(&line);
        text.push('\n');
    }
    Err(io::ErrorKind::UnexpectedEof.into())
}

/// Does what one line says; gives the lines that answer it.
pub fn execute(line: &str, proxy: &Proxy) -> Result<String, String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let (flags, words): (Vec<&str>, Vec<&str>) =
        words.into_iter().partition(|word| word.starts_with("--"));
    let one_way = flags == ["--one-way"];
    if !one_way && !flags.is_empty() {
        return Err(format!("unknown option {}", flags.join(" ")));
    }
    let both = |from: &str, to: &str, change: &dyn Fn(&mut Faults)| {
        proxy.change(from, to, change)?;
        if one_way {
            Ok(())
        } else {
            proxy.change(to, from, change)
        }
    };
    match words[..] {
        ["cut", from, to] => both(from, to, &|faults| faults.cut = true)?,
        ["heal"] => proxy.change("*", "*", |faults| faults.cut = false)?,
        ["heal", from, to] => both(from, to, &|faults| faults.cut = false)?,
        ["clear"] => proxy.change("*", "*", |faults| *faults = Faults::default())?,
        ["clear", from, to] => both(from, to, &|faults| *faults = Faults::default())?,
        ["set", from, to, ref settings @ ..] if !settings.is_empty() => {
            let mut tried = Faults::default();
            for setting in settings {
                apply(setting, &mut tried)?;
            }
            both(from, to, &|faults| {
                for setting in settings {
                    // Every one was tried above.
                    let _ = apply(setting, faults);
                }
            })?;
        }
        ["show"] => return Ok(show(proxy)),
        ["routes"] => {
            return Ok(proxy
                .routes()
                .iter()
                .map(|route| format!("{} {} {}\n", route.node, route.front, route.target))
                .collect());
        }
        ["help"] => return Ok(HELP.to_owned()),
        _ => return Err(format!("not a command: {}; try help", line.trim())),
    }
    Ok(String::new())
}

fn apply(setting: &str, faults: &mut Faults) -> Result<(), String> {
    let (key, value) = setting
        .split_once('=')
        .ok_or_else(|| format!("{setting} is not of the form key=value"))?;
    let wrong = || format!("{key} cannot be {value}");
    match key {
        "delay" => faults.delay = duration(value).ok_or_else(wrong)?,
        "jitter" => faults.jitter = duration(value).ok_or_else(wrong)?,
        "loss" => faults.loss = share(value).ok_or_else(wrong)?,
        "reorder" => faults.reorder = share(value).ok_or_else(wrong)?,
        "duplicate" => faults.duplicate = share(value).ok_or_else(wrong)?,
        "rate" if value == "none" => faults.rate = None,
        "rate" => faults.rate = Some(rate(value).ok_or_else(wrong)?),
        "queue" => faults.queue = bytes(value).ok_or_else(wrong)?,
        _ => return Err(format!("there is no fault {key}")),
    }
    Ok(())
}

fn duration(text: &str) -> Option<Duration> {
    let millis = text.strip_suffix("ms").map_or_else(
        || {
            text.strip_suffix('s')
                .and_then(number)
                .map(|seconds| seconds * 1000.0)
        },
        number,
    )?;
    (millis <= 60_000.0).then(|| Duration::from_secs_f64(millis / 1000.0))
}

fn share(text: &str) -> Option<f64> {
    let share = match text.strip_suffix('%') {
        Some(percent) => number(percent)? / 100.0,
        None => number(text)?,
    };
    (share <= 1.0).then_some(share)
}

fn rate(text: &str) -> Option<u64> {
    let bits = if let Some(mega) = text.strip_suffix("mbit") {
        number(mega)? * 1e6
    } else {
        number(text.strip_suffix("kbit")?)? * 1e3
    };
    (1000.0..=1e12).contains(&bits).then_some(bits as u64)
}

fn bytes(text: &str) -> Option<usize> {
    let bytes = number(text.strip_suffix("kb")?)? * 1024.0;
    (bytes <= 1e9).then_some(bytes as usize)
}

/// A finite number that is not negative.
fn number(text: &str) -> Option<f64> {
    text.parse::<f64>()
        .ok()
        .filter(|number| number.is_finite() && *number >= 0.0)
}

fn show(proxy: &Proxy) -> String {
    let mut text = String::new();
    for shown in proxy.show() {
        let _ = writeln!(
            text,
            "{} -> {}  {}  packets={} bytes={} passed={} cut={} lost={} overflowed={}",
            shown.from,
            shown.to,
            describe(&shown.faults),
            shown.counters.packets,
            shown.counters.bytes,
            shown.counters.passed,
            shown.counters.cut,
            shown.counters.lost,
            shown.counters.overflowed,
        );
    }
    text
}

/// The faults in the words of `set`, or `clear`, or `cut`.
pub fn describe(faults: &Faults) -> String {
    let mut words = Vec::new();
    if faults.cut {
        words.push("cut".to_owned());
    }
    for (key, value) in [("delay", faults.delay), ("jitter", faults.jitter)] {
        if !value.is_zero() {
            words.push(format!("{key}={}ms", value.as_secs_f64() * 1000.0));
        }
    }
    for (key, value) in [
        ("loss", faults.loss),
        ("reorder", faults.reorder),
        ("duplicate", faults.duplicate),
    ] {
        if value > 0.0 {
            words.push(format!("{key}={value}"));
        }
    }
    if let Some(rate) = faults.rate {
        words.push(format!("rate={}kbit", rate as f64 / 1e3));
    }
    if words.is_empty() {
        "clear".to_owned()
    } else {
        words.join(" ")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::super::proxy::Route;
    use super::*;

    async fn proxy() -> Proxy {
        let route = |node: &str| Route {
            node: node.to_owned(),
            front: "127.0.0.1:0".parse().unwrap(),
            target: "127.0.0.1:9".parse().unwrap(),
        };
        Proxy::start(["n1", "n2", "n3"].map(route).to_vec(), 1)
            .await
            .unwrap()
    }

    fn lines(proxy: &Proxy) -> Vec<String> {
        let shown = execute("show", proxy).unwrap();
        shown
            .lines()
            .filter(|line| !line.contains("  clear  "))
            .map(|line| line.split("  packets").next().unwrap().to_owned())
            .collect()
    }

    #[tokio::test]
    async fn cuts_and_heals_are_both_ways_unless_said_otherwise() {
        let proxy = proxy().await;
        execute("cut n1 n3\n", &proxy).unwrap();
        assert_eq!(lines(&proxy), ["n1 -> n3  cut", "n3 -> n1  cut"]);
        execute("heal n3 n1 --one-way", &proxy).unwrap();
        assert_eq!(lines(&proxy), ["n1 -> n3  cut"]);
        execute("heal", &proxy).unwrap();
        execute("cut n2 * --one-way", &proxy).unwrap();
        assert_eq!(lines(&proxy), ["n2 -> n1  cut", "n2 -> n3  cut"]);
    }

    #[tokio::test]
    async fn faults_are_set_one_by_one_and_outlive_a_heal() {
        let proxy = proxy().await;
        execute(
            "set n1 n3 --one-way delay=75ms jitter=10ms loss=5% rate=1mbit",
            &proxy,
        )
        .unwrap();
        execute(
            "set n1 n3 --one-way loss=0.1 duplicate=0.5 reorder=0",
            &proxy,
        )
        .unwrap();
        execute("heal", &proxy).unwrap();
        assert_eq!(
            lines(&proxy),
            ["n1 -> n3  delay=75ms jitter=10ms loss=0.1 duplicate=0.5 rate=1000kbit"]
        );
        execute("clear n1 n3", &proxy).unwrap();
        assert!(lines(&proxy).is_empty());
    }

    #[tokio::test]
    async fn what_makes_no_sense_is_refused_and_changes_nothing() {
        let proxy = proxy().await;
        for line in [
            "",
            "cut",
            "cut n1",
            "cut n1 n9",
            "cut n1 n1",
            "cut n1 n3 --twice",
            "set n1 n3",
            "set n1 n3 loss=2",
            "set n1 n3 loss=-1",
            "set n1 n3 delay=75",
            "set n1 n3 delay=1e9s",
            "set n1 n3 delay=NaNms",
            "set n1 n3 rate=0mbit",
            "set n1 n3 x=1",
            "set n1 n3 delay=1ms loss",
        ] {
            assert!(execute(line, &proxy).is_err(), "{line:?}");
        }
        assert!(lines(&proxy).is_empty());
    }

    #[tokio::test]
    async fn commands_are_answered_over_the_socket() {
        let dir = std::env::temp_dir().join(format!("cursormesh-faults-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join("control");
        let proxy = Arc::new(proxy().await);
        let server = tokio::spawn({
            let (path, proxy) = (path.clone(), proxy.clone());
            async move { serve(&path, proxy).await }
        });
        let answer = loop {
            match send(&path, "routes").await {
                Ok(answer) => break answer.unwrap(),
                Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        };
        assert_eq!(answer.lines().count(), 3);
        assert_eq!(send(&path, "cut n1 n2").await.unwrap(), Ok(String::new()));
        assert_eq!(
            send(&path, "cut n1").await.unwrap(),
            Err("not a command: cut n1; try help".to_owned())
        );
        server.abort();
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
