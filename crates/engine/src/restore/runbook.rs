//! The PowerShell script and the runbook that stand beside restored files.
//!
//! Text from a snapshot is data: in the script it stands only in single-quoted literals, and lines of the
//! runbook cannot break out of their place.

use std::fmt::Write as _;

use lifeboat_schema::{ArtefactKind, Grade, RestorePlan};

/// A PowerShell literal: single quotes (also the typographic ones, which PowerShell takes for them) doubled,
/// control characters replaced.
fn literal(text: &str) -> String {
    let mut quoted = String::from("'");
    for c in text.chars() {
        match c {
            '\'' | '\u{2018}' | '\u{2019}' | '\u{201a}' | '\u{201b}' => {
                quoted.push(c);
                quoted.push(c);
            }
            c if c.is_control() => quoted.push('\u{fffd}'),
            c => quoted.push(c),
        }
    }
    quoted.push('\'');
    quoted
}

/// Text for one line of Markdown.
fn line(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            c if c.is_control() => '\u{fffd}',
            '`' => '\'',
            c => c,
        })
        .collect()
}

/// The script: shows what it would do, and acts only when told to.
pub(super) fn script(plan: &RestorePlan, folder: &str) -> String {
    let configuration = plan.files.iter().find(|file| file.kind == ArtefactKind::Configuration);
    let configuration = configuration.map(|file| file.path.replace('/', "\\")).unwrap_or_default();
    let mut text = String::new();
    let mut put = |line: &str| {
        text.push_str(line);
        text.push_str("\r\n");
    };
    put("#Requires -RunAsAdministrator");
    put("#Requires -Modules Hyper-V");
    put(
        "# Registers a VM whose files `lifeboat restore` wrote. Made by Lifeboat; never run on a real Hyper-V host yet.",
    );
    put("# Without -Register it only compares and changes nothing.");
    put("[CmdletBinding()]");
    put("param(");
    put("    # Register the VM in place after the comparison.");
    put("    [switch] $Register,");
    put(
        "    # Where each disk lies now: old path = new path. Disks that are not named are looked for at their old path.",
    );
    put("    [hashtable] $Disk = @{},");
    put("    # PFX files of local guardians to import first (local mode only).");
    put("    [string[]] $GuardianPfx = @()");
    put(")");
    put("Set-StrictMode -Version Latest");
    put("$ErrorActionPreference = 'Stop'");
    put(&format!("$folder = Join-Path $PSScriptRoot {}", literal(folder)));
    put(&format!("$configuration = Join-Path $folder {}", literal(&configuration)));
    put(&format!("$id = {}", literal(&plan.vm.vm_id)));
    put("");
    put("# Two copies of one vTPM must not run: stop if the VM is registered here already.");
    put(
        "if (Get-VM | Where-Object { $_.Id -eq [guid] $id }) { throw \"The VM $id is registered on this host. If its files are whole, keep them: this restore would put an older vTPM state in their place.\" }",
    );
    put("");
    put("# Local guardians first, so that the VM key protector finds its key.");
    put("foreach ($pfx in $GuardianPfx) {");
    put("    $store = 'Cert:\\LocalMachine\\Shielded VM Local Certificates'");
    put("    if (-not (Test-Path $store)) { New-Item $store | Out-Null }");
    put(
        "    Import-PfxCertificate -FilePath $pfx -CertStoreLocation $store -Password (Read-Host -AsSecureString \"Password of $pfx\") | Out-Null",
    );
    put("}");
    put("");
    put("$report = Compare-VM -Path $configuration -Register");
    put("$report.Incompatibilities | Format-Table -AutoSize MessageId, Message");
    put("");
    put("# Disks: Lifeboat keeps none. Attach each from your disk backup of the same time.");
    put("$missing = @()");
    put("$expected = @(");
    for (index, disk) in plan.vm.disks.iter().enumerate() {
        let comma = if index + 1 == plan.vm.disks.len() { "" } else { "," };
        put(&format!(
            "    @{{ Controller = {}; Number = {}; Location = {}; Path = {} }}{comma}",
            literal(&disk.controller.to_uppercase()),
            disk.controller_number,
            disk.drive,
            literal(&disk.path)
        ));
    }
    put(")");
    put("foreach ($wanted in $expected) {");
    put("    $path = if ($Disk.ContainsKey($wanted.Path)) { $Disk[$wanted.Path] } else { $wanted.Path }");
    put("    if (-not (Test-Path -LiteralPath $path)) { $missing += $wanted.Path; continue }");
    put(
        "    $drive = $report.VM.HardDrives | Where-Object { $_.ControllerType -eq $wanted.Controller -and $_.ControllerNumber -eq $wanted.Number -and $_.ControllerLocation -eq $wanted.Location }",
    );
    put("    if ($drive -and $drive.Path -ne $path) { $drive | Set-VMHardDiskDrive -Path $path }");
    put("}");
    put(
        "if ($missing) { Write-Warning (\"Not found, give them with -Disk @{ 'old path' = 'new path' }: \" + ($missing -join ', ')) }",
    );
    put("");
    put(
        "if (-not $Register) { Write-Host 'Compared only. Run again with -Register when nothing above stands in the way.'; return }",
    );
    put("if ($missing) { throw 'Disks are missing; nothing was registered.' }");
    put("$report = Compare-VM -CompatibilityReport $report");
    put(
        "if ($report.Incompatibilities) { throw 'The host still finds the VM incompatible, see above; nothing was registered.' }",
    );
    if !plan.vm.checkpoints.is_empty() {
        put(&format!(
            "# The VM has {} checkpoint(s); their configuration lies in Snapshots below the folder and is registered with it. Each needs its own AVHDX.",
            plan.vm.checkpoints.len()
        ));
        put("$vm = Import-VM -CompatibilityReport $report");
        put("Get-VMSnapshot -VM $vm | Format-Table Name, Id, CreationTime");
    } else {
        put("$vm = Import-VM -CompatibilityReport $report");
    }
    put("# Never call Set-VMKeyProtector now: a new VM key protector does not open the restored vTPM state.");
    put(
        "Write-Host \"Registered $($vm.Name). Start it with Start-VM; if it asks for a BitLocker recovery password, see the runbook.\"",
    );
    text
}

