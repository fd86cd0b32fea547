//! The JSON Schemas of the documents that leave a process, made from their types.
//!
//! `cargo xtask schemas` writes them to `schema/json`; a test holds the files to the types. They describe
//! what a reader accepts: fields that may be absent are not required.

use std::collections::BTreeMap;
use std::path::PathBuf;

use lifeboat_config::{Config, ImporterConfig};
use lifeboat_schema::{
    ArtefactsReport, AuditReport, CheckSummary, DiskInspectReport, DoctorReport, EnrollReport,
    EnrolledReport, ErrorReport, EscrowBody, EscrowImportReport, EscrowListReport, EscrowProveReport,
    EscrowRevealReport, ExplainReport, GotArtefact, GuardianChangeReport, GuardianInspectReport,
    GuardianListReport, HostChangeReport, InitReport, NamesBody, ProofBody, Record, RecoverPlan,
    RecoverReport, RestorePlan, RestoreReport, RevealBody, RunReport, SnapshotBody, SnapshotsReport,
    VaultHead, VmsReport,
};
use schemars::{Schema, schema_for};

/// The folder that holds the schemas.
pub fn schema_folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../schema/json")
}

/// Every schema, by file name.
pub fn schemas() -> BTreeMap<&'static str, String> {
    let all: [(&'static str, Schema); 35] = [
        ("agent-config.json", schema_for!(Config)),
        ("artefacts-report.json", schema_for!(ArtefactsReport)),
        ("audit-report.json", schema_for!(AuditReport)),
        ("check-summary.json", schema_for!(CheckSummary)),
        ("disk-inspect-report.json", schema_for!(DiskInspectReport)),
        ("doctor-report.json", schema_for!(DoctorReport)),
        ("enroll-report.json", schema_for!(EnrollReport)),
        ("enrolled-report.json", schema_for!(EnrolledReport)),
        ("error-report.json", schema_for!(ErrorReport)),
        ("escrow-body.json", schema_for!(EscrowBody)),
        ("escrow-import-report.json", schema_for!(EscrowImportReport)),
        ("escrow-list-report.json", schema_for!(EscrowListReport)),
        ("escrow-prove-report.json", schema_for!(EscrowProveReport)),
        ("escrow-reveal-report.json", schema_for!(EscrowRevealReport<'static>)),
        ("host-change-report.json", schema_for!(HostChangeReport)),
        ("importer-config.json", schema_for!(ImporterConfig)),
        ("explain-report.json", schema_for!(ExplainReport)),
        ("got-artefact.json", schema_for!(GotArtefact)),
        ("guardian-change-report.json", schema_for!(GuardianChangeReport)),
        ("guardian-inspect-report.json", schema_for!(GuardianInspectReport)),
        ("guardian-list-report.json", schema_for!(GuardianListReport)),
        ("init-report.json", schema_for!(InitReport)),
        ("names-body.json", schema_for!(NamesBody)),
        ("proof-body.json", schema_for!(ProofBody)),
        ("record.json", schema_for!(Record)),
        ("recover-plan.json", schema_for!(RecoverPlan)),
        ("recover-report.json", schema_for!(RecoverReport)),
        ("restore-plan.json", schema_for!(RestorePlan)),
        ("restore-report.json", schema_for!(RestoreReport)),
        ("reveal-body.json", schema_for!(RevealBody)),
        ("run-report.json", schema_for!(RunReport)),
        ("snapshot-body.json", schema_for!(SnapshotBody)),
        ("snapshots-report.json", schema_for!(SnapshotsReport)),
        ("vault-head.json", schema_for!(VaultHead)),
        ("vms-report.json", schema_for!(VmsReport)),
    ];
    all.into_iter()
        .map(|(name, schema)| {
            let text = serde_json::to_string_pretty(&schema).expect("a schema has only string keys");
            (name, text + "\n")
        })
        .collect()
}

/// What differs between `schema/json` and the types, in words.
///
/// # Errors
/// The folder cannot be read.
pub fn differences() -> std::io::Result<Vec<String>> {
    let mut differences = Vec::new();
    let wanted = schemas();
    for (name, text) in &wanted {
        match std::fs::read_to_string(schema_folder().join(name)) {
            // Git on Windows may have changed the line ends.
            Ok(there) if there.replace("\r\n", "\n") == *text => {}
            Ok(_) => differences.push(format!("schema/json/{name} is not what the types say")),
            Err(_) => differences.push(format!("schema/json/{name} is missing")),
        }
    }
    for entry in std::fs::read_dir(schema_folder())? {
        let name = entry?.file_name();
        let name = name.to_string_lossy();
        if name.ends_with(".json") && !wanted.contains_key(&*name) {
            differences.push(format!("schema/json/{name} belongs to no type"));
        }
    }
    Ok(differences)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_are_what_the_types_say() {
        let differences = differences().expect("schema/json");
        assert!(differences.is_empty(), "{differences:#?}\nrun `cargo xtask schemas`");
    }

    /// A report is found by what its documentation says: "`lifeboat vms --json`".
    #[test]
    fn no_report_is_forgotten() {
        let read =
            |name: &str| std::fs::read_to_string(schema_folder().join("../src").join(name)).expect(name);
        let text = ["report.rs", "audit.rs", "guardian_report.rs", "explain.rs"].map(read).concat();
        let mut reports = 0;
        for part in text
            .split("\n/// ")
            .skip(1)
            .filter(|part| part.lines().next().unwrap_or_default().contains("--json`"))
        {
            let name =
                part.split("pub struct ").nth(1).and_then(|rest| rest.split(' ').next()).expect("a struct");
            let title = format!("\"title\": \"{name}\"");
            assert!(schemas().values().any(|schema| schema.contains(&title)), "{name} has no schema");
            reports += 1;
        }
        assert!(reports >= 9, "only {reports} reports were found");
    }

    #[test]
    fn schemas_refuse_unknown_keys() {
        for (name, text) in schemas() {
            let schema: serde_json::Value = serde_json::from_str(&text).expect("JSON");
            assert_eq!(schema["additionalProperties"], false, "{name}");
            assert!(schema["required"].as_array().is_some_and(|keys| !keys.is_empty()), "{name}");
        }
    }
}
