//! Plugins: a recipient and an identity that live in another program, here a shell script on the search path.
//!
//! The script only repeats the file key; what is tested is that the key and the stanzas find their way. Plugins are
//! found through `PATH`, which a test cannot change for itself: it runs the second test in a child of its own.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use super::*;

const PLUGIN: &str = r##"#!/bin/sh
# age plugin protocol: stanzas on stdin and stdout; each has one line of base64 at most here.
answer() { printf '%s\n' "$1" "$2"; read -r _; read -r _; }
key=
while read -r line; do
    case $line in
        '-> wrap-file-key'*) read -r key ;;
        '-> recipient-stanza 0 lifeboat-test'*) read -r key ;;
        '-> done'*) read -r _; break ;;
    esac
done
case $1 in
    *recipient-v1) answer '-> recipient-stanza 0 lifeboat-test' "$key" ;;
    *identity-v1) [ -z "$key" ] || answer '-> file-key 0' "$key" ;;
esac
printf -- '-> done\n\n'
"##;

#[test]
fn plugins_seal_and_open() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("age-plugin-lifeboat-test");
    fs::write(&program, PLUGIN).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let path = std::env::var("PATH").unwrap_or_default();
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--ignored", "seal::tests::plugin::child_with_a_plugin_on_its_path"])
        .env("PATH", format!("{}:{path}", folder.path().display()))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
#[ignore = "no test by itself: plugins_seal_and_open runs it in a process of its own, whose PATH has the plugin"]
fn child_with_a_plugin_on_its_path() {
    let encode =
        |prefix: &str| age_core::primitives::bech32_encode(bech32::Hrp::parse(prefix).unwrap(), &[1, 2]);
    let texts = [encode("age1lifeboat-test"), NewIdentity::generate().recipient()];
    let object = sealer().seal_body(&Recipients::parse(&texts).unwrap(), b"{}").unwrap();
    assert_eq!(Header::parse(&object.bytes).unwrap().stanzas, 2);
    let secret = encode("age-plugin-lifeboat-test-").to_uppercase();
    let identities = Identities::parse(secret.as_bytes(), None, NoCallbacks).unwrap();
    let plaintext = open(&object, &identities).unwrap();
    assert_eq!(Opener::new().unwrap().read_body(&plaintext, 2).unwrap().as_slice(), b"{}");
    // An object without a stanza of this plugin.
    let other = sealer().seal_body(&Recipients::parse(&texts[1..]).unwrap(), b"{}").unwrap();
    assert!(matches!(open(&other, &identities), Err(SealError::NoMatch)));
    // The plugin is believed no more than a stanza: a wrong file key does not fit the header's MAC.
    let tag = b"-> lifeboat-test\n";
    let position = object.bytes.windows(tag.len()).position(|window| window == tag).unwrap();
    let mut wrong = object.bytes.clone();
    let key_start = position + tag.len();
    wrong[key_start] = if wrong[key_start] == b'A' { b'B' } else { b'A' };
    let error = ObjectKey::open(&wrong, object.header_bytes, wrong.len() as u64, &identities).err().unwrap();
    assert!(matches!(error, SealError::Corrupt(Corruption::HeaderMac)), "{error}");
}
