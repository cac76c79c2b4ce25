//! What stands in braces in a value of `recipe.toml`: `{domain}`, `{stack}`, `{dependency.<recipe>}`. Everything else that
//! looks like one is an error, because a misspelt one would reach the app as it is.

use ccci_core::config::strict;

const DEPENDENCY: &str = "dependency.";

/// The value with its placeholders filled in by `known`, which says what a name stands for.
///
/// # Errors
/// Names a placeholder that stands for nothing. `names` are those that do.
pub(crate) fn fill(value: &str, names: &[String], known: impl Fn(&str) -> Option<String>) -> Result<String, String> {
    let (mut filled, mut rest) = (String::new(), value);
    while let Some(at) = rest.find('{') {
        let (before, from) = rest.split_at(at);
        filled += before;
        // `${NAME}` is the env file's, `{{.Name}}` a template's.
        let foreign = filled.ends_with(['$', '{']);
        let name = from[1..].split_once('}').map(|(name, _)| name).filter(|name| is_name(name));
        let Some(name) = name.filter(|_| !foreign) else {
            filled.push('{');
            rest = &from[1..];
            continue;
        };
        filled += &known(name).ok_or_else(|| unknown(name, names))?;
        rest = &from[name.len() + 2..];
    }
    Ok(filled + rest)
}

/// The names that stand for something, where the recipe needs these others.
pub(crate) fn names<'a>(dependencies: impl Iterator<Item = &'a str>) -> Vec<String> {
    let of = dependencies.map(|recipe| format!("{DEPENDENCY}{recipe}"));
    ["domain".to_owned(), "stack".to_owned()].into_iter().chain(of).collect()
}

/// The recipe in `dependency.<recipe>`.
pub(crate) fn dependency(name: &str) -> Option<&str> {
    name.strip_prefix(DEPENDENCY)
}

/// JSON, a regular expression and a shell's braces are no placeholders: those are a word alone.
fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'))
}

fn unknown(name: &str, names: &[String]) -> String {
    let known: Vec<String> = names.iter().map(|name| format!("`{{{name}}}`")).collect();
    let nearest = strict::nearest(name, names.iter().map(String::as_str));
    let meant = nearest.map_or_else(String::new, |near| format!(": did you mean `{{{near}}}`?"));
    let why = if dependency(name).is_some() { "names no dependency of the recipe" } else { "stands for nothing" };
    format!("`{{{name}}}` {why}{meant} Known are {}; `{{{{` begins what is to stay as it is", known.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_placeholder_is_named_with_the_nearest_and_other_braces_stay() {
        let names = names(["db"].into_iter());
        let filled = |text: &str| fill(text, &names, |name| names.contains(&name.to_owned()).then(|| "X".to_owned()));
        for same in [
            "",
            "{",
            "a{}b",
            "{\"json\": 1}",
            "${HOME}",
            "{{.Node.Hostname}}",
            "{{name}}",
            "[0-9]{3,4}",
            "{a b}",
            "{1}",
            "ü{",
        ] {
            assert_eq!(filled(same).as_deref(), Ok(same));
        }
        assert_eq!(filled("https://{domain}/{dependency.db}{stack}").as_deref(), Ok("https://X/XX"));
        for (text, said) in [
            ("{domian}", "did you mean `{domain}`?"),
            ("x{Domain}", "did you mean `{domain}`?"),
            ("{dependency.bd}", "names no dependency of the recipe"),
            ("{domain}{foo}", "Known are `{domain}`, `{stack}`, `{dependency.db}`"),
        ] {
            let error = filled(text).unwrap_err();
            assert!(error.contains(said), "{text}: {error}");
        }
    }
}
