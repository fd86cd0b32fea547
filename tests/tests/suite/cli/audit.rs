//! The audit through the real program, with the audit identity alone: table, JSON, CSV, HTML, policy, exit codes.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use lifeboat_schema::Role;
use lifeboat_tests::testfabric::{Lack, Player};

use super::desk::Desk;
use super::escrow::{desk, import, passwords};
use crate::told;

/// A captured host, half of whose recovery passwords are escrowed, and a kit with the audit identity alone.
fn audited() -> Desk {
    let desk = desk();
    let known = passwords(&desk);
    let half = known.iter().step_by(2);
    let list: String = half.map(|(id, (_, password))| format!("{id},{password}\n")).collect();
    desk.write("list.csv", list);
    import(&desk, &["list.csv"]).ends(0);
    std::fs::create_dir(desk.path("auditor")).expect("a folder");
    for name in ["vault.toml", "audit.identity"] {
        std::fs::copy(desk.path("kit").join(name), desk.path("auditor").join(name)).expect("a copy");
    }
    desk
}

fn audit(desk: &Desk, arguments: &[&str]) -> super::desk::Answer {
    desk.lifeboat(&[&["audit", "--kit", "auditor"], arguments].concat())
}

#[test]
fn the_audit_identity_suffices_and_no_secret_is_told() {
    let desk = audited();
    let answers = desk.fabric.answers();
    let table = audit(&desk, &[]).ends(3).says("BELOW THE BAR").says("MISSING").says("ESCROWED");
    let json = audit(&desk, &["--json"]).ends(3);
    let report = json.json();
    assert_eq!(report["totals"]["vms"], answers.vms.len());
    assert_eq!(report["vms"].as_array().expect("VMs").len(), answers.vms.len());
    let local = answers.lacking(Lack::Guardian).count();
    assert_eq!(report["totals"]["codes"]["LOCAL-KEY-NOT-ESCROWED"], local);
    let vms = audit(&desk, &["--csv", "vms"]).ends(3);
    assert_eq!(vms.out.lines().count(), answers.vms.len() + 1);
    let volumes = audit(&desk, &["--csv", "volumes"]).ends(3);
    assert_eq!(
        volumes.out.lines().count() as u64,
        report["totals"]["volumes"].as_u64().expect("a count") + 1
    );
    audit(&desk, &["--html", "audit.html"]).ends(3).says("audit.html");
    audit(&desk, &["--html", "audit.html"]).ends(2).says("is there already");

    // The catalog is its owner's alone, and is made anew at will.
    let catalogs = || -> Vec<PathBuf> {
        let all =
            std::fs::read_dir(desk.path("auditor")).expect("the kit").flatten().map(|entry| entry.path());
        all.filter(|path| path.extension().is_some_and(|extension| extension == "sqlite")).collect()
    };
    let [catalog] = catalogs().try_into().expect("one catalog");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(std::fs::metadata(&catalog).expect("the catalog").permissions().mode() & 0o777, 0o600);
    }
    let cached = std::fs::read(&catalog).expect("the catalog");
    let again = audit(&desk, &["--json", "--rebuild"]).ends(3).json();
    assert_eq!(again["totals"], report["totals"]);
    std::fs::write(&catalog, "no catalog").expect("written");
    audit(&desk, &[]).ends(2).says("no SQLite file");
    std::fs::remove_file(&catalog).expect("removed");
    assert_eq!(audit(&desk, &["--json"]).ends(3).json()["totals"], report["totals"]);

    let page = desk.read("audit.html");
    let texts = [table.shown(), json.shown(), vms.shown(), volumes.shown(), page];
    let mut searched = 0;
    let mut absent = |secret: &[u8]| {
        searched += 1;
        for text in texts.iter().map(String::as_bytes).chain([cached.as_slice()]) {
            assert!(memchr::memmem::find(text, secret).is_none(), "a secret is told");
        }
    };
    answers.markers_hidden_from(Role::Audit).for_each(|marker| absent(&marker.bytes));
    passwords(&desk).values().for_each(|(_, password)| absent(password.as_bytes()));
    absent(b"AGE-SECRET-KEY");
    told(&format!("audit: five answers and the catalog searched for {searched} secrets"));
}

