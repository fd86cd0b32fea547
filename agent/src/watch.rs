//! Captures what changes between the scheduled snapshots.
//!
//! The system's word that something below a root changed is only a reason to look. Looking compares attributes with
//! the last capture, and those decide: so what our own reading stirs up triggers nothing, and where the system says
//! nothing (a network share, too many folders) looking at intervals does the same. Pure but for [`Feed`]: time is
//! handed in.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use lifeboat_config::WatchConfig;
use lifeboat_engine::changes::LookedAt;
use lifeboat_schema::{Digest, Time};
use notify::{EventKind, RecursiveMode, Watcher as _};
use tokio::sync::Notify;

/// How often to look while the system is trusted to tell of changes: for what it may have missed.
const LOOK_ANYWAY: Duration = Duration::from_secs(300);

/// The system's word that something changed.
pub struct Feed {
    stirred: Arc<Stirred>,
    _watcher: notify::RecommendedWatcher,
}

#[derive(Default)]
struct Stirred {
    is: AtomicBool,
    wake: Notify,
}

impl Feed {
    /// Lets the system tell of changes below `roots`.
    ///
    /// # Errors
    /// The system's reason, such as that a user may watch no more folders.
    pub fn open(roots: &[PathBuf]) -> Result<Self, notify::Error> {
        let stirred = Arc::new(Stirred::default());
        let told = Arc::clone(&stirred);
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // An opened or read file is none that changed; a failure may hide one that did.
            if !matches!(&event, Ok(event) if matches!(event.kind, EventKind::Access(_))) {
                told.is.store(true, Ordering::Release);
                told.wake.notify_one();
            }
        })?;
        for root in roots {
            watcher.watch(root, RecursiveMode::Recursive)?;
        }
        Ok(Self { stirred, _watcher: watcher })
    }

    /// Returns when something changed.
    pub async fn changed(&self) {
        while !self.stirred.is.load(Ordering::Acquire) {
            self.stirred.wake.notified().await;
        }
    }

    fn take(&self) -> bool {
        self.stirred.is.swap(false, Ordering::AcqRel)
    }
}

/// One VM between two looks.
#[derive(Debug, Clone)]
struct Seen {
    state: Digest,
    /// When its state was last another one.
    changed_at: Duration,
    /// Since when it differs from its last capture.
    differs_since: Option<Duration>,
}

/// What is known of the VMs between two captures.
pub struct Watch {
    config: WatchConfig,
    feed: Option<Feed>,
    seen: BTreeMap<String, Seen>,
    next_look: Duration,
}

impl Watch {
    /// A watch; nothing where it is turned off. Without `feed` it looks at intervals.
    pub fn new(config: &WatchConfig, feed: Option<Feed>, now: Duration) -> Option<Self> {
        let next_look = now + Duration::from_secs(u64::from(config.poll_seconds));
        config.enabled.then(|| Self { config: config.clone(), feed, seen: BTreeMap::new(), next_look })
    }

    /// The system's word, where it gives one.
    pub fn feed(&self) -> Option<&Feed> {
        self.feed.as_ref()
    }

    /// When to look next, if nothing is told before.
    pub fn next_look(&self) -> Duration {
        self.next_look
    }

    /// Whether to look now. A change that is told is looked at when it has had time to rest.
    pub fn is_look_due(&mut self, now: Duration) -> bool {
        if self.feed.as_ref().is_some_and(Feed::take) {
            let soon = now + self.quiet().min(Duration::from_secs(5));
            self.next_look = self.next_look.min(soon);
        }
        now >= self.next_look
    }

    /// Takes what a look found, and gives the keys of the VMs to be captured now. `wall` is what the captures' times are
    /// compared with.
    pub fn looked(&mut self, found: &[LookedAt], now: Duration, wall: Time) -> HashSet<String> {
        let longest = Duration::from_secs(u64::from(self.config.longest_wait_seconds));
        let mut due = HashSet::new();
        let mut waits = false;
        let mut seen = BTreeMap::new();
        for vm in found {
            let before = self.seen.remove(&vm.key);
            let mut one = before.unwrap_or(Seen { state: vm.state, changed_at: now, differs_since: None });
            if one.state != vm.state {
                (one.state, one.changed_at) = (vm.state, now);
            }
            one.differs_since = vm.differs.then(|| one.differs_since.unwrap_or(now));
            if let Some(since) = one.differs_since {
                waits = true;
                let rests = now.saturating_sub(one.changed_at) >= self.quiet();
                let waited = now.saturating_sub(since) >= longest;
                if (rests || waited) && self.is_above_floor(vm.captured, wall) {
                    due.insert(vm.key.clone());
                }
            }
            seen.insert(vm.key.clone(), one);
        }
        self.seen = seen;
        let pause = match (waits, &self.feed) {
            (true, _) => self.quiet().max(Duration::from_secs(1)),
            (false, Some(_)) => LOOK_ANYWAY,
            (false, None) => Duration::from_secs(u64::from(self.config.poll_seconds)),
        };
        self.next_look = now + pause;
        due
    }

