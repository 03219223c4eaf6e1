//! `supervisor completions` and the manual pages, made from the command line's own definition.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{ArgMatches, Command};
use clap_complete::Shell;

use super::command::command;
use super::output::print;
use crate::complain;

pub(super) fn completions(matches: &ArgMatches) -> ExitCode {
    let Some(shell) = matches.get_one::<Shell>("shell") else { return ExitCode::from(2) };
    let mut script = Vec::new();
    clap_complete::generate(*shell, &mut command(), "supervisor", &mut script);
    print(&String::from_utf8_lossy(&script));
    ExitCode::SUCCESS
}

/// Writes `supervisor.1` and a page for each subcommand into a folder, or prints the first one.
pub(super) fn man(matches: &ArgMatches) -> ExitCode {
    let mut root = command().disable_help_subcommand(true);
    root.build();
    let done = match matches.get_one::<PathBuf>("dir") {
        Some(dir) => std::fs::create_dir_all(dir).and_then(|()| write(dir, "supervisor", &root)),
        None => page(&root).map(|page| print(&String::from_utf8_lossy(&page))),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => complain(&format!("the manual pages cannot be written: {error}"), 1),
    }
}

fn write(dir: &Path, name: &str, command: &Command) -> io::Result<()> {
    std::fs::write(dir.join(format!("{name}.1")), page(command)?)?;
    for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
        write(dir, &format!("{name}-{}", below.get_name()), below)?;
    }
    Ok(())
}

/// One page. Where clap_mangen would name a hundred options in the synopsis and fill the lines of a table, this says it otherwise.
fn page(command: &Command) -> io::Result<Vec<u8>> {
    let mut command = command.clone().version(env!("CARGO_PKG_VERSION"));
    let usage = command.render_usage().to_string();
    let notes = command.get_after_help().map(ToString::to_string);
    let name = command.get_display_name().unwrap_or(command.get_name()).to_uppercase();
    let man = clap_mangen::Man::new(command.clone())
        .title(name)
        .manual("Pilotlight")
        .source(concat!("pilotlight ", env!("CARGO_PKG_VERSION")));
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    section(&mut page, "SYNOPSIS", usage.trim_start_matches("Usage: "))?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut page)?;
    }
    if let Some(notes) = notes {
        section(&mut page, "NOTES", &notes)?;
    }
    Ok(in_ascii(&String::from_utf8_lossy(&page)).into_bytes())
}

/// troff reads no UTF-8 by itself; it has names for other characters (groff_char(7)).
fn in_ascii(page: &str) -> String {
    page.chars()
        .map(|c| if c.is_ascii() { c.to_string() } else { format!("\\[u{:04X}]", u32::from(c)) })
        .collect()
}

/// Lines as they are (man(7): `.nf`), with what troff would take for its own escaped.
fn section(page: &mut Vec<u8>, heading: &str, text: &str) -> io::Result<()> {
    writeln!(page, ".SH {heading}\n.nf")?;
    for line in text.lines() {
        let line = line.replace('\\', "\\e").replace('-', "\\-");
        // A line that begins with these is a request.
        let guard = if line.starts_with(['.', '\'']) { "\\&" } else { "" };
        writeln!(page, "{guard}{line}")?;
    }
    writeln!(page, ".fi")
}
