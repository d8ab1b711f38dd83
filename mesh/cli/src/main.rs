//! The hedgerow binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    // Before any thread exists: a shim must be single-threaded.
    if let Some(code) = hedgerow::workload::dispatch(std::env::args_os().skip(1)) {
        return code;
    }
    ExitCode::SUCCESS
}
