//! Files that Hyper-V and other writers wrote.
use lifeboat_vmcx::{Container, Node, Value, Wholeness};
use std::collections::BTreeMap;

fn data(name: &str) -> Option<Vec<u8>> {
    let folder = std::env::var_os("LIFEBOAT_TEST_DATA")
        .map(std::path::PathBuf::from)
        .unwrap_or_else(|| std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data"));
    match std::fs::read(folder.join("hyperv").join(name)) {
        Ok(bytes) => Some(bytes),
        Err(_) => {
            println!("skipped: test data not found ({name})");
            None
        }
    }
}

#[test]
fn quick() {
    for name in [
        "dissect-test.vmcx",
        "dissect-test.vmrs",
        "synth-openvmm-shielded.vmcx",
        "synth-openvmm-shielded.vmrs",
    ] {
        let Some(bytes) = data(name) else { return };
        let i = Container::inspect(&bytes[..]).unwrap();
        println!("{name} {:#?}", i.report);
        if name.starts_with("synth") {
            println!("{:#?}", i.container.unwrap().tree());
        }
        let t = std::time::Instant::now();
        for _ in 0..1000 {
            std::hint::black_box(Container::open(&bytes[..]).unwrap().tree().root());
        }
        println!("{:?} each", t.elapsed() / 1000);
        let c = Container::open(&bytes[..]).unwrap();
        let b = c.to_builder(1 << 20).unwrap();
        let t = std::time::Instant::now();
        let w = lifeboat_vmcx::VmcxWriter::new().encode(&b).unwrap();
        println!("write {:?}", t.elapsed());
        let i = Container::inspect(&w[..]).unwrap();
        println!("{:?}", i.report);
        assert_eq!(i.container.unwrap().to_builder(1 << 20).unwrap(), b);
    }
}
