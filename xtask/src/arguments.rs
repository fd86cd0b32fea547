//! The command line of `cargo xtask`: a command, `--flags`, and options with a value.

use std::path::PathBuf;
use std::str::FromStr;

use crate::Failure;

/// Words of the command line that nobody has taken yet.
pub(crate) struct Arguments(Vec<String>);

impl Arguments {
    pub(crate) fn of_process() -> Self {
        Self(std::env::args().skip(1).collect())
    }

    /// The next word that is not an option.
    pub(crate) fn command(&mut self) -> Option<String> {
        if self.0.iter().any(|word| word == "--help" || word == "-h") {
            return Some("help".to_owned());
        }
        (!self.0.is_empty() && !self.0[0].starts_with('-')).then(|| self.0.remove(0))
    }

    /// Whether `name` stands there.
    pub(crate) fn flag(&mut self, name: &str) -> bool {
        let found = self.0.iter().position(|word| word == name);
        found.map(|at| self.0.remove(at)).is_some()
    }

    /// The value after `name`, or after `name=`.
    pub(crate) fn value<T: FromStr>(&mut self, name: &str) -> Result<Option<T>, Failure> {
        let is_it = |word: &String| {
            word.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
        };
        let Some(at) = self.0.iter().position(is_it) else { return Ok(None) };
        let word = self.0.remove(at);
        let text = match word.split_once('=') {
            Some((_, text)) => text.to_owned(),
            None if at < self.0.len() => self.0.remove(at),
            None => return Err(format!("{name} needs a value")),
        };
        text.parse().map(Some).map_err(|_| format!("`{text}` is no value for {name}"))
    }

    /// The path after `name`.
    pub(crate) fn path(&mut self, name: &str) -> Result<Option<PathBuf>, Failure> {
        self.value(name)
    }

    /// Refuses what nobody has taken.
    pub(crate) fn finish(self) -> Result<(), Failure> {
        match self.0.first() {
            None => Ok(()),
            Some(word) => Err(format!("`{word}` is not known here; `cargo xtask help` lists the commands")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Arguments {
        Arguments(text.split_whitespace().map(str::to_owned).collect())
    }

    #[test]
    fn words_are_taken_once_and_leftovers_are_refused() {
        let mut arguments = of("bench fabric --vms 200 --runs=2 --no-write");
        assert_eq!(arguments.command().as_deref(), Some("bench"));
        assert_eq!(arguments.command().as_deref(), Some("fabric"));
        assert_eq!(arguments.value::<u32>("--runs"), Ok(Some(2)));
        assert_eq!(arguments.value::<u32>("--vms"), Ok(Some(200)));
        assert_eq!(arguments.value::<u32>("--seed"), Ok(None));
        assert!(arguments.flag("--no-write") && !arguments.flag("--no-write"));
        assert_eq!(arguments.finish(), Ok(()));

        assert!(of("--vms many").value::<u32>("--vms").is_err());
        assert!(of("--vms").value::<u32>("--vms").is_err());
        assert!(of("--vsm 3").finish().unwrap_err().contains("--vsm"));
        assert_eq!(of("ci --help").command().as_deref(), Some("help"));
    }
}
