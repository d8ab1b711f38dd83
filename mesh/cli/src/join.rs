//! `hedgerow join`: keeps a ticket for the first `up`.
//!
//! Nothing is asked of the mesh here: a ticket works offline, and whether it is still good is judged
//! by the members, with their clocks. What can be seen from here is only warned about.

use std::io::{BufRead as _, IsTerminal as _, Read as _};

use hedgerow::net::Home;
use hedgerow::proto::ticket::{TICKET_TEXT_BYTES_MAX, Ticket, TicketBody};

use crate::context::Context;
use crate::exit::{Exit, Failure, Outcome};
use crate::folder;
use crate::schema::Prepared;
use crate::settings;
use crate::text;
use crate::ticket::now;

/// A ticket that seems to be from that far in the future means that this board's clock is wrong.
const CLOCK_SLACK_SECONDS: u64 = 3_600;

/// Takes the ticket `given`, or the one on standard input for `-`.
///
/// # Errors
/// It is no ticket, the folder belongs elsewhere, or it cannot be written.
pub(crate) fn join(context: &Context, given: &str, then_up: bool) -> Outcome {
    let text = if given == "-" { read_stdin()? } else { given.to_owned() };
    let ticket = Ticket::parse(strip_command(&text))?;
    let body = ticket.body();
    let home = Home::open(&context.home)?;
    let _lock = home.lock()?;
    refuse_if_taken(context, &home, &body)?;
    let known = folder::belonging(&home)?.is_some_and(|known| known.admitted && !known.left);
    let node = home.node_id()?;
    settings::write_template(&home)?;
    folder::keep_ticket(&home, &ticket)?;
    let prepared = Prepared {
        mesh: body.mesh,
        mesh_name: text::clean(&body.mesh_name),
        node,
        home: context.home.display().to_string(),
        root_key: None,
        warnings: warnings(&body, now()),
    };
    context.show(&prepared, |prepared| {
        let mut lines =
            vec![format!("Ticket for the mesh {} ({}) kept.", prepared.mesh_name, prepared.mesh)];
        if known {
            let what = "This board is a member already: when it is started next it looks for the \
                        boards that the ticket names, in case it has lost their addresses.";
            lines.push(text::wrap(what, 0));
        }
        lines.extend(prepared.warnings.iter().map(|warning| text::wrap(warning, 2)));
        if !then_up {
            lines.push("Next:".to_owned());
            lines.push(format!("  {}", context.command("up")));
        }
        lines.join("\n")
    })
}

fn refuse_if_taken(context: &Context, home: &Home, body: &TicketBody) -> Outcome {
    let place = context.home.display();
    if let Some(known) = folder::belonging(home)? {
        if known.mesh != body.mesh {
            let message = format!(
                "{place} belongs to the mesh {}, this ticket is for {} ({}), and a board never \
                 changes its mesh. Use another folder with --home, or move this one away",
                known.mesh, body.mesh_name, body.mesh
            );
            return Err(Failure::new(Exit::Ticket, "other-mesh", message));
        }
    } else if let Some(pending) = folder::pending_ticket(home)? {
        let pending = pending.body();
        if pending.mesh != body.mesh {
            let message = format!(
                "{place} was prepared for the mesh {} ({}) and has not been started yet. Use \
                 another folder with --home, or move this one away",
                pending.mesh_name, pending.mesh
            );
            return Err(Failure::new(Exit::Ticket, "other-mesh", message));
        }
    }
    Ok(())
}

fn warnings(body: &TicketBody, now: u64) -> Vec<String> {
    let mut warnings = Vec::new();
    if body.expires != 0 && now >= body.expires {
        warnings.push(format!(
            "Warning: by this board's clock ({} UTC) the ticket expired on {} UTC. If the clock is \
             right, ask for a new ticket (`hedgerow ticket new`); if not, set it: the members go \
             by their own clocks and may still let this board in.",
            text::date(now),
            text::date(body.expires)
        ));
    }
    if now.saturating_add(CLOCK_SLACK_SECONDS) < body.issued {
        warnings.push(format!(
            "Warning: by this board's clock it is {} UTC, but the ticket was made on {} UTC: one \
             of the two clocks is wrong. Joining works all the same.",
            text::date(now),
            text::date(body.issued)
        ));
    }
    warnings
}

/// People paste the whole line, too.
fn strip_command(text: &str) -> &str {
    let text = text.trim();
    text.strip_prefix("hedgerow join ").map_or(text, str::trim_start)
}

/// From the line with the ticket on: before it there may be what `ticket new` says about it. People press
/// return after one line; in a file or from a mail program it may be broken into several.
fn read_stdin() -> Outcome<String> {
    let failed = |error| {
        Failure::new(Exit::Ticket, "no-input", format!("cannot read standard input: {error}"))
    };
    let is_ticket = |line: &str| strip_command(line).starts_with("hedge1");
    let limit = 2 * TICKET_TEXT_BYTES_MAX as u64;
    let mut input = std::io::stdin().lock().take(limit);
    if std::io::stdin().is_terminal() {
        let mut lines = input.lines();
        let line = lines.find(|line| line.as_ref().map_or(true, |line| is_ticket(line)));
        return line.transpose().map(Option::unwrap_or_default).map_err(failed);
    }
    let mut text = String::new();
    input.read_to_string(&mut text).map_err(failed)?;
    let from = text.lines().position(is_ticket).unwrap_or_default();
    Ok(text.lines().skip(from).collect::<Vec<_>>().join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use hedgerow::net::random_seed;
    use hedgerow::proto::bounded::List;
    use hedgerow::proto::id::Keypair;
    use hedgerow::proto::record::Name;
    use hedgerow::proto::ticket::{Role, TicketRequest};

    fn body(issued: u64, expires: u64) -> TicketBody {
        let request = TicketRequest {
            mesh_name: Name::capped("home"),
            role: Role::Member,
            issued,
            expires,
            bootstrap: List::new(),
        };
        let root = Keypair::from_seed(&[1; 32]);
        Ticket::issue(&root, request, random_seed()).unwrap().body()
    }

    #[test]
    fn clocks_that_disagree_with_the_ticket_are_warned_about() {
        assert!(warnings(&body(1_000_000, 2_000_000), 1_500_000).is_empty());
        assert!(warnings(&body(1_000_000, 0), u64::MAX).is_empty());
        let expired = warnings(&body(1_000_000, 2_000_000), 2_000_000);
        assert!(expired[0].contains("ask for a new ticket"), "{expired:?}");
        let past = warnings(&body(1_000_000, 2_000_000), 5);
        assert!(past[0].contains("1970-01-01"), "{past:?}");
    }
}
