use std::fs;

use super::*;

const CREDENTIALS: &str = "\u{feff}# keys
stray = before any section

[default]
aws_access_key_id = AKDEFAULT
aws_secret_access_key = a/secret+with=signs#and;marks

[vault]
AWS_ACCESS_KEY_ID=AKVAULT
aws_secret_access_key =  s3cr3t  # a comment
aws_session_token = t0ken ; another
region = from-credentials

[ keyless ]
region = nowhere
[half]
aws_access_key_id = AKHALF
";

const CONFIG: &str = "[default]
region = eu-central-1
ca_bundle = /etc/ca.pem
s3 =
    addressing_style = virtual
    max_concurrent_requests = 20
output = json

[profile vault]
region = from-config
endpoint_url = https://general.example
services = ours

[services ours]
s3 =
  endpoint_url = https://s3.example
dynamodb =
  endpoint_url = https://dynamodb.example

[profile sso]
sso_session = corp
sso_account_id = 1
[sso-session corp]
sso_start_url = https://x
[profile role]
role_arn = arn:aws:iam::1:role/x
source_profile = vault
[profile program]
credential_process = /usr/bin/x
[profile web]
role_arn = arn:aws:iam::1:role/x
web_identity_token_file = /run/token
role_session_name = backup
[profile 'two words']
region = here
";

struct Home(tempfile::TempDir);

impl Home {
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        fs::create_dir(home.path().join(".aws")).unwrap();
        fs::write(home.path().join(".aws/credentials"), CREDENTIALS).unwrap();
        fs::write(home.path().join(".aws/config"), CONFIG).unwrap();
        Self(home)
    }

    fn read_with(&self, wanted: Option<&str>, variables: &[(&str, &str)]) -> Result<Profile, StoreError> {
        let home = self.0.path().display().to_string();
        let environment = |name: &str| match variables.iter().find(|(n, _)| *n == name) {
            Some((_, value)) => Some((*value).to_owned()),
            None => (name == "HOME").then(|| home.clone()),
        };
        read(wanted, &environment, true)
    }

    fn read(&self, wanted: Option<&str>) -> Profile {
        self.read_with(wanted, &[]).map_err(|error| error.to_string()).unwrap()
    }

    fn refused(&self, wanted: Option<&str>, variables: &[(&str, &str)]) -> String {
        match self.read_with(wanted, variables) {
            Ok(_) => panic!("{wanted:?} {variables:?} was accepted"),
            Err(error) => error.to_string(),
        }
    }
}

fn shown(value: &Option<Zeroizing<String>>) -> Option<&str> {
    value.as_ref().map(|value| value.as_str())
}

#[test]
fn the_default_profile_is_read_from_both_files() {
    let profile = Home::new().read(None);
    assert_eq!(shown(&profile.access_key_id), Some("AKDEFAULT"));
    assert_eq!(shown(&profile.secret_access_key), Some("a/secret+with=signs#and;marks"));
    assert_eq!(shown(&profile.session_token), None);
    assert_eq!(profile.region.as_deref(), Some("eu-central-1"));
    assert_eq!(profile.addressing_style.as_deref(), Some("virtual"));
    assert_eq!(profile.ca_bundle.as_deref(), Some("/etc/ca.pem"));
    assert_eq!(profile.endpoint_url, None);
}

#[test]
fn a_named_profile_wins_and_the_credentials_file_wins_over_the_config_file() {
    let home = Home::new();
    let by_variable = home.read_with(None, &[("AWS_PROFILE", "vault")]).ok().unwrap();
    for profile in [home.read(Some("vault")), by_variable] {
        assert_eq!(shown(&profile.access_key_id), Some("AKVAULT"));
        assert_eq!(shown(&profile.secret_access_key), Some("s3cr3t"));
        assert_eq!(shown(&profile.session_token), Some("t0ken"));
        assert_eq!(profile.region.as_deref(), Some("from-credentials"));
        assert_eq!(profile.endpoint_url.as_deref(), Some("https://s3.example"));
    }
    let wanted = home.read_with(Some("two words"), &[("AWS_PROFILE", "vault")]).ok().unwrap();
    assert_eq!((wanted.region.as_deref(), shown(&wanted.access_key_id)), (Some("here"), None));
    assert_eq!(home.read(Some("keyless")).region.as_deref(), Some("nowhere"));
    let half = home.read(Some("half"));
    assert!(half.access_key_id.is_some() && half.secret_access_key.is_none());
}

#[test]
fn profiles_that_ask_someone_are_refused_with_the_way_out() {
    let home = Home::new();
    for (name, key) in [("sso", "sso_session"), ("role", "role_arn"), ("program", "credential_process")] {
        let text = home.refused(Some(name), &[]);
        assert!(text.contains(key) && text.contains(&format!("--profile {name}")), "{text}");
    }
    let web = home.read(Some("web")).web_identity.unwrap();
    assert_eq!((web.token_file.as_str(), web.role_arn.as_str()), ("/run/token", "arn:aws:iam::1:role/x"));
    assert_eq!(web.session_name.as_deref(), Some("backup"));
    // Without need of credentials only its other settings count.
    let environment = |name: &str| (name == "HOME").then(|| home.0.path().display().to_string());
    assert!(read(Some("sso"), &environment, false).is_ok());
}

#[test]
fn what_was_named_must_be_there_and_what_was_not_need_not() {
    let home = Home::new();
    assert!(home.refused(Some("absent"), &[]).contains("\"absent\""));
    assert!(home.refused(None, &[("AWS_PROFILE", "absent")]).contains("\"absent\""));
    assert!(home.refused(None, &[("AWS_CONFIG_FILE", "/nonexistent/config")]).contains("/nonexistent"));
    let empty = tempfile::tempdir().unwrap();
    let empty = empty.path().display().to_string();
    assert!(home.read_with(None, &[("HOME", &empty)]).ok().unwrap().access_key_id.is_none());
    let elsewhere = home.read_with(None, &[("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/config")]).ok().unwrap();
    assert!(elsewhere.access_key_id.is_none());
    assert!(read(None, &|_| None, true).is_ok());
}

#[test]
fn files_that_are_not_understood_are_refused_without_showing_them() {
    let home = Home::new();
    for (text, line) in [("[default\nkey = hunter2", 1), ("[default]\nregion = x\nhunter2\n", 3)] {
        fs::write(home.0.path().join(".aws/credentials"), text).unwrap();
        let shown = home.refused(None, &[]);
        assert!(shown.contains(&format!("line {line} ")) && !shown.contains("hunter2"), "{shown}");
    }
    fs::write(home.0.path().join(".aws/credentials"), b"[default]\nkey = \xff\n").unwrap();
    assert!(home.refused(None, &[]).contains("UTF-8"));
    let large = "# padding\n".repeat(110_000);
    fs::write(home.0.path().join(".aws/credentials"), large).unwrap();
    assert!(home.refused(None, &[]).contains("larger than 1 MiB"));
}

/// No text makes the parser panic, and none of its lines is lost silently inside a section.
#[test]
fn every_prefix_of_a_file_parses_or_names_its_line() {
    for text in [CREDENTIALS, CONFIG] {
        for end in (0..=text.len()).filter(|end| text.is_char_boundary(*end)) {
            if let Err(line) = Ini::parse(&text[..end]) {
                assert!(line >= 1 && line <= text.lines().count());
            }
        }
    }
}