    fn quiet(&self) -> Duration {
        Duration::from_secs(u64::from(self.config.quiet_seconds))
    }

    fn is_above_floor(&self, captured: Option<Time>, wall: Time) -> bool {
        captured.is_none_or(|captured| {
            let age = wall.unix_seconds() - captured.unix_seconds();
            // A capture of the future is of a clock that was put back.
            age < 0 || age >= i64::from(self.config.floor_seconds)
        })
    }
}

/// The folders that the system is to watch: those of the sources that exist.
pub(crate) fn roots(config: &lifeboat_config::Config) -> Vec<PathBuf> {
    let lifeboat_config::Config { sources, artefacts, .. } = config;
    let of_vms = sources.iter().flat_map(|lifeboat_config::SourceConfig::Directory { roots, .. }| roots);
    let beside =
        artefacts.iter().flat_map(|artefact| [Some(&artefact.folder), artefact.ingredients.as_ref()]);
    of_vms
        .chain(beside.flatten())
        .map(PathBuf::as_path)
        .filter(|path| path.is_dir())
        .map(Path::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watch(config: WatchConfig) -> Watch {
        Watch::new(&config, None, Duration::ZERO).unwrap()
    }

    fn vm(state: &str, differs: bool, captured: Option<i64>) -> LookedAt {
        LookedAt {
            key: "vm".to_owned(),
            state: Digest::of(state.as_bytes()),
            differs,
            captured: captured.map(Time::from_unix_seconds),
        }
    }

    /// Seconds at which a VM is captured, when `state_at` says what it looks like at each second.
    fn captures(config: WatchConfig, until: u64, state_at: impl Fn(u64) -> String) -> Vec<u64> {
        let mut watch = watch(config);
        let (mut captured, mut at) = (state_at(0), Some(0));
        let mut captures = Vec::new();
        for second in 0..until {
            let now = Duration::from_secs(second);
            if !watch.is_look_due(now) {
                continue;
            }
            let state = state_at(second);
            let found = [vm(&state, state != captured, at)];
            if !watch.looked(&found, now, Time::from_unix_seconds(second as i64)).is_empty() {
                (captured, at) = (state, Some(second as i64));
                captures.push(second);
            }
        }
        captures
    }

    #[test]
    fn a_change_is_captured_within_a_minute_after_it_rests() {
        let config = WatchConfig::default();
        assert!(captures(config.clone(), 3600, |_| "as it was".to_owned()).is_empty());
        for change in 100..160 {
            let seconds = captures(config.clone(), 3600, |second| (second >= change).to_string());
            assert_eq!(seconds.len(), 1);
            assert!((10..=45).contains(&(seconds[0] - change)), "{change}: {seconds:?}");
        }
    }

    #[test]
    fn a_vm_that_never_rests_is_captured_at_the_floor() {
        let config = WatchConfig { floor_seconds: 300, ..WatchConfig::default() };
        let seconds = captures(config, 3600, |second| second.to_string());
        assert!((10..=12).contains(&seconds.len()), "{seconds:?}");
        assert!(seconds.windows(2).all(|pair| pair[1] - pair[0] >= 300), "{seconds:?}");
    }

    #[test]
    fn nothing_is_watched_that_is_turned_off() {
        let config = WatchConfig { enabled: false, ..WatchConfig::default() };
        assert!(Watch::new(&config, None, Duration::ZERO).is_none());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn writing_is_told_and_reading_is_not() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("vm")).unwrap();
        let file = folder.path().join("vm/state");
        std::fs::write(&file, b"before").unwrap();
        let Ok(feed) = Feed::open(&[folder.path().to_owned()]) else { return };
        assert_eq!(std::fs::read(&file).unwrap(), b"before");
        let quiet = tokio::time::timeout(Duration::from_millis(300), feed.changed()).await;
        assert!(quiet.is_err() && !feed.take(), "reading is no change");
        std::fs::write(&file, b"after").unwrap();
        tokio::time::timeout(Duration::from_secs(20), feed.changed()).await.expect("a change is told");
        assert!(feed.take() && !feed.take());
    }
}
