//! `cargo xtask kills`: the suite's test that kills the agent at random moments, more often than the suite does.

use crate::arguments::Arguments;
use crate::{Failure, process, workspace};

pub(crate) fn run(mut arguments: Arguments) -> Result<(), Failure> {
    let times: u32 = arguments.value("--times")?.unwrap_or(200);
    arguments.finish()?;
    let mut test = workspace::cargo();
    test.args(["test", "-p", "lifeboat-tests", "--test", "suite", "--"]);
    test.args(["cli::service::killed_at_any_moment_it_loses_nothing", "--exact", "--nocapture"]);
    process::run(test.env("LIFEBOAT_KILLS", times.to_string()))
}
