//! Times as sources write them.

use lifeboat_schema::Time;

/// Milliseconds within a second.
const MILLISECONDS: i64 = 1000;

/// Reads RFC 3339, `2025-11-20 16:59:12.000` (taken as UTC), `20251120165912.0Z` (LDAP) and `/Date(1763657952000)/` (.NET).
/// What is in another form is no time: a wrong one would be worse than none.
pub(crate) fn parse(text: &str) -> Option<Time> {
    let text = text.trim();
    if let Ok(time) = text.parse() {
        return Some(time);
    }
    if let Some(inner) = text.strip_prefix("/Date(").and_then(|rest| rest.strip_suffix(")/")) {
        let milliseconds: i64 = inner.parse().ok()?;
        return Some(Time::from_unix_seconds(milliseconds.div_euclid(MILLISECONDS)));
    }
    if let Some(digits) = text.get(..14)
        && digits.bytes().all(|byte| byte.is_ascii_digit())
        && text.get(14..).is_some_and(|rest| rest.ends_with('Z'))
    {
        let part = |range: std::ops::Range<usize>| &digits[range];
        let (date, time) = (
            [part(0..4), part(4..6), part(6..8)].join("-"),
            [part(8..10), part(10..12), part(12..14)].join(":"),
        );
        return format!("{date}T{time}Z").parse().ok();
    }
    if text.is_ascii() && text.len() >= 19 && text.as_bytes().get(10) == Some(&b' ') {
        let (date, time) = text.split_at(10);
        return format!("{date}T{}Z", time.trim()).parse().ok();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_gives_the_same_second() {
        let expected = "2025-11-20T16:59:12Z".parse().ok();
        for text in [
            "2025-11-20T16:59:12Z",
            "2025-11-20T16:59:12-00:00",
            "2025-11-20T17:59:12.0000000+01:00",
            " 2025-11-20 16:59:12.000 ",
            "20251120165912.0Z",
            "/Date(1763657952000)/",
        ] {
            assert_eq!(parse(text), expected, "{text}");
        }
        for text in
            ["", "20.11.2025 16:59", "11/20/2025 4:59:12 PM", "/Date(x)/", "20251320165912.0Z", "\u{fc}"]
        {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
