//! Orders, signed as the operator of this data folder.
//!
//! The operator's key lies in `operator.key`. That it may give orders is proved by
//! `operator.credential`: the chain from the root key over a ticket to this key. `init` writes both,
//! so the root key may be kept offline. The credential is no secret, but worthless without the key.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use hedgerow::net::{Home, HomeError, KeyFile, random_seed, write_durably};
use hedgerow::proto::bounded::List;
use hedgerow::proto::id::{CellId, Keypair};
use hedgerow::proto::order::{Action, Order, SignedOrder};
use hedgerow::proto::record::Name;
use hedgerow::proto::ticket::{Credential, Role, Ticket, TicketRequest};
use hedgerow::proto::wire::codec;

use tokio::time::sleep;

use crate::context::Context;
use crate::exit::{Exit, Failure, Outcome};
use crate::folder;
use crate::schema::Status;
use crate::ticket::{log, now};

/// The credential's file in the data folder.
const FILE: &str = "operator.credential";
/// How long an order waits for a new master: with preset `wan` one is elected within six seconds.
const MASTER_WAIT: Duration = Duration::from_secs(8);
/// Between two attempts meanwhile.
const TRY_AGAIN: Duration = Duration::from_millis(250);
/// How long an order may be on its way, seconds.
const VALID_SECONDS: u64 = 60;

/// Signs an order and gives it to the daemon.
///
/// # Errors
/// This folder has no operator's key, no daemon answers, or the order is refused.
pub(crate) async fn order(context: &Context, action: Action) -> Outcome {
    let key = operator_key(context)?;
    let client = context.client();
    let status: Status = client.get("/v1/status").await?;
    let home = Home::open(&context.home)?;
    let credential = match read_credential(&home)? {
        Some(credential) => credential,
        None => make_credential(context, &home, &key, &status)?,
    };
    let of = credential.ticket.peek().map_err(|_| damaged(&path(&home)))?.mesh;
    if of != status.mesh {
        let message = format!(
            "the operator's key in {} is for the mesh {of}, but the board that runs here belongs to \
             {} ({}): copy operator.key and {FILE} of that mesh here",
            context.home.display(),
            status.mesh_name,
            status.mesh
        );
        return Err(Failure::new(Exit::Failed, "other-mesh", message));
    }
    let issued = now();
    let mut nonce = [0; 16];
    nonce.copy_from_slice(&random_seed()[..16]);
    let order = Order {
        mesh: status.mesh,
        cell: CellId::default(),
        operator: key.public(),
        nonce,
        issued,
        expires: issued + VALID_SECONDS,
        action,
    };
    let body = SignedOrder::seal(&order, &key, credential)
        .and_then(|signed| codec::encode(&signed))
        .map_err(|error| Failure::failed(format!("cannot sign the order: {error}")))?;
    let begun = Instant::now();
    loop {
        // The same order, by its nonce: it is carried out once, however often it is given.
        match client.post("/v1/order", body.clone()).await {
            Err(failure) if is_between_masters(&failure) && begun.elapsed() < MASTER_WAIT => {
                sleep(TRY_AGAIN).await;
            }
            done => return done,
        }
    }
}

/// Whether nobody has decided, since a master is going or coming.
fn is_between_masters(failure: &Failure) -> bool {
    matches!(&*failure.code, "no-master" | "not-master")
}

/// Keeps the proof that the operator's key may give orders.
///
/// # Errors
/// It cannot be written.
pub(crate) fn keep_credential(home: &Home, credential: &Credential) -> Outcome {
    let path = path(home);
    let bytes = codec::encode(credential)
        .map_err(|error| Failure::failed(format!("cannot write the credential: {error}")))?;
    write_durably(&path, &bytes).map_err(|error| folder::fault("write", &path, &error))
}

fn operator_key(context: &Context) -> Outcome<Keypair> {
    // Without this, asking for a key would make the folder.
    if !context.home.exists() {
        return Err(no_operator(context, "operator.key"));
    }
    match Home::open(&context.home)?.key(KeyFile::Operator) {
        Err(HomeError::NoKey(_)) => Err(no_operator(context, "operator.key")),
        key => Ok(key?),
    }
}

fn read_credential(home: &Home) -> Outcome<Option<Credential>> {
    let path = path(home);
    match fs::read(&path) {
        Ok(bytes) => codec::decode(&bytes).map(Some).map_err(|_| damaged(&path)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(folder::fault("read", &path, &error)),
    }
}

/// For a folder whose `init` did not write one yet; only where the root key is.
fn make_credential(
    context: &Context,
    home: &Home,
    operator: &Keypair,
    status: &Status,
) -> Outcome<Credential> {
    let root = match home.key(KeyFile::Root) {
        Err(HomeError::NoKey(_)) => return Err(no_operator(context, FILE)),
        root => root?,
    };
    let request = TicketRequest {
        mesh_name: Name::capped(&status.mesh_name),
        role: Role::Operator,
        issued: now(),
        expires: 0,
        bootstrap: List::new(),
    };
    let ticket = Ticket::issue(&root, request, random_seed())
        .map_err(|error| Failure::failed(format!("cannot make the operator's ticket: {error}")))?;
    log::append(home, &log::entry(&ticket))?;
    let credential = ticket.bind_operator(&operator.public());
    keep_credential(home, &credential)?;
    Ok(credential)
}

fn no_operator(context: &Context, missing: &str) -> Failure {
    let home = context.home.display();
    let message = format!(
        "{home} has no {missing}, so nothing that is ordered here would be obeyed: run this where \
         `hedgerow init` ran, or copy operator.key and {FILE} from there to {home}"
    );
    Failure::new(Exit::Folder, "no-operator", message)
}

fn damaged(path: &std::path::Path) -> Failure {
    let message = format!(
        "{} is damaged: restore it from a backup, or remove it and repeat this where root.key is",
        path.display()
    );
    Failure::new(Exit::Folder, "rotten-credential", message)
}

fn path(home: &Home) -> PathBuf {
    home.path().join(FILE)
}
