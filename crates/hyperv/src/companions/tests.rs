use std::path::PathBuf;

use lifeboat_key_protector::PrivateKey;
use lifeboat_schema::PRIVATE_KEY_EXPOSED;
use rand_chacha_0_10::ChaCha20Rng;
use rand_chacha_0_10::rand_core::SeedableRng as _;

use super::*;

/// What a capture handed over: path, class, bytes.
#[derive(Default)]
struct Sink(Vec<(String, Class, Vec<u8>)>);

impl CaptureSink for Sink {
    fn begin_vm(&mut self, _: &VmIdentity<'_>) -> Result<(), SinkError> {
        self.0.clear();
        Ok(())
    }

    fn begin_file(&mut self, path: &str, _: ArtefactKind, class: Class) -> Result<(), SinkError> {
        self.0.push((path.to_owned(), class, Vec::new()));
        Ok(())
    }

    fn part(&mut self, bytes: &[u8]) -> Result<(), SinkError> {
        self.0.last_mut().expect("a file was begun").2.extend_from_slice(bytes);
        Ok(())
    }

    fn end_file(&mut self) -> Result<Digest, SinkError> {
        Ok(Digest::of(&self.0.last().expect("a file was begun").2))
    }
}

struct Place {
    folder: tempfile::TempDir,
    kind: CompanionKind,
}

impl Place {
    fn of(kind: CompanionKind) -> Self {
        Self { folder: tempfile::tempdir().expect("a folder"), kind }
    }

    fn with(self, path: &str, bytes: &[u8]) -> Self {
        let path = self.path(path);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        std::fs::write(path, bytes).expect("written");
        self
    }

    fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    fn source(&self, ingredients: Option<&str>) -> CompanionSource {
        CompanionSource::new(CompanionFolder {
            name: "here".to_owned(),
            kind: self.kind,
            folder: self.folder.path().to_owned(),
            ingredients: ingredients.map(|path| self.path(path)),
            vms: Vec::new(),
            owner_guardian: None,
            attempts: 2,
            retry_delay_milliseconds: 1,
        })
    }
}

/// Captures the companion of an id.
fn capture(source: &CompanionSource, id: &str) -> (CompanionRecord, Sink) {
    let found = source.discover().expect("readable").vms;
    let found = found.iter().find(|one| one.vm_id == id).unwrap_or_else(|| panic!("{id}: {found:?}"));
    let mut sink = Sink::default();
    let record = source.capture_companion(found, &mut sink).expect("captured");
    (record, sink)
}

fn private_key() -> String {
    let key = PrivateKey::generate(&mut ChaCha20Rng::seed_from_u64(3)).expect("a key");
    key.encode_pem().expect("PEM").to_string()
}

#[test]
fn ingredients_lie_anywhere_and_what_is_missing_is_told() {
    let place = Place::of(CompanionKind::HgsState)
        .with("state.xml", b"<State/>")
        .with("beside/hgs-tls.pfx", b"no matter")
        .with("beside/deeper/Cluster names.txt", b"HGS01");
    let source = place.source(Some("beside"));
    let ids: Vec<_> = source.discover().expect("readable").vms.into_iter().map(|one| one.vm_id).collect();
    assert_eq!(
        ids,
        [
            "companion/here/state.xml",
            "companion/here/ingredients/beside/deeper/Cluster names.txt",
            "companion/here/ingredients/hgs-tls.pfx"
        ]
        .map(|id| id.replace("ingredients/beside/", "ingredients/"))
    );
    let (record, sink) = capture(&source, "companion/here/state.xml");
    let held: Vec<_> = record.needs.iter().map(|need| need.held.join(",")).collect();
    assert_eq!(held, ["", "hgs-tls.pfx", "", "deeper/Cluster names.txt", ""]);
    assert_eq!((sink.0[0].1, sink.0[0].2.as_slice()), (Class::Machine, &b"<State/>"[..]));
    let (record, sink) = capture(&source, "companion/here/ingredients/hgs-tls.pfx");
    assert_eq!((record.kind, sink.0[0].1), (CompanionKind::Ingredient, Class::Secret));
}

#[test]
fn a_private_key_goes_to_escrow_wherever_it_lies() {
    let key = private_key();
    for kind in [
        CompanionKind::GuardianMetadata,
        CompanionKind::VolumeSignatureCatalog,
        CompanionKind::ShieldingData,
        CompanionKind::HgsState,
    ] {
        let place = Place::of(kind).with("a", format!("something {key}").as_bytes()).with("b", b"nothing");
        let (record, sink) = capture(&place.source(None), "companion/here/a");
        assert_eq!(
            (sink.0[0].1, record.findings[0].code.as_str()),
            (Class::Secret, PRIVATE_KEY_EXPOSED),
            "{kind}"
        );
        let (record, sink) = capture(&place.source(None), "companion/here/b");
        assert_eq!((sink.0[0].1, record.findings.len()), (Class::Machine, 0), "{kind}");
    }
    let place = Place::of(CompanionKind::OwnerKeys).with("a.pem", key.as_bytes());
    let (record, sink) = capture(&place.source(None), "companion/here/a.pem");
    assert_eq!((sink.0[0].1, record.findings.len(), record.private_key), (Class::Secret, 0, true));
    assert!(record.remarks.iter().any(|remark| remark.contains("no password")), "{:?}", record.remarks);
}

#[test]
fn what_a_capture_watched_holds_until_it_changes() {
    let place =
        Place::of(CompanionKind::ShieldingData).with("a.pdk", b"pdk").with("made/unattend.xml", b"<a/>");
    let source = place.source(Some("made"));
    let found = source.discover().expect("readable").vms.remove(0);
    let watched = source.watched(&found.files[0].location);
    assert!(source.still_holds(&found, &watched));
    std::fs::remove_file(place.path("made/unattend.xml")).expect("removed");
    assert!(!source.still_holds(&found, &watched));
}

#[cfg(unix)]
#[test]
fn links_are_told_and_not_followed() {
    let place = Place::of(CompanionKind::OwnerKeys).with("a.pfx", b"a");
    std::os::unix::fs::symlink("/etc/passwd", place.path("b.pfx")).expect("a link");
    let discovery = place.source(None).discover().expect("readable");
    assert_eq!((discovery.vms.len(), discovery.problems.len()), (1, 1));
    assert!(discovery.problems[0].error.to_string().contains("symbolic link"));
    let nowhere = Place { folder: tempfile::tempdir().expect("a folder"), kind: CompanionKind::OwnerKeys };
    let source = nowhere.source(None);
    drop(nowhere);
    assert!(matches!(source.discover(), Err(SourceError::Unreadable { .. })));
}
