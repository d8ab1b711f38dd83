//! What a run of netsim printed about a rule that was broken.

/// How a mutant was noticed.
pub(super) struct Notice {
    /// The first rule that was broken.
    pub(super) rule: String,
    /// The first seed that did it, and how many it was of a campaign.
    pub(super) seed: Option<(u64, u64)>,
    /// What replays it.
    pub(super) replay: String,
}

impl Notice {
    /// Noticed by how the run ended, with nothing more to tell.
    pub(super) fn of(rule: &str) -> Self {
        Self { rule: rule.to_owned(), seed: None, replay: String::new() }
    }

    /// Reads what a run of netsim printed.
    pub(super) fn read(arguments: &[String], printed: &str) -> Self {
        let after = |text: &str, mark: &str| -> Option<String> {
            let word = text.split_once(mark)?.1.split_whitespace().next()?;
            Some(word.trim_end_matches('\'').to_owned())
        };
        let line = |start: &str| printed.lines().find(|line| line.starts_with(start));
        let rule = line("FAILED ").and_then(|line| after(line, "FAILED "));
        let seed = line("replay: ").and_then(|line| after(line, "seed=")?.parse().ok());
        let first = arguments.iter().skip_while(|word| *word != "--seeds").nth(1);
        let first = first.and_then(|seeds| seeds.split_once("..")?.0.parse().ok());
        let nth = |(seed, first): (u64, u64)| (seed, seed - first + 1);
        let replay = line("replay: ").and_then(|line| line.split('\'').nth(1)).unwrap_or_default();
        Self {
            rule: rule.unwrap_or_default(),
            seed: seed.zip(first).map(nth),
            replay: replay.to_owned(),
        }
    }

    pub(super) fn how(&self) -> String {
        match self.seed {
            Some((seed, nth)) => format!(": {} at seed {seed}, no. {nth}", self.rule),
            None => format!(": {}", self.rule),
        }
    }
}
