//! A folder with a synthetic host, a vault, a kit and an agent, and the programs to work on them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use lifeboat_schema::Digest;
use lifeboat_tests::stage::tiny_fabric;
use lifeboat_tests::testfabric::{Fabric, FabricOptions, Mix, VmKind, VmPlan, VmTrait};
use tempfile::TempDir;

/// Folder of our programs: `LIFEBOAT_BIN_DIR`, or where cargo builds them, after it has.
pub(crate) fn programs() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        if let Some(folder) = std::env::var_os("LIFEBOAT_BIN_DIR") {
            return folder.into();
        }
        // target/<profile>/deps/suite-...
        let this = std::env::current_exe().expect("the test's own path");
        let folder = this.parent().and_then(Path::parent).expect("the folder of the profile").to_owned();
        let profile = folder.file_name().and_then(|name| name.to_str()).expect("its name");
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut build = Command::new(cargo);
        // With a test, so that the libraries are as `cargo test --workspace` has built them: nothing but the
        // programs is compiled anew.
        build.args(["build", "--quiet", "--workspace", "--bins", "--test", "suite"]);
        build.args(["--profile", if profile == "debug" { "dev" } else { profile }]);
        build.arg("--target-dir").arg(folder.parent().expect("the target folder"));
        build.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."));
        // These describe this package; dependencies that look at them would be built anew.
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
                build.env_remove(&name);
            }
        }
        let output = build.output().expect("cargo runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        folder
    })
}

/// What a program answered.
pub(super) struct Answer {
    pub(super) code: i32,
    pub(super) out: String,
    pub(super) err: String,
    typed: String,
}

impl Answer {
    /// Both outputs and the exit code, as a snapshot keeps them.
    pub(super) fn shown(&self) -> String {
        let err: String = self.err.lines().map(|line| format!("! {line}\n")).collect();
        format!("$ {}\n{}{err}exit {}\n", self.typed, self.out, self.code)
    }

    #[track_caller]
    pub(super) fn ends(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{}", self.shown());
        self
    }

    /// The answer has this text, wherever a line ends.
    #[track_caller]
    pub(super) fn says(self, text: &str) -> Self {
        assert!(format!("{}{}", self.out, self.err).contains(text), "{text:?} is not in\n{}", self.shown());
        self
    }

    pub(super) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {}", self.shown()))
    }
}

/// Everything below one folder, which is also where the programs run: `fabric`, `vault`, `kit`, `agent`.
pub(super) struct Desk {
    folder: TempDir,
    pub(super) fabric: Fabric,
}

impl Desk {
    /// A host with three VMs, and nothing else.
    pub(super) fn new() -> Self {
        let plans = vec![
            VmPlan::new(VmKind::Shielded, [VmTrait::Checkpoint]),
            VmPlan::new(VmKind::LocalMode, []),
            VmPlan::new(VmKind::GenerationOne, []),
        ];
        Self::of(&FabricOptions { mix: Mix::Only(plans), ..tiny_fabric(3, 41) })
    }

