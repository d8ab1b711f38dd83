use hedgerow::proto::id::Incarnation;

use super::*;
use crate::seed::Purpose;

fn disk(seed: u64) -> Disk {
    let stream = |purpose| Stream::new(seed, purpose, 0, 0);
    let mut disk = Disk::new(stream(Purpose::Fsync), stream(Purpose::Torn));
    disk.recover(ME).unwrap();
    disk
}

const ME: NodeId = hedgerow::proto::id::PublicKey([7; 32]);

fn upto(n: u64) -> Record {
    Record::Incarnations { upto: Incarnation(n) }
}

#[test]
fn what_was_acknowledged_survives_every_power_cut_and_nothing_reads_as_rot() {
    for seed in 0..300 {
        let mut disk = disk(seed);
        let mut draw = Stream::new(seed, Purpose::Faults, 0, 0);
        let (mut acknowledged, mut doing) = (0, None);
        for n in 1..=draw.between(1, 40) {
            doing = disk.append(OpId(n), upto(n)).unwrap().or(doing);
            if let Some(Begun { turn, .. }) = doing
                && draw.percent(60)
            {
                let (answered, next) = disk.done(turn).unwrap();
                acknowledged = answered.last().map_or(acknowledged, |(op, _)| op.0);
                doing = next;
            }
        }
        disk.cut_power();
        let (durable, _) = disk.recover(ME).unwrap();
        assert!(durable.incarnation.0 >= acknowledged, "seed {seed}");
    }
}

#[test]
fn damage_to_what_a_later_frame_vouches_for_is_always_noticed() {
    let mut damaged = 0;
    for seed in 0..300 {
        let mut disk = disk(seed);
        let count = Stream::new(seed, Purpose::Faults, 0, 0).between(1, 40);
        for n in 1..=count {
            let begun = disk.append(OpId(n), upto(n)).unwrap().unwrap();
            disk.done(begun.turn).unwrap();
        }
        let damage = if seed % 2 == 0 { Damage::Bit } else { Damage::Sector };
        if disk.damage(damage) {
            damaged += 1;
            assert!(disk.recover(ME).is_err(), "seed {seed}: {damage:?}");
        }
    }
    assert!(damaged > 250, "{damaged}");
}

#[test]
fn a_disk_that_fails_says_so_and_keeps_what_was_safe() {
    for failure in [Failure::Fsync, Failure::Full] {
        let mut disk = disk(1);
        let begun = disk.append(OpId(1), upto(1)).unwrap().unwrap();
        assert_eq!(disk.done(begun.turn).unwrap().0, [(OpId(1), Ok(()))]);
        disk.set_failure(Some(failure));
        let begun = disk.append(OpId(2), upto(2)).unwrap().unwrap();
        assert_eq!(disk.done(begun.turn).unwrap().0, [(OpId(2), Err(FAILED))]);
        assert!(disk.has_failed());
        disk.crash();
        assert_eq!(disk.recover(ME).unwrap_err(), CannotOpen::Fails);
        disk.set_failure(None);
        assert!(disk.recover(ME).unwrap().0.incarnation >= Incarnation(1));
    }
}

/// Grows a journal by many records, the fsync of the last of which fails, and by one of the next life.
fn after_a_failed_fsync(open: impl Fn(&mut Disk)) -> Disk {
    let mut disk = disk(1);
    let begun = disk.append(OpId(1), upto(1)).unwrap().unwrap();
    disk.done(begun.turn).unwrap();
    disk.set_failure(Some(Failure::Fsync));
    let begun = (2..60).filter_map(|n| disk.append(OpId(n), upto(n)).unwrap()).last().unwrap();
    disk.done(begun.turn).unwrap();
    disk.crash();
    disk.set_failure(None);
    open(&mut disk);
    let begun = disk.append(OpId(60), upto(60)).unwrap().unwrap();
    assert_eq!(disk.done(begun.turn).unwrap().0, [(OpId(60), Ok(()))]);
    assert!(disk.cut_power() || disk.ghosts.is_empty());
    disk
}

#[test]
fn a_record_behind_one_whose_fsync_failed_is_kept_if_the_journal_was_written_anew() {
    let mut disk = after_a_failed_fsync(|disk| drop(disk.recover(ME).unwrap()));
    assert_eq!(disk.recover(ME).unwrap().0.incarnation, Incarnation(60));
    // Where another fsync is believed instead, the journal has a hole.
    let mut disk = after_a_failed_fsync(|disk| disk.synced = disk.file.len());
    assert!(matches!(disk.recover(ME), Err(CannotOpen::Damaged(ScanError::Rot { .. }))));
}

#[test]
fn a_process_crash_loses_nothing_that_was_written() {
    let mut disk = disk(1);
    disk.append(OpId(1), upto(7)).unwrap();
    disk.crash();
    assert_eq!(disk.recover(ME).unwrap().0.incarnation, Incarnation(7));
}

#[test]
fn a_grown_journal_is_replaced_and_what_came_meanwhile_is_kept() {
    let mut disk = disk(1);
    let mut next = None;
    for n in 1..3000 {
        next = disk.append(OpId(n), upto(n)).unwrap().or(next);
    }
    while let Some(begun) = next {
        if matches!(disk.doing, Some(Doing::Replace { .. })) {
            disk.append(OpId(9999), upto(9999)).unwrap();
        }
        next = disk.done(begun.turn).unwrap().1;
    }
    assert!(disk.file.len() < 200, "{} bytes", disk.file.len());
    assert_eq!(disk.recover(ME).unwrap().0.incarnation, Incarnation(9999));
}
