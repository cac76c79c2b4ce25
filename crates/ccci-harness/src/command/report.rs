//! `cc-ci-run report`: the runs of a host as a site of plain files.
//!
//! The new site is made beside the old one and put in its place in one step, so whoever reads it sees
//! one or the other and never a mixture.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, ensure};
use ccci_core::config::{Places, Settings};
use ccci_core::name::{RecipeName, RunId};
use ccci_core::rundir::{file, replace_dir};
use jiff::Timestamp;
use serde::Serialize;

use crate::cli::Report;
use crate::console::count;
use crate::history::{self, Past};
use crate::page::run::{self, Files};
use crate::page::{badge, overview, recipe};
use crate::results::Results;

/// Says that a folder is a site of ours, which may be replaced.
const MARK: &str = ".cc-ci-site";
/// What of a run's directory is published as it is.
const COPIED: [&str; 5] = [file::RESULTS, file::LOG, "junit.xml", "badge.svg", file::SCREENSHOT];

/// What was written.
#[derive(Debug, Serialize)]
struct Written {
    site: PathBuf,
    recipes: usize,
    runs: usize,
}

/// Writes the site.
///
/// # Errors
/// When the runs cannot be read, the place is not ours, or something cannot be written.
pub(crate) fn main(report: &Report, config: Option<&Path>) -> anyhow::Result<ExitCode> {
    let places = Places::find(&Settings::load(config)?)?;
    let site = std::path::absolute(&report.site).context("the current directory is gone")?;
    // A link to a site stays a link.
    let site = site.canonicalize().unwrap_or(site);
    expect_ours(&site).map_err(|error| error.context(super::Usage))?;
    let written = make(&places, site).map_err(|error| error.context(super::Unable))?;
    if report.output.json {
        super::print_json(&written)?;
    } else {
        let index = written.site.join("index.html");
        let (recipes, runs) = (count(written.recipes, "recipe"), count(written.runs, "run"));
        super::say(&format!("{}: {recipes}, {runs}", index.display()))?;
    }
    if written.runs == 0 {
        // Right before the first run, and wrong where somebody misspelt a place.
        let dir = places.runs_dir.display();
        let _unseen =
            writeln!(io::stderr(), "no run has ended in {dir}; CCCI_RUNS_DIR or `runs_dir` names another place");
    }
    Ok(ExitCode::SUCCESS)
}

/// Makes it beside the old one, and exchanges the two.
fn make(places: &Places, site: PathBuf) -> anyhow::Result<Written> {
    let runs = history::runs(&places.runs_dir).with_context(|| format!("cannot list {}", places.runs_dir.display()))?;
    let runs: Vec<Past> = runs.filter(is_named_well).collect();
    let parent = site.parent().context("the root of the file system cannot be a site")?;
    fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
    let fresh = tempfile::Builder::new()
        .prefix(".cc-ci-site-")
        .permissions(fs::Permissions::from_mode(0o755))
        .tempdir_in(parent)
        .with_context(|| format!("cannot make a folder beside {}", site.display()))?;
    let recipes = write(fresh.path(), &runs).with_context(|| format!("cannot write {}", fresh.path().display()))?;
    put_in_place(fresh, &site)?;
    Ok(Written { site, recipes, runs: runs.len() })
}

/// What stands there is replaced as a whole, so it must be a site of ours, or nothing.
fn expect_ours(site: &Path) -> anyhow::Result<()> {
    match fs::read_dir(site) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error).with_context(|| format!("{} cannot be a site", site.display())),
        Ok(mut entries) => {
            let ours = entries.next().is_none() || site.join(MARK).exists();
            ensure!(
                ours,
                "{} holds something else than a site, and all of it would be replaced: name a folder of its own",
                site.display()
            );
            Ok(())
        }
    }
}

/// Names become addresses: a result that somebody else wrote may say anything.
fn is_named_well(past: &Past) -> bool {
    let dir = past.dir.file_name().and_then(|name| name.to_str());
    let well = RecipeName::new(&past.results.recipe).is_ok()
        && RunId::new(&past.results.run_id).is_ok()
        && dir == Some(past.results.run_id.as_str());
    if !well {
        tracing::warn!(dir = %past.dir.display(), "left out: its names are none of a run's");
    }
    well
}

/// Writes all pages; how many recipes there are.
fn write(site: &Path, runs: &[Past]) -> io::Result<usize> {
    fs::write(site.join(MARK), "Made by `cc-ci-run report`, which replaces all of this folder.\n")?;
    let mut recipes: BTreeMap<String, Vec<&Results>> = BTreeMap::new();
    for past in runs {
        write_run(site, past)?;
        recipes.entry(past.results.recipe.clone()).or_default().push(&past.results);
    }
    let recipes: Vec<(String, Vec<&Results>)> = recipes.into_iter().collect();
    for (name, runs) in &recipes {
        let dir = site.join("recipes").join(name);
        fs::create_dir_all(&dir)?;
        let addressed: Vec<(String, &Results)> =
            runs.iter().map(|run| (format!("../../runs/{}/index.html", run.run_id), *run)).collect();
        fs::write(dir.join("index.html"), recipe::page(name, &addressed))?;
        if let Some(last) = badge::subject(runs.iter().copied()) {
            fs::write(dir.join("badge.svg"), badge::svg(last))?;
        }
    }
    fs::write(site.join("index.html"), overview::page(&super::host_name(), &recipes, Timestamp::now()))?;
    Ok(recipes.len())
}

fn write_run(site: &Path, past: &Past) -> io::Result<()> {
    let results = &past.results;
    let dir = site.join("runs").join(&results.run_id);
    fs::create_dir_all(&dir)?;
    // A secret of the app was found in the run's files: nobody knows in which of them it stands by now.
    let leaked = results.flags.no_secret_leak == Some(false);
    let files = if leaked { Files::default() } else { Files::of(&past.dir)? };
    for name in COPIED.iter().filter(|name| !leaked || **name == "badge.svg") {
        match fs::read(past.dir.join(name)) {
            Ok(bytes) => fs::write(dir.join(name), bytes)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    let recipe = format!("../../recipes/{}/index.html", results.recipe);
    let trail = [("../../index.html", "All recipes"), (recipe.as_str(), results.recipe.as_str())];
    fs::write(dir.join("index.html"), run::page(results, &files, &trail))
}

fn put_in_place(fresh: tempfile::TempDir, site: &Path) -> anyhow::Result<()> {
    let cannot = || {
        let site = site.display();
        format!(
            "cannot put the new site in the place of {site}: it must be a folder, not a mount, of a local file system"
        )
    };
    replace_dir(fresh.path(), site).with_context(cannot)?;
    // What stood there, if anything, is now in the temporary folder, and goes with it.
    match fresh.close() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        closed => closed.with_context(|| format!("the former site of {} stays", site.display())),
    }
}
