//! `lifeboat init`.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};

use lifeboat_engine::admin::{Names, NewVault, prepare};
use lifeboat_schema::{
    Exit, Finding, InitReport, KeptFile, Kind, OwnerId, OwnerTerms, PolicyTerms, Role, Severity, VmSelector,
    WriterId, WriterTerms,
};
use lifeboat_vault::key::SigningKey;
use lifeboat_vault::seal::{Identities, NewIdentity, Passphrase, Recipients, SealOptions, Sealer};
use lifeboat_vault::store::{ConditionalCreate, Store, StorePath};
use lifeboat_vault::vault::{VaultError, head_path};
use zeroize::Zeroizing;

use super::{Context, NewFolder, now, random, write_private};
use crate::error::CliError;
use crate::kit::{KitFile, KitStore};
use crate::output;
use crate::secrets::{PassphraseSource, read_identities, read_signing_key};

/// Makes a new vault: two admin keys, identities for audit, restore and escrow, an operator key.
///
/// Asks for a passphrase for each of them, reads each back, and has each identity open a challenge before the
/// vault counts.
#[derive(clap::Args)]
pub(crate) struct Init {
    /// Where the vault will be: file:///path, s3://bucket/prefix, az://container/prefix, gs://bucket/prefix.
    #[arg(long, value_name = "URL")]
    store: String,
    /// TOML file with options of the store, as under [store.options] in agent.toml.
    #[arg(long, value_name = "FILE")]
    store_options: Option<PathBuf>,
    /// New folder for keys and identities.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Name of the owner of the VMs.
    #[arg(long, value_name = "NAME", default_value = "owner")]
    owner: String,
    /// Protect nothing by a passphrase: whoever copies a file has what it opens.
    #[arg(long, conflicts_with = "passphrase_file")]
    no_passphrase: bool,
}

/// A file to be kept, and whose hands it belongs in.
struct Planned {
    name: &'static str,
    what: &'static str,
    keep: &'static str,
}

const ADMINS: [Planned; 2] = [
    Planned {
        name: "admin-1.key",
        what: "signs policies: who writes, who may read",
        keep: "with the administrator of the vault",
    },
    Planned {
        name: "admin-2.key",
        what: "the second admin key, in case the first is lost",
        keep: "offline, in a safe; not beside the first",
    },
];

const IDENTITIES: [(Role, Planned); 3] = [
    (
        Role::Audit,
        Planned {
            name: "audit.identity",
            what: "lists VMs and what is missing; opens no content",
            keep: "with the auditor",
        },
    ),
    (
        Role::Restore,
        Planned {
            name: "restore.identity",
            what: "opens configuration, vTPM state and VM key protectors",
            keep: "with those who bring VMs back, and a copy offline: without it no VM comes back",
        },
    ),
    (
        Role::Escrow,
        Planned {
            name: "escrow.identity",
            what: "opens recovery secrets",
            keep: "offline, with the owner of the VMs; not with the operators of the hosts",
        },
    ),
];

const OPERATOR: Planned = Planned {
    name: "operator.key",
    what: "signs proofs, drills and reveals; decrypts nothing",
    keep: "with the operator",
};

