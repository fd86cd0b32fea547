//! Directories and tenants that an importer asks. One that fails does not stop the others.

use lifeboat_config::{EntraConfig, ImporterConfig, LdapConfig};
use lifeboat_escrow::{DirectoryError, EntraError, EntraTenant, LdapDirectory, NamedImport, State};
use lifeboat_schema::{Digest, Exit};

use crate::error::ImporterError;
use crate::files::read_secret_file;
use crate::run::Gathered;

/// Asks every service that is named.
pub(crate) async fn ask(config: &ImporterConfig, state: &State, gathered: &mut Gathered) {
    for one in &config.directories {
        match directory(one, state).await {
            Ok(import) => gathered.imports.push(import),
            Err(error) => gathered.failed.push((one.name.clone(), error)),
        }
    }
    for one in &config.tenants {
        match tenant(one, state).await {
            Ok(import) => gathered.imports.push(import),
            Err(error) => gathered.failed.push((one.name.clone(), error)),
        }
    }
}

async fn directory(config: &LdapConfig, state: &State) -> Result<NamedImport, ImporterError> {
    let ca_pem = match &config.ca_file {
        Some(path) => Some(std::fs::read(path).map_err(|error| ImporterError::file(path, "read", error))?),
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
        ImporterError::Sources { text: error.to_string(), exit }
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

async fn tenant(config: &EntraConfig, state: &State) -> Result<NamedImport, ImporterError> {
    let tenant = EntraTenant {
        tenant: config.tenant.clone(),
        client_id: config.client_id.clone(),
        client_secret: read_secret_file(&config.secret_file)?,
        login_url: config.login_url.clone(),
        graph_url: config.graph_url.clone(),
    };
    // What a file told of a key keeps no tenant from being asked for it.
    let known = state.protectors_of(&config.name);
    let import = tenant.ask(&|id| known.contains(&id)).await.map_err(|error| {
        let exit = match &error {
            EntraError::NoToken { .. } | EntraError::Refused { .. } => Exit::NoAccess,
            EntraError::BadUrl { .. } => Exit::Usage,
            _ => Exit::Failed,
        };
        ImporterError::Sources { text: error.to_string(), exit }
    })?;
    Ok(NamedImport { name: config.name.clone(), import, cursor: None })
}
