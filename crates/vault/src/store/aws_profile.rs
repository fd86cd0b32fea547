//! Reads what an S3 store needs from the AWS files: `~/.aws/credentials` and `~/.aws/config`.
//!
//! `object_store` knows the environment only. Taken are static keys, session token, region, endpoint,
//! addressing style, certificate bundle and web identity of one profile; profiles that get their credentials
//! by asking someone (SSO, another role, a program) are refused by name rather than half understood. Files
//! are read when a store is opened, never watched.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::Environment;
use super::error::StoreError;

/// Largest AWS file in bytes that is read; real ones have a few kilobytes.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// What a profile says. Without Debug: it holds keys.
#[derive(Default)]
pub(super) struct Profile {
    pub(super) access_key_id: Option<Zeroizing<String>>,
    pub(super) secret_access_key: Option<Zeroizing<String>>,
    pub(super) session_token: Option<Zeroizing<String>>,
    pub(super) region: Option<String>,
    pub(super) endpoint_url: Option<String>,
    pub(super) addressing_style: Option<String>,
    pub(super) ca_bundle: Option<String>,
    pub(super) web_identity: Option<WebIdentity>,
}

/// A role that is assumed with a token from a file, renewed by `object_store`.
pub(super) struct WebIdentity {
    pub(super) token_file: String,
    pub(super) role_arn: String,
    pub(super) session_name: Option<String>,
}

/// Keys of a profile that name a source of credentials which is not supported here.
const ASKS_SOMEONE: [&str; 5] =
    ["role_arn", "sso_session", "sso_start_url", "credential_process", "login_session"];

/// Reads the profile `wanted`, else that of `AWS_PROFILE`, else `default`, from the files that the
/// environment names.
///
/// With `needs_credentials`, a profile that has no static keys but another source of them is refused.
///
/// # Errors
/// If a named profile or file does not exist, a file cannot be read or parsed, or as above.
pub(super) fn read(
    wanted: Option<&str>,
    environment: Environment<'_>,
    needs_credentials: bool,
) -> Result<Profile, StoreError> {
    let set = |name: &str| environment(name).filter(|value| !value.is_empty());
    let from_environment = set("AWS_PROFILE").or_else(|| set("AWS_DEFAULT_PROFILE"));
    let named = wanted.map(str::to_owned).or(from_environment);
    let name = named.clone().unwrap_or_else(|| "default".to_owned());

    let home = set("HOME").or_else(|| set("USERPROFILE")).map(PathBuf::from);
    let file = |variable: &str, default: &str| match set(variable) {
        // A file that somebody named must be there.
        Some(path) => load(&expand(&path, home.as_deref()), true),
        None => match &home {
            Some(home) => load(&home.join(".aws").join(default), false),
            None => Ok(Ini::default()),
        },
    };
    let credentials = file("AWS_SHARED_CREDENTIALS_FILE", "credentials")?;
    let config = file("AWS_CONFIG_FILE", "config")?;

    let in_config = if name == "default" {
        config.section("default").or_else(|| config.section("profile default"))
    } else {
        config.section(&format!("profile {name}"))
    };
    let in_credentials = credentials.section(&name);
    if named.is_some() && in_config.is_none() && in_credentials.is_none() {
        return Err(StoreError::configuration(
            format!("the AWS profile {name:?} is in neither of the AWS files"),
            "Correct the profile's name, or AWS_SHARED_CREDENTIALS_FILE and AWS_CONFIG_FILE.".to_owned(),
        ));
    }
    // As with Amazon's own tools, the credentials file wins.
    let value = |key: &str| {
        let found = in_credentials.and_then(|s| s.get(key)).or_else(|| in_config.and_then(|s| s.get(key)));
        found.filter(|value| !value.is_empty())
    };
    let text = |key: &str| value(key).map(|value| value.to_string());

    let static_keys = value("aws_access_key_id").is_some() || value("aws_secret_access_key").is_some();
    let mut profile = Profile { region: text("region"), ca_bundle: text("ca_bundle"), ..Profile::default() };
    let service = text("services").and_then(|services| config.section(&format!("services {services}")));
    profile.endpoint_url = service
        .and_then(|s| s.get("s3.endpoint_url"))
        .map(|value| value.to_string())
        .or_else(|| text("endpoint_url"));
    profile.addressing_style = text("s3.addressing_style");
    if static_keys {
        profile.access_key_id = value("aws_access_key_id").cloned();
        profile.secret_access_key = value("aws_secret_access_key").cloned();
        profile.session_token = value("aws_session_token").cloned();
        return Ok(profile);
    }
    if let (Some(token_file), Some(role_arn)) = (text("web_identity_token_file"), text("role_arn")) {
        let session_name = text("role_session_name");
        profile.web_identity = Some(WebIdentity { token_file, role_arn, session_name });
        return Ok(profile);
    }
    if needs_credentials && let Some(key) = ASKS_SOMEONE.iter().find(|key| value(key).is_some()) {
        return Err(StoreError::configuration(
            format!("the AWS profile {name:?} gets its credentials by {key}, which is not supported"),
            format!(
                "Put static keys into the profile, or put temporary ones into the environment with \
                 `eval \"$(aws configure export-credentials --profile {name} --format env)\"`."
            ),
        ));
    }
    Ok(profile)
}

