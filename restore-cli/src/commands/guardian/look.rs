//! `lifeboat guardian inspect`.

use std::io::IsTerminal as _;
use std::path::PathBuf;

use lifeboat_guardian::{GuardianFile, PfxCertificate, inspect};
use lifeboat_schema::{
    AlgorithmEvidence, CheckResult, Exit, GuardianFileForm, GuardianInspectReport, SignatureState,
};

use super::super::{Context, now};
use super::keys::{open_pfx, read};
use crate::error::CliError;
use crate::output;

/// Says what a file of an owner or guardian is.
#[derive(clap::Args)]
pub(crate) struct Inspect {
    /// VM key protector (raw, decimal numbers or base64), guardian metadata, certificate, PFX or private key.
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

pub(super) fn run(context: &Context, arguments: &Inspect) -> Result<Exit, CliError> {
    let bytes = read(&arguments.file)?;
    // A PFX tells nothing without its password; without one, that it is a PFX is the answer.
    let can_ask = context.kit.passphrases.is_given() || std::io::stdin().is_terminal();
    let pairs = match GuardianFile::read(&bytes) {
        GuardianFile::Pfx if can_ask => Some(open_pfx(&arguments.file, &bytes, &context.kit.passphrases)?),
        _ => None,
    };
    let pfx: Option<Vec<PfxCertificate<'_>>> = pairs.as_ref().map(|pairs| {
        pairs
            .iter()
            .map(|pair| PfxCertificate {
                certificate: &pair.certificate,
                friendly_name: pair.friendly_name.as_deref(),
            })
            .collect()
    });
    let report = inspect(&arguments.file.display().to_string(), &bytes, pfx.as_deref(), now());
    if context.json {
        output::json(&report);
    } else {
        print(&report, pfx.is_some());
    }
    if report.form == GuardianFileForm::Unknown && report.findings.is_empty() {
        return Ok(Exit::Usage);
    }
    Ok(Exit::of(&report.findings))
}

pub(super) fn print(report: &GuardianInspectReport, is_open: bool) {
    let what = match report.form {
        GuardianFileForm::KeyProtector => "a VM key protector",
        GuardianFileForm::NoKeyProtector => "the value that says that a VM has no VM key protector",
        GuardianFileForm::Damaged => "damaged",
        GuardianFileForm::GuardianMetadata => "guardian metadata: public certificates of a guardian",
        GuardianFileForm::Certificates => "public certificates",
        GuardianFileForm::Pfx => "a PFX: private keys with their certificates",
        GuardianFileForm::PrivateKey => "a private key",
        GuardianFileForm::Unknown => "nothing that is known here",
    };
    let saved = report.saved_as.as_deref().map(|form| format!(", saved as {form}")).unwrap_or_default();
    output::line(format!("{}: {what}{saved}", output::plain(&report.file)));
    if let Some(problem) = &report.problem {
        output::line(format!("  {}", output::plain(problem)));
    }
    if let Some(addressed_to) = &report.addressed_to {
        for (part, guardians) in [("owner", &addressed_to.owners), ("guardian", &addressed_to.guardians)] {
            for guardian in guardians {
                let host = guardian.host.as_deref().map(|host| format!(" (made on {})", output::plain(host)));
                output::line(format!(
                    "  {part}: {}{}",
                    output::plain(&guardian.name),
                    host.unwrap_or_default()
                ));
            }
        }
        if addressed_to.guardians.is_empty() {
            output::line("  guardian: none: the owner alone can open it (local mode)");
        }
        let state = match addressed_to.signatures {
            SignatureState::Valid => "all verify",
            SignatureState::ValidAsAssumed => "all verify, under algorithms that are assumed",
            SignatureState::NotChecked => "not all could be checked",
            SignatureState::Invalid => "NOT ALL VERIFY",
        };
        output::line(format!("  signatures that need no key: {state}"));
    }
    for one in &report.certificates {
        output::line(format!("  {}: {}", output::plain(&one.place), output::plain(&one.subject)));
        output::line(format!("    SHA-1   {}", one.certificate.sha1));
        output::line(format!("    SHA-256 {}", one.certificate.sha256));
        output::line(format!("    valid {} to {}", one.certificate.not_before, one.certificate.not_after));
        if one.has_private_key {
            output::line("    with its private key");
        }
    }
    for algorithm in &report.algorithms {
        let evidence = match algorithm.evidence {
            AlgorithmEvidence::Confirmed => "known",
            AlgorithmEvidence::Assumed => "known, its use here is assumed",
            AlgorithmEvidence::Synthetic => "of synthetic documents only",
            AlgorithmEvidence::Unknown => "UNKNOWN",
        };
        output::line(format!("  {} algorithm {}: {evidence}", algorithm.role, output::plain(&algorithm.uri)));
    }
    for check in &report.checks {
        let result = match check.result {
            CheckResult::Valid => "valid",
            CheckResult::ValidAsAssumed => "valid, as assumed",
            CheckResult::Invalid => "INVALID",
            CheckResult::NotChecked => "not checked",
        };
        let why = check.why.as_deref().map(|why| format!(": {}", output::plain(why))).unwrap_or_default();
        output::line(format!("  signature of {}: {result}{why}", output::plain(&check.what)));
    }
    if report.form == GuardianFileForm::Pfx && !is_open {
        output::line("  its password was not given, so its certificates are not shown (--passphrase-file)");
    } else if report.private_keys > 0 {
        output::line(format!("  private keys in it: {} (never shown)", report.private_keys));
    }
    output::findings(&report.findings);
}
