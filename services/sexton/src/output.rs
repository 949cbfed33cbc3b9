//! Tables for people, JSON for programs.
use comfy_table::presets::NOTHING;
use comfy_table::{ContentArrangement, Table};
use serde::Serialize;
use sexton_model::Timestamp;
use sexton_model::time::rehearsal_notice;

use crate::arguments::Format;

/// Write `value`: as JSON, or as the text that `table` makes of it.
pub fn write<T: Serialize>(
    format: Format,
    value: &T,
    table: impl FnOnce(&T) -> String,
) -> anyhow::Result<()> {
    let text = match format {
        Format::Json => serde_json::to_string_pretty(value)?,
        Format::Table => table(value),
    };
    say(text.trim_end()).map(|_| ())
}

/// Warn whoever reads; as JSON it stands in what is written anyway.
pub fn warn(format: Format, warning: Option<&str>) {
    if let (Format::Table, Some(warning)) = (format, warning) {
        eprintln!("WARNING: {warning}");
    }
}

/// Say that it is a rehearsal, and how long its day is, in milliseconds: beside what a command writes.
pub fn rehearsal(day_ms: u64) {
    eprintln!("{}", rehearsal_notice(day_ms));
}

/// Write a text and a line end. Whether anybody still reads: one that has seen enough (head, less) is no error.
pub fn say(text: &str) -> anyhow::Result<bool> {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error.into()),
        Ok(()) => Ok(true),
    }
}

/// A table with a heading.
pub fn table<const N: usize>(heading: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(heading);
    for row in rows {
        table.add_row(row);
    }
    table.to_string()
}

/// A moment to the second, in UTC; nothing for none.
pub fn moment(at: Option<Timestamp>) -> String {
    at.map(|at| at.utc().format("%Y-%m-%d %H:%M:%S").to_string()).unwrap_or_default()
}

/// A text for a cell of a table: one that is longer than `max` characters is cut, and ends with `…`.
pub fn short(text: &str, max: usize) -> String {
    match text.char_indices().nth(max) {
        None => text.to_owned(),
        Some(_) => {
            let kept: String = text.chars().take(max.saturating_sub(1)).collect();
            format!("{}…", kept.trim_end())
        }
    }
}

/// A text that others have chosen, as a terminal may have it: what it would take for a command, and what would turn the direction in
/// which people read, or is not seen at all, stands there as JSON escapes it.
pub fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for c in text.chars() {
        if misleads(c) {
            plain += &format!("\\u{:04x}", u32::from(c));
        } else {
            plain.push(c);
        }
    }
    plain
}

fn misleads(c: char) -> bool {
    let unseen = matches!(
        c,
        '\u{061c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
    );
    c.is_control() || unseen
}

/// So many of something, whose plural ends with an s.
pub fn counted(n: impl TryInto<u64>, one: &str) -> String {
    match n.try_into().unwrap_or(u64::MAX) {
        1 => format!("1 {one}"),
        n => format!("{n} {one}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::{counted, short};

    #[test]
    fn one_is_not_many() {
        assert_eq!(
            ["0 holds", "1 hold", "2 holds"],
            [0_usize, 1, 2].map(|n| counted(n, "hold")).each_ref().map(String::as_str)
        );
    }

    #[test]
    fn what_was_cut_is_seen_to_be_cut() {
        assert_eq!(short("grün", 4), "grün");
        assert_eq!(short("grüne", 4), "grü…");
        assert_eq!(short("so it is", 4), "so…");
        assert_eq!(short("", 4), "");
    }
}
