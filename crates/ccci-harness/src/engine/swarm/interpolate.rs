//! A recipe's variables as data: `docker stack config` puts their values into the compose files, and none of them is a
//! variable of the program that does it.
//!
//! Docker takes the values from its own environment, where many names mean something to it, to its loader or to what it
//! starts, and no list of them has an end. So the files are given to it with every variable under another name
//! (`$PATH` as `$CCCI0N_PATH`), and its environment holds these names alone. What it does with them (defaults, errors,
//! numbers) stays its own. One place is left where Docker reads a variable by its plain name: `environment: [NAME]`.
//! There it finds a placeholder of ours, whose place the value takes afterwards; under a name that may mean something
//! it finds nothing, and the value is put where Docker found none.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ccci_core::docker::Docker;
use ccci_core::process::{Finished, Job, ProcessError, acts_on_programs, read_limited};
use ccci_core::weaken::{self, Protection};
use serde_json::Value;

/// Compose files, and the variables that are put into them.
#[derive(Debug)]
pub(super) struct Interpolation<'run> {
    files: &'run [PathBuf],
    texts: Vec<Vec<u8>>,
    vars: &'run BTreeMap<String, String>,
    names: Names,
}

/// The values that take the place of placeholders may come to so many bytes, all together.
const MOST: usize = 16 << 20;

/// How variables and their placeholders are called; nothing in the files or the values is called so. Nobody can guess it:
/// other files that Docker reads (`env_file`, the escapes of a string) would be taken for placeholders too.
#[derive(Debug)]
struct Names {
    variable: String,
    placeholder: String,
}

impl<'run> Interpolation<'run> {
    /// Reads the files.
    ///
    /// # Errors
    /// Which file cannot be read, and why.
    pub(super) fn of(files: &'run [PathBuf], vars: &'run BTreeMap<String, String>) -> Result<Self, String> {
        let read =
            |file: &PathBuf| std::fs::read(file).map_err(|error| format!("cannot read {}: {error}", file.display()));
        let texts: Vec<Vec<u8>> = files.iter().map(read).collect::<Result<_, _>>()?;
        let random =
            || read_limited(Path::new("/dev/urandom"), 8).map_err(|error| format!("no random number: {error}"));
        let names =
            Names::apart_from(&texts, vars, &mut || Ok(random()?.iter().map(|byte| format!("{byte:02X}")).collect()))?;
        Ok(Self { files, texts, vars, names })
    }

    /// Has Docker merge and interpolate the files. What it printed is for [`Interpolation::restore_names`].
    ///
    /// # Errors
    /// [`ProcessError`], in the words of the files; or why they could not be handed over.
    pub(super) fn run(&self, docker: &Docker, limit: Duration) -> Result<Finished, Refused> {
        if !weaken::on(Protection::VariablesAreData) {
            let dir = self.files.first().and_then(|file| file.parent()).unwrap_or(Path::new("/"));
            let job = Job::new("docker").args(["stack", "config"]).args(arguments(self.files)).env(self.vars).dir(dir);
            return Ok(job.timeout(limit).capture().run_ok(&mut |_| {})?);
        }
        let dir = self.files.first().and_then(|file| file.parent()).unwrap_or(Path::new("/"));
        let handed = self.texts.iter().map(|text| {
            // Beside the first file, as paths in all of them count from there.
            let mut file = tempfile::Builder::new().prefix(".ccci-").suffix(".yml").tempfile_in(dir)?;
            file.write_all(&self.names.put_into(text))?;
            Ok(file)
        });
        let handed: Vec<tempfile::NamedTempFile> =
            handed.collect::<std::io::Result<_>>().map_err(|error| Refused::NotHanded(dir.to_owned(), error))?;
        let paths: Vec<PathBuf> = handed.iter().map(|file| file.path().to_owned()).collect();
        let job = docker.bare_job(["stack", "config"], &self.environment()).args(arguments(&paths));
        let done = job.timeout(limit).capture().run_ok(&mut |_| {});
        Ok(done.map_err(|error| self.in_own_words(error, &paths))?)
    }

    /// The whole environment of the program.
    fn environment(&self) -> BTreeMap<String, String> {
        let own = self.vars.iter().map(|(name, value)| (format!("{}{name}", self.names.variable), value.clone()));
        // An empty value has no need of a placeholder, and looks empty to a default.
        let plain = self.plain().map(|(index, name, value)| {
            let placeholder = if value.is_empty() { String::new() } else { self.names.placeholder(index) };
            (name.clone(), placeholder)
        });
        own.chain(plain).collect()
    }

