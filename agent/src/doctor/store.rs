//! What lies in the store, and what it lets these credentials do.

use lifeboat_config::Config;
use lifeboat_schema::{CheckOutcome, Digest, Exit, Kind, StoreProtection, Time, WriterId};
use lifeboat_vault::key::SigningKey;
use lifeboat_vault::policy::PolicyChain;
use lifeboat_vault::store::{
    Attempt, BucketFacts, ConditionalCreate, LockState, Rights, Store, StoreError, StorePath,
};
use lifeboat_vault::vault::{Vault, VaultError, object_path};

use super::{DoctorWorld, Notes};

/// A clock that is off by more than this is a finding: times of records are claims that people read.
const MAX_SKEW_SECONDS: u64 = 60;

const POLICIES: &str = "docs/stores.md and examples/s3 have policies for hosts";

pub(super) async fn examine(
    config: &Config,
    store: Result<Store, StoreError>,
    key: Option<&SigningKey>,
    world: &DoctorWorld<'_>,
    notes: &mut Notes,
) -> StoreProtection {
    let store = match store {
        Ok(store) => store,
        Err(error) => {
            notes.fails("store", error.to_string(), VaultError::from(error).exit());
            return StoreProtection::Unknown;
        }
    };
    clock(&store, world, notes).await;
    let vault = match Vault::open(store.clone(), &config.vault).await {
        Ok(vault) => vault,
        Err(error) => {
            let check = match &error {
                VaultError::Store(StoreError::Unreachable { .. }) => "endpoint",
                VaultError::Store(StoreError::Denied { .. }) => "credentials",
                _ => "vault",
            };
            notes.fails(check, error.to_string(), error.exit());
            return StoreProtection::Unknown;
        }
    };
    notes.works("endpoint", format!("{} answers", store.describe()));
    notes.works("credentials", "vault.json could be read");
    notes.works("vault", format!("it is {}", vault.id));
    let policies = policy(config, &vault, key, notes).await;
    if !listing(config, &store, notes).await {
        return StoreProtection::Unknown;
    }
    let protection = protection(config, &store, world, notes).await;
    conditional_writes(config, &store, protection, world, notes).await;
    if let Some(policies) = &policies {
        confinement(config, &store, policies, notes).await;
    }
    protection
}

async fn clock(store: &Store, world: &DoctorWorld<'_>, notes: &mut Notes) {
    let facts = match store.bucket_facts().await {
        Ok(Some(facts)) => facts,
        Ok(None) => {
            notes.skipped("clock", "this kind of store tells no time");
            return;
        }
        // The same failure is told by what follows.
        Err(_) => {
            notes.skipped("clock", "the service did not answer");
            return;
        }
    };
    match facts.date.as_deref().and_then(unix_seconds) {
        None => notes.skipped("clock", "the service tells no time"),
        Some(theirs) => {
            let skew = world.now.unix_seconds().abs_diff(theirs);
            if skew > MAX_SKEW_SECONDS {
                let theirs = Time::from_unix_seconds(theirs);
                let what =
                    format!("this machine's clock is {skew} s away from the store's, which says {theirs}");
                notes.finding(
                    "clock",
                    what,
                    "set the clock and let NTP keep it: beyond 15 minutes S3 refuses requests",
                );
            } else {
                notes.works("clock", format!("it is within {MAX_SKEW_SECONDS} s of the store's"));
            }
        }
    }
    bucket(&facts, notes);
}

fn bucket(facts: &BucketFacts, notes: &mut Notes) {
    match facts.versioning {
        Some(true) => notes.works("versioning", "the bucket keeps older versions"),
        Some(false) => notes.note("versioning", "the bucket keeps no older versions"),
        None => notes.skipped("versioning", "these credentials may not ask (s3:GetBucketVersioning)"),
    }
    match &facts.lock {
        LockState::On { default_retention: Some(retention) } => {
            notes.works("object-lock", format!("every new object is locked: {retention}"));
        }
        LockState::On { default_retention: None } => notes.finding(
            "object-lock",
            "the bucket can lock objects, and has no default retention: nothing is locked",
            "set a default retention on the bucket (docs/stores.md)",
        ),
        LockState::Off => notes.note("object-lock", "the bucket locks nothing"),
        LockState::Unknown(why) => {
            let what = format!("these credentials may not ask (s3:GetBucketObjectLockConfiguration): {why}");
            notes.skipped("object-lock", what);
        }
        _ => notes.skipped("object-lock", "not known"),
    }
}

