//! One VM is one VM across hosts: which of its states counts, whether it still exists, and what the others are.
//!
//! The newest *captured* state counts, never a copy that a host only carries; a host that has it unchanged since an earlier
//! capture, and looked later, comes before the copy that another host carries. That a host no longer finds a VM says nothing
//! while another host, to which it may have moved, has not run since. Clocks of hosts are believed as far as lists go; nothing
//! but labels hangs on them.

use std::collections::BTreeMap;

use lifeboat_schema::{CarriedWhy, OtherWhat, Time};

use crate::facts::{Facts, HostFacts, StateFacts};
use crate::policy::MaximumAge;

/// The states of one VM.
pub(crate) struct Truth<'f> {
    /// The newest captured one.
    pub(crate) state: &'f StateFacts,
    /// Whether the VM is still there.
    pub(crate) presence: Presence,
    /// When its files were last known to be as they were captured.
    pub(crate) seen: Time,
    /// States of other hosts.
    pub(crate) others: Vec<(&'f StateFacts, OtherWhat)>,
}

/// Whether a VM is still there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Presence {
    /// A host has it.
    Present,
    /// Its host could not read it.
    Failed,
    /// Its host no longer finds it since then, and other hosts did not run since.
    Gone(Time),
    /// No host finds it since then.
    Vanished(Time),
}

/// Joins states by VM id.
pub(crate) fn truths<'f>(facts: &'f Facts, age: &MaximumAge, now: Time) -> Vec<Truth<'f>> {
    let mut groups: BTreeMap<&str, Vec<&StateFacts>> = BTreeMap::new();
    for state in &facts.states {
        groups.entry(&state.vm.vm_id).or_default().push(state);
    }
    groups.into_values().filter_map(|group| truth(group, &facts.hosts, age, now)).collect()
}

fn truth<'f>(
    group: Vec<&'f StateFacts>,
    hosts: &[HostFacts],
    age: &MaximumAge,
    now: Time,
) -> Option<Truth<'f>> {
    let ended = |state: &StateFacts| hosts[state.host].last_run.1;
    let began = |one: &StateFacts| hosts[one.host].last_run.0;
    let newest = *group.iter().max_by_key(|one| (one.captured, one.carried.is_none(), ended(one)))?;
    // A host that found it unchanged after the newest copy was read elsewhere, where it no longer is: it went back there.
    let is_back = |one: &&&StateFacts| one.carried.is_none() && began(one) > newest.captured;
    let back = group.iter().filter(|_| newest.carried.is_some()).filter(is_back).max_by_key(|one| began(one));
    let state = back.copied().unwrap_or(newest);
    let rest = || group.iter().copied().filter(|one| one.host != state.host);
    // A host that had it after the newest state was read elsewhere: both have it.
    let is_replica = |one: &StateFacts| one.carried.is_none() && began(one) > state.captured;
    let others = rest().map(|one| match is_replica(one) {
        true => (one, OtherWhat::Replica),
        false => (one, OtherWhat::LeftBehind),
    });
    let presence = match &state.carried {
        None => Presence::Present,
        Some(carried) if carried.why == CarriedWhy::Failed => Presence::Failed,
        Some(carried) => {
            let may_have_it = |host: &HostFacts| {
                host.is_active && host.last_run.0 < carried.since && !is_silent(host, age, now)
            };
            let own = &hosts[state.host].writer;
            match hosts.iter().any(|host| host.writer != *own && may_have_it(host)) {
                true => Presence::Gone(carried.since),
                false => Presence::Vanished(carried.since),
            }
        }
    };
    let seen = match state.carried {
        None => state.captured.max(began(state)),
        Some(_) => state.captured,
    };
    Some(Truth { presence, seen, others: others.collect(), state })
}

/// Whether a host was not heard of for longer than the policy allows.
pub(crate) fn is_silent(host: &HostFacts, age: &MaximumAge, now: Time) -> bool {
    MaximumAge::is_over(age.host_silence_days, seconds_between(host.last_run.1, now))
}

/// Seconds from one time to a later one; none from a later one.
pub(crate) fn seconds_between(earlier: Time, later: Time) -> u64 {
    u64::try_from(later.unix_seconds() - earlier.unix_seconds()).unwrap_or(0)
}

#[cfg(test)]
mod tests;
