//! Writes the JSON Schemas to `schema/json`; with `--check` compares them.

use std::io::{self, Write as _};
use std::process::ExitCode;

use lifeboat_tests::schemas::{differences, schema_folder, schemas};

fn main() -> io::Result<ExitCode> {
    let mut out = io::stdout().lock();
    if std::env::args().any(|word| word == "--check") {
        let differences = differences()?;
        for difference in &differences {
            writeln!(out, "{difference}")?;
        }
        if !differences.is_empty() {
            writeln!(out, "run `cargo xtask schemas`")?;
            return Ok(ExitCode::FAILURE);
        }
        writeln!(out, "{} schemas are what the types say", schemas().len())?;
        return Ok(ExitCode::SUCCESS);
    }
    std::fs::create_dir_all(schema_folder())?;
    for (name, text) in schemas() {
        std::fs::write(schema_folder().join(name), text)?;
        writeln!(out, "schema/json/{name}")?;
    }
    Ok(ExitCode::SUCCESS)
}
