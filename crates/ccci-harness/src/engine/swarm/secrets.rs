//! The secrets that an env file asks for: `SECRET_<NAME>_VERSION=v1 # length=32 charset=hex`.
//!
//! What counts is what the file says when it is read: the last assignment, with its variables put in. What Docker
//! would refuse is refused here, before anything is made, with the variable's name.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use ccci_core::process::read_limited;
use ccci_core::substrate::env_file::{self, Assignment};

use crate::engine::{EngineError, shape};

/// The length of a secret whose `length=` is missing.
const LENGTH: usize = 32;
/// The longest that is generated. Docker takes 500 KiB, and whoever opens a pull request may ask for it often.
const MAX_LENGTH: usize = 4096;
/// What Docker takes for the name of a secret.
const MAX_NAME: usize = 64;
/// The most secrets of one app.
const MAX_SECRETS: usize = 100;

/// A secret to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::engine) struct Secret {
    /// Its name in the recipe.
    pub(in crate::engine) name: String,
    /// Its version.
    pub(in crate::engine) version: String,
    /// What Docker calls it.
    pub(in crate::engine) object: String,
    length: usize,
    charset: Charset,
}

/// What a generated value is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Charset {
    Default,
    Hex,
    Special,
    SafeSpecial,
}

impl Charset {
    const NAMES: [(&'static str, Self); 4] = [
        ("default", Self::Default),
        ("hex", Self::Hex),
        ("special", Self::Special),
        ("safespecial", Self::SafeSpecial),
    ];

    const fn characters(self) -> &'static str {
        match self {
            Self::Default => "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789",
            Self::Hex => "0123456789abcdef",
            Self::Special => "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789!@#%^&*_-+=",
            Self::SafeSpecial => "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789!@#%^*_-+=",
        }
    }
}

/// The secrets that an env file asks for, one for each name.
///
/// # Errors
/// The recipe's: the variable, and what is wrong with it.
pub(super) fn wanted(env: &[u8], stack: &str) -> Result<Vec<Secret>, EngineError> {
    let all = env_file::assignments(env).map_err(|error| shape::not_read(&error, "the env file"))?;
    let mut last = BTreeMap::new();
    for assignment in all {
        let name = assignment.name.strip_prefix("SECRET_").and_then(|name| name.strip_suffix("_VERSION"));
        if let Some(name) = name.map(str::to_lowercase) {
            last.insert(name, assignment);
        }
    }
    if last.len() > MAX_SECRETS {
        return Err(EngineError::Recipe(format!(
            "{} secrets are asked for, and {MAX_SECRETS} is the most",
            last.len()
        )));
    }
    let secret = |(name, asked): (String, Assignment)| {
        one(name, &asked, stack).map_err(|why| EngineError::Recipe(format!("{}: {why}", asked.name)))
    };
    last.into_iter().map(secret).collect()
}

fn one(name: String, asked: &Assignment, stack: &str) -> Result<Secret, String> {
    let version = asked.value.clone();
    if version.is_empty() {
        return Err("it has no version; write one, such as v1".to_owned());
    }
    let object = format!("{stack}_{name}_{version}");
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if !object.bytes().all(inner) || !object.ends_with(|end: char| end.is_ascii_alphanumeric()) {
        return Err(format!("Docker takes no secret of the name `{object}`: letters, digits and `-_.` are allowed"));
    }
    if object.len() > MAX_NAME {
        return Err(format!(
            "Docker takes no secret of the name `{object}`: it has {} characters, of {MAX_NAME}",
            object.len()
        ));
    }
    let (mut length, mut charset) = (LENGTH, Charset::Default);
    for word in asked.comment.trim_start_matches('#').split_whitespace() {
        match word.split_once('=') {
            Some(("length", text)) => {
                let read = text.parse().ok().filter(|length| (1..=MAX_LENGTH).contains(length));
                length = read.ok_or_else(|| format!("length={text}: a secret has 1 to {MAX_LENGTH} characters"))?;
            }
            Some(("charset", text)) => {
                let known = Charset::NAMES.iter().find(|(name, _)| text.eq_ignore_ascii_case(name));
                let names = || Charset::NAMES.map(|(name, _)| name).join(", ");
                charset = known.ok_or_else(|| format!("charset={text}: there are {}", names()))?.1;
            }
            _ => {}
        }
    }
    Ok(Secret { name, version, object, length, charset })
}

impl Secret {
    /// A value for it.
    ///
    /// # Errors
    /// What the kernel says.
    pub(super) fn generate(&self) -> io::Result<String> {
        generate(self.length, self.charset.characters().as_bytes())
    }
}

