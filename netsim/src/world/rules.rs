//! What the world itself looks after, beside the invariants: each rule in a sentence.

/// Rules and what they say, for somebody who has not read the design.
pub const RULES: [(&str, &str); 23] = [
    ("no-panic", "The node never panics, whatever happens to it."),
    ("deterministic", "The same seed does the same every time."),
    ("expectation", "At this time the scenario expects something to be true."),
    ("cue-comes", "What a fault of the scenario waits for comes before the faults end."),
    (
        "timers-move-on",
        "A timer that has fired is set to a later time, so that the node does not spin.",
    ),
    (
        "later-kinds-are-skipped",
        "A message of a kind that only a later version knows is skipped, not held against its sender.",
    ),
    ("frames-fit", "Every message fits into a frame."),
    ("nobody-halts", "No node stops for good because of a fault that it is made to survive."),
    ("journal-is-readable", "What a node writes into its journal can be read back."),
    ("journal-frames-fit", "Every record fits into a frame of the journal."),
    ("journal-survives", "After a crash the journal can still be opened and read."),
    ("nodes-recover", "A node can go on from what its journal says."),
    (
        "converges-after-faults",
        "Once all faults are over, all boards that run see each other up, and say the same of \
         everyone, within a known time.",
    ),
    (
        "who-decides-can-elect",
        "Once all faults are over, and most of those who decide by the newest table are there, somebody can be elected.",
    ),
    ("a-master-reigns-again", "Once all faults are over, one master reigns within a known time."),
    (
        "all-name-the-master",
        "Once all faults are over, every board names the same master within a known time.",
    ),
    (
        "three-living-voters-again",
        "Once all faults are over, three living boards decide within a known time.",
    ),
    ("services-run-again", "Once all faults are over, every service runs within a known time."),
    (
        "services-have-standbys-again",
        "Once all faults are over, every service has a standby that could carry on within a \
         known time.",
    ),
    (
        "starts-what-does-not-run",
        "A node asks only for services to be started that do not run on its board already.",
    ),
    (
        "nothing-torn-is-gone-on-from",
        "After a power cut nothing goes on from files that nobody had synced.",
    ),
    ("one-capture-at-a-time", "Of one service only one state is captured at a time."),
    ("names-of-states-are-unique", "No two states of a service have one name."),
];
