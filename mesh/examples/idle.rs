//! Measures what a mesh costs while nothing happens.
//!
//! `cargo build --release && cargo run --release -p hedgerow --example idle -- --boards 5 --minutes 10`
//!
//! Starts real boards (the `hedgerow` binary beside this one), lets them join and settle, waits, and
//! prints for each of them memory, processor time and bytes on the wire. `--services 3` runs as many
//! idle services, each in a shim. As root each board gets a network namespace of its own, all on one
//! bridge, so that its bytes can be counted (with the headers of Ethernet, IP and TCP or QUIC);
//! otherwise all are on loopback, where they cannot. Everything vanishes with this process.

use std::error::Error;
use std::fs;
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;

/// What joining has stirred up comes to rest.
const SETTLE: Duration = Duration::from_secs(20);
const INSIDE: &str = "HEDGEROW_IDLE_INSIDE";

type Result<T> = std::result::Result<T, Box<dyn Error>>;

struct Board(PathBuf, Child);

impl Drop for Board {
    fn drop(&mut self) {
        let _ = self.1.kill();
        let _ = self.1.wait();
    }
}

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let option = |name: &str, default: f64| {
        let at = words.iter().position(|word| word == name);
        at.and_then(|at| words.get(at + 1)?.parse().ok()).unwrap_or(default)
    };
    let apart = std::env::var_os(INSIDE).is_some();
    if !apart && rustix::process::geteuid().is_root() {
        // The bridge, too, is in a namespace of its own, and vanishes with it.
        let mut again = Command::new("unshare");
        again.arg("--net").arg(std::env::current_exe()?).args(&words).env(INSIDE, "1");
        eprintln!("on loopback: {}", again.exec());
    }
    let folder = std::env::temp_dir().join(format!("hedgerow-idle-{}", std::process::id()));
    fs::create_dir(&folder)?;
    let (boards, services) = (option("--boards", 5.0) as usize, option("--services", 0.0) as usize);
    let measured = measure(&folder, boards, services, option("--minutes", 10.0) * 60.0, apart);
    // Services end with their leases, a second or two after their boards.
    sleep(Duration::from_secs(services.min(1) as u64 * 5));
    fs::remove_dir_all(&folder)?;
    measured
}

fn measure(at: &Path, count: usize, services: usize, window: f64, apart: bool) -> Result<()> {
    if apart {
        run("ip link add bridge type bridge && ip link set bridge up")?;
    }
    let mut boards: Vec<Board> = Vec::new();
    for number in 1..=count {
        let home = at.join(format!("board-{number}"));
        match boards.first() {
            None => drop(hedgerow(&home, "init idle")?),
            Some(Board(first, _)) => {
                let ticket = patiently(|| hedgerow(first, "ticket new --expires 1h"))?;
                hedgerow(&home, &format!("join {}", ticket["ticket"].as_str().ok_or("none")?))?;
            }
        }
        boards.push(start(home, number, apart)?);
        for Board(home, _) in &boards {
            let up =
                |status: Value| if status["up"] == number { Ok(()) } else { Err("alone".into()) };
            patiently(|| hedgerow(home, "status").and_then(up))?;
        }
    }
    for number in 0..services {
        let file = at.join(format!("{number}.toml"));
        fs::write(&file, format!("name = \"s{number}\"\ncommand = [\"/bin/sleep\", \"99999\"]\n"))?;
        patiently(|| hedgerow(&boards[0].0, &format!("run {}", file.display())))?;
    }
    sleep(SETTLE);
    let (began, before) = (Instant::now(), look_at(&boards));
    sleep(Duration::from_secs_f64(window));
    let (seconds, after) = (began.elapsed().as_secs_f64(), look_at(&boards));
    println!("{count} boards, {services} services, {seconds:.0} s");
    println!("board    RSS KiB  PSS KiB  processes  CPU ms/s  sent B/s  received B/s");
    for (number, (old, new)) in (1..).zip(before.iter().zip(&after)) {
        let rate = |at: usize| (new[at] - old[at]) / seconds;
        let bytes = |at| if apart { format!("{:.0}", rate(at)) } else { "unknown".to_owned() };
        let (rss, pss, processes, sent, received) = (new[0], new[1], new[2], bytes(4), bytes(5));
        let cpu = rate(3);
        println!(
            "board-{number} {rss:>8} {pss:>8} {processes:>10} {cpu:>9.2} {sent:>9} {received:>13}"
        );
    }
    Ok(())
}

