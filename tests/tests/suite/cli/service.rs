//! The service as a process: it ends when asked, reads its configuration again, and loses nothing when it is killed.
#![cfg(unix)]

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use lifeboat_tests::testfabric::AgeOptions;

use super::desk::{Desk, programs};

/// How often the agent is killed; `cargo xtask kills` asks for more.
const KILLS: u32 = 10;

/// Due every minute, and at once when a VM changes.
const BUSY: &str = "
[schedule.snapshot]
cron = \"* * * * *\"
time_zone = \"UTC\"
jitter_seconds = 0

[watch]
quiet_seconds = 1
longest_wait_seconds = 2
floor_seconds = 0
poll_seconds = 5
";

impl Desk {
    /// Starts the service; what it says goes on in `service.log`.
    fn serve(&self) -> Child {
        let log = File::options().create(true).append(true).open(self.path("service.log")).expect("a log");
        Command::new(programs().join("lifeboat-agent"))
            .args(["run", "--config", "agent/agent.toml"])
            .current_dir(self.path(""))
            .env("NO_COLOR", "1")
            .env_remove("LIFEBOAT_LOG")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("it runs")
    }

    /// Names of files and folders in one folder.
    fn names(&self, folder: &str) -> BTreeSet<String> {
        let entries = fs::read_dir(self.path(folder)).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
    }