    /// A host of this fabric, and nothing else.
    pub(super) fn of(options: &FabricOptions) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let fabric = Fabric::generate(folder.path().join("fabric"), options).expect("a fabric");
        Self { folder, fabric }
    }

    /// With a vault, a kit, an enrolled agent and its first snapshot.
    pub(super) fn with_snapshot() -> Self {
        let desk = Self::enrolled();
        desk.run().ends(0);
        desk
    }

    /// With a vault, a kit and an enrolled agent.
    pub(super) fn enrolled() -> Self {
        Self::new().enroll_all()
    }

    /// A host like this with a vault, a kit, an enrolled agent and its first snapshot.
    pub(super) fn with_snapshot_of(options: &FabricOptions) -> Self {
        let desk = Self::of(options).enroll_all();
        desk.run().ends(0);
        desk
    }

    fn enroll_all(self) -> Self {
        let desk = self;
        desk.init().ends(0);
        desk.enroll().ends(0);
        // One thread: how VMs fall into bundles, and so the number of objects, is the same in each run.
        desk.edit("agent/agent.toml", |text| text.replace("threads = 0", "threads = 1"));
        desk
    }

    pub(super) fn init(&self) -> Answer {
        let store = self.store_url();
        self.lifeboat(&["init", "--store", &store, "--out", "kit", "--no-passphrase"])
    }

    pub(super) fn enroll(&self) -> Answer {
        self.lifeboat(&["host", "enroll", "hv01", "--root", &self.root(), "--out", "agent"])
    }

    /// Where the host's VMs are.
    pub(super) fn root(&self) -> String {
        self.fabric.host_dir("host-1").display().to_string()
    }

    pub(super) fn run(&self) -> Answer {
        self.agent(&["run", "--once", "--config", "agent/agent.toml"])
    }

    pub(super) fn store_url(&self) -> String {
        file_url(&self.path("vault"))
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(super) fn lifeboat(&self, arguments: &[&str]) -> Answer {
        self.program("lifeboat", arguments, &[("LIFEBOAT_KIT", "kit")])
    }

    pub(super) fn agent(&self, arguments: &[&str]) -> Answer {
        self.program("lifeboat-agent", arguments, &[])
    }

    /// Runs a program in the desk's folder, with nothing of this process's environment that it would heed.
    pub(super) fn program(&self, name: &str, arguments: &[&str], environment: &[(&str, &str)]) -> Answer {
        let mut command = Command::new(programs().join(format!("{name}{}", std::env::consts::EXE_SUFFIX)));
        command.args(arguments).current_dir(self.folder.path()).stdin(Stdio::null());
        for (variable, _) in std::env::vars_os() {
            let variable = variable.to_string_lossy().into_owned();
            if ["AWS_", "LIFEBOAT_", "AZURE_", "GOOGLE_"].iter().any(|prefix| variable.starts_with(prefix)) {
                command.env_remove(variable);
            }
        }
        command.env("NO_COLOR", "1").env("COLUMNS", "100").envs(environment.iter().copied());
        let output = command.output().unwrap_or_else(|error| panic!("{name} does not run: {error}"));
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
        Answer {
            code: output.status.code().expect("it was not killed"),
            out: text(output.stdout),
            err: text(output.stderr),
            typed: format!("{name} {}", arguments.join(" ")),
        }
    }

    pub(super) fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    pub(super) fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), text).unwrap_or_else(|error| panic!("{name}: {error}"));
    }

    pub(super) fn edit(&self, name: &str, change: impl FnOnce(&str) -> String) {
        let text = self.read(name);
        self.write(name, change(&text));
    }

    /// A copy of the kit under another name, to be spoilt.
    pub(super) fn copy_kit(&self, name: &str) {
        std::fs::create_dir(self.path(name)).expect("a folder");
        for entry in std::fs::read_dir(self.path("kit")).expect("the kit").flatten() {
            std::fs::copy(entry.path(), self.path(name).join(entry.file_name())).expect("a copy");
        }
    }

    /// Digests of everything below a folder; empty where there is none.
    pub(super) fn digests(&self, name: &str) -> BTreeMap<PathBuf, Digest> {
        let mut digests = BTreeMap::new();
        let mut folders = vec![self.path(name)];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
                match entry.path() {
                    path if path.is_dir() => folders.push(path),
                    path => {
                        let bytes = std::fs::read(&path).expect("readable");
                        digests.insert(path, Digest::of(&bytes));
                    }
                }
            }
        }
        digests
    }

    /// Runs `fails`, and asserts that vault and agent are as before and that the vault checks clean.
    #[track_caller]
    pub(super) fn loses_nothing(&self, fails: impl FnOnce()) {
        self.loses_nothing_with(&[], fails);
    }

    /// As [`Desk::loses_nothing`], with further arguments for the check.
    #[track_caller]
    pub(super) fn loses_nothing_with(&self, arguments: &[&str], fails: impl FnOnce()) {
        let before = self.digests("vault");
        fails();
        assert_eq!(self.digests("vault"), before, "the vault is as it was");
        self.lifeboat(&[&["check", "--read-data"], arguments].concat()).ends(0);
    }

    /// The id that the kit pins.
    pub(super) fn vault_id(&self) -> String {
        let text = self.read("kit/vault.toml");
        let line = text.lines().find(|line| line.starts_with("vault = ")).expect("the kit names its vault");
        line.trim_start_matches("vault = ").trim_matches('"').to_owned()
    }

    /// Blanks what differs from run to run, and compares with the snapshot of that name.
    pub(super) fn snapshot(&self, name: &str, answers: &[Answer]) {
        if cfg!(windows) {
            return; // Paths and the system's own words are others there.
        }
        let shown: Vec<String> = answers.iter().map(Answer::shown).collect();
        let folder = self.folder.path().display().to_string();
        let text = shown.join("\n").replace(&folder, "[DESK]");
        insta::with_settings!({
            prepend_module_to_snapshot => false,
            omit_expression => true,
            snapshot_path => "../snapshots",
            filters => vec![
                (r"lb1[a-z2-7]{52}", "[VAULT]"),
                (r"age1[a-z0-9]{58}", "[RECIPIENT]"),
                (r"\b(h|o|op|s)-?[a-z2-7]{16}\b", "[$1-ID]"),
                (r"[0-9a-f]{64}", "[DIGEST]"),
                (r"H [a-z2-7]{16}", "H [ID]"),
                (r"SHA256:[A-Za-z0-9+/]{43}", "SHA256:[KEY]"),
                (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "[TIME]"),
                (r"objects with \d+ bytes", "objects with [N] bytes"),
                (r"objects with [\d.]+ [KM]iB", "objects with [SIZE]"),
                // Columns and rules are as wide as what was blanked.
                (r"[ ]{2,}", "  "),
                (r"-{4,}", "----"),
            ]
        }, {
            insta::assert_snapshot!(name, text);
        });
    }
}

pub(super) fn file_url(path: &Path) -> String {
    let path = path.display().to_string().replace('\\', "/");
    if path.starts_with('/') { format!("file://{path}") } else { format!("file:///{path}") }
}
