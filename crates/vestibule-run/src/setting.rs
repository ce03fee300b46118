//! What the containers of an instance share, got before any of them is started: images, secrets, a network.

use std::sync::Arc;

use vestibule_logs::Severity;

use crate::desired::{Container, Volume};
use crate::driver::{Driver, Failure, InstanceNetwork, Owner};
use crate::keeper::Context;
use crate::output::Journal;
use crate::secrets::{Filled, Reader};

/// What is wanted of an instance.
pub(crate) struct Wanted<'a> {
    pub(crate) owner: &'a Owner,
    pub(crate) containers: Vec<&'a Container>,
    pub(crate) volumes: &'a [Volume],
    /// A secret volume that cannot be read is a failure. Otherwise it is left out, and the log says so.
    pub(crate) checked: bool,
}

/// What all starts of an instance's containers share.
pub(crate) struct Setting {
    pub(crate) driver: Arc<dyn Driver>,
    /// The digests of the images, one a container.
    pub(crate) digests: Vec<String>,
    /// Variables whose values are secrets, one list a container.
    pub(crate) variables: Vec<Vec<(String, String)>>,
    pub(crate) filled: Filled,
    pub(crate) network: Option<Arc<dyn InstanceNetwork>>,
}

/// Does what can be done before anything is started. May be dropped at any time: nothing is left of it.
pub(crate) async fn prepare(
    context: &Context,
    wanted: &Wanted<'_>,
    journal: &Journal,
) -> Result<Setting, Failure> {
    let driver = context.drivers.choose(wanted.containers.iter().copied());
    let mut digests = Vec::with_capacity(wanted.containers.len());
    for container in &wanted.containers {
        digests.push(driver.prepare(wanted.owner, container).await?);
    }
    let reader =
        Reader { source: context.secrets.as_deref(), service_account: wanted.owner.service_account() };
    let variables: Result<_, Failure> = wanted.containers.iter().map(|c| reader.variables(c)).collect();
    let complain = |why: &str| journal.say(Severity::WARNING, why);
    let filled = reader.volumes(wanted.volumes, wanted.checked, complain)?;
    let network = context.network(&*driver, wanted.owner, journal)?;
    Ok(Setting { driver, digests, variables: variables?, filled, network })
}
