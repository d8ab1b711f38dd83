//! How a board runs: flags over environment over `hedgerow.toml` over defaults.
//!
//! clap has merged flags and environment already. The file is optional, and so is every key in it;
//! an unknown key is an error, since a misspelt one would otherwise be silently without effect.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use hedgerow::net::{Home, Settings, write_durably};
use hedgerow::proto::bounded::List;
use hedgerow::proto::config::MembershipTiming;
use hedgerow::proto::record::LABELS_MAX;
use hedgerow::proto::ticket::Ticket;
use serde::Deserialize;

use crate::args::UpArgs;
use crate::exit::{Exit, Failure, Outcome};
use crate::folder;
use crate::names::{PresetName, ShortName};

/// The file's name in the data folder.
const FILE: &str = "hedgerow.toml";
/// Where a board listens unless it is told otherwise.
const LISTEN: [&str; 2] = ["/ip4/0.0.0.0/udp/4711/quic-v1", "/ip4/0.0.0.0/tcp/4711"];

/// What `init` and `join` write where there is no file yet.
const TEMPLATE: &str = r#"# How this board runs. Every line is optional; what is commented out here
# shows the default. Flags of `hedgerow up` and environment variables
# (HEDGEROW_NAME, HEDGEROW_LISTEN, ...) come before this file.

# What operators call this board. Default: the host name.
#name = "pi-1"

# Where it listens. Port 0 lets the system choose.
#listen = ["/ip4/0.0.0.0/udp/4711/quic-v1", "/ip4/0.0.0.0/tcp/4711"]

# What it tells others instead, for instance behind a forwarded port.
#announce = []

# Find other boards on the LAN.
#mdns = true

# How long leases last: "lan" on fast wired paths, "sd" for boards on SD cards,
# "wan" everywhere else.
#preset = "wan"

# For placement.
#[labels]
#site = "barn"
"#;

/// `hedgerow.toml`.
#[derive(Deserialize, Default, Debug)]
#[serde(deny_unknown_fields)]
struct File {
    name: Option<ShortName>,
    listen: Option<Vec<String>>,
    announce: Option<Vec<String>>,
    mdns: Option<bool>,
    labels: Option<BTreeMap<ShortName, ShortName>>,
    preset: Option<PresetName>,
}

/// Merges everything that says how a board runs.
///
/// # Errors
/// The file cannot be read or is wrong: with line, column and key.
pub(crate) fn resolve(home: &Home, flags: UpArgs, ticket: Option<Ticket>) -> Outcome<Settings> {
    let file = read(&home.path().join(FILE))?;
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let name = flags.name.or(file.name).unwrap_or_else(|| ShortName::salvage(&host));
    let listen = given(flags.listen).or(file.listen);
    let labels = match flags.labels.is_empty() {
        true => file.labels.unwrap_or_default().into_iter().collect(),
        false => flags.labels.into_iter().map(|label| (label.key, label.value)).collect(),
    };
    Ok(Settings {
        home: home.path().to_owned(),
        name: name.to_name(),
        listen: listen.unwrap_or_else(|| LISTEN.map(str::to_owned).to_vec()),
        announce: given(flags.announce).or(file.announce).unwrap_or_default(),
        mdns: flags.no_mdns.map(|no| !no).or(file.mdns).unwrap_or(true),
        labels: bounded(labels)?,
        ticket,
        record: flags.record,
        membership: MembershipTiming::default(),
        // This very binary, see `main`.
        shim: std::env::current_exe().unwrap_or_else(|_| "/proc/self/exe".into()),
        preset: flags.preset.or(file.preset).unwrap_or_default().preset(),
    })
}

/// Writes the commented file, unless there is one.
///
/// # Errors
/// It cannot be written.
pub(crate) fn write_template(home: &Home) -> Outcome {
    let path = home.path().join(FILE);
    if path.exists() {
        return Ok(());
    }
    write_durably(&path, TEMPLATE.as_bytes()).map_err(|e| folder::fault("write", &path, &e))
}

fn given(list: Vec<String>) -> Option<Vec<String>> {
    (!list.is_empty()).then_some(list)
}

fn bounded(
    labels: Vec<(ShortName, ShortName)>,
) -> Outcome<List<(hedgerow::proto::record::Name, hedgerow::proto::record::Name), LABELS_MAX>> {
    let pairs: Vec<_> = labels.iter().map(|(k, v)| (k.to_name(), v.to_name())).collect();
    List::try_from(pairs).map_err(|over| {
        let message = format!("{} labels; a board has {LABELS_MAX} at most", over.len);
        Failure::new(Exit::Config, "labels", message)
    })
}

fn read(path: &Path) -> Outcome<File> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(File::default()),
        Err(error) => return Err(folder::fault("read", path, &error)),
    };
    toml::from_str(&text).map_err(|error| {
        let message = format!("{}:{}", path.display(), explain(&text, error));
        Failure::new(Exit::Config, "config", message)
    })
}

/// `line:column: what is wrong (in `key`)`.
pub(crate) fn explain(text: &str, mut error: toml::de::Error) -> String {
    let at = error.span().map_or(0, |span| span.start);
    // Without its input, the error tells the key instead of drawing the line.
    error.set_input(None);
    format!("{}: {}", position(text, at), error.to_string().trim_end().replace('\n', " "))
}

/// `line:column` of the byte `at`.
pub(crate) fn position(text: &str, at: usize) -> String {
    let before = text.get(..at.min(text.len())).unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    format!("{line}:{column}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaint(text: &str) -> String {
        explain(text, toml::from_str::<File>(text).unwrap_err())
    }

    #[test]
    fn the_template_is_valid_with_and_without_its_comments() {
        assert!(toml::from_str::<File>(TEMPLATE).is_ok());
        let bare: String = TEMPLATE
            .lines()
            .filter_map(|line| line.strip_prefix('#').filter(|rest| !rest.starts_with(' ')))
            .map(|line| format!("{line}\n"))
            .collect();
        let file: File = toml::from_str(&bare).unwrap();
        assert_eq!(file.listen.unwrap(), LISTEN);
        assert!(file.name.is_some() && file.mdns == Some(true) && file.labels.is_some());
    }

    #[test]
    fn what_is_wrong_is_told_with_line_column_and_key() {
        let unknown = complaint("mdns = true\n\nnmae = \"x\"\n");
        assert!(unknown.starts_with("3:1: unknown field `nmae`"), "{unknown}");
        let wrong_type = complaint("name = \"a\"\nlisten = [\"/ip4\", 7]\n");
        assert!(wrong_type.starts_with("2:19: "), "{wrong_type}");
        assert!(wrong_type.contains("in `listen"), "{wrong_type}");
        let bad_name = complaint("name = \"a b\"\n");
        assert!(bad_name.starts_with("1:8: ' ' cannot be part"), "{bad_name}");
        assert!(bad_name.contains("in `name`"), "{bad_name}");
        let label = complaint("[labels]\nsite = \"barn\"\n\"a b\" = \"c\"\n");
        assert!(label.starts_with("3:"), "{label}");
        let syntax = complaint("name = \n");
        assert!(syntax.starts_with("1:"), "{syntax}");
    }
}
