//! Recipients and identities: which texts are taken, and how identity files are protected.

use std::io::{Read, Write};

use super::*;

fn parse(text: &str) -> Result<Identities, SealError> {
    Identities::parse(text.as_bytes(), None, NoCallbacks)
}

fn recipients(texts: &[&str]) -> Result<Recipients, SealError> {
    Recipients::parse(&texts.iter().map(ToString::to_string).collect::<Vec<_>>())
}

#[test]
fn every_recipient_opens_and_nobody_else() {
    let keys: Vec<_> = (0..3).map(|_| NewIdentity::generate()).collect();
    let texts: Vec<_> = keys.iter().map(NewIdentity::recipient).collect();
    let sealed_to = Recipients::parse(&texts[..2]).unwrap();
    assert_eq!((sealed_to.len(), sealed_to.texts()), (2, &texts[..2]));
    let object = sealer().seal_body(&sealed_to, b"{}").unwrap();
    let header = Header::parse(&object.bytes).unwrap();
    assert_eq!(header, Header { header_bytes: object.header_bytes, stanzas: 2 });
    let all: Vec<_> = keys.iter().map(|key| parse(key.file(&[]).expose()).unwrap()).collect();
    assert!(open(&object, &all[0]).is_ok() && open(&object, &all[1]).is_ok());
    assert!(matches!(open(&object, &all[2]), Err(SealError::NoMatch)));
    // One file with several identities, and several files.
    let both = parse(&format!("{}{}", keys[2].file(&[]).expose(), keys[1].file(&[]).expose())).unwrap();
    assert!(open(&object, &both).is_ok());
    let mut joined = parse(keys[2].file(&[]).expose()).unwrap();
    joined.extend(parse(keys[0].file(&[]).expose()).unwrap());
    assert_eq!(joined.recipients(), [texts[2].clone(), texts[0].clone()]);
    assert!(open(&object, &joined).is_ok());
}

#[test]
fn texts_that_are_no_recipients_are_refused() {
    let key = NewIdentity::generate();
    let good = key.recipient();
    assert!(matches!(recipients(&[]), Err(SealError::RecipientCount { have: 0, .. })));
    let many: Vec<_> = (0..=MAX_RECIPIENTS).map(|_| NewIdentity::generate().recipient()).collect();
    assert!(Recipients::parse(&many[..MAX_RECIPIENTS]).is_ok());
    assert!(matches!(Recipients::parse(&many), Err(SealError::RecipientCount { .. })));
    for again in [good.clone(), good.to_uppercase()] {
        assert!(matches!(recipients(&[&good, &again]), Err(SealError::DuplicateRecipient { .. })));
    }
    let mut typo = good.clone().into_bytes();
    typo[20] = if typo[20] == b'q' { b'p' } else { b'q' };
    let typo = String::from_utf8(typo).unwrap();
    let long = format!("age1{}", "q".repeat(5000));
    for text in [
        "",
        "age1",
        " ",
        &typo,
        &good[..40],
        &long,
        &format!("{good} "),
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA",
    ] {
        let error = recipients(&[text]).unwrap_err();
        assert!(matches!(error, SealError::BadRecipient { .. }), "{text:?}: {error}");
    }
    // A secret in the wrong place is refused without being repeated.
    let secret = key.file(&[]).expose().lines().last().unwrap().to_owned();
    for secret in [secret.to_lowercase(), secret] {
        let message = recipients(&[&secret]).unwrap_err().to_string();
        assert!(!message.contains(&secret[20..30]), "{message}");
    }
}

#[test]
fn a_missing_plugin_is_named_when_it_is_needed() {
    // The plugin "lifeboat-none" of no program, with four bytes of data; made with the bech32 of the age crate.
    let text = age_core::primitives::bech32_encode(bech32_prefix("age1lifeboat-none"), &[1, 2, 3, 4]);
    let sealed_to = recipients(&[&text]).unwrap();
    assert_eq!(sealed_to.plugins().collect::<Vec<_>>(), ["lifeboat-none"]);
    let error = sealer().seal_body(&sealed_to, b"{}").err().unwrap();
    assert!(matches!(&error, SealError::PluginMissing { plugin } if plugin == "lifeboat-none"), "{error}");
    // Another identity may do; if none does, the missing plugin might have.
    let key = NewIdentity::generate();
    let secret =
        age_core::primitives::bech32_encode(bech32_prefix("age-plugin-lifeboat-none-"), &[1]).to_uppercase();
    let object = sealer().seal_body(&recipients(&[&key.recipient()]).unwrap(), b"{}").unwrap();
    let both = parse(&format!("{secret}\n{}", key.file(&[]).expose())).unwrap();
    assert!(open(&object, &both).is_ok());
    let error = open(&object, &parse(&secret).unwrap()).err().unwrap();
    assert!(matches!(&error, SealError::PluginMissing { plugin } if plugin == "lifeboat-none"), "{error}");
}

