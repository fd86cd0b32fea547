//! The report as comma-separated values (RFC 4180): one file of VMs, one of volumes.
//!
//! Text that a spreadsheet would take for a formula is made plain by an apostrophe before it: names come from others.

use lifeboat_schema::{AuditLevel, AuditReport, AuditedVm, CanStart};

/// One line for each VM.
pub fn vms_csv(report: &AuditReport) -> String {
    let mut header: Vec<String> = [
        "vm",
        "vm_id",
        "level",
        "owner",
        "host",
        "captured",
        "seen",
        "vtpm",
        "vtpm_age_seconds",
        "pairing",
        "owner_guardians",
        "guardians",
        "last_drill",
        "worst_volume",
        "findings",
        "next",
    ]
    .map(str::to_owned)
    .to_vec();
    header.extend(report.fabrics.iter().map(|name| format!("can start at {name}")));
    let mut csv = line(&header);
    for vm in &report.vms {
        let mut cells = vec![
            vm.name.clone(),
            vm.vm_id.clone(),
            word(vm.level),
            vm.owner_name.clone().unwrap_or_else(|| vm.owner.to_string()),
            vm.host.clone(),
            vm.captured.to_string(),
            vm.seen.to_string(),
            kebab(&vm.vtpm),
            vm.vtpm_age_seconds.map(|age| age.to_string()).unwrap_or_default(),
            kebab(&vm.pairing),
            vm.owner_guardians.join("; "),
            vm.guardians.join("; "),
            vm.last_drill.map_or_else(|| "never".to_owned(), |time| time.to_string()),
            vm.volumes.first().map(|one| one.state.to_string()).unwrap_or_default(),
            vm.findings.iter().map(|one| one.code.word()).collect::<Vec<_>>().join("; "),
            next(vm),
        ];
        cells.extend(vm.can_start_at.iter().map(|one| start(one.answer).to_owned()));
        csv += &line(&cells);
    }
    csv
}

/// One line for each volume that is, or may be, encrypted.
pub fn volumes_csv(report: &AuditReport) -> String {
    let header = [
        "vm",
        "vm_id",
        "host",
        "disk",
        "volume",
        "volume_id",
        "state",
        "otherwise",
        "level",
        "proved",
        "why",
        "next",
        "exception",
    ];
    let mut csv = line(&header.map(str::to_owned));
    for vm in &report.vms {
        for volume in &vm.volumes {
            csv += &line(&[
                vm.name.clone(),
                vm.vm_id.clone(),
                vm.host.clone(),
                volume.disk.clone(),
                volume.number.map(|number| number.to_string()).unwrap_or_default(),
                volume.volume_id.clone().unwrap_or_default(),
                volume.state.to_string(),
                volume.otherwise.map(|state| state.to_string()).unwrap_or_default(),
                word(volume.level),
                volume.proved.map(|time| time.to_string()).unwrap_or_default(),
                volume.why.clone(),
                volume.next.clone(),
                volume.exception.clone().unwrap_or_default(),
            ]);
        }
    }
    csv
}

/// What to do first: for the worst volume, else for the worst finding.
fn next(vm: &AuditedVm) -> String {
    let volume = vm.volumes.iter().find(|one| one.level == AuditLevel::Finding).map(|one| &one.next);
    volume.or_else(|| vm.findings.first().map(|one| &one.next)).cloned().unwrap_or_default()
}

fn start(answer: CanStart) -> &'static str {
    match answer {
        CanStart::NoneNeeded => "needs no guardian",
        CanStart::Yes => "yes",
        CanStart::No => "no",
        CanStart::Unknown => "unknown",
    }
}

fn word(level: AuditLevel) -> String {
    kebab(&level)
}

/// A word as the JSON has it.
fn kebab(value: &impl serde::Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        _ => String::new(),
    }
}

fn line(cells: &[String]) -> String {
    let cells: Vec<String> = cells.iter().map(|cell| quoted(cell)).collect();
    cells.join(",") + "\r\n"
}

fn quoted(cell: &str) -> String {
    let is_formula = cell.starts_with(['=', '+', '-', '@', '\t', '\r']);
    let cell = if is_formula { format!("'{cell}") } else { cell.to_owned() };
    if cell.contains([',', '"', '\n', '\r']) { format!("\"{}\"", cell.replace('"', "\"\"")) } else { cell }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_quoted_and_no_formula() {
        for (cell, text) in [
            ("plain", "plain"),
            ("a,b", "\"a,b\""),
            ("say \"hi\"", "\"say \"\"hi\"\"\""),
            ("=cmd()", "'=cmd()"),
            ("@x,y", "\"'@x,y\""),
            ("two\nlines", "\"two\nlines\""),
        ] {
            assert_eq!(quoted(cell), text);
        }
    }
}
