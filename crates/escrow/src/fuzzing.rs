//! Bodies of the fuzz targets: properties that hold for every input.

use crate::{Input, Place, Secret, import};

/// Imports bytes under a name that their first byte chooses; what comes out holds what every import holds.
pub fn check_import(bytes: &[u8]) {
    const NAMES: [&str; 4] = ["export", "x.bek", "x.kpg", "{64311dea-4587-4029-924a-ba299647998e}.txt"];
    let Some((choice, rest)) = bytes.split_first() else { return };
    let import =
        import(&Input { name: NAMES[usize::from(*choice) % NAMES.len()], bytes: rest, modified: None });
    assert!(!import.found.is_empty() || !import.problems.is_empty(), "nothing found and nothing said");
    for found in &import.found {
        if let Secret::RecoveryPassword(password) = &found.secret {
            let text = password.expose();
            assert!(lifeboat_fve::RecoveryPassword::parse(&text).is_ok_and(|again| again.same_as(password)));
            for problem in &import.problems {
                assert!(!problem.to_string().contains(text.as_str()), "a problem tells a password");
            }
        }
        if let Place::Line(line) = found.place {
            assert!(line > 0);
        }
    }
}
