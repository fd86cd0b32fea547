//! The log on standard error: text for people, JSON for collectors, levels for journald.

use std::fmt;
use std::io::IsTerminal as _;

use lifeboat_config::{LogConfig, LogFormat};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::{Compact, Format, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// Where the log goes, as far as the process can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Surroundings {
    /// Standard error is a terminal.
    pub terminal: bool,
    /// Standard error goes to journald (`JOURNAL_STREAM` is set).
    pub journal: bool,
    /// Colours are not wanted (`NO_COLOR` is set).
    pub plain: bool,
}

impl Surroundings {
    /// Those of this process. `environment` looks up one variable.
    pub fn of_process(environment: impl Fn(&str) -> Option<String>) -> Self {
        Self {
            terminal: std::io::stderr().is_terminal(),
            journal: environment("JOURNAL_STREAM").is_some(),
            plain: environment("NO_COLOR").is_some_and(|value| !value.is_empty()),
        }
    }

    /// The form that `auto` stands for.
    pub fn format(self, asked: LogFormat) -> LogFormat {
        match asked {
            LogFormat::Auto if self.terminal => LogFormat::Text,
            LogFormat::Auto if self.journal => LogFormat::Journald,
            LogFormat::Auto => LogFormat::Json,
            asked => asked,
        }
    }
}

/// Begins the log of this process. `level` wins over the configuration's.
///
/// # Errors
/// A text, where the level cannot be understood.
pub fn begin(config: &LogConfig, level: Option<&str>, surroundings: Surroundings) -> Result<(), String> {
    let level = level.unwrap_or(&config.level);
    let filter = EnvFilter::try_new(level).map_err(|error| format!("the log's level {level:?}: {error}"))?;
    let builder = tracing_subscriber::fmt().with_writer(std::io::stderr).with_env_filter(filter);
    let begun = match surroundings.format(config.format) {
        LogFormat::Json => builder.json().flatten_event(true).with_current_span(false).try_init(),
        LogFormat::Journald => builder.with_ansi(false).event_format(Journald::new()).try_init(),
        _ => builder.with_ansi(surroundings.terminal && !surroundings.plain).try_init(),
    };
    begun.map_err(|error| error.to_string())
}

/// Text with a level in front, such as `<4>`, that journald takes for its priority; journald has times of its own.
struct Journald(Format<Compact, ()>);

impl Journald {
    fn new() -> Self {
        Self(tracing_subscriber::fmt::format().compact().without_time().with_level(false).with_ansi(false))
    }
}

impl<S, N> FormatEvent<S, N> for Journald
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        write!(writer, "<{}>", priority(*event.metadata().level()))?;
        self.0.format_event(context, writer, event)
    }
}

/// The number that syslog has for a level.
fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        _ => 7,
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[test]
    fn the_form_follows_the_surroundings_unless_one_is_asked_for() {
        let here = |terminal, journal| Surroundings { terminal, journal, plain: false };
        for (surroundings, asked, expected) in [
            (here(true, false), LogFormat::Auto, LogFormat::Text),
            (here(false, true), LogFormat::Auto, LogFormat::Journald),
            (here(false, false), LogFormat::Auto, LogFormat::Json),
            (here(true, false), LogFormat::Json, LogFormat::Json),
        ] {
            assert_eq!(surroundings.format(asked), expected, "{surroundings:?}");
        }
    }

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn journald_reads_the_level_from_the_first_characters() {
        let kept = Kept::default();
        let to = kept.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(move || to.clone())
            .with_ansi(false)
            .event_format(Journald::new())
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(seq = 3, "run committed");
            tracing::error!("run failed");
        });
        let text = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 2, "{text}");
        assert!(
            lines[0].starts_with("<6>") && lines[0].contains("run committed") && lines[0].contains("seq=3")
        );
        assert!(lines[1].starts_with("<3>") && lines[1].contains("run failed"), "{text}");
    }
}
