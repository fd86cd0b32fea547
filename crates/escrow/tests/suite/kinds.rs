//! What each kind of file gives.

use lifeboat_escrow::{FoundSecret, Import, Input, Place, Secret, Trouble, import};
use lifeboat_schema::{EscrowSource, SecretKind, Time};

use crate::samples::{
    self, ENCODINGS, ENGLISH, Expected, FRENCH, GERMAN, ad_json, bek, csvde, encoded, entra, id_bytes, ldif,
    list, manage_bde, mbam, powershell, saved, secret, volume,
};

fn read(name: &str, bytes: &[u8]) -> Import {
    import(&Input { name, bytes, modified: None })
}

fn password(found: &FoundSecret) -> String {
    match &found.secret {
        Secret::RecoveryPassword(password) => password.expose().to_string(),
        other => panic!("a {}", other.kind().name()),
    }
}

/// Compares ids and passwords, in order.
#[track_caller]
fn holds(import: &Import, source: EscrowSource, expected: &[Expected]) {
    assert_eq!(import.source, source);
    let found: Vec<Expected> = import
        .found
        .iter()
        .map(|one| Expected {
            id: one.protector.map(|id| id.to_string()).unwrap_or_default(),
            password: password(one),
        })
        .collect();
    assert_eq!(found, expected);
    assert_eq!(import.problems, []);
}

fn some(count: u32) -> Vec<Expected> {
    (0..count).map(secret).collect()
}

#[test]
fn the_file_that_windows_saves_in_every_language_and_encoding() {
    let one = secret(1);
    let name = format!("BitLocker-Wiederherstellungsschlüssel {}.TXT", &one.id[..18]);
    for words in [&ENGLISH, &GERMAN, &FRENCH] {
        for encoding in ENCODINGS {
            for text in [saved(words, &one), saved(words, &one).replace("\r\n", "\n")] {
                holds(
                    &read(&name, &encoded(&text, encoding)),
                    EscrowSource::Text,
                    std::slice::from_ref(&one),
                );
            }
        }
    }
}

#[test]
fn manage_bde_in_every_language_and_encoding() {
    for words in [&ENGLISH, &GERMAN, &FRENCH] {
        let text = manage_bde(words, &[("C:", vec![secret(1), secret(2)]), ("D:", vec![secret(3)])]);
        for encoding in ENCODINGS {
            let import = read("out.txt", &encoded(&text, encoding));
            holds(&import, EscrowSource::ManageBde, &[secret(1), secret(2), secret(3)]);
            let drives: Vec<_> = import.found.iter().map(|one| one.hints.mount.as_deref()).collect();
            assert_eq!(drives, [Some("C:"), Some("C:"), Some("D:")]);
        }
    }
}

#[test]
fn powershell_for_one_volume_and_for_several() {
    for count in [1, 3] {
        let secrets = some(count);
        for encoding in ["utf-8", "utf-16le marked"] {
            let import = read("volumes.json", &encoded(&powershell(&secrets), encoding));
            holds(&import, EscrowSource::PowerShell, &secrets);
            assert_eq!(import.found[0].hints.computer.as_deref(), Some("SVM00"));
            assert_eq!(import.found[0].hints.mount.as_deref(), Some("C:"));
        }
    }
    // The default depth turns protectors into text, and the account may see no password.
    let flat = r#"[{"ComputerName": "SVM01", "KeyProtector": ["Microsoft.BitLocker.Structures.BitLockerVolumeKeyProtector"]}]"#;
    let import = read("x.json", flat.as_bytes());
    assert_eq!(import.problems[0].what, Trouble::NestedObjects);
    assert_eq!(import.problems[0].place, Place::Path("$[0]".to_owned()));
    let hidden = powershell(&some(1)).replace(&secret(0).password, "");
    let import = read("x.json", hidden.as_bytes());
    assert_eq!(import.problems[0].what, Trouble::NoPassword(secret(0).id));
}

