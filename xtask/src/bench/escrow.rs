//! `cargo xtask bench escrow`: how fast a directory is imported, and escrowed secrets are proved.
//!
//! A directory of OpenLDAP with the attributes of AD DS on this machine, asked over LDAPS by `lifeboat escrow import`: the
//! first run takes everything, the second what is new. Then a synthetic host whose volumes were captured, all of whose
//! recovery passwords are escrowed: `lifeboat escrow prove` tries them, once, and once more with nothing to do.
//!
//! Recovery passwords are made here from numbers: they open nothing of the directory's, and the fabric tells its own.

use std::fmt::Write as _;
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{Work, document, version_of};
use crate::arguments::Arguments;
use crate::{Failure, demo, process, workspace};

/// Recovery objects of the directory by default.
const ENTRIES: u32 = 50_000;
/// VMs of the synthetic host by default; about half have a recovery password on a volume.
const VMS: u32 = 2000;
/// Objects that come after the first run.
const LATER_ENTRIES: u32 = 100;
/// The most that the first import may take.
const MOST_IMPORT_SECONDS: f64 = 60.0;
/// The most stretches for each volume that had something to prove.
const MOST_STRETCHES: f64 = 1.1;
/// GNU time.
const TIME: &str = "/usr/bin/time";
const SLAPD: &str = "/usr/sbin/slapd";
const SLAPADD: &str = "/usr/sbin/slapadd";
/// Password of a directory that lives for minutes on this machine.
const DIRECTORY_PASSWORD: &str = "bench";
/// Blocks of a recovery password; each is a multiple of this.
const BLOCKS: usize = 8;
const BLOCK_FACTOR: u32 = 11;

/// Attributes and classes of AD DS by their published numbers.
const SCHEMA: &str = "
attributetype ( 1.2.840.113556.1.4.1964 NAME 'msFVE-RecoveryPassword' EQUALITY caseIgnoreMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.15 SINGLE-VALUE )
attributetype ( 1.2.840.113556.1.4.1965 NAME 'msFVE-RecoveryGuid' EQUALITY octetStringMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.40 SINGLE-VALUE )
objectclass ( 1.2.840.113556.1.3.30 NAME 'computer' SUP top STRUCTURAL MUST cn )
objectclass ( 1.2.840.113556.1.5.253 NAME 'msFVE-RecoveryInformation' SUP top STRUCTURAL MUST cn MAY ( msFVE-RecoveryPassword $ msFVE-RecoveryGuid ) )
";

pub(crate) fn run(mut arguments: Arguments) -> Result<(), Failure> {
    let entries: u32 = arguments.value("--entries")?.unwrap_or(ENTRIES);
    let vms: u32 = arguments.value("--vms")?.unwrap_or(VMS);
    let folder = arguments.path("--dir")?;
    let programs = arguments.path("--programs")?;
    let write = !arguments.flag("--no-write");
    arguments.finish()?;
    if !process::answers(TIME, &["-f", "%U", "true"]) || !Path::new(SLAPD).exists() {
        return Err(format!("{TIME} and {SLAPD} are needed: apt-get install time slapd openssl"));
    }
    let bench = Bench {
        programs: match programs {
            // Every command runs in the folder of the benchmark.
            Some(folder) => {
                std::path::absolute(&folder).map_err(|error| format!("{}: {error}", folder.display()))?
            }
            None => demo::build_released()?,
        },
        work: Work::create(folder)?,
    };
    let mut facts = vec![document::machine(), bench.version()?];
    // It has no option that only tells its version.
    facts.extend(
        process::output(Command::new("dpkg-query").args(["-W", "slapd"]))
            .ok()
            .map(|one| one.trim().replace('\t', " ")),
    );
    println!("the synthetic host");
    bench.fabric(vms)?;
    bench.enrol()?;
    let prove = bench.prove()?;
    println!("the directory");
    let import = bench.import(entries)?;
    let text = table(entries, &import, &prove, &facts)
        + &format!("\nMade by `cargo xtask bench escrow --entries {entries} --vms {vms}`.\n");
    println!("\n{text}");
    if write { document::write("escrow", &text) } else { Ok(()) }
}

/// One command: wall time, time of all cores, and its answer.
struct Timed {
    seconds: f64,
    cpu_seconds: f64,
    answer: Value,
}

struct Imported {
    first: Timed,
    second: Timed,
}

struct Proved {
    first: Timed,
    second: Timed,
}

struct Bench {
    programs: PathBuf,
    work: Work,
}