#[test]
fn filters_fabrics_and_a_policy() {
    let desk = audited();
    let vms = &desk.fabric.answers().vms;
    let json = |arguments: &[&str], code| audit(&desk, &[arguments, &["--json"]].concat()).ends(code).json();
    let count = |report: &serde_json::Value| report["vms"].as_array().expect("VMs").len();

    let one = json(&["--vm", &vms[0].name.to_uppercase()], 3);
    assert_eq!((count(&one), &one["vms"][0]["vm_id"]), (1, &serde_json::json!(vms[0].vm_id)));
    assert_eq!(one["only"], serde_json::json!([format!("--vm {}", vms[0].name.to_uppercase())]));
    let missing = json(&["--state", "missing"], 3);
    assert!(count(&missing) > 0 && count(&missing) < vms.len());
    assert_eq!(count(&json(&["--host", "host-9"], 0)), 0);
    assert_eq!(count(&json(&["--older-than", "1d"], 0)), 0);
    let owned = json(&["--owner", "Contoso Owner"], 3);
    let contoso = vms.iter().filter(|vm| vm.wrapped.is_some_and(|one| one.owner == Player::OwnerA));
    assert_eq!(count(&owned), contoso.count());

    let metadata = desk.fabric.cast().metadata(Player::RecoveryFabric).expect("metadata");
    desk.write("dr.xml", metadata);
    audit(&desk, &["--fabric", "dr.xml", "--all"]).ends(3).says("AT DR Fabric").says("yes").says("NO");
    let guardian = desk.fabric.answers().guardians.iter().find(|one| one.player == Player::RecoveryFabric);
    let thumbprint = &guardian.expect("a guardian").encryption_sha1;
    audit(&desk, &["--compromised", thumbprint]).ends(3).says("opens VM key protectors").says("re-key");

    for arguments in [["--state", "NOTHING"], ["--older-than", "soon"], ["--compromised", "abc"]] {
        audit(&desk, &arguments).ends(2);
    }
    desk.write("policy.toml", "version = 1\n[count]\nMISING = \"note\"\n");
    audit(&desk, &["--policy", "policy.toml"]).ends(2).says("MISING");

    // A bar that is low enough, but for what waits for itself.
    let mut policy = String::from("version = 1\n[count]\n");
    let words = report_words(&json(&[], 3));
    for word in words.iter().filter(|word| *word != "MISSING") {
        policy += &format!("{word} = \"note\"\n");
    }
    let exception = "[[exception]]\nvm = \"*\"\ncode = \"MISSING\"\nowner = \"J. Doe\"\nuntil = \"9000-01-01\"\nwhy = \"a trial\"\n";
    desk.write("policy.toml", format!("{policy}{exception}"));
    let low = audit(&desk, &["--policy", "policy.toml"]).ends(0).says("At or above the bar, with");
    assert!(!low.out.contains("BELOW"));
    desk.write("policy.toml", format!("{policy}[depends_on]\nvault = [\"{}\"]\n{exception}", vms[0].name));
    let circle = json(&["--policy", "policy.toml"], 3);
    assert_eq!(circle["totals"]["codes"]["CIRCULAR"], vms.len(), "the vault lies on one of them");
    desk.write("policy.toml", format!("{policy}{}", exception.replace("9000", "2001")));
    audit(&desk, &["--policy", "policy.toml"]).ends(3).says("EXCEPTION-OVER");

    // Others' identities are told apart.
    std::fs::write(desk.path("auditor").join("audit.identity"), desk.read("kit/escrow.identity"))
        .expect("written");
    audit(&desk, &["--catalog", "mine.sqlite"]).ends(3);
    std::fs::copy(desk.path("kit").join("restore.identity"), desk.path("auditor").join("audit.identity"))
        .expect("a copy");
    audit(&desk, &["--catalog", "mine.sqlite"]).ends(2).says("another identity");
}

/// Every state and code that a report has.
fn report_words(report: &serde_json::Value) -> Vec<String> {
    let totals = &report["totals"];
    let states = totals["states"].as_object().expect("states").keys().cloned();
    states.chain(totals["codes"].as_object().expect("codes").keys().cloned()).collect()
}

/// A browser that runs without a window, where there is one.
fn chromium() -> Option<&'static str> {
    ["chromium", "chromium-browser", "google-chrome"].into_iter().find(|name| {
        let mut command = Command::new(name);
        command.arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    })
}

