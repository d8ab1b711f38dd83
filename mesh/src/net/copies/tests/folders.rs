//! The state folder before a start, and what a crash may leave of it.

use super::*;

/// A store with one state of epoch 3 whose file says `old`, and a folder that has moved on.
async fn moved_on(home: &Home) -> (Shelves, Queue) {
    let (shelves, queue) = stores(home);
    assert_eq!(begin(&queue, &home.service(), 3, ANEW).await, Begun::Ready);
    fs::write(home.state().join("orders"), "old").unwrap();
    captured(&queue, &home.service(), id(3, 1)).await.unwrap();
    fs::write(home.state().join("orders"), "newer").unwrap();
    (shelves, queue)
}

fn orders(home: &Home) -> String {
    fs::read_to_string(home.state().join("orders")).unwrap()
}

#[tokio::test]
async fn a_service_goes_on_only_under_the_right_that_it_was_begun_under() {
    let home = Home::new();
    let (_shelves, queue) = moved_on(&home).await;
    assert_eq!(begin(&queue, &home.service(), 3, GO_ON).await, Begun::Ready);
    assert_eq!(begin(&queue, &home.service(), 4, GO_ON).await, Begun::Lost);
    fs::remove_dir_all(home.state()).unwrap();
    assert_eq!(begin(&queue, &home.service(), 3, GO_ON).await, Begun::Lost);
    assert_eq!(begin(&queue, &home.service(), 3, Begin::From(id(3, 1))).await, Begun::Lost);
}

#[tokio::test]
async fn a_new_right_begins_with_the_state_and_the_same_right_does_not_go_back_to_it() {
    let home = Home::new();
    let (_shelves, queue) = moved_on(&home).await;
    fs::write(home.state().join("stray"), "of the former right").unwrap();
    assert_eq!(begin(&queue, &home.service(), 4, Begin::From(id(3, 1))).await, Begun::Ready);
    assert_eq!(orders(&home), "old");
    assert!(!home.state().join("stray").exists());
    // It ran, and this board crashed before the node wrote down that it did.
    fs::write(home.state().join("orders"), "newest").unwrap();
    assert_eq!(begin(&queue, &home.service(), 4, Begin::From(id(3, 1))).await, Begun::Ready);
    assert_eq!(orders(&home), "newest");
}

#[tokio::test]
async fn the_first_start_never_wipes_anything() {
    let home = Home::new();
    let (_shelves, queue) = stores(&home);
    fs::create_dir_all(home.state()).unwrap();
    fs::write(home.state().join("orders"), "brought along").unwrap();
    assert_eq!(begin(&queue, &home.service(), 1, ANEW).await, Begun::Ready);
    assert_eq!(orders(&home), "brought along");
}

#[tokio::test]
async fn what_a_crash_leaves_is_mended_by_the_next_start() {
    // Before the exchange: a half-written folder beside the old one. After it: the other way round.
    // After both: the mark half written, or rotten.
    let leftovers: [fn(&Home); 5] = [
        |home| {
            fs::create_dir_all(home.service().join(".restoring-state/half")).unwrap();
        },
        |home| {
            fs::rename(home.state(), home.service().join(".restoring-state")).unwrap();
            fs::create_dir_all(home.state()).unwrap();
            fs::write(home.state().join("orders"), "old").unwrap();
        },
        |home| fs::remove_dir_all(home.state()).unwrap(),
        |home| fs::write(home.service().join(".hedgerow-epoch.tmp"), "epo").unwrap(),
        |home| fs::write(home.service().join(".hedgerow-epoch"), [0xff; 600]).unwrap(),
    ];
    for (number, leave) in leftovers.iter().enumerate() {
        let home = Home::new();
        let (_shelves, queue) = moved_on(&home).await;
        leave(&home);
        let begun = begin(&queue, &home.service(), 4, Begin::From(id(3, 1))).await;
        assert_eq!((begun, orders(&home).as_str()), (Begun::Ready, "old"), "leftover {number}");
        assert!(!home.service().join(".restoring-state").exists(), "leftover {number}");
        assert_eq!(begin(&queue, &home.service(), 4, GO_ON).await, Begun::Ready);
    }
}

#[tokio::test]
async fn a_state_that_is_not_there_leaves_the_folder_and_its_mark_as_they_were() {
    let home = Home::new();
    let (_shelves, queue) = moved_on(&home).await;
    let service = home.service();
    let begun = on(&queue, move |shelf| {
        folder::begin(shelf, &service, "state", Epoch(4), Begin::From(id(3, 9)))
    });
    assert!(begun.await.is_err());
    assert_eq!(orders(&home), "newer");
    assert_eq!(begin(&queue, &home.service(), 3, GO_ON).await, Begun::Ready);
}

#[tokio::test]
async fn a_state_folder_that_was_renamed_in_the_service_file_is_not_taken_for_a_lost_one() {
    let home = Home::new();
    let (_shelves, queue) = moved_on(&home).await;
    let service = home.service();
    let begun = on(&queue, move |shelf| folder::begin(shelf, &service, "data", Epoch(3), GO_ON));
    let error = begun.await.unwrap_err().to_string();
    assert!(error.contains("`state`") && error.contains("`data`"), "{error}");
}

