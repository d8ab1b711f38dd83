//! `cargo run -p hedgerow-fuzz --example seeds`
//!
//! Writes the seeds under `fuzz/corpus/` anew, after a change of the wire. Other files stay: they were
//! found once.

use std::path::Path;

fn main() -> std::io::Result<()> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for target in hedgerow_fuzz::TARGETS {
        let folder = corpus.join(target.name);
        std::fs::create_dir_all(&folder)?;
        let mut sum = 0;
        for (name, bytes) in (target.seeds)() {
            sum += bytes.len();
            std::fs::write(folder.join(format!("seed-{name}")), bytes)?;
        }
        println!("{}: {sum} bytes", folder.display());
    }
    Ok(())
}
