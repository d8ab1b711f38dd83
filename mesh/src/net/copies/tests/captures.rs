//! Captures: when a service stands still, and when it goes on.

use std::sync::{Arc, Mutex};

use super::*;

/// A service that writes down what is done to it.
#[derive(Clone)]
struct Service {
    did: Arc<Mutex<Vec<&'static str>>>,
    packs: PathBuf,
    still: bool,
    stays: bool,
}

impl Service {
    fn new(home: &Home) -> Self {
        let packs = home.0.join("copies/shop.0/states");
        Self { did: Arc::default(), packs, still: true, stays: true }
    }

    fn did(&self) -> Vec<&'static str> {
        self.did.lock().unwrap().clone()
    }

    /// Whether a state is in the store under its final name.
    fn is_durable(&self) -> bool {
        let Ok(mut files) = fs::read_dir(&self.packs) else { return false };
        files.any(|file| file.unwrap().file_name().to_string_lossy().ends_with(".pack"))
    }
}

impl Freezer for Service {
    fn freeze(&self) -> Result<Option<Box<dyn Frozen>>, String> {
        self.did.lock().unwrap().push("freeze");
        Ok(Some(Box::new(self.clone())))
    }
}

impl Frozen for Service {
    fn still(&self) -> bool {
        self.still
    }

    fn stays(&self) -> bool {
        self.stays
    }

    fn thaw(&self) {
        let what = if self.is_durable() { "thaw after the disk" } else { "thaw" };
        self.did.lock().unwrap().push(what);
    }
}

async fn capture(
    home: &Home,
    service: &Service,
    last: bool,
) -> (Result<u64, CaptureFailure>, Vec<CheckpointId>) {
    let (_shelves, queue) = stores(home);
    begin(&queue, &home.service(), 3, ANEW).await;
    fs::write(home.state().join("orders"), "twelve bytes").unwrap();
    let (folder, freezer) = (home.service(), service.clone());
    let result =
        on(&queue, move |shelf| capture_as(shelf, &folder, id(3, 1), last, &freezer)).await;
    (result, complete(&queue).await)
}

#[tokio::test]
async fn a_service_goes_on_before_the_disk_is_waited_for() {
    let home = Home::new();
    let service = Service::new(&home);
    let (result, states) = capture(&home, &service, false).await;
    assert_eq!((result.unwrap(), states), (12, vec![id(3, 1)]));
    assert_eq!(service.did(), ["freeze", "thaw"]);
}

#[tokio::test]
async fn after_its_last_capture_a_service_stays_frozen_unless_it_was_let_go_on_meanwhile() {
    let home = Home::new();
    let service = Service::new(&home);
    capture(&home, &service, true).await.0.unwrap();
    assert_eq!(service.did(), ["freeze"]);
    let home = Home::new();
    let service = Service { stays: false, ..Service::new(&home) };
    capture(&home, &service, true).await.0.unwrap();
    assert_eq!(service.did(), ["freeze", "thaw after the disk"]);
}

#[tokio::test]
async fn a_service_that_did_not_stand_still_is_not_captured() {
    for last in [false, true] {
        let home = Home::new();
        let service = Service { still: false, ..Service::new(&home) };
        let (result, states) = capture(&home, &service, last).await;
        assert!(matches!(result, Err(CaptureFailure::Moved(_))), "{result:?}");
        assert!(states.is_empty());
        assert!(service.did().contains(&"thaw"));
    }
}

#[tokio::test]
async fn a_service_goes_on_after_a_capture_that_failed() {
    let home = Home::new();
    let (_shelves, queue) = stores(&home);
    begin(&queue, &home.service(), 3, ANEW).await;
    fs::remove_dir_all(home.state()).unwrap();
    for last in [false, true] {
        let service = Service::new(&home);
        let (folder, freezer) = (home.service(), service.clone());
        let captured =
            on(&queue, move |shelf| capture_as(shelf, &folder, id(3, 1), last, &freezer)).await;
        assert!(matches!(captured, Err(CaptureFailure::Capture(_))), "{captured:?}");
        assert_eq!(service.did().last(), Some(&"thaw"));
    }
}

#[tokio::test]
async fn a_folder_of_another_right_is_not_captured_under_this_one() {
    let home = Home::new();
    let (_shelves, queue) = stores(&home);
    begin(&queue, &home.service(), 3, ANEW).await;
    let captured = captured(&queue, &home.service(), id(4, 1)).await;
    assert!(matches!(captured, Err(CaptureFailure::OtherEpoch(Some(Epoch(3))))), "{captured:?}");
}
