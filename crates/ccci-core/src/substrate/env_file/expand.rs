//! What a value refers to: escapes, and variables that stand before it.

use super::{MAX_VALUE, Vars};

/// What `\n`, `\r` and `\X` in double quotes stand for. `\$` stays, for [`expand`].
pub(super) fn escapes(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    let mut chars = value.chars().peekable();
    while let Some(char) = chars.next() {
        match (char, chars.peek().copied()) {
            ('\\', Some('$')) | ('\\', None) => out.push('\\'),
            ('\\', Some(next)) => {
                out.push(match next {
                    'n' => '\n',
                    'r' => '\r',
                    other => other,
                });
                chars.next();
            }
            _ => out.push(char),
        }
    }
    out
}

/// Puts the values of variables in: `$NAME` and `${NAME}`, of which one that is not known is empty, and
/// `${NAME:-default}` with its relatives. `\$` is a dollar, and so is one that stands before nothing of the kind.
///
/// # Errors
/// What abra would cut to pieces and Compose refuse, a variable that is asked for and missing, and a value that gets
/// too long.
pub fn expand(text: &str, vars: &Vars) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        let (before, after) = (&rest[..at], &rest[at + 1..]);
        if let Some(before) = before.strip_suffix('\\') {
            push(&mut out, before)?;
            push(&mut out, "$")?;
            rest = after;
            continue;
        }
        push(&mut out, before)?;
        let (value, left) = one(after, vars)?;
        push(&mut out, &value)?;
        rest = left;
    }
    push(&mut out, rest)?;
    Ok(out)
}

fn push(out: &mut String, text: &str) -> Result<(), String> {
    if out.len() + text.len() > MAX_VALUE {
        return Err(format!("it gets longer than {MAX_VALUE} bytes"));
    }
    out.push_str(text);
    Ok(())
}

/// What stands behind a `$`: its value, and what is left.
fn one<'text>(after: &'text str, vars: &Vars) -> Result<(String, &'text str), String> {
    let known = |name: &str| vars.get(name).cloned().unwrap_or_default();
    let (braced, inner) = match after.strip_prefix('{') {
        Some(inner) => (true, inner),
        None => (false, after.strip_prefix('(').unwrap_or(after)),
    };
    // Small letters begin no name for abra, and nothing of them is changed.
    if !inner.starts_with(|c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_') {
        return Ok(("$".to_owned(), after));
    }
    let end = inner.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(inner.len());
    let (name, left) = inner.split_at(end);
    let refused = || {
        let shown = &after[..after.len() - left.len()];
        format!("`${shown}` is no variable: write `\\$` for a dollar, or put the value into single quotes")
    };
    if name.starts_with(|c: char| c.is_ascii_digit()) || (!braced && after.starts_with('(')) {
        return Err(refused());
    }
    if !braced {
        return Ok((known(name), left));
    }
    if let Some(left) = left.strip_prefix('}') {
        return Ok((known(name), left));
    }
    let close = closing(left).ok_or_else(refused)?;
    let (operation, left) = (&left[..close], &left[close + 1..]);
    let (unset_only, operation) = match operation.strip_prefix(':') {
        Some(operation) => (false, operation),
        None => (true, operation),
    };
    let set = vars.get(name).filter(|value| unset_only || !value.is_empty());
    let operand = |operand: &str| expand(operand, vars);
    let value = match (operation.chars().next(), set) {
        (Some('-'), None) | (Some('+'), Some(_)) => operand(&operation[1..])?,
        (Some('-' | '?'), Some(value)) => value.clone(),
        (Some('+'), None) => String::new(),
        (Some('?'), None) => return Err(format!("{name} has no value, and is needed: {}", &operation[1..])),
        _ => return Err(refused()),
    };
    Ok((value, left))
}

/// Where the brace is that closes, behind whole expressions.
fn closing(text: &str) -> Option<usize> {
    let mut open = 0_u32;
    let mut before = ' ';
    for (at, char) in text.char_indices() {
        match char {
            '{' if before == '$' => open += 1,
            '}' if open == 0 => return Some(at),
            '}' => open -= 1,
            _ => {}
        }
        before = char;
    }
    None
}
