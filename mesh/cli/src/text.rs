//! Text for people: cleaned, wrapped to 80 columns, in tables; and times without a library.
//!
//! Names and reasons come from other boards, so they may hold anything. [`clean`] is applied once,
//! where the API turns a node's answer into JSON; nothing behind it has to think of it again.

use serde_json::Value;

/// Columns of the screen that every text for people fits.
pub(crate) const WIDTH: usize = 80;
const GAP: &str = "  ";

/// `text` without what a terminal would obey or a reader would not see.
pub(crate) fn clean(text: &str) -> String {
    text.chars().filter(|c| !c.is_control() && !is_invisible(*c)).collect()
}

/// Cleans every text in `value`.
pub(crate) fn clean_all(value: &mut Value) {
    match value {
        Value::String(text) => *text = clean(text),
        Value::Array(items) => items.iter_mut().for_each(clean_all),
        Value::Object(fields) => fields.values_mut().for_each(clean_all),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Marks that turn the writing direction or take no room: they can make one name look like another.
fn is_invisible(c: char) -> bool {
    matches!(
        c,
        '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
    )
}

/// Breaks `text` at spaces so that it fits; lines after the first begin with `indent` spaces,
/// a paragraph's first one with its own if it has more.
pub(crate) fn wrap(text: &str, indent: usize) -> String {
    wrap_to(text, WIDTH, indent).join("\n")
}

fn wrap_to(text: &str, width: usize, indent: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for paragraph in text.lines() {
        let lead = if lines.is_empty() { 0 } else { indent };
        let own = paragraph.len() - paragraph.trim_start_matches(' ').len();
        let mut line = " ".repeat(lead.max(own));
        let mut empty = true;
        for word in paragraph.split_whitespace() {
            if !empty && length(&line) + 1 + length(word) > width {
                lines.push(std::mem::replace(&mut line, " ".repeat(indent)));
                empty = true;
            }
            if !empty {
                line.push(' ');
            }
            line.push_str(word);
            empty = false;
        }
        lines.push(line);
    }
    lines
}

/// Columns under headings. The last column takes the rest of the line and is wrapped; any other
/// cell is cut at its column's limit.
pub(crate) struct Table {
    limits: Vec<usize>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these headings and the widest that each column but the last may become.
    pub(crate) fn new(columns: &[(&str, usize)]) -> Self {
        let headings = columns.iter().map(|(heading, _)| (*heading).to_owned()).collect();
        Self { limits: columns.iter().map(|column| column.1).collect(), rows: vec![headings] }
    }

    /// Adds a row with one cell for each heading.
    pub(crate) fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// The table, ending in a line break.
    pub(crate) fn render(&self) -> String {
        let last = self.limits.len() - 1;
        let widths: Vec<usize> = (0..last)
            .map(|i| {
                let widest = self.rows.iter().map(|row| length(&row[i])).max().unwrap_or(0);
                widest.min(self.limits[i])
            })
            .collect();
        let before = widths.iter().map(|width| width + GAP.len()).sum::<usize>();
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                line.push_str(&pad(&cut(cell, *width), *width));
                line.push_str(GAP);
            }
            let rest = wrap_to(&row[last], WIDTH.saturating_sub(before).max(12), 0);
            line.push_str(rest.first().map_or("", String::as_str));
            text.push_str(line.trim_end());
            text.push('\n');
            for more in rest.iter().skip(1) {
                text.push_str(&" ".repeat(before));
                text.push_str(more);
                text.push('\n');
            }
        }
        text
    }
}

fn length(text: &str) -> usize {
    text.chars().count()
}

fn cut(text: &str, width: usize) -> String {
    if length(text) <= width {
        return text.to_owned();
    }
    let kept: String = text.chars().take(width.saturating_sub(1)).collect();
    kept + "…"
}

fn pad(text: &str, width: usize) -> String {
    let missing = width.saturating_sub(length(text));
    text.to_owned() + &" ".repeat(missing)
}

/// Unix seconds as a date and time, UTC: `2026-11-22 10:03`.
pub(crate) fn date(unix: u64) -> String {
    let (days, second) = (unix / 86_400, unix % 86_400);
    // Days since 0000-03-01, in eras of 400 years: a year then ends with its leap day.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}", second / 3600, second / 60 % 60)
}

/// Unix milliseconds as a time of day, UTC: `10:03:27.512`.
pub(crate) fn time_of_day(unix_ms: u64) -> String {
    let (second, ms) = (unix_ms / 1000 % 86_400, unix_ms % 1000);
    format!("{:02}:{:02}:{:02}.{ms:03}", second / 3600, second / 60 % 60, second % 60)
}

/// How long ago, short: `now`, `14s`, `3m`, `2h`, `5d`.
pub(crate) fn ago(ms: u64) -> String {
    match ms / 1000 {
        0 => "now".to_owned(),
        s @ 1..=119 => format!("{s}s"),
        s @ 120..=7_199 => format!("{}m", s / 60),
        s @ 7_200..=172_799 => format!("{}h", s / 3_600),
        s => format!("{}d", s / 86_400),
    }
}

/// How old something is, to a tenth of a second while that matters: `0.4 s`, `12.0 s`, `3m`.
pub(crate) fn age(ms: u64) -> String {
    match ms {
        0..=99_949 => format!("{}.{} s", (ms + 50) / 1000, (ms + 50) % 1000 / 100),
        _ => ago(ms),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(date(0), "1970-01-01 00:00");
        assert_eq!(date(951_782_400), "2000-02-29 00:00");
        assert_eq!(date(1_795_219_200), "2026-11-21 00:00");
        assert_eq!(date(4_107_542_399), "2100-02-28 23:59");
        assert_eq!(time_of_day(3_723_004), "01:02:03.004");
        assert_eq!([age(0), age(449), age(99_949)], ["0.0 s", "0.4 s", "99.9 s"]);
        assert_eq!(age(150_000), "2m");
    }

    #[test]
    fn what_a_terminal_would_obey_is_gone() {
        assert_eq!(clean("pi\u{1b}[2J-2\u{9b}\n\u{202e}x\u{200b}"), "pi[2J-2x");
        let mut value = serde_json::json!({"a": ["\u{7}b"], "c": 1});
        clean_all(&mut value);
        assert_eq!(value, serde_json::json!({"a": ["b"], "c": 1}));
    }

    #[test]
    fn a_table_fits_the_screen_whatever_is_in_it() {
        let mut table = Table::new(&[("NODE", 10), ("STATE", 8), ("WHY", 0)]);
        table.row(vec!["a-name-that-never-ends".into(), "down".into(), "word ".repeat(40)]);
        let text = table.render();
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
        assert!(text.contains("a-name-th…"), "{text}");
        assert_eq!(text.matches("word").count(), 40);
    }

    #[test]
    fn long_texts_are_wrapped_and_indented() {
        let text = wrap(&"abc ".repeat(50), 2);
        assert!(text.lines().all(|line| line.len() <= WIDTH));
        assert!(text.lines().skip(1).all(|line| line.starts_with("  abc")));
    }
}