/// The runbook: what to do in which order, for a person at three in the morning.
pub(super) fn runbook(plan: &RestorePlan, folder: &str) -> String {
    let mut text = String::new();
    let (vm, snapshot) = (&plan.vm, &plan.snapshot);
    // Writing to a String cannot fail.
    let _ = writeln!(text, "# Bring back {}\n", line(&vm.name));
    let _ = writeln!(
        text,
        "VM id {}, captured {} on {} (record {} of {}).",
        line(&vm.vm_id),
        snapshot.captured,
        line(&snapshot.host),
        snapshot.seq,
        snapshot.writer
    );
    let _ = writeln!(text, "This snapshot was chosen because {}.\n", line(&plan.chosen_because));
    let _ = writeln!(text, "## 1. Before anything else\n");
    for (number, first) in plan.first.iter().enumerate() {
        let _ = writeln!(text, "{}. {}", number + 1, line(first));
    }
    let _ = writeln!(text, "\n## 2. What must come from elsewhere\n");
    if plan.needed_from_elsewhere.is_empty() {
        let _ = writeln!(text, "Nothing: the configuration names no disk.");
    }
    for needed in &plan.needed_from_elsewhere {
        let _ = writeln!(text, "- {}", line(needed));
    }
    let _ = writeln!(text, "\n## 3. Register the VM\n");
    let _ = writeln!(
        text,
        "Copy the folder `{}` and the script `{}.ps1` to the host, then, as administrator:\n",
        line(folder),
        line(folder)
    );
    let _ = writeln!(
        text,
        "    & '.\\{}.ps1'             # compares, changes nothing",
        line(folder).replace('\'', "''")
    );
    let _ = writeln!(
        text,
        "    & '.\\{}.ps1' -Register   # registers the VM in place",
        line(folder).replace('\'', "''")
    );
    let _ = writeln!(
        text,
        "\nIn local mode give the exported guardian certificates with `-GuardianPfx`. Moved disks: `-Disk @{{ 'old path' = 'new path' }}`."
    );
    let _ = writeln!(
        text,
        "\nDo not make a new VM key protector (Set-VMKeyProtector -NewLocalKeyProtector or the like): it orphans the vTPM state for good."
    );
    let _ = writeln!(text, "\n## 4. What to expect\n");
    for statement in &plan.statements {
        let grade = match statement.grade {
            Grade::Known => "known",
            Grade::Likely => "likely",
            Grade::UnknownHere => "unknown here",
        };
        let _ = writeln!(text, "- ({grade}) {}", line(&statement.text));
    }
    let _ = writeln!(text, "\n## 5. If the disk asks for its recovery password\n");
    let _ = writeln!(
        text,
        "Note the protector id on the screen and look for it in AD DS, Entra ID or wherever recovery passwords are kept. After it boots, in the guest: suspend and resume BitLocker once, so that it is sealed to this vTPM."
    );
    let _ = writeln!(text, "\n## Files\n");
    let _ = writeln!(text, "| file | bytes | BLAKE3 |\n|---|---|---|");
    for file in &plan.files {
        let _ = writeln!(
            text,
            "| {} | {} | `{}` |",
            line(&file.path).replace('|', "\\|"),
            file.size,
            file.digest
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_a_snapshot_cannot_leave_its_literal() {
        assert_eq!(literal("it's"), "'it''s'");
        assert_eq!(literal("a\u{2019}; rm \n"), "'a\u{2019}\u{2019}; rm \u{fffd}'");
        assert_eq!(line("a`b\nc"), "a'b\u{fffd}c");
    }
}
