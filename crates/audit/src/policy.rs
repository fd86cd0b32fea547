//! The audit's policy: what counts, how old things may be, what depends on what, and exceptions. TOML.
//!
//! ```toml
//! version = 1
//! [count]                        # what a state or code is: "finding", "note" or "good"
//! ESCROWED = "note"
//! [maximum_age]
//! vtpm_state_days = 7
//! proof_days = 90
//! host_silence_days = 2
//! [start_at]
//! required = ["DR Fabric"]       # every VM with a VM key protector must start there
//! [retention]
//! lock_days = 14                 # how long nothing can be removed from the vault
//! [depends_on]                   # what must be back before what; a list in the list is any of these
//! vault = ["backup01"]
//! elsewhere = [["dc01", "dc02"]]
//! [[exception]]
//! vm = "test-*"
//! code = "NO-RECOVERY-PROTECTOR"
//! owner = "J. Doe"
//! until = "2026-12-31"
//! why = "rebuilt from an image every week"
//! ```
//! An unknown key is refused. The policy file holds no secret.

use std::collections::BTreeMap;

use lifeboat_schema::{AuditCode, AuditLevel, AuditState, Time};
use serde::Deserialize;

use crate::error::PolicyError;

/// Version of the policy file.
const VERSION: u32 = 1;
const SECONDS_PER_DAY: u64 = 86_400;

/// What counts, and how much of it is let pass.
#[derive(Debug, Clone)]
pub struct AuditPolicy {
    states: BTreeMap<AuditState, AuditLevel>,
    codes: BTreeMap<AuditCode, AuditLevel>,
    /// How old things may be.
    pub maximum_age: MaximumAge,
    /// Names of fabrics at which every VM with a VM key protector must start.
    pub must_start_at: Vec<String>,
    /// Days for which nothing can be removed from the vault.
    pub lock_days: u32,
    /// What must be back before what, by name.
    pub depends_on: BTreeMap<String, Vec<Need>>,
    /// Exceptions.
    pub exceptions: Vec<Exception>,
}

/// How old things may be.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MaximumAge {
    /// Days since a VM's vTPM state was last seen.
    pub vtpm_state_days: Option<u32>,
    /// Days since a proof.
    pub proof_days: Option<u32>,
    /// Days since a host's last run.
    pub host_silence_days: Option<u32>,
}

impl Default for MaximumAge {
    fn default() -> Self {
        Self { vtpm_state_days: Some(7), proof_days: None, host_silence_days: Some(2) }
    }
}

/// What something depends on.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Need {
    /// This.
    One(String),
    /// Any of these.
    AnyOf(Vec<String>),
}