/// RSS, PSS, processes, milliseconds of processor time, bytes sent and received by each board.
fn look_at(boards: &[Board]) -> Vec<[f64; 6]> {
    let tick_ms = 1000.0 / rustix::param::clock_ticks_per_second() as f64;
    let number = |text: &str, at| {
        text.split_whitespace().nth(at).and_then(|word| word.parse().ok()).unwrap_or(0.0)
    };
    let after = |text: &str, key| text.split_once(key).map_or("", |(_, rest)| rest).to_owned();
    let one = |Board(home, child): &Board| {
        let mut sum = [0.0; 6];
        for process in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let read = |file| fs::read_to_string(process.path().join(file)).unwrap_or_default();
            // The agent and its shims name their folder; a service does not.
            // As a whole word, or as a folder above something: board-1 is not board-11.
            let home = home.to_string_lossy();
            let line = read("cmdline");
            let whole = line.split('\0').any(|word| word == home);
            if !whole && !line.contains(&format!("{home}/")) {
                continue;
            }
            let (memory, stat) = (read("smaps_rollup"), after(&read("stat"), ") "));
            sum[0] += number(&after(&memory, "Rss:"), 0);
            sum[1] += number(&after(&memory, "Pss:"), 0);
            sum[2] += 1.0;
            sum[3] += (number(&stat, 11) + number(&stat, 12)) * tick_ms;
        }
        let devices = fs::read_to_string(format!("/proc/{}/net/dev", child.id()));
        let wire = after(&devices.unwrap_or_default(), "wire:");
        (sum[4], sum[5]) = (number(&wire, 8), number(&wire, 0));
        sum
    };
    boards.iter().map(one).collect()
}

fn start(home: PathBuf, number: usize, apart: bool) -> Result<Board> {
    let host = if apart { format!("10.77.0.{number}") } else { "127.0.0.1".to_owned() };
    let (own, program, parent) = (home.display(), program()?, std::process::id());
    let up = format!(
        "read -r go; exec {} --home {own} up --no-mdns --parent {parent} --preset lan --name \
         board-{number} --listen /ip4/{host}/udp/0/quic-v1 --listen /ip4/{host}/tcp/0",
        program.display()
    );
    let mut command = Command::new(if apart { "unshare" } else { "env" });
    command.args(apart.then_some("--net")).args(["sh", "-c", &up]).stdin(Stdio::piped());
    let log = fs::File::create(home.with_extension("log"))?;
    let mut child = command.stdout(Stdio::null()).stderr(log).spawn()?;
    if apart {
        let id = child.id();
        patiently(|| run(&format!("! [ /proc/{id}/ns/net -ef /proc/self/ns/net ]")))?;
        run(&format!(
            "ip link add v{number} type veth peer name wire netns {id} && \
             ip link set v{number} master bridge up && nsenter -t {id} -n sh -c \
             'ip link set lo up; ip addr add {host}/24 dev wire; ip link set wire up'"
        ))?;
    }
    writeln!(child.stdin.take().ok_or("no input")?)?;
    Ok(Board(home, child))
}

fn hedgerow(home: &Path, words: &str) -> Result<Value> {
    let said = run(&format!("{} --home {} {words} -o json", program()?.display(), home.display()))?;
    Ok(serde_json::from_slice(&said)?)
}

/// Cargo puts examples below the binaries.
fn program() -> Result<PathBuf> {
    let example = std::env::current_exe()?;
    let program = example.ancestors().nth(2).ok_or("no folder")?.join("hedgerow");
    if program.exists() { Ok(program) } else { Err("first: cargo build --release".into()) }
}

fn run(script: &str) -> Result<Vec<u8>> {
    let output = Command::new("sh").args(["-c", script]).output()?;
    let said = || format!("{script}: {}", String::from_utf8_lossy(&output.stderr));
    if output.status.success() { Ok(output.stdout.clone()) } else { Err(said().into()) }
}

/// Again and again, for a minute.
fn patiently<T>(mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
    for _ in 0..600 {
        if let Ok(done) = attempt() {
            return Ok(done);
        }
        sleep(Duration::from_millis(100));
    }
    attempt()
}
