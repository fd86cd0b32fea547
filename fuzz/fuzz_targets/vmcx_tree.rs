#![no_main]

use lifeboat_vmcx::{Container, VmConfiguration, VmcxWriter};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(container) = Container::open(bytes) else { return };
    let _ = VmConfiguration::read(&container);
    let Ok(tree) = container.to_builder(1 << 20) else { return };
    let Ok(written) = VmcxWriter::new().encode(&tree) else { return };
    let again = Container::open(&written[..]).expect("what the writer makes is whole");
    // A number that is not itself differs from its copy, so that bytes are compared.
    let again = again.to_builder(1 << 20).expect("the same sizes");
    assert!(VmcxWriter::new().encode(&again).expect("the same tree") == written);
});
