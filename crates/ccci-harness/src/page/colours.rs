//! The colours of a test's output, kept as spans. Their sequences arrive visible, as everything does; no other
//! sequence means anything here.

use anstyle::{AnsiColor, Color, Effects, Style};
use ccci_core::visible::{self, Part};
use maud::{Markup, html};

/// The text with its colours.
pub(super) fn shown(text: &str) -> Markup {
    let mut style = Style::new();
    let mut spans: Vec<(Style, &str)> = Vec::new();
    for part in visible::colours(text) {
        match part {
            Part::Words(words) => spans.push((style, words)),
            Part::Colour(codes) => style = after(style, codes),
        }
    }
    html! {
        @for (style, words) in spans {
            @let classes = classes(style);
            @if classes.is_empty() { (words) } @else { span class=(classes) { (words) } }
        }
    }
}

/// The style after a sequence; one that is not understood changes nothing, an empty one ends all.
fn after(before: Style, codes: &str) -> Style {
    if codes.split(';').all(|code| code.bytes().all(|digit| digit == b'0')) {
        return Style::new();
    }
    // "0;31" begins anew.
    let before = if codes.split(';').next().is_some_and(|code| code.bytes().all(|digit| digit == b'0')) {
        Style::new()
    } else {
        before
    };
    let Some(more) = anstyle_ls::parse(codes) else { return before };
    before.fg_color(more.get_fg_color().or(before.get_fg_color())).effects(before.get_effects() | more.get_effects())
}

/// Only what stays readable on a page of ours: no backgrounds, nothing concealed, nothing that blinks.
fn classes(style: Style) -> String {
    let colour = match style.get_fg_color() {
        Some(Color::Ansi(colour)) => match colour {
            AnsiColor::Red | AnsiColor::BrightRed => Some("red"),
            AnsiColor::Green | AnsiColor::BrightGreen => Some("green"),
            AnsiColor::Yellow | AnsiColor::BrightYellow => Some("yellow"),
            AnsiColor::Blue | AnsiColor::BrightBlue => Some("blue"),
            AnsiColor::Magenta | AnsiColor::BrightMagenta => Some("magenta"),
            AnsiColor::Cyan | AnsiColor::BrightCyan => Some("cyan"),
            AnsiColor::Black | AnsiColor::BrightBlack | AnsiColor::White | AnsiColor::BrightWhite => None,
        },
        _ => None,
    };
    let effects = style.get_effects();
    let bold = effects.contains(Effects::BOLD).then_some("bold");
    let underlined = effects.contains(Effects::UNDERLINE).then_some("underlined");
    [colour, bold, underlined].into_iter().flatten().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_become_spans_and_everything_else_is_text() {
        let page = |said: &str| shown(&visible::text(said)).into_string();
        assert_eq!(page("ok \x1b[32mpassed\x1b[0m <b>"), "ok <span class=\"green\">passed</span> &lt;b&gt;");
        assert_eq!(page("\x1b[31m\x1b[1mE  1\x1b[mx"), "<span class=\"red bold\">E  1</span>x");
        assert_eq!(page("\x1b[0;33mwarn\x1b[00m"), "<span class=\"yellow\">warn</span>");
        assert_eq!(page("\x1b[38;5;99;8mhidden\x1b[0m"), "hidden", "nothing is concealed");
        assert_eq!(page("\x1b[2J\x1b]0;t\x07\x1b[31\"onload=x m"), "␛[2J␛]0;t␇␛[31&quot;onload=x m");
    }
}
