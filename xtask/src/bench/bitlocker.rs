//! `cargo xtask bench bitlocker`: how fast a BitLocker volume is decrypted and a recovery password proved.
//!
//! Volumes of testfabric, one for each cipher; each round runs our program, `dislocker-file`, `cp` and `cryptsetup` on the
//! same file, ours first; round 0 warms up and does not count. What our program and dislocker write is compared with
//! the known content. Sources are in the page cache. Our program also waits until its output is on the disk, which the
//! others do not, so that the time of `cp` is told with and without that.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use super::measure::{self, Sample, median};
use super::{RUNS, Work, document, remove, version_of};
use crate::arguments::Arguments;
use crate::{Failure, demo, process, workspace};

/// Size of the volumes by default.
const MEBIBYTES: u32 = 1024;
/// Size of the large disk, which is empty behind its volume.
const LARGE_DISK_GIBIBYTES: u32 = 256;
/// Size of the volume that it begins with.
const LARGE_DISK_MEBIBYTES: u32 = 64;
/// Peak memory in MiB, whatever the size of the disk.
const MOST_MEMORY_MEBIBYTES: f64 = 64.0;
/// Of the time of copying the file.
const OF_A_COPY: f64 = 2.0;
/// Of cryptsetup's time, for proving a recovery password.
const OF_CRYPTSETUP: f64 = 0.9;

/// A cipher, and the most that we may take of dislocker's time.
struct Cipher {
    name: &'static str,
    of_dislocker: f64,
}

const CIPHERS: [Cipher; 3] = [
    Cipher { name: "aes-xts-128", of_dislocker: 0.25 },
    Cipher { name: "aes-cbc-128", of_dislocker: 0.25 },
    Cipher { name: "aes-cbc-128-elephant", of_dislocker: 0.125 },
];

/// A volume that was written.
struct Volume {
    image: PathBuf,
    password: PathBuf,
    plain_sha256: String,
}

/// Samples of one command.
#[derive(Default)]
struct Samples(Vec<Sample>);

impl Samples {
    fn seconds(&self) -> Option<f64> {
        median(self.0.iter().map(|sample| sample.seconds).collect())
    }

    fn peak_mebibytes(&self) -> Option<f64> {
        median(self.0.iter().map(|sample| sample.peak_kib as f64 / 1024.0).collect())
    }
}

/// What was measured on one volume.
#[derive(Default)]
struct Measured {
    ours: Samples,
    dislocker: Samples,
    copy: Samples,
    durable_copy: Samples,
    proof: Samples,
    cryptsetup: Samples,
}

/// The programs that are compared; a peer may be missing.
struct Programs {
    ours: PathBuf,
    testfabric: PathBuf,
    dislocker: Option<String>,
    cryptsetup: Option<String>,
}

pub(crate) fn run(mut arguments: Arguments) -> Result<(), Failure> {
    let mebibytes: u32 = arguments.value("--mib")?.unwrap_or(MEBIBYTES);
    let runs: u32 = arguments.value("--runs")?.unwrap_or(RUNS);
    let folder = arguments.path("--dir")?;
    let write = !arguments.flag("--no-write");
    arguments.finish()?;
    if mebibytes == 0 || runs == 0 {
        return Err("--mib and --runs are at least 1".to_owned());
    }
    measure::needs_time()?;
    let programs = Programs::find()?;
    let work = Work::create(folder)?;
    let mut facts = vec![document::machine(), programs.version()?];
    facts.extend([&programs.dislocker, &programs.cryptsetup].into_iter().flatten().cloned());
    let mut results = Vec::new();
    for cipher in &CIPHERS {
        println!("{}", cipher.name);
        let volume = programs.volume(&work.0, cipher.name, mebibytes, None)?;
        let mut measured = Measured::default();
        for round in 0..=runs {
            let samples = programs.round(&work.0.join("round"), &volume)?;
            if round > 0 {
                measured.add(samples);
            }
        }
        results.push((cipher, measured));
        remove_file(&volume.image)?;
    }
    println!("a disk of {LARGE_DISK_GIBIBYTES} GiB");
    let large = programs.volume(&work.0, "aes-xts-128", LARGE_DISK_MEBIBYTES, Some(LARGE_DISK_GIBIBYTES))?;
    let mut command = programs.recover(&large);
    command.arg("--skip-unallocated").arg("--to").arg(work.0.join("large.raw"));
    let large = measure::measure(command)?;
    let mut text = table(&results, large, mebibytes, &programs);
    let facts = facts.join(". ");
    text.push_str(&format!(
        "\nMedian of {runs} after one warm-up. {facts}.\n\nMade by `cargo xtask bench bitlocker --mib {mebibytes} --runs {runs}`.\n"
    ));
    println!("\n{text}");
    if write {
        document::write("bitlocker", &text)?;
    }
    Ok(())
}

