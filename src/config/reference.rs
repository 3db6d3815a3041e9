//! `docs/configuration.md`, written from the schema.

use std::fmt::Write;

use crate::config::schema::{self, Key, Kind, PROFILE_DEFAULTS, Presence, Table};
use crate::config::value::{show_duration, show_size};

const INTRODUCTION: &str = r#"# Configuration

<!-- Written by `kcd-bridge docs configuration`; change src/config/schema/ instead. -->

One TOML file, by default `/etc/kcd-bridge/kcd-bridge.toml`. `kcd-bridge check --offline` reads it and every file it names, and
reports everything it finds at once. [`config/kcd-bridge.toml`](../config/kcd-bridge.toml) shows every key with its default;
[`config/examples/`](../config/examples) holds whole files to start from.

- Unknown keys are refused, with the nearest right name. Keys and values of later versions are refused as "not available in this
  version", never ignored.
- Everything weak has to be asked for by name: it is marked (weak) below, and `check` lists what is in use.
- Durations are text with a unit: `"500ms"`, `"10s"`, `"15m"`, `"4h"`. Sizes are numbers of bytes, or text: `"64KiB"`, `"30MiB"`,
  `"1GiB"`.
- Files are named by absolute paths, or relative to the directory of the configuration file. No key holds a secret itself.
"#;

const CHECKING: &str = r#"
## Checking

`kcd-bridge check --offline` lists errors (it does not work), then warnings (it works badly, or not for long), then notes (weak
settings in use and other things to know). It ends with 0 if there are only notes, with 1 if there are errors or warnings, with 2 if
the command line is wrong and with 3 if the configuration file cannot be read. Run it as the service's user, so that it sees what
the service may read.

`--json` writes one object. Fields may be added to it; none is removed or changes its meaning while `version` is 1.

| field | |
| --- | --- |
| `version` | 1 |
| `config` | the configuration file |
| `errors`, `warnings`, `notes` | how many there are of each |
| `findings` | a list of objects, errors first |
| `findings[].severity` | `"error"`, `"warning"` or `"note"` |
| `findings[].key` | key path, for instance `"backend[0].spn"`; empty for the file as a whole |
| `findings[].line` | line of the configuration file; absent if the finding is about something the file names |
| `findings[].message`, `findings[].remedy` | what is wrong, and what to do |
"#;

/// The text of `docs/configuration.md`.
pub fn markdown() -> String {
    let mut text = INTRODUCTION.to_owned();
    for (path, table) in schema::tables().into_iter().filter(|(path, _)| !path.is_empty()) {
        let _infallible = section(&mut text, &path, table);
    }
    let _infallible = profiles(&mut text);
    text.push_str(CHECKING);
    text
}

fn section(text: &mut String, path: &str, table: &Table) -> std::fmt::Result {
    let header = match path.strip_suffix("[]") {
        Some(list) => format!("[[{}]]", list.replace("[]", "")),
        None => format!("[{}]", path.replace("[]", "")),
    };
    writeln!(text, "\n## `{header}`\n\n{}\n", table.about)?;
    writeln!(text, "| key | takes | left out | |\n| --- | --- | --- | --- |")?;
    for key in table.keys {
        let (takes, left_out) = (takes(key), left_out(key));
        writeln!(text, "| `{}` | {takes} | {left_out} | {} |", key.name, key.about)?;
    }
    Ok(())
}

fn profiles(text: &mut String) -> std::fmt::Result {
    writeln!(text, "\n## Profiles\n")?;
    writeln!(text, "A back end's `profile` sets these defaults and nothing else; a key that is written wins.\n")?;
    writeln!(text, "| profile | key | default |\n| --- | --- | --- |")?;
    for (profile, key, value) in PROFILE_DEFAULTS {
        writeln!(text, "| `{profile}` | `{key}` | `\"{value}\"` |")?;
    }
    writeln!(
        text,
        "\nThe other profiles keep the table's own defaults, which suit ActiveSync. `check` uses the profile to warn of settings that\n\
         cannot work with that server: Exchange 2003 stands on Windows 2003, which decrypts only RC4 tickets and speaks no TLS 1.2."
    )
}

fn takes(key: &Key) -> String {
    let words = |words: &[&str]| words.iter().map(|word| format!("`\"{word}\"`")).collect::<Vec<_>>().join(", ");
    match &key.kind {
        Kind::Text(form) => (*form).to_owned(),
        Kind::Texts(form) => format!("list: {form}"),
        Kind::Path => "path".to_owned(),
        Kind::Paths => "list of paths".to_owned(),
        Kind::Bool => "`true` or `false`".to_owned(),
        Kind::Duration(min, max) => format!("duration, {} to {}", show_duration(*min), show_duration(*max)),
        Kind::Size(min, max) => format!("size, {} to {}", show_size(*min), show_size(*max)),
        Kind::Count(min, max) => format!("number, {min} to {max}"),
        Kind::Rids => "list of numbers".to_owned(),
        Kind::Choice(now, _) => words(now),
        Kind::Table(_) => "table".to_owned(),
        Kind::Tables(_) => "tables".to_owned(),
        Kind::Named(name, _) => format!("tables by {name}"),
        Kind::Unknown => "-".to_owned(),
    }
}

fn left_out(key: &Key) -> String {
    match (key.presence, &key.kind) {
        (Presence::Required, _) => "**required**".to_owned(),
        (Presence::Default(value), _) => format!("`{}`", default_literal(key, value)),
        (Presence::Optional(meaning), _) => meaning.to_owned(),
        (Presence::Later(_), _) => "not available in this version".to_owned(),
    }
}

/// A default as it would be written in the file.
fn default_literal(key: &Key, value: &str) -> String {
    match key.kind {
        Kind::Bool | Kind::Count(..) | Kind::Paths | Kind::Texts(_) => value.to_owned(),
        Kind::Rids => format!("[{value}]"),
        _ => format!("\"{value}\""),
    }
}
