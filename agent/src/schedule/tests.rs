use super::*;

const BERLIN: &str = "CET-1CEST,M3.5.0,M10.5.0/3";

fn time(text: &str) -> Time {
    text.parse().unwrap()
}

fn config(cron: &str, zone: &str) -> JobSchedule {
    JobSchedule { time_zone: zone.to_owned(), jitter_seconds: 0, ..JobSchedule::at(cron) }
}

fn schedule(cron: &str, zone: &str) -> Schedule {
    Schedule::new(&config(cron, zone), &"h-x".parse().unwrap(), "snapshot").unwrap().unwrap()
}

/// The next times after `from`, as they stand in a log.
fn next(schedule: &Schedule, from: &str, count: usize) -> Vec<String> {
    let mut at = time(from);
    (0..count)
        .map(|_| {
            at = schedule.next_after(at).unwrap();
            at.to_string()
        })
        .collect()
}

#[track_caller]
fn check(cron: &str, zone: &str, from: &str, expected: &[&str]) {
    assert_eq!(next(&schedule(cron, zone), from, expected.len()), expected, "{cron} in {zone}");
}

#[test]
fn expressions_mean_what_a_crontab_means() {
    for (cron, expected) in [
        ("*/20 * * * *", ["2026-01-01T00:20:00Z", "2026-01-01T00:40:00Z", "2026-01-01T01:00:00Z"]),
        ("5/25 3 * * *", ["2026-01-01T03:05:00Z", "2026-01-01T03:30:00Z", "2026-01-01T03:55:00Z"]),
        // 2026-01-01 is a Thursday: Monday to Friday, the first Sunday, both numbers of Sunday.
        ("0 6 * * 1-5", ["2026-01-01T06:00:00Z", "2026-01-02T06:00:00Z", "2026-01-05T06:00:00Z"]),
        ("0 0 * * 0", ["2026-01-04T00:00:00Z", "2026-01-11T00:00:00Z", "2026-01-18T00:00:00Z"]),
        ("0 0 * * 7", ["2026-01-04T00:00:00Z", "2026-01-11T00:00:00Z", "2026-01-18T00:00:00Z"]),
        ("0 0 * * fri-sat", ["2026-01-02T00:00:00Z", "2026-01-03T00:00:00Z", "2026-01-09T00:00:00Z"]),
        // Either day counts.
        ("0 0 13 * fri", ["2026-01-02T00:00:00Z", "2026-01-09T00:00:00Z", "2026-01-13T00:00:00Z"]),
        ("30 2 29 feb *", ["2028-02-29T02:30:00Z", "2032-02-29T02:30:00Z", "2036-02-29T02:30:00Z"]),
        ("0 12 1 1,7 *", ["2026-01-01T12:00:00Z", "2026-07-01T12:00:00Z", "2027-01-01T12:00:00Z"]),
    ] {
        check(cron, "UTC", "2026-01-01T00:00:00Z", &expected);
    }
}

#[test]
fn what_is_no_expression_is_refused_with_its_place() {
    for (cron, expected) in [
        ("* * * *", "has 4 fields"),
        ("60 * * * *", "\"60\" is no minute: these are 0 to 59"),
        ("0 24 * * *", "is no hour"),
        ("0 0 0 * *", "is no day of the month"),
        ("0 0 * smarch *", "is no month"),
        ("0 0 * * 8", "is no day of the week"),
        ("0 5-3 * * *", "ends before it begins"),
        ("*/0 * * * *", "no number from 1"),
        ("+5 * * * *", "is no minute"),
        (", * * * *", "is no minute"),
        ("0 0 30 feb *", "is never due"),
        ("", "has 0 fields"),
    ] {
        let error = Schedule::new(&config(cron, "UTC"), &"h-x".parse().unwrap(), "x").unwrap_err();
        assert!(error.to_string().contains(expected), "{cron}: {error}");
    }
    assert!(Schedule::new(&config("never", "UTC"), &"h-x".parse().unwrap(), "x").unwrap().is_none());
    let error = Schedule::new(&config("0 * * * *", "Europe/Atlantis"), &"h-x".parse().unwrap(), "x");
    assert!(error.unwrap_err().to_string().contains("\"Europe/Atlantis\" is not known"));
}

#[test]
fn a_time_that_the_clock_skips_is_kept_as_if_it_had_not_been_put_forward() {
    // 2026-03-29: 02:00 becomes 03:00 in Berlin.
    check(
        "30 2 * * *",
        BERLIN,
        "2026-03-28T00:00:00Z",
        &["2026-03-28T01:30:00Z", "2026-03-29T01:30:00Z", "2026-03-30T00:30:00Z"],
    );
    // Where every hour has one, none is added.
    check(
        "30 * * * *",
        BERLIN,
        "2026-03-29T00:00:00Z",
        &["2026-03-29T00:30:00Z", "2026-03-29T01:30:00Z", "2026-03-29T02:30:00Z"],
    );
    check("30 2 * * *", "Europe/Berlin", "2026-03-28T12:00:00Z", &["2026-03-29T01:30:00Z"]);
}

