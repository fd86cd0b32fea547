//! The PowerShell script and the runbook that stand beside restored files.
//!
//! Text from a snapshot is data: in the script, which is ASCII, it stands only in single-quoted literals, and
//! lines of the runbook cannot break out of their place.

use std::io::{self, Write};

use lifeboat_schema::{ArtefactKind, RestorePlan, Verdict};

/// A PowerShell literal of ASCII alone, of which nothing but the text can come.
///
/// Windows PowerShell reads a script without byte order mark in the system's code page, where bytes of one
/// character may be a typographic quote, which it takes for a single one. So every other character stands as
/// its number, in UTF-16 as PowerShell has it, and a control character as U+FFFD.
fn literal(text: &str) -> String {
    let mut quoted = String::from("'");
    let mut numbered = false;
    for c in text.chars() {
        match if c.is_control() { char::REPLACEMENT_CHARACTER } else { c } {
            '\'' => quoted.push_str("''"),
            c if c.is_ascii() => quoted.push(c),
            c => {
                numbered = true;
                for unit in c.encode_utf16(&mut [0; 2]) {
                    quoted.push_str(&format!("'+[char]0x{unit:04X}+'"));
                }
            }
        }
    }
    quoted.push('\'');
    if numbered { format!("({quoted})") } else { quoted }
}

/// Literals of a list.
fn literals<'a>(texts: impl Iterator<Item = &'a str>) -> String {
    texts.map(literal).collect::<Vec<_>>().join(", ")
}

