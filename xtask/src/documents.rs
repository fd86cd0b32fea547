//! `cargo xtask documents`: what a machine can tell about texts and sources.
//!
//! README's two commands, links and their anchors, lengths of files, and paths of one person's machine. It
//! cannot tell whether a text is true.

use crate::arguments::Arguments;
use crate::{Failure, workspace};

/// Lines up to which a source file needs no reason.
const MOST_LINES: usize = 800;

/// How the first line of a longer file begins; the reason follows.
const LONG: &str = "// long: ";

/// A text file of the repository.
struct Text {
    path: String,
    text: String,
}

pub(crate) fn run(arguments: Arguments) -> Result<(), Failure> {
    arguments.finish()?;
    let wrong = check()?;
    if wrong.is_empty() {
        println!("documents and sources are in order");
        return Ok(());
    }
    Err(format!("documents:\n  {}", wrong.join("\n  ")))
}

/// Everything that is wrong, in words.
pub(crate) fn check() -> Result<Vec<String>, Failure> {
    let mut texts = Vec::new();
    for path in workspace::files()? {
        let bytes =
            std::fs::read(workspace::root().join(&path)).map_err(|error| format!("{path}: {error}"))?;
        if let Ok(text) = String::from_utf8(bytes) {
            texts.push(Text { path, text });
        }
    }
    let mut wrong = Vec::new();
    for heading in ["Try it", "Test"] {
        if let Err(failure) = readme_command(heading) {
            wrong.push(failure);
        }
    }
    wrong.extend(long_files(&texts));
    wrong.extend(machine_paths(&texts));
    wrong.extend(broken_links(&texts, &|path| workspace::root().join(path).exists()));
    Ok(wrong)
}

/// The one command line in README's section `heading`.
pub(crate) fn readme_command(heading: &str) -> Result<String, Failure> {
    let text = std::fs::read_to_string(workspace::root().join("README.md"))
        .map_err(|error| format!("README.md: {error}"))?;
    command_below(&text, heading).ok_or_else(|| {
        format!("README.md: the section `## {heading}` needs a code block with one command line")
    })
}

fn command_below(text: &str, heading: &str) -> Option<String> {
    let heading = format!("## {heading}");
    let section = text.lines().skip_while(|line| line.trim_end() != heading).skip(1);
    let section = section.take_while(|line| !line.starts_with("## "));
    let mut block = section
        .skip_while(|line| !line.starts_with("```"))
        .skip(1)
        .take_while(|line| !line.starts_with("```"));
    let line = block.next()?.trim();
    (block.next().is_none() && !line.is_empty()).then(|| line.trim_start_matches("$ ").to_owned())
}

fn long_files(texts: &[Text]) -> Vec<String> {
    let sources = texts.iter().filter(|text| text.path.ends_with(".rs"));
    sources
        .filter(|text| text.text.lines().count() > MOST_LINES && !text.text.starts_with(LONG))
        .map(|Text { path, text }| {
            let lines = text.lines().count();
            format!("{path}: has {lines} lines; split it, or begin it with `{LONG}<reason>`")
        })
        .collect()
}

/// Finds home folders and work folders of one machine.
fn machine_paths(texts: &[Text]) -> Vec<String> {
    // In pieces, or this file would be found.
    let signs = ["work", "root", "home"].map(|folder| format!("/{folder}/"));
    let mut wrong = Vec::new();
    for Text { path, text } in texts {
        for (number, line) in text.lines().enumerate() {
            let own = |at: usize| {
                !line[..at].ends_with(|c: char| c.is_ascii_alphanumeric() || "_-.}>*".contains(c))
            };
            if let Some(sign) =
                signs.iter().find(|sign| line.match_indices(sign.as_str()).any(|(at, _)| own(at)))
            {
                wrong.push(format!("{path}:{}: names the folder {sign} of one machine", number + 1));
            }
        }
    }
    wrong
}

/// Finds links between files of the repository that lead nowhere.
fn broken_links(texts: &[Text], exists: &dyn Fn(&str) -> bool) -> Vec<String> {
    let mut wrong = Vec::new();
    for Text { path, text } in texts.iter().filter(|text| text.path.ends_with(".md")) {
        for (number, target) in links(text) {
            let mut complain =
                |what: &str| wrong.push(format!("{path}:{number}: the link to {target} {what}"));
            let (file, anchor) = target.split_once('#').unwrap_or((&target, ""));
            let Some(file) = (if file.is_empty() { Some(path.clone()) } else { beside(path, file) }) else {
                complain("leaves the repository");
                continue;
            };
            if !exists(&file) {
                complain("leads nowhere");
            } else if !anchor.is_empty()
                && let Some(linked) = texts.iter().find(|text| text.path == file)
                && !anchors(&linked.text).contains(&anchor.to_owned())
            {
                complain("names no heading there");
            }
        }
    }
    wrong
}

