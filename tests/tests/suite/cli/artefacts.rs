//! What is kept beside VMs: every kind of folder into the vault, who may read which, and back byte for byte; and `explain`.

use std::collections::BTreeMap;

use lifeboat_disk::fixtures::id;
use lifeboat_key_protector::rand_core::SeedableRng as _;
use lifeboat_key_protector::{
    AlgorithmRegistry, AlgorithmSuite, EncodeOptions, KeyProtectorTemplate, TransportKey,
};
use lifeboat_tests::testfabric::{Cast, Player};
use lifeboat_vhdx::{
    CarriedItem, MetadataFlags, NewDiskIds, NewDiskKind, SparseImage, VhdxOptions, VhdxWriter,
};
use rand_chacha_0_10::ChaCha20Rng;

use super::desk::Desk;

/// The outline of a PFX, with bytes of no meaning in it.
fn pfx(seed: u8) -> Vec<u8> {
    let outline = [
        0x30, 0x82, 0x02, 0x18, 0x02, 0x01, 0x03, 0x30, 0x82, 0x02, 0x11, 0x06, 0x09, 0x2A, 0x86, 0x48, 0x86,
        0xF7, 0x0D, 0x01, 0x07, 0x01, 0xA0, 0x82, 0x02, 0x02,
    ];
    let content = (0..514u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8 ^ seed);
    outline.into_iter().chain(content).collect()
}

/// A disk of 64 MiB with a metadata item that VHDX does not define.
fn template_disk() -> Vec<u8> {
    let ids = NewDiskIds { virtual_disk_id: id(901), file_write_guid: id(902), data_write_guid: id(903) };
    let mut options = VhdxOptions::new(NewDiskKind::Dynamic, 64 << 20, ids);
    options.block_bytes = 1 << 20;
    let bytes = b"signed catalog of the template".to_vec();
    options.items.push(CarriedItem { id: id(904), flags: MetadataFlags(2), bytes });
    let writer = VhdxWriter::create(SparseImage::new(), options).expect("options that are allowed");
    writer.finish().expect("memory takes it").0.to_bytes()
}