impl Programs {
    fn find() -> Result<Self, Failure> {
        let released = demo::build_released()?;
        let dislocker = process::answers("dislocker-file", &["-h"])
            .then(|| package_version("dislocker").unwrap_or_else(|| "dislocker".to_owned()));
        let cryptsetup = process::answers("cryptsetup", &["--version"])
            .then(|| version_of("cryptsetup", &["--version"]))
            .transpose()?;
        Ok(Self {
            ours: workspace::program(&released, "lifeboat"),
            testfabric: workspace::program(&released, "testfabric"),
            dislocker,
            cryptsetup,
        })
    }

    fn version(&self) -> Result<String, Failure> {
        let said = version_of(&self.ours.display().to_string(), &["--version"])?;
        let mut git = Command::new("git");
        let commit =
            process::output(git.current_dir(workspace::root()).args(["describe", "--always", "--dirty"]))?;
        Ok(format!("{said} ({})", commit.trim()))
    }

    fn volume(
        &self,
        folder: &Path,
        cipher: &str,
        mebibytes: u32,
        disk_gibibytes: Option<u32>,
    ) -> Result<Volume, Failure> {
        let image =
            folder.join(format!("{cipher}.{}", if disk_gibibytes.is_some() { "vhdx" } else { "img" }));
        let password = folder.join(format!("{cipher}.txt"));
        let mut command = Command::new(&self.testfabric);
        command.args(["volume", "--cipher", cipher, "--mib", &mebibytes.to_string(), "--out"]).arg(&image);
        if let Some(gibibytes) = disk_gibibytes {
            command.args(["--disk-gib", &gibibytes.to_string()]);
        }
        let said: Value = serde_json::from_str(&process::output(&mut command)?)
            .map_err(|error| format!("testfabric volume: {error}"))?;
        let text = |name: &str| said[name].as_str().map(str::to_owned).ok_or(format!("no {name} in {said}"));
        fs::write(&password, text("recovery_password")?)
            .map_err(|error| format!("{}: {error}", password.display()))?;
        Ok(Volume { image, password, plain_sha256: text("plain_sha256")? })
    }

    fn recover(&self, volume: &Volume) -> Command {
        let mut command = Command::new(&self.ours);
        command.env_remove("LIFEBOAT_KIT").arg("recover").arg(&volume.image);
        command.arg("--recovery-password-file").arg(&volume.password);
        command
    }