/// Lines of prose with their numbers, without code blocks.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut in_code = false;
    (1..).zip(text.lines()).filter(move |(_, line)| {
        let fence = line.trim_start().starts_with("```");
        in_code ^= fence;
        !in_code && !fence
    })
}

/// Targets of links into the repository, with their lines.
fn links(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (number, line) in prose(text) {
        // What stands in backticks is no link.
        let line: String = line.split('`').step_by(2).collect::<Vec<_>>().join("``");
        for part in line.split("](").skip(1) {
            let target = part.split([')', ' ']).next().unwrap_or_default().trim_matches(['<', '>']);
            if !target.contains("://") && !target.starts_with("mailto:") && !target.is_empty() {
                found.push((number, target.to_owned()));
            }
        }
    }
    found
}

/// The names that a forge gives the headings of a text.
fn anchors(text: &str) -> Vec<String> {
    let mut anchors: Vec<String> = Vec::new();
    for (_, line) in prose(text).filter(|(_, line)| line.starts_with('#')) {
        let title = line.trim_start_matches('#').trim().to_lowercase();
        let kept = title.chars().filter(|&c| c.is_alphanumeric() || " -_".contains(c));
        let anchor: String = kept.map(|c| if c == ' ' { '-' } else { c }).collect();
        let earlier = anchors.iter().filter(|&there| *there == anchor).count();
        anchors.push(if earlier == 0 { anchor } else { format!("{anchor}-{earlier}") });
    }
    anchors
}

/// The path that `target` means in the file `from`; none if it leaves the repository.
fn beside(from: &str, target: &str) -> Option<String> {
    let mut segments: Vec<&str> = from.split('/').collect();
    segments.pop();
    for segment in target.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                segments.pop()?;
            }
            other => segments.push(other),
        }
    }
    Some(segments.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(path: &str, text: &str) -> Text {
        Text { path: path.to_owned(), text: text.to_owned() }
    }

    #[test]
    fn links_of_this_repository_lead_somewhere_and_no_path_of_a_machine_is_in_it() {
        // README's sections are `cargo xtask ci`'s matter: it runs them.
        let wrong: Vec<String> = check()
            .expect("the repository can be read")
            .into_iter()
            .filter(|wrong| !wrong.starts_with("README.md: "))
            .collect();
        assert!(wrong.is_empty(), "{wrong:#?}");
    }

    #[test]
    fn the_one_command_of_a_section_is_found() {
        let readme = "# A\n\n## Try it\n\nText.\n\n```\n$ cargo xtask demo\n```\n\n## Test\n\n```sh\na\nb\n```\n## None\n";
        assert_eq!(command_below(readme, "Try it").as_deref(), Some("cargo xtask demo"));
        assert_eq!(command_below(readme, "Test"), None, "two lines");
        assert_eq!(command_below(readme, "None"), None);
        assert_eq!(command_below(readme, "Gone"), None);
    }

    #[test]
    fn broken_links_are_found() {
        let texts = [
            text(
                "docs/a.md",
                "[x](b.md) [x](b.md#two-words) [x](b.md#gone) [x](gone.md)\n[x](../README.md#top) [x](#here)\n\
                 ```\n[x](code.md)\n```\n`[x](code.md)` [w](https://example.org/x) [x](../../out)\n# Here\n",
            ),
            text("docs/b.md", "# One\n## Two words\n"),
            text("README.md", "# Top\n"),
        ];
        let there = |path: &str| texts.iter().any(|text| text.path == path);
        let expected = [
            "docs/a.md:1: the link to b.md#gone names no heading there",
            "docs/a.md:1: the link to gone.md leads nowhere",
            "docs/a.md:6: the link to ../../out leaves the repository",
        ];
        assert_eq!(broken_links(&texts, &there), expected);
    }

    #[test]
    fn long_files_need_a_reason_and_machine_paths_have_none() {
        let long = "x\n".repeat(MOST_LINES + 1);
        let texts = [
            text("a.rs", &long),
            text("b.rs", &format!("{LONG}one table\n{long}")),
            text("c.rs", &"x\n".repeat(MOST_LINES)),
        ];
        let found = long_files(&texts);
        assert_eq!(found.len(), 1);
        assert!(found[0].starts_with("a.rs: has 801 lines"), "{found:?}");

        let machine = format!("a\n/ho{}/me/x\n", "me");
        let found = machine_paths(&[
            text("a.md", &machine),
            text("b.md", &format!("https://example.org/ho{}/x <prefix>/wo{}/\n", "me", "rk")),
        ]);
        assert_eq!(found, [format!("a.md:2: names the folder /ho{}/ of one machine", "me")]);
    }
}