#[test]
fn entra_and_its_list_without_keys() {
    let import = read("keys.json", entra(&some(2)).as_bytes());
    holds(&import, EscrowSource::EntraJson, &some(2));
    assert_eq!(import.found[0].time, "2020-06-15T13:45:30Z".parse::<Time>().ok());
    assert_eq!(import.found[0].hints.computer, Some(volume(1)));
    let single = format!(r#"{{"value": {{"id": "{}", "key": "{}"}}}}"#, secret(0).id, secret(0).password);
    holds(&read("key.json", single.as_bytes()), EscrowSource::Json, &some(1));
    let listed = entra(&some(1)).replace(&format!(r#", "key": "{}""#, secret(0).password), "");
    assert_eq!(read("list.json", listed.as_bytes()).problems[0].what, Trouble::OnlyListed(secret(0).id));
}

#[test]
fn directories_as_json_ldif_and_csv() {
    let import = read("ad.json", ad_json(&some(3)).as_bytes());
    holds(&import, EscrowSource::AdJson, &some(3));
    assert_eq!(import.found[2].hints.computer.as_deref(), Some("SVM02"));
    for (column, end) in [(76, "\n"), (77, "\r\n"), (78, "\n"), (30, "\r\n")] {
        for encoding in ["utf-8", "utf-16le marked", "utf-16be"] {
            let import = read("export.ldf", &encoded(&ldif(&some(3), column, end), encoding));
            holds(&import, EscrowSource::Ldif, &some(3));
            let first = &import.found[0];
            assert_eq!(first.hints.computer.as_deref(), Some("SVM00"));
            assert_eq!(first.hints.volume.map(|id| id.to_string()), Some(volume(0)));
            assert_eq!(first.time, "2025-11-20T16:59:12Z".parse::<Time>().ok());
        }
    }
    let import = read("export.csv", csvde(&some(3)).as_bytes());
    holds(&import, EscrowSource::Csv, &some(3));
    assert_eq!(import.found[1].hints.volume.map(|id| id.to_string()), Some(volume(1)));
}

#[test]
fn an_object_that_shows_no_password_means_missing_rights() {
    let text = ldif(&some(2), 76, "\n")
        .replace(&format!("msFVE-RecoveryPassword: {}\n", &secret(0).password[..52]), "");
    let text = text.replace(&format!(" {}\n", &secret(0).password[52..]), "");
    let import = read("export.ldif", text.as_bytes());
    assert_eq!(import.found.len(), 1);
    assert_eq!(import.problems[0].what, Trouble::NotReadable(secret(0).id));
    // The id comes from the name where the attribute is missing, and from neither where they differ.
    let id = |text: &str| read("x.ldif", text.as_bytes()).found[0].protector.map(|id| id.to_string());
    let whole = ldif(&some(1), 200, "\n");
    let without: String =
        whole.lines().filter(|line| !line.contains("RecoveryGuid")).map(|line| format!("{line}\n")).collect();
    assert_eq!(id(&without), Some(secret(0).id));
    assert_eq!(id(&whole.replace(&secret(0).id.to_uppercase(), &secret(1).id)), None);
}

#[test]
fn tables_with_any_delimiter_and_order() {
    for (delimiter, quote) in [(",", ""), (";", "\""), ("\t", ""), (",", "\"")] {
        let import = read("mbam.csv", mbam(&some(4), delimiter, quote).as_bytes());
        holds(&import, EscrowSource::Csv, &some(4));
        let second = &import.found[1];
        assert_eq!(second.hints.computer.as_deref(), Some("SVM01"));
        assert_eq!(second.hints.volume.map(|id| id.to_string()), Some(volume(1)));
        assert_eq!(second.time, "2025-11-20T16:59:12Z".parse::<Time>().ok());
        assert_eq!([import.found[0].hints.is_disclosed, second.hints.is_disclosed], [false, true]);
        holds(&read("list.csv", list(&some(4), delimiter).as_bytes()), EscrowSource::Csv, &some(4));
    }
    // Two columns of ids that nobody names: the password is kept, and no id guessed.
    let row = format!("{},{},{}\n", secret(1).id, secret(2).id, secret(1).password);
    let import = read("x.csv", row.as_bytes());
    assert_eq!((import.found[0].protector, &import.problems[0].what), (None, &Trouble::NoId));
}

#[test]
fn a_wrong_row_loses_itself_alone() {
    let mut rows: Vec<String> = mbam(&some(5), ",", "").lines().map(str::to_owned).collect();
    let block = &secret(1).password[7..13];
    let wrong = format!("{}{}", &block[..5], (block.as_bytes()[5] - b'0' + 1) % 10);
    rows[2] = rows[2].replace(block, &wrong);
    rows[4] = rows[4].replace(&secret(3).id, &secret(3).id[..30]);
    let import = read("mbam.csv", rows.join("\n").as_bytes());
    let ids: Vec<_> = import.found.iter().map(|one| one.protector.map(|id| id.to_string())).collect();
    assert_eq!(ids, [Some(secret(0).id), Some(secret(2).id), None, Some(secret(4).id)]);
    let told: Vec<String> = import.problems.iter().map(ToString::to_string).collect();
    assert_eq!(
        told[0],
        "line 3: no recovery password: mistyped: block 2 of 8 does not match its check digit"
    );
    assert!(told[1].starts_with("line 5: an id is damaged"), "{told:?}");
}

#[test]
fn key_files() {
    let name = format!("{}.BEK", secret(7).id.to_uppercase());
    for name in [name.as_str(), "renamed"] {
        let import = read(name, &bek(7));
        assert_eq!(import.problems, []);
        let [found] = import.found.as_slice() else { panic!("{} secrets", import.found.len()) };
        assert_eq!(found.secret.kind(), SecretKind::RecoveryKey);
        assert_eq!(found.protector.map(|id| id.0), Some(id_bytes(&secret(7).id)));
        assert_eq!(found.hints.volume.map(|id| id.to_string()), Some(volume(7)));
        assert_eq!(found.secret.expose().as_slice(), bek(7));
    }
    let import = read(&name.replace("BEK", "bek"), &bek(8));
    assert!(matches!(import.problems[0].what, Trouble::OtherName { .. }));
    assert!(matches!(read("x.bek", &bek(7)[..100]).problems[0].what, Trouble::RecoveryKey(_)));
    for (name, kind) in [("OS.EBEK", SecretKind::EncryptedKey), ("tier1.pdk", SecretKind::ShieldingData)] {
        let import = read(name, b"opaque");
        assert_eq!((import.count(kind), import.problems.len()), (1, 0));
        assert_eq!(import.found[0].secret.expose().as_slice(), b"opaque");
    }
    let import = read(&format!("BitLocker Key Package {{{}}}.KPG", secret(7).id), b"of another layout");
    assert_eq!(import.count(SecretKind::KeyPackage), 1);
    assert_eq!(import.found[0].protector.map(|id| id.to_string()), Some(secret(7).id));
    assert!(!import.problems[0].what.loses());
}

#[test]
fn what_is_none_of_all_this_is_said() {
    let trouble = |bytes: &[u8]| read("x", bytes).problems.remove(0).what;
    assert_eq!(trouble(b""), Trouble::Empty);
    for other in [
        &b"\x7fELF\x02\x01\x01\0\0\0\0\0"[..],
        b"{}",
        b"[]",
        b"[1, 2]",
        b"a,b\n1,2\n",
        b"dn: cn=x\ncn: x\n",
        &[0; 5000],
    ] {
        assert_eq!(trouble(other), Trouble::Nothing, "{:?}", String::from_utf8_lossy(other));
    }
}

#[test]
fn a_document_that_breaks_off_keeps_its_passwords_without_ids() {
    let whole = powershell(&some(3));
    let cut = whole.rfind("\"Thumbprint\"").unwrap();
    let import = read("x.json", &whole.as_bytes()[..cut]);
    assert!(matches!(import.problems[0].what, Trouble::Malformed { .. }), "{:?}", import.problems[0]);
    let found: Vec<_> = import.found.iter().map(|one| (one.protector.is_some(), password(one))).collect();
    assert_eq!(found, some(3).into_iter().map(|one| (false, one.password)).collect::<Vec<_>>());
}

#[test]
fn a_hundred_thousand_entries() {
    let secrets: Vec<Expected> = some(100_000);
    let began = std::time::Instant::now();
    let import = read("export.ldf", samples::ldif(&secrets, 76, "\n").as_bytes());
    assert_eq!((import.found.len(), import.problems.len()), (100_000, 0));
    let import = read("list.csv", list(&secrets, ";").as_bytes());
    assert_eq!((import.found.len(), import.problems.len()), (100_000, 0));
    println!("two files of 100,000 entries made and read in {:?}", began.elapsed());
}

/// Where a table's columns are shifted, or someone keyed a list by its passwords.
#[test]
fn a_password_in_the_place_of_a_name_is_told_nowhere() {
    let right = lifeboat_fve::RecoveryPassword::from_recovery_key(&[9; 16]).expose().to_string();
    let damaged = format!("{}0", &right[..right.len() - 1]);
    let id = "2b5a1c7e-0f3d-4f2a-9c66-0d5b8e1f7a90";
    for secret in [right, damaged] {
        let texts = [
            format!(r#"[{{"ComputerName":"{secret}","KeyProtectorId":"{id}","RecoveryPassword":"x"}}]"#),
            format!(r#"{{"{secret}":{{"id":"{id}","KeyProtectorType":3}}}}"#),
            format!("Computer,RecoveryKeyId,RecoveryKey\nPC01 {secret},{id},x\n"),
        ];
        for text in texts {
            let import = read("list", text.as_bytes());
            for found in &import.found {
                let told = format!("{:?} {:?}", found.hints, found.place);
                assert!(!told.contains(&secret[..20]), "{told}");
            }
            for problem in &import.problems {
                let told = format!("{} {}", problem.place, problem.what);
                assert!(!told.contains(&secret[..20]), "{told}");
            }
        }
    }
}

#[test]
fn passwords_within_longer_text_are_found() {
    let (one, two) = (secret(1), secret(2));
    let note =
        |one: &Expected| format!("server room, id {{{}}}: {} (old)", one.id.to_uppercase(), one.password);
    let json = format!(r#"[{{"host": "a", "note": "{}"}}, "see {}"]"#, note(&one), two.password);
    let import = read("notes.json", json.as_bytes());
    let found: Vec<_> =
        import.found.iter().map(|one| (one.protector.map(|id| id.to_string()), password(one))).collect();
    assert_eq!(found, [(Some(one.id.clone()), one.password.clone()), (None, two.password.clone())]);
    // In a table a note gives its password, and nothing is paired across columns.
    let table =
        format!("Computer,RecoveryKeyId,RecoveryKey\nweb {} old,{},{}\n", two.password, one.id, one.password);
    let import = read("list.csv", table.as_bytes());
    let mut passwords: Vec<String> = import.found.iter().map(password).collect();
    passwords.sort_unstable();
    let mut both = vec![one.password.clone(), two.password.clone()];
    both.sort_unstable();
    assert_eq!(passwords, both);
    // In a directory: the description of an object.
    let ldif = format!(
        "dn: CN=SVM01,DC=example,DC=test\nobjectClass: computer\ndescription: key is {} ok\n",
        two.password
    );
    let import = read("export.ldif", ldif.as_bytes());
    assert_eq!(import.found.iter().map(password).collect::<Vec<_>>(), [two.password]);
}

#[test]
fn key_packages_of_a_table_are_kept_or_told() {
    use base64::Engine as _;
    let one = secret(1);
    let bytes = [1u8, 2, 3, 4, 5, 6, 7, 8, 9];
    let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let encoded = base64::engine::general_purpose::STANDARD.encode(bytes);
    for field in [format!("X'{digits}'"), format!("0x{digits}"), digits.clone(), encoded] {
        let table =
            format!("RecoveryKeyId,RecoveryKey,RecoveryKeyPackage\n{},{},{field}\n", one.id, one.password);
        let import = read("mbam.csv", table.as_bytes());
        assert_eq!(import.count(SecretKind::KeyPackage), 1, "{field}");
        assert!(import.problems.is_empty(), "{field}: {:?}", import.problems);
    }
    let table = format!("RecoveryKeyId,RecoveryKey,RecoveryKeyPackage\n{},{},??\n", one.id, one.password);
    let import = read("mbam.csv", table.as_bytes());
    assert_eq!((import.count(SecretKind::RecoveryPassword), import.count(SecretKind::KeyPackage)), (1, 0));
    assert!(
        import.problems.iter().any(|problem| matches!(problem.what, Trouble::BadValue(_))),
        "{:?}",
        import.problems
    );
}