fn expand(path: &str, home: Option<&Path>) -> PathBuf {
    match (path.strip_prefix("~/"), home) {
        (Some(rest), Some(home)) => home.join(rest),
        _ => PathBuf::from(path),
    }
}

fn load(path: &Path, must_exist: bool) -> Result<Ini, StoreError> {
    let unreadable = |why: String| {
        StoreError::configuration(
            format!("the AWS file {} cannot be read: {why}", path.display()),
            "Correct the file, its permissions, or the variable that names it.".to_owned(),
        )
    };
    let size = match path.metadata() {
        Ok(metadata) => metadata.len(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && !must_exist => {
            return Ok(Ini::default());
        }
        Err(error) => return Err(unreadable(error.to_string())),
    };
    if size > MAX_FILE_BYTES {
        return Err(unreadable("it is larger than 1 MiB".to_owned()));
    }
    let text = Zeroizing::new(std::fs::read_to_string(path).map_err(|error| unreadable(error.to_string()))?);
    Ini::parse(&text).map_err(|line| unreadable(format!("line {line} is neither a section nor a setting")))
}

type Section = BTreeMap<String, Zeroizing<String>>;

/// Sections of an AWS file. A setting that is indented below another without value is `outer.inner`.
#[derive(Default)]
struct Ini {
    sections: BTreeMap<String, Section>,
}

impl Ini {
    fn section(&self, name: &str) -> Option<&Section> {
        self.sections.get(name)
    }

    /// Parses `text`; an error is the number of the line that is not understood.
    fn parse(text: &str) -> Result<Self, usize> {
        let mut ini = Self::default();
        let mut section: Option<String> = None;
        let mut outer: Option<String> = None;
        for (number, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
            let indented = line.starts_with([' ', '\t']);
            let line = line.trim();
            if line.is_empty() || line.starts_with(['#', ';']) {
                continue;
            }
            if let Some(rest) = line.strip_prefix('[') {
                let (name, _) = rest.split_once(']').ok_or(number + 1)?;
                // `[profile  "my profile"]` is one name: words are joined by one space, quotes dropped.
                let words: Vec<&str> =
                    name.split_whitespace().map(|word| word.trim_matches(['"', '\''])).collect();
                let name = words.join(" ");
                ini.sections.entry(name.clone()).or_default();
                (section, outer) = (Some(name), None);
                continue;
            }
            let (key, value) = line.split_once('=').ok_or(number + 1)?;
            let (key, value) = (key.trim().to_ascii_lowercase(), uncommented(value.trim()));
            // Settings before the first section belong to nobody; Amazon's tools ignore them too.
            let Some(section) = &section else { continue };
            let settings = ini.sections.entry(section.clone()).or_default();
            let key = match (&outer, indented) {
                (Some(outer), true) => format!("{outer}.{key}"),
                _ => {
                    outer = value.is_empty().then(|| key.clone());
                    key
                }
            };
            settings.insert(key, Zeroizing::new(value.to_owned()));
        }
        Ok(ini)
    }
}

/// A comment behind a value begins with white space and `#` or `;`: a secret may hold either sign.
fn uncommented(value: &str) -> &str {
    let end = [" #", " ;", "\t#", "\t;"].iter().filter_map(|mark| value.find(mark)).min();
    value[..end.unwrap_or(value.len())].trim_end()
}

#[cfg(test)]
mod tests;