    /// Everything once, into an empty folder.
    fn round(&self, folder: &Path, volume: &Volume) -> Result<Measured, Failure> {
        remove(folder)?;
        fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        let mut measured = Measured::default();
        let out = folder.join("ours.raw");
        let mut command = self.recover(volume);
        command.arg("--to").arg(&out);
        measured.ours.0.push(measure::measure(command)?);
        compare(&out, volume, "lifeboat")?;
        if self.dislocker.is_some() {
            let out = folder.join("dislocker.raw");
            let password = fs::read_to_string(&volume.password)
                .map_err(|error| format!("{}: {error}", volume.password.display()))?;
            let mut command = Command::new("dislocker-file");
            command.args(["-q", "-V"]).arg(&volume.image).arg(format!("-p{password}")).arg("--").arg(&out);
            measured.dislocker.0.push(measure::measure(command)?);
            compare(&out, volume, "dislocker-file")?;
        }
        let copy = |name: &str| {
            let mut copy = Command::new("cp");
            copy.arg("--reflink=never").arg(&volume.image).arg(folder.join(name));
            copy
        };
        measured.copy.0.push(measure::measure(copy("copy.raw"))?);
        remove_file(&folder.join("copy.raw"))?;
        let mut durable = Command::new("dd");
        durable.args(["bs=1M", "conv=fsync", "status=none"]);
        durable.arg(prefixed("if=", &volume.image)).arg(prefixed("of=", &folder.join("durable.raw")));
        measured.durable_copy.0.push(measure::measure(durable)?);
        let mut command = self.recover(volume);
        command.arg("--verify-only");
        measured.proof.0.push(measure::measure(command)?);
        if self.cryptsetup.is_some() {
            let mut command = Command::new("cryptsetup");
            command.args(["open", "--test-passphrase", "--type", "bitlk", "--key-file"]);
            command.arg(&volume.password).arg(&volume.image);
            measured.cryptsetup.0.push(measure::measure(command)?);
        }
        Ok(measured)
    }
}

impl Measured {
    fn add(&mut self, round: Self) {
        let pairs = [
            (&mut self.ours, round.ours),
            (&mut self.dislocker, round.dislocker),
            (&mut self.copy, round.copy),
            (&mut self.durable_copy, round.durable_copy),
            (&mut self.proof, round.proof),
            (&mut self.cryptsetup, round.cryptsetup),
        ];
        for (all, one) in pairs {
            all.0.extend(one.0);
        }
    }
}

/// Compares an output with the known content.
fn compare(out: &Path, volume: &Volume, program: &str) -> Result<(), Failure> {
    let said = process::output(Command::new("sha256sum").arg(out))?;
    if said.starts_with(&volume.plain_sha256) {
        return Ok(());
    }
    Err(format!("{program} wrote other bytes than the volume holds: {said}"))
}

fn prefixed(prefix: &str, path: &Path) -> std::ffi::OsString {
    let mut word = std::ffi::OsString::from(prefix);
    word.push(path);
    word
}

fn remove_file(path: &Path) -> Result<(), Failure> {
    fs::remove_file(path).map_err(|error| format!("{}: {error}", path.display()))
}

/// The version of an installed package, where the program itself does not tell it.
fn package_version(package: &str) -> Option<String> {
    let output = Command::new("dpkg-query")
        .args(["-W", "-f=${Version}", package])
        .stdin(Stdio::null())
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    let version = String::from_utf8(output.stdout).ok()?;
    Some(format!("{package} {}", version.trim()))
}

fn table(results: &[(&Cipher, Measured)], large: Sample, mebibytes: u32, programs: &Programs) -> String {
    let mut text = "| | Lifeboat | other | ratio | target | |\n|---|---|---|---|---|---|\n".to_owned();
    let missing = |is_there: bool, name: &str| (!is_there).then(|| format!("{name} is not installed"));
    for (cipher, measured) in results {
        let (name, ours) = (cipher.name, measured.ours.seconds());
        let mut row =
            Row { what: format!("{name}, s"), ours, theirs: measured.dislocker.seconds(), ..Row::default() };
        row.target = format!("≤ {} of `dislocker-file`", cipher.of_dislocker);
        row.most = Some(cipher.of_dislocker);
        row.skipped = missing(programs.dislocker.is_some(), "dislocker-file");
        text.push_str(&row.markdown());
        row = Row { what: format!("{name}, s"), ours, theirs: measured.copy.seconds(), ..Row::default() };
        row.target = format!("≤ {OF_A_COPY} of `cp`");
        row.most = Some(OF_A_COPY);
        text.push_str(&row.markdown());
        row = Row {
            what: format!("{name}, s"),
            ours,
            theirs: measured.durable_copy.seconds(),
            ..Row::default()
        };
        row.target = "`dd conv=fsync`, on the disk as ours is: to compare".to_owned();
        text.push_str(&row.markdown());
    }
    for (cipher, measured) in results {
        let mut row = Row {
            what: format!("proof of a recovery password, {}, s", cipher.name),
            ours: measured.proof.seconds(),
            theirs: measured.cryptsetup.seconds(),
            ..Row::default()
        };
        row.target = format!("≤ {OF_CRYPTSETUP} of `cryptsetup open --test-passphrase`");
        row.most = Some(OF_CRYPTSETUP);
        row.skipped = missing(programs.cryptsetup.is_some(), "cryptsetup");
        text.push_str(&row.markdown());
    }
    let peak =
        results.iter().filter_map(|(_, measured)| measured.ours.peak_mebibytes()).max_by(f64::total_cmp);
    let of_large = Some(large.peak_kib as f64 / 1024.0);
    for (what, ours) in [
        (format!("peak memory, {mebibytes} MiB, MiB"), peak),
        (
            format!(
                "peak memory, VHDX of {LARGE_DISK_GIBIBYTES} GiB, {LARGE_DISK_MEBIBYTES} MiB of it written, MiB"
            ),
            of_large,
        ),
    ] {
        let mut row = Row { what, ours, theirs: Some(MOST_MEMORY_MEBIBYTES), ..Row::default() };
        row.target = format!("≤ {MOST_MEMORY_MEBIBYTES} MiB");
        row.most = Some(1.0);
        text.push_str(&row.markdown());
    }
    text
}

