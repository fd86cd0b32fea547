//! Which writers have been silent for longer than their policy allows.
//!
//! Only the newest policy's limits count, and only writers that may still write. Times of records are claims: a writer whose
//! newest record lies in the future is told too, because its silence could not be noticed.

use lifeboat_schema::{Finding, Severity, Time};
use lifeboat_vault::vault::Ledgers;

/// A record may claim to be this much ahead of who reads it.
const MAX_AHEAD_SECONDS: i64 = 3600;

/// Findings about writers that should have written by `now`.
pub fn silent_writers(ledgers: &Ledgers, now: Time) -> Vec<Finding> {
    let Some(policy) = ledgers.policies.newest() else { return Vec::new() };
    let limited = policy.terms.writers.iter().filter(|terms| !terms.kinds.is_empty());
    let mut findings = Vec::new();
    for terms in limited {
        let Some(limit) = terms.max_silence_seconds else { continue };
        let newest = ledgers.writers.get(&terms.id).and_then(|ledger| ledger.newest());
        // A writer that never wrote is silent since it was let in.
        let since = newest.map(|record| record.signed.record.finished).or_else(|| {
            let first = ledgers.policies.iter().find(|policy| policy.writer(&terms.id).is_some())?;
            let record = ledgers.admin.at(first.place.seq, &first.place.id)?;
            Some(record.signed.record.finished)
        });
        let Some(since) = since else { continue };
        let silent = now.unix_seconds().saturating_sub(since.unix_seconds());
        let place = format!("ledger/{}", terms.id);
        if silent > i64::try_from(limit).unwrap_or(i64::MAX) {
            let what = match newest {
                Some(record) => format!(
                    "its newest record {} is of {since}, more than {limit} s ago",
                    record.signed.name.seq
                ),
                None => format!("it has written nothing since it was let in at {since}"),
            };
            findings.push(Finding::new(
                Severity::Warning,
                "silent-writer",
                place,
                what,
                "look at the agent of that host; if the host is gone for good, run `lifeboat host retire`",
            ));
        } else if silent < -MAX_AHEAD_SECONDS {
            findings.push(Finding::new(
                Severity::Warning,
                "writer-ahead",
                place,
                format!("its newest record claims to be of {since}, and it is {now} here"),
                "set the clock of that host: while it is ahead, its silence is not noticed",
            ));
        }
    }
    findings
}
