//! `cargo xtask bench fleet`: many agents that write into one store at the same moment.
//!
//! A synthetic fabric is shared out among hosts, all of them are let in by one policy, and the released agents run at once, each a process
//! of its own, as hosts do. Round 1 captures everything; later ones find nothing changed. At the end the vault is checked. What the
//! server was asked is read from Ceph's own counters where `--rgw-socket` names its admin socket. It measures one machine that is
//! hosts, network and store at once: times are an upper bound, requests and bytes are exact.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{Work, document};
use crate::arguments::Arguments;
use crate::{Failure, demo, process, workspace};

/// Agents and VMs of each, by default.
const AGENTS: u32 = 100;
const VMS_EACH: u32 = 50;

/// Stands in the configurations until each host gets its own folder.
const ROOT: &str = "/fleet/root";

/// What the server says that it did.
#[derive(Clone, Copy, Default)]
struct Served {
    requests: u64,
    gets: u64,
    puts: u64,
    put_bytes: u64,
}

struct Round {
    seconds: f64,
    slowest: f64,
    captured: u64,
    stored_objects: u64,
    stored_bytes: u64,
    served: Option<Served>,
}

pub(crate) fn run(mut arguments: Arguments) -> Result<(), Failure> {
    let agents: u32 = arguments.value("--agents")?.unwrap_or(AGENTS);
    let vms_each: u32 = arguments.value("--vms")?.unwrap_or(VMS_EACH);
    let rounds: u32 = arguments.value("--rounds")?.unwrap_or(3);
    let store: Option<String> = arguments.value("--store")?;
    let socket = arguments.path("--rgw-socket")?;
    let programs = arguments.path("--programs")?;
    let folder = arguments.path("--dir")?;
    let write = !arguments.flag("--no-write");
    arguments.finish()?;
    if agents == 0 || vms_each == 0 || rounds == 0 {
        return Err("--agents, --vms and --rounds are at least 1".to_owned());
    }
    let machine = document::machine();
    let programs = match programs {
        Some(folder) => {
            std::path::absolute(&folder).map_err(|error| format!("{}: {error}", folder.display()))?
        }
        None => demo::build_released()?,
    };
    let work = Work::create(folder)?;
    let fleet = Fleet { programs, work: work.0.clone(), agents, socket };
    let store = store.unwrap_or_else(|| demo::file_url(&fleet.work.join("vault")));
    fleet.generate(agents * vms_each)?;
    fleet.enroll(&store)?;
    let mut told = Vec::new();
    for round in 1..=rounds {
        let one = fleet.round(round, vms_each)?;
        println!("round {round}: {:.1} s, the slowest agent {:.1} s", one.seconds, one.slowest);
        told.push(one);
    }
    let checked = fleet.check(rounds)?;
    let table = table(&told, agents, vms_each, &checked, &machine, &store);
    println!("{table}");
    if write { document::write("fleet", &table) } else { Ok(()) }
}

struct Fleet {
    programs: PathBuf,
    work: PathBuf,
    agents: u32,
    socket: Option<PathBuf>,
}

impl Fleet {
    fn program(&self, name: &str) -> Command {
        let mut command = Command::new(workspace::program(&self.programs, name));
        command.env_remove("LIFEBOAT_KIT").env_remove("LIFEBOAT_AGENT_CONFIG");
        command
    }

    fn generate(&self, vms: u32) -> Result<(), Failure> {
        let mut command = self.program("testfabric");
        command.args(["generate", "--disks", "none", "--layout", "export"]);
        command.args(["--vms", &vms.to_string(), "--hosts", &self.agents.to_string(), "--out"]);
        process::run(command.arg(self.work.join("fabric")))
    }

    fn name(number: u32) -> String {
        format!("host-{number}")
    }

    fn config(&self, number: u32) -> PathBuf {
        self.work.join("agents").join(Self::name(number)).join("agent.toml")
    }

    /// A vault, and every host by one policy.
    fn enroll(&self, store: &str) -> Result<(), Failure> {
        let kit = self.work.join("kit");
        let mut init = self.program("lifeboat");
        init.args(["init", "--no-passphrase", "--store", store, "--out"]).arg(&kit);
        // A store that ignores conditional writes is a finding, and no reason not to go on.
        let status =
            init.stdout(Stdio::null()).status().map_err(|error| format!("lifeboat init: {error}"))?;
        if !matches!(status.code(), Some(0 | 3)) {
            return Err(format!("lifeboat init: {status}"));
        }
        let names: String = (1..=self.agents).map(|number| Self::name(number) + "\n").collect();
        let list = self.work.join("names");
        fs::write(&list, names).map_err(|error| format!("{}: {error}", list.display()))?;
        let mut enroll = self.program("lifeboat");
        enroll.args(["host", "enroll", "--json", "--root", ROOT, "--from"]).arg(&list).arg("--kit").arg(&kit);
        process::quiet(enroll.arg("--out").arg(self.work.join("agents")))?;
        for number in 1..=self.agents {
            let config = self.config(number);
            let root = self.work.join("fabric").join(Self::name(number));
            let text =
                fs::read_to_string(&config).map_err(|error| format!("{}: {error}", config.display()))?;
            let text = text.replace(ROOT, &root.display().to_string());
            fs::write(&config, text).map_err(|error| format!("{}: {error}", config.display()))?;
        }
        Ok(())
    }

