//! `lifeboat guardian grant` and `revoke`: a new VM key protector with the owner's keys. Experimental.

use std::path::{Path, PathBuf};

use getrandom::SysRng;
use lifeboat_guardian::{GuardianFile, addressees, algorithm_evidence};
use lifeboat_key_protector::rand_core::UnwrapErr;
use lifeboat_key_protector::{
    AlgorithmRegistry, Certificate, Error, Evidence, GuardianMetadata, KeyProtector, OwnerKeys, WrappingId,
};
use lifeboat_schema::{Digest, Exit, GuardianChangeReport};

use super::super::{Context, write_private};
use super::keys::{owner_keys, read};
use crate::commands::is_there;
use crate::error::CliError;
use crate::output;
use crate::shell;

/// Adds a guardian to a VM key protector. EXPERIMENTAL: what it writes was never shown to Windows.
///
/// The supported way is Grant-HgsKeyProtectorAccess on a Windows host. This one opens the transport key with the owner's
/// keys, lets it verify its own signature, and writes a new file; nothing is overwritten. The owner of a VM key protector
/// can never be changed, and a new one made for the same VM loses its vTPM.
#[derive(clap::Args)]
pub(crate) struct Grant {
    /// Guardian metadata of the fabric that is to start the VM (metadata.xml of its HGS).
    #[arg(long, value_name = "XML")]
    guardian: PathBuf,
    #[command(flatten)]
    change: Change,
}

/// Drops a guardian from a VM key protector. EXPERIMENTAL: what it writes was never shown to Windows.
///
/// The supported way is Revoke-HgsKeyProtectorAccess. Older VM key protectors, in backups too, keep working for the
/// guardian: revoking takes nothing back that it has.
#[derive(clap::Args)]
pub(crate) struct Revoke {
    /// SHA-1 or SHA-256 thumbprint of a certificate of the guardian.
    #[arg(long, value_name = "HEX")]
    thumbprint: String,
    #[command(flatten)]
    change: Change,
}

/// What both need.
#[derive(clap::Args)]
struct Change {
    /// VM key protector, in any form in which one is saved.
    #[arg(value_name = "KEY_PROTECTOR")]
    key_protector: PathBuf,
    /// PFX or PEM file with a private key of the owner; given twice where signing and encryption lie in two files.
    #[arg(long = "owner", value_name = "FILE", required = true)]
    owner: Vec<PathBuf>,
    /// New file for the new VM key protector.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Says that the VM's files, its VM key protector among them, are kept elsewhere as they are.
    #[arg(long)]
    i_have_a_copy: bool,
}

pub(super) fn grant(context: &Context, arguments: &Grant) -> Result<Exit, CliError> {
    let opened = open(context, &arguments.change, "Grant-HgsKeyProtectorAccess")?;
    let bytes = read(&arguments.guardian)?;
    let metadata = GuardianMetadata::parse(&bytes)
        .map_err(|error| refused(&error).about(arguments.guardian.display()))?;
    let registry = AlgorithmRegistry::builtin();
    let granted = opened
        .protector
        .grant(&opened.keys, &metadata, &registry, &mut UnwrapErr(SysRng))
        .map_err(|error| refused(&error))?;
    let name = metadata.guardian_name().guardian;
    finish(context, &arguments.change, &opened, &granted, &format!("Granted: {}", output::plain(name)))
}

pub(super) fn revoke(context: &Context, arguments: &Revoke) -> Result<Exit, CliError> {
    let opened = open(context, &arguments.change, "Revoke-HgsKeyProtectorAccess")?;
    let (id, name) = wrapping_of(&opened.protector, &arguments.thumbprint)?;
    let registry = AlgorithmRegistry::builtin();
    let revoked = opened
        .protector
        .revoke(&opened.keys, id, &registry, &mut UnwrapErr(SysRng))
        .map_err(|error| refused(&error))?;
    finish(context, &arguments.change, &opened, &revoked, &format!("Revoked: {}", output::plain(&name)))
}

struct Opened {
    protector: KeyProtector,
    keys: OwnerKeys,
    evidence: Evidence,
}

