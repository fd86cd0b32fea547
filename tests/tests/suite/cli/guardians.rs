//! `lifeboat guardian`: who can open what, what a file is, and a guardian granted and revoked.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use lifeboat_key_protector::rand_core::SeedableRng as _;
use lifeboat_key_protector::{
    AlgorithmRegistry, AlgorithmSuite, EncodeOptions, KeyProtector, KeyProtectorTemplate, TransportKey,
};
use lifeboat_tests::testfabric::{Cast, Player};
use rand_chacha_0_10::ChaCha20Rng;

use super::desk::Desk;
use crate::told;

/// A VM key protector of the first tenant for the primary fabric, the owner's keys as PEM, and the metadata of the recovery fabric.
fn lay_out(desk: &Desk) -> std::sync::Arc<Cast> {
    let cast = Cast::of(desk.fabric.answers().options.guardian_seed).expect("a cast");
    let mut rng = ChaCha20Rng::seed_from_u64(5);
    let (suite, registry) = (AlgorithmSuite::synthetic(), AlgorithmRegistry::builtin());
    let (owner, fabric) = (cast.keys(Player::OwnerA), cast.keys(Player::PrimaryFabric));
    let template =
        KeyProtectorTemplate::new(owner, &[fabric], &suite, &registry, &mut rng).expect("a template");
    let transport_key = TransportKey::new(vec![0x5A; 32].into()).expect("a key");
    let bytes = template.encode(&transport_key, owner, &EncodeOptions::default(), &mut rng).expect("encoded");
    desk.write("kp.bin", &bytes);
    let decimal: Vec<String> = bytes.iter().map(u8::to_string).collect();
    desk.write("kp.txt", decimal.join("\r\n"));
    desk.write("sign.pem", owner.signing_key().encode_pem().expect("PEM").as_bytes());
    desk.write("enc.pem", owner.encryption_key().encode_pem().expect("PEM").as_bytes());
    desk.write("sign.cer", owner.signing_certificate().der());
    let recovery = cast.keys(Player::RecoveryFabric);
    desk.write("dr.xml", recovery.encode_metadata(&suite, &registry, &mut rng).expect("metadata"));
    cast
}

/// The transport key that a VM key protector gives to a player.
fn transport_key(desk: &Desk, name: &str, cast: &Cast, player: Player) -> Option<Vec<u8>> {
    let bytes = std::fs::read(desk.path(name)).expect("the file");
    let protector = KeyProtector::parse(&bytes).expect("a VM key protector");
    let key = cast.keys(player).encryption_key();
    let opened = protector.unwrap_transport_key(
        key,
        &AlgorithmRegistry::builtin(),
        &mut ChaCha20Rng::seed_from_u64(1),
    );
    opened.ok().map(|opened| opened.transport_key.expose().to_vec())
}

#[test]
fn the_vault_knows_who_can_open_which_vm() {
    let desk = Desk::with_snapshot();
    // Nothing but metadata is needed.
    let arguments = ["guardian", "list", "--identity", "kit/audit.identity"];
    desk.snapshot("guardian-list", &[desk.lifeboat(&arguments).ends(0)]);
    let list = desk.lifeboat(&["guardian", "list", "--json"]).ends(0).json();
    for vm in &desk.fabric.answers().vms {
        let thumbprints = |part: &str| -> Vec<String> {
            let all = list["guardians"].as_array().expect("guardians").iter();
            all.filter(|one| one[part].as_array().expect("VMs").iter().any(|name| name["vm_id"] == vm.vm_id))
                .map(|one| one["guardian"]["signing"]["sha256"].as_str().expect("text").to_owned())
                .collect()
        };
        let owner: Vec<String> = vm.owner.iter().map(ToString::to_string).collect();
        assert_eq!(thumbprints("owns"), owner, "{}", vm.name);
        let mut guardians: Vec<String> = vm.guardians.iter().map(ToString::to_string).collect();
        let mut listed = thumbprints("guards");
        guardians.sort();
        listed.sort();
        assert_eq!(listed, guardians, "{}", vm.name);
    }
}

#[test]
fn files_are_what_they_are_whatever_their_name() {
    let desk = Desk::new();
    lay_out(&desk);
    let inspect = |file: &str| desk.lifeboat(&["guardian", "inspect", file]);
    desk.snapshot(
        "guardian-inspect",
        &[inspect("kp.txt").ends(0), inspect("dr.xml").ends(0), inspect("sign.cer").ends(0)],
    );
    let key = desk.read("sign.pem");
    let base64: String = key.lines().filter(|line| !line.starts_with('-')).collect();
    let end = "</GuardianInformation>";
    let with_key = desk.read("dr.xml").replace(end, &format!("{end}<!--{base64}-->"));
    desk.write("given-away.xml", with_key);
    desk.write("given-away.cer", &key);
    let exposed = [inspect("given-away.xml").ends(3), inspect("given-away.cer").ends(3)];
    let secret = key.lines().nth(3).expect("a line of the key");
    for answer in &exposed {
        assert!(!answer.shown().contains(secret), "no secret is shown");
    }
    desk.snapshot("guardian-inspect-exposed", &exposed);
    let json = desk.lifeboat(&["guardian", "inspect", "given-away.cer", "--json"]).ends(3);
    assert!(!json.out.contains(secret));
    assert_eq!(json.json()["findings"][0]["code"], "PRIVATE-KEY-EXPOSED");
    let altered = std::fs::read(desk.path("kp.bin")).expect("the file");
    desk.write("cut.bin", &altered[..altered.len() - 5]);
    inspect("cut.bin").ends(4).says("the length prefix says");
    inspect("nothing.bin").ends(1).says("cannot be read");
}