/// Text between single quotes of a line that a person copies to a prompt, where it stands as it is.
pub(super) fn within_quotes(text: &str) -> String {
    let mut doubled = String::new();
    for c in line(text).chars() {
        doubled.push(c);
        if matches!(c, '\'' | '\u{2018}' | '\u{2019}' | '\u{201a}' | '\u{201b}') {
            doubled.push(c);
        }
    }
    doubled
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

/// Lines of the script before the table of VMs.
const SCRIPT_HEAD: &str = r##"#Requires -RunAsAdministrator
#Requires -Modules Hyper-V
# Registers VMs whose files `lifeboat restore` wrote. Made by Lifeboat; never run on a real Hyper-V host yet.
# Without -Register it only compares and changes nothing.
[CmdletBinding()]
param(
    # Which VMs, by name or id; wildcards are understood. Needed if there are several.
    [string[]] $Name = @(),
    # Register each VM in place after the comparison.
    [switch] $Register,
    # Where each disk lies now: 'old path' = 'new path', or for one VM of several '<VM id>|<old path>' = 'new path'.
    # Disks that are not named are looked for at their old path.
    [hashtable] $Disk = @{},
    # PFX files of local guardians (local mode only), imported first with -Register.
    [string[]] $GuardianPfx = @()
)
Set-StrictMode -Version Latest
$ErrorActionPreference = 'Stop'

$vms = @("##;

/// Lines of the script behind the table of VMs.
const SCRIPT_TAIL: &str = r##")

if ($vms.Count -gt 1 -and -not $Name) {
    $vms | ForEach-Object { Write-Host ('{0}  {1}' -f $_.Id, $_.Name) }
    throw 'Say which with -Name: a name, an id, or * for all.'
}
$chosen = @($vms | Where-Object { $vm = $_; -not $Name -or @($Name | Where-Object { $vm.Name -like $_ -or $vm.Id -like $_ }).Count })
if (-not $chosen) { throw 'No VM here has such a name or id.' }

function Get-DiskPath($wanted, $old) {
    foreach ($key in "$($wanted.Id)|$($old.Path)", $old.Path) {
        if ($Disk.ContainsKey($key)) { return [string] $Disk[$key] }
    }
    return $old.Path
}

# VMs of two hosts may name their disks alike; one disk in two VMs would be written by both.
$users = @{}
foreach ($wanted in $chosen) {
    foreach ($old in $wanted.Disks) {
        $path = Get-DiskPath $wanted $old
        $place = $path.Replace('/', '\')
        if ($users.ContainsKey($place) -and $users[$place].Id -ne $wanted.Id) {
            throw "Two VMs would get the disk ${path}: $($users[$place].Name) ($($users[$place].Id)) and $($wanted.Name) ($($wanted.Id)). Give each its own with -Disk @{ '<VM id>|<old path>' = 'new path' }; if they do share it, choose one at a time with -Name."
        }
        $users[$place] = $wanted
    }
}

# Local guardians first, so that a VM key protector finds its key.
if ($GuardianPfx -and -not $Register) {
    Write-Host 'The certificates of -GuardianPfx are imported with -Register only. Until they are here, the comparison may find that this host cannot open the VM key protector.'
}
if ($Register) {
    foreach ($pfx in $GuardianPfx) {
        $store = 'Cert:\LocalMachine\Shielded VM Local Certificates'
        if (-not (Test-Path $store)) { New-Item $store | Out-Null }
        Import-PfxCertificate -FilePath $pfx -CertStoreLocation $store -Password (Read-Host -AsSecureString "Password of $pfx") | Out-Null
    }
}

function Register-One($wanted) {
    $id = $wanted.Id
    # Two copies of one vTPM must not run: stop if the VM is registered here already.
    if (Get-VM | Where-Object { $_.Id -eq [guid] $id }) {
        throw "The VM $id is registered on this host. If its files are whole, keep them: this restore would put an older vTPM state in their place."
    }
    # A VM of local mode starts only where its guardian's keys are; a host in HGS mode ignores them.
    $store = 'Cert:\LocalMachine\Shielded VM Local Certificates'
    $absent = @($wanted.LocalGuardian | Where-Object { $thumbprint = $_; -not (Get-ChildItem $store -ErrorAction SilentlyContinue | Where-Object { $_.Thumbprint -eq $thumbprint -and $_.HasPrivateKey }) })
    if ($absent) { Write-Warning ("$($wanted.Name) was in local mode, and this host has no private key of: " + ($absent -join ', ') + '. Give the PFX files with -GuardianPfx; without them its vTPM does not open.') }
    $configuration = Join-Path (Join-Path $PSScriptRoot $wanted.Folder) $wanted.Configuration
    $report = Compare-VM -Path $configuration -Register
    $report.Incompatibilities | Format-Table -AutoSize MessageId, Message | Out-Host

    # Disks: Lifeboat keeps none. Attach each from your disk backup of the same time.
    $missing = @()
    foreach ($old in $wanted.Disks) {
        $path = Get-DiskPath $wanted $old
        if (-not (Test-Path -LiteralPath $path)) { $missing += $old.Path; continue }
        # A comparison leaves disks where the configuration has them.
        if (-not $Register) { continue }
        $drive = $report.VM.HardDrives | Where-Object { $_.ControllerType -eq $old.Controller -and $_.ControllerNumber -eq $old.Number -and $_.ControllerLocation -eq $old.Location }
        if ($drive -and $drive.Path -ne $path) { $drive | Set-VMHardDiskDrive -Path $path }
    }
    if ($missing) { Write-Warning ("Not found, give them with -Disk @{ 'old path' = 'new path' }: " + ($missing -join ', ')) }
    if (-not $Register) { Write-Host "$($wanted.Name): compared only. Disks that lie elsewhere now, and guardians that are not here yet, may show above; -Register brings them first and compares again. Run again with -Register when nothing else stands in the way."; return }
    if ($missing) { throw "Disks of $($wanted.Name) are missing; it was not registered." }
    $report = Compare-VM -CompatibilityReport $report
    if ($report.Incompatibilities) { throw "The host still finds $($wanted.Name) incompatible, see above; it was not registered." }
    $vm = Import-VM -CompatibilityReport $report
    # Configurations of checkpoints lie in Snapshots below the folder and are registered with it. Each needs its own AVHDX.
    if ($wanted.Checkpoints) {
        $came = @(Get-VMSnapshot -VM $vm)
        $came | Format-Table Name, Id, CreationTime | Out-Host
        $absent = @($wanted.Checkpoints | Where-Object { $id = [guid] $_; -not ($came | Where-Object { $_.Id -eq $id }) })
        if ($absent) { Write-Warning ("Checkpoints of $($wanted.Name) that were not registered, though their files are in Snapshots: " + ($absent -join ', ') + '. Look for their AVHDX files before you start it.') }
    }
    # Never call Set-VMKeyProtector now: a new VM key protector does not open the restored vTPM state.
    Write-Host "Registered $($vm.Name). Start it with Start-VM; if it asks for a BitLocker recovery password, see the runbook."
}

$failed = @()
foreach ($wanted in $chosen) {
    try { Register-One $wanted } catch { $failed += $wanted.Name; Write-Warning "$($wanted.Name): $_" }
}
if ($failed) { throw ('Not done, see above: ' + ($failed -join ', ')) }
"##;

/// The script: it shows what it would do, and acts only when told to.
pub(super) struct Script<W> {
    out: W,
    vms: usize,
}

impl<W: Write> Script<W> {
    pub(super) fn begin(mut out: W) -> io::Result<Self> {
        write_lines(&mut out, SCRIPT_HEAD)?;
        Ok(Self { out, vms: 0 })
    }

    /// Adds a VM whose files lie in `folder` beside the script.
    pub(super) fn vm(&mut self, plan: &RestorePlan, folder: &str) -> io::Result<()> {
        let Self { out, vms } = self;
        let configuration = plan.files.iter().find(|file| file.kind == ArtefactKind::Configuration);
        let configuration = configuration.map(|file| file.path.replace('/', "\\")).unwrap_or_default();
        write!(
            out,
            "{}    @{{ Name = {}; Id = {}; Folder = {}; Configuration = {}; Checkpoints = @({}); LocalGuardian = @({}); Disks = @(",
            if *vms == 0 { "" } else { ",\r\n" },
            literal(&plan.vm.name),
            literal(&plan.vm.vm_id),
            literal(folder),
            literal(&configuration),
            literals(plan.vm.checkpoints.iter().map(|checkpoint| checkpoint.id.as_str())),
            literals(plan.local_guardians.iter().map(String::as_str)),
        )?;
        for (index, disk) in plan.vm.disks.iter().enumerate() {
            write!(
                out,
                "{}\r\n        @{{ Controller = {}; Number = {}; Location = {}; Path = {} }}",
                if index == 0 { "" } else { "," },
                literal(&disk.controller.to_uppercase()),
                disk.controller_number,
                disk.drive,
                literal(&disk.path)
            )?;
        }
        *vms += 1;
        write!(out, ") }}")
    }

    pub(super) fn finish(mut self) -> io::Result<()> {
        write!(self.out, "\r\n")?;
        write_lines(&mut self.out, SCRIPT_TAIL)?;
        self.out.flush()
    }
}

fn write_lines(out: &mut impl Write, text: &str) -> io::Result<()> {
    text.lines().try_for_each(|line| write!(out, "{line}\r\n"))
}

/// The runbook: what to do in which order, for a person at three in the morning.
pub(super) struct Runbook<W> {
    out: W,
    /// The script's file name.
    script: String,
    alone: bool,
}

impl<W: Write> Runbook<W> {
    /// Begins the runbook of `vms` VMs.
    pub(super) fn begin(mut out: W, script: String, vms: usize) -> io::Result<Self> {
        let alone = vms == 1;
        if !alone {
            writeln!(out, "# Bring back {vms} VMs\n")?;
            writeln!(
                out,
                "Each VM has its folder, and a chapter of its own below. For each, in this order:\n"
            )?;
            writeln!(
                out,
                "1. What its chapter says to do first: are its original files whole? Then register those."
            )?;
            writeln!(out, "2. Bring its disks from your disk backup of the same time.")?;
            writeln!(out, "3. Register it, and read what to expect before you start it.\n")?;
            write_registering(&mut out, "Register", "the folders", &script, " -Name 'web*'")?;
            write_prompted(&mut out, "If a disk asks for its recovery password")?;
        }
        Ok(Self { out, script, alone })
    }

    /// Adds a VM whose files lie in `folder` beside the runbook.
    pub(super) fn vm(&mut self, plan: &RestorePlan, folder: &str) -> io::Result<()> {
        let Self { out, script, alone } = self;
        if *alone {
            writeln!(out, "# Bring back {}\n", line(&plan.vm.name))?;
            write_origin(out, plan)?;
            writeln!(out, "## 1. Before anything else\n")?;
            write_first(out, plan)?;
            writeln!(out, "\n## 2. What must come from elsewhere\n")?;
            write_needed(out, plan)?;
            writeln!(out)?;
            write_registering(
                out,
                "3. Register the VM",
                &format!("the folder `{}`", line(folder)),
                script,
                "",
            )?;
            writeln!(out, "\n## 4. What to expect\n")?;
            write_statements(out, plan)?;
            write_ways(out, plan)?;
            write_prompted(out, "5. If the disk asks for its recovery password")?;
            writeln!(out, "\n## Files\n")?;
        } else {
            writeln!(out, "\n## {}\n", line(&plan.vm.name))?;
            writeln!(out, "Folder `{}`.", line(folder))?;
            write_origin(out, plan)?;
            writeln!(out, "First:\n")?;
            write_first(out, plan)?;
            writeln!(out, "\nFrom elsewhere:\n")?;
            write_needed(out, plan)?;
            writeln!(out, "\nWhat to expect:\n")?;
            write_statements(out, plan)?;
            write_ways(out, plan)?;
            writeln!(out)?;
        }
        write_files(out, plan)
    }

    pub(super) fn finish(mut self) -> io::Result<()> {
        self.out.flush()
    }
}

fn write_origin(out: &mut impl Write, plan: &RestorePlan) -> io::Result<()> {
    let (vm, snapshot) = (&plan.vm, &plan.snapshot);
    writeln!(
        out,
        "VM id {}, captured {} on {} (record {} of {}).",
        line(&vm.vm_id),
        snapshot.captured,
        line(&snapshot.host),
        snapshot.seq,
        snapshot.writer
    )?;
    writeln!(out, "This snapshot was chosen because {}.\n", line(&plan.chosen_because))?;
    let verdict = &plan.verdict;
    writeln!(out, "**{}** ({})", line(&verdict.text), verdict.grade.word())?;
    for obstacle in &verdict.obstacles {
        writeln!(out, "- in the way: {}", line(obstacle))?;
    }
    writeln!(out, "\nNext: {}\n", line(&verdict.next_text))
}

fn write_ways(out: &mut impl Write, plan: &RestorePlan) -> io::Result<()> {
    if plan.ways.is_empty() {
        return Ok(());
    }
    let why = match plan.verdict.verdict {
        Verdict::OnlyWithOwnerKeys => "its owner's keys open it",
        _ => "if the owner's keys can be had, they open it",
    };
    writeln!(
        out,
        "\nNo guardian of the target opens the VM key protector; {why}, in one of these ways. None was tried on Hyper-V."
    )?;
    for way in &plan.ways {
        writeln!(out, "\n**{}** ({})\n", line(&way.title), way.grade.word())?;
        for (number, step) in (1..).zip(&way.steps) {
            writeln!(out, "{number}. {}", line(step))?;
        }
    }
    Ok(())
}

fn write_first(out: &mut impl Write, plan: &RestorePlan) -> io::Result<()> {
    plan.first
        .iter()
        .enumerate()
        .try_for_each(|(number, first)| writeln!(out, "{}. {}", number + 1, line(first)))
}

fn write_needed(out: &mut impl Write, plan: &RestorePlan) -> io::Result<()> {
    if plan.needed_from_elsewhere.is_empty() {
        writeln!(out, "Nothing: the configuration names no disk.")?;
    }
    plan.needed_from_elsewhere.iter().try_for_each(|needed| writeln!(out, "- {}", line(needed)))
}

fn write_registering(
    out: &mut impl Write,
    heading: &str,
    what: &str,
    script: &str,
    choice: &str,
) -> io::Result<()> {
    let call = within_quotes(script);
    writeln!(out, "## {heading}\n")?;
    writeln!(out, "Copy {what} and the script `{}` to the host, then, as administrator:\n", line(script))?;
    writeln!(out, "    & '.\\{call}'{choice}             # compares, changes nothing")?;
    writeln!(out, "    & '.\\{call}'{choice} -Register   # registers in place")?;
    writeln!(
        out,
        "\nIn local mode give the exported guardian certificates with `-GuardianPfx`. Moved disks: `-Disk @{{ 'old path' = 'new path' }}`; where two VMs name their disks alike, `-Disk @{{ '<VM id>|<old path>' = 'new path' }}`."
    )?;
    writeln!(
        out,
        "\nDo not make a new VM key protector (Set-VMKeyProtector -NewLocalKeyProtector or the like): it orphans the vTPM state for good."
    )
}

fn write_statements(out: &mut impl Write, plan: &RestorePlan) -> io::Result<()> {
    plan.statements
        .iter()
        .try_for_each(|statement| writeln!(out, "- ({}) {}", statement.grade.word(), line(&statement.text)))
}

fn write_prompted(out: &mut impl Write, heading: &str) -> io::Result<()> {
    writeln!(out, "\n## {heading}\n")?;
    writeln!(
        out,
        "Note the protector id on the screen and look for it in the vault (`lifeboat escrow reveal ID --reason TEXT`), AD DS, Entra ID or wherever recovery passwords are kept. After it boots, in the guest: suspend and resume BitLocker once, so that it is sealed to this vTPM."
    )
}

fn write_files(out: &mut impl Write, plan: &RestorePlan) -> io::Result<()> {
    writeln!(out, "| file | bytes | BLAKE3 |\n|---|---|---|")?;
    plan.files.iter().try_for_each(|file| {
        writeln!(out, "| {} | {} | `{}` |", line(&file.path).replace('|', "\\|"), file.size, file.digest)
    })
}

#[cfg(test)]
mod tests;