fn browse(browser: &str, profile: &Path, arguments: &[&str], page: &Path) -> String {
    let output = Command::new(browser)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=8000"])
        .arg(format!("--user-data-dir={}", profile.display()))
        .args(arguments)
        .arg(format!("file://{}", page.display()))
        .stdin(Stdio::null())
        .output()
        .expect("the browser runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn the_page_works_in_a_browser_without_a_network() {
    let desk = audited();
    audit(&desk, &["--html", "audit.html"]).ends(3);
    let page = desk.read("audit.html");
    assert!(!page.contains("http:") && !page.contains("https:"), "nothing is fetched");
    let Some(browser) = chromium() else {
        told("SKIPPED: no Chromium here; the page was not opened");
        return;
    };
    let vms = &desk.fabric.answers().vms;
    let profile = desk.path("profile");
    let shown = browse(browser, &profile, &["--dump-dom"], &desk.path("audit.html"));
    assert!(shown.contains(&format!("data-ready=\"{}\"", vms.len())), "the script ran to its end");
    assert!(shown.contains("Below the bar") && shown.contains("PROVEN-DATA") | shown.contains("MISSING"));
    for vm in vms {
        assert!(shown.contains(&format!(">{}</button>", vm.name)), "{} has its row", vm.name);
    }

    // As a person would: filter, sort, open a row; and a VM with a hostile name.
    let hostile = r"\u003c/script>\u003cimg id=pwned>".replace('>', "\\u003e");
    let trial =
        page.replacen(&format!("\"name\":\"{}\"", vms[0].name), &format!("\"name\":\"{hostile}\""), 1);
    assert_ne!(trial, page);
    let act = r##"<script>
      const said = [];
      const rows = () => [...document.querySelectorAll("#rows tr:not(.details)")];
      const names = () => rows().map(row => row.children[1].textContent);
      said.push("rows " + rows().length, "pwned " + (document.getElementById("pwned") !== null));
      document.querySelectorAll("#head button")[1].click();
      said.push("sorted " + names().every((name, at, all) => at === 0 || all[at - 1].toLowerCase() <= name.toLowerCase()));
      document.querySelectorAll("#head button")[1].click();
      said.push("turned " + names().every((name, at, all) => at === 0 || all[at - 1].toLowerCase() >= name.toLowerCase()));
      rows()[0].querySelector("button").click();
      said.push("opened " + /Next: |VM key protector/.test(document.querySelector("tr.details:not([hidden])").textContent));
      const word = document.getElementById("word"); word.value = "MISSING"; word.dispatchEvent(new Event("input"));
      said.push("filtered " + rows().length);
      dispatchEvent(new Event("beforeprint"));
      said.push("printed " + document.querySelectorAll("tr.details:not([hidden])").length);
      document.title = said.join(", ");
    </script>"##;
    desk.write("trial.html", trial.replacen("</body>", &format!("{act}</body>"), 1));
    let shown = browse(browser, &profile, &["--dump-dom"], &desk.path("trial.html"));
    let title =
        shown.split("<title>").nth(1).and_then(|rest| rest.split("</title>").next()).unwrap_or_default();
    let missing = audit(&desk, &["--state", "MISSING", "--json"]).ends(3).json();
    let missing = missing["vms"].as_array().expect("VMs").len();
    assert_eq!(
        title,
        format!(
            "rows {}, pwned false, sorted true, turned true, opened true, filtered {missing}, printed {missing}",
            vms.len()
        )
    );

    // Light, dark and paper: each is drawn, and dark is not light.
    let mut sizes = Vec::new();
    for (name, scheme) in [("light.png", "1"), ("dark.png", "0")] {
        let shot = desk.path(name);
        let arguments = [
            format!("--screenshot={}", shot.display()),
            format!("--blink-settings=preferredColorScheme={scheme}"),
            "--window-size=1200,900".to_owned(),
        ];
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        browse(browser, &profile, &arguments, &desk.path("audit.html"));
        sizes.push(std::fs::read(shot).expect("a screenshot"));
    }
    assert!(sizes.iter().all(|picture| picture.starts_with(b"\x89PNG") && picture.len() > 10_000));
    assert_ne!(sizes[0], sizes[1]);
    let paper = desk.path("audit.pdf");
    browse(browser, &profile, &[&format!("--print-to-pdf={}", paper.display())], &desk.path("audit.html"));
    assert!(std::fs::read(paper).expect("a PDF").starts_with(b"%PDF"));
    told("audit: the page was opened, sorted, filtered and printed in a browser");
}
