//! The table that `abra recipe lint` prints. Its exit code says only whether it could lint; which rules
//! fail stands in the table and nowhere else.

use std::fmt;

/// Why what was printed is no table to judge by.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// There is no row of a rule.
    #[error("it printed no table of rules")]
    NoRows,
    /// A row is not understood.
    #[error("the row of rule {reference} is not understood: {row}")]
    Row {
        /// The rule.
        reference: String,
        /// The row.
        row: String,
    },
    /// It says that critical errors are present, and no row has one.
    #[error("it speaks of critical errors, and no row has one")]
    Contradicts,
}

/// How grave a rule is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// The recipe should not be released so.
    Error,
    /// It could be better.
    Warning,
}

/// What became of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// The recipe keeps it.
    Satisfied,
    /// The recipe breaks it.
    Broken,
    /// It was not looked at.
    Skipped,
}

/// A row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Its number, such as `R009`.
    pub reference: String,
    /// What it asks for.
    pub name: String,
    /// How grave it is.
    pub severity: Severity,
    /// What became of it.
    pub state: State,
    /// What would satisfy it.
    pub fix: String,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.reference, self.name)?;
        if self.fix.is_empty() { Ok(()) } else { write!(f, " ({})", self.fix) }
    }
}

/// Every rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// In the order of the table.
    pub rules: Vec<Rule>,
}

impl Table {
    /// The broken rules of this severity.
    pub fn broken(&self, severity: Severity) -> impl Iterator<Item = &Rule> {
        self.rules.iter().filter(move |rule| rule.state == State::Broken && rule.severity == severity)
    }
}

/// What separates columns, in the styles that terminals' tables have.
const BARS: [char; 3] = ['│', '┃', '|'];
/// A word that begins a critical warning below the table.
const CRITICAL: &str = "critical errors present";

/// Reads the table. What stands around it is left out; a row that cannot be read is an error, because it
/// may be the one that fails.
///
/// # Errors
/// [`TableError`].
pub fn parse<'text>(lines: impl IntoIterator<Item = &'text str>) -> Result<Table, TableError> {
    let mut rules = Vec::new();
    let mut critical = false;
    for line in lines {
        critical |= line.to_lowercase().contains(CRITICAL);
        let cells: Vec<&str> = line.trim().trim_matches(BARS).split(BARS).map(str::trim).collect();
        if cells.first().is_some_and(|first| is_reference(first)) {
            rules.push(
                row(&cells)
                    .ok_or_else(|| TableError::Row { reference: cells[0].to_owned(), row: line.trim().to_owned() })?,
            );
        }
    }
    let table = Table { rules };
    if table.rules.is_empty() {
        return Err(TableError::NoRows);
    }
    if critical && table.broken(Severity::Error).next().is_none() {
        return Err(TableError::Contradicts);
    }
    Ok(table)
}

fn is_reference(cell: &str) -> bool {
    cell.strip_prefix('R').is_some_and(|digits| digits.len() == 3 && digits.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Reference, rule, severity, satisfied, skipped, how to fix.
fn row(cells: &[&str]) -> Option<Rule> {
    let [reference, name, severity, satisfied, skipped, rest @ ..] = cells else { return None };
    let severity = match severity.to_lowercase().as_str() {
        "error" => Severity::Error,
        "warn" | "warning" => Severity::Warning,
        _ => return None,
    };
    let state = match (mark(satisfied), mark(skipped)) {
        (_, Some(true)) => State::Skipped,
        (Some(true), _) => State::Satisfied,
        (Some(false), _) => State::Broken,
        (None, _) => return None,
    };
    let fix = rest.join("|");
    Some(Rule { reference: (*reference).to_owned(), name: (*name).to_owned(), severity, state, fix })
}

fn mark(cell: &str) -> Option<bool> {
    match cell.trim_end_matches('\u{fe0f}') {
        "✅" | "✓" | "✔" => Some(true),
        "❌" | "✗" | "✘" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made by hand after descriptions of abra's table: no output of abra itself was to be had. It shows
    /// that the parser and the description agree, no more.
    const TABLE: &str = include_str!("table.fixture.txt");

    #[test]
    fn broken_rules_are_found_by_severity_and_skipped_ones_are_not() {
        let table = parse(TABLE.lines()).unwrap();
        assert_eq!(table.rules.len(), 5);
        let names = |severity| table.broken(severity).map(|rule| rule.reference.as_str()).collect::<Vec<_>>();
        assert_eq!(names(Severity::Error), ["R009"]);
        assert_eq!(names(Severity::Warning), ["R002"]);
        assert_eq!(table.rules[4].state, State::Skipped);
        assert_eq!(
            table.broken(Severity::Error).next().unwrap().to_string(),
            "R009 all services have images (ensure `image: …` for each service)"
        );
    }

    #[test]
    fn what_cannot_be_judged_is_no_pass() {
        assert_eq!(parse(["FATA inappropriate ioctl for device"]), Err(TableError::NoRows));
        assert_eq!(parse([]), Err(TableError::NoRows));
        let good = "│ R001 │ x │ error │ ✅ │ - │ y │";
        assert!(parse([good]).is_ok());
        for bad in ["│ R001 │ x │ error │", "│ R001 │ x │ error │ ? │ - │ y │", "│ R001 │ x │ fatal │ ✅ │ - │ y │"]
        {
            assert!(matches!(parse([good, bad]), Err(TableError::Row { .. })), "{bad}");
        }
        assert_eq!(parse([good, "WARN critical errors present in hello config"]), Err(TableError::Contradicts));
    }
}
