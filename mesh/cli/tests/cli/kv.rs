//! The key-value store as a process: what it acknowledged is there after `kill -9`.

use std::fs::{self, OpenOptions};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Stdio};

use crate::board::{PATIENCE, Place, hedgerow};

/// A running store; killed at the end as a power cut would.
struct Kv {
    process: Child,
    address: String,
}

impl Kv {
    fn start(data: &Path, lease: Option<&Path>) -> Self {
        let mut command = hedgerow();
        command.args(["kv", "--port", "0", "--data"]).arg(data);
        if let Some(lease) = lease {
            command.env("HEDGEROW_LEASE_FILE", lease).env("HEDGEROW_EPOCH", "7");
        }
        let mut process = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().rsplit(' ').next().unwrap().to_owned();
        Self { process, address }
    }

    fn http(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        let mut socket = TcpStream::connect(&self.address).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let length = body.len();
        let head = "host: x\r\nconnection: close";
        let request =
            format!("{method} {path} HTTP/1.1\r\n{head}\r\ncontent-length: {length}\r\n\r\n{body}");
        socket.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }
}

impl Drop for Kv {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn it_keeps_what_it_acknowledged_through_kill_9_and_a_torn_write() {
    let place = Place::new();
    let data = place.0.join("state");
    let kv = Kv::start(&data, None);
    assert_eq!(kv.http("GET", "/healthz", ""), (200, "ok".to_owned()));
    assert_eq!(kv.http("GET", "/k/a", "").0, 404);
    assert_eq!(kv.http("PUT", "/k/a", "one").0, 204);
    assert_eq!(kv.http("PUT", "/k/b%2Fc", "two").0, 204);
    assert_eq!(kv.http("DELETE", "/k/a", "").0, 204);
    assert_eq!(kv.http("DELETE", "/k/a", "").0, 404);
    assert_eq!(kv.http("PUT", "/k/a", &"x".repeat(64 * 1024 + 1)).0, 413);
    let pid = kv.process.id();
    let epoch: serde_json::Value = serde_json::from_str(&kv.http("GET", "/epoch", "").1).unwrap();
    assert_eq!((&epoch["pid"], &epoch["keys"]), (&pid.into(), &1.into()), "{epoch}");
    drop(kv);

    let log = data.join("kv.log");
    let whole = fs::metadata(&log).unwrap().len();
    let mut file = OpenOptions::new().append(true).open(&log).unwrap();
    file.write_all(&[40, 0, 0, 0, 1, 2, 3]).unwrap();
    let kv = Kv::start(&data, None);
    assert_eq!(fs::metadata(&log).unwrap().len(), whole, "the torn tail is cut");
    assert_eq!(kv.http("GET", "/k/b%2Fc", ""), (200, "two".to_owned()));
    assert_eq!(kv.http("GET", "/k/a", "").0, 404);
}

#[test]
fn without_a_valid_lease_of_its_epoch_it_says_nothing() {
    use hedgerow::workload::lease::Lease;

    let place = Place::new();
    let path = place.0.join("lease");
    let write = |epoch, valid_until_ns| {
        fs::write(&path, Lease { epoch, valid_until_ns }.encode()).unwrap();
    };
    write(7, u64::MAX);
    let kv = Kv::start(&place.0.join("state"), Some(&path));
    assert_eq!(kv.http("PUT", "/k/a", "one").0, 204);
    for (epoch, until) in [(7, 0), (8, u64::MAX)] {
        write(epoch, until);
        for (method, at) in [("GET", "/k/a"), ("PUT", "/k/a"), ("GET", "/healthz")] {
            assert_eq!(kv.http(method, at, "").0, 503, "{method} {at}");
        }
    }
    write(7, u64::MAX);
    assert_eq!(kv.http("GET", "/k/a", ""), (200, "one".to_owned()));
}
