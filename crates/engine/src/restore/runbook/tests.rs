use super::super::{Circumstances, fixture, plan};
use super::*;

/// Names and paths that would leave a literal, as they are or read in another code page.
const HOSTILE: [&str; 9] = [
    "it's",
    "ESPAÑA-01",
    "xÒ; calc #",
    "\u{2018}; calc #\u{2019}",
    "\u{201a}\u{201b}; calc",
    "\u{201c}\u{201d}\u{201e}$(calc)",
    "\u{1f4a9}; calc",
    "line\r\ncalc\u{85}\u{2028}calc",
    "''; calc; '\u{92}",
];

/// What of a script stands outside of strings and comments. Panics if a string or bracket stays open.
fn code(script: &str) -> String {
    let (mut code, mut open) = (String::new(), Vec::new());
    let mut rest = script.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '\'' => {
                // Doubled quotes end one string and begin the next, which comes to the same here.
                assert!(rest.any(|c| c == '\''), "a literal stays open");
            }
            '"' => assert!(rest.any(|c| c == '"'), "a string stays open"),
            '#' => assert!(rest.any(|c| c == '\n')),
            '(' | '{' | '[' => open.push(c),
            ')' => assert_eq!(open.pop(), Some('('), "after {code}"),
            '}' => assert_eq!(open.pop(), Some('{'), "after {code}"),
            ']' => assert_eq!(open.pop(), Some('['), "after {code}"),
            _ => {}
        }
        code.push(c);
    }
    assert!(open.is_empty(), "brackets stay open: {open:?}");
    code
}

#[test]
fn text_of_a_snapshot_cannot_leave_its_literal() {
    assert_eq!(literal("it's"), "'it''s'");
    assert_eq!(literal("ESPAÑA-01"), "('ESPA'+[char]0x00D1+'A-01')");
    assert_eq!(literal("a\u{2019}; rm \n"), "('a'+[char]0x2019+'; rm '+[char]0xFFFD+'')");
    assert_eq!(literal("\u{1f4a9}"), "(''+[char]0xD83D+''+[char]0xDCA9+'')");
    assert_eq!(line("a`b\nc"), "a'b\u{fffd}c");
    assert_eq!(within_quotes("a\u{2019}b'c"), "a\u{2019}\u{2019}b''c");
}

#[test]
fn a_script_is_ascii_and_only_its_own_text_is_code() {
    let mut script = Vec::new();
    let mut scripted = Script::begin(&mut script).unwrap();
    for text in HOSTILE {
        let path = format!("Virtual Machines/{text}.vmcx");
        let found = fixture::found(text, text, text, vec![fixture::empty(&path)]);
        scripted.vm(&plan(&found, text, &Circumstances::default()), text).unwrap();
    }
    scripted.finish().unwrap();
    assert!(script.is_ascii());
    let script = String::from_utf8(script).unwrap();
    assert_eq!(script.matches("\r\n").count(), script.matches('\n').count(), "one kind of line end");
    assert!(script.matches("calc").count() >= 5 * 7, "the names are there");
    let code = code(&script);
    assert!(!code.contains("calc"), "{code}");
    assert!(code.contains("Import-VM -CompatibilityReport"));
}

#[test]
fn only_under_register_the_script_changes_the_host() {
    let script = SCRIPT_TAIL;
    let at = |text: &str| script.find(text).unwrap_or_else(|| panic!("{text} is not there"));
    let register = at("if ($Register) {");
    let import = at("Import-PfxCertificate");
    assert!(register < import && import < register + 400 && import < at("function Register-One"));
    let skipped = at("if (-not $Register) { continue }");
    assert!(skipped < at("Set-VMHardDiskDrive") && at("Set-VMHardDiskDrive") < at("compared only"));
    let ended = at("compared only");
    for changing in ["Import-VM -", "Compare-VM -CompatibilityReport"] {
        assert!(ended < at(changing), "{changing} comes before the script ends");
    }
    // The path of one VM comes before one of all, and two VMs with one disk stop all of it.
    assert!(at(r#""$($wanted.Id)|$($old.Path)", $old.Path"#) < at("Two VMs would get the disk"));
    assert!(at("Two VMs would get the disk") < register);
}