/// Files of every kind, and the configuration that names them; answers the contents by path.
fn lay_out(desk: &Desk) -> BTreeMap<&'static str, Vec<u8>> {
    let cast = Cast::of(desk.fabric.answers().options.guardian_seed).expect("a cast");
    let mut rng = ChaCha20Rng::seed_from_u64(6);
    let (suite, registry) = (AlgorithmSuite::synthetic(), AlgorithmRegistry::builtin());
    let (owner, fabric, local) =
        (cast.keys(Player::OwnerA), cast.keys(Player::PrimaryFabric), cast.keys(Player::LocalMode));
    let template =
        KeyProtectorTemplate::new(owner, &[fabric], &suite, &registry, &mut rng).expect("a template");
    let transport_key = TransportKey::new(vec![0x5A; 32].into()).expect("a key");
    let document =
        template.encode(&transport_key, owner, &EncodeOptions::default(), &mut rng).expect("encoded");
    let mut pdk = b"PDK\0\x01".to_vec();
    pdk.extend_from_slice(&document[4..]);
    pdk.extend_from_slice(&[0xEE; 700]);
    let recovery = cast.keys(Player::RecoveryFabric);
    let mut exposed = recovery.encode_metadata(&suite, &registry, &mut rng).expect("metadata");
    let pem = recovery.signing_key().encode_pem().expect("PEM");
    let base64: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    exposed.extend_from_slice(format!("<!--{base64}-->").as_bytes());
    let files: BTreeMap<&'static str, Vec<u8>> = [
        ("pdk/contoso.pdk", pdk),
        (
            "pdk-made-of/unattend.xml",
            b"<unattend><Password>not for the fabric</Password></unattend>".to_vec(),
        ),
        ("pdk-made-of/rdp.pfx", pfx(1)),
        // More than one part.
        ("vsc/server.vsc", (0..5_000_000u32).map(|at| (at >> 4) as u8).collect()),
        ("guardians/primary.xml", fabric.encode_metadata(&suite, &registry, &mut rng).expect("metadata")),
        ("guardians/recovery.xml", exposed),
        ("hgs/state.xml", b"<HgsServerState>encrypted by its password</HgsServerState>".to_vec()),
        ("hgs-beside/hgs-tls.pfx", pfx(2)),
        ("owner/sign.pfx", pfx(3)),
        ("owner/sign.cer", owner.signing_certificate().der().to_vec()),
        ("owner/enc.pfx", pfx(4)),
        ("owner/enc.cer", owner.encryption_certificate().der().to_vec()),
        ("local/sign.pfx", pfx(5)),
        ("local/sign.cer", local.signing_certificate().der().to_vec()),
        ("signing/template.pfx", pfx(6)),
        ("templates/server.vhdx", template_disk()),
    ]
    .into();
    for (path, content) in &files {
        let path = desk.path("beside").join(path);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        std::fs::write(path, content).expect("written");
    }
    let folder = |kind: &str, name: &str, rest: &str| {
        format!("\n[[artefact]]\nkind = \"{kind}\"\nname = \"{name}\"\nfolder = \"../beside/{name}\"\n{rest}")
    };
    let configuration = [
        folder("shielding-data", "pdk", "ingredients = \"../beside/pdk-made-of\"\n"),
        folder("volume-signature-catalog", "vsc", ""),
        folder("guardian-metadata", "guardians", ""),
        folder("hgs-state", "hgs", "ingredients = \"../beside/hgs-beside\"\n"),
        folder("owner-keys", "owner", ""),
        folder("local-guardian-keys", "local", "vms = [\"app-001\"]\n"),
        folder("template-signing-keys", "signing", ""),
        folder("template-disk", "templates", ""),
    ];
    desk.edit("agent/agent.toml", |text| text.to_owned() + &configuration.concat());
    files
}

fn get(desk: &Desk, role: &str, id: &str, to: &str) -> super::desk::Answer {
    let identity = format!("kit/{role}.identity");
    desk.lifeboat(&["artefacts", "get", id, "--to", to, "--identity", &identity])
}

/// Which roles open what, by the path of the file.
fn readers(path: &str) -> &'static [&'static str] {
    match path.split('/').next().unwrap_or_default() {
        // The key in it hides it from the others.
        "guardians" if path.contains("recovery") => &["escrow"],
        "pdk" | "vsc" | "guardians" | "hgs" => &["restore"],
        "templates" => &["restore", "escrow"],
        _ => &["escrow"],
    }
}

fn id_of(path: &str) -> String {
    let path = path.replace("pdk-made-of/", "pdk/ingredients/").replace("hgs-beside/", "hgs/ingredients/");
    format!("companion/{path}")
}

