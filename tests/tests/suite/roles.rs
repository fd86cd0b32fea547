//! Who can open what: the host nothing, each identity exactly its classes, and no text a secret.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use lifeboat_schema::{Class, Content, Role};
use lifeboat_tests::stage::{Stage, tiny_fabric};
use lifeboat_tests::testfabric::{DiskFiles, FabricOptions, Planted};
use lifeboat_vault::seal::{Identities, NoCallbacks, ObjectKey, Opener, SealError};

use crate::told;

async fn stage() -> Stage {
    Stage::in_memory(&FabricOptions { disks: DiskFiles::Sparse, ..tiny_fabric(12, 31) }).await
}

/// Every object that any record names, with its bytes.
pub(crate) async fn objects(stage: &Stage) -> Vec<(lifeboat_schema::ObjectEntry, bytes::Bytes)> {
    let ledgers = stage.vault.ledgers(&Default::default()).await.expect("ledgers");
    let mut names = BTreeSet::new();
    let mut all = Vec::new();
    for record in ledgers.all().flat_map(|ledger| &ledger.records) {
        let record = &record.signed.record;
        for object in &record.objects {
            if names.insert(object.name) {
                let bytes = stage.vault.read_object(&record.writer, object).await.expect("it is there");
                all.push((object.clone(), bytes));
            }
        }
    }
    all
}

/// The contents of an object that `identities` open: members or the body's JSON; nothing if they do not.
fn contents(
    object: &lifeboat_schema::ObjectEntry,
    bytes: &bytes::Bytes,
    identities: &Identities,
) -> Option<Vec<Vec<u8>>> {
    let key = match ObjectKey::open(bytes, object.header, object.size, identities) {
        Ok(key) => key,
        Err(SealError::NoMatch) => return None,
        Err(error) => panic!("{}: {error}", object.name),
    };
    let plaintext = key.open_all(bytes.to_vec(), 1).expect("whole");
    let mut opener = Opener::new().expect("an opener");
    Some(match object.content {
        Content::Body => vec![opener.read_body(&plaintext, 64 << 20).expect("a body").to_vec()],
        Content::Bundle => {
            let mut members = Vec::new();
            opener
                .walk_bundle(&plaintext, 1 << 30, |_, content| {
                    members.push(content.to_vec());
                    Ok::<(), SealError>(())
                })
                .expect("a bundle");
            members
        }
    })
}

fn holds(haystack: &[u8], needle: &[u8]) -> bool {
    !needle.is_empty() && haystack.windows(needle.len()).any(|window| window == needle)
}

#[tokio::test(flavor = "multi_thread")]
async fn each_identity_opens_exactly_the_classes_that_are_its_own() {
    let stage = stage().await;
    let objects = objects(&stage).await;
    let classes: BTreeSet<Class> = objects.iter().map(|(object, _)| object.class).collect();
    assert_eq!(classes, [Class::Metadata, Class::Machine, Class::DiskHead, Class::Secret].into());
    for role in Role::ALL {
        let identities = stage.identity(*role);
        for (object, bytes) in &objects {
            let opened = contents(object, bytes, &identities).is_some();
            assert_eq!(opened, object.class.roles().contains(role), "{role} and class {}", object.class);
        }
    }
    told(&format!("roles: {} objects against three identities", objects.len()));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_identity_finds_a_marker_that_it_may_not_see() {
    let stage = stage().await;
    let objects = objects(&stage).await;
    let answers = stage.fabric.answers();
    let mut searched = 0;
    for role in Role::ALL {
        let identities = stage.identity(*role);
        let opened: Vec<u8> = objects
            .iter()
            .filter_map(|(object, bytes)| contents(object, bytes, &identities))
            .flatten()
            .flatten()
            .collect();
        for marker in answers.markers_hidden_from(*role) {
            searched += 1;
            assert!(!holds(&opened, &marker.bytes), "{role} sees the marker {:?}", marker.planted);
        }
        // The search finds what is there: restore must see the markers that are for it.
        if *role == Role::Restore {
            let seen = answers.markers().filter(|marker| marker.is_for(Role::Restore));
            let seen = seen.filter(|marker| holds(&opened, &marker.bytes)).count();
            assert!(seen > 0, "the markers were not captured at all");
        }
    }
    assert!(searched > 0);
    told(&format!("roles: {searched} searches for markers"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_agents_folder_opens_nothing_and_holds_no_secret_but_its_key() {
    let stage = stage().await;
    let host = &stage.hosts[0];
    let files = walk(&host.folder);
    let mut tried = 0;
    for path in &files {
        let text = std::fs::read(path).expect("readable");
        // Nothing in the folder is an identity.
        assert!(Identities::parse(&text, None, NoCallbacks).is_err(), "{} is an identity", path.display());
        for line in String::from_utf8_lossy(&text).lines() {
            assert!(!line.contains("AGE-SECRET-KEY"), "{} holds an identity", path.display());
        }
        let is_key = path.file_name().is_some_and(|name| name == "signing.key");
        // The catalog knows the names of VMs, as the host does.
        for marker in stage.fabric.answers().markers().filter(|marker| marker.planted != Planted::Name) {
            assert!(!holds(&text, &marker.bytes), "{} holds a marker", path.display());
        }
        if !is_key {
            assert!(!holds(&text, host.seed()), "{} holds the signing key", path.display());
        }
        tried += 1;
    }
    let entries = host.catalog_entries(&stage.vault.id);
    assert!(!entries.is_empty());
    for entry in entries {
        for marker in stage.fabric.answers().markers().filter(|marker| marker.planted != Planted::Name) {
            assert!(!holds(&entry, &marker.bytes), "an entry of the catalog holds a marker");
        }
    }
    assert!(
        files.iter().any(|path| path.ends_with("state/catalog.sqlite")),
        "the catalog is among {files:?}"
    );
    // Nor does anything in the vault: neither records nor vault.json hold an identity.
    for (object, bytes) in objects(&stage).await {
        assert!(!holds(&bytes, b"AGE-SECRET-KEY"), "{}", object.name);
        for marker in stage.fabric.answers().markers() {
            assert!(!holds(&bytes, &marker.bytes), "{} holds a marker in clear", object.name);
        }
    }
    told(&format!("roles: {tried} files of the agent's folder"));
}

fn walk(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        if path.is_dir() { files.extend(walk(&path)) } else { files.push(path) }
    }
    files
}