#[test]
fn a_guardian_is_granted_and_revoked_and_the_transport_key_stays() {
    let desk = Desk::new();
    let cast = lay_out(&desk);
    let owner = ["--owner", "sign.pem", "--owner", "enc.pem"];
    let grant = |out: &str, more: &[&str]| {
        let all = [&["guardian", "grant", "kp.txt", "--guardian", "dr.xml", "--out", out][..], &owner, more]
            .concat();
        desk.lifeboat(&all)
    };
    let refused = grant("new.bin", &[]).ends(2).says("Grant-HgsKeyProtectorAccess");
    assert!(!desk.path("new.bin").exists());
    let granted = grant("new.bin", &["--i-have-a-copy"]).ends(0);
    desk.snapshot("guardian-grant", &[refused, granted]);
    let key = transport_key(&desk, "new.bin", &cast, Player::RecoveryFabric);
    assert_eq!(key, Some(vec![0x5A; 32]));
    assert_eq!(key, transport_key(&desk, "new.bin", &cast, Player::PrimaryFabric));
    grant("new.bin", &["--i-have-a-copy"]).ends(2).says("nothing is overwritten");
    // The certificates of another do not do.
    let wrong = [
        "guardian",
        "grant",
        "kp.bin",
        "--guardian",
        "dr.xml",
        "--out",
        "b.bin",
        "--owner",
        "sign.pem",
        "--i-have-a-copy",
    ];
    desk.lifeboat(&wrong).ends(5).says("encryption key");

    let thumbprint = cast.keys(Player::PrimaryFabric).signing_certificate().sha1().to_string();
    let revoke = [
        &[
            "guardian",
            "revoke",
            "new.bin",
            "--thumbprint",
            &thumbprint,
            "--out",
            "less.bin",
            "--i-have-a-copy",
        ][..],
        &owner,
    ]
    .concat();
    let json = desk.lifeboat(&[&revoke[..], &["--json"]].concat()).ends(0).json();
    assert_eq!(json["addressed_to"]["guardians"].as_array().map(Vec::len), Some(1));
    assert_eq!(transport_key(&desk, "less.bin", &cast, Player::PrimaryFabric), None);
    assert_eq!(transport_key(&desk, "less.bin", &cast, Player::RecoveryFabric), Some(vec![0x5A; 32]));
}

#[test]
fn the_owners_keys_come_out_of_pfx_files() {
    let desk = Desk::new();
    let cast = lay_out(&desk);
    let owner = cast.keys(Player::OwnerA);
    desk.write("enc.cer", owner.encryption_certificate().der());
    for name in ["sign", "enc"] {
        let run = |arguments: &[&str]| {
            let mut command = Command::new("openssl");
            command.args(arguments).current_dir(desk.path("")).stdout(Stdio::null()).stderr(Stdio::null());
            command.status().is_ok_and(|status| status.success())
        };
        let (cer, pem, key, pfx) =
            (format!("{name}.cer"), format!("{name}.crt.pem"), format!("{name}.pem"), format!("{name}.pfx"));
        if !run(&["x509", "-inform", "DER", "-in", &cer, "-out", &pem])
            || !run(&[
                "pkcs12",
                "-export",
                "-inkey",
                &key,
                "-in",
                &pem,
                "-out",
                &pfx,
                "-passout",
                "pass:pass word",
            ])
        {
            return told("skipped: no openssl");
        }
    }
    desk.write("password", "pass word\n");
    desk.lifeboat(&["guardian", "inspect", "sign.pfx"]).ends(0).says("its password was not given");
    let open = ["guardian", "inspect", "sign.pfx", "--passphrase-file", "password"];
    desk.lifeboat(&open)
        .ends(0)
        .says("with its private key")
        .says(&owner.signing_certificate().sha1().to_string());
    let grant = |password: &str| {
        let files = ["--owner", "sign.pfx", "--owner", "enc.pfx", "--passphrase-file", password];
        let rest =
            ["guardian", "grant", "kp.bin", "--guardian", "dr.xml", "--out", "new.bin", "--i-have-a-copy"];
        desk.lifeboat(&[&rest[..], &files].concat())
    };
    desk.write("wrong", "another\n");
    grant("wrong").ends(5).says("the password does not open this PFX");
    grant("password").ends(0);
    assert_eq!(transport_key(&desk, "new.bin", &cast, Player::RecoveryFabric), Some(vec![0x5A; 32]));
}

/// A double of an HGS that shows whatever metadata it was last given.
struct Hgs {
    address: String,
    metadata: Arc<Mutex<Vec<u8>>>,
}

