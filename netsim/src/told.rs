//! What boards tell the outside world, by the names of the events.
//!
//! A campaign whose boards never told one of them has tested nothing around it, and fails. New variants do not
//! compile until they are named here.

use hedgerow::proto::io::Event;

macro_rules! events {
    ($($event:ident),* $(,)?) => {
        /// All of them.
        pub const EVENTS: &[&str] = &[$(stringify!($event)),*];

        /// The name of an event.
        pub fn name(event: &Event) -> &'static str {
            match event {
                $(Event::$event { .. } => stringify!($event)),*
            }
        }
    };
}

events![
    Started,
    Admitted,
    Refused,
    RefusedBy,
    MemberUp,
    Suspected,
    Refuted,
    MemberDown,
    MemberLeft,
    Isolated,
    SteppedDown,
    TableChosen,
    VotersChanged,
    MasterIs,
    Revoked,
    Runs,
    Adopted,
    Copied,
    Fetched,
    CopyFailed,
    Takes,
    Unable,
    Appointed,
    Protected,
    Ended,
    Topic,
    Misbehaved,
    Stalled,
    SplitRan,
    Orphaned,
    RecoveredTwice,
    Left,
    Stays,
    Halted,
];

/// Told in scenario files only: no random schedule recovers a mesh by force.
pub const IN_SCENARIOS: [&str; 2] = ["Orphaned", "RecoveredTwice"];
