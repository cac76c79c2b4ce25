//! Names: the one place that derives and recognises what is ours.
//!
//! Incident `[A2]`: the domain scheme changed, the janitor's filter did not, and nothing was reaped
//! for weeks. So one type both derives and recognises ([`Domain`]), and everything that asks "is
//! this ours?" parses. What does not parse is never probed, locked or touched.

use std::fmt;
use std::net::Ipv4Addr;

use sha2::{Digest, Sha256};

use crate::weaken::{self, Protection};

/// abra cuts a stack name at this many characters (its `MAX_SANITISED_APP_NAME_LENGTH`), because
/// Swarm wants `<stack>_<object>` within 64; two long domains would then share one stack.
pub const MAX_STACK_NAME: usize = 45;
/// `abcd-012345.` in front of the base domain.
const MAX_PREFIX: usize = 4;
const HEX: usize = 6;

/// Why a name was refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum NameError {
    /// The recipe's name has characters that no recipe repository has, or none that a domain can use.
    #[error(
        "recipe name `{0}` is not valid: letters, digits, `.`, `_` and `-`, not starting with a dot or a dash, at least one of a-z or 0-9, at most 64 characters"
    )]
    Recipe(String),
    /// The base domain is no DNS name, or too long for a Swarm stack name.
    #[error("base_domain `{0}` is not valid: lower-case DNS labels, at most {max} characters in all (Swarm names end at 64)", max = MAX_STACK_NAME - MAX_PREFIX - HEX - 2)]
    Base(String),
    /// The run id cannot be a directory's name.
    #[error(
        "run id `{0}` is not valid: letters, digits, `.`, `_` and `-`, not starting with a dot or a dash, at most 64 characters"
    )]
    RunId(String),
    /// The guard's name cannot be part of a lock file's name.
    #[error("guard name `{0}` is not valid: a-z, 0-9, `_` and `-`, not starting with a dash, at most 64 characters")]
    Guard(String),
    /// Not an app domain under this base.
    #[error("`{0}` is not an app domain of this host: expected `<1-4 of a-z0-9>-<6 hex>.{1}`")]
    Domain(String, String),
}

fn is_file_name(text: &str) -> bool {
    (1..=64).contains(&text.len())
        // A dash at its beginning makes an option of it for every program that it is given to.
        && !text.starts_with(['.', '-'])
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
}

