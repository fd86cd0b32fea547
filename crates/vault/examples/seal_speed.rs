//! Measures sealing and opening on one core, for each compression level and shape of data.
//!
//! `cargo run --release -p lifeboat-vault --example seal_speed` prints megabytes of content per second of processor
//! time (best of five) and the size of the objects as a share of their contents. Figures differ between machines; their ratios
//! hardly do.

#![allow(clippy::print_stdout, reason = "printing is what it is for")]

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use lifeboat_vault::seal::{
    BundleWriter, Identities, NewIdentity, NoCallbacks, ObjectKey, Opener, Recipients, SealError,
    SealOptions, SealedObject, Sealer,
};
use rand::rngs::StdRng;
use rand::{Rng, RngCore, SeedableRng};

/// A bundle is finished before it grows beyond this: just below a power of two, where padding is cheap.
const BUNDLE_BYTES: u64 = (8 << 20) - 4096;
const LEVELS: [i32; 8] = [-50, -20, -7, -3, -1, 1, 2, 3];

fn main() -> Result<(), SealError> {
    let identity = NewIdentity::generate();
    let recipients = Recipients::parse(&[identity.recipient()])?;
    let identities = Identities::parse(identity.file(&[]).expose().as_bytes(), None, NoCallbacks)?;
    for (shape, contents) in [
        ("random 40-130 KB", random()),
        ("30 % random, zeros, hex", mixed()),
        ("parts of 4 MiB, random", parts()),
    ] {
        println!("{shape}\n  level   seal MB/s   open+walk MB/s   size");
        for level in LEVELS {
            let options = SealOptions { compression_level: level };
            let (seal, open, size) = measure(&contents, &options, &recipients, &identities)?;
            println!("  {level:>5} {seal:>11.0} {open:>16.0} {:>5.1} %", size * 100.0);
        }
    }
    Ok(())
}

fn measure(
    contents: &[Vec<u8>],
    options: &SealOptions,
    recipients: &Recipients,
    identities: &Identities,
) -> Result<(f64, f64, f64), SealError> {
    let total: usize = contents.iter().map(Vec::len).sum();
    let (mut sealer, mut opener) = (Sealer::new(options)?, Opener::new()?);
    let (mut seal, mut open) = (Duration::MAX, Duration::MAX);
    let mut stored = 0;
    for _ in 0..5 {
        let start = cpu_time();
        stored = 0;
        seal_all(&mut sealer, contents, recipients, |sealer, object| {
            stored += object.bytes.len();
            sealer.recycle(object.bytes);
        })?;
        seal = seal.min(cpu_time() - start);
        let mut objects = Vec::new();
        seal_all(&mut sealer, contents, recipients, |_, object| objects.push(object))?;
        let start = cpu_time();
        for object in objects {
            let size = object.bytes.len() as u64;
            let key = ObjectKey::open(&object.bytes, object.header_bytes, size, identities)?;
            let plaintext = key.open_all(object.bytes, 1)?;
            opener.walk_bundle(&plaintext, total as u64, |_, content| {
                std::hint::black_box(content);
                Ok::<(), SealError>(())
            })?;
        }
        open = open.min(cpu_time() - start);
    }
    let speed = |time: Duration| total as f64 / 1e6 / time.as_secs_f64();
    Ok((speed(seal), speed(open), stored as f64 / total as f64))
}

/// Time that this thread has run, or wall-clock time where the system does not tell.
fn cpu_time() -> Duration {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    let statistics = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanoseconds = statistics.split(' ').next().and_then(|text| text.parse().ok());
    nanoseconds.map_or_else(|| START.elapsed(), Duration::from_nanos)
}

fn seal_all(
    sealer: &mut Sealer,
    contents: &[Vec<u8>],
    recipients: &Recipients,
    mut store: impl FnMut(&mut Sealer, SealedObject),
) -> Result<(), SealError> {
    let mut bundle = BundleWriter::create(sealer, recipients)?;
    for content in contents {
        if bundle.members() > 0 && bundle.sealed_bytes() + content.len() as u64 > BUNDLE_BYTES {
            let full = std::mem::replace(&mut bundle, BundleWriter::create(sealer, recipients)?);
            let object = full.finish(sealer)?;
            store(sealer, object);
        }
        bundle.append(sealer, content)?;
    }
    let object = bundle.finish(sealer)?;
    store(sealer, object);
    Ok(())
}

fn random() -> Vec<Vec<u8>> {
    let mut rng = StdRng::seed_from_u64(1);
    let mut one = || {
        let mut content = vec![0; rng.gen_range(40_000..130_000)];
        rng.fill_bytes(&mut content);
        content
    };
    (0..1500).map(|_| one()).collect()
}

fn mixed() -> Vec<Vec<u8>> {
    let mut rng = StdRng::seed_from_u64(2);
    let mut one = || {
        let mut content = vec![0; 40_000];
        rng.fill_bytes(&mut content[..12_000]);
        for digit in &mut content[28_000..] {
            *digit = b"0123456789abcdef"[rng.gen_range(0..16)];
        }
        content
    };
    (0..3000).map(|_| one()).collect()
}

fn parts() -> Vec<Vec<u8>> {
    let mut rng = StdRng::seed_from_u64(3);
    let mut one = || {
        let mut content = vec![0; 4 << 20];
        rng.fill_bytes(&mut content);
        content
    };
    (0..24).map(|_| one()).collect()
}
