//! Directories and tenants that an importer asks. One that fails does not stop the others.

use lifeboat_config::{EntraConfig, ImporterConfig, LdapConfig};
use lifeboat_escrow::{DirectoryError, EntraError, EntraTenant, LdapDirectory, NamedImport, State};
use lifeboat_schema::{Exit, Finding, Severity};

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
    if imports.is_empty()
        && failures.len() == 1
        && let Some((name, error)) = failures.pop()
    {
        return Err(error.about(name));
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
    let answer = directory.ask(state.cursor(&config.name)).await.map_err(|error| {
        let exit = match &error {
            DirectoryError::Refused { .. } | DirectoryError::Untrusted { .. } => Exit::NoAccess,
            DirectoryError::NotProtected { .. }
            | DirectoryError::BadRoots { .. }
            | DirectoryError::NoBase { .. } => Exit::Usage,
            _ => Exit::Failed,
        };
        CliError::new(exit, error.to_string())
    })?;
    Ok(NamedImport { name: config.name.clone(), import: answer.import, cursor: answer.cursor })
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
