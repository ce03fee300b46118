//! Which driver runs which revision.

use std::sync::Arc;

use super::process::ProcessDriver;
use super::{Driver, Labels};
use crate::desired::Revision;

/// The drivers of a runtime.
pub struct Drivers {
    process: Arc<ProcessDriver>,
    containers: Option<Arc<dyn Driver>>,
}

impl Drivers {
    /// `containers` runs what the process driver does not.
    pub fn new(process: ProcessDriver, containers: Option<Arc<dyn Driver>>) -> Self {
        Self { process: Arc::new(process), containers }
    }

    /// The driver for a revision. A revision that none can run goes to the process driver, whose
    /// [`prepare`](Driver::prepare) says what is missing.
    pub fn choose(&self, revision: &Revision) -> Arc<dyn Driver> {
        match &self.containers {
            Some(containers) if !self.process.can_run(revision) => containers.clone(),
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