impl Bench {
    fn version(&self) -> Result<String, Failure> {
        let said = version_of(
            &workspace::program(&self.programs, "lifeboat").display().to_string(),
            &["--version"],
        )?;
        let mut git = Command::new("git");
        let commit =
            process::output(git.current_dir(workspace::root()).args(["describe", "--always", "--dirty"]))?;
        Ok(format!("{said} ({})", commit.trim()))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.work.0.join(name)
    }

    fn program(&self, name: &str) -> Command {
        let mut command = Command::new(workspace::program(&self.programs, name));
        command
            .env_remove("LIFEBOAT_IMPORTER")
            .env("LIFEBOAT_KIT", self.path("kit"))
            .current_dir(&self.work.0);
        command
    }

    fn fabric(&self, vms: u32) -> Result<(), Failure> {
        let mut command = self.program("testfabric");
        command.args(["generate", "--disks", "sparse", "--vms", &vms.to_string(), "--out", "fabric"]);
        process::quiet(&mut command)
    }

    fn enrol(&self) -> Result<(), Failure> {
        let store = demo::file_url(&self.path("vault"));
        let quiet = |arguments: &[&str]| process::quiet(self.program("lifeboat").args(arguments));
        quiet(&["init", "--store", &store, "--out", "kit", "--no-passphrase"])?;
        let root = self.path("fabric/host-1").display().to_string();
        quiet(&["host", "enroll", "hv01", "--root", &root, "--out", "agent"])?;
        quiet(&["escrow", "enroll", "files", "--out", "files"])?;
        quiet(&["escrow", "enroll", "directory", "--out", "importer"])?;
        let mut agent = self.program("lifeboat-agent");
        let status = agent
            .args(["run", "--once", "--config", "agent/agent.toml"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .map_err(|error| format!("lifeboat-agent: {error}"))?;
        // Some of the fabric's VMs are such that a run has something to say of them.
        if status.success() || status.code() == Some(3) {
            Ok(())
        } else {
            Err(format!("lifeboat-agent: {status}"))
        }
    }

    /// Runs a command of ours under GNU time.
    fn timed(&self, arguments: &[&str]) -> Result<Timed, Failure> {
        process::run(&mut Command::new("sync"))?;
        let command = self.program("lifeboat");
        let mut timed = Command::new(TIME);
        timed.args(["-f", "%U %S"]).arg(command.get_program()).args(arguments).arg("--json");
        timed.env("LIFEBOAT_KIT", self.path("kit")).current_dir(&self.work.0).stdin(Stdio::null());
        let started = Instant::now();
        let output = timed.output().map_err(|error| format!("{TIME}: {error}"))?;
        let seconds = started.elapsed().as_secs_f64();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let answer = serde_json::from_slice(&output.stdout).map_err(|error| {
            format!(
                "lifeboat {}: {error}: {}\n{said}",
                arguments.join(" "),
                String::from_utf8_lossy(&output.stdout)
            )
        })?;
        let last = said.lines().last().unwrap_or_default();
        let cpu_seconds = last.split(' ').filter_map(|number| number.parse::<f64>().ok()).sum();
        Ok(Timed { seconds, cpu_seconds, answer })
    }

    fn prove(&self) -> Result<Proved, Failure> {
        let path = self.path("fabric/answers.json");
        let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let answers: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
        let mut list = String::new();
        for volume in volumes(&answers) {
            let Some(password) = volume["recovery_password"].as_str() else { continue };
            let protectors = volume["protectors"].as_array().into_iter().flatten();
            for protector in protectors.filter(|one| one["kind"] == "recovery-password") {
                let _ = writeln!(list, "{},{password}", protector["id"].as_str().unwrap_or_default());
            }
        }
        write_file(&self.path("list.csv"), &list)?;
        process::quiet(self.program("lifeboat").args([
            "escrow",
            "import",
            "list.csv",
            "--importer",
            "files",
        ]))?;
        let first = self.timed(&["escrow", "prove"])?;
        let second = self.timed(&["escrow", "prove"])?;
        Ok(Proved { first, second })
    }

    fn import(&self, entries: u32) -> Result<Imported, Failure> {
        let slapd = Slapd::start(&self.work.0, entries)?;
        let config = self.path("importer/importer.toml");
        let text = fs::read_to_string(&config).map_err(|error| format!("{}: {error}", config.display()))?;
        let ldap = format!(
            "{text}\n[[ldap]]\nname = \"bench\"\nurl = \"ldaps://localhost:{}\"\nbase = \"dc=example,dc=test\"\nuser = \"cn=admin,dc=example,dc=test\"\npassword_file = \"password\"\nca_file = {:?}\n",
            slapd.port,
            self.path("ca.pem").display().to_string()
        );
        write_file(&config, &ldap)?;
        let secret = self.path("importer/password");
        write_file(&secret, DIRECTORY_PASSWORD)?;
        process::run(Command::new("chmod").arg("600").arg(&secret))?;
        let import = ["escrow", "import", "--importer", "importer"];
        let first = self.timed(&import)?;
        slapd.add(&self.work.0, entries..entries + LATER_ENTRIES)?;
        let second = self.timed(&import)?;
        for (timed, expected) in [(&first, entries), (&second, LATER_ENTRIES)] {
            if timed.answer["sealed"] != expected {
                return Err(format!("{expected} new secrets were expected: {}", timed.answer));
            }
        }
        Ok(Imported { first, second })
    }
}

/// Every volume of the answer sheet.
fn volumes(answers: &Value) -> impl Iterator<Item = &Value> {
    let vms = answers["vms"].as_array().into_iter().flatten();
    let disks = vms.flat_map(|vm| vm["disk_files"].as_array().into_iter().flatten());
    disks.map(|disk| &disk["volume"]).filter(|volume| volume.is_object())
}

fn write_file(path: &Path, text: &str) -> Result<(), Failure> {
    fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
}

/// A directory on this machine, ended when dropped.
struct Slapd {
    child: Child,
    port: u16,
    plain: u16,
}

impl Drop for Slapd {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_port() -> Result<u16, Failure> {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(|error| error.to_string())?;
    listener.local_addr().map(|address| address.port()).map_err(|error| error.to_string())
}

fn certificates(folder: &Path) -> Result<(), Failure> {
    let openssl =
        |arguments: &[&str]| process::quiet(Command::new("openssl").args(arguments).current_dir(folder));
    let ec = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
    let authority =
        ["req", "-x509", "-days", "2", "-subj", "/CN=bench", "-keyout", "ca.key", "-out", "ca.pem"];
    openssl(&[&authority[..], &ec].concat())?;
    openssl(
        &[&["req", "-subj", "/CN=localhost", "-keyout", "key.pem", "-out", "csr.pem"][..], &ec].concat(),
    )?;
    write_file(&folder.join("san"), "subjectAltName=DNS:localhost\n")?;
    openssl(&[
        "x509",
        "-req",
        "-in",
        "csr.pem",
        "-CA",
        "ca.pem",
        "-CAkey",
        "ca.key",
        "-CAcreateserial",
        "-days",
        "2",
        "-extfile",
        "san",
        "-out",
        "cert.pem",
    ])
}

impl Slapd {
    fn start(folder: &Path, entries: u32) -> Result<Self, Failure> {
        certificates(folder)?;
        fs::create_dir(folder.join("db")).map_err(|error| format!("db: {error}"))?;
        write_file(&folder.join("msfve.schema"), SCHEMA)?;
        let path = |name: &str| folder.join(name).display().to_string();
        let config = format!(
            "include /etc/ldap/schema/core.schema\ninclude /etc/ldap/schema/cosine.schema\ninclude {}\nmodulepath /usr/lib/ldap\nmoduleload back_mdb\npidfile {}\nTLSCACertificateFile {}\nTLSCertificateFile {}\nTLSCertificateKeyFile {}\nsizelimit unlimited\ndatabase mdb\nmaxsize 4294967296\ndirectory {}\nsuffix \"dc=example,dc=test\"\nrootdn \"cn=admin,dc=example,dc=test\"\nrootpw \"{DIRECTORY_PASSWORD}\"\nindex objectClass eq\n",
            path("msfve.schema"),
            path("pid"),
            path("ca.pem"),
            path("cert.pem"),
            path("key.pem"),
            path("db")
        );
        write_file(&folder.join("slapd.conf"), &config)?;
        let base = "dn: dc=example,dc=test\nobjectClass: dcObject\nobjectClass: organization\no: x\ndc: example\n\ndn: cn=Computers,dc=example,dc=test\nobjectClass: applicationProcess\ncn: Computers\n\n";
        write_file(&folder.join("data.ldif"), &(base.to_owned() + &ldif(0..entries, true)))?;
        let mut add = Command::new(SLAPADD);
        process::quiet(add.args(["-q", "-f", "slapd.conf", "-l", "data.ldif"]).current_dir(folder))?;
        let (plain, port) = (free_port()?, free_port()?);
        let child = Command::new(SLAPD)
            .args(["-d", "0", "-f", "slapd.conf", "-h"])
            .arg(format!("ldap://127.0.0.1:{plain} ldaps://127.0.0.1:{port}"))
            .current_dir(folder)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| format!("{SLAPD}: {error}"))?;
        let slapd = Self { child, port, plain };
        let began = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            if began.elapsed() > Duration::from_secs(30) {
                return Err(format!("{SLAPD} does not answer"));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(slapd)
    }

    /// Adds objects while it runs; their times are of now.
    fn add(&self, folder: &Path, numbers: std::ops::Range<u32>) -> Result<(), Failure> {
        write_file(&folder.join("more.ldif"), &ldif(numbers, false))?;
        let mut add = Command::new("ldapadd");
        add.args([
            "-x",
            "-H",
            &format!("ldap://127.0.0.1:{}", self.plain),
            "-D",
            "cn=admin,dc=example,dc=test",
        ]);
        process::quiet(add.args(["-w", DIRECTORY_PASSWORD, "-f", "more.ldif"]).current_dir(folder))
    }
}

/// Computers with a recovery object each.
fn ldif(numbers: std::ops::Range<u32>, with_times: bool) -> String {
    let mut text = String::new();
    for number in numbers {
        let id = format!("{number:08X}-0000-4000-8000-{:012X}", u64::from(number) * 7919);
        let name = format!("2025-11-20T16:59:12-00:00{{{id}}}");
        let _ = write!(
            text,
            "dn: CN=SVM{number:06},CN=Computers,dc=example,dc=test\nobjectClass: computer\ncn: SVM{number:06}\n\ndn: CN={name},CN=SVM{number:06},CN=Computers,dc=example,dc=test\nobjectClass: msFVE-RecoveryInformation\ncn: {name}\nmsFVE-RecoveryPassword: {}\n",
            password(number)
        );
        if with_times {
            let _ = writeln!(
                text,
                "createTimestamp: 202511{:02}{:02}{:02}{:02}Z",
                1 + number / 86_400 % 28,
                number / 3600 % 24,
                number / 60 % 60,
                number % 60
            );
        }
        text.push('\n');
    }
    text
}

/// A recovery password whose blocks check.
fn password(number: u32) -> String {
    let mut state = u64::from(number) + 1;
    let blocks: Vec<String> = (0..BLOCKS)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            format!("{:06}", ((state >> 40) as u32 & 0xffff) * BLOCK_FACTOR)
        })
        .collect();
    blocks.join("-")
}

fn table(entries: u32, import: &Imported, prove: &Proved, facts: &[String]) -> String {
    let counts = &prove.first.answer["counts"];
    let number = |name: &str| counts[name].as_f64().unwrap_or_default();
    let (changed, stretches) = (number("changed"), number("stretches"));
    let for_each = stretches / changed.max(1.0);
    let verdict = |met: bool| if met { "met" } else { "MISSED" };
    let two = |value: f64| document::number(Some(value));
    let mut text = String::from("| | measured | target | |\n|---|---|---|---|\n");
    let mut row = |what: String, measured: String, target: String, verdict: &str| {
        let _ = writeln!(text, "| {what} | {measured} | {target} | {verdict} |");
    };
    row(
        format!("import of {entries} recovery objects over LDAPS, s"),
        two(import.first.seconds),
        format!("≤ {MOST_IMPORT_SECONDS}"),
        verdict(import.first.seconds <= MOST_IMPORT_SECONDS),
    );
    row(format!("the same with {LATER_ENTRIES} new ones, s"), two(import.second.seconds), String::new(), "");
    row(
        format!("proof of {changed} changed volumes ({} secrets), s", number("data") + number("key")),
        two(prove.first.seconds),
        String::new(),
        "",
    );
    row(
        "stretches for each changed volume".to_owned(),
        two(for_each),
        format!("≤ {MOST_STRETCHES}"),
        verdict(for_each <= MOST_STRETCHES),
    );
    row(
        "cores at work, of all".to_owned(),
        format!(
            "{} of {}",
            two(prove.first.cpu_seconds / prove.first.seconds),
            std::thread::available_parallelism().map_or(0, usize::from)
        ),
        "all".to_owned(),
        "",
    );
    row("proof with nothing changed, s".to_owned(), two(prove.second.seconds), String::new(), "");
    let _ = write!(text, "\nOne run. {}.\n", facts.join(". "));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_up_passwords_have_the_form_of_real_ones() {
        for number in [0, 1, 49_999] {
            let text = password(number);
            let blocks: Vec<u32> = text.split('-').map(|block| block.parse().expect("digits")).collect();
            assert_eq!((text.len(), blocks.len()), (55, BLOCKS));
            assert!(blocks.iter().all(|block| block % BLOCK_FACTOR == 0 && *block < 720_896), "{text}");
        }
    }
}