fn bech32_prefix(text: &str) -> bech32::Hrp {
    bech32::Hrp::parse(text).unwrap()
}

#[test]
fn hardware_recipients_need_no_plugin_to_seal() {
    // A published test recipient of the age crate (P-256, "tag").
    let text = "age1tag1qt8lw0ual6avlwmwatk888yqnmdamm7xfd0wak53ut6elz5c4swx2yqdj4e";
    let key = NewIdentity::generate();
    let object = sealer().seal_body(&recipients(&[text, &key.recipient()]).unwrap(), b"{}").unwrap();
    assert_eq!(Header::parse(&object.bytes).unwrap().stanzas, 2);
    assert!(object.bytes.windows(11).any(|window| window == b"\n-> p256tag"));
    assert!(open(&object, &parse(key.file(&[]).expose()).unwrap()).is_ok());
}

#[test]
fn identity_files_hold_identities_and_comments() {
    let key = NewIdentity::generate();
    let file = key.file(&["vault: lb1abc", "role: restore\nAGE-not-a-second-line"]);
    let parsed = parse(file.expose()).unwrap();
    assert_eq!(parsed.recipients(), [key.recipient()]);
    let public = format!("public key: {}", key.recipient());
    assert_eq!(parsed.comments(), ["vault: lb1abc", "role: restore", "AGE-not-a-second-line", &public]);
    assert!(parse(&file.expose().replace('\n', "\r\n")).is_ok());

    assert!(matches!(parse(""), Err(SealError::NoIdentity)));
    assert!(matches!(parse("# nothing but comments\n\n"), Err(SealError::NoIdentity)));
    let secret = file.expose().lines().last().unwrap();
    let cut = format!("# a comment\n{}\n", &secret[..secret.len() - 1]);
    let error = parse(&cut).err().unwrap();
    assert!(
        matches!(error, SealError::BadIdentity { line: 2 }) && !error.to_string().contains(&secret[20..30])
    );
    assert!(matches!(parse(&key.recipient()), Err(SealError::BadIdentity { line: 1 })));
    let binary = Identities::parse(&[0xFF, 0xFE], None, NoCallbacks);
    assert!(matches!(binary, Err(SealError::BadIdentityFile { .. })));
    let large = vec![b'\n'; MAX_IDENTITY_FILE_BYTES + 1];
    assert!(matches!(Identities::parse(&large, None, NoCallbacks), Err(SealError::BadIdentityFile { .. })));
}

#[test]
fn a_passphrase_protects_an_identity_file() {
    let key = NewIdentity::generate();
    let text = key.file(&["vault: lb1abc"]);
    let right = Passphrase::new("correct horse".to_owned());
    // The default work factor once; less work for the rest.
    let file = text.protect(&right).unwrap();
    let stanza = file.split(|b| *b == b'\n').nth(1).unwrap();
    assert!(stanza.starts_with(b"-> scrypt ") && stanza.ends_with(b" 18"));
    assert!(Identities::is_protected(&file) && !Identities::is_protected(text.expose().as_bytes()));
    let parsed = Identities::parse(&file, Some(&right), NoCallbacks).unwrap();
    assert_eq!(parsed.recipients(), [key.recipient()]);
    assert_eq!(parsed.comments()[0], "vault: lb1abc");

    let file = text.protect_with_work_factor(&right, 4).unwrap();
    assert!(matches!(Identities::parse(&file, None, NoCallbacks), Err(SealError::PassphraseNeeded)));
    let wrong = Passphrase::new("correct horsf".to_owned());
    assert!(matches!(Identities::parse(&file, Some(&wrong), NoCallbacks), Err(SealError::WrongPassphrase)));
    let empty = Passphrase::new(String::new());
    assert!(matches!(text.protect(&empty), Err(SealError::EmptyPassphrase)));
    for position in (0..file.len()).step_by(23) {
        let mut damaged = file.clone();
        damaged[position] ^= 1;
        assert!(Identities::parse(&damaged, Some(&right), NoCallbacks).is_err(), "byte {position}");
        assert!(
            Identities::parse(&file[..position], Some(&right), NoCallbacks).is_err(),
            "cut to {position}"
        );
    }
    // In armour, as `age -p -a` writes it.
    let mut armor =
        age::armor::ArmoredWriter::wrap_output(Vec::new(), age::armor::Format::AsciiArmor).unwrap();
    armor.write_all(&file).unwrap();
    let armor = armor.finish().unwrap();
    assert!(Identities::is_protected(&armor));
    assert!(Identities::parse(&armor, Some(&right), NoCallbacks).is_ok());
    // The age crate opens it, too.
    let mut identity = age::scrypt::Identity::new("correct horse".to_owned().into());
    identity.set_max_work_factor(22);
    let identity: &dyn age::Identity = &identity;
    let mut reader = age::Decryptor::new(&file[..]).unwrap().decrypt([identity].into_iter()).unwrap();
    let mut plain = String::new();
    reader.read_to_string(&mut plain).unwrap();
    assert_eq!(plain, text.expose());
}