/// Reads the VM key protector, finds the owner's keys, and opens the transport key, which proves itself.
fn open(context: &Context, change: &Change, cmdlet: &str) -> Result<Opened, CliError> {
    if !change.i_have_a_copy {
        return Err(CliError::usage(format!(
            "this is experimental, and what it writes was never shown to Windows. The supported way is {cmdlet} on a \
             Windows host that has the owner's certificates, with the VM off: $kp = ConvertTo-HgsKeyProtector -Bytes \
             (Get-VMKeyProtector -VMName NAME); {cmdlet} -KeyProtector $kp -Guardian (Get-HgsGuardian -Name GUARDIAN) ; \
             Set-VMKeyProtector -VMName NAME -KeyProtector $kp.RawData. If that is not open to you: keep a copy of the VM's \
             files (`lifeboat restore` gives one), then give --i-have-a-copy"
        )));
    }
    if change.out.symlink_metadata().is_ok() {
        return Err(is_there(&change.out));
    }
    let place = change.key_protector.display();
    let protector = match GuardianFile::read(&read(&change.key_protector)?) {
        GuardianFile::KeyProtector { protector, .. } => *protector,
        GuardianFile::Damaged(error) => return Err(refused(&error).about(place)),
        _ => {
            return Err(CliError::usage(format!(
                "{place} is no VM key protector; `lifeboat guardian inspect` says what it is"
            )));
        }
    };
    let keys = owner_keys(&protector, &change.owner, &context.kit.passphrases)?;
    let opened = protector
        .unwrap_transport_key(&keys.encryption, &AlgorithmRegistry::builtin(), &mut UnwrapErr(SysRng))
        .map_err(|error| refused(&error).about(place))?;
    Ok(Opened { evidence: opened.evidence, protector, keys })
}

/// The wrapping of a guardian by the thumbprint of one of its certificates.
fn wrapping_of(protector: &KeyProtector, thumbprint: &str) -> Result<(WrappingId, String), CliError> {
    let wanted: String =
        thumbprint.chars().filter(char::is_ascii_hexdigit).collect::<String>().to_uppercase();
    let is_it = |certificate: &Certificate| {
        certificate.sha1().to_string() == wanted || certificate.sha256().to_string() == wanted
    };
    let found = protector
        .wrappings()
        .iter()
        .find(|one| is_it(&one.signing_certificate) || is_it(&one.encryption_certificate));
    let found = found.ok_or_else(|| {
        CliError::usage(format!(
            "no certificate of this VM key protector has the thumbprint {thumbprint}; `lifeboat guardian inspect` lists them"
        ))
    })?;
    Ok((found.id, found.guardian_name().guardian.to_owned()))
}

fn finish(
    context: &Context,
    change: &Change,
    opened: &Opened,
    new: &KeyProtector,
    what: &str,
) -> Result<Exit, CliError> {
    let verification = new.verify(&AlgorithmRegistry::builtin());
    let addressed_to = addressees(new, &verification).ok_or_else(|| {
        CliError::new(Exit::Failed, "the new VM key protector has no signer; nothing was written")
    })?;
    write_private(&change.out, new.original_bytes())?;
    let report = GuardianChangeReport {
        from: change.key_protector.display().to_string(),
        written: change.out.display().to_string(),
        digest: Digest::of(new.original_bytes()),
        addressed_to,
        evidence: algorithm_evidence(opened.evidence),
        next: next_steps(&change.out),
    };
    if context.json {
        output::json(&report);
        return Ok(Exit::Done);
    }
    output::line("The owner's key opened the transport key, and it verified its own signature.");
    output::line(what);
    for (part, guardians) in
        [("owner", &report.addressed_to.owners), ("guardian", &report.addressed_to.guardians)]
    {
        for guardian in guardians {
            output::line(format!("  {part}: {}", output::plain(&guardian.name)));
        }
    }
    output::line(format!("Written: {}", report.written));
    if opened.evidence < Evidence::Confirmed {
        output::line(
            "Its algorithms are assumed: nothing shows that Windows takes it. Try it on a copy of the VM first.",
        );
    }
    for step in &report.next {
        output::line(format!("  next: {step}"));
    }
    Ok(Exit::Done)
}

fn next_steps(out: &Path) -> Vec<String> {
    let path = shell::quoted_for_powershell(&out.display().to_string());
    vec![
        "turn the VM off, and keep the VM key protector that it has".to_owned(),
        format!("Set-VMKeyProtector -VMName NAME -KeyProtector ([IO.File]::ReadAllBytes({path}))"),
        "start it; if it does not start: Set-VMKeyProtector -VMName NAME -RestoreLastKnownGoodKeyProtector, or the kept one"
            .to_owned(),
        "never make a new VM key protector for it (New-HgsKeyProtector): that loses its vTPM".to_owned(),
    ]
}

/// Why a VM key protector or the keys were refused.
fn refused(error: &Error) -> CliError {
    let exit = match error {
        Error::Corrupt(_) | Error::SelfTest | Error::NotVerified { .. } | Error::Decryption { .. } => {
            Exit::Damage
        }
        Error::NotTheOwner { .. } | Error::NotAddressed | Error::EncryptedPrivateKey => Exit::NoAccess,
        Error::AlreadyGranted { .. } | Error::NoSuchWrapping { .. } | Error::OwnerCannotBeRevoked { .. } => {
            Exit::Usage
        }
        _ => Exit::Failed,
    };
    CliError::new(exit, format!("{error}; nothing was written"))
}
