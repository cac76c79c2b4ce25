//! The table of abra's lint.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(table) = ccci_core::abra::table::parse(text.lines()) {
        assert!(!table.rules.is_empty() && table.rules.len() <= text.lines().count());
    }
});
