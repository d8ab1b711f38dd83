//! Service files that are right, and each way to get one wrong.

use super::*;

const WHOLE: &str = r#"
name = "sensor-api"
command = ["./sensor-api", "--data", "state", "--port", "${PORT_HTTP}"]
state = "state"
on_isolation = "fence"
port = [{ name = "http", port = 0 }]
replicate = { every = "2s", commit = "standby", commit_timeout = "500ms" }
place = { class = ["Med", "Hi"], labels = { site = "barn" } }
restart = { max = 5, within = "90s" }
limits = { memory = "256 MiB", pids = 64 }
env = { TZ = "UTC" }
"#;

fn with(line: &str) -> String {
    format!("name = \"a\"\ncommand = [\"true\"]\n{line}\n")
}

fn complaint(text: &str) -> String {
    parsed(text).unwrap_err()
}

#[test]
fn the_file_of_the_design_is_understood() {
    let spec = parsed(WHOLE).unwrap();
    assert_eq!((&*spec.name, spec.command.len()), ("sensor-api", 5));
    assert_eq!(spec.ports[0], Port { name: Name::capped("http"), port: 0 });
    assert_eq!(
        spec.replicate,
        Replicate { every_ms: 2_000, commit: Commit::Standby, commit_timeout_ms: 500 }
    );
    assert_eq!((spec.classes.len(), spec.labels.len(), spec.env.len()), (2, 1, 1));
    assert_eq!(spec.restart, Restart { max: 5, within_ms: 90_000 });
    assert_eq!(spec.limits, Limits { memory_bytes: 256 << 20, pids: 64 });

    let least = parsed(&with("")).unwrap();
    assert_eq!((least.on_isolation, least.restart.max), (OnIsolation::Fence, 3));
    assert_eq!(least.replicate.every_ms, 1_000);
}

#[test]
fn each_mistake_is_told_with_its_place_and_what_to_write() {
    for (text, told) in [
        (with("onisolation = \"fence\""), "3:1: unknown field `onisolation`"),
        (with("on_isolation = \"fense\""), "3:16: unknown variant `fense`"),
        (with("health = { http = \"x\" }"), "3:10: `health` is not supported yet"),
        (with("bundle = \"oci/a\""), "3:10: `bundle` is not supported yet"),
        (with("restart = { max = 3, within = \"a while\" }"), "3:31: `a while` is no time"),
        (with("limits = { memory = \"1 MB\" }"), "3:21: `1 MB` is no size"),
        (with("state = \"../x\""), "3:9: `../x` cannot be the state folder"),
        (with("port = [{ name = \"HTTP\" }]"), "3:9: `HTTP` cannot be a port's name"),
        (with("port = [{ name = \"a\" }, { name = \"a\" }]"), "3:25: two ports are called `a`"),
        (with("env = { PORT_A = \"1\" }"), "3:7: `PORT_A` cannot be set"),
        (
            with("on_isolation = \"keep-running\"\nreplicate = { commit = \"standby\" }"),
            "4:13: on_isolation",
        ),
        ("name = \"A b\"\ncommand = [\"true\"]".to_owned(), "1:8: `A b` cannot be a service's"),
        ("name = \"a\"\ncommand = []".to_owned(), "2:11: the service has no command"),
        ("name = \"a\"\n".to_owned(), "1:1: missing field `command`"),
        ("name = \"a\"\nname = \"b\"".to_owned(), "2:1: duplicate key"),
    ] {
        let said = complaint(&text);
        assert!(said.starts_with(told), "{text}\n{said}\n{told}");
    }
}

#[test]
fn a_misspelt_word_is_met_with_the_one_that_was_meant() {
    let ends = |text: &str, end: &str| {
        let said = complaint(text);
        assert!(said.ends_with(end), "{said}");
    };
    ends(&with("retsart = {}"), "; did you mean `restart`?");
    ends(&with("on_isolation = \"fense\""), "; did you mean `fence`?");
    let port = "name = \"a\"\ncommand = [\"${PORT_HTPP}\"]\nport = [{ name = \"http\" }]\n";
    ends(port, "; did you mean ${PORT_HTTP}?");
    assert!(!complaint(&with("zzzzzz = 1")).contains("did you mean"));
    assert_eq!((distance("kitten", "sitting"), distance("", "ab")), (3, 2));
}