#[tokio::test]
async fn a_store_is_found_again_and_a_broken_one_makes_room_for_a_fresh_one() {
    let home = Home::new();
    drop(moved_on(&home).await);
    let (shelves, held) = Shelves::open(&home.0).unwrap();
    assert_eq!(held[&shop()].iter().copied().collect::<Vec<_>>(), [id(3, 1)]);
    drop(shelves);

    let folder = home.0.join("copies/shop.0");
    fs::remove_dir_all(folder.join("states")).unwrap();
    fs::create_dir_all(folder.join("states/0000000000000001.pack")).unwrap();
    let (shelves, held) = Shelves::open(&home.0).unwrap();
    assert!(held.is_empty(), "{held:?}");
    let aside = |entry: std::io::Result<fs::DirEntry>| {
        entry.unwrap().file_name().to_string_lossy().contains("~broken")
    };
    assert!(fs::read_dir(home.0.join("copies")).unwrap().any(aside));
    let queue = shelves.of(&shop()).unwrap();
    captured(&queue, &home.service(), id(3, 2)).await.unwrap();
    assert_eq!(complete(&queue).await, [id(3, 2)]);
}

#[tokio::test]
async fn what_is_forgotten_altogether_leaves_nothing_and_can_begin_anew() {
    let home = Home::new();
    let (_shelves, queue) = moved_on(&home).await;
    on(&queue, |shelf| shelf.keep(&[])).await.unwrap();
    assert!(!home.0.join("copies/shop.0").exists());
    captured(&queue, &home.service(), id(3, 2)).await.unwrap();
    for seq in 3..=6 {
        fs::write(home.state().join("orders"), seq.to_string()).unwrap();
        captured(&queue, &home.service(), id(3, seq)).await.unwrap();
    }
    on(&queue, |shelf| shelf.keep(&[id(3, 3)])).await.unwrap();
    assert_eq!(complete(&queue).await, [id(3, 3), id(3, 5), id(3, 6)]);
}

#[tokio::test]
async fn what_a_removed_service_left_is_set_aside_once_another_one_has_its_name() {
    let home = Home::new();
    let (_shelves, queue) = moved_on(&home).await;
    let handed_on = Begin::Empty { anew: false };
    assert_eq!(begin(&queue, &home.service(), 8, handed_on).await, Begun::Ready);
    assert_eq!(orders(&home), "newer", "the same service, which never ran: brought along");
    for (epoch, content) in [(9, "newer"), (10, "of nine")] {
        assert_eq!(begin(&queue, &home.service(), epoch, ANEW).await, Begun::Ready);
        assert_eq!(fs::read_dir(home.state()).unwrap().count(), 0);
        let former = fs::read_to_string(home.service().join("state~former/orders"));
        assert_eq!(former.unwrap(), content);
        fs::write(home.state().join("orders"), "of nine").unwrap();
    }
}

#[tokio::test]
async fn after_a_power_cut_a_service_that_commits_goes_on_from_what_the_store_holds() {
    let home = Home::new();
    let (_shelves, queue) = moved_on(&home).await;
    let committed = Begin::GoOn { after_power_cut: Some(id(3, 1)) };
    assert_eq!(begin(&queue, &home.service(), 3, committed).await, Begun::Ready);
    assert_eq!(orders(&home), "newer", "power was never lost");
    let power_cut = || {
        let mark = home.service().join(".hedgerow-epoch");
        let text = fs::read_to_string(&mark).unwrap();
        let (before, _boot) = text.rsplit_once(' ').unwrap();
        fs::write(&mark, format!("{before} another-boot\n")).unwrap();
    };
    power_cut();
    assert_eq!(begin(&queue, &home.service(), 3, GO_ON).await, Begun::Ready);
    assert_eq!(orders(&home), "newer", "it syncs its files itself");
    power_cut();
    let captured = captured(&queue, &home.service(), id(3, 2)).await;
    assert!(matches!(captured, Err(CaptureFailure::LostPower)), "{captured:?}");
    assert_eq!(begin(&queue, &home.service(), 3, committed).await, Begun::Ready);
    assert_eq!(orders(&home), "old");
    fs::write(home.state().join("orders"), "newest").unwrap();
    assert_eq!(begin(&queue, &home.service(), 3, committed).await, Begun::Ready);
    assert_eq!(orders(&home), "newest", "it has gone on since");
}

#[tokio::test]
async fn what_was_written_in_isolation_is_kept_when_another_right_begins() {
    let home = Home::new();
    let (_shelves, queue) = moved_on(&home).await;
    folder::note_split(&home.service(), Epoch(3)).unwrap();
    assert_eq!(begin(&queue, &home.service(), 3, GO_ON).await, Begun::Ready);
    assert_eq!(orders(&home), "newer", "the same right goes on");
    assert_eq!(begin(&queue, &home.service(), 5, Begin::From(id(3, 1))).await, Begun::Ready);
    assert_eq!(orders(&home), "old");
    let kept = fs::read_to_string(home.service().join("state~split-3/orders")).unwrap();
    assert_eq!(kept, "newer");
    fs::write(home.state().join("orders"), "newest").unwrap();
    assert_eq!(begin(&queue, &home.service(), 6, Begin::From(id(3, 1))).await, Begun::Ready);
    assert!(!home.service().join("state~split-5").exists(), "that was a planned move");
}
