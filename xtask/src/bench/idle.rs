//! `cargo xtask bench idle`: what the agent costs a host on which nothing happens: memory, and processor time.
//!
//! Reads `/proc`, so it runs on Linux only.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::Work;
use crate::arguments::Arguments;
use crate::{Failure, demo, process, workspace};

/// Ticks of `/proc/PID/stat` in a second, on every Linux that we know.
const TICKS_PER_SECOND: f64 = 100.0;

pub(crate) fn run(mut arguments: Arguments) -> Result<(), Failure> {
    let vms: u32 = arguments.value("--vms")?.unwrap_or(500);
    let seconds: u64 = arguments.value("--seconds")?.unwrap_or(300);
    let programs: Option<PathBuf> = arguments.path("--programs")?;
    let folder = arguments.path("--dir")?;
    arguments.finish()?;
    let programs = match programs {
        Some(programs) => programs,
        None => demo::build_released()?,
    };
    let work = Work::create(folder)?;
    let at = |name: &str| work.0.join(name);
    let ours = |name: &str| {
        let mut command = Command::new(workspace::program(&programs, name));
        command.env_remove("LIFEBOAT_KIT").env_remove("LIFEBOAT_AGENT_CONFIG");
        command
    };
    let arguments = ["generate", "--disks", "none", "--vms", &vms.to_string(), "--out"].map(str::to_owned);
    process::run(ours("testfabric").args(arguments).arg(at("fabric")))?;
    let store = demo::file_url(&at("vault"));
    let mut init = ours("lifeboat");
    process::quiet(
        init.args(["init", "--json", "--no-passphrase", "--store", &store, "--out"]).arg(at("kit")),
    )?;
    let mut enroll = ours("lifeboat");
    enroll.args(["host", "enroll", "hv01", "--json", "--root"]).arg(at("fabric/host-1"));
    process::quiet(enroll.arg("--out").arg(at("agent")).arg("--kit").arg(at("kit")))?;

    let mut agent = ours("lifeboat-agent");
    agent.args(["run", "--config"]).arg(at("agent/agent.toml"));
    let log = std::fs::File::create(at("log")).map_err(|error| error.to_string())?;
    let agent = agent.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn();
    let agent = Ended(agent.map_err(|error| format!("lifeboat-agent: {error}"))?);
    let began = Instant::now();
    let text = || std::fs::read_to_string(at("log")).unwrap_or_default();
    while !text().contains("committed") {
        if began.elapsed() > Duration::from_secs(600) {
            return Err(format!("no snapshot in ten minutes:\n{}", text()));
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    // What the first snapshot took settles.
    std::thread::sleep(Duration::from_secs(30));
    let before = cpu_seconds(agent.0.id())?;
    let watched = Instant::now();
    std::thread::sleep(Duration::from_secs(seconds));
    let share = (cpu_seconds(agent.0.id())? - before) / watched.elapsed().as_secs_f64() * 100.0;
    println!(
        "watching {vms} VMs for {seconds} s: {:.1} MiB resident (highest since its start {:.1}), {share:.3} % of a core",
        status_mebibytes(agent.0.id(), "VmRSS:")?,
        status_mebibytes(agent.0.id(), "VmHWM:")?,
    );
    Ok(())
}

/// A process that does not outlive us.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn read(pid: u32, name: &str) -> Result<String, Failure> {
    std::fs::read_to_string(format!("/proc/{pid}/{name}"))
        .map_err(|error| format!("/proc/{pid}/{name}: {error}"))
}

/// Processor time that a process has used.
fn cpu_seconds(pid: u32) -> Result<f64, Failure> {
    let stat = read(pid, "stat")?;
    // The name in parentheses may have blanks; utime and stime are the 12th and 13th behind it.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |index: usize| fields.get(index).and_then(|text| text.parse::<f64>().ok());
    match (ticks(11), ticks(12)) {
        (Some(user), Some(system)) => Ok((user + system) / TICKS_PER_SECOND),
        _ => Err(format!("/proc/{pid}/stat is not understood")),
    }
}

fn status_mebibytes(pid: u32, key: &str) -> Result<f64, Failure> {
    let status = read(pid, "status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(key));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
    kib.map(|kib| kib / 1024.0).ok_or_else(|| format!("/proc/{pid}/status has no {key}"))
}
