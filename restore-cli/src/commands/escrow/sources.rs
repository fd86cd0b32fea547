//! Directories and tenants that an importer asks. One that fails does not stop the others.

use lifeboat_config::{EntraConfig, ImporterConfig, LdapConfig};
use lifeboat_escrow::{DirectoryError, EntraError, EntraTenant, LdapDirectory, NamedImport, State};
use lifeboat_schema::{Digest, Exit, Finding, Severity};

use crate::error::CliError;
use crate::secrets::read_secret_file;

/// Asks every source that is named. What fails is a finding, unless everything does.
pub(super) async fn ask(
    config: &ImporterConfig,
    state: &State,
    imports: &mut Vec<NamedImport>,
    findings: &mut Vec<Finding>,
) -> Result<(), CliError> {
    let mut failures: Vec<(String, CliError)> = Vec::new();
    for one in &config.directories {
        match directory(one, state).await {
            Ok(import) => imports.push(import),
            Err(error) => failures.push((one.name.clone(), error)),
        }
    }
    for one in &config.tenants {
        match tenant(one, state).await {
            Ok(import) => imports.push(import),
            Err(error) => failures.push((one.name.clone(), error)),
        }
    }
    if imports.is_empty() && !failures.is_empty() {
        let (name, first) = failures.remove(0);
        let mut error = first.about(name);
        for (name, other) in failures {
            error.text = format!("{}; {name}: {}", error.text, other.text);
        }
        return Err(error);
    }
    findings.extend(failures.into_iter().map(|(name, error)| {
        Finding::new(
            Severity::Warning,
            "escrow-source-failed",
            name,
            error.text,
            "the other sources were imported; mend this one and run the import again",
        )
    }));
    Ok(())
}

async fn directory(config: &LdapConfig, state: &State) -> Result<NamedImport, CliError> {
    let ca_pem = match &config.ca_file {
        Some(path) => Some(std::fs::read(path).map_err(|error| CliError::file(path, "read", &error))?),
        None => None,
    };
    let directory = LdapDirectory {
        url: config.url.clone(),
        start_tls: config.start_tls,
        base: config.base.clone(),
        user: config.user.clone(),
        password: read_secret_file(&config.password_file)?,
        ca_pem,
    };
    let scope = scope(config);
    let cursor = state.cursor(&config.name).and_then(|text| text.strip_prefix(&scope));
    let answer = directory.ask(cursor).await.map_err(|error| {
        let exit = match &error {
            DirectoryError::Refused { .. } | DirectoryError::Untrusted { .. } => Exit::NoAccess,
            DirectoryError::NotProtected { .. }
            | DirectoryError::BadRoots { .. }
            | DirectoryError::NoBase { .. } => Exit::Usage,
            _ => Exit::Failed,
        };
        CliError::new(exit, error.to_string())
    })?;
    // A whole directory without one recovery object is rather one whose objects this account does not see: rights that
    // it gets later change no object's counter, so it is asked for everything again.
    let is_blind = cursor.is_none() && answer.import.found.is_empty();
    let cursor = answer.cursor.filter(|_| !is_blind).map(|cursor| format!("{scope}{cursor}"));
    Ok(NamedImport { name: config.name.clone(), import: answer.import, cursor })
}

/// What a cursor is good for: another server, base or account may see objects that are older than it.
fn scope(config: &LdapConfig) -> String {
    let asked = [config.url.as_str(), config.base.as_str(), config.user.as_str()].join("\0");
    format!("{:.16}/", Digest::of(asked.as_bytes()).to_string())
}

async fn tenant(config: &EntraConfig, state: &State) -> Result<NamedImport, CliError> {
    let tenant = EntraTenant {
        tenant: config.tenant.clone(),
        client_id: config.client_id.clone(),
        client_secret: read_secret_file(&config.secret_file)?,
        login_url: config.login_url.clone(),
        graph_url: config.graph_url.clone(),
    };
    let known = state.protectors();
    let import = tenant.ask(&|id| known.contains(&id)).await.map_err(|error| {
        let exit = match &error {
            EntraError::NoToken { .. } | EntraError::Refused { .. } => Exit::NoAccess,
            EntraError::BadUrl { .. } => Exit::Usage,
            _ => Exit::Failed,
        };
        CliError::new(exit, error.to_string())
    })?;
    Ok(NamedImport { name: config.name.clone(), import, cursor: None })
}