/// A secret of `length` letters and digits.
///
/// # Errors
/// What the kernel says.
pub(in crate::engine) fn letters_and_digits(length: usize) -> io::Result<String> {
    generate(length, Charset::Default.characters().as_bytes())
}

/// `length` characters, each as likely as any other, from the kernel's random numbers.
fn generate(length: usize, alphabet: &[u8]) -> io::Result<String> {
    let even = 256 - 256 % alphabet.len();
    let mut value = String::with_capacity(length);
    while value.len() < length {
        let random = read_limited(Path::new("/dev/urandom"), 2 * length as u64)?;
        if random.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        // What would make the first characters likelier is passed over.
        let fair = random.into_iter().map(usize::from).filter(|byte| *byte < even);
        value.extend(fair.map(|byte| char::from(alphabet[byte % alphabet.len()])).take(length - value.len()));
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(env: &str) -> Vec<Secret> {
        wanted(env.as_bytes(), "s").unwrap_or_else(|error| panic!("{env:?}: {error}"))
    }

    fn refused(line: &str) -> String {
        match wanted(line.as_bytes(), "s") {
            Err(EngineError::Recipe(why)) => why,
            other => panic!("{line:?}: {other:?}"),
        }
    }

    #[test]
    fn what_an_env_file_says_when_it_is_read_counts() {
        let env = "SECRET_DB_PASSWORD_VERSION=v1 # length=20 charset=hex\n#SECRET_OFF_VERSION=v1\nMAIN=v2\n\
                   SECRET_KEY_VERSION=\"$MAIN\"\nOTHER=1\nSECRET_TAB_VERSION=v1\t# length=7\n\
                   export SECRET_TWICE_VERSION=v1 # length=9\nSECRET_TWICE_VERSION=v3 # generate=true\n";
        let found = all(env);
        let seen: Vec<_> = found.iter().map(|secret| (secret.object.as_str(), secret.length)).collect();
        assert_eq!(seen, [("s_db_password_v1", 20), ("s_key_v2", 32), ("s_tab_v1", 7), ("s_twice_v3", 32)]);
        assert_eq!(found[0].charset, Charset::Hex);
        assert_eq!((found[0].name.as_str(), found[0].version.as_str()), ("db_password", "v1"));
    }

    #[test]
    fn what_docker_would_refuse_is_the_recipes_fault_and_named() {
        assert_eq!(
            refused("SECRET_PW_VERSION=v1 # length=0"),
            "SECRET_PW_VERSION: length=0: a secret has 1 to 4096 characters"
        );
        for wrong in
            ["length=99999999999", "length=99999999999999999999999", "length=-1", "length=", "length=x", "length=20,"]
        {
            let why = refused(&format!("SECRET_PW_VERSION=v1 # {wrong}"));
            assert!(why.starts_with(&format!("SECRET_PW_VERSION: {wrong}: a secret has")), "{why}");
        }
        assert_eq!(refused("SECRET_PW_VERSION="), "SECRET_PW_VERSION: it has no version; write one, such as v1");
        assert!(refused("SECRET_PW_VERSION=$NONE").contains("no version"));
        assert!(refused("SECRET_PW_VERSION=v1 # charset=emoji").contains("charset=emoji: there are default, hex"));
        for version in ["v 1", "v/1", "é", "v1-", "# todo"] {
            let why = refused(&format!("SECRET_PW_VERSION={version}"));
            assert!(why.starts_with("SECRET_PW_VERSION: Docker takes no secret of the name"), "{why}");
        }
        let long = format!("SECRET_{}_VERSION=v1", "A".repeat(80));
        assert!(refused(&long).contains("it has 85 characters, of 64"), "{}", refused(&long));
        let many: String = (0..101).map(|number| format!("SECRET_A{number}_VERSION=v1\n")).collect();
        assert!(refused(&many).contains("101 secrets"));
    }

    #[test]
    fn a_generated_value_has_its_length_and_its_characters() {
        for (name, charset) in Charset::NAMES {
            let secret = Secret { charset, length: 1000, ..all("SECRET_A_VERSION=v1")[0].clone() };
            let (one, two) = (secret.generate().unwrap(), secret.generate().unwrap());
            assert_eq!((one.len(), one == two), (1000, false), "{name}");
            let used: std::collections::BTreeSet<char> = one.chars().chain(two.chars()).collect();
            assert_eq!(used, charset.characters().chars().collect(), "{name}");
        }
        assert_eq!(letters_and_digits(1).unwrap().len(), 1);
    }
}