pub(crate) async fn run(context: &Context, arguments: &Init) -> Result<Exit, CliError> {
    let passphrases = &context.kit.passphrases;
    if !arguments.no_passphrase && !passphrases.is_given() && !std::io::stdin().is_terminal() {
        return Err(CliError::usage(
            "there is no terminal to ask for passphrases: give --passphrase-file FILE, or --no-passphrase to go without",
        ));
    }
    let options = match &arguments.store_options {
        None => Default::default(),
        Some(path) => {
            let text = std::fs::read_to_string(path).map_err(|error| CliError::file(path, "read", &error))?;
            toml::from_str(&text)
                .map_err(|error| CliError::usage(format!("{} is refused:\n{error}", path.display())))?
        }
    };
    let folder = NewFolder::create(&arguments.out)?;
    Store::create_root(&arguments.store)?;
    let store = Store::open(&arguments.store, &options, &|name| std::env::var(name).ok())?;
    if store.head(&head_path()).await?.is_some() {
        let bytes = store.read(&head_path(), lifeboat_vault::policy::MAX_VAULT_JSON_BYTES).await?;
        let id = lifeboat_schema::VaultId::of(&bytes);
        return Err(VaultError::VaultExists { store: store.describe(), id }.into());
    }
    let findings = probe(&store).await?;

    // Keys and identities, on disk before anything refers to them.
    let protect = |what: &str| -> Result<Option<Zeroizing<String>>, CliError> {
        if arguments.no_passphrase {
            return Ok(None);
        }
        Ok(Some(passphrases.ask_new(what)?).filter(|text| !text.is_empty()))
    };
    let mut kept = Vec::new();
    let mut admins = Vec::new();
    for planned in &ADMINS {
        admins.push(write_key(&folder, planned, protect(planned.name)?, &mut kept)?);
    }
    let operator = write_key(&folder, &OPERATOR, protect(OPERATOR.name)?, &mut kept)?;
    let mut secrets = Vec::new();
    for (role, planned) in &IDENTITIES {
        secrets.push((*role, planned, NewIdentity::generate(), protect(planned.name)?));
    }
    let owner = OwnerId::random(random()?);
    let operator_id = WriterId::random("op", random()?);
    let terms = PolicyTerms {
        owners: vec![OwnerTerms {
            id: owner.clone(),
            vms: vec![VmSelector::All],
            recipients: secrets
                .iter()
                .map(|(role, _, identity, _)| (*role, vec![identity.recipient()]))
                .collect(),
        }],
        writers: vec![WriterTerms {
            id: operator_id.clone(),
            key: operator.verifying_key().to_openssh(),
            kinds: vec![Kind::Proof, Kind::Drill, Kind::Reveal],
            max_silence_seconds: None,
            cut: None,
        }],
    };
    let names = Names {
        owners: BTreeMap::from([(owner, arguments.owner.clone())]),
        writers: BTreeMap::from([(operator_id, "operator".to_owned())]),
    };
    let new = NewVault { admins: &admins, terms, names, now: now(), nonce: random()? };
    let prepared = prepare(&store, new)?;
    for (role, planned, identity, passphrase) in &secrets {
        let text = identity.file(&[
            &format!("Lifeboat {role} identity: {}", planned.what),
            &format!("vault: {}", prepared.id()),
            &format!("role: {role}"),
        ]);
        let content = match passphrase {
            Some(passphrase) => Zeroizing::new(text.protect(&Passphrase::new(passphrase.to_string()))?),
            None => Zeroizing::new(text.expose().as_bytes().to_vec()),
        };
        write_private(&folder.path(planned.name), &content)?;
        kept.push(kept_file(planned, passphrase.is_some()));
    }

    // Nothing counts before every file was read back and does what it is for.
    let retype = if arguments.no_passphrase || passphrases.is_given() { None } else { Some("read back") };
    if retype.is_some() {
        output::note("Every file is read back now: type each passphrase once more.");
    }
    challenge(
        &folder,
        &secrets.iter().map(|(_, p, i, _)| (p.name, i.recipient())).collect::<Vec<_>>(),
        passphrases,
    )?;
    for planned in ADMINS.iter().chain([&OPERATOR]) {
        read_signing_key(&folder.path(planned.name), passphrases)?;
    }

    let (vault, policy) = prepared.write().await?;
    let file = KitFile {
        vault: vault.id.clone(),
        policy,
        store: KitStore { url: arguments.store.clone(), options },
    };
    let text = toml::to_string_pretty(&file)
        .map_err(|error| CliError::new(Exit::Failed, format!("vault.toml could not be written: {error}")))?;
    let text = format!(
        "# Where the vault is, and which one it must be. Not secret; goes to everyone who holds a key of it.\n{text}"
    );
    write_private(&folder.path("vault.toml"), text.as_bytes())?;
    write_private(&folder.path("KEEP.md"), keep_text(&vault.id.to_string(), &kept).as_bytes())?;
    folder.finish()?;

    let report = InitReport {
        vault: vault.id,
        store: arguments.store.clone(),
        folder: arguments.out.display().to_string(),
        files: kept,
        findings,
    };
    context.answer(&report, print);
    Ok(Exit::of(&report.findings))
}

/// Asks the store whether it keeps what was written; a vault works without, and is then less protected.
async fn probe(store: &Store) -> Result<Vec<Finding>, CliError> {
    let suffix: [u8; 8] = random()?;
    let name: String = suffix.iter().map(|byte| format!("{byte:02x}")).collect();
    let path = StorePath::parse(&format!("probe/{name}"))
        .map_err(|error| CliError::new(Exit::Failed, error.to_string()))?;
    let unprotected = |what: String| {
        Finding::new(
            Severity::Warning,
            "unprotected",
            store.describe(),
            what,
            "the vault notices what is overwritten, and cannot bring it back: use versioning with object lock, or a policy that requires If-None-Match",
        )
    };
    Ok(match store.probe_conditional_create(&path).await? {
        ConditionalCreate::Enforced => Vec::new(),
        ConditionalCreate::Ignored => {
            vec![unprotected(
                "the store ignores conditional writes: a writer can overwrite what is there".to_owned(),
            )]
        }
        ConditionalCreate::Races { winners } => vec![unprotected(format!(
            "the store does not keep conditional writes apart: {winners} writers at once were told that they had won"
        ))],
        _ => Vec::new(),
    })
}

