//! Keeping secrets out of logs: everything that a child prints goes through here first.

/// Replaces secret values and values of secret-looking assignments.
#[derive(Clone, Default)]
pub struct Redactor {
    values: Vec<String>,
}

impl std::fmt::Debug for Redactor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // What it keeps out of logs must not get there by itself.
        write!(f, "Redactor({} values)", self.values.len())
    }
}

/// What stands in for a secret.
const MASK: &str = "***";
/// A shorter value would mask ordinary words, and be found everywhere.
const SHORTEST: usize = 6;

/// What of a value can be told from ordinary words; nothing of an empty or very short one.
#[must_use]
pub fn telling(value: &str) -> Option<&str> {
    Some(value.trim()).filter(|value| value.len() >= SHORTEST)
}

impl Redactor {
    /// Learns a value.
    pub fn learn(&mut self, value: &str) {
        let Some(value) = telling(value) else { return };
        if !self.values.iter().any(|known| known == value) {
            self.values.push(value.to_owned());
            // A value that contains another must go first.
            self.values.sort_by_key(|known| std::cmp::Reverse(known.len()));
        }
    }

    /// The line without the secrets in it.
    #[must_use]
    pub fn clean(&self, line: &str) -> String {
        let mut line = line.to_owned();
        for value in &self.values {
            if line.contains(value.as_str()) {
                line = line.replace(value.as_str(), MASK);
            }
        }
        mask_assignments(&line)
    }
}

/// `DB_PASSWORD=x`, `"api_token": "x"` and the like, whatever the value is.
fn mask_assignments(line: &str) -> String {
    const WORDS: [&str; 6] = ["password", "passwd", "secret", "token", "api_key", "private_key"];
    let lower = line.to_ascii_lowercase();
    let Some(word) = WORDS.iter().filter_map(|word| lower.find(word).map(|at| at + word.len())).min() else {
        return line.to_owned();
    };
    let rest = &line[word..];
    let name_end =
        rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '"' || c == '\'')).unwrap_or(rest.len());
    let Some(value) = rest[name_end..].strip_prefix(['=', ':']) else { return line.to_owned() };
    // `token: x` is an assignment at the start of a line or behind a quote, and prose elsewhere.
    let key_start =
        line[..word].rfind(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '-')).map_or(0, |at| at + 1);
    let prose = !line[..key_start].trim().is_empty() && !line[..key_start].ends_with(['"', '\'', '{', ',']);
    if rest[name_end..].starts_with(':') && prose {
        return line.to_owned();
    }
    let value = value.trim_start();
    // A path or a version is no secret: `SECRET_X_VERSION=v1`, `token: /run/secrets/x`.
    let version = lower[word..word + name_end].contains("version") || lower[word..word + name_end].contains("file");
    if value.is_empty() || version || value.starts_with('/') {
        return line.to_owned();
    }
    let start = line.len() - value.len();
    let end = value.find([' ', ',', '\t', ';']).map_or(line.len(), |end| start + end);
    format!("{}{MASK}{}", &line[..start], &line[end..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_masked_and_the_rest_stays() {
        let mut redactor = Redactor::default();
        redactor.learn("hunter2hunter2");
        redactor.learn("ab");
        assert_eq!(redactor.clean("got hunter2hunter2 ok, ab"), "got *** ok, ab");
        assert_eq!(redactor.clean("DB_PASSWORD=abc rest"), "DB_PASSWORD=*** rest");
        assert_eq!(redactor.clean("\"api_token\": \"x\", 1"), "\"api_token\": ***, 1");
        assert_eq!(redactor.clean("SECRET_DB_PASSWORD_VERSION=v1"), "SECRET_DB_PASSWORD_VERSION=v1");
        assert_eq!(redactor.clean("the secret of it"), "the secret of it");
        assert_eq!(redactor.clean("delete without token: ok"), "delete without token: ok");
        assert_eq!(redactor.clean("  password: x"), "  password: ***");
    }
}