impl Hgs {
    fn start(metadata: Vec<u8>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = format!("http://{}", listener.local_addr().expect("its address"));
        let metadata = Arc::new(Mutex::new(metadata));
        let shown = Arc::clone(&metadata);
        // Ends with the process.
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let mut lines = BufReader::new(&stream).lines().map_while(Result::ok);
                let asked = lines.next().unwrap_or_default();
                lines.take_while(|line| !line.is_empty()).for_each(drop);
                let (line, body) = if asked.contains(" /KeyProtection/service/metadata/2014-07/metadata.xml ")
                {
                    ("200 OK", shown.lock().expect("no panic").clone())
                } else {
                    ("404 Not Found", Vec::new())
                };
                let length = body.len();
                let head =
                    format!("HTTP/1.1 {line}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
                let _ = stream.write_all(&[head.as_bytes(), &body].concat());
            }
        });
        Self { address, metadata }
    }

    fn show(&self, metadata: Vec<u8>) {
        *self.metadata.lock().expect("no panic") = metadata;
    }
}

#[test]
fn guardian_metadata_are_fetched_for_who_compares_them() {
    let desk = Desk::new();
    let fabric = desk.fabric.cast().metadata(Player::PrimaryFabric).expect("metadata");
    let hgs = Hgs::start(fabric.clone());
    let fetch = |more: &[&str]| desk.lifeboat(&[&["guardian", "fetch", &hgs.address], more].concat());
    let shown = fetch(&["--out", "hgs.xml"]).ends(0).says("nothing here proves");
    assert!(std::fs::read(desk.path("hgs.xml")).expect("the file") == fabric, "{}", shown.shown());
    fetch(&["--out", "hgs.xml"]).ends(2).says("nothing is overwritten");
    let thumbprint =
        desk.fabric.cast().keys(Player::PrimaryFabric).signing_certificate().sha256().to_string();
    let right = fetch(&["--signing-certificate", &thumbprint]).ends(0);
    assert!(!right.out.contains("nothing here proves"), "{}", right.shown());
    let other = desk.fabric.cast().keys(Player::OwnerB).signing_certificate().sha256().to_string();
    fetch(&["--signing-certificate", &other, "--out", "other.xml"]).ends(4).says("another machine answers");
    hgs.show(b"<html>It works!</html>".to_vec());
    fetch(&["--out", "other.xml"]).ends(1).says("no guardian metadata");
    assert!(!desk.path("other.xml").exists());
    desk.lifeboat(&["guardian", "fetch", "hgs.example.com"]).ends(2).says("http://");
}

#[test]
fn metadata_of_a_service_are_kept_and_plans_know_the_fabric() {
    let desk = Desk::enrolled();
    let cast = desk.fabric.cast();
    let metadata = |player| cast.metadata(player).expect("metadata");
    let hgs = Hgs::start(metadata(Player::PrimaryFabric));
    let unchanged = desk.read("agent/agent.toml");
    let with = |more: &str| {
        let service = format!("\n[[hgs]]\nname = \"primary\"\nurl = \"{}\"\n{more}", hgs.address);
        desk.write("agent/agent.toml", unchanged.clone() + &service);
    };
    with("");
    desk.run().ends(0).says("1 found, 1 captured, 0 unchanged");
    desk.run().ends(0).says("1 found, 0 captured, 1 unchanged");

    // A plan without --fabric looks at what the vault holds.
    let shielded = desk.fabric.answers().vms[0].name.clone();
    let plan = |more: &[&str]| desk.lifeboat(&[&["restore", &shielded, "--plan"], more].concat());
    let known =
        plan(&[]).ends(0).says("Among the fabrics whose metadata the vault holds, one has the guardian");
    assert!(known.out.contains(&hgs.address), "{}", known.shown());
    desk.write("stranger.xml", metadata(Player::OwnerB));
    let given = plan(&["--fabric", "stranger.xml"]).ends(3);
    assert!(!given.out.contains("the vault holds"), "{}", given.shown());

    // Another pair is a finding until the configuration names it.
    hgs.show(metadata(Player::OwnerB));
    desk.run().ends(3).says("another primary pair than before");
    desk.run().ends(3).says("another primary pair than before");
    plan(&[]).ends(0).says("None of the fabrics whose metadata the vault holds has one of these guardians");
    let pin = |player: Player| {
        let thumbprint = cast.keys(player).signing_certificate().sha256().to_string().to_lowercase();
        format!("signing_certificate = \"{thumbprint}\"\n")
    };
    with(&pin(Player::OwnerB));
    desk.run().ends(0).says("1 found, 1 captured");
    desk.run().ends(0).says("1 unchanged");

    // What answers with another certificate than the one that is expected is refused, and what is held stays.
    with(&pin(Player::PrimaryFabric));
    desk.run().ends(3).says("is expected");
    desk.lifeboat(&["artefacts", "get", "companion/primary/metadata.xml", "--to", "back"]).ends(0);
    assert!(std::fs::read(desk.path("back/metadata.xml")).expect("kept") == metadata(Player::OwnerB));
}
