//! The house rules that a test can hold: who imports whom, how long a page may be, and that the
//! documents speak of things that exist.

// A test that cannot set itself up has failed.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()
        .unwrap()
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every file under `folder` with the given ending, target folders left out.
fn files(folder: &str, ending: &str) -> Vec<PathBuf> {
    let mut open = vec![root().join(folder)];
    let mut found = Vec::new();
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.ends_with("target") {
                open.push(path);
            } else if path.to_string_lossy().ends_with(ending) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// The words of a line between backticks.
fn quoted(line: &str) -> Vec<String> {
    line.split('`')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect()
}

#[test]
fn manifests_follow_the_arrows_of_the_architecture() {
    let map = read("ARCHITECTURE.md");
    let crates: BTreeSet<String> = fs::read_dir(root().join("crates"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    let mut allowed: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in map.lines().filter(|line| line.starts_with("| `kinora")) {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        if cells.len() != 5 {
            continue; // Another table.
        }
        let name = quoted(cells[1]).remove(0);
        let mut may: BTreeSet<String> = quoted(cells[3]).into_iter().collect();
        if cells[3].starts_with("all of them") {
            may = crates
                .iter()
                .filter(|other| **other != name)
                .cloned()
                .collect();
        }
        allowed.insert(name, may);
    }
    let listed: BTreeSet<String> = allowed.keys().cloned().collect();
    assert_eq!(crates, listed, "the table and crates/ list the same rooms");
    for (name, may) in allowed {
        let manifest = read(format!("crates/{name}/Cargo.toml"));
        let normal = manifest.split("[dependencies]").nth(1).unwrap_or("");
        let normal = normal.split("\n[").next().unwrap_or("");
        let imports: BTreeSet<String> = normal
            .lines()
            .filter_map(|line| line.split(['.', ' ', '=']).next())
            .filter(|word| word.starts_with("kinora-"))
            .map(str::to_owned)
            .collect();
        let more: Vec<_> = imports.difference(&may).collect();
        assert!(
            more.is_empty(),
            "{name} imports {more:?}, which ARCHITECTURE.md does not allow"
        );
    }
}

#[test]
fn a_page_is_a_page() {
    let long: Vec<String> = files("crates", ".rs")
        .iter()
        .filter_map(|path| {
            let lines = fs::read_to_string(path).unwrap().lines().count();
            (lines > 600).then(|| format!("{}: {lines} lines", path.display()))
        })
        .collect();
    assert!(long.is_empty(), "over the wall of 600 lines: {long:#?}");
}

#[test]
fn every_crate_opens_with_prose() {
    for path in files("crates", "src/lib.rs")
        .iter()
        .chain(&files("crates", "src/main.rs"))
    {
        let text = fs::read_to_string(path).unwrap();
        let prose = text.starts_with("//! ") && text.lines().next().unwrap().len() > 20;
        assert!(prose, "{}", path.display());
    }
}

#[test]
fn the_paper_map_points_at_things_that_exist() {
    let map = read("docs/paper.md");
    let mut checked = 0;
    for word in map
        .lines()
        .filter(|line| line.starts_with('|'))
        .flat_map(quoted)
    {
        let Some((path, item)) = word.split_once("::") else {
            continue;
        };
        if !path.ends_with(".rs") {
            continue;
        }
        let text = read(path);
        let name = item.trim_end_matches("()");
        let is_a_name = name.len() > 2 && name.chars().all(|c| c.is_alphanumeric() || c == '_');
        assert!(is_a_name, "docs/paper.md: {word} names no item");
        assert!(
            text.contains(name),
            "docs/paper.md points at {word}, and {path} has no {name}"
        );
        checked += 1;
    }
    assert!(
        checked >= 20,
        "docs/paper.md should lead somewhere, found {checked} pointers"
    );
}

#[test]
fn the_architecture_names_files_that_exist() {
    for word in read("ARCHITECTURE.md").lines().flat_map(quoted) {
        if word.starts_with("kinora-") && word.ends_with(".rs") {
            assert!(
                root().join("crates").join(&word).exists(),
                "ARCHITECTURE.md names {word}"
            );
        }
    }
}

#[test]
fn commands_in_the_readme_are_understood() {
    let readme = read("README.md");
    let mut checked = 0;
    for line in readme
        .lines()
        .map(str::trim)
        .filter(|line| line.starts_with("kinora "))
    {
        let words: Vec<&str> = line.split_whitespace().collect();
        let help = std::process::Command::new(env!("CARGO_BIN_EXE_kinora"))
            .args([words[1], "--help"])
            .output()
            .unwrap();
        assert!(
            help.status.success(),
            "README: `{line}`: there is no verb {}",
            words[1]
        );
        let help = String::from_utf8(help.stdout).unwrap();
        for flag in words.iter().filter(|word| word.starts_with("--")) {
            let flag = flag.split('=').next().unwrap();
            assert!(
                help.contains(flag),
                "README: `{line}`: {} has no {flag}",
                words[1]
            );
        }
        checked += 1;
    }
    assert!(checked > 3, "the README should show commands");
}

/// The commands of a text: what follows `kinora` on lines of code and between backticks, each with the
/// rest of its line.
fn commands(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for line in text.lines() {
        let line = line.trim_start_matches(['#', ' ']).trim();
        let line = line.strip_prefix("command ").unwrap_or(line).trim();
        let inline = quoted(line);
        let inline = inline
            .iter()
            .filter_map(|code| code.strip_prefix("kinora "));
        found.extend(inline.map(str::to_owned));
        if let Some(command) = line.strip_prefix("kinora ") {
            let command = command.split('#').next().unwrap();
            found.push(command.trim().to_owned());
        }
    }
    found
}

#[test]
fn every_command_that_is_written_down_has_its_verb_and_its_flags() {
    let kinora = |words: &[&str]| {
        let command = std::process::Command::new(env!("CARGO_BIN_EXE_kinora"))
            .args(words)
            .output()
            .unwrap();
        (
            command.status.success(),
            String::from_utf8(command.stdout).unwrap(),
        )
    };
    let mut texts = vec![root().join("README.md"), root().join("CONTRIBUTING.md")];
    texts.extend(files("docs", ".md"));
    texts.extend(files("configs", ".toml"));
    let mut flags_of: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut checked = 0;
    for path in texts {
        for command in commands(&fs::read_to_string(&path).unwrap()) {
            let mut words = command.split_whitespace();
            let Some(verb) = words.next().filter(|word| !word.starts_with('-')) else {
                continue;
            };
            let known = flags_of.entry(verb.to_owned()).or_insert_with(|| {
                let (understood, help) = kinora(&[verb, "--help"]);
                assert!(
                    understood,
                    "{}: `kinora {command}`: no such verb",
                    path.display()
                );
                let words = help.split(|c: char| c.is_whitespace() || ",[]=".contains(c));
                let flags = words.filter(|word| word.starts_with("--"));
                flags.map(str::to_owned).collect()
            });
            for flag in words.filter(|word| word.starts_with("--")) {
                let flag = flag.split('=').next().unwrap();
                let flag = flag.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
                assert!(
                    known.contains(flag),
                    "{}: `kinora {command}`: {verb} has no {flag}",
                    path.display()
                );
                checked += 1;
            }
        }
    }
    assert!(
        checked >= 20,
        "the documents should show commands, found {checked} flags"
    );
}
