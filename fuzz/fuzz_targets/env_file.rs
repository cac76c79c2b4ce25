//! Env files of apps.

#![no_main]

use libfuzzer_sys::fuzz_target;

use ccci_core::substrate::env_file;

fuzz_target!(|text: &str| {
    let vars = env_file::parse(text);
    let _expanded = env_file::expand(text, &vars);
    let set = env_file::set(text, &[("CCCI_KEY", "value")]);
    assert_eq!(env_file::parse(&set).get("CCCI_KEY").map(String::as_str), Some("value"));
});
