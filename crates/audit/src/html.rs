//! The report as one HTML file: everything in it, nothing fetched, for a screen, a phone and paper.
//!
//! The data stand in it as JSON, which the page's own script puts in place as text, never as markup. Without script a table
//! of the totals and the findings is still there.

use lifeboat_schema::{AuditCode, AuditReport, AuditState};

const PAGE: &str = include_str!("report.html");
/// Where the data go in the page.
const DATA: &str = "/*DATA*/";

/// Where the counts go for who has turned scripts off.
const TOTALS: &str = "<!--TOTALS-->";

/// The page.
pub fn html(report: &AuditReport) -> String {
    let json = serde_json::to_string(report).expect("reports have only string keys");
    // The counts first: nothing of the data can look like their place.
    PAGE.replacen(TOTALS, &totals(report), 1).replacen(DATA, &escaped(&json), 1)
}

/// The counts as markup; their words are our own.
fn totals(report: &AuditReport) -> String {
    let totals = &report.totals;
    let mut text = format!(
        "<p>{} VMs, {} in order. Findings that count: {}.</p><table>",
        totals.vms, totals.vms_good, totals.counted
    );
    let states = AuditState::ALL.map(AuditState::word);
    let codes = AuditCode::ALL.map(AuditCode::word);
    for (words, counts) in [(states.as_slice(), &totals.states), (codes.as_slice(), &totals.codes)] {
        for word in words {
            if let Some(count) = counts.get(*word).filter(|count| **count > 0) {
                text += &format!("<tr><td>{word}</td><td>{count}</td></tr>");
            }
        }
    }
    text + "</table>"
}

/// JSON that can stand in a script element: what would end it, or begin a comment, is written as an escape.
fn escaped(json: &str) -> String {
    let mut text = String::with_capacity(json.len() + 64);
    for one in json.chars() {
        match one {
            // Outside of strings JSON has none of these.
            '<' => text.push_str("\\u003c"),
            '>' => text.push_str("\\u003e"),
            '&' => text.push_str("\\u0026"),
            '\u{2028}' => text.push_str("\\u2028"),
            '\u{2029}' => text.push_str("\\u2029"),
            other => text.push(other),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_of_the_data_ends_the_script() {
        let hostile = "</script><img src=x onerror=alert(1)> <!-- & \u{2028}";
        let json = serde_json::to_string(hostile).unwrap();
        let safe = escaped(&json);
        assert!(!safe.contains(['<', '>', '&', '\u{2028}']));
        assert_eq!(serde_json::from_str::<String>(&safe).unwrap(), hostile);
    }

    #[test]
    fn the_page_fetches_nothing() {
        assert_eq!((PAGE.matches(DATA).count(), PAGE.matches(TOTALS).count()), (1, 1));
        for word in [
            "http:",
            "https:",
            "//cdn",
            "@import",
            "<link",
            "src=",
            "innerHTML",
            "insertAdjacentHTML",
            "document.write",
        ] {
            assert!(!PAGE.contains(word), "{word}");
        }
    }
}