#[test]
fn identity_files_that_ask_for_absurd_work_are_refused_at_once() {
    let key = NewIdentity::generate();
    let passphrase = Passphrase::new("p".to_owned());
    let file = key.file(&[]).protect_with_work_factor(&passphrase, 4).unwrap();
    let position = file.windows(3).position(|window| window == b" 4\n").unwrap();
    let absurd = [&file[..position], b" 40\n", &file[position + 3..]].concat();
    let error = Identities::parse(&absurd, Some(&passphrase), NoCallbacks).err().unwrap();
    assert!(
        matches!(error, SealError::ExcessiveWork { required: 40, max: MAX_SCRYPT_WORK_FACTOR }),
        "{error}"
    );
    // An age file that is sealed to a recipient is no identity file.
    let (_, recipients) = identity();
    let object = sealer().seal_body(&recipients, b"{}").unwrap();
    let error = Identities::parse(&object.bytes, Some(&passphrase), NoCallbacks).err().unwrap();
    assert!(matches!(error, SealError::BadIdentityFile { .. }), "{error}");
}

#[test]
fn headers_keep_the_grammar_and_the_limits() {
    let (_, recipients) = identity();
    let object = sealer().seal_body(&recipients, b"{}").unwrap();
    let bytes = &object.bytes[..object.header_bytes as usize];
    for length in 0..bytes.len() {
        let error = Header::parse(&bytes[..length]).unwrap_err();
        assert_eq!(error, Corruption::HeaderTruncated { have: length });
    }
    let mac = format!("--- {}\n", "A".repeat(43));
    let header = |stanzas: &str| Header::parse(format!("age-encryption.org/v1\n{stanzas}{mac}").as_bytes());
    let stanza = "-> X25519 a\nAAAA\n";
    assert_eq!(header(stanza).unwrap().stanzas, 1);
    assert_eq!(header(&format!("{stanza}-> ]x-grease q\n\n{stanza}")).unwrap().stanzas, 2);
    let full_line = format!("-> x\n{}\n\n", "A".repeat(64));
    assert_eq!(header(&full_line).unwrap().stanzas, 1);
    for bad in [
        "",
        "-> \n\n",
        "->X25519 a\n\n",
        "-> a  b\n\n",
        "-> a \n\n",
        "-> a\r\n\n",
        "-> a\nA\n",
        "-> a\nAB\n",
        "-> a\nAAA=\n",
        "-> a\nA AA\n",
        "-> a\n",
        "-> a\n\n\n",
        "-> \u{e9}\n\n",
        "# comment\n",
    ] {
        let error = header(bad).unwrap_err();
        assert!(matches!(error, Corruption::HeaderGrammar { .. }), "{bad:?}: {error}");
    }
    assert!(header(&stanza.repeat(MAX_STANZAS)).is_ok());
    assert_eq!(header(&stanza.repeat(MAX_STANZAS + 1)), Err(Corruption::TooManyStanzas { max: MAX_STANZAS }));
    let long = format!("-> {}\n\n", "a".repeat(MAX_HEADER_BYTES));
    assert_eq!(header(&long), Err(Corruption::HeaderTooLong { max: MAX_HEADER_BYTES }));
    let full_lines = format!("-> a\n{}", "A".repeat(64) + "\n").repeat(1100);
    assert!(header(&full_lines).is_err());
    for other in
        ["age-encryption.org/v2\n", "age-encryption.org/v1\r\n", "-----BEGIN AGE ENCRYPTED FILE-----\n", "x"]
    {
        assert_eq!(Header::parse(other.as_bytes()), Err(Corruption::NotAgeV1), "{other:?}");
    }
}
