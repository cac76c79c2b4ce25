//! Whether anybody can ask an app, and what follows when nobody can.
//!
//! A tier whose app was asked nothing has not passed. Only the test folder may say that there is nothing to ask.

use super::{App, Engine, EngineError};
use crate::recipe::RecipeToml;

/// What is asked of a deployed app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Asked {
    /// Its health, by the test folder or by default.
    Health,
    /// Its probes alone: it has no HTTP, for this reason.
    Probes(String),
    /// Nothing, for this reason.
    Nothing(String),
}

/// What can be asked of an app, looked at as soon as it is deployed.
///
/// # Errors
/// When there is something to ask and no way to ask it.
pub(crate) fn of(engine: &dyn Engine, app: &App<'_>) -> Result<Asked, EngineError> {
    decide(&app.folder.toml, engine.unreachable(app)?)
}

/// [`of`], of an app that is unreachable for this reason.
fn decide(toml: &RecipeToml, unreachable: Option<String>) -> Result<Asked, EngineError> {
    let declared = toml.health.none.clone();
    match (declared, unreachable) {
        (Some(reason), _) if toml.readiness.is_empty() => Ok(Asked::Nothing(reason)),
        (Some(reason), None) => Ok(Asked::Probes(reason)),
        (None, None) => Ok(Asked::Health),
        (_, Some(why)) if toml.asks() => {
            Err(EngineError::Usage(format!("recipe.toml asks the app by [health] or [[readiness]], and cannot: {why}")))
        }
        (_, Some(why)) => Err(EngineError::Host(format!(
            "nobody can ask the app whether it works: {why}; of an app that has no HTTP, recipe.toml says so: \
             [health] none = \"the reason\""
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decided(toml: &str, reachable: bool) -> Result<Asked, EngineError> {
        decide(&toml::from_str(toml).unwrap(), (!reachable).then(|| "it publishes no port".to_owned()))
    }

    #[test]
    fn an_app_that_can_be_asked_is_asked_whatever_the_folder_leaves_out() {
        assert_eq!(decided("", true).unwrap(), Asked::Health);
        assert_eq!(decided("[health]\npath = \"/x\"", true).unwrap(), Asked::Health);
        let tcp = "[health]\nnone = \"a relay\"\n[[readiness]]\ntcp = 25";
        assert_eq!(decided(tcp, true).unwrap(), Asked::Probes("a relay".into()));
    }

    #[test]
    fn an_app_that_nobody_can_ask_has_not_passed_unless_the_folder_says_why() {
        assert!(matches!(decided("", false), Err(EngineError::Host(_))));
        assert!(matches!(decided("[env]\nA = \"1\"", false), Err(EngineError::Host(_))));
        for asks in ["[health]\npath = \"/\"", "[health]", "[[readiness]]\ntcp = 25", "[[readiness]]\nhttp = \"/\""] {
            assert!(matches!(decided(asks, false), Err(EngineError::Usage(_))), "{asks}");
        }
        let tcp = "[health]\nnone = \"a relay\"\n[[readiness]]\ntcp = 25";
        assert!(matches!(decided(tcp, false), Err(EngineError::Usage(_))));
        assert_eq!(decided("[health]\nnone = \"a relay\"", false).unwrap(), Asked::Nothing("a relay".into()));
    }
}