macro_rules! text_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);
        impl $name {
            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text_type! {
    /// A recipe's name, as its repository is called.
    RecipeName
}
text_type! {
    /// The domain under which this host's test apps live, without a leading dot.
    BaseDomain
}
text_type! {
    /// A run's identity and the name of its directory.
    RunId
}
text_type! {
    /// What `guard --name` excludes on. Never contains a dot, so it is never a [`Domain`].
    GuardName
}
text_type! {
    /// The domain of one test app: `<prefix>-<6 hex>.<base>`; the unit of ownership.
    Domain
}

impl RecipeName {
    /// Accepts the name of a recipe.
    ///
    /// # Errors
    /// [`NameError::Recipe`] for what could not be a repository's name or leaves no domain prefix.
    pub fn new(text: &str) -> Result<Self, NameError> {
        let usable = text.bytes().any(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        if is_file_name(text) && usable { Ok(Self(text.to_owned())) } else { Err(NameError::Recipe(text.to_owned())) }
    }
}

impl BaseDomain {
    /// Accepts a base domain.
    ///
    /// # Errors
    /// [`NameError::Base`] for anything but lower-case DNS labels short enough for a stack name.
    pub fn new(text: &str) -> Result<Self, NameError> {
        let label = |l: &str| {
            !l.is_empty()
                && l.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
                && !l.starts_with('-')
                && !l.ends_with('-')
        };
        let fits = MAX_PREFIX + 1 + HEX + 1 + text.len() <= MAX_STACK_NAME;
        if fits && text.split('.').all(label) {
            Ok(Self(text.to_owned()))
        } else {
            Err(NameError::Base(text.to_owned()))
        }
    }
}

impl RunId {
    /// Accepts a run id.
    ///
    /// # Errors
    /// [`NameError::RunId`] for what could not be the name of a directory.
    pub fn new(text: &str) -> Result<Self, NameError> {
        if is_file_name(text) { Ok(Self(text.to_owned())) } else { Err(NameError::RunId(text.to_owned())) }
    }
}

impl GuardName {
    /// Accepts a guard's name.
    ///
    /// # Errors
    /// [`NameError::Guard`] for what could not be part of a lock file's name.
    pub fn new(text: &str) -> Result<Self, NameError> {
        let ok = (1..=64).contains(&text.len())
            && !text.starts_with('-')
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-');
        if ok { Ok(Self(text.to_owned())) } else { Err(NameError::Guard(text.to_owned())) }
    }
}

impl Domain {
    /// The domain of `recipe` at `git_ref` for pull request `pr`: the recipe's first four usable
    /// characters and the first six hex digits of SHA-256 over `recipe|pr|ref`.
    #[must_use]
    pub fn derive(recipe: &RecipeName, pr: &str, git_ref: &str, base: &BaseDomain) -> Self {
        let prefix: String =
            recipe.0.chars().filter(|c| c.is_ascii_lowercase() || c.is_ascii_digit()).take(MAX_PREFIX).collect();
        let digest = Sha256::digest(format!("{recipe}|{pr}|{git_ref}"));
        let hex = format!("{:02x}{:02x}{:02x}", digest[0], digest[1], digest[2]);
        Self(format!("{prefix}-{hex}.{base}"))
    }

    /// Recognises a domain of ours; `None` for everything else (`warm-…`, infrastructure,
    /// neighbours whose name merely begins alike).
    #[must_use]
    pub fn parse(text: &str, base: &BaseDomain) -> Option<Self> {
        let (label, rest) = text.split_once('.')?;
        if rest != base.0 {
            return None;
        }
        let (prefix, hex) = label.rsplit_once('-')?;
        let prefix_ok = (1..=MAX_PREFIX).contains(&prefix.len())
            && prefix.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        let hex_ok = hex.len() == HEX && hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        let ours = prefix_ok && hex_ok;
        (ours || !weaken::on(Protection::ExactName)).then(|| Self(text.to_owned()))
    }

    /// Like [`Domain::parse`], for a person's input.
    ///
    /// # Errors
    /// [`NameError::Domain`], which says what a domain of this host looks like.
    pub fn expect(text: &str, base: &BaseDomain) -> Result<Self, NameError> {
        Self::parse(text, base).ok_or_else(|| NameError::Domain(text.to_owned(), base.to_string()))
    }

    /// Recognises the domain whose Swarm stack is called `stack`.
    #[must_use]
    pub fn from_stack_name(stack: &str, base: &BaseDomain) -> Option<Self> {
        // A base domain has no `_`, so the way back is unambiguous.
        let label = stack.strip_suffix(&base.0.replace('.', "_"))?.strip_suffix('_')?;
        Self::parse(&format!("{label}.{base}"), base)
    }

    /// Recognises the domain from the name of an object of its stack, `<stack>_<object>`.
    #[must_use]
    pub fn from_object_name(name: &str, base: &BaseDomain) -> Option<Self> {
        // Neither the label nor the base domain has a `_` of its own.
        let (label, rest) = name.split_once('_')?;
        let object = rest.strip_prefix(&base.0.replace('.', "_"))?.strip_prefix('_')?;
        if object.is_empty() { None } else { Self::parse(&format!("{label}.{base}"), base) }
    }

    /// The Swarm stack's name: the domain with `.` replaced by `_`.
    #[must_use]
    pub fn stack_name(&self) -> String {
        self.0.replace('.', "_")
    }

    /// This domain's own loopback address, so that the services of different apps never meet on a
    /// port: the six hex digits are the last three octets.
    #[must_use]
    pub fn loopback(&self) -> Ipv4Addr {
        let label = self.0.split('.').next().unwrap_or_default();
        let hex = label.rsplit('-').next().unwrap_or_default();
        let number = u32::from_str_radix(hex, 16).unwrap_or(0);
        let [_, a, b, c] = number.to_be_bytes();
        // 127.0.0.x belongs to the host itself, .0 and .255 at the end are network and broadcast.
        Ipv4Addr::new(127, a.max(1), b, c.clamp(1, 254))
    }
}

/// What a lock file is for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum LockName {
    /// An app of a recipe run.
    App(Domain),
    /// A `guard` of somebody's own job.
    Guard(GuardName),
}

impl LockName {
    const APP: &str = "cc-ci-app-";
    const GUARD: &str = "cc-ci-guard-";
    const SUFFIX: &str = ".lock";

    /// The lock file's name inside the lock directory.
    #[must_use]
    pub fn file_name(&self) -> String {
        match self {
            Self::App(domain) => format!("{}{domain}{}", Self::APP, Self::SUFFIX),
            Self::Guard(name) => format!("{}{name}{}", Self::GUARD, Self::SUFFIX),
        }
    }

    /// Recognises the name of one of our lock files.
    #[must_use]
    pub fn parse(file_name: &str, base: &BaseDomain) -> Option<Self> {
        let stem = file_name.strip_suffix(Self::SUFFIX)?;
        if let Some(domain) = stem.strip_prefix(Self::APP) {
            return Domain::parse(domain, base).map(Self::App);
        }
        GuardName::new(stem.strip_prefix(Self::GUARD)?).ok().map(Self::Guard)
    }

    /// What is excluded on, as a person reads it: the domain or the guard's name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::App(domain) => domain.as_str(),
            Self::Guard(name) => name.as_str(),
        }
    }
}