#[test]
fn every_kind_goes_into_the_vault_and_comes_back_to_who_may_have_it() {
    let desk = Desk::enrolled();
    let files = lay_out(&desk);
    let first = desk.run().ends(3).says("16 found, 16 captured, 0 unchanged");
    let second = desk.run().ends(3).says("16 found, 0 captured, 16 unchanged");
    desk.snapshot("artefacts-run", &[first, second]);
    let json = desk.agent(&["run", "--once", "--config", "agent/agent.toml", "--json"]).ends(3).json();
    // The body, which says that nothing changed.
    assert_eq!((json["stored_objects"].as_u64(), json["found"].as_u64()), (Some(1), Some(3)), "{json}");
    assert_eq!(json["findings"][0]["code"], "PRIVATE-KEY-EXPOSED");

    let list = ["artefacts", "list", "--identity", "kit/audit.identity"];
    desk.snapshot("artefacts-list", &[desk.lifeboat(&list).ends(3)]);
    for (path, role) in [
        ("pdk/contoso.pdk", "audit"),
        ("pdk-made-of/unattend.xml", "restore"),
        ("vsc/server.vsc", "escrow"),
        ("guardians/recovery.xml", "restore"),
        ("owner/sign.pfx", "restore"),
        ("owner/sign.pfx", "audit"),
        ("templates/server.vhdx", "audit"),
    ] {
        assert!(files.contains_key(path) && !readers(path).contains(&role));
        get(&desk, role, &id_of(path), "none").ends(5).says("sealed to");
        assert!(desk.digests("none").is_empty(), "{path} for {role}");
    }
    for (number, (path, content)) in files.iter().enumerate() {
        let to = format!("back/{number}");
        get(&desk, readers(path)[0], &id_of(path), &to).ends(if path.contains("recovery") { 3 } else { 0 });
        if path.starts_with("templates/") {
            let head = std::fs::read(desk.path(&to).join("disk-head.tar")).expect("the head");
            let catalog = b"signed catalog of the template";
            assert!(head.windows(catalog.len()).any(|window| window == catalog));
            continue;
        }
        let name = path.rsplit('/').next().expect("a name");
        let back = std::fs::read(desk.path(&to).join(name)).expect("it came back");
        assert!(back == *content, "{path} is byte for byte what it was");
    }
    // Nothing is overwritten, and nothing else is meant.
    get(&desk, "restore", "contoso.pdk", "back/again").ends(0);
    get(&desk, "restore", "contoso.pdk", "back/again").ends(2).says("nothing is overwritten");
    get(&desk, "escrow", "sign.pfx", "back/x").ends(2).says("give the id of one");
    get(&desk, "restore", "nothing.pdk", "back/x").ends(1).says("artefacts list");
    // The identity that the kit has for it is taken.
    desk.lifeboat(&["artefacts", "get", "companion/owner/sign.pfx", "--to", "back/kit"]).ends(0);
    desk.lifeboat(&["check", "--read-data"]).ends(3).says("PRIVATE-KEY-EXPOSED");
    // VMs are listed without them.
    assert_eq!(desk.lifeboat(&["vms", "--json"]).ends(0).json()["vms"].as_array().map(Vec::len), Some(3));

    let secret = &pfx(3)[100..200];
    for (path, _) in desk.digests("agent") {
        let bytes = std::fs::read(&path).expect("readable");
        assert!(
            !bytes.windows(secret.len()).any(|window| window == secret),
            "{} holds a PFX",
            path.display()
        );
    }
}

#[test]
fn what_changes_is_captured_and_what_goes_is_carried_forward() {
    let desk = Desk::enrolled();
    let files = lay_out(&desk);
    // Without the key that lies open there is nothing to complain of.
    desk.write("beside/guardians/recovery.xml", &files["guardians/primary.xml"]);
    desk.run().ends(0).says("16 found, 16 captured");
    desk.write("beside/vsc/server.vsc", "another template");
    std::fs::remove_file(desk.path("beside/owner/enc.pfx")).expect("removed");
    // An ingredient that is gone changes what is told of what is made of it.
    std::fs::remove_file(desk.path("beside/pdk-made-of/unattend.xml")).expect("removed");
    let run = desk.run().ends(0).says("14 found, 2 captured, 12 unchanged");
    assert!(run.out.contains("enc.pfx") && run.out.contains("unattend.xml"), "{}", run.shown());
    get(&desk, "restore", "server.vsc", "new").ends(0);
    assert_eq!(desk.read("new/server.vsc"), "another template");
    get(&desk, "escrow", "companion/owner/enc.pfx", "kept").ends(0);
    assert_eq!(std::fs::read(desk.path("kept/enc.pfx")).expect("it is kept"), files["owner/enc.pfx"]);
    // A folder that is not there is an error of the run, and loses nothing.
    std::fs::rename(desk.path("beside/local"), desk.path("beside/elsewhere")).expect("moved");
    desk.run().ends(3).says("local");
    get(&desk, "escrow", "companion/local/sign.pfx", "kept").ends(0);
}

