//! Everything that reads what others wrote, on what nobody would write: no panic, and sane results.
//! `fuzz/` has the same as targets of cargo-fuzz.

use std::path::PathBuf;

use ccci_core::abra::table;
use ccci_core::config::{Settings, strict};
use ccci_core::docker::answers::{Container, Info, Named, Network, Service, Task, Volume};
use ccci_core::docker::endpoint::{Endpoint, Surroundings};
use ccci_core::lock::{owner, proc_locks};
use ccci_core::name::{BaseDomain, Domain, LockName};
use ccci_core::substrate::env_file;
use proptest::prelude::*;
use serde_json::Value;

/// Text with what matters to an env file in it more often than chance would have it.
fn env_text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("\n".to_owned()),
        Just("=".to_owned()),
        Just("#".to_owned()),
        Just("$".to_owned()),
        Just("${".to_owned()),
        Just("}".to_owned()),
        Just("\"".to_owned()),
        Just("'".to_owned()),
        Just("export ".to_owned()),
        Just("\\".to_owned()),
        Just("\r\n".to_owned()),
        Just(":-".to_owned()),
        Just("CCCI_KEY=".to_owned()),
        Just(" ".to_owned()),
        "[A-Z_]{1,6}",
        "\\PC{0,4}",
        any::<char>().prop_map(String::from),
    ];
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

