//! Starting a build on Drone.

use std::collections::BTreeMap;
use std::time::Duration;

use ccci_core::config::forge::Drone as Settings;
use ccci_core::lifetime::clock::Deadline;
use ccci_forge::remote::secret::Secret;
use ccci_forge::remote::{Remote, Trouble, retry};
use percent_encoding::{NON_ALPHANUMERIC, PercentEncode, utf8_percent_encode};
use serde::Deserialize;
use ureq::http::Method;

use crate::secret_file;

/// Drone looks for the pipeline before it answers; without a `.drone.yml` it looks for more than ten seconds.
const ATTEMPT: Duration = Duration::from_secs(60);
/// All attempts together.
const PATIENCE: Duration = Duration::from_secs(90);

/// The build that was started.
#[derive(Debug, Deserialize)]
pub(crate) struct Build {
    pub(crate) number: u64,
}

/// A Drone.
#[derive(Debug)]
pub(crate) struct Drone {
    remote: Remote,
    path: String,
    page: String,
    pipeline: String,
}

impl Drone {
    /// The Drone of the settings.
    ///
    /// # Errors
    /// When there is no token.
    pub(crate) fn open(settings: &Settings) -> anyhow::Result<Self> {
        let token = Secret::read(&secret_file("drone-token", &settings.token_file))?;
        let remote = Remote::new("Drone", &settings.url, "Bearer", &token)?.patient(ATTEMPT);
        Ok(Self {
            remote,
            path: format!("/api/repos/{}/builds?branch={}", settings.repository, encode(&settings.branch)),
            page: format!("{}/{}", settings.url.trim_end_matches('/'), settings.repository),
            pipeline: format!("`.drone.yml` of {} on branch {}", settings.repository, settings.branch),
        })
    }

    /// Starts a build with these parameters. A request whose answer got lost is not repeated: it may have
    /// started one, and a second costs the host an hour. `None` is Drone's `null`: no pipeline wanted it.
    ///
    /// # Errors
    /// [`Trouble`].
    pub(crate) fn build(&self, parameters: &BTreeMap<&str, String>) -> Result<Option<Build>, Trouble> {
        let mut path = self.path.clone();
        for (key, value) in parameters {
            path += &format!("&{key}={}", encode(value));
        }
        let until = Deadline::after(PATIENCE);
        let answer = retry::while_unheard(until, || self.remote.ask_once(&Method::POST, &path, None, until))?;
        self.remote.understand(&answer)
    }

    /// A build's page.
    pub(crate) fn page(&self, build: &Build) -> String {
        format!("{}/{}", self.page, build.number)
    }

    /// Which pipelines there are to choose from.
    pub(crate) fn pipeline(&self) -> &str {
        &self.pipeline
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
