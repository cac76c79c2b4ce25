//! Starting a build on Drone.

use std::collections::BTreeMap;

use ccci_core::config::forge::Drone as Settings;
use ccci_core::lifetime::clock::Deadline;
use percent_encoding::{NON_ALPHANUMERIC, PercentEncode, utf8_percent_encode};
use serde::Deserialize;
use ureq::http::Method;

use crate::remote::secret::Secret;
use crate::remote::{Remote, Trouble, retry};

/// The build that was started.
#[derive(Debug, Deserialize)]
pub(super) struct Build {
    pub(super) number: u64,
}

/// A Drone.
#[derive(Debug)]
pub(super) struct Drone {
    remote: Remote,
    path: String,
}

impl Drone {
    /// The Drone of the settings.
    ///
    /// # Errors
    /// When there is no token.
    pub(super) fn open(settings: &Settings) -> anyhow::Result<Self> {
        let token = Secret::read(&settings.token_file)?;
        let remote = Remote::new("Drone", &settings.url, "Bearer", &token)?;
        Ok(Self {
            remote,
            path: format!("/api/repos/{}/builds?branch={}", settings.repository, encode(&settings.branch)),
        })
    }

    /// Starts a build with these parameters. A request whose answer got lost is not repeated: it may have
    /// started one, and a second costs the host an hour.
    ///
    /// # Errors
    /// [`Trouble`].
    pub(super) fn build(&self, parameters: &BTreeMap<&str, String>, until: Deadline) -> Result<Build, Trouble> {
        let mut path = self.path.clone();
        for (key, value) in parameters {
            path += &format!("&{key}={}", encode(value));
        }
        let answer = retry::while_unheard(until, || self.remote.ask_once(&Method::POST, &path, None, until))?;
        self.remote.understand(&answer)
    }
}

/// A value that came from elsewhere cannot become a parameter of its own.
fn encode(text: &str) -> PercentEncode<'_> {
    utf8_percent_encode(text, NON_ALPHANUMERIC)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_stays_one_value() {
        let encoded = encode("https://x/a b&PATH=/tmp#ü").to_string();
        assert_eq!(encoded, "https%3A%2F%2Fx%2Fa%20b%26PATH%3D%2Ftmp%23%C3%BC");
    }
}
