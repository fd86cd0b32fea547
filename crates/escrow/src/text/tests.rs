//! Pairing of ids and recovery passwords.

use super::*;
use crate::found::FoundSecret;
use crate::secret::Secret;

pub(crate) const ID: &str = "5E8E1B3A-02A6-4C1F-9F54-7D1C2B9A6E10";
pub(crate) const PASSWORD: &str = "000011-000022-123123-700018-000000-655358-000110-070004";
const OTHER_ID: &str = "0F2B9C44-7A31-4D0E-8B7A-1C5D3E9F0A21";
const OTHER_PASSWORD: &str = "000033-000044-123123-700018-000000-655358-000110-070004";

fn read(name: &str, text: &str) -> Import {
    import(&Input { name, bytes: text.as_bytes(), modified: None }, text)
}

fn pairs(import: &Import) -> Vec<(Option<String>, &'static str)> {
    let password = |one: &FoundSecret| match &one.secret {
        Secret::RecoveryPassword(password) if *password.expose() == PASSWORD => "first",
        Secret::RecoveryPassword(password) if *password.expose() == OTHER_PASSWORD => "second",
        _ => "other",
    };
    import
        .found
        .iter()
        .map(|one| (one.protector.map(|id| id.to_string().to_uppercase()), password(one)))
        .collect()
}

#[test]
fn an_id_belongs_to_the_password_after_it() {
    let own = |id: &str| Some(id.to_owned());
    let cases = [
        (
            format!("ID: {{{ID}}}\n  x\n  {PASSWORD}\nID: {{{OTHER_ID}}}\n{OTHER_PASSWORD}"),
            own(ID),
            own(OTHER_ID),
        ),
        (format!("{ID} {PASSWORD}\n{OTHER_ID} {OTHER_PASSWORD}"), own(ID), own(OTHER_ID)),
        // An id serves once.
        (format!("Id = {ID}\n{PASSWORD}\n{OTHER_PASSWORD}"), own(ID), None),
        // Never across something damaged.
        (format!("{ID}\n{PASSWORD}\n{OTHER_ID}\n{}\n{OTHER_PASSWORD}", &PASSWORD[1..]), own(ID), None),
        (format!("{ID}\n{PASSWORD}\n{OTHER_ID}\n{}\n{OTHER_PASSWORD}", &ID[1..]), own(ID), None),
        // Volumes and files are no BitLocker protectors.
        (format!("{ID}\nVolume-ID: {OTHER_ID}\n{PASSWORD}\n{OTHER_PASSWORD}"), own(ID), None),
        (format!("{ID}\nDatentr\u{e4}ger:\n\n{OTHER_ID}\n{PASSWORD}\n{OTHER_PASSWORD}"), own(ID), None),
        (format!("{ID}\nFile: {OTHER_ID}.BEK\n{PASSWORD}\n{OTHER_PASSWORD}"), own(ID), None),
        (format!("{ID}\nsee {OTHER_ID} for more\n{PASSWORD}\n{OTHER_PASSWORD}"), own(ID), None),
    ];
    for (text, first, second) in cases {
        assert_eq!(pairs(&read("x.txt", &text)), [(first, "first"), (second, "second")], "{text}");
    }
}

#[test]
fn the_name_of_the_file_helps_where_the_text_has_no_id() {
    let name = format!("C:\\keys\\BitLocker Recovery Key {ID}.TXT");
    let import = read(&name, &format!("key:\n{PASSWORD}"));
    assert_eq!(pairs(&import), [(Some(ID.to_owned()), "first")]);
    assert!(import.problems.is_empty());
    let import = read(&name, &format!("{OTHER_ID}\n{PASSWORD}"));
    assert_eq!(pairs(&import), [(Some(OTHER_ID.to_owned()), "first")]);
    assert!(matches!(import.problems[0].what, Trouble::OtherName { .. }));
    // Two passwords: nobody knows which one the name means. A damaged id: nobody knows what it was.
    let import = read(&name, &format!("{PASSWORD}\n{OTHER_PASSWORD}"));
    assert_eq!(pairs(&import), [(None, "first"), (None, "second")]);
    assert_eq!(pairs(&read(&name, &format!("{}\n{PASSWORD}", &OTHER_ID[1..]))), [(None, "first")]);
}

#[test]
fn what_is_missing_is_said() {
    let trouble = |text: &str| read("x", text).problems.into_iter().map(|one| one.what).collect::<Vec<_>>();
    assert_eq!(trouble("Dear all, nothing here."), [Trouble::Nothing]);
    assert_eq!(trouble(&format!("ID: {ID}")), [Trouble::NoPassword(ID.to_lowercase())]);
    assert_eq!(trouble(PASSWORD), [Trouble::NoId]);
}

#[test]
fn labels_give_hints() {
    let text = format!(
        "Computer: SVM01\nVolume C: [OS]\nID: {ID}\n{PASSWORD}\nVolume D: [Daten]\nID: {OTHER_ID}\n{OTHER_PASSWORD}"
    );
    let import = read("x", &text);
    assert_eq!(import.source, EscrowSource::ManageBde);
    let hints: Vec<_> =
        import.found.iter().map(|one| (one.hints.computer.as_deref(), one.hints.mount.as_deref())).collect();
    assert_eq!(hints, [(Some("SVM01"), Some("C:")), (Some("SVM01"), Some("D:"))]);
}
