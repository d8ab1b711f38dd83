//! Hedgerow keeps services on small edge computers alive without a central server.
#[cfg(any(feature = "net", feature = "workloads"))]
pub mod clock;
pub mod proto;
#[cfg(feature = "workloads")]
pub mod workload;
