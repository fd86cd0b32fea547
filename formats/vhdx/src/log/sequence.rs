//! The active sequence: the run of entries that must be replayed.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use uguid::Guid;

use crate::layout::LOG_SECTOR_BYTES;
use crate::log::entry::{LogEntry, LogRing};

/// Finds the entries to replay, in order, or nothing when there is no active sequence.
///
/// A run is a list of valid entries, each directly behind the one before (with wrap) and with the next sequence
/// number. A run counts when the tail of its last entry is the start of one of its entries; of the runs that count, the
/// one with the highest sequence number is active. Replay begins at the entry that the last entry's tail names: the
/// entries before it are applied already.
///
/// Runs are followed from their first entry only. A run that begins later in the same chain of entries ends at the same
/// last entry, so that looking at it as well could not change the answer, and this way the search is linear.
#[must_use]
pub fn find_active<'a>(ring: LogRing<'a>, log_guid: Guid) -> Option<Vec<LogEntry<'a>>> {
    let entries: BTreeMap<u32, LogEntry<'a>> = (0..ring.length())
        .step_by(LOG_SECTOR_BYTES)
        .filter_map(|start| LogEntry::parse(ring, start, log_guid).map(|entry| (start, entry)))
        .collect();
    let successor = |entry: &LogEntry<'a>| {
        entries
            .get(&entry.end())
            .filter(|next| Some(next.sequence_number()) == entry.sequence_number().checked_add(1))
    };
    let followers: BTreeSet<u32> = entries.values().filter_map(successor).map(LogEntry::start).collect();

    let mut best: Option<Vec<LogEntry<'a>>> = None;
    for first in entries.values().filter(|entry| !followers.contains(&entry.start())) {
        // Sequence numbers grow along a run, so that it cannot meet itself again.
        let run: Vec<LogEntry<'a>> =
            core::iter::successors(Some(first), |entry| successor(entry)).copied().collect();
        let Some(last) = run.last() else { continue };
        let Some(oldest) = run.iter().position(|entry| entry.start() == last.tail()) else { continue };
        let is_newer = best
            .as_ref()
            .and_then(|best| best.last())
            .is_none_or(|best| last.sequence_number() > best.sequence_number());
        if is_newer {
            best = Some(run[oldest..].to_vec());
        }
    }
    best
}