    /// The variables that the program also finds by their plain names, numbered.
    fn plain(&self) -> impl Iterator<Item = (usize, &String, &String)> {
        let all = self.vars.iter().enumerate().map(|(index, (name, value))| (index, name, value));
        all.filter(|(_, name, _)| !acts_on_programs(name))
    }

    /// An error as Docker would have put it for the files themselves.
    fn in_own_words(&self, error: ProcessError, handed: &[PathBuf]) -> ProcessError {
        let own = |text: String| {
            let text = text.replace(&self.names.variable, "");
            handed.iter().zip(self.files).fold(text, |text, (handed, own)| {
                text.replace(&handed.display().to_string(), &own.display().to_string())
            })
        };
        match error {
            ProcessError::Failed { command, ended, tail } => {
                ProcessError::Failed { command: own(command), ended, tail: own(tail) }
            }
            other => other,
        }
    }

    /// What Docker printed, with every variable called as before where it stays as it was written.
    pub(super) fn restore_names(&self, printed: &str) -> String {
        printed.replace(&self.names.variable, "")
    }

    /// What Docker made of the files, with the values in the place of their placeholders.
    ///
    /// # Errors
    /// That they would make it too long.
    pub(super) fn restore_values(&self, resolved: &mut Value) -> Result<(), String> {
        let mut left = MOST;
        let mut too_long = None;
        for_each_text(resolved, &mut |text| {
            if text.contains(&self.names.placeholder) {
                for (index, name, value) in self.plain() {
                    let placeholder = self.names.placeholder(index);
                    let added = text.matches(&placeholder).count() * value.len();
                    match left.checked_sub(added) {
                        Some(rest) => left = rest,
                        None => too_long = Some(name.clone()),
                    }
                    if too_long.is_none() {
                        *text = text.replace(&placeholder, value);
                    }
                }
            }
        });
        if let Some(name) = too_long {
            return Err(format!("the values of {name} and others come to more than {} MB", MOST >> 20));
        }
        let services = resolved.get_mut("services").and_then(Value::as_object_mut);
        let environments = services.into_iter().flatten().filter_map(|(_, service)| service.get_mut("environment"));
        for (name, entry) in environments.filter_map(Value::as_object_mut).flatten() {
            if let (Value::Null, Some(value)) = (&entry, self.vars.get(name)) {
                left = left
                    .checked_sub(value.len())
                    .ok_or_else(|| format!("the values of {name} and others come to more than {} MB", MOST >> 20))?;
                *entry = Value::from(value.clone());
            }
        }
        Ok(())
    }
}

/// Why Docker did not resolve the files.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refused {
    /// It said no, or could not be asked.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// The files as it is to read them could not be written.
    #[error("cannot write beside the compose files, into {}: {_1}", _0.display())]
    NotHanded(PathBuf, std::io::Error),
}

fn arguments(files: &[PathBuf]) -> impl Iterator<Item = String> {
    files.iter().flat_map(|file| ["--compose-file".to_owned(), file.display().to_string()])
}

