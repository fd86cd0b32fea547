//! From facts to the report: every VM judged, circles found, exceptions that are over, counts, and what was asked to be left out.

use std::collections::BTreeMap;

use lifeboat_schema::{
    AuditCode, AuditFinding, AuditLevel, AuditReport, AuditState, AuditTotals, AuditedHost, AuditedVm,
    CertificateEntry, CompanionKind, GuardianEntry, Time, VaultId,
};

use crate::circle::{self, Node};
use crate::compromised;
use crate::facts::Facts;
use crate::policy::AuditPolicy;
use crate::truth::{Truth, is_silent, seconds_between, truths};
use crate::vm::{Judge, age};
use crate::volume::Known;

/// A fabric whose guardians are known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fabric {
    /// Its name: that of its guardian.
    pub name: String,
    /// Its certificates; those of signing keys do no harm among them.
    pub certificates: Vec<CertificateEntry>,
}

impl Fabric {
    /// The fabric of a guardian.
    pub fn of(guardian: &GuardianEntry) -> Self {
        let certificates = vec![guardian.encryption.clone(), guardian.signing.clone()];
        Self { name: guardian.name.clone(), certificates }
    }
}

/// What to list. Counts are of what is listed.
#[derive(Debug, Clone, Default)]
pub struct Only {
    /// Of this owner: its name, its id, or the name or a thumbprint of its owner guardian.
    pub owner: Option<String>,
    /// On this host, by name or writer id.
    pub host: Option<String>,
    /// This VM, by name or id.
    pub vm: Option<String>,
    /// VMs with a volume in one of these states, or one of these codes; words.
    pub states: Vec<String>,
    /// VMs whose vTPM state was last seen longer ago than that.
    pub older_than_seconds: Option<u64>,
    /// A stolen key's certificate: SHA-1 or SHA-256 thumbprint.
    pub compromised: Option<String>,
}

/// Judges everything.
pub fn audit(
    vault: &VaultId,
    facts: &Facts,
    given: &[Fabric],
    policy: &AuditPolicy,
    only: &Only,
    now: Time,
) -> AuditReport {
    let fabrics = fabrics(facts, given);
    let judge = Judge { facts, known: Known::new(facts), fabrics: &fabrics, policy, now };
    let truths = truths(facts, &policy.maximum_age, now);
    let mut vms: Vec<AuditedVm> = truths.iter().map(|truth| judge.vm(truth)).collect();
    circles(&judge, &mut vms);
    exceptions_over(&judge, &mut vms);
    let plain: BTreeMap<&str, u64> = truths
        .iter()
        .map(|truth| {
            let disks = truth.state.vm.disks.iter();
            (truth.state.vm.vm_id.as_str(), disks.map(|disk| u64::from(disk.plain)).sum())
        })
        .collect();
    let guardians: BTreeMap<&str, Vec<&GuardianEntry>> =
        truths.iter().map(|truth| (truth.state.vm.vm_id.as_str(), owners_of(facts, truth))).collect();
    vms.retain(|vm| only.takes(vm, &guardians[vm.vm_id.as_str()]));
    vms.sort_by_cached_key(|vm| {
        let worst = vm.volumes.iter().filter(|one| one.level == vm.level).map(|one| one.state).min();
        let level = std::cmp::Reverse(vm.level);
        // A volume without a secret before all else; then by what is said of the VM.
        let code = vm.findings.iter().filter(|one| one.level == vm.level).map(|one| one.code).min();
        (level, worst.is_none(), worst, code.is_none(), code, vm.name.to_lowercase(), vm.vm_id.clone())
    });
    let general = general(&judge, only);
    let mut totals = AuditTotals::default();
    totals.states.extend(AuditState::ALL.iter().map(|state| (state.word().to_owned(), 0)));
    for vm in &vms {
        totals.add(vm, plain.get(vm.vm_id.as_str()).copied().unwrap_or_default());
    }
    for finding in &general {
        add_finding(&mut totals, finding);
    }
    let compromised = only
        .compromised
        .as_ref()
        .map(|thumbprint| compromised::compromised(facts, &truths, policy, thumbprint, now));
    AuditReport {
        vault: vault.clone(),
        made: now,
        only: only.words(),
        totals,
        fabrics: fabrics.iter().map(|one| one.name.clone()).collect(),
        hosts: hosts(facts),
        vms,
        general,
        compromised,
        findings: facts.findings.clone(),
    }
}