    /// The host's records in the vault, wherever its folder is.
    fn ledger(&self) -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        for vault in ["vault", "vault.away"] {
            for writer in self.names(&format!("{vault}/ledger")).iter().filter(|name| name.starts_with("h-"))
            {
                names.extend(self.names(&format!("{vault}/ledger/{writer}")));
            }
        }
        names
    }

    /// Sealed runs that wait.
    fn waiting(&self) -> BTreeSet<String> {
        let names = self.names("agent/state/spool");
        names.into_iter().filter(|name| name.starts_with(|c: char| c.is_ascii_digit())).collect()
    }

    #[track_caller]
    fn until(&self, what: &str, seconds: u64, holds: impl Fn() -> bool) {
        let began = Instant::now();
        while !holds() {
            assert!(began.elapsed() < Duration::from_secs(seconds), "{what}\n{}", self.read("service.log"));
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

fn signal(child: &Child, name: &str) {
    let status = Command::new("kill").args([format!("-{name}"), child.id().to_string()]).status();
    assert!(status.expect("kill").success());
}

/// Waits until it ends by itself.
fn code(mut child: Child, desk: &Desk) -> Option<i32> {
    let began = Instant::now();
    loop {
        if let Some(status) = child.try_wait().expect("a child") {
            return status.code();
        }
        if began.elapsed() > Duration::from_secs(60) {
            child.kill().expect("killed");
            panic!("it does not end\n{}", desk.read("service.log"));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn draw(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[test]
fn a_service_captures_what_changes_reads_its_configuration_again_and_ends_when_asked() {
    let mut desk = Desk::enrolled();
    desk.edit("agent/agent.toml", |text| {
        let never = BUSY.replace("\"* * * * *\"", "\"0 0 1 1 *\"");
        text.to_owned() + &never
    });
    let service = desk.serve();
    desk.until("an agent that never ran runs at once", 60, || desk.ledger().len() == 1);
    // Another one keeps out.
    desk.run().ends(1).says("another agent is running");
    // Its own reading is no change.
    std::thread::sleep(Duration::from_secs(4));
    assert_eq!(desk.ledger().len(), 1, "{}", desk.read("service.log"));
    let changed = Instant::now();
    desk.fabric.age(&AgeOptions::change(1, 34.0)).expect("a VM changes");
    desk.until("a changed VM is captured", 60, || desk.ledger().len() == 2);
    let took = changed.elapsed();
    desk.until("and told", 10, || desk.read("service.log").contains("\"captured\":1,\"unchanged\":2"));

    // A configuration that is wrong changes nothing; one that is right counts from then on.
    desk.edit("agent/agent.toml", |text| text.replace("floor_seconds = 0", "flor_seconds = 0"));
    signal(&service, "HUP");
    desk.until("it is refused", 20, || desk.read("service.log").contains("did you mean `floor_seconds`?"));
    desk.edit("agent/agent.toml", |text| text.replace("flor_seconds = 0", "floor_seconds = 86400"));
    signal(&service, "HUP");
    desk.until("it is taken", 20, || desk.read("service.log").contains("the configuration was read again"));
    desk.fabric.age(&AgeOptions::change(2, 100.0)).expect("all VMs change");
    std::thread::sleep(Duration::from_secs(4));
    assert_eq!(desk.ledger().len(), 2, "no sooner than a day after the last capture");

    signal(&service, "TERM");
    assert_eq!(code(service, &desk), Some(0), "{}", desk.read("service.log"));
    desk.run().ends(0);
    desk.lifeboat(&["check", "--read-data"]).ends(0);
    crate::told(&format!("a changed VM was in the vault after {:.1} s", took.as_secs_f64()));
}

#[test]
fn killed_at_any_moment_it_loses_nothing() {
    let kills = std::env::var("LIFEBOAT_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(KILLS);
    let mut desk = Desk::enrolled();
    desk.edit("agent/agent.toml", |text| text.to_owned() + BUSY);
    let (mut random, mut round, mut spooled) = (7, 0, BTreeSet::new());
    let mut committed = BTreeSet::new();
    let mut age = |desk: &mut Desk, percent| {
        round += 1;
        desk.fabric.age(&AgeOptions::change(round, percent)).expect("VMs change");
    };
    let mut away = false;
    for number in 0..kills {
        // The store is away for some of the time.
        if number > 0 && draw(&mut random).is_multiple_of(3) {
            let (from, to) = if away { ("vault.away", "vault") } else { ("vault", "vault.away") };
            fs::rename(desk.path(from), desk.path(to)).expect("moved");
            away = !away;
        }
        age(&mut desk, 50.0);
        let mut service = desk.serve();
        // The first one gets to its first record, so that there is something to lose.
        if number == 0 {
            desk.until("a first record", 60, || !desk.ledger().is_empty());
        }
        std::thread::sleep(Duration::from_millis(draw(&mut random) % 1200));
        age(&mut desk, 50.0);
        std::thread::sleep(Duration::from_millis(draw(&mut random) % 1800));
        service.kill().expect("killed");
        service.wait().expect("it ended");
        let ledger = desk.ledger();
        assert!(committed.is_subset(&ledger), "kill {number}: a record is gone");
        committed = ledger;
        spooled.extend(desk.waiting().into_iter().map(|name| name + ".json"));
    }
    if away {
        fs::rename(desk.path("vault.away"), desk.path("vault")).expect("moved");
    }
    let starts = |desk: &Desk| desk.read("service.log").matches("the agent runs").count();
    let before = starts(&desk);
    let service = desk.serve();
    desk.until("it runs again", 60, || starts(&desk) > before);
    desk.until("what waits goes up", 120, || desk.waiting().is_empty());
    signal(&service, "TERM");
    assert_eq!(code(service, &desk), Some(0), "{}", desk.read("service.log"));
    // No lock is left, and the last state is captured.
    desk.run().ends(0);
    desk.lifeboat(&["check", "--read-data"]).ends(0);
    let ledger = desk.ledger();
    assert!(committed.is_subset(&ledger), "a record is gone");
    let lost: Vec<_> = spooled.difference(&ledger).collect();
    assert!(lost.is_empty(), "sealed runs are gone: {lost:?}\n{}", desk.read("service.log"));
    let seqs: Vec<u64> = ledger.iter().map(|name| name[..10].parse().expect("a seq")).collect();
    assert!(seqs.iter().copied().eq(1..=seqs.len() as u64), "{seqs:?}");
    assert_eq!(desk.names("agent/state/spool"), BTreeSet::new());
    desk.lifeboat(&["restore", "--all", "--to", "out"]).ends(0);
    crate::told(&format!(
        "killed {kills} times: {} records, {} sealed runs were seen waiting, all of them committed once",
        ledger.len(),
        spooled.len()
    ));
}
