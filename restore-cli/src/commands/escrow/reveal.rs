//! `lifeboat escrow reveal`.

use std::path::PathBuf;

use lifeboat_escrow::{HeldSecret, Holdings, RevealError, record_reveal};
use lifeboat_fve::RecoveryPassword;
use lifeboat_schema::{EscrowRevealReport, Exit, Kind, Role, SecretKind, Severity};

use super::operator::OperatorArguments;
use crate::commands::{Context, now, write_private};
use crate::error::CliError;
use crate::kit::Kit;
use crate::output;

/// Shows one recovery secret to a person, after a signed record of it.
///
/// Needs the escrow identity to open it and the operator key to sign the record, which says who asked for what, and why.
/// Whoever has seen a recovery password should have it replaced once the volume is up again.
#[derive(clap::Args)]
pub(crate) struct Reveal {
    /// Id of the BitLocker protector (its first digits suffice), or the digest that `escrow list --json` tells.
    wanted: String,
    /// Why it is needed; stands in the record.
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// File for a secret that is one, such as a .BEK.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    operator: OperatorArguments,
}

/// Longest reason, in characters.
const MAX_REASON_CHARS: usize = 1000;

pub(super) async fn run(context: &Context, arguments: &Reveal) -> Result<Exit, CliError> {
    let reason = arguments.reason.trim();
    if reason.is_empty() || reason.chars().count() > MAX_REASON_CHARS || reason.chars().any(char::is_control)
    {
        return Err(CliError::usage(format!(
            "give a reason on one line, of at most {MAX_REASON_CHARS} characters: it is what others will read of this"
        )));
    }
    let kit = Kit::open(&context.kit).await?;
    let identity = kit.one_identity(&context.kit, &[Role::Escrow])?;
    let holdings = Holdings::read(&kit.vault, &kit.ledgers, &identity.identities).await?;
    let secret = choose(&holdings, &arguments.wanted)?;
    let is_text = secret.kind == SecretKind::RecoveryPassword;
    match &arguments.out {
        None if !is_text => {
            return Err(CliError::usage(format!("a {} is a file: give --out FILE", secret.kind.name())));
        }
        Some(path) if path.symlink_metadata().is_ok() => {
            return Err(CliError::usage(format!(
                "{} is there already, and nothing is overwritten",
                path.display()
            )));
        }
        _ => {}
    }
    let entry = secret.entries.first().expect("a held secret has an entry");
    let class = entry.entry.class;
    if !identity.opens.iter().any(|(_, role)| class.roles().contains(role)) {
        return Err(CliError::new(
            Exit::NoAccess,
            format!(
                "{} opens nothing of class {class}, in which this is sealed; name the right identity with --identity. Nothing was recorded",
                identity.path.display()
            ),
        ));
    }

    let (operator, known) =
        arguments.operator.open(context, &kit, &identity.identities, Kind::Reveal).await?;
    // From here on there is a record of it, whatever becomes of the terminal and the store.
    let spool = kit.spool();
    let asked = lifeboat_escrow::Reveal { secret, entry, reason, asked: now() };
    let record = record_reveal(&kit.vault, &operator, &known, (&spool, &kit.ledgers), &asked).await.map_err(
        |error| match error {
            RevealError::Sealing(error) => error.into(),
            other => CliError::new(Exit::Failed, other.to_string()),
        },
    )?;
    if let Some(why) = &record.waits {
        output::note(output::plain(&format!(
            "The store did not take the record of this reveal ({why}); it waits in the kit, and the next command that reaches the store puts it there."
        )));
    } else {
        Kit::open(&context.kit).await?.remember();
    }
    // The same secret may be sealed several times: a damaged copy keeps no whole one away.
    let mut fetched = entry.fetch(&kit.vault, &identity.identities).await;
    for other in &secret.entries[1..] {
        if fetched.is_ok() {
            break;
        }
        if let Ok(bytes) = other.fetch(&kit.vault, &identity.identities).await {
            fetched = Ok(bytes);
        }
    }
    let bytes = fetched?;

    let mut report = EscrowRevealReport {
        kind: secret.kind,
        protector: secret.protector.clone(),
        record: record.name.id,
        recovery_password: None,
        file: None,
    };
    if let Some(path) = &arguments.out {
        write_private(path, &bytes)?;
        report.file = Some(path.display().to_string());
    } else {
        // Nothing goes to a terminal that is not 48 digits whose blocks check.
        let text = std::str::from_utf8(&bytes).ok().filter(|text| RecoveryPassword::parse(text).is_ok());
        let text = text.ok_or_else(|| {
            CliError::new(
                Exit::Damage,
                "what is escrowed as a recovery password is none; run `lifeboat check`, and look at what its importer wrote",
            )
        })?;
        report.recovery_password = Some(text);
    }
    if context.json {
        output::json(&report);
    } else {
        match (report.recovery_password, &report.file) {
            (Some(text), _) => output::line(text),
            (None, file) => output::line(format!("Written to {}.", file.as_deref().unwrap_or_default())),
        }
        output::note(format!(
            "Record {} says that it was shown. Have it replaced once the volume is up again.",
            report.record
        ));
    }
    Ok(Exit::Done)
}

/// The one secret that is meant.
fn choose<'h>(holdings: &'h Holdings, wanted: &str) -> Result<&'h HeldSecret, CliError> {
    let damaged = holdings.findings.iter().filter(|finding| finding.severity == Severity::Damage).count();
    match holdings.matching(wanted).as_slice() {
        [one] => Ok(one),
        [] if holdings.had_bodies && !holdings.opened_something && damaged == 0 => Err(CliError::new(
            Exit::NoAccess,
            "this identity opens nothing of what is escrowed; give the escrow identity of the right owner with --identity",
        )),
        [] if damaged > 0 => Err(CliError::new(
            Exit::Damage,
            format!(
                "nothing that can be read has this id, and {damaged} lists of escrowed secrets cannot be read: it may stand there. `lifeboat check` tells which; bring them back from a mirror or an older version"
            ),
        )),
        [] => Err(CliError::new(
            Exit::Failed,
            "nothing that is escrowed here has this id; `lifeboat escrow list` tells what there is",
        )),
        several => {
            let rows: Vec<String> = several
                .iter()
                .map(|one| {
                    let id = output::plain(one.protector.as_deref().unwrap_or("without an id"));
                    format!("  {} {} {id}", &one.secret.to_string()[..16], one.kind.name())
                })
                .collect();
            Err(CliError::usage(format!(
                "{} secrets fit; name one by the digits in front:\n{}",
                several.len(),
                rows.join("\n")
            )))
        }
    }
}