/// Any JSON, with the keys that Docker uses.
fn json() -> impl Strategy<Value = Value> {
    let key = prop::sample::select(vec![
        "ID",
        "Id",
        "Name",
        "Names",
        "Spec",
        "Labels",
        "TaskTemplate",
        "ContainerSpec",
        "Status",
        "State",
        "DesiredState",
        "CreatedAt",
        "IPAM",
        "Config",
        "Subnet",
        "Driver",
        "Scope",
        "Swarm",
        "LocalNodeState",
        "Endpoint",
        "VirtualIPs",
        "Mode",
        "Replicated",
        "Replicas",
        "UpdateStatus",
        "Containers",
        "ServerVersion",
        "DockerRootDir",
        "Mountpoint",
        "Addr",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,8}".prop_map(Value::from),
        Just(Value::from("running")),
        Just(Value::from("2026-01-01T00:00:00Z")),
        Just(Value::from("active")),
    ];
    leaf.prop_recursive(5, 48, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(key.clone().prop_map(str::to_owned), inner, 0..8)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// Lines of a lint's table, whole and broken.
fn table_lines() -> impl Strategy<Value = Vec<String>> {
    let cell = prop_oneof![
        Just("R001".to_owned()),
        Just("error".to_owned()),
        Just("warn".to_owned()),
        Just("✅".to_owned()),
        Just("❌".to_owned()),
        Just("-".to_owned()),
        "\\PC{0,8}",
    ];
    let line = prop::collection::vec(cell, 0..8).prop_map(|cells| format!("│ {} │", cells.join(" │ ")));
    prop::collection::vec(line, 0..6)
}

proptest! {
    #[test]
    fn a_lint_table_with_a_broken_mark_in_its_place_is_never_a_pass(lines in table_lines()) {
        let read = table::parse(lines.iter().map(String::as_str));
        let broken = lines.iter().any(|line| {
            let cells: Vec<&str> = line.trim_matches('│').split('│').map(str::trim).collect();
            cells.len() >= 5 && cells[0] == "R001" && cells[2] == "error" && cells[3] == "❌" && cells[4] != "✅"
        });
        if broken {
            prop_assert!(read.is_err() || read.unwrap().broken(table::Severity::Error).next().is_some());
        }
    }

    #[test]
    fn env_files_are_read_or_refused_with_a_line(text in env_text()) {
        match env_file::assignments(text.as_bytes()) {
            Ok(all) => {
                for assignment in &all {
                    prop_assert!(!assignment.name.contains(['\n', '=']), "{assignment:?}");
                    prop_assert!(assignment.comment.is_empty() || assignment.comment.starts_with('#'), "{assignment:?}");
                }
                prop_assert!(env_file::parse(text.as_bytes()).unwrap().len() <= all.len());
            }
            Err(error) => prop_assert!(error.line >= 1 && error.line <= text.split('\n').count(), "{error}"),
        }
    }

    #[test]
    fn env_files_of_any_bytes_do_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        let _either = env_file::set(&bytes, &[("CCCI_KEY", "value")]);
    }

    #[test]
    fn what_is_set_in_an_env_file_is_read_back_and_the_rest_stays(text in env_text(), value in "[a-z0-9./:\"' #\n\t\\\\-]{0,12}") {
        // Others may stand for what is changed.
        prop_assume!(!text.contains("$CCCI_KEY") && !text.contains("{CCCI_KEY"));
        let before = env_file::parse(text.as_bytes());
        match env_file::set(text.as_bytes(), &[("CCCI_KEY", &value)]) {
            Ok(set) => {
                let shown = String::from_utf8_lossy(&set).into_owned();
                let mut vars = env_file::parse(&set).unwrap_or_else(|error| panic!("{error}: {shown:?}"));
                prop_assert_eq!(vars.remove("CCCI_KEY"), Some(value.clone()), "{:?}", shown);
                prop_assert!(set.ends_with(b"\n"));
                prop_assert_eq!(env_file::set(&set, &[("CCCI_KEY", &value)]).unwrap(), set.clone(), "twice is once");
                let mut before = before.unwrap();
                before.remove("CCCI_KEY");
                prop_assert_eq!(vars, before, "{:?}", shown);
            }
            Err(_) => prop_assert!(before.is_err() || value.ends_with(['\\', '"'])),
        }
    }

    #[test]
    fn variables_are_put_in_without_a_panic(text in env_text(), value in "\\PC{0,6}") {
        let vars = [("A".to_owned(), value)].into();
        let out = env_file::expand(&text, &vars);
        if !text.contains('$') {
            prop_assert_eq!(out, Ok(text));
        }
    }

    #[test]
    fn settings_are_refused_with_a_line_or_taken(text in "(([a-z_]{1,10}|deadline|grace|retention|\\[retention\\])( ?= ?(\"\\PC{0,6}\"|[0-9]{1,5}|\\[|true))?\n){0,6}") {
        if let Err(error) = strict::parse::<Settings>("settings.toml", &text) {
            let message = error.to_string();
            let line = message.strip_prefix("settings.toml:").and_then(|rest| rest.split(':').next()?.parse::<usize>().ok());
            prop_assert!(line.is_some_and(|line| line >= 1 && line <= text.lines().count() + 1), "{message}");
        }
    }

    #[test]
    fn settings_of_any_text_do_not_panic(text in "\\PC{0,80}|[\\[\\]\"'=a-z\n.]{0,60}") {
        let _either = strict::parse::<Settings>("s", &text);
    }

    #[test]
    fn an_owner_record_is_whole_or_unreadable(bytes in prop::collection::vec(any::<u8>(), 0..400), cut in 0_usize..400) {
        let _either = owner::parse(&bytes);
        let whole = br#"{"run_id":"r","pid":1,"start_ticks":2,"boot_id":"b","run_dir":"/r","recipe":"h","pr":null,"ref":null,"phase":"p","since":"2026-01-01T00:00:00Z","deadline":"2026-01-01T01:00:00Z"}"#;
        prop_assert!(owner::parse(whole).unwrap().is_some());
        if (1..whole.len()).contains(&cut) {
            prop_assert!(owner::parse(&whole[..cut]).is_err(), "half a record is unreadable, and not none");
        }
    }

    #[test]
    fn proc_locks_passes_over_what_it_does_not_know(noise in "[0-9A-Z:> \\-\n]{0,120}", pid in 1_u32..99_999, inode in any::<u64>()) {
        let _any = proc_locks::parse(&noise);
        let text = format!("{}\n1: FLOCK  ADVISORY  WRITE {pid} fe:01:{inode} 0 EOF\n", noise.replace("FLOCK", "POSIX"));
        let found = proc_locks::parse(&text);
        let entry = found.last().copied();
        prop_assert_eq!(entry.map(|entry| (entry.pid, entry.inode, entry.device)), Some((pid, inode, (0xfe, 1))));
    }

    #[test]
    fn dockers_answers_are_understood_or_refused(answer in json(), noise in prop::collection::vec(any::<u8>(), 0..64)) {
        for bytes in [answer.to_string().into_bytes(), noise] {
            let _service = serde_json::from_slice::<Vec<Service>>(&bytes);
            let _task = serde_json::from_slice::<Task>(&bytes);
            let _network = serde_json::from_slice::<Network>(&bytes);
            let _container = serde_json::from_slice::<Container>(&bytes).map(|one| one.name().len());
            let _volume = serde_json::from_slice::<Volume>(&bytes);
            let _named = serde_json::from_slice::<Named>(&bytes);
            let _info = serde_json::from_slice::<Info>(&bytes).map(|info| info.swarm.is_manager());
        }
    }

    #[test]
    fn an_endpoint_is_spelt_as_it_was_read(host in "((unix|tcp|ssh|fd|npipe)://)?[a-z0-9./:@-]{0,24}|\\PC{0,20}") {
        let around = Surroundings { host: Some(host.clone()), default_socket: PathBuf::from("/nonexistent"), ..Surroundings::default() };
        if let Ok(Some(endpoint)) = Endpoint::find_in(&around) {
            let text = endpoint.to_string();
            prop_assert!(text.starts_with("unix:///") || text.starts_with("tcp://"), "{text}");
            let again = Surroundings { host: Some(text), ..around };
            prop_assert_eq!(Endpoint::find_in(&again).ok().flatten(), Some(endpoint));
        }
    }

    #[test]
    fn names_are_ours_or_nobodys(name in "(cc-ci-(app|guard)-)?[a-z0-9]{0,5}-[0-9a-f]{5,7}(\\.ci\\.example)?(\\.lock)?|\\PC{0,30}") {
        if let Ok(base) = BaseDomain::new("ci.example") {
            if let Some(lock) = LockName::parse(&name, &base) {
                prop_assert_eq!(lock.file_name(), name.clone());
            }
            let found = [Domain::parse(&name, &base), Domain::from_stack_name(&name, &base), Domain::from_object_name(&name, &base)];
            for domain in found.into_iter().flatten() {
                prop_assert_eq!(Domain::parse(domain.as_str(), &base), Some(domain.clone()));
            }
        }
    }
}
