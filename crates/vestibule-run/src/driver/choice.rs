//! Which driver runs which revision.

use std::sync::Arc;

use super::process::ProcessDriver;
use super::{Driver, Labels};
use crate::desired::Container;

/// The drivers of a runtime.
pub struct Drivers {
    process: Arc<ProcessDriver>,
    containers: Option<Arc<dyn Driver>>,
}

impl Drivers {
    /// `containers` runs what the process driver cannot.
    pub fn new(process: ProcessDriver, containers: Option<Arc<dyn Driver>>) -> Self {
        Self { process: Arc::new(process), containers }
    }

    /// The driver for an instance of these containers, which share a network and thus a driver. What none can run goes
    /// to the process driver, whose [`prepare`](Driver::prepare) says what is missing.
    pub fn choose<'a>(&self, mut containers: impl Iterator<Item = &'a Container>) -> Arc<dyn Driver> {
        match &self.containers {
            Some(driver) if !containers.all(|container| self.process.can_run(container)) => driver.clone(),
            _ => self.process.clone(),
        }
    }

    /// Ends what earlier runtimes with the same state directory left behind. Tells how many instances that were.
    pub async fn sweep(&self) -> usize {
        let mut swept = 0;
        let process: Arc<dyn Driver> = self.process.clone();
        for driver in [Some(process), self.containers.clone()].into_iter().flatten() {
            let all = driver.list(&Labels::new()).await;
            for left in all.iter().filter(|listed| listed.left_behind) {
                tracing::info!(
                    driver = driver.name(),
                    instance = left.instance_id,
                    "left behind by an earlier run"
                );
                driver.remove(&left.instance_id).await;
                swept += 1;
            }
        }
        swept
    }
}