#[test]
fn explain_says_what_is_held_and_walks_through_losses() {
    let desk = Desk::enrolled();
    desk.run().ends(0);
    let vms: Vec<String> = desk.fabric.answers().vms.iter().map(|vm| vm.name.clone()).collect();
    let (shielded, local) = (&vms[0], &vms[1]);
    let lose = |vm: &str, kinds: &[&str]| {
        desk.lifeboat(&[&["explain", vm, "--identity", "kit/audit.identity", "--lose"][..], kinds].concat())
    };
    let outcome = |vm: &str, kinds: &[&str]| {
        let all = [&["explain", vm, "--json", "--lose"][..], kinds].concat();
        desk.lifeboat(&all).json()["what_if"]["outcome"].as_str().expect("an outcome").to_owned()
    };
    desk.snapshot(
        "explain",
        &[desk.lifeboat(&["explain", shielded, "--identity", "kit/audit.identity"]).ends(0)],
    );
    desk.snapshot(
        "explain-lose",
        &[
            lose(shielded, &["vm-files", "hgs-state"]).ends(0),
            lose(local, &["local-guardian-keys", "recovery-secrets"]).ends(0),
        ],
    );
    assert_eq!(outcome(local, &["vm-files", "vtpm-state", "key-protector"]), "starts");
    assert_eq!(outcome(local, &["local-guardian-keys"]), "data-by-recovery-secret");
    assert_eq!(outcome(shielded, &["hgs-state"]), "starts-after-grant");
    assert_eq!(outcome(shielded, &["hgs-state", "owner-keys"]), "data-by-recovery-secret");
    assert_eq!(outcome(shielded, &["shielding-data"]), "unharmed");
    desk.lifeboat(&["explain", "nobody"]).ends(1).says("lifeboat vms");
    desk.lifeboat(&["explain", shielded, "--lose", "everything"]).ends(2).says("vtpm-state");

    lay_out(&desk);
    desk.run().ends(3);
    desk.snapshot("explain-with-artefacts", &[desk.lifeboat(&["explain", shielded]).ends(0)]);
    assert_eq!(outcome(shielded, &["hgs-state", "owner-keys"]), "starts-after-grant");
    // Of the local guardian only one PFX is there.
    assert_eq!(outcome(local, &["local-guardian-keys"]), "data-by-recovery-secret");
    desk.write("beside/local/enc.pfx", pfx(9));
    let cast = Cast::of(desk.fabric.answers().options.guardian_seed).expect("a cast");
    desk.write("beside/local/enc.cer", cast.keys(Player::LocalMode).encryption_certificate().der());
    desk.run().ends(3);
    assert_eq!(outcome(local, &["local-guardian-keys"]), "starts");
}

#[test]
fn one_id_on_two_hosts_needs_the_name_of_one() {
    let desk = Desk::enrolled();
    desk.lifeboat(&["host", "enroll", "hv02", "--root", &desk.root(), "--out", "agent2"]).ends(0);
    for (agent, content) in [("agent", "of the first"), ("agent2", "of the second")] {
        let folder = format!("{agent}/pdk");
        std::fs::create_dir(desk.path(&folder)).expect("a folder");
        desk.write(&format!("{folder}/tier.pdk"), content);
        desk.edit(&format!("{agent}/agent.toml"), |text| {
            format!("{text}\n[[artefact]]\nkind = \"shielding-data\"\nname = \"pdk\"\nfolder = \"pdk\"\n")
        });
        let config = format!("{agent}/agent.toml");
        desk.agent(&["run", "--once", "--config", &config]);
    }
    let get = |more: &[&str]| desk.lifeboat(&[&["artefacts", "get", "tier.pdk", "--to"], more].concat());
    get(&["back"]).ends(2).says("2 hosts").says("hv01, hv02");
    get(&["back", "--host", "hv03"]).ends(2).says("hv01, hv02");
    get(&["back1", "--host", "hv01"]);
    get(&["back2", "--host", "HV02"]);
    assert_eq!(desk.read("back1/tier.pdk"), "of the first");
    assert_eq!(desk.read("back2/tier.pdk"), "of the second");
}