impl fmt::Display for LockName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn base() -> BaseDomain {
        BaseDomain::new("ci.example.org").unwrap()
    }

    proptest! {
        #[test]
        fn what_is_derived_is_recognised_in_every_spelling(recipe in "[a-zA-Z0-9._-]{0,20}[a-z0-9]", pr in "[0-9]{1,5}", git_ref in "\\PC{1,40}") {
            prop_assume!(!recipe.starts_with(['.', '-']));
            let domain = Domain::derive(&RecipeName::new(&recipe).unwrap(), &pr, &git_ref, &base());
            prop_assert_eq!(Domain::parse(domain.as_str(), &base()), Some(domain.clone()));
            prop_assert_eq!(Domain::from_stack_name(&domain.stack_name(), &base()), Some(domain.clone()));
            let volume = format!("{}_data_1", domain.stack_name());
            prop_assert_eq!(Domain::from_object_name(&volume, &base()), Some(domain.clone()));
            let lock = LockName::App(domain.clone());
            prop_assert_eq!(LockName::parse(&lock.file_name(), &base()), Some(lock));
            prop_assert!(domain.stack_name().len() <= MAX_STACK_NAME);
        }

        #[test]
        fn what_is_recognised_has_the_shape(text in "\\PC{0,40}") {
            let own = format!("{text}.ci.example.org");
            if let Some(domain) = Domain::parse(&own, &base()) {
                let label = domain.as_str().split('.').next().unwrap();
                prop_assert!(label.len() <= 11 && label.len() >= 8);
                prop_assert_eq!(label.as_bytes()[label.len() - 7], b'-');
            }
        }
    }

    #[test]
    fn neighbours_are_not_ours() {
        for text in [
            "warm-hello.ci.example.org",
            "hell-0123456.ci.example.org",
            "hell-01234.ci.example.org",
            "hell-01234G.ci.example.org",
            "hell-01234A.ci.example.org",
            "hello-012345.ci.example.org",
            "-012345.ci.example.org",
            "hell-012345.ci.example.org.",
            "hell-012345.ci.example.com",
            "hell-012345xci.example.org",
            "x.hell-012345.ci.example.org",
            "hell-012345.ci.example.org_app",
            "traefik.ci.example.org",
            "",
        ] {
            assert_eq!(Domain::parse(text, &base()), None, "{text}");
            assert_eq!(LockName::parse(&format!("cc-ci-app-{text}.lock"), &base()), None, "{text}");
        }
        assert_eq!(Domain::from_stack_name("hell-012345_ci_example_org_app", &base()), None);
        for name in
            ["hell-012345_ci_example_org", "hell-012345_ci_example_org_", "hell-012345_ci_example_orgx_app", "proxy"]
        {
            assert_eq!(Domain::from_object_name(name, &base()), None, "{name}");
        }
        assert_eq!(Domain::from_stack_name("xhell-012345_ci_example_org", &base()), None);
    }

    #[test]
    fn different_refs_and_prs_get_different_domains() {
        let recipe = RecipeName::new("hello").unwrap();
        let one = Domain::derive(&recipe, "1", "main", &base());
        assert_ne!(one, Domain::derive(&recipe, "2", "main", &base()));
        assert_ne!(one, Domain::derive(&recipe, "1", "next", &base()));
        assert!(one.as_str().starts_with("hell-"));
    }

    #[test]
    fn a_base_domain_that_would_overflow_a_swarm_name_is_refused() {
        assert!(BaseDomain::new(&format!("{}.org", "a".repeat(29))).is_ok());
        assert!(BaseDomain::new(&format!("{}.org", "a".repeat(30))).is_err());
        for bad in ["", "CI.example", "ci..example", "-ci.example", "ci_example"] {
            assert!(BaseDomain::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn no_name_is_an_option_of_a_program() {
        for name in ["-x", "--help", "-"] {
            assert!(RecipeName::new(name).is_err() && RunId::new(name).is_err() && GuardName::new(name).is_err());
        }
        assert!(RecipeName::new("a-b").is_ok() && RunId::new("manual-1").is_ok() && GuardName::new("a-").is_ok());
    }
}
