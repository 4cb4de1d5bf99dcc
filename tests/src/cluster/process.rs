//! One process that does not outlive its owner.

use std::fs::OpenOptions;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::{Failure, run};

/// A running program; dropping it kills it.
#[derive(Debug)]
pub struct Process(Child);

impl Process {
    /// Starts a program with its arguments; both its outputs are added to `log`.
    pub fn start(words: &[String], log: &Path) -> Result<Self, Failure> {
        let (program, arguments) = words.split_first().ok_or("nothing to start")?;
        let log = OpenOptions::new().create(true).append(true).open(log)?;
        let child = Command::new(program)
            .args(arguments)
            .env_remove("CURSORMESH_LOG_LEVEL")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        Ok(Self(child))
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.0.id()
    }

    /// Whether it has ended.
    pub fn ended(&mut self) -> bool {
        self.0.try_wait().is_ok_and(|status| status.is_some())
    }

    /// Sends a signal, such as `STOP`.
    pub fn signal(&self, name: &str) -> Result<(), Failure> {
        run(Command::new("sh").args(["-c", &format!("kill -{name} {}", self.id())]))?;
        Ok(())
    }

    /// Ends it as a crash would and returns when it is gone.
    pub fn kill(&mut self) -> Result<(), Failure> {
        self.0.kill()?;
        self.0.wait()?;
        Ok(())
    }

    /// Stops it in order (SIGTERM); gives how long that took.
    pub async fn terminate(&mut self) -> Result<Duration, Failure> {
        let begin = Instant::now();
        self.signal("TERM")?;
        while !self.ended() {
            if begin.elapsed() > super::PATIENCE {
                return Err("it does not stop".into());
            }
            super::pause().await;
        }
        Ok(begin.elapsed())
    }

    /// Its resident memory in KiB.
    pub fn resident_kib(&self) -> Result<u64, Failure> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let number = line
            .and_then(|line| line.split_whitespace().next())
            .ok_or("no VmRSS")?;
        Ok(number.parse()?)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
