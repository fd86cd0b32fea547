#![no_main]

use libfuzzer_sys::fuzz_target;
use lifeboat_disk_head::DiskHead;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(head) = DiskHead::parse(bytes) {
        assert_eq!(head.encode().as_deref(), Ok(bytes));
    }
});
