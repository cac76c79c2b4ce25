//! What the bridge writes into a pull request's thread: why a comment started nothing.
//!
//! Only who may ask is answered, so that nobody can make it write at will; the one exception, that it could not ask
//! who may, is said once in a thread. The reaction comes first: of two bridges one writes.

use ccci_core::config::forge::Repository;
use ccci_forge::api::Api;
use ccci_forge::remote::{Trouble, one_line};

use crate::say;

/// The reaction to a wish that was taken.
pub(crate) const TAKEN: &str = "eyes";
/// The reaction to one that could not be fulfilled.
pub(crate) const FAILED: &str = "confused";
/// How such a comment begins; nobody sees it.
const MARKER: &str = "<!-- cc-ci-bridge -->";
/// The longest that is quoted of what others said.
const QUOTED: usize = 400;

/// Where an answer goes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Thread<'a> {
    pub(crate) api: &'a Api,
    pub(crate) repository: &'a Repository,
    pub(crate) pull: u64,
    /// The comment that is answered.
    pub(crate) comment: u64,
}

impl Thread<'_> {
    /// Says why the comment started nothing; in the log too, under `subject`.
    ///
    /// # Errors
    /// When the forge is not there to be told: it is to be tried again.
    pub(crate) fn refuse(&self, subject: &str, why: &str) -> Result<(), Trouble> {
        say(&format!("{subject}: {why}"));
        match self.api.react(self.repository, self.comment, FAILED) {
            Ok(true) => {}
            // Answered already, by another bridge or before a restart.
            Ok(false) => return Ok(()),
            Err(trouble) if is_final(&trouble) => {
                say(&format!("{subject}: cannot be answered: {trouble}"));
                return Ok(());
            }
            Err(trouble) => return Err(trouble),
        }
        // Once: the reaction is there, and stands for it if this does not get through.
        if let Err(trouble) = self.api.write_comment(self.repository, self.pull, &body(why)) {
            say(&format!("{subject}: cannot be answered: {trouble}"));
        }
        Ok(())
    }
}

/// Whether asking again will not help.
pub(crate) const fn is_final(trouble: &Trouble) -> bool {
    match trouble {
        Trouble::Refused { .. } | Trouble::Nonsense { .. } | Trouble::TooLong { .. } => true,
        Trouble::Unreachable { .. } | Trouble::Busy { .. } => false,
    }
}

fn body(why: &str) -> String {
    format!("{MARKER}\nNo test was started: {why}.\n")
}

/// What others said, as code, from which nothing gets out.
pub(crate) fn code(text: &str) -> String {
    format!("`{}`", one_line(&text.replace('`', "'"), QUOTED))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_said_cannot_leave_its_code() {
        assert_eq!(code("a`b\n@everyone"), "`a'b @everyone`");
        assert!(code(&"x".repeat(5000)).chars().count() <= QUOTED + 2);
        assert!(!body("x").lines().any(|line| line.starts_with('!')), "it is no command");
    }
}
