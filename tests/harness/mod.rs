//! What the tests share: real Consul servers, real supervisors, and waiting for facts with a deadline.
//!
//! Everything that is started is ended when it goes out of scope; a failing test shows the supervisor's log.

#![expect(
    dead_code,
    unreachable_pub,
    reason = "each test file uses a part of it, and none of it is for anybody else"
)]
#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    reason = "this is part of tests: it may fail them"
)]

pub mod prometheus;
pub mod scrape;
pub mod secure;

use std::net::{TcpListener, UdpSocket};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use serde_json::Value;

/// How long anything may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub const SUPERVISOR: &str = env!("CARGO_BIN_EXE_supervisor");
pub const STUB_WORKER: &str = env!("CARGO_BIN_EXE_stub-worker");

/// The Consul program.
pub fn consul() -> String {
    std::env::var("CONSUL_BIN").unwrap_or_else(|_| "consul".to_owned())
}

/// Looks until there is something to see.
pub fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} for {what}");
        std::thread::park_timeout(Duration::from_millis(10));
    }
}

/// A port that nobody uses, by TCP and by UDP, and that no other test is given while this process lives. Not one of those that the kernel
/// takes for outgoing connections (ip(7), ip_local_port_range): one that is free now might be such a connection's a moment later.
pub fn free_port() -> u16 {
    static GIVEN: Mutex<Vec<std::fs::File>> = Mutex::new(Vec::new());
    let dir = std::env::temp_dir().join("pilotlight-test-ports");
    std::fs::create_dir_all(&dir).expect("a folder");
    let mut given = GIVEN.lock().expect("not poisoned");
    // Each process begins elsewhere, so that they seldom meet.
    let first = std::process::id().wrapping_mul(7919) % u32::from(PORTS);
    let first = u16::try_from(first).expect("less than PORTS");
    for step in 0..PORTS {
        let port = FIRST_PORT + (first + step) % PORTS;
        let claim = std::fs::File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(dir.join(port.to_string()));
        let claim = claim.expect("a file");
        let is_ours = rustix::fs::flock(&claim, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_ok();
        if is_ours
            && TcpListener::bind(("127.0.0.1", port)).is_ok()
            && UdpSocket::bind(("127.0.0.1", port)).is_ok()
        {
            given.push(claim);
            return port;
        }
    }
    panic!("no port is free");
}

/// Below the kernel's own, and above those of well-known services.
const FIRST_PORT: u16 = 12_000;
const PORTS: u16 = 20_000;

pub fn alive(pid: i32) -> bool {
    // A zombie counts as dead: proc_pid_stat(5), field 3.
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .ok()
        .and_then(|stat| stat.rsplit_once(") ").map(|(_, rest)| !rest.starts_with('Z')))
        .unwrap_or(false)
}

/// Writes to where nextest shows it when the test fails.
pub fn show(text: &str) {
    println!("{text}");
}

pub fn signal(pid: i32, number: i32) {
    // SAFETY: kill(2) takes two integers.
    assert_eq!(unsafe { libc::kill(pid, number) }, 0, "signal {number} to {pid}");
}

/// A Consul server on loopback.
pub struct Server {
    child: Child,
    pub http: u16,
    pub serf: u16,
    pub rpc: u16,
    wan: u16,
    bind: String,
    /// Shown with every question.
    pub token: Option<String>,
    dir: tempfile::TempDir,
}

/// Asks a server, from any thread.
#[derive(Clone)]
pub struct Looker {
    http: u16,
    token: String,
}

impl Looker {
    pub fn get(&self, path: &str) -> Option<Value> {
        let url = format!("http://127.0.0.1:{}{path}", self.http);
        let agent = ureq::Agent::config_builder().timeout_global(Some(PATIENCE)).build().new_agent();
        agent.get(url).header("X-Consul-Token", &self.token).call().ok()?.body_mut().read_json().ok()
    }
}

impl Server {
    /// A server that leads.
    pub fn start() -> Self {
        Self::start_on(free_port())
    }

    /// A server that leads, with this gossip port.
    pub fn start_on(serf: u16) -> Self {
        Self::start_with(serf, "127.0.0.1", None, None)
    }

    /// The same with its gossip on this address, further configuration, and a token to be asked with.
    pub fn start_with(serf: u16, bind: &str, further: Option<&Value>, token: Option<&str>) -> Self {
        let dir = tempfile::tempdir().expect("folder");
        let (http, ports) = (free_port(), [free_port(), free_port()]);
        if let Some(further) = further {
            std::fs::write(dir.path().join("further.json"), further.to_string()).expect("written");
        }
        let child =
            Self::spawn(dir.path(), bind, http, serf, ports, &["-bootstrap-expect=1", "-node=server"]);
        let ([wan, rpc], token) = (ports, token.map(str::to_owned));
        let server = Self { child, http, serf, rpc, wan, bind: bind.to_owned(), token, dir };
        server.wait_for_leader();
        server
    }

    /// Three servers, one of which leads.
    pub fn cluster() -> [Self; 3] {
        let ports = [free_port(), free_port(), free_port()];
        let join = ports.map(|port| format!("-retry-join=127.0.0.1:{port}"));
        let servers = ports.map(|serf| {
            let dir = tempfile::tempdir().expect("folder");
            let (http, [wan, rpc]) = (free_port(), [free_port(), free_port()]);
            let name = format!("-node=server-{serf}");
            let mut further = vec!["-bootstrap-expect=3", "-retry-interval=1s", &name];
            further.extend(join.iter().map(String::as_str));
            let child = Self::spawn(dir.path(), "127.0.0.1", http, serf, [wan, rpc], &further);
            Self { child, http, serf, rpc, wan, bind: "127.0.0.1".to_owned(), token: None, dir }
        });
        servers.iter().for_each(Self::wait_for_leader);
        servers
    }

    /// One of two servers, which have no leader before the other is there: that is told of this one.
    pub fn start_half(other: Option<&Self>) -> Self {
        let dir = tempfile::tempdir().expect("folder");
        let (http, serf, [wan, rpc]) = (free_port(), free_port(), [free_port(), free_port()]);
        let name = format!("-node=server-{http}");
        let join = other.map(|other| format!("-retry-join=127.0.0.1:{}", other.serf));
        let mut words = vec!["-bootstrap-expect=2", &name];
        words.extend(join.as_deref());
        let child = Self::spawn(dir.path(), "127.0.0.1", http, serf, [wan, rpc], &words);
        Self { child, http, serf, rpc, wan, bind: "127.0.0.1".to_owned(), token: None, dir }
    }

    /// Whether this one leads.
    pub fn leads(&self) -> bool {
        let own = format!("127.0.0.1:{}", self.rpc);
        self.get("/v1/status/leader").is_some_and(|leader| leader == own.as_str())
    }

    /// Starts a stopped server again, with all that it has on disk.
    pub fn start_again(&mut self) {
        let ports = [self.wan, self.rpc];
        let dir = self.dir.path();
        self.child = Self::spawn(
            dir,
            &self.bind,
            self.http,
            self.serf,
            ports,
            &["-bootstrap-expect=1", "-node=server"],
        );
        self.wait_for_leader();
    }

    /// Asks this server from any thread.
    pub fn looker(&self) -> Looker {
        Looker { http: self.http, token: self.token.clone().unwrap_or_default() }
    }

    fn spawn(dir: &Path, bind: &str, http: u16, serf: u16, [wan, rpc]: [u16; 2], words: &[&str]) -> Child {
        let further = Some(dir.join("further.json")).filter(|file| file.exists());
        let log = std::fs::File::options().create(true).append(true).open(dir.join("log")).expect("log");
        Command::new(consul())
            .args(["agent", "-server", "-log-level=warn"])
            .args(words)
            .arg(format!("-bind={bind}"))
            .arg(format!("-data-dir={}", dir.join("data").display()))
            .args(further.map(|file| format!("-config-file={}", file.display())))
            .args(["-dns-port=-1", "-grpc-port=-1", "-disable-host-node-id"])
            .args([
                format!("-http-port={http}"),
                format!("-serf-lan-port={serf}"),
                format!("-serf-wan-port={wan}"),
            ])
            .arg(format!("-server-port={rpc}"))
            .args(["-hcl", "performance { raft_multiplier = 1 }"])
            .stdout(log.try_clone().expect("log"))
            .stderr(log)
            .process_group(0)
            .spawn()
            .expect("Consul: set CONSUL_BIN, or run `make test`, which installs it")
    }

    fn wait_for_leader(&self) {
        wait_for("a leader", || {
            let leader = self.get("/v1/status/leader")?;
            leader.as_str().filter(|leader| !leader.is_empty()).map(drop)
        });
    }

    pub fn get(&self, path: &str) -> Option<Value> {
        self.looker().get(path)
    }

    /// How many instances of a service there are, and how many of them are passing.
    pub fn instances(&self, service: &str) -> (usize, usize) {
        let count = |query: &str| {
            let entries = self.get(&format!("/v1/health/service/{service}{query}"));
            entries.and_then(|entries| entries.as_array().map(Vec::len)).unwrap_or(usize::MAX)
        };
        (count(""), count("?passing"))
    }

    pub fn wait_for_instances(&self, service: &str, expected: (usize, usize)) {
        wait_for(&format!("{expected:?} instances of {service}"), || {
            (self.instances(service) == expected).then_some(())
        });
    }

    /// The checks of the one instance: id's last word and status.
    pub fn checks(&self, service: &str) -> Vec<(String, String, String)> {
        let entries = self.get(&format!("/v1/health/service/{service}")).unwrap_or_default();
        let word = |check: &Value, key: &str| check[key].as_str().unwrap_or_default().to_owned();
        entries[0]["Checks"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|check| {
                let id = word(check, "CheckID");
                (
                    id.rsplit(':').next().unwrap_or_default().to_owned(),
                    word(check, "Status"),
                    word(check, "Output"),
                )
            })
            .collect()
    }

    pub fn stop(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A supervisor under test.
pub struct Supervisor {
    child: Option<Child>,
    pub dir: tempfile::TempDir,
    pub port: u16,
}

/// How to start one.
pub struct Setup {
    pub dir: tempfile::TempDir,
    pub port: u16,
    pub options: Vec<String>,
    pub worker: Vec<String>,
    pub variables: Vec<(String, String)>,
}

impl Setup {
    /// A plain init of a stub worker.
    pub fn plain(worker: &[&str]) -> Self {
        Self::plain_in(&std::env::temp_dir(), worker)
    }

    fn plain_in(parent: &Path, worker: &[&str]) -> Self {
        let dir = tempfile::tempdir_in(parent).expect("folder");
        let socket = dir.path().join("control.sock").display().to_string();
        let options = ["--no-agent", "--control-socket", &socket].map(str::to_owned).to_vec();
        let worker = [&[STUB_WORKER], worker].concat().into_iter().map(str::to_owned).collect();
        Self { dir, port: 0, options, worker, variables: Vec::new() }
    }

    /// A plain init of a shell that runs a script.
    pub fn shell(script: &str) -> Self {
        let mut setup = Self::plain(&[]);
        setup.worker = ["sh", "-c", script].map(str::to_owned).to_vec();
        setup
    }

    /// With an agent that joins at this gossip port, and the service `demo` by a stub worker whose health is in the file `health`.
    pub fn joining(serf: u16, worker: &[&str]) -> Self {
        Self::joining_in(&std::env::temp_dir(), serf, worker)
    }

    /// The same with its folder in this one.
    pub fn joining_in(parent: &Path, serf: u16, worker: &[&str]) -> Self {
        let mut setup = Self::plain_in(parent, &[]);
        let dir = setup.dir.path().display().to_string();
        let port = free_port();
        std::fs::write(setup.dir.path().join("health"), "200").expect("written");
        setup.port = port;
        setup.options.remove(0);
        for (flag, value) in [
            ("agent-bin", consul()),
            ("agent-data-dir", format!("{dir}/agent")),
            ("agent-node-name", format!("node-{port}")),
            ("agent-retry-join", format!("127.0.0.1:{serf}")),
            ("agent-serf-port", free_port().to_string()),
            ("agent-http-addr", format!("unix://{dir}/consul.sock")),
            ("advertise", "127.0.0.1".to_owned()),
            ("service-name", "demo".to_owned()),
            ("service-port", port.to_string()),
            ("worker-probe-interval", "200ms".to_owned()),
            // Not there, whatever this machine has; the tests of GPUs put a stand-in there.
            ("gpu-nvml-library", format!("{dir}/libnvidia-ml.so.1")),
        ] {
            setup.options.extend([format!("--{flag}"), value]);
        }
        setup.worker.extend([
            "--port".to_owned(),
            port.to_string(),
            "--status".to_owned(),
            format!("{dir}/health"),
        ]);
        setup.worker.extend(worker.iter().map(|word| (*word).to_owned()));
        setup
    }

    /// Sets an option, whatever it was before.
    pub fn option(mut self, flag: &str, value: &str) -> Self {
        let flag = format!("--{flag}");
        match self.options.iter().position(|word| *word == flag) {
            Some(at) => self.options[at + 1] = value.to_owned(),
            None => self.options.extend([flag, value.to_owned()]),
        }
        self
    }

    /// Sets an option that takes no value.
    pub fn switch(mut self, flag: &str) -> Self {
        self.options.push(format!("--{flag}"));
        self
    }

    /// The options and the worker, as words of a shell.
    pub fn quoted(&self) -> String {
        let separator = "--".to_owned();
        let words = self.options.iter().chain([&separator]).chain(&self.worker);
        words.map(|word| format!("'{word}'")).collect::<Vec<_>>().join(" ")
    }

    pub fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    fn command(&self, program: &[&str]) -> Command {
        self.command_of(program, &["run"])
    }

    fn command_of(&self, program: &[&str], subcommand: &[&str]) -> Command {
        let mut words = program.iter().chain([&SUPERVISOR]).chain(subcommand).map(|word| (*word).to_owned());
        let mut command = Command::new(words.next().expect("a program"));
        let separator = (!self.worker.is_empty()).then(|| "--".to_owned());
        command.args(words).args(&self.options).args(separator).args(&self.worker);
        for (name, _) in std::env::vars()
            .filter(|(name, _)| name.starts_with("SUPERVISOR_") || name.starts_with("CONSUL_"))
        {
            command.env_remove(name);
        }
        for name in ["NVIDIA_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES", "PYTORCH_VERSION"] {
            command.env_remove(name);
        }
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null());
        command
    }

    /// Starts it.
    pub fn start(self) -> Supervisor {
        self.start_under(&[])
    }

    /// Starts it by way of another program, such as `unshare`.
    pub fn start_under(self, program: &[&str]) -> Supervisor {
        let log = std::fs::File::create(self.dir.path().join("log")).expect("log");
        let child = self
            .command(program)
            .stdout(log.try_clone().expect("log"))
            .stderr(log)
            .process_group(0)
            .spawn()
            .expect("supervisor");
        Supervisor { child: Some(child), dir: self.dir, port: self.port }
    }

    /// Starts it with its output going elsewhere than to the log.
    pub fn start_to(self, stdout: impl Into<Stdio>, stderr: impl Into<Stdio>) -> Supervisor {
        let child =
            self.command(&[]).stdout(stdout).stderr(stderr).process_group(0).spawn().expect("supervisor");
        Supervisor { child: Some(child), dir: self.dir, port: self.port }
    }

    /// Runs another command with the same options, such as `config show`.
    pub fn output_of(&self, subcommand: &[&str]) -> Output {
        self.command_of(&[], subcommand).output().expect("supervisor")
    }

    /// Runs it to its end.
    pub fn output(&self) -> Output {
        self.command(&[]).output().expect("supervisor")
    }
}

impl Supervisor {
    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.as_ref().expect("running").id()).expect("a pid")
    }

    pub fn signal(&self, number: i32) {
        signal(self.pid(), number);
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    pub fn set_health(&self, status: &str) {
        std::fs::write(self.path("health.new"), status).expect("written");
        std::fs::rename(self.path("health.new"), self.path("health")).expect("renamed");
    }

    pub fn cli(&self, words: &[&str]) -> Output {
        let socket = self.path("control.sock");
        Command::new(SUPERVISOR).args(words).arg("--control-socket").arg(socket).output().expect("supervisor")
    }

    pub fn status(&self) -> Option<Value> {
        serde_json::from_slice(&self.cli(&["status", "--json"]).stdout).ok()
    }

    /// Waits until the status says so, and gives it back.
    pub fn wait_for_status(&self, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        wait_for(what, || self.status().filter(&is))
    }

    pub fn wait_for_phase(&self, phase: &str) -> Value {
        self.wait_for_status(&format!("phase {phase}"), |status| status["phase"] == phase)
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> ExitStatus {
        let child = self.child.as_mut().expect("running");
        let status = wait_for("the supervisor to exit", || child.try_wait().expect("waited"));
        self.child = None;
        status
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("--- log of the supervisor ---\n{}", self.log());
        }
        if let Some(child) = &mut self.child {
            // Its children die with it.
            let _gone = child.kill();
            let _reaped = child.wait();
        }
    }
}

pub fn pid_of(status: &Value, role: &str) -> i32 {
    i32::try_from(status[role]["pid"].as_i64().unwrap_or_else(|| panic!("no {role}: {status}")))
        .expect("a pid")
}