    /// All agents at once.
    fn round(&self, round: u32, vms_each: u32) -> Result<Round, Failure> {
        let before = self.served()?;
        let began = Instant::now();
        let mut running = Vec::new();
        for number in 1..=self.agents {
            let mut agent = self.program("lifeboat-agent");
            agent.args(["run", "--once", "--json", "--config"]).arg(self.config(number));
            let output = self.work.join(format!("answer-{number}.json"));
            let file = fs::File::create(&output).map_err(|error| format!("{}: {error}", output.display()))?;
            let child = agent.stdout(file).spawn().map_err(|error| format!("agent {number}: {error}"))?;
            running.push((number, child, output));
        }
        let mut slowest = Duration::ZERO;
        let (mut captured, mut stored_objects, mut stored_bytes) = (0, 0, 0);
        let mut failures = Vec::new();
        for (number, mut child, output) in running {
            let status = child.wait().map_err(|error| format!("agent {number}: {error}"))?;
            slowest = slowest.max(began.elapsed());
            let text =
                fs::read_to_string(&output).map_err(|error| format!("{}: {error}", output.display()))?;
            let answer: Value = serde_json::from_str(&text).unwrap_or(Value::Null);
            let count = |key: &str| answer[key].as_u64().unwrap_or_default();
            let whole = count("seq") == u64::from(round) && count("found") == u64::from(vms_each);
            if !status.success() || !whole {
                failures.push(format!("agent {number}: {status}: {}", text.trim()));
            }
            captured += count("captured");
            stored_objects += count("stored_objects");
            stored_bytes += count("stored_bytes");
        }
        let seconds = began.elapsed().as_secs_f64();
        if let Some(first) = failures.first() {
            return Err(format!("round {round}: {} agents failed; the first: {first}", failures.len()));
        }
        let served = match (before, self.served()?) {
            (Some(before), Some(after)) => Some(Served {
                requests: after.requests.saturating_sub(before.requests),
                gets: after.gets.saturating_sub(before.gets),
                puts: after.puts.saturating_sub(before.puts),
                put_bytes: after.put_bytes.saturating_sub(before.put_bytes),
            }),
            _ => None,
        };
        Ok(Round { seconds, slowest: slowest.as_secs_f64(), captured, stored_objects, stored_bytes, served })
    }

    /// Ceph's own counters, where its admin socket is named.
    fn served(&self) -> Result<Option<Served>, Failure> {
        let Some(socket) = &self.socket else { return Ok(None) };
        let mut command = Command::new("ceph");
        command.arg("--admin-daemon").arg(socket).args(["perf", "dump", "rgw"]);
        let dump: Value = serde_json::from_str(&process::output(&mut command)?)
            .map_err(|error| format!("perf dump: {error}"))?;
        let count = |key: &str| dump["rgw"][key].as_u64().unwrap_or_default();
        Ok(Some(Served {
            requests: count("req"),
            gets: count("get"),
            puts: count("put"),
            put_bytes: count("put_b"),
        }))
    }

    /// Every record is there and every chain whole; gives what the check says.
    fn check(&self, rounds: u32) -> Result<Value, Failure> {
        let mut command = self.program("lifeboat");
        command.args(["check", "--read-data", "--json", "--kit"]).arg(self.work.join("kit"));
        let summary: Value = serde_json::from_str(&process::output(&mut command)?)
            .map_err(|error| format!("lifeboat check: {error}"))?;
        // The policy of `init` and the one that let all hosts in, beside the hosts' own; `init` names an operator too.
        let records = u64::from(self.agents) * u64::from(rounds) + 2;
        if summary["records"].as_u64() != Some(records) {
            return Err(format!("{records} records should be there, and {} are", summary["records"]));
        }
        Ok(summary)
    }
}

fn table(
    rounds: &[Round],
    agents: u32,
    vms_each: u32,
    checked: &Value,
    machine: &str,
    store: &str,
) -> String {
    let vms = f64::from(agents * vms_each);
    let mut text = "| round | all agents, s | slowest agent, s | VMs captured | objects put | bytes put | bytes per VM | requests | requests per VM | PUTs per agent |\n|---|---|---|---|---|---|---|---|---|---|\n".to_owned();
    for (at, round) in rounds.iter().enumerate() {
        #[expect(clippy::cast_precision_loss, reason = "counts of a benchmark")]
        let per_vm = |count: u64| document::number(Some(count as f64 / vms));
        let (requests, each, puts) = match round.served {
            None => ("–".to_owned(), "–".to_owned(), "–".to_owned()),
            Some(served) => {
                #[expect(clippy::cast_precision_loss, reason = "counts of a benchmark")]
                let puts = document::number(Some(served.puts as f64 / f64::from(agents)));
                (served.requests.to_string(), per_vm(served.requests), puts)
            }
        };
        text.push_str(&format!(
            "| {} | {:.1} | {:.1} | {} | {} | {} | {} | {requests} | {each} | {puts} |\n",
            at + 1,
            round.seconds,
            round.slowest,
            round.captured,
            round.stored_objects,
            round.stored_bytes,
            per_vm(round.stored_bytes),
        ));
    }
    let kind = store.split("://").next().unwrap_or_default();
    text.push_str(&format!(
        "\n{agents} agents with {vms_each} VMs each, started at once, into {kind}://. Afterwards `lifeboat check --read-data`: {} records in {} ledgers, {} objects read, worst finding {}. {machine}.\n",
        checked["records"],
        checked["ledgers"],
        checked["objects_read"],
        checked["worst"].as_str().unwrap_or("none"),
    ));
    text.push_str(&format!(
        "\nMade by `cargo xtask bench fleet --agents {agents} --vms {vms_each} --rounds {}`{}.\n",
        rounds.len(),
        if kind == "s3" {
            " with `--store` and `--rgw-socket` of a Ceph RGW on the same machine"
        } else {
            ""
        },
    ));
    text
}