#[test]
fn a_time_that_comes_twice_counts_once_unless_every_hour_counts() {
    // 2026-10-25: 03:00 becomes 02:00 in Berlin.
    check("30 2 * * *", BERLIN, "2026-10-24T12:00:00Z", &["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]);
    check(
        "30 * * * *",
        BERLIN,
        "2026-10-25T00:00:00Z",
        &["2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z", "2026-10-25T02:30:00Z"],
    );
    check(
        "*/30 * * * *",
        BERLIN,
        "2026-10-25T00:00:00Z",
        &["2026-10-25T00:30:00Z", "2026-10-25T01:00:00Z", "2026-10-25T01:30:00Z"],
    );
}

#[test]
fn no_hour_of_a_year_is_without_an_hourly_job() {
    for zone in [BERLIN, "Australia/Lord_Howe", "America/St_Johns", "Pacific/Apia", "UTC"] {
        let schedule = schedule("17 * * * *", zone);
        let mut at = time("2026-01-01T00:00:00Z");
        for _ in 0..8760 {
            let next = schedule.next_after(at).unwrap();
            let gap = next.unix_seconds() - at.unix_seconds();
            // Lord Howe shifts by half an hour.
            assert!((1..=5400).contains(&gap), "{zone}: {gap} seconds after {at}");
            at = next;
        }
    }
}

#[test]
fn hosts_have_an_offset_of_their_own_that_never_changes() {
    let offsets: std::collections::BTreeSet<i64> =
        (0..100).map(|n| offset(&format!("h-{n}").parse().unwrap(), "snapshot", 300)).collect();
    assert!(offsets.len() > 60 && offsets.iter().all(|seconds| (0..300).contains(seconds)), "{offsets:?}");
    let writer: WriterId = "h-x".parse().unwrap();
    assert_ne!(offset(&writer, "snapshot", 86_400), offset(&writer, "check-sample", 86_400));
    assert_eq!(offset(&writer, "snapshot", 0), 0);
    let with = JobSchedule { jitter_seconds: 300, ..config("0 * * * *", "UTC") };
    let with = Schedule::new(&with, &writer, "snapshot").unwrap().unwrap();
    let seconds = offset(&writer, "snapshot", 300);
    let expected = Time::from_unix_seconds(time("2026-01-01T01:00:00Z").unix_seconds() + seconds);
    let just_after = Time::from_unix_seconds(time("2026-01-01T00:00:00Z").unix_seconds() + seconds);
    assert_eq!(with.next_after(just_after), Some(expected));
}

#[test]
fn what_was_missed_is_caught_up_once() {
    let hourly = schedule("0 * * * *", "UTC");
    let planned = Some(time("2026-01-01T00:00:00Z"));
    let early = hourly.look(planned, time("2026-01-01T00:59:59Z"));
    assert_eq!((early.now, early.next), (false, Some(time("2026-01-01T01:00:00Z"))));
    assert!(hourly.look(planned, time("2026-01-01T01:00:00Z")).now);
    // Asleep for three days.
    let woken = hourly.look(planned, time("2026-01-04T10:20:00Z"));
    assert_eq!(woken.next, Some(time("2026-01-04T11:00:00Z")));
    assert!(woken.now && !hourly.look(Some(woken.planned), time("2026-01-04T10:20:01Z")).now);
    let config = JobSchedule { catch_up: false, ..config("0 * * * *", "UTC") };
    let strict = Schedule::new(&config, &"h-x".parse().unwrap(), "x").unwrap().unwrap();
    let missed = strict.look(planned, time("2026-01-04T10:20:00Z"));
    assert!(!missed.now && missed.planned == time("2026-01-04T10:20:00Z"));
    assert!(strict.look(planned, time("2026-01-01T01:00:30Z")).now);
}

#[test]
fn a_clock_that_is_put_back_makes_nothing_wait() {
    let hourly = schedule("0 * * * *", "UTC");
    let planned = Some(time("2027-06-01T00:00:00Z"));
    let back = hourly.look(planned, time("2026-01-01T00:30:00Z"));
    assert_eq!((back.now, back.next), (true, Some(time("2026-01-01T01:00:00Z"))));
    assert!(!hourly.look(Some(back.planned), time("2026-01-01T00:30:01Z")).now);
    assert!(hourly.look(Some(back.planned), time("2026-01-01T01:00:00Z")).now);
    // A correction by seconds does not run a job twice.
    let planned = time("2026-01-01T01:00:00Z");
    let back = hourly.look(Some(planned), time("2026-01-01T00:59:58Z"));
    assert_eq!((back.now, back.planned), (false, planned));
    assert!(!hourly.look(Some(back.planned), time("2026-01-01T01:00:00Z")).now);
}
