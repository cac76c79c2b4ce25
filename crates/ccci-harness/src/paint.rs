//! Colours, on a terminal that wants them. What they say is always said in words too.

use std::io::IsTerminal;

use anstyle::{AnsiColor, Style};

/// A name that one looks for.
pub(crate) const NAME: Style = Style::new().bold();
/// All is well.
pub(crate) const GOOD: Style = AnsiColor::Green.on_default();
/// Somebody waits, or should look some time.
pub(crate) const WAITS: Style = AnsiColor::Yellow.on_default();
/// Somebody has to do something.
pub(crate) const BAD: Style = AnsiColor::Red.on_default().bold();
/// What matters little.
pub(crate) const QUIET: Style = Style::new().dimmed();

/// Whether to paint.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Paint(bool);

impl Paint {
    /// No colours.
    #[cfg(test)]
    pub(crate) const NONE: Self = Self(false);

    /// As stdout and `NO_COLOR` have it.
    pub(crate) fn for_stdout() -> Self {
        Self::on(std::io::stdout().is_terminal())
    }

    /// On a terminal, unless `NO_COLOR` is set.
    pub(crate) fn on(terminal: bool) -> Self {
        Self(terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()))
    }

    /// The text in this style.
    pub(crate) fn with(self, style: Style, text: &str) -> String {
        if self.0 { format!("{style}{text}{style:#}") } else { text.to_owned() }
    }

    /// A line of a run, in the colour of what it tells.
    pub(crate) fn line(self, line: &str) -> String {
        style_of(line).map_or_else(|| line.to_owned(), |style| self.with(style, line))
    }
}

/// The colour of a line that tells how something went. What others print is indented behind a bar, and stays.
fn style_of(line: &str) -> Option<Style> {
    let begins = |words: &[&str]| words.iter().any(|word| line.starts_with(word));
    let stage = line.strip_prefix("-- ").and_then(|line| line.split_once(": "));
    match stage.map(|(_, outcome)| outcome) {
        Some(outcome) if outcome.starts_with("pass") => return Some(GOOD),
        Some(outcome) if outcome.starts_with("FAIL") => return Some(BAD),
        Some(_) => return Some(QUIET),
        None => {}
    }
    if begins(&["   fail ", "!! ", "RED ", "HOST ", "USAGE ", "DEADLINE "]) || line.contains("NOT CLEAN") {
        Some(BAD)
    } else if begins(&["   pass ", "GREEN "]) {
        Some(GOOD)
    } else if begins(&["CANCELLED ", "BUSY ", "== cancelled"]) {
        Some(WAITS)
    } else if begins(&["== ", "=====", "-- "]) {
        Some(NAME)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_the_colour_of_what_it_tells_and_what_a_test_prints_has_none() {
        for (line, style) in [
            ("   pass  generic/healthy (3ms)", Some(GOOD)),
            ("   fail  custom/check (3ms) — exit code 1", Some(BAD)),
            ("-- install: pass (5.0s)", Some(GOOD)),
            ("-- upgrade: FAIL — custom/check: exit code 1", Some(BAD)),
            ("-- backup: unver (not asked for)", Some(QUIET)),
            ("GREEN (exit 0) — hello 1.0", Some(GOOD)),
            ("RED (exit 1) — hello 1.0", Some(BAD)),
            ("== teardown ==", Some(NAME)),
            ("     | RED alert", None),
            ("level=4", None),
        ] {
            assert_eq!(style_of(line), style, "{line}");
        }
        assert_eq!(Paint(false).line("RED (exit 1)"), "RED (exit 1)");
        assert_eq!(Paint(true).line("RED"), "RED", "not a verdict");
        assert!(Paint(true).line("RED (exit 1)").contains("\x1b["));
    }
}