fn kept_file(planned: &Planned, protected: bool) -> KeptFile {
    KeptFile {
        name: planned.name.to_owned(),
        what: planned.what.to_owned(),
        keep: planned.keep.to_owned(),
        protected,
    }
}

fn write_key(
    folder: &NewFolder,
    planned: &Planned,
    passphrase: Option<Zeroizing<String>>,
    kept: &mut Vec<KeptFile>,
) -> Result<SigningKey, CliError> {
    let key = SigningKey::generate()?;
    let text = key.to_openssh(passphrase.as_ref().map(|text| text.as_bytes()))?;
    write_private(&folder.path(planned.name), text.as_bytes())?;
    let public = format!("{}\n", key.verifying_key().to_openssh());
    write_private(&folder.path(&format!("{}.pub", planned.name)), public.as_bytes())?;
    kept.push(kept_file(planned, passphrase.is_some()));
    Ok(key)
}

/// Seals something to each recipient and opens it with the file that was written.
fn challenge(
    folder: &NewFolder,
    files: &[(&str, String)],
    passphrases: &PassphraseSource,
) -> Result<(), CliError> {
    for (name, recipient) in files {
        let identities = read_identities(&folder.path(name), passphrases)?;
        open_challenge(&identities, recipient).map_err(|error| error.about(name))?;
    }
    Ok(())
}

/// Has `identities` open something that is sealed to `recipient`.
pub(super) fn open_challenge(identities: &Identities, recipient: &str) -> Result<(), CliError> {
    use lifeboat_vault::seal::{ObjectKey, Opener};
    let challenge: [u8; 32] = random()?;
    let json = format!("{{\"challenge\":\"{}\"}}", lifeboat_schema::Digest::of(&challenge));
    let recipients = Recipients::parse(std::slice::from_ref(&recipient.to_owned()))?;
    let sealed = Sealer::new(&SealOptions::default())?.seal_body(&recipients, json.as_bytes())?;
    let key = ObjectKey::open(&sealed.bytes, sealed.header_bytes, sealed.bytes.len() as u64, identities)?;
    let plaintext = key.open_all(sealed.bytes, 1)?;
    let opened = Opener::new()?.read_body(&plaintext, 4096)?;
    if opened.as_slice() != json.as_bytes() {
        return Err(CliError::new(
            Exit::NoAccess,
            "the identity opened something else than was sealed to it",
        ));
    }
    Ok(())
}

fn keep_text(vault: &str, kept: &[KeptFile]) -> String {
    let mut text = format!(
        "# What to keep where\n\nVault {vault}. Lifeboat cannot make any of these files again.\n\n| file | what it does | who keeps it | passphrase |\n|---|---|---|---|\n"
    );
    for file in kept {
        let protected = if file.protected { "yes" } else { "NO" };
        text.push_str(&format!("| {} | {} | {} | {protected} |\n", file.name, file.what, file.keep));
    }
    text.push_str("\nvault.toml is not secret: everyone who holds one of the files needs it beside it.\nMove each file to where it belongs, then remove this folder. Write passphrases down and keep them apart from the files.\n");
    text
}

fn print(report: &InitReport) {
    output::line(format!("The vault {} is made at {}.", report.vault, report.store));
    output::line(format!(
        "Its keys and identities are in {}; each was read back and opened a challenge.",
        report.folder
    ));
    let rows: Vec<Vec<String>> = report
        .files
        .iter()
        .map(|file| {
            let protected = if file.protected { "passphrase" } else { "NO PASSPHRASE" };
            vec![file.name.clone(), protected.to_owned(), file.what.clone(), file.keep.clone()]
        })
        .collect();
    output::table(&["FILE", "PROTECTED", "WHAT IT DOES", "KEEP IT"], &rows);
    output::line(
        "Move each to where it belongs (KEEP.md says the same). Without the restore identity no VM comes back.",
    );
    output::line(format!(
        "Next: lifeboat host enroll NAME --kit {} --out FOLDER",
        Path::new(&report.folder).display()
    ));
    output::findings(&report.findings);
}
