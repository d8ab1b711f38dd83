//! Keys: a mesh's first board, an operator's key, tickets for others. The files are those of the
//! `hedgerow` program, so either can go on where the other began.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Mesh, MeshError, Standing};
use crate::net::{Home, HomeError, KeyFile, random_seed, unix_now, write_durably};
use crate::proto::bounded::{List, Text};
use crate::proto::id::{CellId, Keypair, MeshId};
use crate::proto::journal;
use crate::proto::order::{Action, Order, SignedOrder};
use crate::proto::record::{NAME_BYTES_MAX, Name};
use crate::proto::ticket::{Bootstrap, Credential, Role, Ticket, TicketRequest};
use crate::proto::wire::codec;

/// The proof that the operator's key may give orders.
const CREDENTIAL: &str = "operator.credential";
/// How long an order may be on its way, seconds.
const ORDER_SECONDS: u64 = 60;

/// The right to change what runs in a mesh: a key, and the proof that the mesh's root stands behind it.
/// Whoever has it can run and stop services on every board.
#[derive(Clone)]
pub struct OperatorKey {
    key: Keypair,
    credential: Credential,
}

impl OperatorKey {
    /// Reads `operator.key` and `operator.credential` from a folder, where `hedgerow init` or
    /// [`Builder::found`](super::Builder::found) put them.
    ///
    /// # Errors
    /// One of them is not there, or is damaged.
    pub fn read(folder: impl AsRef<Path>) -> Result<Self, MeshError> {
        let home = Home::at(folder.as_ref());
        let key = home.key(KeyFile::Operator)?;
        let path = home.path().join(CREDENTIAL);
        let bytes = fs::read(&path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => HomeError::NoKey(path.clone()),
            _ => HomeError::Io { what: "read", path: path.clone(), source },
        })?;
        let credential = codec::decode(&bytes).map_err(|_| MeshError::Damaged { path })?;
        Ok(Self { key, credential })
    }

    /// An order that is good for a minute. Two with the same nonce are carried out once.
    pub(super) fn sign(&self, nonce: [u8; 16], action: Action) -> Result<SignedOrder, MeshError> {
        let too_large = |error: codec::CodecError| MeshError::TooLarge(error.to_string());
        let path = || MeshError::Damaged { path: PathBuf::from(CREDENTIAL) };
        let issued = unix_now();
        let order = Order {
            mesh: self.credential.ticket.peek().map_err(|_| path())?.mesh,
            cell: CellId::default(),
            operator: self.key.public(),
            nonce,
            issued,
            expires: issued + ORDER_SECONDS,
            action,
        };
        SignedOrder::seal(&order, &self.key, self.credential.clone()).map_err(too_large)
    }
}

impl fmt::Debug for OperatorKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OperatorKey({})", self.key.public().short())
    }
}

impl Mesh {
    /// A ticket that lets another board in, as long as it does not expire; on the board that founded the
    /// mesh. Its first contacts are this board and others that are up. A ticket is a secret: send it as
    /// you would a password. `lasts`: `None` is for ever.
    ///
    /// # Errors
    /// The root key is not in this board's data folder, or nobody has an address yet.
    pub fn invite(&self, lasts: Option<Duration>) -> Result<Ticket, MeshError> {
        let home = Home::at(&self.home);
        let root = home.key(KeyFile::Root)?;
        let members = self.members();
        let mut usable: Vec<_> = members
            .iter()
            .filter(|member| member.standing == Standing::Up && !member.addresses.is_empty())
            .collect();
        usable.sort_by_key(|member| !member.me);
        if usable.is_empty() {
            return Err(MeshError::NoAddress);
        }
        let bootstrap = usable.iter().map(|member| Bootstrap {
            node: member.id,
            addresses: List::capped(member.addresses.iter().map(|address| Text::capped(address))),
        });
        let issued = unix_now();
        let request = TicketRequest {
            mesh_name: mesh_name(&home)?,
            role: Role::Member,
            issued,
            expires: lasts.map_or(0, |lasts| issued + lasts.as_secs().max(1)),
            bootstrap: List::capped(bootstrap),
        };
        issue(&home, &root, request)
    }
}

/// Makes the keys of a new mesh and its first ticket; none if this folder founded one before.
pub(super) fn found(home: &Home, name: &str) -> Result<Option<Ticket>, MeshError> {
    let mesh_name = match Name::try_from(name) {
        Ok(text) if !name.is_empty() => text,
        _ => {
            let (name, what) = (name.to_owned(), "a mesh's name");
            return Err(MeshError::Name { name, what, max: NAME_BYTES_MAX });
        }
    };
    if let Some(mesh) = belongs_to(home)? {
        let root = home.key(KeyFile::Root).ok().map(|root| MeshId::of_root(&root.public()));
        return match root == Some(mesh) {
            true => Ok(None),
            false => Err(MeshError::BelongsAlready(home.path().to_owned())),
        };
    }
    let root = home.make_key(KeyFile::Root)?;
    let operator = home.make_key(KeyFile::Operator)?;
    let (role, bootstrap) = (Role::Operator, List::new());
    let request = TicketRequest { mesh_name, role, issued: unix_now(), expires: 0, bootstrap };
    let ticket = issue(home, &root, request)?;
    let bytes = codec::encode(&ticket.bind_operator(&operator.public()))
        .map_err(|error| MeshError::TooLarge(error.to_string()))?;
    let path = home.path().join(CREDENTIAL);
    write_durably(&path, &bytes).map_err(|source| HomeError::Io { what: "write", path, source })?;
    Ok(Some(ticket))
}

fn belongs_to(home: &Home) -> Result<Option<MeshId>, MeshError> {
    let path = home.journal();
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(HomeError::Io { what: "read", path, source }.into()),
    };
    let scan = journal::scan(&bytes).map_err(|_| MeshError::Damaged { path })?;
    Ok(scan.durable.belonging.map(|belonging| belonging.mesh))
}

/// What its operator calls the mesh that this folder founded.
fn mesh_name(home: &Home) -> Result<Name, MeshError> {
    let key = OperatorKey::read(home.path())?;
    let damaged = || MeshError::Damaged { path: home.path().join(CREDENTIAL) };
    Ok(key.credential.ticket.peek().map_err(|_| damaged())?.mesh_name)
}

/// Makes a ticket, and notes it first: what is out can be named and revoked.
fn issue(home: &Home, root: &Keypair, request: TicketRequest) -> Result<Ticket, MeshError> {
    let ticket = Ticket::issue(root, request, random_seed())
        .map_err(|error| MeshError::TooLarge(error.to_string()))?;
    let body = ticket.body();
    let entry = serde_json::json!({
        "id": ticket.id(),
        "role": if body.role == Role::Member { "member" } else { "operator" },
        "issued": body.issued,
        "expires": body.expires,
        "bootstrap": body.bootstrap.iter().map(|first| first.node).collect::<Vec<_>>(),
    });
    let path = home.tickets();
    let written = || {
        let mut file = OpenOptions::new().create(true).append(true).mode(0o600).open(&path)?;
        file.write_all(format!("{entry}\n").as_bytes())?;
        file.sync_all()
    };
    written().map_err(|source| HomeError::Io { what: "write", path: path.clone(), source })?;
    Ok(ticket)
}
