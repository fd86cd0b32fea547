//! Recipients: whom an object is sealed to.
//!
//! Public values only. Texts are checked when they are parsed; the program of a plugin is looked for when an
//! object is sealed, so that a policy can be read where the plugin is not installed.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use age::plugin::{self, RecipientPluginV1, ResolveError};
use age::{NoCallbacks, x25519};

use super::error::SealError;

/// Most recipients of one object: three roles of one owner, each with a handful of identities and spares.
pub const MAX_RECIPIENTS: usize = 32;
/// Longest text of a recipient in bytes; that of a post-quantum recipient has about 2,000.
const MAX_RECIPIENT_TEXT_BYTES: usize = 4096;

/// A parsed list of recipients, none of which stands in it twice. Clones share it.
#[derive(Clone)]
pub struct Recipients(Arc<Parsed>);

struct Parsed {
    texts: Vec<String>,
    native: Vec<Box<dyn age::Recipient + Send + Sync>>,
    plugins: BTreeMap<String, Vec<plugin::Recipient>>,
}

impl Recipients {
    /// Parses texts of the forms `age1...` (X25519), `age1tag1...` (P-256, hardware) and `age1NAME1...` (plugin
    /// NAME).
    ///
    /// # Errors
    /// A text that is none of these or is listed twice, or a list that is empty or longer than
    /// [`MAX_RECIPIENTS`].
    pub fn parse(texts: &[String]) -> Result<Self, SealError> {
        if texts.is_empty() || texts.len() > MAX_RECIPIENTS {
            return Err(SealError::RecipientCount { have: texts.len(), max: MAX_RECIPIENTS });
        }
        let mut parsed = Parsed { texts: Vec::new(), native: Vec::new(), plugins: BTreeMap::new() };
        for text in texts {
            if parsed.texts.iter().any(|known| known.eq_ignore_ascii_case(text)) {
                return Err(SealError::DuplicateRecipient { text: shown(text) });
            }
            parsed.add(text)?;
            parsed.texts.push(text.clone());
        }
        Ok(Self(Arc::new(parsed)))
    }

    /// How many recipients there are: at least 1.
    #[expect(clippy::len_without_is_empty, reason = "a list of recipients is never empty")]
    pub fn len(&self) -> usize {
        self.0.texts.len()
    }

    /// The texts, in the order in which they were given.
    pub fn texts(&self) -> &[String] {
        &self.0.texts
    }

    /// Names of the plugins that sealing needs: `age-plugin-NAME` must be on the search path.
    pub fn plugins(&self) -> impl Iterator<Item = &str> {
        self.0.plugins.keys().map(String::as_str)
    }

    /// The age library's forms of the recipients.
    ///
    /// # Errors
    /// [`SealError::PluginMissing`].
    pub(super) fn resolve(&self) -> Result<Vec<Resolved<'_>>, SealError> {
        let native = self.0.native.iter().map(|recipient| Ok(Resolved::Native(&**recipient)));
        let plugins = self.0.plugins.iter().map(|(name, recipients)| {
            RecipientPluginV1::new(name, recipients, &[], NoCallbacks).map(Resolved::Plugin).map_err(|e| {
                match e {
                    ResolveError::MissingPlugin { .. } => SealError::PluginMissing { plugin: name.clone() },
                    other => SealError::Plugin { message: other.to_string() },
                }
            })
        });
        native.chain(plugins).collect()
    }
}

impl fmt::Debug for Recipients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Recipients").field(&self.0.texts).finish()
    }
}

impl Parsed {
    fn add(&mut self, text: &str) -> Result<(), SealError> {
        let bad = |why| SealError::BadRecipient { text: shown(text), why };
        if text.len() > MAX_RECIPIENT_TEXT_BYTES {
            return Err(bad("it is too long"));
        }
        if text.starts_with("ssh-") {
            return Err(bad("SSH keys are not accepted: they mark every file of their holder"));
        }
        if text.starts_with("AGE-") {
            return Err(bad("it is an identity, which must stay secret"));
        }
        if let Ok(recipient) = text.parse::<x25519::Recipient>() {
            self.native.push(Box::new(recipient));
        } else if let Ok(recipient) = text.parse::<age::tag::Recipient>() {
            self.native.push(Box::new(recipient));
        } else {
            let recipient: plugin::Recipient = text.parse().map_err(bad)?;
            self.plugins.entry(recipient.plugin().to_owned()).or_default().push(recipient);
        }
        Ok(())
    }
}

/// A recipient, or all recipients of one plugin, ready to wrap a file key.
pub(super) enum Resolved<'a> {
    Native(&'a (dyn age::Recipient + Send + Sync)),
    Plugin(RecipientPluginV1<NoCallbacks>),
}

impl Resolved<'_> {
    pub(super) fn as_recipient(&self) -> &dyn age::Recipient {
        match self {
            Resolved::Native(recipient) => *recipient,
            Resolved::Plugin(recipient) => recipient,
        }
    }
}

/// The text cut to 80 characters for a message; a text that looks like an identity is not shown at all.
fn shown(text: &str) -> String {
    if text.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("AGE-")) {
        return "AGE-...".to_owned();
    }
    text.chars().take(80).collect()
}
