//! An error in one line, for people.

use std::error::Error;

/// The error and what it comes from, outermost first. A cause whose words stand already in what was said is
/// not said again: many of our errors name theirs themselves.
#[must_use]
pub fn of(error: &(dyn Error + 'static)) -> String {
    let mut said = error.to_string();
    let mut cause = error.source();
    while let Some(deeper) = cause {
        let words = deeper.to_string();
        if !said.contains(&words) {
            said = format!("{said}: {words}");
        }
        cause = deeper.source();
    }
    said
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    enum Layer {
        #[error("cannot read it: {source}")]
        Named { source: io::Error },
        #[error("cannot start")]
        Silent { source: Box<Layer> },
    }

    #[test]
    fn every_cause_is_said_and_none_twice() {
        let named = Layer::Named { source: io::Error::other("no such thing") };
        assert_eq!(of(&named), "cannot read it: no such thing");
        assert_eq!(of(&Layer::Silent { source: Box::new(named) }), "cannot start: cannot read it: no such thing");
    }
}