/// Seconds since 1970 of an HTTP date, such as `Tue, 24 Nov 2026 02:14:27 GMT`.
fn unix_seconds(date: &str) -> Option<i64> {
    jiff::fmt::rfc2822::parse(date).ok().map(|zoned| zoned.timestamp().as_second())
}

async fn policy(
    config: &Config,
    vault: &Vault,
    key: Option<&SigningKey>,
    notes: &mut Notes,
) -> Option<PolicyChain> {
    let policies = match vault.policies(Some(&config.policy)).await {
        Ok((_, policies)) => policies,
        Err(error) => {
            notes.fails("policy", error.to_string(), error.exit());
            return None;
        }
    };
    let newest = policies.newest()?;
    let seq = newest.place.seq;
    let refused = match (newest.writer(&config.writer), newest.key(&config.writer)) {
        (None, _) => Some("it does not name this host's writer".to_owned()),
        (Some(terms), _) if !terms.kinds.contains(&Kind::Snapshot) => {
            Some("it lets this host write no snapshots: the host was retired".to_owned())
        }
        (_, named) if key.is_some_and(|key| named != Some(&key.verifying_key())) => {
            Some("it names another key for this host than signing.key".to_owned())
        }
        _ => None,
    };
    match refused {
        None => notes.works("policy", format!("policy {seq} lets {} write snapshots", config.writer)),
        Some(why) => notes.fails(
            "policy",
            format!(
                "policy {seq}: {why}. Have the host enrolled, or its key renewed (`lifeboat host rekey`)"
            ),
            Exit::NoAccess,
        ),
    }
    Some(policies)
}

async fn listing(config: &Config, store: &Store, notes: &mut Notes) -> bool {
    for prefix in ["ledger".to_owned(), format!("objects/{}", config.writer)] {
        if let Err(error) = store.list(&prefix, None).await {
            let exit = if error.is_denied() { Exit::NoAccess } else { Exit::Failed };
            notes.fails("listing", error.to_string(), exit);
            return false;
        }
    }
    notes.works("listing", "ledgers and this host's objects can be listed");
    true
}

async fn conditional_writes(
    config: &Config,
    store: &Store,
    protection: StoreProtection,
    world: &DoctorWorld<'_>,
    notes: &mut Notes,
) {
    const CHECK: &str = "conditional-writes";
    let Some(path) = probe_path(config, world) else {
        notes.skipped(CHECK, "the operating system gave no random bytes");
        return;
    };
    let weak = match store.probe_conditional_create(&path).await {
        Ok(ConditionalCreate::Enforced) => {
            notes.works(CHECK, "of several creators at once one won, and a later one was refused");
            return;
        }
        Ok(ConditionalCreate::Races { winners }) => {
            format!("{winners} creators of one name at once were told that they had won")
        }
        Ok(_) => "the store ignores conditions: a later creator replaced the object".to_owned(),
        Err(error) => {
            let exit = if error.is_denied() { Exit::NoAccess } else { Exit::Failed };
            notes.fails(CHECK, error.to_string(), exit);
            return;
        }
    };
    match protection {
        StoreProtection::Locked | StoreProtection::Versioned => {
            notes.note(CHECK, format!("{weak}; what it replaces stays as a version here"));
        }
        _ => notes.finding(
            CHECK,
            weak,
            "let the bucket keep versions, or use a store that enforces conditions",
        ),
    }
}

