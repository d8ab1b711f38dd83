//! Which board an operator means.

use crate::context::Context;
use crate::exit::{Exit, Failure, Outcome};
use crate::schema::Node;

/// Boards that are listed where several are meant, at most.
const LISTED_MAX: usize = 8;

/// The board of that name, or else the one whose id begins so.
///
/// # Errors
/// No daemon answers; none is meant, or more than one.
pub(crate) async fn board(context: &Context, given: &str) -> Outcome<Node> {
    one(context, given, meant(all(context).await?, given))
}

/// The same for what cannot be undone: a board that left counts like any other of its name.
///
/// # Errors
/// As for [`board`].
pub(crate) async fn board_for_good(context: &Context, given: &str) -> Outcome<Node> {
    one(context, given, called(all(context).await?, given))
}

async fn all(context: &Context) -> Outcome<Vec<Node>> {
    context.client().get("/v1/nodes").await
}

fn one(context: &Context, given: &str, mut found: Vec<Node>) -> Outcome<Node> {
    match found.len() {
        0 => {
            let message = format!(
                "no board is called `{given}` or has an id that begins so; `{}` lists them",
                context.command("nodes")
            );
            Err(Failure::new(Exit::NotFound, "not-found", message))
        }
        1 => Ok(found.remove(0)),
        _ => {
            let ids = found.iter().map(|node| node.node.to_string()).take(LISTED_MAX);
            let message = format!(
                "several boards match `{given}`: say which by its id, {}",
                ids.collect::<Vec<_>>().join(" or ")
            );
            Err(Failure::new(Exit::NotFound, "ambiguous", message))
        }
    }
}

/// A name may well look like the beginning of somebody's id.
fn called(nodes: Vec<Node>, given: &str) -> Vec<Node> {
    let (named, others): (Vec<Node>, Vec<Node>) =
        nodes.into_iter().partition(|node| node.name == given);
    let begins = |node: &Node| node.node.to_string().starts_with(given);
    if named.is_empty() { others.into_iter().filter(begins).collect() } else { named }
}

/// The name of a board that left may have been given to another one.
fn meant(nodes: Vec<Node>, given: &str) -> Vec<Node> {
    let (gone, there): (Vec<Node>, Vec<Node>) =
        called(nodes, given).into_iter().partition(|node| node.state == "left");
    if there.is_empty() { gone } else { there }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hedgerow::proto::id::Keypair;
    use hedgerow::proto::record::Class;

    fn node(seed: u8, name: &str, state: &str) -> Node {
        Node {
            node: Keypair::from_seed(&[seed; 32]).public(),
            name: name.to_owned(),
            me: false,
            state: state.to_owned(),
            class: Class::Low,
            incarnation: 1,
            version: String::new(),
            path: String::new(),
            seen_ms: None,
            rtt_us: None,
            addresses: Vec::new(),
            why: String::new(),
        }
    }

    #[test]
    fn a_name_comes_before_an_id_and_a_board_that_is_there_before_one_that_left() {
        let first = node(1, "barn", "up");
        let id = first.node.to_string();
        // Called like the beginning of the other one's id.
        let nodes = vec![first, node(2, &id[..1], "up"), node(3, "barn", "left")];
        let ids = |given: &str| -> Vec<String> {
            meant(nodes.clone(), given)
                .into_iter()
                .map(|node| node.name + "/" + &node.state)
                .collect()
        };
        assert_eq!(ids(&id[..1]), [format!("{}/up", &id[..1])]);
        assert_eq!(ids("barn"), ["barn/up"]);
        assert_eq!(called(nodes.clone(), "barn").len(), 2, "whoever is revoked stays so");
        assert_eq!(ids(&id[..12]), ["barn/up"]);
        assert!(ids("nobody").is_empty());
        let twins = [node(4, "shed", "left"), node(5, "shed", "left")];
        assert_eq!(meant(twins.to_vec(), "shed").len(), 2, "nobody is chosen by chance");
    }
}