fn for_each_text(value: &mut Value, change: &mut dyn FnMut(&mut String)) {
    match value {
        Value::String(text) => change(text),
        Value::Array(items) => items.iter_mut().for_each(|item| for_each_text(item, change)),
        Value::Object(map) => map.values_mut().for_each(|item| for_each_text(item, change)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

impl Names {
    fn apart_from(
        texts: &[Vec<u8>],
        vars: &BTreeMap<String, String>,
        random: &mut dyn FnMut() -> Result<String, String>,
    ) -> Result<Self, String> {
        loop {
            let beginning = format!("CCCI{}", random()?);
            let is_in =
                |text: &[u8]| text.windows(beginning.len()).any(|part| part.eq_ignore_ascii_case(beginning.as_bytes()));
            if !texts.iter().any(|text| is_in(text))
                && !vars.iter().any(|(name, value)| is_in(name.as_bytes()) || is_in(value.as_bytes()))
            {
                return Ok(Self { variable: format!("{beginning}N_"), placeholder: format!("{beginning}P_") });
            }
        }
    }

    fn placeholder(&self, index: usize) -> String {
        format!("{}{index}_", self.placeholder)
    }

    /// A compose file with each of its variables called by our name. `$$` is a dollar, and what follows it is text. A
    /// `$` that begins no variable stays for Docker to refuse. What stands in a default is renamed too, where it is
    /// only text; that is taken back with all the others.
    fn put_into(&self, text: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(text.len() + 256);
        let mut rest = text;
        while let Some(at) = rest.iter().position(|byte| *byte == b'$') {
            let (before, dollar) = rest.split_at(at);
            out.extend_from_slice(before);
            let sign = match dollar {
                [b'$', b'$', ..] | [b'$', b'{', ..] => 2,
                _ => 1,
            };
            let (sign, after) = dollar.split_at(sign);
            out.extend_from_slice(sign);
            if sign != b"$$" && after.first().is_some_and(|byte| byte.is_ascii_alphabetic() || *byte == b'_') {
                out.extend_from_slice(self.variable.as_bytes());
            }
            rest = after;
        }
        out.extend_from_slice(rest);
        out
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn names() -> Names {
        Names { variable: "N_".into(), placeholder: "P_".into() }
    }

    #[test]
    fn every_variable_has_another_name_and_nothing_else_changes() {
        let put = |text: &str| String::from_utf8(names().put_into(text.as_bytes())).unwrap();
        assert_eq!(put("a $PATH ${HOME:-x} $$HOME $$$A ${b}"), "a $N_PATH ${N_HOME:-x} $$HOME $$$N_A ${N_b}");
        assert_eq!(put("$ $1 ${} ${1} a$"), "$ $1 ${} ${1} a$");
        assert_eq!(put("${A:?${B}} $A-$B"), "${N_A:?${N_B}} $N_A-$N_B");
    }

    fn counted() -> impl FnMut() -> Result<String, String> {
        let mut number = 0_u32..;
        move || number.next().map(|number| number.to_string()).ok_or_else(String::new)
    }

    #[test]
    fn names_cannot_be_guessed_and_values_do_not_blow_a_file_up() {
        let vars = BTreeMap::from([("A".to_owned(), "x".repeat(1 << 16))]);
        let of = || Interpolation::of(&[], &vars).unwrap();
        assert_ne!(of().names.placeholder, of().names.placeholder);
        let interpolation = of();
        let many = |count: usize| json!({"a": interpolation.names.placeholder(0).repeat(count)});
        interpolation.restore_values(&mut many(MOST >> 16)).unwrap();
        let why = interpolation.restore_values(&mut many((MOST >> 16) + 1)).unwrap_err();
        assert!(why.contains("values of A"), "{why}");
    }

    #[test]
    fn names_are_made_that_nobody_uses() {
        let vars = BTreeMap::from([("A".to_owned(), "ccci1n_".to_owned())]);
        assert_eq!(Names::apart_from(&[b"CCCI0".to_vec()], &vars, &mut counted()).unwrap().variable, "CCCI2N_");
    }

    #[test]
    fn values_come_where_docker_read_a_plain_name() {
        let vars = ["PATH", "GREETING", "EMPTY"].map(|name| (name.to_owned(), format!("{name}=a$b")));
        let mut vars = BTreeMap::from(vars);
        vars.insert("EMPTY".into(), String::new());
        let interpolation = Interpolation { files: &[], texts: Vec::new(), vars: &vars, names: names() };
        let env = interpolation.environment();
        assert!(!env.contains_key("PATH"), "{env:?}");
        assert_eq!((env["N_PATH"].as_str(), env["GREETING"].as_str(), env["EMPTY"].as_str()), ("PATH=a$b", "P_1_", ""));
        let mut resolved = json!({"services": {"app": {"environment": {
            "GREETING": "P_1_", "PATH": null, "OTHER": null, "EMPTY": "", "LITERAL": "x"
        }}}});
        interpolation.restore_values(&mut resolved).unwrap();
        assert_eq!(
            resolved["services"]["app"]["environment"],
            json!({"GREETING": "GREETING=a$b", "PATH": "PATH=a$b", "OTHER": null, "EMPTY": "", "LITERAL": "x"})
        );
    }

    proptest! {
        #[test]
        fn what_is_renamed_is_renamed_back(text in "([$A{}:?\\-b1\n ]|\\PC){0,40}") {
            let names = Names::apart_from(&[text.clone().into_bytes()], &BTreeMap::new(), &mut counted()).unwrap();
            let put = String::from_utf8(names.put_into(text.as_bytes())).unwrap();
            prop_assert_eq!(put.replace(&names.variable, ""), text);
        }
    }
}
