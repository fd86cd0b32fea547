//! What `lifeboat-agent doctor` answers, before the first run and after it.

use super::desk::Desk;

const DOCTOR: [&str; 3] = ["doctor", "--config", "agent/agent.toml"];

#[test]
fn a_new_host_and_one_that_ran() {
    let desk = Desk::enrolled();
    let before = desk.agent(&DOCTOR).ends(3);
    desk.run().ends(0);
    let after = desk.agent(&DOCTOR).ends(3);
    let kept: serde_json::Value = serde_json::from_str(&desk.read("agent/state/doctor.json")).expect("JSON");
    assert_eq!(kept["protection"], "unprotected");
    let json = desk.agent(&[&DOCTOR[..], &["--json"]].concat()).ends(3).json();
    assert_eq!(json["checks"].as_array().map(Vec::len), kept["checks"].as_array().map(Vec::len));
    // Probes that stayed would be named by no record, and nothing else.
    desk.lifeboat(&["check", "--read-data"]).ends(0);
    // No vault where one should be.
    desk.edit("agent/agent.toml", |text| text.replace("/vault\"", "/nothing\""));
    let gone = desk.agent(&DOCTOR).ends(2);
    desk.snapshot("doctor", &[before, after, gone]);
}
