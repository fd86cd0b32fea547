//! Records as an attacker writes them: foreign, in another armour, with another reading of their JSON.

use bytes::Bytes;
use lifeboat_schema::{Digest, Record, VaultId};
use lifeboat_vault::key::{RECORD_NAMESPACE, SigningKey};
use lifeboat_vault::record::{RecordName, SignedRecord};
use ssh_key::private::Ed25519Keypair;
use ssh_key::{HashAlg, LineEnding, PrivateKey};

use super::specimen::{Specimen, ledger_of, seq_of};

/// Signs any line, as a stolen key can.
pub(super) fn sign(line: &[u8], seed: &[u8; 32]) -> String {
    let key = PrivateKey::from(Ed25519Keypair::from_seed(seed));
    let signature = key.sign(RECORD_NAMESPACE, HashAlg::Sha512, line).expect("a signature");
    let mut armour = signature.to_pem(LineEnding::LF).expect("an armour");
    if !armour.ends_with('\n') {
        armour.push('\n');
    }
    armour
}

/// Records that do not belong where they are put.
pub(super) async fn records(specimen: &Specimen) -> Vec<(&'static str, String, Bytes)> {
    let stage = &specimen.stage;
    let ledgers = stage.vault.ledgers(&Default::default()).await.expect("ledgers");
    let [one, two] = [&stage.hosts[0], &stage.hosts[1]];
    let newest = &ledgers.writers[&one.id].newest().expect("a record").signed;
    let next = Record { seq: newest.name.seq + 1, prev: Some(newest.name.id), ..newest.record.clone() };
    let at = |signed: &SignedRecord| format!("ledger/{}/{}", one.id, signed.name);
    let mut forged = Vec::new();
    let other_vault = Record { vault: VaultId::of(b"another"), ..next.clone() };
    let other_writer = Record { writer: two.id.clone(), ..next.clone() };
    for (kind, record, key) in [
        ("record signed by an unknown key", next.clone(), SigningKey::from_seed(&[99; 32])),
        ("record signed by another host", next.clone(), two.key()),
        ("record of another vault", other_vault, one.key()),
        ("record of another writer", other_writer, one.key()),
    ] {
        let signed = SignedRecord::sign(record, &key).expect("a signature");
        forged.push((kind, at(&signed), signed.bytes));
    }
    let signed = SignedRecord::sign(next.clone(), &one.key()).expect("a signature");
    let (line, _) = split(&signed.bytes);
    forged.push(("record without a signature", at(&signed), Bytes::copy_from_slice(line)));
    let (_, armour) = split(&newest.bytes);
    forged.push(("record with the signature of another", at(&signed), [line, armour].concat().into()));

    let policy = &ledgers.admin.newest().expect("a policy").signed;
    let next = Record {
        seq: policy.name.seq + 1,
        prev: Some(policy.name.id),
        policy: Some(lifeboat_schema::PolicyRef { seq: policy.name.seq, id: policy.name.id }),
        ..policy.record.clone()
    };
    let signed = SignedRecord::sign(next, &one.key()).expect("a signature");
    forged.push(("policy signed by a host", format!("ledger/admin/{}", signed.name), signed.bytes));
    forged
}

fn split(record: &[u8]) -> (&[u8], &[u8]) {
    record.split_at(record.iter().position(|b| *b == b'\n').expect("a line") + 1)
}

/// The same signature in other forms: `ssh-keygen` takes some of them, a vault takes none.
pub(super) fn armours(record: &Bytes) -> Vec<(&'static str, Bytes)> {
    let (line, armour) = split(record);
    let armour = std::str::from_utf8(armour).expect("ASCII");
    let base64: String = armour.lines().filter(|line| !line.starts_with("-----")).collect();
    let (begin, end) = ("-----BEGIN SSH SIGNATURE-----", "-----END SSH SIGNATURE-----");
    let wide = |columns: usize| {
        let lines: Vec<&str> =
            base64.as_bytes().chunks(columns).map(|c| std::str::from_utf8(c).expect("ASCII")).collect();
        format!("{begin}\n{}\n{end}\n", lines.join("\n"))
    };
    assert_eq!(wide(70), armour, "70 columns are the canonical form");
    let without = |text: &str| text.trim_end().to_owned();
    let forms = [
        ("armour of 64 columns", wide(64)),
        ("armour of 71 columns", wide(71)),
        ("armour of 76 columns", wide(76)),
        ("armour in one line", wide(base64.len())),
        ("armour without its last line feed", without(armour)),
        ("armour with a line feed more", format!("{armour}\n")),
        ("armour with bytes behind", format!("{armour}x")),
        ("armour with a space before", format!(" {armour}")),
        ("armour with CR LF", armour.replace('\n', "\r\n")),
        ("armour twice", format!("{armour}{armour}")),
        ("armour with a comment", armour.replacen("-----\n", "-----\nComment: a\n", 1)),
        ("armour under another label", armour.replace("SSH SIGNATURE", "PGP SIGNATURE")),
        ("armour missing", String::new()),
    ];
    forms.into_iter().map(|(kind, form)| (kind, [line, form.as_bytes()].concat().into())).collect()
}

/// The line of a record with another reading, as found and signed again by whoever holds the ledger's key.
pub(super) fn lines(specimen: &Specimen, path: &str, record: &Bytes) -> Vec<(&'static str, String, Bytes)> {
    let ledger = ledger_of(path).expect("a ledger");
    let (line, armour) = split(record);
    let text = std::str::from_utf8(line).expect("ASCII");
    let named = |line: &str| {
        let name = RecordName { seq: seq_of(path), id: Digest::of(line.as_bytes()) };
        format!("{ledger}/{name}")
    };
    let host = specimen.stage.hosts.iter().find(|host| ledger.ends_with(host.id.as_str()));
    let seed = host.map_or([1; 32], |host| *host.seed());
    let seq = format!("\"seq\":{}", seq_of(path));
    let doubled = text.replacen(&seq, &format!("{seq},{seq}"), 1);
    let other = text.replacen(&seq, &format!("\"seq\":1,{seq}"), 1);
    let nested = text.replacen("\"name\":\"", "\"name\":\"x\",\"name\":\"", 1);
    assert_ne!(doubled, text);
    let mut all = Vec::new();
    for doubled in [&doubled, &other, &nested] {
        let unsigned: Bytes = [doubled.as_bytes(), armour].concat().into();
        all.push(("duplicate key, not signed again", path.to_owned(), unsigned.clone()));
        if doubled != text {
            all.push(("duplicate key, not signed again, own id", named(doubled), unsigned));
        }
    }
    let mut signed = |kind, line: &str| {
        assert_ne!(line, text, "{kind}");
        let bytes = [line.as_bytes(), sign(line.as_bytes(), &seed).as_bytes()].concat();
        all.push((kind, named(line), Bytes::from(bytes)));
    };
    signed("duplicate key, signed by the writer", &doubled);
    signed("duplicate key, signed by the writer", &other);
    signed("float, signed by the writer", &text.replacen(&seq, &format!("{seq}.0"), 1));
    signed("unknown key, signed by the writer", &text.replacen(&seq, &format!("{seq},\"also\":1"), 1));
    signed(
        "critical extension, signed by the writer",
        &text.replacen(&seq, &format!("\"critical\":[\"x\"],{seq}"), 1),
    );
    signed("newer version, signed by the writer", &text.replacen("\"v\":1", "\"v\":2", 1));
    signed("control character, signed by the writer", &text.replacen(&seq, &format!("{seq}\t"), 1));
    all
}
