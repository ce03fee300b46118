//! Secret Manager as the runtime sees it.

use vestibule_run::SecretSource;
use vestibule_run::desired::SecretRef;

use crate::Control;
use crate::secrets::Reference;

/// Reads secrets for instances, in the name of their service accounts.
pub struct InstanceSecrets(Control);

impl InstanceSecrets {
    pub fn new(control: Control) -> InstanceSecrets {
        InstanceSecrets(control)
    }
}

impl SecretSource for InstanceSecrets {
    fn read(&self, secret: &SecretRef, service_account: &str) -> Result<Vec<u8>, String> {
        let SecretRef { project, secret, version } = secret.clone();
        let reference = Reference { project, secret, version };
        self.0.secrets().resolve(&reference, service_account).map_err(|denial| denial.to_string())
    }
}
