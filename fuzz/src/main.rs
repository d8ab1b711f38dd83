//! `cargo run -p hedgerow-fuzz -- TARGET FILE…` runs one target on files, for instance on one that a
//! fuzzer found. Built with `--cfg fuzzing` this is libFuzzer instead, on the target that
//! `HEDGEROW_FUZZ` names. A stable toolchain will do (no sanitizers, but this crate has no unsafe code):
//!
//! ```sh
//! S=-Cllvm-args=-sanitizer-coverage
//! export CARGO_TARGET_DIR=target/fuzz CARGO_BUILD_TARGET=$(rustc --print host-tuple)
//! RUSTFLAGS="--cfg fuzzing -Cpasses=sancov-module $S-level=4 $S-inline-8bit-counters $S-pc-table \
//!     -Ccodegen-units=1 -Cdebug-assertions -Coverflow-checks" \
//!     cargo build --release -p hedgerow-fuzz --bin hedgerow-fuzz
//! cp -r fuzz/corpus/node /tmp/node   # it adds what it finds
//! HEDGEROW_FUZZ=node $CARGO_TARGET_DIR/$CARGO_BUILD_TARGET/release/hedgerow-fuzz /tmp/node -max_len=16384
//! ```

#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    static RUN: std::sync::LazyLock<fn(&[u8])> = std::sync::LazyLock::new(|| {
        let name = std::env::var("HEDGEROW_FUZZ").unwrap_or_default();
        hedgerow_fuzz::target(&name).expect("HEDGEROW_FUZZ must name a target").run
    });
    RUN(data);
});

#[cfg(not(fuzzing))]
fn main() -> std::process::ExitCode {
    let mut words = std::env::args().skip(1);
    let Some(target) = words.next().and_then(|name| hedgerow_fuzz::target(&name)) else {
        let names = hedgerow_fuzz::TARGETS.map(|target| target.name).join(", ");
        eprintln!("usage: hedgerow-fuzz TARGET FILE…   targets: {names}");
        return std::process::ExitCode::from(2);
    };
    for file in words {
        match std::fs::read(&file) {
            Ok(bytes) => (target.run)(&bytes),
            Err(error) => {
                eprintln!("{file}: {error}");
                return std::process::ExitCode::FAILURE;
            }
        }
        println!("{file}: no harm done");
    }
    std::process::ExitCode::SUCCESS
}