/// A row: ours, what it is compared with, and the most that the ratio may be.
#[derive(Default)]
struct Row {
    what: String,
    ours: Option<f64>,
    theirs: Option<f64>,
    target: String,
    most: Option<f64>,
    skipped: Option<String>,
}

impl Row {
    fn markdown(&self) -> String {
        let ratio = self.ours.zip(self.theirs).map(|(ours, theirs)| ours / theirs);
        let verdict = match (&self.skipped, ratio, self.most) {
            (Some(why), ..) => format!("SKIPPED: {why}"),
            (None, _, None) => String::new(),
            (None, None, _) => "not measured".to_owned(),
            (None, Some(ratio), Some(most)) => if ratio <= most { "met" } else { "MISSED" }.to_owned(),
        };
        format!(
            "| {} | {} | {} | {} | {} | {verdict} |\n",
            self.what,
            document::number(self.ours),
            document::number(self.theirs),
            document::number(ratio),
            self.target,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(seconds: f64) -> Samples {
        let sample = |seconds| Sample { seconds, peak_kib: 20 << 10, repository_kib: 0 };
        Samples(vec![sample(seconds), sample(seconds + 9.0), sample(seconds)])
    }

    #[test]
    fn rows_are_judged_and_missing_peers_are_said() {
        let measured = || Measured {
            ours: samples(1.0),
            dislocker: samples(5.0),
            copy: samples(0.4),
            durable_copy: samples(1.0),
            proof: samples(0.1),
            cryptsetup: Samples::default(),
        };
        let results: Vec<_> = CIPHERS.iter().map(|cipher| (cipher, measured())).collect();
        let programs = Programs {
            ours: PathBuf::new(),
            testfabric: PathBuf::new(),
            dislocker: Some("dislocker 1".to_owned()),
            cryptsetup: None,
        };
        let large = Sample { peak_kib: 80 << 10, ..Sample::default() };
        let text = table(&results, large, 1024, &programs);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[2], "| aes-xts-128, s | 1.00 | 5.00 | 0.20 | ≤ 0.25 of `dislocker-file` | met |");
        assert_eq!(lines[3], "| aes-xts-128, s | 1.00 | 0.40 | 2.50 | ≤ 2 of `cp` | MISSED |");
        assert!(lines[8].ends_with("| 0.20 | ≤ 0.125 of `dislocker-file` | MISSED |"), "{}", lines[8]);
        assert!(
            lines[11].contains("| 0.10 | – | – |")
                && lines[11].ends_with("SKIPPED: cryptsetup is not installed |")
        );
        assert!(lines[14].contains("| 20.00 | 64.00 | 0.31 |") && lines[14].ends_with("| met |"));
        assert!(lines[15].contains("| 80.00 |") && lines[15].ends_with("| MISSED |"));
        let cells = |line: &str| line.matches('|').count();
        assert!(lines.iter().all(|line| cells(line) == cells(lines[0])), "{text}");
    }
}
