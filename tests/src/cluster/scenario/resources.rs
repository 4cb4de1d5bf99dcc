//! A machine that has run out of something.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use tokio::time::sleep;

use crate::cluster::client::Client;
use crate::cluster::report::Report;
use crate::cluster::stage::{ROOM, Stage};
use crate::cluster::{Cluster, Failure, Launch, PATIENCE, eventually, run};

/// How many file descriptors n1 gets.
const DESCRIPTORS: u32 = 48;

/// Clients that are connected are served, the log says why no more come in, and one that waits is
/// served when another goes.
pub(super) async fn descriptors() -> Result<Report, Failure> {
    let mut report = Report::default();
    let mut stage = Stage::of_three().await?;
    let limit = Launch {
        before: Some(format!("ulimit -n {DESCRIPTORS}")),
        ..Launch::default()
    };
    stage.cluster.process("n1")?.kill()?;
    stage.cluster.launch("n1", &limit)?;
    stage.cluster.until_ready("n1").await?;
    stage.until_complete(PATIENCE).await?;
    let cast = stage.cast();
    stage.mark();
    let begin = Instant::now();
    let addr = stage.cluster.web("n1")?;
    let mut crowd = Vec::new();
    for _ in 0..2 * DESCRIPTORS {
        crowd.push(TcpStream::connect(addr).await?);
    }
    let log = stage.cluster.log("n1");
    eventually(
        PATIENCE,
        "the log says that no connection can be accepted",
        async || Ok(std::fs::read_to_string(&log)?.contains("cannot accept a connection")),
    )
    .await?;
    sleep(Duration::from_secs(3)).await;
    let warnings = std::fs::read_to_string(&log)?
        .matches("cannot accept a connection")
        .count();
    report.figure(
        "warnings in the log in 3 s",
        warnings as f64,
        "",
        Some(60.0),
    );
    report.seconds(
        "longest gap of connected pages",
        stage
            .gap("n1", &cast, "n2")
            .max(stage.gap("n2", &cast, "n1")),
        Some(1.0),
    );
    let waiting = Client::open(
        "n1-late",
        "n1",
        addr,
        ROOM,
        Some(crate::cluster::stage::PERIOD),
    );
    sleep(Duration::from_millis(500)).await;
    report.expect(!waiting.diary().open, || {
        "a page came in without a file descriptor".into()
    });
    drop(crowd);
    let freed = Instant::now();
    stage.clients.push(waiting);
    eventually(PATIENCE, "the page that waited is in", async || {
        Ok(stage.clients.last().is_some_and(|page| page.diary().open))
    })
    .await?;
    report.seconds("a waiting page is in, after", freed.elapsed(), Some(5.0));
    stage.until_complete(PATIENCE).await?;
    // Asking n1 takes a descriptor, too: only what the others tell counts, and what pages were told.
    stage.judge_changes(&mut report, begin, &cast, |_, _| Some((0, 0)));
    stage.judge(&mut report);
    report.saw = "connected pages went on, nobody left; newcomers waited and then came in".into();
    Ok(report)
}

/// What cannot be logged is lost; the node lives, and logs again when there is room.
pub(super) async fn disk_full() -> Result<Report, Failure> {
    let mut report = Report::default();
    let mut stage = Stage::of_three().await?;
    let disk = match Disk::mount(&stage.cluster) {
        Ok(disk) => disk,
        Err(error) => {
            return Ok(Report::skipped(format!(
                "no tiny disk without root: {error}"
            )));
        }
    };
    let log = disk.0.join("n1.log");
    stage.cluster.process("n1")?.kill()?;
    let verbose = "info,cursormesh_mesh=trace,cursormesh_web=trace".to_owned();
    stage.cluster.launch(
        "n1",
        &Launch {
            log: Some(log.clone()),
            level: verbose,
            ..Launch::default()
        },
    )?;
    stage.cluster.until_ready("n1").await?;
    stage.until_complete(PATIENCE).await?;
    let filler = disk.0.join("filler");
    // A full disk is the aim, so this write has to fail.
    let filled = std::fs::write(&filler, vec![0; 1024 * 1024]).is_err();
    report.expect(filled, || "the disk did not fill up".into());
    let full = std::fs::metadata(&log)?.len();
    let cast = stage.cast();
    stage.mark();
    let begin = Instant::now();
    // Something to log about: a peer is lost and comes back.
    stage.cluster.network().cut("n1", "n3")?;
    sleep(Duration::from_secs(4)).await;
    stage.cluster.network().heal()?;
    sleep(Duration::from_secs(2)).await;
    report.expect(!stage.cluster.process("n1")?.ended(), || {
        "the node ended".into()
    });
    report.seconds(
        "longest gap between n1 and n2",
        stage
            .gap("n1", &cast, "n2")
            .max(stage.gap("n2", &cast, "n1")),
        Some(1.0),
    );
    let grown = std::fs::metadata(&log)?.len().saturating_sub(full);
    report.expect(grown < 8192, || {
        format!("the log grew by {grown} bytes on a full disk")
    });
    std::fs::remove_file(&filler)?;
    let freed = std::fs::metadata(&log)?.len();
    stage.cluster.process("n3")?.signal("TERM")?;
    let logs_again = eventually(PATIENCE, "the log grows again", async || {
        Ok(std::fs::metadata(&log)?.len() > freed)
    })
    .await?;
    report.seconds("logs again after", logs_again, None);
    stage.judge_changes(&mut report, begin, &cast, |observer, owner| {
        match (observer, owner) {
            ("n3", _) | (_, "n3") => None,
            _ => Some((0, 0)),
        }
    });
    stage.judge(&mut report);
    report.saw = "pages of n1 went on; its log lacks what did not fit".into();
    // The disk must not be in use when it goes.
    drop(stage);
    drop(disk);
    Ok(report)
}

/// A disk of 256 KiB in memory.
struct Disk(std::path::PathBuf);

impl Disk {
    fn mount(cluster: &Cluster) -> Result<Self, Failure> {
        // Beside the cluster's directory, which goes before this does.
        let dir = Path::new(&format!("{}-disk", cluster.dir().display())).to_owned();
        std::fs::create_dir(&dir)?;
        let mut mount = Command::new("mount");
        mount
            .args(["-t", "tmpfs", "-o", "size=256k", "tmpfs"])
            .arg(&dir);
        if let Err(error) = run(&mut mount) {
            std::fs::remove_dir(&dir)?;
            return Err(error);
        }
        Ok(Self(dir))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily, should the node still hold its log open.
        let _ = run(Command::new("umount").arg("-l").arg(&self.0));
        let _ = std::fs::remove_dir(&self.0);
    }
}
