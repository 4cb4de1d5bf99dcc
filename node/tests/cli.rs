//! The program as people and scripts use it: what it prints, where, and its exit codes.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(20);

fn cursormesh(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cursormesh"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("CURSORMESH_") {
            command.env_remove(name);
        }
    }
    command.args(args).stdin(Stdio::null());
    command
}

fn run(args: &[&str]) -> (i32, String, String) {
    finished(cursormesh(args).output().unwrap())
}

fn finished(output: Output) -> (i32, String, String) {
    (
        output.status.code().unwrap(),
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

/// A directory that goes away with the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new(test: &str) -> Self {
        let dir =
            std::env::temp_dir().join(format!("cursormesh-cli-{test}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }

    fn write(&self, name: &str, text: &str) -> String {
        std::fs::write(self.0.join(name), text).unwrap();
        self.path(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A node that runs; killed when the test is done with it.
struct Running {
    child: Child,
    log: mpsc::Receiver<String>,
    seen: Vec<String>,
}

impl Running {
    fn start(mut command: Command) -> Self {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = child.stderr.take().unwrap();
        let (lines, log) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                if lines.send(line).is_err() {
                    return;
                }
            }
        });
        Self {
            child,
            log,
            seen: Vec::new(),
        }
    }

    /// Waits for a log line that contains `text`.
    fn line(&mut self, text: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.log.recv_timeout(left) {
                Ok(line) => {
                    self.seen.push(line.clone());
                    if line.contains(text) {
                        return line;
                    }
                }
                Err(_) => panic!("no {text:?} in {:#?}", self.seen),
            }
        }
    }

    /// The address of its page once it listens, as `HOST:PORT`.
    fn web(&mut self) -> String {
        let seen = self.seen.iter().find(|line| line.contains("in a browser"));
        let line = seen.cloned().unwrap_or_else(|| self.line("in a browser"));
        let at = line.find("http://").unwrap() + "http://".len();
        line[at..].split(' ').next().unwrap().to_owned()
    }

    fn signal(&self, name: &str) {
        let kill = format!("kill -{name} {}", self.child.id());
        assert!(
            Command::new("sh")
                .args(["-c", &kill])
                .status()
                .unwrap()
                .success()
        );
    }

    fn ended(&mut self, within: Duration) -> ExitStatus {
        let deadline = Instant::now() + within;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(
                Instant::now() < deadline,
                "still running after {within:?}: {:#?}",
                self.seen
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn dev(args: &[&str]) -> Running {
    let mut command = cursormesh(&["dev", "--web", "127.0.0.1:0"]);
    command.args(args);
    Running::start(command)
}

fn get(host: &str, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(host).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {host}\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, body.to_owned())
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A configuration of `names` on free ports of this machine.
fn loopback_cluster(names: &[&str]) -> String {
    // Held together so that all are different; free again when the nodes start.
    let web: Vec<_> = names
        .iter()
        .map(|_| TcpListener::bind("127.0.0.1:0").unwrap())
        .collect();
    let mesh: Vec<_> = names
        .iter()
        .map(|_| UdpSocket::bind("127.0.0.1:0").unwrap())
        .collect();
    let mut text = "cluster = \"dev\"\n".to_owned();
    for ((name, web), mesh) in names.iter().zip(&web).zip(&mesh) {
        text += &format!(
            "[[node]]\nname = \"{name}\"\nweb = \"{}\"\nmesh = \"{}\"\n",
            web.local_addr().unwrap(),
            mesh.local_addr().unwrap()
        );
    }
    text
}

#[test]
fn help_teaches_and_goes_to_standard_output() {
    let (code, out, _) = run(&["--help"]);
    assert_eq!(code, 0);
    assert!(out.contains("cursormesh dev"), "{out}");
    for command in [
        &["serve"][..],
        &["dev"],
        &["check"],
        &["status"],
        &["cert"],
        &["cert", "ca"],
        &["cert", "node"],
        &["cert", "show"],
    ] {
        let (code, out, err) = run(&[command, &["--help"]].concat());
        assert_eq!((code, err.as_str()), (0, ""), "{command:?}");
        assert!(out.contains("Example"), "{command:?}: {out}");
    }
    let (code, out, _) = run(&["--version"]);
    assert_eq!(
        (code, out.trim()),
        (0, concat!("cursormesh ", env!("CARGO_PKG_VERSION")))
    );
}

#[test]
fn serve_help_names_every_setting_with_its_variable() {
    let (_, out, _) = run(&["serve", "--help"]);
    for key in cursormesh::config::keys::KEYS
        .iter()
        .filter(|key| key.path != "node.name")
    {
        assert!(out.contains(&format!("--{} ", key.flag())), "{}", key.path);
        assert!(out.contains(&key.env()), "{}", key.path);
    }
}

#[test]
fn a_wrong_command_line_is_usage() {
    for args in [
        &[][..],
        &["serv"],
        &["dev", "--prot", "1"],
        &["dev", "--port", "70000"],
        &["cert", "node"],
        &["status", "--config", "x"],
        &["status", "--url", "ftp://x"],
    ] {
        let (code, out, err) = run(args);
        assert_eq!((code, out.as_str()), (2, ""), "{args:?}: {err}");
        assert!(!err.is_empty(), "{args:?}");
    }
}

#[test]
fn check_accepts_the_shipped_file() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../cluster.toml");
    let (code, out, err) = run(&["check", "--config", path]);
    assert_eq!((code, err.as_str()), (0, ""));
    for node in ["node n1: ", "node n2: ", "node n3: "] {
        assert!(out.contains(node), "{out}");
    }
}

#[test]
fn a_wrong_configuration_is_usage_and_names_file_line_key_and_remedy() {
    let dir = Scratch::new("wrong");
    let cluster = loopback_cluster(&["n1", "n2"]);
    let file = dir.write("c.toml", &format!("{cluster}[web]\ntikc_ms = 3\n"));
    for command in ["check", "serve"] {
        let (code, out, err) = run(&[command, "--config", &file, "--node", "n1"]);
        assert_eq!((code, out.as_str()), (2, ""), "{err}");
        assert_eq!(
            err,
            format!(
                "error: {file}:11: unknown key `web.tikc_ms`\n  remedy: did you mean `web.tick_ms`?\n"
            )
        );
    }
    let good = dir.write("good.toml", &cluster);
    let cases = [
        (
            vec!["serve", "--config", &good, "--node", "n9"],
            "pick one with --node: n1, n2",
        ),
        (
            vec!["serve", "--config", &good],
            "add --node NAME; the file has: n1, n2",
        ),
        (
            vec!["serve", "--config", "/nonexistent.toml", "--node", "n1"],
            "/nonexistent.toml: cannot read",
        ),
        (
            vec![
                "serve",
                "--config",
                &good,
                "--node",
                "n1",
                "--web-tick-ms",
                "0",
            ],
            "flag --web-tick-ms: `web.tick_ms`: 0 is out of range",
        ),
        (
            vec![
                "serve",
                "--config",
                &good,
                "--node",
                "n1",
                "--mesh",
                "0.0.0.0:7171",
            ],
            "other nodes cannot reach 0.0.0.0:7171",
        ),
        (
            vec![
                "serve",
                "--config",
                &good,
                "--node",
                "n1",
                "--mesh",
                "192.0.2.1:7171",
            ],
            "which is not a loopback address",
        ),
        (
            vec!["dev", "--mesh", "192.0.2.1:7171"],
            "is not a loopback address",
        ),
    ];
    for (args, expected) in cases {
        let (code, out, err) = run(&args);
        assert_eq!((code, out.as_str()), (2, ""), "{args:?}: {err}");
        assert!(
            err.contains(expected) && err.contains("remedy: "),
            "{args:?}: {err}"
        );
    }
}

#[test]
fn the_environment_overrides_the_file_and_names_itself() {
    let dir = Scratch::new("env");
    let file = dir.write("c.toml", &loopback_cluster(&["n1"]));
    let mut command = cursormesh(&["check", "--config", &file, "--node", "n1"]);
    let (code, out, _) = finished(command.env("CURSORMESH_REGION", "mars").output().unwrap());
    assert!(code == 0 && out.contains("region mars"), "{out}");
    let (code, out, _) = finished(command.args(["--region", "venus"]).output().unwrap());
    assert!(code == 0 && out.contains("region venus"), "{out}");
    let (code, _, err) = finished(command.env("CURSORMESH_WEB_TICK_MS", "x").output().unwrap());
    assert_eq!(code, 2);
    assert!(
        err.contains("environment variable CURSORMESH_WEB_TICK_MS"),
        "{err}"
    );
}

#[test]
fn dev_serves_and_stops_in_order() {
    let mut node = dev(&[]);
    let web = node.web();
    assert_eq!(get(&web, "/healthz").0, 200);
    eventually("ready", || get(&web, "/readyz").0 == 200);
    let (code, out, err) = run(&["status", "--url", &web]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(
        out.starts_with("node dev of cluster dev, region default: 0 of 0 peers linked"),
        "{out}"
    );
    let (code, out, _) = run(&[
        "status",
        "--url",
        &format!("http://{web}/"),
        "--json",
        "--wait",
        "5",
    ]);
    assert!(code == 0 && out.contains("\"node\": \"dev\""), "{out}");
    node.signal("TERM");
    assert_eq!(node.ended(Duration::from_secs(5)).code(), Some(0));
    let (code, _, err) = run(&["status", "--url", &web]);
    assert!(code == 1 && err.contains("remedy: "), "{err}");
}

#[test]
fn ctrl_c_stops_in_order_and_a_second_one_at_once() {
    let mut node = dev(&[]);
    node.web();
    node.signal("INT");
    assert_eq!(node.ended(Duration::from_secs(5)).code(), Some(0));

    let mut node = dev(&[]);
    let web = node.web();
    // A request that never ends keeps the first stop busy for a while.
    let mut slow = TcpStream::connect(&web).unwrap();
    slow.write_all(b"GET / HTTP/1.1\r\n").unwrap();
    assert_eq!(get(&web, "/healthz").0, 200);
    node.signal("INT");
    node.line("closing all connections");
    node.signal("INT");
    assert_eq!(node.ended(Duration::from_secs(1)).code(), Some(130));
}

#[test]
fn a_port_in_use_is_one_clear_error() {
    let dir = Scratch::new("port");
    let text = loopback_cluster(&["n1"]);
    let file = dir.write("c.toml", &text);
    let addr = |key: &str| {
        let line = text.lines().find(|line| line.starts_with(key)).unwrap();
        line.split('"').nth(1).unwrap().to_owned()
    };
    let (web, mesh) = (addr("web"), addr("mesh"));

    let taken = TcpListener::bind(&web).unwrap();
    let (code, out, err) = run(&["serve", "--config", &file, "--node", "n1"]);
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(
        err.contains(&format!(
            "error: {file}:4: `node.web`: cannot listen on TCP {web}: the port is in use"
        )),
        "{err}"
    );
    assert!(
        err.contains("remedy: stop that (`ss -lntp` shows it), or change `web` of node n1 there"),
        "{err}"
    );
    let (code, _, err) = run(&["dev", "--web", &web]);
    assert!(
        code == 1
            && err.contains(&format!(
                "flag --web: `node.web`: cannot listen on TCP {web}"
            )),
        "{err}"
    );
    drop(taken);

    let _taken = UdpSocket::bind(&mesh).unwrap();
    let (code, _, err) = run(&["serve", "--config", &file, "--node", "n1"]);
    assert!(
        code == 1
            && err.contains(&format!(
                "error: {file}:5: `node.mesh`: cannot listen on UDP {mesh}: the port is in use"
            )),
        "{err}"
    );
}

#[test]
fn certificates_are_made_shown_and_never_replaced_unasked() {
    let dir = Scratch::new("cert");
    let certs = dir.path("certs");
    let (code, _, err) = run(&["cert", "node", "--name", "n1", "--ca", &certs]);
    assert!(
        code == 1 && err.contains("there is no CA here") && err.contains("cert ca"),
        "{err}"
    );
    let (code, _, err) = run(&["cert", "ca", "--cluster", "prod", "--out", &certs]);
    assert_eq!((code, err.as_str()), (0, ""));
    let (code, out, _) = run(&[
        "cert", "node", "--name", "n1", "--name", "n2", "--ca", &certs,
    ]);
    assert!(
        code == 0 && out.contains("n1.prod.mesh") && out.contains("n2.prod.mesh"),
        "{out}"
    );
    for (file, mode) in [
        ("ca.key", 0o600),
        ("cluster.secret", 0o600),
        ("n1.pem", 0o600),
        ("ca.pem", 0o644),
    ] {
        let meta = std::fs::metadata(Path::new(&certs).join(file)).unwrap();
        assert_eq!(meta.permissions().mode() & 0o777, mode, "{file}");
    }
    let bundle = format!("{certs}/n1.pem");
    let before = std::fs::read(&bundle).unwrap();
    let (code, _, err) = run(&["cert", "node", "--name", "n1", "--ca", &certs]);
    assert!(code == 1 && err.contains("--force"), "{err}");
    let (code, _, err) = run(&["cert", "ca", "--out", &certs]);
    assert!(code == 1 && err.contains("--force"), "{err}");
    assert_eq!(std::fs::read(&bundle).unwrap(), before);

    let (code, out, _) = run(&["cert", "show", &bundle, &format!("{certs}/ca.pem")]);
    assert_eq!(code, 0);
    for expected in [
        "node n1.prod.mesh",
        "cluster      prod",
        " days left",
        "CA of cluster prod",
        "with cluster secret",
    ] {
        assert!(out.contains(expected), "{expected}: {out}");
    }
    let (code, _, err) = run(&["cert", "show", "/nonexistent.pem"]);
    assert!(code == 1 && err.contains("/nonexistent.pem"), "{err}");
    let (code, _, err) = run(&["cert", "node", "--name", "N_1", "--ca", &certs]);
    assert!(code == 2 && err.contains("N_1"), "{err}");
}

#[test]
fn a_bundle_that_does_not_fit_is_refused_at_start() {
    let dir = Scratch::new("bundle");
    let file = dir.write("c.toml", &loopback_cluster(&["n1", "n2"]));
    let certs = dir.path("certs");
    assert_eq!(
        run(&["cert", "ca", "--cluster", "other", "--out", &certs]).0,
        0
    );
    assert_eq!(run(&["cert", "node", "--name", "n1", "--ca", &certs]).0, 0);
    let bundle = format!("{certs}/n1.pem");

    let (code, _, err) = run(&[
        "serve",
        "--config",
        &file,
        "--node",
        "n1",
        "--tls-dir",
        &certs,
    ]);
    assert!(
        code == 1
            && err.contains("is for node n1 of cluster other, but this is node n1 of cluster dev"),
        "{err}"
    );
    let (code, _, err) = run(&[
        "check",
        "--config",
        &file,
        "--node",
        "n2",
        "--cluster",
        "other",
        "--bundle",
        &bundle,
    ]);
    assert!(
        code == 1 && err.contains("is for node n1 of cluster other, but this is node n2"),
        "{err}"
    );
    let (code, _, err) = run(&[
        "serve",
        "--config",
        &file,
        "--node",
        "n2",
        "--tls-dir",
        &certs,
    ]);
    assert!(
        code == 1
            && err.contains("`tls.dir`: bundle")
            && err.contains("cursormesh cert node --name n2"),
        "{err}"
    );
    let broken = dir.write("broken.pem", "hello");
    let (code, _, err) = run(&[
        "serve", "--config", &file, "--node", "n2", "--bundle", &broken,
    ]);
    assert!(
        code == 1 && err.contains("flag --bundle: `node.bundle`: bundle"),
        "{err}"
    );
}

#[test]
fn three_nodes_that_start_at_once_find_each_other_without_any_certificate() {
    let dir = Scratch::new("three");
    let names = ["n1", "n2", "n3"];
    let file = dir.write("c.toml", &loopback_cluster(&names));
    let mut nodes: Vec<Running> = names
        .iter()
        .map(|name| Running::start(cursormesh(&["serve", "--config", &file, "--node", name])))
        .collect();
    for node in &mut nodes {
        node.web();
    }
    for name in names {
        eventually("all linked", || {
            let (code, out, _) = run(&["status", "--config", &file, "--node", name]);
            code == 0
                && out.contains(&format!("node {name} of cluster dev"))
                && out.contains("2 of 2 peers linked")
        });
    }
    let ca = std::fs::metadata(dir.0.join(".mesh-dev/ca.key")).unwrap();
    assert_eq!(ca.permissions().mode() & 0o777, 0o600);

    let (_, page) = get(&nodes[0].web(), "/metrics");
    let mut seen = BTreeSet::new();
    for line in page.lines() {
        let name = if line.starts_with('#') {
            line
        } else {
            line.rsplit_once(' ').unwrap().0
        };
        assert!(seen.insert(name), "twice in the page: {name}");
    }
    for expected in [
        "cursormesh_mesh_nodes{state=\"up\"} 2",
        "cursormesh_link_rtt_seconds{peer=\"n2\"}",
        "cursormesh_link_packets_lost_total{peer=\"n3\"}",
        "cursormesh_link_sent_bytes_total{peer=\"n3\",region=\"",
        "cursormesh_region_received_bytes_total{from=\"",
        "process_resident_memory_bytes",
    ] {
        assert!(page.contains(expected), "{expected}: {page}");
    }

    nodes[1].signal("TERM");
    assert_eq!(nodes[1].ended(Duration::from_secs(5)).code(), Some(0));
    eventually("n2 is down for n1", || {
        let (_, out, _) = run(&["status", "--config", &file, "--node", "n1"]);
        out.lines()
            .any(|line| line.starts_with("n2 ") && line.contains("down, no link"))
    });
}

/// Pods of one service: one file that lists nobody, everything else from the environment.
#[test]
fn pods_with_one_file_and_ipv6_addresses_find_each_other_by_name() {
    if UdpSocket::bind("[::1]:0").is_err() {
        return; // A machine without IPv6.
    }
    let dir = Scratch::new("pods");
    let certs = dir.path("certs");
    assert_eq!(run(&["cert", "ca", "--out", &certs]).0, 0);
    let names = ["--name", "pod-0", "--name", "pod-1"];
    assert_eq!(
        run(&[&["cert", "node", "--ca", &certs], &names[..]].concat()).0,
        0
    );
    let sockets = [(); 2].map(|()| UdpSocket::bind("[::]:0").unwrap());
    let ports = sockets.map(|socket| socket.local_addr().unwrap().port());
    let file = dir.write(
        "c.toml",
        &format!(
            "[mesh]\nseeds = [\"localhost:{}\"]\n[tls]\ndir = \"certs\"",
            ports[0]
        ),
    );
    let pod = |index: usize, command: &str| {
        let mut pod = cursormesh(&[command, "--config", &file]);
        pod.env("CURSORMESH_NODE", format!("pod-{index}"))
            .env("CURSORMESH_MESH", format!("[::]:{}", ports[index]))
            .env("CURSORMESH_ADVERTISE", format!("[::1]:{}", ports[index]))
            .env("CURSORMESH_WEB", "127.0.0.1:0");
        pod
    };
    let (code, out, err) = finished(pod(1, "check").output().unwrap());
    assert_eq!((code, err.as_str()), (0, ""));
    let told = format!(
        "(reached at [::1]:{}), seeds localhost:{}",
        ports[1], ports[0]
    );
    assert!(out.contains(&told), "{out}");
    let mut pods = [0, 1].map(|index| Running::start(pod(index, "serve")));
    for (index, pod) in pods.iter_mut().enumerate() {
        let web = pod.web();
        eventually("linked", || {
            let (_, out, _) = run(&["status", "--url", &web]);
            out.contains(&format!("node pod-{index} of cluster dev"))
                && out.contains("1 of 1 peers linked")
        });
    }
    for pod in &mut pods {
        pod.signal("TERM");
        assert_eq!(pod.ended(Duration::from_secs(5)).code(), Some(0));
    }
}

#[test]
fn a_cluster_may_do_without_a_file() {
    let dir = Scratch::new("fileless");
    let mut command = cursormesh(&["check", "--node", "n1", "--mesh", "127.0.0.1:7171"]);
    command.current_dir(&dir.0);
    let (code, out, _) = finished(command.output().unwrap());
    assert!(
        code == 0 && out.starts_with("no file: cluster dev\nnode n1: "),
        "{out}"
    );
    // A file that is named must be there, and one that is there counts.
    let (code, _, err) = finished(command.args(["--config", "x.toml"]).output().unwrap());
    assert!(code == 2 && err.contains("x.toml: cannot read"), "{err}");
    dir.write("cluster.toml", "cluster = \"shop\"");
    let mut command = cursormesh(&["check", "--node", "n1", "--mesh", "127.0.0.1:7171"]);
    let (code, out, _) = finished(command.current_dir(&dir.0).output().unwrap());
    assert!(
        code == 0 && out.starts_with("cluster.toml: cluster shop"),
        "{out}"
    );
}

#[test]
fn json_logs_are_one_object_per_line_with_the_node() {
    let mut node = dev(&["--log-format", "json"]);
    node.web();
    node.signal("TERM");
    node.ended(Duration::from_secs(5));
    node.seen.extend(node.log.try_iter());
    assert!(node.seen.len() >= 3);
    for line in &node.seen {
        let value: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(value["node"], "dev", "{line}");
        assert!(
            value["level"].is_string() && value["timestamp"].is_string(),
            "{line}"
        );
    }
}
