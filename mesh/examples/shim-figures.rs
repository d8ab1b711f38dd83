//! Measures the shim on this board.
//!
//! `cargo run --release -p hedgerow --no-default-features --features workloads --example shim-figures [RUNS]`
//!
//! Prints one line per figure: how long start, kill, kill by the shim's death, fence after a pause
//! and freeze take (p50, p99, worst of RUNS, 50 unless told), and the memory of shim and init.
//! "Late" is what came after the deadline itself. Exits with 1 if a pause was not mended in 50 ms.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use hedgerow::clock::{self, Timer};
use hedgerow::workload::handle::Handle;
use hedgerow::workload::instance::{Instance, Limits, Mode};
use hedgerow::workload::process::{ProcessRuntime, Runtime};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

const D_MS: u32 = 200;
const WAIT: Duration = Duration::from_secs(20);
const PAUSE_BOUND_MS: f64 = 50.0;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> ExitCode {
    // This example is also the shim that it measures.
    if let Some(code) = hedgerow::workload::dispatch(std::env::args_os().skip(1)) {
        return code;
    }
    let runs = std::env::args().nth(1).and_then(|runs| runs.parse().ok()).unwrap_or(50);
    match measure(runs) {
        Ok(worst_pause_ms) if worst_pause_ms <= PAUSE_BOUND_MS => ExitCode::SUCCESS,
        Ok(worst_pause_ms) => {
            eprintln!("a pause was mended after {worst_pause_ms:.1} ms only");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(runs: usize) -> Result<f64> {
    let folder = std::env::temp_dir().join(format!("shim-figures-{}", std::process::id()));
    let runtime = ProcessRuntime::new(&std::env::current_exe()?, &folder)?;
    println!("{}", serde_json::json!(runtime.probe()?));
    let mut figures: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for _ in 0..runs {
        let began = clock::now_ns();
        let mut handle = runtime.prepare(&instance())?;
        figures.entry("1 prepare: spawn a shim").or_default().push(ms_since(began));
        let began = clock::now_ns();
        handle.start(began + 20_000_000_000)?;
        figures.entry("2 start: ask to exec").or_default().push(ms_since(began));
        let began = clock::now_ns();
        handle.freeze()?;
        figures.entry("3 freeze").or_default().push(ms_since(began));
        handle.thaw()?;
        let began = clock::now_ns();
        handle.kill()?;
        let exit = handle.wait_exit(WAIT)?.ok_or("not dead")?;
        figures.entry("4 kill: ask to confirmed").or_default().push(ms(exit.at_ns - began));

        figures.entry("5 fence: late").or_default().push(fence(&runtime, None)?);
        let pause = Duration::from_millis(300);
        figures
            .entry("6 fence after a pause: late")
            .or_default()
            .push(fence(&runtime, Some(pause))?);

        let mut handle = runtime.start(&instance(), clock::now_ns() + 20_000_000_000)?;
        let service = process(handle.pid())?;
        let began = clock::now_ns();
        handle.connection().abort()?;
        wait(&service)?;
        figures.entry("7 shim killed: service gone").or_default().push(ms_since(began));
        runtime.adopt()?;
    }
    for (name, figures) in &mut figures {
        figures.sort_by(f64::total_cmp);
        let at = |part: usize| figures[(figures.len() * part).div_ceil(100).max(1) - 1];
        println!("{name}: p50 {:.2} p99 {:.2} worst {:.2} ms", at(50), at(99), at(100));
    }
    memory(&mut runtime.start(&instance(), clock::now_ns() + 20_000_000_000)?)?;
    fs::remove_dir_all(&folder)?;
    let pauses = &figures["6 fence after a pause: late"];
    Ok(pauses[(pauses.len() * 99).div_ceil(100).max(1) - 1])
}

/// How long after the deadline (or after the end of the pause that spanned it) all is confirmed dead.
fn fence(runtime: &ProcessRuntime, pause: Option<Duration>) -> Result<f64> {
    let mut handle = runtime.prepare(&instance())?;
    // Far enough for a start on a busy board.
    let until = clock::now_ns() + 5 * u64::from(D_MS) * 1_000_000;
    handle.start(until)?;
    let mut due = until - u64::from(D_MS) * 1_000_000;
    if let Some(pause) = pause {
        // The service goes on first: the worse order.
        let paused = [process(handle.pid())?, process(Some(handle.shim_pid()))?];
        paused.iter().try_for_each(|it| pidfd_send_signal(it, Signal::STOP))?;
        reach(until + u64::try_from(pause.as_nanos())?)?;
        due = clock::now_ns();
        paused.iter().try_for_each(|it| pidfd_send_signal(it, Signal::CONT))?;
    }
    let exit = handle.wait_exit(WAIT)?.ok_or("not dead")?;
    Ok(ms(exit.at_ns - due))
}

fn memory(handle: &mut Handle) -> Result<()> {
    let service = handle.pid().ok_or("no pid")?;
    let stat = fs::read_to_string(format!("/proc/{service}/stat"))?;
    let init =
        stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(1)).ok_or("no parent")?;
    for (name, pid) in [("shim", handle.shim_pid().to_string()), ("init", init.to_owned())] {
        let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
        let kept = ["Rss", "Pss", "Private_Clean", "Private_Dirty"];
        let lines = rollup
            .lines()
            .filter(|line| kept.iter().any(|key| line.starts_with(&format!("{key}:"))));
        let figures: Vec<String> =
            lines.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        println!("memory of the {name}: {}", figures.join(", "));
    }
    handle.kill()?;
    handle.wait_exit(WAIT)?;
    Ok(())
}

fn instance() -> Instance {
    Instance {
        service: "figures".to_owned(),
        ordinal: 0,
        epoch: 1,
        node: "here".to_owned(),
        command: ["sh", "-c", "(setsid sleep 1000 &) ; while :; do sleep 1000; done"]
            .map(str::to_owned)
            .to_vec(),
        env: BTreeMap::new(),
        folder: PathBuf::from("/"),
        kill_bound_ms: D_MS,
        mode: Mode::Fence,
        limits: Limits::default(),
        ports: BTreeMap::new(),
        spec: String::new(),
        isolate_pids: true,
    }
}

fn process(pid: Option<u32>) -> Result<OwnedFd> {
    let pid = Pid::from_raw(i32::try_from(pid.ok_or("no pid")?)?).ok_or("pid 0")?;
    Ok(pidfd_open(pid, PidfdFlags::empty())?)
}

fn wait(process: &OwnedFd) -> Result<()> {
    poll(&mut [PollFd::new(process, PollFlags::IN)], None)?;
    Ok(())
}

fn reach(at: u64) -> Result<()> {
    let mut timer = Timer::new()?;
    while clock::now_ns() < at {
        timer.arm(at)?;
        poll(&mut [PollFd::new(&timer, PollFlags::IN)], None)?;
        timer.clear();
    }
    Ok(())
}

fn ms_since(began: u64) -> f64 {
    ms(clock::now_ns() - began)
}

fn ms(ns: u64) -> f64 {
    ns as f64 / 1e6
}
