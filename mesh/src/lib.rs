//! Hedgerow keeps services on small edge computers alive without a central server.
pub mod proto;
