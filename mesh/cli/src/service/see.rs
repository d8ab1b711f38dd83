//! `ps` and `resolve`: what runs, and where it can be reached.

use crate::client::segment;
use crate::context::Context;
use crate::exit::{Exit, Failure, Outcome};
use crate::names::ShortName;
use crate::schema::{Instance, Resolved};
use crate::text::{Table, wrap};

/// Lists every instance.
///
/// # Errors
/// No daemon answers.
pub(crate) async fn ps(context: &Context) -> Outcome {
    let instances: Vec<Instance> = context.client().get("/v1/instances").await?;
    context.show(&instances, |instances| match instances.is_empty() {
        true => wrap("Nothing runs yet; `hedgerow run FILE` runs a service.", 0),
        false => table(instances),
    })
}

/// Prints where a service serves: `host:port` and nothing else, for scripts.
///
/// # Errors
/// No daemon answers, there is no such service or port, or it does not serve.
pub(crate) async fn resolve(context: &Context, name: &ShortName, port: Option<&str>) -> Outcome {
    let path = format!("/v1/resolve/{}", segment(&name.to_string()));
    let mut resolved: Resolved = context.client().get(&path).await?;
    let ports: Vec<&str> = resolved.endpoints.keys().map(String::as_str).collect();
    let listed = ports.join(", ");
    if let Some(port) = port {
        let Some(address) = resolved.endpoints.get(port).cloned() else {
            let message = format!("`{name}` has no port called `{port}`; it has: {listed}");
            return Err(Failure::new(Exit::NotFound, "no-such-port", message));
        };
        resolved.endpoints = [(port.to_owned(), address)].into();
    }
    if resolved.endpoints.len() > 1 && !context.json {
        let message = format!("`{name}` has several ports; choose one with --port: {listed}");
        return Err(Failure::new(Exit::NotFound, "ambiguous-port", message));
    }
    context.show(&resolved, |resolved| resolved.endpoints.values().cloned().collect())
}

const EPOCH_WIDTH: usize = 5;

/// Endpoints and reasons are of any length and people copy them, so they share the last column,
/// which is wrapped and never cut.
fn table(instances: &[Instance]) -> String {
    let mut table = Table::new(&[
        ("INSTANCE", 12),
        ("STATE", 8),
        ("ACTIVE", 10),
        ("STANDBY", 9),
        ("EPOCH", EPOCH_WIDTH),
        ("ENDPOINTS, COPY, WHY", 0),
    ]);
    for instance in instances {
        let mut last = instance.endpoints.clone();
        last.extend(Some(instance.copy()).filter(|copy| !copy.is_empty()));
        last.extend((!instance.why.is_empty()).then(|| instance.why.clone()));
        // In a mesh that was recovered by force they are long.
        let mut epoch = instance.epoch.to_string();
        if epoch.len() > EPOCH_WIDTH {
            last.push(format!("epoch {}", std::mem::take(&mut epoch)));
        }
        table.row(vec![
            instance.instance.clone(),
            instance.state.clone(),
            instance.active.clone(),
            instance.standby.clone().unwrap_or_else(|| "-".to_owned()),
            epoch,
            last.join("\n"),
        ]);
    }
    table.render()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_fits_the_screen_whatever_things_are_called() {
        let text = table(&[Instance {
            instance: "a-service-with-a-long-name".to_owned(),
            state: "starting".to_owned(),
            active: "a-board-with-a-long-name".to_owned(),
            standby: Some("another-board".to_owned()),
            epoch: 123_456_789,
            endpoints: vec!["http=255.255.255.255:65535".to_owned(), "b=[::1]:2".to_owned()],
            starts: None,
            lease_ms: None,
            ready: true,
            unable: false,
            fill: Some("one-more-board".to_owned()),
            copy_age_ms: Some(400),
            spec: None,
            current: true,
            why: "word ".repeat(20),
        }]);
        assert!(text.lines().all(|line| line.chars().count() <= crate::text::WIDTH), "{text}");
        assert!(text.contains("http=255.255.255.255:65535"), "{text}");
        assert!(text.contains("ready, 0.4 s old"), "{text}");
        assert!(text.contains("epoch 123456789"), "{text}");
    }
}