async fn protection(
    config: &Config,
    store: &Store,
    world: &DoctorWorld<'_>,
    notes: &mut Notes,
) -> StoreProtection {
    const CHECK: &str = "protection";
    let Some(path) = probe_path(config, world) else {
        notes.skipped(CHECK, "the operating system gave no random bytes");
        return StoreProtection::Unknown;
    };
    let rights = match store.probe_rights(&path).await {
        Ok(rights) => rights,
        Err(error) => {
            notes.add(CHECK, CheckOutcome::Skipped, error.to_string(), None);
            return StoreProtection::Unknown;
        }
    };
    let verdict = judge(&rights);
    let tried = format!(
        "on an object made for this: replacing was {}, deleting was {}{}",
        said(&rights.replace),
        said(&rights.delete),
        if rights.keeps_versions {
            format!(", deleting the version that was kept was {}", said(&rights.delete_version))
        } else {
            String::new()
        }
    );
    match verdict {
        StoreProtection::Refused => {
            notes.works(CHECK, format!("these credentials can neither replace nor delete; {tried}"));
        }
        StoreProtection::Locked => {
            let lock = rights.retention.as_deref().unwrap_or_default();
            notes.works(CHECK, format!("what is written is locked ({lock}); {tried}"));
        }
        StoreProtection::Versioned => {
            notes.works(CHECK, format!("what is replaced or deleted stays as a version; {tried}"));
        }
        StoreProtection::Unprotected => {
            let next = if config.store.url.starts_with("file:") {
                "a folder is worth as much as this machine: keep a mirror under other credentials, or use a store with object lock"
                    .to_owned()
            } else {
                format!(
                    "whoever takes over this host can destroy its backups: use a bucket with versions and object lock, and credentials that may not delete; {POLICIES}"
                )
            };
            notes.finding(CHECK, format!("UNPROTECTED; {tried}"), &next);
        }
        StoreProtection::Unknown => notes.skipped(CHECK, tried),
    }
    verdict
}

fn said(attempt: &Attempt) -> String {
    match attempt {
        Attempt::Done => "done".to_owned(),
        Attempt::Refused { cause } => format!("refused ({cause})"),
        _ => "not tried".to_owned(),
    }
}

/// What a probe's outcome amounts to.
fn judge(rights: &Rights) -> StoreProtection {
    if !rights.protected() {
        StoreProtection::Unprotected
    } else if rights.replace.is_refused() && rights.delete.is_refused() {
        StoreProtection::Refused
    } else if rights.retention.is_some() {
        StoreProtection::Locked
    } else {
        StoreProtection::Versioned
    }
}

/// Whether these credentials read what other hosts wrote. It is sealed, and still none of this host's business.
async fn confinement(config: &Config, store: &Store, policies: &PolicyChain, notes: &mut Notes) {
    const CHECK: &str = "other-writers";
    let others = policies.writers().into_iter().filter(|writer| *writer != config.writer);
    for other in others.collect::<Vec<_>>() {
        // Without the right to list, a missing object looks like a forbidden one: only one that is there tells.
        let Some(object) = some_object_of(&other, store).await else { continue };
        match store.read_range(&object, 0..1).await {
            Ok(_) if config.store.url.starts_with("file:") => {
                notes.note(CHECK, "a folder shows each host what the others sealed");
            }
            Ok(_) => {
                let what = format!("these credentials read what {other} wrote; it is sealed");
                notes.finding(CHECK, what, &format!("give each host credentials of its own: {POLICIES}"));
            }
            Err(error) if error.is_denied() => notes.works(CHECK, format!("objects of {other} are refused")),
            Err(_) => continue,
        }
        return;
    }
    notes.skipped(CHECK, "no object of another writer is known here");
}

/// An object that the newest record of `writer` names; the record is not verified, only the store is asked.
async fn some_object_of(writer: &WriterId, store: &Store) -> Option<StorePath> {
    let listing = store.list(&format!("ledger/{writer}"), None).await.ok()?;
    let newest = listing.objects.last()?;
    let record = store.read(&newest.path, lifeboat_vault::record::MAX_RECORD_BYTES).await.ok()?;
    let line = record.split(|byte| *byte == b'\n').next()?;
    let value: serde_json::Value = serde_json::from_slice(line).ok()?;
    let name: Digest = value.get("objects")?.get(0)?.get("name")?.as_str()?.parse().ok()?;
    Some(object_path(writer, &name))
}

/// A name like that of any object, so that whoever cleans up unnamed objects takes the probe too.
fn probe_path(config: &Config, world: &DoctorWorld<'_>) -> Option<StorePath> {
    (world.random)().map(|bytes| object_path(&config.writer, &Digest::of(&bytes)))
}
