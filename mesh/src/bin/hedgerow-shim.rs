//! The shim alone: `hedgerow-shim shim --dir FOLDER`. See `hedgerow::workload`.
//!
//! For embedders who do not install the `hedgerow` binary, which has the same subcommands, and for
//! boards where every megabyte counts: it links neither tokio nor libp2p.

use std::process::ExitCode;

fn main() -> ExitCode {
    let handled = hedgerow::workload::dispatch(std::env::args_os().skip(1));
    handled.unwrap_or_else(|| {
        eprintln!("usage: hedgerow-shim shim --dir FOLDER | shim --probe");
        ExitCode::from(2)
    })
}
