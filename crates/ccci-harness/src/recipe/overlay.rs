//! The compose file that a test folder lays over the recipe's: what the environment needs, never what is
//! tested. An overlay that named an image once hid the change under test (incident `[18]`).

use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use serde_json::Value;

use super::Folder;

/// Its name, in the test folder and where abra reads it, in the recipe's tree.
pub(crate) const OVERLAY: &str = "compose.ccci.yml";
/// The folder with the overlay for the version to upgrade from, where that needs another.
pub(super) const PREVIOUS: &str = "previous";
/// What of a service is the recipe's own.
const OF_THE_RECIPE: [&str; 2] = ["image", "build"];

impl Folder {
    /// The overlay for the version that is tested.
    pub(crate) fn overlay(&self) -> Option<PathBuf> {
        Some(self.path.join(OVERLAY)).filter(|overlay| overlay.is_file())
    }

    /// The overlay for the version to upgrade from.
    pub(crate) fn previous_overlay(&self) -> Option<PathBuf> {
        let own = self.path.join(PREVIOUS).join(OVERLAY);
        if own.is_file() { Some(own) } else { self.overlay() }
    }
}

/// Judges the overlays of the folder copied to `copy`; messages name the file in `source`.
///
/// # Errors
/// Names the file, the service and the key.
pub(super) fn judge(copy: &Path, source: &Path) -> anyhow::Result<()> {
    for name in super::list(&copy.join(PREVIOUS))? {
        let file = source.join(PREVIOUS).join(&name);
        ensure!(name == OVERLAY, "{}: unknown file; known is {OVERLAY}", file.display());
    }
    for name in [PathBuf::from(OVERLAY), Path::new(PREVIOUS).join(OVERLAY)] {
        let text = match std::fs::read_to_string(copy.join(&name)) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            other => other.with_context(|| format!("cannot read {}", source.join(&name).display()))?,
        };
        environmental(&text).with_context(|| source.join(&name).display().to_string())?;
    }
    Ok(())
}

fn environmental(text: &str) -> anyhow::Result<()> {
    let value: Value = serde_saphyr::from_str(text).context("not YAML")?;
    let services = value.get("services").and_then(Value::as_object);
    for (name, service) in services.into_iter().flatten() {
        for key in OF_THE_RECIPE {
            ensure!(
                service.get(key).is_none(),
                "service `{name}` has `{key}`: an overlay is for the environment only, and would hide the change under test"
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_overlay_that_pins_an_image_is_refused_with_file_and_service() {
        let dir = tempfile::tempdir().unwrap();
        let judged = || judge(dir.path(), Path::new("/tests/hello")).map_err(|error| format!("{error:#}"));
        assert_eq!(judged(), Ok(()));
        let write = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write(OVERLAY, "services:\n  app:\n    ports: [\"8080\"]\n");
        assert_eq!(judged(), Ok(()));
        write("previous/compose.ccci.yml", "services:\n  db:\n    image: postgres:1\n");
        let error = judged().unwrap_err();
        for word in ["/tests/hello/previous/compose.ccci.yml", "service `db`", "`image`"] {
            assert!(error.contains(word), "{word} is missing in: {error}");
        }
        write("previous/compose.ccci.yml", "services:\n  db: {ports: []}\n");
        write("previous/compose.yml", "");
        assert!(judged().unwrap_err().contains("previous/compose.yml: unknown file"));
    }
}