/// Fabrics that were given, and those whose guardian metadata the vault has.
fn fabrics(facts: &Facts, given: &[Fabric]) -> Vec<Fabric> {
    let mut all: Vec<Fabric> = Vec::new();
    let metadata = facts.companions.iter().filter(|one| one.kind == CompanionKind::GuardianMetadata);
    let of_vault = metadata.filter(|one| !one.certificates.is_empty()).map(|one| Fabric {
        name: one.certificates[0].name.clone(),
        certificates: one.certificates().cloned().collect(),
    });
    for fabric in given.iter().cloned().chain(of_vault) {
        match all.iter_mut().find(|one| one.name.eq_ignore_ascii_case(&fabric.name)) {
            // One guardian in several files, or with certificates of several times.
            Some(same) => {
                for certificate in fabric.certificates {
                    if !same.certificates.contains(&certificate) {
                        same.certificates.push(certificate);
                    }
                }
            }
            None => all.push(fabric),
        }
    }
    all.sort_by_key(|one| one.name.to_lowercase());
    all
}

fn owners_of<'f>(facts: &'f Facts, truth: &Truth<'f>) -> Vec<&'f GuardianEntry> {
    let owners = truth.state.vm.addressed_to.iter().flat_map(|one| &one.owners);
    owners.filter_map(|id| facts.guardians.get(id)).collect()
}

fn circles(judge: &Judge<'_>, vms: &mut [AuditedVm]) {
    let is_not_held = |vm: &AuditedVm| {
        vm.volumes.iter().any(|one| {
            matches!(
                one.otherwise.unwrap_or(one.state),
                AuditState::Missing
                    | AuditState::Mismatched
                    | AuditState::StaleUseless
                    | AuditState::AutoUnlockOnly
            )
        })
    };
    let nodes: Vec<Node<'_>> = vms
        .iter()
        .map(|vm| Node { vm_id: &vm.vm_id, name: &vm.name, needs_elsewhere: is_not_held(vm) })
        .collect();
    let circles = circle::circles(&nodes, &judge.policy.depends_on);
    for vm in vms {
        let Some(chain) = circles.get(&vm.vm_id) else { continue };
        judge.say(
            vm,
            AuditCode::Circular,
            format!("with everything lost it never comes back: {chain}"),
            "keep a copy of what closes the circle outside of it: a mirror of the vault, a kit on paper, secrets escrowed in the vault",
        );
        judge.close(vm);
    }
}

/// Exceptions that are over are said once, on the first VM that they were for.
fn exceptions_over(judge: &Judge<'_>, vms: &mut [AuditedVm]) {
    for exception in judge.policy.exceptions.iter().filter(|one| one.until < judge.now) {
        let is_for = |vm: &&mut AuditedVm| {
            let all = judge.policy.exceptions(&vm.vm_id, &vm.name, &exception.code);
            all.into_iter().any(|one| std::ptr::eq(one, exception))
        };
        if let Some(vm) = vms.iter_mut().find(is_for) {
            judge.say(
                vm,
                AuditCode::ExceptionOver,
                format!(
                    "the exception of {} for {} ({}) ended on {}",
                    exception.owner, exception.vm, exception.code, exception.until_date
                ),
                "do what it put off, or agree on a new end with who answers for it",
            );
            judge.close(vm);
        }
    }
}

/// What is said of no VM: silent hosts, fabrics that nobody knows.
fn general(judge: &Judge<'_>, only: &Only) -> Vec<AuditFinding> {
    let mut all = Vec::new();
    let mut say = |code: AuditCode, what: String, next: &str| {
        let level = judge.policy.code(code);
        if level != AuditLevel::Good {
            all.push(AuditFinding { code, level, what, next: next.to_owned(), exception: None });
        }
    };
    let age_limit = &judge.policy.maximum_age;
    let listed = |host: &&crate::facts::HostFacts| {
        let is_it =
            |wanted: &String| host.name.eq_ignore_ascii_case(wanted) || host.writer.as_str() == wanted;
        host.is_active && only.host.as_ref().is_none_or(is_it)
    };
    for host in judge.facts.hosts.iter().filter(listed) {
        if is_silent(host, age_limit, judge.now) {
            let what = format!(
                "the host {} wrote its last snapshot {} ago",
                host.name,
                age(seconds_between(host.last_run.1, judge.now))
            );
            say(
                AuditCode::HostSilent,
                what,
                "look at its agent: `lifeboat-agent run --once` says what stands in the way",
            );
        }
    }
    for name in &judge.policy.must_start_at {
        if !judge.fabrics.iter().any(|one| one.name.eq_ignore_ascii_case(name)) {
            say(
                AuditCode::CannotStartAt,
                format!("the policy wants every VM to start at {name}, whose guardian is not known"),
                "give its metadata with --fabric, or name a folder with it (kind guardian-metadata) in agent.toml",
            );
        }
    }
    all
}

