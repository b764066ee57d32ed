#![no_main]
//! See `opensesame_spa_fuzz::bodies::journal`.

libfuzzer_sys::fuzz_target!(|data: &[u8]| opensesame_spa_fuzz::bodies::journal(data));