/// Something that does not count for a while, because somebody answers for it.
#[derive(Debug, Clone)]
pub struct Exception {
    /// Name or id of the VM; `*` stands for any text.
    pub vm: String,
    /// The state or code; `*` for all.
    pub code: String,
    /// Who answers for it.
    pub owner: String,
    /// The last second at which it holds.
    pub until: Time,
    /// The date, as it was written.
    pub until_date: String,
    /// Why.
    pub why: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PolicyFile {
    version: u32,
    #[serde(default)]
    count: BTreeMap<String, Count>,
    #[serde(default)]
    maximum_age: MaximumAge,
    #[serde(default)]
    start_at: StartAt,
    #[serde(default)]
    retention: Retention,
    #[serde(default)]
    depends_on: BTreeMap<String, Vec<Need>>,
    #[serde(default)]
    exception: Vec<ExceptionFile>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Count {
    Finding,
    Note,
    Good,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct StartAt {
    required: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Retention {
    lock_days: u32,
}

impl Default for Retention {
    fn default() -> Self {
        Self { lock_days: 14 }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ExceptionFile {
    vm: String,
    code: String,
    owner: String,
    until: String,
    why: String,
}

impl Default for AuditPolicy {
    fn default() -> Self {
        Self {
            states: AuditState::ALL.into_iter().map(|state| (state, of_state(state))).collect(),
            codes: AuditCode::ALL.into_iter().map(|code| (code, of_code(code))).collect(),
            maximum_age: MaximumAge::default(),
            must_start_at: Vec::new(),
            lock_days: Retention::default().lock_days,
            depends_on: BTreeMap::new(),
            exceptions: Vec::new(),
        }
    }
}

fn of_state(state: AuditState) -> AuditLevel {
    match state {
        AuditState::ProvenData | AuditState::ProvenKey => AuditLevel::Good,
        AuditState::OtherEncryption => AuditLevel::Note,
        _ => AuditLevel::Finding,
    }
}

fn of_code(code: AuditCode) -> AuditLevel {
    match code {
        AuditCode::GoneFromHost
        | AuditCode::Replica
        | AuditCode::NeverDrilled
        | AuditCode::KeyProtectorNotUnderstood => AuditLevel::Note,
        _ => AuditLevel::Finding,
    }
}

impl AuditPolicy {
    /// Parses a policy file.
    ///
    /// # Errors
    /// [`PolicyError`]: nothing of the file is taken.
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        let file: PolicyFile = toml::from_str(text)?;
        if file.version != VERSION {
            return Err(PolicyError::Version(file.version));
        }
        let mut policy = Self {
            maximum_age: file.maximum_age,
            must_start_at: file.start_at.required,
            lock_days: file.retention.lock_days,
            depends_on: file.depends_on,
            ..Self::default()
        };
        for (word, count) in file.count {
            let level = match count {
                Count::Finding => AuditLevel::Finding,
                Count::Note => AuditLevel::Note,
                Count::Good => AuditLevel::Good,
            };
            match (state(&word), code(&word)) {
                (Some(state), _) => drop(policy.states.insert(state, level)),
                (_, Some(code)) => drop(policy.codes.insert(code, level)),
                (None, None) => return Err(PolicyError::Code { word, place: "[count]" }),
            }
        }
        for one in file.exception {
            policy.exceptions.push(exception(one)?);
        }
        Ok(policy)
    }

    /// What a state of a volume counts.
    pub fn state(&self, state: AuditState) -> AuditLevel {
        self.states.get(&state).copied().unwrap_or(AuditLevel::Finding)
    }

    /// What a code counts.
    pub fn code(&self, code: AuditCode) -> AuditLevel {
        self.codes.get(&code).copied().unwrap_or(AuditLevel::Finding)
    }

    /// The exceptions for a VM and a word.
    pub(crate) fn exceptions<'p>(
        &'p self,
        vm_id: &'p str,
        name: &'p str,
        word: &'p str,
    ) -> impl Iterator<Item = &'p Exception> {
        self.exceptions.iter().filter(move |one| {
            (one.code == "*" || one.code == word) && (is_like(&one.vm, vm_id) || is_like(&one.vm, name))
        })
    }
}

impl MaximumAge {
    /// Whether something that old is too old.
    pub(crate) fn is_over(days: Option<u32>, age_seconds: u64) -> bool {
        days.is_some_and(|days| age_seconds > u64::from(days) * SECONDS_PER_DAY)
    }
}

fn state(word: &str) -> Option<AuditState> {
    AuditState::ALL.into_iter().find(|one| one.word() == word)
}

fn code(word: &str) -> Option<AuditCode> {
    AuditCode::ALL.into_iter().find(|one| one.word() == word)
}

fn exception(file: ExceptionFile) -> Result<Exception, PolicyError> {
    let ExceptionFile { vm, code: word, owner, until, why } = file;
    if word != "*" && state(&word).is_none() && code(&word).is_none() {
        return Err(PolicyError::Code { word, place: "[[exception]]" });
    }
    let fields = [("owner", &owner), ("why", &why), ("vm", &vm)];
    let empty = fields.into_iter().find(|(_, text)| text.trim().is_empty()).map(|(field, _)| field);
    if let Some(field) = empty {
        return Err(PolicyError::Empty { vm, field });
    }
    // To the end of that day.
    match format!("{until}T23:59:59Z").parse() {
        Ok(time) if until.len() == "2026-12-31".len() => {
            Ok(Exception { vm, code: word, owner, until: time, until_date: until, why })
        }
        _ => Err(PolicyError::Date { vm, until }),
    }
}

/// Whether a text is like a pattern in which `*` stands for any text; case is ignored.
fn is_like(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.to_lowercase(), text.to_lowercase());
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    for part in middle {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_says_what_counts() {
        let text = r#"
            version = 1
            [count]
            ESCROWED = "note"
            NEVER-DRILLED = "finding"
            [maximum_age]
            vtpm_state_days = 3
            [start_at]
            required = ["DR"]
            [depends_on]
            vault = ["nas"]
            elsewhere = [["dc1", "dc2"], "router"]
            [[exception]]
            vm = "test-*"
            code = "MISSING"
            owner = "J. Doe"
            until = "2026-12-31"
            why = "rebuilt weekly"
        "#;
        let policy = AuditPolicy::parse(text).unwrap();
        assert_eq!(policy.state(AuditState::Escrowed), AuditLevel::Note);
        assert_eq!(policy.state(AuditState::Missing), AuditLevel::Finding);
        assert_eq!(policy.code(AuditCode::NeverDrilled), AuditLevel::Finding);
        assert_eq!(policy.maximum_age.vtpm_state_days, Some(3));
        assert_eq!(policy.maximum_age.host_silence_days, Some(2), "what is left out stays");
        assert_eq!(policy.depends_on["elsewhere"].len(), 2);
        assert_eq!(policy.exceptions("id", "TEST-7", "MISSING").count(), 1);
        assert_eq!(policy.exceptions("id", "prod-7", "MISSING").count(), 0);
        assert_eq!(policy.exceptions("id", "test-7", "EXPOSED").count(), 0);
        assert_eq!(policy.exceptions[0].until.to_string(), "2026-12-31T23:59:59Z");
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        let exception = |line: &str| {
            let fields =
                "code = \"MISSING\"\nowner = \"x\"\nuntil = \"2026-12-31\"\nwhy = \"y\"\nvm = \"z\"\n";
            let name = line.split(' ').next().unwrap();
            let kept: Vec<&str> = fields.lines().filter(|one| !one.starts_with(name)).collect();
            format!("version = 1\n[[exception]]\n{}\n{line}", kept.join("\n"))
        };
        assert!(AuditPolicy::parse(&exception("why = \"z\"")).is_ok());
        for text in [
            "version = 2".to_owned(),
            "version = 1\n[count]\nESCROWD = \"note\"".to_owned(),
            "version = 1\n[count]\nESCROWED = \"whatever\"".to_owned(),
            "version = 1\n[maximum_ages]\n".to_owned(),
            exception("until = \"soon\""),
            exception("until = \"2026-12-31T00:00:00Z\""),
            exception("owner = \" \""),
            exception("code = \"NOTHING\""),
        ] {
            assert!(AuditPolicy::parse(&text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_star_is_any_text() {
        for (pattern, text, fits) in [
            ("*", "anything", true),
            ("web-*", "WEB-01", true),
            ("*-01", "web-01", true),
            ("w*b*1", "web-01", true),
            ("web", "web-01", false),
            ("*web", "web-01", false),
            ("a*a", "a", false),
        ] {
            assert_eq!(is_like(pattern, text), fits, "{pattern} {text}");
        }
    }
}
