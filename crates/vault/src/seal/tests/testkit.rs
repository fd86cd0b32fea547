//! The age test vectors (C2SP CCTV), which the `age` crate ships with its source.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use sha2::{Digest as _, Sha256};

use super::*;

/// Where cargo keeps the vectors; `None` if the crate was unpacked without its tests.
fn vectors() -> Option<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let run = |arguments: &[&str]| {
        Command::new(&cargo).args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).output().ok()
    };
    // For this platform only: the packages of others need not be on the disk.
    let version = String::from_utf8(run(&["-vV"])?.stdout).ok()?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "))?;
    let output = run(&["metadata", "--format-version", "1", "--offline", "--filter-platform", host])?;
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).ok()?;
    let age = metadata["packages"].as_array()?.iter().find(|package| package["name"] == "age")?;
    let folder = PathBuf::from(age["manifest_path"].as_str()?).parent()?.join("tests/testdata/testkit");
    folder.is_dir().then_some(folder)
}

struct Vector {
    fields: BTreeMap<String, Vec<String>>,
    file: Vec<u8>,
}

impl Vector {
    fn parse(bytes: &[u8]) -> Self {
        let mut fields: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut rest = bytes;
        loop {
            let length = rest.iter().position(|b| *b == b'\n').unwrap();
            let line = std::str::from_utf8(&rest[..length]).unwrap();
            rest = &rest[length + 1..];
            let Some((key, value)) = line.split_once(": ") else { break };
            fields.entry(key.to_owned()).or_default().push(value.to_owned());
        }
        let file = if fields.contains_key("compressed") {
            miniz_oxide::inflate::decompress_to_vec_zlib(rest).unwrap()
        } else {
            rest.to_vec()
        };
        Self { fields, file }
    }

    fn open(&self) -> Result<Plaintext, SealError> {
        let header = Header::parse(&self.file)?;
        // Vectors of passphrases have no identity; an object never has a passphrase either.
        let text = match self.fields.get("identity") {
            Some(identities) => identities.join("\n"),
            None => NewIdentity::generate().file(&[]).expose().to_owned(),
        };
        let identities = Identities::parse(text.as_bytes(), None, NoCallbacks)?;
        ObjectKey::open(&self.file, header.header_bytes, self.file.len() as u64, &identities)?
            .open_all(self.file.clone(), 1)
    }
}

#[test]
fn verdicts_of_the_age_test_vectors() {
    let Some(folder) = vectors() else {
        println!("skipped: the age crate's test vectors were not found");
        return;
    };
    let mut counts: BTreeMap<String, u32> = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let vector = Vector::parse(&fs::read(&path).unwrap());
        let armored = vector.fields.contains_key("armored");
        let passphrase = vector.fields.contains_key("passphrase") && !vector.fields.contains_key("identity");
        let verdict = if armored { "armored" } else { vector.fields["expect"][0].as_str() };
        let result = vector.open();
        let error = result.as_ref().err();
        let corruption = match error {
            Some(SealError::Corrupt(corruption)) => Some(corruption),
            _ => None,
        };
        let text = error.map(ToString::to_string);
        match verdict {
            "armored" => assert!(corruption.is_some(), "{name}: objects are never armored"),
            "success" if passphrase => assert!(matches!(error, Some(SealError::NoMatch)), "{name}: {text:?}"),
            "success" => {
                let plaintext = result.unwrap_or_else(|e| panic!("{name}: {e}"));
                let digest: String = Sha256::digest(&*plaintext).iter().map(|b| format!("{b:02x}")).collect();
                assert_eq!(digest, vector.fields["payload"][0], "{name}");
            }
            "no match" => assert!(matches!(error, Some(SealError::NoMatch)), "{name}: {text:?}"),
            "HMAC failure" => assert_eq!(corruption, Some(&Corruption::HeaderMac), "{name}"),
            // What is wrong with a scrypt stanza concerns only those who hold a passphrase.
            "header failure" if passphrase => assert!(error.is_some(), "{name}"),
            "header failure" => assert!(
                matches!(
                    corruption,
                    Some(
                        Corruption::NotAgeV1
                            | Corruption::HeaderTruncated { .. }
                            | Corruption::HeaderGrammar { .. }
                            | Corruption::HeaderStanza
                            | Corruption::ObjectTooShort { .. }
                    )
                ),
                "{name}: {text:?}"
            ),
            "payload failure" => assert!(
                matches!(corruption, Some(Corruption::Chunk { .. } | Corruption::FinalChunk { .. })),
                "{name}: {text:?}"
            ),
            other => panic!("{name}: unknown verdict {other}"),
        }
        *counts.entry(verdict.to_owned()).or_default() += 1;
    }
    println!("{counts:?}");
    assert!(counts.values().sum::<u32>() >= 100 && counts["success"] >= 10, "{counts:?}");
}