fn hosts(facts: &Facts) -> Vec<AuditedHost> {
    let mut hosts: Vec<AuditedHost> = facts
        .hosts
        .iter()
        .enumerate()
        .map(|(index, host)| AuditedHost {
            name: host.name.clone(),
            writer: host.writer.clone(),
            last_run: host.last_run.1,
            vms: facts.states.iter().filter(|state| state.host == index && state.carried.is_none()).count()
                as u64,
        })
        .collect();
    hosts.sort_by_key(|host| (host.name.to_lowercase(), host.writer.clone()));
    hosts
}

fn add_finding(totals: &mut AuditTotals, finding: &AuditFinding) {
    *totals.codes.entry(finding.code.word().to_owned()).or_default() += 1;
    add_level(totals, finding.level);
}

fn add_level(totals: &mut AuditTotals, level: AuditLevel) {
    match level {
        AuditLevel::Finding => totals.counted += 1,
        AuditLevel::Excepted => totals.excepted += 1,
        AuditLevel::Good | AuditLevel::Note => {}
    }
}

trait Count {
    fn add(&mut self, vm: &AuditedVm, plain: u64);
}

impl Count for AuditTotals {
    fn add(&mut self, vm: &AuditedVm, plain: u64) {
        self.vms += 1;
        self.vms_good += u64::from(vm.level < AuditLevel::Finding);
        self.volumes += vm.volumes.len() as u64;
        self.volumes_plain += plain;
        for volume in &vm.volumes {
            *self.states.entry(volume.state.word().to_owned()).or_default() += 1;
            add_level(self, volume.level);
        }
        vm.findings.iter().for_each(|finding| add_finding(self, finding));
    }
}

impl Only {
    fn takes(&self, vm: &AuditedVm, owners: &[&GuardianEntry]) -> bool {
        let is = |wanted: &String, text: &str| wanted.to_lowercase() == text.to_lowercase();
        let owner = self.owner.as_ref().is_none_or(|wanted| {
            let digits = digits(wanted);
            let is_guardian = |one: &&GuardianEntry| {
                is(wanted, &one.name)
                    || [&one.signing, &one.encryption].into_iter().any(|of| is_thumbprint(&digits, of))
            };
            is(wanted, vm.owner.as_str())
                || vm.owner_name.as_ref().is_some_and(|name| is(wanted, name))
                || owners.iter().any(is_guardian)
        });
        let host = self.host.as_ref().is_none_or(|wanted| is(wanted, &vm.host));
        let id = |wanted: &String| wanted.trim_matches(['{', '}']).to_lowercase() == vm.vm_id;
        let name = self.vm.as_ref().is_none_or(|wanted| id(wanted) || is(wanted, &vm.name));
        let has_word = |word: &String| {
            vm.volumes.iter().any(|one| one.state.word().eq_ignore_ascii_case(word))
                || vm.findings.iter().any(|one| one.code.word().eq_ignore_ascii_case(word))
        };
        let state = self.states.is_empty() || self.states.iter().any(has_word);
        let older = self
            .older_than_seconds
            .is_none_or(|limit| vm.vtpm_age_seconds.is_some_and(|seconds| seconds > limit));
        owner && host && name && state && older
    }

    fn words(&self) -> Vec<String> {
        let option =
            |name: &str, value: &Option<String>| value.as_ref().map(|value| format!("{name} {value}"));
        let states = self.states.iter().map(|word| format!("--state {word}"));
        let older = self.older_than_seconds.map(|seconds| format!("--older-than {}", age(seconds)));
        let named = [("--owner", &self.owner), ("--host", &self.host), ("--vm", &self.vm)];
        named.iter().filter_map(|(name, value)| option(name, value)).chain(states).chain(older).collect()
    }
}

/// A thumbprint without what people put between its digits.
pub(crate) fn digits(thumbprint: &str) -> String {
    thumbprint.chars().filter(char::is_ascii_hexdigit).collect::<String>().to_lowercase()
}

/// Whether these digits are a thumbprint of a certificate.
pub(crate) fn is_thumbprint(digits: &str, certificate: &CertificateEntry) -> bool {
    certificate.sha1.eq_ignore_ascii_case(digits) || certificate.sha256.to_string() == digits
}
